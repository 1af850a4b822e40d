"""Options that several commands take, and how tyro reads what is more than a number or a word."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, make_dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

if TYPE_CHECKING:
    from infl.records import Dataset
    from infl.training.ray import Ray

# Settings of which None stands for what their help says.
Whole = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Real = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
File = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]
RunToRead = Annotated[str, tyro.conf.arg(metavar="PATH|URL")]
RunOrNone = Annotated[str | None, tyro.conf.arg(metavar="PATH|URL", help_behavior_hint="")]
Engine = Literal["local", "ray"]
Ids = Literal["run", "source"]
Outcome = Annotated[Literal["correct", "margin", "logprob", "exact"] | None, tyro.conf.arg(help_behavior_hint="")]
Predictor = Annotated[
    Literal["combined", "support", "surrogate", "forests", "additive-shrunk", "additive"] | None,
    tyro.conf.arg(help_behavior_hint=""),
]

REGISTRY = ConstructorRegistry()


@REGISTRY.primitive_rule
def _range_or_number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Models 100 or FROM:TO, a fraction 0.7 or LOW:HIGH: as the API takes a number, a range or a pair of numbers."""
    given = get_args(info.type)
    if range in given:
        return _spec("INT|FROM:TO", lambda words: models_from(words[0]))
    if float in given and tuple[float, float] in given:
        from infl.training.subsets import parse_fraction

        return _spec("FLOAT|LOW:HIGH", lambda words: parse_fraction(words[0]))
    return None


@REGISTRY.primitive_rule
def _by_name(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A network, which may be an object of Python, is given by name; what has `parse`, as an augmentation, by words."""
    classes = [one for one in get_args(info.type) if isinstance(one, type)]
    for one in classes:
        if hasattr(one, "parse"):
            return _spec("WORD ...", one.parse, nargs="*", shown=lambda value: value.words())
    if str in classes and not {*classes} <= {str, int, float, NoneType}:
        return _spec("NAME", lambda words: words[0])
    return None


def _spec(metavar: str, read: Any, *, nargs: Any = 1, shown: Any = None) -> PrimitiveConstructorSpec[Any]:
    def as_words(value: Any) -> list[str]:
        if value is None:
            return ["none"]
        if isinstance(value, (tuple, range)):
            ends = (value.start, value.stop) if isinstance(value, range) else value
            return [":".join(map(str, ends))]
        return shown(value) if shown else [str(value)]

    return PrimitiveConstructorSpec(
        nargs=nargs, metavar=metavar, instance_from_str=read, is_instance=lambda _: True, str_from_instance=as_words
    )


def models_from(text: str) -> int | range:
    """Read a number of models, or FROM:TO: those from one number to before another.

    Raises:
        InputError: where it is neither.

    Examples:
        >>> models_from("100"), models_from("100:200")
        (100, range(100, 200))
    """
    from infl.records import InputError

    parts = text.split(":")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InputError(f"expected a number of models, or FROM:TO as in 100:200, got {text}")
    return int(text) if len(parts) == 1 else range(int(parts[0]), int(parts[1]))


@dataclass(frozen=True, kw_only=True)
class Data:
    """The examples; a run that exists has its own."""

    dataset: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET", help_behavior_hint="")] = None
    """`digits`; `verses`; a path to an .npz with x_train, y_train, x_test, y_test; `folder:DIR` of pictures, one subfolder a
    class; `text:FILE` of documents; `facts:FILE` of triples; `idx:FOLDER` of MNIST-style files; `tfds:NAME` of TensorFlow
    Datasets; `hf:DIR` of Hugging Face's datasets."""
    n_train: Whole = None
    """Training examples to draw from the data set; all by default."""
    n_held_out: Whole = None
    """Held-out examples to draw from the data set; all by default."""
    data_seed: int = 0
    """Seed of those draws."""

    def load(self) -> Dataset | None:
        from infl.data import load
        from infl.records import InputError

        if self.dataset is None:
            if (self.n_train, self.n_held_out) != (None, None):
                raise InputError("--n-train and --n-held-out draw from a data set: name it")
            return None
        return load(self.dataset, n_train=self.n_train, n_held_out=self.n_held_out, seed=self.data_seed)

    def __str__(self) -> str:
        """As it was named on the command line."""
        drawn = {"--n-train": self.n_train, "--n-held-out": self.n_held_out, "--data-seed": self.data_seed or None}
        options = [f"{option} {value}" for option, value in drawn.items() if value is not None]
        return " ".join([quoted(self.dataset), *options])


def cluster(engine: Engine, ray: Ray) -> Ray | None:
    """The cluster to train on; None for this machine's devices.

    Raises:
        InputError: where there are settings of a cluster and none is asked for.
    """
    from infl.records import InputError

    if engine == "local":
        if ray != type(ray)():
            raise InputError("--ray.address, --ray.cpus, --ray.gpus and --ray.n-workers are settings of --engine ray")
        return None
    import jax

    # The driver trains next to nothing, and on a GPU it would take the memory that a worker there needs.
    jax.config.update("jax_platforms", "cpu")
    return ray


def options_of(function: Callable[..., Any], *, without: Sequence[str]) -> Any:
    """Type of a field that takes the other parameters of a function, with their documentation, as a dict."""

    def given(**options: Any) -> dict[str, Any]:
        return options

    parameters = signature(function, eval_str=True).parameters
    chosen = [parameter for name, parameter in parameters.items() if name not in without]
    given.__signature__ = Signature([one.replace(kind=Parameter.KEYWORD_ONLY) for one in chosen])  # pyright: ignore
    given.__annotations__ = {one.name: one.annotation for one in chosen}
    given.__doc__ = function.__doc__
    return Annotated[dict[str, Any], tyro.conf.OmitArgPrefixes, tyro.conf.arg(constructor=given)]


def with_fields(base: type, about: str | None = None, **fields: Any) -> Any:
    """A command with more fields, or with fields of other types or defaults: name=type, or name=(type, default)."""
    more = [(name, *(field if isinstance(field, tuple) else (field,))) for name, field in fields.items()]
    names = {"__module__": base.__module__}
    command = make_dataclass(base.__name__, more, bases=(base,), namespace=names, frozen=True, kw_only=True)
    command.__doc__ = about or base.__doc__
    return command


def quoted(word: Any) -> str:
    """As a shell wants it."""
    from shlex import quote

    return quote(str(word))

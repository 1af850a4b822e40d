"""Options that several commands share, and what they turn into: a data set, a training, thresholds."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import tyro

if TYPE_CHECKING:
    from infl.records import Dataset, Thresholds
    from infl.training.algorithm import Algorithm
    from infl.training.ensemble import Layout
    from infl.training.ray import Ray
    from infl.training.subsets import Design

# Optional settings whose help says the default in words: None stands for "as the run has it".
Whole = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Real = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
File = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]


def models_from(option: str, text: str) -> int | range:
    """Read a number of models, or FROM:TO: those from one number to before another.

    Raises:
        InputError: where it is neither.

    Example:
        >>> models_from("--models", "100"), models_from("--models", "100:200")
        (100, range(100, 200))
    """
    from infl.records import InputError

    parts = text.split(":")
    if len(parts) > 2 or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InputError(f"{option}: expected a number of models, or FROM:TO as in 100:200, got {text}")
    return int(text) if len(parts) == 1 else range(int(parts[0]), int(parts[1]))


@dataclass(frozen=True, kw_only=True)
class Data:
    """A data set."""

    dataset: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET", help_behavior_hint="")] = None
    """`digits`; a path to an .npz with x_train, y_train, x_test, y_test; `folder:DIR` of pictures, one subfolder a class;
    `idx:FOLDER` of MNIST-style files; `tfds:NAME` of TensorFlow Datasets; `hf:DIR` of Hugging Face's datasets."""
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


@dataclass(frozen=True, kw_only=True)
class Training(Data):
    """Models of its subsets."""

    design: Annotated[
        Literal["grouped", "uniform", "balanced", "paired"] | None,
        tyro.conf.arg(metavar="grouped|uniform|balanced|paired", help_behavior_hint=""),
    ] = None
    """How subsets are drawn (default: grouped, half of the models by whole groups and half uniformly)."""
    grouped_share: Real = None
    """Share of the models of a grouped design whose subsets leave out whole groups (default: 0.5)."""
    fraction: Annotated[str | None, tyro.conf.arg(metavar="SHARE|LOW:HIGH", help_behavior_hint="")] = None
    """Share of the training examples in a subset, or a range LOW:HIGH to draw it from (default: 0.7:0.97 for
    grouped, else 0.7; paired: 0.5)."""
    network: Name = None
    """Network by name: mlp, cnn, resnet9 or vit (default: mlp)."""
    hidden: Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="INT ...", help_behavior_hint="")] = None
    """Widths of the dense hidden layers (default: 256 for mlp, 64 for cnn, six blocks of 256 for vit)."""
    widths: Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="INT ...", help_behavior_hint="")] = None
    """Channels of the convolutions (default: 16 32 for cnn, 64 128 256 512 for resnet9), or of vit's tokens (128)."""
    optimizer: Name = None
    """sgd, adam or adamw (default: sgd)."""
    epochs: Whole = None
    """Passes over the subset (default: 30)."""
    batch_size: Whole = None
    """Examples a step (default: 50)."""
    learning_rate: Real = None
    """Learning rate (default: 0.05)."""
    momentum: Real = None
    """Momentum of sgd (default: 0.9)."""
    weight_decay: Real = None
    """Weight decay of adamw (default: 0)."""
    schedule: Name = None
    """Learning rate over training: constant, linear or cosine (default: constant)."""
    augment: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="WORD ...", help_behavior_hint="")] = None
    """Random changes of the images trained on: flip, shift:PIXELS, shift:PIXELS:reflect (default: none)."""
    standardize: Annotated[bool | None, tyro.conf.arg(metavar="True|False", help_behavior_hint="")] = None
    """Give the network pixels minus mean over standard deviation of each channel, those of the model's own examples
    (default: False)."""
    precision: Name = None
    """Of training: float32, or bfloat16 with weights, loss and updates in float32 (default: float32)."""
    privacy: Annotated[tuple[str, ...] | None, tyro.conf.arg(metavar="WORD ...", help_behavior_hint="")] = None
    """Differentially private training: clip:NORM of each example's gradient and noise:MULTIPLIER of it (default: none)."""
    block_size: Whole = None
    """Models per device in a block. Affects speed only."""
    devices: Whole = None
    """Devices to use (default: all). Affects speed only."""
    mode: Annotated[Literal["map", "vmap"] | None, tyro.conf.arg(metavar="map|vmap", help_behavior_hint="")] = None
    """Models of a device one after another, or side by side (default: map on CPUs). Affects speed only."""
    convolution: Name = None
    """How convolutions are computed (default: the usual way of the device). Affects speed only."""
    tune: Annotated[Literal["auto", "fresh", "off"], tyro.conf.arg(metavar="auto|fresh|off")] = "auto"
    """What is not named of the three above is chosen by a short measurement where training takes long, and kept for the run and
    this machine: auto. Measured anew: fresh. Never: off. Affects speed only."""

    def algorithm(self, base: Algorithm | None) -> Algorithm:
        from dataclasses import replace

        from infl.training.algorithm import Algorithm

        names = ("network", "hidden", "widths", "optimizer", "epochs", "batch_size", "learning_rate", "momentum")
        given = {name: getattr(self, name) for name in (*names, "weight_decay", "schedule", "precision", "standardize")}
        if self.augment:
            from infl.training.augmentation import Augmentation

            given["augmentation"] = Augmentation.parse(self.augment)
        if self.privacy:
            from infl.training.privacy import Privacy

            given["privacy"] = Privacy.parse(self.privacy)
        return replace(base or Algorithm(), **{name: value for name, value in given.items() if value is not None})

    def drawn(self, base: Design | None) -> Design:
        from infl.records import InputError
        from infl.training.subsets import Design, parse_fraction

        kind = self.design or (base.kind if base else "grouped")
        same = base is not None and kind == base.kind
        usual: dict[str, float | tuple[float, float]] = {"grouped": (0.7, 0.97), "paired": 0.5}
        fraction = base.fraction if base is not None and same else usual.get(kind, 0.7)
        if self.fraction is not None:
            fraction = parse_fraction(self.fraction)
        if kind != "grouped":
            if self.grouped_share is not None:
                raise InputError(f"--grouped-share is a setting of design grouped, and the design is {kind}")
            return Design(kind, fraction)
        share = self.grouped_share
        if share is None:
            share = base.grouped_share if base is not None and same else Design().grouped_share
        return Design("grouped", fraction, grouped_share=share)

    def layout(self) -> Layout:
        from infl.training.ensemble import Layout

        return Layout(
            n_devices=self.devices,
            models_per_device=self.block_size,
            mode=self.mode,
            convolution=self.convolution,
            tune=self.tune,
        )


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Where models are trained."""

    engine: Annotated[Literal["local", "ray"], tyro.conf.arg(metavar="local|ray")] = "local"
    """On this machine's devices, or on the workers of a Ray cluster (extra `ray`). Affects speed only."""
    ray_address: Name = None
    """Of the cluster's head, HOST:PORT (default: that of $RAY_ADDRESS, else a cluster of this machine, started for the
    command)."""
    ray_workers: Whole = None
    """Workers (default: as many as the nodes hold, and more when nodes join)."""
    ray_cpus: Whole = None
    """Cores of a worker (default: all of the smallest node; 1 with GPUs)."""
    ray_gpus: float = 0
    """GPUs of a worker; a share such as 0.5 lets two share one."""
    checkpoint_minutes: Real = None
    """For blocks of models that take long: minutes between checkpoints of a block in training, from which the same command goes
    on after a kill (default: none, and a block that is killed begins again). With the local engine."""

    def trained_by(self) -> Ray | None:
        from infl.records import InputError

        settings = (self.ray_address, self.ray_workers, self.ray_cpus, self.ray_gpus)
        if self.engine == "local":
            if settings != (None, None, None, 0):
                raise InputError("--ray-address, --ray-workers, --ray-cpus and --ray-gpus are settings of --engine ray")
            return None
        import jax

        from infl.training.ray import Ray

        # The driver trains next to nothing, and on a GPU it would take the memory that a worker there needs.
        jax.config.update("jax_platforms", "cpu")
        return Ray(self.ray_address, cpus=self.ray_cpus, gpus=self.ray_gpus, n_workers=self.ray_workers)


@dataclass(frozen=True, kw_only=True)
class Judging:
    """Where regimes begin."""

    self_threshold: float = 0.1
    """Least self-influence called high."""
    cross_threshold: float = 0.1
    """Least cross-influence called high."""
    least_effect: float = 0.1
    """Least effect on an example that counts as harm or gain."""
    probability: float = 0.8
    """A regime less probable than this is not named: undetermined."""
    cross: Literal["net", "harm"] = "net"
    """Judge cross-influence by its net value, or by harm alone."""

    def thresholds(self) -> Thresholds:
        from infl.records import Thresholds

        return Thresholds(self.self_threshold, self.cross_threshold, self.least_effect, self.probability, self.cross)


def words(data: Data) -> str:
    """The data set as it was named on the command line."""
    drawn = (
        ("--n-train", data.n_train, None),
        ("--n-held-out", data.n_held_out, None),
        ("--data-seed", data.data_seed, 0),
    )
    options = [f"{option} {value}" for option, value, default in drawn if value != default]
    return " ".join([quoted(data.dataset), *options])


def quoted(word: Any) -> str:
    """As a shell wants it."""
    from shlex import quote

    return quote(str(word))


@dataclass(frozen=True)
class Written:
    """Marks the type of an option whose path the command writes, with how it does.

    in place: the file is opened and written; replaced: one beside it takes its place; new, new folder: it must not be there
    yet, and `~` is the user's home; folder: made with the folders above it where it is not there.
    """

    how: Literal["in place", "replaced", "new", "new folder", "folder"]


Output = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint=""), Written("in place")]
ForgetFile = Annotated[Path, Written("replaced")]
NewFile = Annotated[Path, Written("new")]
NewFolder = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint=""), Written("new folder")]
RunToRead = Annotated[str, tyro.conf.arg(metavar="PATH|URL")]
RunOrNone = Annotated[str | None, tyro.conf.arg(metavar="PATH|URL", help_behavior_hint="")]
RunToWrite = Annotated[str, tyro.conf.arg(metavar="PATH|URL"), Written("folder")]


def check_outputs(command: Any) -> None:
    """Refuse, before work goes into it, a command of which an output could not be written.

    Raises:
        InputError: where a path has no folder, or is one, or one that may not be written to, or is to be new and is not.
    """
    from infl.records import InputError

    outputs = [(Path(path), how) for path, how in _outputs(command) if path is not None and not _is_remote(path, how)]
    to_make = {os.path.realpath(path) for path, how in outputs if how == "folder" and not os.path.exists(path)}
    for path, how in outputs:
        try:
            if how == "folder":
                _check_folder_to_make(path)
            else:
                _check_file(Path(os.path.expanduser(path)) if how.startswith("new") else path, how, to_make)
        except FileExistsError as error:
            raise InputError(f"{path} exists already; choose another name, nothing is overwritten") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _outputs(command: Any) -> Iterable[tuple[str | Path | None, str]]:
    for name, hint in get_type_hints(type(command), include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Written):
                yield getattr(command, name), mark.how


def _is_remote(path: str | Path, how: str) -> bool:
    """Whether it is a run on object storage: whether that can be written is for the storage to say."""
    return how == "folder" and "://" in str(path)


def _check_file(path: Path, how: str, to_make: set[str]) -> None:
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise _error(errno.EEXIST if how == "new folder" else errno.EISDIR)
    if mode is not None and how in ("new", "new folder"):
        raise _error(errno.EEXIST)
    if mode is not None and how == "in place":
        if not os.access(path, os.W_OK):
            raise _error(errno.EACCES)
        return
    place = os.path.realpath(path)  # what a link points at is written, not the link
    if place in to_make:
        raise _error(errno.EISDIR)
    folder = os.path.dirname(place)
    if folder not in to_make:  # else it will be there, as `infl train` makes the run before it writes into it
        _check_folder(folder)


def _check_folder_to_make(path: Path) -> None:
    if _mode(path) is not None:  # whether it is a run, and fits, is for the command to say
        return
    above = os.path.dirname(os.path.realpath(path))
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    _check_folder(above)


def _check_folder(path: str) -> None:
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise _error(errno.ENOTDIR)
    if not os.access(path, os.W_OK | os.X_OK):
        raise _error(errno.EACCES)


def _mode(path: Path) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))

"""What `folder:`, `hf:`, `text:` and `facts:` have in common: what stands behind the colon, and how D and H are told apart.

Examples are given with their split into D and H, or as one collection from which a fraction is held out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from infl.data.arrays import from_arrays
from infl.records import Array, Dataset, InputError

PLACE = re.compile(r"(.*?)(?::([0-9]*\.[0-9]+|[01]))?(?::([1-9][0-9]*)x([1-9][0-9]*))?", re.DOTALL)
OPTIONS = re.compile(r"(.*?)((?::[a-z]+=[^:]*)*)", re.DOTALL)
HELD_OUT_NAMES = ("test", "held_out", "validation", "valid", "val")


@dataclass(frozen=True)
class Place:
    """FORM:PATH[:FRACTION][:HEIGHTxWIDTH][:OPTION=VALUE ...]; None where left away."""

    form: str
    path: str
    fraction: float | None
    size: tuple[int, int] | None
    options: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        fraction = "" if self.fraction is None else f":{self.fraction}"
        size = f":{self.size[0]}x{self.size[1]}" if self.size else ""
        return f"{self.form}:{self.path}{fraction}{size}{''.join(f':{k}={v}' for k, v in self.options.items())}"

    def held_out_split(self, names: Collection[str], expected: str) -> str | None:
        """The name of the split to hold out beside `train`; None where the fraction is drawn from all there is.

        Args:
            names: Of the splits that are there.
            expected: What should be there where no fraction is given, for the message.

        Raises:
            InputError: where there are neither such splits nor a fraction, or both.
        """
        name = held_out_name(names) if "train" in names else None
        if name and self.fraction is not None:
            raise InputError(f"{self.path} holds train and {name}: leave the fraction to hold out away")
        if not name and self.fraction is None:
            listed = ", ".join(list(names)[:5]) + (", ..." if len(names) > 5 else "")
            raise InputError(
                f"{self.path}: expected {expected}, as in {self.form}:{self.path}:0.2; got {listed or 'none'}"
            )
        return name

    def parts(self, labels: Array, n_train: int | None, fraction: float = 0.0) -> tuple[Array, Array]:
        """Positions of D and of H: D is the first `n_train`, or where None a fraction is drawn, `fraction` by default."""
        if n_train is None:
            return draw_held_out(labels, self.fraction or fraction)
        return np.arange(n_train), np.arange(n_train, len(labels))

    def dataset(self, pixels: Array, labels: Array, n_train: int | None, class_names: Sequence[str] | None) -> Dataset:
        """The dataset of examples of which the first `n_train` are D, or of which `fraction` is drawn where None."""
        train, held_out = self.parts(labels, n_train)
        arrays = (pixels[train], labels[train], pixels[held_out], labels[held_out])
        return from_arrays(
            *arrays,
            name=os.path.basename(self.path) or self.form,
            class_names=class_names,
            train_ids=train,
            held_out_ids=held_out - (n_train or 0),
            source=str(self),
        )


def parse_place(form: str, place: str, options: Collection[str] = ()) -> Place:
    """The parts of `FORM:PLACE`, paths in it absolute.

    Args:
        options: Names of those that the form takes; where there are none, what looks like one is part of the path.

    Raises:
        InputError: where no path is named, the fraction is not above 0 and below 1, or an option is unknown or twice there.

    Examples:
        >>> parse_place("folder", "/pets:0.2:32x48")
        Place(form='folder', path='/pets', fraction=0.2, size=(32, 48), options={})
        >>> parse_place("text", "/letters.jsonl:context=64", ["context"]).options
        {'context': '64'}
    """
    found: dict[str, str] = {}
    if options:
        place, words = OPTIONS.fullmatch(place).groups()  # pyright: ignore[reportOptionalMemberAccess]
        for name, value in (word.split("=", 1) for word in words.split(":")[1:]):
            if name not in options or name in found or not value:
                raise InputError(
                    f"{form}:{place}{words}: expected {', '.join(f':{one}=...' for one in options)}, each once at most, got "
                    f":{name}={value}"
                )
            found[name] = os.path.abspath(os.path.expanduser(value)) if name == "tokenizer" else value
    folder, fraction, height, width = PLACE.fullmatch(place).groups()  # pyright: ignore[reportOptionalMemberAccess]
    if not folder:
        what, where = ("file", "FILE") if form in ("text", "facts") else ("folder", "DIR")
        raise InputError(f"{form}: expected a {what} after the colon, as in {form}:{where}, got none; name the {what}")
    if fraction and not 0 < float(fraction) < 1:
        raise InputError(
            f"{form}:{place}: expected a fraction of the examples to hold out, above 0 and below 1, got {fraction}"
        )
    folder, size = os.path.abspath(os.path.expanduser(folder)), (int(height), int(width)) if height else None
    return Place(form, folder, float(fraction) if fraction else None, size, found)


def held_out_name(names: Collection[str]) -> str | None:
    """The split to hold out: the first of `HELD_OUT_NAMES` that is there; None where none is."""
    return next((name for name in HELD_OUT_NAMES if name in names), None)


def draw_held_out(labels: Array, fraction: float) -> tuple[Array, Array]:
    """Positions of training and of held-out examples, ascending: the same fraction of each class, always the same draw.

    Of a class of k examples round(fraction * k) are held out, but at least one where the class has two, and never all.

    Examples:
        >>> train, held_out = draw_held_out(np.array([0] * 8 + [1] * 4), 0.25)
        >>> len(train), np.bincount(np.array([0] * 8 + [1] * 4)[held_out]).tolist()
        (9, [2, 1])
    """
    random = np.random.RandomState(0)  # a stream that NumPy has promised to keep
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        n_held_out = min(max(round(fraction * len(members)), 1), len(members) - 1)
        held_out[members[:n_held_out]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)

"""What `folder:` and `hf:` have in common: what stands behind the colon, and how D and H are told apart.

Examples are given with their split into D and H, or as one collection from which a fraction is held out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from infl.data.arrays import from_arrays
from infl.records import Array, Dataset, InputError

PLACE = re.compile(r"(.*?)(?::([0-9]*\.[0-9]+|[01]))?(?::([1-9][0-9]*)x([1-9][0-9]*))?", re.DOTALL)
HELD_OUT_NAMES = ("test", "held_out", "validation", "valid", "val")


@dataclass(frozen=True)
class Place:
    """FORM:FOLDER[:FRACTION][:HEIGHTxWIDTH]; None where left away."""

    form: str
    folder: str
    fraction: float | None
    size: tuple[int, int] | None

    def __str__(self) -> str:
        fraction = "" if self.fraction is None else f":{self.fraction}"
        return f"{self.form}:{self.folder}{fraction}{f':{self.size[0]}x{self.size[1]}' if self.size else ''}"

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
            raise InputError(f"{self.folder} holds train and {name}: leave the fraction to hold out away")
        if not name and self.fraction is None:
            listed = ", ".join(list(names)[:5]) + (", ..." if len(names) > 5 else "")
            raise InputError(
                f"{self.folder}: expected {expected}, as in {self.form}:{self.folder}:0.2; got {listed or 'none'}"
            )
        return name

    def dataset(self, pixels: Array, labels: Array, n_train: int | None, class_names: Sequence[str] | None) -> Dataset:
        """The dataset of examples of which the first `n_train` are D, or of which `fraction` is drawn where None."""
        if n_train is None:
            train, held_out = draw_held_out(labels, self.fraction or 0)
        else:
            train, held_out = np.arange(n_train), np.arange(n_train, len(labels))
        arrays = (pixels[train], labels[train], pixels[held_out], labels[held_out])
        return from_arrays(
            *arrays,
            name=os.path.basename(self.folder) or self.form,
            class_names=class_names,
            train_ids=train,
            held_out_ids=held_out - (n_train or 0),
            source=str(self),
        )


def parse_place(form: str, place: str) -> Place:
    """The parts of `FORM:PLACE`, its folder as an absolute path.

    Raises:
        InputError: where no folder is named, or the fraction is not above 0 and below 1.

    Examples:
        >>> parse_place("folder", "/pets:0.2:32x48")
        Place(form='folder', folder='/pets', fraction=0.2, size=(32, 48))
    """
    folder, fraction, height, width = PLACE.fullmatch(place).groups()  # pyright: ignore[reportOptionalMemberAccess]
    if not folder:
        raise InputError(f"{form}: expected a folder after the colon, as in {form}:DIR, got none; name the folder")
    if fraction and not 0 < float(fraction) < 1:
        raise InputError(
            f"{form}:{place}: expected a fraction of the examples to hold out, above 0 and below 1, got {fraction}"
        )
    folder, size = os.path.abspath(os.path.expanduser(folder)), (int(height), int(width)) if height else None
    return Place(form, folder, float(fraction) if fraction else None, size)


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

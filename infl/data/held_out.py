"""Which examples are held out: by the name of a split, or, where a source has a single collection, by a seeded draw."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from infl.records import Array, InputError

HELD_OUT_NAMES = ("test", "held_out", "validation", "valid", "val")
SHARE_AT_THE_END = re.compile(r":([0-9]*\.[0-9]+|[01])$")


def held_out_name(names: Iterable[str]) -> str | None:
    """The split to hold out: the first of test, held_out, validation, valid, val that is there; None where none is."""
    there = set(names)
    return next((name for name in HELD_OUT_NAMES if name in there), None)


def split_off_share(place: str) -> tuple[str, float | None]:
    """`PLACE:SHARE` as its two parts; None where no share stands behind it.

    Raises:
        InputError: where the share is not above 0 and below 1.

    Example:
        >>> split_off_share("pets:0.2"), split_off_share("pets")
        (('pets', 0.2), ('pets', None))
    """
    match = SHARE_AT_THE_END.search(place)
    if not match:
        return place, None
    share = float(match[1])
    if not 0 < share < 1:
        raise InputError(f"{place}: expected a share of the examples to hold out, above 0 and below 1, got {match[1]}")
    return place[: match.start()], share


def draw_held_out(labels: Array, share: float) -> tuple[Array, Array]:
    """Positions of training and of held-out examples, ascending: the same share of each class, always the same draw.

    Of a class of k examples round(share * k) are held out, but at least one where the class has two, and never all.

    Example:
        >>> train, held_out = draw_held_out(np.array([0] * 8 + [1] * 4), 0.25)
        >>> len(train), np.bincount(np.array([0] * 8 + [1] * 4)[held_out]).tolist()
        (9, [2, 1])
    """
    random = np.random.RandomState(0)  # a stream that NumPy has promised to keep
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == label))
        n_held_out = min(max(round(share * len(members)), 1), len(members) - 1)
        held_out[members[:n_held_out]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)

"""Words that all records share: arrays, protocols, kinds of outcomes, regimes, and the errors that end in one line."""

from __future__ import annotations

import operator
import zlib
from typing import ClassVar, Literal

import numpy as np

Array = np.ndarray
Columns = slice | Array  # a run of columns, or their numbers
ProtocolName = Literal["held-out", "left-out", "trained"]
OutcomeKind = Literal["correct", "margin", "logprob", "exact"]
Regime = Literal["no-op", "local", "spreading", "indirect", "undetermined"]

OUTCOME_KINDS: tuple[OutcomeKind, ...] = ("correct", "margin", "logprob", "exact")
LABEL_KINDS: tuple[OutcomeKind, ...] = ("correct", "margin")  # of a classifier
UNITS = {"correct": "accuracy", "margin": "log-odds", "logprob": "nats a token", "exact": "probability"}
REGIMES: tuple[Regime, ...] = ("no-op", "local", "spreading", "indirect")


class InputError(ValueError):
    """A user's mistake. The message says what was expected, what came, and what to do."""

    exit_status: ClassVar[int] = 2


class DiskError(InputError):
    """The disk refuses, as a full or a read-only one does, or has changed what was written. The call itself was right."""

    exit_status: ClassVar[int] = 3


def first_line(error: BaseException) -> str:
    """What an error of another library says, as part of a line; its type where it says nothing.

    Examples:
        >>> first_line(OSError("no space\\nTraceback ...")), first_line(EOFError())
        ('no space', 'EOFError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def check_integer(name: str, given: int, low: int, high: int, what: str = "") -> int:
    """`given` as an int.

    Args:
        what: What the numbers from `low` to `high` are.
    """
    try:
        number = operator.index(given)
    except TypeError:
        raise InputError(f"{name}: expected a whole number, got {given!r}") from None
    if high < low:
        raise InputError(f"{name}: got {given}, but {what} are none")
    if not low <= number <= high:
        what = f", {what}" if what else ""
        raise InputError(f"{name}: expected {low} to {high}{what}, got {given}")
    return number


def check_fraction(name: str, value: float) -> None:
    """Raise `InputError` unless the value lies between 0 and 1."""
    if not 0 < value < 1:
        raise InputError(f"{name}: expected a number above 0 and below 1, got {value}")


def seeded(seed: int, stream: str = "") -> np.random.RandomState:
    """Random numbers that NumPy has promised to keep, as it has not for `default_rng`; each stream of a seed has its own."""
    check_integer("seed", seed, 0, 2**32 - 1)
    return np.random.RandomState([seed, zlib.crc32(stream.encode())] if stream else seed)

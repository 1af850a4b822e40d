"""Words that all records share: arrays, readings, kinds of outcomes, regimes, and the error for a user's mistake."""

from __future__ import annotations

from typing import Literal

import numpy as np

Array = np.ndarray
Columns = slice | Array  # a run of columns, or their numbers
Reading = Literal["held-out", "left-out", "trained"]
OutcomeKind = Literal["correct", "margin"]
Regime = Literal["no-op", "local", "spreading", "indirect", "undetermined"]

REGIMES: tuple[Regime, ...] = ("no-op", "local", "spreading", "indirect")


class InputError(ValueError):
    """A user's mistake. The message says what was expected, what came, and what to do."""

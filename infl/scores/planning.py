"""Turns a wanted standard error into a number of models."""

from __future__ import annotations

import math

from infl.records import InputError


def models_for_standard_error(standard_error: float, *, fraction: float, probability: float = 0.5) -> int:
    """Models that bring a memorization or influence score to a wanted standard error.

        T = p (1 - p) / (r (1 - r) se^2)

    from se^2 = p(1-p)/(rT) + p(1-p)/((1-r)T), the variance of a difference of two proportions near p (Feldman & Zhang
    2020, Lemma 2.1 bounds the same quantity with variance 1).

    standard_error: wanted, in (0, 1). fraction: share r of D that each model trains on, in (0, 1).
    probability: p, how often the example is predicted correctly; 0.5 is the worst case.

    Raises:
        InputError: for a value outside its range.

    Example:
        >>> models_for_standard_error(0.05, fraction=0.7)
        477
    """
    for name, value in (("standard_error", standard_error), ("fraction", fraction), ("probability", probability)):
        if not 0 < value < 1:
            raise InputError(f"{name}: expected a number above 0 and below 1, got {value}")
    needed = probability * (1 - probability) / (fraction * (1 - fraction) * standard_error**2)
    return math.ceil(needed - 1e-9)

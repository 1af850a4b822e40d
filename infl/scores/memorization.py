"""Turns outcomes into memorization: how much an example's own presence helps the model predict it."""

from __future__ import annotations

from infl.records import Estimate, OutcomeKind, OutcomeSource
from infl.scores.contrasts import sum_own


def memorization(outcomes: OutcomeSource, *, outcome: OutcomeKind = "correct") -> Estimate:
    """Memorization of every training example (Feldman 2020, definition of mem; estimator of Feldman & Zhang 2020).

        mem(i) = P[model predicts y_i | i in its training set] - P[... | i not in it]

    outcome: `correct` gives a probability in [-1, 1]; `margin` the same contrast of margins, in log-odds.

    Returns an Estimate with arrays [n]: near 0 where the rest of D teaches the example, near 1 where only the example itself
    does. The value is NaN where no model, or every model, trained on the example; the standard error is NaN where one
    side has fewer than two models.

    Raises:
        InputError: where there are no models, or the outcome was not recorded.

    Example:
        >>> import numpy as np, infl
        >>> masks = np.array([[True, False], [False, True], [True, False], [False, True]])
        >>> learned_by_heart = infl.Outcomes(masks, correct=masks)
        >>> infl.memorization(learned_by_heart).value
        array([1., 1.])
    """
    return sum_own(outcomes, outcome=outcome).estimate(reading="own", outcome=outcome)

"""Says whether a run has come as far as it was asked to: to a wanted error of memorization."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from infl.records import InputError
from infl.scores.contrasts import sum_own
from infl.scores.planning import ErrorForecast, check_share, root_mean_square
from infl.store import Run


@dataclass(frozen=True)
class Target:
    """Whether a run has reached a wanted root mean square standard error of memorization.

    reached: NaN where an example has no error yet. n_models: of subsets, that the run holds. n_needed: of subsets, by what the
    outcomes say; None where they say nothing yet.
    """

    wanted: float
    reached: float
    n_models: int
    n_needed: int | None

    @property
    def met(self) -> bool:
        """Whether no more models are needed."""
        return self.reached <= self.wanted


def check_target(run: Run, standard_error: float, *, models: Sequence[int] | None = None) -> Target:
    """How far the memorization scores of a run are from a wanted root mean square standard error.

    models: of the collection that scores rest on, to look at; None for all.

    Raises:
        InputError: for an error outside (0, 1), or a run whose design trains no models that scores rest on.
    """
    check_share("standard_error", standard_error)
    share = float(run.manifest.get("design", {}).get("grouped_share", 0.0))
    if share >= 1:
        raise InputError(
            "a target is for scores, which rest on uniform models, and with a grouped share of 1 there are none"
        )
    outcomes = run.outcomes("design", models)
    n_models = len(run.complete("design")) + len(run.complete("grouped"))
    if not outcomes.n_models:
        return Target(standard_error, math.nan, n_models, None)
    # Training asks at every look: forecast and scores are made from one pass over the outcomes.
    sums = sum_own(outcomes, outcome="correct")
    needed = ErrorForecast.of_sums(sums, n_models=outcomes.n_models).models_for(standard_error)
    reached = root_mean_square(sums.estimate(reading="own", outcome="correct").se)
    return Target(standard_error, reached, n_models, None if needed is None else math.ceil(needed / (1 - share)))

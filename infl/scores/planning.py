"""Turns a wanted standard error into a number of models: at worst, and from the errors of models that are there.

At worst outcomes are right half of the time; most are not. What errors will be with more models follows from the variance of
each side of a contrast. With X right outcomes of n the error counts p = (X + 1) / (n + 2) (Agresti & Caffo 2000; see
`contrasts`), so that its expected square is

    E[p (1 - p) / (n + 2)] = (n (n - 1) v + n + 1) / (n + 2)^3,  v = P (1 - P) of the true rate P,

by E[X] = n P and E[X^2] = n P (1 - P) + (n P)^2. It is linear in v, which X (n - X) / (n (n - 1)) of a pilot estimates without
bias: so does what follows here for the mean square over examples, however few the pilot's models are.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from infl.records import Array, OutcomesOrRun, as_outcomes, check_fraction
from infl.scores.sufficient_statistics import SufficientStatistics, own_statistics

FIRST_LOOK = 64  # models
MAX_GROWTH, MIN_GROWTH = 2.0, 1.1  # from one look to the next
MARGIN = 1.02  # on what a forecast says, so that the look it asks for is mostly the last
LOOKS_AT = 32  # multiples: blocks are then full on most layouts
MAX_MODELS = 1 << 40


def models_for_standard_error(standard_error: float, *, fraction: float | tuple[float, float]) -> int:
    """Models that bring a memorization or influence score to a wanted standard error at worst, p = 1/2.

        T = p (1 - p) / (information se^2),  information = r (1 - r), averaged over a range of fractions

    from se^2 = p(1-p)/(rT) + p(1-p)/((1-r)T), the variance of a difference of two proportions near p (Feldman & Zhang
    2020, Lemma 2.1 bounds the same quantity with variance 1).

    Args:
        standard_error: Wanted, in (0, 1).
        fraction: Fraction r of D that each model trains on, in (0, 1), or a range of it.
    """
    check_fraction("standard_error", standard_error)
    return math.ceil(0.25 / (information_per_model(fraction) * standard_error**2) - 1e-9)


def information_per_model(fraction: float | tuple[float, float]) -> float:
    """What one model adds to 1 / (1/n_in + 1/n_out) of a contrast: r (1 - r), averaged over a range of fractions.

    Under the overlap weights of `contrasts` with Kish's numbers the reciprocal of that sum is the sum over models of
    r (1 - r), whatever their sizes.
    """
    r = fractions(fraction)
    return float((r * (1 - r)).mean())


def fractions(fraction: float | tuple[float, float]) -> Array:
    """Fractions of D that the models of a design hold, each as likely as the others."""
    low, high = (fraction, fraction) if isinstance(fraction, (int, float)) else fraction
    check_fraction("fraction", low)
    check_fraction("fraction", high)
    return np.array([low]) if low == high else low + (high - low) * (np.arange(1000) + 0.5) / 1000


@dataclass(frozen=True)
class ErrorForecast:
    """Standard errors of memorization that other numbers of models would bring, from the outcomes of some.

    The other fields are [n], NaN where the pilot gives an example no error.

    Attributes:
        n_models: Of the pilot. inside, outside: effective models of each side for every model trained, on average over
            the examples: in a small pilot some are left out more often than others by chance, which many models even
            out.
        variance_inside, variance_outside: Of the outcomes of each side, P (1 - P) where they are 0/1, without bias.
        factor: Of the design, see `Spread.design_factor`.
        is_binary: Whether outcomes are 0/1.
    """

    n_models: int
    inside: float
    outside: float
    variance_inside: Array
    variance_outside: Array
    factor: Array
    is_binary: bool = True

    @staticmethod
    def from_outcomes(outcomes: OutcomesOrRun) -> ErrorForecast:
        """From `correct`, 0/1 or shares.

        Raises:
            InputError: where there are no models, or `correct` was not recorded.

        Examples:
            >>> import numpy as np, infl
            >>> random = np.random.RandomState(0)
            >>> pilot = infl.Outcomes(random.rand(100, 50) < 0.7, random.rand(100, 50) < 0.9)
            >>> forecast = ErrorForecast.from_outcomes(pilot)
            >>> forecast.models_for(0.02) < models_for_standard_error(0.02, fraction=0.7)
            True
        """
        outcomes = as_outcomes(outcomes)
        return ErrorForecast.from_statistics(own_statistics(outcomes, outcome="correct"), n_models=outcomes.n_models)

    @staticmethod
    def from_statistics(statistics: SufficientStatistics, *, n_models: int) -> ErrorForecast:
        """From those of the outcomes of so many models, of which memorization is made too."""
        inside, outside = statistics.inside, statistics.outside
        inside_variance, outside_variance = _unbiased_variances(statistics)
        return ErrorForecast(
            n_models,
            _mean(inside.effective) / n_models,
            _mean(outside.effective) / n_models,
            inside_variance,
            outside_variance,
            statistics.spread.design_factor(np.nan_to_num(inside.mean - outside.mean)),
            statistics.is_binary,
        )

    def standard_errors(self, n_models: int) -> Array:
        """Expected error of each example, [n]."""
        # Fewer than one model is not a number of models; what is asked for then is only that it is too few.
        sides = (self.inside, self.variance_inside), (self.outside, self.variance_outside)
        numbers = [(max(n_models * each, 1.0), variance) for each, variance in sides]
        if self.is_binary:
            squares = [(n * (n - 1) * variance + n + 1) / (n + 2) ** 3 for n, variance in numbers]
        else:
            squares = [variance / n for n, variance in numbers]
        return np.sqrt(self.factor * sum(squares))

    def root_mean_square(self, n_models: int) -> float:
        """Of the errors over the examples that have one; NaN where none has.

        Quantiles are not offered: of a small pilot most examples are never wrong on one side, and quantiles of noisy
        variances, unlike their mean, are biased. On digits 192 models said 0.012 where 0.017 came.
        """
        errors = self.standard_errors(n_models)
        errors = errors[~np.isnan(errors)]
        return root_mean_square(errors) if len(errors) else math.nan

    def models_for(self, standard_error: float) -> int | None:
        """Fewest models with which the root mean square is at most a wanted error; None where the pilot tells of no example.

        Raises:
            InputError: for an error outside (0, 1).
        """
        check_fraction("standard_error", standard_error)
        if math.isnan(self.root_mean_square(1)):
            return None
        return fewest_models(lambda n_models: self.root_mean_square(n_models) <= standard_error, first=1)


def fewest_models(enough: Callable[[int], bool], *, first: int) -> int:
    """The smallest number of models that is enough, if more than enough is; at most `MAX_MODELS` or twice that."""
    high = first
    while not enough(high) and high < MAX_MODELS:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def root_mean_square(standard_errors: Array) -> float:
    """Over the examples: what a target means. NaN where any example has no error yet, so that no target is met then."""
    return float(np.sqrt(np.mean(np.square(standard_errors))))


def next_look(n_models: int, *, needed: int | None, max_models: int) -> int:
    """With how many models the errors are looked at next, in training to a target.

    At most twice as many as at the last look, at least a tenth more, and in between what the forecast asks for. All that
    decides where training stops are errors averaged over examples, never a score: an example's own luck moves that mean by
    1/n of itself, so that scores at the end are as good as unbiased (`tests/scores/test_planning.py`). Rules that stop each
    example on its own outcomes are not.

    Args:
        n_models: At the last look, 0 before the first.
        needed: By the forecast of that look.
        max_models: The limit.
    """
    if not n_models:
        return min(FIRST_LOOK, max_models)
    wanted = MAX_GROWTH * n_models if needed is None else MARGIN * needed
    wanted = min(max(wanted, MIN_GROWTH * n_models), MAX_GROWTH * n_models)
    return min(math.ceil(wanted / LOOKS_AT) * LOOKS_AT, max_models)


def _mean(numbers: Array) -> float:
    known = numbers[~np.isnan(numbers)]
    return float(known.mean()) if len(known) else math.nan


def _unbiased_variances(statistics: SufficientStatistics) -> list[Array]:
    sides = statistics.inside, statistics.outside
    if not statistics.is_binary:  # with the floor that errors have
        return [v * side.effective for v, side in zip(statistics.variances_of_means(), sides, strict=True)]
    spread = [np.clip(side.mean * (1 - side.mean), 0, 1) for side in sides]
    return [v * side.effective / (side.effective - 1) for v, side in zip(spread, sides, strict=True)]

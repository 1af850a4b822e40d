"""Turns numbers of models into the smallest effect that is found, and a wanted effect into a number of models.

A contrast is found where its two-sided p-value is at most a cut. In a column that is otherwise wrong in a share w of all
models, an example whose absence makes it wrong in a share d more is found with the chance

    P[p(X, Y) <= cut],  X ~ Binomial(n_in, w),  Y ~ Binomial(n_out, w + d)

with the effective numbers of models of both sides and p the p-value that scores have (`evidence.p_values`): the tail of a rare
outcome is skewed, and the usual power of a difference of two proportions (Fleiss, Levin & Paik 2003, section 4.1), which
takes it as normal, would promise 0.8 and keep 0.4 to 0.7. Binomials are taken as Beta with the same mean and nearly the same
variance, so that fractions of models have a meaning.

The cut of a false discovery rate q over N tests (Benjamini & Hochberg 1995) depends on how many are found: q k / N for the
k-th discovery. For the first it is q / N, the cut of Bonferroni, which is what is taken where nothing else is known.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betaincinv, ndtri

from infl.records import Array, Detectable, InputError, OutcomeKind, OutcomeSource, Reading
from infl.scores.contrasts import Sums, sum_own, sum_pairs
from infl.scores.evidence import p_values
from infl.scores.planning import MOST_MODELS, check_share, shares_of
from infl.scores.sides import columns_of

POWER, FALSE_DISCOVERY_RATE = 0.8, 0.05
COLUMNS_AT_ONCE = 1 << 13
MOST_SOURCES = 32  # whose counts stand for those of all
N_QUANTILES = 96


def p_value_cut(
    n_tests: int, *, false_discovery_rate: float = FALSE_DISCOVERY_RATE, expected_share: float = 0.0
) -> float:
    """The p-value up to which scores are found at a false discovery rate.

        a = q max(1 / N, share)

    expected_share: of the N scores that will be found, at least; 0 for the first discovery, the most cautious.

    Raises:
        InputError: for a rate or share out of its range, or without a test.

    Example:
        >>> p_value_cut(1_000_000), p_value_cut(1_000_000, expected_share=0.001)
        (5e-08, 5e-05)
    """
    check_share("false discovery rate", false_discovery_rate)
    if not 0 <= expected_share <= 1:
        raise InputError(f"expected share: expected a number from 0 to 1, got {expected_share}")
    if n_tests < 1:
        raise InputError(f"tests: expected at least 1, got {n_tests}")
    return false_discovery_rate * max(1 / n_tests, expected_share)


@dataclass(frozen=True)
class Models:
    """Effective numbers of models with and without an example, that count for a column.

    factor: of the design, see `spread`. one_size: whether all subsets have one size, so that contrasts lie on a lattice.
    """

    inside: float
    outside: float
    factor: float = 1.0
    one_size: bool = False

    @staticmethod
    def of_design(fraction: float | tuple[float, float], *, left_out: bool = False) -> Models:
        """One model of a design, shared out to both sides; left_out: only as far as it leaves a column out.

        Under overlap weights (`contrasts`) Kish's numbers are I^2 / sum p (1 - p)^2 with the example and
        I^2 / sum p^2 (1 - p) without it, where I = sum p (1 - p) over models that hold a share p of D.
        """
        p = shares_of(fraction)
        counts = 1 - p if left_out else np.ones(len(p))
        information = (counts * p * (1 - p)).mean()
        inside, outside = (counts * p * (1 - p) ** 2).mean(), (counts * p**2 * (1 - p)).mean()
        return Models(float(information**2 / inside), float(information**2 / outside), one_size=bool(np.ptp(p) == 0))

    def times(self, number: float) -> Models:
        """As many times the models."""
        return replace(self, inside=number * self.inside, outside=number * self.outside)

    def swapped(self) -> Models:
        """With and without the example exchanged: what a column that is mostly wrong is like."""
        return replace(self, inside=self.outside, outside=self.inside)


def chance_found(effect: float, models: Models, *, wrong: float, p_cut: float) -> float:
    """Chance that a true effect on a 0/1 outcome is found; see the module's text.

    effect: above 0, how much more often the outcome is wrong without the example. wrong: how often it is with the example;
    their sum is at most 1.
    """
    n_in, n_out = models.inside, models.outside
    x, y = _share_of(n_in, wrong)[:, None], _share_of(n_out, min(wrong + effect, 1.0))[None, :]
    # Where the design takes a share of the variance out, outcomes scatter by so much less around their means.
    x, y = (mean + math.sqrt(models.factor) * (z - mean) for mean, z in ((wrong, x), (min(wrong + effect, 1.0), y)))
    right_in, right_out = (n * np.clip(1 - z, 0, 1) for n, z in ((n_in, x), (n_out, y)))
    step = 0.5 if models.one_size else 0.0
    p = p_values(
        np.full(right_in.shape, n_in),
        right_in,
        np.full(right_out.shape, n_out),
        right_out,
        step=step,
        factor=models.factor,
    )
    return float((p <= p_cut).mean())


def detectable_effect(models: Models, *, wrong: float, p_cut: float, power: float = POWER) -> float:
    """Smallest true effect that is found with chance `power`; at most 1 - wrong, and NaN where not even that is found.

    models: that count for the column. wrong: how often its outcome is wrong without any effect; 0.5 is the worst case. For a
    column that is mostly wrong, where an example's presence makes it right, give `models.swapped()`.

    Raises:
        InputError: for a cut or power outside (0, 1).

    Example:
        >>> thousand = Models.of_design(0.7).times(1000)
        >>> round(detectable_effect(thousand, wrong=0.5, p_cut=5e-8), 3)
        0.214
    """
    _check(p_cut, power)
    low, high = 0.0, 1.0 - wrong
    if not chance_found(high, models, wrong=wrong, p_cut=p_cut) >= power:
        return math.nan
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        found = chance_found(middle, models, wrong=wrong, p_cut=p_cut) >= power
        low, high = (low, middle) if found else (middle, high)
    return high


def models_for_effect(effect: float, one: Models, *, wrong: float = 0.5, p_cut: float, power: float = POWER) -> int:
    """Fewest models with which an effect is found with chance `power`; the inverse of `detectable_effect`.

    one: what a single model counts for, e.g. `Models.of_design(0.7)`.

    Raises:
        InputError: for an effect, cut or power outside (0, 1).

    Example:
        >>> models_for_effect(0.1, Models.of_design(0.7), p_cut=5e-8)
        4710
    """
    check_share("effect", effect)
    _check(p_cut, power)
    effect = min(effect, 1 - wrong)
    high = 2
    while chance_found(effect, one.times(high), wrong=wrong, p_cut=p_cut) < power and high < MOST_MODELS:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        found = chance_found(effect, one.times(middle), wrong=wrong, p_cut=p_cut) >= power
        low, high = (low, middle) if found else (middle, high)
    return high


@dataclass(frozen=True)
class Column:
    """The column of median noise: the models that count for it, and how often its outcome is the rarer one.

    For margins `wrong` is the variance instead. NaN where no column has an error.
    """

    models: Models
    wrong: float


def detectable_memorization(
    outcomes: OutcomeSource,
    *,
    outcome: OutcomeKind = "correct",
    p_cut: float | None = None,
    power: float = POWER,
    false_discovery_rate: float = FALSE_DISCOVERY_RATE,
) -> Detectable:
    """Smallest memorization that the models at hand find, over all n examples.

    p_cut: the largest p-value found, where that is known; None, or a smaller one, for that of the first discovery.

    Raises:
        InputError: where there are no models, the outcome was not recorded, or a number is out of its range.
    """
    sums = sum_own(outcomes, outcome=outcome)
    own = np.nan_to_num(sums.inside.mean() - sums.outside.mean())
    column = _median_column([_noise(sums, own, outcome)], outcome)
    return _detectable(column, outcomes.n_train, outcome, p_cut, power, false_discovery_rate)


def detectable_influence(
    outcomes: OutcomeSource,
    *,
    reading: Reading = "held-out",
    outcome: OutcomeKind = "correct",
    p_cut: float | None = None,
    power: float = POWER,
    false_discovery_rate: float = FALSE_DISCOVERY_RATE,
) -> Detectable:
    """Smallest influence that the models at hand find, over all pairs of a reading; see `detectable_memorization`."""
    column = median_column(outcomes, reading=reading, outcome=outcome)
    n_train, n_held_out = outcomes.n_train, outcomes.n_columns - outcomes.n_train
    n_pairs = n_train * (n_held_out if reading == "held-out" else n_train - 1)
    return _detectable(column, n_pairs, outcome, p_cut, power, false_discovery_rate)


def median_column(outcomes: OutcomeSource, *, reading: Reading, outcome: OutcomeKind = "correct") -> Column:
    """The column of median noise of a reading, from one pass over the outcomes.

    Raises:
        InputError: where there are no models or no such columns, or the outcome was not recorded.
    """
    whole = columns_of(outcomes, reading)
    if whole.start >= whole.stop:
        raise InputError(f"reading {reading}: these outcomes have no such columns")
    noises = []
    sources = np.unique(np.linspace(0, outcomes.n_train - 1, MOST_SOURCES).astype(int))
    for first in range(whole.start, whole.stop, COLUMNS_AT_ONCE):
        columns = slice(first, min(first + COLUMNS_AT_ONCE, whole.stop))
        noises.append(
            _noise(
                sum_pairs(outcomes, sources=sources, columns=columns, reading=reading, outcome=outcome), 0.0, outcome
            )
        )
    return _median_column(noises, outcome)


def _noise(sums: Sums, own: Array | float, outcome: OutcomeKind) -> tuple[Array, ...]:
    """Of each column: mean outcome (margins: variance), effective models of both sides, design factor, whether of one size."""
    spread = sums.spread
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(spread.n > 1, spread.y / spread.n, np.nan)
        level = mean if outcome == "correct" else spread.yy / spread.n - mean**2
    n_in, n_out, n_models = sums.inside.effective(), sums.outside.effective(), sums.inside.n + sums.outside.n
    plain = np.abs((n_in + n_out) / n_models - 1) < 1e-6
    if n_in.ndim == 2:
        known = ~np.isnan(n_in + n_out)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a column without any model is NaN
            n_in, n_out = (np.nanmedian(np.where(known, n, np.nan), axis=0) for n in (n_in, n_out))
        plain = (plain | ~known).all(axis=0)
    shape = level.shape  # counts of a reading that takes all models for every column have one column
    n_in, n_out, plain = (np.broadcast_to(array, shape) for array in (n_in, n_out, plain))
    return np.where(np.isnan(n_in + n_out), np.nan, level), n_in, n_out, spread.design_factor(own), plain


def _median_column(noises: list[tuple[Array, ...]], outcome: OutcomeKind) -> Column:
    level, inside, outside, factor, plain = (np.concatenate(parts) for parts in zip(*noises, strict=True))
    noise = np.minimum(level, 1 - level) if outcome == "correct" else level
    known = np.flatnonzero(~np.isnan(noise))
    if not len(known):
        return Column(Models(math.nan, math.nan), math.nan)
    k = known[np.argsort(noise[known], kind="stable")[len(known) // 2]]
    # The example in question is one of many: not its own counts, which vary by chance, but those of most.
    usual = [float(np.median(n[known])) for n in (inside, outside)]
    models = Models(usual[0], usual[1], float(factor[k]), bool(plain[known].all()))
    mostly_wrong = outcome == "correct" and level[k] < 0.5
    return Column(models.swapped() if mostly_wrong else models, float(noise[k]))


def _detectable(
    column: Column,
    n_tests: int,
    outcome: OutcomeKind,
    p_cut: float | None,
    power: float,
    false_discovery_rate: float,
) -> Detectable:
    cut = max(p_value_cut(max(n_tests, 1), false_discovery_rate=false_discovery_rate), p_cut or 0.0)
    _check(cut, power)
    typical = worst = math.nan
    if outcome == "margin" and not math.isnan(column.wrong):
        error = math.sqrt(column.models.factor * column.wrong * (1 / column.models.inside + 1 / column.models.outside))
        typical = float(ndtri(power) - ndtri(cut / 2)) * error
    elif not math.isnan(column.wrong):
        typical, worst = (
            detectable_effect(column.models, wrong=wrong, p_cut=cut, power=power) for wrong in (column.wrong, 0.5)
        )
        worst = max(worst, typical)  # that of a median column may be a little skewed
    return Detectable(typical, worst, n_tests, cut, power, false_discovery_rate, outcome)


def _share_of(n: float, mean: float) -> Array:
    """Shares of n outcomes, at equally likely quantiles of their distribution."""
    level = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
    if mean <= 0 or mean >= 1:
        return np.full(N_QUANTILES, float(mean >= 1))
    return betaincinv(n * mean, n * (1 - mean), level)


def _check(p_cut: float, power: float) -> None:
    check_share("p-value cut", p_cut)
    check_share("power", power)

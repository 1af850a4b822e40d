"""Turns models into the effect that they find, and a wanted effect into a number of models.

A score is found where its p-value is at most a cut, that of a false discovery rate over all scores (`p_value_cut`). The chance
of that, for a true effect on a 0/1 outcome, follows from quantiles of how often the outcome is wrong among the models with
the example and without it, each from the Beta distribution of that mean and number of models, and the p-value of each pair
of these: the same p-values that scores have.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import betaincinv, ndtri

from infl.records import (
    Array,
    Detectable,
    Estimate,
    InputError,
    OutcomeKind,
    OutcomesOrRun,
    ProtocolName,
    as_outcomes,
    check_fraction,
)
from infl.scores.evidence import PValueCounts, p_values, q_values
from infl.scores.planning import fewest_models, fractions
from infl.scores.strongest import StrongestInfluences
from infl.scores.sufficient_statistics import SufficientStatistics, own_statistics, pair_statistics, protocol_columns

POWER, FALSE_DISCOVERY_RATE = 0.8, 0.05
COLUMNS_AT_ONCE = 1 << 13
MAX_SOURCES = 32  # whose counts stand for those of all
N_QUANTILES = 96


def p_value_cut(
    n_tests: int, *, false_discovery_rate: float = FALSE_DISCOVERY_RATE, expected_fraction: float = 0.0
) -> float:
    """The p-value up to which scores are found at a false discovery rate.

        a = q max(1 / N, fraction)

    Args:
        expected_fraction: Of the N scores that will be found, at least; 0 for the first discovery, the most cautious.
    """
    check_fraction("false discovery rate", false_discovery_rate)
    if not 0 <= expected_fraction <= 1:
        raise InputError(f"expected fraction: expected a number from 0 to 1, got {expected_fraction}")
    if n_tests < 1:
        raise InputError(f"tests: expected at least 1, got {n_tests}")
    return false_discovery_rate * max(1 / n_tests, expected_fraction)


@dataclass(frozen=True)
class EffectiveModels:
    """Effective numbers of models with and without an example, that count for a column.

    Attributes:
        factor: Of the design, see `Spread.design_factor`.
        one_size: Whether all subsets have one size, so that contrasts lie on a lattice.
    """

    inside: float
    outside: float
    factor: float = 1.0
    one_size: bool = False

    @staticmethod
    def one(fraction: float | tuple[float, float], *, left_out: bool = False) -> EffectiveModels:
        """One model of a design, divided between both sides; left_out: only as far as it leaves a column out.

        Under overlap weights (`contrasts`) Kish's numbers are I^2 / sum p (1 - p)^2 with the example and
        I^2 / sum p^2 (1 - p) without it, where I = sum p (1 - p) over models that hold a fraction p of D.
        """
        p = fractions(fraction)
        counts = 1 - p if left_out else np.ones(len(p))
        information = (counts * p * (1 - p)).mean()
        inside, outside = (counts * p * (1 - p) ** 2).mean(), (counts * p**2 * (1 - p)).mean()
        one_size = bool(np.ptp(p) == 0)
        return EffectiveModels(float(information**2 / inside), float(information**2 / outside), one_size=one_size)

    def times(self, number: float) -> EffectiveModels:
        """As many times the models."""
        return replace(self, inside=number * self.inside, outside=number * self.outside)

    def swapped(self) -> EffectiveModels:
        """With and without the example exchanged: what a column that is mostly wrong is like."""
        return replace(self, inside=self.outside, outside=self.inside)


def chance_found(effect: float, models: EffectiveModels, *, wrong: float, p_cut: float) -> float:
    """Chance that a true effect on a 0/1 outcome is found; see the module's text.

    Args:
        effect: Above 0, how much more often the outcome is wrong without the example.
        wrong: How often it is with the example; their sum is at most 1.
    """
    n_in, n_out = models.inside, models.outside
    means = wrong, min(wrong + effect, 1.0)
    x, y = _quantiles(n_in, means[0])[:, None], _quantiles(n_out, means[1])[None, :]
    # Where the design takes a part of the variance out, outcomes scatter by so much less around their means.
    x, y = (mean + math.sqrt(models.factor) * (z - mean) for mean, z in zip(means, (x, y), strict=True))
    right_in, right_out = n_in * np.clip(1 - x, 0, 1), n_out * np.clip(1 - y, 0, 1)
    step = 0.5 if models.one_size else 0.0
    p = p_values(np.array(n_in), right_in, np.array(n_out), right_out, step=step, factor=models.factor)
    return float((p <= p_cut).mean())


def _quantiles(n: float, mean: float) -> Array:
    """Equally likely values of a mean of n outcomes."""
    level = (np.arange(N_QUANTILES) + 0.5) / N_QUANTILES
    if mean <= 0 or mean >= 1:
        return np.full(N_QUANTILES, float(mean >= 1))
    return betaincinv(n * mean, n * (1 - mean), level)


def detectable_effect(models: EffectiveModels, *, wrong: float, p_cut: float, power: float = POWER) -> float:
    """Smallest true effect that is found with chance `power`; at most 1 - wrong, and NaN where not even that is found.

    Args:
        models: That count for the column.
        wrong: How often its outcome is wrong without any effect; 0.5 is the worst case. For a column that is mostly
            wrong, where an example's presence makes it right, give `models.swapped()`.

    Examples:
        >>> thousand = EffectiveModels.one(0.7).times(1000)
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


def models_for_effect(
    effect: float, one: EffectiveModels, *, wrong: float = 0.5, p_cut: float, power: float = POWER
) -> int:
    """Fewest models with which an effect is found with chance `power`; the inverse of `detectable_effect`.

    Args:
        one: What a single model counts for, e.g. `EffectiveModels.one(0.7)`.

    Examples:
        >>> models_for_effect(0.1, EffectiveModels.one(0.7), p_cut=5e-8)
        4710
    """
    check_fraction("effect", effect)
    _check(p_cut, power)
    effect = min(effect, 1 - wrong)
    return fewest_models(lambda n: chance_found(effect, one.times(n), wrong=wrong, p_cut=p_cut) >= power, first=2)


def _check(p_cut: float, power: float) -> None:
    check_fraction("p-value cut", p_cut)
    check_fraction("power", power)


@dataclass(frozen=True)
class TypicalColumn:
    """The column of median noise: the models that count for it, and how often its outcome is the rarer one.

    Where outcomes are not 0/1 `wrong` is their variance instead. NaN where no column has an error.
    """

    models: EffectiveModels
    wrong: float
    is_binary: bool


def typical_column(
    outcomes: OutcomesOrRun, *, protocol: ProtocolName | Literal["own"], outcome: OutcomeKind = "correct"
) -> TypicalColumn:
    """The column of median noise of a protocol, or of memorization (`own`), from one pass over the outcomes."""
    outcomes = as_outcomes(outcomes)
    if protocol == "own":
        statistics = own_statistics(outcomes, outcome=outcome)
        own = np.nan_to_num(statistics.inside.mean - statistics.outside.mean)
        return _median_column([_noise(statistics, own)], statistics.is_binary)
    whole, noises, is_binary = protocol_columns(outcomes, protocol), [], True
    sources = np.unique(np.linspace(0, outcomes.n_train - 1, MAX_SOURCES).astype(int))
    for first in range(whole.start, whole.stop, COLUMNS_AT_ONCE):
        columns = slice(first, min(first + COLUMNS_AT_ONCE, whole.stop))
        blocks = outcomes.blocks(columns, kinds=(outcome,))
        pairs = pair_statistics(blocks, sources=sources, columns=columns, protocol=protocol, outcome=outcome)
        statistics = pairs.statistics()
        noises.append(_noise(statistics, 0.0))
        is_binary = statistics.is_binary
    return _median_column(noises, is_binary)


def _noise(statistics: SufficientStatistics, own: Array | float) -> tuple[Array, ...]:
    """Of each column: mean outcome (variance where not 0/1), effective models of both sides, design factor, if of one size."""
    spread, inside, outside = statistics.spread, statistics.inside, statistics.outside
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(spread.n > 1, spread.y / spread.n, np.nan)
        held = spread.across[0] / spread.n  # fraction of the models that trained on the column's own example
        within = spread.yy / spread.n - mean**2 - np.square(own) * held * (1 - held)
        level = mean if statistics.is_binary else within
    n_in, n_out = inside.effective, outside.effective
    one_size = np.abs((n_in + n_out) / (inside.n + outside.n) - 1) < 1e-6
    if n_in.ndim == 2:
        known = ~np.isnan(n_in + n_out)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # a column without any model is NaN
            n_in, n_out = (np.nanmedian(np.where(known, n, np.nan), axis=0) for n in (n_in, n_out))
        one_size = (one_size | ~known).all(axis=0)
    shape = level.shape  # counts of a protocol that takes all models for every column have one column
    n_in, n_out, one_size = (np.broadcast_to(array, shape) for array in (n_in, n_out, one_size))
    return np.where(np.isnan(n_in + n_out), np.nan, level), n_in, n_out, spread.design_factor(own), one_size


def _median_column(noises: list[tuple[Array, ...]], is_binary: bool) -> TypicalColumn:
    level, inside, outside, factor, one_size = (np.concatenate(parts) for parts in zip(*noises, strict=True))
    noise = np.minimum(level, 1 - level) if is_binary else level
    known = np.flatnonzero(~np.isnan(noise))
    if not len(known):
        return TypicalColumn(EffectiveModels(math.nan, math.nan), math.nan, is_binary)
    k = known[np.argsort(noise[known], kind="stable")[len(known) // 2]]
    # The example in question is one of many: not its own counts, which vary by chance, but those of most.
    usual = [float(np.median(n[known])) for n in (inside, outside)]
    models = EffectiveModels(usual[0], usual[1], float(factor[k]), bool(one_size[known].all()))
    mostly_wrong = is_binary and level[k] < 0.5
    return TypicalColumn(models.swapped() if mostly_wrong else models, float(noise[k]), is_binary)


def detectable(
    outcomes: OutcomesOrRun,
    *,
    protocol: ProtocolName | Literal["own"],
    outcome: OutcomeKind = "correct",
    p_cut: float = 0.0,
    power: float = POWER,
    false_discovery_rate: float = FALSE_DISCOVERY_RATE,
) -> Detectable:
    """Smallest memorization (`own`), or influence in a protocol, that the models at hand find over all examples or pairs.

    Args:
        p_cut: The largest p-value found, where that is known; it counts where it is above that of the first discovery.
    """
    outcomes = as_outcomes(outcomes)
    column = typical_column(outcomes, protocol=protocol, outcome=outcome)
    n, m = outcomes.n_train, outcomes.n_columns - outcomes.n_train
    n_tests = n if protocol == "own" else n * (m if protocol == "held-out" else n - 1)
    cut = max(p_value_cut(max(n_tests, 1), false_discovery_rate=false_discovery_rate), p_cut)
    _check(cut, power)
    typical = worst = math.nan
    if not column.is_binary and not math.isnan(column.wrong):
        per_variance = column.models.factor * (1 / column.models.inside + 1 / column.models.outside)
        largest = 0.25 if outcome == "correct" else math.nan  # of a share
        errors = (math.sqrt(per_variance * variance) for variance in (column.wrong, largest))
        typical, worst = (float(ndtri(power) - ndtri(cut / 2)) * error for error in errors)
    elif not math.isnan(column.wrong):
        typical, worst = (
            detectable_effect(column.models, wrong=wrong, p_cut=cut, power=power) for wrong in (column.wrong, 0.5)
        )
        worst = max(worst, typical)  # that of a median column may be a little skewed
    return Detectable(typical, worst, n_tests, cut, power, false_discovery_rate, outcome)


@dataclass(frozen=True)
class Findings:
    """What a table of scores says beside them.

    Attributes:
        q: Of memorization, over all examples, [n]; empty, with None below, where there is no memorization.
        memorization, influence: The smallest that the models find; influence in the protocol of the pairs.
        pairs_without_error: In no ranking.
    """

    q: Array
    memorization: Detectable | None
    influence: Detectable
    pairs_without_error: int


def findings(
    outcomes: OutcomesOrRun, memorization: Estimate | None, pairs: StrongestInfluences, *, power: float = POWER
) -> Findings:
    """q-values and smallest detectable effects, at the p-values up to which these scores were found.

    Where nothing was found, the cut is that of a first discovery.

    Args:
        memorization, pairs: From the same outcomes; pairs of one protocol, at the false discovery rate that is meant. None
            where outcomes are of held-out examples alone.

    Raises:
        InputError: where the scores have no p-values, the pairs are of several protocols or of columns that the outcomes
            lack, or power is outside (0, 1).

    Examples:
        >>> import numpy as np, infl
        >>> random = np.random.RandomState(0)
        >>> noise = infl.Outcomes(random.rand(200, 20) < 0.5, correct=random.rand(200, 40) < 0.5)
        >>> found = findings(noise, infl.memorization(noise), infl.strongest_influences(noise))
        >>> float(found.q.min()) > 0.05, found.influence.n_tests
        (True, 400)
    """
    if memorization is not None and memorization.p is None:
        raise InputError("memorization: these scores have no p-values; compute them with infl.memorization")
    if len(pairs.protocols) != 1:
        raise InputError(f"pairs: expected those of one protocol, got {', '.join(pairs.protocols)}")
    rate, own, q = pairs.false_discovery_rate, None, np.zeros(0)
    if memorization is not None and memorization.p is not None:
        kind, p_cut = memorization.outcome, PValueCounts.of([memorization.p]).largest_p(rate)
        own = detectable(outcomes, protocol="own", outcome=kind, p_cut=p_cut, power=power, false_discovery_rate=rate)
        q = q_values(memorization.p)
    (protocol,), kind, p_cut = pairs.protocols, pairs.outcome, pairs.largest_p
    others = detectable(outcomes, protocol=protocol, outcome=kind, p_cut=p_cut, power=power, false_discovery_rate=rate)
    return Findings(q, own, others, pairs.n_without_error)

"""Turns a wanted standard error into a number of models: at worst, and from the errors of models that are there.

At worst outcomes are right half of the time; most are not. What errors will be with more models follows from the variance of
each side of a contrast. With X right outcomes of n the error counts p = (X + 1) / (n + 2) (Agresti & Caffo 2000; see
`contrasts`), so that its expected square is

    E[p (1 - p) / (n + 2)] = (n (n - 1) v + n + 1) / (n + 2)^3,  v = P (1 - P) of the true share P,

by E[X] = n P and E[X^2] = n P (1 - P) + (n P)^2. It is linear in v, which X (n - X) / (n (n - 1)) of a pilot estimates without
bias: so does what follows here for the mean square over examples, however few the pilot's models are.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import betaincinv, ndtri

from infl.records import Array, Detectable, Estimate, InputError, OutcomeKind, OutcomeSource, ProtocolName
from infl.scores.contrasts import Side, Sums, columns_of, sum_own, sum_pairs
from infl.scores.evidence import PValueCounts, check_q_over, p_values, q_values
from infl.scores.influence import PairScores

FIRST_LOOK = 64  # models
MAX_GROWTH, MIN_GROWTH = 2.0, 1.1  # from one look to the next
MARGIN = 1.02  # on what a forecast says, so that the look it asks for is mostly the last
LOOKS_AT = 32  # multiples: blocks are then full on most layouts
MAX_MODELS = 1 << 40


def models_for_standard_error(
    standard_error: float, *, fraction: float | tuple[float, float], probability: float = 0.5
) -> int:
    """Models that bring a memorization or influence score to a wanted standard error.

        T = p (1 - p) / (information se^2),  information = r (1 - r), averaged over a range of shares

    from se^2 = p(1-p)/(rT) + p(1-p)/((1-r)T), the variance of a difference of two proportions near p (Feldman & Zhang
    2020, Lemma 2.1 bounds the same quantity with variance 1).

    Args:
        standard_error: Wanted, in (0, 1).
        fraction: Share r of D that each model trains on, in (0, 1), or a range of it.
        probability: P, how often the example is predicted correctly; 0.5 is the worst case.

    Raises:
        InputError: for a value outside its range.

    Example:
        >>> models_for_standard_error(0.05, fraction=0.7)
        477
    """
    check_share("standard_error", standard_error)
    check_share("probability", probability)
    needed = probability * (1 - probability) / (information_per_model(fraction) * standard_error**2)
    return math.ceil(needed - 1e-9)


def information_per_model(fraction: float | tuple[float, float], *, left_out: bool = False) -> float:
    """What one model adds to 1 / (1/n_in + 1/n_out) of a contrast: r (1 - r), averaged over a range of shares.

    Under the overlap weights of `contrasts` with Kish's numbers the reciprocal of that sum is the sum over models of
    r (1 - r), whatever their sizes. left_out: of the protocol that counts a model only where it left the column out too,
    r (1 - r)^2.

    Raises:
        InputError: for a share outside (0, 1).
    """
    shares = shares_of(fraction)
    return float((shares * (1 - shares) ** (2 if left_out else 1)).mean())


def shares_of(fraction: float | tuple[float, float]) -> Array:
    """Shares of D that the models of a design hold, each as likely as the others.

    Raises:
        InputError: for a share outside (0, 1).
    """
    low, high = (fraction, fraction) if isinstance(fraction, (int, float)) else fraction
    check_share("fraction", low)
    check_share("fraction", high)
    return np.array([low]) if low == high else low + (high - low) * (np.arange(1000) + 0.5) / 1000


@dataclass(frozen=True)
class ErrorForecast:
    """Standard errors of memorization that other numbers of models would bring, from the outcomes of some.

    The other fields are [n], NaN where the pilot gives an example no error.

    Attributes:
        n_models: Of the pilot. inside, outside: effective models of each side for every model trained, on average over
            the examples: in a small pilot some are left out more often than others by chance, which many models even
            out.
        variance_inside, variance_outside: P (1 - P) of each side, without bias.
        factor: Of the design, see `spread`.
    """

    n_models: int
    inside: float
    outside: float
    variance_inside: Array
    variance_outside: Array
    factor: Array

    @staticmethod
    def of(outcomes: OutcomeSource) -> ErrorForecast:
        """From 0/1 outcomes.

        Raises:
            InputError: where there are no models, or `correct` was not recorded.

        Example:
            >>> import numpy as np, infl
            >>> random = np.random.RandomState(0)
            >>> pilot = infl.Outcomes(random.rand(100, 50) < 0.7, random.rand(100, 50) < 0.9)
            >>> ErrorForecast.of(pilot).models_for(0.02) < infl.scores.planning.models_for_standard_error(0.02, fraction=0.7)
            True
        """
        return ErrorForecast.of_sums(sum_own(outcomes, outcome="correct"), n_models=outcomes.n_models)

    @staticmethod
    def of_sums(sums: Sums, *, n_models: int) -> ErrorForecast:
        """From what `sum_own` made of the 0/1 outcomes of so many models: memorization is made from the same sums."""
        own = np.nan_to_num(sums.inside.mean() - sums.outside.mean())
        inside, outside = sums.inside, sums.outside
        return ErrorForecast(
            n_models,
            _mean(inside.effective()) / n_models,
            _mean(outside.effective()) / n_models,
            _unbiased_variance(inside),
            _unbiased_variance(outside),
            sums.spread.design_factor(own),
        )

    def standard_errors(self, n_models: int) -> Array:
        """Expected error of each example, [n]."""
        of_inside = _expected_square(n_models * self.inside, self.variance_inside)
        of_outside = _expected_square(n_models * self.outside, self.variance_outside)
        return np.sqrt(self.factor * (of_inside + of_outside))

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
        check_share("standard_error", standard_error)
        high = 1
        if math.isnan(self.root_mean_square(high)):
            return None
        while self.root_mean_square(high) > standard_error and high < MAX_MODELS:
            high *= 2
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.root_mean_square(middle) <= standard_error else (middle, high)
        return high


def root_mean_square(standard_errors: Array) -> float:
    """Over the examples: what a target means. NaN where any example has no error yet, so that no target is met then."""
    return float(np.sqrt(np.mean(np.square(standard_errors))))


def next_look(n_models: int, *, needed: int | None, most: int) -> int:
    """With how many models the errors are looked at next, in training to a target.

    At most twice as many as at the last look, at least a tenth more, and in between what the forecast asks for. All that
    decides where training stops are errors averaged over examples, never a score: an example's own luck moves that mean by
    1/n of itself, so that scores at the end are as good as unbiased (`tests/scores/test_planning.py`). Rules that stop each
    example on its own outcomes are not.

    Args:
        n_models: At the last look, 0 before the first.
        needed: By the forecast of that look.
        most: The limit.

    Example:
        >>> next_look(0, needed=None, most=1000), next_look(256, needed=400, most=1000)
        (64, 416)
    """
    if not n_models:
        return min(FIRST_LOOK, most)
    wanted = MAX_GROWTH * n_models if needed is None else MARGIN * needed
    wanted = min(max(wanted, MIN_GROWTH * n_models), MAX_GROWTH * n_models)
    return min(math.ceil(wanted / LOOKS_AT) * LOOKS_AT, most)


def check_share(name: str, value: float) -> None:
    """Raise `InputError` unless the value lies between 0 and 1."""
    if not 0 < value < 1:
        raise InputError(f"{name}: expected a number above 0 and below 1, got {value}")


def _mean(numbers: Array) -> float:
    known = numbers[~np.isnan(numbers)]
    return float(known.mean()) if len(known) else math.nan


def _unbiased_variance(side: Side) -> Array:
    mean, effective = side.mean(), side.effective()
    return np.clip(mean * (1 - mean), 0, 1) * effective / (effective - 1)


def _expected_square(n: float, variance: Array) -> Array:
    # Fewer than one model is not a number of models; what is asked for then is only that it is too few.
    n = max(n, 1.0)
    return (n * (n - 1) * variance + n + 1) / (n + 2) ** 3


POWER, FALSE_DISCOVERY_RATE = 0.8, 0.05
COLUMNS_AT_ONCE = 1 << 13
MAX_SOURCES = 32  # whose counts stand for those of all
N_QUANTILES = 96


def p_value_cut(
    n_tests: int, *, false_discovery_rate: float = FALSE_DISCOVERY_RATE, expected_share: float = 0.0
) -> float:
    """The p-value up to which scores are found at a false discovery rate.

        a = q max(1 / N, share)

    Args:
        expected_share: Of the N scores that will be found, at least; 0 for the first discovery, the most cautious.

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

    Attributes:
        factor: Of the design, see `spread`.
        one_size: Whether all subsets have one size, so that contrasts lie on a lattice.
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

    their sum is at most 1.

    Args:
        effect: Above 0, how much more often the outcome is wrong without the example.
        wrong: How often it is with the example.
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

    column that is mostly wrong, where an example's presence makes it right, give `models.swapped()`.

    Args:
        models: That count for the column.
        wrong: How often its outcome is wrong without any effect; 0.5 is the worst case. For a

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

    Args:
        one: What a single model counts for, e.g. `Models.of_design(0.7)`.

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
    while chance_found(effect, one.times(high), wrong=wrong, p_cut=p_cut) < power and high < MAX_MODELS:
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

    Args:
        p_cut: The largest p-value found, where that is known; None, or a smaller one, for that of the first discovery.

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
    protocol: ProtocolName = "held-out",
    outcome: OutcomeKind = "correct",
    p_cut: float | None = None,
    power: float = POWER,
    false_discovery_rate: float = FALSE_DISCOVERY_RATE,
) -> Detectable:
    """Smallest influence that the models at hand find, over all pairs of a protocol; see `detectable_memorization`."""
    column = median_column(outcomes, protocol=protocol, outcome=outcome)
    n_train, n_held_out = outcomes.n_train, outcomes.n_columns - outcomes.n_train
    n_pairs = n_train * (n_held_out if protocol == "held-out" else n_train - 1)
    return _detectable(column, n_pairs, outcome, p_cut, power, false_discovery_rate)


def median_column(outcomes: OutcomeSource, *, protocol: ProtocolName, outcome: OutcomeKind = "correct") -> Column:
    """The column of median noise of a protocol, from one pass over the outcomes.

    Raises:
        InputError: where there are no models or no such columns, or the outcome was not recorded.
    """
    whole = columns_of(outcomes, protocol)
    if whole.start >= whole.stop:
        raise InputError(f"protocol {protocol}: these outcomes have no such columns")
    noises = []
    sources = np.unique(np.linspace(0, outcomes.n_train - 1, MAX_SOURCES).astype(int))
    for first in range(whole.start, whole.stop, COLUMNS_AT_ONCE):
        columns = slice(first, min(first + COLUMNS_AT_ONCE, whole.stop))
        noises.append(
            _noise(
                sum_pairs(outcomes, sources=sources, columns=columns, protocol=protocol, outcome=outcome), 0.0, outcome
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
    shape = level.shape  # counts of a protocol that takes all models for every column have one column
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


@dataclass(frozen=True)
class Findings:
    """What a table of scores says beside them.

    Attributes:
        q: Of memorization, over all examples, [n].
        memorization, influence: The smallest that the models find; influence in the reading of the pairs.
    """

    q: Array
    memorization: Detectable
    influence: Detectable


def findings(
    outcomes: OutcomeSource,
    memorization: Estimate,
    pairs: PairScores,
    *,
    power: float = POWER,
    false_discovery_rate: float = FALSE_DISCOVERY_RATE,
) -> Findings:
    """q-values and smallest detectable effects, at the p-values up to which these scores were found.

    Where nothing was found, the cut is that of a first discovery.

    Args:
        memorization, pairs: From the same outcomes, pairs in any protocol.

    Raises:
        InputError: where the scores have no p-values or the outcomes no columns of the pairs' protocol, or power or rate is
            outside (0, 1).

    Example:
        >>> import numpy as np, infl
        >>> random = np.random.RandomState(0)
        >>> noise = infl.Outcomes(random.rand(200, 20) < 0.5, correct=random.rand(200, 40) < 0.5)
        >>> from infl.scores.influence import score_pairs
        >>> found = findings(noise, infl.memorization(noise), score_pairs(noise, n_pairs=3))
        >>> float(found.q.min()) > 0.05, found.influence.n_tests
        (True, 400)
    """
    if memorization.p is None:
        raise InputError("memorization: these scores have no p-values; compute them with infl.memorization")
    cuts = [counts.largest_p(false_discovery_rate) for counts in (PValueCounts.of([memorization.p]), pairs.p_values)]
    asked = {"power": power, "false_discovery_rate": false_discovery_rate}
    return Findings(
        q_values(memorization.p),
        detectable_memorization(outcomes, outcome=memorization.outcome, p_cut=cuts[0], **asked),
        detectable_influence(outcomes, protocol=pairs.protocol, outcome=pairs.outcome, p_cut=cuts[1], **asked),
    )


def q_of_pairs(*estimates: Estimate, q_over: Literal["matrix", "column"] = "matrix") -> Array:
    """q-values over all pairs of some estimates together, or over those of each column, their columns side by side.

    Raises:
        InputError: where one has no p-values, or q_over is neither.
    """
    check_q_over(q_over)
    if any(estimate.p is None for estimate in estimates):
        raise InputError("influence: these scores have no p-values; compute them with infl.influence")
    p = np.concatenate([np.asarray(estimate.p) for estimate in estimates], axis=1)
    return q_values(p, axis=0 if q_over == "column" else None)

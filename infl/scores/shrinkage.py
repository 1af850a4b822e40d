"""Turns noisy scores into posteriors: what a score is, given its estimate and how scores of its kind are spread.

Most pairs of examples do not influence each other, so most of a large matrix of estimates is noise, and the largest
estimates are largely the luckiest. Empirical Bayes learns from the matrix itself how much of it is (adaptive shrinkage,
"ash": Stephens 2017, eq. 1-5). With value b and standard error s of a pair in stratum g with covariate x,

    b | theta ~ Normal(theta, s^2),        theta ~ w_g0 [0] + sum_k w_gk Normal(slope x, scale_k^2)

on a fixed grid of scales, dense enough for any unimodal spread. Given the slope the weights are a convex problem, solved by
EM: first those of all pairs, then those of each stratum with the former as pseudo-counts (the mode under a Dirichlet), so
that a stratum of few pairs falls back on all. The slope is that of the pairs that are not zero, in turns with the weights.
Strata are bins of the covariate, finest at its ends, where the effects are.

Pairs are taken one by one. Estimates in one column share models, which leaves means and rates over many pairs right,
and says nothing of sums over a column: add up estimates, not these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from tempfile import TemporaryFile

import numpy as np
from scipy.special import logsumexp, ndtr

from infl.records import Array, Columns, Estimate, InputError, OutcomeKind, OutcomeSource, ProtocolName
from infl.scores.adjustment import N_FOLDS, adjusted_influence
from infl.scores.contrasts import columns_of, no_models, sum_pairs
from infl.scores.influence import influence_blocks, join_columns
from infl.scores.surrogate import Surrogate, leave_one_out_influence

TAILS = (0.0002, 0.0006, 0.002, 0.006, 0.02, 0.06, 0.2)  # shares of pairs beyond the edges of the strata, at both ends
MIN_IN_STRATUM = 100
MAX_FROM_STRATUM = 20_000
NULL_COUNT = 10.0  # pseudo-pairs at zero, as Stephens 2017: a scale too small to tell from zero counts as zero
STRATUM_COUNT = 50.0
N_STEPS = 200
N_ROUNDS = 8
MIN_WEIGHT = 1e-4  # a component lighter than that in every stratum is dropped
PAIRS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class Prior:
    """How scores of one kind are spread before any is looked at: a normal mixture per stratum. Make one with `fit_prior`.

    Attributes:
        scales: [k] standard deviations of the components, in the unit of the scores; the first is 0, the point at zero.
        weights: [strata, k], each row sums to one.
        slope: What a unit of the covariate moves the centre of all components but the point; 0 where they are centred
            at zero.
        edges: [strata - 1] of the covariate; stratum g holds edges[g-1] < x <= edges[g].
    """

    scales: Array
    weights: Array
    slope: float
    edges: Array

    @property
    def null_weights(self) -> Array:
        """Share of the pairs of each stratum that are zero, [strata]."""
        return self.weights[:, 0]


@dataclass(frozen=True)
class Shrunk:
    """Posterior of scores, all of one shape; NaN where there was no estimate.

    Attributes:
        value, se: Posterior mean and standard deviation.
        low, high: equal-tailed interval of the posterior, of the level asked for.
        sign_rate: Local false sign rate, min(P[theta <= 0], P[theta >= 0]), in [0, 1]: how likely the sign of `value`
            is wrong or there is none (Stephens 2017, eq. 11). Its mean over the pairs one calls is the share called
            with a wrong sign.
    """

    value: Array
    se: Array
    low: Array
    high: Array
    sign_rate: Array


def fit_prior(
    value: Array, se: Array, covariate: Array | None = None, *, centred: bool = False, seed: int = 0
) -> Prior:
    """Learn from estimates how the true scores are spread, by maximum likelihood (module text for the model).

    Args:
        value, se: Estimates and standard errors, of one shape; pairs without either, or with an error of 0, are passed
            over.
        covariate: Of the same shape, any unit, known before the estimates; None for one stratum.
        centred: Let the components sit at slope x covariate, instead of zero.
        seed: Of the pairs drawn where a stratum has more than 20,000.

    Raises:
        InputError: where shapes differ or no pair has an estimate with an error.

    Example:
        >>> import numpy as np
        >>> rng = np.random.RandomState(0)
        >>> truth = np.where(rng.rand(20_000) < 0.9, 0, 0.1 * rng.randn(20_000))
        >>> prior = fit_prior(truth + 0.02 * rng.randn(20_000), np.full(20_000, 0.02))
        >>> bool(0.87 < prior.null_weights[0] < 0.92)
        True
    """
    x = np.zeros_like(value) if covariate is None else np.broadcast_to(covariate, value.shape)
    if value.shape != se.shape:
        raise InputError(f"prior: expected a standard error for each value, got {value.shape} and {se.shape}")
    usable = np.logical_and.reduce([np.isfinite(value), np.isfinite(x), se > 0])
    if not usable.any():
        raise InputError("prior: no pair has an estimate with an error above 0; train more models")
    value, se, x = (a[usable].astype(np.float64) for a in (value, se, x))
    edges = _edges(x)
    stratum = np.searchsorted(edges, x)
    random = np.random.RandomState(seed)
    drawn, weight = [], []
    for g in range(len(edges) + 1):
        members = np.flatnonzero(stratum == g)
        chosen = random.permutation(members)[:MAX_FROM_STRATUM]
        drawn.append(chosen)
        weight.append(np.full(len(chosen), len(members) / max(len(chosen), 1)))
    every, counts = np.concatenate(drawn), np.concatenate(weight)
    value, se, x, stratum = value[every], se[every], x[every], stratum[every]
    scales = _grid(value, se)
    slope = _slope(value, x, counts / (se**2 + np.median(se) ** 2)) if centred else 0.0
    weights = np.where(scales > 0, 0.1 / (len(scales) - 1), 0.9)
    by_stratum = np.tile(weights, (len(edges) + 1, 1))
    for _ in range(N_ROUNDS if centred else 1):
        likelihood = _likelihood(value, se, slope * x, scales)
        weights = _em(likelihood, counts, weights, np.where(scales > 0, 0.0, NULL_COUNT))
        for g in range(len(by_stratum)):
            here = stratum == g
            by_stratum[g] = _em(likelihood[here], counts[here], by_stratum[g], STRATUM_COUNT * weights)
        if centred:  # by those pairs that are not zero, as far as that is known
            share = likelihood * by_stratum[stratum]
            precision = (share / share.sum(axis=1, keepdims=True) / (se[:, None] ** 2 + scales**2))[:, 1:].sum(axis=1)
            slope = _slope(value, x, counts * precision)
    used = (by_stratum > MIN_WEIGHT).any(axis=0) | (scales == 0)
    by_stratum = by_stratum[:, used]
    return Prior(scales[used], by_stratum / by_stratum.sum(axis=1, keepdims=True), slope, edges)


def shrink(estimate: Estimate, prior: Prior, covariate: Array | None = None, *, level: float = 0.95) -> Shrunk:
    """Posterior of every score given its estimate. Pure, pair by pair: any blocks of a matrix give the same as the whole.

        P[theta | b] = sum_k r_k Normal(c_k + (b - c_k) t_k, s^2 t_k),    t_k = scale_k^2 / (scale_k^2 + s^2)
        r_k proportional to w_gk Normal(b | c_k, s^2 + scale_k^2),        c_0 = 0, c_k = slope x

    Returns a Shrunk in the unit of the estimate: NaN where value, error or covariate is. An error of 0 is taken at its word.

    Args:
        covariate: Broadcastable to the scores, as the prior was fitted with; None where it was fitted without.
        level: Of the interval, in (0, 1).

    Raises:
        InputError: for a level outside (0, 1), or where the prior has strata and no covariate is given.

    Example:
        >>> import numpy as np
        >>> from infl.records import Estimate
        >>> prior = Prior(np.array([0.0, 0.1]), np.array([[0.9, 0.1]]), 0.0, np.array([]))
        >>> estimate = Estimate(np.array([0.02, 0.3]), np.array([0.05, 0.05]), np.ones(2), np.ones(2), "own", "correct")
        >>> shrunk = shrink(estimate, prior)
        >>> shrunk.value.round(3), shrunk.sign_rate.round(3)
        (array([0.001, 0.24 ]), array([0.968, 0.   ]))
    """
    if not 0 < level < 1:
        raise InputError(f"level: expected a share above 0 and below 1, got {level}")
    if covariate is None and (len(prior.edges) or prior.slope):
        raise InputError("shrink: this prior was fitted with a covariate; give that of these pairs")
    shape = estimate.value.shape
    value, se, x = (
        np.broadcast_to(a, shape).ravel().astype(np.float64)
        for a in (estimate.value, estimate.se, 0.0 if covariate is None else covariate)
    )
    out = np.full((5, value.size), np.nan)
    usable = np.flatnonzero(np.isfinite(value) & np.isfinite(se) & np.isfinite(x))
    for start in range(0, len(usable), PAIRS_AT_ONCE):
        pairs = usable[start : start + PAIRS_AT_ONCE]
        out[:, pairs] = _posterior(value[pairs], se[pairs], x[pairs], prior, level)
    return Shrunk(*(a.reshape(shape) for a in out))


def _posterior(value: Array, se: Array, x: Array, prior: Prior, level: float) -> tuple[Array, ...]:
    certain = se == 0
    se = np.where(certain, 1.0, se)
    scales = prior.scales[:, None]  # [k, 1]; pairs run along the last axis
    centre = np.where(scales > 0, prior.slope * x, 0.0)
    variance = scales**2 + se**2
    with np.errstate(divide="ignore"):
        log = np.log(prior.weights[np.searchsorted(prior.edges, x)]).T
    log = log - (value - centre) ** 2 / (2 * variance) - np.log(variance) / 2
    share = np.exp(log - logsumexp(log, axis=0))
    kept = scales**2 / variance
    mean, sd = centre + (value - centre) * kept, se * np.sqrt(kept)
    posterior_mean = (share * mean).sum(axis=0)
    posterior_sd = np.sqrt((share * (sd**2 + (mean - posterior_mean) ** 2)).sum(axis=0))
    null, (share, mean, sd) = share[0], (a[1:] for a in (share, mean, sd))
    below_zero = (share * ndtr(-mean / sd)).sum(axis=0)
    above_zero = (share * ndtr(mean / sd)).sum(axis=0)
    ends = []
    for tail in ((1 - level) / 2, (1 + level) / 2):
        # A quantile is within sd sqrt((1 - tail) / tail) of the mean (Cantelli).
        low = posterior_mean - posterior_sd * np.sqrt((1 - tail) / tail)
        high = posterior_mean + posterior_sd * np.sqrt(tail / (1 - tail))
        for _ in range(20):
            middle = (low + high) / 2
            beyond = (share * ndtr((middle - mean) / sd)).sum(axis=0) + null * (middle >= 0) >= tail
            low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
        at_zero = (below_zero < tail) & (tail <= below_zero + null)
        ends.append(np.where(at_zero, 0.0, (low + high) / 2))
    sign_rate = np.minimum(np.minimum(below_zero, above_zero) + null, 1.0)
    results = (posterior_mean, posterior_sd, *ends, sign_rate)
    at_word = (value, 0.0, value, value, (value == 0) * 1.0)
    return tuple(np.where(certain, known, got) for known, got in zip(at_word, results, strict=True))


def _edges(x: Array) -> Array:
    """Borders of the strata: quantiles of the covariate, as far out as a stratum still holds a hundred pairs."""
    tails = [tail for tail in TAILS if tail * len(x) >= MIN_IN_STRATUM]
    if not tails or np.ptp(x) == 0:
        return np.array([])
    edges = np.unique(np.quantile(x, [*tails, *(1 - tail for tail in tails)]))
    return edges[edges < x.max()]


def _grid(value: Array, se: Array) -> Array:
    """Zero, and scales from half of the typical error to twice the largest signal by factors of sqrt 2 (Stephens 2017)."""
    least = np.median(se) / 2
    most = max(2 * np.sqrt(np.max(value**2 - se**2, initial=0)), 8 * least)
    return np.concatenate([[0.0], least * np.sqrt(2) ** np.arange(np.ceil(2 * np.log2(most / least)) + 1)])


def _slope(value: Array, x: Array, weight: Array) -> float:
    norm = float(np.sum(weight * x * x))
    return float(np.sum(weight * x * value)) / norm if norm else 0.0


def _likelihood(value: Array, se: Array, centre: Array, scales: Array) -> Array:
    """Of each pair under each component, up to a factor per pair, [pairs, k]."""
    sd = np.hypot(se[:, None], scales)
    log = -(((value[:, None] - np.where(scales > 0, centre[:, None], 0)) / sd) ** 2) / 2 - np.log(sd)
    return np.exp(log - log.max(axis=1, keepdims=True))


def _em(likelihood: Array, counts: Array, start: Array, pseudo_counts: Array) -> Array:
    """Mixture weights of greatest posterior under a Dirichlet, which adds `pseudo_counts` to the components."""
    weights = start
    for _ in range(N_STEPS):
        share = counts / (likelihood @ weights)
        weights = weights * (likelihood.T @ share) + pseudo_counts
        weights = weights / weights.sum()
    return weights


N_PAIRS = 1 << 20  # that a prior is fitted to


def shrunk_influence(
    outcomes: OutcomeSource,
    *,
    protocol: ProtocolName = "held-out",
    outcome: OutcomeKind = "correct",
    surrogate: Surrogate | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Estimate, Shrunk]:
    """Cross-influence of every source on every column, as estimated and shrunk, both [n, m] or [n, n]; see `influence`.

    For a matrix larger than memory use `shrunk_influence_blocks` with `fit_influence_prior`.

    Args:
        surrogate: Of the same data (`fit_surrogate`); without it the prior knows of a pair only how much the models
            disagree on its column. Where margins were recorded it is refitted to the subset of every model.

    Raises:
        InputError: where there are no models, none estimates an error, or the outcome was not recorded.

    Example:
        >>> import numpy as np, infl
        >>> rng = np.random.RandomState(0)
        >>> masks = rng.rand(400, 30) < 0.7
        >>> correct = rng.rand(400, 60) < 0.8
        >>> correct[:, 59] = masks[:, 3]  # example 3 teaches the last column, all else is noise
        >>> estimate, shrunk = shrunk_influence(infl.Outcomes(masks, correct))
        >>> bool(np.abs(estimate.value[:, :-1]).mean() > 0.03), bool(np.abs(shrunk.value[:, :-1]).mean() < 0.01)
        (True, True)
        >>> bool(shrunk.value[3, -1] > 0.9)
        True
    """
    worth = None if surrogate is None else _Worth(outcomes, surrogate, seed, known=columns_of(outcomes, protocol))
    prior = _fit(outcomes, protocol=protocol, outcome=outcome, worth=worth, n_pairs=N_PAIRS, seed=seed)
    blocks = list(
        _blocks(outcomes, prior, protocol=protocol, outcome=outcome, worth=worth, n_columns=None, level=level)
    )
    whole = [np.concatenate([getattr(b, name) for *_, b in blocks], axis=1) for name in Shrunk.__dataclass_fields__]
    return join_columns([estimate for _, estimate, _ in blocks]), Shrunk(*whole)


def fit_influence_prior(
    outcomes: OutcomeSource,
    *,
    protocol: ProtocolName = "held-out",
    outcome: OutcomeKind = "correct",
    surrogate: Surrogate | None = None,
    n_pairs: int = N_PAIRS,
    seed: int = 0,
) -> Prior:
    """The prior of cross-influence, from all sources and as many random columns as make `n_pairs`; see `shrunk_influence`.

    Raises:
        InputError: where there are no models, none estimates an error, or the outcome was not recorded.
    """
    worth = None if surrogate is None else _Worth(outcomes, surrogate, seed)
    return _fit(outcomes, protocol=protocol, outcome=outcome, worth=worth, n_pairs=n_pairs, seed=seed)


def shrunk_influence_blocks(
    outcomes: OutcomeSource,
    prior: Prior,
    *,
    protocol: ProtocolName = "held-out",
    outcome: OutcomeKind = "correct",
    surrogate: Surrogate | None = None,
    n_columns: int | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Iterator[tuple[slice, Estimate, Shrunk]]:
    """Yield (columns, estimate, shrunk) from the first column to the last, as `influence_blocks`; see `shrunk_influence`.

    Args:
        prior: From `fit_influence_prior` with the same protocol, outcome, surrogate and seed.
        n_columns: Bounds the memory, to some two dozen float64 arrays of [n, n_columns]. Does not affect results beyond
            rounding.
    """
    worth = None if surrogate is None else _Worth(outcomes, surrogate, seed)
    return _blocks(outcomes, prior, protocol=protocol, outcome=outcome, worth=worth, n_columns=n_columns, level=level)


class _Worth:
    """What the surrogate says: of each example to a column, worked out when asked for, and of the subset of every model."""

    def __init__(self, outcomes: OutcomeSource, surrogate: Surrogate, seed: int, *, known: slice = slice(0, 0)) -> None:
        block = next(iter(outcomes.blocks(slice(0, 1))), None)
        if block is None or not outcomes.n_models:
            raise no_models()
        self.outcomes, self.surrogate, self.seed = outcomes, surrogate, seed
        self.fraction = float(block.masks.mean())
        self.first, self.values = known.start, np.zeros((0, 0))
        if known != slice(0, 0):
            self.values = self.of(known)

    def of(self, columns: Columns) -> Array:
        """Influence on the surrogate's margin, [n, columns]."""
        if self.values.size:
            numbers = np.arange(self.first + self.values.shape[1])[columns]
            return self.values[:, numbers - self.first]
        worth = leave_one_out_influence(self.surrogate, fraction=self.fraction, columns=columns, seed=self.seed)
        return np.nan_to_num(worth)

    def of_models(self, columns: Columns) -> Array:
        """Margins that the surrogate gives after each model's subset, [T, columns]."""
        return np.asarray(self._margins[:, columns], np.float64)

    @cached_property
    def _margins(self) -> Array:
        """[T, n+m] in a file, as the margins of the models are: a refit gives those of all columns at once."""
        shape = self.outcomes.n_models, self.outcomes.n_columns
        with TemporaryFile() as file:
            margins = np.memmap(file, np.float32, "w+", shape=shape)
        t = 0
        for block in self.outcomes.blocks(slice(0, 1)):
            for mask in block.masks:
                margins[t] = self.surrogate.margins(np.flatnonzero(~mask))
                t += 1
        return margins[:t]


def _fit(
    outcomes: OutcomeSource,
    *,
    protocol: ProtocolName,
    outcome: OutcomeKind,
    worth: _Worth | None,
    n_pairs: int,
    seed: int,
) -> Prior:
    n = outcomes.n_train
    whole = columns_of(outcomes, protocol)
    candidates = np.arange(whole.start, whole.stop)
    columns = np.sort(np.random.RandomState(seed).permutation(candidates)[: max(1, n_pairs // max(n, 1))])
    sums = sum_pairs(outcomes, sources=np.arange(n), columns=columns, protocol=protocol, outcome=outcome)
    estimate = sums.estimate(protocol=protocol, outcome=outcome)
    told = _told_by_margins(outcomes, estimate, columns, worth)
    covariate = _covariate(estimate, columns, worth)
    return fit_prior(told.value, told.se, covariate, centred=worth is not None, seed=seed)


def _blocks(
    outcomes: OutcomeSource,
    prior: Prior,
    *,
    protocol: ProtocolName,
    outcome: OutcomeKind,
    worth: _Worth | None,
    n_columns: int | None,
    level: float,
) -> Iterator[tuple[slice, Estimate, Shrunk]]:
    for columns, estimate in influence_blocks(outcomes, protocol=protocol, outcome=outcome, n_columns=n_columns):
        told = _told_by_margins(outcomes, estimate, columns, worth)
        yield columns, estimate, shrink(told, prior, _covariate(estimate, columns, worth), level=level)


def _told_by_margins(outcomes: OutcomeSource, estimate: Estimate, columns: Columns, worth: _Worth | None) -> Estimate:
    """The estimate from softened margins in place of that from 0/1 outcomes, where there are margins.

    With a surrogate as their control variate, where there are models to fit slopes to.
    """
    first = next(iter(outcomes.blocks(slice(0, 1), n_rows=1)))
    if estimate.outcome == "margin" or first.margin is None or estimate.protocol == "own":
        return estimate
    of_models = None if worth is None else worth.of_models(columns)
    if worth is None or of_models is None or len(of_models) < N_FOLDS:
        return adjusted_influence(outcomes, columns=columns, protocol=estimate.protocol)
    return adjusted_influence(
        outcomes,
        columns=columns,
        covariate=of_models,
        covariate_influence=worth.of(columns),
        protocol=estimate.protocol,
    )


def _covariate(estimate: Estimate, columns: Columns, worth: _Worth | None) -> Array:
    """[n, columns]: surrogate influence times the spread p (1 - p) of the column's outcomes; the spread where there is none.

    A change of margin moves a probability as far as the models disagree; a margin it moves by itself.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = estimate.se**2 / (1 / estimate.n_in + 1 / estimate.n_out)
    known = np.isfinite(spread)
    spread = np.where(known, spread, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    if worth is None:
        return np.broadcast_to(spread, estimate.value.shape)
    return worth.of(columns) * (spread if estimate.outcome == "correct" else 1.0)

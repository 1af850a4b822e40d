"""Turns noisy scores into posteriors: what a score is, given its estimate and how scores of its kind are spread.

Most pairs of examples do not influence each other, so most of a large matrix of estimates is noise, and the largest
estimates are largely the luckiest. Empirical Bayes learns from the matrix itself how much of it is (adaptive shrinkage,
"ash": Stephens 2017, eq. 1-5). With value b and standard error s of a pair in stratum g with covariate x,

    b | theta ~ Normal(theta, s^2),        theta ~ w_g0 [0] + sum_k w_gk Normal(slope x, scale_k^2)

on a fixed grid of scales, dense enough for any unimodal spread. Given the slope the weights are a convex problem, solved by
EM: first those of all pairs, then those of each stratum with the former as pseudo-counts (the mode under a Dirichlet), so
that a stratum of few pairs falls back on all. The slope is that of the pairs that are not zero, in turns with the weights.
Strata are bins of the covariate, finest at its ends, where the effects are.

Pairs are taken one by one. Estimates in one column share models, which leaves means and fractions over many pairs right,
and says nothing of sums over a column: add up estimates, not these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, ndtr

from infl.records import Array, Estimate, InputError, check_fraction

# Fractions of pairs beyond the edges of the strata, at both ends.
TAILS = (0.0002, 0.0006, 0.002, 0.006, 0.02, 0.06, 0.2)
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
        """Fraction of the pairs of each stratum that are zero, [strata]."""
        return self.weights[:, 0]


@dataclass(frozen=True)
class Shrunk:
    """Posterior of scores, all of one shape; NaN where there was no estimate.

    Attributes:
        value: Posterior mean.
        se: Posterior standard deviation.
        low: Lower end of the equal-tailed interval of the posterior, of the level asked for.
        high: Its upper end.
        sign_rate: Local false sign rate, min(P[theta <= 0], P[theta >= 0]), in [0, 1]: how likely the sign of `value`
            is wrong or there is none (Stephens 2017, eq. 11). Its mean over the pairs one calls is the fraction called
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
        value, se: Estimates and standard errors, of one shape; pairs without either, or with an error of 0, are
            skipped.
        covariate: Of the same shape, any unit, known before the estimates; None for one stratum.
        centred: Let the components sit at slope x covariate, instead of zero.
        seed: Of the pairs selected where a stratum has more than 20,000.
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
    selected, weight = [], []
    for g in range(len(edges) + 1):
        members = np.flatnonzero(stratum == g)
        some = random.permutation(members)[:MAX_FROM_STRATUM]
        selected.append(some)
        weight.append(np.full(len(some), len(members) / max(len(some), 1)))
    pairs, counts = np.concatenate(selected), np.concatenate(weight)
    value, se, x, stratum = value[pairs], se[pairs], x[pairs], stratum[pairs]
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
    """
    check_fraction("level", level)
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
    believed = scales**2 / variance
    mean, sd = centre + (value - centre) * believed, se * np.sqrt(believed)
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
    smallest = np.median(se) / 2
    largest = max(2 * np.sqrt(np.max(value**2 - se**2, initial=0)), 8 * smallest)
    return np.concatenate([[0.0], smallest * np.sqrt(2) ** np.arange(np.ceil(2 * np.log2(largest / smallest)) + 1)])


def _slope(value: Array, x: Array, weight: Array) -> float:
    norm = float(np.sum(weight * x * x))
    return float(np.sum(weight * x * value)) / norm if norm else 0.0


def _likelihood(value: Array, se: Array, centre: Array, scales: Array) -> Array:
    """Of each pair under each component, up to a factor per pair, [pairs, k]."""
    sd = np.hypot(se[:, None], scales)
    log = -(((value[:, None] - np.where(scales > 0, centre[:, None], 0)) / sd) ** 2) / 2 - np.log(sd)
    return np.exp(log - log.max(axis=1, keepdims=True))


def _em(likelihood: Array, counts: Array, weights: Array, pseudo_counts: Array) -> Array:
    """Mixture weights of greatest posterior under a Dirichlet, which adds `pseudo_counts` to the components."""
    for _ in range(N_STEPS):
        share = counts / (likelihood @ weights)
        weights = weights * (likelihood.T @ share) + pseudo_counts
        weights = weights / weights.sum()
    return weights

"""Turns contrasts into evidence: intervals, p-values, and q-values over matrices that are never held.

A p-value is the chance of a contrast at least as large, were the masks shuffled against the outcomes. For 0/1 outcomes near 0
or 1 that distribution is skewed, and a million pairs reach far into its tail, where a normal one is wrong by orders of
magnitude. So the tail is that of the sum of inclusions over the models' outcomes,

    U = sum_t (M_t - p_t) (y_t - mean),  M_t ~ Bernoulli(p_t),  p_t = k_t/n,

by saddlepoint (Lugannani & Rice 1980 in the form r* of Barndorff-Nielsen 1986; for subsets of one size, where contrasts lie on
a lattice, with the continuity correction of Daniels 1987, section 6). It depends on a column's counts alone, so one curve
per column serves all sources.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import ndtr, ndtri

from infl.records import Array, Estimate, InputError
from infl.scores.spread import Spread

_STEPS = np.geomspace(0.25, 80.0, 28)  # of the saddlepoint, in standard deviations
_BINS_PER_DECADE = 2000
_DECADES = 310


def interval(estimate: Estimate, *, level: float = 0.95) -> tuple[Array, Array]:
    """Interval of every score at a confidence level: (low, high), each of the estimate's shape.

        center -+ z se

    For 0/1 outcomes center and se are those after one success and one failure were added to either side (Agresti & Caffo
    2000), so that they hold for proportions near 0 and 1 and an error is never 0; clipped to [-1, 1]. NaN where there
    is no estimate.

    Raises:
        InputError: for a level outside (0, 1).

    Example:
        >>> import numpy as np, infl
        >>> masks = np.arange(40)[:, None] % 2 == np.arange(2)
        >>> low, high = infl.interval(infl.memorization(infl.Outcomes(masks, correct=masks)))
        >>> low.round(2), high.round(2)
        (array([0.78, 0.78]), array([1., 1.]))
    """
    if not 0 < level < 1:
        raise InputError(f"level: expected a number above 0 and below 1, got {level}")
    center = estimate.value if estimate.center is None else estimate.center
    reach = ndtri(0.5 + level / 2) * estimate.se
    low, high = center - reach, center + reach
    if estimate.outcome == "correct":
        return np.clip(low, -1, 1), np.clip(high, -1, 1)
    return low, high


def q_values(p: Array) -> Array:
    """Smallest false discovery rate at which each score is found, over all scores that have a p-value.

        q_i = min over p_k >= p_i of N p_k / rank(p_k)

    (Benjamini & Hochberg 1995.) p: of any shape; NaN stays NaN and does not count. For a matrix larger than memory
    see `PValueCounts`.
    """
    q = np.full(np.shape(p), np.nan)
    known = np.isfinite(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return q


@dataclass(frozen=True)
class PValueCounts:
    """How many p-values fell where, on a scale of 2,000 bins a decade: q-values of a matrix that passes by in blocks.

    Counts of two parts of a matrix add up. q-values from them are never below those of `q_values` over all, and at most 0.12%
    above, down to p-values of 1e-310.
    """

    counts: Array

    @staticmethod
    def of(blocks: Iterable[Array]) -> PValueCounts:
        """Count p-values, block by block; NaN does not count."""
        counts = np.zeros(_BINS_PER_DECADE * _DECADES + 1, np.int64)
        for p in blocks:
            counts += np.bincount(_bins(p[np.isfinite(p)]), minlength=len(counts))
        return PValueCounts(counts)

    def __add__(self, other: PValueCounts) -> PValueCounts:
        return PValueCounts(self.counts + other.counts)

    @property
    def total(self) -> int:
        """p-values counted."""
        return int(self.counts.sum())

    def q_values(self, p: Array) -> Array:
        """q-values of some of the p-values that were counted; NaN stays NaN."""
        q = np.full(np.shape(p), np.nan)
        known = np.isfinite(p)
        q[known] = self._q_of_bins()[_bins(p[known])]
        return q

    def largest_p(self, q: float) -> float:
        """The p-value up to which scores are found at a false discovery rate; 0 where none is."""
        found = np.flatnonzero((self._q_of_bins() <= q) & (self.counts > 0))
        return float(_upper_edge(found[0])) if len(found) else 0.0

    def _q_of_bins(self) -> Array:
        # Bins run from p = 1 down; ranks count from the smallest p up.
        ranks = self.counts[::-1].cumsum()[::-1]
        q = np.where(self.counts > 0, self.total * _upper_edge(np.arange(len(ranks))) / np.maximum(ranks, 1), np.inf)
        return np.minimum(np.minimum.accumulate(q), 1.0)


def p_values(z: Array, spread: Spread) -> Array:
    """Two-sided p-values of standardized contrasts of 0/1 outcomes, [sources, columns] like z.

    z: contrast over the standard deviation that it had were the masks shuffled.
    1 for columns whose outcomes are all equal, NaN where z is.
    """
    curve_z, curve_r = _null_curves(spread)
    p = np.full(z.shape, np.nan)
    for column in range(z.shape[1]):
        known = np.isfinite(z[:, column])
        r = np.interp(z[known, column], curve_z[:, column], curve_r[:, column])
        p[known, column] = np.minimum(2 * ndtr(-np.abs(r)), 1.0)
    return p


def _null_curves(spread: Spread) -> tuple[Array, Array]:
    """Curves z -> r*, the standard normal deviate of the same tail, as points [2 steps + 1, columns], ascending."""
    used = spread.n.any(axis=1)
    lattice = np.count_nonzero(spread.n, axis=0) == 1
    n, right = spread.n[used], spread.y[used]
    p = np.divide(spread.share[used], n, out=np.full(n.shape, 0.5), where=n > 0)
    p = np.clip(p, 1e-9, 1 - 1e-9)  # a source that is always in, or always out, moves nothing
    weights = p * (1 - p)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (weights * right).sum(axis=0) / (weights * n).sum(axis=0)
        # Right and wrong outcomes of each size: how many, how far from the mean, how likely to be with the source.
        n, p = np.concatenate([right, n - right]), np.concatenate([p, p])
        x = np.concatenate([np.broadcast_to(1 - mean, right.shape), np.broadcast_to(-mean, right.shape)])
        deviation = np.sqrt((n * p * (1 - p) * x * x).sum(axis=0))
    flat = ~(deviation > 0)
    x, deviation = np.where(flat, 1.0, x), np.where(flat, 1.0, deviation)
    points_z, points_r = [np.zeros(len(mean))], [np.zeros(len(mean))]
    for sign in (1, -1):
        for step in _STEPS:
            at = sign * step / deviation
            z, r = _saddlepoint(at, n, p, x, lattice)
            points_z.append((z + 0.5 * sign * lattice) / deviation)
            points_r.append(np.where(flat, 0.0, r))
    z, r = np.stack(points_z), np.stack(points_r)
    order = np.argsort(z, axis=0, kind="stable")
    return np.take_along_axis(z, order, axis=0), np.take_along_axis(r, order, axis=0)


def _saddlepoint(s: Array, n: Array, p: Array, x: Array, lattice: Array) -> tuple[Array, Array]:
    """Value of U whose saddlepoint is s, [columns], and r* of its tail."""
    odds = np.exp(np.clip(s * x, -600, 600)) * p
    tilted = odds / (1 - p + odds)
    cumulant = (n * (np.log1p(-p + odds) - s * p * x)).sum(axis=0)
    mean = (n * x * (tilted - p)).sum(axis=0)
    variance = (n * x * x * tilted * (1 - tilted)).sum(axis=0)
    w = np.sqrt(np.maximum(2 * (s * mean - cumulant), 1e-12))
    steps = np.where(lattice, 2 * np.sinh(np.minimum(np.abs(s) / 2, 300)), np.abs(s))
    v = steps * np.sqrt(np.maximum(variance, 1e-300))
    # At the edge of what U can reach its variance vanishes, and with it the correction's meaning.
    r = w + np.maximum(np.log(v / w), -w * w / 2) / w
    return mean, np.sign(s) * r


def _bins(p: Array) -> Array:
    depth = -np.log10(np.maximum(p, 10.0**-_DECADES)) * _BINS_PER_DECADE
    return np.minimum(np.floor(depth + 1e-9).astype(np.int64), _BINS_PER_DECADE * _DECADES)


def _upper_edge(bins: Array) -> Array:
    return 10.0 ** (-bins / _BINS_PER_DECADE)

"""Turns contrasts into evidence: intervals, p-values, and q-values over matrices that are never held.

A p-value is the chance of a contrast at least as large, were the masks shuffled against the outcomes. For 0/1 outcomes near 0
or 1 that distribution is skewed, and a million pairs reach far into its tail, where a normal one is wrong by orders of
magnitude; so p-values come from counts and not from errors. Those of shares and margins are of Welch's t test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betaincinv, ndtr, stdtr, stdtrit

from infl.records import Array, Estimate, InputError, check_fraction

_BINS_PER_DECADE = 2000
_DECADES = 310


def interval(estimate: Estimate, *, level: float = 0.95) -> tuple[Array, Array]:
    """Interval of every score at a confidence level: (low, high), each of the estimate's shape.

    For a difference p1 - p0 of fractions of right models, with intervals (l1, u1) and (l0, u0) of the two fractions,

        low = p1 - p0 - sqrt((p1 - l1)^2 + (u0 - p0)^2),    high = p1 - p0 + sqrt((u1 - p1)^2 + (p0 - l0)^2)

    (Newcombe 1998, method 10, there with other intervals of fractions; Zou & Donner 2008, section 2). For x right of n models
    (l, u) are quantiles of Beta(x + 1/2, n - x + 1/2), widened to hold x/n (Jeffreys; Brown, Cai & DasGupta 2001, section 3),
    x and n divided by the design effect: the variance se^2 over that of n independent models. So an interval has a width
    where all outcomes agree, is lopsided where a fraction is near 0 or 1, and lies within [-1, 1].

    Everything else is value -+ t se, t the quantile of Student's distribution with the estimate's degrees of freedom, and
    of differences of shares the part of that within [-1, 1]. NaN where there is no estimate, or none of its error.

    Raises:
        InputError: for a level outside (0, 1).

    Examples:
        >>> import numpy as np, infl
        >>> masks = np.arange(40)[:, None] % 2 == np.arange(2)
        >>> low, high = infl.interval(infl.memorization(infl.Outcomes(masks, correct=masks)))
        >>> low.round(2), high.round(2)
        (array([0.84, 0.84]), array([1., 1.]))
    """
    check_fraction("level", level)
    value, mean_out = estimate.value, estimate.mean_out
    if mean_out is None or not estimate.is_counted:
        reach = stdtrit(np.inf if estimate.df is None else estimate.df, 0.5 + level / 2) * np.where(
            estimate.se > 0, estimate.se, np.nan
        )
        bound = 1.0 if estimate.outcome in ("correct", "exact") and mean_out is not None else np.inf
        return np.maximum(value - reach, -bound), np.minimum(value + reach, bound)
    sides = (np.clip(value + mean_out, 0, 1), estimate.n_in), (mean_out, estimate.n_out)
    with np.errstate(divide="ignore", invalid="ignore"):
        design_effect = estimate.se**2 / sum(_smoothed_variance(mean, n) for mean, n in sides)
        (down_in, up_in), (down_out, up_out) = (_reach(mean, n / design_effect, level) for mean, n in sides)
    return value - np.hypot(down_in, up_out), value + np.hypot(up_in, down_out)


def _reach(mean: Array, n: Array, level: float) -> tuple[Array, Array]:
    """How far the Jeffreys interval of a fraction of right models reaches below it and above it."""
    a, b = n * mean + 0.5, n * (1 - mean) + 0.5
    low, high = (betaincinv(a, b, tail) for tail in ((1 - level) / 2, (1 + level) / 2))
    return np.maximum(mean - low, 0), np.maximum(high - mean, 0)


def _smoothed_variance(mean: Array, n: Array) -> Array:
    """As the errors of estimates are made."""
    smoothed = (mean * n + 1) / (n + 2)
    return smoothed * (1 - smoothed) / (n + 2)


def q_values(p: Array, *, axis: int | None = None) -> Array:
    """Smallest false discovery rate at which each score is found, over all scores that have a p-value.

        q_i = min over p_k >= p_i of N p_k / rank(p_k)

    (Benjamini & Hochberg 1995.) p: of any shape; NaN stays NaN and does not count. For a matrix larger than memory
    see `PValueCounts`.

    Args:
        axis: None for one family of all scores, which is the answer to "which pairs are there"; 0 for a family of each
            column of a matrix [sources, columns], the answer to a question about that column alone: over many columns
            more than that fraction of all that is found may be false.

    Raises:
        InputError: for an axis that p does not have.

    Examples:
        >>> import numpy as np, infl
        >>> p = np.array([[0.01, 0.04], [0.02, 0.5], [np.nan, 0.9]])
        >>> infl.q_values(p, axis=0)
        array([[0.02, 0.12],
               [0.02, 0.75],
               [ nan, 0.9 ]])
    """
    if axis is None:
        return _q_down(np.reshape(p, (-1, 1))).reshape(np.shape(p))
    if not -np.ndim(p) <= axis < np.ndim(p):
        raise InputError(f"axis: expected one of the {np.ndim(p)} that the p-values have, or None, got {axis}")
    return np.moveaxis(_q_down(np.moveaxis(p, axis, 0)), 0, axis)


def check_q_over(q_over: str) -> None:
    """Raises InputError for anything that q-values of a matrix cannot be over."""
    if q_over not in ("matrix", "column"):
        raise InputError(f"q_over: expected matrix or column, got {q_over!r}")


def joint_q_values(*estimates: Estimate, q_over: Literal["matrix", "column"] = "matrix") -> Array:
    """q-values over all pairs of some estimates together, or over those of each column, their columns side by side.

    Raises:
        InputError: where one has no p-values, or q_over is neither.
    """
    check_q_over(q_over)
    if any(estimate.p is None for estimate in estimates):
        raise InputError("influence: these scores have no p-values; compute them with infl.influence")
    p = np.concatenate([np.asarray(estimate.p) for estimate in estimates], axis=1)
    return q_values(p, axis=0 if q_over == "column" else None)


def _q_down(p: Array) -> Array:
    """q-values along the first axis; NaN, which sorts last, takes no part."""
    order = np.argsort(p, axis=0)
    ranks = np.arange(1, len(p) + 1).reshape(-1, *[1] * (p.ndim - 1))
    scaled = np.take_along_axis(p, order, axis=0) * (np.isfinite(p).sum(axis=0) / ranks)
    smallest = np.fmin.accumulate(scaled[::-1], axis=0)[::-1]
    q = np.empty(p.shape)
    np.put_along_axis(q, order, np.minimum(smallest, 1.0), axis=0)
    return np.where(np.isfinite(p), q, np.nan)


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
        q[known] = self._bin_q_values()[_bins(p[known])]
        return q

    def largest_p(self, q: float) -> float:
        """The p-value up to which scores are found at a false discovery rate; 0 where none is."""
        found = np.flatnonzero((self._bin_q_values() <= q) & (self.counts > 0))
        return float(_upper_edge(found[0])) if len(found) else 0.0

    def _bin_q_values(self) -> Array:
        # Bins run from p = 1 down; ranks count from the smallest p up.
        ranks = self.counts[::-1].cumsum()[::-1]
        q = np.where(self.counts > 0, self.total * _upper_edge(np.arange(len(ranks))) / np.maximum(ranks, 1), np.inf)
        return np.minimum(np.minimum.accumulate(q), 1.0)


def p_values(
    n_in: Array,
    right_in: Array,
    n_out: Array,
    right_out: Array,
    *,
    step: Array | float = 0.5,
    factor: Array | float = 1.0,
) -> Array:
    """Two-sided p-values of 2 x 2 tables of models: with and without the source, right and wrong; of any shape.

    With a, b, c, d the right and wrong models with the source and without it, moved by a step towards what is expected:

        w = sqrt(2 sum O log(O/E)),  theta = log(a d / (b c)),  p = 2 Phi(-(w + log(v/w) / w)),
        v = 2 sinh(theta/2) sqrt(a b/n_in  c d/n_out  N / (K (N - K))),  N models, K of them right

    the double saddlepoint approximation (Skovgaard 1987, section 5) of the hypergeometric tail, which is the permutation
    distribution for subsets of one size: within -13% and +4% of it as far as 1e-200. Over a range of sizes effective
    numbers of models stand for counts, `step` is 0 and theta stands for 2 sinh(theta/2), since contrasts lie on no lattice.

    1 where all outcomes are equal, NaN where a side is empty.

    Args:
        step: Half of the lattice, or 0.
        factor: By which the design multiplies variances.
    """
    n, right = n_in + n_out, right_in + right_out
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = n_in * right / n
        excess = right_in - expected
        moved = np.maximum(np.abs(excess) - step, 0)
        a = expected + np.sign(excess) * moved
        b, c = n_in - a, right - a
        d = n_out - c
        cells = [np.maximum(cell, 1e-9) for cell in (a, b, c, d)]
        a, b, c, d = (np.maximum(cell, 0.1) for cell in cells)  # at the table's edge theta has no bound
        expectations = expected, n_in - expected, right - expected, n_out - right + expected
        deviance = 2 * sum(
            cell * np.log(cell / np.maximum(mean, 1e-9)) for cell, mean in zip(cells, expectations, strict=True)
        )
        w = np.sqrt(np.maximum(deviance, 0))
        theta = np.abs(np.log(a) + np.log(d) - np.log(b) - np.log(c))
        theta = np.where(np.greater(step, 0), 2 * np.sinh(theta / 2), theta)
        v = theta * np.sqrt(a * b / n_in * c * d / n_out * n / (right * (n - right)))
        r = np.where(w > 1e-4, w + np.log(v / w) / w, 0.0)
        flat = (right < 1e-6 * n) | (n - right < 1e-6 * n) | (moved <= 0)
        p = np.where(flat, 1.0, np.minimum(2 * ndtr(-r / np.sqrt(factor)), 1.0))
        return np.where((n_in > 0) & (n_out > 0), p, np.nan)


def welch_p_values(value: Array, se: Array, df: Array | float = np.inf) -> Array:
    """Two-sided p-values of value / se by Student's distribution, by the normal one where `df` is infinite.

    With an error of 0, 1 for a value of 0 and NaN for others: nothing is known.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(se > 0, 2 * stdtr(df, -np.abs(value) / se), np.nan)
        return np.where((value == 0) & (se == 0), 1.0, p)


def _bins(p: Array) -> Array:
    depth = -np.log10(np.maximum(p, 10.0**-_DECADES)) * _BINS_PER_DECADE
    return np.minimum(np.floor(depth + 1e-9).astype(np.int64), _BINS_PER_DECADE * _DECADES)


def _upper_edge(bins: Array) -> Array:
    return 10.0 ** (-bins / _BINS_PER_DECADE)

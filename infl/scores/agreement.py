"""Says how far two sets of scores of the same examples agree: in rank, in value, and beyond what their errors explain."""

from __future__ import annotations

import math

import numpy as np

from infl.records import Agreement, Array, InputError, Quantity, seeded

N_REPLICATES = 100
DIGITS = 6  # scores that are equal to so many decimals are ties: files hold float32


def measure_agreement(
    a: Array, b: Array, a_se: Array, b_se: Array, *, source: Array, target: Array, seed: int = 0
) -> Agreement:
    """Compare two scores of each of k examples, or pairs.

        explained = min(1, sum_k (se_ak^2 + se_bk^2) / sum_k (a_k - b_k)^2)

    1 says that the two differ by no more than their errors, were these independent (as of models trained apart); what lacks
    to 1 is a difference of training, of data or of the estimator. It is over the rows that have both errors.

    Standard errors are of a bootstrap over examples, the models being what they are: examples are drawn with replacement, and
    of pairs first the sources, then the targets, whose variances are added (Cameron, Gelbach & Miller 2011, without the term
    for single pairs, which is taken off there: on the wide side). Ranks are taken anew in each replicate. No error is below
    one over the number of sources, what a single one can make.

    Args:
        a: [k] scores, none of them NaN.
        b: [k] likewise.
        a_se: [k], NaN where unknown.
        b_se: [k] likewise.
        source: [k] ids of the training examples.
        target: [k] of whom they influence; of memorization, the same ids.
        seed: Of the bootstrap.

    Raises:
        InputError: where there are no scores, or the arrays do not fit.

    Examples:
        >>> ids, scores, errors = np.arange(50), np.linspace(0, 1, 50), np.full(50, 0.1)
        >>> found = measure_agreement(scores, scores**3, errors, errors, source=ids, target=ids)
        >>> round(found.spearman.value, 3), round(found.pearson.value, 2)
        (1.0, 0.91)
    """
    arrays = [np.asarray(one, np.float64) for one in (a, b, a_se, b_se)]
    if len({len(one) for one in (*arrays, source, target)}) > 1 or not len(arrays[0]):
        raise InputError(f"agreement: expected two scores of at least one example, got {[len(one) for one in arrays]}")
    codes = [np.unique(np.round(one, DIGITS), return_inverse=True)[1] for one in arrays[:2]]
    found = _statistics(np.ones(len(arrays[0])), arrays, codes)
    axes = [source] if np.array_equal(source, target) else [source, target]
    variance, known = np.zeros(len(found)), ~np.isnan(found)
    for number, axis in enumerate(axes):
        ids, drawn = np.unique(axis, return_inverse=True)[1], seeded(seed + number)
        n = int(ids.max()) + 1
        weights = (drawn.multinomial(n, np.full(n, 1 / n))[ids].astype(np.float64) for _ in range(N_REPLICATES))
        replicates = np.array([_statistics(one, arrays, codes)[known] for one in weights])
        variance[known] += np.nanvar(replicates, axis=0)
    errors = np.where(np.isnan(found), np.nan, np.maximum(np.sqrt(variance), 1 / len(np.unique(source))))
    quantities = (Quantity(float(value), float(se)) for value, se in zip(found, errors, strict=True))
    spearman, pearson, difference, rms, explained = quantities
    scores = (np.asarray(source), np.asarray(target), arrays[0], arrays[1], arrays[2], arrays[3])
    return Agreement(*scores, spearman, pearson, difference, rms, explained)


def _statistics(weights: Array, arrays: list[Array], codes: list[Array]) -> Array:
    """Spearman, Pearson, mean difference, its root mean square, and the part of its square that errors explain."""
    a, b, a_se, b_se = arrays
    weights = weights / weights.sum()
    square, noise = (a - b) ** 2, a_se**2 + b_se**2
    known = np.isfinite(noise)
    brought, there = weights[known] @ noise[known], weights[known] @ square[known]
    explained = math.nan if not brought else min(1.0, brought / there) if there > 0 else 1.0
    spearman = _correlation(_ranks(codes[0], weights), _ranks(codes[1], weights), weights)
    return np.array([spearman, _correlation(a, b, weights), weights @ (a - b), math.sqrt(weights @ square), explained])


def _ranks(codes: Array, weights: Array) -> Array:
    """Middle ranks, as fractions of all, of values numbered in their order."""
    totals = np.bincount(codes, weights)
    return (np.cumsum(totals) - totals / 2)[codes]


def _correlation(x: Array, y: Array, weights: Array) -> float:
    x, y = x - weights @ x, y - weights @ y
    scale = math.sqrt((weights @ x**2) * (weights @ y**2))
    small = 10.0 ** (-2 * DIGITS)  # what does not vary, but for rounding
    return (
        float(np.clip(weights @ (x * y) / scale, -1, 1))
        if scale > small and np.count_nonzero(weights) > 2
        else math.nan
    )

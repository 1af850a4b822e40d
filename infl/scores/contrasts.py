"""Turns sufficient statistics into differences in means: outcome when an example is in training minus outcome when it is out.

For source i and column j over the models t that count for the column (c_tj in {0, 1}, by the protocol):

    contrast(i, j) = sum_t c a_t M_ti y_tj / sum_t c a_t M_ti  -  sum_t c b_t (1 - M_ti) y_tj / sum_t c b_t (1 - M_ti)

with M the inclusion mask, y the outcome, and a_t = 1 - k_t/n, b_t = k_t/n for a subset of k_t of the n examples (of the
n - 1 others, where j is an example that the protocol fixes to be in or out). Where all
subsets have one size this is the plain difference in means (Feldman & Zhang 2020, section 2; there without errors).
Where sizes differ, larger subsets hold i more often and predict everything better, and the plain difference would credit
i with that; the weights give both sides the same mix of sizes (overlap weights, Li, Morgan & Zaslavsky 2018, section 2.2:
of all weights that balance, the ones of least variance). Among subsets of one size i comes in by taking another out: the
contrast is i's effect less the mean effect of the others, an O(1/n) part that matters only when contrasts are summed.

The standard error is Welch's, sqrt(d (v1/n1 + v0/n0)) with Kish's effective numbers (sum w)^2 / sum w^2 for n1 and n0. For
0/1 outcomes v is p (1 - p) after one success and one failure were added to the side (Agresti & Caffo 2000), for all others the
sample variance, with Satterthwaite's degrees of freedom

    (v1/n1 + v0/n0)^2 / ((v1/n1)^2 / (n1 - 1) + (v0/n0)^2 / (n0 - 1))

where v/n of shares is at least 1 / (n tokens)^2, what one token of one model makes. (Were tokens right by chance, v would be
p (1 - p) / tokens. Models agree on which tokens are hard: on verses v is half of that, and intervals by it are too wide,
`experiments/shares`.) The design factor d is 1 where models are independent; in strata see `Spread`.

On a side of few models outcomes may agree by luck, as where another example decides and all of these models hold it: a t of
35 then means nothing. A p-value is therefore at least the normal one with the error that the contrast has where masks are
shuffled against outcomes, by the variance of both sides together. Without it up to a third of the pairs found among documents
with one duplicate are false (`experiments/shares`).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal

import numpy as np

from infl.records import Array, Estimate, OutcomeKind, OutcomeSource, ProtocolName
from infl.scores.evidence import p_values, welch_p_values
from infl.scores.sufficient_statistics import PairStatistics, SufficientStatistics, as_slice, pair_statistics

ROUNDING = 4e-6  # of means that are sums in float32: differences below it are no differences
PAIRS_PER_PIECE = 1 << 15  # whose arrays stay in a core's caches


def contrast(
    statistics: SufficientStatistics, *, protocol: ProtocolName | Literal["own"], outcome: OutcomeKind
) -> Estimate:
    """Difference in means with error and p-value; NaN where a side is empty (error and p-value: has fewer than two models)."""
    inside, outside = statistics.inside, statistics.outside
    value = inside.mean - outside.mean
    value = np.where(np.abs(value) < ROUNDING * np.abs(outside.mean), 0.0, value)
    factor = statistics.spread.design_factor(np.nan_to_num(value) if protocol == "own" else 0.0)
    variances, df = statistics.variances_of_means(), None
    se = np.sqrt(factor * sum(variances))
    if statistics.is_binary:
        p = _count_p_values(statistics, factor)
    else:
        sides = zip(variances, (inside, outside), strict=True)
        with np.errstate(divide="ignore", invalid="ignore"):
            df = sum(variances) ** 2 / sum(v**2 / (side.effective - 1) for v, side in sides)
        df = np.where(se == 0, np.inf, df)
        shuffled = np.sqrt(factor * _shuffled_variance(value, statistics, *variances))
        p = np.maximum(welch_p_values(value, se, df), welch_p_values(value, shuffled))
    return Estimate(value, se, inside.n, outside.n, protocol, outcome, outside.mean, p, df)


def _shuffled_variance(value: Array, statistics: SufficientStatistics, var_in: Array, var_out: Array) -> Array:
    """Of the contrast, were masks shuffled against the outcomes: by the variance of both sides together."""
    n_in, n_out = statistics.inside.effective, statistics.outside.effective
    n = n_in + n_out
    squares = n_in * (n_in - 1) * var_in + n_out * (n_out - 1) * var_out + n_in * n_out / n * value**2
    return squares / (n - 1) * (1 / n_in + 1 / n_out)


def _count_p_values(statistics: SufficientStatistics, factor: Array) -> Array:
    """By how far masks shuffled against outcomes would bring the contrast."""
    inside, outside = statistics.inside, statistics.outside
    n_in, n_out = inside.effective, outside.effective
    one_size = (np.abs(n_in / inside.n - 1) < 1e-6) & (np.abs(n_out / outside.n - 1) < 1e-6)
    step = np.where(one_size, 0.5, 0.0)
    return p_values(n_in, n_in * inside.mean, n_out, n_out * outside.mean, step=step, factor=factor)


def estimate_pairs(
    outcomes: OutcomeSource, *, sources: Array, columns: Array, protocol: ProtocolName, outcome: OutcomeKind
) -> Estimate:
    """The influence of some training examples on some columns, [sources, columns]; NaN of an example on itself."""
    wanted = as_slice(columns)
    statistics = pair_statistics(
        outcomes.blocks(wanted, kinds=(outcome,)), sources=sources, columns=wanted, protocol=protocol, outcome=outcome
    )
    estimate = contrast_pairs(statistics, (len(sources), len(columns)), protocol=protocol, outcome=outcome)
    own = sources[:, None] == columns
    if own.any():
        blank = {name: np.where(own, np.nan, getattr(estimate, name)) for name in ("value", "se", "mean_out", "p")}
        estimate = replace(estimate, **blank)
    return replace(estimate, sources=sources, columns=columns)


def contrast_pairs(
    statistics: PairStatistics, shape: tuple[int, int], *, protocol: ProtocolName, outcome: OutcomeKind
) -> Estimate:
    """The contrasts of pairs, made in pieces of sources on all cores."""
    height = max(1, PAIRS_PER_PIECE // max(shape[1], 1))

    def make(first: int) -> Estimate:
        return contrast(statistics.statistics(slice(first, first + height)), protocol=protocol, outcome=outcome)

    with ThreadPoolExecutor() as threads:
        pieces = list(threads.map(make, range(0, shape[0], height)))
    names = ("value", "se", "n_in", "n_out", "mean_out", "p", "df")
    names = [name for name in names if getattr(pieces[0], name) is not None]
    return replace(pieces[0], **{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in names})


def join_columns(estimates: Sequence[Estimate]) -> Estimate:
    """Estimates of one kind for neighbouring columns as one, [sources, all columns]."""
    first = estimates[0]
    names = [name for name in ("value", "se", "mean_out", "df", "p") if getattr(first, name) is not None]
    arrays = {name: np.concatenate([getattr(estimate, name) for estimate in estimates], axis=1) for name in names}
    for name in ("n_in", "n_out"):  # one column for all where every model counts for each
        counts = [np.broadcast_to(getattr(e, name), (len(e.value), getattr(e, name).shape[1])) for e in estimates]
        arrays[name] = counts[0] if first.protocol == "held-out" else np.concatenate(counts, axis=1)
    if first.columns is not None:
        arrays["columns"] = np.concatenate([np.asarray(estimate.columns) for estimate in estimates])
    return replace(first, **arrays)

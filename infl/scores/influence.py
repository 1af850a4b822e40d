"""Turns outcomes into cross-influence: how much a training example helps the model predict another, or all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from infl.records import (
    Array,
    Estimate,
    InputError,
    OutcomeKind,
    Outcomes,
    OutcomeSource,
    Reading,
    ScoredPair,
)
from infl.scores.contrasts import Sums, no_models, sum_pairs
from infl.scores.evidence import PValueCounts, check_q_over, q_values
from infl.scores.sides import columns_of

PAIRS_AT_ONCE = 1 << 21


def influence(
    outcomes: OutcomeSource,
    *,
    reading: Reading = "held-out",
    outcome: OutcomeKind = "correct",
    sources: Sequence[int] | Array | None = None,
) -> Estimate:
    """Cross-influence of every source i on every column j (Feldman & Zhang 2020; Def. 3.2 of Triantafillou et al. 2026).

        xinf(i, j) = P[model predicts y_j | i in its training set] - P[... | i not in it],  i != j

    reading: `held-out` takes j from H and all models; `left-out` takes j from D and only the models that did not train on
        j; `trained` takes j from D and only the models that did, which is Def. 3.2 to the letter and near zero for every
        pair once networks fit their training set.
    sources: ids of D to compute rows for; all by default.

    Returns an Estimate with arrays [sources, m] (`held-out`) or [sources, n] (others); NaN on the diagonal and where a side has
    no models. For a matrix larger than memory use `influence_blocks`.

    Raises:
        InputError: where there are no models, or the outcome was not recorded.
    """
    blocks = influence_blocks(outcomes, reading=reading, outcome=outcome, sources=sources)
    return join_columns([estimate for _, estimate in blocks])


def influence_blocks(
    outcomes: OutcomeSource,
    *,
    reading: Reading = "held-out",
    outcome: OutcomeKind = "correct",
    sources: Sequence[int] | Array | None = None,
    n_columns: int | None = None,
) -> Iterator[tuple[slice, Estimate]]:
    """Yield (columns, estimate) from the first column to the last, at most `n_columns` at a time; see `influence`.

    n_columns: None for as many as make some two million pairs. Bounds the memory: a dozen float64 arrays of
        [sources, n_columns]. Does not affect results beyond rounding.
    """
    rows = np.arange(outcomes.n_train) if sources is None else np.asarray(sources, np.int64)
    if len(rows) and (rows.min() < 0 or rows.max() >= outcomes.n_train):
        raise InputError(f"sources: expected ids of D (0..{outcomes.n_train - 1}), got {rows.min()}..{rows.max()}")
    width = n_columns or max(1, PAIRS_AT_ONCE // max(len(rows), 1))
    whole = columns_of(outcomes, reading)
    if whole.start >= whole.stop:
        raise InputError(f"reading {reading}: these outcomes have no such columns")
    for first in range(whole.start, whole.stop, width):
        columns = slice(first, min(first + width, whole.stop))
        sums = sum_pairs(outcomes, sources=rows, columns=columns, reading=reading, outcome=outcome)
        estimate = sums.estimate(reading=reading, outcome=outcome)
        if reading != "held-out":
            estimate = without_own(estimate, rows, np.arange(columns.start, columns.stop))
        yield columns, estimate


def without_own(estimate: Estimate, sources: Array, targets: Array) -> Estimate:
    """NaN for the influence of an example on itself: that is its memorization."""
    own = sources[:, None] == targets
    blank = {name: np.where(own, np.nan, getattr(estimate, name)) for name in ("value", "se", "mean_out", "p")}
    return replace(estimate, **blank)


def join_columns(estimates: Sequence[Estimate]) -> Estimate:
    """Estimates of one kind for neighbouring columns as one, [sources, all columns]."""
    names = ("value", "se", "n_in", "n_out", "mean_out", "p")
    joined = {name: np.concatenate([getattr(estimate, name) for estimate in estimates], axis=1) for name in names}
    return replace(estimates[0], **joined)


def cross_influence_totals(outcomes: OutcomeSource, *, outcome: OutcomeKind = "correct") -> Estimate:
    """Cross-influence of every training example on all others together, read on the held-out examples.

        total(i) = (n/m) * sum over j in H of xinf(i, j)

    It is cross(S) for S = {i}: how many other examples' worth of correct predictions i is good for, were the
    unseen population as large as D. Retained examples are left out of it, since a network that fits them is right on
    them with or without i. A contrast is linear in the outcomes, so one pass over the sum of each model's outcomes
    gives all totals: the matrix is never made, and the error counts the correlation between columns.

    Returns an Estimate with arrays [n], in examples (`correct`) or log-odds times examples (`margin`); NaN where no model,
    or every model, trained on the example. Single totals are noisy: the error grows with n.

    Raises:
        InputError: where there are no models or no held-out examples, or the outcome was not recorded.

    Example:
        >>> import numpy as np, infl
        >>> masks = np.array([[True, False], [False, True], [True, False], [False, True]])
        >>> teaches = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0], masks[:, 0]])
        >>> infl.cross_influence_totals(teaches).value
        array([ 2., -2.])
    """
    n_train, n_held_out = outcomes.n_train, outcomes.n_columns - outcomes.n_train
    if n_held_out <= 0:
        raise InputError("cross-influence totals: these outcomes have no held-out columns to read it on")
    total: Sums | None = None
    origin = 0.0
    for block in outcomes.blocks(slice(n_train, outcomes.n_columns)):
        sums = block.of(outcome).sum(axis=1, dtype=np.float64) * (n_train / n_held_out)
        if total is None:
            origin = sums[0]  # a contrast does not feel where zero is, but the rounding of squares does
        summed = Outcomes(block.masks, margin=(sums - origin)[:, None], strata=block.strata)
        part = sum_pairs(summed, sources=np.arange(n_train), columns=slice(0, 1), reading="held-out", outcome="margin")
        total = part if total is None else total + part
    if total is None:
        raise no_models()
    # Sums of outcomes are no 0/1 outcomes, whatever they are sums of.
    column = replace(total.estimate(reading="held-out", outcome="margin"), outcome=outcome)
    fields = {name: getattr(column, name)[:, 0] for name in ("value", "se", "n_in", "n_out", "p")}
    return Estimate(**fields, reading="held-out", outcome=outcome)


@dataclass(frozen=True)
class PairScores:
    """The strongest pairs of a reading, and the p-values of all of its pairs, counted."""

    strongest: list[ScoredPair]
    p_values: PValueCounts
    reading: Reading
    outcome: OutcomeKind


def strongest_pairs(
    outcomes: OutcomeSource, *, n_pairs: int, reading: Reading = "held-out", outcome: OutcomeKind = "correct"
) -> list[ScoredPair]:
    """The pairs with the largest influence, largest first; see `score_pairs`."""
    return score_pairs(outcomes, n_pairs=n_pairs, reading=reading, outcome=outcome).strongest


def score_pairs(
    outcomes: OutcomeSource,
    *,
    n_pairs: int,
    reading: Reading = "held-out",
    outcome: OutcomeKind = "correct",
    q_over: Literal["matrix", "column"] = "matrix",
) -> PairScores:
    """The pairs with the largest influence, largest first, with q-values over all; streamed: the matrix is never held.

    q_over: q-values over all pairs of the reading, or over those of each pair's column, see `q_values`.

    Ordered by the plain, signed score: not by its size, so that pairs that harm are never before those that help, and not by
    its evidence, so that a q may be large beside a large score. For the smallest p, or the largest size, take
    `strongest_influences`.

    Columns are numbered as in `Dataset`: a target of n or more is held out. Picking the largest of many noisy values
    favours lucky ones; the standard error beside each is that of the single pair, the q-value counts how many there were
    to pick from.

    Raises:
        InputError: where there are no models, the outcome was not recorded, or q_over is neither.
    """
    check_q_over(q_over)
    best: list[ScoredPair] = []
    counts = PValueCounts.of([])
    for columns, estimate in influence_blocks(outcomes, reading=reading, outcome=outcome):
        assert estimate.p is not None
        counts += PValueCounts.of([estimate.p])
        values = np.where(np.isnan(estimate.value), -np.inf, estimate.value).ravel()
        k = min(n_pairs, int(np.isfinite(values).sum()))
        top = np.argpartition(-values, k - 1)[:k] if k else np.array([], np.int64)
        width = estimate.value.shape[1]
        q = np.full(k, np.nan)
        if q_over == "column" and k:
            picked, which = np.unique(top % width, return_inverse=True)
            q = q_values(estimate.p[:, picked], axis=0)[top // width, which]
        fields = [array.ravel()[top].tolist() for array in (estimate.value, estimate.se, estimate.p)] + [q.tolist()]
        sources, targets = (top // width).tolist(), (columns.start + top % width).tolist()
        best += map(ScoredPair, sources, targets, *fields)
        best = sorted(best, key=lambda pair: -pair.value)[:n_pairs]
    if q_over == "column":
        return PairScores(best, counts, reading, outcome)
    q = counts.q_values(np.array([pair.p for pair in best])).tolist()
    return PairScores([replace(pair, q=value) for pair, value in zip(best, q, strict=True)], counts, reading, outcome)

"""Turns outcomes into cross-influence: how much a training example helps the model predict another, or all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from infl.records import (
    Array,
    Dataset,
    Estimate,
    InputError,
    OutcomeKind,
    Outcomes,
    OutcomesOrRun,
    OutcomeSource,
    ProtocolName,
    ScoredPair,
    as_outcomes,
)
from infl.scores.contrasts import Sums, columns_of, measure_spread, no_models, sum_own, sum_pairs, weights_of_sizes
from infl.scores.evidence import PValueCounts, check_q_over, normal_p_values, q_values

PAIRS_AT_ONCE = 1 << 21


def influence(
    outcomes: OutcomesOrRun,
    *,
    protocol: ProtocolName = "held-out",
    outcome: OutcomeKind = "correct",
    sources: Sequence[int] | Array | None = None,
) -> Estimate:
    """Cross-influence of every source i on every column j (Feldman & Zhang 2020; Def. 3.2 of Triantafillou et al. 2026).

        xinf(i, j) = P[model predicts y_j | i in its training set] - P[... | i not in it],  i != j

    Returns an Estimate with arrays [sources, m] (`held-out`) or [sources, n] (others); NaN on the diagonal and where a side has
    no models. For a matrix larger than memory use `influence_blocks`.

    Args:
        protocol: `held-out` takes j from H and all models; `left-out` takes j from D and only the models that did not
            train on j; `trained` takes j from D and only the models that did, which is Def. 3.2 to the letter and near
            zero for every pair once networks fit their training set.
        sources: Ids of D to compute rows for; all by default.

    Raises:
        InputError: where there are no models, or the outcome was not recorded.
    """
    blocks = influence_blocks(outcomes, protocol=protocol, outcome=outcome, sources=sources)
    return join_columns([estimate for _, estimate in blocks])


def influence_blocks(
    outcomes: OutcomesOrRun,
    *,
    protocol: ProtocolName = "held-out",
    outcome: OutcomeKind = "correct",
    sources: Sequence[int] | Array | None = None,
    n_columns: int | None = None,
) -> Iterator[tuple[slice, Estimate]]:
    """Yield (columns, estimate) from the first column to the last, at most `n_columns` at a time; see `influence`.

    Args:
        n_columns: None for as many as make some two million pairs. Bounds the memory: a dozen float64 arrays of
            [sources, n_columns]. Does not affect results beyond rounding.
    """
    outcomes = as_outcomes(outcomes)
    rows = np.arange(outcomes.n_train) if sources is None else np.asarray(sources, np.int64)
    if len(rows) and (rows.min() < 0 or rows.max() >= outcomes.n_train):
        raise InputError(f"sources: expected ids of D (0..{outcomes.n_train - 1}), got {rows.min()}..{rows.max()}")
    width = n_columns or max(1, PAIRS_AT_ONCE // max(len(rows), 1))
    whole = columns_of(outcomes, protocol)
    if whole.start >= whole.stop:
        raise InputError(f"protocol {protocol}: these outcomes have no such columns")
    for first in range(whole.start, whole.stop, width):
        columns = slice(first, min(first + width, whole.stop))
        sums = sum_pairs(outcomes, sources=rows, columns=columns, protocol=protocol, outcome=outcome)
        estimate = sums.estimate(protocol=protocol, outcome=outcome)
        if protocol != "held-out":
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
        >>> cross_influence_totals(teaches).value
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
        part = sum_pairs(summed, sources=np.arange(n_train), columns=slice(0, 1), protocol="held-out", outcome="margin")
        total = part if total is None else total + part
    if total is None:
        raise no_models()
    # Sums of outcomes are no 0/1 outcomes, whatever they are sums of.
    column = replace(total.estimate(protocol="held-out", outcome="margin"), outcome=outcome)
    fields = {name: getattr(column, name)[:, 0] for name in ("value", "se", "n_in", "n_out", "p")}
    return Estimate(**fields, protocol="held-out", outcome=outcome)


@dataclass(frozen=True)
class PairScores:
    """The strongest pairs of a protocol, and the p-values of all of its pairs, counted."""

    strongest: list[ScoredPair]
    p_values: PValueCounts
    protocol: ProtocolName
    outcome: OutcomeKind


def strongest_pairs(
    outcomes: OutcomeSource, *, n_pairs: int, protocol: ProtocolName = "held-out", outcome: OutcomeKind = "correct"
) -> list[ScoredPair]:
    """The pairs with the largest influence, largest first; see `score_pairs`."""
    return score_pairs(outcomes, n_pairs=n_pairs, protocol=protocol, outcome=outcome).strongest


def score_pairs(
    outcomes: OutcomeSource,
    *,
    n_pairs: int,
    protocol: ProtocolName = "held-out",
    outcome: OutcomeKind = "correct",
    q_over: Literal["matrix", "column"] = "matrix",
) -> PairScores:
    """The pairs with the largest influence, largest first, with q-values over all; streamed: the matrix is never held.

    Ordered by the plain, signed score: not by its size, so that pairs that harm are never before those that help, and not by
    its evidence, so that a q may be large beside a large score. For the smallest p, or the largest size, take
    `strongest_influences`.

    Columns are numbered as in `Dataset`: a target of n or more is held out. Picking the largest of many noisy values
    favours lucky ones; the standard error beside each is that of the single pair, the q-value counts how many there were
    to pick from.

    Args:
        q_over: q-values over all pairs of the protocol, or over those of each pair's column, see `q_values`.

    Raises:
        InputError: where there are no models, the outcome was not recorded, or q_over is neither.
    """
    check_q_over(q_over)
    best: list[ScoredPair] = []
    counts = PValueCounts.of([])
    for columns, estimate in influence_blocks(outcomes, protocol=protocol, outcome=outcome):
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
        return PairScores(best, counts, protocol, outcome)
    q = counts.q_values(np.array([pair.p for pair in best])).tolist()
    return PairScores([replace(pair, q=value) for pair, value in zip(best, q, strict=True)], counts, protocol, outcome)


def memorization(outcomes: OutcomesOrRun, *, outcome: OutcomeKind = "correct") -> Estimate:
    """Memorization of every training example (Feldman 2020, definition of mem; estimator of Feldman & Zhang 2020).

        mem(i) = P[model predicts y_i | i in its training set] - P[... | i not in it]

    Returns an Estimate with arrays [n]: near 0 where the rest of D teaches the example, near 1 where only the example itself
    does. The value is NaN where no model, or every model, trained on the example; the standard error is NaN where one
    side has fewer than two models.

    Args:
        outcome: `correct` gives a probability in [-1, 1]; `margin` the same contrast of margins, in log-odds.

    Raises:
        InputError: where there are no models, or the outcome was not recorded.

    Example:
        >>> import numpy as np, infl
        >>> masks = np.array([[True, False], [False, True], [True, False], [False, True]])
        >>> learned_by_heart = infl.Outcomes(masks, correct=masks)
        >>> infl.memorization(learned_by_heart).value
        array([1., 1.])
    """
    return sum_own(as_outcomes(outcomes), outcome=outcome).estimate(protocol="own", outcome=outcome)


def influence_of_classes(outcomes: OutcomeSource, dataset: Dataset, *, outcome: OutcomeKind = "correct") -> Estimate:
    """Mean cross-influence of the training examples of class a on the held-out examples of class b, for all a and b.

        block(a, b) = mean over i in D of class a, and j in H of class b, of xinf(i, j) = sum_t W_ta y_tb
        W_ta = mean over i of [ a_t M_ti / sum_s a_s M_si - b_t (1 - M_ti) / sum_s b_s (1 - M_si) ]

    with y_tb the mean outcome of model t on the class, and weights a_t, b_t of the sizes of subsets as in `contrasts`. Pairs
    of a block share models, so their errors do not average out; the block is one contrast of the T numbers y_tb, with error

        se^2 = d T / (T - 2) sum_t W_ta^2 (y_tb - mean_t y_tb)^2

    (heteroskedasticity-consistent: White 1980), d the design factor where models are in strata. What the class itself does to
    y_tb stays in: which of its examples were in together by chance is part of the error. So the error is a little wide, by
    the share of one example in what its class does. The matrix of all pairs is never made.

    Among subsets of one size an example comes in by taking another out. A block therefore says how much more an example of
    class a does for class b than an average training example: blocks of one column, weighted by the sizes of the classes,
    sum to about 0.

    Returns an Estimate with arrays [c, c], sources in rows, protocol `held-out`; NaN for a class without training examples
    (row) or held-out ones (column), and without an error where there are fewer than three models. n_in, n_out: models with
    and without an example of the class, on average over its examples.

    Raises:
        InputError: where there are no models, the outcome was not recorded, or the dataset is not that of the models.

    Example:
        >>> import numpy as np, infl
        >>> x, y = np.zeros((4, 1), np.float32), np.array([0, 0, 1, 1])
        >>> two_classes = infl.from_arrays(x, y, x[:2], y[1:3])
        >>> masks = np.random.RandomState(0).rand(500, 4) < 0.5
        >>> taught = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0] | masks[:, 1], masks[:, 2] | masks[:, 3]])
        >>> influence_of_classes(taught, two_classes).value.round(1)
        array([[ 0.4, -0.4],
               [-0.4,  0.3]])
    """
    if (outcomes.n_train, outcomes.n_columns) != (dataset.n_train, dataset.n_columns):
        raise InputError(
            f"dataset: expected the {outcomes.n_train} training and {outcomes.n_columns - outcomes.n_train} held-out "
            f"examples of the models, got {dataset.n_train} and {dataset.n_held_out}"
        )
    if not dataset.n_held_out:
        raise InputError("influence of classes: these outcomes have no held-out columns to read it on")
    members = _membership(dataset.y_train, dataset.n_classes)  # [n, c], columns sum to 1
    targets = _membership(dataset.y_held_out, dataset.n_classes)
    held_out = slice(outcomes.n_train, outcomes.n_columns)
    n_in, inside, outside, y, strata = np.zeros(outcomes.n_train), 0.0, 0.0, [], []
    for block in outcomes.blocks(held_out):
        a, b = weights_of_sizes(block.masks, "held-out")
        masks = block.masks.astype(np.float64)
        n_in = n_in + masks.sum(axis=0)
        inside, outside = inside + a @ masks, outside + b @ (1 - masks)
        y.append(block.of(outcome).astype(np.float64) @ targets)
        strata.append(block.strata)
    if not y:
        raise no_models()
    y = np.concatenate(y)
    n_models = len(y)
    usable = (inside > 0) & (outside > 0)
    members = _membership(np.where(usable, dataset.y_train, -1), dataset.n_classes)
    with np.errstate(divide="ignore"):
        per_in, per_out = (np.where(usable, 1 / side, 0)[:, None] * members for side in (inside, outside))
    weights = []
    for block in outcomes.blocks(slice(outcomes.n_train, outcomes.n_train + 1)):
        a, b = weights_of_sizes(block.masks, "held-out")
        masks = block.masks.astype(np.float64)
        weights.append(a[:, None] * (masks @ per_in) - b[:, None] * ((1 - masks) @ per_out))
    w = np.concatenate(weights)  # [T, c]
    value = w.T @ y
    spread = (w**2).T @ (y - y.mean(axis=0)) ** 2
    known = [part for part in strata if part is not None]
    factor = measure_spread(y, strata=np.concatenate(known) if known else None).design_factor()
    with np.errstate(divide="ignore", invalid="ignore"):
        correction = n_models / (n_models - 2) if n_models > 2 else np.nan
        se = np.sqrt(np.maximum(spread, 0) * factor * correction)
    absent = (members.sum(axis=0) == 0)[:, None] | (targets.sum(axis=0) == 0)
    value, se = np.where(absent, np.nan, value), np.where(absent, np.nan, se)
    of_class = (n_in @ members)[:, None]
    return Estimate(value, se, of_class, n_models - of_class, "held-out", outcome, p=normal_p_values(value, se))


def _membership(labels: Array, n_classes: int) -> Array:
    """[examples, c]: 1 / size of its class in each example's class, so that a product with it averages over classes."""
    one_hot = (labels[:, None] == np.arange(n_classes)).astype(np.float64)
    return one_hot / np.maximum(one_hot.sum(axis=0), 1)


@dataclass(frozen=True)
class Part:
    """A part of the influence matrix: the ids of its rows and columns, and the estimate, [sources, targets]."""

    sources: Array
    targets: Array
    estimate: Estimate


@dataclass(frozen=True)
class ExampleInfluences:
    """Every influence that one example has or is under.

    Attributes:
        example: Its column: below n a training example, from n on a held-out one.
        influenced_by: Of every training example on it, [n, 1], protocol `left-out` for a training example, else
            `held-out`.
        held_out: Of it on every held-out example, [1, m]; None where it is one itself, since nobody trained on it.
        left_out: Of it on every training example, by the models that did not train on that one, [1, n]; None likewise.
    """

    example: int
    influenced_by: Part
    held_out: Part | None
    left_out: Part | None


def influences_of(outcomes: OutcomeSource, example: int, *, outcome: OutcomeKind = "correct") -> ExampleInfluences:
    """Who influences an example, and whom it influences; see `influence` for what an influence is.

    NaN for an example's influence on itself (that is its memorization) and where a side has no models.

    Args:
        example: A training example 0..n-1, or a held-out one n..n+m-1. Memory: a few arrays [512 models, n+m].

    Raises:
        InputError: where there is no such example or no model, or the outcome was not recorded.

    Example:
        >>> import numpy as np, infl
        >>> masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]] * 4, bool)
        >>> taught = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0]])  # held-out 3 is right where 0 was in
        >>> infl.influences_of(taught, 3).influenced_by.estimate.value.ravel()
        array([ 1. , -0.5, -0.5])
    """
    n_train, n_columns = outcomes.n_train, outcomes.n_columns
    if not 0 <= example < n_columns:
        raise InputError(
            f"example: expected a training example 0..{n_train - 1} or a held-out one {n_train}..{n_columns - 1}, "
            f"got {example}"
        )

    def part(sources: Array, targets: Array, protocol: ProtocolName) -> Part:
        return Part(sources, targets, influence_between(outcomes, sources, targets, protocol=protocol, outcome=outcome))

    everyone, alone, others = np.arange(n_train), np.array([example]), np.arange(n_train, n_columns)
    if example >= n_train:
        return ExampleInfluences(example, part(everyone, alone, "held-out"), None, None)
    return ExampleInfluences(
        example,
        part(everyone, alone, "left-out"),
        part(alone, others, "held-out") if len(others) else None,
        part(alone, everyone, "left-out"),
    )


def influence_between(
    outcomes: OutcomeSource,
    sources: Sequence[int] | Array,
    targets: Sequence[int] | Array,
    *,
    protocol: ProtocolName,
    outcome: OutcomeKind = "correct",
) -> Estimate:
    """Influence of some training examples on some columns, [sources, targets]; NaN of an example on itself.

    Raises:
        InputError: where a source is no training example, a target no column of the protocol, there are no models, or the
            outcome was not recorded.
    """
    rows, columns = np.asarray(sources, np.int64), np.asarray(targets, np.int64)
    by_protocol = columns_of(outcomes, protocol)
    wanted_ids = (("sources", rows, 0, outcomes.n_train), ("targets", columns, by_protocol.start, by_protocol.stop))
    for name, ids, low, high in wanted_ids:
        if ids.ndim != 1 or not len(ids) or ids.min() < low or ids.max() >= high:
            raise InputError(f"{name}: expected numbers {low}..{high - 1} in protocol {protocol}, at least one")
    # A slice where it can be one: the store reads it without unpacking the others.
    whole = np.array_equal(columns, np.arange(columns[0], columns[0] + len(columns)))
    wanted = slice(int(columns[0]), int(columns[0]) + len(columns)) if whole else columns
    sums = sum_pairs(outcomes, sources=rows, columns=wanted, protocol=protocol, outcome=outcome)
    return without_own(sums.estimate(protocol=protocol, outcome=outcome), rows, columns)


def influence_within_classes(
    outcomes: OutcomeSource, labels: Array, *, n_classes: int, outcome: OutcomeKind = "correct"
) -> Iterator[tuple[Array, Array, Estimate | None]]:
    """Yield, class after class, its training examples, its held-out columns, and the influence of the ones on the others.

    Args:
        labels: [n+m]. The estimate, [sources, columns] in protocol `held-out`, is None where a class lacks either.

    Raises:
        InputError: where there are no models, or the outcome was not recorded.
    """
    for c in range(n_classes):
        members = np.flatnonzero(labels == c)
        sources, targets = members[members < outcomes.n_train], members[members >= outcomes.n_train]
        if not len(sources) or not len(targets):
            yield sources, targets, None
            continue
        yield sources, targets, influence_between(outcomes, sources, targets, protocol="held-out", outcome=outcome)


def top_of(part: Part, *, n_pairs: int) -> list[ScoredPair]:
    """The pairs of a part that chance explains least, helpful or harmful: smallest p-value first; none without an estimate.

    Not the largest first, since those are the ones of the fewest models. q-values are over the pairs of the part.
    """
    estimate = part.estimate
    p = np.full(estimate.value.shape, np.nan) if estimate.p is None else estimate.p
    q, size = q_values(p), np.abs(estimate.value)
    order = np.lexsort((-size.ravel(), p.ravel()))  # NaN comes last
    rows, columns = np.unravel_index(order[~np.isnan(size.ravel()[order])][:n_pairs], size.shape)
    return [
        ScoredPair(
            int(part.sources[i]),
            int(part.targets[j]),
            *(float(array[i, j]) for array in (estimate.value, estimate.se, p, q)),
        )
        for i, j in zip(rows, columns, strict=True)
    ]

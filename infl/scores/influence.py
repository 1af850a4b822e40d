"""Turns outcomes into memorization and cross-influence: how much a training example helps models predict itself, or others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
    as_outcomes,
)
from infl.scores.contrasts import contrast, estimate_pairs, join_columns
from infl.scores.evidence import welch_p_values
from infl.scores.sufficient_statistics import (
    measure_spread,
    no_models,
    own_statistics,
    pair_statistics,
    protocol_columns,
    size_weights,
)

PAIRS_AT_ONCE = 1 << 22
MIN_COLUMNS_AT_ONCE = 16  # each pass reads all masks, whatever the number of columns


def memorization(outcomes: OutcomesOrRun, *, outcome: OutcomeKind = "correct") -> Estimate:
    """Memorization of every training example (Feldman 2020, definition of mem; estimator of Feldman & Zhang 2020).

        mem(i) = P[model predicts y_i | i in its training set] - P[... | i not in it]

    Returns an Estimate with arrays [n]: near 0 where the rest of D teaches the example, near 1 where only the example itself
    does. The value is NaN where no model, or every model, trained on the example; the standard error is NaN where one
    side has fewer than two models.

    Args:
        outcome: `correct` gives a probability in [-1, 1], of documents a fraction of tokens (counterfactual memorization,
            Zhang et al. 2023); `margin` the same contrast of margins, in log-odds; `logprob` in nats a token.

    Raises:
        InputError: where there are no models, or the outcome was not recorded.

    Examples:
        >>> import numpy as np, infl
        >>> masks = np.array([[True, False], [False, True], [True, False], [False, True]])
        >>> learned_by_heart = infl.Outcomes(masks, correct=masks)
        >>> infl.memorization(learned_by_heart).value
        array([1., 1.])
    """
    return contrast(own_statistics(as_outcomes(outcomes), outcome=outcome), protocol="own", outcome=outcome)


def influence(
    outcomes: OutcomesOrRun,
    *,
    protocol: ProtocolName = "held-out",
    outcome: OutcomeKind = "correct",
    sources: Sequence[int] | Array | None = None,
    columns: Sequence[int] | Array | None = None,
) -> Estimate:
    """Cross-influence of every source i on every column j (Feldman & Zhang 2020; Def. 3.2 of Triantafillou et al. 2026).

        xinf(i, j) = P[model predicts y_j | i in its training set] - P[... | i not in it],  i != j

    Returns an Estimate with arrays [sources, columns]; NaN of an example on itself (that is its memorization) and where a
    side has no models. For a matrix larger than memory use `influence_blocks`.

    Args:
        protocol: `held-out` takes j from H and all models; `left-out` takes j from D and only the models that did not
            train on j; `trained` takes j from D and only the models that did, which is Def. 3.2 to the letter and near
            zero for every pair once networks fit their training set.
        sources: Ids of D to compute rows for; all by default.
        columns: Examples to compute columns for, of D (0..n-1) or held out (n..n+m-1); all of the protocol by default.

    Raises:
        InputError: where a source is no training example, a column none of the protocol, there are no models, or the outcome
            was not recorded.

    Examples:
        >>> import numpy as np, infl
        >>> masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]] * 4, bool)
        >>> taught = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0]])  # held-out 3 is right where 0 was in
        >>> infl.influence(taught, columns=[3]).value.ravel()
        array([ 1. , -0.5, -0.5])
    """
    blocks = influence_blocks(outcomes, protocol=protocol, outcome=outcome, sources=sources, columns=columns)
    return join_columns(list(blocks))


def influence_blocks(
    outcomes: OutcomesOrRun,
    *,
    protocol: ProtocolName = "held-out",
    outcome: OutcomeKind = "correct",
    sources: Sequence[int] | Array | None = None,
    columns: Sequence[int] | Array | None = None,
    n_columns: int | None = None,
) -> Iterator[Estimate]:
    """Yield the matrix from the first column to the last, at most `n_columns` at a time; see `influence`.

    Args:
        n_columns: None for as many as make some four million pairs, at least 16. Bounds the memory: a dozen float64
            arrays of [sources, n_columns]. Does not affect results beyond rounding.
    """
    outcomes = as_outcomes(outcomes)
    whole = protocol_columns(outcomes, protocol)
    rows = _ids("sources", sources, slice(0, outcomes.n_train), protocol)
    wanted = _ids("columns", columns, whole, protocol)
    width = n_columns or max(MIN_COLUMNS_AT_ONCE, PAIRS_AT_ONCE // len(rows))
    for first in range(0, len(wanted), width):
        some = wanted[first : first + width]
        yield estimate_pairs(outcomes, sources=rows, columns=some, protocol=protocol, outcome=outcome)


def _ids(name: str, given: Sequence[int] | Array | None, known: slice, protocol: ProtocolName) -> Array:
    if given is None:
        return np.arange(known.start, known.stop)
    ids = np.asarray(given, np.int64)
    if ids.ndim != 1 or not len(ids) or ids.min() < known.start or ids.max() >= known.stop:
        raise InputError(
            f"{name}: expected numbers {known.start}..{known.stop - 1} in protocol {protocol}, at least one"
        )
    return ids


def cross_influence_totals(outcomes: OutcomesOrRun, *, outcome: OutcomeKind = "correct") -> Estimate:
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

    Examples:
        >>> import numpy as np, infl
        >>> masks = np.array([[True, False], [False, True], [True, False], [False, True]])
        >>> teaches = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0], masks[:, 0]])
        >>> cross_influence_totals(teaches).value
        array([ 2., -2.])
    """
    outcomes = as_outcomes(outcomes)
    n_train, n_held_out = outcomes.n_train, outcomes.n_columns - outcomes.n_train
    if n_held_out <= 0:
        raise InputError("cross-influence totals: these outcomes have no held-out columns to read it on")
    statistics = pair_statistics(
        _summed_columns(outcomes, outcome, n_train / n_held_out),
        sources=np.arange(n_train),
        columns=slice(0, 1),
        protocol="held-out",
        outcome="margin",
    )
    # Sums of outcomes are no 0/1 outcomes, whatever they are sums of.
    estimate = contrast(statistics.statistics(), protocol="held-out", outcome="margin")
    arrays = {name: getattr(estimate, name)[:, 0] for name in ("value", "se", "n_in", "n_out", "df", "p")}
    return Estimate(**arrays, protocol="held-out", outcome=outcome)


def _summed_columns(outcomes: OutcomeSource, outcome: OutcomeKind, scale: float) -> Iterator[Outcomes]:
    """Models with the sum of their held-out outcomes, less that of the first: the rounding of squares feels where zero is."""
    origin: float | None = None
    for block in outcomes.blocks(slice(outcomes.n_train, outcomes.n_columns), kinds=(outcome,)):
        sums = block.of(outcome).sum(axis=1, dtype=np.float64) * scale
        origin = sums[0] if origin is None else origin
        yield Outcomes(block.masks, margin=(sums - origin)[:, None], strata=block.strata)


def class_influence(outcomes: OutcomesOrRun, dataset: Dataset, *, outcome: OutcomeKind = "correct") -> Estimate:
    """Mean cross-influence of the training examples of class a on the held-out examples of class b, for all a and b.

        block(a, b) = mean over i in D of class a, and j in H of class b, of xinf(i, j) = sum_t W_ta y_tb
        W_ta = mean over i of [ a_t M_ti / sum_s a_s M_si - b_t (1 - M_ti) / sum_s b_s (1 - M_si) ]

    with y_tb the mean outcome of model t on the class, and weights a_t, b_t of the sizes of subsets as in `contrasts`. Pairs
    of a block share models, so their errors do not average out; the block is one contrast of the T numbers y_tb, with error

        se^2 = d T / (T - 2) sum_t W_ta^2 (y_tb - mean_t y_tb)^2

    (heteroskedasticity-consistent: White 1980), d the design factor where models are in strata. What the class itself does to
    y_tb stays in: which of its examples were in together by chance is part of the error. So the error is a little wide, by
    the part of one example in what its class does. The matrix of all pairs is never made.

    Among subsets of one size an example comes in by taking another out. A block therefore says how much more an example of
    class a does for class b than an average training example: blocks of one column, weighted by the sizes of the classes,
    sum to about 0.

    Returns an Estimate with arrays [c, c], sources in rows, protocol `held-out`; NaN for a class without training examples
    (row) or held-out ones (column), and without an error where there are fewer than three models. n_in, n_out: models with
    and without an example of the class, on average over its examples.

    Raises:
        InputError: where there are no models, the outcome was not recorded, or the dataset is not that of the models.

    Examples:
        >>> import numpy as np, infl
        >>> x, y = np.zeros((4, 1), np.float32), np.array([0, 0, 1, 1])
        >>> two_classes = infl.from_arrays(x, y, x[:2], y[1:3])
        >>> masks = np.random.RandomState(0).rand(500, 4) < 0.5
        >>> taught = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0] | masks[:, 1], masks[:, 2] | masks[:, 3]])
        >>> class_influence(taught, two_classes).value.round(1)
        array([[ 0.4, -0.4],
               [-0.4,  0.3]])
    """
    outcomes = as_outcomes(outcomes)
    if (outcomes.n_train, outcomes.n_columns) != (dataset.n_train, dataset.n_columns):
        raise InputError(
            f"dataset: expected the {outcomes.n_train} training and {outcomes.n_columns - outcomes.n_train} held-out "
            f"examples of the models, got {dataset.n_train} and {dataset.n_held_out}"
        )
    if not dataset.n_held_out:
        raise InputError("class influence: these outcomes have no held-out columns to read it on")
    members = _membership(dataset.y_train, dataset.n_classes)  # [n, c], columns sum to 1
    targets = _membership(dataset.y_held_out, dataset.n_classes)
    held_out = slice(outcomes.n_train, outcomes.n_columns)
    n_in, inside, outside, y, strata = np.zeros(outcomes.n_train), 0.0, 0.0, [], []
    for block in outcomes.blocks(held_out, kinds=(outcome,)):
        a, b = size_weights(block.masks, "held-out")
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
    for block in outcomes.blocks(kinds=()):
        a, b = size_weights(block.masks, "held-out")
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
    in_class = (n_in @ members)[:, None]
    return Estimate(value, se, in_class, n_models - in_class, "held-out", outcome, p=welch_p_values(value, se))


def _membership(labels: Array, n_classes: int) -> Array:
    """[examples, c]: 1 / size of its class in each example's class, so that a product with it averages over classes."""
    one_hot = (labels[:, None] == np.arange(n_classes)).astype(np.float64)
    return one_hot / np.maximum(one_hot.sum(axis=0), 1)

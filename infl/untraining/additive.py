"""Turns models of random subsets into the predicted effect of removing a whole set S: the additive baseline.

The margin of example j is taken to drop by the sum of the contrasts of the members of S, and by what |S| mean examples
contribute, which contrasts at one subset size leave out (`infl.scores.contrasts`):

    delta_j(S) = sum over i in S of ( E[margin_j | i in] - E[margin_j | i out] )
                 + |S| (E[margin_j | all of D] - E[margin_j | subsets]) / (n - mean subset size)

and the drop is compared with the margins observed in models of all of D to give a probability:

    D_j(S) = P_j(0) - P_j(delta_j(S)),   P_j(x) = P[margin_j - x > 0]

over the reference models. Each example is read as in what it stands for: held-out examples over all models, retained ones
over the models that trained on them, members of S over those that did not (plus their own memorization).

Blind to redundancy: where the neighbours of an example cover for it, its contrast is near zero, and so is the sum over a
whole class, whose removal together is anything but. README and `make demo` show such sets beside what retraining says.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from infl.records import Array, Effects, ForgetSet, InputError, OutcomeSource, ProtocolName
from infl.scores.sufficient_statistics import PairStatistics, columns_counted, pair_statistics, size_weights
from infl.untraining.distribution import ProbitOutcomes, has_shares, kernel_width

MAX_REPLICATES = 64


def predict_additive(
    forget_set: ForgetSet, *, design: OutcomeSource, reference: OutcomeSource, n_columns: int = 4096
) -> Effects:
    """Predict the effect of untraining S on every example by summing margin contrasts (see the module's text).

    Args:
        design: Models of random subsets, with margins.
        reference: Models of all of D.
        n_columns: Examples handled at once. Bounds the memory, does not affect results.

    Returns:
        Effects whose replicates are the pseudo-values of up to 64 groups of consecutive models, design and reference
        alike: the models, not the examples, are what was sampled. NaN where a contrast of a member has no estimate.

    Raises:
        InputError: where there are no models or no reference models.
    """
    if not reference.n_models:
        raise InputError(
            "effects are measured from models of all of D, and this run has none; train with --n-references"
        )
    if of_shares := has_shares(design, reference):
        design, reference = ProbitOutcomes(design), ProbitOutcomes(reference)
    n_train, n_groups = design.n_train, min(MAX_REPLICATES, design.n_models, reference.n_models)
    ids = np.array(forget_set.ids)
    retained, held_out = np.flatnonzero(forget_set.retained(n_train)), np.arange(n_train, design.n_columns)
    parts: list[tuple[Array, ProtocolName]] = [(ids, "left-out")]
    parts.extend((retained[start : start + n_columns], "trained") for start in range(0, len(retained), n_columns))
    parts.extend((held_out[start : start + n_columns], "held-out") for start in range(0, len(held_out), n_columns))

    by_group = _group_indicator(0, reference.n_models, reference.n_models, n_groups)
    effect = np.empty(design.n_columns)
    replicates = np.empty((n_groups, design.n_columns))
    for columns, protocol in parts:
        margins = np.concatenate([block.of("margin") for block in reference.blocks(columns)]).astype(np.float64)
        mean, width = margins.mean(axis=0), kernel_width(margins, of_shares=of_shares)
        drop = _sum_contrasts(design, ids, columns, protocol, mean, n_groups)
        by_reference = _lost_probability(margins, width, drop.value)
        value = by_reference.mean(axis=0)
        above, below = (_lost_probability(margins, width, drop.value + step).mean(axis=0) for step in (0.05, -0.05))
        gradient = (above - below) / 0.1
        effect[columns] = value
        through_level = gradient * drop.per_reference_margin * (margins - mean)
        deviations = gradient * drop.by_group + by_group @ (by_reference - value + through_level) / reference.n_models
        replicates[:, columns] = value + n_groups * deviations
    return Effects(
        forget_set=forget_set,
        n_train=n_train,
        effect=effect,
        se=replicates.std(axis=0, ddof=1) / np.sqrt(n_groups) if n_groups > 1 else np.full(len(effect), np.nan),
        replicates=replicates,
        source="additive",
        n_models=design.n_models,
    )


def _lost_probability(margins: Array, width: Array, drop: Array) -> Array:
    """The probability of being right that each reference model loses, [R, columns]."""
    return ndtr(margins / width) - ndtr((margins - drop) / width)


@dataclass(frozen=True)
class _Drop:
    """Predicted drop of the margin.

    Attributes:
        value: [columns].
        by_group: [groups, columns], what each group of models contributes to its error.
        per_reference_margin: [columns], by how much it grows with the mean margin of the reference models.
    """

    value: Array
    by_group: Array
    per_reference_margin: Array


def _sum_contrasts(
    design: OutcomeSource, ids: Array, columns: Array, protocol: ProtocolName, reference_mean: Array, n_groups: int
) -> _Drop:
    linear = _LinearSum.make(_statistics(design, ids, columns, protocol), zero_diagonal=protocol == "left-out")
    own: _LinearSum | None = None
    if protocol == "left-out":
        # A member's own contrast is its memorization: over all models, not over those that left it out.
        own = _LinearSum.make(_statistics(design, ids, columns, "held-out"))
    # What the mean example contributes, which contrasts leave out: from the models of all of D against the design's,
    # in the state that an example has in both.
    state: ProtocolName = "held-out" if protocol == "held-out" else "trained"
    level, size, n_counted = _mean_margin(design, columns, state)
    per_example = (reference_mean - level) / (design.n_train - size)
    value = linear.value() + len(ids) * per_example
    value = value if own is None else value + own.diagonal_value()

    by_group, n_seen = np.zeros((n_groups, len(columns))), 0
    for block in design.blocks(columns):
        members, y = block.masks[:, ids].astype(np.float64), block.of("margin").astype(np.float64)
        part = linear.contributions(members, y, size_weights(block.masks, protocol))
        part = _where(columns_counted(block.masks, protocol, columns), part)
        if own is not None:
            part = part + own.diagonal_contributions(members, y, size_weights(block.masks, "held-out"))
        from_level = -len(ids) * (y - level) / n_counted / (design.n_train - size)
        part = part + _where(columns_counted(block.masks, state, columns), from_level)
        by_group += _group_indicator(n_seen, len(part), design.n_models, n_groups) @ part
        n_seen += len(part)
    return _Drop(value, by_group, per_reference_margin=len(ids) / (design.n_train - size))


def _where(counted: Array | None, part: Array) -> Array:
    return part if counted is None else np.where(counted, part, 0.0)


def _statistics(design: OutcomeSource, ids: Array, columns: Array, protocol: ProtocolName) -> PairStatistics:
    return pair_statistics(design.blocks(columns), sources=ids, columns=columns, protocol=protocol, outcome="margin")


def _mean_margin(design: OutcomeSource, columns: Array, state: ProtocolName) -> tuple[Array, Array, Array]:
    """Mean margin, mean subset size and number of the models that count for each column, [columns] each."""
    n, size, y = (np.zeros(len(columns)) for _ in range(3))
    for block in design.blocks(columns):
        counted = columns_counted(block.masks, state, columns)
        counted = np.ones((len(block.masks), len(columns)), bool) if counted is None else counted
        n += counted.sum(axis=0)
        size += (counted * block.masks.sum(axis=1)[:, None]).sum(axis=0)
        y += (counted * block.of("margin")).sum(axis=0)
    n = np.where(n > 0, n, np.nan)
    size = np.minimum(size / n, design.n_train - 1)  # models of all of D tell nothing of subsets
    return y / n, size, n


@dataclass(frozen=True)
class _LinearSum:
    """A sum of contrasts as a linear function of the outcomes; means, and one over the sums of weights, [sources, columns]."""

    mean_in: Array
    mean_out: Array
    per_in: Array
    per_out: Array

    @staticmethod
    def make(pairs: PairStatistics, *, zero_diagonal: bool = False) -> _LinearSum:
        statistics = pairs.statistics()
        inside, outside = statistics.inside, statistics.outside
        arrays = [inside.mean, outside.mean, 1 / inside.weight, 1 / outside.weight]
        arrays = [np.broadcast_to(array, np.shape(inside.y)).copy() for array in arrays]
        if zero_diagonal:
            for array in arrays:
                np.fill_diagonal(array, 0.0)
        return _LinearSum(*arrays)

    def value(self) -> Array:
        return (self.mean_in - self.mean_out).sum(axis=0)

    def contributions(self, members: Array, y: Array, weights: tuple[Array, Array]) -> Array:
        """Each model's part in the error of the sum, [models, columns]; over all models they sum to zero."""
        inside = y * (members @ self.per_in) - members @ (self.mean_in * self.per_in)
        others = 1 - members
        outside = y * (others @ self.per_out) - others @ (self.mean_out * self.per_out)
        return weights[0][:, None] * inside - weights[1][:, None] * outside

    def diagonal_value(self) -> Array:
        return np.diagonal(self.mean_in - self.mean_out)

    def diagonal_contributions(self, members: Array, y: Array, weights: tuple[Array, Array]) -> Array:
        """The same for the contrast of each source on itself, [models, sources]."""
        mean_in, mean_out, per_in, per_out = (np.diagonal(array) for array in vars(self).values())
        inside = weights[0][:, None] * (y - mean_in) * per_in
        return np.where(members > 0, inside, -weights[1][:, None] * (y - mean_out) * per_out)


def _group_indicator(first: int, n_rows: int, n_models: int, n_groups: int) -> Array:
    """[groups, rows]: which group each of the models first..first+n_rows-1 falls in; groups are runs of models."""
    group = (first + np.arange(n_rows)) * n_groups // n_models
    return (np.arange(n_groups)[:, None] == group[None, :]).astype(np.float64)

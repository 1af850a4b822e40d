"""Turns models of random subsets into the predicted effect of removing a whole set S: the additive baseline.

The margin of example j is taken to fall by the sum of the contrasts of the members of S,

    delta_j(S) = sum over i in S of ( E[margin_j | i in] - E[margin_j | i out] ),

and the fall is laid under the margins observed in models of all of D to give a probability:

    D_j(S) = P_j(0) - P_j(delta_j(S)),   P_j(x) = P[margin_j - x is large enough to be correct]

over the reference models. Each example is read as in what it stands for: held-out examples over all models, retained ones
over the models that trained on them, members of S over those that did not (plus their own memorization).

Subsets of one size put an example in by taking another out, so their contrasts leave out what the mean example
contributes; subsets of a range of sizes keep part of it. Blind to redundancy: where the neighbours of an example cover for
it, its contrast is near zero, and so is the sum over a whole class, whose removal together is anything but. DESIGN.md
section 3 has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from infl.records import Array, Columns, Effects, ForgetSet, InputError, OutcomeSource, Reading
from infl.scores.contrasts import Sums, sum_pairs, weights_of_reading

MOST_REPLICATES = 64
N_THRESHOLDS = 8


def predict_additive(
    forget_set: ForgetSet, *, design: OutcomeSource, reference: OutcomeSource, n_classes: int, n_columns: int = 4096
) -> Effects:
    """Predict the effect of untraining S on every example by summing margin contrasts (see the module's text).

    design: models of random subsets, with margins; reference: models of all of D.
    n_columns: examples handled at once. Bounds the memory, does not affect results.

    Returns Effects whose replicates are the pseudo-values of up to 64 groups of consecutive models, design and reference
    alike: the models, not the examples, are what was sampled. NaN where a contrast of a member has no estimate.

    Raises:
        InputError: where there are no models or no reference models.
    """
    if not reference.n_models:
        raise InputError("effects are measured from models of all of D, and this run has none; train with --references")
    n_train, n_groups = design.n_train, min(MOST_REPLICATES, design.n_models, reference.n_models)
    ids = np.array(forget_set.ids)
    retained, held_out = np.flatnonzero(forget_set.retained(n_train)), np.arange(n_train, design.n_columns)
    parts: list[tuple[Array, Reading]] = [(ids, "left-out")]
    for chunk in _chunks(retained, n_columns):
        parts.append((chunk, "trained"))
    for chunk in _chunks(held_out, n_columns):
        parts.append((chunk, "held-out"))

    thresholds = _right_from_margin(reference, n_classes)
    by_group = _group_indicator(0, reference.n_models, reference.n_models, n_groups)
    effect = np.empty(design.n_columns)
    replicates = np.empty((n_groups, design.n_columns))
    for columns, reading in parts:
        fall = _sum_contrasts(design, ids, columns, reading, n_groups)
        response = _margin_response(reference, columns, thresholds)
        value, by_reference = response(fall.value)
        slope = (response(fall.value + 0.05)[0] - response(fall.value - 0.05)[0]) / 0.1
        effect[columns] = value
        deviations = slope * fall.by_group + by_group @ (by_reference - value) / reference.n_models
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


@dataclass(frozen=True)
class _Fall:
    """Predicted fall of the margin, [columns], and what each group of models contributes to its error, [groups, columns]."""

    value: Array
    by_group: Array


def _sum_contrasts(design: OutcomeSource, ids: Array, columns: Array, reading: Reading, n_groups: int) -> _Fall:
    sums = sum_pairs(design, sources=ids, columns=columns, reading=reading, outcome="margin")
    coefficients = _Coefficients.of(sums, own=reading == "left-out")
    own: _Coefficients | None = None
    if reading == "left-out":
        # A member's own contrast is its memorization: over all models, not over those that left it out.
        all_models = sum_pairs(design, sources=ids, columns=columns, reading="held-out", outcome="margin")
        square = (np.broadcast_to(array, (len(ids), len(ids))) for array in vars(all_models).values())
        own = _Coefficients.of(Sums(*(np.diagonal(array)[None] for array in square)))
    value = coefficients.value + (own.value if own is not None else 0)

    by_group, n_seen = np.zeros((n_groups, len(columns))), 0
    for block in design.blocks(columns):
        members, y = block.masks[:, ids].astype(np.float64), block.of("margin").astype(np.float64)
        weights = weights_of_reading(block.masks, reading, columns)
        part = coefficients.contributions(members, y)
        part = part if weights is None else np.where(weights, part, 0.0)
        if own is not None:
            part = part + np.where(members > 0, (y - own.mean_in) * own.per_in, -(y - own.mean_out) * own.per_out)
        by_group += _group_indicator(n_seen, len(part), design.n_models, n_groups) @ part
        n_seen += len(part)
    return _Fall(value, by_group)


@dataclass(frozen=True)
class _Coefficients:
    """A sum of contrasts as a linear function of the outcomes: means and 1/counts, [sources, columns]; value [columns]."""

    mean_in: Array
    mean_out: Array
    per_in: Array
    per_out: Array
    value: Array

    @staticmethod
    def of(sums: Sums, *, own: bool = False) -> _Coefficients:
        # An empty side has no mean: its count becomes NaN, and so does all that rests on it.
        n_in, n_out = (np.where(count > 0, count, np.nan) for count in (sums.n_in, sums.n - sums.n_in))
        mean_in, mean_out = sums.y_in / n_in, (sums.y - sums.y_in) / n_out
        per_in, per_out = 1 / n_in, 1 / n_out
        arrays = [np.broadcast_to(a, mean_in.shape).copy() for a in (mean_in, mean_out, per_in, per_out)]
        if own:
            for array in arrays:
                np.fill_diagonal(array, 0.0)
        mean_in, mean_out, per_in, per_out = arrays
        return _Coefficients(mean_in, mean_out, per_in, per_out, (mean_in - mean_out).sum(axis=0))

    def contributions(self, members: Array, y: Array) -> Array:
        """Each model's part in the error of the summed contrast, [models, columns]; over all models they sum to zero."""
        slope = members @ (self.per_in + self.per_out) - self.per_out.sum(axis=0)
        level = members @ (self.mean_in * self.per_in + self.mean_out * self.per_out)
        return y * slope - (level - (self.mean_out * self.per_out).sum(axis=0))


def _margin_response(
    reference: OutcomeSource, columns: Columns, thresholds: Array
) -> Callable[[Array], tuple[Array, Array]]:
    """The function fall [columns] -> (effect [columns], effect in each reference model [R, columns])."""
    margins = np.concatenate([block.of("margin") for block in reference.blocks(columns)]).astype(np.float64)
    n_models = len(margins)
    # Silverman's rule; the least width keeps examples on which all models agree from becoming a step.
    width = np.maximum(0.9 * margins.std(axis=0) * n_models**-0.2, 0.25)

    def probability(fall: Array) -> Array:
        shifted = (margins - fall) / width
        return np.mean([ndtr(shifted - threshold / width) for threshold in thresholds], axis=0)

    before = probability(np.zeros(margins.shape[1]))

    def respond(fall: Array) -> tuple[Array, Array]:
        by_model = before - probability(fall)
        return by_model.mean(axis=0), by_model

    return respond


def _right_from_margin(reference: OutcomeSource, n_classes: int) -> Array:
    """Margins at which models turn from wrong to right, as equally likely values.

    A margin above 0 is always right (p > 1/2), one below -log(c - 1) always wrong (p < 1/c); in between it depends on how
    the rest spreads over the other classes, which the reference models show.
    """
    lowest = -np.log(max(n_classes - 1, 1))
    edges = np.linspace(lowest, 0.0, 21)
    n_right, n_all = np.zeros(20), np.zeros(20)
    for block in reference.blocks():
        margin, correct = block.of("margin"), block.of("correct")
        between = (margin > lowest) & (margin < 0)
        bins = np.clip(np.digitize(margin[between], edges) - 1, 0, 19)
        n_right += np.bincount(bins, weights=correct[between], minlength=20)
        n_all += np.bincount(bins, minlength=20)
    # One right and one wrong pseudo-observation per 20 bins, spread as a straight line, where nothing was seen.
    prior = (np.arange(20) + 0.5) / 20
    share = np.maximum.accumulate((n_right + prior) / (n_all + 1))
    levels = (np.arange(N_THRESHOLDS) + 0.5) / N_THRESHOLDS
    middles = (edges[:-1] + edges[1:]) / 2
    return np.interp(levels, [0.0, *share, 1.0], [lowest, *middles, 0.0])


def _chunks(columns: Array, size: int) -> list[Array]:
    return [columns[start : start + size] for start in range(0, len(columns), size)]


def _group_indicator(first: int, n_rows: int, n_models: int, n_groups: int) -> Array:
    """[groups, rows]: which group each of the models first..first+n_rows-1 falls in; groups are runs of models."""
    group = (first + np.arange(n_rows)) * n_groups // n_models
    return (np.arange(n_groups)[:, None] == group[None, :]).astype(np.float64)

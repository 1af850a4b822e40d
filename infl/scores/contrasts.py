"""Turns outcomes into differences in means: outcome when an example is in training minus outcome when it is out.

For source i and column j over the models t that count for the column (c_tj in {0, 1}, by the reading):

    contrast(i, j) = sum_t c a_t M_ti y_tj / sum_t c a_t M_ti  -  sum_t c b_t (1 - M_ti) y_tj / sum_t c b_t (1 - M_ti)

with M the inclusion mask, y the outcome, and a_t = 1 - k_t/n, b_t = k_t/n for a subset of k_t of the n examples (of the
n - 1 others, where j is an example that the reading fixes to be in or out). Where all
subsets have one size this is the plain difference in means (Feldman & Zhang 2020, section 2; there without errors).
Where sizes differ, larger subsets hold i more often and predict everything better, and the plain difference would credit
i with that; the weights give both sides the same mix of sizes (overlap weights, Li, Morgan & Zaslavsky 2018, section 2.2:
of all weights that balance, the ones of least variance). Among subsets of one size i comes in by taking another out: the
contrast is i's effect less the mean effect of the others, an O(1/n) part that matters only when contrasts are summed.

The standard error is Welch's, sqrt(d (v1/n1 + v0/n0)) with Kish's effective numbers (sum w)^2 / sum w^2 for n1 and n0. For
0/1 outcomes v is p (1 - p) after one success and one failure were added to the side (Agresti & Caffo 2000), for margins the
sample variance. The design factor d is 1 where models are independent; in strata see `spread`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr

from infl.records import Array, Columns, Estimate, InputError, OutcomeKind, Outcomes, OutcomeSource, Reading
from infl.scores.evidence import p_values
from infl.scores.spread import Spread, measure_spread


@dataclass(frozen=True)
class Side:
    """Sums over the models on one side of a contrast, weights w: n models, w, w^2, w y, w y^2."""

    n: Array
    w: Array
    ww: Array
    y: Array
    yy: Array

    @staticmethod
    def of_counts(n: Array, right: Array) -> Side:
        """Models of one weight and 0/1 outcomes: how many, and how many of them right."""
        return Side(n, n, n, right, right)

    def __add__(self, other: Side) -> Side:
        return Side(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def mean(self) -> Array:
        """Weighted mean of the outcomes; NaN where there are no models."""
        return self.y / self.weight()

    def weight(self) -> Array:
        """Sum of the weights; NaN where there are no models."""
        return np.where((self.n > 0) & (self.w > 0), self.w, np.nan)

    def effective(self) -> Array:
        """Independent models of equal weight that would tell as much; NaN where there are fewer than two."""
        effective = self.weight() ** 2 / np.where(self.n > 0, self.ww, np.nan)
        return np.where((self.n > 1) & (effective > 1), effective, np.nan)

    def variance_of_mean(self) -> Array:
        """By the sample variance; NaN where there are fewer than two models."""
        mean = self.mean()
        return np.maximum(self.yy / self.weight() - mean * mean, 0) / (self.effective() - 1)

    def with_two_more(self) -> tuple[Array, Array]:
        """Mean of 0/1 outcomes and its variance after one success and one failure; NaN where there are fewer than two."""
        effective = self.effective()
        mean = (self.mean() * effective + 1) / (effective + 2)
        return mean, mean * (1 - mean) / (effective + 2)


@dataclass(frozen=True)
class Sums:
    """What contrasts are made from: models that trained on the source, and models that did not. Sums of two runs add up."""

    inside: Side
    outside: Side
    spread: Spread

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.inside + other.inside, self.outside + other.outside, self.spread + other.spread)

    def estimate(self, *, reading: Reading | Literal["own"], outcome: OutcomeKind) -> Estimate:
        """Difference in means with error and p-value; NaN where a side is empty (those: has fewer than two models)."""
        value = self.inside.mean() - self.outside.mean()
        factor = self.spread.design_factor(np.nan_to_num(value) if reading == "own" else 0.0)
        if outcome == "correct":
            (high, of_high), (low, of_low) = self.inside.with_two_more(), self.outside.with_two_more()
            center, se = high - low, np.sqrt(factor * (of_high + of_low))
            p = self._p_values(factor)
        else:
            center = value
            se = np.sqrt(factor * (self.inside.variance_of_mean() + self.outside.variance_of_mean()))
            with np.errstate(divide="ignore", invalid="ignore"):
                p = np.where(se > 0, 2 * ndtr(-np.abs(value / se)), np.where(np.isnan(se), np.nan, 1.0))
        return Estimate(value, se, self.inside.n, self.outside.n, reading, outcome, center, p)

    def _p_values(self, factor: Array) -> Array:
        """By how far masks shuffled against outcomes would bring the contrast."""
        inside, outside = self.inside.effective(), self.outside.effective()
        of_one_size = (np.abs(inside / self.inside.n - 1) < 1e-6) & (np.abs(outside / self.outside.n - 1) < 1e-6)
        right_in, right_out = inside * self.inside.mean(), outside * self.outside.mean()
        return p_values(inside, right_in, outside, right_out, step=np.where(of_one_size, 0.5, 0.0), factor=factor)


def sum_pairs(
    source: OutcomeSource,
    *,
    sources: Array,
    columns: Columns,
    reading: Reading,
    outcome: OutcomeKind,
    n_rows: int = 512,
) -> Sums:
    """Sum over all models for every pair of a source in `sources` (ids of D) and a column in `columns`, a slice or numbers.

    Memory: a few arrays [n_rows, columns] and [sources, columns], whatever the number of models. `n_rows` does not
    affect results beyond rounding.

    Raises:
        InputError: where a reading asks for columns outside what it is defined on, or there are no models.
    """
    numbers = np.arange(source.n_columns)[columns]
    if reading != "held-out" and numbers.max(initial=0) >= source.n_train:
        raise InputError(f"reading {reading}: columns must be training examples (0..{source.n_train - 1})")
    total: Sums | None = None
    for block in source.blocks(columns, n_rows=n_rows):
        part = _sum_block(block, sources, columns, reading, outcome)
        total = part if total is None else total + part
    return _require(total)


def sum_own(source: OutcomeSource, *, outcome: OutcomeKind, n_rows: int = 128) -> Sums:
    """Sum over all models for every training example and its own outcome, [n]."""
    total: Sums | None = None
    for block in source.blocks(slice(0, source.n_train), n_rows=n_rows):
        y, masks = block.of(outcome).astype(np.float64), block.masks.astype(np.float64)
        in_weights, out_weights = weights_of_sizes(block.masks, "held-out")
        weights = np.stack([np.ones(len(y)), in_weights, in_weights**2, out_weights, out_weights**2])
        n, w, ww, w_out, ww_out = weights @ masks
        ones, sum_out, squares_out = weights.sum(axis=1)[[0, 3, 4]]
        wy, wy_out = weights[[1, 3]] @ (masks * y)
        wyy, wyy_out = weights[[1, 3]] @ (masks * y * y)
        inside = Side(n, w, ww, wy, wyy)
        everywhere, squared = out_weights @ y, out_weights @ (y * y)
        outside = Side(ones - n, sum_out - w_out, squares_out - ww_out, everywhere - wy_out, squared - wyy_out)
        part = Sums(inside, outside, measure_spread(y, strata=block.strata, own=masks))
        total = part if total is None else total + part
    return _require(total)


def weights_of_sizes(masks: Array, reading: Reading) -> tuple[Array, Array]:
    """Weights of each model on the inside, 1 - p, and on the outside, p, [models].

    p is the chance that a source other than the column is a member: k/n, and of the n - 1 others where the column is known
    to be out (`left-out`) or in (`trained`).
    """
    others = masks.shape[1] - (reading != "held-out")
    members = masks.sum(axis=1, dtype=np.float64) - (reading == "trained")
    share = np.clip(members / max(others, 1), 0, 1)
    return 1 - share, share


def columns_counted(masks: Array, reading: Reading, columns: Columns) -> Array | None:
    """[models, columns] bool: which models count for which column in this reading; None where all do."""
    if reading == "held-out":
        return None
    return masks[:, columns] if reading == "trained" else ~masks[:, columns]


def _sum_block(block: Outcomes, sources: Array, columns: Columns, reading: Reading, outcome: OutcomeKind) -> Sums:
    members = np.ascontiguousarray(block.masks[:, sources].T, dtype=np.float32)
    weights, _ = weights_of_sizes(block.masks, reading)
    y = block.of(outcome)
    counted = columns_counted(block.masks, reading, columns)
    if counted is None:
        ones = np.ones((len(y), 1), np.float32)
    else:
        ones, y = counted.astype(np.float32), y * counted

    def both_sides(x: Array, power: int) -> tuple[Array, Array]:
        return _both_sides(members, weights, x, power)

    n, w, ww, wy = both_sides(ones, 0), both_sides(ones, 1), both_sides(ones, 2), both_sides(y, 1)
    wyy = wy if outcome == "correct" else both_sides(y * y, 1)
    inside, outside = (Side(*(pair[side] for pair in (n, w, ww, wy, wyy))) for side in (0, 1))
    return Sums(inside, outside, measure_spread(y, counted=counted, strata=block.strata))


def _both_sides(members: Array, weights: Array, x: Array, power: int) -> tuple[Array, Array]:
    """Sums of w^power x over the models with the source, [sources, columns], and over those without.

    members: [sources, models]; weights: of the models on the inside, one less those on the outside; x: [models, columns].
    """
    if power and np.ptp(weights) > 0:
        own, other = (w[:, None] ** power * x for w in (weights, 1 - weights))
        return _split(members, own)[0], _split(members, other)[1]
    inside, outside = _split(members, x)  # one size: the weights are a factor
    return inside * weights[0] ** power, outside * (1 - weights[0]) ** power


def _split(members: Array, x: Array) -> tuple[Array, Array]:
    x = x.astype(np.float32)
    inside = (members @ x).astype(np.float64)
    return inside, x.sum(axis=0, dtype=np.float64) - inside


def _require(total: Sums | None) -> Sums:
    if total is None:
        raise InputError("no models to score: the run holds none that are complete and finite; train some first")
    return total

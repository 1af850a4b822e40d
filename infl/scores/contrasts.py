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

from infl.records import Array, Columns, Estimate, InputError, OutcomeKind, OutcomeSource, Reading
from infl.scores.evidence import normal_p_values, p_values
from infl.scores.sides import Side, columns_counted, weights_of_sizes
from infl.scores.spread import Spread, measure_spread
from infl.scores.totals import PairTotals, known_totals, total_block


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
        mean_out = self.outside.mean()
        value = self.inside.mean() - mean_out
        factor = self.spread.design_factor(np.nan_to_num(value) if reading == "own" else 0.0)
        if outcome == "correct":
            of_in, of_out = self.inside.variance_with_two_more(), self.outside.variance_with_two_more()
            se = np.sqrt(factor * (of_in + of_out))
            p = self._p_values(factor)
        else:
            se = np.sqrt(factor * (self.inside.variance_of_mean() + self.outside.variance_of_mean()))
            p = normal_p_values(value, se)
        return Estimate(value, se, self.inside.n, self.outside.n, reading, outcome, mean_out, p)

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
    numbers = np.arange(source.n_columns)[columns] if isinstance(columns, slice) else columns
    if reading != "held-out" and numbers.max(initial=0) >= source.n_train:
        raise InputError(f"reading {reading}: columns must be training examples (0..{source.n_train - 1})")
    totals, spread = total_pairs(
        source, sources=sources, columns=columns, reading=reading, outcome=outcome, n_rows=n_rows
    )
    return Sums(*totals.sides(), spread)


def total_pairs(
    source: OutcomeSource,
    *,
    sources: Array,
    columns: Columns,
    reading: Reading,
    outcome: OutcomeKind,
    n_rows: int = 512,
) -> tuple[PairTotals, Spread]:
    """What `sum_pairs` is made of, in the smallest form: products over models, or those that the source knows, and spread.

    The spread is always worked out: it takes no products, and models of one stratum cannot be summed apart.
    """
    totals = known_totals(source, sources, columns, reading, outcome)
    known, spread = totals is not None, None
    for block in source.blocks(columns, n_rows=n_rows):
        if not known:
            part = total_block(block, sources, columns, reading, outcome)
            totals = part if totals is None else totals + part
        counted = columns_counted(block.masks, reading, columns)
        y = block.of(outcome)
        noise = measure_spread(y, counted=counted, strata=block.strata)
        spread = noise if spread is None else spread + noise
    if totals is None or spread is None:
        raise no_models()
    return totals, spread


def sum_own(source: OutcomeSource, *, outcome: OutcomeKind, n_rows: int = 128) -> Sums:
    """Sum over all models for every training example and its own outcome, [n]."""
    total: Sums | None = None
    for block in source.blocks(slice(0, source.n_train), n_rows=n_rows):
        y, masks = block.of(outcome).astype(np.float64), block.masks.astype(np.float64)
        in_weights, out_weights = weights_of_sizes(block.masks, "held-out")
        weights = np.stack([np.ones(len(y)), in_weights, in_weights**2, out_weights, out_weights**2])
        # Sums of weights and of outcomes are added up in the same order, so that a mean of equal outcomes is exactly theirs.
        n, w, ww, w_out, ww_out = weights @ masks
        _, wy, _, wy_out, _ = weights @ (masks * y)
        _, wyy, _, wyy_out, _ = weights @ (masks * y * y)
        ones, _, _, sum_out, squares_out = weights @ np.ones_like(y)
        _, _, _, everywhere, _ = weights @ y
        _, _, _, squared, _ = weights @ (y * y)
        inside = Side(n, w, ww, wy, wyy)
        outside = Side(ones - n, sum_out - w_out, squares_out - ww_out, everywhere - wy_out, squared - wyy_out)
        part = Sums(inside, outside, measure_spread(y, strata=block.strata, own=masks))
        total = part if total is None else total + part
    if total is None:
        raise no_models()
    return total


def no_models() -> InputError:
    """What is said where there is nothing to sum."""
    return InputError("no models to score: the run holds none that are complete and finite; train some first")

"""Turns outcomes into differences in means: outcome when an example is in training minus outcome when it is out.

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
0/1 outcomes v is p (1 - p) after one success and one failure were added to the side (Agresti & Caffo 2000), for margins the
sample variance. The design factor d is 1 where models are independent; in strata see `spread`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from infl.records import Array, Columns, Estimate, InputError, OutcomeKind, Outcomes, OutcomeSource, ProtocolName
from infl.scores.evidence import normal_p_values, p_values


@dataclass(frozen=True)
class Sums:
    """What contrasts are made from: models that trained on the source, and models that did not. Sums of two runs add up."""

    inside: Side
    outside: Side
    spread: Spread

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.inside + other.inside, self.outside + other.outside, self.spread + other.spread)

    def estimate(self, *, protocol: ProtocolName | Literal["own"], outcome: OutcomeKind) -> Estimate:
        """Difference in means with error and p-value; NaN where a side is empty (those: has fewer than two models)."""
        mean_out = self.outside.mean()
        value = self.inside.mean() - mean_out
        factor = self.spread.design_factor(np.nan_to_num(value) if protocol == "own" else 0.0)
        if outcome == "correct":
            of_in, of_out = self.inside.variance_with_two_more(), self.outside.variance_with_two_more()
            se = np.sqrt(factor * (of_in + of_out))
            p = self._p_values(factor)
        else:
            se = np.sqrt(factor * (self.inside.variance_of_mean() + self.outside.variance_of_mean()))
            p = normal_p_values(value, se)
        return Estimate(value, se, self.inside.n, self.outside.n, protocol, outcome, mean_out, p)

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
    protocol: ProtocolName,
    outcome: OutcomeKind,
    n_rows: int = 512,
) -> Sums:
    """Sum over all models for every pair of a source in `sources` (ids of D) and a column in `columns`, a slice or numbers.

    Memory: a few arrays [n_rows, columns] and [sources, columns], whatever the number of models. `n_rows` does not
    affect results beyond rounding.

    Raises:
        InputError: where a protocol asks for columns outside what it is defined on, or there are no models.
    """
    numbers = np.arange(source.n_columns)[columns] if isinstance(columns, slice) else columns
    if protocol != "held-out" and numbers.max(initial=0) >= source.n_train:
        raise InputError(f"protocol {protocol}: columns must be training examples (0..{source.n_train - 1})")
    totals, spread = total_pairs(
        source, sources=sources, columns=columns, protocol=protocol, outcome=outcome, n_rows=n_rows
    )
    return Sums(*totals.sides(), spread)


def total_pairs(
    source: OutcomeSource,
    *,
    sources: Array,
    columns: Columns,
    protocol: ProtocolName,
    outcome: OutcomeKind,
    n_rows: int = 512,
) -> tuple[PairTotals, Spread]:
    """What `sum_pairs` is made of, in the smallest form: products over models, and the spread of the columns."""
    totals: PairTotals | None = None
    spread: Spread | None = None
    for block in source.blocks(columns, n_rows=n_rows):
        part = total_block(block, sources, columns, protocol, outcome)
        totals = part if totals is None else totals + part
        counted = columns_counted(block.masks, protocol, columns)
        noise = measure_spread(block.of(outcome), counted=counted, strata=block.strata)
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

    def variance_with_two_more(self) -> Array:
        """Of the mean of 0/1 outcomes, after one success and one failure; NaN where there are fewer than two."""
        effective = self.effective()
        mean = (self.mean() * effective + 1) / (effective + 2)
        return mean * (1 - mean) / (effective + 2)


def weights_of_sizes(masks: Array, protocol: ProtocolName) -> tuple[Array, Array]:
    """Weights of each model on the inside, 1 - p, and on the outside, p, [models].

    p is the chance that a source other than the column is a member: k/n, and of the n - 1 others where the column is known
    to be out (`left-out`) or in (`trained`).
    """
    others = masks.shape[1] - (protocol != "held-out")
    members = masks.sum(axis=1, dtype=np.float64) - (protocol == "trained")
    share = np.clip(members / max(others, 1), 0, 1)
    return 1 - share, share


def columns_of(source: OutcomeSource, protocol: ProtocolName) -> slice:
    """The columns that a protocol is about: those of H, or those of D."""
    return slice(source.n_train, source.n_columns) if protocol == "held-out" else slice(0, source.n_train)


def columns_counted(masks: Array, protocol: ProtocolName, columns: Columns) -> Array | None:
    """[models, columns] bool: which models count for which column in this reading; None where all do."""
    if protocol == "held-out":
        return None
    return masks[:, columns] if protocol == "trained" else ~masks[:, columns]


@dataclass(frozen=True)
class Spread:
    """Sums over the models that count for a column; they add up over models.

    Attributes:
        n, y, yy: [columns] models, outcomes, squared outcomes.
        within: [4, columns] degrees of freedom, y y, y x and x x within strata, where x is whether the column's own
            example is in (0 in contrasts of pairs).
        across: [3, columns] sums of x, y x and x x over all models.
    """

    n: Array
    y: Array
    yy: Array
    within: Array
    across: Array

    def __add__(self, other: Spread) -> Spread:
        return Spread(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def take(self, columns: slice) -> Spread:
        """Of some of the columns, counted from the first."""
        return Spread(*(array[..., columns] for array in vars(self).values()))

    def design_factor(self, own: Array | float = 0.0) -> Array:
        """Variance within strata over variance among all models, [columns]; 1 where there are no strata or no variance.

        Args:
            own: Contrast of each column with its own example, taken off its outcomes.
        """
        freedom, yy, yx, xx = self.within
        x, across_yx, across_xx = self.across
        within = yy - 2 * own * yx + own**2 * xx
        mean_square = (self.y - own * x) ** 2 / np.maximum(self.n, 1)
        everywhere = self.yy - 2 * own * across_yx + own**2 * across_xx - mean_square
        usable = (freedom > 0) & (self.n > 1) & (within > 0) & (everywhere > 1e-9 * np.maximum(self.n, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(usable, within / freedom / (everywhere / (self.n - 1)), 1.0)


def measure_spread(
    y: Array, *, counted: Array | None = None, strata: Array | None = None, own: Array | None = None
) -> Spread:
    """Sums of a block: y [models, columns]; counted, own: bool [models, columns]; strata [models]."""
    columns = y.shape[1]
    y = y.astype(np.float64)
    n = np.full(columns, float(len(y))) if counted is None else counted.sum(axis=0, dtype=np.float64)
    y = y if counted is None else y * counted
    x = np.zeros((len(y), 1)) if own is None else own.astype(np.float64)
    across = np.stack([np.broadcast_to(part.sum(axis=0), columns) for part in (x, y * x, x * x)])
    # A reading that counts other models for each column takes the strata apart.
    within = np.zeros((4, columns)) if strata is None or counted is not None else _within_strata(y, x, strata)
    return Spread(n, y.sum(axis=0), (y * y).sum(axis=0), within, across)


def _within_strata(y: Array, x: Array, strata: Array) -> Array:
    order = np.argsort(strata, kind="stable")
    y, x = y[order], x[order]
    starts = np.flatnonzero(np.diff(strata[order], prepend=strata[order[0]] - 1))
    sizes = np.diff(starts, append=len(y))[:, None]
    sum_y, sum_x = np.add.reduceat(y, starts, axis=0), np.add.reduceat(x, starts, axis=0)
    within = np.zeros((4, y.shape[1]))
    within[0] = len(y) - len(starts)
    within[1] = (y * y).sum(axis=0) - (sum_y * sum_y / sizes).sum(axis=0)
    within[2] = (y * x).sum(axis=0) - (sum_y * sum_x / sizes).sum(axis=0)
    within[3] = (x * x).sum(axis=0) - (sum_x * sum_x / sizes).sum(axis=0)
    return within


@dataclass(frozen=True)
class PairTotals:
    """Sums over models for pairs of a source and a column.

    Attributes:
        weights: That all models have inside and outside, where subsets have one size; None where sizes differ.
        arrays: By name, each [sources or 1, columns or 1]. Where subsets have one size: n_in and y_in over the models
            with the source, n and y over all, and squares yy_in and yy of margins; int32 where they count. Where sizes
            differ: what a `Side` holds, as inside_n, inside_w ... outside_y.
    """

    weights: tuple[float, float] | None
    arrays: dict[str, Array]

    def __add__(self, other: PairTotals) -> PairTotals:
        mine, theirs = self, other
        if mine.weights is None or mine.weights != theirs.weights:
            mine, theirs = mine.of_many_sizes(), theirs.of_many_sizes()
        return PairTotals(mine.weights, {name: array + theirs.arrays[name] for name, array in mine.arrays.items()})

    def take(self, columns: slice) -> PairTotals:
        """Of some of the columns, counted from the first."""
        return PairTotals(
            self.weights,
            {name: array if array.shape[1] == 1 else array[:, columns] for name, array in self.arrays.items()},
        )

    def sides(self) -> tuple[Side, Side]:
        """Models with the source, and models without."""
        arrays = self.of_many_sizes().arrays
        return _side("inside", arrays), _side("outside", arrays)

    def of_many_sizes(self) -> PairTotals:
        """The same sums with the weight of their size in them, so that those of other sizes can be added."""
        if self.weights is None:
            return self
        arrays: dict[str, Array] = {}
        given = {name: array.astype(np.float64) for name, array in self.arrays.items()}
        for side, weight in zip(("inside", "outside"), self.weights, strict=True):
            of_side = {
                name: given[f"{name}_in"] if side == "inside" else given[name] - given[f"{name}_in"]
                for name in ("n", "y", "yy")
                if name in given
            }
            n = of_side.pop("n")
            arrays |= {f"{side}_n": n, f"{side}_w": n * weight, f"{side}_ww": n * weight**2}
            arrays |= {f"{side}_{name}": array * weight for name, array in of_side.items()}
        return PairTotals(None, arrays)


def _side(side: str, arrays: dict[str, Array]) -> Side:
    n, w, ww, y = (arrays[f"{side}_{name}"] for name in ("n", "w", "ww", "y"))
    return Side(n, w, ww, y, arrays.get(f"{side}_yy", y))  # of 0/1 outcomes the squares are the outcomes, at one weight


def total_block(
    block: Outcomes, sources: Array, columns: Columns, protocol: ProtocolName, outcome: OutcomeKind
) -> PairTotals:
    """Sum over the models of a block, read with these columns alone."""
    members = np.ascontiguousarray(block.masks[:, sources].T, dtype=np.float32)
    weights, _ = weights_of_sizes(block.masks, protocol)
    y = block.of(outcome)
    counted = columns_counted(block.masks, protocol, columns)
    if counted is None:
        ones = np.ones((len(y), 1), np.float32)
    else:
        ones, y = counted.astype(np.float32), y * counted
    terms = {"n": ones, "y": y} | ({} if outcome == "correct" else {"yy": y * y})
    if np.ptp(weights) > 0:
        return PairTotals(None, _weighted_totals(members, weights, terms))
    counts = {"n", "y"} if outcome == "correct" else {"n"}
    arrays: dict[str, Array] = {}
    for name, x in terms.items():
        dtype = np.int32 if name in counts else np.float64
        arrays[f"{name}_in"] = (members @ x).astype(dtype)
        arrays[name] = x.sum(axis=0, dtype=np.float64)[None].astype(dtype)
    return PairTotals((float(weights[0]), float(1 - weights[0])), arrays)


def _weighted_totals(members: Array, weights: Array, terms: dict[str, Array]) -> dict[str, Array]:
    powers = {"n": ("n", 0), "w": ("n", 1), "ww": ("n", 2), "y": ("y", 1), "yy": ("yy", 1)}
    arrays: dict[str, Array] = {}
    for name, (term, power) in powers.items():
        if term in terms:
            of_inside, of_outside = (
                (w[:, None] ** power * terms[term]).astype(np.float32) for w in (weights, 1 - weights)
            )
            arrays[f"inside_{name}"] = (members @ of_inside).astype(np.float64)
            everywhere = of_outside.sum(axis=0, dtype=np.float64)
            arrays[f"outside_{name}"] = everywhere - (members @ of_outside).astype(np.float64)
    return arrays

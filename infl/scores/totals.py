"""Turns a block of outcomes into the sums over models that contrasts of pairs are made from, of whichever models: they add up.

They are what takes matrix products, so they are worth keeping. Where subsets have one size and outcomes are 0/1 they are
counts: no order of the models, and no way to split them, changes a bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from infl.records import Array, Columns, OutcomeKind, Outcomes, OutcomeSource, Reading
from infl.scores.sides import Side, columns_counted, weights_of_sizes


@dataclass(frozen=True)
class PairTotals:
    """Sums over models for pairs of a source and a column.

    weights: that all models have inside and outside, where subsets have one size; None where sizes differ.
    arrays: by name, each [sources or 1, columns or 1]. Where subsets have one size: n_in and y_in over the models with the
        source, n and y over all, and squares yy_in and yy of margins; int32 where they count. Where sizes differ: what a
        `Side` holds, as inside_n, inside_w ... outside_y.
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


@runtime_checkable
class SummedSource(Protocol):
    """Outcomes of which sums of pairs are known, so that they need not be worked out."""

    def totals(self, columns: Columns, *, reading: Reading, outcome: OutcomeKind) -> PairTotals | None:
        """Of all sources and these columns, over all models; None where they are not known."""
        ...


def known_totals(
    source: OutcomeSource, sources: Array, columns: Columns, reading: Reading, outcome: OutcomeKind
) -> PairTotals | None:
    """The sums where the source knows them, which it does for all sources together."""
    if not isinstance(source, SummedSource) or not np.array_equal(sources, np.arange(source.n_train)):
        return None
    return source.totals(columns, reading=reading, outcome=outcome)


def total_block(
    block: Outcomes, sources: Array, columns: Columns, reading: Reading, outcome: OutcomeKind
) -> PairTotals:
    """Sum over the models of a block, read with these columns alone."""
    members = np.ascontiguousarray(block.masks[:, sources].T, dtype=np.float32)
    weights, _ = weights_of_sizes(block.masks, reading)
    y = block.of(outcome)
    counted = columns_counted(block.masks, reading, columns)
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

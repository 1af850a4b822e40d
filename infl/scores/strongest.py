"""Turns outcomes into the pairs worth keeping of an influence matrix that is never held.

One pass over tiles of columns. A tile is one matrix product of masks and outcomes: where subsets have one size and outcomes are
0/1, the counts that the `left-out` reading needs ride in the same product, 4,096 to a model beside the outcome, and both
come out exact. Of each tile the strongest pairs of every column and of every source are kept, and all with a small
p-value; of the rest only how many there were. What is found at a false discovery rate follows at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from scipy.linalg import blas

from infl.records import Array, Columns, InputError, OutcomeKind, OutcomeSource, Reading
from infl.scores.contrasts import Side, columns_counted
from infl.scores.evidence import PValueCounts, p_values
from infl.scores.influence import influence_blocks
from infl.scores.spread import Spread, measure_spread

PAIRS_AT_ONCE = 1 << 27
ROWS_AT_ONCE = 1024
LEAST_EVIDENT = 0.01  # p-values above it are counted, not told apart
MOST_EVIDENT_PAIRS = 1 << 24  # kept because of their p-value alone
_LEAST_Z = 2.5  # no table of any size has such a p-value at a smaller standardized contrast
_PACK = 4096  # a count of fewer models and a sum below it share the 24 bits of a float32


@dataclass(frozen=True)
class StrongestInfluences:
    """Pairs of a matrix, by target and then by strength; each array has one entry per pair, [pairs].

    source, target: ids of D, and columns; value, se, p, q: as of `infl.influence`, q over all pairs of the matrix.
    n_pairs: pairs of the matrix that have an estimate.
    largest_p: p-value up to which pairs are found at the false discovery rate that was asked for.
    complete: whether all of these are among the pairs.
    """

    source: Array
    target: Array
    value: Array
    se: Array
    p: Array
    q: Array
    n_pairs: int
    largest_p: float
    complete: bool

    def __len__(self) -> int:
        return len(self.source)


def strongest_influences(
    outcomes: OutcomeSource,
    *,
    readings: Sequence[Reading] = ("left-out", "held-out"),
    outcome: OutcomeKind = "correct",
    n_per_column: int = 256,
    n_per_source: int = 32,
    false_discovery_rate: float = 0.05,
) -> StrongestInfluences:
    """The strongest influences on every column, of every source, and all that are found at a false discovery rate.

    readings: of the columns of D (`left-out` or `trained`) and of H (`held-out`); q-values are over all of them together.
    n_per_column: pairs of each column with the largest |value|.
    n_per_source: pairs of each source with the largest |value| among those with p <= 0.01.
    false_discovery_rate: pairs with a q-value up to it are kept too, unless there are more than 16 million.

    q-values are those of Benjamini & Hochberg (1995) to 0.12%, see `PValueCounts`; 1 for p-values above 0.01.
    Memory: a float32 for each of 134 million pairs at once, and what is kept. With subsets of one size and outcomes 0/1 the
    time is little more than that of one product [n, T] x [T, columns]; over a range of sizes five products.

    Raises:
        InputError: where there are no models or no such columns, the outcome was not recorded, or a number is out of range.

    Example:
        >>> import numpy as np, infl
        >>> masks = np.random.RandomState(0).rand(200, 9).argsort(axis=1) < 6
        >>> taught = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 4]])  # example 4 teaches held-out column 9
        >>> found = infl.strongest_influences(taught, readings=["held-out"], n_per_column=1)
        >>> found.source, found.target, found.value.round(2)
        (array([4], dtype=int32), array([9], dtype=int32), array([1.], dtype=float32))
    """
    if n_per_column < 1 or n_per_source < 0 or not 0 < false_discovery_rate < 1:
        raise InputError(
            "strongest influences: expected at least 1 pair a column, 0 a source, and a false discovery rate in (0, 1); "
            f"got {n_per_column}, {n_per_source} and {false_discovery_rate}"
        )
    kept = _Kept(outcomes.n_train, n_per_column, n_per_source)
    with ThreadPoolExecutor() as threads:
        for reading in readings:
            for tile in _tiles(outcomes, reading, outcome):
                kept.add(list(threads.map(lambda part, tile=tile: _select(tile, part, kept), _parts(tile))))
    return kept.finish(false_discovery_rate)


class _Tile(Protocol):
    """Columns of the matrix, each [n] when asked for."""

    @property
    def columns(self) -> Array: ...

    def values(self, k: int) -> tuple[Array, Array, int]:
        """Contrasts of the k-th column, 0 where there is none; which may have a p-value below the least; how many are."""
        ...

    def evidence(self, k: int, sources: Array) -> tuple[Array, Array]:
        """Standard errors and p-values of some of them."""
        ...


@dataclass(frozen=True)
class _Pairs:
    source: Array
    target: Array
    value: Array
    se: Array
    p: Array

    @staticmethod
    def join(parts: Sequence[_Pairs]) -> _Pairs:
        return _Pairs(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(_Pairs)))

    def take(self, wanted: Array) -> _Pairs:
        return _Pairs(*(getattr(self, field.name)[wanted] for field in fields(_Pairs)))


def _select(tile: _Tile, part: range, kept: _Kept) -> tuple[_Pairs, _Pairs, int]:
    """Of some columns of a tile the strongest pairs of each, the evident ones, and how many pairs there are."""
    strongest, evident, n_pairs = [], [], 0
    for k in part:
        value, candidates, n_of_column = tile.values(k)
        n_pairs += n_of_column
        magnitude = np.abs(value)
        sources = _largest(magnitude, kept.n_per_column)
        for found, among in ((strongest, sources), (evident, np.flatnonzero(candidates))):
            se, p = tile.evidence(k, among)
            target = np.full(len(among), tile.columns[k], np.int32)
            pairs = _Pairs(among.astype(np.int32), target, value[among].astype(np.float32), se.astype(np.float32), p)
            found.append(pairs.take(np.isfinite(p) if found is strongest else p <= LEAST_EVIDENT))
    return _Pairs.join(strongest), _Pairs.join(evident), n_pairs


def _largest(magnitude: Array, n: int) -> Array:
    """Where the n largest are, largest first. What one value in sixteen says of the rest spares ordering them all."""
    candidates = np.arange(len(magnitude))
    if len(magnitude) > 64 * n:
        sample = magnitude[::16]
        n_expected = n // 16 + 4 * int(np.sqrt(n // 16 + 1)) + 4
        above = np.flatnonzero(magnitude >= np.partition(sample, -n_expected)[-n_expected])
        candidates = above if len(above) >= n else candidates
    among = magnitude[candidates]
    if len(among) > n:
        candidates = candidates[np.argpartition(-among, n - 1)[:n]]
    return candidates[np.argsort(-magnitude[candidates], kind="stable")]


class _Kept:
    """What is kept of the tiles so far."""

    def __init__(self, n_train: int, n_per_column: int, n_per_source: int) -> None:
        self.n_train, self.n_per_column, self.n_per_source = n_train, n_per_column, n_per_source
        self.n_pairs, self.counts, self.least_p_dropped = 0, PValueCounts.of([]), np.inf
        self.strongest: list[_Pairs] = []
        self.evident: list[_Pairs] = []
        self.of_sources: _Pairs | None = None
        self.least_of_source = np.zeros(n_train, np.float32)

    def add(self, parts: Sequence[tuple[_Pairs, _Pairs, int]]) -> None:
        evident = _Pairs.join([part[1] for part in parts])
        self.strongest += [part[0] for part in parts]
        self.n_pairs += sum(part[2] for part in parts)
        self.counts += PValueCounts.of([evident.p])
        self._keep_of_sources(evident)
        self.evident.append(evident)
        if sum(len(pairs.p) for pairs in self.evident) > MOST_EVIDENT_PAIRS:
            joined = _Pairs.join(self.evident)
            bound = np.partition(joined.p, MOST_EVIDENT_PAIRS // 2)[MOST_EVIDENT_PAIRS // 2]
            self.least_p_dropped = min(self.least_p_dropped, bound)
            self.evident = [joined.take(joined.p < bound)]

    def finish(self, rate: float) -> StrongestInfluences:
        if not self.strongest:
            raise InputError("strongest influences: name at least one reading")
        counts = self.counts.with_total(self.n_pairs)
        largest_p = counts.largest_p(rate)
        evident = _Pairs.join(self.evident)
        found = evident.take(evident.p <= largest_p)
        parts = [*self.strongest, found, *([] if self.of_sources is None else [self.of_sources])]
        pairs = _Pairs.join(parts)
        _, first = np.unique(pairs.target.astype(np.int64) * self.n_train + pairs.source, return_index=True)
        pairs = pairs.take(first)
        pairs = pairs.take(np.lexsort((-np.abs(pairs.value), pairs.target)))
        q = np.where(pairs.p <= LEAST_EVIDENT, counts.q_values(np.minimum(pairs.p, LEAST_EVIDENT)), 1.0)
        complete = largest_p < min(self.least_p_dropped, LEAST_EVIDENT)
        return StrongestInfluences(**vars(pairs), q=q, n_pairs=self.n_pairs, largest_p=largest_p, complete=complete)

    def _keep_of_sources(self, new: _Pairs) -> None:
        if not self.n_per_source:
            return
        new = new.take(np.abs(new.value) > self.least_of_source[new.source])
        pairs = new if self.of_sources is None else _Pairs.join([self.of_sources, new])
        pairs = pairs.take(np.lexsort((-np.abs(pairs.value), pairs.source)))
        first = np.searchsorted(pairs.source, pairs.source)
        rank = np.arange(len(first)) - first
        last = pairs.take(rank == self.n_per_source - 1)
        self.least_of_source[last.source] = np.abs(last.value)
        self.of_sources = pairs.take(rank < self.n_per_source)


def _parts(tile: _Tile) -> list[range]:
    bounds = np.linspace(0, len(tile.columns), min(64, len(tile.columns)) + 1).astype(int)
    return [range(low, high) for low, high in pairwise(bounds)]


def _tiles(outcomes: OutcomeSource, reading: Reading, outcome: OutcomeKind) -> Iterator[_Tile]:
    first, stop = (outcomes.n_train, outcomes.n_columns) if reading == "held-out" else (0, outcomes.n_train)
    width = max(1, min(PAIRS_AT_ONCE // outcomes.n_train, stop - first))
    if outcome == "correct" and first < stop and _of_one_size(outcomes):
        # Every tile is written where the one before was: fresh memory costs as much as a fifth of the product.
        n_arrays = 1 if reading == "held-out" or outcomes.n_models < _PACK else 3
        width = max(1, width // n_arrays)
        arrays = [np.empty((width, outcomes.n_train), np.float32) for _ in range(n_arrays)]
        for start in range(first, stop, width):
            columns = np.arange(start, min(start + width, stop))
            yield _count_tile(outcomes, reading, columns, [array[: len(columns)] for array in arrays])
        return
    for columns, estimate in influence_blocks(
        outcomes, reading=reading, outcome=outcome, n_columns=max(1, width // 16)
    ):
        assert estimate.p is not None
        yield _EstimatedTile(np.arange(columns.start, columns.stop), estimate.value, estimate.se, estimate.p)


def _of_one_size(outcomes: OutcomeSource) -> bool:
    sizes = {int(size) for block in outcomes.blocks(slice(0, 0)) for size in np.unique(block.masks.sum(axis=1))}
    return len(sizes) == 1 and 0 < sizes.pop() < outcomes.n_train


@dataclass(frozen=True)
class _EstimatedTile:
    """A tile of an influence matrix as it is, [n, columns] each."""

    columns: Array
    value: Array
    se: Array
    p: Array

    def values(self, k: int) -> tuple[Array, Array, int]:
        p = self.p[:, k]
        return np.nan_to_num(self.value[:, k]), p <= LEAST_EVIDENT, int(np.isfinite(p).sum())

    def evidence(self, k: int, sources: Array) -> tuple[Array, Array]:
        return self.se[sources, k], self.p[sources, k]


@dataclass(frozen=True)
class _CountTile:
    """Counts of 0/1 outcomes of models of one size.

    product: [columns, n] models with the source that are right on the column.
    n_in: [columns or 1, n] models with the source; None where they ride in the product, 4,096 to a model.
    """

    columns: Array
    product: Array
    n_in: Array | None
    n_models: Array
    n_right: Array
    factor: Array

    def values(self, k: int) -> tuple[Array, Array, int]:
        n_in, right_in = self._counts(k)
        n_models, share = np.float32(self.n_models[k]), self.n_right[k] / max(self.n_models[k], 1)
        n_out = n_models - n_in
        both = np.maximum(n_in * n_out, np.float32(0.5))  # where a side is empty the deviation below is 0
        value = (right_in - n_in * np.float32(share)) * (n_models / both)
        least = np.float32(_LEAST_Z * np.sqrt(share * (1 - share) * self.factor[k] * n_models))
        n_pairs = int(np.count_nonzero((n_in > 1) & (n_out > 1)))
        return value, np.abs(value) * np.sqrt(both) > least, n_pairs

    def evidence(self, k: int, sources: Array) -> tuple[Array, Array]:
        n_in, right = (counts.astype(np.float64) for counts in self._counts(k, sources))
        sides = Side.of_counts(n_in, right), Side.of_counts(self.n_models[k] - n_in, self.n_right[k] - right)
        se = np.sqrt(self.factor[k] * (sides[0].with_two_more()[1] + sides[1].with_two_more()[1]))
        n_in, n_out = (side.effective() for side in sides)
        return se, p_values(n_in, sides[0].y, n_out, sides[1].y, factor=self.factor[k])

    def _counts(self, k: int, sources: Columns = slice(None)) -> tuple[Array, Array]:
        if self.n_in is not None:
            return self.n_in[k % len(self.n_in), sources], self.product[k, sources]
        return _unpacked(self.product[k, sources])


def _count_tile(outcomes: OutcomeSource, reading: Reading, columns: Array, arrays: Sequence[Array]) -> _CountTile:
    """arrays: memory of the product, and of sums and counts where there are more models than ride in one product."""
    span = slice(int(columns[0]), int(columns[-1]) + 1)
    product, members = arrays[0], np.zeros(outcomes.n_train, np.float32)
    spread: Spread | None = None
    n_in_product, n_unpacked = 0, 0
    for block in outcomes.blocks(span, n_rows=ROWS_AT_ONCE):
        counted = columns_counted(block.masks, reading, span)
        y = block.of("correct")
        part = measure_spread(y, counted=counted, strata=block.strata)
        spread = part if spread is None else spread + part
        masks = block.masks.astype(np.float32)
        if counted is None:
            members += masks.sum(axis=0)
        else:
            y = (y + _PACK) * counted
            if n_in_product + len(y) >= _PACK:
                _unpack(product, *arrays[1:], add=n_unpacked > 0)
                n_in_product, n_unpacked = 0, n_unpacked + n_in_product
        _multiply(y, masks, product, add=n_in_product > 0)
        n_in_product += len(y)
    if spread is None:
        raise InputError("no models to score: the run holds none that are complete and finite; train some first")
    if len(arrays) > 1:
        _unpack(product, *arrays[1:], add=n_unpacked > 0)
        product = arrays[1]
    n_in = members[None] if reading == "held-out" else arrays[2] if len(arrays) > 1 else None
    return _CountTile(
        columns, product=product, n_in=n_in, n_models=spread.n, n_right=spread.y, factor=spread.design_factor()
    )


def _multiply(y: Array, masks: Array, total: Array, *, add: bool) -> None:
    """total [columns, n] = y^T [columns, models] x masks [models, n], or that added to it, in place."""
    product: Any = blas.sgemm  # pyright: ignore[reportAttributeAccessIssue]
    product(1.0, masks.T, np.asfortranarray(y), beta=float(add), c=total.T, overwrite_c=True)


def _unpack(packed: Array, sums: Array, counts: Array, *, add: bool) -> None:
    """The counts and sums that products of at most 4,095 models hold together, or those added to what is there."""
    for row, row_sums, row_counts in zip(packed, sums, counts, strict=True):
        models, right = _unpacked(row)
        row_counts[:] = models + row_counts if add else models
        row_sums[:] = right + row_sums if add else right


def _unpacked(row: Array) -> tuple[Array, Array]:
    models = np.floor(row * np.float32(1 / _PACK))
    return models, row - models * np.float32(_PACK)

"""Turns outcomes into the pairs worth keeping of an influence matrix that is never held.

One pass over tiles of columns. Of each tile the strongest pairs of every column and of every source are kept, and all with a
small p-value; of the rest only how many there were. What is found at a false discovery rate follows at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import islice

import numpy as np

from infl.records import Array, InputError, OutcomeKind, OutcomeSource, ProtocolName
from infl.scores.evidence import PValueCounts
from infl.scores.tiles import MIN_EVIDENT, Tile, tiles_of

TILES_AT_ONCE = 64
MAX_EVIDENT_PAIRS = 1 << 24  # kept because of their p-value alone


@dataclass(frozen=True)
class StrongestInfluences:
    """Pairs of a matrix, by target and then by strength; each array has one entry per pair, [pairs].

    Attributes:
        source, target: Ids of D, and columns; value, se, p, q: as of `infl.influence`, q over all pairs of the matrix.
        n_pairs: Pairs of the matrix that have an estimate.
        largest_p: p-value up to which pairs are found at the false discovery rate that was asked for.
        complete: Whether all of these are among the pairs.
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
    protocols: Sequence[ProtocolName] = ("left-out", "held-out"),
    outcome: OutcomeKind = "correct",
    n_per_column: int = 256,
    n_per_source: int = 32,
    false_discovery_rate: float = 0.05,
) -> StrongestInfluences:
    """The strongest influences on every column, of every source, and all that are found at a false discovery rate.

    q-values are those of Benjamini & Hochberg (1995) to 0.12%, see `PValueCounts`; 1 for p-values above 0.01.
    Memory: what is kept, some 24 bytes a pair, and one bit per model and column. With subsets of one size and outcomes 0/1
    bits are counted, at a fraction of the time of one product [n, T] x [T, columns]; over a range of sizes, five products.

    Args:
        protocols: Of the columns of D (`left-out` or `trained`) and of H (`held-out`); q-values are over all of them
            together.
        n_per_column: Pairs of each column with the largest |value|.
        n_per_source: Pairs of each source with the largest |value| among those with p <= 0.01.
        false_discovery_rate: Pairs with a q-value up to it are kept too, unless there are more than 16 million.

    Raises:
        InputError: where there are no models or no such columns, the outcome was not recorded, or a number is out of range.

    Example:
        >>> import numpy as np, infl
        >>> masks = np.random.RandomState(0).rand(200, 9).argsort(axis=1) < 6
        >>> taught = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 4]])  # example 4 teaches held-out column 9
        >>> found = infl.strongest_influences(taught, protocols=["held-out"], n_per_column=1)
        >>> found.source, found.target, found.value.round(2)
        (array([4], dtype=int32), array([9], dtype=int32), array([1.], dtype=float32))
    """
    if n_per_column < 1 or n_per_source < 0 or not 0 < false_discovery_rate < 1:
        raise InputError(
            "strongest influences: expected at least 1 pair a column, 0 a source, and a false discovery rate in (0, 1); "
            f"got {n_per_column}, {n_per_source} and {false_discovery_rate}"
        )
    kept = _Kept(outcomes.n_train, n_per_source)
    with ThreadPoolExecutor() as threads:
        for protocol in protocols:
            tiles = tiles_of(outcomes, protocol, outcome, threads)
            while some := list(islice(tiles, TILES_AT_ONCE)):
                kept.add(list(threads.map(lambda make_tile: _select(make_tile, n_per_column), some)))
    return kept.finish(false_discovery_rate)


@dataclass(frozen=True)
class _Pairs:
    source: Array
    target: Array
    value: Array
    se: Array
    p: Array
    of_column: Array  # whether it is among the strongest of its column

    @staticmethod
    def join(parts: Sequence[_Pairs]) -> _Pairs:
        return _Pairs(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(_Pairs)))

    def take(self, wanted: Array) -> _Pairs:
        return _Pairs(*(getattr(self, field.name)[wanted] for field in fields(_Pairs)))


def _select(make_tile: Callable[[], Tile], n_per_column: int) -> tuple[_Pairs, _Pairs, int]:
    """Of a tile the strongest pairs of each column, the evident ones, and how many pairs there are."""
    tile, n_pairs = make_tile(), 0
    strongest: list[tuple[Array, Array, Array]] = []
    evident: list[tuple[Array, Array, Array]] = []
    for k in range(len(tile.columns)):
        value, known, candidates = tile.values(k)
        n_pairs += int(np.count_nonzero(known))
        largest = _largest(np.where(known, np.abs(value), np.float32(-1)), n_per_column)
        of_column = np.zeros(len(value), bool)
        of_column[largest] = True
        for found, sources in ((strongest, largest[known[largest]]), (evident, np.flatnonzero(candidates))):
            found.append((sources.astype(np.int32), value[sources].astype(np.float32), of_column[sources]))
    of_columns, beyond = _pairs_of(tile, strongest), _pairs_of(tile, evident)
    return of_columns, beyond.take(beyond.p <= MIN_EVIDENT), n_pairs


def _pairs_of(tile: Tile, found: Sequence[tuple[Array, Array, Array]]) -> _Pairs:
    """found: of each column of the tile sources, values, and which are among its strongest."""
    k = np.repeat(np.arange(len(found)), [len(sources) for sources, *_ in found])
    source, value, of_column = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    se, p = tile.evidence(k, source)
    return _Pairs(source, tile.columns[k].astype(np.int32), value, se.astype(np.float32), p, of_column)


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
        candidates = np.sort(candidates[np.argpartition(-among, n - 1)[:n]])
    return candidates[np.argsort(-magnitude[candidates], kind="stable")]


class _Kept:
    """What is kept of the tiles so far."""

    def __init__(self, n_train: int, n_per_source: int) -> None:
        self.n_train, self.n_per_source = n_train, n_per_source
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
        if sum(len(pairs.p) for pairs in self.evident) > MAX_EVIDENT_PAIRS:
            joined = _Pairs.join(self.evident)
            bound = np.partition(joined.p, MAX_EVIDENT_PAIRS // 2)[MAX_EVIDENT_PAIRS // 2]
            self.least_p_dropped = min(self.least_p_dropped, bound)
            self.evident = [joined.take(joined.p < bound)]

    def finish(self, rate: float) -> StrongestInfluences:
        if not self.strongest:
            raise InputError("strongest influences: name at least one protocol")
        counts = self.counts.with_total(self.n_pairs)
        largest_p = counts.largest_p(rate)
        evident, of_sources = _Pairs.join(self.evident), self.of_sources
        parts = [*self.strongest, evident.take((evident.p <= largest_p) & ~evident.of_column)]
        if of_sources is not None:
            found = (of_sources.p <= largest_p) & (of_sources.p < self.least_p_dropped)
            parts.append(of_sources.take(~found & ~of_sources.of_column))
        # What was kept is the most that is ever held: it is let go of before it is put in order.
        self.strongest, self.evident, self.of_sources = [], [], None
        del evident, of_sources
        pairs = _Pairs.join(parts)
        parts.clear()
        pairs = pairs.take(np.argsort(_by_target_and_size(pairs), kind="stable"))
        q = np.where(pairs.p <= MIN_EVIDENT, counts.q_values(np.minimum(pairs.p, MIN_EVIDENT)), 1.0)
        complete = largest_p < min(self.least_p_dropped, MIN_EVIDENT)
        kept = {name: array for name, array in vars(pairs).items() if name != "of_column"}
        return StrongestInfluences(**kept, q=q, n_pairs=self.n_pairs, largest_p=largest_p, complete=complete)

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


def _by_target_and_size(pairs: _Pairs) -> Array:
    """A key that puts pairs in order: targets ascending, in each the largest first. Bits of floats above 0 order as they do."""
    size = np.abs(pairs.value).view(np.uint32)
    return (pairs.target.astype(np.uint64) << 32) | (np.uint32(0xFFFFFFFF) - size)

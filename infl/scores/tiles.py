"""Turns outcomes into an influence matrix by tiles of columns, each made when it is its turn and gone when it was read.

Where subsets have one size and outcomes are 0/1, a tile is counts of packed bits (`counting`), made on the thread that reads
it. Elsewhere it is cut from the blocks of `influence_blocks`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from infl.records import Array, OutcomeKind, OutcomeSource, ProtocolName
from infl.scores.contrasts import Side, Spread, columns_counted, columns_of, measure_spread, no_models
from infl.scores.evidence import p_values
from infl.scores.influence import influence_blocks

MODELS_AT_ONCE = 512
COLUMNS_AT_ONCE = 2048
MIN_EVIDENT = 0.01  # p-values above it are not told apart
_MIN_Z = 2.5  # no table of any size has such a p-value at a smaller standardized contrast


class Tile(Protocol):
    """Some columns of the matrix, each [n] when asked for; pairs of them by (number of the column in the tile, source)."""

    @property
    def columns(self) -> Array:
        """Numbers of its columns."""
        ...

    def values(self, k: int) -> tuple[Array, Array, Array]:
        """Contrasts of the k-th column, which of them there are, and which of these may have a p-value below the least."""
        ...

    def evidence(self, k: Array, sources: Array) -> tuple[Array, Array]:
        """Standard errors and p-values of some pairs."""
        ...


def tiles_of(
    outcomes: OutcomeSource, protocol: ProtocolName, outcome: OutcomeKind, threads: ThreadPoolExecutor
) -> Iterator[Callable[[], Tile]]:
    """Yield what makes the tiles of a protocol, in order of their columns; to be called on any thread.

    Memory: one bit per model and column of D and of the protocol, and two counts per pair of a tile.

    Raises:
        InputError: where there are no models, or the outcome was not recorded.
    """
    whole = columns_of(outcomes, protocol)
    n_columns = whole.stop - whole.start
    if outcome == "correct" and n_columns > 0 and _of_one_size(outcomes):
        packed = _pack(outcomes, protocol, whole, threads)
        width = ROWS_AT_ONCE if protocol == "held-out" else ROWS_AT_ONCE // 2
        for start in range(0, n_columns, width):
            yield partial(packed.tile, np.arange(start, min(start + width, n_columns)))
        return
    for columns, estimate in influence_blocks(outcomes, protocol=protocol, outcome=outcome):
        assert estimate.p is not None
        tile = _EstimatedTile(np.arange(columns.start, columns.stop), estimate.value, estimate.se, estimate.p)
        yield lambda tile=tile: tile


def _of_one_size(outcomes: OutcomeSource) -> bool:
    sizes = {int(size) for block in outcomes.blocks(slice(0, 1)) for size in np.unique(block.masks.sum(axis=1))}
    return len(sizes) == 1 and 0 < sizes.pop() < outcomes.n_train


@dataclass(frozen=True)
class _EstimatedTile:
    """A tile of an influence matrix as it is, [n, columns] each."""

    columns: Array
    value: Array
    se: Array
    p: Array

    def values(self, k: int) -> tuple[Array, Array, Array]:
        p = self.p[:, k]
        return np.nan_to_num(self.value[:, k]), np.isfinite(p), p <= MIN_EVIDENT

    def evidence(self, k: Array, sources: Array) -> tuple[Array, Array]:
        return self.se[sources, k], self.p[sources, k]


@dataclass(frozen=True)
class _Packed:
    """All models of a run as bits, for one protocol.

    Attributes:
        right, counted: [columns, words] models that are right on a column and count for it, and those that count for
            it; None where all do.
        n_in: [n] models with each source.
        spread: Of the columns.
    """

    members: PackedMembers
    n_in: Array
    right: Array
    counted: Array | None
    spread: Spread
    factor: Array
    first: int

    def tile(self, numbers: Array) -> Tile:
        right = self.right[numbers]
        rows = right if self.counted is None else np.concatenate([right, self.counted[numbers]])
        counts = self.members.count(rows)
        return _CountTile(
            self.first + numbers,
            right_in=counts[: len(numbers)],
            n_in=self.n_in[None] if self.counted is None else counts[len(numbers) :],
            n_models=self.spread.n[numbers],
            n_right=self.spread.y[numbers],
            factor=self.factor[numbers],
        )


def _pack(outcomes: OutcomeSource, protocol: ProtocolName, columns: slice, threads: ThreadPoolExecutor) -> _Packed:
    parts = [slice(at, at + COLUMNS_AT_ONCE) for at in range(0, columns.stop - columns.start, COLUMNS_AT_ONCE)]
    members, right, counts_for, n_in = [], [], [], np.zeros(outcomes.n_train, np.int64)
    spread: list[Spread] = []
    for block in outcomes.blocks(columns, n_rows=MODELS_AT_ONCE):
        counted = columns_counted(block.masks, protocol, columns)
        y = block.of("correct")

        def measure(part: slice, y: Array = y, counted: Array | None = counted, strata: Array | None = block.strata):
            return measure_spread(y[:, part], counted=None if counted is None else counted[:, part], strata=strata)

        of_block = list(threads.map(measure, parts))
        spread = [old + new for old, new in zip(spread, of_block, strict=True)] if spread else of_block
        members.append(pack_models(block.masks))
        n_in += block.masks.sum(axis=0)
        right.append(pack_models((y > 0) if counted is None else (y > 0) & counted))
        if counted is not None:
            counts_for.append(pack_models(counted))
    if not spread:
        raise no_models()
    joined = Spread(
        *(np.concatenate(arrays, axis=-1) for arrays in zip(*(vars(s).values() for s in spread), strict=True))
    )
    return _Packed(
        PackedMembers.of(members),
        n_in,
        np.ascontiguousarray(np.concatenate(right).T),
        np.ascontiguousarray(np.concatenate(counts_for).T) if counts_for else None,
        joined,
        joined.design_factor(),
        columns.start,
    )


@dataclass(frozen=True)
class _CountTile:
    """Counts of 0/1 outcomes of models of one size.

    Attributes:
        right_in: [columns, n] models with the source that are right on the column.
        n_in: [columns or 1, n] models with it.
        n_models, n_right, factor: Of each column.
    """

    columns: Array
    right_in: Array
    n_in: Array
    n_models: Array
    n_right: Array
    factor: Array

    def values(self, k: int) -> tuple[Array, Array, Array]:
        n_in = self.n_in[k % len(self.n_in)].astype(np.float32)
        n_models, share = np.float32(self.n_models[k]), self.n_right[k] / max(self.n_models[k], 1)
        n_out = n_models - n_in
        known = (n_in > 1) & (n_out > 1)
        both = np.maximum(n_in * n_out, np.float32(0.5))
        value = (self.right_in[k] - n_in * np.float32(share)) * (n_models / both)
        least = np.float32(_MIN_Z * np.sqrt(share * (1 - share) * self.factor[k] * n_models))
        return value, known, (np.abs(value) * np.sqrt(both) > least) & known

    def evidence(self, k: Array, sources: Array) -> tuple[Array, Array]:
        n_in = self.n_in[k % len(self.n_in), sources].astype(np.float64)
        right = self.right_in[k, sources].astype(np.float64)
        factor = self.factor[k]
        sides = Side.of_counts(n_in, right), Side.of_counts(self.n_models[k] - n_in, self.n_right[k] - right)
        se = np.sqrt(factor * (sides[0].variance_with_two_more() + sides[1].variance_with_two_more()))
        n_in, n_out = (side.effective() for side in sides)
        return se, p_values(n_in, sides[0].y, n_out, sides[1].y, factor=factor)


ROWS_AT_ONCE = 64
_SOURCES_AT_ONCE = 512  # with ROWS_AT_ONCE and _WORDS_AT_ONCE: what stays in a core's first caches
_WORDS_AT_ONCE = 16


def pack_models(bits: Array) -> Array:
    """[models, k] bool -> [words, k] uint32, a bit a model; the last word is filled up with zeros."""
    n_words = -(-len(bits) // 32)
    of_eight = np.zeros((4 * n_words, bits.shape[1]), np.uint8)
    packed = np.packbits(bits, axis=0)
    of_eight[: len(packed)] = packed
    return np.ascontiguousarray(of_eight.reshape(n_words, 4, -1).transpose(0, 2, 1)).view(np.uint32)[..., 0]


@dataclass(frozen=True)
class PackedMembers:
    """Which models hold each source, on the device that counts. Make one with `of`; safe to use from several threads."""

    words: jax.Array
    n_train: int

    @staticmethod
    def of(packed: Sequence[Array]) -> PackedMembers:
        """packed: what `pack_models` made of the masks of some models [models, n], one after another."""
        words = np.concatenate(packed)
        n_words, n_train = words.shape
        n_steps, n_blocks = -(-n_words // _WORDS_AT_ONCE), -(-n_train // _SOURCES_AT_ONCE)
        padded = np.zeros((n_steps * _WORDS_AT_ONCE, n_blocks * _SOURCES_AT_ONCE), np.uint32)
        padded[:n_words, :n_train] = words
        blocks = padded.reshape(n_steps, _WORDS_AT_ONCE, n_blocks, _SOURCES_AT_ONCE).transpose(2, 0, 1, 3)
        return PackedMembers(jnp.asarray(np.ascontiguousarray(blocks)), n_train)

    def count(self, rows: Array) -> Array:
        """Of each row of bits [r, words] and each source, the models that hold the source and have the bit, [r, n] int32."""
        _, n_steps, n_words, _ = self.words.shape
        counts = np.empty((len(rows), self.n_train), np.int32)
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            padded = np.zeros((ROWS_AT_ONCE, n_steps * n_words), np.uint32)
            padded[: len(some), : some.shape[1]] = some
            found = np.asarray(_count(self.words, padded))[:, : len(some)]
            counts[start : start + len(some)] = found.swapaxes(0, 1).reshape(len(some), -1)[:, : self.n_train]
        return counts


@jax.jit
def _count(members: jax.Array, rows: jax.Array) -> jax.Array:
    """members: [blocks, steps, words, sources]; rows: [r, steps x words] -> [blocks, r, sources]."""
    n_steps, n_words = members.shape[1:3]
    by_step = rows.reshape(len(rows), n_steps, n_words).transpose(1, 2, 0)

    def count_block(block: jax.Array) -> jax.Array:
        def step(total: jax.Array, given: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            sources, wanted = given
            for word in range(n_words):  # written out, they become one loop over sources that stays in registers
                both = sources[word][None, :] & wanted[word][:, None]
                total = total + jax.lax.population_count(both).astype(jnp.int32)
            return total, None

        return jax.lax.scan(step, jnp.zeros((len(rows), block.shape[-1]), jnp.int32), (block, by_step))[0]

    return jax.lax.map(count_block, members)

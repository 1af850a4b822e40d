"""Turns masks and 0/1 outcomes, one bit a model, into counts: how many models hold a source and are right on a column.

    count(i, j) = sum_t M_ti y_tj = ones in (bits of i AND bits of j)

A word holds 32 models, so that one instruction does what a product in floating point does in 32, and a count is exact whatever
the number of models. On CPUs that count bits in vectors (AVX-512) it is ten times as fast as the float32 product.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from infl.records import Array

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

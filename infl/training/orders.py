"""Turns a key and the members of a subset into the order in which one epoch visits them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

FEISTEL_ROUNDS = 8


def draw_order(key: jax.Array, members: jax.Array) -> jax.Array:
    """Ids of the members in the random order of one epoch, [n]; entries past the last member mean nothing.

    Every id has its place, whether it is a member or not: leaving ids out never reorders the others. Up to 65,535 ids are
    sorted by random words; more are walked through in the order of a keyed bijection, since sorts of keys with values are slow.
    """
    n = len(members)
    id_bits = n.bit_length()
    if id_bits > 16:
        return _walk_order(key, members)
    # Draw and id in one word: XLA sorts one operand several times faster than a key with its value. At least 16 random
    # bits remain; equal draws fall back on the id, which moves neighbours in the order and nothing else.
    draws = jax.random.bits(key, (n,), jnp.uint32)
    last = jnp.uint32(0xFFFFFFFF)
    packed = (draws << id_bits) | jnp.arange(n, dtype=jnp.uint32)
    packed = jnp.sort(jnp.where(members, packed, last))
    return (packed & jnp.uint32((1 << id_bits) - 1)).astype(jnp.int32)


def _walk_order(key: jax.Array, members: jax.Array) -> jax.Array:
    """Members in the order in which a keyed bijection of 0..2^k - 1 >= n - 1 comes by them: no sort."""
    n = len(members)
    bits = (n - 1).bit_length()
    visited = _feistel(
        jax.random.bits(key, (FEISTEL_ROUNDS,), jnp.uint32), jnp.arange(1 << bits, dtype=jnp.uint32), bits
    )
    counts = (visited < n) & members[jnp.minimum(visited, n - 1)]
    places = jnp.where(counts, jnp.cumsum(counts) - 1, n)
    return jnp.zeros(n, jnp.int32).at[places].set(visited.astype(jnp.int32), mode="drop")


def _feistel(round_keys: jax.Array, words: jax.Array, bits: int) -> jax.Array:
    """A bijection of 0..2^bits - 1: in turns, either half of a word is changed by a hash of the other (Luby & Rackoff 1988)."""
    low_bits = bits // 2
    high, low = words >> low_bits, words & ((1 << low_bits) - 1)
    for number, round_key in enumerate(round_keys):
        if number % 2:
            high ^= _hash(low ^ round_key) & ((1 << bits - low_bits) - 1)
        else:
            low ^= _hash(high ^ round_key) & ((1 << low_bits) - 1)
    return (high << low_bits) | low


def _hash(words: jax.Array) -> jax.Array:
    """The finalizer of MurmurHash3: each bit of a word reaches each bit of its hash."""
    words = (words ^ (words >> 16)) * jnp.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * jnp.uint32(0xC2B2AE35)
    return words ^ (words >> 16)

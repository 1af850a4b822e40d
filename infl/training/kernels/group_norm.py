"""Group norm, the maximum of 2 x 2 pixels and ReLU in one, with the gradient written out: few passes over the images."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def normed_relu(x: jax.Array, scale: jax.Array, shift: jax.Array, groups: int, pool: bool) -> jax.Array:
    """relu(pooled(scale (x - mean) / sqrt(variance + 1e-5) + shift)), both over pixels and a group of channels; float32."""
    return _forward(x, scale, shift, groups, pool)[0]


def _forward(x: jax.Array, scale: jax.Array, shift: jax.Array, groups: int, pool: bool) -> tuple[jax.Array, tuple]:
    centre, square = (_by_group(numbers.mean(axis=(1, 2)), groups) for numbers in (x, x * x))
    inverse = lax.rsqrt(jnp.maximum(square - centre**2, 0) + 1e-5)
    factor = scale * inverse
    # The barriers keep XLA from computing the same pass once for each of its uses.
    factor, term = (part[:, None, None] for part in lax.optimization_barrier((factor, shift - centre * factor)))
    if not pool:
        y = lax.optimization_barrier(jax.nn.relu(x * factor + term))
        return y, (x, scale, centre, inverse, y)
    first, second, third, fourth = (part * factor + term for part in _quarters(x))
    most = jnp.maximum(jnp.maximum(first, second), jnp.maximum(third, fourth))
    place = jnp.where(first == most, 0, jnp.where(second == most, 1, jnp.where(third == most, 2, 3)))
    y, place = lax.optimization_barrier((jax.nn.relu(most), jnp.where(most > 0, place, 4).astype(jnp.uint8)))
    return y, (x, scale, centre, inverse, place)


def _backward(groups: int, pool: bool, saved: tuple, slope: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, scale, centre, inverse, place = saved
    slope = lax.optimization_barrier(jnp.where(place < 4 if pool else place > 0, slope, 0))
    met = x
    if pool:
        a, b, c, d = _quarters(x)
        met = jnp.where(place == 0, a, jnp.where(place == 1, b, jnp.where(place == 2, c, d)))
    along_shift = slope.sum((1, 2))
    along_scale = ((slope * met).sum((1, 2)) - centre * along_shift) * inverse
    pixels = x.shape[1] * x.shape[2]
    mean, tilt = (_by_group(scale * part, groups) / pixels for part in (along_shift, along_scale))
    terms = inverse * scale, -(inverse**2) * tilt, inverse**2 * tilt * centre - inverse * mean
    factor, of_x, term = (part[:, None, None] for part in lax.optimization_barrier(terms))
    steep = slope * factor
    if pool:
        parts = [jnp.where(place == i, steep, 0) for i in range(4)]
        rows = [jnp.concatenate(parts[:2], -1), jnp.concatenate(parts[2:], -1)]
        steep = lax.optimization_barrier(jnp.stack(rows, 2).reshape(x.shape))
    return lax.optimization_barrier(steep + x * of_x + term), along_scale.sum(0), along_shift.sum(0)


normed_relu.defvjp(_forward, _backward)


def _by_group(numbers: jax.Array, groups: int) -> jax.Array:
    """[b, c] -> [b, c], the mean over each group."""
    b, channels = numbers.shape
    return jnp.repeat(numbers.reshape(b, groups, -1).mean(axis=2), channels // groups, axis=1)


def _quarters(x: jax.Array) -> list[jax.Array]:
    """The four pixels of each 2 x 2, row by row, [b, h / 2, w / 2, c] each."""
    b, h, w, c = x.shape
    pairs = x.reshape(b, h // 2, 2, w // 2, 2 * c)
    return [pairs[:, :, i, :, j * c : (j + 1) * c] for i in (0, 1) for j in (0, 1)]

"""Turns images and a 3 x 3 kernel into their convolution, and its kernel's gradient, with 16 products where 36 are usual.

Winograd's F(2 x 2, 3 x 3) (Lavin & Gray 2016, Fast Algorithms for Convolutional Neural Networks, section 4.1): of each
overlapping square d of 4 x 4 pixels and the kernel k, the 2 x 2 convolved pixels are

    A' [(G k G') . (B' d B)] A,

with . number by number, so over channels 16 matrix products; B' d B takes sums and differences only. The gradient of the
kernel is the transposed program, G' [(B' d B) . (A slope A')] G, that of the images another convolution. A few images are
taken at a time, so that what is four times their size stays in the core's cache.

The same function: the coefficients are 0, 1 and 1/2, and the rounding error measures like that of a sum in other order.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

WIDE = 64  # channels in and out from which it is the faster way, as measured
NUMBERS = 2**20  # of transformed images held at once: 4 MiB, a share of the last cache

Pads = tuple[tuple[int, int], tuple[int, int]]


def suits(x: jax.Array, kernel: jax.Array, stride: int) -> bool:
    """Whether the convolution is one of wide 3 x 3 kernels at stride 1 in float32."""
    wide = min(kernel.shape[2:]) >= WIDE
    return wide and kernel.shape[:2] == (3, 3) and stride == 1 and x.dtype == jnp.float32


def convolve(x: jax.Array, kernel: jax.Array, pads: Pads) -> jax.Array:
    """[b, h, w, c] and [3, 3, c, o] -> [b, u, v, o], with zeros around the images as `pads` says; float32."""
    rows, columns = _outcome(x, pads)
    weights = lax.optimization_barrier(_of_kernel(kernel))

    def part(x: jax.Array) -> jax.Array:
        products = lax.dot_general(_of_images(x, pads), weights, (((2,), (1,)), ((0,), (0,))))
        return _to_images(lax.optimization_barrier(products), len(x), rows, columns)

    parts = _in_parts(x, _images_at_once(x, pads, kernel.shape[2:]))
    if len(parts) == 1:
        return part(x)
    return lax.map(part, parts).reshape(-1, rows, columns, kernel.shape[3])[: len(x)]


def kernel_gradient(x: jax.Array, slope: jax.Array, pads: Pads) -> jax.Array:
    """That of the sum of the convolution weighted by `slope` [b, u, v, o], as [3, 3, c, o]."""
    channels = x.shape[3], slope.shape[3]
    images = _images_at_once(x, pads, channels)

    def part(total: jax.Array, pair: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        factors = _of_images(pair[0], pads), _of_slope(pair[1])
        return total + lax.dot_general(*factors, (((1,), (1,)), ((0,), (0,)))), None

    start = jnp.zeros((16, *channels), jnp.float32)
    total, _ = lax.scan(part, start, (_in_parts(x, images), _in_parts(slope, images)))
    return _both(lambda a: (a[0] + (a[1] + a[2]) / 2, (a[1] - a[2]) / 2, (a[1] + a[2]) / 2 + a[3]), total, 4)


def _outcome(x: jax.Array, pads: Pads) -> tuple[int, int]:
    return x.shape[1] + sum(pads[0]) - 2, x.shape[2] + sum(pads[1]) - 2


def _images_at_once(x: jax.Array, pads: Pads, channels: tuple[int, ...]) -> int:
    rows, columns = _outcome(x, pads)
    squares = ((rows + 1) // 2) * ((columns + 1) // 2)
    weights = 16 * channels[0] * channels[1]
    most = max(max(NUMBERS, weights) // (16 * squares * sum(channels)), 1)
    return -(-len(x) // -(-len(x) // most))


def _in_parts(x: jax.Array, images: int) -> jax.Array:
    """[parts, images, ...]; images of zeros, which add nothing to a gradient, fill the last part."""
    missing = -len(x) % images
    filled = jnp.pad(x, ((0, missing), *((0, 0),) * 3)) if missing else x
    return filled.reshape(-1, images, *x.shape[1:])


def _of_images(x: jax.Array, pads: Pads) -> jax.Array:
    """B' d B of every square: [16, squares, c]."""
    (top, left), rows_columns = (pads[0][0], pads[1][0]), _outcome(x, pads)
    rows, columns = (size + size % 2 for size in rows_columns)
    bottom, right = rows + 2 - x.shape[1] - top, columns + 2 - x.shape[2] - left
    padded = jnp.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)))

    def differences(a: list[jax.Array]) -> list[jax.Array]:
        return [a[0] - a[2], a[1] + a[2], a[2] - a[1], a[1] - a[3]]

    by_row = differences([padded[:, i : i + rows : 2] for i in range(4)])
    both = [part for row in by_row for part in differences([row[:, :, j : j + columns : 2] for j in range(4)])]
    return lax.optimization_barrier(jnp.stack(both).reshape(16, -1, x.shape[3]))


def _of_slope(slope: jax.Array) -> jax.Array:
    """A slope A' of every square: [16, squares, o]."""
    _, rows, columns, channels = slope.shape
    padded = jnp.pad(slope, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0)))

    def sums(a: jax.Array, b: jax.Array) -> list[jax.Array]:
        return [a, a + b, a - b, -b]

    by_row = sums(padded[:, ::2], padded[:, 1::2])
    both = [part for row in by_row for part in sums(row[:, :, ::2], row[:, :, 1::2])]
    return lax.optimization_barrier(jnp.stack(both).reshape(16, -1, channels))


def _of_kernel(kernel: jax.Array) -> jax.Array:
    """G k G': [16, c, o]."""
    halves = _both(lambda a: (a[0], (a[0] + a[1] + a[2]) / 2, (a[0] - a[1] + a[2]) / 2, a[2]), kernel, 3)
    return halves.reshape(16, *kernel.shape[2:])


def _to_images(products: jax.Array, b: int, rows: int, columns: int) -> jax.Array:
    """A' of every square A: [b, rows, columns, o]."""
    down, across = (rows + 1) // 2, (columns + 1) // 2
    m = products.reshape(4, 4, b, down, across, -1)

    def pair(a: jax.Array) -> tuple[jax.Array, jax.Array]:
        return a[0] + a[1] + a[2], a[1] - a[2] - a[3]

    pixels = jnp.stack([jnp.stack(pair(row), axis=3) for row in pair(m)], axis=2)
    return pixels.reshape(b, 2 * down, 2 * across, -1)[:, :rows, :columns]


def _both(of: Callable[[jax.Array], tuple[jax.Array, ...]], square: jax.Array, side: int) -> jax.Array:
    """`of` along the rows of a square [side, side, ...], then along its columns."""
    along = jnp.stack(of(square.reshape(side, side, *square.shape[-2:])))
    return jnp.stack(of(along.swapaxes(0, 1))).swapaxes(0, 1)

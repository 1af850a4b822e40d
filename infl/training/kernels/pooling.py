"""Turns images, or their convolution, into the greatest of each 2 x 2 pixels.

Written for the compiler of CPUs. A maximum taken as one reduction is computed once, by XLA's vector library; taken as
`maximum` of slices it is computed again inside each operation that uses it. And where images have few channels, as a first
layer's do, the convolution of all four pixels of a square is one product, of its 4 x 4 surroundings with the kernel at four
places: more multiplications, in a shape that the machine is good at, and the four lie side by side for the maximum.

XLA's maximum on a CPU passes over NaN (jax 0.10 to 0.12): whether a training stayed finite is asked of its weights as well.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from infl.training.kernels.convolution import chosen_backend, convolve

FEW_CHANNELS = 4  # of images, up to which one product of their squares is the faster way, as measured


def max_pool(x: jax.Array) -> jax.Array:
    """The greatest of each 2 x 2 pixels, [b, h, w, c] -> [b, h // 2, w // 2, c]; an odd last row or column is dropped.

    The gradient goes to the first of equal pixels, row by row. It is written out because XLA's for a window maximum
    measured twenty times slower on a CPU.

    Examples:
        >>> max_pool(jnp.arange(16.0).reshape(1, 4, 4, 1))[0, :, :, 0].astype(int).tolist()
        [[5, 7], [13, 15]]
    """
    rows, columns = x.shape[1] // 2 * 2, x.shape[2] // 2 * 2
    return _pool(x if (rows, columns) == x.shape[1:3] else x[:, :rows, :columns])


def convolve_and_pool(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`max_pool(convolve(x, kernel))`, in whichever of two ways is faster where it runs; the same up to rounding.

    Examples:
        >>> x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 2))
        >>> convolve_and_pool(x, kernel)[0, :, :, 0].astype(int).tolist()
        [[9, 9], [9, 9]]
    """
    suits = (
        chosen_backend() == "mixed"
        and x.dtype == kernel.dtype == jnp.float32
        and x.shape[3] <= FEW_CHANNELS
        and min(x.shape[1:3]) >= 2
    )
    return _of_squares(x, kernel) if suits else max_pool(convolve(x, kernel))


# The maximum of 2 x 2 pixels


@jax.custom_vjp
def _pool(x: jax.Array) -> jax.Array:
    return _squares(x).max((2, 4))


def _pool_gradient(x: jax.Array, cotangent: jax.Array) -> tuple[jax.Array]:
    squares = _squares(x)
    a, b, c, d = (squares[:, :, i, :, j] for i in (0, 1) for j in (0, 1))
    # Not where x equals the maximum: what was computed for that may have been rounded in another way.
    place = jnp.where(jnp.maximum(a, b) >= jnp.maximum(c, d), jnp.where(a >= b, 0, 1), jnp.where(c >= d, 2, 3))
    here = place[:, :, None, :, None] == jnp.arange(4).reshape(1, 1, 2, 1, 2, 1)
    return (jnp.where(here, cotangent[:, :, None, :, None], 0).reshape(x.shape),)


def _squares(x: jax.Array) -> jax.Array:
    b, h, w, c = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, c)


_pool.defvjp(lambda x: (_pool(x), x), _pool_gradient)


# The maximum over 2 x 2 pixels of a 3 x 3 convolution, of images with few channels


@jax.custom_vjp
def _of_squares(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _of_squares_forward(x, kernel)[0]


Saved = tuple[jax.Array, jax.Array, jax.Array, jax.Array]


def _of_squares_forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, Saved]:
    b, h, w, _ = x.shape
    pixels = (_surroundings(x) @ _at_four_places(kernel)).reshape(-1, 4, kernel.shape[3])
    most = pixels.max(1)
    return most.reshape(b, h // 2, w // 2, -1), (x, kernel, pixels, most)


def _of_squares_gradient(saved: Saved, cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel, pixels, most = saved
    number = jnp.arange(4)[:, None]
    first = jnp.where(pixels == most[:, None], number, 4).min(1)  # a reduction too, and so computed once
    along_pixels = jnp.where(first[:, None] == number, cotangent.reshape(-1, 1, cotangent.shape[3]), 0)
    along_pixels = along_pixels.reshape(len(pixels), -1)
    product = lax.dot_general(_surroundings(x), along_pixels, (((0,), (0,)), ((), ())))
    _, put_back = jax.vjp(_surroundings, x)
    _, fold = jax.vjp(_at_four_places, kernel)
    return put_back(along_pixels @ _at_four_places(kernel).T)[0], fold(product)[0]


_of_squares.defvjp(_of_squares_forward, _of_squares_gradient)


def _surroundings(x: jax.Array) -> jax.Array:
    """The 4 x 4 pixels around each square of 2 x 2: [squares, 16 c], as 2 x 2 squares of 2 x 2 pixels."""
    b, h, w, c = x.shape
    rows, columns = h // 2, w // 2
    padded = jnp.pad(x, ((0, 0), (1, 2 * rows + 1 - h), (1, 2 * columns + 1 - w), (0, 0)))
    squares = padded.reshape(b, rows + 1, 2, columns + 1, 2, c)
    four = jnp.stack([squares[:, i : i + rows, :, j : j + columns] for i in (0, 1) for j in (0, 1)])
    return four.transpose(1, 2, 4, 0, 3, 5, 6).reshape(-1, 16 * c)


def _at_four_places(kernel: jax.Array) -> jax.Array:
    """[16 c, 4 o]: the kernel over each of the pixels of a square, in the order of `_surroundings`."""
    c, o = kernel.shape[2:]
    places = [((i, 1 - i), (j, 1 - j)) for i in (0, 1) for j in (0, 1)]
    four = jnp.stack([jnp.pad(kernel, (*place, (0, 0), (0, 0))) for place in places], axis=3)
    return four.reshape(2, 2, 2, 2, c, 4, o).transpose(0, 2, 1, 3, 4, 5, 6).reshape(16 * c, 4 * o)

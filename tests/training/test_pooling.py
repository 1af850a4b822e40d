"""Pooling gives the greatest of each 2 x 2 pixels and sends its gradient to the first of equal ones, convolved before or not.

Why it must hold: a network is defined by its convolutions and maxima, and which of two orders of computing them is fastest
may not change what a model learns. Held to loops over pixels, and to SciPy's correlation.
"""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from infl.training.kernels.convolution import BACKENDS, use_backend
from infl.training.kernels.pooling import FEW_CHANNELS, convolve_and_pool, max_pool


def drawn(*shape: int) -> np.ndarray:
    return np.random.RandomState(0).normal(size=shape).astype(np.float32)


def pooled_by_loops(x: np.ndarray, slope: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The maxima, and the gradient of x."""
    y, dx = np.zeros_like(slope), np.zeros_like(x)
    for image, u, v, c in product(*map(range, slope.shape)):
        square = x[image, 2 * u : 2 * u + 2, 2 * v : 2 * v + 2, c]
        y[image, u, v, c] = square.max()
        i, j = np.unravel_index(square.argmax(), (2, 2))
        dx[image, 2 * u + i, 2 * v + j, c] = slope[image, u, v, c]
    return y, dx


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_pooling_takes_the_greatest_and_sends_its_gradient_to_the_first(size: tuple[int, int]) -> None:
    """Whole numbers, so that many are equal; the loop knows its own rule for them."""
    x = np.random.RandomState(0).randint(0, 3, (2, *size, 3)).astype(np.float32)
    slope = drawn(2, size[0] // 2, size[1] // 2, 3)
    y, dx = pooled_by_loops(x, slope)
    found, pull = jax.vjp(max_pool, jnp.asarray(x))
    np.testing.assert_array_equal(found, y)
    np.testing.assert_array_equal(pull(jnp.asarray(slope))[0], dx)


def convolved_by_scipy(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    y = np.zeros((*x.shape[:3], kernel.shape[3]))
    for image, c, o in product(range(len(x)), range(x.shape[3]), range(kernel.shape[3])):
        y[image, :, :, o] += signal.correlate2d(x[image, :, :, c], kernel[:, :, c, o], mode="same")
    return y


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("channels", [1, 3, FEW_CHANNELS + 1])
@pytest.mark.parametrize("size", [(6, 8), (7, 5), (2, 3)])
def test_a_pooled_convolution_is_that_of_loops(size: tuple[int, int], channels: int, backend: str) -> None:
    """In small whole numbers, which float32 adds exactly: equal pixels are equal in every order, and there are many."""
    random = np.random.RandomState(0)
    x = random.randint(-1, 2, (2, *size, channels)).astype(np.float32)
    kernel = random.randint(-1, 2, (3, 3, channels, 4)).astype(np.float32)
    slope = random.randint(-3, 4, (2, size[0] // 2, size[1] // 2, 4)).astype(np.float32)
    convolved = convolved_by_scipy(x, kernel)
    y, steep = pooled_by_loops(convolved, slope.astype(float))
    dx, dkernel = np.zeros(x.shape), np.zeros(kernel.shape)
    for image, u, v, i, j in product(range(2), range(size[0]), range(size[1]), range(3), range(3)):
        a, b = u + i - 1, v + j - 1
        if 0 <= a < size[0] and 0 <= b < size[1]:
            dx[image, a, b] += kernel[i, j] @ steep[image, u, v]
            dkernel[i, j] += np.outer(x[image, a, b], steep[image, u, v])
    with use_backend(backend):
        found, pull = jax.vjp(convolve_and_pool, jnp.asarray(x), jnp.asarray(kernel))
        along_x, along_kernel = pull(jnp.asarray(slope))
    np.testing.assert_array_equal(found, y)
    np.testing.assert_array_equal(along_x, dx)
    np.testing.assert_array_equal(along_kernel, dkernel)


def test_each_way_is_taken_where_it_is_meant_to_be() -> None:
    """Few channels under `mixed` make one product of squares, of 16 numbers a channel; all else is what `convolve` makes."""
    kernel = jnp.ones((3, 3, 2, 5))

    def program(channels: int, backend: str, dtype: jnp.dtype = jnp.float32) -> str:
        x = jnp.ones((1, 8, 8, channels), dtype)
        weights = jnp.repeat(kernel[:, :, :1], channels, axis=2).astype(dtype)
        with use_backend(backend):
            return str(jax.make_jaxpr(convolve_and_pool)(x, weights))

    assert "[16,32]" in program(2, "mixed")
    for channels, backend, dtype in (
        (FEW_CHANNELS + 1, "mixed", jnp.float32),
        (2, "xla", jnp.float32),
        (2, "mixed", jnp.bfloat16),
    ):
        assert f"[16,{16 * channels}]" not in program(channels, backend, dtype)

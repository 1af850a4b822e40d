"""Either back end computes one convolution and its two gradients, pooled or not, whatever program it is traced into.

The back end affects speed only, so each is compared with a NumPy convolution that loops over images, pixels and taps, for the
forward pass and both gradients, under vmap and over a few steps of training. The formulas of the gradients are written out in
infl and nobody else checks them. Pooling gives the greatest of each 2 x 2 pixels and sends its gradient to the first of equal
ones, convolved before or not. A choice of back end must not outlive its block.
"""

from __future__ import annotations

from functools import cache, partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import signal

from infl.records import InputError
from infl.training.algorithm import Algorithm
from infl.training.kernels import convolution
from infl.training.kernels.convolution import BACKENDS, chosen_backend, convolve, use_backend
from infl.training.kernels.pooling import FEW_CHANNELS, convolve_and_pool, max_pool
from infl.training.model import train_model

each_backend = pytest.mark.parametrize("backend", BACKENDS)


def slow(x: np.ndarray, kernel: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The convolution, and the gradients of its sum weighted by `cotangent`, one product at a time in float64."""
    (b, h, w, _), o = x.shape, kernel.shape[3]
    y, dx, dk = np.zeros((b, h, w, o)), np.zeros(x.shape), np.zeros(kernel.shape)
    for image, u, v, i, j in product(range(b), range(h), range(w), range(3), range(3)):
        row, column = u + i - 1, v + j - 1
        if 0 <= row < h and 0 <= column < w:
            y[image, u, v] += x[image, row, column].astype(float) @ kernel[i, j]
            dx[image, row, column] += kernel[i, j].astype(float) @ cotangent[image, u, v]
            dk[i, j] += np.outer(x[image, row, column], cotangent[image, u, v].astype(float))
    return y, dx, dk


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


@jax.jit
def with_gradients(x: Any, kernel: Any, cotangent: Any) -> tuple[Any, Any, Any]:
    y, pull = jax.vjp(convolve, x, kernel)
    return (y, *pull(cotangent.astype(y.dtype)))


@pytest.mark.slow
@each_backend
@pytest.mark.parametrize(("image", "channels"), [((7, 6), (3, 4)), ((4, 5), (1, 12))])
def test_each_back_end_is_the_loop_and_its_gradients(
    backend: str, image: tuple[int, int], channels: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "PATCH_NUMBERS", 2 * 36 * 27)  # so that `mixed` takes the images in parts
    x, kernel, cotangent = drawn(4, *image, channels[0]), drawn(3, 3, *channels, seed=1), drawn(4, *image, channels[1])
    with use_backend(backend):
        found = with_gradients(x, kernel, cotangent)
    for name, mine, theirs in zip(("y", "dx", "dk"), found, slow(x, kernel, cotangent), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4, err_msg=name)


@each_backend
def test_bfloat16_stays_bfloat16_with_sums_in_float32(backend: str) -> None:
    """144 products rounded once: within the 2^-9 of a bfloat16, not the 2^-9 a term that sums in bfloat16 would lose."""
    arrays = drawn(8, 6, 6, 16), drawn(3, 3, 16, 4), drawn(8, 6, 6, 4, seed=2)
    x, kernel, cotangent = (jnp.asarray(array, jnp.bfloat16) for array in arrays)
    exact = slow(*(np.asarray(array, np.float32) for array in (x, kernel, cotangent)))
    with use_backend(backend):
        found = with_gradients(x, kernel, cotangent)
    for mine, theirs in zip(found, exact, strict=True):
        assert mine.dtype == jnp.bfloat16
        scale = float(np.sqrt(np.mean(np.square(theirs))))
        np.testing.assert_allclose(np.asarray(mine, np.float32), theirs, rtol=2**-7, atol=2**-7 * scale)


@each_backend
def test_models_side_by_side_are_models_alone(backend: str) -> None:
    """vmap over weights and images is how an ensemble trains on a GPU."""
    x, kernels, cotangent = drawn(3, 2, 7, 6, 2), drawn(3, 3, 3, 2, 4, seed=1), drawn(3, 2, 7, 6, 4, seed=2)
    with use_backend(backend):
        together = jax.vmap(with_gradients)(x, kernels, cotangent)
    for model in range(3):
        for mine, theirs in zip(together, slow(x[model], kernels[model], cotangent[model]), strict=True):
            np.testing.assert_allclose(mine[model], theirs, atol=1e-4)


# Pooled


def pooled_by_loops(x: np.ndarray, cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The maxima, and the gradient of x."""
    y, dx = np.zeros_like(cotangent), np.zeros_like(x)
    for image, u, v, c in product(*map(range, cotangent.shape)):
        square = x[image, 2 * u : 2 * u + 2, 2 * v : 2 * v + 2, c]
        y[image, u, v, c] = square.max()
        i, j = np.unravel_index(square.argmax(), (2, 2))
        dx[image, 2 * u + i, 2 * v + j, c] = cotangent[image, u, v, c]
    return y, dx


def test_pooling_takes_the_greatest_and_sends_its_gradient_to_the_first() -> None:
    """Whole numbers, so that many are equal; the loop knows its own rule for them."""
    x = np.random.RandomState(0).randint(0, 3, (2, 5, 6, 3)).astype(np.float32)
    cotangent = drawn(2, 2, 3, 3)
    y, dx = pooled_by_loops(x, cotangent)
    found, pull = jax.vjp(max_pool, jnp.asarray(x))
    np.testing.assert_array_equal(found, y)
    np.testing.assert_array_equal(pull(jnp.asarray(cotangent))[0], dx)


@each_backend
@pytest.mark.parametrize(("size", "channels"), [((6, 8), 1), ((7, 5), 3), ((2, 3), 3), ((6, 8), FEW_CHANNELS + 1)])
def test_a_pooled_convolution_is_that_of_loops(size: tuple[int, int], channels: int, backend: str) -> None:
    """In small whole numbers, which float32 adds exactly: equal pixels are equal in every order, and there are many."""
    random = np.random.RandomState(0)
    x = random.randint(-1, 2, (2, *size, channels)).astype(np.float32)
    kernel = random.randint(-1, 2, (3, 3, channels, 4)).astype(np.float32)
    cotangent = random.randint(-3, 4, (2, size[0] // 2, size[1] // 2, 4)).astype(np.float32)
    y, before_pooling = pooled_by_loops(slow(x, kernel, np.zeros((2, *size, 4)))[0], cotangent.astype(float))
    _, dx, dkernel = slow(x, kernel, before_pooling)
    with use_backend(backend):
        found, pull = jax.vjp(convolve_and_pool, jnp.asarray(x), jnp.asarray(kernel))
        along_x, along_kernel = pull(jnp.asarray(cotangent))
    np.testing.assert_array_equal(found, y)
    np.testing.assert_array_equal(along_x, dx)
    np.testing.assert_array_equal(along_kernel, dkernel)


def test_the_loop_is_the_correlation_of_scipy() -> None:
    x, kernel = drawn(1, 5, 6, 2), drawn(3, 3, 2, 1, seed=1)
    expected = sum(signal.correlate2d(x[0, :, :, c], kernel[:, :, c, 0], mode="same") for c in range(2))
    np.testing.assert_allclose(slow(x, kernel, np.zeros((1, 5, 6, 1)))[0][0, :, :, 0], expected, atol=1e-5)


def test_each_way_is_taken_where_it_is_meant_to_be() -> None:
    """Few channels under `mixed` make one product of squares, of 16 numbers a channel; all else is what `convolve` makes."""

    def program(channels: int, backend: str, dtype: Any = jnp.float32) -> str:
        x, kernel = jnp.ones((1, 8, 8, channels), dtype), jnp.ones((3, 3, channels, 5), dtype)
        with use_backend(backend):
            return str(jax.make_jaxpr(convolve_and_pool)(x, kernel))

    assert "[16,32]" in program(2, "mixed")
    assert f"[16,{16 * (FEW_CHANNELS + 1)}]" not in program(FEW_CHANNELS + 1, "mixed")
    for others in (program(2, "xla"), program(2, "mixed", jnp.bfloat16)):
        assert "[16,32]" not in others


TINY = Algorithm("cnn", widths=(3, 4), hidden=(5,), epochs=2, batch_size=8)


@cache
def trained(backend: str) -> Any:
    images, labels, members = jnp.asarray(drawn(20, 9, 8)), jnp.arange(20) % 3, jnp.arange(20) < 17
    train = jax.jit(partial(train_model, algorithm=TINY, network=TINY.build_network(3)))
    with use_backend(backend):
        return train(jax.random.key(0), members, images, labels).params


@pytest.mark.slow
def test_a_tiny_cnn_trains_to_the_same_parameters() -> None:
    """Inside the fori_loop of training; both convolutions and the pooling take part."""
    found, expected = map(trained, BACKENDS)
    start = TINY.build_network(3).init(jax.random.split(jax.random.key(0))[0], jnp.zeros((1, 9, 8)))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), expected, start)
    assert min(jax.tree.leaves(moved)) > 1e-3  # every parameter has learned
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), found, expected)


# The choice


def test_the_choice_holds_inside_its_block_and_no_longer() -> None:
    """For one and the same function: JAX keeps what it has traced, and must not hand it out under another choice."""
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((3, 3, 1, 4))
    jitted, before = jax.jit(convolve), chosen_backend()

    def is_xla() -> bool:
        return "stablehlo.convolution" in jitted.lower(x, kernel).as_text()

    with use_backend("xla"):
        assert is_xla()
        with use_backend("mixed"):
            assert chosen_backend() == "mixed"
            assert not is_xla()
        assert chosen_backend() == "xla"
        assert is_xla()
    with pytest.raises(ZeroDivisionError), use_backend("xla"):
        raise ZeroDivisionError
    assert chosen_backend() == before
    with pytest.raises(InputError, match="expected one of mixed, xla; got 'fft'"), use_backend("fft"):
        raise AssertionError

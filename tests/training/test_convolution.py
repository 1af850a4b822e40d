"""Every back end computes one convolution and its two gradients, whatever program it is traced into.

The back end affects speed only, so each is held to a NumPy convolution that loops over images, pixels and taps, for the
forward pass and both gradients, and to the others under vmap, inside loops, and over a few steps of training. The formulas
of the gradients are written out in infl and nobody else checks them. A choice of back end must not outlive its block.
"""

from __future__ import annotations

import doctest
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infl.records import InputError
from infl.training.algorithm import Algorithm, train_params
from infl.training.kernels import convolution, winograd
from infl.training.kernels.convolution import BACKENDS, Padding, chosen_backend, convolve, use_backend

each_backend = pytest.mark.parametrize("backend", BACKENDS)


def slow(
    x: np.ndarray, kernel: np.ndarray, slope: np.ndarray | None, stride: int, padding: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The convolution, and the gradients of its sum weighted by `slope`, one product at a time in float64."""
    (b, h, w, _), (kh, kw, _, o) = x.shape, kernel.shape
    if padding == "SAME":
        rows, columns = -(-h // stride), -(-w // stride)
        top = max((rows - 1) * stride + kh - h, 0) // 2
        left = max((columns - 1) * stride + kw - w, 0) // 2
    else:
        rows, columns, top, left = (h - kh) // stride + 1, (w - kw) // stride + 1, 0, 0
    y, dx, dk = np.zeros((b, rows, columns, o)), np.zeros(x.shape), np.zeros(kernel.shape)
    slope = np.zeros(y.shape) if slope is None else slope
    for image, u, v, i, j in product(range(b), range(rows), range(columns), range(kh), range(kw)):
        row, column = u * stride + i - top, v * stride + j - left
        if 0 <= row < h and 0 <= column < w:
            y[image, u, v] += x[image, row, column].astype(float) @ kernel[i, j]
            dx[image, row, column] += kernel[i, j].astype(float) @ slope[image, u, v]
            dk[i, j] += np.outer(x[image, row, column], slope[image, u, v].astype(float))
    return y, dx, dk


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).normal(size=shape).astype(np.float32)


@partial(jax.jit, static_argnames=("stride", "padding", "backend"))
def with_gradients(x: Any, kernel: Any, slope: Any, **settings: Any) -> tuple[Any, Any, Any]:
    y, pull = jax.vjp(partial(convolve, **settings), x, kernel)
    return (y, *pull(slope.astype(y.dtype)))


@each_backend
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(
    ("size", "image", "channels"),
    [((1, 1), (5, 6), (3, 2)), ((3, 3), (7, 6), (3, 4)), ((5, 5), (6, 5), (3, 3)), ((2, 3), (7, 6), (1, 6))],
)
def test_each_back_end_is_the_loop_and_its_gradients(
    backend: str,
    stride: int,
    padding: str,
    size: tuple[int, int],
    image: tuple[int, int],
    channels: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(convolution, "PATCH_NUMBERS", 2 * 36 * 27)  # so that `mixed` takes the images in parts
    x, kernel = drawn(4, *image, channels[0]), drawn(*size, *channels, seed=1)
    shape = slow(x, kernel, None, stride, padding)[0].shape
    slope = drawn(*shape, seed=2)
    expected = slow(x, kernel, slope, stride, padding)
    found = with_gradients(x, kernel, slope, stride=stride, padding=padding, backend=backend)
    for name, mine, theirs in zip(("y", "dx", "dk"), found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4, err_msg=name)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("image", [(7, 6), (4, 4), (3, 5)])
@pytest.mark.parametrize("numbers", [2**20, 2 * 16 * 3 * 2 * 7])
def test_winograd_is_the_loop_and_its_gradients(
    padding: Padding, image: tuple[int, int], numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sides of any parity, all seven images at once and in parts that do not divide them."""
    monkeypatch.setattr(winograd, "WIDE", 3)
    monkeypatch.setattr(winograd, "NUMBERS", numbers)
    x, kernel = drawn(7, *image, 3), drawn(3, 3, 3, 4, seed=1)
    assert winograd.suits(jnp.asarray(x), jnp.asarray(kernel), 1)
    slope = drawn(*slow(x, kernel, None, 1, padding)[0].shape, seed=2)
    expected = slow(x, kernel, slope, 1, padding)
    y, pull = jax.vjp(partial(convolve, padding=padding, backend="mixed"), jnp.asarray(x), jnp.asarray(kernel))
    found = y, *pull(jnp.asarray(slope, jnp.float32))  # not through a jit, which would not see the patches
    for name, mine, theirs in zip(("y", "dx", "dk"), found, expected, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-4, err_msg=name)


def test_winograd_rounds_as_finely_as_the_products_it_replaces() -> None:
    """Over 64 channels, root mean square error against float64, no more than three times that of one tap at a time."""
    x, kernel, slope = drawn(4, 8, 8, 64), drawn(3, 3, 64, 64, seed=1), drawn(4, 8, 8, 64, seed=2)
    settings: dict[str, Any] = {"stride": 1, "padding": "SAME"}
    assert winograd.suits(jnp.asarray(x), jnp.asarray(kernel), 1)
    exact = slow(x, kernel, slope, 1, "SAME")
    mixed, taps = (with_gradients(x, kernel, slope, backend=backend, **settings) for backend in ("mixed", "taps"))
    for mine, theirs, true in zip(mixed, taps, exact, strict=True):
        assert np.square(mine - true).mean() < 9 * np.square(theirs - true).mean()


@each_backend
def test_bfloat16_stays_bfloat16_with_sums_in_float32(backend: str) -> None:
    """144 products rounded once: within the 2^-9 of a bfloat16, not the 2^-9 a term that sums in bfloat16 would lose."""
    x, kernel = jnp.asarray(drawn(8, 6, 6, 16), jnp.bfloat16), jnp.asarray(drawn(3, 3, 16, 4), jnp.bfloat16)
    slope = drawn(8, 6, 6, 4, seed=2)
    slope = np.asarray(jnp.asarray(slope, jnp.bfloat16), np.float32)
    settings: dict[str, Any] = {"stride": 1, "padding": "SAME"}
    wide = with_gradients(np.asarray(x, np.float32), np.asarray(kernel, np.float32), slope, backend="taps", **settings)
    narrow = with_gradients(x, kernel, slope, backend=backend, **settings)
    for mine, theirs in zip(narrow, wide, strict=True):
        assert mine.dtype == jnp.bfloat16
        scale = float(np.sqrt(np.mean(np.square(theirs))))
        np.testing.assert_allclose(np.asarray(mine, np.float32), theirs, rtol=2**-7, atol=2**-7 * scale)


@each_backend
@pytest.mark.parametrize("stride", [1, 2])
def test_models_side_by_side_are_models_alone(backend: str, stride: int) -> None:
    """vmap over weights and images is how an ensemble trains on a GPU."""
    x, kernels, slope = drawn(3, 2, 7, 6, 2), drawn(3, 3, 3, 2, 4, seed=1), drawn(3, 2, 7, 6, 4, seed=2)
    slope = slope[:, :, : -(-7 // stride), : -(-6 // stride)]
    settings: dict[str, Any] = {"stride": stride, "padding": "SAME"}
    together = jax.vmap(partial(with_gradients, backend=backend, **settings))(x, kernels, slope)
    for model in range(3):
        alone = with_gradients(x[model], kernels[model], slope[model], backend="taps", **settings)
        for mine, theirs in zip(together, alone, strict=True):
            np.testing.assert_allclose(mine[model], theirs, atol=1e-4)


TINY = Algorithm("cnn", widths=(3, 4), hidden=(5,), epochs=2, batch_size=8)
KEYS = jax.random.split(jax.random.key(0), 3)


@cache
def trained(backend: str, mapped: bool) -> Any:
    images, labels, members = jnp.asarray(drawn(20, 9, 8)), jnp.arange(20) % 3, jnp.arange(20) < 17

    def one(key: jax.Array) -> Any:
        return train_params(key, members, images, labels, algorithm=TINY, network=TINY.build_network(3))[0]

    with use_backend(backend):
        return jax.jit(jax.vmap(one) if mapped else lambda keys: one(keys[0]))(KEYS)


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name != "taps"])
@pytest.mark.parametrize("mapped", [False, True])
def test_a_tiny_cnn_trains_to_the_same_parameters(backend: str, mapped: bool) -> None:
    """Inside the fori_loop of training, one model and three side by side; both convolutions and the pooling take part."""
    found, expected = trained(backend, mapped), trained("taps", mapped)
    start = TINY.build_network(3).init(jax.random.split(KEYS[0])[0], jnp.zeros((1, 9, 8)))
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), _first(expected) if mapped else expected, start)
    assert min(jax.tree.leaves(moved)) > 1e-3  # every parameter has learned
    jax.tree.map(partial(np.testing.assert_allclose, atol=1e-4), found, expected)


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf[0], tree)


# The choice


def test_the_choice_holds_inside_its_block_and_no_longer() -> None:
    """For one and the same function: JAX keeps what it has traced, and must not hand it out under another choice."""
    x, kernel = jnp.ones((1, 4, 4, 4)), jnp.ones((3, 3, 4, 1))
    jitted, before = jax.jit(convolve), chosen_backend()

    def is_xla(function: Callable = convolve) -> bool:
        both = str(jax.make_jaxpr(function)(x, kernel)), jitted.lower(x, kernel).as_text()
        return "conv_general_dilated" in both[0] and (function is not convolve or "stablehlo.convolution" in both[1])

    with use_backend("xla"):
        assert is_xla()
        with use_backend("taps"):
            assert chosen_backend() == "taps"
            assert not is_xla()
        assert chosen_backend() == "xla"
        assert is_xla()
        assert not is_xla(partial(convolve, backend="shifted"))
    assert chosen_backend() == before


def test_the_examples_in_the_docstrings_run() -> None:
    result = doctest.testmod(convolution)
    assert result.attempted
    assert not result.failed


def test_the_choice_is_undone_by_an_exception() -> None:
    before = chosen_backend()
    other = next(name for name in BACKENDS if name != before)
    with pytest.raises(ZeroDivisionError), use_backend(other):
        raise ZeroDivisionError
    assert chosen_backend() == before


@pytest.mark.parametrize(
    ("settings", "telling"),
    [
        ({"backend": "fft"}, "expected one of shifted, taps, xla, mixed; got 'fft'"),
        ({"stride": 0}, "stride: expected at least 1, got 0"),
        ({"padding": "FULL"}, "padding: expected SAME or VALID, got 'FULL'"),
        ({"x": jnp.ones((4, 4, 2))}, r"expected images \[b, h, w, c\].*got \(4, 4, 2\)"),
        ({"x": jnp.ones((1, 4, 4, 3))}, r"got \(1, 4, 4, 3\) and \(3, 3, 2, 1\)"),
        ({"x": jnp.ones((1, 2, 4, 2)), "padding": "VALID"}, r"kernel of \(3, 3\) does not fit into images of \(2, 4\)"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(settings: dict, telling: str) -> None:
    arguments: dict[str, Any] = {"x": jnp.ones((1, 4, 4, 2)), "kernel": jnp.ones((3, 3, 2, 1))} | settings
    with pytest.raises(InputError, match=telling):
        convolve(**arguments)


def test_an_unknown_back_end_is_named_before_its_block_begins() -> None:
    with pytest.raises(InputError, match="expected one of"), use_backend("fft"):
        raise AssertionError

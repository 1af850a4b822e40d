"""Standardized training is plain training on pixels that NumPy standardized by the members' own statistics.

So each model is a function of its own examples alone, as an algorithm is that never saw the others; with moments of all of D
every example would reach every model. Those of float32 sums over millions of pixels must still be right.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infl.training.algorithm import Algorithm
from infl.training.augmentation import member_moments, standardized, warn_of_scale
from infl.training.model import TrainedModel, train_model

KEY, N, N_ALL, CLASSES = jax.random.key(3), 20, 30, 3
ALGORITHM = Algorithm(hidden=(16,), epochs=3, batch_size=8)
LABELS = (np.arange(N_ALL) % CLASSES).astype(np.int32)
SHAPES = {(8,): (0,), (4, 3): (0, 1, 2), (4, 3, 2): (0, 1, 2)}  # and the axes that NumPy goes over


def pixels(shape: tuple[int, ...], dtype: type = np.float32) -> np.ndarray:
    random = np.random.RandomState(0)
    if dtype == np.uint8:
        return random.randint(0, 256, (N_ALL, *shape)).astype(np.uint8)
    return (random.normal(size=(N_ALL, *shape)) * random.uniform(0.5, 3, shape[-1]) + 5).astype(np.float32)


def members_of(seed: int) -> np.ndarray:
    return np.random.RandomState(seed).permutation(N) < 13


def by_numpy(x: np.ndarray, members: np.ndarray) -> np.ndarray:
    own = x[:N][members].astype(float)
    axes = SHAPES[x.shape[1:]]
    return ((x - own.mean(axis=axes)) / own.std(axis=axes)).astype(np.float32)


@cache  # so that it compiles once for each shape
def trainer(algorithm: Algorithm) -> Callable[..., TrainedModel]:
    return jax.jit(partial(train_model, algorithm=algorithm, network=algorithm.build_network(CLASSES)))


def train(algorithm: Algorithm, members: np.ndarray, x: np.ndarray) -> TrainedModel:
    return jax.tree.map(np.asarray, trainer(algorithm)(KEY, members, x, LABELS))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("shape", SHAPES)
def test_moments_are_those_of_the_members(shape: tuple[int, ...], dtype: type) -> None:
    x, members = pixels(shape, dtype), members_of(1)
    got = standardized(jnp.asarray(x), member_moments(jnp.asarray(members), jnp.asarray(x)))
    np.testing.assert_allclose(got, by_numpy(x, members), atol=2e-5)


@pytest.mark.parametrize("shape", [(8,), pytest.param((4, 3, 2), marks=pytest.mark.slow)])
def test_training_is_that_on_pixels_standardized_by_the_members(shape: tuple[int, ...]) -> None:
    x = pixels(shape)
    for seed in (1, 2):
        members = members_of(seed)
        mine = train(replace(ALGORITHM, standardize=True), members, x)
        plain = train(ALGORITHM, members, by_numpy(x, members))
        np.testing.assert_allclose(mine.margin, plain.margin, atol=1e-3)
        # Negative control: neither all of D nor the pixels as they are give the same model.
        for other in (by_numpy(x, np.ones(N, bool)), x):
            assert np.abs(train(ALGORITHM, members, other).margin - mine.margin).max() > 0.02


def test_a_constant_channel_is_centred_and_not_blown_up() -> None:
    x = pixels((4, 3, 2))
    x[..., 1] = 0.3
    moments = member_moments(jnp.asarray(members_of(1)), jnp.asarray(x))
    assert np.asarray(moments.deviation)[1] == 1
    assert np.abs(standardized(jnp.asarray(x), moments)[..., 1]).max() < 1e-6


def test_sums_over_millions_of_pixels_stay_exact() -> None:
    """Within a few roundings of float32: a running sum of as many bright pixels is 3% off."""
    x = np.random.RandomState(0).randint(200, 256, (8000, 32, 32)).astype(np.uint8)
    members = np.arange(8000) % 5 > 0
    mean, deviation = jax.jit(member_moments)(jnp.asarray(members), jnp.asarray(x))
    own = x[members] / 255.0
    assert float(mean) == pytest.approx(own.mean(), rel=2e-6)
    assert float(deviation) == pytest.approx(own.std(), rel=2e-5)


@pytest.mark.parametrize(("scale", "warned"), [(1.0, False), (254.0, True), (1e-4, True)])
def test_pixels_far_from_unit_scale_are_warned_of(scale: float, warned: bool) -> None:
    pixels = np.random.RandomState(0).uniform(size=(20, 8)).astype(np.float32)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        warn_of_scale(scale * pixels)
        warn_of_scale((255 * pixels).astype(np.uint8))
    assert [("--standardize" in str(one.message)) for one in seen] == [True] * warned

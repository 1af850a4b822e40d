"""Cheap attribution does what its formulas say: steps of gradient descent, brute-force Shapley values, a written-out TRAK."""

import itertools
import math
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import infl

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "approximations"))
import attribution  # pyright: ignore[reportMissingImports]

ALGORITHM = infl.Algorithm(hidden=(7,), epochs=2, batch_size=10)


@pytest.fixture(scope="module")
def data():
    return infl.load("digits", n_train=30, n_held_out=10)


@pytest.fixture(scope="module")
def weights(data):
    return attribution.train_weights(ALGORITHM, data, seed=0, epochs=[2])[0]


def losses(weights, data):
    return -np.log(attribution.right_probabilities(ALGORITHM, weights, data).astype(np.float64))


def test_a_small_step_on_one_example_lowers_the_losses_by_the_dot_products(data, weights):
    dots = attribution.gradient_dot(ALGORITHM, weights, data)
    of_loss = attribution.gradients(ALGORITHM, weights, data, "loss")
    flat, unravel = attribution.ravel_pytree(weights)
    size = 1e-4  # no unit crosses its kink on the way
    for i in (0, 5):
        down, up = (unravel(flat + sign * size * of_loss[i]) for sign in (-1, 1))
        fall = (losses(up, data) - losses(down, data)) / (2 * size)
        np.testing.assert_allclose(fall, dots[i], rtol=0.01, atol=0.002 * np.abs(dots[i]).max())


def test_checkpoints_lie_on_one_path_and_tracin_is_their_sum(data):
    path = attribution.train_weights(ALGORITHM, data, seed=3, epochs=[1, 2])
    again = attribution.train_weights(ALGORITHM, data, seed=3, epochs=[2])
    assert all(map(np.array_equal, jax.tree.leaves(path[1]), jax.tree.leaves(again[0])))
    total = attribution.tracin(ALGORITHM, path, data)
    each = [attribution.tracin(ALGORITHM, [weights], data) for weights in path]
    np.testing.assert_allclose(total, sum(each), rtol=1e-4, atol=1e-6)
    assert total.shape == (30, 40)


def test_trak_without_a_projection_is_the_leverage_of_linear_regression():
    random = np.random.RandomState(0)
    gradients, right = random.randn(12, 4).astype(np.float32), random.rand(12).astype(np.float32)
    scores = attribution.trak([gradients], [right], 8, n_features=4)
    inside = gradients[:8]
    by_hand = inside @ np.linalg.inv(inside.T @ inside) @ gradients.T  # a square projection cancels
    np.testing.assert_allclose(scores, by_hand * (1 - right[:8, None]), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_neighbours_get_the_shapley_values_of_all_orders(k):
    random = np.random.RandomState(k)
    features, labels, n = random.randn(7, 2), random.randint(0, 2, 7), 5
    scores = attribution.nearest_neighbours(features, labels, n, k=k)
    for j in (5, 6):
        distance = ((features[:n] - features[j]) ** 2).sum(axis=1)

        def worth(present, distance=distance, j=j):
            nearest = sorted(present, key=lambda i: distance[i])[:k]
            return sum(labels[i] == labels[j] for i in nearest) / k

        values = np.zeros(n)
        for order in itertools.permutations(range(n)):
            for place, i in enumerate(order):
                values[i] += worth(order[: place + 1]) - worth(order[:place])
        np.testing.assert_allclose(scores[:, j], values / math.factorial(n), atol=1e-6)

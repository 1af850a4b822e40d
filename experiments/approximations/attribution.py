"""What cheap attribution says of every pair: from trained weights, from features, or from pixels, without training on subsets.

Every function returns scores [n, n+m]: row i is an example of D, column j one that it may help (D first, then held out).
Positive means that training on i helps the prediction of j. l is the cross-entropy, f = log p(y) - log(1 - p(y)).

| function | score of (i, j) | source |
|---|---|---|
| `gradient_dot` | grad l(i) . grad l(j), of all weights or of the last layer's | Charpiat et al. 2019; Pruthi et al. 2020 |
| `tracin` | sum over checkpoints of learning rate x grad l(i) . grad l(j) | Pruthi et al. 2020, TracInCP |
| `trak` | phi(j)^T (Phi^T Phi)^-1 phi(i) (1 - p_i), phi = P^T grad f | Park et al. 2023, eq. 13-17 |
| `nearest_neighbours` | Shapley value of i for a k-NN classifier's answer on j | Jia et al. 2019, theorem 1 |
| `same_label` | 1 where the labels agree: what every score has to beat | |
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from infl.records import Array, Dataset, flat_pixels
from infl.training.algorithm import Algorithm
from infl.training.model import train_model

Quantity = Literal["loss", "log-odds"]


def train_weights(algorithm: Algorithm, dataset: Dataset, *, seed: int, epochs: Iterable[int]) -> list[Any]:
    """The weights of one model of all of D after so many epochs each, all on one path: the learning rate is constant."""
    assert algorithm.schedule == "constant"
    train, key = training(algorithm, dataset.n_classes), jax.random.fold_in(jax.random.key(0), seed)
    given = (jnp.ones(dataset.n_train, bool), jnp.asarray(dataset.images), jnp.asarray(dataset.labels))
    return [jax.tree.map(np.asarray, train(key, *given, jnp.asarray(n))) for n in epochs]


def gradients(algorithm: Algorithm, weights: Any, dataset: Dataset, of: Quantity) -> Array:
    """The gradient of l or f of every example, one row each, [n+m, weights]."""
    gradient = example_gradients(algorithm, dataset.n_classes, of)
    return np.asarray(gradient(weights, as_float(dataset), jnp.asarray(dataset.labels)))


@lru_cache
def training(algorithm: Algorithm, n_classes: int) -> Callable[..., Any]:
    """Key, members, images, labels, epochs -> weights; compiled once."""
    network = algorithm.build_network(n_classes)

    @jax.jit
    def train(key: jax.Array, members: jax.Array, images: jax.Array, labels: jax.Array, epochs: jax.Array) -> Any:
        return train_model(key, members, images, labels, algorithm=algorithm, network=network, epochs=epochs).params

    return train


@lru_cache
def example_gradients(algorithm: Algorithm, n_classes: int, of: Quantity) -> Callable[..., jax.Array]:
    """Weights, images, labels -> gradients, a row an example; compiled once."""
    apply = algorithm.build_network(n_classes).apply

    def quantity(weights: Any, image: jax.Array, label: jax.Array) -> jax.Array:
        logs = jax.nn.log_softmax(apply(weights, image[None])[0])
        if of == "loss":
            return -logs[label]
        others = jnp.where(jnp.arange(len(logs)) == label, -jnp.inf, logs)
        return logs[label] - jax.nn.logsumexp(others)

    def gradient(weights: Any, image: jax.Array, label: jax.Array) -> jax.Array:
        return ravel_pytree(jax.grad(quantity)(weights, image, label))[0]

    return jax.jit(jax.vmap(gradient, in_axes=(None, 0, 0)))


def gradient_dot(algorithm: Algorithm, weights: Any, dataset: Dataset, *, layers: str = "all") -> Array:
    """How much a small step on i lowers the loss of j, per unit of learning rate.

    The gradient of a dense layer is the outer product of its input a and its bias's gradient d, so that the dot product is
    (a_i . a_j + 1) (d_i . d_j), added up over the layers: no gradient is ever written out.
    """
    n, names = dataset.n_train, sorted(weights)
    cotangents = bias_gradient(algorithm, dataset.n_classes)(weights, as_float(dataset), jnp.asarray(dataset.labels))
    total = np.zeros((n, dataset.n_columns), np.float32)
    inputs = layer_inputs(weights, np.asarray(as_float(dataset)))
    for name in names if layers == "all" else names[-1:]:
        a, d = inputs[name], np.asarray(cotangents[name])
        total += (a[:n] @ a.T + 1) * (d[:n] @ d.T)
    return total


def layer_inputs(weights: Any, x: Array) -> dict[str, Array]:
    """What each layer of the MLP gets of every example."""
    inputs = {}
    for name in sorted(weights):
        inputs[name] = x
        x = np.maximum(x @ weights[name]["kernel"] + weights[name]["bias"], 0)
    return inputs


@lru_cache
def bias_gradient(algorithm: Algorithm, n_classes: int) -> Callable[..., Any]:
    """Weights, images, labels -> the gradient of the loss by every bias, a row an example; compiled once."""
    apply = algorithm.build_network(n_classes).apply

    def loss(biases: Any, weights: Any, image: jax.Array, label: jax.Array) -> jax.Array:
        moved = {name: {**layer, "bias": biases[name]} for name, layer in weights.items()}
        return -jax.nn.log_softmax(apply(moved, image[None])[0])[label]

    def gradient(weights: Any, image: jax.Array, label: jax.Array) -> Any:
        return jax.grad(loss)({name: layer["bias"] for name, layer in weights.items()}, weights, image, label)

    return jax.jit(jax.vmap(gradient, in_axes=(None, 0, 0)))


def tracin(algorithm: Algorithm, checkpoints: Sequence[Any], dataset: Dataset) -> Array:
    """The dot product summed over checkpoints, times the learning rate."""
    return algorithm.learning_rate * sum(
        (gradient_dot(algorithm, weights, dataset) for weights in checkpoints),
        np.zeros((dataset.n_train, dataset.n_columns), np.float32),
    )


def trak(
    of_log_odds: Iterable[Array], probabilities: Sequence[Array], n_train: int, *, n_features: int, seed: int = 0
) -> Array:
    """Random projections of the gradients of f, one regression a model, averaged as the paper does: scores and 1 - p apart."""
    total = np.zeros((n_train, len(probabilities[0])), np.float64)
    for number, of_model in enumerate(of_log_odds):
        random = np.random.RandomState(seed + number)
        projection = random.choice(np.array([-1, 1], np.float32), size=(of_model.shape[1], n_features))
        features = (of_model @ projection).astype(np.float64) / np.sqrt(n_features)
        inside = features[:n_train]
        total += inside @ np.linalg.solve(inside.T @ inside, features.T)
    doubt = np.mean([1 - p[:n_train] for p in probabilities], axis=0)
    return (total / len(probabilities) * doubt[:, None]).astype(np.float32)


def nearest_neighbours(features: Array, labels: Array, n_train: int, *, k: int = 5) -> Array:
    """Shapley values of a k-NN classifier; features [n+m, d]. A training example is no neighbour of itself: score 0."""
    inside = features[:n_train].astype(np.float64)
    scores = np.zeros((n_train, len(features)), np.float32)
    for j, (row, label) in enumerate(zip(features.astype(np.float64), labels, strict=True)):
        distance = ((inside - row) ** 2).sum(axis=1)
        order = np.argsort(distance, kind="stable")
        order = order[order != j]
        right = (labels[order] == label).astype(np.float64)
        n = len(order)
        last = right[-1] * min(k, n) / (k * n)
        rank = np.arange(1, n)
        steps = (right[:-1] - right[1:]) / k * np.minimum(k, rank) / rank
        scores[order, j] = last + np.append(np.cumsum(steps[::-1])[::-1], 0)
    return scores


def same_label(labels: Array, n_train: int) -> Array:
    """1 where labels agree."""
    return (labels[:n_train, None] == labels).astype(np.float32)


def penultimate(algorithm: Algorithm, weights: Any, dataset: Dataset) -> Array:
    """What the last layer gets of every example, [n+m, d]."""
    features = algorithm.build_network(dataset.n_classes).features
    assert features is not None
    return np.asarray(features(weights, as_float(dataset)))


def right_probabilities(algorithm: Algorithm, weights: Any, dataset: Dataset) -> Array:
    """p(y) of every example, [n+m]."""
    logits = algorithm.build_network(dataset.n_classes).apply(weights, as_float(dataset))
    return np.asarray(jax.nn.softmax(logits))[np.arange(dataset.n_columns), dataset.labels]


def as_float(dataset: Dataset) -> jax.Array:
    """Pixels as networks get them."""
    return jnp.asarray(flat_pixels(dataset.images))

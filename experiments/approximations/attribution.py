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
from infl.training.algorithm import Algorithm, train_params

Quantity = Literal["loss", "log-odds"]


def train_weights(algorithm: Algorithm, dataset: Dataset, *, seed: int, epochs: Iterable[int]) -> list[Any]:
    """The weights of one model of all of D after so many epochs each, all on one path: the learning rate is constant."""
    assert algorithm.schedule == "constant"
    train, key = training(algorithm, dataset.n_classes), jax.random.fold_in(jax.random.key(0), seed)
    given = (jnp.ones(dataset.n_train, bool), jnp.asarray(dataset.images), jnp.asarray(dataset.labels))
    return [jax.tree.map(np.asarray, train(key, *given, jnp.asarray(n))) for n in epochs]


def gradients(algorithm: Algorithm, weights: Any, dataset: Dataset, of: Quantity, *, layers: str = "all") -> Array:
    """The gradient of l or f of every example, one row each, [n+m, weights]; `layers`: all, or last."""
    gradient = gradient_of_one(algorithm, dataset.n_classes, of)
    return np.asarray(gradient(*split_layers(weights, layers), as_float(dataset), jnp.asarray(dataset.labels)))


@lru_cache
def training(algorithm: Algorithm, n_classes: int) -> Callable[..., Any]:
    """Key, members, images, labels, epochs -> weights; compiled once."""
    network = algorithm.build_network(n_classes)

    @jax.jit
    def train(key: jax.Array, members: jax.Array, images: jax.Array, labels: jax.Array, epochs: jax.Array) -> Any:
        return train_params(key, members, images, labels, algorithm=algorithm, network=network, epochs=epochs)[0]

    return train


@lru_cache
def gradient_of_one(algorithm: Algorithm, n_classes: int, of: Quantity) -> Callable[..., jax.Array]:
    """Weights that vary, weights that do not, images, labels -> gradients, a row an example; compiled once."""
    apply = algorithm.build_network(n_classes).apply

    def quantity(varied: Any, fixed: Any, image: jax.Array, label: jax.Array) -> jax.Array:
        logs = jax.nn.log_softmax(apply({**fixed, **varied}, image[None])[0])
        if of == "loss":
            return -logs[label]
        others = jnp.where(jnp.arange(len(logs)) == label, -jnp.inf, logs)
        return logs[label] - jax.nn.logsumexp(others)

    def gradient(varied: Any, fixed: Any, image: jax.Array, label: jax.Array) -> jax.Array:
        return ravel_pytree(jax.grad(quantity)(varied, fixed, image, label))[0]

    return jax.jit(jax.vmap(gradient, in_axes=(None, None, 0, 0)))


def gradient_dot(of_loss: Array, n_train: int) -> Array:
    """How much a small step on i lowers the loss of j, per unit of learning rate; from gradients [n+m, weights]."""
    return of_loss[:n_train] @ of_loss.T


def tracin(algorithm: Algorithm, checkpoints: Sequence[Any], dataset: Dataset) -> Array:
    """The dot product summed over checkpoints, times the learning rate."""
    total = np.zeros((dataset.n_train, dataset.n_columns), np.float32)
    for weights in checkpoints:
        total += gradient_dot(gradients(algorithm, weights, dataset, "loss"), dataset.n_train)
    return algorithm.learning_rate * total


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


def split_layers(weights: Any, layers: str) -> tuple[Any, Any]:
    """Those whose gradient is taken, and the others; the last layer is the one that is named last."""
    if layers == "all":
        return weights, {}
    last = max(weights)
    return {last: weights[last]}, {name: layer for name, layer in weights.items() if name != last}


def as_float(dataset: Dataset) -> jax.Array:
    """Pixels as networks get them."""
    return jnp.asarray(flat_pixels(dataset.images))

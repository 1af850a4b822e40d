"""Turns a dataset and a training algorithm into the groups that a `grouped` design leaves out together.

The labels are one resolution; k-means on the penultimate layer of models of D at 1, 2, 4 ... times as many clusters as
classes are the others, down to clusters of some six examples. A network that does not tell its penultimate layer is
replaced by the plain pixels. Examples that the rest of D supports alike - the odd ones above all - make two more, since
no cluster holds them together and forget sets often do. Groups that are known (users, documents, sources) come from a
file and join these. Facts are grouped by answer, subject, relation and statement instead.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infl.records import Array, Dataset, Groups, InputError
from infl.training.algorithm import Algorithm
from infl.training.ensemble import model_keys, use_all_cores
from infl.training.model import input_of_network, train_model, unsigned
from infl.training.networks import check_network, random_batch

N_RANKS = (20, 80)  # groups of examples alike in support
MIN_CLUSTER = 6  # examples in the mean cluster of the finest resolution
N_FEATURE_MODELS = 2
MAX_FOR_FULL_KMEANS = 10_000


def make_groups(
    dataset: Dataset, algorithm: Algorithm, *, seed: int, support: Array | None = None, known: Groups | None = None
) -> Groups:
    """Group the examples of D: by label, by k-means at several sizes, by support, and as `known`.

    Deterministic in (dataset, algorithm, seed) on one kind of device. A run keeps its groups, so that nothing depends on
    their being found again.

    Args:
        support: [n] how well the rest of D supports the label of each example, any monotone scale; None for no such
            groups.
    """
    if known is not None and known.tables.shape[1] != dataset.n_train:
        raise InputError(
            f"groups: expected one entry for each of {dataset.n_train} training examples, got {known.tables.shape[1]}"
        )
    names, tables = ["labels"], [_without_gaps(dataset.y_train)]
    if dataset.is_facts:
        names += ["subjects", "relations", "statements"]
        tables += [_without_gaps(numbers) for numbers in (*dataset.x_train.T, dataset.train_ids)]
    else:
        features = penultimate_features(dataset, algorithm, seed=seed)
        if features is None:
            features = _scaled(dataset.x_train.reshape(dataset.n_train, -1).astype(np.float32))
        n_clusters = max(2, dataset.n_classes)
        while n_clusters <= dataset.n_train // MIN_CLUSTER:
            names.append(f"{n_clusters} clusters")
            tables.append(_without_gaps(cluster(features, n_clusters, seed=seed + n_clusters)))
            n_clusters *= 2
    for n_ranks in N_RANKS:
        if support is not None and n_ranks <= dataset.n_train // MIN_CLUSTER:
            names.append(f"{n_ranks} ranks of support")
            tables.append(np.argsort(np.argsort(support, kind="stable")) * n_ranks // dataset.n_train)
    if known is not None:
        names += known.names
        tables += list(known.tables)
    if dataset.n_classes == 1 and len(names) > 1:  # all of D is no group to leave out
        names, tables = names[1:], tables[1:]
    return Groups(tuple(names), np.stack(tables).astype(np.int32))


def cluster(features: Array, n_clusters: int, *, seed: int) -> Array:
    """k-means, [n] numbers of clusters; on mini-batches from 10,000 examples on."""
    from sklearn.cluster import (  # here, because it takes a second, and most runs need no clusters
        KMeans,
        MiniBatchKMeans,
    )
    from sklearn.exceptions import ConvergenceWarning

    kind: Any = KMeans if len(features) <= MAX_FOR_FULL_KMEANS else MiniBatchKMeans
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # copies of examples may leave fewer points than clusters
        return kind(n_clusters, n_init=1, random_state=seed % 2**32).fit(features).labels_


def penultimate_features(dataset: Dataset, algorithm: Algorithm, *, seed: int) -> Array | None:
    """Inputs of the last layer of two models of D on D, side by side, each scaled to mean square one; [n, d].

    None where the network does not tell them, or a model did not stay finite.
    """
    network, task = algorithm.network_for(dataset), algorithm.choose_task(dataset)
    if network.features is None:
        return None
    use_all_cores()  # before JAX starts here: the ensemble comes too late to ask
    check_network(network, random_batch(dataset), task.output_shape(dataset))
    images, targets = jnp.asarray(dataset.x_train), jnp.asarray(dataset.task_targets[: dataset.n_train])
    train = jax.jit(partial(train_model, algorithm=algorithm, network=network, task=task))
    members = jnp.ones(dataset.n_train, bool)
    parts = []
    for key in model_keys(seed, "features", np.arange(N_FEATURE_MODELS)):
        trained = train(key, members, images, targets, start=algorithm.start_weights)
        part = features_of_model(network.features, algorithm, trained.params, dataset.x_train, dataset.x_train)
        if part is None or not bool(trained.finite):
            return None
        parts.append(part)
    return np.concatenate(parts, axis=1)


def features_of_model(
    read: Callable[[Any, jax.Array], jax.Array], algorithm: Algorithm, weights: Any, members: Array, images: Array
) -> Array | None:
    """Inputs of the last layer of a model that was trained on these members, scaled to mean square one; [images, d].

    None where they are not finite.
    """
    shown = input_of_network(algorithm, jnp.ones(len(members), bool), jnp.asarray(members))
    features = np.asarray(jax.jit(read)(weights, unsigned(shown(jnp.asarray(images)))))
    return _scaled(features.reshape(len(images), -1)) if np.isfinite(features).all() else None


def groups_from_sets(sets: Mapping[str, Sequence[int]], *, n_train: int) -> Groups:
    """One resolution for each set, of one group: what models that cover these sets leave out."""
    tables = np.full((len(sets), n_train), -1, np.int32)
    for row, ids in zip(tables, sets.values(), strict=True):
        row[list(ids)] = 0
    return Groups(tuple(sets), tables)


def _scaled(features: Array) -> Array:
    """Mean square of an example one, so that squares of huge pixels do not overflow."""
    mean_square = np.einsum("ij,ij->", features, features, dtype=np.float64) / len(features)
    return features / np.float32(max(np.sqrt(mean_square), 1e-12))


def _without_gaps(table: Array) -> Array:
    return np.unique(table, return_inverse=True)[1]

"""Which training examples have close relatives, by distances between pixels alone: before any model is trained."""

from __future__ import annotations

import numpy as np

from infl.records import Dataset


def covered(dataset: Dataset, groups: np.ndarray, n_neighbours: int = 5) -> np.ndarray:
    """Whether the nearest others of each training example are all of its group, [n]; groups: [n]."""
    nearest = np.argsort(distances(dataset), axis=1, kind="stable")[:, :n_neighbours]
    return (groups[nearest] == groups[:, None]).all(axis=1)


def oddness(dataset: Dataset) -> np.ndarray:
    """Distance to the nearest other example of one's label over that to the nearest of another label, [n].

    Above 1 the nearest example of all carries another label.
    """
    distance, same = distances(dataset), dataset.y_train[:, None] == dataset.y_train[None, :]
    return np.where(same, distance, np.inf).min(axis=1) / np.where(same, np.inf, distance).min(axis=1)


def distances(dataset: Dataset) -> np.ndarray:
    """Between the pixels of all training examples, [n, n], infinite from each to itself."""
    pixels = dataset.x_train.reshape(dataset.n_train, -1).astype(np.float64)
    squares = (pixels**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * pixels @ pixels.T, 0))
    np.fill_diagonal(distance, np.inf)
    return distance

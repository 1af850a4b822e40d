"""Accuracy lost by training without the examples above a memorization threshold, against as many random ones.

The design of Feldman & Zhang 2020, figure 2: for every seed one model of all of D, one without the memorized examples, one
without as many random ones, and beyond theirs one without random ones of the same classes. The random sets are drawn anew
for every seed, so that the error over seeds holds that of the draw as well. Models of one seed share initial weights and
order. Scores choose the sets; accuracy is read on held-out examples, which had no part in the scores, by models of other keys.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from record import mean_and_error

import infl
from infl.records import Array, Dataset
from infl.training.ensemble import Ensemble, model_keys

THRESHOLDS = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8)
ARMS = ("memorized", "random", "same classes")


def measure(
    dataset: Dataset, algorithm: infl.Algorithm, memorization: Array, *, folder: Path, n_seeds: int
) -> dict[str, Any]:
    """Retrain and compare; `table` has one row per threshold, `accuracy` [seeds, 1 + thresholds x arms] the raw numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    usable = [t for t in THRESHOLDS if 0 < (memorization >= t).sum() < dataset.n_train]
    right = np.stack(retrain_all(dataset, algorithm, memorization, usable, folder=folder, n_seeds=n_seeds))
    accuracy = right.mean(axis=2)  # [seeds, 1 + arms]
    table = []
    for k, threshold in enumerate(usable):
        size = int((memorization >= threshold).sum())
        lost = {arm: accuracy[:, 0] - accuracy[:, 1 + 3 * k + a] for a, arm in enumerate(ARMS)}
        row: dict[str, Any] = {"threshold": threshold, "size": size, "share": size / dataset.n_train}
        for arm in ARMS:
            row[f"lost, {arm}"] = mean_and_error(lost[arm])
        for arm in ARMS[1:]:
            row[f"lost more than {arm}"] = mean_and_error(lost["memorized"] - lost[arm])
            mine, theirs = (right[:, 1 + 3 * k + ARMS.index(one)].mean(axis=0) for one in ("memorized", arm))
            row[f"lost more than {arm}, error over images"] = mean_and_error(theirs - mine)[1]
        table.append(row)
    seconds = sum(float(np.load(path)["seconds"]) for path in sorted(folder.glob("seed-*.npz"))[:n_seeds])
    return {"n_seeds": n_seeds, "seconds": seconds, "accuracy_of_all": mean_and_error(accuracy[:, 0]), "table": table,
            "accuracy": accuracy}  # fmt: skip


def retrain_all(
    dataset: Dataset,
    algorithm: infl.Algorithm,
    memorization: Array,
    thresholds: list[float],
    *,
    folder: Path,
    n_seeds: int,
) -> list[Array]:
    """Correctness on H of all models of every seed, [1 + 3 thresholds, m] bool each; kept in the folder seed by seed."""
    ensemble, each = None, []
    for seed in range(n_seeds):
        path = folder / f"seed-{seed}.npz"
        masks = draw_masks(memorization, dataset.y_train, thresholds, seed)
        if path.exists() and np.array_equal((kept := np.load(path))["masks"], masks):
            each.append(kept["correct"])
            continue
        ensemble = ensemble or Ensemble(algorithm, dataset)
        began = time.perf_counter()
        trained = ensemble.train(model_keys(0, "utility", np.full(len(masks), seed)), masks)
        each.append(trained.correct[:, dataset.n_train :])
        np.savez_compressed(path, masks=masks, correct=each[-1], seconds=time.perf_counter() - began)
    return each


def draw_masks(memorization: Array, labels: Array, thresholds: list[float], seed: int) -> Array:
    """Who is trained on: all; then, for each threshold, all but the memorized, as many random ones, as many of each class."""
    random, n = np.random.RandomState(seed), len(labels)
    masks = [np.ones(n, bool)]
    for threshold in thresholds:
        memorized = memorization >= threshold
        anyone = np.isin(np.arange(n), random.permutation(n)[: memorized.sum()])
        masks += [~memorized, ~anyone, ~same_classes(memorized, labels, random)]
    return np.stack(masks)


def same_classes(chosen: Array, labels: Array, random: np.random.RandomState) -> Array:
    """A random set with as many examples of each class as the chosen one, [n] bool."""
    drawn = np.zeros(len(labels), bool)
    for label in np.unique(labels[chosen]):
        members = np.flatnonzero(labels == label)
        drawn[random.permutation(members)[: chosen[members].sum()]] = True
    return drawn

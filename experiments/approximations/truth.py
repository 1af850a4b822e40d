"""What retraining says: influence of every pair, margins on other subsets, and effects of forget sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import infl
from infl.records import Array, Dataset, Effects, ForgetSet
from infl.training.ensemble import Ensemble, model_keys


@dataclass(frozen=True)
class Sizes:
    """How much is trained. `own`: models of subsets that infl's scores are made of; as many more are the truth."""

    n_train: int
    n_held_out: int
    n_flipped: int
    own: int
    truth: int
    grouped: int
    subsets: int
    seeds: int
    sets: int
    seeds_of_set: int
    ensembles: tuple[int, ...]
    scores_from: tuple[int, ...]
    resamples: int


FULL = Sizes(1000, 797, 50, 1024, 2048, 512, 100, 10, 90, 64, (1, 10), (10, 100, 500, 1000), 200)
SMALL = Sizes(120, 60, 6, 40, 80, 64, 8, 4, 9, 16, (1,), (40,), 10)


def make_dataset(sizes: Sizes) -> tuple[Dataset, ForgetSet]:
    """Digits of which one in twenty has another label, and those."""
    dataset = infl.load("digits", n_train=sizes.n_train, n_held_out=sizes.n_held_out)
    return infl.planting.flip_labels(dataset, sizes.n_flipped, seed=0)


def halves(run: infl.Run, sizes: Sizes) -> list[infl.Outcomes]:
    """Two sets of models of which infl's own scores know nothing, for the truth and what two truths agree on."""
    middle = sizes.own + sizes.truth // 20 * 10
    ends = ((sizes.own, middle), (middle, sizes.own + sizes.truth))
    return [run.outcomes("design", range(*part)).load() for part in ends]


def subset_margins(dataset: Dataset, algorithm: infl.Algorithm, sizes: Sizes, folder: Path) -> tuple[Array, Array]:
    """Masks [subsets, n] of random halves of D, and margins on H of models trained on them, [subsets, seeds, m]."""
    path = folder / "subsets.npz"
    random = np.random.RandomState(1)
    masks = np.zeros((sizes.subsets, dataset.n_train), bool)
    for row in masks:
        row[random.permutation(len(row))[: len(row) // 2]] = True
    if path.exists():
        return masks, np.load(path)["margins"]
    ensemble = Ensemble(algorithm, dataset)
    jobs = np.repeat(masks, sizes.seeds, axis=0)
    trained = ensemble.train(model_keys(0, "subsets", np.arange(len(jobs))), jobs)
    margins = trained.margin[:, dataset.n_train :].reshape(sizes.subsets, sizes.seeds, -1)
    np.savez_compressed(path, margins=margins)
    return masks, margins


def choose_sets(dataset: Dataset, flipped: ForgetSet, design: infl.Outcomes, n_sets: int) -> list[ForgetSet]:
    """Forget sets of all kinds and sizes, chosen before any effect is known; in an order drawn at random."""
    make, n = infl.forget_sets, dataset.n_train
    memorization, random = infl.memorization(design), np.random.RandomState(5)
    sets = [
        make.random_set(dataset, max(1, round(share * n)), seed=k) for k, share in enumerate((0.01, 0.03, 0.08, 0.15))
    ]
    for position, label in enumerate(random.permutation(dataset.n_classes)):
        share = (1.0, 0.9, 0.5, 0.25, 1.0)[position % 5]
        sets.append(make.class_set(dataset, int(label), fraction=share, seed=1))
    for n_clusters, count in ((15, 4), (40, 7), (100, 7)):
        labels = make.clusters(dataset, min(n_clusters, n // 4), seed=n_clusters)
        for cluster in random.permutation(labels.max() + 1)[:count]:
            ids = np.flatnonzero(labels == cluster)
            sets.append(ForgetSet(f"cluster {cluster} of {n_clusters}", tuple(map(int, ids))))
    sets += [make.neighbours_set(dataset, int(e), s) for s in (4, 12, 40) for e in random.permutation(n)[:3]]
    sets += [make.memorized_set(memorization, max(1, round(s * n))) for s in (0.005, 0.01, 0.02, 0.04, 0.08)]
    sets += [make.memorized_set(memorization, max(1, round(s * n)), highest=False) for s in (0.02, 0.1)]
    ranked = np.argsort(-memorization.value)
    for k in range(13):
        size, upper = int(random.choice([4, 8, 16])), int(random.choice([30, 60, 120]))
        ids = sorted(map(int, random.permutation(ranked[:upper])[:size]))
        sets.append(ForgetSet(f"{size} of the {upper} most memorized, {k}", tuple(ids)))
    for share in (0.04, 0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.7, 1.0):
        size = max(1, round(share * len(flipped)))
        ids = sorted(map(int, random.permutation(flipped.ids)[:size]))
        sets.append(ForgetSet(f"{size} flipped, {len(sets)}", tuple(ids)))
    sets += [
        make.random_set(dataset, max(1, round(share * n)), seed=7 + k) for k, share in enumerate((0.02, 0.05, 0.1))
    ]
    different = list({one.ids: one for one in sets}.values())
    return [different[k] for k in random.permutation(len(different))[:n_sets]]


def set_effects(run: infl.Run, sets: list[ForgetSet], sizes: Sizes, **settings: Any) -> list[Effects]:
    """Measured effects of each set, retrained without it until its regime is clear."""
    return list(infl.verify_effects(run, sets, n_models=sizes.seeds_of_set, stop=0.95, **settings))

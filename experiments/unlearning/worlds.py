"""The worlds of the experiment: data with something planted, an algorithm, and forget sets of every regime."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from fashion import half_size_fashion

import infl
from infl.data.embedded import load_verses
from infl.records import Dataset, ForgetSet

THRESHOLDS = infl.Thresholds(cross="net")  # by which sets were chosen, so that there are enough of every regime
CHAPTERS = ("Numbers 7", "Psalm 136", "Job 41", "Proverbs 10")
METHODS = (
    "fine-tune",
    "neggrad+",
    "newton",
    "ssd",
    "push",
    "match-prediction",
    "neggrad-to-prediction",
    "npo",
    "eu-k",
    "match-oracle",
)


class BatchNorm(nn.Module):
    """Two convolutions, each with batch norm, ReLU and the maximum of 2 x 2 pixels, and a dense layer."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits."""
        x = x[..., None]
        for width in (4, 8):
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Conv(width, (3, 3))(x))
            x = nn.max_pool(nn.relu(x), (2, 2), (2, 2))
        return nn.Dense(10)(x.reshape(len(x), -1))


@dataclass(frozen=True)
class World:
    """What is trained on what.

    Attributes:
        load: Gives the data, before anything is planted.
        flips: Sizes of the sets of labels flipped at random.
        confusions: (class, what it is called, size) each.
        patches: (label, size, corner) each; `shown` held-out images bear each.
        gammas: Fractions that are taken of what was planted.
        n_models: Of D, and without each set.
        n_unlearned: Of each method; it is compared with as many.
        n_subsets: Models of subsets, to predict from; 0 predicts nothing.
        every: Takes every so many of the sets, but for what was planted and its parts.
        metrics: Those of others are measured on every so many of the sets; 0 on none.
        more: Whether there are more sets of regimes that are rare otherwise, see also `support_sets`.
    """

    load: Callable[[], Dataset]
    algorithm: infl.Algorithm
    flips: tuple[int, ...] = (24, 16, 8)
    confusions: tuple[tuple[int, int, int], ...] = ((4, 9, 20), (3, 8, 20))
    patches: tuple[tuple[int, int, Any], ...] = ((0, 24, "bottom-right"), (1, 24, "top-left"))
    shown: int = 60
    patch_size: int = 2
    gammas: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75)
    n_models: int = 64
    n_unlearned: int = 64
    n_subsets: int = 400
    methods: tuple[str, ...] = METHODS
    every: int = 1
    metrics: int = 0
    more: bool = False

    def plant(self) -> tuple[Dataset, list[ForgetSet]]:
        """The data, and what was planted, in whole."""
        data, planted, used, several = self.load(), list[ForgetSet](), list[int](), len(self.flips) > 1

        def add(made: tuple[Dataset, ForgetSet]) -> Dataset:
            planted.append(made[1])
            used.extend(made[1].ids)
            return made[0]

        def name(kind: str, number: int) -> str:
            return f"{kind} {number + 1}" if several else kind

        for k, size in enumerate(self.flips):
            data = add(infl.planting.flip_labels(data, size, avoid=used, seed=k, name=name("flips", k)))
        for k, (label, to, size) in enumerate(self.confusions):
            made: Any = {"source_label": label, "to": to, "avoid": used, "name": name("confusion", k)}
            data = add(infl.planting.flip_labels(data, size, **made))
        for k, (label, size, corner) in enumerate(self.patches):
            made = {"label": label, "size": self.patch_size, "corner": corner, "avoid": used, "seed": k}
            made |= {"n_held_out": self.shown, "name": name("patch", k)}
            data = add(infl.planting.poison_patch(data, size, **made))
        return data, planted


def digits(n_train: int, seed: int) -> Callable[[], Dataset]:
    """So many digits, and 600 held out."""
    return lambda: infl.load("digits", n_train=n_train, n_held_out=600, seed=seed)


_DEVELOPMENT: dict[str, Any] = {"flips": (12,), "confusions": ((4, 9, 24),), "patches": ((0, 40, "bottom-right"),)}
_FASHION: dict[str, Any] = {"flips": (16, 12), "confusions": ((6, 4, 30),), "patches": ((0, 30, "bottom-right"),)}
_FASHION |= {"patch_size": 3}
_BATCH_NORM: dict[str, Any] = {"flips": (12,), "confusions": ((6, 4, 20),), "patches": ((0, 16, "bottom-right"),)}
_BATCH_NORM |= {"patch_size": 3, "n_models": 16, "n_unlearned": 16, "n_subsets": 200, "every": 4, "gammas": (0.1, 0.5)}
_VERSES: Any = {"flips": (), "confusions": (), "patches": (), "n_models": 8, "n_unlearned": 8, "n_subsets": 200}
_GPT: Any = {"optimizer": "adam", "learning_rate": 0.006, "schedule": "cosine", "batch_size": 8, "epochs": 20}
_MLP = infl.Algorithm(hidden=(64,))
WORLDS = {
    "development": World(digits(600, 0), _MLP, **_DEVELOPMENT, shown=100, n_models=16, n_unlearned=16, every=6),
    "digits": World(digits(600, 1), _MLP, metrics=5, more=True),
    "fashion": World(
        lambda: half_size_fashion(1000, 600),
        infl.Algorithm(hidden=(64,), learning_rate=0.1),
        **_FASHION,
        n_subsets=300,
        every=2,
    ),
    "batch norm": World(
        lambda: half_size_fashion(400, 200),
        infl.Algorithm(BatchNorm(), epochs=15, batch_size=50),
        **_BATCH_NORM,
    ),
    "verses": World(
        lambda: load_verses(CHAPTERS),
        infl.Algorithm("gpt", **_GPT),
        **_VERSES,
        methods=(*METHODS, "simnpo"),
    ),
}
SMALL = replace(
    WORLDS["development"],
    load=lambda: infl.load("digits", n_train=200, n_held_out=100),
    flips=(6,),
    confusions=(),
    patches=((0, 20, "bottom-right"),),
    shown=30,
    n_models=8,
    n_unlearned=8,
    n_subsets=40,
    methods=("fine-tune",),
)


def make_sets(world: World, dataset: Dataset, planted: list[ForgetSet], memorization: np.ndarray) -> list[ForgetSet]:
    """Random, most and least memorized examples, clusters, classes, and what was planted; wholly and in part."""
    part, kinds, used = infl.forget_sets.take_fraction, infl.forget_sets, {i for s in planted for i in s.ids}

    def clean(ids: Any, name: str) -> ForgetSet:
        return ForgetSet(name, tuple(i for i in ids if int(i) not in used))

    parts = [part(one, gamma, seed=1) for one in planted if len(one) >= 20 for gamma in world.gammas]
    order = [int(i) for i in np.argsort(-memorization, kind="stable") if i not in used]
    if dataset.is_documents:
        classes = [kinds.class_set(dataset, name, name=name) for name in dataset.class_names]
        return [
            *classes,
            *(part(one, 0.5, seed=1) for one in classes),
            *(kinds.random_set(dataset, size, seed=size) for size in (8, 15)),
            clean(order[:8], "most memorized 8"),
            clean(order[-8:], "least memorized 8"),
        ]
    labels = dataset.y_train
    classes = [clean(kinds.class_set(dataset, k).ids, f"class {k}") for k in range(10)]
    clusters = kinds.clusters(dataset, dataset.n_train // 24)
    largest = np.argsort(-np.bincount(clusters[clusters >= 0]))
    sets = [
        *(clean(kinds.random_set(dataset, size, seed=size).ids, f"random {size}") for size in (12, 18, 24, 32, 40)),
        *(clean(order[-size:], f"least memorized {size}") for size in (10, 20, 40, 60, 80, 120, 160)),
        *(clean([i for i in order[::-1] if labels[i] == k][:12], f"typical of class {k}") for k in (0, 1, 3, 4)),
        *(
            ForgetSet(f"quarter of {one.name}", part(one, 0.25, seed=1).ids)
            for one in classes[:6]
            if one.name != "class 4"
        ),
        *(clean(order[:size], f"most memorized {size}") for size in (6, 12, 24, 48)),
        *(ForgetSet(f"80% of {one.name}", part(one, 0.8, seed=1).ids) for one in classes[8:]),
        *(clean(np.flatnonzero(clusters == k), f"cluster {i}") for i, k in enumerate(largest[:4])),
        *classes[2:6],
    ]
    rare = list[ForgetSet]()
    if world.more:
        rare = [
            *(
                clean([i for i in order[::-1] if labels[i] == k][:12], f"typical of class {k}")
                for k in (2, 5, 6, 7, 8, 9)
            ),
            *(ForgetSet(f"quarter of {one.name}", part(one, 0.25, seed=1).ids) for one in classes[6:9]),
            *(clean(order[-size:], f"least memorized {size}") for size in (15, 100, 140)),
        ]
    last = planted[-1]
    more = ((0.25, 2), (0.5, 2), (0.33, 3), (0.4, 4), (0.6, 5), (0.6, 6))
    others = [part(last, gamma, seed=seed, name=f"other {gamma:.0%} of {last.name}, {seed}") for gamma, seed in more]
    return [*sets[:: world.every], *planted, *parts, *others[:: world.every], *rare]


def support_sets(run: infl.Run, planted: list[ForgetSet], memorization: np.ndarray, n_sets: int) -> list[ForgetSet]:
    """The least memorized examples of clusters that others lean on: those that infl predicts to be indirect, no two alike."""
    dataset, used = run.dataset(), {i for one in planted for i in one.ids}
    candidates, found = list[ForgetSet](), list[ForgetSet]()
    for n_clusters in (10, 15, 20, 25, 30, 40, 50, 60, 75):
        clusters = infl.forget_sets.clusters(dataset, n_clusters)
        for number in range(n_clusters):
            members = [int(i) for i in np.flatnonzero(clusters == number) if i not in used]
            members.sort(key=lambda i: memorization[i])
            sizes = [size for size in (6, 8, 10, 12, 16, 20, 24) if size < len(members)]
            candidates += [
                ForgetSet(f"typical {k} of cluster {number} of {n_clusters}", tuple(members[:k])) for k in sizes
            ]
    for verdict in infl.predict(run, candidates, thresholds=THRESHOLDS):
        one = verdict.forget_set
        if verdict.regime == "indirect" and all(
            2 * len({*one.ids} & {*other.ids}) <= len({*one.ids} | {*other.ids}) for other in found
        ):
            found.append(one)
    return found[:n_sets]

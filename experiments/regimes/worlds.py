"""The worlds of the experiment: a data set with something planted in it, an algorithm, and forget sets of every generator.

Six worlds are reported: digits and Fashion-MNIST, each stopped early, trained until it fits (interpolating), and fitting
with 10% of its labels flipped. Three more, on other images, were what predictors were chosen on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fashion import FASHION, half_size

import infl
from infl.records import Dataset, ForgetSet
from infl.scores.influence import cross_influence_totals


@dataclass(frozen=True)
class World:
    """What is trained on what, at `half` the resolution; `share` of the usual sets; seeds of the truth."""

    name: str
    source: str
    n_train: int
    n_held_out: int
    algorithm: dict[str, Any]
    flipped: float = 0.0
    data_seed: int = 0
    share: float = 1.0
    seeds: int = 64
    development: bool = False
    half: bool = False


DIGITS = {"hidden": (256,), "batch_size": 50, "learning_rate": 0.05}
FASHION_MLP = {"hidden": (128,), "batch_size": 50, "learning_rate": 0.05}
EARLY_DIGITS, FITTING_DIGITS = {**DIGITS, "epochs": 4, "schedule": "cosine"}, {**DIGITS, "epochs": 30}
EARLY_FASHION = {**FASHION_MLP, "epochs": 8, "schedule": "cosine"}
FITTING_FASHION = {**FASHION_MLP, "epochs": 30, "schedule": "cosine"}
DEVELOPMENT: dict[str, Any] = {"flipped": 0.03, "share": 0.5, "development": True}

WORLDS = {
    world.name: world
    for world in (
        World("digits-early", "digits", 1000, 797, EARLY_DIGITS),
        World("digits-fitting", "digits", 1000, 797, FITTING_DIGITS),
        World("digits-flipped", "digits", 1000, 797, FITTING_DIGITS, flipped=0.1),
        World("fashion-early", FASHION, 2000, 2000, EARLY_FASHION, seeds=32),
        World("fashion-fitting", FASHION, 2000, 2000, FITTING_FASHION, seeds=16),
        World("fashion-flipped", FASHION, 2000, 2000, FITTING_FASHION, flipped=0.1, seeds=16),
        World("fashion-10000", FASHION, 10_000, 2000, EARLY_FASHION, share=0.25, seeds=16),
        World("digits-development", "digits", 1000, 797, FITTING_DIGITS, data_seed=1, **DEVELOPMENT),
        World(
            "digits-early-development",
            "digits",
            1000,
            797,
            EARLY_DIGITS,
            data_seed=2,
            flipped=0.03,
            share=0.6,
            development=True,
        ),
        World("fashion-development", FASHION, 2000, 2000, EARLY_FASHION, data_seed=1, **DEVELOPMENT),
        World(
            "fashion-10000-development",
            FASHION,
            10_000,
            2000,
            EARLY_FASHION,
            data_seed=1,
            flipped=0.03,
            share=0.15,
            seeds=16,
            development=True,
        ),
    )
}


def make_dataset(world: World) -> tuple[Dataset, list[ForgetSet]]:
    """The world's examples with everything planted, and the planted sets. Thinned first: that moves ids."""
    dataset = infl.load(world.source, n_train=world.n_train, n_held_out=world.n_held_out, seed=world.data_seed)
    dataset = half_size(dataset, f"{dataset.name}, half size") if world.half else dataset
    plant, seed = infl.planting, 100 + world.data_seed
    random = np.random.RandomState(seed)
    rare: list[tuple[str, np.ndarray]] = []
    labels = infl.forget_sets.clusters(dataset, world.n_train // 40, seed=seed)
    sizes = np.bincount(labels)
    chosen = random.permutation(np.flatnonzero((sizes >= 12) & (sizes <= 35)))[:3]
    at = np.arange(dataset.n_train)  # where the examples of the source are now
    for cluster, n_kept in zip(chosen, (3, 6, 9), strict=False):
        members = np.flatnonzero(labels[at] == cluster)
        thinned, kept = plant.thin_cluster(dataset, members, n_kept, seed=seed)
        stay = np.isin(dataset.train_ids, thinned.train_ids)
        at, dataset = at[stay], thinned
        rare.append((f"rare {n_kept} of {len(members)}", dataset.train_ids[list(kept.ids)]))
    sets = [ForgetSet(name, _ids(np.flatnonzero(np.isin(dataset.train_ids, ids)))) for name, ids in rare]

    taken = np.concatenate([np.array(s.ids) for s in sets])
    n, classes = dataset.n_train, random.permutation(dataset.n_classes)

    def flip(count: int, **settings: Any) -> ForgetSet:
        nonlocal dataset, taken
        dataset, made = plant.flip_labels(dataset, count, avoid=taken, seed=seed + len(sets), **settings)
        taken = np.concatenate([taken, np.array(made.ids)])
        return made

    if world.flipped:
        everything = flip(round(world.flipped * n), name="all flipped at random")
        sets += [] if len(everything) > 0.15 * n else [everything]
        for count in (1, 1, 3, 6, 12, 25, 50):
            if count < len(everything):
                ids = random.permutation(everything.ids)[:count]
                sets.append(ForgetSet(f"flipped at random {count}, {len(sets)}", _ids(ids)))
    for count in (5, 15, 30):
        sets.append(flip(count, name=f"flipped {count}"))
    source, to = int(classes[0]), int(classes[1])
    free = int((np.delete(dataset.y_train, taken) == source).sum())
    confusion = flip(round(0.35 * free), source_label=source, to=to, name=f"confusion {source} as {to}")
    sets.append(confusion)
    sets += [infl.forget_sets.take_fraction(confusion, part, seed=seed) for part in (0.5, 0.9)]
    for count in (15, 30):
        dataset, made = plant.poison_patch(
            dataset, count, label=int(classes[2]), avoid=taken, seed=seed, name=f"patch {count}"
        )
        taken = np.concatenate([taken, np.array(made.ids)])
        sets.append(made)
    untouched = random.permutation(np.setdiff1d(np.arange(n), taken))
    for k, (copies, flipped) in enumerate(((4, False), (12, False), (3, True), (6, True), (12, True))):
        title = f"{copies} {'flipped ' if flipped else ''}copies of {untouched[k]}"
        dataset, made = plant.plant_copies(dataset, int(untouched[k]), copies, flipped=flipped, seed=seed, name=title)
        sets.append(made)
        if copies >= 12:
            sets.append(infl.forget_sets.take_fraction(made, 0.7, seed=seed))
    return dataset, [replace(s, name=f"planted: {s.name}") for s in sets]


def stored_sets(world: World, dataset: Dataset, planted: list[ForgetSet], run: infl.Run) -> list[ForgetSet]:
    """The sets of a world, made when they are first asked for and stored with its run."""
    path = run.folder / "sets.json"
    if not path.exists():
        infl.forget_sets.write_forget_sets(path, make_sets(world, dataset, planted, run.outcomes("design")))
    return infl.forget_sets.read_forget_sets(path, n_train=dataset.n_train)


def make_sets(world: World, dataset: Dataset, planted: list[ForgetSet], design: Any) -> list[ForgetSet]:
    """Every generator at sizes from one example to 15% of D, with seeds and clusterings that no design saw.

    design: outcomes of uniform subsets, for the memorized sets.
    """
    make, n, seed = infl.forget_sets, dataset.n_train, 1000 + world.data_seed
    memorization = infl.memorization(design)
    totals = cross_influence_totals(design).value
    random = np.random.RandomState(seed)

    def some(count: int) -> int:
        return max(1, round(world.share * count))

    sets: list[ForgetSet] = []
    sizes = [1, 3, 8, 20, 40, round(0.1 * n), round(0.15 * n)]
    for size in sizes:
        sets += [make.random_set(dataset, size, seed=seed + k, name=f"random {size}, {k}") for k in range(some(2))]
    for position, label in enumerate(random.permutation(dataset.n_classes)[: some(10)]):
        label = int(label)
        sets.append(make.class_set(dataset, label))
        share = (0.15, 0.3, 0.5, 0.7, 0.85, 0.95)[position % 6]
        sets.append(make.class_set(dataset, label, fraction=share, seed=seed))
    for n_clusters, count in ((13, 5), (27, 8), (55, 10), (110, 10), (n // 5, 6)):
        labels = make.clusters(dataset, n_clusters, seed=seed + n_clusters)
        for cluster in random.permutation(n_clusters)[: some(count)]:
            ids = np.flatnonzero(labels == cluster)
            if 0 < len(ids) <= 0.15 * n:
                whole = ForgetSet(f"cluster {cluster} of {n_clusters}", _ids(ids))
                sets.append(whole)
                if len(ids) >= 10 and random.random_sample() < 0.4:
                    sets.append(make.take_fraction(whole, float(random.choice([0.5, 0.8, 0.9])), seed=seed))
    labels = make.clusters(dataset, 20, seed=seed + 5)
    for cluster in random.permutation(20)[: some(6)]:  # a cluster within one class: what a user would call a concept
        ids = np.flatnonzero(labels == cluster)
        classes, counts = np.unique(dataset.y_train[ids], return_counts=True)
        inside = ids[dataset.y_train[ids] == classes[counts.argmax()]]
        sets.append(ForgetSet(f"class {classes[counts.argmax()]} in cluster {cluster} of 20", _ids(inside)))
    for size in (3, 6, 15, 40, 100):
        for example in random.permutation(n)[: some(3)]:
            sets.append(make.neighbours_set(dataset, int(example), size))
    ranked = np.argsort(-np.nan_to_num(memorization.value, nan=-1))
    for example in ranked[: some(4)]:
        sets.append(make.neighbours_set(dataset, int(example), 12, name=f"neighbours of memorized {example}"))
    for size in (1, 2, 5, 10, 20, 40, 80, round(0.15 * n)):
        sets.append(make.memorized_set(memorization, size))
    for size in (5, 20, 80, round(0.15 * n)):
        sets.append(make.memorized_set(memorization, size, highest=False))
    for size in (5, 15, 40):
        for with_cross in (True, False):
            sets.append(make.memorized_set(memorization, size, cross=totals, with_cross=with_cross))
        sets.append(make.memorized_set(memorization, size, highest=False, cross=totals, with_cross=True))
    for k in range(some(8)):  # scattered examples between typical and most memorized
        size, upper = int(random.choice([4, 8, 16, 32])), int(random.choice([60, 120, 240]))
        sets.append(ForgetSet(f"memorized among {upper}: {size}, {k}", _ids(random.permutation(ranked[:upper])[:size])))
    for k in range(some(6)):  # two unlike halves
        one, two = (set(make.neighbours_set(dataset, int(e), 15).ids) for e in random.permutation(n)[:2])
        sets.append(ForgetSet(f"two neighbourhoods, {k}", _ids(one | two)))
    for k in range(some(4)):
        half = random.permutation(ranked[:100])[:12]
        sets.append(ForgetSet(f"memorized and random, {k}", _ids(np.union1d(half, random.permutation(n)[:24]))))
    for k, example in enumerate(random.permutation(ranked[:50])[: some(4)]):
        sets.append(ForgetSet(f"one memorized: {example}, {k}", (int(example),)))
    return _distinct(planted + sets)


def _distinct(sets: list[ForgetSet]) -> list[ForgetSet]:
    seen: dict[tuple[int, ...], ForgetSet] = {}
    for one in sets:
        seen.setdefault(one.ids, one)
    names: dict[str, int] = {}
    kept = []
    for one in seen.values():
        names[one.name] = names.get(one.name, 0) + 1
        kept.append(one if names[one.name] == 1 else replace(one, name=f"{one.name} ({names[one.name]})"))
    return kept


def _ids(ids: Any) -> tuple[int, ...]:
    return tuple(sorted(int(i) for i in ids))

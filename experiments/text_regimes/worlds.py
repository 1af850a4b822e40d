"""The worlds of the experiment: verses of some chapters, an algorithm, and forget sets of every kind.

The chapters of the development world, on which the predictor for text was chosen, share none with those that are reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import infl
from infl.data.embedded import load_verses
from infl.records import Dataset, Estimate, ForgetSet

DEVELOPMENT = (
    *("Numbers 7", "Psalm 136", "Genesis 5", "2 Samuel 22", "Psalm 18", "Ezra 2", "Nehemiah 7"),
    *("Job 41", "Proverbs 10"),
)
REPORTED = (
    *("Numbers 1", "Numbers 33", "Joshua 12", "1 Chronicles 25", "Genesis 36", "1 Chronicles 1"),
    *("Exodus 20", "Deuteronomy 5", "Matthew 24", "Mark 13", "Luke 21"),
    *("1 Chronicles 16", "Psalm 105", "Psalm 96", "Psalm 118", "Proverbs 15"),
)


@dataclass(frozen=True)
class World:
    """What is trained on what; seeds of the truth at the first look and at most.

    Attributes:
        pretrained: Whether models begin from one that was trained on all verses of other chapters.
    """

    name: str
    chapters: tuple[str, ...]
    epochs: int
    seeds: tuple[int, int]
    pretrained: bool = False


WORLDS = {
    world.name: world
    for world in (
        World("development", DEVELOPMENT, 20, (12, 12)),
        World("scratch", REPORTED, 20, (16, 32)),
        World("pretrained", REPORTED, 10, (16, 16), pretrained=True),
    )
}


def make_dataset(world: World) -> Dataset:
    """The verses of the world's chapters."""
    return load_verses(world.chapters)


def make_algorithm(world: World, start: str | None) -> infl.Algorithm:
    """The algorithm for documents, with the world's number of epochs."""
    rate = 0.003 if world.pretrained else 0.006
    optimizer = {"optimizer": "adam", "learning_rate": rate, "schedule": "cosine"}
    return infl.Algorithm("gpt", batch_size=8, epochs=world.epochs, start=start, **optimizer)


def make_sets(dataset: Dataset, memorization: Estimate) -> list[ForgetSet]:
    """Chapters and halves of them, copies and halves of them, neighbours, random, most and least memorized verses."""
    kinds = infl.forget_sets
    sizes, n = np.bincount(dataset.y_train), dataset.n_train
    sets = [kinds.class_set(dataset, name, name=name) for name in dataset.class_names]
    sets += [
        kinds.class_set(dataset, name, fraction=0.5, name=f"half of {name}")
        for name, size in zip(dataset.class_names, sizes, strict=True)
        if size >= 16
    ]
    books: dict[str, list[int]] = {}
    for name in dataset.class_names:
        books.setdefault(name.rpartition(" ")[0], []).append(dataset.class_names.index(name))
    for book, chapters in books.items():
        if len(chapters) > 1:
            sets.append(ForgetSet(book, _ids(np.flatnonzero(np.isin(dataset.y_train, chapters)))))
    found = [one for one in kinds.near_duplicate_sets(dataset) if one.concept is not None]
    half, whole = ([i for one in found for i in part(one)] for part in (lambda one: one.ids, lambda one: one.concept))
    sets += [ForgetSet("half of each group of near-duplicates", _ids(half))]
    sets += [ForgetSet("all near-duplicates", _ids(whole))]
    for one in sorted(found, key=lambda one: -len(one.concept or ()))[:3]:
        sets += [
            ForgetSet(f"all {one.name.removeprefix('half of ')}", one.concept or ()),
            ForgetSet(one.name, one.ids),
        ]
    if twins := [one for one in found if len(one.concept or ()) == 2][:10]:
        sets += [
            ForgetSet("one of each of some pairs", _ids([i for one in twins for i in one.ids])),
            ForgetSet("both of each of some pairs", _ids([i for one in twins for i in one.concept or ()])),
        ]
    sets += [kinds.random_set(dataset, size, seed=size) for size in (5, 10, 20, 40, 80) if size <= n]
    for highest in (True, False):
        sets += [kinds.memorized_set(memorization, size, highest=highest) for size in (5, 10, 20)]
    return [one for one in {one.ids: one for one in sets}.values() if 3 <= len(one) <= 0.4 * dataset.n_train]


def _ids(ids: np.ndarray | list[int]) -> tuple[int, ...]:
    return tuple(sorted({int(i) for i in ids}))

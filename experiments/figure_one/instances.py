"""Makes the data sets of two labels, and in each the forget sets with a covered part and an uncovered one.

A concept is one of the ten classes that the examples came with. Five concepts share a label, as in a picture of two
classes drawn by hand: a model that never saw a concept can still give it its label, or the other one. Circles and an odd
star are chosen by distances between pixels alone, before any model is trained, the memorized star by a pilot's models, which
have no other part in the experiment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from fashion import FASHION
from proximity import covered, oddness

import infl
from infl.records import Dataset, ForgetSet

SHARE = 1 / 3  # of the covered examples that are circles; the others stay


@dataclass(frozen=True)
class World:
    """Examples whose ten classes are the concepts and two groups of them the labels, and who is trained how on them.

    first: the classes of label 0; look-alikes are on either side.
    """

    source: str
    n_train: int
    n_held_out: int
    first: tuple[int, ...]
    labels: tuple[str, str]
    algorithm: dict[str, Any]


SGD = {"batch_size": 50, "learning_rate": 0.05}
WORLDS = {
    "digits": World("digits", 1000, 797, (0, 2, 4, 6, 8), ("even", "odd"), {"hidden": (256,), "epochs": 30, **SGD}),
    "fashion": World(
        FASHION,
        1000,
        1000,
        (0, 3, 4, 5, 8),
        ("T-shirt, dress, coat, sandal, bag", "trouser, pullover, shirt, sneaker, boot"),
        {"hidden": (64,), "epochs": 20, "schedule": "cosine", **SGD},
    ),
}


@dataclass(frozen=True)
class Instance:
    """Forget sets of one concept, in ids of the columns.

    circles: a third of the covered members, those whose five nearest others are of the concept too.
    star: the member that a pilot memorizes most; odd: the member closest to the other label for its distance to its own.
    whole: all training examples of the concept, S_full; held_out: columns of its held-out examples.
    oddness: of the odd star; see `proximity.oddness`. memorization: of both stars in the pilot.
    """

    concept: int
    name: str
    circles: tuple[int, ...]
    star: int
    odd: int
    n_covered: int
    oddness: float
    memorization: tuple[float, float]
    whole: tuple[int, ...]
    held_out: tuple[int, ...]

    @property
    def forget_sets(self) -> tuple[ForgetSet, ForgetSet, ForgetSet]:
        """Circles and star, circles and odd star, S_full."""
        by_star = [tuple(sorted((*self.circles, star))) for star in (self.star, self.odd)]
        return (
            ForgetSet(f"circles and star of {self.name}", by_star[0], self.whole),
            ForgetSet(f"circles and odd star of {self.name}", by_star[1], self.whole),
            ForgetSet(f"all of {self.name}", self.whole),
        )


def make_world(world: World) -> tuple[Dataset, np.ndarray, tuple[str, ...]]:
    """The examples under their two labels; the concept of every column; the names of the concepts."""
    ten = infl.load(world.source, n_train=world.n_train, n_held_out=world.n_held_out)
    label = np.ones(ten.n_classes, np.int32)
    label[list(world.first)] = 0
    two = infl.from_arrays(
        ten.x_train,
        label[ten.y_train],
        ten.x_held_out,
        label[ten.y_held_out],
        name=f"{ten.name}, two labels",
        class_names=world.labels,
        train_ids=ten.train_ids,
        held_out_ids=ten.held_out_ids,
    )
    return two, ten.labels, ten.class_names


def make_instances(
    dataset: Dataset, concepts: np.ndarray, names: tuple[str, ...], memorization: np.ndarray, *, seed: int = 0
) -> list[Instance]:
    """One instance for every concept; memorization: of a pilot, [n]."""
    n, own = dataset.n_train, concepts[: dataset.n_train]
    is_covered, odd = covered(dataset, own), oddness(dataset)
    random, instances = np.random.RandomState(seed), []
    for concept, name in enumerate(names):
        members = np.flatnonzero(own == concept)
        oddest, star = (int(members[of[members].argmax()]) for of in (odd, memorization))
        sure = members[is_covered[members] & (members != oddest)]
        circles = random.permutation(sure)[: max(1, round(SHARE * len(sure)))]
        instances.append(
            Instance(
                concept=concept,
                name=name,
                circles=tuple(sorted(int(i) for i in circles if i != star)),
                star=star,
                odd=oddest,
                n_covered=len(sure),
                oddness=float(odd[oddest]),
                memorization=(float(memorization[star]), float(memorization[oddest])),
                whole=tuple(map(int, members)),
                held_out=tuple(map(int, n + np.flatnonzero(concepts[n:] == concept))),
            )
        )
    return instances

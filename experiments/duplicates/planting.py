"""Plants copies: of ordinary, atypical and flipped examples, 1, 2, 5 and 10 of each, all in one data set.

What an example is, is decided by distances between pixels alone, before any model is trained: ordinary ones are drawn from
those whose five nearest others are all of their class; atypical ones are those closest to another class for their distance
to their own; flipped ones are ordinary ones under a wrong label, the same on all copies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from proximity import covered, oddness

import infl
from infl.records import Dataset, ForgetSet

KINDS = ("ordinary", "atypical", "flipped")
COPIES = (1, 2, 5, 10)


@dataclass(frozen=True)
class Planted:
    """All copies of one example; `copies` counts the example itself."""

    kind: str
    copies: int
    forget_set: ForgetSet


def plant(dataset: Dataset, n_each: int, *, seed: int = 0) -> tuple[Dataset, list[Planted]]:
    """The data set with copies, and `n_each` sets for each kind and number of copies. Ids of D stay as they are."""
    random, planting = np.random.RandomState(seed), infl.planting
    n_cells = n_each * len(COPIES)
    odd = oddness(dataset)
    atypical = random.permutation(np.argsort(-odd, kind="stable")[:n_cells])
    sure = covered(dataset, dataset.y_train)
    sure[atypical] = False
    drawn = random.permutation(np.flatnonzero(sure))[: 2 * n_cells]
    chosen = {"ordinary": drawn[:n_cells], "atypical": atypical, "flipped": drawn[n_cells:]}
    planted, n = [], dataset.n_train
    for kind in KINDS:
        for k, example in enumerate(map(int, chosen[kind])):
            copies, flipped = COPIES[k % len(COPIES)], kind == "flipped"
            name = f"{copies} of {kind} {example}"
            if copies > 1:
                dataset, made = planting.plant_copies(
                    dataset, example, copies - 1, flipped=flipped, seed=seed + k, name=name
                )
            elif flipped:
                others = np.delete(np.arange(dataset.n_train), example)
                dataset, made = planting.flip_labels(dataset, 1, avoid=others, seed=seed + k, name=name)
            else:
                made = ForgetSet(name, (example,))
            planted.append(Planted(kind, copies, made))
    assert all(one.forget_set.ids[0] < n for one in planted)
    return dataset, planted

"""The two data sets and how they are trained: at five fractions, for several lengths, on shuffled labels, without one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fashion import FASHION
from record import select_models, training_seconds

import infl
from infl.records import Dataset, ForgetSet, Outcomes

SGD = {"batch_size": 50, "learning_rate": 0.05}
USUAL = 0.7
BANDS = (-1.0, 0.05, 0.25, 0.5, 1.01)  # of memorization in a pilot of other models


@dataclass(frozen=True)
class World:
    """What is trained; numbers of models: at each fraction, of the pilot, at each other length, on shuffled labels.

    alone: examples of each band that D is retrained without, one at a time, with so many seeds.
    """

    source: str
    n_train: int
    n_held_out: int
    algorithm: dict[str, Any]
    other_epochs: tuple[int, ...]
    fractions: tuple[float, ...] = (0.3, 0.5, 0.7, 0.8, 0.9)
    models: int = 400
    pilot: int = 200
    models_of_length: int = 160
    models_of_null: int = 120
    epochs_of_null: int = 5
    alone: int = 8
    seeds: int = 64


WORLDS = {
    "digits": World("digits", 1000, 797, {"hidden": (256,), "epochs": 30, **SGD}, (2, 5, 10, 60)),
    "fashion": World(
        FASHION,
        600,
        600,
        {"hidden": (32,), "epochs": 15, "schedule": "cosine", **SGD},
        (3, 5, 30),
        models=240,
        pilot=120,
        models_of_length=80,
        models_of_null=80,
        alone=6,
        seeds=48,
    ),
}


def small(world: World) -> World:
    """The same in seconds."""
    return replace(
        world,
        n_train=150,
        n_held_out=100,
        algorithm={**world.algorithm, "hidden": (16,), "epochs": 8},
        other_epochs=(),
        fractions=(0.7, 0.8),
        models=80,
        pilot=40,
        models_of_length=80,
        models_of_null=40,
        epochs_of_null=8,
        alone=1,
        seeds=6,
    )


@dataclass(frozen=True)
class Trained:
    """Outcomes of everything: by fraction, by epochs, on shuffled labels by epochs, and of a pilot of other models.

    alone: column i of (A(D) - A(D without i)) over seeds, for some examples i; bands: of each of them.
    population: examples of D in each band of the pilot.
    """

    dataset: Dataset
    by_fraction: dict[float, Outcomes]
    by_epochs: dict[int, Outcomes]
    by_null: dict[int, Outcomes]
    pilot: Outcomes
    alone: dict[int, np.ndarray]
    band_of: dict[int, int]
    population: list[int]
    models: int
    seconds: float


def train(world: World, folder: Path) -> Trained:
    """Train whatever is not in the folder yet."""
    dataset = infl.load(world.source, n_train=world.n_train, n_held_out=world.n_held_out)
    usual, runs = int(world.algorithm["epochs"]), []

    def models(
        name: str, n: int, r: float, *, skip: int = 0, of: Dataset = dataset, epochs: int = usual, seed: int = 0
    ) -> Outcomes:
        algorithm = infl.Algorithm(**{**world.algorithm, "epochs": epochs})
        run = infl.train(
            of,
            run=folder / name,
            n_models=skip + n,
            n_references=0,
            design=infl.Design("balanced", r),
            algorithm=algorithm,
            seed=seed,
        )
        runs.append(run)
        return run.outcomes("design", range(skip, skip + n)).load()

    by_fraction = {
        r: models(f"r-{r}", world.models, r, skip=world.pilot if r == USUAL else 0, seed=k)
        for k, r in enumerate(world.fractions)
    }
    pilot = infl.open_run(folder / f"r-{USUAL}").outcomes("design", range(world.pilot)).load()
    by_epochs = {
        epochs: models(f"epochs-{epochs}", world.models_of_length, USUAL, epochs=epochs)
        for epochs in world.other_epochs
    }
    by_epochs[usual] = select_models(by_fraction[USUAL], slice(world.models_of_length))
    shuffled = shuffle_labels(dataset)
    by_null = {
        epochs: models(f"null-{epochs}", world.models_of_null, USUAL, of=shuffled, epochs=epochs)
        for epochs in sorted({usual, world.epochs_of_null})
    }
    band = np.digitize(infl.memorization(pilot).value, BANDS[1:-1])
    random, band_of = np.random.RandomState(0), {}
    for k in range(len(BANDS) - 1):
        members = random.permutation(np.flatnonzero(band == k))[: world.alone]
        band_of |= dict.fromkeys(map(int, members), k)
    of_d = infl.open_run(folder / f"r-{USUAL}")
    sets = [ForgetSet(f"example {i}", (i,)) for i in band_of]
    effects = infl.verify_effects(of_d, sets, n_models=world.seeds, stop=None)
    alone = {one.forget_set.ids[0]: one.replicates[:, one.forget_set.ids[0]] for one in effects}
    runs.append(infl.open_run(of_d.folder))
    distinct = {run.folder: run for run in runs}.values()
    return Trained(
        dataset=dataset,
        by_fraction=by_fraction,
        by_epochs=dict(sorted(by_epochs.items())),
        by_null=by_null,
        pilot=pilot,
        alone=alone,
        band_of=band_of,
        population=np.bincount(band, minlength=len(BANDS) - 1).tolist(),
        models=sum(len(run.complete(name)) for run in distinct for name in run.collections()),
        seconds=sum(map(training_seconds, distinct)),
    )


def shuffle_labels(dataset: Dataset) -> Dataset:
    """D with its labels dealt out again at random; the held-out examples keep theirs."""
    labels = np.random.RandomState(0).permutation(dataset.y_train)
    return infl.from_arrays(
        dataset.x_train,
        labels,
        dataset.x_held_out,
        dataset.y_held_out,
        name=f"{dataset.name}, labels shuffled",
        class_names=dataset.class_names,
    )

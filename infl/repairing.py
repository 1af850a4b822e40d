"""Mends a run that was damaged on its disk: takes out what is not as it was written, and trains just that again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from infl.drawing import masks_of_run
from infl.jobs import train_jobs
from infl.opening import open_for_training
from infl.store import Run, mend_journal, open_run
from infl.trainers import make_trainer
from infl.training.algorithm import Algorithm
from infl.training.ensemble import Layout


@dataclass(frozen=True)
class Repair:
    """What was done: models trained again by collection, models that nothing is left to train from, lines of the journal."""

    run: Run
    trained: dict[str, list[int]]
    lost: dict[str, list[int]]
    n_lines: int


def repair(
    run: str | Path, *, algorithm: Algorithm | None = None, layout: Layout | None = None, quiet: bool = False
) -> Repair:
    """Train again the models of all blocks whose rows do not fit their checksums, and no other.

    Models of blocks whose line in the journal is damaged are known by their absence: where there are such lines, all models
    that sessions of this run were to train and that are not complete are trained. Models without a forget set whose
    ids are nowhere left are lost; `infl.verify` trains them again when it is asked for that set.

    algorithm: needed only where the run's network or optimizer was made in Python.

    Raises:
        InputError: where it is no run, its data or manifest are damaged (nothing can be trained then), another process
            writes to it, or it was imported.
    """
    n_lines = mend_journal(run)
    opened = open_run(run)
    with opened.lock():
        if opened.find_damage().blocks or n_lines:
            opened.check_trainable()
            opened.dataset()  # before anything is taken out: without it nothing could be trained again
        dropped = opened.drop_damage()
        if n_lines:
            for name in opened.describe()["collections"]:
                dropped[name] = sorted({*dropped.get(name, ()), *opened.missing(name)})
        dropped = {name: models for name, models in dropped.items() if models}
        if not dropped:
            return Repair(opened, {}, {}, n_lines)
        _, dataset, algorithm, design = open_for_training(run, None, algorithm, None, None)
        sets = opened.known_forget_sets()
        lost = {name: models for name, models in dropped.items() if name.startswith("without-") and name not in sets}
        trained = {name: models for name, models in dropped.items() if name not in lost}
        masks_of = masks_of_run(
            design,
            n_train=dataset.n_train,
            seed=int(opened.manifest["seed"]),
            covers={name: opened.groups(name) for name in trained if name.startswith("cover-")},
            left_out=sets,
        )
        jobs = [(name, model) for name, models in trained.items() for model in models]
        if jobs:
            trainer = make_trainer(algorithm, dataset, layout)
            seed = int(opened.manifest["seed"])
            train_jobs(*(opened, jobs, masks_of), trainer=trainer, seed=seed, description="training again", quiet=quiet)
    return Repair(opened, trained, lost, n_lines)

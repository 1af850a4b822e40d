"""Turns the settings that a call names into a run to train in: a new one, or the one that is there if they fit it.

What is not named is the run's own, or the default where the run is new. The manifest and data of a new run are written only
once all of it is known to be right.
"""

from __future__ import annotations

import atexit
import operator
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from infl.provenance import software
from infl.records import Array, Dataset, Groups, InputError
from infl.store import Run, check_new, create_run, is_run, open_run
from infl.surrogate import fit_surrogate
from infl.training.algorithm import Algorithm
from infl.training.grouping import make_groups
from infl.training.subsets import Design, draw_masks

DEFAULT_DESIGN = Design("grouped", (0.7, 0.97))


def open_for_training(
    run: str | Path | None,
    dataset: Dataset | None,
    algorithm: Algorithm | None,
    design: Design | None,
    seed: int | None,
    groups: Groups | None = None,
) -> tuple[Run, Dataset, Algorithm, Design]:
    """The run, made where it is not there yet, and the data, algorithm and design that it is to be trained with.

    run: the run folder, or its URL on object storage; a temporary folder, gone at exit, where None.
    dataset, algorithm, design, seed: None for the run's own, or for the defaults where it is new; a new one needs data.
    groups: examples that belong together, for a grouped design beside those that it finds itself.

    Raises:
        InputError: where the folder is not a run, holds other data, or was made with other settings (they are named).
    """
    if run is None:
        run = _temporary_folder()
    exists = is_run(run)
    if exists:
        old = open_run(run)
        old.check_trainable()
        dataset = dataset or old.dataset()
        algorithm = algorithm or Algorithm.from_description(old.manifest["algorithm"])
        own = Design.from_description(old.manifest["design"], _groups_of(old))
        design = _with_groups_of(design or own, own)
        seed = int(old.manifest["seed"]) if seed is None else seed
    if dataset is None:
        raise InputError(f"{run} is not a run yet: name the data set to train on")
    algorithm, design, seed = algorithm or Algorithm(), design or DEFAULT_DESIGN, operator.index(seed or 0)
    if groups is not None and design.kind != "grouped":
        raise InputError(f"groups are left out together by design grouped, and the design is {design.kind}")
    if not exists and design.kind == "grouped" and design.groups is None:
        check_new(run)
        design = replace(design, groups=find_groups(dataset, algorithm, seed=seed, known=groups))
    elif groups is not None and design.groups is not None and not _holds(design.groups, groups):
        raise InputError(
            f"run folder {run} was made with other groups: continue it without naming any, or choose another folder"
            if exists
            else "the design has groups of its own, and those given beside it are not among them: give them in one place"
        )
    if not exists:  # a run is asked by create_run whether all of this is as it was made
        draw_masks(design, [0], n_train=dataset.n_train, seed=seed)
    settings = {
        "algorithm": algorithm.describe(),
        "design": design.describe(),
        "seed": seed,
        **software(),
    }
    return create_run(run, dataset, settings, design.groups), dataset, algorithm, design


def find_groups(dataset: Dataset, algorithm: Algorithm, *, seed: int, known: Groups | None = None) -> Groups:
    """What a new run of design grouped leaves out together; see `infl.training.grouping.make_groups`."""
    return make_groups(dataset, algorithm, seed=seed, support=_support(dataset), known=known)


def _support(dataset: Dataset) -> Array:
    """How well the rest of D supports each example: its margin in a closed-form fit without it."""
    surrogate = fit_surrogate(dataset.x_train, dataset.y_train, n_train=dataset.n_train, n_classes=dataset.n_classes)
    return surrogate.margins(np.array([], int))


def _groups_of(run: Run) -> Groups | None:
    return run.groups("grouped") if run.manifest["design"]["kind"] == "grouped" else None


def _with_groups_of(design: Design, own: Design) -> Design:
    """A grouped design without groups means those that the run has."""
    if design.kind != "grouped" or design.groups is not None:
        return design
    return replace(design, groups=own.groups)


def _holds(all_groups: Groups | None, some: Groups) -> bool:
    if all_groups is None or all_groups.tables.shape[1] != some.tables.shape[1]:
        return False
    tables = dict(zip(all_groups.names, all_groups.tables, strict=True))
    return all(
        name in tables and np.array_equal(tables[name], table)
        for name, table in zip(some.names, some.tables, strict=True)
    )


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="infl-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder

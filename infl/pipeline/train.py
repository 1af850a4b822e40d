"""Makes runs, trains what they lack, and trains again what a disk has damaged."""

from __future__ import annotations

import atexit
import operator
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from infl.data.near_duplicates import families
from infl.pipeline.jobs import lazy_executor, missing_jobs, train_jobs
from infl.pipeline.progress import announce, note
from infl.pipeline.score import check_target
from infl.records import LABEL_KINDS, Array, Dataset, ForgetSet, Groups, InputError, check_fraction
from infl.scores.ngrams import fit_ngrams
from infl.scores.planning import next_look
from infl.scores.surrogate import fit_surrogate
from infl.store import Collection, Run, check_new, cover_name, create_run, is_run, open_run
from infl.store.manifest import software
from infl.training.algorithm import Algorithm
from infl.training.executors import check_checkpoint_minutes
from infl.training.grouping import groups_from_sets, make_groups
from infl.training.layout import Layout
from infl.training.ray import Ray
from infl.training.subsets import Design, covering_design, draw_masks
from infl.untraining.forget_sets import as_forget_sets

# Records, {"name": ids}, the path of a forget file, or the ids or the mask of one set.
ForgetSets = Sequence[ForgetSet] | ForgetSet | Mapping[str, Any] | str | Path | Sequence[int] | Array


def open_for_training(
    run: str | Path | None,
    dataset: Dataset | None,
    algorithm: Algorithm | None,
    design: Design | None,
    seed: int | None,
    groups: Groups | None = None,
    *,
    quiet: bool = False,
) -> tuple[Run, Dataset, Algorithm, Design]:
    """The run, made where it is not there yet, and the data, algorithm and design that it is to be trained with.

    Args:
        run: The run folder, or its URL on object storage; a temporary folder, gone at exit, where None.
        dataset, algorithm, design, seed: None for the run's own, or for the defaults where it is new; a new one needs
            data.
        groups: Examples that belong together, for a grouped design beside those that it finds itself.

    Raises:
        InputError: where the folder is not a run, holds other data, or was made with other settings (they are named).
    """
    if run is None:
        run = Path(tempfile.mkdtemp(prefix="infl-"))
        atexit.register(shutil.rmtree, run, ignore_errors=True)
    exists = is_run(run)
    if exists:
        old = open_run(run)
        old.check_trainable()
        dataset = dataset or old.dataset()
        algorithm = algorithm or Algorithm.from_dict(old.manifest["algorithm"])
        own = Design.from_dict(old.manifest["design"], old.design_groups())
        design = design or own
        if design.kind == "grouped" and design.groups is None:
            design = replace(design, groups=own.groups)
        seed = int(old.manifest["seed"]) if seed is None else seed
    if dataset is None:
        raise InputError(f"{run} is not a run yet: name the data set to train on")
    algorithm = algorithm or Algorithm.default(dataset.kind)
    design, seed = design or Design(), operator.index(seed or 0)
    if groups is not None and design.kind != "grouped":
        raise InputError(f"groups are left out together by design grouped, and the design is {design.kind}")
    if not exists and design.kind == "grouped" and design.groups is None:
        check_new(run)
        with announce("finding groups of examples to leave out together", quiet=quiet):
            design = replace(design, groups=find_groups(dataset, algorithm, seed=seed, known=groups))
    elif groups is not None and design.groups is not None and not _holds(design.groups, groups):
        raise InputError(
            f"run folder {run} was made with other groups: continue it without naming any, or choose another folder"
            if exists
            else "the design has groups of its own, and those given beside it are not among them: give them in one place"
        )
    if not exists:  # a run is asked by create_run whether all of this is as it was made
        draw_masks(design, [0], n_train=dataset.n_train, seed=seed)
    settings = {"algorithm": algorithm.to_dict(), "design": design.to_dict(), "seed": seed, **software()}
    kinds, are_shares = algorithm.choose_task(dataset).outcome_kinds(dataset)
    if kinds != LABEL_KINDS or are_shares:
        settings |= {"outcomes": list(kinds), "shares": are_shares}
    opened = create_run(run, dataset, settings, design.groups)
    for name, (part, _) in design.parts(2).items():
        opened.add_collection(Collection(name, part.to_dict(), part.groups))
    opened.add_collection(Collection("full", {"kind": "full"}))
    return opened, dataset, algorithm, design


def find_groups(dataset: Dataset, algorithm: Algorithm, *, seed: int, known: Groups | None = None) -> Groups:
    """What a new run of design grouped leaves out together; see `infl.training.grouping.make_groups`."""
    if dataset.is_documents:
        surrogate = fit_ngrams(dataset.x_train, n_train=dataset.n_train, n_tokens=len(dataset.vocabulary))
        known = _with_near_duplicates(dataset, known)
    elif dataset.is_classified:
        surrogate = fit_surrogate(
            dataset.x_train, dataset.y_train, n_train=dataset.n_train, n_classes=dataset.n_classes
        )
    else:
        return make_groups(dataset, algorithm, seed=seed, known=known)
    # How well the rest of D supports each example: its margin in a closed-form fit without it.
    support = surrogate.margins(np.array([], int))
    return make_groups(dataset, algorithm, seed=seed, support=support, known=known)


def _with_near_duplicates(dataset: Dataset, known: Groups | None) -> Groups | None:
    """The groups and the families of near-duplicates, which forget sets often hold or halve."""
    table = np.full(dataset.n_train, -1, np.int32)
    for number, family in enumerate(families(dataset.x_train)):
        table[family] = number
    if (table == -1).all() or (table == 0).all():
        return known
    names, tables = ((), ()) if known is None else (known.names, known.tables)
    return Groups((*names, "near-duplicates"), np.stack([*tables, table]))


def _holds(all_groups: Groups | None, some: Groups) -> bool:
    if all_groups is None or all_groups.tables.shape[1] != some.tables.shape[1]:
        return False
    tables = dict(zip(all_groups.names, all_groups.tables, strict=True))
    return all(
        name in tables and np.array_equal(tables[name], table)
        for name, table in zip(some.names, some.tables, strict=True)
    )


def repair(
    run: str | Path, *, algorithm: Algorithm | None = None, layout: Layout | None = None, quiet: bool = False
) -> dict[str, list[int]]:
    """Delete all blocks that do not fit their checksums and train their models again, and no other.

    Returns the models that were trained again, by collection. Unlearned ones are not: `infl.unlearn` makes them again.

    Args:
        algorithm: Needed only where the run's network or optimizer was made in Python.

    Raises:
        InputError: where it is no run, its manifest, data or the record of a collection are damaged (nothing is deleted then),
            or it was imported.
    """
    opened = open_run(run)
    damaged = opened.damaged_blocks()
    if not damaged:
        return {}
    # All that training takes comes before anything is deleted.
    opened.check_trainable()
    opened, dataset, algorithm, _ = open_for_training(run, None, algorithm, None, None)
    for name in {block.collection for block in damaged}:
        opened.collection(name)
    removed = opened.remove(damaged)
    trained = {name: models for name, models in removed.items() if not name.startswith("unlearned-")}
    if len(trained) < len(removed):
        note("blocks of unlearned models were deleted; infl unlearn makes them again", quiet=quiet)
    jobs = [(name, model) for name, models in trained.items() for model in models]
    with lazy_executor(algorithm, dataset, layout, quiet=quiet) as executor:
        train_jobs(opened, jobs, executor, description="training again", quiet=quiet)
    return trained


def train(
    dataset: Dataset | None = None,
    run: str | Path | None = None,
    *,
    n_models: int | range = 1000,
    standard_error: float | None = None,
    n_references: int | range | None = None,
    design: Design | None = None,
    groups: Groups | None = None,
    cover: ForgetSets | None = None,
    models_per_covered_set: int = 32,
    algorithm: Algorithm | None = None,
    seed: int | None = None,
    layout: Layout | None = None,
    engine: Ray | None = None,
    checkpoint_minutes: float | None = None,
    quiet: bool = False,
    **unknown: Any,
) -> Run:
    """Train models of random subsets of D, and reference models of all of D, until the run holds as many as asked for.

    Mask, initial weights and order of model t depend on (seed, t) alone: not on the layout, on what was trained before, or
    on how often the call was killed.

    Args:
        dataset: The examples; None for an existing run's own.
        run: The run folder, or a URL on object storage (s3://bucket/path, gs://bucket/path; see `infl.open_run`); a
            temporary folder, gone at exit, where None.
        n_models: Models of the design the run shall hold; fewer than it holds trains none. A range makes the run a
            shard, which holds these models of the design alone (`infl.merge` joins shards); the run of `n_models=8` is
            that of range(8).
        n_references: Models of all of D, or a range of them; effects are measured from them. None for 64, and for 0 in a
            shard that does not begin with model 0.
        standard_error: Wanted of memorization, as the root mean square over the examples: train no more models than
            that takes, and `n_models` at most. Errors are looked at first in what the run holds, then after 64 models and
            so on (`infl.scores.planning.next_look`). `infl.pipeline.score.check_target` says what was reached.
        design: None for the run's own, or for `Design()` where it is new.
        algorithm: None for the run's own, or for `Algorithm.default` where it is new.
        seed: Everything random follows from it. None for the run's own, or for 0 where it is new.
        groups: Examples that belong together (users, documents, sources), for a grouped design beside those it finds.
        cover: Forget sets that models shall leave out, wholly or in part: for sets unlike all that the design leaves out.
        models_per_covered_set: Models for each of those sets.
        layout: How batches of models are laid out on the devices. Affects speed only.
        engine: A Ray cluster to train on; None for this machine's devices. Affects speed only.
        checkpoint_minutes: For batches of models that take longer than one would lose to a kill: between two epochs, and
            not more often than every so many minutes, the states of a batch are written to the run, from which the same
            call goes on after a kill to the same outcomes, bit for bit. None for never. It costs the writing (0.6 seconds
            and 130 MB for 16 models of a million parameters with momentum), and batches train one after the other. Not
            with `engine`.
        quiet: No progress bar.
        unknown: None; settings of an algorithm, a design or a layout are given in one, and the error says how.

    Raises:
        InputError: where the folder is not a run, holds other data, or was made with other settings (they are named).
    """
    _check_unknown(unknown)
    check_checkpoint_minutes(checkpoint_minutes, engine)
    shard = _as_range(n_models)
    if n_references is None:
        n_references = 0 if shard.start > 0 else 64
    references = _as_range(n_references)
    if not shard or references.start < 0:
        raise InputError(f"expected at least 1 model and 0 references, got {n_models} and {n_references}")
    if standard_error is not None and shard.start:
        raise InputError("a standard error is that of all models: ask for it of the merged run, not of a shard")
    n_models = shard.stop
    if models_per_covered_set < 1:
        raise InputError(f"models for each covered set: expected at least 1, got {models_per_covered_set}")
    if standard_error is not None:
        check_fraction("standard_error", standard_error)
        if design is not None and design.kind == "grouped" and design.grouped_share == 1:
            raise InputError(
                "a standard error is that of scores, which rest on no grouped models: take a smaller grouped share"
            )
    opened, dataset, algorithm, design = open_for_training(run, dataset, algorithm, design, seed, groups, quiet=quiet)
    covers = _covering_groups(opened, design, cover) if cover is not None else {}
    first = {name: n for name, (_, n) in design.parts(shard.start).items()}
    others = {"full": references} | {
        name: range(models_per_covered_set * len(groups.names)) for name, groups in covers.items()
    }
    with lazy_executor(algorithm, dataset, layout, engine, quiet=quiet) as executor:
        for n_wanted in _looks(opened, design, n_models, standard_error):
            wanted = {name: range(first[name], n) for name, (_, n) in design.parts(n_wanted).items()} | others
            jobs = [job for name, models in wanted.items() for job in missing_jobs(opened, name, models)]
            minutes = checkpoint_minutes
            train_jobs(opened, jobs, executor, description="training", checkpoint_minutes=minutes, quiet=quiet)
    return opened


def _check_unknown(given: dict[str, Any]) -> None:
    for settings, parameter in ((Algorithm, "algorithm"), (Design, "design"), (Layout, "layout"), (Ray, "engine")):
        mine = ", ".join(f"{field.name}={given[field.name]!r}" for field in fields(settings) if field.name in given)
        if mine:
            raise InputError(f"train takes no {mine}: write {parameter}=infl.{settings.__name__}({mine})")
    for name in given:
        raise TypeError(f"train() got an unexpected keyword argument {name!r}")


def _looks(run: Run, design: Design, n_models: int, standard_error: float | None) -> Iterator[int]:
    """How many models to complete next: all, or where there is a target, until it is met and at most all."""
    if standard_error is None:
        yield n_models
    elif check_target(run, standard_error).met:
        yield min(_held(run, design), n_models)  # a kill may have kept the grouped ones from coming
    else:
        # Looks start over on a run that holds models already, so that a kill changes neither them nor where they end.
        n, needed = 0, None
        while n < n_models:
            n = next_look(n, needed=needed, max_models=n_models)
            yield n
            target = check_target(run, standard_error, models=range(design.parts(n)["design"][1]))
            if target.met:
                return
            needed = target.n_needed


def _covering_groups(run: Run, design: Design, cover: ForgetSets) -> dict[str, Groups]:
    # Sorted as their name is: in which order they are given changes no mask.
    sets = {s.name: s.ids for s in sorted(resolve_forget_sets(run, cover), key=lambda s: s.name)}
    name, groups = cover_name(sets), groups_from_sets(sets, n_train=run.manifest["dataset"]["n_train"])
    run.add_collection(Collection(name, covering_design(design, groups).to_dict(), groups))
    return {name: groups}


def _as_range(models: int | range) -> range:
    if isinstance(models, range):
        return models if models.step == 1 and models.start >= 0 else range(-1, -1)
    return range(models) if models >= 0 else range(-1, -1)


def _held(run: Run, design: Design) -> int:
    """Models of subsets that a run was to hold, by those of them that scores rest on."""
    n = n_scored = len(run.complete("design"))
    while design.parts(n + 1)["design"][1] <= n_scored:
        n += 1
    return n


def current_run(run: Run | str | Path) -> Run:
    """The run as it is on disk now; a `Run` knows only what was there when it was opened."""
    return open_run(run.place if isinstance(run, Run) else run)


def resolve_forget_sets(run: Run, forget_sets: ForgetSets) -> list[ForgetSet]:
    """Forget sets as records, checked to lie in D."""
    return as_forget_sets(forget_sets, n_train=run.manifest["dataset"]["n_train"], dataset=run.dataset)

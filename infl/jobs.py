"""Turns a list of models that a run lacks into rows on its disk: block by block, wherever they are trained.

A job is one model: the collection it belongs to and its number there. The jobs of one call may be of several collections;
a block takes them as they come, so that only the last block of all may be short.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from infl.drawing import MasksOf
from infl.provenance import software
from infl.records import Array, Outcomes
from infl.report.progress import note, track
from infl.store import Checkpoints, Job, Run, starts_of
from infl.trainers import Keeping, Trainer
from infl.training.ensemble import is_out_of_memory, model_keys


def missing_jobs(run: Run, collection: str, models: Sequence[int]) -> list[Job]:
    """Those of the models that are not complete on disk."""
    complete = set(run.complete(collection))
    return [(collection, model) for model in models if model not in complete]


def train_jobs(
    run: Run,
    jobs: list[Job],
    masks_of: MasksOf,
    *,
    trainer: Trainer,
    seed: int,
    description: str,
    checkpoint_minutes: float | None = None,
    quiet: bool = False,
) -> None:
    """Train the models of the jobs and write each block to the run as soon as it is there.

    They are trained in the layout that is fastest where they take long; see `infl.training.tuning`. Where the memory of a
    device does not hold a block, the rest is trained in blocks of half as many models.

    The run is locked meanwhile. Models that another process has added to it since it was opened are not trained.

    masks_of: which examples each model trains on; seed: the run's, from which initial weights and order follow.
    trainer: where they are trained; used again for other jobs, it has compiled its program.
    checkpoint_minutes: between checkpoints of a block in training, from which it goes on after a kill; None for none.

    Raises:
        InputError: where the network does not fit the data, the layout does not fit this machine, the disk refuses, another
            process writes to the run, or the memory does not hold the training of a single model.
    """
    with run.lock():
        jobs = [job for name, models in _models_by_collection(jobs).items() for job in missing_jobs(run, name, models)]
        if jobs:
            checkpoints = Checkpoints(run, say=partial(note, quiet=quiet))
            checkpoints.drop_trained()
            keeping = None if checkpoint_minutes is None else Keeping(checkpoint_minutes, checkpoints.of)
            kept = {"checkpoints": checkpoints, "keeping": keeping}
            _train(run, trainer, jobs, masks_of, seed, **kept, description=description, quiet=quiet)
            checkpoints.drop_trained()


def _train(
    run: Run,
    trainer: Trainer,
    jobs: list[Job],
    masks_of: MasksOf,
    seed: int,
    *,
    checkpoints: Checkpoints,
    keeping: Keeping[list[Job]] | None,
    description: str,
    quiet: bool,
) -> None:
    some = [masks_of(*job_models).mean() for job_models in _first_of_each(jobs)]
    kept = [session["layout"] for session in run.sessions if session.get("layout", {}).get("key")]
    choice = trainer.choose(len(jobs), subset_share=float(np.mean(some)), recorded=kept[-1] if kept else None)
    if choice.models_per_second:
        note(f"layout: {choice.in_words()}", quiet=quiet)
    left = dict.fromkeys(jobs)
    with track(len(jobs), description, quiet=quiet) as progress:
        while left:
            run.record_session(_session(trainer, jobs))
            begun = _begun(checkpoints, set(left), trainer.block_size) if keeping else []
            blocks = _blocks(list(left), trainer.block_size, begun)
            try:
                for block, masks, outcome, seconds in trainer.train(
                    blocks, lambda block: _prepare(block, masks_of, seed), keeping
                ):
                    for collection, rows in _by_collection(block).items():
                        models = [block[row][1] for row in rows]
                        outcomes = Outcomes(masks[rows], outcome.correct[rows], outcome.margin[rows])
                        share = seconds * len(rows) / len(block)
                        run.write(collection, models, outcomes, outcome.finite[rows], seconds=share)
                    for job in block:
                        del left[job]
                    if keeping:
                        checkpoints.of(block).drop()
                    progress.advance(len(block))
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                trainer.halve()
                note(f"out of memory: blocks of {trainer.block_size} models from now on", quiet=quiet)
    run.record_timings(trainer.describe()["devices"])


def _blocks(waiting: list[Job], size: int, begun: list[list[Job]]) -> list[list[Job]]:
    """Those that were begun, and the rest in blocks of that size."""
    first = {job for block in begun for job in block}
    rest = [job for job in waiting if job not in first]
    return begun + [rest[start : start + size] for start in range(0, len(rest), size)]


def _begun(checkpoints: Checkpoints, waiting: set[Job], size: int) -> list[list[Job]]:
    """Blocks that have a checkpoint and can go on from it: a killed call is resumed in the blocks that it had formed."""
    begun: list[list[Job]] = []
    for block in checkpoints.begun():
        if waiting.issuperset(block):
            if len(block) > size:
                checkpoints.of(block).refuse(f"a block holds {size} models now")
                continue
            begun.append(block)
            waiting = waiting - set(block)
    return begun


def _prepare(block: list[Job], masks_of: MasksOf, seed: int) -> tuple[jax.Array, Array]:
    parts = _by_collection(block)
    masks = np.concatenate([masks_of(name, [block[row][1] for row in rows]) for name, rows in parts.items()])
    keys = [keys_of(seed, name, [block[row][1] for row in rows]) for name, rows in parts.items()]
    return jax.numpy.concatenate(keys), masks


def keys_of(seed: int, collection: str, models: list[int]) -> jax.Array:
    """The keys from which initial weights and orders of these models follow, [len(models)]."""
    starts = starts_of(collection, models)
    stream = collection if starts is None else "reference"
    return model_keys(seed, stream, np.array(models if starts is None else starts))


def _by_collection(block: list[Job]) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = {}
    for row, (collection, _) in enumerate(block):
        parts.setdefault(collection, []).append(row)
    return parts


def _models_by_collection(jobs: list[Job]) -> dict[str, list[int]]:
    return {name: [jobs[row][1] for row in rows] for name, rows in _by_collection(jobs).items()}


def _first_of_each(jobs: list[Job], most: int = 8) -> list[tuple[str, list[int]]]:
    """A few models of each collection."""
    return [(name, [jobs[row][1] for row in rows[:most]]) for name, rows in _by_collection(jobs).items()]


def _session(trainer: Trainer, jobs: list[Job]) -> dict[str, Any]:
    models = _models_by_collection(jobs)
    wanted = {name: max(some) + 1 for name, some in models.items()}
    first = {name: min(some) for name, some in models.items() if min(some)}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **software(),
        **trainer.describe(),
        "wanted": wanted,
        **({"first": first} if first else {}),
    }

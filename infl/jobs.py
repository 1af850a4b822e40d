"""Turns a list of models that a run lacks into rows on its disk: block by block, with an ensemble, on this machine.

A job is one model: the collection it belongs to and its number there. The jobs of one call may be of several collections;
a block takes them as they come, so that only the last block of all may be short.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from infl.drawing import MasksOf
from infl.engines.local import run_blocks
from infl.provenance import software
from infl.records import Array, Dataset, Outcomes
from infl.report.progress import note, track
from infl.store import Run, starts_of
from infl.training.algorithm import Algorithm
from infl.training.ensemble import Ensemble, Layout, is_out_of_memory, model_keys
from infl.training.tuning import choose_layout

Job = tuple[str, int]  # collection, model id


def missing_jobs(run: Run, collection: str, models: Sequence[int]) -> list[Job]:
    """Those of the models that are not complete on disk."""
    complete = set(run.complete(collection))
    return [(collection, model) for model in models if model not in complete]


def train_jobs(
    run: Run,
    jobs: list[Job],
    masks_of: MasksOf,
    *,
    algorithm: Algorithm,
    dataset: Dataset,
    layout: Layout | None,
    seed: int,
    description: str,
    current: Ensemble | None = None,
    quiet: bool = False,
) -> Ensemble:
    """Train the models of the jobs and write each block to the run as soon as it is there; returns what trained them.

    They are trained in the layout that is fastest where they take long; see `infl.training.tuning`. Where the memory of a
    device does not hold a block, the rest is trained in blocks of half as many models.

    The run is locked meanwhile. Models that another process has added to it since it was opened are not trained.

    masks_of: which examples each model trains on; seed: the run's, from which initial weights and order follow.
    current: what trained other jobs before, taken on where its layout will do.

    Raises:
        InputError: where the network does not fit the data, the layout does not fit this machine, the disk refuses, another
            process writes to the run, or the memory does not hold the training of a single model.
    """
    with run.lock():
        jobs = [job for name, models in _models_by_collection(jobs).items() for job in missing_jobs(run, name, models)]
        if not jobs:
            return current or Ensemble(algorithm, dataset, layout)
        ensemble = _ensemble_for(run, jobs, masks_of, algorithm, dataset, layout, current=current, quiet=quiet)
        _train(run, ensemble, jobs, masks_of, seed, description=description, quiet=quiet)
    return ensemble


def _ensemble_for(
    run: Run,
    jobs: list[Job],
    masks_of: MasksOf,
    algorithm: Algorithm,
    dataset: Dataset,
    layout: Layout | None,
    *,
    current: Ensemble | None,
    quiet: bool,
) -> Ensemble:
    ensemble = current or Ensemble(algorithm, dataset, layout)
    some = [masks_of(*job_models).mean() for job_models in _first_of_each(jobs)]
    kept = [session["layout"] for session in run.sessions if session.get("layout", {}).get("key")]
    choice = choose_layout(
        ensemble, n_models=len(jobs), subset_share=float(np.mean(some)), recorded=kept[-1] if kept else None
    )
    if choice.source != "default" or current is None:
        ensemble.lay_out(choice.layout, chosen=choice.how())
        if choice.models_per_second:
            note(f"layout: {choice.in_words()}", quiet=quiet)
    return ensemble


def _train(
    run: Run, ensemble: Ensemble, jobs: list[Job], masks_of: MasksOf, seed: int, *, description: str, quiet: bool
) -> None:
    left = list(jobs)
    with track(len(jobs), description, quiet=quiet) as progress:
        while left:
            run.record_session(_session(ensemble, jobs))
            size = ensemble.block_size
            blocks = [left[start : start + size] for start in range(0, len(left), size)]
            prepared = ((block, _prepare(block, masks_of, seed)) for block in blocks)
            try:
                for (block, (_, masks)), outcome, seconds in run_blocks(
                    prepared, start=lambda item: ensemble.start(*item[1]), finish=ensemble.finish
                ):
                    for collection, rows in _by_collection(block).items():
                        models = [block[row][1] for row in rows]
                        outcomes = Outcomes(masks[rows], outcome.correct[rows], outcome.margin[rows])
                        share = seconds * len(rows) / len(block)
                        run.write(collection, models, outcomes, outcome.finite[rows], seconds=share)
                    left = left[len(block) :]
                    progress.advance(len(block))
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                ensemble.halve()
                note(f"out of memory: blocks of {ensemble.block_size} models from now on", quiet=quiet)
    run.record_timings(_devices(ensemble))


def _prepare(block: list[Job], masks_of: MasksOf, seed: int) -> tuple[jax.Array, Array]:
    parts = _by_collection(block)
    masks = np.concatenate([masks_of(name, [block[row][1] for row in rows]) for name, rows in parts.items()])
    keys = [_keys(seed, name, [block[row][1] for row in rows]) for name, rows in parts.items()]
    return jax.numpy.concatenate(keys), masks


def _keys(seed: int, collection: str, models: list[int]) -> jax.Array:
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


def _session(ensemble: Ensemble, jobs: list[Job]) -> dict[str, Any]:
    models = _models_by_collection(jobs)
    wanted = {name: max(some) + 1 for name, some in models.items()}
    first = {name: min(some) for name, some in models.items() if min(some)}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **software(),
        "devices": _devices(ensemble),
        "block_size": ensemble.block_size,
        "mode": ensemble.mode,
        "layout": ensemble.layout.describe() | ensemble.chosen,
        "wanted": wanted,
        **({"first": first} if first else {}),
    }


def _devices(ensemble: Ensemble) -> list[str]:
    return [f"{device.platform}:{device.device_kind}" for device in ensemble.devices]

"""Turns a list of models that a run lacks into rows on its disk: block by block, with an ensemble, on this machine.

A job is one model: the collection it belongs to and its number there. The jobs of one call may be of several collections;
a block takes them as they come, so that only the last block of all may be short.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from infl.engines.local import run_blocks
from infl.provenance import software
from infl.records import Array, Outcomes
from infl.report.progress import track
from infl.store import Run, starts_of
from infl.training.ensemble import Ensemble, model_keys

Job = tuple[str, int]  # collection, model id
MasksOf = Callable[[str, list[int]], Array]  # of a collection, and models of it: [B, n]


def missing_jobs(run: Run, collection: str, models: Sequence[int]) -> list[Job]:
    """Those of the models that are not complete on disk."""
    complete = set(run.complete(collection))
    return [(collection, model) for model in models if model not in complete]


def train_jobs(
    run: Run, ensemble: Ensemble, jobs: list[Job], masks_of: MasksOf, seed: int, *, description: str, quiet: bool
) -> None:
    """Train the models of the jobs and write each block to the run as soon as it is there.

    masks_of: which examples each model trains on; seed: the run's, from which initial weights and order follow.

    Raises:
        InputError: where the disk refuses.
    """
    session = _session(ensemble, jobs)
    run.record_session(session)
    blocks = [jobs[start : start + ensemble.block_size] for start in range(0, len(jobs), ensemble.block_size)]
    with track(len(jobs), description, quiet=quiet) as progress:
        prepared = ((block, _prepare(block, masks_of, seed)) for block in blocks)
        for (block, (_, masks)), outcome, seconds in run_blocks(
            prepared, start=lambda item: ensemble.start(*item[1]), finish=ensemble.finish
        ):
            for collection, rows in _by_collection(block).items():
                models = [block[row][1] for row in rows]
                outcomes = Outcomes(masks[rows], outcome.correct[rows], outcome.margin[rows])
                share = seconds * len(rows) / len(block)
                run.write(collection, models, outcomes, outcome.finite[rows], seconds=share)
            progress.advance(len(block))
    run.record_timings(session["devices"])


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


def _session(ensemble: Ensemble, jobs: list[Job]) -> dict[str, Any]:
    wanted: dict[str, int] = {}
    for collection, model in jobs:
        wanted[collection] = max(wanted.get(collection, 0), model + 1)
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **software(),
        "devices": [f"{device.platform}:{device.device_kind}" for device in ensemble.devices],
        "block_size": ensemble.block_size,
        "mode": ensemble.mode,
        "wanted": wanted,
    }

"""Turns a list of models that a run lacks into blocks of the run: batch by batch, wherever they are trained.

A job is one model: the collection it belongs to and its number there. The jobs of one call may be of several collections;
a batch takes them as they come, so that only the last batch of all may be short.
"""

from __future__ import annotations

import datetime
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import cache, partial
from itertools import islice
from typing import Any

import jax
import numpy as np

from infl.pipeline.progress import announce, note, track
from infl.records import Array, Dataset
from infl.store import Checkpoints, Job, Run
from infl.store.manifest import software
from infl.training.algorithm import Algorithm
from infl.training.ensemble import Ensemble, model_keys
from infl.training.executors import Batch, Executor, make_executor
from infl.training.layout import Layout
from infl.training.ray import Ray
from infl.training.subsets import Design, draw_masks


def missing_jobs(run: Run, collection: str, models: Sequence[int]) -> list[Job]:
    """Those of the models that are not complete on disk."""
    complete = set(run.complete(collection))
    return [(collection, model) for model in models if model not in complete]


@contextmanager
def lazy_executor(
    algorithm: Algorithm,
    dataset: Dataset,
    layout: Layout | None,
    engine: Ray | None = None,
    make: Callable[[Algorithm, Dataset, Layout | None], Ensemble] = Ensemble,
    *,
    quiet: bool = False,
) -> Iterator[Callable[[], Executor]]:
    """What gives the executor, made when it is first asked for and ended with the `with` block."""
    with ExitStack() as stack:

        @cache
        def executor() -> Executor:
            with announce("trying the network", quiet=quiet):
                return stack.enter_context(closing(make_executor(algorithm, dataset, layout, engine, make)))

        yield executor


def train_jobs(
    run: Run,
    jobs: list[Job],
    lazily: Callable[[], Executor],
    *,
    description: str,
    checkpoint_minutes: float | None = None,
    quiet: bool = False,
) -> None:
    """Train the models of the jobs and write each batch to the run as soon as it is there.

    They are trained in the layout that is fastest where they take long; see `infl.training.tuning`. Where the memory of a
    device does not hold a batch, it and the rest are trained in batches of half as many models.

    Models that another process has added to the run since it was opened are not trained; one that trains in it at the same
    time is pointed out, since both may train the same.

    Args:
        lazily: What gives that which trains them; used again for other jobs, it has compiled its programs.
        checkpoint_minutes: Between checkpoints of a batch in training, from which it goes on after a kill; None for
            none.
    """
    if not jobs:
        return
    executor = lazily()
    with run.training() as alone, ExitStack() as waiting:
        run.refresh()
        if not alone:
            note("another process trains in this run too: both may train the same models", quiet=quiet)
        jobs = [job for name, models in _by_collection(jobs).items() for job in missing_jobs(run, name, models)]
        if not jobs:
            return
        checkpoints = Checkpoints(run, partial(note, quiet=quiet))
        checkpoints.prune()
        waiting.enter_context(announce("compiling, and trying how many models to train at once", quiet=quiet))
        _choose_layout(run, jobs, executor, quiet=quiet)
        size, session = executor.models_per_batch, _session(executor, jobs)
        batches = _batches(run, jobs, executor, None if checkpoint_minutes is None else checkpoints)
        with track(len(jobs), description, quiet=quiet) as progress:
            for batch, outcomes, seconds in executor.train(batches, checkpoint_minutes=checkpoint_minutes):
                waiting.close()
                if executor.models_per_batch < size:
                    size, session = executor.models_per_batch, _session(executor, jobs)
                    note(f"out of memory: batches of {size} models from now on", quiet=quiet)
                first = 0
                for name, models in _by_collection(batch.jobs).items():
                    rows = slice(first, first := first + len(models))
                    part = outcomes.record(batch.masks, rows)
                    took = seconds * len(models) / len(batch.jobs)
                    run.write(name, models, part, outcomes.finite[rows], seconds=took, session=session)
                if batch.checkpoint is not None:
                    batch.checkpoint.delete()
                progress.update(len(batch.jobs))
        checkpoints.prune()


def _choose_layout(run: Run, jobs: list[Job], executor: Executor, *, quiet: bool) -> None:
    parts = _by_collection(jobs).items()
    fraction = float(np.mean([collection_masks(run, name, models[:8]).mean() for name, models in parts]))
    recorded = [session["layout"] for session in run.sessions if session.get("layout", {}).get("key")]
    choice = executor.choose_layout(len(jobs), fraction=fraction, recorded=recorded[-1] if recorded else None)
    if choice.models_per_second:
        note(f"layout: {choice.describe()}", quiet=quiet)


def _batches(run: Run, jobs: list[Job], executor: Executor, checkpoints: Checkpoints | None) -> Iterator[Batch]:
    """The jobs in batches of as many models as the executor takes when it asks for one; resumable batches come first."""
    waiting = dict.fromkeys(jobs)

    def batch(some: list[Job]) -> Batch:
        for job in some:
            del waiting[job]
        return _batch(run, some, checkpoints)

    for resumable in checkpoints.resumable() if checkpoints is not None else ():
        if not waiting.keys() >= set(resumable):
            continue
        if len(resumable) <= executor.models_per_batch:
            yield batch(resumable)
        elif checkpoints is not None:
            checkpoints.of(resumable).discard(f"a batch holds {executor.models_per_batch} models now")
    while waiting:
        yield batch(list(islice(waiting, executor.models_per_batch)))


def _batch(run: Run, jobs: list[Job], checkpoints: Checkpoints | None) -> Batch:
    parts = _by_collection(jobs)
    masks = np.concatenate([collection_masks(run, name, models) for name, models in parts.items()])
    keys = jax.numpy.concatenate([collection_keys(run, name, models) for name, models in parts.items()])
    jobs = [(name, model) for name, models in parts.items() for model in models]
    return Batch(jobs, keys, masks, None if checkpoints is None else checkpoints.of(jobs))


def collection_masks(run: Run, collection: str, models: Sequence[int]) -> Array:
    """Which examples models of a collection train on, [len(models), n] bool."""
    record, seed = run.collection(collection), int(run.manifest["seed"])
    if record.forget_set is not None:
        design = Design("leave-out", left_out=record.forget_set.ids)
    else:
        design = Design.from_dict(record.design, record.groups)
    # Covering designs differ in their sets: each has random bits of its own.
    own = zlib.crc32(collection.encode()) if collection.startswith("cover-") else 0
    return draw_masks(design, models, n_train=run.manifest["dataset"]["n_train"], seed=seed + own)


def collection_keys(run: Run, collection: str, models: Sequence[int]) -> jax.Array:
    """The keys from which initial weights and orders of models of a collection follow, [len(models)]."""
    seeds, seed = run.collection(collection).init_seeds(models), int(run.manifest["seed"])
    stream = collection if seeds is None else "reference"
    return model_keys(seed, stream, np.array(models if seeds is None else seeds))


def _by_collection(jobs: Sequence[Job]) -> dict[str, list[int]]:
    parts: dict[str, list[int]] = {}
    for collection, model in jobs:
        parts.setdefault(collection, []).append(model)
    return parts


def _session(executor: Executor, jobs: list[Job]) -> dict[str, Any]:
    models = _by_collection(jobs)
    wanted = {name: max(some) + 1 for name, some in models.items()}
    first = {name: min(some) for name, some in models.items() if min(some)}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **software(),
        **executor.to_dict(),
        "wanted": wanted,
        **({"first": first} if first else {}),
    }

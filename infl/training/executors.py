"""Trains batches of models for `infl.pipeline.train`: on the devices of this process, or on the workers of a Ray cluster.

An executor takes batches - keys and masks - as they are asked for, and gives outcomes back; which of the two it was changes no
outcome.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from infl.records import Array, Dataset, InputError
from infl.training.algorithm import Algorithm
from infl.training.caches import cache_compiled_programs
from infl.training.ensemble import BatchOutcomes, Ensemble, Started, epochs_in_turn
from infl.training.layout import Layout
from infl.training.ray import Ray, Workers
from infl.training.tuning import Choice, choose_layout, out_of_memory_suppressed


class Checkpoint(Protocol):
    """Keeps the states of one batch; see `infl.store.Checkpoint`."""

    def read(self, fits: dict[str, Any]) -> tuple[int, float, dict[str, Array]] | None:
        """Epochs done, the seconds that they took, and the states, if they fit."""
        ...

    def write(self, states: Mapping[str, Array], *, epochs: int, seconds: float, fits: dict[str, Any]) -> None:
        """Keep states instead of those before."""
        ...

    def delete(self) -> None:
        """Delete them."""
        ...


class Batch(NamedTuple):
    """Models to train together.

    Attributes:
        jobs: Collection and number of each, [B], for whoever takes the outcomes.
        keys: [B].
        masks: [B, n] bool.
        checkpoint: Where states are kept between epochs; None for nowhere.
    """

    jobs: list[tuple[str, int]]
    keys: jax.Array
    masks: Array
    checkpoint: Checkpoint | None = None


class TrainedBatch(NamedTuple):
    """A batch, its outcomes, and the seconds that they took."""

    batch: Batch
    outcomes: BatchOutcomes
    seconds: float


def make_executor(
    algorithm: Algorithm,
    dataset: Dataset,
    layout: Layout | None,
    engine: Ray | None = None,
    make: Callable[[Algorithm, Dataset, Layout | None], Ensemble] = Ensemble,
) -> Executor:
    """The executor of an engine: None for this process.

    Args:
        make: What makes the ensemble, here or on each worker.
    """
    if engine is None:
        return LocalExecutor(make(algorithm, dataset, layout))
    return RayExecutor(partial(make, algorithm, dataset, layout), engine)


def check_checkpoint_minutes(minutes: float | None, engine: Ray | None) -> None:
    """Check that states can be kept every so many minutes; None for never.

    Raises:
        InputError: Where the number is out of its range, or workers of a cluster train, which have no run folder to write to.
    """
    if minutes is None:
        return
    if not 0 <= minutes < math.inf:
        raise InputError(f"checkpoint_minutes: expected a finite number of at least 0, got {minutes}")
    if engine is not None:
        raise InputError(
            "checkpoint_minutes: the workers of a Ray cluster keep no checkpoints, since they have no run folder; "
            "take shards instead (infl train --n-models FROM:TO on each machine), or batches of fewer models"
        )


class LocalExecutor:
    """Trains on the devices of this process; while one batch trains, the caller works on the outcomes of the one before."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self._choice: Choice | None = None

    @property
    def models_per_batch(self) -> int:
        """The largest number of them, on all devices; less from where a device's memory did not hold as many."""
        return self.ensemble.models_per_batch

    def choose_layout(self, n_models: int, *, fraction: float, recorded: dict[str, Any] | None) -> Choice:
        """Choose the layout to train so many models in, as `tuning`; a default does not replace what was chosen before."""
        choice = choose_layout(self.ensemble, n_models=n_models, fraction=fraction, recorded=recorded)
        if choice.source != "default" or self._choice is None:
            self.ensemble.set_layout(choice.layout)
            self._choice = choice
        return choice

    def train(self, batches: Iterable[Batch], *, checkpoint_minutes: float | None = None) -> Iterator[TrainedBatch]:
        """Yield outcomes in order; a batch is taken when it can be trained and not long before.

        Args:
            checkpoint_minutes: Least time between two checkpoints of a batch.
        """
        if checkpoint_minutes is not None:
            for batch in batches:
                yield TrainedBatch(batch, *self._train_resumably(batch, 60 * checkpoint_minutes))
            return
        with out_of_memory_suppressed():
            self.ensemble.compile()  # which is none of the seconds that models take
        started, clock = deque[tuple[Batch, Started | None]](), time.perf_counter()
        for batch in itertools.chain(batches, [None]):
            if batch is not None:
                started.append((batch, self._start(batch)))
            if len(started) == 2 or (batch is None and started):
                outcomes, before, clock = self._finish(*started[0]), clock, time.perf_counter()
                yield TrainedBatch(started.popleft()[0], outcomes, clock - before)

    def _start(self, batch: Batch) -> Started | None:
        """None where it is too large for the memory."""
        if len(batch.masks) <= self.models_per_batch:
            with out_of_memory_suppressed():
                return self.ensemble.start(batch.keys, batch.masks)
        return None

    def _finish(self, batch: Batch, started: Started | None) -> BatchOutcomes:
        if started is not None:
            with out_of_memory_suppressed():
                return self.ensemble.finish(started)
        return self.ensemble.train(batch.keys, batch.masks)

    def _train_resumably(self, batch: Batch, seconds_between: float) -> tuple[BatchOutcomes, float]:
        """Outcomes, and the seconds spent on them, those before the checkpoint that training went on from too."""
        ensemble, checkpoint, start, done, before = self.ensemble, batch.checkpoint, time.perf_counter(), 0, 0.0
        assert checkpoint is not None
        outcomes = None
        with out_of_memory_suppressed():
            placed, fits = ensemble.place(batch.keys, batch.masks), self._fits(batch)
            states = ensemble.init_states(placed)
            if found := checkpoint.read(fits):
                done, before, arrays = found
                states = states_from_arrays(arrays, states)
            pieces = epochs_in_turn(ensemble, placed, states, done, seconds_between=seconds_between)
            for done, states in pieces:
                if done < ensemble.algorithm.epochs:
                    seconds = before + time.perf_counter() - start
                    checkpoint.write(states_to_arrays(states), epochs=done, seconds=seconds, fits=fits)
            outcomes = ensemble.finish(ensemble.evaluate(placed, states))
        if outcomes is None:
            outcomes = ensemble.train(batch.keys, batch.masks)
        return outcomes, before + time.perf_counter() - start

    def _fits(self, batch: Batch) -> dict[str, Any]:
        """What states are states of, as JSON: others in any of it cannot go on where these stand."""
        models = hashlib.sha256(np.asarray(jax.random.key_data(batch.keys)).tobytes() + batch.masks.tobytes())
        described = self.ensemble.to_dict()
        return {
            "models": models.hexdigest(),
            "epochs": self.ensemble.algorithm.epochs,
            "layout": described["layout"],
            "devices": described["devices"],
            "jax": jax.__version__,
            "programs": self.ensemble.fingerprint(),
        }

    def to_dict(self) -> dict[str, Any]:
        """Where and how it trains, as JSON: devices, models_per_batch, layout and how it was chosen."""
        return _with_choice(self.ensemble.to_dict(), self._choice)

    def close(self) -> None:
        """Nothing is held."""


class RayExecutor:
    """Trains on the workers of a Ray cluster. They train in one layout, that which the first of them chose."""

    def __init__(self, make: Callable[[], Ensemble], engine: Ray) -> None:
        self._workers = Workers(engine, partial(RayWorker, make))
        self._choice: Choice | None = None
        self._description: dict[str, Any] = {}
        self._models_per_batch = 1

    @property
    def models_per_batch(self) -> int:
        """Of one worker; fewer where that keeps more workers busy."""
        return self._models_per_batch

    def choose_layout(self, n_models: int, *, fraction: float, recorded: dict[str, Any] | None) -> Choice:
        """Let a worker choose the layout for its share of the models."""
        share = -(-n_models // max(1, self._workers.n_wanted))
        choice, description = self._workers.call("choose_layout", share, fraction, recorded)
        if choice.source != "default" or self._choice is None:
            self._choice, self._description = choice, description
        self._models_per_batch = min(self._description["models_per_batch"], share)
        return choice

    def train(self, batches: Iterable[Batch], *, checkpoint_minutes: float | None = None) -> Iterator[TrainedBatch]:
        """Yield outcomes as they are finished."""
        assert self._choice is not None
        layout, clock = self._choice.layout, time.perf_counter()
        sent: dict[int, Batch] = {}

        def tasks() -> Iterator[tuple[Layout, Array, Array]]:
            for number, batch in enumerate(batches):
                sent[number] = batch
                yield layout, np.asarray(jax.random.key_data(batch.keys)), batch.masks

        for number, outcomes in self._workers.run("train", tasks()):
            before, clock = clock, time.perf_counter()
            yield TrainedBatch(sent.pop(number), outcomes, clock - before)

    def to_dict(self) -> dict[str, Any]:
        """Where and how a worker trains, and how many of them do."""
        described = self._description | {"models_per_batch": self._models_per_batch}
        return _with_choice(described, self._choice) | {"engine": "ray", "workers": self._workers.n_wanted}

    def close(self) -> None:
        """End the workers."""
        self._workers.close()


class RayWorker:
    """What is on a worker of a cluster: an ensemble that trains the batches which the driver sends."""

    def __init__(self, make: Callable[[], Ensemble]) -> None:
        cache_compiled_programs()  # a worker's process is infl's own
        self._ensemble = make()
        self._layout: Layout | None = None  # that the driver sends

    def choose_layout(
        self, n_models: int, fraction: float, recorded: dict[str, Any] | None
    ) -> tuple[Choice, dict[str, Any]]:
        """The layout, and where and how this worker then trains."""
        choice = choose_layout(self._ensemble, n_models=n_models, fraction=fraction, recorded=recorded)
        self._ensemble.set_layout(choice.layout)
        return choice, self._ensemble.to_dict()

    def train(self, layout: Layout, key_data: Array, masks: Array) -> BatchOutcomes:
        """Outcomes of a batch, in parts where the memory does not hold it whole."""
        if layout != self._layout:  # the same again must not undo what the memory was too small for
            self._layout = layout
            self._ensemble.set_layout(layout)
        return self._ensemble.train(jax.random.wrap_key_data(jax.numpy.asarray(key_data)), masks)


def states_to_arrays(states: Any) -> dict[str, Array]:
    """The leaves of a tree under their names in it, `['dense']['kernel']` and the like; random keys as their numbers."""
    return {name: np.asarray(_plain(leaf)) for name, leaf in _by_name(states).items()}


def states_from_arrays(arrays: Mapping[str, Array], like: Any) -> Any:
    """The tree of which `states_to_arrays` made arrays, with the types and devices of this one."""

    def restored(name: str, leaf: Any) -> Any:
        array = arrays[name].view(_plain(leaf).dtype)  # NumPy names no bfloat16 in a file
        if _is_key(leaf):
            array = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        return jax.device_put(array, leaf.sharding)

    leaves = [restored(name, leaf) for name, leaf in _by_name(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _by_name(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _with_choice(described: dict[str, Any], choice: Choice | None) -> dict[str, Any]:
    return described if choice is None else described | {"layout": choice.to_dict() | described["layout"]}


Executor = LocalExecutor | RayExecutor

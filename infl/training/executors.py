"""What trains blocks of models for `infl.pipeline.train`: an ensemble in this process, or one on each worker of a Ray cluster.

Both say in which layout they train and how many models a block holds, take blocks, and give outcomes back; which of them it
was changes no outcome.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import jax
import numpy as np

from infl.records import Array, Dataset, InputError
from infl.training.algorithm import Algorithm
from infl.training.caches import cache_compiled_programs
from infl.training.ensemble import (
    BlockOutcomes,
    Ensemble,
    Layout,
    Segments,
    States,
    is_out_of_memory,
    train_in_segments,
)
from infl.training.ray import Ray, Workers
from infl.training.tuning import Choice, choose_layout
from infl.training.weights import read_states, write_states

Block = TypeVar("Block")
Prepare = Callable[[Block], tuple[jax.Array, Array]]  # keys [B] and masks [B, n] of a block


class Checkpoint(Protocol):
    """Keeps the states of one block; see `infl.store.Checkpoint`."""

    def read(self, fits: dict[str, Any]) -> tuple[int, float, Path] | None:
        """Epochs done, the seconds that they took, and the folder of the states, if they fit."""
        ...

    def refuse(self, reason: str) -> None:
        """Give up what was read."""
        ...

    def write(self, write_states: Callable[[Path], None], *, epochs: int, seconds: float, fits: dict[str, Any]) -> None:
        """Keep these instead of those before."""
        ...


@dataclass(frozen=True)
class Keeping(Generic[Block]):
    """That states are kept while a block trains: not more often than every so many minutes, and where."""

    minutes: float
    checkpoint_of: Callable[[Block], Checkpoint]


class Trainer(Protocol):
    """Trains blocks of at most `block_size` models."""

    @property
    def block_size(self) -> int:
        """Models of a block."""
        ...

    def choose(self, n_models: int, *, subset_share: float, recorded: dict[str, Any] | None) -> Choice:
        """Choose the layout to train so many models in; see `infl.training.tuning.choose_layout`."""
        ...

    def train(
        self, blocks: Sequence[Block], prepare: Prepare[Block], keeping: Keeping[Block] | None = None
    ) -> Iterator[tuple[Block, Array, BlockOutcomes, float]]:
        """Yield (block, its masks, outcomes, seconds that it took), in any order.

        Args:
            keeping: Of states on the way; None for none.
        """
        ...

    def halve(self) -> None:
        """Train half as many models in a block from now on."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Where and how it trains, for the run's blocks: devices, block_size, mode, layout and how it was chosen."""
        ...

    def close(self) -> None:
        """Give back what it holds of other machines."""
        ...


def make_trainer(algorithm: Algorithm, dataset: Dataset, layout: Layout | None, engine: Ray | None = None) -> Trainer:
    """The trainer of an engine: None for this process."""
    if engine is None:
        return LocalTrainer(Ensemble(algorithm, dataset, layout))
    return RayTrainer(algorithm, dataset, layout, engine)


def check_keeping(minutes: float | None, engine: Ray | None) -> None:
    """Check that states can be kept every so many minutes; None for never.

    Raises:
        InputError: where the number is out of its range, or workers of a cluster train, which have no run folder to write to.
    """
    if minutes is None:
        return
    if not 0 <= minutes < math.inf:
        raise InputError(f"checkpoint_minutes: expected a finite number of at least 0, got {minutes}")
    if engine is not None:
        raise InputError(
            "checkpoint_minutes: the workers of a Ray cluster keep no checkpoints, since they have no run folder; "
            "take shards instead (infl train --n-models FROM:TO on each machine), or blocks of fewer models"
        )


class LocalTrainer:
    """Trains on the devices of this process."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self._segments = Segments(ensemble)
        self._laid_out = False

    @property
    def block_size(self) -> int:
        """Models of a block, on all devices together."""
        return self.ensemble.block_size

    def choose(self, n_models: int, *, subset_share: float, recorded: dict[str, Any] | None) -> Choice:
        """Choose the layout; a default does not replace what was chosen before."""
        choice = choose_layout(self.ensemble, n_models=n_models, subset_share=subset_share, recorded=recorded)
        if choice.source != "default" or not self._laid_out:
            self.ensemble.set_layout(choice.layout, chosen=choice.how())
            self._laid_out = True
        return choice

    def train(
        self, blocks: Sequence[Block], prepare: Prepare[Block], keeping: Keeping[Block] | None = None
    ) -> Iterator[tuple[Block, Array, BlockOutcomes, float]]:
        """Yield (block, its masks, outcomes, seconds) in order."""
        if keeping is not None:
            for block in blocks:
                start, (keys, masks) = time.perf_counter(), prepare(block)
                outcomes, before = self._train_and_keep(keys, masks, keeping.checkpoint_of(block), keeping.minutes)
                yield block, masks, outcomes, before + time.perf_counter() - start
            return
        prepared = ((block, prepare(block)) for block in blocks)
        started = run_blocks(prepared, start=lambda item: self.ensemble.start(*item[1]), finish=self.ensemble.finish)
        for (block, (_, masks)), outcomes, seconds in started:
            yield block, masks, outcomes, seconds

    def _train_and_keep(
        self, keys: jax.Array, masks: Array, checkpoint: Checkpoint, minutes: float
    ) -> tuple[BlockOutcomes, float]:
        """Outcomes of a block, and the seconds that were spent on it before the checkpoint from which it went on."""
        block = self.ensemble.place(keys, masks)
        fits, start = self._segments.to_dict(block), time.perf_counter()
        found, reached, before = checkpoint.read(fits), None, 0.0
        if found is not None:
            epochs, seconds, folder = found
            try:
                states = self._segments.restored(read_states(folder, self._segments.lower().shapes))
                reached, before = (epochs, states), seconds
            except InputError as error:
                checkpoint.refuse(str(error))

        def keep(epochs: int, states: States) -> None:
            seconds = before + time.perf_counter() - start
            checkpoint.write(partial(write_states, states=states), epochs=epochs, seconds=seconds, fits=fits)

        outcomes = train_in_segments(*(self._segments, block), seconds_between=60 * minutes, keep=keep, reached=reached)
        return outcomes, before

    def halve(self) -> None:
        """Train half as many models in a block from now on."""
        self.ensemble.halve()

    def to_dict(self) -> dict[str, Any]:
        """Where and how it trains."""
        return _described(self.ensemble) | {"layout": self.ensemble.layout.to_dict() | self.ensemble.chosen}

    def close(self) -> None:
        """Nothing is held."""


class RayTrainer:
    """Trains on the workers of a Ray cluster. They train in one layout, that which the first of them chose."""

    def __init__(self, algorithm: Algorithm, dataset: Dataset, layout: Layout | None, engine: Ray) -> None:
        self._workers = Workers(engine, partial(WorkerEnsemble, algorithm, dataset, layout))
        self._layout: Layout | None = None
        self._description: dict[str, Any] = {}
        self._block_size = 1

    @property
    def block_size(self) -> int:
        """Models of a block of one worker; fewer where that keeps more workers busy."""
        return self._block_size

    def choose(self, n_models: int, *, subset_share: float, recorded: dict[str, Any] | None) -> Choice:
        """Let a worker choose the layout for its share of the models."""
        n_workers = max(1, self._workers.n_wanted)
        choice, description = self._workers.call("choose", -(-n_models // n_workers), subset_share, recorded)
        if choice.source != "default" or self._layout is None:
            self._layout = choice.layout
            self._description = description | {"layout": choice.layout.to_dict() | choice.how()}
        self._block_size = min(self._description["block_size"], -(-n_models // n_workers))
        return choice

    def train(
        self, blocks: Sequence[Block], prepare: Prepare[Block], keeping: Keeping[Block] | None = None
    ) -> Iterator[tuple[Block, Array, BlockOutcomes, float]]:
        """Yield (block, its masks, outcomes, seconds) as they are finished."""
        check_keeping(None if keeping is None else keeping.minutes, self._workers.settings)
        masks_of: dict[int, Array] = {}

        def arguments(number: int) -> tuple[Any, ...]:
            keys, masks_of[number] = prepare(blocks[number])
            return self._layout, np.asarray(jax.random.key_data(keys)), masks_of[number]

        for number, outcomes, seconds in self._workers.run(range(len(blocks)), name="train", prepare=arguments):
            yield blocks[number], masks_of.pop(number), outcomes, seconds

    def halve(self) -> None:
        """Workers halve their blocks themselves."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Where and how a worker trains, and how many of them do."""
        return self._description | {"block_size": self._block_size, "engine": "ray", "workers": self._workers.n_wanted}

    def close(self) -> None:
        """End the workers."""
        self._workers.close()


class WorkerEnsemble:
    """An ensemble on a worker of a cluster; its block is one that the driver sends."""

    def __init__(self, algorithm: Algorithm, dataset: Dataset, layout: Layout | None) -> None:
        cache_compiled_programs()  # a worker's process is infl's own
        self._ensemble = Ensemble(algorithm, dataset, layout)
        self._widest: int | None = None  # that the memory holds, where it was full once

    def choose(
        self, n_models: int, subset_share: float, recorded: dict[str, Any] | None
    ) -> tuple[Choice, dict[str, Any]]:
        """The layout, and where and how this worker then trains."""
        choice = choose_layout(self._ensemble, n_models=n_models, subset_share=subset_share, recorded=recorded)
        self._ensemble.set_layout(choice.layout, chosen=choice.how())
        return choice, _described(self._ensemble)

    def train(self, layout: Layout, key_data: Array, masks: Array) -> BlockOutcomes:
        """Outcomes of a block, in parts where the memory does not hold it whole."""
        if self._widest is not None:
            layout = replace(layout, models_per_device=min(self._widest, layout.models_per_device or 1))
        self._ensemble.set_layout(replace(layout, n_devices=len(self._ensemble.devices)))
        keys, parts, done = jax.random.wrap_key_data(jax.numpy.asarray(key_data)), [], 0
        while done < len(masks):
            part = slice(done, done + self._ensemble.block_size)
            try:
                parts.append(self._ensemble.finish(self._ensemble.start(keys[part], masks[part])))
                done += len(parts[-1].finite)
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._ensemble.halve()
                self._widest = self._ensemble.layout.models_per_device
        names = ("margin", "correct", "finite")
        return BlockOutcomes(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _described(ensemble: Ensemble) -> dict[str, Any]:
    devices = [f"{device.platform}:{device.device_kind}" for device in ensemble.devices]
    return {"devices": devices, "block_size": ensemble.block_size, "mode": ensemble.mode}


Block = TypeVar("Block")
Started = TypeVar("Started")
Finished = TypeVar("Finished")


def run_blocks(
    blocks: Iterable[Block], *, start: Callable[[Block], Started], finish: Callable[[Started], Finished]
) -> Iterator[tuple[Block, Finished, float]]:
    """Yield (block, outcome, seconds) in order.

    outcomes, such as writing the last one to disk, overlaps the training of the next block.

    Args:
        start: Begins a block and returns without waiting, as JAX does.
        finish: Waits for it. The caller's work between two
    """
    ahead: tuple[Block, Started] | None = None
    clock = time.perf_counter()
    for block in blocks:
        started = start(block)
        if ahead is not None:
            outcome = finish(ahead[1])
            now = time.perf_counter()
            yield ahead[0], outcome, now - clock
            clock = now
        ahead = block, started
    if ahead is not None:
        outcome = finish(ahead[1])
        yield ahead[0], outcome, time.perf_counter() - clock

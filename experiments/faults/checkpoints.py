"""Measures what checkpoints inside a block cost: the same block trained in one piece, in segments, and with checkpoints.

Segments are cut by a clock, as `checkpoint_minutes` of so many seconds cuts them; once their states are thrown away and once
they are written to a run folder. A round trains each of the three, in turns in another order, with programs that are compiled.
Processor seconds are those of all threads of the process: they leave out the disk, and what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import infl
from infl.pipeline.train import open_for_training
from infl.store import Checkpoint, Checkpoints
from infl.training.ensemble import Ensemble, Layout, model_keys
from infl.training.executors import Keeping, LocalTrainer
from infl.training.subsets import draw_masks

ROUNDS = 5
SECONDS_BETWEEN = 4.0
WIDTH = 8  # models of each device
NETWORKS = {
    "mlp": infl.Algorithm(epochs=3000),
    "cnn": infl.Algorithm(network="cnn", epochs=500),
    "mlp of 1024, 1024": infl.Algorithm(hidden=(1024, 1024), epochs=20),
}
WAYS = ("one piece", "segments", "checkpoints")


class Nowhere:
    """Keeps no states and counts how often it was asked to."""

    def __init__(self) -> None:
        self.n, self.seconds, self.bytes = 0, 0.0, 0

    def read(self, fits: dict[str, Any]) -> None:
        """Nothing."""

    def refuse(self, reason: str) -> None:
        """Nothing."""

    def write(self, write_states: Callable[[Path], None], *, epochs: int, seconds: float, fits: dict[str, Any]) -> None:
        """Count."""
        self.n += 1


class Timed(Nowhere):
    """Writes them, and knows how long that took and how many bytes are on disk."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        super().__init__()
        self._checkpoint = checkpoint

    def write(self, write_states: Callable[[Path], None], *, epochs: int, seconds: float, fits: dict[str, Any]) -> None:
        """Write."""
        start = time.perf_counter()
        self._checkpoint.write(write_states, epochs=epochs, seconds=seconds, fits=fits)
        self.seconds += time.perf_counter() - start
        self.n += 1
        self.bytes = sum(path.stat().st_size for path in self._checkpoint.folder.rglob("*") if path.is_file())


class Block:
    """A block of models of one network, and the run that it is trained for."""

    def __init__(self, folder: Path, network: str) -> None:
        dataset, algorithm = infl.load("digits"), NETWORKS[network]
        design = infl.Design("uniform", 0.7)
        self.run, *_ = open_for_training(folder / network, dataset, algorithm, design, 0)
        self.network = network
        self.trainer = LocalTrainer(
            Ensemble(algorithm, dataset, Layout(models_per_device=WIDTH, mode="map", tune="off"))
        )
        models = np.arange(self.trainer.block_size)
        masks = draw_masks(design, range(len(models)), n_train=dataset.n_train, seed=0)
        self.jobs = [("design", int(model)) for model in models]
        self.prepared = model_keys(0, "design", models), masks
        ensemble = self.trainer.ensemble
        params = jax.eval_shape(
            ensemble.network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *dataset.x_train.shape[1:]), np.float32)
        )
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        ensemble.compile()
        self.trainer._segments.compile()

    def round(self, number: int) -> dict[str, Any]:
        """Seconds of the block in each of the ways, and what its checkpoints were."""
        took: dict[str, float] = {}
        computed: dict[str, float] = {}
        margins: dict[str, Any] = {}
        kept: dict[str, Nowhere] = {}
        order = [WAYS[(number + turn) % len(WAYS)] for turn in range(len(WAYS))]
        for way in order:
            checkpoint = Checkpoints(self.run, say=print).of(self.jobs)
            kept[way] = Timed(checkpoint) if way == "checkpoints" else Nowhere()
            keeping = None if way == "one piece" else Keeping(SECONDS_BETWEEN / 60, lambda _, way=way: kept[way])
            start, processor = time.perf_counter(), time.process_time()
            ((_, _, outcomes, _),) = self.trainer.train([self.jobs], lambda _: self.prepared, keeping)
            took[way] = round(time.perf_counter() - start, 3)
            computed[way] = round(time.process_time() - processor, 3)
            margins[way] = outcomes.margin
            checkpoint.drop()
        return {
            "network": self.network,
            "round": number,
            "models": len(self.jobs),
            "parameters": self.parameters,
            "epochs": NETWORKS[self.network].epochs,
            "seconds_between": SECONDS_BETWEEN,
            "order": order,
            "seconds": took,
            "processor_seconds": computed,
            "cuts": kept["segments"].n,
            "checkpoints": kept["checkpoints"].n,
            "seconds_of_checkpoints": round(kept["checkpoints"].seconds, 3),
            "bytes_of_a_checkpoint": kept["checkpoints"].bytes,
            "checkpoints_equal_segments": bool(np.array_equal(margins["checkpoints"], margins["segments"])),
            "segments_equal_one_piece": bool(np.array_equal(margins["segments"], margins["one piece"])),
        }


def prices(folder: Path, done: list[Any]) -> Iterator[dict[str, Any]]:
    """The rounds that are not done yet, of each network in turn."""
    blocks: dict[str, Block] = {}
    there = [(one["network"], one["round"]) for one in done]
    for number in range(ROUNDS):
        for network in NETWORKS:
            if (network, number) not in there:
                blocks[network] = blocks.get(network) or Block(folder, network)
                yield blocks[network].round(number)

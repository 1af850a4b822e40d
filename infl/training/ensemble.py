"""Turns (keys, masks) of many models into their outcomes, a block at a time, on all devices of this machine.

A block is sharded over the devices by model; inside a device its models run one after another (`map`) or side by side
(`vmap`). A CPU gets one XLA device per core, each single-threaded, and `map`: a small model's weights then stay in the core's
cache, which measured four times faster than one wide `vmap`. Neither setting affects results beyond float rounding.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from infl.records import Array, Dataset, InputError
from infl.training.algorithm import Algorithm, TrainedModel, train_model
from infl.training.networks import Network, check_network

Mode = Literal["map", "vmap"]

_STREAMS = {"design": 0, "reference": 1}

MOST_MODELS_PER_DEVICE = {"map": 16, "vmap": 64}
SECONDS_PER_BLOCK = 5.0
FLOP_PER_SECOND = {"cpu": 5e10}  # of one device, roughly; others: 1e13


@dataclass(frozen=True)
class Layout:
    """How a block of models is laid out. Affects speed only.

    n_devices: devices used; None for all.
    models_per_device: models of a block that one device trains. A block is what a kill can lose. None for as many as fit
        into some five seconds by a rough count of operations, at most 16 with `map` and 64 with `vmap`.
    mode: `map` or `vmap` inside a device; None for `map` on CPUs, `vmap` elsewhere.
    """

    n_devices: int | None = None
    models_per_device: int | None = None
    mode: Mode | None = None

    def __post_init__(self) -> None:
        for name in ("n_devices", "models_per_device"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}: expected at least 1, got {value}")
        if self.mode not in (None, "map", "vmap"):
            raise InputError(f"mode: expected map or vmap, got {self.mode!r}")


@dataclass(frozen=True)
class BlockOutcomes:
    """Outcomes of one block: margin [B, n+m] float32, correct [B, n+m] bool, finite [B] bool."""

    margin: Array
    correct: Array
    finite: Array


def use_all_cores() -> None:
    """Ask JAX for one CPU device per core. Without effect once JAX has started, or where the user set a number."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    unset = getattr(jax.config, "jax_num_cpu_devices", -1) in (None, -1)
    if unset and "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        try:
            jax.config.update("jax_num_cpu_devices", cores)
        except RuntimeError:
            return


def model_keys(seed: int, stream: str, model_ids: Array) -> jax.Array:
    """The key of each model, from (seed, stream, model id) alone, [len(model_ids)].

    Models of one key have the same initial weights and meet the examples that they share in the same order.
    """
    base = jax.random.key(seed % 2**32)
    if high := seed // 2**32 % 2**32:  # which jax.random.key drops
        base = jax.random.fold_in(base, high)
    base = jax.random.fold_in(base, _STREAMS.get(stream, zlib.crc32(stream.encode())))
    return jax.vmap(partial(jax.random.fold_in, base))(jnp.asarray(model_ids, jnp.uint32))


class Ensemble:
    """Trains blocks of models of one algorithm on one dataset; compiles once, whatever the sizes of the subsets.

    Example:
        >>> import infl
        >>> data = infl.load("digits", n_train=100, n_held_out=50)
        >>> ensemble = Ensemble(Algorithm(epochs=2), data)
        >>> keys = model_keys(0, "design", np.arange(3))
        >>> ensemble.finish(ensemble.start(keys, np.ones((3, 100), bool))).margin.shape
        (3, 150)
    """

    def __init__(self, algorithm: Algorithm, dataset: Dataset, layout: Layout | None = None) -> None:
        use_all_cores()
        layout = layout or Layout()
        devices = jax.local_devices()
        n_devices = layout.n_devices or len(devices)
        if n_devices > len(devices):
            raise InputError(
                f"n_devices: this machine has {len(devices)} {devices[0].platform} device(s), got {n_devices}"
            )
        self.devices = devices[:n_devices]
        self.mode: Mode = layout.mode or ("map" if self.devices[0].platform == "cpu" else "vmap")
        self._algorithm = algorithm
        self._n_train = dataset.n_train
        network = algorithm.build_network(dataset.n_classes)
        check_network(network, jnp.asarray(dataset.x_train[0]), dataset.n_classes)
        width = layout.models_per_device or self._default_width(network, dataset)
        self.block_size = n_devices * width

        mesh = Mesh(np.array(self.devices), ("models",))
        self._by_model = NamedSharding(mesh, PartitionSpec("models"))
        everywhere = NamedSharding(mesh, PartitionSpec())
        self._images = jax.device_put(dataset.images, everywhere)
        self._labels = jax.device_put(dataset.labels.astype(np.int32), everywhere)

        def train_on_device(
            key_data: jax.Array, masks: jax.Array, most_steps: jax.Array, images: jax.Array, labels: jax.Array
        ) -> TrainedModel:
            train = partial(train_model, algorithm=algorithm, network=network)
            keys = jax.random.wrap_key_data(key_data)
            if self.mode == "map":
                return jax.lax.map(lambda model: train(model[0], model[1], images, labels), (keys, masks))
            return jax.vmap(lambda key, mask: train(key, mask, images, labels, most_steps=most_steps))(keys, masks)

        spec = PartitionSpec("models")
        sharded = jax.shard_map(
            train_on_device,
            mesh=mesh,
            in_specs=(spec, spec, PartitionSpec(), PartitionSpec(), PartitionSpec()),
            out_specs=spec,
            check_vma=False,
        )
        self._train_block = jax.jit(sharded)
        self._compiled: jax.stages.Compiled | None = None

    def start(self, keys: jax.Array, masks: Array) -> tuple[TrainedModel, int]:
        """Begin training one block of at most `block_size` models; returns before it is done.

        keys: [B]; masks: [B, n] bool. A short block is filled up with copies of its last model, which are dropped again.
        """
        n_models = len(masks)
        if not 0 < n_models <= self.block_size:
            raise InputError(f"a block holds 1 to {self.block_size} models, got {n_models}")
        if masks.shape[1] != self._n_train or len(keys) != n_models:
            raise InputError(
                f"a block needs one key and one mask [{self._n_train}] a model, got keys {keys.shape}, masks {masks.shape}"
            )
        if not masks.any(axis=1).all():
            raise InputError("a model was given an empty subset; every model needs at least one training example")
        padding = self.block_size - n_models
        key_data = np.pad(np.asarray(jax.random.key_data(keys)), ((0, padding), (0, 0)), mode="edge")
        padded = np.pad(masks, ((0, padding), (0, 0)), mode="edge")
        most_steps = np.int32(self._algorithm.steps_per_epoch(int(masks.sum(axis=1).max())))
        arguments = (
            jax.device_put(key_data, self._by_model),
            jax.device_put(padded, self._by_model),
            most_steps,
            self._images,
            self._labels,
        )
        if self._compiled is None:
            self._compiled = self._compile(arguments)
        return self._compiled(*arguments), n_models

    def finish(self, started: tuple[TrainedModel, int]) -> BlockOutcomes:
        """Wait for a block and bring its outcomes to the host."""
        trained, n_models = started
        return BlockOutcomes(*(np.asarray(array)[:n_models] for array in trained))

    def _default_width(self, network: Network, dataset: Dataset) -> int:
        params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *dataset.x_train.shape[1:])))
        n_params = sum(leaf.size for leaf in jax.tree.leaves(params))
        seconds = 6.0 * max(n_params, 1) * dataset.n_train * self._algorithm.epochs
        seconds /= FLOP_PER_SECOND.get(self.devices[0].platform, 1e13)
        return int(np.clip(SECONDS_PER_BLOCK / seconds, 1, MOST_MODELS_PER_DEVICE[self.mode]))

    def _compile(self, arguments: tuple) -> jax.stages.Compiled:
        lowered = self._train_block.lower(*arguments)
        if self.devices[0].platform != "cpu":
            return lowered.compile()
        try:
            # Each core is a device of its own; Eigen's shared thread pool would make them wait for each other.
            return lowered.compile(compiler_options={"xla_cpu_multi_thread_eigen": False})
        except jax.errors.JaxRuntimeError:
            return lowered.compile()

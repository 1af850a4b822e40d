"""Trains batches of models of one algorithm: keys and masks in, outcomes out, on all devices of this machine.

A batch is sharded over the devices by model; inside a device its models run one after another (`map`) or side by side
(`vmap`). A CPU gets one XLA device per core, each single-threaded, and `map`: a small model's weights then stay in the core's
cache, which measured four times faster than one wide `vmap`. Neither setting affects results beyond float rounding.
`infl.training.tuning` chooses between layouts by measurement.

Three programs, compiled once for a layout, do all training: `init_states`, `train_epochs`, which may be cut anywhere between
two epochs, and `evaluate`.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from infl.records import OUTCOME_KINDS, Array, Dataset, InputError, Outcomes
from infl.training import model
from infl.training.algorithm import Algorithm
from infl.training.augmentation import warn_of_scale
from infl.training.layout import Layout, Mode, convolution_backend, estimated_seconds, usual_width
from infl.training.model import TrainedModel, TrainingState
from infl.training.networks import check_network, random_batch
from infl.training.start import Weights

_STREAMS = {"design": 0, "reference": 1}


class BatchOutcomes(NamedTuple):
    """Outcomes of a batch, [B, n+m] each but finite, [B] bool; params [B, ...] if asked for. See `TrainedModel`."""

    margin: Array
    correct: Array
    finite: Array
    params: Any = None
    logprob: Array | None = None
    exact: Array | None = None

    def record(self, masks: Array, rows: Any) -> Outcomes:
        """The outcomes of some of the models, whose subsets are `masks` [B, n]."""
        recorded = {kind: array[rows] for kind in OUTCOME_KINDS if (array := getattr(self, kind)) is not None}
        return Outcomes(masks[rows], **recorded)


class PlacedBatch(NamedTuple):
    """Keys and masks of a batch on the devices that train it.

    Attributes:
        keys: [models_per_batch].
        masks: [models_per_batch, n] bool.
        counts: Models that each device trains, [devices].
        slots: Where in these arrays each model of the batch stands, [B].
    """

    keys: jax.Array
    masks: jax.Array
    counts: jax.Array
    slots: Array


class Started(NamedTuple):
    """A batch in training: its outcomes, and the parameters if asked for, to be waited for."""

    trained: TrainedModel
    slots: Array


class Programs(NamedTuple):
    """What is compiled for a layout."""

    init: jax.stages.Compiled
    train: jax.stages.Compiled
    evaluate: jax.stages.Compiled


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
    """Trains models of one algorithm on one dataset; compiles once for a layout, whatever the sizes of the subsets.

    Args:
        check: Whether to try the network on random pixels first; not needed where another ensemble has.

    Attributes:
        wanted: The layout that was asked for.
        layout: That in use, complete.

    Raises:
        InputError: Where the network or the augmentation does not fit the data, or the layout not this machine.

    Examples:
        >>> import infl
        >>> data = infl.load("digits", n_train=100, n_held_out=50)
        >>> ensemble = Ensemble(Algorithm(epochs=2), data)
        >>> ensemble.train(model_keys(0, "design", np.arange(3)), np.ones((3, 100), bool)).margin.shape
        (3, 150)
    """

    def __init__(
        self, algorithm: Algorithm, dataset: Dataset, layout: Layout | None = None, *, check: bool = True
    ) -> None:
        use_all_cores()
        wanted = layout or Layout()
        devices = jax.local_devices()
        n_devices = wanted.n_devices or len(devices)
        if n_devices > len(devices):
            raise InputError(
                f"n_devices: this machine has {len(devices)} {devices[0].platform} device(s), got {n_devices}"
            )
        self.algorithm, self.dataset, self.wanted = algorithm, dataset, wanted
        self.devices = devices[:n_devices]
        self.network, self.task = algorithm.network_for(dataset), algorithm.choose_task(dataset)
        if check:
            check_network(self.network, random_batch(dataset), self.task.output_shape(dataset))
            self.task.outcome_kinds(dataset)
            if not algorithm.standardize and not dataset.has_texts:
                warn_of_scale(dataset.x_train)
        if algorithm.augmentation is not None:
            algorithm.augmentation.check(dataset.x_train.shape[1:])
        self._mesh = Mesh(np.array(self.devices), ("models",))
        self._by_model = NamedSharding(self._mesh, PartitionSpec("models"))
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        self._images = jax.device_put(dataset.images, everywhere)
        self._example = jax.ShapeDtypeStruct((1, *dataset.x_train.shape[1:]), dataset.x_train.dtype)
        self._targets = jax.device_put(dataset.task_targets, everywhere)
        self._start = jax.device_put(algorithm.start_weights, everywhere)
        self._programs: Programs | None = None
        mode: Mode = wanted.mode or ("map" if self.devices[0].platform == "cpu" else "vmap")
        width = wanted.models_per_device or usual_width(mode, self.estimated_seconds)
        self.layout = replace(wanted, n_devices=n_devices, models_per_device=width, mode=mode)

    @cached_property
    def estimated_seconds(self) -> float:
        """Seconds that training one model takes on one device, by a rough count of operations."""
        return estimated_seconds(self.algorithm, self.dataset, self.devices[0])

    @property
    def models_per_batch(self) -> int:
        """On all devices together."""
        return len(self.devices) * (self.layout.models_per_device or 1)

    def to_dict(self) -> dict[str, Any]:
        """Where and how models are trained, as JSON."""
        devices = [f"{device.platform}:{device.device_kind}" for device in self.devices]
        return {"devices": devices, "models_per_batch": self.models_per_batch, "layout": self.layout.to_dict()}

    def train(self, keys: jax.Array, masks: Array, *, keep_params: bool = False) -> BatchOutcomes:
        """Train any number of models, in batches of half as many from where a device's memory does not hold one.

        Args:
            keys: [B].
            masks: [B, n] bool.
            keep_params: Give the parameters back with the outcomes.

        Raises:
            InputError: Where the memory does not hold the training of a single model.
        """
        parts: list[BatchOutcomes] = []
        done = 0
        while done < len(masks):
            part = slice(done, done + self.models_per_batch)
            try:
                parts.append(self.finish(self.start(keys[part], masks[part], keep_params=keep_params)))
                done += len(parts[-1].finite)
            except jax.errors.JaxRuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self.halve()
        return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)

    def start(self, keys: jax.Array, masks: Array, *, epochs: int | None = None, keep_params: bool = False) -> Started:
        """Begin training one batch of at most `models_per_batch` models; returns before it is done.

        Args:
            epochs: Instead of the algorithm's own.
        """
        batch, epochs = self.place(keys, masks), self.algorithm.epochs if epochs is None else epochs
        states = self.train_epochs(batch, self.init_states(batch), 0, epochs, epochs=epochs)
        started = self.evaluate(batch, states)
        if not keep_params:
            return started
        frozen = model.frozen_part(self.network, self._example, self.algorithm, self._start)
        params = jax.vmap(lambda state: self.network.join(model.combine(state.params, frozen), state.network))(states)
        return started._replace(trained=started.trained._replace(params=params))

    def finish(self, started: Started) -> BatchOutcomes:
        """Wait for a batch and bring its outcomes to the host."""
        trained = jax.tree.map(lambda array: np.asarray(array)[started.slots], started.trained)
        return BatchOutcomes(**trained._asdict())

    def place(self, keys: jax.Array, masks: Array) -> PlacedBatch:
        """Put keys [B] and masks [B, n] of a batch on the devices, spread evenly over them.

        A short batch takes as much less time with `map`; with `vmap` it is filled up with copies of its last model.
        """
        n_models, n_devices, size = len(masks), len(self.devices), self.models_per_batch
        if not 0 < n_models <= size:
            raise InputError(f"a batch holds 1 to {size} models, got {n_models}")
        if masks.shape[1] != self.dataset.n_train or len(keys) != n_models:
            raise InputError(
                f"a batch needs one key and one mask [{self.dataset.n_train}] a model, "
                f"got keys {keys.shape}, masks {masks.shape}"
            )
        if not masks.any(axis=1).all():
            raise InputError("a model was given an empty subset; every model needs at least one training example")
        counts = (n_models // n_devices + (np.arange(n_devices) < n_models % n_devices)).astype(np.int32)
        slots = np.flatnonzero((np.arange(size // n_devices) < counts[:, None]).ravel())
        row_at = np.full(size, n_models - 1)
        row_at[slots] = np.arange(n_models)
        placed = jax.device_put((keys[row_at], masks[row_at], counts), self._by_model)
        return PlacedBatch(placed[0], placed[1], placed[2], slots)

    def init_states(self, batch: PlacedBatch) -> TrainingState:
        """The states of the models of a batch before their first epoch, [models_per_batch, ...] each."""
        return self.compile().init(batch.keys, self._start)

    def train_epochs(
        self, batch: PlacedBatch, states: TrainingState, first: int, last: int, *, epochs: int | None = None
    ) -> TrainingState:
        """Train from before epoch `first` to before epoch `last`. The states that are given are used up."""
        bounds = (np.int32(number) for number in (first, last, epochs or self.algorithm.epochs))
        arrays = (states, batch.keys, batch.masks, batch.counts)
        return self.compile().train(*arrays, *bounds, self._images, self._targets, self._start)

    def evaluate(self, batch: PlacedBatch, states: TrainingState) -> Started:
        """Begin to evaluate models after their last epoch."""
        arrays = (states, batch.masks, batch.counts)
        trained = self.compile().evaluate(*arrays, self._images, self._targets, self._start)
        return Started(trained, batch.slots)

    def compile(self) -> Programs:
        """The programs for the layout in use."""
        if self._programs is None:
            self._programs = self._compile()
        return self._programs

    def fingerprint(self) -> str:
        """SHA-256 of what the training of a model computes."""
        members = jax.ShapeDtypeStruct((self.dataset.n_train,), np.bool_)
        with convolution_backend(self.layout.convolution):
            train = jax.jit(partial(model.train_model, task=self.task, **self._settings))
            lowered = train.lower(jax.random.key(0), members, self._images, self._targets, start=self._start)
        return hashlib.sha256(lowered.as_text().encode()).hexdigest()

    def set_layout(self, layout: Layout) -> None:
        """Train in this layout from now on, on the devices in use."""
        layout = replace(layout, n_devices=len(self.devices))
        if layout != self.layout:
            self.layout, self._programs = layout, None

    def halve(self) -> None:
        """Train half as many models in a batch from now on: for a device whose memory did not hold one.

        Raises:
            InputError: Where a batch has one model per device already.
        """
        width = self.layout.models_per_device or 1
        if width == 1:
            raise InputError(
                f"the memory of a {self.devices[0].device_kind} does not hold the training of a single model: "
                "take a smaller batch_size or a smaller network"
            )
        self.set_layout(replace(self.layout, models_per_device=width // 2))

    def bytes_per_device(self) -> int:
        """Memory that training a batch takes on each device, as compiled; 0 where the platform does not say."""
        names = ("temp_size_in_bytes", "output_size_in_bytes", "argument_size_in_bytes")
        analyses = [program.memory_analysis() for program in self.compile()]
        return max(sum(int(getattr(analysis, name, 0)) for name in names) for analysis in analyses)

    @property
    def _settings(self) -> dict[str, Any]:
        return {"algorithm": self.algorithm, "network": self.network}

    def _init_one(self, key: jax.Array, start: Weights | None) -> TrainingState:
        return model.init_state(key, self._example, start=start, **self._settings)

    def _train_one(
        self, state: Any, key: jax.Array, members: jax.Array, *, data: Any, bounds: tuple[jax.Array, ...]
    ) -> Any:
        (images, targets, start), (first, last, epochs) = data, bounds
        given: Any = {"first": first, "last": last, "epochs": epochs, "task": self.task, "start": start}
        return model.train_epochs(state, key, members, images, targets, **given, **self._settings)

    def _evaluate_one(self, state: Any, members: jax.Array, *, data: Any) -> TrainedModel:
        images, targets, start = data
        given: Any = {"task": self.task, "start": start, **self._settings}
        return model.evaluate(state, members, images, targets, **given)._replace(params=None)

    def _sharded(self, array: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=self._by_model)

    def _compile(self) -> Programs:
        in_turn = self.layout.mode == "map"

        def init(keys: jax.Array, start: Weights | None) -> TrainingState:
            init_one = partial(self._init_one, start=start)
            return jax.lax.map(init_one, keys) if in_turn else jax.vmap(init_one)(keys)

        def train(
            states: TrainingState,
            keys: jax.Array,
            masks: jax.Array,
            counts: jax.Array,
            first: jax.Array,
            last: jax.Array,
            epochs: jax.Array,
            images: jax.Array,
            targets: jax.Array,
            start: Weights | None,
        ) -> TrainingState:
            train_one = partial(self._train_one, data=(images, targets, start), bounds=(first, last, epochs))
            if in_turn:  # in the memory of the states: a second copy of them might not fit
                return _replace_first(train_one, counts[0], states, keys, masks)
            return jax.vmap(train_one)(states, keys, masks)

        def evaluate(
            states: TrainingState,
            masks: jax.Array,
            counts: jax.Array,
            images: jax.Array,
            targets: jax.Array,
            start: Weights | None,
        ) -> TrainedModel:
            evaluate_one = partial(self._evaluate_one, data=(images, targets, start))
            if not in_turn:
                return jax.vmap(evaluate_one)(states, masks)
            shapes = jax.eval_shape(jax.vmap(evaluate_one), states, masks)
            nothing = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
            return _replace_first(lambda _, *one: evaluate_one(*one), counts[0], nothing, states, masks)

        size = self.models_per_batch
        keys = self._sharded(jax.ShapeDtypeStruct((size,), jax.random.key(0).dtype))
        masks = self._sharded(jax.ShapeDtypeStruct((size, self.dataset.n_train), np.bool_))
        counts = self._sharded(jax.ShapeDtypeStruct((len(self.devices),), np.int32))
        init_all = jax.vmap(partial(self._init_one, start=self._start))
        states = jax.tree.map(self._sharded, jax.eval_shape(init_all, keys))
        bounds, data = (np.int32(1),) * 3, (self._images, self._targets, self._start)
        return Programs(
            self._compile_one(init, (keys,), (self._start,)),
            self._compile_one(train, (states, keys, masks, counts), (*bounds, *data), donate=(0,)),
            self._compile_one(evaluate, (states, masks, counts), data),
        )

    def _compile_one(
        self,
        on_device: Callable[..., Any],
        by_model: tuple[Any, ...],
        shared: tuple[Any, ...],
        donate: tuple[int, ...] = (),
    ) -> jax.stages.Compiled:
        """The program in which each device runs `on_device` on its part of the arguments `by_model`, and all of `shared`."""
        spec = PartitionSpec("models")
        in_specs = (*[spec] * len(by_model), *[PartitionSpec()] * len(shared))
        sharded = jax.shard_map(on_device, mesh=self._mesh, in_specs=in_specs, out_specs=spec, check_vma=False)
        with convolution_backend(self.layout.convolution):
            lowered = jax.jit(sharded, donate_argnums=donate).lower(*by_model, *shared)
        # Each core is a device of its own; Eigen's shared thread pool would make them wait for each other.
        on_cpu = self.devices[0].platform == "cpu"
        return lowered.compile(compiler_options={"xla_cpu_multi_thread_eigen": False} if on_cpu else None)


def epochs_in_turn(
    ensemble: Ensemble,
    batch: PlacedBatch,
    states: TrainingState,
    done: int,
    *,
    seconds_between: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[tuple[int, TrainingState]]:
    """Train a batch from after `done` epochs to its end; yield epochs done and states, good until the next are asked for.

    The first piece is one epoch; each other one has as many as, by the time that the last took, fit into what is left of
    `seconds_between` since the last yield, and one at least. The last is yielded however soon it comes.
    """
    epochs, n_next, yielded = ensemble.algorithm.epochs, 1, clock()
    while done < epochs:
        start, last = clock(), min(done + n_next, epochs)
        states = jax.block_until_ready(ensemble.train_epochs(batch, states, done, last))
        now = clock()
        seconds_an_epoch, done = max(now - start, 1e-9) / (last - done), last
        if now - yielded >= seconds_between or done == epochs:
            yield done, states
            yielded = clock()
        n_next = max(1, int(min((seconds_between - (clock() - yielded)) / seconds_an_epoch, epochs)))


def _replace_first(step: Callable[..., Any], count: jax.Array, results: Any, *models: Any) -> Any:
    """The first `count` of the results, stacked as the models are, replaced by step(result, *model), one after another."""

    def replace_next(i: jax.Array, results: Any) -> Any:
        one = step(*jax.tree.map(lambda stacked: stacked[i], (results, *models)))
        return jax.tree.map(partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0), results, one)

    return jax.lax.fori_loop(0, count, replace_next, results)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether XLA says that a device's memory does not hold a program or its arrays."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)

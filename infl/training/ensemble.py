"""Turns (keys, masks) of many models into their outcomes, a block at a time, on all devices of this machine.

A block is sharded over the devices by model; inside a device its models run one after another (`map`) or side by side
(`vmap`). A CPU gets one XLA device per core, each single-threaded, and `map`: a small model's weights then stay in the core's
cache, which measured four times faster than one wide `vmap`. Neither setting affects results beyond float rounding.
`infl.training.tuning` chooses between layouts by measurement.
"""

from __future__ import annotations

import hashlib
import os
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from infl.records import Array, Dataset, InputError
from infl.training import algorithm as one
from infl.training.algorithm import Algorithm, TrainingState, train_model, train_with_params
from infl.training.kernels.convolution import BACKENDS, use_backend
from infl.training.networks import check_network

Mode = Literal["map", "vmap"]
Tune = Literal["auto", "fresh", "off"]

_STREAMS = {"design": 0, "reference": 1}

MAX_MODELS_PER_DEVICE = {"map": 16, "vmap": 64}
SECONDS_PER_BLOCK = 5.0
FLOP_PER_SECOND = {"cpu": 5e10}  # of one device, roughly; others: 1e13


@dataclass(frozen=True)
class Layout:
    """How a block of models is laid out. Affects speed only.

    Attributes:
        n_devices: Devices used; None for all.
        models_per_device: Models of a block that one device trains. A block is what a kill can lose, unless checkpoints
            are kept. None for as many as fit into some five seconds by a rough count of operations, at most 16 with
            `map` and 64 with `vmap`.
        mode: `map` or `vmap` inside a device; None for `map` on CPUs, `vmap` elsewhere.
        convolution: How convolutions are computed, a name of `infl.training.kernels.convolution.BACKENDS`; None for the
            usual way.
        tune: What happens to settings that are None where training takes long: `auto` takes those that were fastest for
            this run or on this machine before and measures where there are none (`infl.training.tuning`), `fresh`
            measures again, `off` takes the defaults.
    """

    n_devices: int | None = None
    models_per_device: int | None = None
    mode: Mode | None = None
    convolution: str | None = None
    tune: Tune = "auto"

    def to_dict(self) -> dict[str, Any]:
        """As JSON; what stands in `tune` is no part of it."""
        return {name: getattr(self, name) for name in ("n_devices", "models_per_device", "mode", "convolution")}

    @staticmethod
    def from_dict(description: dict[str, Any]) -> Layout:
        """The inverse of `describe`; further entries are passed over."""
        return Layout(**{name: description[name] for name in Layout().to_dict()})

    def __post_init__(self) -> None:
        for name in ("n_devices", "models_per_device"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}: expected at least 1, got {value}")
        if self.mode not in (None, "map", "vmap"):
            raise InputError(f"mode: expected map or vmap, got {self.mode!r}")
        if self.convolution is not None and self.convolution not in BACKENDS:
            raise InputError(f"convolution: expected one of {', '.join(BACKENDS)}; got {self.convolution!r}")
        if self.tune not in get_args(Tune):
            raise InputError(f"tune: expected one of {', '.join(get_args(Tune))}; got {self.tune!r}")


@dataclass(frozen=True)
class BlockOutcomes:
    """Outcomes of one block: margin [B, n+m] float32, correct [B, n+m] bool, finite [B] bool; params [B, ...] where kept."""

    margin: Array
    correct: Array
    finite: Array
    params: Any = None


class PlacedBatch(NamedTuple):
    """A block of models on the devices that train it; models and devices stand in rows.

    any of them; places: row of each model, [B].

    Attributes:
        key_data: Words of the keys.
        masks: [block_size, n] bool.
        counts: Models that each device trains.
        most_steps: Of an epoch of
    """

    key_data: jax.Array
    masks: jax.Array
    counts: jax.Array
    most_steps: np.int32
    places: Array


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

    def __init__(
        self,
        algorithm: Algorithm,
        dataset: Dataset,
        layout: Layout | None = None,
        *,
        check: bool = True,
        keep_params: bool = False,
    ) -> None:
        """check: try the network on random pixels first; not needed where another ensemble has.

        Args:
            keep_params: Give the parameters back with the outcomes.
        """
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
        self.network = algorithm.build_network(dataset.n_classes)
        if check:
            check_network(self.network, jnp.asarray(dataset.x_train[0]), dataset.n_classes)
        if algorithm.augmentation is not None:
            algorithm.augmentation.check(dataset.x_train.shape[1:])
        mode: Mode = wanted.mode or ("map" if self.devices[0].platform == "cpu" else "vmap")
        width = wanted.models_per_device or usual_width(mode, self.estimated_seconds)
        self.layout = replace(wanted, n_devices=n_devices, models_per_device=width, mode=mode)

        self.chosen: dict[str, Any] = {}
        self._keep_params = keep_params
        self._mesh = Mesh(np.array(self.devices), ("models",))
        self.by_model = NamedSharding(self._mesh, PartitionSpec("models"))
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        self.images = jax.device_put(dataset.images, everywhere)
        self.labels = jax.device_put(dataset.labels.astype(np.int32), everywhere)
        self._compiled: jax.stages.Compiled | None = None

    @cached_property
    def estimated_seconds(self) -> float:
        """Seconds that training one model takes on one device, by a rough count of operations."""
        return estimated_seconds(self.algorithm, self.dataset, self.devices[0])

    @property
    def mode(self) -> Mode:
        """How the models of a device are trained."""
        return self.layout.mode or "map"

    @property
    def block_size(self) -> int:
        """Models of a block, on all devices together."""
        return len(self.devices) * (self.layout.models_per_device or 1)

    def start(self, keys: jax.Array, masks: Array, *, epochs: int | None = None) -> tuple[Any, Array]:
        """Begin training one block of at most `block_size` models; returns before it is done.

        time; with `vmap` it is filled up with copies of its last model, which are dropped again.

        Args:
            keys: [B].
            masks: [B, n] bool. A short block is spread evenly over the devices. With `map` it takes as much less
            epochs: Instead of the algorithm's own.
        """
        block = self.place(keys, masks)
        started = self.compile()(
            *(block.key_data, block.masks, block.counts, block.most_steps),
            np.int32(self.algorithm.epochs if epochs is None else epochs),
            *(self.images, self.labels),
        )
        return started, block.places

    def finish(self, started: tuple[Any, Array]) -> BlockOutcomes:
        """Wait for a block and bring its outcomes to the host."""
        trained, places = started
        kept = jax.tree.map(lambda array: np.asarray(array)[places], trained)
        return BlockOutcomes(*kept[0], params=kept[1]) if self._keep_params else BlockOutcomes(*kept)

    def place(self, keys: jax.Array, masks: Array) -> PlacedBatch:
        """Put keys and masks of a block on the devices; see `start`."""
        n_models = len(masks)
        if not 0 < n_models <= self.block_size:
            raise InputError(f"a block holds 1 to {self.block_size} models, got {n_models}")
        if masks.shape[1] != self.dataset.n_train or len(keys) != n_models:
            raise InputError(
                f"a block needs one key and one mask [{self.dataset.n_train}] a model, "
                f"got keys {keys.shape}, masks {masks.shape}"
            )
        if not masks.any(axis=1).all():
            raise InputError("a model was given an empty subset; every model needs at least one training example")
        places, counts = self._places(n_models)
        row_at = np.full(self.block_size, n_models - 1)
        row_at[places] = np.arange(n_models)
        return PlacedBatch(
            jax.device_put(np.asarray(jax.random.key_data(keys))[row_at], self.by_model),
            jax.device_put(masks[row_at], self.by_model),
            jax.device_put(counts, self.by_model),
            np.int32(self.algorithm.steps_per_epoch(int(masks.sum(axis=1).max()))),
            places,
        )

    def compile(self) -> jax.stages.Compiled:
        """The program that trains a block; made once for a layout."""
        if self._compiled is None:
            shared = (np.int32(1), np.int32(1), self.images, self.labels)
            self._compiled = self.compile_lowered(self.lower(self._train_on_device(), self.block_shapes(), shared))
        return self._compiled

    def block_shapes(self) -> list[jax.ShapeDtypeStruct]:
        """Of key data, masks and counts of a placed block."""
        key_data = jax.random.key_data(jax.random.split(jax.random.key(0), self.block_size))
        masks_shape = (self.block_size, self.dataset.n_train)
        shapes = [(key_data.shape, key_data.dtype), (masks_shape, np.bool_), ((len(self.devices),), np.int32)]
        return [jax.ShapeDtypeStruct(*shape, sharding=self.by_model) for shape in shapes]

    def lower(
        self,
        on_device: Callable[..., Any],
        by_model: Sequence[Any],
        shared: Sequence[Any],
        *,
        donate: tuple[int, ...] = (),
    ) -> jax.stages.Lowered:
        """The program in which each device runs `on_device` on its part of the arguments `by_model`, and all of `shared`.

        Args:
            donate: Numbers of arguments whose memory the results may take.
        """
        spec = PartitionSpec("models")
        in_specs = (*[spec] * len(by_model), *[PartitionSpec()] * len(shared))
        sharded = jax.shard_map(on_device, mesh=self._mesh, in_specs=in_specs, out_specs=spec, check_vma=False)
        with convolution_backend(self.layout.convolution):
            return jax.jit(sharded, donate_argnums=donate).lower(*by_model, *shared)

    def compile_lowered(self, lowered: jax.stages.Lowered) -> jax.stages.Compiled:
        """Compile a program for the devices."""
        if self.devices[0].platform != "cpu":
            return lowered.compile()
        try:
            # Each core is a device of its own; Eigen's shared thread pool would make them wait for each other.
            return lowered.compile(compiler_options={"xla_cpu_multi_thread_eigen": False})
        except jax.errors.JaxRuntimeError as error:
            if is_out_of_memory(error):
                raise
            return lowered.compile()

    def set_layout(self, layout: Layout, *, chosen: dict[str, Any] | None = None) -> None:
        """Train in this layout from now on, on the devices in use. chosen: how it was chosen, to be told where it is noted."""
        if chosen is not None:
            self.chosen = chosen
        if layout != self.layout:
            self.layout, self._compiled = replace(layout, n_devices=len(self.devices)), None

    def bytes_per_device(self) -> int:
        """Memory that training a block takes on each device, as compiled; 0 where the platform does not say."""
        analysis = self.compile().memory_analysis()
        names = ("temp_size_in_bytes", "output_size_in_bytes", "argument_size_in_bytes")
        return sum(int(getattr(analysis, name, 0)) for name in names)

    def halve(self) -> None:
        """Train half as many models in a block from now on: for a device whose memory did not hold one.

        Raises:
            InputError: where a block has one model per device already.
        """
        width = self.layout.models_per_device or 1
        if width == 1:
            raise InputError(
                f"the memory of a {self.devices[0].device_kind} does not hold the training of a single model: "
                "take a smaller batch_size or a smaller network"
            )
        self.set_layout(replace(self.layout, models_per_device=width // 2))

    def _places(self, n_models: int) -> tuple[Array, Array]:
        """Where in a block its models stand, [n_models], and how many each device has, [devices]."""
        n_devices, width = len(self.devices), self.layout.models_per_device or 1
        counts = np.full(n_devices, n_models // n_devices, np.int32)
        counts[: n_models % n_devices] += 1
        return np.concatenate([device * width + np.arange(count) for device, count in enumerate(counts)]), counts

    def _train_on_device(self) -> Callable[..., Any]:
        train_one = train_with_params if self._keep_params else train_model
        mode, train = self.mode, partial(train_one, algorithm=self.algorithm, network=self.network)

        def train_on_device(
            key_data: jax.Array,
            masks: jax.Array,
            counts: jax.Array,
            most_steps: jax.Array,
            epochs: jax.Array,
            images: jax.Array,
            labels: jax.Array,
        ) -> Any:
            one = partial(train, images=images, labels=labels, epochs=epochs)
            keys = jax.random.wrap_key_data(key_data)
            if mode == "map":
                return map_first(one, counts[0], keys, masks)
            return jax.vmap(partial(one, most_steps=most_steps))(keys, masks)

        return train_on_device


def map_first(train: Callable[..., Any], count: jax.Array, *models: Any) -> Any:
    """The first `count` of the models, whose arrays are stacked, one after another; zeros for the rest."""

    def train_next(i: jax.Array, trained: Any) -> Any:
        one = train(*jax.tree.map(lambda stacked: stacked[i], models))
        return jax.tree.map(partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0), trained, one)

    shapes = jax.eval_shape(train, *jax.tree.map(lambda stacked: stacked[0], models))
    n_models = len(jax.tree.leaves(models)[0])
    nothing = jax.tree.map(lambda shape: jnp.zeros((n_models, *shape.shape), shape.dtype), shapes)
    return jax.lax.fori_loop(0, count, train_next, nothing)


def usual_width(mode: Mode, seconds_per_model: float) -> int:
    """Models per device that take some five seconds, at most 16 with `map` and 64 with `vmap`."""
    return int(np.clip(SECONDS_PER_BLOCK / max(seconds_per_model, 1e-9), 1, MAX_MODELS_PER_DEVICE[mode]))


def estimated_seconds(algorithm: Algorithm, dataset: Dataset, device: Any) -> float:
    """Seconds that training one model takes on one device, by a rough count of operations: three passes over D an epoch."""
    per_example = forward_operations(lower_apply(algorithm, dataset)) / algorithm.batch_size
    operations = 3.0 * per_example * dataset.n_train * algorithm.epochs
    return operations / FLOP_PER_SECOND.get(device.platform, 1e13)


def lower_apply(
    algorithm: Algorithm, dataset: Dataset, convolution: str | None = None, *, gradient: bool = False
) -> jax.stages.Lowered:
    """The forward pass of a batch, or its gradient: not compiled, for what it computes and how many operations that takes."""
    network, shape = algorithm.build_network(dataset.n_classes), dataset.x_train.shape[1:]
    params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, *shape)))
    batch = jax.ShapeDtypeStruct((algorithm.batch_size, *shape), jnp.float32)

    # Functions of this call alone: what was traced before, with another back end, must not be taken for them.
    def forward(params: Any, x: jax.Array) -> jax.Array:
        return network.apply(params, x)

    def slope(params: Any, x: jax.Array) -> Any:
        return jax.grad(lambda params: (forward(params, x) ** 2).sum())(params)

    with convolution_backend(convolution):
        return jax.jit(slope if gradient else forward).lower(params, batch)


def forward_operations(lowered: jax.stages.Lowered) -> float:
    """Floating-point operations of what was lowered; 1 where the platform does not count them."""
    counted: Any = lowered.cost_analysis() or {}
    return max(float(counted.get("flops", 1.0)), 1.0)


def convolution_backend(name: str | None) -> AbstractContextManager[None]:
    """In a `with` block networks are traced with this convolution; None for the usual one."""
    return nullcontext() if name is None else use_backend(name)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether XLA says that a device's memory does not hold a program or its arrays."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


# The leaves of the `TrainingState` of every model of a block, [block_size, ...] each; of keys their words.
States = list[jax.Array]


def train_in_segments(
    segments: Segments,
    block: PlacedBatch,
    *,
    seconds_between: float,
    keep: Callable[[int, States], None],
    reached: tuple[int, States] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> BlockOutcomes:
    """Train a block to its end and keep its states on the way.

    The first segment is one epoch; each other one has as many as, by the time that the last took, fit into what is left until
    the states are to be kept again, and one at least.

    Args:
        keep: Called with the number of epochs done and the states, which are good until it returns; never after the
            last epoch.
        seconds_between: Two calls of it at least.
        reached: Epochs done and states from which to go on; None for the beginning.
    """
    segments.compile()  # which is no part of the first epoch
    epochs = segments.ensemble.algorithm.epochs
    done, states = (0, segments.begin(block)) if reached is None else reached
    n_next, kept = 1, clock()
    while done < epochs:
        start, last = clock(), min(done + n_next, epochs)
        states = jax.block_until_ready(segments.advance(block, states, done, last))
        now = clock()
        seconds_an_epoch, done = max(now - start, 1e-9) / (last - done), last
        if now - kept >= seconds_between and done < epochs:
            keep(done, states)
            kept = clock()
        n_next = max(1, int(min((seconds_between - (clock() - kept)) / seconds_an_epoch, epochs)))
    return segments.conclude(block, states)


class Lowered(NamedTuple):
    """The programs for a layout, not compiled. shapes: of the states; fingerprint: SHA-256 of what the programs compute."""

    programs: tuple[jax.stages.Lowered, ...]
    shapes: list[jax.ShapeDtypeStruct]
    fingerprint: str


class Segments:
    """The three programs of an ensemble, in the layout that it has when they are called; compiled once for each."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self._lowered: tuple[Layout, Lowered] | None = None
        self._compiled: tuple[jax.stages.Compiled, ...] | None = None

    def begin(self, block: PlacedBatch) -> States:
        """The states of the models of a block before their first epoch."""
        return self.compile()[0](block.key_data, block.counts)

    def advance(self, block: PlacedBatch, states: States, first: int, last: int) -> States:
        """Train from before epoch `first` to before epoch `last`. The states that are given are used up."""
        ensemble, numbers = self.ensemble, (first, last, self.ensemble.algorithm.epochs)
        return self.compile()[1](
            *(states, block.key_data, block.masks, block.counts, block.most_steps),
            *(np.int32(number) for number in numbers),
            *(ensemble.images, ensemble.labels),
        )

    def conclude(self, block: PlacedBatch, states: States) -> BlockOutcomes:
        """The outcomes of models after their last epoch."""
        ensemble = self.ensemble
        judged = self.compile()[2](states, block.masks, block.counts, ensemble.images, ensemble.labels)
        return BlockOutcomes(*(np.asarray(array)[block.places] for array in judged))

    def restored(self, arrays: list[Array]) -> States:
        """States from arrays that were kept, put on the devices."""
        return [jax.device_put(array, self.ensemble.by_model) for array in arrays]

    def to_dict(self, block: PlacedBatch) -> dict[str, Any]:
        """What states are states of, as JSON: others in any of it cannot go on where these stand."""
        ensemble = self.ensemble
        models = hashlib.sha256(np.asarray(block.key_data).tobytes() + np.asarray(block.masks).tobytes())
        return {
            "models": models.hexdigest(),
            "epochs": ensemble.algorithm.epochs,
            "layout": ensemble.layout.to_dict(),
            "devices": [f"{device.platform}:{device.device_kind}" for device in ensemble.devices],
            "jax": jax.__version__,
            "programs": self.lower().fingerprint,
        }

    def lower(self) -> Lowered:
        """The programs for the layout that the ensemble has now."""
        if self._lowered is None or self._lowered[0] != self.ensemble.layout:
            self._lowered, self._compiled = (self.ensemble.layout, _lower(self.ensemble)), None
        return self._lowered[1]

    def compile(self) -> tuple[jax.stages.Compiled, ...]:
        """The same, compiled: begin, advance, conclude."""
        lowered = self.lower()
        if self._compiled is None:
            self._compiled = tuple(map(self.ensemble.compile_lowered, lowered.programs))
        return self._compiled


def _lower(ensemble: Ensemble) -> Lowered:
    settings: dict[str, Any] = {"algorithm": ensemble.algorithm, "network": ensemble.network}
    in_turn = ensemble.mode == "map"
    begin_one = partial(one.begin, pixels_shape=ensemble.images.shape[1:], **settings)
    packing = _Packing(begin_one)

    def begin(key_data: jax.Array, counts: jax.Array) -> States:
        keys = jax.random.wrap_key_data(key_data)

        def begin_next(key: jax.Array) -> States:
            return packing.leaves(begin_one(one.keys_of_model(key)))

        return map_first(begin_next, counts[0], keys) if in_turn else jax.vmap(begin_next)(keys)

    def advance(
        states: States,
        key_data: jax.Array,
        masks: jax.Array,
        counts: jax.Array,
        most_steps: jax.Array,
        first: jax.Array,
        last: jax.Array,
        epochs: jax.Array,
        images: jax.Array,
        labels: jax.Array,
    ) -> States:
        keys = jax.random.wrap_key_data(key_data)
        bounds: dict[str, Any] = {"first": first, "last": last, "epochs": epochs}

        def advance_one(leaves: States, key: jax.Array, members: jax.Array) -> States:
            state, keys_of_it, most = packing.state(leaves), one.keys_of_model(key), None if in_turn else most_steps
            return packing.leaves(
                one.advance(state, keys_of_it, members, images, labels, most_steps=most, **bounds, **settings)
            )

        def advance_next(i: jax.Array, states: States) -> States:
            mine = advance_one([leaf[i] for leaf in states], keys[i], masks[i])
            return jax.tree.map(partial(jax.lax.dynamic_update_index_in_dim, index=i, axis=0), states, mine)

        if in_turn:  # in the memory of the states: a second copy of them might not fit
            return jax.lax.fori_loop(0, counts[0], advance_next, states)
        return jax.vmap(advance_one)(states, keys, masks)

    def conclude(
        states: States, masks: jax.Array, counts: jax.Array, images: jax.Array, labels: jax.Array
    ) -> one.TrainedModel:
        def conclude_one(leaves: States, members: jax.Array) -> one.TrainedModel:
            return one.conclude(packing.state(leaves), members, images, labels, **settings)

        if in_turn:
            return map_first(conclude_one, counts[0], states, masks)
        return jax.vmap(conclude_one)(states, masks)

    key_data, masks, counts = ensemble.block_shapes()
    data, number = (ensemble.images, ensemble.labels), np.int32(1)
    shapes = [
        jax.ShapeDtypeStruct((ensemble.block_size, *leaf.shape), leaf.dtype, sharding=ensemble.by_model)
        for leaf in packing.shapes
    ]
    lowered = (
        ensemble.lower(begin, (key_data, counts), ()),
        ensemble.lower(advance, (shapes, key_data, masks, counts), (number,) * 4 + data, donate=(0,)),
        ensemble.lower(conclude, (shapes, masks, counts), data),
    )
    fingerprint = hashlib.sha256("\n".join(program.as_text() for program in lowered).encode()).hexdigest()
    return Lowered(lowered, shapes, fingerprint)


class _Packing:
    """Between the tree of a `TrainingState` and a list of plain arrays, of which keys are none."""

    def __init__(self, begin_one: Callable[[one.ModelKeys], TrainingState]) -> None:
        kinds: list[Any] = []  # which the keys in a state tell only while it is traced

        def begin(key: jax.Array) -> TrainingState:
            state = begin_one(one.keys_of_model(key))
            kinds[:] = [jax.random.key_impl(leaf) if _is_key(leaf) else None for leaf in jax.tree.leaves(state)]
            return state

        like = jax.eval_shape(begin, jax.random.key(0))
        self._structure, self._kinds = jax.tree.structure(like), kinds
        self.shapes = jax.eval_shape(self.leaves, like)

    def leaves(self, state: TrainingState) -> States:
        return [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(state)]

    def state(self, leaves: States) -> TrainingState:
        kinds = zip(leaves, self._kinds, strict=True)
        typed = [leaf if kind is None else jax.random.wrap_key_data(leaf, impl=kind) for leaf, kind in kinds]
        return jax.tree.unflatten(self._structure, typed)


def _is_key(leaf: jax.Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)

"""The training algorithm A: turns a key, the members of a subset and the data into what one trained model does.

Everything random comes from the key. The order of an epoch is drawn per example id: two subsets trained with one key start
from the same weights and visit the examples they share in the same relative order, so A(D) and A(D\\S) pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import optax

from infl.records import InputError
from infl.training.architectures import build
from infl.training.augmentation import Augmentation, augmented_batch, member_moments, standardized, unit_pixels
from infl.training.networks import Network
from infl.training.privacy import Privacy, poisson_sample, private_gradient

Gradient = Callable[
    [Any, jax.Array], tuple[jax.Array, Any]
]  # (params, which step of the epoch) -> loss and its gradient
Precision = Literal["float32", "bfloat16"]
Schedule = Literal["constant", "linear", "cosine"]
OPTIMIZERS = ("sgd", "adam", "adamw")
NETWORK_SETTINGS = ("hidden", "widths")
EVALUATION_BATCH = {"cpu": 256}  # examples judged at once, as measured; others: 1,024
AUGMENTATION_STREAM = 2  # of a model's key, whose streams 0 and 1 are its initial weights and its orders
NOISE_STREAM = 3  # of differentially private training


@dataclass(frozen=True)
class Algorithm:
    """Network, optimizer, batch size, epochs and learning-rate schedule.

    Attributes:
        network: The name of a built-in network, or a `Network`.
        hidden: Widths of the dense hidden layers of `mlp`, `cnn` and the blocks of `vit`; None for the network's own
            default.
        widths: Channels of the convolutions of `cnn` and `resnet9`, width of the tokens of `vit`; None for the default.
        optimizer: A name, or an `optax.GradientTransformation` that brings its own learning rate.
        batch_size: At most this many examples a step. An epoch over k examples takes ceil(k / batch_size) steps whose
            sizes differ by at most one, so that no step rests on a few left-over examples.
        epochs: Passes over the subset.
        learning_rate: For optimizers given by name.
        momentum: Of `sgd`.
        weight_decay: Of `adamw`.
        schedule: Factor on every update, as a function of the share of training done: constant, or down to zero along a
            line or half a cosine.
        augmentation: Random changes of the images trained on; None for none.
        standardize: Whether the network gets pixels minus their mean, divided by their standard deviation, channel by
            channel: those of the examples that the model trains on, so that left-out ones have no part in them. After
            augmentation.
        precision: Of the forward and backward pass of training. With `bfloat16` (8 significant bits instead of 24) the
            weights themselves, the loss and the updates stay float32, and trained models are judged in float32.
        privacy: Clipping and noise of differentially private training; None for ordinary training. Batches are then
            Poisson samples: an epoch takes ceil(n / batch_size) steps, n the size of D whatever the subset, and every
            member joins each with a probability of one in as many (`sampling`), so that batches of all of D hold at
            most batch_size on average.

    Raises:
        InputError: for a setting out of its range, or private training of standardized pixels: what standardizes them is no
            private statistic.
    """

    network: str | Network = "mlp"
    hidden: tuple[int, ...] | None = None
    widths: tuple[int, ...] | None = None
    optimizer: str | optax.GradientTransformation = "sgd"
    batch_size: int = 50
    epochs: int = 30
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    augmentation: Augmentation | None = None
    standardize: bool = False
    precision: Precision = "float32"
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate: expected a finite number above 0, got {self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay: expected a finite number of at least 0, got {self.weight_decay}")
        if self.weight_decay and self.optimizer != "adamw":
            raise InputError(f"weight_decay is a setting of adamw, and the optimizer is {self.optimizer}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum: expected at least 0 and below 1, got {self.momentum}")
        if self.schedule not in get_args(Schedule):
            raise InputError(f"schedule: expected one of {', '.join(get_args(Schedule))}; got {self.schedule!r}")
        if self.precision not in get_args(Precision):
            raise InputError(f"precision: expected one of {', '.join(get_args(Precision))}; got {self.precision!r}")
        if isinstance(self.optimizer, str) and self.optimizer not in OPTIMIZERS:
            raise InputError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}; got {self.optimizer!r}")
        if self.privacy is not None and self.standardize:
            raise InputError(
                "privacy: standardize takes mean and deviation of a model's own examples, which clipping and noise do not "
                "reach; scale pixels by constants instead"
            )
        if isinstance(self.network, str):
            build(self.network, 2, **self._network_settings())

    def to_dict(self) -> dict[str, Any]:
        """The algorithm as JSON: what a resumed run must agree with."""
        description: dict[str, Any] = {"network": self.build_network(2).to_dict(), "optimizer": "custom"}
        if isinstance(self.optimizer, str):
            used = {"sgd": ("learning_rate", "momentum"), "adam": ("learning_rate",)}
            names = used.get(self.optimizer, ("learning_rate", "weight_decay"))
            description |= {"optimizer": self.optimizer, **{name: getattr(self, name) for name in names}}
        description |= {"batch_size": self.batch_size, "epochs": self.epochs, "schedule": self.schedule}
        # What is not the default alone, so that runs made before there was a choice can be continued.
        if self.augmentation is not None:
            description["augmentation"] = " ".join(self.augmentation.words())
        if self.standardize:
            description["standardize"] = True
        if self.precision != "float32":
            description["precision"] = self.precision
        if self.privacy is not None:
            description["privacy"] = " ".join(self.privacy.words())
        return description

    @staticmethod
    def from_dict(description: dict[str, Any]) -> Algorithm:
        """The inverse of `describe`, for algorithms made of infl's own parts.

        Raises:
            InputError: where the network or the optimizer was the user's own, which a manifest cannot hold.
        """
        settings = dict(description)
        network = dict(settings.pop("network"))
        name = network.pop("name")
        for part, own in (
            ("network", name == "custom" or not network),
            ("optimizer", settings["optimizer"] == "custom"),
        ):
            if own:
                raise InputError(
                    f"this run's {part} was given in Python; call infl.verify from Python with algorithm=..."
                )
        if "augmentation" in settings:
            settings["augmentation"] = Augmentation.parse(settings["augmentation"].split())
        if "privacy" in settings:
            settings["privacy"] = Privacy.parse(settings["privacy"].split())
        defaults = build(name, 2).settings
        given = {setting: value for setting, value in network.items() if value != defaults.get(setting)}
        if rest := sorted(set(given) - set(NETWORK_SETTINGS)):
            raise InputError(
                f"this run's network was given in Python, with {rest[0]}; call infl.verify from Python with algorithm=..."
            )
        return Algorithm(network=name, **{setting: tuple(value) for setting, value in given.items()}, **settings)

    def build_network(self, n_classes: int) -> Network:
        """The network for data with that many classes."""
        return (
            self.network
            if isinstance(self.network, Network)
            else build(self.network, n_classes, **self._network_settings())
        )

    def build_optimizer(self) -> optax.GradientTransformation:
        """The optimizer, before the schedule's factor."""
        if not isinstance(self.optimizer, str):
            return self.optimizer
        if self.optimizer == "sgd":
            return optax.sgd(self.learning_rate, momentum=self.momentum or None)
        if self.optimizer == "adam":
            return optax.adam(self.learning_rate)
        return optax.adamw(self.learning_rate, weight_decay=self.weight_decay)

    def steps_per_epoch(self, n_members: int) -> int:
        """Steps in one epoch over a subset of that size; private training takes as many as over all of D."""
        return -(-n_members // self.batch_size)

    def sampling(self, n_train: int) -> tuple[float, int]:
        """Sampling rate and number of steps of private training on D of that size or its subsets, for `infl.accounting`.

        Example:
            >>> Algorithm(privacy=Privacy(), batch_size=50, epochs=10).sampling(1000)
            (0.05, 200)
        """
        steps = self.steps_per_epoch(n_train)
        return 1 / steps, self.epochs * steps

    def _network_settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in NETWORK_SETTINGS if getattr(self, name) is not None}


class TrainedModel(NamedTuple):
    """What one model does: margin [n+m] float32, correct [n+m] bool, finite: whether training stayed finite."""

    margin: jax.Array
    correct: jax.Array
    finite: jax.Array


def train_model(
    key: jax.Array,
    members: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    algorithm: Algorithm,
    network: Network,
    most_steps: jax.Array | None = None,
    epochs: jax.Array | int | None = None,
    evaluation_batch: int | None = None,
) -> TrainedModel:
    """Train one model on the members of a subset of D and judge it on every example.

    Pure: jit, vmap and map it as you like. The size of the subset is data, not shape: no size recompiles.

    A left-out example has no part in training: its pixels, even NaN, never reach the weights.

    Args:
        key: All randomness.
        members: [n] bool; at least one.
        images: [N, ...] float32 or uint8, N >= n: D first, then what else to judge on.
        labels: [N] int32.
        most_steps: For `vmap`, where models of unequal steps per epoch run side by side: the most that any of them has,
            the same for all. Does not affect results.
        epochs: Passes over the subset instead of the algorithm's own; data, not shape, so that one compiled program
            also trains for a few steps.
        evaluation_batch: Examples judged at once; None for 256 on a CPU, as many as its caches hold, 1,024 elsewhere.
            Does not affect results, up to rounding.
    """
    settings = {"most_steps": most_steps, "epochs": epochs, "evaluation_batch": evaluation_batch}
    return train_with_params(key, members, images, labels, algorithm=algorithm, network=network, **settings)[0]


def train_with_params(
    key: jax.Array,
    members: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    algorithm: Algorithm,
    network: Network,
    most_steps: jax.Array | None = None,
    epochs: jax.Array | int | None = None,
    evaluation_batch: int | None = None,
) -> tuple[TrainedModel, Any]:
    """What one model does, and its parameters; see `train_model`."""
    state = _trained(
        key, members, images, labels, algorithm=algorithm, network=network, most_steps=most_steps, epochs=epochs
    )
    settings = {"algorithm": algorithm, "network": network, "evaluation_batch": evaluation_batch}
    return conclude(state, members, images, labels, **settings), state.params


def train_params(
    key: jax.Array,
    members: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    algorithm: Algorithm,
    network: Network,
    most_steps: jax.Array | None = None,
    epochs: jax.Array | int | None = None,
) -> tuple[Any, jax.Array]:
    """The parameters of one model, and whether its loss stayed finite; see `train_model`."""
    state = _trained(
        key, members, images, labels, algorithm=algorithm, network=network, most_steps=most_steps, epochs=epochs
    )
    return state.params, _is_finite(state)


class ModelKeys(NamedTuple):
    """A model's own key, and those of its initial weights and of its orders, which follow from it (`keys_of_model`)."""

    own: jax.Array
    weights: jax.Array
    orders: jax.Array


def keys_of_model(key: jax.Array) -> ModelKeys:
    """The keys that follow from the key of a model."""
    return ModelKeys(key, *jax.random.split(key))


class TrainingState(NamedTuple):
    """One model between two epochs of its training: parameters, the optimizer's state, losses of all steps so far, summed."""

    params: Any
    optimizer: Any
    total_loss: jax.Array


def begin(keys: ModelKeys, pixels_shape: tuple[int, ...], *, algorithm: Algorithm, network: Network) -> TrainingState:
    """The state of a model before its first epoch; see `train_model`. Pure, as `advance` and `conclude` are.

    Args:
        pixels_shape: Of one example.
    """
    params = network.init(keys.weights, jnp.zeros((1, *pixels_shape)))  # zeros: example 0 may be left out
    return TrainingState(params, algorithm.build_optimizer().init(params), jnp.zeros(()))


def advance(
    state: TrainingState,
    keys: ModelKeys,
    members: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    first: jax.Array | int,
    last: jax.Array | int,
    algorithm: Algorithm,
    network: Network,
    most_steps: jax.Array | None = None,
    epochs: jax.Array | int | None = None,
) -> TrainingState:
    """Train a model from before epoch `first` to before epoch `last`; see `train_model`.

    An epoch follows from the key and its number: however the epochs 0 to `epochs` - 1 are cut into calls, the state is the
    same. Both numbers are data, not shape.

    Args:
        epochs: Of the whole training, by which a schedule goes; None for the algorithm's own.
    """
    n_members, privacy = members.sum(), algorithm.privacy
    if privacy is not None:
        steps, most_steps = algorithm.steps_per_epoch(len(members)), None
    else:
        steps = (n_members + algorithm.batch_size - 1) // algorithm.batch_size
    share, rest = n_members // steps, n_members % steps
    epochs = algorithm.epochs if epochs is None else epochs
    optimizer = algorithm.build_optimizer()

    augmentation, augmentation_key = algorithm.augmentation, jax.random.fold_in(keys.own, AUGMENTATION_STREAM)
    if augmentation is not None:
        augmentation.check(images.shape[1:])

    prepare = network_input(algorithm, members, images)

    def pixels_of(batch: jax.Array, index: jax.Array) -> jax.Array:
        if augmentation is None:
            return prepare(images[batch])
        return prepare(augmented_batch(augmentation, jax.random.fold_in(augmentation_key, index), images, batch))

    def loss(params: Any, pixels: jax.Array, targets: jax.Array, weights: jax.Array) -> jax.Array:
        if algorithm.precision == "bfloat16":
            params, pixels = jax.tree.map(_halved, (params, pixels))
        logits = network.apply(params, pixels).astype(jnp.float32)
        return weights @ optax.softmax_cross_entropy_with_integer_labels(logits, targets)

    def usual_epoch(index: jax.Array) -> Gradient:
        order = draw_order(jax.random.fold_in(keys.orders, index), members)

        def gradient(params: Any, position: jax.Array) -> tuple[jax.Array, Any]:
            first = position * share + jnp.minimum(position, rest)
            last = first + share + (position < rest)
            slots = first + jnp.arange(algorithm.batch_size)
            # Slots past the end of the batch repeat a member at weight zero, never a left-out example.
            batch = order[jnp.minimum(slots, n_members - 1)]
            weights = jnp.where(slots < last, 1.0 / (last - first), 0.0)
            return jax.value_and_grad(loss)(params, pixels_of(batch, index), labels[batch], weights)

        return gradient

    def private_epoch(index: jax.Array, privacy: Privacy) -> Gradient:
        rate, _ = algorithm.sampling(len(members))
        draw_keys = jax.random.fold_in(keys.orders, index)
        noise_keys = jax.random.fold_in(jax.random.fold_in(keys.own, NOISE_STREAM), index)

        def load(ids: jax.Array) -> tuple[jax.Array, jax.Array]:
            return pixels_of(ids, index), labels[ids]

        def loss_of(params: Any, examples: tuple[jax.Array, jax.Array], weights: jax.Array) -> jax.Array:
            return loss(params, *examples, weights)

        def gradient(params: Any, position: jax.Array) -> tuple[jax.Array, Any]:
            batch = poisson_sample(jax.random.fold_in(draw_keys, position), members, rate)
            noise_key, expected_size = jax.random.fold_in(noise_keys, position), rate * len(members)
            return private_gradient(
                *(noise_key, loss_of, load, params, batch), privacy=privacy, expected_size=expected_size
            )

        return gradient

    def epoch(index: jax.Array, carry: TrainingState) -> TrainingState:
        gradient_at = usual_epoch(index) if privacy is None else private_epoch(index, privacy)

        def step(position: jax.Array, carry: TrainingState) -> TrainingState:
            params, state, total_loss = carry
            value, gradient = gradient_at(params, position)
            updates, new_state = optimizer.update(gradient, state, params)
            factor = _schedule_factor(algorithm.schedule, (index * steps + position) / (epochs * steps))
            updates = jax.tree.map(lambda update: factor * update, updates) if factor is not None else updates
            new_params = optax.apply_updates(params, updates)
            advanced = TrainingState(new_params, new_state, total_loss + value)
            if most_steps is None:
                return advanced
            return jax.tree.map(partial(jnp.where, position < steps), advanced, carry)

        return jax.lax.fori_loop(0, steps if most_steps is None else most_steps, step, carry)

    return jax.lax.fori_loop(first, last, epoch, state)


def conclude(
    state: TrainingState,
    members: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    algorithm: Algorithm,
    network: Network,
    evaluation_batch: int | None = None,
) -> TrainedModel:
    """Judge a model after its last epoch on every example; see `train_model`."""
    finite = _is_finite(state)
    prepare = network_input(algorithm, members, images)
    batch_size = evaluation_batch or EVALUATION_BATCH.get(jax.default_backend(), 1024)
    margin, correct = judge(network, state.params, images, labels, batch_size=batch_size, prepare=prepare)
    return TrainedModel(margin, correct, finite & jnp.isfinite(margin).all())


def _trained(
    key: jax.Array,
    members: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    algorithm: Algorithm,
    network: Network,
    most_steps: jax.Array | None,
    epochs: jax.Array | int | None,
) -> TrainingState:
    """All epochs in one piece."""
    keys = keys_of_model(key)
    state = begin(keys, images.shape[1:], algorithm=algorithm, network=network)
    last = algorithm.epochs if epochs is None else epochs
    settings = {"algorithm": algorithm, "network": network, "most_steps": most_steps, "epochs": epochs}
    return advance(state, keys, members, images, labels, first=0, last=last, **settings)


def _is_finite(state: TrainingState) -> jax.Array:
    # A maximum on the CPU passes over NaN, so that the loss of a network of NaN can be a number.
    finite = [jnp.isfinite(state.total_loss), *(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))]
    return jnp.stack(finite).all()


def network_input(algorithm: Algorithm, members: jax.Array, images: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """What turns pixels as stored into what the network of a model with these members gets."""
    if not algorithm.standardize:
        return unit_pixels
    return partial(standardized, moments=member_moments(members, images))


def judge(
    network: Network,
    params: Any,
    images: jax.Array,
    labels: jax.Array,
    *,
    batch_size: int,
    prepare: Callable[[jax.Array], jax.Array] = unit_pixels,
) -> tuple[jax.Array, jax.Array]:
    """Margin log p(y) - max over c != y of log p(c), and correctness of a model on every example, [N] each."""
    n = len(labels)
    n_batches = -(-n // batch_size)
    size = -(-n // n_batches)
    starts = jnp.minimum(jnp.arange(n_batches) * size, n - size)

    def judge_batch(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = jax.lax.dynamic_slice_in_dim(images, start, size)
        y = jax.lax.dynamic_slice_in_dim(labels, start, size)
        logits = network.apply(params, prepare(x))
        own = jnp.arange(logits.shape[1]) == y[:, None]
        others = jnp.max(jnp.where(own, -jnp.inf, logits), axis=1)
        return jnp.sum(jnp.where(own, logits, 0), axis=1) - others, jnp.argmax(logits, axis=1) == y

    margins, corrects = jax.lax.map(judge_batch, starts)
    # The last batch starts early enough to be full; what it repeats is dropped.
    repeated = n_batches * size - n
    margin, correct = (jnp.concatenate([all_[:-1].reshape(-1), all_[-1, repeated:]]) for all_ in (margins, corrects))
    return margin, correct


def _schedule_factor(schedule: Schedule, done: jax.Array) -> jax.Array | None:
    if schedule == "constant":
        return None
    return 1 - done if schedule == "linear" else 0.5 * (1 + jnp.cos(jnp.pi * done))


def _halved(array: jax.Array) -> jax.Array:
    return array.astype(jnp.bfloat16) if array.dtype == jnp.float32 else array


FEISTEL_ROUNDS = 8


def draw_order(key: jax.Array, members: jax.Array) -> jax.Array:
    """Ids of the members in the random order of one epoch, [n]; entries past the last member mean nothing.

    Every id has its place, whether it is a member or not: leaving ids out never reorders the others. Up to 65,535 ids are
    sorted by random words; more are walked through in the order of a keyed bijection, since sorts of keys with values are slow.
    """
    n = len(members)
    id_bits = n.bit_length()
    if id_bits > 16:
        return _walk_order(key, members)
    # Draw and id in one word: XLA sorts one operand several times faster than a key with its value. At least 16 random
    # bits remain; equal draws fall back on the id, which moves neighbours in the order and nothing else.
    draws = jax.random.bits(key, (n,), jnp.uint32)
    last = jnp.uint32(0xFFFFFFFF)
    packed = (draws << id_bits) | jnp.arange(n, dtype=jnp.uint32)
    packed = jnp.sort(jnp.where(members, packed, last))
    return (packed & jnp.uint32((1 << id_bits) - 1)).astype(jnp.int32)


def _walk_order(key: jax.Array, members: jax.Array) -> jax.Array:
    """Members in the order in which a keyed bijection of 0..2^k - 1 >= n - 1 comes by them: no sort."""
    n = len(members)
    bits = (n - 1).bit_length()
    visited = _feistel(
        jax.random.bits(key, (FEISTEL_ROUNDS,), jnp.uint32), jnp.arange(1 << bits, dtype=jnp.uint32), bits
    )
    counts = (visited < n) & members[jnp.minimum(visited, n - 1)]
    places = jnp.where(counts, jnp.cumsum(counts) - 1, n)
    return jnp.zeros(n, jnp.int32).at[places].set(visited.astype(jnp.int32), mode="drop")


def _feistel(round_keys: jax.Array, words: jax.Array, bits: int) -> jax.Array:
    """A bijection of 0..2^bits - 1: in turns, either half of a word is changed by a hash of the other (Luby & Rackoff 1988)."""
    low_bits = bits // 2
    high, low = words >> low_bits, words & ((1 << low_bits) - 1)
    for number, round_key in enumerate(round_keys):
        if number % 2:
            high ^= _hash(low ^ round_key) & ((1 << bits - low_bits) - 1)
        else:
            low ^= _hash(high ^ round_key) & ((1 << low_bits) - 1)
    return (high << low_bits) | low


def _hash(words: jax.Array) -> jax.Array:
    """The finalizer of MurmurHash3: each bit of a word reaches each bit of its hash."""
    words = (words ^ (words >> 16)) * jnp.uint32(0x85EBCA6B)
    words = (words ^ (words >> 13)) * jnp.uint32(0xC2B2AE35)
    return words ^ (words >> 16)

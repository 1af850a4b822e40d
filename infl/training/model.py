"""Trains and evaluates one model: pure functions of its key, the members of its subset and the data.

`init_state`, `train_epochs` and `evaluate` follow one another, and `train_model` is all three; jit, vmap and map them as you
like. The size of the subset is data, not shape: no size recompiles. A left-out example has no part in training: its pixels,
even NaN, never reach the weights.

Everything random comes from the key. The order of an epoch is drawn per example id: two subsets trained with one key start
from the same weights and visit the examples they share in the same relative order, so A(D) and A(D\\S) pair.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from infl.training.algorithm import Algorithm, Schedule
from infl.training.augmentation import augmented_batch, member_moments, standardized, unit_pixels
from infl.training.networks import Network
from infl.training.privacy import Privacy, poisson_sample, private_gradient

EVALUATION_BATCH = {"cpu": 256}  # examples evaluated at once, as measured; others: 1,024
FEISTEL_ROUNDS = 8

# (parameters, step of the epoch) -> loss and its gradient
GradientAt = Callable[[Any, jax.Array], tuple[jax.Array, Any]]


class ModelKeys(NamedTuple):
    """What is random in the training of a model, a key each."""

    weights: jax.Array
    orders: jax.Array
    augmentation: jax.Array
    noise: jax.Array


class TrainingState(NamedTuple):
    """A model between two epochs: parameters, the optimizer's state, the sum of the losses of all steps so far."""

    params: Any
    optimizer: Any
    total_loss: jax.Array


class TrainedModel(NamedTuple):
    """What one model does.

    Attributes:
        margin: [n+m] float32.
        correct: [n+m] bool.
        finite: Whether training stayed finite.
        params: The parameters, as `Network.init` gives them.
    """

    margin: jax.Array
    correct: jax.Array
    finite: jax.Array
    params: Any


# Classification: the loss and the outcomes of examples


def example_losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross-entropy, [b]."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def example_outcomes(logits: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Margin log p(y) - max over c != y of log p(c), and correctness, [b] each."""
    own = jnp.arange(logits.shape[1]) == labels[:, None]
    others = jnp.max(jnp.where(own, -jnp.inf, logits), axis=1)
    return jnp.sum(jnp.where(own, logits, 0), axis=1) - others, jnp.argmax(logits, axis=1) == labels


def train_model(
    key: jax.Array,
    members: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    algorithm: Algorithm,
    network: Network,
    epochs: jax.Array | int | None = None,
) -> TrainedModel:
    """Train one model on the members of a subset of D and evaluate it on every example.

    Args:
        key: All randomness.
        members: [n] bool; at least one.
        images: [N, ...] float32 or uint8, N >= n: D first, then what else to evaluate on.
        labels: [N] int32.
        epochs: Passes over the subset instead of the algorithm's own; data, not shape.
    """
    epochs = algorithm.epochs if epochs is None else epochs
    settings: Any = {"algorithm": algorithm, "network": network}
    state = init_state(key, images.shape[1:], **settings)
    state = train_epochs(state, key, members, images, labels, first=0, last=epochs, epochs=epochs, **settings)
    return evaluate(state, members, images, labels, **settings)


def init_state(
    key: jax.Array, pixels_shape: tuple[int, ...], *, algorithm: Algorithm, network: Network
) -> TrainingState:
    """The state of a model before its first epoch.

    Args:
        pixels_shape: Of one example.
    """
    params = network.init(_split(key).weights, jnp.zeros((1, *pixels_shape)))  # zeros: example 0 may be left out
    return TrainingState(params, algorithm.build_optimizer().init(params), jnp.zeros(()))


def train_epochs(
    state: TrainingState,
    key: jax.Array,
    members: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    first: jax.Array | int,
    last: jax.Array | int,
    epochs: jax.Array | int,
    algorithm: Algorithm,
    network: Network,
) -> TrainingState:
    """Train a model from before epoch `first` to before epoch `last`, of `epochs` in all; these numbers are data, not shape.

    An epoch follows from the key and its number: however the epochs are cut into calls, the state is the same.
    """
    keys, optimizer = _split(key), algorithm.build_optimizer()
    n_steps = algorithm.steps_per_epoch(members.sum() if algorithm.privacy is None else len(members))
    network_input, augmentation = input_of_network(algorithm, members, images), algorithm.augmentation

    def load(ids: jax.Array, index: jax.Array) -> tuple[jax.Array, jax.Array]:
        if augmentation is None:
            return network_input(images[ids]), labels[ids]
        pixels = augmented_batch(augmentation, jax.random.fold_in(keys.augmentation, index), images, ids)
        return network_input(pixels), labels[ids]

    def loss(params: Any, examples: tuple[jax.Array, jax.Array], weights: jax.Array) -> jax.Array:
        pixels, targets = examples
        if algorithm.precision == "bfloat16":
            params, pixels = jax.tree.map(_to_bfloat16, (params, pixels))
        return weights @ example_losses(network.apply(params, pixels).astype(jnp.float32), targets)

    def shuffled_epoch(index: jax.Array) -> GradientAt:
        order, n_members = draw_order(jax.random.fold_in(keys.orders, index), members), members.sum()
        share, rest = n_members // n_steps, n_members % n_steps

        def gradient_at(params: Any, position: jax.Array) -> tuple[jax.Array, Any]:
            first = position * share + jnp.minimum(position, rest)
            last = first + share + (position < rest)
            slots = first + jnp.arange(algorithm.batch_size)
            # Slots past the end of the batch repeat a member at weight zero, never a left-out example.
            batch = order[jnp.minimum(slots, n_members - 1)]
            weights = jnp.where(slots < last, 1.0 / (last - first), 0.0)
            return jax.value_and_grad(loss)(params, load(batch, index), weights)

        return gradient_at

    def private_epoch(index: jax.Array, privacy: Privacy) -> GradientAt:
        rate, _ = algorithm.sampling(len(members))
        sample_keys, noise_keys = (jax.random.fold_in(one, index) for one in (keys.orders, keys.noise))

        def gradient_at(params: Any, position: jax.Array) -> tuple[jax.Array, Any]:
            return private_gradient(
                jax.random.fold_in(noise_keys, position),
                loss,
                lambda ids: load(ids, index),
                params,
                poisson_sample(jax.random.fold_in(sample_keys, position), members, rate),
                privacy=privacy,
                expected_size=rate * len(members),
            )

        return gradient_at

    def epoch(index: jax.Array, state: TrainingState) -> TrainingState:
        privacy = algorithm.privacy
        gradient_at = shuffled_epoch(index) if privacy is None else private_epoch(index, privacy)

        def step(position: jax.Array, state: TrainingState) -> TrainingState:
            value, gradient = gradient_at(state.params, position)
            updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
            if algorithm.schedule != "constant":
                factor = _schedule_factor(algorithm.schedule, (index * n_steps + position) / (epochs * n_steps))
                updates = jax.tree.map(lambda update: factor * update, updates)
            params = optax.apply_updates(state.params, updates)
            return TrainingState(params, optimizer_state, state.total_loss + value)

        return jax.lax.fori_loop(0, n_steps, step, state)

    return jax.lax.fori_loop(first, last, epoch, state)


def evaluate(
    state: TrainingState,
    members: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    algorithm: Algorithm,
    network: Network,
) -> TrainedModel:
    """Evaluate a model after its last epoch on every example, in batches whose size changes outcomes by rounding at most."""
    network_input = input_of_network(algorithm, members, images)
    n = len(labels)
    n_batches = -(-n // EVALUATION_BATCH.get(jax.default_backend(), 1024))
    size = -(-n // n_batches)
    starts = jnp.minimum(jnp.arange(n_batches) * size, n - size)

    def evaluate_batch(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, y = (jax.lax.dynamic_slice_in_dim(array, start, size) for array in (images, labels))
        return example_outcomes(network.apply(state.params, network_input(x)), y)

    # The last batch starts early enough to be full; what it repeats is cut off.
    repeated = n_batches * size - n
    margin, correct = (
        jnp.concatenate([batches[:-1].reshape(-1), batches[-1, repeated:]])
        for batches in jax.lax.map(evaluate_batch, starts)
    )
    # A maximum on the CPU passes over NaN, so that the loss of a network of NaN can be a number.
    numbers = [state.total_loss, *jax.tree.leaves(state.params), margin]
    return TrainedModel(margin, correct, jnp.stack([jnp.isfinite(some).all() for some in numbers]).all(), state.params)


def input_of_network(algorithm: Algorithm, members: jax.Array, images: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """What turns pixels as stored into what the network of a model with these members gets."""
    if not algorithm.standardize:
        return unit_pixels
    return partial(standardized, moments=member_moments(members, images))


def _split(key: jax.Array) -> ModelKeys:
    return ModelKeys(*jax.random.split(key, len(ModelKeys._fields)))


def _schedule_factor(schedule: Schedule, done: jax.Array) -> jax.Array:
    return 1 - done if schedule == "linear" else 0.5 * (1 + jnp.cos(jnp.pi * done))


def _to_bfloat16(array: jax.Array) -> jax.Array:
    return array.astype(jnp.bfloat16) if array.dtype == jnp.float32 else array


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

"""Trains and evaluates one model: pure functions of its key, the members of its subset and the data.

`init_state`, `train_epochs` and `evaluate` follow one another, and `train_model` is all three; jit, vmap and map them as you
like. The size of the subset is data, not shape: no size recompiles. A left-out example has no part in training: its pixels,
even NaN, never reach the weights.

Batches are cut from one stream of shuffled epochs: step s takes positions s b to (s + 1) b - 1 of it, b the batch size, and
position p is member p mod k of the order of epoch p div k. So every step takes exactly b members, also across the border of
two epochs, and k members are trained for round(epochs k / b) steps: removing 2% of the data removes 2% of the steps.

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

from infl.records import InputError
from infl.training.algorithm import Algorithm, Schedule
from infl.training.augmentation import augmented_batch, member_moments, standardized, unit_pixels
from infl.training.networks import Network, network_dtype
from infl.training.privacy import Privacy, poisson_sample, private_gradient
from infl.training.start import Weights, combine, frozen_part, replace_by_start, trainable_part
from infl.training.task import Task, classification

EVALUATION_BATCH = {"cpu": 256}  # examples evaluated at once, as measured; others: 1,024
FEISTEL_ROUNDS = 8


class ModelKeys(NamedTuple):
    """What is random in the training of a model, a key each."""

    weights: jax.Array
    orders: jax.Array
    augmentation: jax.Array
    noise: jax.Array
    network: jax.Array


class TrainingState(NamedTuple):
    """A model between two epochs.

    Attributes:
        params: Those that are trained; of all that `Network.init` gives, None stands for frozen ones.
        optimizer: Its state.
        total_loss: Sum of the losses of all steps so far.
        network: The network's state, such as running averages; () where it has none.
    """

    params: Any
    optimizer: Any
    total_loss: jax.Array
    network: Any = ()


class TrainedModel(NamedTuple):
    """What one model does.

    Attributes:
        margin: [n+m] float32.
        correct: [n+m] bool, or float32 shares in [0, 1].
        finite: Whether training stayed finite.
        params: What `Network.init` gives, trained.
        logprob: [n+m] float32; None where the task has no such outcome.
        exact: [n+m] bool; None likewise.
    """

    margin: jax.Array
    correct: jax.Array
    finite: jax.Array
    params: Any
    logprob: jax.Array | None = None
    exact: jax.Array | None = None


def train_model(
    key: jax.Array,
    members: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    algorithm: Algorithm,
    network: Network,
    task: Task = classification,
    start: Weights | None = None,
    epochs: jax.Array | int | None = None,
) -> TrainedModel:
    """Train one model on the members of a subset of D and evaluate it on every example.

    Args:
        key: All randomness.
        members: [n] bool; at least one.
        images: [N, ...] float32 or uint8, N >= n: D first, then what else to evaluate on.
        labels: [N] int32, or other targets of the task.
        start: Arrays by name of `algorithm.start`; data, not compiled in.
        epochs: Passes over the subset instead of the algorithm's own; data, not shape.
    """
    epochs = algorithm.epochs if epochs is None else epochs
    settings: Any = {"algorithm": algorithm, "network": network, "start": start}
    state = init_state(key, images[:1], **settings)
    settings["task"] = task
    state = train_epochs(state, key, members, images, labels, first=0, last=epochs, epochs=epochs, **settings)
    return evaluate(state, members, images, labels, **settings)


def init_state(
    key: jax.Array, example: Any, *, algorithm: Algorithm, network: Network, start: Weights | None = None
) -> TrainingState:
    """The state of a model before its first epoch.

    Args:
        example: An array [1, ...], or its shape and dtype, which alone count.

    Raises:
        InputError: Where the start weights are of another network, or it has batch statistics and a batch has one example, or
            training is private.
    """
    # Zeros: example 0 may be left out.
    variables = network.init(_split(key).weights, jnp.zeros(example.shape, network_dtype(example)))
    if start is not None:
        variables = replace_by_start(network, variables, start)
    params, network_state = network.split(variables)
    if jax.tree.leaves(network_state) and (algorithm.batch_size == 1 or algorithm.privacy is not None):
        raise InputError(
            "batch_size: batch statistics of one example say nothing; take batches of at least 2, or group or layer norm"
            if algorithm.privacy is None
            else "privacy: batch statistics carry examples past clipping and noise; take group or layer norm"
        )
    params = trainable_part(params, algorithm.trainable)
    return TrainingState(params, algorithm.build_optimizer().init(params), jnp.zeros(()), network_state)


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
    task: Task = classification,
    start: Weights | None = None,
) -> TrainingState:
    """Train a model from before epoch `first` to before epoch `last`, of `epochs` in all; these numbers are data, not shape.

    A step follows from the key and its number: however the steps are cut into calls, the state is the same. Before epoch e
    are the first round(e k / batch size) steps.
    """
    keys, optimizer, privacy = _split(key), algorithm.build_optimizer(), algorithm.privacy
    n_members = members.sum() if privacy is None else len(members)
    first_step, last_step, n_steps = (algorithm.n_steps(n_members, number) for number in (first, last, epochs))
    network_input, augmentation = input_of_network(algorithm, members, images), algorithm.augmentation
    frozen = frozen_part(network, images[:1], algorithm, start)

    def load(ids: jax.Array, visits: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Examples and labels of a batch; `visits`: the epoch of each, or what else tells one visit from the next."""
        if augmentation is None:
            return network_input(images[ids]), labels[ids]
        return network_input(augmented_batch(augmentation, keys.augmentation, visits, images, ids)), labels[ids]

    def loss(
        params: Any, network_state: Any, step: jax.Array, examples: tuple[jax.Array, jax.Array], weights: jax.Array
    ) -> tuple[jax.Array, Any]:
        x, targets = examples
        everything, inputs = combine(params, frozen), unsigned(x)
        if algorithm.precision == "bfloat16":
            everything, inputs = jax.tree.map(_to_bfloat16, (everything, inputs))
        key = jax.random.fold_in(keys.network, step) if network.takes_state else None
        outputs, new_state = network.forward(everything, network_state, inputs, key)
        new_state = jax.tree.map(lambda old, new: new.astype(old.dtype), network_state, new_state)
        return weights @ task.loss(outputs.astype(jnp.float32), x, targets), new_state

    def updated(
        state: TrainingState, step: jax.Array, value: jax.Array, gradient: Any, network_state: Any
    ) -> TrainingState:
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        if algorithm.schedule != "constant":
            factor = _schedule_factor(algorithm.schedule, step / n_steps)
            updates = jax.tree.map(lambda update: factor * update, updates)
        params = optax.apply_updates(state.params, updates)
        return TrainingState(params, optimizer_state, state.total_loss + value, network_state)

    def plain_step(step: jax.Array, state: TrainingState, batch: tuple[jax.Array, jax.Array]) -> TrainingState:
        examples = load(*batch)
        weights = jnp.full(algorithm.batch_size, 1 / algorithm.batch_size)
        if task.weights is not None:
            weights = task.weights(*examples)
            weights = weights / weights.sum()
        gradient = jax.value_and_grad(loss, has_aux=True)
        (value, network_state), of_params = gradient(state.params, state.network, step, examples, weights)
        return updated(state, step, value, of_params, network_state)

    def private_step(privacy: Privacy, step: jax.Array, state: TrainingState) -> TrainingState:
        rate, _ = algorithm.sampling(len(members))
        value, gradient = private_gradient(
            jax.random.fold_in(keys.noise, step),
            lambda params, examples, weights: loss(params, state.network, step, examples, weights)[0],
            lambda ids: load(ids, jnp.broadcast_to(step, ids.shape)),
            state.params,
            poisson_sample(jax.random.fold_in(keys.orders, step), members, rate),
            privacy=privacy,
            expected_size=rate * len(members),
        )
        return updated(state, step, value, gradient, state.network)

    if privacy is not None:
        return jax.lax.fori_loop(first_step, last_step, partial(private_step, privacy), state)
    return through_stream(
        plain_step, state, keys.orders, members, first=first_step, last=last_step, batch_size=algorithm.batch_size
    )


def through_stream(
    take_step: Callable[[jax.Array, Any, tuple[jax.Array, jax.Array]], Any],
    state: Any,
    key: jax.Array,
    members: jax.Array,
    *,
    first: jax.Array,
    last: jax.Array,
    batch_size: int,
) -> Any:
    """Take steps `first` to `last` - 1, each with the ids and the epochs of its part of the stream."""
    n, n_members = len(members), members.sum()

    def order(epoch: jax.Array) -> jax.Array:
        return draw_order(jax.random.fold_in(key, epoch), members)

    # One round for each epoch in which a step begins, with its order and that of the epoch in which the next round begins.
    # A subset smaller than a batch has whole epochs between the two: the order of what is whole inside a batch means nothing.
    def begins_in_epoch(
        carry: tuple[jax.Array, jax.Array, Any],
    ) -> tuple[jax.Array, jax.Array, Any]:
        step, own, state = carry
        epoch = step * batch_size // n_members
        next_round = ((epoch + 1) * n_members + batch_size - 1) // batch_size
        next_own = order(next_round * batch_size // n_members)
        both = jnp.concatenate([own, next_own])

        def cut(step: jax.Array, state: Any) -> Any:
            slots = step * batch_size - epoch * n_members + jnp.arange(batch_size)
            ids = both[jnp.where(slots < n_members, slots, n + slots % n_members)]
            return take_step(step, state, (ids, epoch + slots // n_members))

        stop = jnp.minimum(next_round, last)
        return stop, next_own, jax.lax.fori_loop(step, stop, cut, state)

    begin = jnp.asarray(first, jnp.int32)
    carry = (begin, order(begin * batch_size // n_members), state)
    return jax.lax.while_loop(lambda carry: carry[0] < last, begins_in_epoch, carry)[2]


def evaluate(
    state: TrainingState,
    members: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    *,
    algorithm: Algorithm,
    network: Network,
    task: Task = classification,
    start: Weights | None = None,
) -> TrainedModel:
    """Evaluate a model after its last epoch on every example, in batches whose size changes outcomes by rounding at most."""
    network_input = input_of_network(algorithm, members, images)
    params = combine(state.params, frozen_part(network, images[:1], algorithm, start))
    variables = network.join(params, state.network)
    n = len(labels)
    n_batches = -(-n // EVALUATION_BATCH.get(jax.default_backend(), 1024))
    size = -(-n // n_batches)
    starts = jnp.minimum(jnp.arange(n_batches) * size, n - size)

    def evaluate_batch(first: jax.Array) -> dict[str, jax.Array]:
        x, y = (jax.lax.dynamic_slice_in_dim(array, first, size) for array in (images, labels))
        x = network_input(x)
        return task.outcomes(network.evaluate(variables, unsigned(x)), x, y)

    # The last batch starts early enough to be full; what it repeats is cut off.
    repeated = n_batches * size - n
    outcomes = {
        name: jnp.concatenate([batches[:-1].reshape(-1), batches[-1, repeated:]])
        for name, batches in jax.lax.map(evaluate_batch, starts).items()
    }
    # A maximum on the CPU passes over NaN, so that the loss of a network of NaN can be a number.
    numbers = [state.total_loss, *jax.tree.leaves(state.params), outcomes["margin"]]
    finite = jnp.stack([jnp.isfinite(some).all() for some in numbers]).all()
    return TrainedModel(finite=finite, params=variables, **outcomes)


def input_of_network(algorithm: Algorithm, members: jax.Array, images: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """What turns pixels as stored into what the network of a model with these members gets."""
    if not algorithm.standardize:
        return unit_pixels
    return partial(standardized, moments=member_moments(members, images))


def unsigned(x: jax.Array) -> jax.Array:
    """Tokens of a prompt, which are not scored, are stored with a minus."""
    return jnp.abs(x) if x.dtype == jnp.int32 else x


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

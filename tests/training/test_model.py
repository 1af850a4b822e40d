"""Training is the textbook algorithm, all its chance comes from the key, and a left-out example has no part in it.

Every number infl prints rests on "this model was trained without example i". So the compiled loop is compared with slow
loops written another way: NumPy with hand-written gradients, and optax step by step, on batches cut from a stream of shuffled
epochs that is laid out whole. A left-out example's pixels may be
anything, even NaN, without a bit changing elsewhere. The order of the examples must be uniform, or position would pass
for influence, and must not depend on who is left out, or models of D and of D\\S with one key would not pair.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from infl.training.algorithm import Algorithm
from infl.training.architectures import mlp
from infl.training.model import TrainedModel, draw_order, train_model
from infl.training.networks import Network
from infl.training.task import classification

FEATURES, CLASSES = 8, 3
KEY = jax.random.key(7)
ALGORITHM = Algorithm(hidden=(16,), epochs=3, batch_size=8)
N, N_ALL = 20, 30  # examples of D, and with those held out


def toy(n: int, *, features: int = FEATURES, classes: int = CLASSES) -> tuple[np.ndarray, np.ndarray]:
    """Pixels about a centre for each class, and labels: easy, but not without mistakes."""
    random = np.random.RandomState(0)
    labels = np.arange(n) % classes
    images = random.normal(size=(classes, features))[labels] + 0.5 * random.normal(size=(n, features))
    return images.astype(np.float32), labels.astype(np.int32)


def members_of(ids: Any, n: int) -> np.ndarray:
    return np.isin(np.arange(n), ids)


def trainer(algorithm: Algorithm, **settings: Any) -> Callable[..., TrainedModel]:
    network = algorithm.build_network(CLASSES)
    return jax.jit(partial(train_model, algorithm=algorithm, network=network, **settings))


default_trainer = trainer(ALGORITHM)  # shared, so that it compiles once


def train(
    algorithm: Algorithm, members: np.ndarray, images: np.ndarray, labels: np.ndarray, **settings: Any
) -> TrainedModel:
    trained = trainer(algorithm, **settings)(KEY, members, images, labels)
    return jax.tree.map(np.asarray, trained)


order_of = jax.jit(draw_order)


def batches_of(algorithm: Algorithm, members: np.ndarray, key: jax.Array) -> np.ndarray:
    """The ids of every step of a training, [steps, batch size]."""
    _, order_key = jax.random.split(key)
    size, n_members = algorithm.batch_size, int(members.sum())
    steps = max(1, math.floor(algorithm.epochs * n_members / size + 0.5))
    epochs = [jax.random.fold_in(order_key, epoch) for epoch in range(-(-steps * size // n_members))]
    stream = np.concatenate([np.asarray(order_of(epoch, members))[:n_members] for epoch in epochs])
    return stream[: steps * size].reshape(steps, size)


def margins_of(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log-odds of the label against the best of the other classes, one example at a time."""
    p = np.exp(logits.astype(float))
    p /= p.sum(axis=1, keepdims=True)
    return np.array([np.log(row[y]) - np.log(np.delete(row, y).max()) for row, y in zip(p, labels, strict=True)])


class Perceptron:
    """One hidden layer in float64 NumPy, gradients by hand."""

    def __init__(self, params: Any) -> None:
        layers = [params["Dense_0"], params["Dense_1"]]
        self.weights = [np.array(layer[part], float) for layer in layers for part in ("kernel", "bias")]

    def logits(self, x: np.ndarray) -> np.ndarray:
        w, b, v, c = self.weights
        return np.maximum(x @ w + b, 0) @ v + c

    def loss(self, x: np.ndarray, y: np.ndarray) -> float:
        logits = self.logits(x)
        top = logits.max(axis=1)
        return float(np.mean(np.log(np.exp(logits - top[:, None]).sum(axis=1)) + top - logits[np.arange(len(y)), y]))

    def gradient(self, x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        w, b, v, c = self.weights
        hidden = np.maximum(x @ w + b, 0)
        p = np.exp(hidden @ v + c)
        d_logits = (p / p.sum(axis=1, keepdims=True) - np.eye(p.shape[1])[y]) / len(y)
        d_hidden = (d_logits @ v.T) * (hidden > 0)
        return [x.T @ d_hidden, d_hidden.sum(axis=0), hidden.T @ d_logits, d_logits.sum(axis=0)]


# The loop against slow loops


def test_training_is_sgd_with_momentum_as_in_numpy() -> None:
    """Eight examples, three of them not trained on; the third of five steps is in both epochs."""
    algorithm = Algorithm(hidden=(4,), batch_size=2, epochs=2, learning_rate=0.1, momentum=0.9)
    images, labels = toy(8, features=3)
    members = members_of([0, 2, 3, 4, 5], 6)
    model = Perceptron(algorithm.build_network(CLASSES).init(jax.random.split(KEY)[0], jnp.zeros((1, 3))))
    untrained = margins_of(model.logits(images), labels)
    velocity = [np.zeros_like(weight) for weight in model.weights]
    batches = batches_of(algorithm, members, KEY)
    assert len(batches) == 5
    for batch in batches:
        gradient = model.gradient(images[batch].astype(float), labels[batch])
        velocity = [0.9 * v + g for v, g in zip(velocity, gradient, strict=True)]
        model.weights = [weight - 0.1 * v for weight, v in zip(model.weights, velocity, strict=True)]
    expected = margins_of(model.logits(images.astype(float)), labels)

    trained = train(algorithm, members, images, labels)
    np.testing.assert_allclose(trained.margin, expected, atol=1e-4)
    np.testing.assert_array_equal(trained.correct, model.logits(images).argmax(axis=1) == labels)
    assert trained.finite
    assert np.abs(untrained - expected).min() > 0.01  # far more than the tolerance


def test_the_gradient_used_is_that_of_the_loss() -> None:
    """At a size as in practice, with members once and some of them twice: some XLA versions fused CPU gradients wrongly."""
    images, labels = toy(60, features=64, classes=10)
    seen: list[tuple[Any, Any]] = []

    def look(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        jax.debug.callback(lambda *arrays: seen.append(arrays), updates, params)
        return jax.tree.map(jnp.zeros_like, updates), state

    spy = optax.GradientTransformation(lambda params: (), look)
    algorithm = Algorithm(mlp(10, hidden=(256,)), optimizer=spy, batch_size=50, epochs=1)
    trained = trainer(algorithm)
    random = np.random.RandomState(1)
    for n_members in (50, 37):
        members = members_of(random.permutation(60)[:n_members], 60)
        trained(KEY, members, images, labels)
        jax.effects_barrier()
        gradient, params = seen.pop()
        assert not seen  # one step

        model, used = Perceptron(params), Perceptron(gradient).weights
        size = np.sqrt(sum((part**2).sum() for part in used))
        assert size > 0.1
        (batch,) = batches_of(algorithm, members, KEY)
        x, y, step, start = images[batch].astype(float), labels[batch], 1e-6, model.weights
        for _ in range(20):
            direction = [random.normal(size=weight.shape) for weight in start]
            losses = []
            for sign in (1, -1):
                model.weights = [weight + sign * step * d for weight, d in zip(start, direction, strict=True)]
                losses.append(model.loss(x, y))
            along = sum((part * d).sum() for part, d in zip(used, direction, strict=True))
            assert along == pytest.approx((losses[0] - losses[1]) / (2 * step), abs=1e-5 * size)


RATE, STEPS = 0.05, 22
START = [0.5 * np.random.RandomState(4).normal(size=size).astype(np.float32) for size in [(FEATURES, 5), (5, CLASSES)]]
SMALL = Network(init=lambda key, x: START, apply=lambda params, x: jax.nn.relu(x @ params[0]) @ params[1])
BY_HAND = {
    "sgd": (Algorithm(momentum=0.0), optax.sgd(RATE)),
    "cosine": (Algorithm(schedule="cosine"), optax.sgd(optax.cosine_decay_schedule(RATE, STEPS), momentum=0.9)),
    "adam": (Algorithm(optimizer="adam"), optax.adam(RATE)),
    "adamw": (Algorithm(optimizer="adamw", weight_decay=0.1), optax.adamw(RATE, weight_decay=0.1)),
    "one's own": (Algorithm(optimizer=optax.rmsprop(RATE)), optax.rmsprop(RATE)),
}


@jax.jit
def gradient_by_hand(params: Any, x: jax.Array, y: jax.Array) -> Any:
    def loss(params: Any) -> jax.Array:
        return -jnp.mean(jnp.log(jax.nn.softmax(SMALL.apply(params, x)))[jnp.arange(len(y)), y])

    return jax.grad(loss)(params)


@pytest.mark.parametrize("name", BY_HAND)
def test_training_is_optax_step_by_step_and_learns(name: str) -> None:
    given, optimizer = BY_HAND[name]
    algorithm = replace(given, network=SMALL, batch_size=4, epochs=8, learning_rate=RATE)
    images, labels = toy(15)
    members = members_of(np.arange(1, 12), 12)
    batches = batches_of(algorithm, members, KEY)
    assert len(batches) == STEPS
    params, update = START, jax.jit(optimizer.update)
    state = jax.jit(optimizer.init)(params)
    for batch in batches:
        updates, state = update(gradient_by_hand(params, images[batch], labels[batch]), state, params)
        params = jax.tree.map(np.add, params, updates)
    expected = margins_of(np.maximum(images @ params[0], 0) @ params[1], labels)
    trained = train(algorithm, members, images, labels)
    np.testing.assert_allclose(trained.margin, expected, atol=1e-4)
    assert trained.correct[np.flatnonzero(members)].mean() > 0.8  # chance: a third


@pytest.mark.parametrize(
    ("schedule", "factor"),
    [
        ("constant", lambda done: np.ones_like(done)),
        ("linear", lambda done: 1 - done),
        ("cosine", lambda done: np.cos(np.pi * done / 2) ** 2),
    ],
)
def test_each_step_is_scaled_by_the_schedule(schedule: Any, factor: Any) -> None:
    """An optimizer that moves weight k by one at step k, and a network whose margin on example k is weight k."""
    steps = 10
    network = Network(
        init=lambda key, x: jnp.zeros(steps), apply=lambda w, x: jnp.stack([x @ w, jnp.zeros(len(x))], axis=1)
    )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.nn.one_hot(state, steps), state + 1

    mark = optax.GradientTransformation(lambda params: jnp.zeros((), int), update)
    algorithm = Algorithm(network, optimizer=mark, batch_size=2, epochs=4, schedule=schedule)
    images, labels = np.eye(steps, dtype=np.float32), np.zeros(steps, np.int32)
    trained = train(algorithm, members_of(np.arange(5), steps), images, labels)
    np.testing.assert_allclose(trained.margin, factor(np.arange(steps) / steps), atol=1e-6)


def adding_apply(total: jax.Array, x: jax.Array) -> jax.Array:
    """The gradient of one weight adds up a number of each example visited, and shows as the margin of the last example."""
    first = (total - jax.lax.stop_gradient(total)) * x[:, 0] + total * x[:, 1]
    return jnp.stack([first, jnp.zeros(len(x))], axis=1)


ADDING = Network(init=lambda key, x: jnp.zeros(()), apply=adding_apply)


def to_add(numbers: np.ndarray) -> np.ndarray:
    """Examples that hold these numbers, and one more that shows their sum."""
    images = np.zeros((len(numbers) + 1, 2), np.float32)
    images[:-1, 0], images[-1, 1] = numbers, 1
    return images


def test_every_member_is_visited_once_an_epoch_however_many_there_are() -> None:
    """35,000 steps over 70,000 examples: their product does not fit into 32 bits."""
    n = 70_000
    numbers = np.random.RandomState(0).randint(0, 100, n)
    algorithm = Algorithm(ADDING, batch_size=2, epochs=1, learning_rate=1.0, momentum=0.0)
    trained = train(algorithm, np.ones(n, bool), to_add(numbers), np.zeros(n + 1, np.int32))
    assert trained.margin[n] == numbers.sum() / 4  # every step: half of the mean of two, exact in float32


@pytest.mark.parametrize("size", [1, 3, 8, 13, 20, 50])
def test_subsets_of_any_size_are_gone_through_epoch_by_epoch(size: int) -> None:
    """Fewer members than a batch too, and several epochs in one batch: the sum of what each step saw, against the stream."""
    n, batch_size, epochs = 20, 8, 9
    numbers = np.random.RandomState(0).randint(1, 100, n)
    settings: Any = {"learning_rate": 1.0, "momentum": 0.0, "schedule": "linear"}
    algorithm = Algorithm(ADDING, batch_size=batch_size, epochs=epochs, **settings)
    members = members_of(np.random.RandomState(size).permutation(n)[: min(size, n)], n)
    batches = batches_of(algorithm, members, KEY)
    factors = 1 - np.arange(len(batches)) / len(batches)
    expected = (factors[:, None] * numbers[batches] / 2 / batch_size).sum()
    trained = train(algorithm, members, to_add(numbers), np.zeros(n + 1, np.int32))
    assert trained.margin[n] == pytest.approx(expected, rel=1e-5)
    visits = np.bincount(batches.ravel(), minlength=n)
    assert np.ptp(visits[members]) <= 1
    assert visits.sum() == pytest.approx(epochs * members.sum(), abs=batch_size / 2)


def test_a_huge_learning_rate_is_reported_as_divergence() -> None:
    images, labels = toy(N_ALL)
    members = members_of(np.arange(3, N), N)
    assert default_trainer(KEY, members, images, labels).finite
    assert not train(
        Algorithm(hidden=(16,), epochs=3, batch_size=8, learning_rate=1e30), members, images, labels
    ).finite


@pytest.mark.slow
def test_weights_that_are_not_numbers_are_reported_where_logits_are() -> None:
    """XLA's maximum on a CPU may pass over NaN, and the logits above it are numbers; here ReLU of a maximum is written so."""
    network = mlp(CLASSES, hidden=(4,))

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return network.apply(jax.tree.map(lambda leaf: jnp.where(jnp.isnan(leaf), 0, leaf), params), x)

    images, labels = toy(N_ALL)
    members = members_of(np.arange(3, N), N)
    for fault, finite in ((1.0, True), (np.nan, False)):
        faulty = Network(lambda key, x, fault=fault: jax.tree.map(lambda a: a * fault, network.init(key, x)), apply)
        algorithm = Algorithm(faulty, epochs=1, batch_size=8, learning_rate=0.01)
        trained = train(algorithm, members, images, labels)
        assert np.isfinite(trained.margin).all()
        assert bool(trained.finite) == finite


# Left-out examples


def data_dependent(key: jax.Array, x: jax.Array) -> Any:
    """An init that looks at the pixels it is given."""
    return {"w": jax.random.normal(key, (FEATURES, CLASSES)), "shift": x.mean(axis=0)}


DATA_DEPENDENT = Network(data_dependent, lambda params, x: (x - params["shift"]) @ params["w"])


@pytest.mark.parametrize(("own_network", "standardize"), [(False, False), (True, False), (False, True)])
def test_only_members_reach_the_weights(own_network: bool, standardize: bool) -> None:
    """A left-out or held-out example replaced by noise or NaN changes no bit of other outcomes; a member changes them."""
    images, labels = toy(N_ALL)
    members = members_of(np.setdiff1d(np.arange(N), [0, 7, N - 1]), N)
    algorithm = Algorithm(DATA_DEPENDENT, epochs=3, batch_size=8) if own_network else ALGORITHM
    trained = trainer(replace(algorithm, standardize=standardize))
    before = trained(KEY, members, images, labels)

    def changed(example: int, pixels: Any) -> np.ndarray:
        others = np.arange(N_ALL) != example
        after = trained(KEY, members, np.where(others[:, None], images, pixels).astype(np.float32), labels)
        fields = [(before.margin, after.margin), (before.correct, after.correct)]
        return np.stack([np.asarray(old != new)[others] for old, new in fields])

    noise = np.random.RandomState(3).normal(size=FEATURES)
    for example in (0, 7, N - 1, N, N_ALL - 1):
        for pixels in (noise, 1e6 * noise, np.nan):
            assert not changed(example, pixels).any(), f"example {example} is no member but reached the weights"
    for example in (1, N - 2):
        assert changed(example, noise)[0].all()


def test_labels_of_left_out_examples_do_not_reach_the_weights() -> None:
    images, labels = toy(N_ALL)
    members = members_of(np.arange(1, N), N)
    relabelled = np.where(np.arange(N_ALL) == 0, (labels + 1) % CLASSES, labels).astype(np.int32)
    before, after = (default_trainer(KEY, members, images, y) for y in (labels, relabelled))
    np.testing.assert_array_equal(before.margin[1:], after.margin[1:])


# The order of the examples


@pytest.mark.parametrize("n", [1, 2, 15, 16, 100, 65_535, 65_536, 70_000])
def test_an_order_has_each_member_once_and_first(n: int) -> None:
    for share in (0.0, 0.3, 0.9, 1.0):
        members = np.random.RandomState(0).uniform(size=n) < share
        members[n // 2] = True
        drawn = np.asarray(order_of(jax.random.key(1), members))
        np.testing.assert_array_equal(np.sort(drawn[: members.sum()]), np.flatnonzero(members))
        assert len(drawn) == n


@pytest.mark.parametrize("n", [3, 100, 65_535, 70_000])
def test_leaving_examples_out_does_not_reorder_the_others(n: int) -> None:
    random, key = np.random.RandomState(0), jax.random.key(1)
    of_all = np.asarray(order_of(key, np.ones(n, bool)))
    for share in (0.3, 0.7):
        members = random.uniform(size=n) < share
        members[0] = True
        np.testing.assert_array_equal(np.asarray(order_of(key, members))[: members.sum()], of_all[members[of_all]])


@pytest.mark.parametrize(("n", "ids", "n_keys"), [(6, range(6), 4000), (70_000, [0, 1, 65_536, 69_999], 200)])
def test_orders_are_uniform(n: int, ids: Any, n_keys: int) -> None:
    """Each member as often at each place, each pair as often either way round. Bounds fixed beforehand."""
    members, keys = members_of(list(ids), n), jax.random.split(jax.random.key(3), n_keys)
    k = len(ids)
    orders = jax.jit(lambda keys: jax.lax.map(lambda key: draw_order(key, jnp.asarray(members))[:k], keys))(keys)
    places = np.argsort(np.searchsorted(ids, np.asarray(orders)), axis=1)
    at_place = (places[:, :, None] == np.arange(k)).mean(axis=0)
    before = (places[:, :, None] < places[:, None, :]).mean(axis=0)[np.triu_indices(k, 1)]
    assert np.abs(at_place - 1 / k).max() < 4.5 * np.sqrt((1 / k) * (1 - 1 / k) / n_keys)
    assert np.abs(before - 0.5).max() < 4.5 * 0.5 / np.sqrt(n_keys)


@pytest.mark.slow
def test_orders_of_many_examples_pass_for_uniform_permutations() -> None:
    """Beyond 65,535 examples an order is a keyed bijection, not a sort of random words. 300 keys, bounds fixed beforehand.

    A place of an id, the order of four ids, what comes after what, ascents (mean (n-1)/2, variance (n+1)/12) and fixed
    points (nearly Poisson with mean 1), against what they are in uniform permutations. Three rounds of the bijection instead
    of eight fail it.
    """
    n, n_keys = 66_000, 300
    keys = jax.random.split(jax.random.key(5), n_keys)
    orders = np.asarray(jax.jit(lambda keys: jax.lax.map(lambda key: draw_order(key, jnp.ones(n, bool)), keys))(keys))
    places = np.argsort(orders, axis=1)

    def p_value(counts: np.ndarray) -> float:
        return float(stats.chisquare(counts.ravel()).pvalue)

    ids = np.r_[np.arange(0, n, 1000), 2 ** np.arange(17)]  # near and far, and what differs in a bit
    p_values = [p_value(np.bincount(places[:, i] * 10 // n, minlength=10)) for i in ids]
    assert min(p_values) > 1e-3 / len(p_values)
    assert stats.kstest(p_values, "uniform").pvalue > 1e-3

    fours = np.arange(n - n % 4).reshape(4, -1).T[::16], np.arange(n - n % 4).reshape(-1, 4)[::16]
    for four in fours:
        ranks = np.argsort(places[:, four], axis=-1) @ [64, 16, 4, 1]
        counts = np.unique(ranks, return_counts=True)[1]
        assert len(counts) == 24
        assert p_value(counts) > 1e-3

    for apart in (1, 2, 7):
        steps = (orders[:, apart:] - orders[:, :-apart]) % n
        assert p_value(np.bincount((steps * 64 // n).ravel(), minlength=64)) > 1e-3
    ascents = (np.diff(orders, axis=1) > 0).sum(axis=1)
    z = (ascents - (n - 1) / 2) / np.sqrt((n + 1) / 12)
    assert abs(z.mean()) < 4 / np.sqrt(n_keys)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / n_keys)
    fixed = (orders == np.arange(n)).sum(axis=1)
    assert abs(fixed.mean() - 1) < 4 / np.sqrt(n_keys)


def test_epochs_have_orders_of_their_own() -> None:
    algorithm = Algorithm(batch_size=20, epochs=4)
    orders = batches_of(algorithm, np.ones(20, bool), KEY)  # an epoch each
    assert len(np.unique(orders, axis=0)) == 4


def test_another_key_trains_another_model() -> None:
    images, labels = toy(N_ALL)
    first, second = (
        np.asarray(default_trainer(jax.random.key(seed), np.ones(N, bool), images, labels).margin) for seed in (0, 1)
    )
    assert np.quantile(np.abs(first - second), 0.05) > 1e-3


# Evaluation, and what does not affect results


def test_margin_is_the_log_odds_against_the_best_other_class_and_correct_the_argmax() -> None:
    logits = np.random.RandomState(0).normal(size=(150, 10)).astype(np.float32) * 3
    labels = np.random.RandomState(1).randint(0, 10, 150)
    found = classification.outcomes(logits, jnp.zeros(0), labels)
    np.testing.assert_allclose(found["margin"], margins_of(logits, labels), atol=1e-5)
    np.testing.assert_array_equal(found["correct"], logits.argmax(axis=1) == labels)
    # Of certain models: the logarithm of the best other probability would be -inf here, since it rounds to zero.
    certain = classification.outcomes(jnp.array([[200.0, 0.0, 0.0]] * 2), jnp.zeros(0), jnp.array([0, 1]))
    np.testing.assert_allclose(certain["margin"], [200.0, -200.0], rtol=1e-6)


def test_outcomes_do_not_depend_on_how_many_are_evaluated_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = toy(N_ALL)
    whole = default_trainer(KEY, np.ones(N, bool), images, labels)
    monkeypatch.setattr("infl.training.model.EVALUATION_BATCH", {jax.default_backend(): 7})
    parts = train(ALGORITHM, np.ones(N, bool), images, labels)
    np.testing.assert_allclose(parts.margin, whole.margin, atol=1e-5)
    np.testing.assert_array_equal(parts.correct, whole.correct)


@pytest.mark.slow
def test_models_of_unequal_steps_train_side_by_side_as_alone() -> None:
    n, (images, labels) = 40, map(jnp.asarray, toy(60))
    algorithm = Algorithm(hidden=(16,), epochs=3, batch_size=8, schedule="cosine")
    masks = jnp.stack([members_of(np.arange(size), n) for size in (1, 8, 17, 40)])
    keys = jax.random.split(KEY, len(masks))
    train_one = partial(train_model, algorithm=algorithm, network=algorithm.build_network(CLASSES))

    data: Any = {"images": images, "labels": labels}
    together = jax.jit(jax.vmap(partial(train_one, **data)))(keys, masks)
    one_by_one = jax.jit(lambda *models: jax.lax.map(lambda one: train_one(*one, **data), models))(keys, masks)
    np.testing.assert_allclose(together.margin, one_by_one.margin, atol=1e-4)
    np.testing.assert_array_equal(together.correct, one_by_one.correct)
    assert np.asarray(together.finite).all()


def test_uint8_pixels_are_the_same_as_their_255ths() -> None:
    _, labels = toy(N_ALL)
    images = np.random.RandomState(0).randint(0, 256, (N_ALL, FEATURES)).astype(np.uint8)
    members = members_of(np.arange(1, N), N)
    whole = default_trainer(KEY, members, images, labels)
    shares = default_trainer(KEY, members, (images / 255).astype(np.float32), labels)
    np.testing.assert_allclose(whole.margin, shares.margin, atol=1e-5)
    np.testing.assert_array_equal(whole.correct, shares.correct)


# Precision


def one_step(precision: Any) -> tuple[list[np.ndarray], list[Any]]:
    """The gradient of the first step, and the types that a network was called with."""
    images, labels = toy(N)
    seen, types = [], []

    def look(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        jax.debug.callback(lambda *parts: seen.append(parts), *updates)
        return updates, state

    def apply(params: Any, x: jax.Array) -> jax.Array:
        types.append((x.dtype, params[0].dtype))
        return SMALL.apply(params, x)

    spy = optax.GradientTransformation(lambda params: (), look)
    network = replace(SMALL, apply=apply, init=lambda key, x: [jnp.asarray(part) for part in START])
    trainer(Algorithm(network, optimizer=spy, batch_size=N, epochs=1, precision=precision))(
        KEY, np.ones(N, bool), images, labels
    )
    jax.effects_barrier()
    return [np.asarray(part) for part in seen[0]], types


@pytest.mark.slow
def test_bfloat16_gradients_are_those_of_float32_but_for_its_rounding() -> None:
    """Three products and a softmax of numbers rounded to 1 part in 256: 2% of the gradient's length, fixed beforehand."""
    (exact, plain_types), (rounded, types) = one_step("float32"), one_step("bfloat16")
    for one, other in zip(exact, rounded, strict=True):
        assert one.dtype == other.dtype == np.float32
        assert 0 < np.linalg.norm(one - other) < 0.02 * np.linalg.norm(one)
    half, whole = (jnp.dtype(jnp.bfloat16),) * 2, (jnp.dtype(jnp.float32),) * 2
    assert set(plain_types) == {whole}
    assert types[0] == half
    assert types[-1] == whole  # evaluated


def test_bfloat16_weights_take_updates_too_small_for_bfloat16() -> None:
    """Sixty updates of 1/2048 of a weight of 1, whose neighbours in bfloat16 are 1/256 and 1/128 away."""
    n, updates = 12, 60
    network = Network(lambda key, x: jnp.ones(()), lambda w, x: jnp.stack([w * x[:, 0], jnp.zeros_like(x[:, 0])], 1))
    step = optax.GradientTransformation(
        lambda params: (), lambda updates, state, params=None: (jnp.full_like(updates, -1 / 2048), state)
    )
    algorithm = Algorithm(network, optimizer=step, batch_size=1, epochs=5, precision="bfloat16")
    trained = train(algorithm, np.ones(n, bool), np.ones((n, 1), np.float32), np.zeros(n, np.int32))
    np.testing.assert_array_equal(trained.margin, np.full(n, 1 - updates / 2048, np.float32))


@pytest.mark.slow
def test_bfloat16_trains_nearly_the_same_model() -> None:
    """Steps times 1/128 of the largest margin at most; and far nearer than a model of another key."""
    images, labels = toy(N_ALL)
    members, algorithm = np.ones(N, bool), replace(ALGORITHM, precision="bfloat16")
    exact = default_trainer(KEY, members, images, labels)
    other = default_trainer(jax.random.key(1), members, images, labels)
    rounded = train(algorithm, members, images, labels)
    apart = np.abs(np.asarray(rounded.margin - exact.margin))
    assert 0 < apart.max() < 9 / 128 * np.abs(exact.margin).max()
    assert apart.mean() < 0.1 * np.abs(np.asarray(other.margin - exact.margin)).mean()
    assert rounded.finite


@pytest.mark.slow
def test_epochs_given_as_data_train_as_those_of_the_algorithm() -> None:
    images, labels = toy(N_ALL)
    fixed = train(replace(ALGORITHM, epochs=2, schedule="cosine"), np.ones(N, bool), images, labels)
    given = trainer(replace(ALGORITHM, epochs=9, schedule="cosine"))
    of_data = given(KEY, np.ones(N, bool), images, labels, epochs=jnp.int32(2))
    np.testing.assert_allclose(of_data.margin, fixed.margin, atol=1e-5)

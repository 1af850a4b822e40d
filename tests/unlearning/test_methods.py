"""Methods do what their formulas say, on problems that can be solved or stepped through by hand.

The network is linear, and a batch holds all of D\\S, so that every step of a method is one on the whole objective: its weights
must then be those of plain descent on the formula. S is a third of D\\S, so a batch of it holds each member three times.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, special

import infl
from infl.cli.unlearning import MethodName
from infl.training.task import Task, classification
from infl.unlearning.methods import METHODS, choose_method
from infl.unlearning.problem import Problem

N, K, CLASSES = 16, 4, 3  # examples of D, of S
FORGET = np.arange(N) % 4 == 1
R, S = np.flatnonzero(~FORGET), np.flatnonzero(FORGET)
RANDOM = np.random.RandomState(0)
X: Any = RANDOM.normal(size=(N, 3)).astype(np.float32)
WIDE: Any = RANDOM.normal(size=(N, 40)).astype(np.float32)  # more weights than examples: anything can be fitted
LABELS: Any = RANDOM.randint(CLASSES, size=N).astype(np.int32)
START: Any = RANDOM.normal(size=(3, CLASSES)).astype(np.float32)
SQUARED = Task("squared", lambda z, x, y: (z[:, 0] - y) ** 2 / 2, lambda z, x, y: {"margin": z[:, 0]}, n_outputs=1)
KEY = jax.random.key(0)


def linear(n_outputs: int) -> infl.Network:
    draw: Any = lambda key, x: {"w": jax.random.normal(key, (x.shape[-1], n_outputs))}  # noqa: E731
    return infl.Network(draw, lambda params, x: x @ params["w"], name="linear")


def problem(x: np.ndarray = X, y: np.ndarray = LABELS, task: Task = classification, **changed: Any) -> Problem:
    algorithm = infl.Algorithm(batch_size=N - K, learning_rate=0.1, momentum=0.5)
    given: dict[str, Any] = {"images": jnp.asarray(x), "targets": jnp.asarray(y), "forget": jnp.asarray(FORGET)}
    given |= {"change": jnp.full(N, jnp.nan), "algorithm": algorithm, "network": linear(task.n_outputs or CLASSES)}
    return replace(Problem(**given, task=task, state=(), frozen=None, network_input=lambda x: x), **changed)


def unlearned(method: str, given: Problem, start: Any = START, **settings: float) -> np.ndarray:
    function = METHODS[method].function
    run: Any = jax.jit(lambda params, settings: function(params, KEY, given, **settings))
    return np.asarray(run({"w": jnp.asarray(start)}, METHODS[method].settings(settings))["w"])


def loss(w: jax.Array, ids: np.ndarray) -> jax.Array:
    """Mean cross-entropy of the labels."""
    return -jax.nn.log_softmax(X[ids] @ w)[np.arange(len(ids)), LABELS[ids]].mean()


def log_p(w: jax.Array, ids: np.ndarray) -> jax.Array:
    return jax.nn.log_softmax(X[ids] @ w)[np.arange(len(ids)), LABELS[ids]]


def kl(teacher: Any, w: jax.Array, ids: np.ndarray, temperature: float = 1.0) -> jax.Array:
    """T^2 KL(teacher || w) of softened outputs, mean over examples."""
    p, q = (jax.nn.softmax(X[ids] @ one / temperature) for one in (teacher, w))
    return temperature**2 * (p * jnp.log(p / q)).sum(axis=1).mean()


def above(w: jax.Array, level: float) -> jax.Array:
    """Loss of S where the margin is above its own at the start plus the level, over |S|."""

    def margins(w: jax.Array) -> jax.Array:
        z = X[S] @ w
        own = np.arange(CLASSES) == LABELS[S][:, None]
        return z[own] - jnp.where(own, -jnp.inf, z).max(axis=1)

    counted = margins(jax.lax.stop_gradient(w)) > margins(jnp.asarray(START)) + level
    return (-log_p(w, S) * counted).sum() / K


FORMULAS: dict[str, tuple[dict[str, float], Callable[[jax.Array], jax.Array]]] = {
    "fine-tune": ({}, lambda w: loss(w, R)),
    "gradient-ascent": ({}, lambda w: -loss(w, S)),
    "ascent-to-oracle": ({}, lambda w: -above(w, -0.4)),
    "neggrad+": ({"alpha": 0.7}, lambda w: 0.7 * loss(w, R) - 0.3 * loss(w, S)),
    "neggrad-to-oracle": ({"weight": 0.6}, lambda w: loss(w, R) - 0.6 * above(w, -0.4)),
    "npo": ({"beta": 2.0}, lambda w: jnp.log1p(jnp.exp(2 * (log_p(w, S) - log_p(START, S)))).mean() + loss(w, R)),
    "simnpo": (
        {"beta": 2.0, "gamma": 0.3, "weight": 0.5},
        lambda w: 0.5 * jnp.log1p(jnp.exp(2 * log_p(w, S) + 0.3)).mean() + loss(w, R),
    ),
    "scrub": ({"alpha": 0.3, "max_epochs": 0.0}, lambda w: loss(w, R) + 0.3 * kl(START, w, R, 2.0)),
    # Random weights are drawn from the first half of the key.
    "bad-teacher": (
        {},
        lambda w: kl(START, w, R) + kl(jax.random.normal(jax.random.split(KEY)[0], (3, CLASSES)), w, S),
    ),
}
ADAM = ("scrub", "bad-teacher")
FIRST_TIER = ("neggrad-to-oracle",)


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[] if m in FIRST_TIER else pytest.mark.slow) for m in FORMULAS]
)
def test_a_method_descends_on_its_formula(method: str) -> None:
    settings, formula = FORMULAS[method]
    optimizer, rates = optax.sgd(0.1, momentum=0.5), {"rate": 2.0}
    if method in ADAM:
        optimizer, rates = optax.adam(0.1), {"learning_rate": 0.05}
    w, state = jnp.asarray(START), optimizer.init(jnp.asarray(START))
    factor = 0.5 if method in ADAM else 2.0
    gradient = jax.jit(jax.grad(formula))
    epochs = 9 if method in ("gradient-ascent", "ascent-to-oracle") else 3  # of S, a third of a batch
    for _ in range(3):
        updates, state = optimizer.update(gradient(w), state)
        w = w + factor * jnp.asarray(updates)
    given = problem(change=jnp.full(N, -0.4))
    found = unlearned(method, given, **{"epochs": epochs, **rates, **settings})
    np.testing.assert_allclose(found, w, rtol=2e-4, atol=2e-5)
    assert abs(found - START).max() > 0.05


def test_a_newton_step_is_exact_for_ridge_regression() -> None:
    y = X @ np.ones(3) + RANDOM.normal(size=N)
    ridge = 0.3

    def fit(ids: np.ndarray) -> np.ndarray:
        return np.linalg.solve(X[ids].T @ X[ids] + ridge * np.eye(3), X[ids].T @ y[ids])[:, None].astype(np.float32)

    given = problem(y=y.astype(np.float32), task=SQUARED)
    found = unlearned("newton", given, fit(np.arange(N)), damping=ridge / (N - K))
    np.testing.assert_allclose(found, fit(R), rtol=1e-4)
    assert abs(found - fit(np.arange(N))).max() > 0.02


@pytest.mark.parametrize(
    "method", ["fine-tune", *(pytest.param(m, marks=pytest.mark.slow) for m in ("eu-k", "l1-sparse"))]
)
def test_a_method_that_trains_on_what_stays_never_sees_what_goes(method: str) -> None:
    hidden = X.copy()
    hidden[S] = np.nan
    seen, blind = (unlearned(method, problem(x), epochs=3) for x in (X, hidden))
    np.testing.assert_array_equal(seen, blind)
    assert np.isfinite(blind).all()


@pytest.mark.slow
def test_scrub_goes_away_from_the_teacher_on_the_set_before_each_of_its_first_epochs() -> None:
    w, optimizer = jnp.asarray(START), optax.adam(0.05, eps=1e-5)
    state = optimizer.init(w)
    away, stay = (
        jax.grad(one) for one in (lambda w: -kl(START, w, S, 2.0), lambda w: loss(w, R) + 0.5 * kl(START, w, R, 2.0))
    )
    for gradient in (jnp.zeros_like, stay, away, stay, stay):  # at first the student is the teacher
        updates, state = optimizer.update(gradient(w), state)
        w = w + jnp.asarray(updates)
    found = unlearned("scrub", problem(), epochs=3, max_epochs=2, learning_rate=0.05)
    np.testing.assert_allclose(found, w, rtol=2e-3, atol=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cf-k", "eu-k"])
def test_layers_below_the_last_stay_and_the_last_is_trained_on_what_is_retained(method: str) -> None:
    def draw(key: jax.Array, x: jax.Array) -> Any:
        keys = jax.random.split(key)
        return {"0": {"w": jax.random.normal(keys[0], (3, 5))}, "1": {"w": jax.random.normal(keys[1], (5, CLASSES))}}

    given = problem(network=infl.Network(draw, lambda p, x: x @ p["0"]["w"] @ p["1"]["w"], name="deep"))
    start, fresh = (draw(key, given.images) for key in (jax.random.key(1), jax.random.split(KEY)[0]))
    below, last = start["0"]["w"], (start if method == "cf-k" else fresh)["1"]["w"]
    optimizer = optax.sgd(0.1, momentum=0.5)
    state, gradient = optimizer.init(last), jax.grad(lambda last: loss(below @ last, R))
    for _ in range(3):
        updates, state = optimizer.update(gradient(last), state)
        last = last + 2 * jnp.asarray(updates)
    found = METHODS[method].function(start, KEY, given, epochs=3, rate=2.0)
    np.testing.assert_array_equal(found["0"]["w"], below)
    np.testing.assert_allclose(found["1"]["w"], last, rtol=2e-4, atol=2e-5)


def test_a_newton_step_nearly_ends_at_what_logistic_regression_gives_without_the_set() -> None:
    ridge = 2.0

    def objective(flat: np.ndarray, ids: np.ndarray) -> tuple[float, np.ndarray]:
        z: np.ndarray = X[ids].astype(float) @ flat.reshape(3, CLASSES)
        right, p = np.eye(CLASSES)[LABELS[ids]], np.asarray(special.softmax(z, axis=1))
        gradient = X[ids].T @ (p - right) + ridge * flat.reshape(3, CLASSES)
        return float(
            np.asarray(special.logsumexp(z, axis=1)).sum() - z[right > 0].sum() + ridge / 2 * flat @ flat
        ), gradient.ravel()

    with_set, without = (
        optimize.minimize(objective, np.zeros(9), (ids,), jac=True, tol=1e-12).x.reshape(3, CLASSES)
        for ids in (np.arange(N), R)
    )
    found = unlearned("newton", problem(), with_set.astype(np.float32), damping=ridge / (N - K))
    assert np.linalg.norm(found - without) < 0.15 * np.linalg.norm(with_set - without)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["push", "match-oracle", "stop-then-match"])
def test_margins_come_to_where_they_are_wanted_and_others_stay(method: str) -> None:
    start = 0.3 * RANDOM.normal(size=(40, CLASSES)).astype(np.float32)
    change: Any = np.where(FORGET, -2.0, 0.0)
    change[R[:2]] = 1.5  # affected
    given = problem(WIDE, change=jnp.asarray(change))
    margins = partial(given.margins, ids=jnp.arange(N))
    before = np.asarray(margins({"w": start}))
    settings = {"margin": -5.0} if method == "push" else {}
    after = np.asarray(margins({"w": unlearned(method, given, start, epochs=400, learning_rate=0.02, **settings)}))
    expected = np.where(FORGET, -5.0, before) if method == "push" else before + change
    np.testing.assert_allclose(after, expected, atol=0.05)


@pytest.mark.slow
def test_a_random_label_is_never_the_true_one_and_salun_moves_a_fraction_of_the_weights() -> None:
    start = 0.1 * RANDOM.normal(size=(40, CLASSES)).astype(np.float32)
    found = unlearned("random-labels", problem(WIDE), start, epochs=300, rate=5.0)
    assert ((WIDE @ found).argmax(axis=1) == LABELS).tolist() == (~FORGET).tolist()
    whole = np.sign(WIDE).astype(np.int32)  # as numbers of entities are
    assert np.isfinite(unlearned("random-labels", problem(whole), start, epochs=1)).all()
    moved = unlearned("salun", problem(WIDE), start, epochs=3, fraction=0.25) != start
    assert moved.mean() == pytest.approx(0.25, abs=0.01)


@pytest.mark.slow
def test_dampening_shrinks_what_matters_to_the_forget_set_alone() -> None:
    squares = np.stack([np.asarray(jax.grad(loss)(jnp.asarray(START), np.array([i]))) ** 2 for i in range(N)])
    of_d, of_s = squares.mean(axis=0), squares[S].mean(axis=0)
    expected = np.where(of_s > 1.5 * of_d, START * np.minimum(1, 0.8 * of_d / of_s), START)
    found = unlearned("ssd", problem(), alpha=1.5, dampening=0.8)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert 0 < (found != START).sum() < found.size


def test_every_method_has_a_name_on_the_command_line_and_a_mistake_is_named() -> None:
    assert tuple(METHODS) == MethodName.__args__  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(infl.InputError, match="method: expected one of fine-tune, .*; got 'forget'"):
        choose_method("forget")
    with pytest.raises(infl.InputError, match=r"setting lr: expected one of this method's \(rate 4, epochs 10\)"):
        METHODS["fine-tune"].settings({"lr": 1})
    with pytest.raises(infl.InputError, match="setting rate: expected a finite number, got 'fast'"):
        METHODS["fine-tune"].settings({"rate": "fast"})

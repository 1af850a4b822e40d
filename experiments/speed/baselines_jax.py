"""Arms in plain JAX, as people write them: a jitted step called from Python, a whole training in one scan, a vmap over models.

None uses infl. Convolutions are XLA's own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tasks import CLASSES, Task, draw_batches


def step_by_step(
    task: Task, pixels: Any, labels: Any, *, steps: int | None = None, fresh: bool = False
) -> tuple[Any, float]:
    """One jitted step, called from Python for every batch of every model.

    fresh: the published procedure of Feldman & Zhang (2020, `mnist_infl_mem`): the jitted step is defined inside the
        function that trains one model, so that every model is compiled again.
    """
    init, apply = _network(task)
    optimizer = _optimizer(task)

    def build() -> Callable[..., Any]:
        @jax.jit
        def step(params: Any, state: Any, x: Any, y: Any) -> tuple[Any, Any]:
            updates, state = optimizer.update(jax.grad(partial(_loss, apply))(params, x, y), state)
            return optax.apply_updates(params, updates), state

        return step

    shared_step, evaluate = build(), jax.jit(partial(_margins, apply))

    def train(subsets: list[Any], seed: int) -> Any:
        random, correct = np.random.default_rng(seed), []
        for number, members in enumerate(subsets):
            step = build() if fresh else shared_step
            params = init(jax.random.fold_in(jax.random.key(seed), number))
            state = optimizer.init(params)
            for batch in draw_batches(task, members, random, steps):
                params, state = step(params, state, pixels[batch], labels[batch])
            jax.block_until_ready(params)
            if steps is None:
                margins = [evaluate(params, x, y) for x, y in _parts(pixels, labels)]
                correct.append(np.concatenate([np.asarray(margin) > 0 for margin in margins]))
        return np.stack(correct) if correct else None

    start = time.perf_counter()
    params = init(jax.random.key(0))
    step = build() if fresh else shared_step
    step(params, optimizer.init(params), pixels[: task.batch], labels[: task.batch])
    for x, y in _parts(pixels, labels):
        evaluate(params, x, y)
    return train, time.perf_counter() - start


def whole_training(
    task: Task, pixels: Any, labels: Any, *, steps: int | None = None, width: int = 1
) -> tuple[Any, float]:
    """All steps of a training in one scan and one compiled program; `width` models side by side in a vmap."""
    init, apply = _network(task)
    optimizer = _optimizer(task)
    x_all, y_all = jnp.asarray(pixels), jnp.asarray(labels)

    def train_one(key: Any, batches: Any, x_all: Any, y_all: Any) -> Any:
        def step(carry: tuple[Any, Any], ids: Any) -> tuple[tuple[Any, Any], None]:
            params, state = carry
            gradient = jax.grad(partial(_loss, apply))(params, x_all[ids], y_all[ids])
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        params = init(key)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), batches)
        if steps is not None:
            return params
        return jnp.concatenate([_margins(apply, params, x, y) > 0 for x, y in _parts(x_all, y_all)])

    program = jax.jit(train_one if width == 1 else jax.vmap(train_one, in_axes=(0, 0, None, None)))

    def arguments(subsets: list[Any], seed: int, first: int) -> tuple[Any, ...]:
        random = np.random.default_rng([seed, first])
        ids = np.stack([draw_batches(task, members, random, steps) for members in subsets])
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(seed)))(first + jnp.arange(len(subsets)))
        if width == 1:
            return keys[0], ids[0], x_all, y_all
        return keys, ids, x_all, y_all

    start = time.perf_counter()
    compiled = program.lower(*arguments([np.arange(task.subset)] * width, 0, 0)).compile()
    compile_seconds = time.perf_counter() - start

    def train(subsets: list[Any], seed: int) -> Any:
        correct = []
        for first in range(0, len(subsets), width):
            some = (subsets[first : first + width] * width)[:width]
            done = jax.block_until_ready(compiled(*arguments(some, seed, first)))
            correct.append(np.asarray(done).reshape(width, -1) if steps is None else None)
        return np.concatenate(correct)[: len(subsets)] if steps is None else None

    return train, compile_seconds


def _loss(apply: Any, params: Any, x: Any, y: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(apply(params, x), y).mean()


def _margins(apply: Any, params: Any, x: Any, y: Any) -> Any:
    logits = apply(params, x)
    own = jnp.arange(CLASSES) == y[:, None]
    return jnp.where(own, logits, 0).sum(1) - jnp.where(own, -jnp.inf, logits).max(1)


def _parts(x: Any, y: Any) -> list[tuple[Any, Any]]:
    return [(x[first : first + 1000], y[first : first + 1000]) for first in range(0, len(x), 1000)]


def _optimizer(task: Task) -> optax.GradientTransformation:
    return optax.sgd(task.learning_rate, momentum=task.momentum)


def _network(task: Task) -> tuple[Any, Any]:
    """init(key) and apply(params, x) of the MLP or the small CNN; He-normal weights, LeCun-normal before the logits."""
    convolutions = task.widths if task.network == "cnn" else ()
    assert task.network in ("mlp", "cnn")
    side = task.shape[0] // 2 ** len(convolutions)
    flat = side**2 * convolutions[-1] if convolutions else int(np.prod(task.shape))
    widths = [flat, *task.hidden, CLASSES]
    shapes: list[tuple[int, ...]] = list(zip(widths[:-1], widths[1:], strict=True))
    for inputs, outputs in reversed(list(zip((1, *convolutions[:-1]), convolutions, strict=False))):
        shapes.insert(0, (3, 3, inputs, outputs))
    he, lecun = jax.nn.initializers.he_normal(), jax.nn.initializers.lecun_normal()

    def init(key: Any) -> list[Any]:
        keys = jax.random.split(key, len(shapes))
        initializers = [he] * (len(shapes) - 1) + [lecun]
        drawn = [init(one, shape) for init, one, shape in zip(initializers, keys, shapes, strict=True)]
        return [(weight, jnp.zeros(weight.shape[-1])) for weight in drawn]

    def apply(params: list[Any], x: Any) -> Any:
        x = x[..., None] if convolutions else x
        for weight, bias in params[: len(convolutions)]:
            x = jax.lax.conv_general_dilated(x, weight, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
            x = jax.nn.relu(x + bias)
        x = x.reshape(len(x), -1)
        for weight, bias in params[len(convolutions) : -1]:
            x = jax.nn.relu(x @ weight + bias)
        weight, bias = params[-1]
        return x @ weight + bias

    return init, apply

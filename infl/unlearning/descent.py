"""Steps of an optimizer through one part of D, with a batch of S beside each: what most methods are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from infl.training.model import draw_order, through_stream
from infl.unlearning.problem import Problem


class Batch(NamedTuple):
    r"""What a step sees.

    Attributes:
        retained: Ids of the stream, members of D\S unless others were asked for, [b].
        forget: Ids of S, [b]; S is gone through again and again, so a small one fills a batch several times.
        step: Number of the step, from 0.
        done: Fraction of the steps done.
    """

    retained: jax.Array
    forget: jax.Array
    step: jax.Array
    done: jax.Array


def descend(
    problem: Problem,
    params: Any,
    key: jax.Array,
    objective: Callable[[Any, Batch], jax.Array],
    *,
    optimizer: optax.GradientTransformation,
    epochs: Any,
    members: jax.Array | None = None,
    moves: Any = None,
    decay: bool = False,
) -> Any:
    """Minimize an objective (params, batch) -> scalar; returns params.

    Args:
        epochs: Passes over the members.
        members: [n] bool, of the stream; None for all but S.
        moves: Factor on the update of each weight, as params; None for all alike.
        decay: Whether updates shrink along a line to zero.
    """
    members = ~problem.forget if members is None else members
    batch_size = problem.algorithm.batch_size
    n_steps = count_steps(members, epochs, batch_size)
    steps: Any = {"optimizer": optimizer, "members": members, "batch_size": batch_size, "n_steps": n_steps}
    return take_steps(problem, (params, optimizer.init(params)), key, objective, moves=moves, decay=decay, **steps)[0]


def take_steps(
    problem: Problem,
    carry: tuple[Any, Any],
    key: jax.Array,
    objective: Callable[[Any, Batch], jax.Array],
    *,
    optimizer: optax.GradientTransformation,
    members: jax.Array,
    batch_size: int,
    n_steps: jax.Array,
    moves: Any = None,
    decay: bool = False,
) -> tuple[Any, Any]:
    """`descend` from params and the state of the optimizer to both."""
    keys = jax.random.split(key)
    order, n_forget = draw_order(keys[0], problem.forget), problem.forget.sum()

    def take_step(step: jax.Array, carry: tuple[Any, Any], stream: tuple[jax.Array, jax.Array]) -> tuple[Any, Any]:
        params, state = carry
        forget = order[(step * batch_size + jnp.arange(batch_size)) % n_forget]
        gradient = jax.grad(objective)(params, Batch(stream[0], forget, step, step / n_steps))
        updates, state = optimizer.update(gradient, state, params)
        if decay:
            updates = jax.tree.map(lambda update: (1 - step / n_steps) * update, updates)
        if moves is not None:
            updates = jax.tree.map(jnp.multiply, updates, moves)
        return optax.apply_updates(params, updates), state

    first = jnp.zeros((), jnp.int32)
    stream: Any = {"first": first, "last": n_steps, "batch_size": batch_size}
    return through_stream(take_step, carry, keys[1], members, **stream)


def count_steps(members: jax.Array, epochs: Any, batch_size: int) -> jax.Array:
    """Steps of so many epochs over the members; at least one unless there are none."""
    steps = jnp.round(epochs * members.sum() / batch_size).astype(jnp.int32)
    return jnp.where(jnp.asarray(epochs) > 0, jnp.maximum(steps, 1), 0)


def own_optimizer(problem: Problem, rate: Any) -> optax.GradientTransformation:
    """The optimizer of A with `rate` times its updates."""
    return optax.chain(problem.algorithm.build_optimizer(), optax.scale(rate))


def divergence(teacher: jax.Array, student: jax.Array, temperature: Any = 1.0) -> jax.Array:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)) of each example, over all positions of a document alike, [b]."""
    log_p, log_q = (jax.nn.log_softmax(logits / temperature) for logits in (teacher, student))
    each = temperature**2 * (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return each.reshape(len(each), -1).mean(axis=1)

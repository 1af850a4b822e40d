r"""Methods that change the weights at once: selective synaptic dampening, and a Newton step."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from infl.unlearning.problem import CHUNK, Problem

GRADIENTS = 32  # of single examples, in memory at once


def selective_dampening(
    params: Any, key: jax.Array, problem: Problem, *, alpha: Any = 5.0, dampening: Any = 1.0
) -> Any:
    r"""SSD: where I_S > alpha I_D, theta <- theta min(1, dampening I_D / I_S) (Foster et al. 2024: alpha 10 for ResNet-18).

    I is the mean squared gradient of the loss over S, and over D, of single examples. The published code squares the gradient
    of a batch, so that what is important depends on the size of batches. For a random S I_S is about I_D: nothing happens.
    """
    n, forget = problem.n_train, problem.forget.astype(jnp.float32)
    gradient = jax.vmap(lambda example: jax.grad(lambda params: problem.losses(params, example[None])[0])(params))

    def add(sums: Any, ids: jax.Array) -> tuple[Any, None]:
        squares = jax.tree.map(jnp.square, gradient(jnp.minimum(ids, n - 1)))
        weights = jnp.stack([ids < n, jnp.where(ids < n, forget[jnp.minimum(ids, n - 1)], 0)]).astype(jnp.float32)
        return jax.tree.map(lambda a, b: a + jnp.tensordot(weights, b, 1), sums, squares), None

    ids = jnp.arange(-(-n // GRADIENTS) * GRADIENTS).reshape(-1, GRADIENTS)
    sums, _ = jax.lax.scan(add, jax.tree.map(lambda leaf: jnp.zeros((2, *leaf.shape)), params), ids)

    def dampen(leaf: jax.Array, both: jax.Array) -> jax.Array:
        of_d, of_s = both[0] / n, both[1] / forget.sum()
        smaller = jnp.minimum(1, dampening * of_d / jnp.maximum(of_s, 1e-30))
        return jnp.where(of_s > alpha * of_d, leaf * smaller, leaf)

    return jax.tree.map(dampen, params, sums)


def newton(params: Any, key: jax.Array, problem: Problem, *, damping: Any = 1e-3, steps: Any = 20.0) -> Any:
    r"""theta_0 + (H + damping)^-1 sum_S grad l_i / (n - |S|), H the generalized Gauss-Newton matrix of the mean loss of D\S.

    Koh & Liang 2017; Guo et al. 2020. Conjugate gradients, so many steps. Exact for ridge regression whose penalty is
    damping (n - |S|) |theta|^2 / 2 beside the summed loss. A full Newton step would add the gradient on D\S; of a model that
    has not converged that gradient is what further training would do, and says nothing of S. RUM and SalUn approximate H by
    WoodFisher from 1,000 gradients; on ImageNet SalUn's takes the gradient of D\S from the loader of S.
    """
    n, retained = problem.n_train, (~problem.forget).astype(jnp.float32)
    size = min(CHUNK, n)
    chunks = jnp.arange(-(-n // size) * size).reshape(-1, size)
    n_retained = retained.sum()

    def product(vector: Any) -> Any:
        def add(total: Any, ids: jax.Array) -> tuple[Any, None]:
            inside = jnp.minimum(ids, n - 1)
            weights = jnp.where(ids < n, retained[inside], 0) / n_retained
            outputs, moved = jax.jvp(lambda params: problem.outputs(params, inside), (params,), (vector,))
            _, back = jax.vjp(lambda params: problem.outputs(params, inside), params)
            loss_gradient = jax.grad(lambda outputs: weights @ problem.losses_of(outputs, inside))
            return jax.tree.map(jnp.add, total, back(jax.jvp(loss_gradient, (outputs,), (moved,))[1])[0]), None

        total, _ = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, params), chunks)
        return jax.tree.map(lambda a, b: a + damping * b, total, vector)

    def loss_of_s(params: Any) -> jax.Array:
        return (problem.on_all(partial(problem.losses, params)) * problem.forget).sum() / n_retained

    gradient = jax.grad(loss_of_s)(params)
    step, _ = jax.scipy.sparse.linalg.cg(product, gradient, tol=1e-6, maxiter=steps)
    return jax.tree.map(jnp.add, params, step)

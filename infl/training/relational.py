"""Networks for facts: the answer to a question, a subject and a relation, is the entity whose embedding fits best.

Numbers of entities begin with the answers, so that answer k has the embedding of entity k: what is learned of it as a subject
counts for it as an answer, which is what lets facts follow from others. How well an answer fits is an inner product with what
a network makes of the question, or, for `transe`, a distance to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from infl.records import InputError
from infl.training.networks import Network

Weights = dict[str, jax.Array]


def transe(n_answers: int, *, n_terms: Sequence[int] = (2, 1), widths: Sequence[int] = (32,)) -> Network:
    """Relations are translations (Bordes et al. 2013): the logit of answer o is -|e_s + q_r - e_o|^2.

    Facts of several steps are sums of steps, so that it composes with little data and without weight decay.

    Args:
        n_terms: Numbers of entities, the answers among them, and of relations.
        widths: Width d of the embeddings, one number; they begin at a standard deviation of 0.3 / sqrt(d).
    """

    def init(key: jax.Array, n_entities: int, n_relations: int, width: int) -> Weights:
        keys = jax.random.split(key)
        return {
            "entities": 0.3 / width**0.5 * jax.random.normal(keys[0], (n_entities, width)),
            "relations": 0.3 / width**0.5 * jax.random.normal(keys[1], (n_relations, width)),
        }

    def query(weights: Weights, s: jax.Array, r: jax.Array) -> jax.Array:
        return weights["entities"][s] + weights["relations"][r]

    return _network("transe", n_answers, n_terms, {"widths": widths}, init, query, distance=True)


def bilinear(n_answers: int, *, n_terms: Sequence[int] = (2, 1), widths: Sequence[int] = (32,)) -> Network:
    """Relations are matrices (RESCAL, Nickel et al. 2011): the logit of answer o is e_s M_r e_o.

    It composes with weight decay and hardly without.

    Args:
        n_terms: Numbers of entities, the answers among them, and of relations.
        widths: Width d of the embeddings, one number; they begin at a standard deviation of 1 / sqrt(d), as do the matrices.
    """

    def init(key: jax.Array, n_entities: int, n_relations: int, width: int) -> Weights:
        keys = jax.random.split(key)
        return {
            "entities": jax.random.normal(keys[0], (n_entities, width)) / width**0.5,
            "relations": jax.random.normal(keys[1], (n_relations, width, width)) / width**0.5,
        }

    def query(weights: Weights, s: jax.Array, r: jax.Array) -> jax.Array:
        return jnp.einsum("bi,bij->bj", weights["entities"][s], weights["relations"][r])

    return _network("bilinear", n_answers, n_terms, {"widths": widths}, init, query)


def tied_mlp(
    n_answers: int,
    *,
    n_terms: Sequence[int] = (2, 1),
    widths: Sequence[int] = (32,),
    hidden: Sequence[int] = (64,),
) -> Network:
    """A perceptron on the embeddings of subject and relation side by side; the logit of answer o is its output times e_o.

    Args:
        n_terms: Numbers of entities, the answers among them, and of relations.
        widths: Width d of the embeddings, one number; they begin at a standard deviation of 1 / sqrt(d).
        hidden: Widths of the layers, with ReLU; He initialization.
    """

    def init(key: jax.Array, n_entities: int, n_relations: int, width: int) -> Weights:
        keys, sizes = jax.random.split(key, len(hidden) + 3), [2 * width, *hidden, width]
        weights = {
            "entities": jax.random.normal(keys[0], (n_entities, width)) / width**0.5,
            "relations": jax.random.normal(keys[1], (n_relations, width)) / width**0.5,
        }
        for k, (before, after) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            weights[f"kernel_{k}"] = jax.random.normal(keys[k + 2], (before, after)) * (2 / before) ** 0.5
            weights[f"bias_{k}"] = jnp.zeros(after)
        return weights

    def query(weights: Weights, s: jax.Array, r: jax.Array) -> jax.Array:
        x = jnp.concatenate([weights["entities"][s], weights["relations"][r]], axis=1)
        for k in range(len(hidden)):
            x = jax.nn.relu(x @ weights[f"kernel_{k}"] + weights[f"bias_{k}"])
        return x @ weights[f"kernel_{len(hidden)}"] + weights[f"bias_{len(hidden)}"]

    return _network("tied-mlp", n_answers, n_terms, {"widths": widths, "hidden": hidden}, init, query)


def _network(
    name: str,
    n_answers: int,
    n_terms: Sequence[int],
    settings: dict[str, Sequence[int]],
    init: Callable[[jax.Array, int, int, int], Weights],
    query: Callable[[Weights, jax.Array, jax.Array], jax.Array],
    *,
    distance: bool = False,
) -> Network:
    whole = {setting: [int(width) for width in widths] for setting, widths in settings.items()}
    if len(whole["widths"]) != 1 or any(width < 1 for widths in whole.values() for width in widths):
        raise InputError(f"network {name}: expected one width of the embeddings, all widths at least 1, got {whole}")
    n_entities, n_relations = n_terms

    def queries(weights: Weights, x: jax.Array) -> jax.Array:
        if x.ndim != 2 or x.dtype != jnp.int32 or x.shape[1] != 2:
            raise InputError(
                f"network {name}: expected facts (facts:FILE), got {x.dtype} {x.shape[1:]}; other data: mlp"
            )
        return query(weights, x[:, 0], x[:, 1])

    def apply(weights: Weights, x: jax.Array) -> jax.Array:
        asked, answers = queries(weights, x), weights["entities"][:n_answers]
        products = asked @ answers.T
        if not distance:
            return products
        return 2 * products - (asked**2).sum(axis=1, keepdims=True) - (answers**2).sum(axis=1)

    return Network(
        lambda key, x: init(key, max(n_entities, n_answers), n_relations, whole["widths"][0]),
        apply,
        name,
        whole,
        queries,
    )

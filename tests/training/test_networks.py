"""A Network computes what its module computes, as a pure function, and lets no example see another.

Training maps `init` and `apply` over keys, weights and devices, so a state hidden in a module would mix the models of a
block. So adapters are compared with the modules themselves (those with batch statistics and dropout in test_adapters.py), the
built-in network with a plain one, and all must survive vmap, grad and jit together.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from infl.records import InputError
from infl.training.adapters import from_linen, from_nnx
from infl.training.architectures import mlp
from infl.training.networks import Network, check_network

N_FEATURES, CLASSES = 6, 3
IMAGES = np.random.RandomState(0).normal(size=(5, 3, 2)).astype(np.float32)


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(4, (2, 2))(x[..., None]))
        return nn.Dense(CLASSES)(nn.GroupNorm(num_groups=2)(x).reshape(len(x), -1))


class Layers(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(N_FEATURES, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)])
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.last = nnx.Linear(4, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(len(x), -1)
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.last(self.norm(x))


def plain_init(key: jax.Array, x: jax.Array) -> jax.Array:
    return jax.random.normal(key, (x[0].size, CLASSES))


def plain_apply(weights: jax.Array, x: jax.Array) -> jax.Array:
    return x.reshape(len(x), -1) @ weights


NETWORKS = {
    "mlp": mlp(CLASSES, hidden=(4,)),
    "linen": from_linen(Convolutional()),
    "nnx": from_nnx(Layers),
    "plain": Network(plain_init, plain_apply),
}


def noisy(params: Any, seed: int = 0) -> Any:
    """Params moved away from their initial values, biases too."""
    random = np.random.RandomState(seed)
    return jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1 * random.normal(size=leaf.shape).astype(np.float32), params)


def initial(network: Network, seed: int = 0) -> Any:
    return jax.jit(network.init)(jax.random.key(seed), IMAGES)


def logits(network: Network, params: Any) -> jax.Array:
    return jax.jit(network.evaluate)(params, IMAGES)


# The built-in network


class PlainMLP(nn.Module):
    """The multi-layer perceptron as one would write it: He weights, zero biases, and no way to read its features."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(len(x), -1)
        for k, width in enumerate(self.widths):
            x = nn.relu(nn.Dense(width, kernel_init=nn.initializers.he_normal(), name=f"Dense_{k}")(x))
        return nn.Dense(CLASSES, name=f"Dense_{len(self.widths)}")(x)


@pytest.mark.parametrize("hidden", [(), (7, 4)])
def test_the_mlp_starts_and_computes_as_a_plain_one(hidden: tuple[int, ...]) -> None:
    """To the bit: a run goes on from the weights that its first version drew."""
    network, plain = mlp(CLASSES, hidden=hidden), PlainMLP(hidden)
    params = initial(network)
    expected: Any = jax.jit(plain.init)(jax.random.key(0), IMAGES)["params"]
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    params = noisy(params)
    of_plain = np.asarray(jax.jit(plain.apply)({"params": params}, IMAGES))
    np.testing.assert_array_equal(logits(network, params), of_plain)
    assert network.features is not None
    last = params[f"Dense_{len(hidden)}"]
    np.testing.assert_allclose(
        network.features(params, jnp.asarray(IMAGES)) @ last["kernel"] + last["bias"], of_plain, atol=1e-5
    )


# Adapters


def test_a_linen_network_is_its_module() -> None:
    module, network = Convolutional(), NETWORKS["linen"]
    params = initial(network)
    jax.tree.map(np.testing.assert_array_equal, params, jax.jit(module.init)(jax.random.key(0), IMAGES)["params"])
    params = noisy(params)
    expected = jax.jit(module.apply)({"params": params}, IMAGES)
    np.testing.assert_allclose(logits(network, params), np.asarray(expected), atol=1e-6)
    assert network.to_dict() == {"name": "Convolutional"}


def test_an_nnx_network_is_its_module() -> None:
    network, module = from_nnx(Layers, name="layers"), Layers(nnx.Rngs(jax.random.key(0)))
    params = initial(network)
    assert not np.allclose(params["last"]["kernel"], initial(network, seed=1)["last"]["kernel"])
    before = np.asarray(module(jnp.asarray(IMAGES)))
    np.testing.assert_allclose(logits(network, params), before, atol=1e-6)
    params = noisy(params)
    nnx.update(module, params)
    after = np.asarray(module(jnp.asarray(IMAGES)))
    assert not np.allclose(before, after, atol=1e-3)
    np.testing.assert_allclose(logits(network, params), after, atol=1e-6)
    assert network.to_dict() == {"name": "layers"}


# What training asks of every network


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_networks_pass_the_check_and_models_side_by_side_do_not_mix(network: Network) -> None:
    """Values and gradients under jit(vmap) are those of one model after another."""
    check_network(network, IMAGES[:3], (CLASSES,))

    @jax.jit
    def of_one(params: Any) -> Any:
        return jax.value_and_grad(lambda params: (network.evaluate(params, jnp.asarray(IMAGES)) ** 2).sum())(params)

    params = [noisy(initial(network), seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    together = jax.jit(jax.vmap(of_one))(stacked)
    for row, own in enumerate(params):
        beside = jax.tree.map(lambda leaf, row=row: leaf[row], together)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), beside, of_one(own))


NOTHING: Any = None


def centred_apply(weights: jax.Array, x: jax.Array) -> jax.Array:
    """No variables give it away, as batch statistics do: only its answers do."""
    return plain_apply(weights, x - x.mean(axis=0))


@pytest.mark.parametrize(
    ("make", "telling"),
    [
        (lambda: Network(plain_init, centred_apply), "depends? on its batch"),
        (
            lambda: Network(NOTHING, plain_apply),
            r"expected infl.Network\(init, apply\).*got NoneType and function",
        ),
        (
            lambda: Network(plain_init, lambda weights, x: jax.nn.softmax(plain_apply(weights, x))),
            "leave out its last softmax",
        ),
        (lambda: Network(plain_init, lambda w, x: plain_apply(w, x)[:, :2]), r"logits \[batch, 3\] .* got \[2, 2\]"),
        (lambda: Network(plain_init, lambda w, x: plain_apply(w, x).sum(axis=1)), r"\[batch, 3\].*got \[2\]"),
        (lambda: Network(plain_init, lambda w, x: x @ w, name="mine"), r"mine: failed on .* \(2, 3, 2\): dot_general"),
        (lambda: Network(plain_init, lambda w, x: NOTHING), r"failed on a batch of shape \(2, 3, 2\)"),
    ],
)
def test_a_network_that_cannot_be_trained_is_named(make: Any, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        check_network(make(), IMAGES[:3], (CLASSES,))

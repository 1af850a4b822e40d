"""A Network computes what its module computes, as a pure function, and lets no example see another.

Training maps `init` and `apply` over keys, weights and devices, so a state hidden in a module would mix the models of a
block; batch statistics would carry left-out examples into a model and every influence through them. So adapters are
compared with the modules themselves, the built-in network with NumPy, and all must survive vmap, grad and jit together.
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
from infl.training.architectures import build, mlp
from infl.training.networks import Network, check_network, from_linen, from_nnx

N_FEATURES, CLASSES = 6, 3
IMAGES = np.random.RandomState(0).normal(size=(5, 3, 2)).astype(np.float32)


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.relu(nn.Conv(4, (2, 2))(x[..., None]))
        return nn.Dense(CLASSES)(nn.GroupNorm(num_groups=2)(x).reshape(len(x), -1))


class LinenBatchNorm(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(CLASSES)(nn.BatchNorm(use_running_average=False)(x.reshape(len(x), -1)))


class Layers(nnx.Module):
    """Keeps the random streams it was given, as dropout would, but draws nothing from them."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(N_FEATURES, 4, rngs=rngs), nnx.Linear(4, 4, rngs=rngs)])
        self.norm = nnx.LayerNorm(4, rngs=rngs)
        self.last = nnx.Linear(4, CLASSES, rngs=rngs)
        self.rngs = rngs

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(len(x), -1)
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.last(self.norm(x))


class NnxBatchNorm(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(N_FEATURES, rngs=rngs)
        self.last = nnx.Linear(N_FEATURES, CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.norm(x.reshape(len(x), -1)))


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
each_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def noisy(params: Any, seed: int = 0) -> Any:
    """Params moved away from their initial values, biases too."""
    random = np.random.RandomState(seed)
    return jax.tree.map(lambda leaf: np.asarray(leaf) + 0.1 * random.normal(size=leaf.shape).astype(np.float32), params)


def initial(network: Network, seed: int = 0) -> Any:
    return jax.jit(network.init)(jax.random.key(seed), IMAGES)


def logits(network: Network, params: Any) -> jax.Array:
    return jax.jit(network.apply)(params, IMAGES)


# The built-in network


@pytest.mark.parametrize("hidden", [(), (5,), (7, 4)])
def test_mlp_is_matrices_and_relus(hidden: tuple[int, ...]) -> None:
    network = mlp(CLASSES, hidden=hidden)
    params = noisy(initial(network))
    x = IMAGES.reshape(len(IMAGES), -1).astype(float)
    for layer in range(len(hidden) + 1):
        if layer:
            x = np.maximum(x, 0)
        dense = params[f"Dense_{layer}"]
        x = x @ np.asarray(dense["kernel"], float) + np.asarray(dense["bias"], float)
    assert x.shape == (len(IMAGES), CLASSES)
    np.testing.assert_allclose(logits(network, params), x, atol=1e-5)


def test_mlp_starts_from_he_weights_and_zero_biases() -> None:
    n_features, network = 64, mlp(CLASSES, hidden=(256,))
    params = jax.jit(network.init)(jax.random.key(0), jnp.zeros((1, n_features)))
    weights = np.asarray(params["Dense_0"]["kernel"])
    error = np.sqrt(2 / n_features / (2 * weights.size))
    assert weights.std() == pytest.approx(np.sqrt(2 / n_features), abs=4.5 * error)
    assert abs(weights.mean()) < 4.5 * np.sqrt(2 / n_features / weights.size)
    assert not any(np.any(layer["bias"]) for layer in params.values())


def test_mlp_describes_what_it_is_rebuilt_from() -> None:
    settings = mlp(CLASSES, hidden=(7, 4)).to_dict()
    assert settings == {"name": "mlp", "hidden": [7, 4]}
    rebuilt = build(settings.pop("name"), CLASSES, **settings)
    shapes = jax.tree.map(np.shape, jax.eval_shape(rebuilt.init, jax.random.key(0), IMAGES))
    widths = [N_FEATURES, 7, 4, CLASSES]
    assert shapes == {f"Dense_{i}": {"kernel": (widths[i], widths[i + 1]), "bias": (widths[i + 1],)} for i in range(3)}


@pytest.mark.parametrize("hidden", [(0,), (16, -1)])
def test_a_width_below_one_is_named(hidden: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="widths of at least 1, got"):
        mlp(CLASSES, hidden=hidden)


def test_a_name_that_is_no_network_is_named() -> None:
    with pytest.raises(InputError, match="expected one of mlp, cnn, resnet9, vit; got 'vgg'"):
        build("vgg", CLASSES)


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
    before = np.asarray(module(jnp.asarray(IMAGES)))
    np.testing.assert_allclose(logits(network, params), before, atol=1e-6)
    params = noisy(params)
    nnx.update(module, params)
    after = np.asarray(module(jnp.asarray(IMAGES)))
    assert not np.allclose(before, after, atol=1e-3)
    np.testing.assert_allclose(logits(network, params), after, atol=1e-6)
    assert network.to_dict() == {"name": "layers"}


def test_an_nnx_network_may_hold_random_streams_but_its_params_do_not() -> None:
    assert {leaf.dtype for leaf in jax.tree.leaves(initial(NETWORKS["nnx"]))} == {np.dtype(np.float32)}


def test_each_key_initializes_an_nnx_network_anew() -> None:
    first, second = (initial(NETWORKS["nnx"], seed) for seed in (0, 1))
    assert not np.allclose(first["last"]["kernel"], second["last"]["kernel"])


# What training asks of every network


@each_network
def test_networks_pass_the_check(network: Network) -> None:
    check_network(network, jnp.asarray(IMAGES[0]), CLASSES)


@each_network
def test_models_side_by_side_do_not_mix(network: Network) -> None:
    """Values and gradients under jit(vmap) are those of one model after another."""

    @jax.jit
    def of_one(params: Any) -> Any:
        return jax.value_and_grad(lambda params: (network.apply(params, jnp.asarray(IMAGES)) ** 2).sum())(params)

    params = [noisy(initial(network), seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *params)
    together = jax.jit(jax.vmap(of_one))(stacked)
    for row, own in enumerate(params):
        beside = jax.tree.map(lambda leaf, row=row: leaf[row], together)
        jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4), beside, of_one(own))


@each_network
def test_examples_of_a_batch_do_not_see_each_other(network: Network) -> None:
    params, apply = noisy(initial(network)), jax.jit(network.apply)
    one_by_one = np.concatenate([apply(params, IMAGES[i : i + 1]) for i in range(len(IMAGES))])
    np.testing.assert_allclose(logits(network, params), one_by_one, atol=1e-5)


def test_batch_statistics_of_linen_are_refused() -> None:
    with pytest.raises(InputError, match=r"\['batch_stats'\].*use group or layer norm"):
        check_network(from_linen(LinenBatchNorm()), jnp.asarray(IMAGES[0]), CLASSES)


def test_batch_statistics_of_nnx_are_refused() -> None:
    with pytest.raises(InputError, match=r"\['BatchStat'\].*use group or layer norm"):
        from_nnx(NnxBatchNorm)


@pytest.mark.parametrize(
    ("apply", "telling"),
    [
        (plain_apply, r"mine: expected logits \[batch, 4\] for this data, got \[2, 3\]"),
        (lambda weights, x: plain_apply(weights, x).sum(axis=1), r"expected logits \[batch, 4\].*got \[2\]"),
        (lambda weights, x: x @ weights, r"mine: failed on a batch of shape \(2, 3, 2\): dot_general"),
        (lambda weights, x: None, r"mine: failed on a batch of shape \(2, 3, 2\)"),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_named(apply: Any, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        check_network(Network(plain_init, apply, name="mine"), jnp.asarray(IMAGES[0]), 4)


def test_a_network_whose_examples_see_their_batch_is_refused():
    """No variables give it away, as batch statistics do: only its answers do."""
    centred = Network(
        init=lambda key, x: jax.random.normal(key, (x[0].size, 3)),
        apply=lambda params, x: (x - x.mean(axis=0)).reshape(len(x), -1) @ params,
        name="centred",
    )
    with pytest.raises(InputError, match="depend on its batch"):
        check_network(centred, jnp.zeros(4), 3)

"""A module with batch statistics and dropout is trained as its own library trains it, and lets no left-out example in.

In training batch norm takes the statistics of the batch, all of whose examples are members, and updates running averages; in
evaluation it uses these alone, and nothing is dropped. So training in one full batch must be the loop that a user of the
library would write, and members' outcomes must not change where the pixels of the others are no numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import infl
from infl.records import Dataset, InputError
from infl.training.adapters import as_network, from_equinox, from_linen, from_nnx
from infl.training.algorithm import Algorithm
from infl.training.ensemble import Ensemble, model_keys
from infl.training.executors import states_from_arrays, states_to_arrays
from infl.training.layout import Layout
from infl.training.model import train_model
from infl.training.networks import Network, check_network

FEATURES, WIDTH, CLASSES, N, N_ALL, EPOCHS, RATE = 6, 5, 3, 12, 20, 4, 0.3
RANDOM = np.random.RandomState(0)
X: Any = RANDOM.normal(size=(N_ALL, FEATURES)).astype(np.float32) + np.arange(N_ALL)[:, None] % CLASSES
Y = (np.arange(N_ALL) % CLASSES).astype(np.int32)
MEMBERS = np.arange(N) % 3 != 1


class Linen(nn.Module):
    drop: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.BatchNorm(use_running_average=not train, momentum=0.8)(nn.Dense(WIDTH)(x))
        return nn.Dense(CLASSES)(nn.Dropout(self.drop, deterministic=not train)(nn.relu(x)))


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, drop: float = 0.0) -> None:
        self.first, self.last = nnx.Linear(FEATURES, WIDTH, rngs=rngs), nnx.Linear(WIDTH, CLASSES, rngs=rngs)
        self.norm, self.dropout = nnx.BatchNorm(WIDTH, momentum=0.8, rngs=rngs), nnx.Dropout(drop, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


class Equinox(eqx.Module):
    first: eqx.nn.Linear
    norm: eqx.nn.BatchNorm
    dropout: eqx.nn.Dropout
    last: eqx.nn.Linear

    def __init__(self, key: jax.Array, drop: float = 0.0) -> None:
        first, last = jax.random.split(key)
        self.first, self.last = (
            eqx.nn.Linear(FEATURES, WIDTH, key=first),
            eqx.nn.Linear(WIDTH, CLASSES, key=last),
        )
        self.norm = eqx.nn.BatchNorm(WIDTH, "batch", mode="batch", momentum=0.8)
        self.dropout = eqx.nn.Dropout(drop)

    def __call__(self, x: jax.Array, state: eqx.nn.State, key: jax.Array | None) -> tuple[jax.Array, eqx.nn.State]:
        x, state = self.norm(self.first(x), state)
        return self.last(self.dropout(jax.nn.relu(x), key=key)), state


def make(library: str, drop: float = 0.0) -> Network:
    if library == "linen":
        return from_linen(Linen(drop))
    if library == "nnx":
        return from_nnx(lambda rngs: Nnx(rngs, drop))
    return from_equinox(lambda key: eqx.nn.make_with_state(partial(Equinox, drop=drop))(key=key))


each_library = pytest.mark.parametrize("library", ["linen", "nnx", "equinox"])


def algorithm(network: Network, **settings: Any) -> Algorithm:
    given = {"batch_size": int(MEMBERS.sum()), "epochs": EPOCHS, "learning_rate": RATE, "momentum": 0.0} | settings
    return Algorithm(network=network, **given)


def train(network: Network, x: Any = X, key: int = 0, **settings: Any) -> Any:
    training = algorithm(network, **settings)
    return jax.jit(partial(train_model, algorithm=training, network=network))(jax.random.key(key), MEMBERS, x, Y)


# Loops that a user of each library would write; they give logits of all examples in evaluation


def cross_entropy(logits: jax.Array, y: Any) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


def linen_loop(key: jax.Array) -> jax.Array:
    module = Linen()
    variables: Any = module.init(key, jnp.zeros((1, FEATURES)))
    params, statistics = variables["params"], variables["batch_stats"]
    x, y = X[:N][MEMBERS], Y[:N][MEMBERS]

    def loss(params: Any) -> Any:
        logits, new = module.apply({"params": params, "batch_stats": statistics}, x, train=True, mutable="batch_stats")
        return cross_entropy(logits, y), new["batch_stats"]

    for _ in range(EPOCHS):
        gradient, statistics = jax.grad(loss, has_aux=True)(params)
        params = jax.tree.map(lambda leaf, part: leaf - RATE * part, params, gradient)
    return module.apply({"params": params, "batch_stats": statistics}, X)  # pyright: ignore[reportReturnType]


def nnx_loop(key: jax.Array) -> jax.Array:
    module = Nnx(nnx.Rngs(key))
    optimizer = nnx.Optimizer(module, optax.sgd(RATE), wrt=nnx.Param)
    x, y = X[:N][MEMBERS], Y[:N][MEMBERS]
    for _ in range(EPOCHS):
        optimizer.update(module, nnx.grad(lambda module: cross_entropy(module(x), y))(module))
    module.eval()
    return module(X)


def equinox_loop(key: jax.Array) -> jax.Array:
    module, state = eqx.nn.make_with_state(Equinox)(key=key)
    x, y = X[:N][MEMBERS], Y[:N][MEMBERS]

    def outputs(module: Any, state: Any, x: Any, keys: Any) -> Any:
        return jax.vmap(module, axis_name="batch", in_axes=(0, None, None if keys is None else 0), out_axes=(0, None))(
            x, state, keys
        )

    def loss(module: Any, state: Any) -> Any:
        logits, state = outputs(module, state, x, jax.random.split(jax.random.key(0), len(x)))
        return cross_entropy(logits, y), state

    for _ in range(EPOCHS):
        gradient, state = eqx.filter_grad(loss, has_aux=True)(module, state)
        module = eqx.apply_updates(module, jax.tree.map(lambda part: -RATE * part, gradient))
    return outputs(eqx.nn.inference_mode(module), state, X, None)[0]


LOOPS: dict[str, Callable[[jax.Array], jax.Array]] = {"linen": linen_loop, "nnx": nnx_loop, "equinox": equinox_loop}


@each_library
def test_training_is_the_loop_that_a_user_of_the_library_writes(library: str) -> None:
    logits = np.array(LOOPS[library](jax.random.split(jax.random.key(0))[0]))
    own = logits[np.arange(N_ALL), Y]
    logits[np.arange(N_ALL), Y] = -np.inf
    trained = train(make(library))
    np.testing.assert_allclose(trained.margin, own - logits.max(axis=1), rtol=1e-3, atol=1e-4)


@each_library
def test_left_out_pixels_reach_neither_weights_nor_running_averages(library: str) -> None:
    hidden = X.copy()
    hidden[:N][~MEMBERS] = np.nan
    network = make(library, drop=0.2)
    clean, dirty = train(network, batch_size=3), train(network, hidden, batch_size=3)
    assert clean.finite
    jax.tree.map(np.testing.assert_array_equal, dirty.params, clean.params)
    shown = np.concatenate([MEMBERS, np.ones(N_ALL - N, bool)])
    np.testing.assert_array_equal(dirty.margin[shown], clean.margin[shown])


@each_library
def test_dropout_drops_in_training_alone_anew_in_each_step(library: str) -> None:
    network = make(library, drop=0.5)
    params, state = network.split(network.init(jax.random.key(0), jnp.zeros((1, FEATURES))))
    judged, same = (network.forward(params, state, X, None)[0] for _ in range(2))
    np.testing.assert_array_equal(judged, same)
    one, other = (network.forward(params, state, X, jax.random.key(key))[0] for key in (1, 2))
    assert not np.allclose(one, other, atol=1e-3)
    again, _ = network.forward(params, state, X, jax.random.key(1))
    np.testing.assert_array_equal(one, again)


@each_library
def test_training_in_pieces_kept_on_disk_is_training_at_once(library: str) -> None:
    data = Dataset("toy", X[:N], Y[:N], X[N:], Y[N:], np.arange(N), np.arange(N_ALL - N), ("a", "b", "c"))
    network = make(library, drop=0.2)
    ensemble = Ensemble(algorithm(network, batch_size=3), data, Layout(models_per_device=2))
    keys, masks = model_keys(0, "design", np.arange(2)), np.stack([MEMBERS, ~MEMBERS])
    whole = ensemble.train(keys, masks, keep_params=True)
    batch = ensemble.place(keys, masks)
    states = ensemble.train_epochs(batch, ensemble.init_states(batch), 0, 2)
    states = states_from_arrays(states_to_arrays(states), states)
    pieces = ensemble.finish(ensemble.evaluate(batch, ensemble.train_epochs(batch, states, 2, EPOCHS)))
    np.testing.assert_array_equal(pieces.margin, whole.margin)
    alone = network.evaluate(jax.tree.map(lambda leaf: leaf[0], whole.params), X)
    np.testing.assert_array_equal(np.argmax(alone, axis=1) == Y, whole.correct[0])


class NoFlag(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(CLASSES)(nn.BatchNorm(use_running_average=False)(x))


class AlwaysDrops(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(CLASSES)(nn.Dropout(0.5, deterministic=False)(x))


class BatchInEvaluation(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        return nn.Dense(CLASSES)(nn.BatchNorm(use_running_average=False)(x))


@pytest.mark.parametrize(
    ("attempt", "telling"),
    [
        (lambda: as_network(Linen), r"expected a module, got its class; write Linen\(\)"),
        (
            lambda: as_network(Nnx(nnx.Rngs(0))),
            r"give its class, or infl.from_nnx\(lambda rngs: Nnx\(..., rngs=rngs\)\)",
        ),
        (lambda: from_nnx(Nnx(nnx.Rngs(0))), "holds the weights of one model"),  # pyright: ignore[reportArgumentType]
        (
            lambda: Algorithm(network=eqx.nn.Linear(2, 2, key=jax.random.key(0))),
            r"infl.from_equinox\(lambda key: Linear\(..., key=key\)\)",
        ),
        (
            lambda: as_network(max),
            r"expected a name, infl.Network\(init, apply\) or a Flax module, got builtin",
        ),
        (lambda: check_network(from_linen(NoFlag()), X[:3], (CLASSES,)), "give `__call__` an argument `train`"),
        (lambda: check_network(from_linen(AlwaysDrops()), X[:3], (CLASSES,)), "give `__call__` an argument `train`"),
        (lambda: check_network(from_linen(BatchInEvaluation()), X[:3], (CLASSES,)), "use_running_average=not train"),
        (lambda: train(make("linen"), batch_size=1), "batch statistics of one example say nothing"),
        (lambda: train(make("linen"), privacy=infl.Privacy()), "carry examples past clipping and noise"),
    ],
)
def test_what_cannot_be_trained_is_named(attempt: Callable[[], Any], telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        attempt()


def test_a_flax_module_works_where_a_network_is_wanted() -> None:
    """A linen module as it is, an nnx module as its class."""
    for given in (Linen(), Nnx):
        network = Algorithm(network=given).build_network(CLASSES)
        check_network(network, X[:3], (CLASSES,))

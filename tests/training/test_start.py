"""Start weights are where every model begins, and what is frozen stays there: to the bit, and held once.

A model trained from the weights of another after k epochs is the model that goes on from there (with an optimizer that keeps no
state and one order for all epochs: full batches). The weights are an argument of the compiled program, so that others do not
compile again; they are read from safetensors, orbax or a tree alike, and what does not fit is named.
"""

from __future__ import annotations

import zlib
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from safetensors.numpy import save_file

import infl
from infl.records import InputError
from infl.training.algorithm import Algorithm
from infl.training.architectures import mlp
from infl.training.ensemble import Ensemble, model_keys
from infl.training.layout import Layout
from infl.training.model import train_model
from infl.training.networks import Network
from infl.training.start import read_start, write_start

FEATURES, CLASSES, N = 5, 3, 12
RANDOM = np.random.RandomState(0)
X: Any = RANDOM.normal(size=(N + 6, FEATURES)).astype(np.float32)
Y: Any = (np.arange(N + 6) % CLASSES).astype(np.int32)
EVERYONE: Any = np.ones(N, bool)
SETTINGS: Any = {"hidden": (4,), "batch_size": N, "momentum": 0.0, "learning_rate": 0.3}
NETWORK = mlp(CLASSES, hidden=(4,))


def train(algorithm: Algorithm, network: Network = NETWORK, key: int = 0) -> Any:
    run = jax.jit(partial(train_model, algorithm=algorithm, network=network))
    return run(jax.random.key(key), EVERYONE, X, Y, start=algorithm.start_weights)


def arrays(tree: Any) -> dict[str, np.ndarray]:
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def test_training_goes_on_from_its_start_whatever_it_was_read_from(tmp_path: Path) -> None:
    half = train(Algorithm(epochs=2, **SETTINGS)).params
    whole = train(Algorithm(epochs=5, **SETTINGS))
    write_start(tmp_path / "half.safetensors", half)
    save_file({name.replace("/", "."): array for name, array in arrays(half).items()}, tmp_path / "dotted.safetensors")
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "orbax", half)
    starts = [half, str(tmp_path / "half.safetensors"), str(tmp_path / "dotted.safetensors"), str(tmp_path / "orbax")]
    algorithms = [Algorithm(epochs=3, start=start, **SETTINGS) for start in starts]
    for algorithm in algorithms:
        assert algorithm == algorithms[0]  # by what the arrays hold
        np.testing.assert_allclose(train(algorithm, key=9).margin, whole.margin, atol=1e-5)
    description = algorithms[1].to_dict()
    assert Algorithm.from_dict(description) == algorithms[1]
    write_start(tmp_path / "half.safetensors", whole.params)
    with pytest.raises(InputError, match="holds other weights than those this run began from"):
        Algorithm.from_dict(description)
    with pytest.raises(InputError, match="this run's start weights was given in Python"):
        Algorithm.from_dict(algorithms[0].to_dict())


def test_other_start_weights_are_another_argument_of_the_same_program() -> None:
    data = infl.from_arrays(X[:N], Y[:N], X[N:], Y[N:])
    params = NETWORK.init(jax.random.key(3), X[:1])
    layout = Layout(models_per_device=1)
    one, other = (
        Ensemble(Algorithm(start=jax.tree.map(lambda leaf, k=k: leaf + k, params), **SETTINGS), data, layout)
        for k in (0.0, 1.0)
    )
    assert one.fingerprint() == other.fingerprint()
    keys, masks = model_keys(0, "design", np.arange(2)), np.ones((2, N), bool)
    assert not np.allclose(one.train(keys, masks).margin, other.train(keys, masks).margin)


def test_frozen_weights_stay_and_are_no_part_of_the_states() -> None:
    params = NETWORK.init(jax.random.key(3), X[:1])
    algorithm = Algorithm(epochs=3, start=params, trainable=("Dense_1/kernel",), **SETTINGS)
    data = infl.from_arrays(X[:N], Y[:N], X[N:], Y[N:])
    ensemble = Ensemble(algorithm, data, Layout(models_per_device=2))
    keys, masks = model_keys(0, "design", np.arange(2)), np.ones((2, N), bool)
    states = ensemble.init_states(ensemble.place(keys, masks))
    assert list(arrays(states.params)) == ["Dense_1/kernel"]
    trained = ensemble.train(keys, masks, keep_params=True)
    before, after = arrays(params), arrays(jax.tree.map(lambda leaf: leaf[1], trained.params))
    assert [name for name in before if not np.array_equal(before[name], after[name])] == ["Dense_1/kernel"]
    np.testing.assert_allclose(trained.margin[0], train(algorithm).margin, atol=1e-5)


def low_rank(base: Network, rank: int) -> Network:
    """Adapters of low rank on every matrix of a network (Hu et al. 2021): W + A B, with B zero at first."""

    def init(key: jax.Array, x: jax.Array) -> Any:
        params = base.init(key, x)

        def adapter(path: Any, leaf: jax.Array) -> Any:
            own = jax.random.fold_in(key, zlib.crc32(jax.tree_util.keystr(path).encode()))
            return jax.random.normal(own, (leaf.shape[0], rank)) / rank**0.5, jnp.zeros((rank, leaf.shape[1]))

        matrices = jax.tree.map(lambda leaf: leaf if leaf.ndim == 2 else None, params)
        return {"base": params, "adapters": jax.tree_util.tree_map_with_path(adapter, matrices)}

    def apply(both: Any, x: jax.Array) -> jax.Array:
        def adapted(leaf: jax.Array, adapter: Any) -> jax.Array:
            return leaf if adapter is None else leaf + adapter[0] @ adapter[1]

        leaves = jax.tree.leaves(both["adapters"], is_leaf=lambda leaf: isinstance(leaf, tuple))
        adapters = iter(leaves)
        params = jax.tree.map(lambda leaf: adapted(leaf, next(adapters) if leaf.ndim == 2 else None), both["base"])
        return base.apply(params, x)

    return Network(init, apply, f"low-rank {base.name}")


def test_low_rank_adapters_over_frozen_weights_are_a_function() -> None:
    base = NETWORK.init(jax.random.key(3), X[:1])
    network = low_rank(NETWORK, 8)
    start = {"base": base}
    algorithm = Algorithm(network, start=start, trainable=("adapters",), epochs=20, batch_size=N, learning_rate=0.3)
    untrained = network.apply({**network.init(jax.random.key(1), X[:1]), "base": base}, X)
    np.testing.assert_allclose(untrained, NETWORK.apply(base, X), atol=1e-6)
    trained = train(algorithm, network)
    jax.tree.map(np.testing.assert_array_equal, trained.params["base"], base)
    assert np.linalg.matrix_rank(trained.params["adapters"]["Dense_0"]["kernel"][0]) <= 8
    from_scratch = train(Algorithm(epochs=1, **SETTINGS))
    assert trained.correct[:N].mean() > from_scratch.correct[:N].mean()


def save(path: Path, tree: Any) -> str:
    save_file(tree, path)
    return str(path)


@pytest.mark.parametrize(
    ("change", "settings", "telling"),
    [
        (
            {"Dense_1/kernel": np.zeros((4, 2), np.float32)},
            {},
            r"start: expected Dense_1/kernel of shape \(4, 3\).*\(4, 2\)",
        ),
        ({"Dense_7/kernel": np.zeros(2, np.float32)}, {}, "has no weights Dense_7/kernel; it has Dense_0/bias"),
        ({"Dense_0/bias": np.full(4, np.nan, np.float32)}, {}, "finite weights, got NaN or infinity in Dense_0/bias"),
        (
            {},
            {"trainable": ("Dense_9",)},
            r"trainable: expected paths of the network's weights \(Dense_0/bias.*got Dense_9",
        ),
        ({"Dense_0/kernel": None}, {"trainable": ("Dense_1",)}, "Dense_0/kernel is frozen at its start weights"),
    ],
)
def test_start_weights_that_do_not_fit_are_named(
    change: dict[str, Any], settings: dict[str, Any], telling: str, tmp_path: Path
) -> None:
    given = arrays(NETWORK.init(jax.random.key(3), X[:1])) | change
    path = save(tmp_path / "start.safetensors", {name: array for name, array in given.items() if array is not None})
    with pytest.raises(InputError, match=telling):
        train(Algorithm(start=path, **settings, **SETTINGS))


def test_a_start_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no weights")
    for path in ("missing.safetensors", "text.safetensors"):
        with pytest.raises(InputError, match="start: expected a safetensors file"):
            read_start(tmp_path / path)
    with pytest.raises(InputError, match="start: expected arrays by name, got none"):
        read_start({})
    with pytest.raises(InputError, match="trainable: freezes the other weights where they start; give start"):
        Algorithm(trainable=("Dense_0",))

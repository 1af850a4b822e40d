"""Training many models at once gives what training each alone gives, however they are laid out.

Layouts are chosen for speed, machines differ in devices, and a killed run continues in other batches; if any of that
reached the outcomes, a run would not be one experiment. Here every layout is compared with `train_model` called for one
model after another. Models of D and of D\\S must start alike under one key, or measured effects would not pair; and new
subset sizes must not compile anew, or a run over a range of sizes would only compile.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from infl.records import Dataset, InputError
from infl.training.algorithm import Algorithm
from infl.training.ensemble import BatchOutcomes, Ensemble, model_keys
from infl.training.layout import Layout
from infl.training.model import train_model
from infl.training.networks import Network
from infl.training.subsets import Design, draw_masks

N, M, FEATURES, CLASSES, T = 60, 20, 8, 3, 7
ALGORITHM = Algorithm(hidden=(16,), epochs=3, batch_size=8)


def make_dataset() -> Dataset:
    random = np.random.RandomState(0)
    labels = (np.arange(N + M) % CLASSES).astype(np.int32)
    images = random.normal(size=(CLASSES, FEATURES))[labels] + random.normal(size=(N + M, FEATURES))
    images = images.astype(np.float32)
    return Dataset(
        name="toy",
        x_train=images[:N],
        y_train=labels[:N],
        x_held_out=images[N:],
        y_held_out=labels[N:],
        train_ids=np.arange(N),
        held_out_ids=np.arange(M),
        class_names=("a", "b", "c"),
    )


DATASET = make_dataset()
MASKS = draw_masks(Design("uniform", (0.1, 0.9)), range(T), n_train=N, seed=0)


def keys_of(models: Any = range(T), seed: int = 0) -> jax.Array:
    return model_keys(seed, "design", np.array(models))


def outcomes(ensemble: Ensemble, models: Any = range(T)) -> BatchOutcomes:
    """Of the given models, in batches."""
    return ensemble.train(keys_of(models), MASKS[list(models)])


def layout_of(n_devices: int, models_per_device: int, mode: Any) -> Layout:
    if n_devices > len(jax.local_devices()):
        pytest.skip(f"needs {n_devices} devices")
    return Layout(n_devices, models_per_device, mode)


@cache
def ensemble_of(n_devices: int, models_per_device: int, mode: Any) -> Ensemble:
    return Ensemble(ALGORITHM, DATASET, layout_of(n_devices, models_per_device, mode))


@cache
def one_by_one() -> BatchOutcomes:
    """Every model trained alone, without batches or devices."""
    train = jax.jit(partial(train_model, algorithm=ALGORITHM, network=ALGORITHM.build_network(CLASSES)))
    trained = [train(key, mask, DATASET.images, DATASET.labels) for key, mask in zip(keys_of(), MASKS, strict=True)]
    return BatchOutcomes(*(np.stack(fields) for fields in zip(*(one[:3] for one in trained), strict=True)))


# Layouts


@pytest.mark.parametrize(
    ("n_devices", "models_per_device", "mode"),
    [(1, 3, "map"), (2, 1, "map"), (2, 16, "map"), (2, 3, "vmap")],
)
def test_outcomes_do_not_depend_on_the_layout(n_devices: int, models_per_device: int, mode: Any) -> None:
    ensemble = ensemble_of(n_devices, models_per_device, mode)
    assert ensemble.models_per_batch == n_devices * models_per_device
    alone, together = one_by_one(), outcomes(ensemble)
    np.testing.assert_allclose(together.margin, alone.margin, atol=1e-4)
    np.testing.assert_array_equal(together.correct, alone.correct)
    assert together.finite.all()
    assert together.margin.dtype == np.float32
    assert together.correct.dtype == together.finite.dtype == np.bool_


@pytest.mark.parametrize("order", [[6, 5, 4, 3, 2, 1, 0], [3], [2, 5]])
@pytest.mark.parametrize(("n_devices", "models_per_device", "mode"), [(1, 3, "map"), (2, 3, "vmap")])
def test_outcomes_do_not_depend_on_the_neighbours_in_a_batch(
    n_devices: int, models_per_device: int, mode: Any, order: list[int]
) -> None:
    """Another order, and batches too short for the layout, give the same bits."""
    ensemble = ensemble_of(n_devices, models_per_device, mode)
    in_order, other = outcomes(ensemble), outcomes(ensemble, order)
    np.testing.assert_array_equal(other.margin, in_order.margin[order])
    np.testing.assert_array_equal(other.correct, in_order.correct[order])


def test_one_after_another_each_layout_gives_the_same_bits() -> None:
    """More than the promise, which is for one size of batch."""
    bits = [outcomes(ensemble_of(*layout, "map")).margin for layout in [(1, 3), (2, 1), (2, 16)]]
    np.testing.assert_array_equal(bits[1], bits[0])
    np.testing.assert_array_equal(bits[2], bits[0])


@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_other_subset_sizes_do_not_compile_anew(mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python runs a network's apply only while JAX traces it."""
    traces, compilations = 0, 0
    compile_lowered = jax.stages.Lowered.compile

    def apply(weights: jax.Array, x: jax.Array) -> jax.Array:
        nonlocal traces
        traces += 1
        return x @ weights

    def counted(*arguments: Any, **settings: Any) -> Any:
        nonlocal compilations
        compilations += 1
        return compile_lowered(*arguments, **settings)

    monkeypatch.setattr(jax.stages.Lowered, "compile", counted)
    network = Network(lambda key, x: jax.random.normal(key, (FEATURES, CLASSES)), apply)
    ensemble = Ensemble(Algorithm(network, epochs=2, batch_size=8), DATASET, layout_of(1, 3, mode))
    seen = []
    for sizes in ([5, 6, 7], [60, 1, 30], [8, 9]):
        masks = np.arange(N) < np.array(sizes)[:, None]
        ensemble.train(keys_of(range(len(sizes))), masks)
        seen.append((traces, compilations))
    assert seen == [seen[0]] * 3
    assert min(seen[0]) > 0


@pytest.mark.parametrize("n_models", [1, 3, 4])
def test_a_short_batch_trains_its_models_and_no_more(n_models: int) -> None:
    """Each model takes its steps once, whatever else the batch has room for."""
    steps = []

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        jax.debug.callback(lambda first: steps.append(float(first)), params[0, 0])
        return jnp.zeros_like(updates), state

    counter = optax.GradientTransformation(lambda params: (), update)
    network = Network(lambda key, x: jax.random.normal(key, (FEATURES, CLASSES)), lambda weights, x: x @ weights)
    algorithm = Algorithm(network, optimizer=counter, epochs=1, batch_size=N)
    ensemble = Ensemble(algorithm, DATASET, layout_of(1, 4, "map"), check=False)
    outcomes = ensemble.train(keys_of(range(n_models)), np.ones((n_models, N), bool))
    jax.effects_barrier()
    assert len(steps) == len(set(steps)) == n_models
    assert outcomes.finite.all()
    assert len(np.unique(outcomes.margin, axis=0)) == n_models


def test_the_default_layout_uses_every_device() -> None:
    ensemble = Ensemble(ALGORITHM, DATASET)
    assert ensemble.devices == jax.local_devices()
    assert ensemble.models_per_batch == len(ensemble.devices) * {"map": 16, "vmap": 64}[ensemble.layout.mode or "map"]


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="counts the cores this process may use")
@pytest.mark.parametrize(
    ("variables", "n_devices"),
    [
        ({}, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0),
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=5"}, 5),
    ],
)
def test_a_cpu_gets_a_device_for_each_core_unless_told_otherwise(variables: dict[str, str], n_devices: int) -> None:
    inherited = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    program = "import jax, infl.training.ensemble as e; e.use_all_cores(); print(len(jax.devices()))"
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | {"JAX_PLATFORMS": "cpu"} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(printed.stdout) == n_devices


# Keys


@pytest.mark.parametrize("models", [[3], [5, 1, 1], [6, 5, 4, 3, 2, 1, 0]])
@pytest.mark.parametrize("seed", [0, 1, -1, 2**32, 2**63])
def test_a_key_depends_on_its_model_alone(seed: int, models: list[int]) -> None:
    of_all = jax.random.key_data(keys_of(range(T), seed))
    np.testing.assert_array_equal(jax.random.key_data(keys_of(models, seed)), of_all[np.array(models)])


def test_each_seed_each_stream_and_each_model_has_a_key_of_its_own() -> None:
    """Seeds beyond 32 bits too, whose upper half JAX alone would drop."""
    seeds = [0, 1, -1, 2**32 - 1, 2**32, 2**32 + 1, 2**63]
    keys = [model_keys(seed, stream, np.arange(T)) for seed in seeds for stream in ("design", "reference")]
    data = np.concatenate([jax.random.key_data(key) for key in keys])
    assert len(np.unique(data, axis=0)) == len(seeds) * 2 * T


def test_models_with_and_without_a_set_start_from_the_same_weights() -> None:
    """At a learning rate that moves no weight, outcomes are those of the initial weights."""
    still = Ensemble(replace(ALGORITHM, learning_rate=1e-30), DATASET, layout_of(1, 3, "map"))
    full, without = np.ones((3, N), bool), draw_masks(Design("leave-out", left_out=(1, 2)), range(3), n_train=N, seed=0)
    keys = model_keys(0, "reference", np.arange(3))
    d, d_without_s = (still.train(keys, masks).margin for masks in (full, without))
    np.testing.assert_array_equal(d, d_without_s)
    assert np.abs(d[0] - d[1]).mean() > 0.1


def test_models_with_and_without_a_set_end_alike_under_one_key() -> None:
    """What pairing is for: weights and order alike, removing two examples moves a model far less than another key does."""
    ensemble = ensemble_of(1, 3, "map")
    keys = keys_of(range(3))
    full = ensemble.train(keys, np.ones((3, N), bool)).margin
    without = ensemble.train(keys, np.tile(~np.isin(np.arange(N), [1, 2]), (3, 1))).margin
    assert np.abs(full - without).mean() < 0.2 * np.abs(full - without[[1, 2, 0]]).mean()


# Bad input


@pytest.mark.parametrize("settings", [{"n_devices": 0}, {"models_per_device": 0}, {"models_per_device": -1}])
def test_a_layout_of_nothing_is_named(settings: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(settings))}: expected at least 1"):
        Layout(**settings)


def test_more_devices_than_there_are_is_named() -> None:
    with pytest.raises(InputError, match=r"n_devices: this machine has \d+ \w+ device\(s\), got 99"):
        Ensemble(ALGORITHM, DATASET, Layout(n_devices=99))


def test_a_network_that_does_not_fit_the_data_is_named_before_training() -> None:
    network = Network(lambda key, x: (), lambda params, x: jnp.zeros((len(x), 2)), name="mine")
    with pytest.raises(InputError, match=r"mine: expected logits \[batch, 3\] for this data, got \[2, 2\]"):
        Ensemble(Algorithm(network), DATASET)


@pytest.mark.parametrize(
    ("n_keys", "masks", "telling"),
    [
        (0, np.ones((0, N), bool), "a batch holds 1 to 3 models, got 0"),
        (4, np.ones((4, N), bool), "a batch holds 1 to 3 models, got 4"),
        (2, np.ones((2, N + 1), bool), r"one mask \[60\] a model, got keys \(2,\), masks \(2, 61\)"),
        (3, np.ones((2, N), bool), r"one key and one mask \[60\] a model, got keys \(3,\), masks \(2, 60\)"),
        (2, np.arange(2 * N).reshape(2, N) >= N, "a model was given an empty subset"),
    ],
)
def test_a_batch_that_does_not_fit_is_named(n_keys: int, masks: np.ndarray, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        ensemble_of(1, 3, "map").start(keys_of(range(n_keys)), masks)

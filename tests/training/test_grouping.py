"""Groups are what the user said, or what a model tells apart; and a file that says something impossible is refused.

A grouped design leaves out whole groups, so a group that is wrong is a concept that no model was ever without, or an
example that always goes with strangers: the predictions for redundant sets rest on it and nothing later would notice. Groups
that infl finds must be those of the network's own features (worlds are built here in which pixels and features disagree), and
the same each time. A file of groups is often exported from a spreadsheet or a database, so everything that such files get
wrong is staged here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infl.data import from_arrays
from infl.records import Array, Dataset, Groups, InputError
from infl.training import grouping
from infl.training.algorithm import Algorithm
from infl.training.architectures import mlp
from infl.training.ensemble import model_keys
from infl.training.grouping import cluster, groups_from_sets, make_groups, penultimate_features
from infl.training.model import TrainedModel, train_model
from infl.training.networks import Network
from infl.training.task import Task

QUICK = Algorithm(hidden=(8,), epochs=2, batch_size=20)
LINEAR = Network(
    init=lambda key, x: 0.01 * jax.random.normal(key, (x[0].size, 2)),
    apply=lambda weights, x: x.reshape(len(x), -1) @ weights,
    name="linear",
)


def blobs(scale: float = 1.0) -> Dataset:
    """Forty examples of three pixels: the first two tell halves apart and far, the third tells odd from even and near."""
    random, ids = np.random.default_rng(0), np.arange(40)
    pixels = np.stack([10 * (ids < 20), -10 * (ids < 20), ids % 2], axis=1) + 0.01 * random.normal(size=(40, 3))
    labels = random.permutation(ids % 2)
    return from_arrays(
        (scale * pixels).astype(np.float32), labels, pixels[:4].astype(np.float32), labels[:4], name="blobs"
    )


def same_parts(table: Array, other: Array) -> bool:
    """Whether two tables part the examples alike, whatever the numbers of the groups."""
    pairs = set(zip(table.tolist(), other.tolist(), strict=True))
    return len(pairs) == len(set(table.tolist())) == len(set(other.tolist()))


# The groups that infl finds


@pytest.fixture(scope="module")
def found(small_digits: Dataset) -> Groups:
    return make_groups(small_digits, QUICK, seed=0)


def test_groups_are_the_labels_and_ever_more_clusters(small_digits: Dataset, found: Groups) -> None:
    """Of 60 examples with 10 labels there are 10 clusters of 6 on average, and 20 would be too small."""
    assert found.names == ("labels", "10 clusters")
    assert found.tables.shape == (2, 60)
    assert same_parts(found.tables[0], small_digits.y_train)
    assert found.tables.max(axis=1).tolist() == [9, 9]
    names = make_groups(blobs(), replace(QUICK, network=LINEAR), seed=0).names
    assert names == ("labels", "2 clusters", "4 clusters")  # 40 // 6 = 6


def test_groups_follow_from_the_seed(small_digits: Dataset) -> None:
    pixels = replace(QUICK, network=LINEAR)
    groups = [make_groups(small_digits, pixels, seed=seed) for seed in (0, 2**40 - 1, 0)]
    assert groups[0] == groups[2]
    np.testing.assert_array_equal(groups[0].tables[0], groups[1].tables[0])
    assert not same_parts(groups[0].tables[1], groups[1].tables[1])


THIRD = replace(LINEAR, features=lambda weights, x: x[:, 2:])


@pytest.mark.parametrize(
    ("network", "finite", "expected"),
    [
        pytest.param(THIRD, True, np.arange(40) % 2, id="features"),
        pytest.param(LINEAR, True, np.arange(40) < 20, id="none"),
        pytest.param(THIRD, False, np.arange(40) < 20, id="a model that diverged"),
        pytest.param(replace(LINEAR, features=lambda weights, x: x / 0.0), True, np.arange(40) < 20, id="overflow"),
    ],
)
def test_clusters_are_those_of_the_features_and_of_the_pixels_where_there_are_none(
    network: Network, finite: bool, expected: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The features see the third pixel only, which on the pixels counts for nothing. Training does not matter to that."""
    trained = TrainedModel(jnp.ones(1), jnp.ones(1), jnp.array(finite), jnp.ones((3, 2)))
    monkeypatch.setattr(grouping, "train_model", lambda key, *_, **__: trained)
    algorithm = replace(QUICK, network=network)
    assert (penultimate_features(blobs(), algorithm, seed=0) is None) == bool(expected[2])  # the halves
    assert same_parts(make_groups(blobs(), algorithm, seed=0).tables[1], expected)


@pytest.mark.slow
def test_features_are_the_inputs_of_the_last_layer_of_models_of_all_of_d(small_digits: Dataset) -> None:
    features = penultimate_features(small_digits, QUICK, seed=3)
    assert features is not None
    assert features.shape == (60, 2 * 8)
    images, labels = jnp.asarray(small_digits.x_train), jnp.asarray(small_digits.y_train)
    for key, half in zip(model_keys(3, "features", np.arange(2)), (features[:, :8], features[:, 8:]), strict=True):
        how: Any = {"algorithm": QUICK, "network": mlp(10, hidden=(8,))}
        dense = train_model(key, jnp.ones(60, bool), images, labels, **how).params["Dense_0"]
        hidden = np.maximum(small_digits.x_train.reshape(60, -1) @ np.asarray(dense["kernel"]) + dense["bias"], 0)
        np.testing.assert_allclose(half, hidden / np.sqrt((hidden**2).sum() / 60), atol=1e-4)
        assert (half**2).sum() / 60 == pytest.approx(1, rel=1e-5)
    assert not np.allclose(features[:, :8], features[:, 8:])


@pytest.mark.parametrize("scale", [1e30, 1e-30])
def test_pixels_of_any_size_can_be_clustered(scale: float) -> None:
    """Squares of huge float32 pixels overflow, and a warning is an error in these tests."""
    found = make_groups(blobs(scale), replace(QUICK, network=LINEAR), seed=0)
    assert same_parts(found.tables[1], np.arange(40) < 20)


def test_one_class_is_no_group_to_leave_out() -> None:
    data = blobs()
    x = data.x_train, data.x_held_out
    amounts = from_arrays(x[0], None, x[1], None, targets=x)
    task = Task(
        "rebuild",
        lambda outputs, x, y: ((outputs - y) ** 2).sum(axis=1),
        lambda outputs, x, y: {"correct": outputs[:, 0] > 0, "margin": outputs[:, 0]},
        n_outputs=3,
    )
    found = make_groups(amounts, replace(QUICK, network=LINEAR, task=task), seed=0)
    assert found.names == ("2 clusters", "4 clusters")
    assert same_parts(found.tables[0], np.arange(40) < 20)


def test_copies_leave_fewer_clusters_and_no_warning() -> None:
    data = blobs()
    copies = replace(data, x_train=np.repeat(data.x_train[[0, 20, 21]], [20, 10, 10], axis=0))
    found = make_groups(copies, replace(QUICK, network=LINEAR), seed=0)
    assert found.names[2] == "4 clusters"
    assert same_parts(found.tables[2], np.repeat(np.arange(3), [20, 10, 10]))


def test_large_data_are_clustered_by_mini_batches_just_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grouping, "MAX_FOR_FULL_KMEANS", 39)
    first, again = (cluster(blobs().x_train, 2, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert same_parts(first, np.arange(40) < 20)


def test_known_groups_join_those_that_are_found_again(small_digits: Dataset, found: Groups) -> None:
    known = Groups(("users", "sources"), np.stack([np.arange(60) // 7, np.where(np.arange(60) < 9, 0, -1)]))
    joined = make_groups(small_digits, QUICK, seed=0, known=known)
    assert joined.names == (*found.names, "users", "sources")
    np.testing.assert_array_equal(joined.tables, np.concatenate([found.tables, known.tables]))


def test_a_network_or_groups_that_do_not_fit_the_data_are_named(small_digits: Dataset) -> None:
    """Its features are the first thing that is asked of a network, before the ensemble checks it."""
    network = replace(LINEAR, features=lambda weights, x: x.reshape(len(x), -1))
    with pytest.raises(InputError, match=r"linear: expected logits \[batch, 10\] for this data, got \[2, 2\]"):
        make_groups(small_digits, replace(QUICK, network=network), seed=0)
    with pytest.raises(InputError, match="one entry for each of 60 training examples, got 40"):
        make_groups(small_digits, QUICK, seed=0, known=Groups(("users",), np.zeros((1, 40), int)))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="counts the cores this process may use")
def test_finding_groups_leaves_the_ensemble_a_device_for_each_core() -> None:
    """It is what starts JAX in a new grouped run, and JAX takes the number of devices only before that."""
    program = (
        "import infl, jax; from infl.training import grouping; data = infl.load('digits', n_train=60, n_held_out=30); "
        "from infl.training.model import TrainedModel; "
        "grouping.train_model = lambda key, *arrays, network, **_: TrainedModel(*[jax.numpy.array(True)] * 3, "
        "network.init(key, arrays[1][:1])); "
        "grouping.make_groups(data, infl.Algorithm(hidden=(4,)), seed=0); print(len(jax.devices()))"
    )
    inherited = {k: v for k, v in os.environ.items() if k not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(grouping.__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) == len(os.sched_getaffinity(0))


# Groups


@pytest.mark.parametrize(
    ("names", "tables", "said"),
    [
        (("a",), np.zeros(4, int), r"one row of integers \[n\] for each of 1 names, got int64 \(4,\)"),
        (("a",), np.zeros((1, 4)), "got float64"),
        ((), np.zeros((0, 4), int), "at least one resolution"),
        (("a",), np.full((1, 4), -1), "groups a: expected the numbers 0..g-1 without gaps, and -1 for no group"),
        (("a",), np.array([[1, 2, 1, 2]]), "groups a"),
        (("a",), np.array([[-2, 0, 1, 1]]), "groups a"),
    ],
)
def test_tables_that_are_no_groups_are_refused(names: tuple[str, ...], tables: Array, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Groups(names, tables)


def test_groups_are_equal_where_names_and_tables_are() -> None:
    table = np.array([[0, 1, -1, 0]])
    groups, same = Groups(("a",), table), Groups(("a",), np.asfortranarray(table.astype(np.int32)))
    assert len({groups, same}) == 1
    for other in (Groups(("b",), table), Groups(("a",), table[:, ::-1].copy()), Groups(("a",), table[:, :3])):
        assert other != groups


def test_sets_to_cover_are_resolutions_of_one_group() -> None:
    groups = groups_from_sets({"a": [3, 1], "b": (0, 1, 2, 3)}, n_train=5)
    assert groups.names == ("a", "b")
    assert groups.tables.tolist() == [[-1, 0, -1, 0, -1], [0, 0, 0, 0, -1]]

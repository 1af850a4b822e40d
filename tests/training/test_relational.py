"""Networks for facts give the logits of their formulas, and derive what follows from the facts that they are trained on."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infl.data.facts import from_facts
from infl.data.worlds import lives
from infl.records import Dataset, InputError
from infl.training.algorithm import Algorithm
from infl.training.architectures import build
from infl.training.grouping import make_groups
from infl.training.model import train_model
from infl.training.networks import check_network, random_batch


@pytest.fixture(scope="module")
def world() -> Dataset:
    rows = lives(seed=0).rows
    parts = [[row[:3] for row in rows if row[3] == part] for part in ("train", "test")]
    return from_facts(*parts)


def formula(name: str, weights: dict, s: int, r: int, o: int) -> float:
    """One logit in NumPy's float64."""
    weights = {key: np.asarray(value, np.float64) for key, value in weights.items()}
    e, q, answer = weights["entities"][s], weights["relations"][r], weights["entities"][o]
    if name == "transe":
        return -(((e + q - answer) ** 2).sum())
    if name == "bilinear":
        return e @ q @ answer
    hidden = np.maximum(np.concatenate([e, q]) @ weights["kernel_0"] + weights["bias_0"], 0)
    return (hidden @ weights["kernel_1"] + weights["bias_1"]) @ answer


@pytest.mark.parametrize("name", ["transe", "bilinear", "tied-mlp"])
def test_logits_are_those_of_the_formula(name: str, world: Dataset) -> None:
    network = replace(Algorithm(name), widths=(5,)).network_for(world)
    x = jnp.asarray(random_batch(world))
    weights = network.init(jax.random.key(0), x)
    logits = np.asarray(network.apply(weights, x))
    expected = [[formula(name, weights, s, r, o) for o in range(world.n_classes)] for s, r in x.tolist()]
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    check_network(network, np.asarray(x), (world.n_classes,))


def test_the_default_derives_what_it_was_never_told_and_the_control_does_not(world: Dataset) -> None:
    """What is held out follows from A and B, and from neither alone; the same without weight decay has to guess by likeness."""
    default = Algorithm.default("facts")
    known = {}
    for name, algorithm in {
        "default": default,
        "control": replace(default, network="bilinear", weight_decay=0.0),
    }.items():
        trained = jax.jit(
            lambda key, algorithm=algorithm: train_model(
                key,
                jnp.ones(world.n_train, bool),
                jnp.asarray(world.images),
                jnp.asarray(world.labels),
                algorithm=algorithm,
                network=algorithm.network_for(world),
            )
        )(jax.random.key(0))
        correct = np.asarray(trained.correct)
        assert correct[: world.n_train].mean() > 0.99
        known[name] = correct[world.n_train :].mean()
    assert known["default"] > 0.97
    assert known["control"] < 0.75


def test_facts_are_left_out_together_by_answer_subject_relation_and_statement(world: Dataset) -> None:
    groups = make_groups(world, Algorithm.default("facts"), seed=0)
    assert groups.names == ("labels", "subjects", "relations", "statements")
    for table, numbers in zip(groups.tables, (world.y_train, *world.x_train.T, world.train_ids), strict=True):
        same = numbers[:, None] == numbers
        np.testing.assert_array_equal(table[:, None] == table, same)


def test_a_network_and_data_that_do_not_fit_are_named(world: Dataset) -> None:
    with pytest.raises(InputError, match="mlp takes no facts; take transe or bilinear or tied-mlp"):
        Algorithm("mlp").network_for(world)
    with pytest.raises(InputError, match="transe: expected facts"):
        check_network(build("transe", 3), np.zeros((3, 4), np.float32), (3,))
    with pytest.raises(InputError, match="expected one width"):
        build("bilinear", 3, widths=(3, 4))

"""An algorithm is read back from a manifest as it was, and a setting out of its range is named."""

from __future__ import annotations

import json
import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from infl.records import InputError
from infl.training.adapters import from_linen
from infl.training.algorithm import Algorithm
from infl.training.architectures import vit
from infl.training.networks import Network
from infl.training.privacy import Privacy

CLASSES = 3


@pytest.mark.parametrize(
    "algorithm",
    [
        Algorithm(),
        Algorithm(hidden=(7, 4), optimizer="adamw", learning_rate=1e-3, weight_decay=0.1, schedule="cosine"),
        Algorithm(hidden=(), batch_size=7, epochs=2, momentum=0.0, schedule="linear", precision="bfloat16"),
        Algorithm("cnn", widths=(4, 8, 8), hidden=(), standardize=True),
        Algorithm("vit", widths=(64,), hidden=(32, 32), privacy=Privacy(1.5, 0.7)),
        Algorithm(privacy=Privacy(math.inf, 0.0)),
    ],
)
def test_an_algorithm_read_from_a_manifest_is_the_same(algorithm: Algorithm) -> None:
    description = json.loads(json.dumps(algorithm.to_dict()))
    assert Algorithm.from_dict(description) == algorithm
    for name in ("precision", "privacy"):  # runs made before there was a choice have no word of it
        assert (name in description) == (getattr(algorithm, name) != getattr(Algorithm(), name))


@pytest.mark.parametrize(
    ("algorithm", "part"),
    [
        (Algorithm(vit(CLASSES, patch=2)), "network"),
        (Algorithm(Network(lambda key, x: (), lambda params, x: jnp.zeros((len(x), CLASSES)))), "network"),
        (Algorithm(from_linen(nn.Dense(CLASSES), name="mine")), "network"),
        (Algorithm(optimizer=optax.sgd(0.1)), "optimizer"),
    ],
)
def test_what_was_made_in_python_cannot_be_read_back(algorithm: Algorithm, part: str) -> None:
    description = json.loads(json.dumps(algorithm.to_dict()))
    with pytest.raises(InputError, match=f"this run's {part} was given in Python.*algorithm="):
        Algorithm.from_dict(description)


@pytest.mark.parametrize(
    ("settings", "telling"),
    [
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate: expected a finite number above 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate.*got nan"),
        ({"momentum": 1.0}, "momentum: expected at least 0 and below 1, got 1.0"),
        ({"schedule": "step"}, "schedule: expected one of constant, linear, cosine; got 'step'"),
        ({"optimizer": "lion"}, "optimizer: expected one of sgd, adam, adamw; got 'lion'"),
        (
            {"network": "vgg"},
            "network: expected one of mlp, cnn, resnet9, vit, gpt, transe, bilinear, tied-mlp; got 'vgg'",
        ),
        ({"precision": "float16"}, "precision: expected one of float32, bfloat16; got 'float16'"),
        ({"hidden": (16, 0)}, "hidden: expected widths of at least 1"),
        ({"network": "resnet9", "hidden": (16,)}, "network resnet9 has no setting 'hidden'; it has widths"),
    ],
)
def test_a_setting_out_of_its_range_is_named(settings: dict, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        Algorithm(**settings)


def test_steps_are_in_proportion_to_members_and_at_least_one() -> None:
    """The rounded number of batches in all epochs, in integers as in the arrays that are traced."""
    algorithm, n, epochs = Algorithm(batch_size=50), np.arange(1, 500), np.array([[1], [7], [30]])
    steps = algorithm.n_steps(n, epochs)
    np.testing.assert_array_equal(steps, np.maximum(np.floor(epochs * n / 50 + 0.5), 1))
    assert [[algorithm.n_steps(int(k), int(e)) for k in n] for (e,) in epochs] == steps.tolist()
    assert algorithm.n_steps(n, 0).tolist() == [0] * len(n)

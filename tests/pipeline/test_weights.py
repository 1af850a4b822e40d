"""Weights that are kept are those of the models that were judged: they follow from the seed, so training again gives them back.

What shows it: the network applied to them, here, gives each margin and each answer that the run holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import infl
from infl.pipeline.weights import network_features
from infl.training.augmentation import unit_pixels
from tests.blocks import stored_blocks

ALGORITHM = infl.Algorithm(hidden=(8,), epochs=2, batch_size=20)
S = [3, 1, 4]


@pytest.fixture
def run(small_digits: infl.Dataset, tmp_path: Path) -> infl.Run:
    settings: dict[str, Any] = {"n_models": 2, "n_references": 3, "algorithm": ALGORITHM, "quiet": True}
    return infl.train(small_digits, run=tmp_path / "run", design=infl.Design("uniform", 0.7), **settings)


def margins(params: Any, dataset: infl.Dataset) -> np.ndarray:
    """Log-odds of the label against the best other class, from the weights."""
    network = ALGORITHM.build_network(dataset.n_classes)
    logits = np.asarray(network.apply(params, unit_pixels(jax.numpy.asarray(dataset.images))))
    own = np.arange(dataset.n_classes) == dataset.labels[:, None]
    return logits[own] - np.where(own, -np.inf, logits).max(axis=1)


def assert_judged(found: np.ndarray, stored: np.ndarray) -> None:
    """The margins are those that the run holds, which it keeps as float16: eleven significant bits."""
    np.testing.assert_allclose(found, stored, rtol=2**-11, atol=1e-4)


def test_the_weights_do_what_the_run_says_of_their_models(run: infl.Run, small_digits: infl.Dataset) -> None:
    before = run.outcomes("full").load()
    infl.keep_weights(run, n_models=2, quiet=True)
    assert before.margin is not None
    for model in range(2):
        found = margins(infl.load_weights(run, model=model), small_digits)
        assert_judged(found, before.margin[model])
        assert not np.allclose(found, before.margin[2], atol=0.05)
    np.testing.assert_array_equal(infl.open_run(run.folder).outcomes("full").load().margin, before.margin)


def test_features_are_hidden_units_of_the_models_whose_weights_are_kept(
    run: infl.Run, small_digits: infl.Dataset
) -> None:
    assert network_features(run, small_digits) is None
    infl.keep_weights(run, n_models=2, quiet=True)
    features = network_features(run, small_digits)
    assert features is not None
    pixels = np.asarray(unit_pixels(jax.numpy.asarray(small_digits.images))).reshape(len(features), -1)
    for model, found in enumerate(np.split(features, 2, axis=1)):
        dense = infl.load_weights(run, model=model)["Dense_0"]
        hidden = np.maximum(pixels @ dense["kernel"] + dense["bias"], 0)
        np.testing.assert_allclose(found, hidden / np.sqrt((hidden**2).sum(axis=1).mean()), atol=1e-4)


def test_weights_without_a_set_bring_their_outcomes_along(run: infl.Run, small_digits: infl.Dataset) -> None:
    infl.keep_weights(run, n_models=2, without=S, quiet=True)
    infl.keep_weights(run, n_models=2, without=S[::-1], quiet=True)  # the same set: nothing to do
    verified = next(infl.verify_effects(run, {"s": S}, n_models=2, stop=None, quiet=True))
    opened = infl.open_run(run.folder)
    (collection,) = [name for name in opened.collections() if name.startswith("without-")]
    assert [name for name in stored_blocks(run.folder) if name.startswith(collection)] == [
        f"{collection}/blocks/0000000-0000001.npz"
    ]
    stored = opened.outcomes(collection).load()
    assert stored.margin is not None
    assert not stored.masks[:, S].any()
    assert stored.masks.sum() == 2 * (small_digits.n_train - 3)
    for model in range(2):
        found = margins(infl.load_weights(run, model=model, without=S), small_digits)
        assert_judged(found, stored.margin[model])
    assert verified.forget_set.ids == (1, 3, 4)


def test_what_was_not_kept_is_named(run: infl.Run) -> None:
    with pytest.raises(infl.InputError, match=r"no weights of model 0 of full; infl.keep_weights makes them"):
        infl.load_weights(run)
    with pytest.raises(infl.InputError, match="without: expected ids of training examples, 0 to 59; got 3 to 60"):
        infl.keep_weights(run, without=[60, 3], quiet=True)
    with pytest.raises(infl.InputError, match="n_models: expected at least 1"):
        infl.keep_weights(run, n_models=0, quiet=True)
    infl.keep_weights(run, quiet=True)
    with pytest.raises(infl.InputError, match="does not hold weights of this network"):
        infl.load_weights(run, algorithm=infl.Algorithm(hidden=(9,), epochs=2, batch_size=20))
    path = run.folder / "weights/full/0.safetensors"
    save_file({name: array for name, array in load_file(path).items() if name != "Dense_1/bias"}, path)
    with pytest.raises(infl.InputError, match=r"of this network: it has no .*Dense_1.*bias.*; delete it"):
        infl.load_weights(run)

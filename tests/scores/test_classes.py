"""Influence of classes is the mean of the influence of pairs, whose errors do not average out: so values are compared with
the mean over the whole matrix, and errors with the scatter over many runs drawn anew."""

from __future__ import annotations

import numpy as np
import pytest

import infl
from infl.records import Outcomes
from infl.scores.influence import class_influence
from infl.training.subsets import draw_masks
from tests.streaming import InBlocks

N, M, C = 30, 12, 3


@pytest.fixture
def dataset():
    pixels = np.arange(N + M, dtype=np.float32)[:, None]
    return infl.from_arrays(pixels[:N], np.arange(N) % C, pixels[N:], np.arange(M) % C)


def outcomes_of(dataset, seed, *, design=None, n_models=200):
    """A model is the likelier to be right on a class the more of its examples it has; its outcomes go up and down together."""
    masks = draw_masks(design or infl.Design("uniform", 0.6), range(n_models), n_train=N, seed=seed)
    random = np.random.RandomState(seed)
    level = 0.3 + 0.04 * np.stack([masks[:, dataset.y_train == c].sum(axis=1) for c in range(C)], axis=1)
    mood = random.normal(0, 0.1, (n_models, C))
    correct = random.rand(n_models, N + M) < np.clip(level + mood, 0, 1)[:, dataset.labels]
    return Outcomes(masks, correct=correct, strata=None)


@pytest.mark.parametrize("fraction", [0.6, (0.5, 0.9)])
def test_a_block_is_the_mean_over_its_pairs(dataset, fraction):
    outcomes = outcomes_of(dataset, 0, design=infl.Design("uniform", fraction))
    matrix, blocks = infl.influence(outcomes).value, class_influence(outcomes, dataset)
    for a in range(C):
        for b in range(C):
            mean = matrix[np.ix_(dataset.y_train == a, dataset.y_held_out == b)].mean()
            np.testing.assert_allclose(blocks.value[a, b], mean, atol=1e-6)  # the matrix is float32


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "within"), [("uniform", 0.13), ("balanced", 0.2)])
def test_errors_are_the_scatter_over_runs(dataset, kind, within):
    """A standard deviation from 300 repeats is known to 4%; nine are compared."""

    def drawn_anew(seed):
        outcomes = outcomes_of(dataset, seed, design=infl.Design(kind, 0.6))
        if kind == "uniform":
            return outcomes
        # What the models of a period share is no error of a contrast.
        strata = np.arange(200) // 5
        drift = np.random.RandomState(1000 + seed).rand(40)[strata] < 0.5
        return Outcomes(outcomes.masks, drift[:, None] | (outcomes.of("correct") > 0), strata=strata)

    runs = [class_influence(drawn_anew(seed), dataset) for seed in range(300)]
    spread = np.std([run.value for run in runs], axis=0, ddof=1)
    stated = np.sqrt(np.mean([run.se**2 for run in runs], axis=0))
    np.testing.assert_allclose(stated, spread, rtol=within)


def test_reading_in_blocks_changes_nothing(dataset):
    whole = outcomes_of(dataset, 3, n_models=700)
    one, other = class_influence(whole, dataset), class_influence(InBlocks(whole, 100), dataset)
    np.testing.assert_allclose(one.value, other.value)
    np.testing.assert_allclose(one.se, other.se)


def test_a_class_that_is_missing_has_no_estimate(dataset):
    outcomes = outcomes_of(dataset, 0)
    named = infl.from_arrays(
        *(dataset.x_train, dataset.y_train, dataset.x_held_out, np.minimum(dataset.y_held_out, 1)),
        class_names=("a", "b", "c"),
    )
    blocks = class_influence(outcomes, named)
    assert np.isnan(blocks.value[:, 2]).all()
    assert np.isfinite(blocks.value[:, :2]).all()

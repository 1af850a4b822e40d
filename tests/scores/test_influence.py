"""The strongest pairs, found while streaming, are those of the whole matrix; the classic study's shape is respected."""

import gc
import tracemalloc

import numpy as np
import pytest

import infl
from infl.records import Columns, Outcomes
from infl.scores.influence import strongest_pairs


def test_strongest_pairs_equal_a_sort_of_the_whole_matrix():
    rng = np.random.RandomState(0)
    masks = rng.rand(50, 30) < 0.7
    outcomes = Outcomes(masks, margin=rng.randn(50, 2130))  # more held-out columns than one block holds
    whole = infl.influence(outcomes, outcome="margin")
    best = np.argsort(-whole.value.ravel())[:25]
    pairs = strongest_pairs(outcomes, n_pairs=25, outcome="margin")
    assert [(p.source, p.target - 30) for p in pairs] == [(k // 2100, k % 2100) for k in best]
    np.testing.assert_allclose([p.value for p in pairs], whole.value.ravel()[best], atol=1e-6)
    np.testing.assert_allclose([p.se for p in pairs], whole.se.ravel()[best], atol=1e-6)


def test_pairs_without_an_estimate_are_never_listed():
    masks = np.array([[True, False, False], [False, True, False], [True, False, False]])
    outcomes = Outcomes(masks, correct=np.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 1]], bool))
    pairs = strongest_pairs(outcomes, n_pairs=10)
    assert [(p.source, p.target, p.value) for p in pairs] == [(0, 3, 1.0), (1, 3, -1.0)]


def test_the_trained_reading_is_zero_where_training_fits():
    """Models that are right on all they train on: the literal Def. 3.2 is zero for every pair, the left-out protocol is not."""
    rng = np.random.RandomState(1)
    masks = rng.rand(300, 8) < 0.6
    correct = masks.copy()
    correct[:, 1] |= masks[:, 0]  # example 0 teaches example 1
    outcomes = Outcomes(masks, correct)
    trained = infl.influence(outcomes, protocol="trained").value
    left_out = infl.influence(outcomes, protocol="left-out").value
    np.testing.assert_array_equal(trained[~np.eye(8, dtype=bool)], 0.0)
    assert left_out[0, 1] == pytest.approx(1.0)
    assert np.isnan(np.diagonal(left_out)).all()


def test_memory_does_not_grow_with_the_number_of_models():
    """Nothing of a block outlives it, even before Python looks for reference cycles: the peak is that of a few blocks."""

    def peak(n_models):
        masks, margin = np.random.RandomState(0).rand(256, 400) < 0.7, np.zeros((256, 500), np.float32)

        class Repeated:
            n_train, n_columns = 400, 500

            def __init__(self):
                self.n_models = n_models

            def blocks(self, columns: Columns = slice(None), *, n_rows: int = 256):
                for _ in range(n_models // 256):
                    yield Outcomes(masks, margin=margin[:, columns])

        gc.collect()
        gc.disable()
        tracemalloc.start()
        try:
            infl.influence(Repeated(), outcome="margin")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            gc.enable()

    assert peak(256 * 24) < 1.2 * peak(256 * 3)

"""A part of the matrix is that part of the whole, totals are its sums, and memory is that of a block."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

import infl
from infl.records import Columns, OutcomeKind, Outcomes
from infl.scores.influence import cross_influence_totals
from tests.streaming import peak_bytes


@pytest.mark.parametrize("protocol", ["held-out", "left-out"])
@pytest.mark.parametrize("columns", [[8, 9], [11, 8, 8]])
def test_of_any_sources_and_columns_it_is_the_matrix_cut_out(protocol, columns):
    random = np.random.RandomState(0)
    masks = random.rand(60, 8).argsort(axis=1) < 5
    outcomes = Outcomes(masks, random.rand(60, 12) < 0.3 + 0.5 * np.c_[masks, masks[:, :4]])
    columns = [column - 8 * (protocol == "left-out") for column in columns]
    whole, part = (
        infl.influence(outcomes, protocol=protocol, **some) for some in ({}, {"sources": [4, 0], "columns": columns})
    )
    np.testing.assert_array_equal(np.asarray(part.sources), [4, 0])
    np.testing.assert_array_equal(np.asarray(part.columns), columns)
    at = np.ix_([4, 0], np.searchsorted(np.asarray(whole.columns), columns).tolist())
    for name in ("value", "se", "p"):
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name)[at], atol=1e-6)


def test_counts_of_a_matrix_in_many_blocks_fit_it(monkeypatch):
    """Held-out columns share the counts of their source: one column for all, however many blocks there were."""
    monkeypatch.setattr("infl.scores.influence.PAIRS_AT_ONCE", 12)
    monkeypatch.setattr("infl.scores.contrasts.PAIRS_PER_PIECE", 6)
    masks = np.random.RandomState(0).rand(30, 6) < 0.5
    outcomes = Outcomes(masks, np.random.RandomState(1).rand(30, 13) < 0.5)
    for protocol in ("held-out", "left-out"):
        estimate = infl.influence(outcomes, protocol=protocol)
        n_in, n_out = (np.broadcast_to(n, estimate.value.shape) for n in (estimate.n_in, estimate.n_out))
        counted = (30 if protocol == "held-out" else (~masks).sum(axis=0)) * np.ones(estimate.value.shape)
        np.testing.assert_array_equal(n_in + n_out, counted)


def test_the_trained_protocol_is_zero_where_training_fits():
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
    masks, margin = np.random.RandomState(0).rand(256, 400) < 0.7, np.zeros((256, 500), np.float32)

    @dataclass
    class Repeated:
        n_models: int
        n_train, n_columns = 400, 500

        def blocks(self, columns: Columns = slice(None), *, n_rows: int = 256, kinds: Sequence[OutcomeKind] = ()):
            for _ in range(self.n_models // 256):
                yield Outcomes(masks, margin=margin[:, columns])

    gc.collect()
    gc.disable()
    try:
        few, many = (peak_bytes(lambda n=n: infl.influence(Repeated(256 * n), outcome="margin")) for n in (3, 24))
    finally:
        gc.enable()
    assert many < 1.2 * few


# The cross-influence of an example on all others together, in one pass and without the matrix. Outcomes are summed before their
# scatter is taken: held-out examples rise and fall together, so variances of single columns would add up to too little.


def drawn(n_models=900, n=20, m=70, *, sizes=(8, 17), level=0.0):
    """Outcomes of models of different sizes, more than one block of them; `level` is added to every margin."""
    random = np.random.RandomState(0)
    kept = [random.permutation(n)[: random.randint(*sizes)] for _ in range(n_models)]
    masks = np.zeros((n_models, n), bool)
    for mask, ids in zip(masks, kept, strict=True):
        mask[ids] = True
    margin = level + masks @ random.randn(n, n + m) + random.randn(n_models, 1)
    return Outcomes(masks, correct=margin > level, margin=margin)


@pytest.mark.parametrize("outcome", ["correct", "margin"])
def test_totals_are_the_row_sums_of_the_held_out_matrix(outcome):
    outcomes = drawn()
    totals, matrix = cross_influence_totals(outcomes, outcome=outcome), infl.influence(outcomes, outcome=outcome)
    np.testing.assert_allclose(totals.value, matrix.value.sum(axis=1) * 20 / 70, rtol=1e-4, atol=1e-4)
    assert (totals.protocol, totals.outcome) == ("held-out", outcome)
    np.testing.assert_array_equal(totals.n_in, outcomes.masks.sum(axis=0))
    np.testing.assert_array_equal(totals.n_out, 900 - outcomes.masks.sum(axis=0))


def test_errors_are_those_of_the_summed_outcome_by_a_loop_in_double_precision():
    """Sums of 70 margins of 1,000 each that differ by ones: squares of them leave no digits in single precision."""
    outcomes = drawn(sizes=(12, 13), level=1000.0)
    totals = cross_influence_totals(outcomes, outcome="margin")
    assert outcomes.margin is not None
    summed = outcomes.margin[:, 20:].astype(np.float32).sum(axis=1, dtype=np.float64) * 20 / 70
    for i in range(20):
        inside, outside = summed[outcomes.masks[:, i]], summed[~outcomes.masks[:, i]]
        assert totals.value[i] == pytest.approx(inside.mean() - outside.mean(), abs=1e-3)
        assert totals.se[i] == pytest.approx(
            np.sqrt(inside.var() / (len(inside) - 1) + outside.var() / (len(outside) - 1))
        )


def test_an_example_in_every_model_has_no_total():
    masks = np.array([[True, False, True], [True, True, False], [True, False, True]])
    totals = cross_influence_totals(Outcomes(masks, correct=np.eye(3, 5, k=3, dtype=bool)))
    np.testing.assert_allclose(totals.value, [np.nan, 0.75, -0.75])  # n/m = 3/2; with 1: 1 right, without: 1 or 0
    assert totals.n_out.tolist() == [0, 2, 1]

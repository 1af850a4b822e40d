"""The cross-influence of an example on all others together is the sum of its row, with the error of that sum.

It is computed in one pass over summed outcomes, without the matrix; that is only right because a contrast is linear in the
outcomes, and the error is only right because outcomes are summed before their scatter is taken: held-out examples rise and
fall together from model to model, so adding up the variances of single columns would be far too little.
"""

import numpy as np
import pytest

import infl
from infl.records import Outcomes
from infl.scores.influence import cross_influence_totals


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

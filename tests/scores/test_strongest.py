"""The pairs listed of a matrix that is never held are those that the whole matrix would have shown.

Values, errors and p-values must be those of `influence`; the largest of all and of each column must be there, and every pair
that Benjamini and Hochberg would find over all pairs; q-values must be theirs to the 0.12% that counting costs. None of
that may depend on how the matrix is cut into blocks.
"""

import numpy as np
import pytest

import infl
from infl.records import Estimate, OutcomeKind, Outcomes
from infl.scores import strongest
from infl.scores.strongest import evident_pairs
from infl.training.subsets import Design, draw_masks

BOTH = ("left-out", "held-out")
DESIGNS = {"balanced": Design("balanced", 0.7), "range": Design("uniform", (0.5, 0.9))}


def planted(kind="balanced", *, n_models=400, n=40, m=30, seed=0):
    """Outcomes with some strong pairs, memorized examples, columns near 1 and one that is always right."""
    rng, design = np.random.RandomState(seed), DESIGNS[kind]
    masks = draw_masks(design, range(n_models), n_train=n, seed=seed)
    effect = np.where(rng.rand(n, n + m) < 0.03, rng.uniform(0.2, 0.5, (n, n + m)), 0.0)
    rate = np.r_[rng.uniform(0.2, 0.6, n + m - 12), np.full(11, 0.985), 1.0]
    correct = rng.rand(n_models, n + m) < rate + (masks - 0.7) @ effect
    correct[:, :n] |= masks & (rng.rand(n_models, n) < 0.5)
    strata = None if design.period == 1 else np.arange(n_models) // design.period
    return Outcomes(masks, correct, margin=correct + 0.3 * rng.randn(n_models, n + m), strata=strata)


def whole(outcomes, outcome: OutcomeKind = "correct"):
    """Value, error and p-value of all pairs, [n, n + m]."""
    parts = [infl.influence(outcomes, protocol=protocol, outcome=outcome) for protocol in BOTH]
    return [np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("value", "se", "p")]


@pytest.mark.parametrize(("kind", "outcome"), [("balanced", "correct"), ("range", "correct"), ("balanced", "margin")])
def test_what_is_listed_is_what_the_whole_matrix_shows(kind, outcome: OutcomeKind, monkeypatch):
    outcomes = planted(kind)
    value, se, p = whole(outcomes, outcome)
    q = infl.q_values(p)
    if kind == "balanced":  # over a range of sizes products are rounded, and each width of blocks has its own rounding
        monkeypatch.setattr("infl.scores.influence.PAIRS_AT_ONCE", 40 * 7)
    found = infl.strongest_influences(outcomes, protocols=BOTH, outcome=outcome, n_pairs=25, n_per_column=3)
    at = found.source, found.target
    np.testing.assert_allclose(found.value, value[at], atol=1e-5)
    np.testing.assert_allclose(found.se, se[at], rtol=1e-4)
    np.testing.assert_allclose(found.p, p[at], rtol=1e-3)
    assert found.n_tests == np.isfinite(p).sum()
    assert found.complete
    ratio = found.q / q[at]
    assert ratio.min() > 1 - 1e-3
    assert ratio.max() < 1.002
    of_columns = infl.strongest_influences(outcomes, protocols=BOTH, outcome=outcome, n_pairs=25, q_over="column")
    np.testing.assert_allclose(of_columns.q, infl.q_values(p, axis=0)[of_columns.source, of_columns.target], rtol=2e-3)
    listed = set(zip(found.source.tolist(), found.target.tolist(), strict=True))
    assert len(listed) == len(found)
    sure = set(map(tuple, np.argwhere(q <= 0.05).tolist()))
    assert len(sure) > 20
    assert sure <= listed
    np.testing.assert_allclose(found.value[:25], np.sort(value[np.isfinite(value)])[::-1][:25], atol=1e-5)
    largest = np.sort(np.nan_to_num(np.abs(value)), axis=0)[-3:]
    for column in range(70):
        of_column = np.sort(np.abs(found.value[found.target == column]))[-3:]
        np.testing.assert_allclose(of_column, largest[:, column], atol=1e-5)


def test_where_more_is_found_than_held_it_says_so_and_the_rest_is_right(monkeypatch):
    outcomes = planted()
    everything = infl.strongest_influences(outcomes, protocols=BOTH, n_pairs=7, n_per_column=1)
    monkeypatch.setattr(strongest, "MAX_EVIDENT_PAIRS", 10)
    monkeypatch.setattr("infl.scores.influence.PAIRS_AT_ONCE", 40 * 7)
    found = infl.strongest_influences(outcomes, protocols=BOTH, n_pairs=7, n_per_column=1)
    assert everything.complete
    assert not found.complete
    assert found.n_tests == everything.n_tests == 40 * 39 + 40 * 30
    assert (found.largest_p, found.pairs(7)) == (everything.largest_p, everything.pairs(7))
    assert 70 <= len(found) < len(everything)
    assert set(found.target) == set(everything.target)


@pytest.mark.parametrize(("n_models", "protocol"), [(8, "held-out"), (64, "left-out")])
def test_pairs_without_an_estimate_take_no_place_of_those_with_one(n_models, protocol):
    """With few models a side may hold none, and an example has no influence on itself."""
    outcomes = planted(n_models=n_models, n=60, m=5)
    size = np.abs(infl.influence(outcomes, protocol=protocol).rankable)
    found = infl.strongest_influences(outcomes, protocols=[protocol], n_pairs=0, n_per_column=5)
    assert np.isfinite(found.value).all()
    columns = found.target - (60 if protocol == "held-out" else 0)
    for column in range(size.shape[1]):
        there = np.sort(size[:, column][np.isfinite(size[:, column])])[::-1][:5]
        got = np.sort(np.abs(found.value[columns == column]))[::-1]
        np.testing.assert_allclose(got[: len(there)], there, atol=1e-9)


def test_pairs_without_an_error_are_counted_and_never_listed():
    """One model on a side can give any score: 1 and -1 here."""
    masks = np.array([[True, False, False], [False, True, False], [True, False, False]])
    outcomes = Outcomes(masks, correct=np.array([[1, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 1]], bool))
    found = infl.strongest_influences(outcomes, n_pairs=10)
    assert (len(found), found.n_without_error) == (0, 2)
    estimate = infl.influence(outcomes)
    assert np.nanmax(estimate.value) == 1
    assert evident_pairs(estimate, n_pairs=9) == []
    assert "no estimate with an error" in repr(estimate)


def test_scores_that_are_zero_but_for_rounding_are_zero():
    """A column that is always right, over a range of sizes: weighted means of ones."""
    rng = np.random.RandomState(0)
    masks = np.array([np.isin(np.arange(40), rng.permutation(40)[: rng.randint(10, 36)]) for _ in range(500)])
    estimate = infl.influence(Outcomes(masks, correct=np.ones((500, 42), bool)))
    assert (estimate.value == 0).all()


def test_the_evident_are_those_that_chance_explains_least_and_never_unknown_ones():
    value = np.array([[0.1, -0.5, np.nan], [0.9, 0.0, 0.4]])
    p = np.array([[0.5, 1e-4, np.nan], [0.2, 0.5, 1e-4]])
    ids = {"sources": np.array([8, 9]), "columns": np.array([20, 30, 40])}
    estimate = Estimate(value, np.abs(value) + 0.1, np.ones(1), np.ones(1), "held-out", "correct", p=p, **ids)
    pairs = evident_pairs(estimate, n_pairs=4)
    expected = [(8, 30, -0.5), (9, 40, 0.4), (9, 20, 0.9), (8, 20, 0.1)]
    assert [(pair.source, pair.target, pair.value) for pair in pairs] == expected
    assert [pair.se for pair in pairs] == [abs(pair.value) + 0.1 for pair in pairs]
    # Benjamini-Hochberg by hand: five p-values, N p / rank, and never above that of a larger p.
    assert [pair.q for pair in pairs] == pytest.approx([2.5e-4, 2.5e-4, 1 / 3, 0.5])
    assert len(evident_pairs(estimate, n_pairs=99)) == 5

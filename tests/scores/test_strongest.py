"""What is kept of a matrix that is never held is what the whole matrix would have shown.

Values, errors and p-values must be those of `influence` for every pair kept; each column's and each source's strongest must be
there, and every pair that Benjamini and Hochberg would find over all pairs; q-values must be theirs to the 0.12% that counting
costs. None of that may hang on the sizes of tiles and blocks, or on how many models ride in one product.
"""

import numpy as np
import pytest

import infl
from infl.records import InputError, OutcomeKind, Outcomes
from infl.scores import influence, strongest, tiles
from infl.training.subsets import Design, draw_masks

DESIGNS = {
    "uniform": Design("uniform", 0.7),
    "balanced": Design("balanced", 0.7),
    "range": Design("uniform", (0.5, 0.9)),
}


def planted(design, *, n_models=400, n=40, m=30, seed=0):
    """Outcomes with some strong pairs, memorized examples, columns near 1 and one that is always right."""
    rng = np.random.RandomState(seed)
    masks = draw_masks(design, range(n_models), n_train=n, seed=seed)
    effect = np.where(rng.rand(n, n + m) < 0.03, rng.uniform(0.2, 0.5, (n, n + m)), 0.0)
    rate = np.r_[rng.uniform(0.2, 0.6, n + m - 12), np.full(11, 0.985), 1.0]
    correct = rng.rand(n_models, n + m) < rate + (masks - 0.7) @ effect
    correct[:, :n] |= masks & (rng.rand(n_models, n) < 0.5)
    strata = None if design.period == 1 else np.arange(n_models) // design.period
    return Outcomes(masks, correct, margin=correct + 0.3 * rng.randn(n_models, n + m), strata=strata)


def whole(outcomes, outcome: OutcomeKind = "correct"):
    """Value, error and p-value of all pairs, [n, n + m]."""
    parts = [infl.influence(outcomes, protocol=protocol, outcome=outcome) for protocol in ("left-out", "held-out")]
    return [np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("value", "se", "p")]


@pytest.mark.parametrize("outcome", ["correct", "margin"])
@pytest.mark.parametrize("kind", DESIGNS)
def test_what_is_kept_is_what_the_whole_matrix_shows(kind, outcome: OutcomeKind):
    outcomes = planted(DESIGNS[kind])
    value, se, p = whole(outcomes, outcome)
    q = infl.q_values(p)
    found = infl.strongest_influences(outcomes, outcome=outcome, n_per_column=3, n_per_source=2)
    at = found.source, found.target
    np.testing.assert_allclose(found.value, value[at], atol=1e-5)
    np.testing.assert_allclose(found.se, se[at], rtol=1e-4)
    np.testing.assert_allclose(found.p, p[at], rtol=1e-3)
    assert found.n_pairs == np.isfinite(p).sum()
    assert found.complete
    evident = found.p <= 0.005
    ratio = found.q[evident] / q[at][evident]
    assert ratio.min() > 1 - 1e-3
    assert ratio.max() < 1.002
    kept = set(zip(found.source.tolist(), found.target.tolist(), strict=True))
    assert len(kept) == len(found)
    wanted = set(map(tuple, np.argwhere(q <= 0.05).tolist()))
    assert len(wanted) > 20
    assert wanted <= kept
    largest = np.sort(np.nan_to_num(np.abs(value)), axis=0)[-3:]
    for column in range(70):
        of_column = np.sort(np.abs(found.value[found.target == column]))[-3:]
        np.testing.assert_allclose(of_column, largest[:, column], atol=1e-5)
    sure = np.where(p <= 0.01, np.abs(value), 0.0)
    for source in range(40):
        n_sure = min(2, (sure[source] > 0).sum())
        theirs = np.sort(np.abs(found.value[(found.source == source) & (found.p <= 0.01)]))[::-1]
        np.testing.assert_allclose(theirs[:n_sure], np.sort(sure[source])[::-1][:n_sure], atol=1e-5)


@pytest.mark.parametrize("kind", DESIGNS)
def test_sizes_of_tiles_and_blocks_do_not_matter(kind, monkeypatch):
    outcomes = planted(DESIGNS[kind])
    before = infl.strongest_influences(outcomes, n_per_column=2)
    monkeypatch.setattr(strongest, "TILES_AT_ONCE", 2)
    monkeypatch.setattr(tiles, "ROWS_AT_ONCE", 14)
    monkeypatch.setattr(tiles, "MODELS_AT_ONCE", 33)
    monkeypatch.setattr(tiles, "COLUMNS_AT_ONCE", 9)
    monkeypatch.setattr(influence, "PAIRS_AT_ONCE", 40 * 7)
    after = infl.strongest_influences(outcomes, n_per_column=2)
    told = np.abs(before.value) > 1e-5  # in the column that is always right all are zero, and rounding ranks them
    assert (~told).sum() <= 2
    assert (np.abs(after.value[~told]) < 1e-5).all()
    for name in ("source", "target"):
        np.testing.assert_array_equal(getattr(before, name)[told], getattr(after, name)[told])
    for name in ("value", "se", "p", "q"):
        np.testing.assert_allclose(getattr(before, name)[told], getattr(after, name)[told], rtol=2e-3, atol=1e-6)


def test_counts_stay_exact_with_many_models():
    """12,000 models are 375 words of bits; some 5,100 of them trained on both of a pair."""
    outcomes = planted(DESIGNS["uniform"], n_models=12_000, n=12, m=3)
    estimate = infl.influence(outcomes, protocol="trained")
    found = infl.strongest_influences(outcomes, n_per_column=12, protocols=["trained"])
    assert len(found) == 12 * 11
    assert estimate.p is not None
    np.testing.assert_allclose(found.value, estimate.value[found.source, found.target], atol=2e-6)
    np.testing.assert_allclose(found.p, estimate.p[found.source, found.target], rtol=1e-4)


def test_where_more_is_found_than_kept_it_says_so(monkeypatch):
    outcomes = planted(DESIGNS["uniform"])
    monkeypatch.setattr(strongest, "MAX_EVIDENT_PAIRS", 10)
    found = infl.strongest_influences(outcomes, n_per_column=1, n_per_source=0)
    assert not found.complete
    assert found.n_pairs == 40 * 39 + 40 * 30


@pytest.mark.parametrize("protocol", ["left-out", "trained", "held-out"])
@pytest.mark.parametrize("n_models", [8, 20, 64, 3001])
def test_pairs_without_an_estimate_take_no_place_of_those_with_one(n_models, protocol):
    """With few models a side may hold one or none, and an example has no influence on itself: no error, no place."""
    outcomes = planted(DESIGNS["uniform"], n_models=n_models, n=60, m=5)
    estimate = infl.influence(outcomes, protocol=protocol)
    assert estimate.p is not None
    value = np.where(np.isfinite(estimate.p), np.abs(estimate.value), -1.0)
    found = infl.strongest_influences(outcomes, protocols=[protocol], n_per_column=5, n_per_source=0)
    columns = found.target - (60 if protocol == "held-out" else 0)
    for column in range(value.shape[1]):
        there = np.sort(value[:, column][value[:, column] >= 0])[::-1]
        got = np.sort(np.abs(found.value[columns == column]))[::-1]
        assert len(got) >= min(5, len(there))
        np.testing.assert_allclose(got[:5], there[:5], atol=1e-5)


def test_the_strongest_of_many_are_the_strongest():
    """A sample of the values bounds the rest; where it misleads, all are ordered."""
    rng = np.random.RandomState(0)
    for given in (rng.rand(5000), np.zeros(5000), np.r_[np.zeros(4990), np.ones(10)], np.arange(5000.0)):
        values = given.astype(np.float32)
        np.testing.assert_array_equal(values[strongest._largest(values, 20)], np.sort(values)[::-1][:20])


@pytest.mark.parametrize("protocols", [["left-out"], ["held-out"], ["trained"]])
def test_each_reading_alone(protocols):
    outcomes = planted(DESIGNS["uniform"])
    estimate = infl.influence(outcomes, protocol=protocols[0])
    found = infl.strongest_influences(outcomes, protocols=protocols)
    target = found.target - (40 if protocols == ["held-out"] else 0)
    np.testing.assert_allclose(found.value, estimate.value[found.source, target], atol=1e-5)
    assert found.n_pairs == np.isfinite(estimate.value).sum()


def test_shuffled_masks_find_nothing_in_nearly_all_of_them():
    """20 shuffles at a false discovery rate of 0.05: one at most, but for a chance of 0.08 in 2 and 0.003 in 4."""
    n_found = 0
    for seed in range(20):
        outcomes = planted(DESIGNS["balanced"], seed=seed)
        rng = np.random.RandomState(seed)
        order = rng.permutation(outcomes.n_models)
        shuffled = Outcomes(outcomes.masks, outcomes.of("correct")[order] > 0)
        n_found += infl.strongest_influences(shuffled, n_per_column=1).largest_p > 0
    assert n_found < 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_per_column": 0}, "1 pair a column"),
        ({"n_per_source": -1}, "0 a source"),
        ({"false_discovery_rate": 1.0}, "false discovery rate"),
        ({"protocols": []}, "at least one protocol"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(InputError, match=message):
        infl.strongest_influences(planted(DESIGNS["uniform"]), **arguments)


def test_no_models_and_no_columns_are_named():
    outcomes = planted(DESIGNS["uniform"])
    with pytest.raises(InputError, match="no models"):
        infl.strongest_influences(Outcomes(outcomes.masks[:0], outcomes.of("correct")[:0] > 0))
    with pytest.raises(InputError, match="no such columns"):
        infl.strongest_influences(Outcomes(outcomes.masks, outcomes.of("correct")[:, :40] > 0), protocols=["held-out"])

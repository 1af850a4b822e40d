"""Evidence must be what it says: intervals cover, p-values are tails, q-values bound the false discoveries.

Coverage is summed exactly over all outcomes of two binomials. p-values of subsets of one size are tails of the hypergeometric
distribution, SciPy's here, also far out, where normal tails are wrong by orders of magnitude; those over a range of sizes
are held to masks drawn anew. q-values are SciPy's, from counts never smaller. Where masks are shuffled against
outcomes p-values must not be smaller than they may be by chance.
"""

import itertools
from functools import cache

import numpy as np
import pytest
from scipy import stats

import infl
from infl.records import Estimate, Outcomes
from infl.scores.evidence import PValueCounts, joint_q_values, p_values
from infl.training.subsets import Design, draw_masks


def counted_estimate(n_in, n_out, right_in, right_out):
    """Of example 0: so many models with it and without it, so many of them right; all of one size."""
    n_models, n = n_in + n_out, 10
    is_in = np.arange(n_models) < n_in
    size = round(n * n_in / n_models)
    others = np.random.RandomState(0).rand(n_models, n - 1).argsort(axis=1) < (size - is_in)[:, None]
    right = np.r_[np.arange(n_in) < right_in, np.arange(n_out) < right_out][:, None]
    return infl.influence(Outcomes(np.c_[is_in, others], np.c_[is_in, others, right]))


def p_of(estimate):
    assert estimate.p is not None
    return estimate.p


def estimate_of_shares(right_in, n_in, right_out, n_out, *, variance_factor=1.0):
    """Of any number of pairs, independent models."""
    plus = [((right + 1) / (n + 2), n + 2) for right, n in ((right_in, n_in), (right_out, n_out))]
    se = np.sqrt(variance_factor * sum(p * (1 - p) / n for p, n in plus))
    share_out = np.broadcast_to(right_out / n_out, se.shape)
    counts = np.asarray(float(n_in)), np.asarray(float(n_out))
    return Estimate(right_in / n_in - share_out, se, *counts, "held-out", "correct", mean_out=share_out)


@cache
def intervals(n_in, n_out):
    """Of all outcomes of two binomials: numbers of right models in and out, low and high ends."""
    a, b = np.arange(n_in + 1)[:, None], np.arange(n_out + 1)[None, :]
    low, high = infl.interval(estimate_of_shares(a, n_in, b, n_out))
    assert ((low >= -1) & (low <= high) & (high <= 1)).all()
    return a, b, low, high


def coverage_of_intervals(n_in, n_out, p_in, p_out):
    """Summed over all outcomes of two binomials."""
    a, b, low, high = intervals(n_in, n_out)
    chance = stats.binom.pmf(a, n_in, p_in) * stats.binom.pmf(b, n_out, p_out)
    return (chance * ((low <= p_in - p_out) & (p_in - p_out <= high))).sum()


@pytest.mark.parametrize(("n_in", "n_out"), [(50, 50), (70, 30), (350, 150)])
def test_intervals_cover_over_all_outcomes_of_two_binomials(n_in, n_out):
    """About 95% on average, and nowhere far less: outcomes are few there, and either many intervals hold or too few."""
    shares = (0.001, 0.02, 0.1, 0.3, 0.5, 0.8, 0.97, 0.999)
    coverages = [coverage_of_intervals(n_in, n_out, *pair) for pair in itertools.product(shares, repeat=2)]
    assert min(coverages) > 0.9
    assert np.quantile(coverages, 0.05) > 0.93
    assert 0.945 < np.mean(coverages) < 0.96


def test_intervals_are_not_too_wide_where_nearly_all_models_are_right():
    """The interval of Agresti & Caffo (2000), one success and one failure added to each side, holds 97.8% of these."""
    shares = (0.97, 0.98, 0.99, 0.997)
    coverages = [coverage_of_intervals(350, 150, *pair) for pair in itertools.product(shares, repeat=2)]
    assert 0.945 < np.mean(coverages) < 0.96


def test_an_interval_is_made_from_those_of_its_two_shares():
    """SciPy's beta distribution, pair by pair."""
    for right_in, right_out, level in [(70, 30, 0.95), (69, 22, 0.95), (0, 30, 0.9), (31, 12, 0.5)]:
        tails = [(1 - level) / 2, (1 + level) / 2]
        (l1, u1), (l0, u0) = (stats.beta(x + 0.5, n - x + 0.5).ppf(tails) for x, n in ((right_in, 70), (right_out, 30)))
        l1, l0 = (0.0 if x == 0 else low for x, low in ((right_in, l1), (right_out, l0)))
        u1, u0 = (1.0 if x == n else high for x, n, high in ((right_in, 70, u1), (right_out, 30, u0)))
        p1, p0 = right_in / 70, right_out / 30
        low, high = infl.interval(counted_estimate(70, 30, right_in, right_out), level=level)
        assert low[0, 0] == pytest.approx(p1 - p0 - np.sqrt((p1 - l1) ** 2 + (u0 - p0) ** 2), abs=1e-9)
        assert high[0, 0] == pytest.approx(p1 - p0 + np.sqrt((u1 - p1) ** 2 + (p0 - l0) ** 2), abs=1e-9)


def test_twice_the_variance_is_half_of_the_models():
    """What the design does to the error it does to the interval; the error's two added outcomes matter little by then."""
    twice = infl.interval(estimate_of_shares(np.array([980.0]), 1400, np.array([590.0]), 600, variance_factor=2.0))
    half = infl.interval(estimate_of_shares(np.array([490.0]), 700, np.array([295.0]), 300))
    np.testing.assert_allclose(twice, half, atol=1e-3)
    whole = infl.interval(estimate_of_shares(np.array([980.0]), 1400, np.array([590.0]), 600))
    assert twice[1] - twice[0] > 1.3 * (whole[1] - whole[0])


def test_an_interval_where_all_outcomes_of_both_sides_agree_has_a_width():
    estimate = counted_estimate(70, 30, 70, 0)
    low, high = infl.interval(estimate)
    assert estimate.value[0, 0] == 1.0
    assert 0 < estimate.se[0, 0] < 0.05
    assert 0.88 < low[0, 0] < 0.95
    assert high[0, 0] == 1.0


def test_intervals_of_margins_are_value_and_error():
    """By the quantile of Student's distribution with the degrees of freedom of a Welch test."""
    masks = draw_masks(Design("uniform", 0.6), range(40), n_train=10, seed=0)
    margin = np.random.RandomState(0).randn(40, 15)
    estimate = infl.influence(Outcomes(masks, margin=margin), outcome="margin")
    low, high = infl.interval(estimate, level=0.8)
    reach = stats.t(estimate.df).ppf(0.9) * estimate.se
    np.testing.assert_allclose(high - estimate.value, reach)
    np.testing.assert_allclose(estimate.value - low, reach)
    assert (p_of(estimate) >= 0.999 * 2 * stats.t(estimate.df).sf(np.abs(estimate.value / estimate.se))).all()


@pytest.mark.parametrize("n_models", [30, 512, 4000])
def test_p_values_at_one_size_are_hypergeometric_tails(n_models):
    """Within -15% and +6%, over all tables with tails down to 1e-200, a single wrong model and edges of the table too."""
    for share, right in itertools.product((0.3, 0.5, 0.7, 0.95), (1, 2, 5, n_models // 3, n_models - 5, n_models - 2)):
        n_in = int(share * n_models)
        right_in = np.arange(max(0, right + n_in - n_models), min(right, n_in) + 1)
        null = stats.hypergeom(n_models, right, n_in)
        exact = np.minimum(2 * np.minimum(null.sf(right_in - 1), null.cdf(right_in)), 1)
        n_out = np.full(len(right_in), n_models - n_in)
        p = p_values(np.full(len(right_in), n_in), right_in, n_out, right - right_in)
        told = (exact > 1e-200) & (exact < 0.5)
        assert (p[told] > 0.85 * exact[told]).all()
        assert (p[told] < 1.06 * exact[told]).all()


@pytest.mark.slow
@pytest.mark.parametrize(("n_models", "rate", "least"), [(300, 0.8, 0.85), (500, 0.5, 0.85), (1000, 0.985, 0.15)])
def test_p_values_over_a_range_of_sizes_are_those_of_masks_drawn_anew(n_models, rate, least):
    """Outcomes that hang on the size, 100,000 draws of inclusion: as many p-values up to a level as it says.

    With a handful of wrong models there are fewer.
    """
    rng = np.random.RandomState(0)
    shares = rng.uniform(0.5, 0.95, n_models)
    outcome = (rng.rand(n_models) < rate + 0.5 * (shares - 0.72) * min(rate, 1 - rate))[:, None]
    members = rng.rand(n_models, 100_000) < shares[:, None]
    sides = [(1 - shares)[:, None] * members, shares[:, None] * ~members]
    n = [w.sum(0) ** 2 / (w * w).sum(0) for w in sides]
    right = [n_side * (w * outcome).sum(0) / w.sum(0) for n_side, w in zip(n, sides, strict=True)]
    p = p_values(n[0], right[0], n[1], right[1], step=0.0)
    for level in (0.05, 0.01, 0.001):
        share, error = (p <= level).mean(), np.sqrt(level / len(p))
        assert least * level - 4 * error < share < 1.05 * level + 4 * error


def test_the_estimate_carries_the_p_value_of_its_counts():
    estimate = counted_estimate(70, 30, 66, 20)
    null = stats.hypergeom(100, 86, 70)
    assert p_of(estimate)[0, 0] == pytest.approx(2 * null.sf(65), rel=0.1)


def test_where_all_outcomes_are_equal_there_is_no_evidence():
    rng = np.random.RandomState(0)
    masks = rng.rand(30, 5) < 0.5
    for level in (False, True):
        estimate = infl.influence(Outcomes(masks, np.full((30, 8), level)))
        np.testing.assert_allclose(estimate.value, 0.0, atol=1e-6)
        np.testing.assert_array_equal(p_of(estimate), 1.0)
        assert (estimate.se > 0).all()


def test_an_example_that_is_always_in_or_never_has_no_p_value():
    masks = np.random.RandomState(0).rand(30, 5) < 0.5
    masks[:, 3], masks[:, 4] = True, False
    for estimate in (
        infl.memorization(Outcomes(masks, masks)),
        infl.influence(Outcomes(masks, np.c_[masks, masks[:, :2]])),
    ):
        assert np.isnan(p_of(estimate)[3:]).all()
        assert np.isfinite(p_of(estimate)[:3]).all()


@pytest.mark.parametrize("protocol", ["held-out", "left-out"])
def test_shuffled_masks_make_no_small_p_values(protocol):
    """Outcomes of very different rates, one run's masks against another's outcomes: at most as many as chance makes."""
    rng = np.random.RandomState(1)
    masks = draw_masks(Design("uniform", 0.7), range(300), n_train=60, seed=0)
    rates = np.r_[np.full(100, 0.99), np.full(100, 0.9), rng.uniform(0.02, 0.8, 160)]
    outcomes = Outcomes(masks, rng.rand(300, 360) < rates)
    p = p_of(infl.influence(outcomes, protocol=protocol))
    p = p[np.isfinite(p)]
    for level in (0.1, 0.01, 0.001):
        assert (p <= level).mean() < 1.1 * level + 4 * np.sqrt(level / len(p))


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_q_values_are_those_of_scipy_over_what_has_a_p_value(axis):
    """Over all of them, or along an axis, column by column."""
    p = np.random.RandomState(0).beta(0.3, 1, size=(40, 7)).round(2)  # with ties
    p[5] = np.nan
    p[3:, 2] = np.nan
    q = infl.q_values(p, axis=axis)
    families = [(p, q)] if axis is None else zip(np.moveaxis(p, axis, -1), np.moveaxis(q, axis, -1), strict=True)
    for of_one, mine in families:
        known = np.isfinite(of_one)
        np.testing.assert_array_equal(np.isnan(mine), ~known)
        if known.any():
            np.testing.assert_allclose(mine[known], stats.false_discovery_control(of_one[known]), rtol=1e-12)


def test_q_values_of_two_protocols_are_over_both():
    random = np.random.RandomState(0)
    masks = random.rand(60, 12) < 0.6
    outcomes = Outcomes(masks, random.rand(60, 32) < 0.7)
    left_out, held_out = (infl.influence(outcomes, protocol=protocol) for protocol in ("left-out", "held-out"))
    q, p = joint_q_values(left_out, held_out), np.concatenate([p_of(left_out), p_of(held_out)], axis=1)
    assert np.isnan(np.diagonal(q)).all()
    known = np.isfinite(p)
    np.testing.assert_allclose(q[known], stats.false_discovery_control(p[known]))


def test_counted_q_values_are_those_of_all_and_never_below():
    rng = np.random.RandomState(0)
    p = np.concatenate([rng.rand(20_000), 10.0 ** -rng.uniform(2, 290, 300), [0.0, 1.0, 1.0, np.nan]])
    counts = PValueCounts.of([p[:77], p[77:9000]]) + PValueCounts.of([p[9000:]])
    assert counts.total == len(p) - 1
    known = np.isfinite(p)
    exact, q = stats.false_discovery_control(p[known]), counts.q_values(p)
    assert np.isnan(q[~known]).all()
    positive = p[known] > 0
    ratio = q[known][positive] / exact[positive]
    assert ratio.min() >= 1 - 1e-9
    assert ratio.max() < 1.0012
    cut = counts.largest_p(0.05)
    np.testing.assert_array_equal(p[known] <= cut * (1 + 1e-9), q[known] <= 0.05)
    assert PValueCounts.of([np.array([0.5, 0.9])]).largest_p(0.05) == 0.0


def test_discoveries_are_false_no_more_often_than_said():
    """50 matrices with 8% planted effects, q <= 0.1: the share of false ones, averaged, is at most 0.1 (92% are null)."""
    rng = np.random.RandomState(2)
    false, power = [], []
    for run in range(50):
        masks = draw_masks(Design("balanced", 0.7), range(200), n_train=40, seed=run)
        planted = rng.rand(40, 50) < 0.08
        effect = np.where(planted, 0.35, 0.0)
        correct = rng.rand(200, 50) < 0.3 + (masks - 0.7) @ effect
        outcomes = Outcomes(masks, np.c_[masks, correct], strata=np.arange(200) // 10)
        found = infl.q_values(p_of(infl.influence(outcomes))) <= 0.1
        false.append((found & ~planted).sum() / max(found.sum(), 1))
        power.append((found & planted).sum() / planted.sum())
    assert np.mean(false) < 0.1 + 3 * np.std(false) / np.sqrt(50)
    assert np.mean(power) > 0.5

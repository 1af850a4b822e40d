"""Shrunk scores are the posterior of their model, and where that model made the matrix they are calibrated.

The posterior has a closed form per component; a sum over a fine grid of true values, kept here, must give the same mean,
deviation, interval and sign rate. Where true scores are drawn from a known mixture, EM must find it, 95% of the intervals
must hold the truth, and the sign rates must be the rate of wrong signs: Bayes' rule promises both for whatever is selected
on the estimates. Where there is nothing, nothing may be left. All of it pair by pair, so that blocks of any size give the same.
"""

import dataclasses

import numpy as np
import pytest
from scipy import stats

import infl
from infl.records import Estimate, Outcomes
from infl.scores.shrinkage import Prior, Shrunk, fit_prior, shrink
from infl.scores.shrunk_influence import shrunk_influence, shrunk_influence_blocks
from infl.scores.surrogate import fit_surrogate

TWO_STRATA = Prior(np.array([0.0, 0.03, 0.2]), np.array([[0.7, 0.2, 0.1], [0.1, 0.4, 0.5]]), 1.5, np.array([0.05]))


def of(value, se):
    value = np.asarray(value, float)
    return Estimate(value, np.broadcast_to(se, value.shape), np.ones(1), np.ones(1), "own", "correct")


def integrate(value, se, x, prior, level):
    """Mean, deviation, interval and sign rate of one posterior, from probabilities on a grid of a point and 100,001 cells."""
    weights = prior.weights[int((x > prior.edges).sum())]
    theta, step = np.linspace(-2, 2, 100_001, retstep=True)
    parts = zip(weights[1:], prior.scales[1:], strict=True)
    prior_density = sum((w * stats.norm.pdf(theta, prior.slope * x, s) for w, s in parts), start=np.zeros(len(theta)))
    mass = prior_density * step * stats.norm.pdf(value, theta, se)
    zero = len(theta) // 2
    mass[zero] += weights[0] * stats.norm.pdf(value, 0, se)
    mass /= mass.sum()
    mean = (mass * theta).sum()
    low, high = (theta[np.searchsorted(mass.cumsum(), tail)] for tail in ((1 - level) / 2, (1 + level) / 2))
    sign_rate = min(mass[: zero + 1].sum(), mass[zero:].sum())
    return mean, np.sqrt((mass * (theta - mean) ** 2).sum()), low, high, sign_rate


def test_the_posterior_is_that_of_numerical_integration():
    cases = [
        (value, se, x)
        for value in (-0.4, -0.06, 0.0, 0.01, 0.1, 0.6)
        for se in (0.01, 0.05, 0.3)
        for x in (-0.1, 0.05, 0.12)
    ]
    value, se, x = np.array(cases).T
    shrunk = shrink(of(value, se), TWO_STRATA, x, level=0.8)
    expected = np.array([integrate(*case, TWO_STRATA, 0.8) for case in cases])
    got = np.stack([getattr(shrunk, field.name) for field in dataclasses.fields(Shrunk)], axis=1)
    np.testing.assert_allclose(got, expected, atol=2e-4)


def simulate(n=200_000, slope=2.0, seed=0):
    """Truth from the model: most pairs beyond the 6% at either end of a covariate are not zero, few others; unequal errors."""
    rng = np.random.RandomState(seed)
    x = 0.02 * rng.standard_t(3, n)
    likely = (x <= np.quantile(x, 0.06)) | (x > np.quantile(x, 0.94))
    null = rng.rand(n) < np.where(likely, 0.4, 0.95)
    truth = np.where(null, 0, slope * x + 0.05 * rng.randn(n))
    se = rng.choice([0.02, 0.04, 0.06], n)
    return truth, truth + se * rng.randn(n), se, x


def test_em_recovers_a_mixture_on_its_grid():
    """Half, three tenths and two tenths at 0, 1 and 8 errors: the shares by rough size are found within 2%.

    20,000 pairs are drawn of each stratum. They tell scales that differ by a factor of 8 apart; neighbours on the grid they
    do not, so those are summed. The variance of so many true scores has a standard error of 8.5e-4: four of them.
    """
    rng = np.random.RandomState(0)
    scale = rng.choice([0.0, 0.05, 0.4], 200_000, p=[0.5, 0.3, 0.2])
    value = scale * rng.randn(len(scale)) + 0.025 * rng.randn(len(scale))
    prior = fit_prior(value, np.full(len(value), 0.025))
    assert prior.weights[0, prior.scales < 0.03].sum() == pytest.approx(0.5, abs=0.02)
    assert prior.weights[0, (prior.scales > 0.03) & (prior.scales < 0.15)].sum() == pytest.approx(0.3, abs=0.02)
    assert prior.weights[0, prior.scales > 0.15].sum() == pytest.approx(0.2, abs=0.02)
    assert prior.weights.sum() == pytest.approx(1)
    variance = (prior.weights * prior.scales**2).sum()
    assert variance == pytest.approx(0.3 * 0.05**2 + 0.2 * 0.4**2, abs=4 * 8.5e-4)


@pytest.mark.parametrize("slope", [pytest.param(2.0, marks=pytest.mark.slow), 0.0])
def test_intervals_cover_and_sign_rates_are_those_realised(slope):
    """Overall, and among the pairs picked by their estimates; and the mean square error is what the posterior states."""
    truth, value, se, x = simulate(slope=slope)
    prior = fit_prior(value, se, x, centred=slope > 0)
    shrunk = shrink(of(value, se), prior, x)
    held = (shrunk.low <= truth) & (truth <= shrunk.high)
    # Intervals that end at the point hold more than their level; a mass at zero cannot be split.
    assert 0.95 < held.mean() < 0.995
    top = np.abs(value) > 0.15
    assert top.sum() > 1000
    assert 0.93 < held[top].mean() < 0.97
    wrong = np.sign(truth) != np.sign(shrunk.value)
    for lowest, highest in ((0, 0.05), (0.05, 0.2), (0.2, 0.5)):
        called = (shrunk.sign_rate > lowest) & (shrunk.sign_rate <= highest)
        assert called.sum() > 1000
        assert wrong[called].mean() == pytest.approx(shrunk.sign_rate[called].mean(), abs=0.03)
    error = np.mean((shrunk.value - truth) ** 2)
    assert error == pytest.approx(np.mean(shrunk.se**2), rel=0.06)
    assert error < 0.2 * np.mean((value - truth) ** 2)


@pytest.mark.slow
def test_a_covariate_that_knows_helps_and_one_that_does_not_changes_nothing():
    truth, value, se, x = simulate(60_000)
    noise = np.random.RandomState(1).randn(len(x))

    def error(covariate, centred):
        prior = fit_prior(value, se, covariate, centred=centred)
        return np.mean((shrink(of(value, se), prior, covariate).value - truth) ** 2)

    alone, bins, centre, useless = error(None, False), error(x, False), error(x, True), error(noise, True)
    assert centre < 0.95 * bins < 0.95 * 0.8 * alone
    assert useless == pytest.approx(alone, rel=0.02)
    assert fit_prior(value, se, x, centred=True).slope == pytest.approx(2, rel=0.06)


def test_of_pure_noise_nothing_is_left():
    """Masks of one run against outcomes of another: all mass at zero, and no sign is called."""
    rng = np.random.RandomState(3)
    masks = rng.rand(300, 60) < 0.7
    outcomes = Outcomes(masks, rng.rand(300, 160) < rng.uniform(0.3, 0.9, 160))
    estimate, shrunk = shrunk_influence(outcomes)
    assert fit_prior(estimate.value, estimate.se).null_weights.mean() > 0.9
    assert np.sqrt(np.mean(shrunk.value**2)) < 0.1 * np.sqrt(np.mean(estimate.value**2))
    assert (shrunk.sign_rate > 0.05).all()


def test_a_few_pairs_of_noise_count_as_zero():
    """Sixty pairs cannot tell zero from a small scale; what they leave open counts as zero, in every one of 20 draws."""
    draws = (np.random.RandomState(seed).randn(60) for seed in range(20))
    assert min(fit_prior(value, np.ones(60)).null_weights[0] for value in draws) > 0.95


@pytest.mark.parametrize(("seed", "with_margins"), [(6, False), pytest.param(7, True, marks=pytest.mark.slow)])
def test_wrong_covariates_cannot_smuggle_influence_in(taught, seed, with_margins):
    """With masks shuffled against outcomes the surrogate still knows who should teach whom, and the models say: nobody.

    Where there are margins, it is refitted to subsets that have nothing to do with them.
    """
    outcomes, surrogate = taught
    masks = np.random.RandomState(seed).permutation(outcomes.masks)
    shuffled = Outcomes(masks, outcomes.correct, outcomes.margin if with_margins else None)
    estimate, shrunk = shrunk_influence(shuffled, surrogate=surrogate)
    assert np.sqrt(np.mean(shrunk.value**2)) < 0.15 * np.sqrt(np.mean(estimate.value**2))
    assert (shrunk.sign_rate > 0.05).all()


@pytest.mark.slow
def test_what_the_rest_of_a_subset_teaches_is_taken_off(taught, monkeypatch):
    """Margins that are the surrogate's but for noise of the same size: told of subsets, it leaves less of the squared error.

    It is compared with the same surrogate whose margins are those of other subsets; truth is what 6,000 models say.
    """
    surrogate, rng = taught[1], np.random.RandomState(8)
    masks = rng.rand(6400, 40) < 0.7
    margins = np.stack([surrogate.margins(np.flatnonzero(~mask)) for mask in masks])
    margins = margins + margins.std(axis=0) * rng.randn(*margins.shape)
    first, rest = slice(0, 400), slice(400, None)
    models, others = (Outcomes(masks[k], margins[k] > 0, margins[k].astype(np.float32)) for k in (first, rest))
    truth = infl.influence(others).value
    told = shrunk_influence(models, surrogate=surrogate)[1]
    refit = type(surrogate).margins
    monkeypatch.setattr(type(surrogate), "margins", lambda self, left_out: refit(self, (left_out + 13) % 40))
    untold = shrunk_influence(models, surrogate=surrogate)[1]
    assert np.mean((told.value - truth) ** 2) < 0.7 * np.mean((untold.value - truth) ** 2)


def test_fewer_models_than_folds_do_without_a_control_variate(taught):
    outcomes, surrogate = taught
    few = Outcomes(outcomes.masks[:12], outcomes.correct[:12], outcomes.margin[:12])
    _, shrunk = shrunk_influence(few, surrogate=surrogate)
    assert np.isfinite(shrunk.value[:, (few.masks.sum(axis=0).min() > 1)]).any()


@pytest.fixture(scope="module")
def taught():
    """Models whose outcomes depend on a few examples, on data that a surrogate can be fitted to."""
    rng = np.random.RandomState(4)
    n, m = 40, 25
    labels = np.arange(n + m) % 3
    x = (rng.randn(n + m, 4) + 1.5 * np.eye(3, 4)[labels]).astype(np.float32)
    masks = rng.rand(500, n) < 0.7
    chance = 0.5 + 0.4 * masks[:, [7]] * (labels == 1) * np.ones((1, n + m))
    correct = rng.rand(500, n + m) < chance
    outcomes = Outcomes(masks, correct, (4 * chance - 2 + rng.randn(*chance.shape)).astype(np.float32))
    return outcomes, fit_surrogate(x, labels, n_train=n, n_classes=3)


@pytest.mark.parametrize(
    ("protocol", "outcome", "with_surrogate"),
    [
        ("held-out", "correct", True),
        ("left-out", "correct", True),
        ("trained", "margin", True),
        ("held-out", "margin", False),
    ],
)
def test_blocks_of_any_width_give_the_same(taught, protocol, outcome, with_surrogate, monkeypatch):
    settings = {"protocol": protocol, "outcome": outcome, "surrogate": taught[1] if with_surrogate else None}
    outcomes = Outcomes(taught[0].masks[:99], taught[0].correct[:99], taught[0].margin[:99])
    estimate, whole = shrunk_influence(outcomes, **settings)
    monkeypatch.setattr("infl.scores.shrunk_influence.MAX_HELD_PAIRS", 0)  # the surrogate is asked block by block too
    parts = [shrunk for _, shrunk in shrunk_influence_blocks(outcomes, **settings, n_columns=7)]
    for field in dataclasses.fields(Shrunk):
        joined = np.concatenate([getattr(part, field.name) for part in parts], axis=1)
        np.testing.assert_allclose(joined, getattr(whole, field.name), atol=1e-4)
    raw = infl.influence(outcomes, protocol=protocol, outcome=outcome)
    np.testing.assert_array_equal(estimate.value, raw.value)
    np.testing.assert_array_equal(np.isnan(whole.value), np.isnan(raw.value) | np.isnan(raw.se))


def test_the_number_of_pairs_at_once_does_not_matter(monkeypatch):
    _, value, se, x = simulate(1000)
    whole = shrink(of(value, se), TWO_STRATA, x)
    monkeypatch.setattr("infl.scores.shrinkage.PAIRS_AT_ONCE", 7)
    small = shrink(of(value, se), TWO_STRATA, x)
    for field in dataclasses.fields(Shrunk):
        np.testing.assert_allclose(getattr(small, field.name), getattr(whole, field.name), atol=1e-12)


def test_planted_influence_survives(taught):
    """Example 7 lifts every held-out example of class 1 from 0.5 to 0.9, and nothing else does."""
    _, shrunk = shrunk_influence(taught[0], surrogate=taught[1])
    lifted = (np.arange(40, 65) % 3) == 1
    np.testing.assert_allclose(shrunk.value[7, lifted], 0.4, atol=0.12)
    assert (shrunk.sign_rate[7, lifted] < 0.01).all()
    rest = np.delete(shrunk.value, 7, axis=0)
    assert np.sqrt(np.mean(rest**2)) < 0.02


def test_what_is_not_known_stays_so():
    """NaN in, NaN out, in all fields; an error of zero is certain, and a value far from all that the prior holds a number."""
    value, se = np.array([np.nan, 0.1, 0.1, 0.3, 0.0, 5.0, -300.0]), np.array([0.1, np.nan, 0.1, 0.0, 0.0, 1e-3, 1e-3])
    shrunk = shrink(of(value, se), TWO_STRATA, np.array([0, 0, np.nan, 0, 0, 0, 0]))
    for array in vars(shrunk).values():
        assert np.isnan(array[:3]).all()
        assert np.isfinite(array[3:]).all()
    assert (shrunk.value[3], shrunk.low[3], shrunk.high[3], shrunk.se[3], shrunk.sign_rate[3]) == (0.3, 0.3, 0.3, 0, 0)
    assert (shrunk.value[4], shrunk.sign_rate[4]) == (0, 1)
    np.testing.assert_allclose(shrunk.sign_rate[5:], 0, atol=1e-12)

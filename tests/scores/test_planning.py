"""Planned models bring a simulated run to the wanted standard error, and stopping there leaves scores unbiased.

Formulas are checked by drawing, or against sums over all binomial outcomes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import infl
from infl.records import Array, Outcomes
from infl.scores.planning import (
    ErrorForecast,
    information_per_model,
    models_for_standard_error,
    next_look,
    root_mean_square,
)
from infl.training.subsets import Design, draw_masks


@pytest.mark.parametrize(("wanted", "fraction"), [(0.05, 0.7), (0.04, 0.5), (0.05, 0.9), (0.05, (0.7, 0.97))])
def test_planned_models_reach_the_standard_error_where_half_of_the_outcomes_are_right(wanted, fraction):
    n_models = models_for_standard_error(wanted, fraction=fraction)
    rng = np.random.RandomState(0)
    kind = "balanced" if isinstance(fraction, float) else "uniform"
    masks = draw_masks(Design(kind, fraction), range(n_models), n_train=200, seed=0)
    outcomes = Outcomes(masks, rng.rand(n_models, 200) < 0.5)
    assert abs(np.median(infl.memorization(outcomes).se) / wanted - 1) < 0.03


def test_information_of_a_range_is_that_of_its_shares():
    shares = np.random.RandomState(0).uniform(0.6, 0.9, 200_000)
    assert information_per_model((0.6, 0.9)) == pytest.approx((shares * (1 - shares)).mean(), rel=2e-3)


# Forecasts


def expected_square(n: int, right: float) -> float:
    """Expected square of the error of a side, by a sum over all its outcomes."""
    x = np.arange(n + 1)
    p = (x + 1) / (n + 2)
    return float(stats.binom.pmf(x, n, right) @ (p * (1 - p) / (n + 2)))


@pytest.mark.parametrize("right", [0.0, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("n_models", [10, 200])
def test_the_expected_square_of_an_error_is_that_of_all_outcomes(right: float, n_models: int) -> None:
    variance = np.array([right * (1 - right)])
    forecast = ErrorForecast(50, 0.6, 0.4, variance, variance, np.ones(1))
    by_hand = expected_square(round(0.6 * n_models), right) + expected_square(round(0.4 * n_models), right)
    assert forecast.standard_errors(n_models) ** 2 == pytest.approx([by_hand], rel=1e-9)


def draw(n_models: int, right: Array, *, seed: int, fraction: float = 0.7) -> Outcomes:
    """Models of a uniform design; right: [2, n], chance to be right without the example and with it."""
    masks = draw_masks(Design("uniform", fraction), range(n_models), n_train=right.shape[1], seed=seed)
    return Outcomes(masks, np.random.RandomState(seed).rand(*masks.shape) < np.where(masks, right[1], right[0]))


def chances(n: int) -> Array:
    """Most examples never wrong, some memorized, some a toss."""
    random = np.random.RandomState(7)
    without = np.where(random.rand(n) < 0.6, 1.0, random.beta(0.8, 0.8, n))
    return np.stack([without, np.maximum(without, random.beta(8, 1, n))])


def test_a_small_pilot_forecasts_the_errors_of_a_large_run_without_bias() -> None:
    right = chances(150)
    forecast = [ErrorForecast.from_outcomes(draw(48, right, seed=seed)).root_mean_square(900) for seed in range(40)]
    reached = [root_mean_square(infl.memorization(draw(900, right, seed=100 + seed)).se) for seed in range(8)]
    assert np.mean(np.square(forecast)) == pytest.approx(np.mean(np.square(reached)), rel=0.03)
    # What errors shrunk as 1/sqrt(models) would say: the error of an example never wrong shrinks faster.
    errors = infl.memorization(draw(48, right, seed=0)).se * np.sqrt(48 / 900)
    assert root_mean_square(errors) > 1.1 * np.mean(reached)


def test_models_for_is_the_fewest_that_do() -> None:
    forecast = ErrorForecast.from_outcomes(draw(200, chances(100), seed=1))
    n_models = forecast.models_for(0.03)
    assert n_models is not None
    assert forecast.root_mean_square(n_models) <= 0.03 < forecast.root_mean_square(n_models - 1)


def test_a_pilot_that_tells_of_no_example_forecasts_nothing() -> None:
    forecast = ErrorForecast.from_outcomes(Outcomes(np.ones((5, 3), bool), np.ones((5, 3), bool)))
    assert np.isnan(forecast.root_mean_square(100))
    assert forecast.models_for(0.1) is None


# Stopping


def test_looks_grow_by_a_tenth_to_twice_and_end_at_the_limit() -> None:
    assert [next_look(n, needed=None, max_models=1000) for n in (0, 64, 512, 640)] == [64, 128, 1000, 1000]
    assert next_look(640, needed=650, max_models=10**6) == 704  # a tenth more, in blocks of 32
    assert next_look(640, needed=900, max_models=10**6) == 928
    assert next_look(640, needed=9000, max_models=10**6) == 1280
    assert next_look(0, needed=None, max_models=10) == 10


def stopped(right: Array, target: float, *, seed: int, of: slice = slice(None)) -> tuple[Array, int]:
    """Memorization where the rule of training stops that looks at the errors of these examples, and with how many models."""
    outcomes, n, needed, most = draw(512, right, seed=seed), 0, None, 512
    while True:
        n = next_look(n, needed=needed, max_models=most)
        seen = Outcomes(outcomes.masks[:n], outcomes.of("correct")[:n] > 0)
        estimate = infl.memorization(seen)
        if root_mean_square(estimate.se[of]) <= target or n == most:
            return estimate.value, n
        forecast = ErrorForecast.from_outcomes(seen)
        parts = {name: getattr(forecast, name)[of] for name in ("variance_inside", "variance_outside", "factor")}
        needed = replace(forecast, **parts).models_for(target)


@pytest.mark.slow
def test_stopping_at_a_target_leaves_scores_unbiased_and_overshoots_little() -> None:
    right = chances(60)
    ends = [stopped(right, 0.04, seed=seed) for seed in range(150)]
    errors = np.stack([value for value, _ in ends]) - (right[1] - right[0])
    z = errors.mean(axis=0) / np.maximum(errors.std(axis=0, ddof=1) / np.sqrt(len(ends)), 1e-9)
    wobbles = errors.std(axis=0) > 0
    assert np.abs(z[wobbles]).max() < 4
    assert abs(errors[:, wobbles].mean()) < 0.04 / 20
    numbers = np.array([n for _, n in ends])
    alone = ErrorForecast.from_outcomes(draw(1024, right, seed=999)).models_for(0.04)
    assert alone is not None
    assert np.median(numbers) <= 1.1 * alone + 32  # the least growth, and whole blocks


def test_outcomes_that_all_agree_do_not_stop_at_once() -> None:
    """Their sample variance is 0; the error is not."""
    value, n_models = stopped(np.ones((2, 20)), 0.03, seed=0)
    assert np.abs(value).max() < 1e-12
    assert n_models > 64


@pytest.mark.slow
def test_a_single_example_stopped_by_its_own_outcomes_is_biased_by_a_tenth_of_its_error_at_most() -> None:
    """The worst case of the rule, as if D were one example: its luck decides alone when to stop."""
    right = np.ones((2, 8))
    right[0, 0] = 0.8
    values = [stopped(right, 0.06, seed=seed, of=slice(0, 1))[0][0] for seed in range(400)]
    assert abs(np.mean(values) - 0.2) < 0.1 * 0.06 + 2 * np.std(values) / np.sqrt(len(values))

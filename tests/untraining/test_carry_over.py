"""A proxy carries over where models of the network follow its predictions; what tells so is a difference of two correlations.

It must be what a regression with a dummy for every model and every example says, which is another way to take means away
where not every model has every example. Its error must cover over repeats, since a proxy is left out by it: one that is as good
as the refits may not be left out more often than the error allows, and one that says nothing must be.
"""

import numpy as np
import pytest

from infl.untraining.carry_over import compare_correlations

N_MODELS, N_COLUMNS = 12, 30


def world(seed, *, of_proxy=0.7, of_refits=0.7, noise=3.0, n_models=N_MODELS, n_columns=N_COLUMNS):
    """Margins that follow what a proxy and refits each see a part of, those of whole models and examples aside."""
    rng = np.random.RandomState(seed)
    truth = rng.randn(n_models, n_columns)
    shift = 3 * rng.randn(n_models, 1) + 3 * rng.randn(n_columns)
    proxy = of_proxy * truth + np.sqrt(1 - of_proxy**2) * rng.randn(*truth.shape)
    refits = np.stack([of_refits * truth + np.sqrt(1 - of_refits**2) * rng.randn(*truth.shape), truth * 0 + shift], -1)
    return truth + noise * rng.randn(*truth.shape) + shift, proxy + shift, refits, rng.random_sample(truth.shape) < 0.7


def residuals(x, counted):
    """Of a regression on a dummy for each model and each example."""
    rows, columns = np.nonzero(counted)
    dummies = np.concatenate([np.eye(counted.shape[0])[rows], np.eye(counted.shape[1])[columns]], axis=1)
    values = x[counted]
    return values - dummies @ np.linalg.lstsq(dummies, values, rcond=None)[0]


def test_it_is_the_difference_of_two_correlations_once_means_are_gone():
    y, proxy, refits, counted = world(0)
    y_left, proxy_left, *refits_left = (residuals(x, counted) for x in (y, proxy, refits[..., 0], refits[..., 1]))
    design = np.stack(refits_left[:1], axis=1)  # the second is nothing once means are gone
    fitted = design @ np.linalg.lstsq(design, y_left, rcond=None)[0]
    expected = np.corrcoef(y_left, proxy_left)[0, 1] - np.corrcoef(y_left, fitted)[0, 1]
    found = compare_correlations(y, proxy, refits, counted)
    assert found.value == pytest.approx(expected, abs=1e-9)


def test_its_error_is_that_of_repeats():
    found = [compare_correlations(*world(seed)) for seed in range(200)]
    deviation = np.std([one.value for one in found])
    assert np.sqrt(np.mean([one.se**2 for one in found])) == pytest.approx(deviation, rel=0.25)


@pytest.mark.parametrize(("of_proxy", "least", "most"), [(0.7, 0, 0.12), (0.0, 0.9, 1), (1.0, 0, 0.01)])
def test_a_proxy_is_said_not_to_carry_over_where_it_says_less_than_refits(of_proxy, least, most):
    found = [compare_correlations(*world(seed, of_proxy=of_proxy, n_models=16, n_columns=200)) for seed in range(100)]
    assert least <= np.mean([one.interval(0.9)[1] < 0 for one in found]) <= most


def test_what_is_constant_says_nothing():
    y, proxy, refits, counted = world(1)
    assert compare_correlations(y, 0 * proxy, 0 * refits, counted).value == 0
    assert compare_correlations(0 * y, proxy, refits, counted).value == pytest.approx(0, abs=1e-6)

"""Errors of predictions are what they are said to be: misfit apart from the noise of single models, however large that is.

A model is one noisy draw of what it estimates. If its noise counted as misfit, everything would be undetermined; if misfit
passed for noise, verdicts would be sure and wrong. Here both are made by formula: what there is of each is known.
"""

from dataclasses import replace

import numpy as np
import pytest

from infl.untraining.errors import CROSS_PER_EFFECT, NO_MISFIT, fit_cross_error, fold_by_similarity

N = 200


def test_alike_models_share_a_fold():
    random = np.random.RandomState(5)
    masks = np.ones((60, 400), bool)
    for model in range(60):
        masks[model, random.permutation(400)[:40]] = False
    masks[40:45] = True
    masks[40:45, :40] = False
    fold = fold_by_similarity(masks, 4)
    assert len(set(fold[40:45])) == 1
    assert set(fold) == {0, 1, 2, 3}
    assert np.bincount(fold).max() <= 20


def test_chains_of_overlapping_sets_do_not_hang_together():
    """Each of 200 windows is like the next; if they shared a fold, it would hold out most of what is known."""
    masks = np.stack([~((np.arange(440) >= 2 * start) & (np.arange(440) < 2 * start + 40)) for start in range(200)])
    fold = fold_by_similarity(masks, 4)
    assert np.bincount(fold).max() <= 60


def left_out_by(n_sets, per_set, seed=0):
    """[n_sets * per_set, N]: the same set of 10 examples for each run of models."""
    random = np.random.RandomState(seed)
    sets = np.stack([np.isin(np.arange(N), random.permutation(N)[:10]) for _ in range(n_sets)])
    return np.repeat(sets, per_set, axis=0)


@pytest.mark.parametrize("c", [0.01, 1.0])
def test_misfit_of_sums_is_what_models_of_the_same_set_get_wrong_together(c):
    """Noise has a third of the variance of the larger misfit; 120 sets of 4 models overrule the prior."""
    random = np.random.RandomState(1)
    gross = np.repeat(random.uniform(5, 40, 120), 4)
    common = np.repeat(random.randn(120), 4) * np.sqrt(c * gross**1.5)
    errors = common + random.randn(480) * np.sqrt(30.0)
    found = fit_cross_error(errors, left_out_by(120, 4), gross)
    assert found < CROSS_PER_EFFECT if c < CROSS_PER_EFFECT else c / 2 < found < 2 * c


def test_noise_that_grows_with_the_effect_is_not_misfit():
    """Each model leaves out another set: nothing can be told, and the prior stands."""
    random = np.random.RandomState(2)
    gross = random.uniform(5, 40, 300)
    errors = random.randn(300) * np.sqrt(10 * gross)
    found = fit_cross_error(errors, left_out_by(300, 1), gross)
    assert CROSS_PER_EFFECT / 2 < found < 2 * CROSS_PER_EFFECT


@pytest.mark.slow
def test_models_that_leave_out_much_tell_the_errors_of_sets_that_leave_out_little():
    """Sums of 100 to 300 effects are seen, one of 5 is asked for; a variance in proportion to the sum would be six times it."""
    random = np.random.RandomState(3)
    gross = np.repeat(random.uniform(100, 300, 120), 4)
    common = np.repeat(random.randn(120), 4) * np.sqrt(0.1 * gross**1.5)
    found = fit_cross_error(common + random.randn(480) * 10, left_out_by(120, 4), gross)
    small = replace(NO_MISFIT, cross_per_effect=found).shared(5.0)
    assert 0.6 * 0.1 * 5**1.5 < small < 1.6 * 0.1 * 5**1.5

"""Errors of predictions are what they are said to be: misfit apart from the noise of single models, however large that is.

A model is one noisy draw of what it estimates. If its noise counted as misfit, everything would be undetermined; if misfit
passed for noise, verdicts would be sure and wrong. Here both are made by formula: what there is of each is known.
"""

import numpy as np
import pytest

from infl.untraining.errors import _fit_misfit, fold_by_similarity


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


@pytest.mark.parametrize("b", [0.0, 0.4])
def test_misfit_is_what_squared_errors_hold_in_proportion_to_the_drop(b):
    """Beside noise that differs between examples; most drops are next to nothing, as most effects are."""
    random = np.random.RandomState(1)
    drop, noise = (
        random.standard_cauchy((400, 100)).clip(-8, 8),
        np.broadcast_to(random.uniform(0.1, 2, 100), (400, 100)),
    )
    squares = (random.randn(400, 100) * np.sqrt(noise + b * np.abs(drop))) ** 2
    counted = random.rand(400, 100) < 0.8
    squares[~counted] = 1e6
    assert _fit_misfit(squares - noise, drop, noise, counted) == pytest.approx(b, abs=0.03)
    assert _fit_misfit(squares - noise, drop, noise, np.zeros_like(counted)) == 0

"""Measured effects are paired differences of correctness with the error of their mean; wrong pairs are refused."""

import numpy as np
import pytest
from scipy import stats

from infl.records import ForgetSet, InputError, Outcomes
from infl.untraining.verification import measure_effects


@pytest.fixture
def pair():
    rng = np.random.RandomState(0)
    n, m, n_models = 6, 4, 40
    easy = rng.rand(n_models, n + m) < 0.7
    full = Outcomes(np.ones((n_models, n), bool), easy)
    masks = np.ones((n_models, n), bool)
    masks[:, [1, 3]] = False
    return full, Outcomes(masks, easy & (rng.rand(n_models, n + m) < 0.8))


def test_effects_equal_a_paired_t_statistic(pair):
    full, without = pair
    effects = measure_effects(ForgetSet("s", (1, 3)), full=full, without=without)
    for j in range(10):
        difference = full.correct[:, j].astype(float) - without.correct[:, j].astype(float)
        assert effects.effect[j] == pytest.approx(difference.mean())
        assert effects.se[j] == pytest.approx(stats.sem(difference), rel=1e-5)
    assert effects.n_models == 40


def test_pairing_removes_what_the_two_models_share(pair):
    full, without = pair
    order = np.random.RandomState(1).permutation(40)
    unpaired = Outcomes(without.masks[order], without.correct[order])
    paired_se = measure_effects(ForgetSet("s", (1, 3)), full=full, without=without).se.mean()
    assert paired_se < 0.8 * measure_effects(ForgetSet("s", (1, 3)), full=full, without=unpaired).se.mean()


def test_wrong_models_are_refused(pair):
    full, without = pair
    with pytest.raises(InputError, match="not trained on D"):
        measure_effects(ForgetSet("s", (1, 2)), full=full, without=without)
    with pytest.raises(InputError, match="not trained on D"):
        measure_effects(ForgetSet("s", (1, 3)), full=without, without=without)
    with pytest.raises(InputError, match="one pair a key"):
        measure_effects(ForgetSet("s", (1, 3)), full=full, without=Outcomes(without.masks[:9], without.correct[:9]))

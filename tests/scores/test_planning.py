"""The planned number of models brings a simulated run to the wanted standard error: the formula is checked by drawing."""

import numpy as np
import pytest

import infl
from infl.records import InputError, Outcomes
from infl.scores.planning import models_for_standard_error
from infl.training.subsets import Design, draw_masks


@pytest.mark.parametrize(("wanted", "fraction", "probability"), [(0.05, 0.7, 0.5), (0.04, 0.5, 0.5), (0.05, 0.9, 0.8)])
def test_planned_models_reach_the_standard_error(wanted, fraction, probability):
    n_models = models_for_standard_error(wanted, fraction=fraction, probability=probability)
    rng = np.random.RandomState(0)
    masks = draw_masks(Design("balanced", fraction), range(n_models), n_train=200, seed=0)
    outcomes = Outcomes(masks, rng.rand(n_models, 200) < probability)
    assert abs(np.median(infl.memorization(outcomes).se) / wanted - 1) < 0.03


@pytest.mark.parametrize("arguments", [(0.0, 0.7, 0.5), (0.05, 1.0, 0.5), (0.05, 0.7, 0.0), (float("nan"), 0.7, 0.5)])
def test_values_outside_their_range_are_named(arguments):
    with pytest.raises(InputError, match="above 0 and below 1"):
        models_for_standard_error(arguments[0], fraction=arguments[1], probability=arguments[2])

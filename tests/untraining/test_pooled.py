"""The pooled function learns what all examples have in common, and no more than the models tell.

It carries the prediction: a function that is too rough shows as harm and gain where there are none.
"""

import numpy as np

from infl.untraining import pooled
from infl.untraining.pooled import STRENGTHS, fit_pooled


def test_a_pooled_function_learns_a_smooth_function_and_is_zero_on_d_where_anchored():
    random = np.random.RandomState(0)
    at_d = random.randn(3000, 2).astype(np.float32)
    z = (at_d - random.rand(3000, 2)).astype(np.float32)
    x = np.concatenate([z, z - at_d], axis=1)
    on_d = np.concatenate([at_d, np.zeros_like(at_d)], axis=1)
    y = np.maximum(z[:, 0], 0) - np.maximum(at_d[:, 0], 0) + 0.05 * random.randn(3000)
    function = fit_pooled(x, on_d, y.astype(np.float32), np.arange(3000) % 100, anchored=True)
    value, change = function(z[None], at_d)
    np.testing.assert_allclose(value[0], np.maximum(z[:, 0], 0) - np.maximum(at_d[:, 0], 0), atol=0.3)
    assert np.sqrt(np.mean((value[0] - y) ** 2)) < 0.07
    np.testing.assert_array_equal(value, change)
    np.testing.assert_allclose(function(at_d[None], at_d)[0], 0, atol=1e-5)


def test_a_pooled_function_is_shrunk_where_all_examples_of_a_model_err_together(monkeypatch):
    """12 models of 400 examples whose margins are z_1 and a curve of each model's own: there are 12 curves to learn from and
    not 4800, and the smallest penalty follows them. With no curves there is nothing to shrink, and it is chosen.
    """
    errors = {}
    for repeat in range(8):
        random = np.random.RandomState(repeat)
        models, z = np.repeat(np.arange(12), 400), random.randn(4800, 2).astype(np.float32)
        x = np.concatenate([z, z], axis=1)
        curves = (np.sin(z @ random.randn(2, 8)) * random.randn(12, 8)[models]).sum(axis=1)
        for of_models, y in (("curves", z[:, 0] + curves), ("none", z[:, 0])):
            for strengths in (STRENGTHS, STRENGTHS[:1]):
                monkeypatch.setattr(pooled, "STRENGTHS", strengths)
                function = fit_pooled(x, 0 * x, y.astype(np.float32), models, anchored=True)
                value = function(z[None], np.zeros_like(z))[0][0]
                errors.setdefault((of_models, len(strengths)), []).append(np.sqrt(np.mean((value - z[:, 0]) ** 2)))
    gain = np.subtract(errors["curves", 1], errors["curves", len(STRENGTHS)])
    assert gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(len(gain)) > 0
    np.testing.assert_array_equal(errors["none", len(STRENGTHS)], errors["none", 1])


def test_a_function_of_no_covariates_says_nothing():
    nothing, y = np.zeros((50, 0), np.float32), np.random.RandomState(2).randn(50)
    for anchored, expected in ((True, 0.0), (False, y.mean())):
        function = fit_pooled(nothing, nothing, y, np.arange(50), anchored=anchored)
        value, change = function(np.zeros((4, 5, 0), np.float32), np.zeros((5, 0), np.float32))
        np.testing.assert_allclose(value, np.full((4, 5), expected), atol=1e-6)
        np.testing.assert_allclose(change, 0, atol=1e-6)

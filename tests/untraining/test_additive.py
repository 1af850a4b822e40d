"""The additive prediction is right in an additive world, zero in a null world, and blind to redundancy as documented.

In a world where margin_j = base_j + sum_i a_ij in_i + noise, the predicted drop is the sum of the a_ij over S, so the predicted
effect must equal the one computed from the true margins with and without S. Errors are judged by the method's own standard
errors over repeats fixed beforehand.
"""

from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from infl.records import ForgetSet, Outcomes
from infl.training.subsets import Design, draw_masks
from infl.untraining.additive import predict_additive
from infl.untraining.regimes import judge

N, M = 40, 60


def world(margin_of, n_models, seed, *, full=False, noise=1.0, fraction=0.7, shares=False):
    """Models of a world given as masks -> expected margins; two classes, so correct is margin > 0, or shares Phi(margin)."""
    rng = np.random.RandomState(seed + (10_000 if full else 0))
    masks = draw_masks(Design("full") if full else Design("uniform", fraction), range(n_models), n_train=N, seed=seed)
    margin = margin_of(masks.astype(float)) + noise * rng.randn(n_models, N + M)
    return Outcomes(masks, ndtr(margin)) if shares else Outcomes(masks, margin > 0, margin)


def additive_world(seed=0):
    rng = np.random.RandomState(seed)
    slopes = np.where(rng.rand(N, N + M) < 0.05, rng.uniform(0, 2.0, (N, N + M)), 0.0)
    slopes[np.arange(N), np.arange(N)] = 3.0
    base = rng.uniform(-3.0, 1.0, N + M)
    return lambda masks: base + masks @ slopes


def true_effect(margin_of, ids, *, shares=False):
    """P[base + noise > 0] on D less that on D\\S, for unit normal noise; of shares E[Phi(base + noise)]."""
    full, without = np.ones((1, N)), np.ones((1, N))
    without[:, list(ids)] = 0
    scale = np.sqrt(2) if shares else 1.0
    return (ndtr(margin_of(full) / scale) - ndtr(margin_of(without) / scale))[0]


@pytest.mark.parametrize(
    ("ids", "fraction", "shares"),
    [
        *(((3,), fraction, False) for fraction in (0.7, (0.5, 0.9))),
        *((tuple(range(15)), fraction, False) for fraction in (0.7, (0.5, 0.9))),
        *(((3,), 0.7, True), (tuple(range(15)), (0.5, 0.9), True)),
    ],
)
def test_an_additive_world_is_predicted_within_its_errors(ids, fraction, shares):
    """z = (predicted - true) / se over all examples and 20 repeats; smoothing the response leaves a small bias."""
    margin_of = additive_world()
    truth = true_effect(margin_of, ids, shares=shares)
    predicted = [
        predict_additive(
            ForgetSet("s", ids),
            design=world(margin_of, 600, seed, fraction=fraction, shares=shares),
            reference=world(margin_of, 200, seed, full=True, shares=shares),
        )
        for seed in range(20)
    ]
    values, errors = np.array([p.effect for p in predicted]), np.array([p.se for p in predicted])
    assert np.corrcoef(values.mean(axis=0), truth)[0, 1] > 0.98
    assert np.abs(values.mean(axis=0) - truth).mean() < 0.03
    # Retained and held-out columns with some spread: their scatter over the repeats is what the errors say.
    spread = values.std(axis=0, ddof=1)
    moving = spread > 0.01
    ratio = np.sqrt(np.mean(spread[moving] ** 2) / np.mean(errors[:, moving] ** 2))
    assert 0.8 < ratio < 1.25


def test_a_null_world_gives_no_effect_on_others():
    """No example matters to another: cross must be zero within its error, z of unit size over 30 repeats."""
    base = np.random.RandomState(1).uniform(-2, 3, N + M)
    z = []
    for seed in range(30):
        effects = predict_additive(
            ForgetSet("s", (0, 1, 2, 3)),
            design=world(lambda masks: np.tile(base, (len(masks), 1)), 400, seed),
            reference=world(lambda masks: np.tile(base, (len(masks), 1)), 100, seed, full=True),
        )
        verdict = judge(effects)
        z.append(verdict.cross_influence.value / verdict.cross_influence.se)
    assert abs(np.mean(z)) < 0.75
    assert 0.6 < np.std(z, ddof=1) < 1.5


def test_redundant_sets_are_missed_as_documented():
    """Column 50 needs one of eight copies: each alone does nothing, all together everything. The sum sees nothing."""
    copies = tuple(range(8))

    def margin_of(masks):
        margin = np.full((len(masks), N + M), 5.0)
        margin[:, 50] = np.where(masks[:, list(copies)].any(axis=1), 4.0, -4.0)
        return margin

    effects = predict_additive(
        ForgetSet("copies", copies),
        design=world(margin_of, 800, 0),
        reference=world(margin_of, 100, 0, full=True),
    )
    assert true_effect(margin_of, copies)[50] > 0.99
    assert abs(effects.effect[50]) < 0.1


def test_n_columns_does_not_affect_results():
    margin_of = additive_world(2)
    arguments: dict[str, Any] = {
        "design": world(margin_of, 100, 0),
        "reference": world(margin_of, 30, 0, full=True),
    }
    whole = predict_additive(ForgetSet("s", (1, 5, 9)), **arguments)
    parts = predict_additive(ForgetSet("s", (1, 5, 9)), n_columns=7, **arguments)
    np.testing.assert_allclose(parts.effect, whole.effect, atol=1e-6)
    np.testing.assert_allclose(parts.replicates, whole.replicates, atol=1e-5)


def test_a_member_never_left_out_has_no_estimate():
    margin_of = additive_world(4)
    design = world(margin_of, 50, 0)
    design.masks[:, 2] = True
    effects = predict_additive(ForgetSet("s", (2, 3)), design=design, reference=world(margin_of, 30, 0, full=True))
    assert np.isnan(effects.effect).all()
    assert judge(effects).regime == "undetermined"

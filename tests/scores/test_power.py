"""A planted effect of the size called detectable is found as often as said, by the p-values that scores have.

Power is simulated: models are drawn, outcomes follow the planted effect, and what counts as found is decided by
`infl.memorization` and `infl.influence` themselves. Where outcomes are right half of the time and subsets are halves nothing
is skewed, and the textbook's formula must come out.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import infl
from infl.records import Outcomes, ProtocolName
from infl.scores.power import (
    EffectiveModels,
    chance_found,
    detectable,
    detectable_effect,
    findings,
    models_for_effect,
    p_value_cut,
)
from infl.training.subsets import Design, draw_masks

CUT = p_value_cut(10**6)


def power_of_memorization(n_models: int, fraction: float | tuple[float, float], wrong: float, effect: float) -> float:
    """Share of planted effects found, 800 of them: standard error 0.014 at a power of 0.8."""
    found = []
    for seed in range(2):
        masks = draw_masks(Design("uniform", fraction), range(n_models), n_train=400, seed=seed)
        right = np.where(masks, 1 - wrong, 1 - wrong - effect)
        estimate = infl.memorization(Outcomes(masks, np.random.RandomState(seed).rand(*masks.shape) < right))
        found.append((np.asarray(estimate.p) <= CUT).mean())
    return float(np.mean(found))


@pytest.mark.parametrize(
    ("n_models", "fraction", "wrong"),
    [(1000, 0.7, 0.5), (4000, (0.7, 0.97), 0.1), (1000, 0.7, 0.001), (4000, (0.7, 0.97), 0.001)],
)
def test_a_detectable_memorization_is_found_as_often_as_said(n_models, fraction, wrong):
    effect = detectable_effect(EffectiveModels.one(fraction).times(n_models), wrong=wrong, p_cut=CUT)
    assert 0.74 <= power_of_memorization(n_models, fraction, wrong, effect) <= 0.86


@pytest.mark.parametrize("protocol", ["held-out", "left-out"])
def test_the_planned_models_find_a_planted_influence_as_often_as_said(protocol) -> None:
    left_out = protocol == "left-out"
    effect, wrong, n, m = 0.35, 0.1, 30, 400
    one = EffectiveModels.one(0.5, left_out=left_out)
    n_models = models_for_effect(effect, one, wrong=wrong, p_cut=CUT, power=0.9)
    masks = draw_masks(Design("uniform", 0.5), range(n_models), n_train=m if left_out else n, seed=3)
    right = np.where(masks[:, :1], 1 - wrong, 1 - wrong - effect)
    n_columns = m if left_out else n + m
    outcomes = Outcomes(masks, np.random.RandomState(4).rand(n_models, n_columns) < right)
    p = infl.influence(outcomes, protocol=protocol, sources=[0]).p
    assert p is not None
    found = p[np.isfinite(p)] <= CUT
    assert 0.84 <= found.mean() <= 0.96


def test_where_nothing_is_skewed_the_textbook_formula_comes_out():
    for power in (0.5, 0.8, 0.95):
        n_models = models_for_effect(0.1, EffectiveModels.one(0.5), wrong=0.45, p_cut=CUT, power=power)
        z_cut, z_power = stats.norm.isf(CUT / 2), stats.norm.ppf(power)
        low, high = 0.45, 0.55
        pooled, apart = np.sqrt(2 * 0.25), np.sqrt(low * (1 - low) + high * (1 - high))
        per_side = (z_cut * pooled + z_power * apart) ** 2 / 0.1**2  # Fleiss, Levin & Paik 2003, (4.14)
        assert n_models == pytest.approx(2 * per_side, rel=0.02)


def test_models_and_effects_are_inverse():
    one = EffectiveModels.one((0.7, 0.97))
    for wrong in (0.01, 0.2, 0.5):
        settings = {"wrong": wrong, "p_cut": 1e-6}
        n_models = models_for_effect(0.2, one, **settings, power=0.7)
        assert detectable_effect(one.times(n_models), **settings, power=0.7) == pytest.approx(0.2, rel=2e-3)
        assert (
            chance_found(0.2, one.times(n_models - 1), **settings)
            < 0.7
            <= chance_found(0.2, one.times(n_models), **settings)
        )
    assert np.isnan(detectable_effect(one.times(20), wrong=0.1, p_cut=1e-8))  # too few for any effect


def test_the_cut_is_that_of_benjamini_and_hochberg():
    """A p-value at the cut for a share found is found where that share is, and hardly one above it."""
    random = np.random.RandomState(0)
    n_tests, share = 100_000, 0.01
    cut = p_value_cut(n_tests, expected_fraction=share)
    planted = np.full(round(share * n_tests), cut)
    p = np.concatenate([planted, random.uniform(2 * cut, 1, n_tests - len(planted))])
    assert (infl.q_values(p) <= 0.05).sum() == len(planted)
    p[: len(planted)] = 1.01 * cut
    assert (infl.q_values(p) <= 0.05).sum() == 0
    assert p_value_cut(n_tests) == pytest.approx(0.05 / n_tests)  # Bonferroni


# From outcomes


def noise(n_models: int = 600, right: float = 0.5, n: int = 40, m: int = 60, fraction: float = 0.7) -> Outcomes:
    random = np.random.RandomState(1)
    masks = draw_masks(Design("uniform", fraction), range(n_models), n_train=n, seed=1)
    return Outcomes(masks, random.rand(n_models, n + m) < right, random.randn(n_models, n + m))


@pytest.mark.parametrize("right", [0.03, 0.97])
def test_what_outcomes_can_find_is_what_their_design_and_noise_say(right: float) -> None:
    outcomes = noise(n_models=1200, right=right, fraction=0.9, n=200)
    protocols: list[tuple[ProtocolName, int, bool]] = [("held-out", 200 * 60, False), ("left-out", 200 * 199, True)]
    for protocol, n_tests, left_out in protocols:
        found = detectable(outcomes, protocol=protocol)
        assert (found.n_tests, found.p_cut) == (n_tests, pytest.approx(0.05 / n_tests))
        one = EffectiveModels.one(0.9)
        models = (one if right > 0.5 else one.swapped()).times(1200 * 0.1 if left_out else 1200)
        expected = detectable_effect(models, wrong=0.03, p_cut=found.p_cut)
        assert found.typical == pytest.approx(expected, rel=0.06)
        assert not found.worst < found.typical  # NaN where not even half is found
    own = detectable(outcomes, protocol="own")
    assert own.n_tests == 200
    assert own.typical < detectable(outcomes, protocol="held-out").typical


def test_margins_have_a_normal_reach() -> None:
    found = detectable(noise(), protocol="held-out", outcome="margin")
    reach = stats.norm.isf(found.p_cut / 2) + stats.norm.ppf(0.8)
    assert found.typical == pytest.approx(reach * np.sqrt(1 / (0.21 * 600)), rel=0.06)
    assert np.isnan(found.worst)


def test_balanced_designs_find_what_their_factor_says() -> None:
    """Outcomes that move with the period are no noise to a balanced design."""
    masks = draw_masks(Design("balanced", 0.5), range(400), n_train=20, seed=0)
    strata = np.arange(400) // 2
    moving = np.repeat(np.random.RandomState(0).rand(200, 30) < 0.5, 2, axis=0)
    flipped = np.random.RandomState(1).rand(400, 30) < 0.1
    outcomes = Outcomes(masks, moving ^ flipped)
    known = Outcomes(masks, moving ^ flipped, strata=strata)
    assert detectable(known, protocol="held-out").typical < 0.75 * detectable(outcomes, protocol="held-out").typical


def test_where_there_is_no_error_nothing_is_detectable() -> None:
    found = detectable(noise(n_models=1), protocol="own")
    assert np.isnan(found.typical)
    assert np.isnan(found.worst)


# Beside a table of scores


@pytest.fixture(scope="module")
def planted() -> Outcomes:
    """Three hundred models; examples 0 to 3 help held-out 0 to 3, and 0 to 4 are memorized."""
    random = np.random.RandomState(0)
    masks = random.rand(300, 12) < 0.6
    right = np.full((300, 32), 0.7)
    right[:, :5] += np.where(masks[:, :5], 0.25, -0.25)
    right[:, 12:16] += np.where(masks[:, :4], 0.2, -0.2)
    return Outcomes(masks, random.rand(300, 32) < right)


def test_findings_are_at_what_was_found(planted: Outcomes) -> None:
    memorization, strongest = infl.memorization(planted), infl.strongest_influences(planted, n_pairs=3)
    found = findings(planted, memorization, strongest)
    assert memorization.p is not None
    assert found.memorization is not None
    np.testing.assert_allclose(found.q, stats.false_discovery_control(memorization.p))
    assert (found.q[:5] < 0.05).all()
    assert {(i, 12 + i) for i in range(4)} <= set(zip(strongest.source, strongest.target, strict=True))
    assert found.memorization.p_cut == pytest.approx(memorization.p[found.q <= 0.05].max(), rel=2e-3)
    assert found.memorization.p_cut > 0.05 / 12
    assert (found.influence.n_tests, found.memorization.n_tests) == (12 * 20, 12)
    strict = infl.strongest_influences(planted, false_discovery_rate=0.01)
    assert findings(planted, memorization, strict, power=0.95).influence.typical > found.influence.typical


def test_influence_is_found_in_the_protocol_and_outcome_of_its_pairs(planted: Outcomes) -> None:
    memorization = infl.memorization(planted)
    left_out = infl.strongest_influences(planted, protocols=["left-out"])
    found = findings(planted, memorization, left_out).influence
    assert found == detectable(planted, protocol="left-out", p_cut=left_out.largest_p)
    assert found.n_tests == 12 * 11
    both = Outcomes(planted.masks, planted.correct, planted.of("correct") + np.linspace(0, 1, 32))
    margins = infl.strongest_influences(both, outcome="margin")
    assert findings(both, memorization, margins).influence.outcome == "margin"

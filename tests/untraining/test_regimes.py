"""Self, cross, harm and gain are the sums that DESIGN.md defines, and the probabilities are those of a bivariate normal.

The sums are checked against a plain loop, the probabilities against drawing and against products of independent normals,
the cross-fitted harm against a null world in which the plain plug-in is biased.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import infl
from infl.records import Effects, ForgetSet, Thresholds
from infl.untraining.regimes import regime_probabilities


def make_effects(replicates, ids, n_train):
    replicates = np.asarray(replicates, float)
    se = replicates.std(axis=0, ddof=1) / np.sqrt(len(replicates)) if len(replicates) > 1 else replicates[0] * np.nan
    return Effects(
        ForgetSet("s", tuple(ids)), n_train, replicates.mean(axis=0), se, replicates, "test", len(replicates)
    )


def test_sums_equal_a_loop_over_the_definition():
    rng = np.random.RandomState(0)
    n, m, ids = 12, 5, (1, 4, 7)
    replicates = rng.uniform(-0.6, 0.6, (40, n + m))
    verdict = infl.judge(make_effects(replicates, ids, n))
    widening = np.sqrt(39 / 37)
    assert verdict.self_influence.se == pytest.approx(stats.sem(replicates[:, ids].mean(axis=1)) * widening)
    self_sum, cross_sum = 0.0, 0.0
    for j, d in enumerate(replicates.mean(axis=0)):
        if j in ids:
            self_sum += d
        elif j < n:
            cross_sum += d
        else:
            cross_sum += n / m * d
    assert verdict.self_influence.value == pytest.approx(self_sum / 3)
    assert verdict.cross_influence.value == pytest.approx(cross_sum / 3)
    assert verdict.harm.value - verdict.gain.value == pytest.approx(cross_sum / 3, abs=0.5)


def test_no_error_is_zero_where_all_replicates_agree():
    """16 keys that lose all of S and nothing else: one more could differ, so no quantity is sure."""
    n, m, ids = 12, 6, (1, 4, 7)
    replicates = np.zeros((16, n + m))
    replicates[:, ids] = 1
    verdict = infl.judge(make_effects(replicates, ids, n))
    assert (verdict.self_influence.value, verdict.harm.value, verdict.gain.value) == (1, 0, 0)
    assert verdict.self_influence.se == 1 / 16
    for one in (verdict.cross_influence, verdict.harm, verdict.gain):
        assert one.se == pytest.approx(n / m / 3 / 16)  # one outcome of one held-out example
    low, high = verdict.self_influence.interval(low=-1, high=1)
    assert (low, high) == (pytest.approx(1 - 1.96 / 16, abs=1e-4), 1)
    assert verdict.harm.interval(low=0)[0] == 0
    assert np.isnan(infl.judge(make_effects(replicates * np.nan, ids, n)).harm.value)


@pytest.mark.parametrize(
    ("harm", "gain", "others"),
    [
        ((0.5, 0.05), (0.02, 0.02), "harm only"),
        ((0.5, 0.05), (0.6, 0.05), "balanced"),
        ((0.1, 0.02), (0.8, 0.05), "others gain"),
        ((0.02, 0.02), (0.15, 0.02), "others gain"),
        ((0.02, 0.02), (0.02, 0.02), "unharmed"),
        ((0.1, 0.05), (0.02, 0.02), "unclear"),
        ((np.nan, np.nan), (0.02, 0.02), "unclear"),
    ],
)
def test_what_others_do_is_named_beside_the_regime(harm, gain, others):
    """At the threshold of 0.1 with probability 0.8; flipped labels are local by net while others gain."""
    effects = np.random.RandomState(0).uniform(size=(16, 5))
    verdict = infl.judge(make_effects(effects, (1,), 3))
    net = infl.records.Quantity(harm[0] - gain[0], float(np.hypot(harm[1], gain[1])))
    verdict = replace(
        verdict, harm=infl.records.Quantity(*harm), gain=infl.records.Quantity(*gain), cross_influence=net
    )
    assert verdict.others == others
    assert f"others: {others}" in repr(verdict)


def test_of_documents_what_retained_ones_lose_or_gain_is_no_matter():
    """By the definition on H alone, (n/m) sum of D_k / |S|; the retained effects may be anything."""
    n, m, ids = 6, 4, (0, 1)
    replicates = np.random.RandomState(1).uniform(-0.1, 0.5, (32, n + m))
    verdicts = []
    for retained in (0.0, 5.0, -10.0, np.nan):
        replicates[:, 2:n] += retained
        verdicts.append(infl.judge(replace(make_effects(replicates, ids, n), held_out_only=True)))
    assert verdicts[0].cross_influence.value == pytest.approx(n / m * replicates.mean(axis=0)[n:].sum() / len(ids))
    for one in verdicts[1:]:
        for name in ("cross_influence", "harm", "gain", "most_harmed", "probability"):
            assert getattr(one, name) == getattr(verdicts[0], name)
    assert verdicts[0].most_harmed
    assert min(verdicts[0].most_harmed) >= n
    assert verdicts[0].held_out_only


@pytest.mark.parametrize("correlation", [-0.7, 0.5])
def test_probabilities_equal_the_fractions_of_a_large_draw(correlation):
    values, sd = np.array([0.12, 0.05]), np.array([0.05, 0.1])
    covariance = np.outer(sd, sd) * np.array([[1, correlation], [correlation, 1]])
    probability = regime_probabilities(values, covariance, Thresholds())
    draw = np.random.RandomState(2).multivariate_normal(values, covariance, 200_000)
    high_self, high_cross = draw[:, 0] >= 0.1, draw[:, 1] >= 0.1
    fractions = {
        "no-op": (~high_self & ~high_cross).mean(),
        "local": (high_self & ~high_cross).mean(),
        "spreading": (high_self & high_cross).mean(),
        "indirect": (~high_self & high_cross).mean(),
    }
    assert sum(probability.values()) == pytest.approx(1)
    for regime, fraction in fractions.items():
        assert probability[regime] == pytest.approx(fraction, abs=5 * 0.5 / np.sqrt(200_000))


@pytest.mark.parametrize("covariance", [[[0.0, 0.0], [0.0, 0.48]], [[0.0, 0.0], [0.0, 0.0]], [[0.2, 0.3], [0.3, 0.45]]])
def test_certain_and_degenerate_errors_have_probabilities_too(covariance):
    """One error zero, both zero, or fully correlated: each marginal is a normal distribution's, a point mass included."""
    values, covariance = np.array([0.05, 0.3]), np.array(covariance)
    probability = regime_probabilities(values, covariance, Thresholds())
    low_self = stats.norm.cdf((0.1 - 0.05) / max(np.sqrt(covariance[0, 0]), 1e-6))
    low_cross = stats.norm.cdf((0.1 - 0.3) / max(np.sqrt(covariance[1, 1]), 1e-6))
    assert probability["no-op"] + probability["indirect"] == pytest.approx(low_self, abs=1e-6)
    assert probability["no-op"] + probability["local"] == pytest.approx(low_cross, abs=1e-6)


@pytest.mark.parametrize(
    ("self_effect", "cross_effect", "regime"),
    [(0.0, 0.0, "no-op"), (0.8, 0.0, "local"), (0.8, 0.5, "spreading"), (0.0, 0.5, "indirect"), (0.8, -0.5, "local")],
)
def test_clear_effects_get_their_regime(self_effect, cross_effect, regime):
    effect = np.array([self_effect] * 2 + [0.0] * 2 + [cross_effect] * 4)  # n=4, m=4, |S|=2: cross = 2 x cross_effect
    verdict = infl.judge(make_effects(effect + 1e-3 * np.random.RandomState(3).randn(30, 8), (0, 1), 4))
    assert verdict.regime == regime
    assert verdict.probability[regime] > 0.99
    assert verdict.note == ""


def test_an_unclear_effect_is_undetermined_and_says_how_many_models_decide():
    replicates = np.zeros((64, 8))
    replicates[:, :2] = 0.13 + 0.4 * np.resize([1, -1], 64)[:, None]
    replicates[:, 4:] = 1e-4 * np.random.RandomState(4).randn(64, 4)
    verdict = infl.judge(make_effects(replicates, (0, 1), 4))
    assert verdict.regime == "undetermined"
    assert verdict.models_needed is not None
    repeats = verdict.models_needed // 64
    decided = infl.judge(make_effects(np.tile(replicates, (repeats, 1)), (0, 1), 4))
    assert decided.regime == "local"
    fewer = infl.judge(make_effects(np.tile(replicates, (repeats // 2, 1)), (0, 1), 4))
    assert fewer.regime == "undetermined"


def test_agreement_of_a_few_models_is_no_certainty():
    """One example, never lost in any of R retrainings: 4 of them leave room for a self-influence of 0.1, 64 do not."""
    for n_models, regime in ((4, "undetermined"), (64, "no-op")):
        verdict = infl.judge(make_effects(np.zeros((n_models, 200)), (0,), 100), Thresholds(cross_influence=2.0))
        assert verdict.regime == regime
        assert verdict.self_influence.se == pytest.approx(1 / n_models)


def test_unknown_errors_or_values_are_undetermined_with_the_reason():
    for replicates in (np.full((1, 4), 0.5), np.full((30, 4), np.nan)):
        verdict = infl.judge(make_effects(replicates, (0,), 2))
        assert verdict.regime == "undetermined"
        assert "too few models" in verdict.note
        assert np.isnan(list(verdict.probability.values())).all()


def test_harm_and_gain_are_zero_within_errors_in_a_null_world():
    """No effect, 16 noisy replicates: the plug-in sum over D_k >= e is far above zero, the cross-fitted one is not."""
    rng = np.random.RandomState(5)
    harms, plug_in = [], []
    for _ in range(60):
        replicates = rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.8, 0.1], size=(16, 300))
        effects = make_effects(replicates, (0, 1, 2, 3), 100)
        verdict = infl.judge(effects)
        harms.append([verdict.harm.value, verdict.gain.value, verdict.harm.se])
        others = effects.effect[4:]
        plug_in.append(others[others >= 0.1].sum() / 4)
    harm, gain, se = np.array(harms).T
    assert np.mean(plug_in) > 1
    for values in (harm, gain):
        assert abs(values.mean()) < 4 * values.std(ddof=1) / np.sqrt(60)
    assert 0.5 < harm.std(ddof=1) / np.sqrt(np.mean(se**2)) < 1.1


def test_errors_of_harm_know_that_other_examples_might_have_been_selected():
    """True effects on both sides of e: the scatter of harm over worlds is the error, which the sums of one selection miss."""
    rng = np.random.RandomState(3)
    true, harms, alone = rng.exponential(0.08, 300), [], []
    for _ in range(200):
        replicates = true + 0.15 * rng.standard_normal((16, 300))
        harm = infl.judge(make_effects(replicates, (0, 1, 2, 3), 100)).harm
        harms.append([harm.value, harm.se])
        selected = np.arange(300)[4:][replicates[0::2, 4:].mean(axis=0) >= 0.1]
        sums = replicates[1::2, selected] @ np.where(selected < 100, 1, 0.5) / 4
        alone.append(sums.var(ddof=1) / len(sums) / 2)
    value, se = np.array(harms).T
    assert 0.7 < value.std(ddof=1) / np.sqrt(np.mean(se**2)) < 1.1 < value.std(ddof=1) / np.sqrt(np.mean(alone))


def test_harm_and_gain_find_true_effects():
    effect = np.zeros(60)
    effect[10:14], effect[40:46] = 0.5, -0.3  # four retained hurt, six held-out helped
    replicates = effect + 0.05 * np.random.RandomState(6).randn(40, 60)
    verdict = infl.judge(make_effects(replicates, (0, 1), 30))
    assert verdict.harm.value == pytest.approx(4 * 0.5 / 2, abs=0.1)
    assert verdict.gain.value == pytest.approx(6 * 0.3 * (30 / 30) / 2, abs=0.1)
    assert set(verdict.most_harmed[:4]) == {10, 11, 12, 13}


def test_harm_decides_and_net_cross_where_it_is_asked_for():
    effect = np.array([0.9, 0.0, 0.0, 0.0] + [0.4, -0.4] * 4)
    replicates = effect + 1e-3 * np.random.RandomState(7).randn(30, 12)
    verdict = infl.judge(make_effects(replicates, (0,), 4))
    assert verdict.regime == "spreading"
    assert verdict.cross_influence.value == pytest.approx(0.0, abs=0.01)
    assert infl.judge(make_effects(replicates, (0,), 4), Thresholds(cross="net")).regime == "local"
    net = Thresholds(self_influence=0.95, cross="net")
    assert infl.judge(make_effects(replicates, (0,), 4), net).regime == "no-op"


def posterior(effect, se, ids, n_train, covariance, covered=1.0):
    effect, se = np.asarray(effect, float), np.asarray(se, float)
    nothing = np.empty((0, len(effect)))
    return Effects(
        ForgetSet("s", ids), n_train, effect, se, nothing, "test", 100, np.asarray(covariance, float), covered
    )


def test_the_covariance_of_a_posterior_is_used_as_given():
    covariance = np.array([[0.04, 0.01], [0.01, 0.09]])
    effects = posterior([0.3, 0.1, 0.05, 0.2, 0.0, 0.1], np.full(6, 0.05), (0, 1), 3, covariance)
    verdict = infl.judge(effects, Thresholds(cross="net"))
    assert verdict.self_influence.value == pytest.approx(0.2)
    assert verdict.self_influence.se == pytest.approx(0.2)
    assert verdict.cross_influence.value == pytest.approx((0.05 + 0.3) / 2)
    assert verdict.cross_influence.se == pytest.approx(0.3)
    expected = regime_probabilities(np.array([0.2, 0.175]), covariance, Thresholds())
    assert verdict.probability == pytest.approx(expected)
    assert infl.judge(effects).cross_influence == verdict.cross_influence
    np.testing.assert_array_equal(effects.covariance, [[0.04, 0.01], [0.01, 0.09]])  # not written to


def test_harm_and_gain_of_a_posterior_are_means_over_drawn_effects():
    """Independent normal effects of half the variance: the sums over D >= e, and over D <= -e, against a large draw.

    What all of the variance would make of the sum besides is part of the error.
    """
    random = np.random.RandomState(9)
    n, m, ids = 10, 5, (1, 4)
    effect, se = random.uniform(-0.3, 0.4, n + m), random.uniform(0.01, 0.3, n + m)
    weights = np.where(np.arange(n + m) < n, 1.0, n / m) / len(ids)
    weights[list(ids)] = 0
    verdict = infl.judge(posterior(effect, se, ids, n, np.diag(np.array([0.01, float(weights**2 @ se**2)]))))
    normal = random.randn(200_000, n + m)
    for quantity, sign in ((verdict.harm, 1), (verdict.gain, -1)):
        draws = [sign * (effect + factor * se * normal) for factor in (np.sqrt(0.5), 1)]
        sums, by_claim = ((some * (some >= 0.1)) @ weights for some in draws)
        assert quantity.value == pytest.approx(sums.mean(), abs=5 * sums.std() / np.sqrt(len(sums)))
        assert quantity.se == pytest.approx(np.hypot(sums.std(), by_claim.mean() - sums.mean()), rel=0.02)


@pytest.mark.parametrize(("others", "expected"), [(0.2, 0.2), (-0.2, 0.2 / np.sqrt(2))])
def test_what_moves_all_effects_of_a_posterior_together_widens_harm(others, expected):
    """By all of it where others are harmed, by half of the variance where they gain: nothing predicted is no proof of none."""
    arguments = ([0.5, *[others] * 3], np.full(4, 0.01), (0,), 2)
    alone, together = (infl.judge(posterior(*arguments, np.diag([0.01, v]))).harm for v in (1e-6, 0.04))
    assert alone.value == together.value
    assert together.se == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    ("covered", "mentioned"), [(0.0, True), (0.49, True), (0.5, False), (1.0, False), (np.nan, False)]
)
def test_a_prediction_that_reaches_too_far_says_what_to_train(covered, mentioned):
    effects = posterior([0.1, 0.1, 0.1, 0.1], np.full(4, 0.2), (0,), 2, np.diag([0.3, 0.3]), covered)
    verdict = infl.judge(effects)
    assert verdict.regime == "undetermined"
    assert "--cover" in verdict.note
    assert (f"no models left out more than {covered:.0%} of it" in verdict.note) == mentioned
    assert verdict.models_needed is None  # more models of the same kind are not what is missing
    sure = infl.judge(posterior([0.9, 0.9, 0.9, 0.9], np.full(4, 0.01), (0,), 2, np.diag([1e-4, 1e-4]), covered))
    assert (sure.regime, sure.note) == ("spreading", "")


def test_the_gap_is_what_held_out_examples_of_the_concept_keep():
    """Of four held-out examples the whole concept takes 0.8 and 0.5 from two, 0.05 from one; another of D does not count."""
    part = make_effects([[0.9, 0, 0.9, 0.2, 0.1, 0.4, 0.0]] * 2, (0,), 3)
    whole = make_effects([[0.9, 0.9, 0.9, 0.8, 0.5, 0.05, -0.3]] * 2, (0, 1), 3)
    part, whole = replace(part, se=np.full(7, 0.03)), replace(whole, se=np.full(7, 0.04))
    gap = infl.judge(replace(part, whole=whole)).concept_gap
    assert gap is not None
    assert (gap.n_full, gap.n_held_out) == (2, 2)
    assert (gap.part, gap.whole, gap.value.value) == pytest.approx((0.15, 0.65, 0.5))
    assert gap.value.se == pytest.approx(np.sqrt(2 * (0.03**2 + 0.04**2)) / 2)
    same = infl.judge(replace(whole, whole=whole)).concept_gap
    assert same is not None
    assert same.value.value == 0
    assert infl.judge(part).concept_gap is None
    harmless = make_effects([[0.9, 0.9, 0.9, 0.0, 0.05, 0, 0]] * 2, (0, 1), 3)
    unknown = infl.judge(replace(part, whole=harmless)).concept_gap
    assert unknown is not None
    assert unknown.n_held_out == 0
    assert np.isnan(unknown.value.value)

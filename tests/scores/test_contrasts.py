"""Contrasts are differences in means, whatever way the sums are made.

Where outcomes are built as base + effect x inclusion the contrast is known exactly. A slow loop over pairs, kept here,
must equal the streamed products, empty groups included, for every protocol, outcome and block size. The standard error
must equal the spread of the contrast over repeated experiments, of designs whose models are not independent too, and
shuffled masks must give zero within it.
"""

import itertools
from typing import Any

import numpy as np
import pytest
from scipy import stats

import infl
from infl.records import Outcomes
from infl.scores.contrasts import contrast
from infl.scores.influence import influence_blocks
from infl.scores.sufficient_statistics import own_statistics
from infl.training.subsets import Design, draw_masks
from tests.streaming import InBlocks

FIXED = ("left-out", "trained")  # protocols in which the column itself is known to be out, or in


def loop_contrast(masks, outcomes, source, column, protocol, *, binary):
    """Weighted difference in means of one pair by a plain loop: (value, se, n_in, n_out).

    The error is Welch's, or for 0/1 outcomes that of Agresti & Caffo.
    """
    sides = {True: [], False: []}
    for model in range(len(masks)):
        if protocol == "left-out" and masks[model, column]:
            continue
        if protocol == "trained" and not masks[model, column]:
            continue
        is_in, others = bool(masks[model, source]), np.delete(masks[model], [column] if protocol in FIXED else [])
        share = others.mean()
        sides[is_in].append((1 - share if is_in else share, float(outcomes[model, column])))
    value, variance = 0.0, 0.0
    for sign, is_in in ((1, True), (-1, False)):
        if not sides[is_in]:
            return np.nan, np.nan, len(sides[True]), len(sides[False])
        w, y = np.array(sides[is_in]).T
        mean = np.average(y, weights=w)
        effective = w.sum() ** 2 / (w**2).sum()
        value += sign * mean
        if len(w) < 2:
            variance = np.nan
        elif binary:
            smoothed = (mean * effective + 1) / (effective + 2)
            variance += smoothed * (1 - smoothed) / (effective + 2)
        else:
            variance += np.average((y - mean) ** 2, weights=w) * effective / (effective - 1) / effective
    return value, np.sqrt(variance), len(sides[True]), len(sides[False])


@pytest.mark.parametrize("protocol", ["held-out", "left-out", "trained"])
def test_the_size_of_the_subset_is_not_credited_to_its_members(protocol):
    """Outcomes that depend on the size alone, over a range of sizes: every contrast is zero within its error.

    The plain difference in means is not: members are found in larger subsets.
    """
    masks = draw_masks(Design("uniform", (0.3, 0.95)), range(3000), n_train=30, seed=0)
    rng = np.random.RandomState(0)
    margin = 6 * masks.mean(axis=1, keepdims=True) + 0.3 * rng.randn(3000, 60)
    estimate = infl.influence(Outcomes(masks, margin=margin), protocol=protocol, outcome="margin")
    plain = margin[masks[:, 0], 45].mean() - margin[~masks[:, 0], 45].mean()
    assert plain > 0.2
    z = (estimate.value / estimate.se)[np.isfinite(estimate.value)]
    assert abs(z.mean()) < 0.2
    assert 0.8 < z.std() < 1.25


@pytest.fixture(scope="module")
def small():
    """23 models of 6 training and 4 held-out examples; example 5 is in every model, example 4 in none."""
    rng = np.random.RandomState(0)
    masks = rng.rand(23, 6) < 0.5
    masks[:, 5], masks[:, 4] = True, False
    return Outcomes(masks, rng.rand(23, 10) < 0.6, rng.randn(23, 10).astype(np.float32))


@pytest.mark.parametrize("outcome", ["correct", "margin"])
@pytest.mark.parametrize("protocol", ["held-out", "left-out", "trained"])
def test_influence_equals_a_loop_over_pairs(small, protocol, outcome):
    estimate = infl.influence(small, protocol=protocol, outcome=outcome)
    first = 6 if protocol == "held-out" else 0
    for source in range(6):
        for column in range(estimate.value.shape[1]):
            value, se, n_in, n_out = loop_contrast(
                small.masks, small.of(outcome), source, first + column, protocol, binary=outcome == "correct"
            )
            if protocol != "held-out" and source == column:
                value = se = np.nan
            np.testing.assert_allclose(estimate.value[source, column], value, atol=1e-5)
            np.testing.assert_allclose(estimate.se[source, column], se, atol=1e-5)
            counts = (np.broadcast_to(a, estimate.value.shape)[source, column] for a in (estimate.n_in, estimate.n_out))
            assert tuple(counts) == (n_in, n_out)


def test_memorization_equals_a_loop_and_is_nan_where_a_side_is_empty(small):
    estimate = infl.memorization(small)
    for i in range(6):
        value, se, n_in, n_out = loop_contrast(small.masks, small.correct, i, i, "all", binary=True)
        np.testing.assert_allclose(np.array([estimate.value[i], estimate.se[i]]), np.array([value, se]), atol=1e-12)
        assert (estimate.n_in[i], estimate.n_out[i]) == (n_in, n_out)
    assert np.isnan(estimate.value[[4, 5]]).all()
    assert estimate.n_in[4] == 0
    assert estimate.n_out[5] == 0


def test_memorization_is_exactly_zero_where_all_models_agree():
    """Rounding in its place would put examples that nobody forgets in an order, and ranks would mean something."""
    draws = np.random.default_rng(5)
    masks = draws.random((777, 40)) < draws.uniform(0.5, 0.95, (777, 1))
    for right in (True, False):
        value = infl.memorization(Outcomes(masks, np.full((777, 40), right))).value
        np.testing.assert_array_equal(value, np.zeros(40))


@pytest.mark.parametrize(("n_rows", "n_columns"), [(1, 3), (5, 1), (100, 1024)])
def test_block_sizes_do_not_affect_results(small, n_rows, n_columns):
    settings: Any = {"protocol": "left-out", "outcome": "margin"}
    parts = influence_blocks(InBlocks(small, n_rows), **settings, n_columns=n_columns)
    whole = infl.influence(small, **settings).value
    np.testing.assert_allclose(np.concatenate([part.value for part in parts], axis=1), whole, atol=1e-6)
    many = contrast(own_statistics(small, outcome="correct", n_rows=n_rows), protocol="own", outcome="correct")
    np.testing.assert_allclose(many.value, infl.memorization(small).value, atol=1e-12)


def test_planted_effects_are_recovered_exactly():
    """margin_j = base_j + sum_i effect_ij in_i over all subsets of 3 of 6: contrasts are known exactly, to rounding.

    At one size, i comes in by taking one of the five others out: its contrast is its effect less their mean.
    """
    masks = np.array([[i in chosen for i in range(6)] for chosen in itertools.combinations(range(6), 3)])
    rng = np.random.RandomState(1)
    base, effect = rng.randn(10), rng.randn(6, 10)
    outcomes = Outcomes(masks, margin=(base + masks @ effect).astype(np.float64))
    exact = effect - (effect.sum(axis=0) - effect) / 5
    np.testing.assert_allclose(infl.influence(outcomes, outcome="margin").value, exact[:, 6:], atol=1e-5)
    np.testing.assert_allclose(infl.memorization(outcomes, outcome="margin").value, np.diagonal(exact), atol=1e-5)
    left_out = infl.influence(outcomes, outcome="margin", protocol="left-out").value
    for i in range(6):
        for j in set(range(6)) - {i}:
            others = [k for k in range(6) if k not in (i, j)]
            assert left_out[i, j] == pytest.approx(effect[i, j] - effect[others, j].mean(), abs=1e-5)


def spread_and_errors(design, outcomes_of, *, n_runs, n_models, n, score=infl.influence):
    """Scores of repeated runs: their means, and their root mean square spread over that of the errors they state."""
    runs = []
    for run in range(n_runs):
        masks = draw_masks(design, range(n_models), n_train=n, seed=run)
        strata = None if design.period == 1 else np.arange(n_models) // design.period
        outcome, array = outcomes_of(masks)
        runs.append(score(Outcomes(masks, **{outcome: array}, strata=strata), outcome=outcome))
    values, errors = (np.stack([getattr(run, name) for run in runs]) for name in ("value", "se"))
    return values.mean(axis=0), np.sqrt(np.mean(values.var(axis=0, ddof=1)) / np.mean(np.square(errors)))


def composition(masks, effect, twos):
    """Margins that follow from the subset: effects of single examples, and interactions of two."""
    signs = 2.0 * masks - 1
    return masks @ effect + np.einsum("ti,tk,ikj->tj", signs, signs, twos, optimize=True)


DESIGNS = [
    ("uniform", 0.7),
    *(
        pytest.param(*one, marks=pytest.mark.slow)
        for one in (("balanced", 0.7), ("paired", 0.5), ("uniform", (0.4, 0.9)))
    ),
]


@pytest.mark.parametrize("world", ["noise", pytest.param("composition", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("kind", "fraction"), DESIGNS)
def test_standard_errors_equal_the_spread_over_repeated_runs(kind, fraction, world):
    """200 runs of 200 models: 0/1 outcomes that are mostly noise, and margins that follow from the subset's composition.

    The root mean square error of all scores over the runs must equal the root mean square of the standard errors within
    4%: 200 runs x 30 x 20 scores leave a sampling error below 1%. In the second world interactions of two examples
    weigh most. Complementary halves cancel them, so without strata the errors of `paired` would be far too large there, and
    those of `balanced` 4% too small.
    """
    n, m, rng = 30, 20, np.random.RandomState(2)
    base, effect = rng.uniform(0.2, 0.4, m), rng.uniform(0, 0.02, (n, m))
    effect[0] = 0.2
    twos = rng.randn(n, n, m) / n

    def outcomes_of(masks):
        if world == "noise":
            return "correct", np.c_[masks, rng.rand(len(masks), m) < base + masks @ effect]
        return "margin", np.c_[masks, composition(masks, effect, twos)]

    mean, ratio = spread_and_errors(Design(kind, fraction), outcomes_of, n_runs=200, n_models=200, n=n)
    if world == "noise":
        # Subsets of one size: putting i in takes another out, so the contrast is i's effect less the others' mean effect.
        expected = effect - (effect.sum(axis=0) - effect) / (n - 1)
        np.testing.assert_allclose(mean, expected, atol=5 * 0.077 / np.sqrt(200))
    assert 0.96 < ratio < 1.04


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "fraction"), [("balanced", 0.7), ("paired", 0.5)])
def test_errors_of_memorization_know_the_design(kind, fraction):
    """As above, for each example's own outcome, which its own presence moves far: 300 runs leave an error of 2%."""
    n, rng = 40, np.random.RandomState(5)
    own, effect, twos = rng.uniform(0, 3, n), rng.randn(n, n) / 8, rng.randn(n, n, n) / n

    def outcomes_of(masks):
        return "margin", composition(masks, effect, twos) + own * masks

    design = Design(kind, fraction)
    _, ratio = spread_and_errors(design, outcomes_of, n_runs=300, n_models=120, n=n, score=infl.memorization)
    assert 0.94 < ratio < 1.06


def test_shuffled_masks_give_zero_within_the_errors():
    """Masks of one run against outcomes of another: z = score / se must be standard normal, checked by its variance."""
    rng = np.random.RandomState(3)
    masks = draw_masks(Design("uniform", 0.7), range(400), n_train=40, seed=0)
    correct = rng.rand(400, 90) < rng.uniform(0.3, 0.7, 90)
    correct[:, :40] |= masks  # strongly memorized
    shuffled = masks[rng.permutation(400)]
    estimate = infl.influence(Outcomes(shuffled, correct))
    z = (estimate.value / estimate.se).ravel()
    assert abs(z.mean()) < 4.5 / np.sqrt(len(z) / 10)
    assert 0.9 < z.var() < 1.1
    own = infl.memorization(Outcomes(shuffled, correct))
    assert (2 * stats.norm.sf(np.abs(own.value / own.se))).min() > 1e-4 / 40
    unshuffled = infl.memorization(Outcomes(masks, correct))
    assert (unshuffled.value / unshuffled.se > 5).all()


def test_a_difference_without_an_error_has_no_p_value():
    """Margins that are +5 with the source and -5 without say nothing of how they would scatter; equal ones differ by chance."""
    masks = np.arange(8)[:, None] % 2 == np.arange(2)
    estimate = infl.influence(
        Outcomes(masks, margin=np.c_[masks, np.where(masks[:, 0], 5.0, -5.0), np.ones(8)]), outcome="margin"
    )
    assert estimate.p is not None
    np.testing.assert_array_equal(estimate.value, [[10, 0], [-10, 0]])
    np.testing.assert_array_equal(estimate.se, 0)
    np.testing.assert_array_equal(estimate.p, [[np.nan, 1], [np.nan, 1]])
    assert np.isnan([estimate.rankable, *infl.interval(estimate)]).all()


def test_one_model_gives_nan_not_a_number(small):
    one = Outcomes(small.masks[:1], small.correct[:1])
    estimate = infl.memorization(one)
    assert np.isnan(estimate.value).all()
    assert np.isnan(estimate.se).all()
    assert (estimate.n_in + estimate.n_out == 1).all()


def test_blocks_part_no_stratum():
    """Whatever their size, so that errors do not hang on it; a stratum longer than a block cannot be helped."""
    masks = draw_masks(Design("balanced", 0.7), range(40), n_train=12, seed=0)
    kept = np.r_[0:13, 15:40]  # two models of the second period diverged
    outcomes = Outcomes(masks[kept], masks[kept], strata=kept // 10)
    for n_rows in (7, 10, 19, 21, 100):
        blocks = list(outcomes.blocks(n_rows=n_rows))
        np.testing.assert_array_equal(np.concatenate([block.masks for block in blocks]), masks[kept])
        assert max(block.n_models for block in blocks) <= n_rows
        if n_rows >= 10:
            strata = [np.asarray(block.strata) for block in blocks]
            assert all(a[-1] < b[0] for a, b in itertools.pairwise(strata))

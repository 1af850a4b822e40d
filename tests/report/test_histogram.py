"""The histogram of memorization stands beside the one that chance draws: a reader takes the difference for memorization, so
the null must be what masks shuffled against the outcomes give, and the bars' errors what training the models anew gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

import infl
from infl.records import Outcomes
from infl.report import plot
from infl.report.plot.histogram import expected_counts
from infl.training.subsets import draw_masks

N, T = 400, 300


def outline(ax):
    (null,) = [patch for patch in ax.patches if patch.get_gid() == "null"]
    values, edges, _ = null.get_data()
    return values, edges


def bars(ax):
    counts = np.array([bar.get_height() for bar in ax.containers[0]])
    edges = np.array([bar.get_x() for bar in ax.containers[0]])
    return counts, edges


def outcomes_of(masks, random, memorized):
    """Some examples are right half of the time, most nearly always, and those memorized only from their own presence."""
    level = np.where(np.arange(N) % 2, 0.95, 0.6)
    chance = np.where(memorized & ~masks, 0.1, level)
    return random.rand(*masks.shape) < chance


@pytest.mark.parametrize("fraction", [0.7, (0.7, 0.97)])
def test_the_null_is_what_shuffled_masks_bring(fraction):
    random = np.random.RandomState(0)
    masks = draw_masks(infl.Design("uniform", fraction), range(T), n_train=N, seed=0)
    correct = outcomes_of(masks, random, np.arange(N) < 20)
    expected, edges = outline(plot.memorization(infl.memorization(Outcomes(masks, correct=correct))))
    shuffled = np.array(
        [
            np.histogram(infl.memorization(Outcomes(masks[random.permutation(T)], correct=correct)).value, edges)[0]
            for _ in range(150)
        ]
    )
    found, error = shuffled.mean(axis=0), shuffled.std(axis=0) / np.sqrt(150)
    likely = found > 1
    # The normal law stands in for skewed ones: within a tenth of the counts, and a tenth of an example in the tails.
    assert likely.sum() > 8
    np.testing.assert_array_less(np.abs(expected - found)[likely], 0.1 * found[likely] + 4 * error[likely] + 0.1)
    np.testing.assert_array_less(np.abs(expected - found)[~likely], 0.5)


def test_counts_of_models_trained_anew_scatter_no_more_than_the_errors_say():
    random = np.random.RandomState(1)
    memorized = np.arange(N) % 5 == 0
    edges = np.linspace(-0.5, 1, 8)
    counts, variances = [], []
    for seed in range(60):
        masks = draw_masks(infl.Design("uniform", 0.7), range(T), n_train=N, seed=seed)
        scores = infl.memorization(Outcomes(masks, correct=outcomes_of(masks, random, memorized)))
        chance = expected_counts(scores.value, scores.se, edges)
        counts.append(np.histogram(scores.value, edges)[0])
        variances.append((chance * (1 - chance)).sum(axis=0))
    spread, stated = np.std(counts, axis=0), np.sqrt(np.mean(variances, axis=0))
    busy = spread > 1
    assert busy.sum() >= 3
    # A standard deviation from 60 repeats is known to 9%. Scores carry their noise already and are smeared once more.
    ratio = stated[busy] / spread[busy]
    assert (ratio > 0.73).all()
    assert 1 < ratio.mean() < 2


def test_bars_reach_the_stated_error_of_each_count():
    scores = infl.memorization(Outcomes(np.arange(40)[:, None] % 2 == np.arange(2), correct=np.ones((40, 2), bool)))
    scores = replace(scores, value=np.array([0.0, 0.5]), se=np.array([0.1, 0.05]), mean_out=None)
    ax: Any = plot.memorization(scores)
    width = 0.25 / 10.5
    (drawn,) = [c for c in ax.containers if c.get_label() == "_counts"]
    segments = np.array(drawn.lines[2][0].get_segments())
    assert len(segments) == 2
    for (x, low), (_, high) in segments:
        q = norm.cdf(x + width / 2, [0.0, 0.5], [0.1, 0.05]) - norm.cdf(x - width / 2, [0.0, 0.5], [0.1, 0.05])
        np.testing.assert_allclose(high, 1 + np.sqrt((q * (1 - q)).sum()), rtol=1e-6)
        np.testing.assert_allclose(low, 1 - np.sqrt((q * (1 - q)).sum()), rtol=1e-6, atol=1e-9)


def test_every_score_is_in_a_bar_and_what_is_missing_is_counted(memorization):
    ax: Any = plot.memorization(memorization)
    assert sum(bars(ax)[0]) == 37
    assert "3 without an estimate not shown" in [text.get_text() for text in ax.texts]
    value = np.arange(40) * 0.025 - 0.1  # on the edges of bars
    for lowest in range(20):
        ends = replace(memorization, value=np.where(np.arange(40) < 20, value[lowest], value[39 - lowest]))
        assert sum(bars(plot.memorization(ends))[0]) == 40
    decades = np.where(np.arange(400) < 5, 0.8, 0.01)
    assert plot.memorization(replace(memorization, value=decades, se=decades)).get_yscale() == "log"
    unknown = replace(memorization, se=memorization.se * np.nan)
    assert not [patch for patch in plot.memorization(unknown).patches if patch.get_gid() == "null"]


@pytest.mark.parametrize("outcome", ["correct", "margin"])
def test_scores_that_are_all_missing_or_all_equal_are_drawn(memorization, outcome):
    missing = memorization.value * np.nan
    figure: Any = plot.memorization(replace(memorization, value=missing, se=missing, outcome=outcome)).figure
    figure.draw_without_rendering()
    equal = plot.memorization(replace(memorization, value=np.full(40, 0.3), outcome=outcome)).containers[0]
    assert sum(bar.get_height() for bar in equal) == 40
    assert all(bar.get_width() > 0 for bar in equal)


def test_the_number_memorized_is_written_and_its_bound_drawn(memorization):
    memorization = replace(memorization, se=4 * memorization.se)
    ax: Any = plot.memorization(memorization)
    (bound,) = [line for line in ax.get_lines() if line.get_gid() == "memorized"]
    assert set(np.asarray(bound.get_xdata())) == {0.25}
    assert np.isclose(bars(ax)[1], 0.25).any()
    beyond, expected = int(np.sum(memorization.value >= 0.25)), norm.sf(0.25 / memorization.se[3:]).sum()
    said = [text.get_text() for text in ax.get_legend().get_texts()]
    assert f"{beyond} of 37 are ≥ 0.25 ({expected:.1f} expected)" in said
    log_odds = plot.memorization(replace(memorization, outcome="margin"))  # which have no such bound
    assert not [line for line in log_odds.get_lines() if line.get_gid() == "memorized"]

"""Reliability is read off where points lie and how far their bars reach: both are compared with slow loops, and the bars
also with the scatter of measurements made anew, in which models of one key move all sets together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import optimize

from infl.records import Effects, ForgetSet
from infl.report.plot import agreement, reliability
from infl.report.plot.calibration import BIN_WIDTH, mean_of_bin, wilson_interval
from infl.scores.agreement import measure_agreement

N, M, R = 20, 30, 12
SETS = (ForgetSet("a", (0, 1, 2)), ForgetSet("b", (3, 4, 5, 6, 7)))


def predictions(random) -> list[Effects]:
    nothing = np.zeros((0, N + M))
    return [Effects(s, N, random.uniform(-0.3, 0.9, N + M), np.full(N + M, 0.1), nothing, "made up", 100) for s in SETS]


def measurements(random, truths, *, n=(R, R)) -> list[Effects]:
    """Every replicate has a mood that all sets of its key share."""
    mood = random.normal(0, 0.3, max(n))
    made = []
    for s, truth, r in zip(SETS, truths, n, strict=True):
        replicates = truth + mood[:r, None] + random.normal(0, 0.2, (r, N + M))
        made.append(Effects(s, N, replicates.mean(axis=0), replicates.std(axis=0), replicates, "retrained", r))
    return made


def points(ax) -> dict[str, Any]:
    """[bins, 4]: x, y and ends of the bar, by series."""
    found = {}
    for container in ax.containers:
        x, y = container.lines[0].get_xydata().T
        bars = np.array(container.lines[2][0].get_segments())[:, :, 1]
        found[container.get_label()] = np.column_stack([x, y, bars])
    return found


def test_points_stand_at_the_means_of_their_bins():
    random = np.random.RandomState(0)
    predicted = predictions(random)
    measured = measurements(random, [one.effect for one in predicted])
    found = points(reliability(predicted, measured[::-1]))
    for label, members in (("members of the forget set", True), ("held-out examples", False)):
        bins: dict[int, list[tuple[float, float]]] = {}
        for one, other in zip(predicted, measured, strict=True):
            for j in one.forget_set.ids if members else range(N, N + M):
                k = round(one.effect[j] / BIN_WIDTH)  # 0 is in the middle of a bin
                bins.setdefault(k, []).append((one.effect[j], other.effect[j]))
        wanted = [np.mean(bins[k], axis=0) for k in sorted(bins)]
        np.testing.assert_allclose(found[label][:, :2], wanted)


def test_bars_are_the_scatter_of_the_mean_over_measurements_made_anew():
    random = np.random.RandomState(1)
    predicted = predictions(random)
    truths = [one.effect for one in predicted]
    for n in ((R, R), (6, R)):
        for members in (True, False):
            means = [
                mean_of_bin(list(zip(predicted, measurements(random, truths, n=n), strict=True)), members, 0, 1.0)
                for _ in range(300)
            ]
            _, y, se, _ = np.array(means).T
            # A standard deviation from 300 repeats is known to 4%; two series by two designs are compared.
            np.testing.assert_allclose(np.sqrt(np.mean(se**2)), y.std(), rtol=0.12)


def test_replicates_that_agree_have_the_error_of_one_outcome():
    predicted = predictions(np.random.RandomState(0))[:1]
    replicates = np.ones((R, N + M))
    measured = [replace(predicted[0], effect=np.ones(N + M), replicates=replicates, source="retrained")]
    ((_, y, low, high),) = points(reliability(predicted, measured))["members of the forget set"][-1:]
    n = int((np.round(predicted[0].effect[[0, 1, 2]]) == np.round(predicted[0].effect[[0, 1, 2]]).max()).sum())
    np.testing.assert_allclose([y - low, high - y], 1 / (n * R))


def sure(regime: str, p: float) -> dict[str, float]:
    rest = (1 - p) / 3
    return {name: p if name == regime else rest for name in ("no-op", "local", "spreading", "indirect")}


def test_stated_probabilities_stand_against_what_retraining_gives_the_same_regime(make_verdict):
    stated = [("local", 0.92, 0.9), ("local", 0.94, 0.2), ("no-op", 0.93, 1.0), ("spreading", 0.55, 0.4)]
    predicted = [make_verdict(str(k), 0.5, 0.2, probability=sure(r, p)) for k, (r, p, _) in enumerate(stated)]
    measured = [make_verdict(str(k), 0.5, 0.2, probability=sure(r, t)) for k, (r, _, t) in enumerate(stated)]
    alone = make_verdict("alone", 0.5, 0.2, probability=sure("local", 0.9))
    ax: Any = reliability([*predicted, alone], measured)
    found = np.array([c.lines[0].get_xydata()[0] for c in ax.containers])
    np.testing.assert_allclose(found, [[0.55, 0.4], [0.93, 0.7]])
    assert [text.get_text() for text in ax.texts] == ["1", "3", "1 set without both left out"]
    low, high = wilson_interval(0.7, 3)
    bars = ax.containers[1].lines[2][0].get_segments()[0]
    np.testing.assert_allclose(bars[:, 1], [low, high])


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_interval_of_a_share_is_where_it_would_be_one_standard_error_off(share):
    def off(p: float) -> float:
        return (share - p) ** 2 - p * (1 - p) / 7

    root: Any = optimize.brentq
    low, high = wilson_interval(share, 7)
    np.testing.assert_allclose(low, root(off, 0, share - 1e-9) if share else 0, atol=1e-9)
    np.testing.assert_allclose(high, root(off, share + 1e-9, 1) if share < 1 else 1, atol=1e-9)


def test_scores_are_drawn_against_each_other_with_their_errors_and_those_left_out_are_counted() -> None:
    ids, one, unknown = np.arange(3000), np.linspace(-1, 1, 3000), np.full(3000, np.nan)
    scores = measure_agreement(one, one**3, np.full(3000, 0.1), unknown, source=ids, target=ids)
    ax = agreement(scores, names=("a$_run", "b" * 99))
    (drawn,) = ax.containers
    x, y = np.transpose(drawn[0].get_xydata())
    assert len(x) == 2000
    np.testing.assert_allclose(y, x**3, atol=1e-12)
    widths, heights = ([np.ptp(np.asarray(line), axis=0).max() for line in bar.get_segments()] for bar in drawn[2])
    np.testing.assert_allclose(widths, 0.2)
    assert not any(heights)  # nothing is known of them
    assert "2,000 of 3,000 drawn; Spearman 1.000" in ax.texts[-1].get_text()
    assert (ax.get_xlabel(), len(ax.get_ylabel())) == ("a$_run", 40)
    ax.figure.canvas.draw()

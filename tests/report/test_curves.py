"""Doses and errors are read off the axes: fractions, effects, errors and laws stand where the records say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from infl.records import Estimate, ForgetSet
from infl.report.plot import dose_response, error_curve

NAN = float("nan")
GROUP = tuple(range(10))


@pytest.fixture
def dose(make_verdict):
    def make(size, self_influence, cross, *, group=GROUP, name="class 4", se=(0.02, 0.05)):
        whole = size == len(group)
        title = name if whole else f"{size / len(group):.0%} of {name}"
        forget_set = ForgetSet(title, group[:size], None if whole else group)
        return replace(make_verdict("x", self_influence, cross, se=se), forget_set=forget_set)

    return make


def curves(ax) -> Any:
    return {c.get_label(): c.lines[0].get_xydata() for c in ax.containers}


def line(ax, gid) -> Any:
    (found,) = [one for one in ax.get_lines() if one.get_gid() == gid]
    return found.get_xydata()


def test_a_dose_is_the_fraction_and_what_others_lose_per_example_of_the_group(dose):
    measured = [dose(10, 1.0, 0.9), dose(2, 0.1, 0.05), dose(8, 0.4, 0.2)]  # in any order
    ax: Any = dose_response([dose(5, 0.2, 0.1)], measured)
    found = curves(ax)
    np.testing.assert_allclose(found["_measured:class 4"], [[0.2, 0.01], [0.8, 0.16], [1, 0.9]])
    np.testing.assert_allclose(found["_predicted:class 4"], [[0.5, 0.05]])
    (bars,) = [c for c in ax.containers if c.get_label() == "_measured:class 4"]
    segments = bars.lines[2][0].get_segments()
    np.testing.assert_allclose(segments[1][:, 1], [0.16 - 0.8 * 0.05, 0.16 + 0.8 * 0.05])
    np.testing.assert_allclose(line(ax, "proportional:class 4"), [[0, 0], [1, 0.9]])


def test_groups_have_curves_of_their_own_and_are_named_without_the_fraction(dose):
    other = tuple(range(20, 24))
    ax: Any = dose_response([dose(2, 0.1, 0.1), dose(1, 0.1, 0.2, group=other, name="$rare$")])
    assert set(curves(ax)) == {"_predicted:class 4", "_predicted:$rare$"}
    styles = {(c.lines[0].get_marker(), c.lines[0].get_color()) for c in ax.containers}
    assert len({marker for marker, _ in styles}) == len({color for _, color in styles}) == 2
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["class 4", "$rare$", "predicted"]
    ax.figure.draw_without_rendering()


def scores(se, outcome: Any = "correct"):
    se = np.asarray(se, float)
    return Estimate(se, se, se, se, "own", outcome)


def test_errors_are_root_mean_squares_with_their_percentiles():
    few, many = np.r_[NAN, np.random.RandomState(0).uniform(0.05, 0.2, 50)], np.linspace(0.01, 0.02, 11)
    ax: Any = error_curve({400: scores(many), 100: scores(few)}, planned={100: 0.1, 200: 0.05}, target=0.02)
    ((_, points),) = curves(ax).items()
    known = few[1:]
    np.testing.assert_allclose(points, [[100, np.sqrt((known**2).mean())], [400, np.sqrt((many**2).mean())]])
    bars = ax.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(bars[1][:, 1], [0.011, 0.019])
    np.testing.assert_allclose(bars[0][:, 1], np.quantile(known, [0.1, 0.9]))
    law = line(ax, "law")
    np.testing.assert_allclose(law[:, 1] * np.sqrt(law[:, 0]), points[-1, 1] * 20)
    np.testing.assert_allclose(line(ax, "planned"), [[100, 0.1], [200, 0.05]])
    assert set(line(ax, "target")[:, 1]) == {0.02}
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["100", "200", "400"]


def test_errors_that_are_unknown_leave_an_empty_figure():
    error_curve({10: scores([NAN])}).figure.draw_without_rendering()  # type: ignore[union-attr]
    error_curve({}).figure.draw_without_rendering()  # type: ignore[union-attr]

"""The figure of distances puts each method where its evaluation says, with one standard error, and draws no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

import infl
from infl.records import Distance, Evaluation, ForgetSet, Quantity, Thresholds, Verdict
from infl.report.plot.distances import distances

UNKNOWN = Quantity(0.1, 0.1)
VERDICT = Verdict(ForgetSet("s", (1,)), "no-op", {}, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, Thresholds(), "retrained", 8)


def evaluation(method: str, x: float, y: float | None) -> Evaluation:
    one, other = (None if v is None else Distance(Quantity(v, 0.02), v, v, UNKNOWN, {}, 8) for v in (x, y))
    assert one is not None
    return Evaluation(VERDICT.forget_set, method, "neither", one, other, VERDICT, VERDICT, 0.05)


def points(ax: Axes) -> list[tuple[float, float]]:
    drawn = [np.asarray(line.get_xydata()) for line in ax.lines]
    return [(float(xy[0, 0]), float(xy[0, 1])) for xy in drawn if len(xy) == 1]


def test_points_lie_at_both_distances_and_below_each_other_where_there_is_one() -> None:
    places = {"nothing": (0.2, 0.5), "fine-tune": (0.1, 0.4), "$push$": (0.6, -0.01)}
    rows = [evaluation(name, x, y) for name, (x, y) in places.items()]
    ax = distances(rows)
    assert points(ax) == list(places.values())
    assert {text.get_text() for text in ax.texts} >= set(places)
    bars = [one for one in ax.collections if isinstance(one, LineCollection)][:6]
    np.testing.assert_allclose([np.ptp(bar.get_segments()[0], axis=0).max() for bar in bars], 0.04)
    flat = distances([replace(one, to_full_oracle=None) for one in rows])
    assert [label.get_text() for label in flat.get_yticklabels()] == list(reversed(places))
    assert [x for x, _ in points(flat)] == [0.2, 0.1, 0.6]


def test_several_sets_do_not_share_a_figure() -> None:
    other = replace(evaluation("x", 0, 0), forget_set=ForgetSet("other", (2,)))
    for given in ([], [evaluation("x", 0, 0), other]):
        with pytest.raises(infl.InputError, match="one forget set"):
            distances(given)

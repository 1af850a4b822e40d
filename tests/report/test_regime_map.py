"""The map of regimes shows the verdicts and nothing else: a reader takes values, errors and regimes off it by eye, so
each marker, bar and line has to stand where its record says, and what cannot be drawn has to be counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

from infl.records import Regime, Thresholds
from infl.report.plot import regime_map, save
from infl.report.style import REGIME_STYLES

NAN = float("nan")


def drawn(ax) -> dict[str, Any]:
    return {str(c.get_label()): c for c in ax.containers if isinstance(c, ErrorbarContainer)}


def texts(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def names(ax, wanted) -> list[Any]:
    return [text for text in ax.texts if text.get_text() in set(wanted)]


def settle(ax: Any) -> None:
    ax.figure.draw_without_rendering()


def line(ax, gid) -> Any:
    (found,) = [one for one in ax.get_lines() if one.get_gid() == gid]
    return found


def pairs(ax) -> list[Any]:
    return [one for one in ax.get_lines() if str(one.get_gid()).startswith("set-") and len(one.get_xdata()) == 2]


def test_markers_stand_at_the_values_hollow_as_predicted_and_filled_as_measured(make_verdict):
    ax = regime_map(
        [make_verdict("a", 0.9, 0.03), make_verdict("b", 0.02, 0.4, regime="indirect")],
        [make_verdict("a", 0.7, 0.3, regime="spreading")],
    )
    expected: dict[str, tuple[float, float, Regime, bool]] = {
        "_predicted:a": (0.9, 0.03, "local", False),
        "_predicted:b": (0.02, 0.4, "indirect", False),
        "_measured:a": (0.7, 0.3, "spreading", True),
    }
    found = drawn(ax)
    assert found.keys() == expected.keys()
    for label, (x, y, regime, filled) in expected.items():
        marker = found[label].lines[0]
        style = REGIME_STYLES[regime]
        np.testing.assert_array_equal(marker.get_xydata(), [[x, y]])
        assert marker.get_marker() == style.marker
        assert to_hex(marker.get_markeredgecolor()) == style.color.lower()
        assert to_hex(marker.get_markerfacecolor()) == (style.color.lower() if filled else "#ffffff")


def test_bars_reach_one_standard_error_and_thresholds_are_where_the_verdicts_say(make_verdict):
    thresholds = Thresholds(self_influence=0.15, cross_influence=0.3, cross="net")
    ax = regime_map([make_verdict("a", 0.5, 0.2, se=(0.04, 0.07), thresholds=thresholds)])
    across, up = (bar.get_segments()[0] for bar in drawn(ax)["_predicted:a"].lines[2])
    np.testing.assert_allclose(across, [[0.46, 0.2], [0.54, 0.2]])
    np.testing.assert_allclose(up, [[0.5, 0.13], [0.5, 0.27]])
    assert set(line(ax, "threshold-self").get_xdata()) == {0.15}
    assert set(line(ax, "threshold-cross").get_ydata()) == {0.3}


def test_a_line_joins_the_prediction_and_the_measurement_of_one_set(make_verdict):
    ax = regime_map(
        [make_verdict("a", 0.9, 0.03), make_verdict("b", 0.3, 0.4)],
        [make_verdict("c", 0.1, 0.1), make_verdict("a", 0.7, 0.3)],
    )
    (joined,) = pairs(ax)
    assert joined.get_gid() == drawn(ax)["_measured:a"].lines[0].get_gid()
    np.testing.assert_array_equal(joined.get_xydata(), [[0.9, 0.03], [0.7, 0.3]])
    other_examples = regime_map([make_verdict("a", 0.9, 0.03, size=3)], [make_verdict("a", 0.7, 0.3, size=4)])
    assert not pairs(other_examples)


def test_an_unknown_value_is_left_out_and_counted_and_an_unknown_error_has_no_bar(make_verdict):
    verdicts = [make_verdict("a", NAN, 0.3), make_verdict("b", 0.2, NAN), make_verdict("c", 0.4, 0.2, se=(0.1, NAN))]
    ax = regime_map(verdicts)
    assert list(drawn(ax)) == ["_predicted:c"]
    assert "2 verdicts without an estimate not drawn" in texts(ax)
    assert not names(ax, ["a", "b"])
    (bar,) = drawn(ax)["_predicted:c"].lines[2]
    np.testing.assert_allclose(bar.get_segments()[0], [[0.3, 0.2], [0.5, 0.2]])
    assert "no forget sets" in texts(regime_map([]))


@pytest.mark.parametrize(("largest", "scale"), [(0.6, "linear"), (9.0, "symlog")])
def test_the_cross_axis_is_logarithmic_only_where_values_are_large(make_verdict, largest, scale):
    ax = regime_map([make_verdict("a", 0.4, -0.1), make_verdict("b", 0.4, largest)])
    assert ax.get_yscale() == scale
    low, high = ax.get_ylim()
    assert low < -0.15
    assert high > largest + 0.05


def test_where_harm_decides_harm_is_drawn(make_verdict):
    ax = regime_map([make_verdict("a", 0.4, 0.0, harm=0.8, thresholds=Thresholds())])
    assert drawn(ax)["_predicted:a"].lines[0].get_ydata()[0] == 0.8
    assert ax.get_ylabel().startswith("harm")


def crowd(make_verdict, count):
    rng = np.random.default_rng(2)
    spots = np.concatenate([rng.normal(0.02, 0.02, (count // 2, 2)), rng.uniform(0, 1, (count - count // 2, 2))])
    return [make_verdict(f"neighbours of {k}", x, y) for k, (x, y) in enumerate(spots)]


def test_names_cover_neither_each_other_nor_the_markers_and_stay_inside(make_verdict):
    verdicts = crowd(make_verdict, 12)
    ax = regime_map(verdicts)
    settle(ax)
    labels = names(ax, [v.forget_set.name for v in verdicts])
    assert len(labels) == 12
    boxes = [Text.get_window_extent(label) for label in labels]
    markers = ax.transData.transform([(v.self_influence.value, v.cross_influence.value) for v in verdicts])
    frame = ax.get_window_extent().padded(2)
    for k, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:k])
        assert not any(box.contains(*marker) for marker in markers)
        assert frame.contains(*box.min)
        assert frame.contains(*box.max)


def test_names_without_room_are_left_out_and_counted(make_verdict):
    verdicts = [make_verdict(f"neighbours of {k}", 0.5, 0.2) for k in range(60)]
    figure = Figure(figsize=(3, 3))
    FigureCanvasAgg(figure)
    ax = regime_map(verdicts, ax=figure.add_subplot())
    written = len(names(ax, [v.forget_set.name for v in verdicts]))
    assert 0 < written < 60
    assert f"{60 - written} names left out for want of room" in texts(ax)


def test_a_name_is_written_as_it_is_and_a_long_one_cut_in_the_middle(make_verdict):
    ax = regime_map(
        [make_verdict("costs $x_1$", 0.5, 0.1), make_verdict("a name that would not fit on any map 17", 0.8, 0.1)]
    )
    settle(ax)
    (label,) = names(ax, ["costs $x_1$"])
    assert not label.get_parse_math()
    (cut,) = [text for text in texts(ax) if text.startswith("a name")]
    assert len(cut) <= 28
    assert cut.endswith("map 17")


def test_save_writes_a_png_of_150_dots_per_inch_into_a_new_folder(make_verdict, tmp_path):
    ax = regime_map([make_verdict("a", 0.5, 0.1)])
    written = save(ax, tmp_path / "new" / "map")
    assert written == tmp_path / "new" / "map.png"
    height, width, _ = imread(written).shape
    # Cropped to what is drawn, so no larger than the figure and not much smaller.
    assert 0.85 * 6.4 * 150 < width < 6.6 * 150
    assert 0.85 * 5.2 * 150 < height < 5.4 * 150

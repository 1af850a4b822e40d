"""A reader takes numbers and signs off the matrix of classes: each cell must carry its own, with sources in rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from infl.records import Estimate
from infl.report.plot import class_influence
from infl.report.style import DARK, LIGHT, house_style

VALUE = np.array([[0.0042, -0.0011, 0.0], [-0.0021, 0.0, np.nan], [0.0001, 0.0007, -0.0042]])
SE = np.array([[0.0005, 0.0006, 0.0004], [0.0004, 0.0009, np.nan], [0.0004, 0.0003, np.nan]])


def estimate(value, se):
    return Estimate(value, se, value, value, "held-out", "correct")


def cells(ax):
    return {patch.get_gid(): patch for patch in ax.patches if str(patch.get_gid()).startswith("cell")}


def test_each_cell_has_its_value_and_error_in_the_power_of_ten_of_the_scale():
    ax: Any = class_influence(estimate(VALUE, SE), ("cat", "dog", "$ox$"))
    said = {text.get_gid(): (text.get_position(), text.get_text()) for text in ax.texts}
    for a, b in np.ndindex(3, 3):
        if np.isnan(VALUE[a, b]):
            assert f"value:{a},{b}" not in said
            continue
        (x, y), number = said[f"value:{a},{b}"]
        assert (x, round(y)) == (b, a)  # columns are influenced, rows influence
        assert float(number.replace("−", "-")) == pytest.approx(1000 * VALUE[a, b], abs=0.05)
        error = said[f"error:{a},{b}"][1]
        assert error == ("± -" if np.isnan(SE[a, b]) else f"±{1000 * SE[a, b]:.1f}")
    assert "10⁻³" in ax.figure.axes[1].get_ylabel()
    small_errors: Any = class_influence(estimate(VALUE, SE / 10))
    assert "10⁻⁴" in small_errors.figure.axes[1].get_ylabel()
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cat", "dog", "$ox$"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cat", "dog", "$ox$"]


def test_what_is_two_errors_from_nothing_is_bold():
    ax: Any = class_influence(estimate(VALUE, SE))
    bold = {text.get_gid() for text in ax.texts if text.get_weight() == "bold"}
    with np.errstate(invalid="ignore"):
        sure = np.argwhere(np.abs(VALUE) >= 2 * SE)
    assert bold == {f"value:{a},{b}" for a, b in sure}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_run_from_harm_over_paper_to_help_and_a_missing_cell_is_hatched(theme):
    with house_style(theme.name):
        drawn = cells(class_influence(estimate(VALUE, SE)))
    for place, color in (("cell:0,0", theme.helps), ("cell:2,2", theme.harms), ("cell:0,2", theme.ground)):
        np.testing.assert_allclose(to_rgb(drawn[place].get_facecolor()), to_rgb(color), atol=0.01)
    assert [place for place, cell in drawn.items() if cell.get_hatch()] == ["cell:1,2"]


def test_many_classes_have_dots_where_it_is_sure():
    value = np.random.RandomState(0).normal(size=(20, 20))
    ax: Any = class_influence(estimate(value, np.ones((20, 20)) * 0.6))
    dots = {line.get_gid() for line in ax.get_lines()}
    assert dots == {f"sure:{a},{b}" for a, b in np.argwhere(np.abs(value) >= 1.2)}
    assert not ax.texts

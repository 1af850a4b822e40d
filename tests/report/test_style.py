"""Regimes stay apart in print and for colour-blind readers, and drawing in infl's style changes nobody else's."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any, get_args

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text

import infl
import infl.report
import infl.report.plot.canvas
import infl.report.style
from infl.records import Regime
from infl.report.style import DARK, LIGHT, REGIME_STYLES, house_style

FIGURES = Path(infl.report.__file__).parent


def test_every_regime_has_a_marker_and_a_colour_of_its_own():
    assert set(REGIME_STYLES) == set(get_args(Regime))
    for a, b in itertools.combinations(REGIME_STYLES.values(), 2):
        assert a.marker != b.marker
        assert a.color != b.color


def test_the_style_holds_inside_the_block_and_is_gone_after_it_even_after_an_error():
    def interrupted() -> None:
        with house_style():
            assert dict(matplotlib.rcParams) == before | LIGHT.settings()
            raise RuntimeError

    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError):
        interrupted()
    assert dict(matplotlib.rcParams) == before


def luminance(color: str) -> float:
    """Relative luminance, WCAG 2.2."""
    channels = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot(channels, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_have_contrast_against_the_paper(theme):
    def contrast(color: str) -> float:
        dark, light = sorted([luminance(color), luminance(theme.ground)])
        return (light + 0.05) / (dark + 0.05)

    assert contrast(theme.ink) >= 7
    assert contrast(theme.quiet) >= 4.5
    for color in (theme.helps, theme.harms, *theme.cycle, *(style.color for style in theme.regimes.values())):
        assert (
            contrast(color) >= 3 or color == "#CC79A7"
        )  # Okabe and Ito's purple has 2.9 on white, and a marker of its own


def corner(ax, path) -> list[float]:
    pixels = imread(infl.report.plot.canvas.save(ax, path))
    return [round(float(channel) * 255) for channel in pixels[0, 0, :3]]


def test_a_figure_is_saved_in_the_theme_it_was_drawn_in(tmp_path):
    made_before = Figure().add_subplot()
    with house_style("dark"):
        dark = infl.plot.regime_map([])
        given = infl.plot.regime_map([], ax=made_before)
    assert corner(dark, tmp_path / "dark.png") == corner(given, tmp_path / "given.png") == [0x15, 0x18, 0x1C]
    assert corner(infl.plot.regime_map([]), tmp_path / "light.png") == [255, 255, 255]


def test_no_figure_has_colours_of_its_own():
    for path in FIGURES.rglob("*.py"):
        if path.name not in ("style.py", "classes.py"):  # the ink on a coloured cell is black or white in either theme
            assert not re.findall(r'"(?:#[0-9A-Fa-f]{6}|white|black)"', path.read_text()), path.name


# Letters that matplotlib's own font lacks


def name_in_figure(name: str, path: Path) -> Any:
    """The text of that name in a figure that was saved."""
    scores = np.array([0.9, 0.1, 0.5, 0.3])
    dataset = infl.from_arrays(
        np.zeros((4, 2, 2)), [0, 0, 1, 1], np.zeros((2, 2, 2)), [0, 1], class_names=[name, "dog"]
    )
    ax = infl.plot.memorized_gallery(infl.Estimate(scores, scores, scores, scores, "own", "correct"), dataset)
    infl.report.plot.canvas.save(ax, path / "figure.png")
    (found,) = [text for text in ax.findobj(Text) if isinstance(text, Text) and name in text.get_text()]
    return found


def test_letters_come_from_a_font_that_has_them(tmp_path):
    """Fraktur letters, which of the fonts that come with matplotlib STIX has."""
    usual, *more = [
        set(font_manager.get_font(font_manager.findfont(font_manager.FontProperties(family=[family]))).get_charmap())
        for family in name_in_figure("𝔎𝔞𝔱𝔷𝔢", tmp_path).get_fontfamily()
    ]
    letters = set(map(ord, "𝔎𝔞𝔱𝔷𝔢"))
    assert letters - usual
    assert letters <= usual.union(*more)
    assert name_in_figure("Katze", tmp_path).get_fontfamily() == ["sans-serif"]


def test_letters_that_no_font_has_are_said_once(tmp_path, monkeypatch):
    fonts = [one for one in font_manager.fontManager.ttflist if one.name == "DejaVu Sans"]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)
    monkeypatch.setattr(infl.report.plot.canvas, "_WITHOUT_FONT", set())
    with pytest.warns(UserWarning, match=r"^no font on this machine has the letters 犬 猫: ") as said:
        name_in_figure("猫犬", tmp_path)
    name_in_figure("猫犬", tmp_path)  # where a warning is an error
    assert len(said) == 1

"""Regimes stay apart in print and for colour-blind readers, and drawing in infl's style changes nobody else's."""

from __future__ import annotations

import colorsys
import itertools
from typing import get_args

import matplotlib
import pytest
from matplotlib.colors import to_rgb

from infl.records import Regime
from infl.report.style import HOUSE_STYLE, REGIME_STYLES, house_style

OKABE_ITO = {"#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"}


def test_every_regime_has_a_marker_and_a_colour_of_its_own():
    assert set(REGIME_STYLES) == set(get_args(Regime))
    for a, b in itertools.combinations(REGIME_STYLES.values(), 2):
        assert a.marker != b.marker
        assert a.color != b.color


def test_colours_are_those_of_okabe_and_ito_and_undetermined_is_grey():
    for regime, style in REGIME_STYLES.items():
        if regime == "undetermined":
            assert colorsys.rgb_to_hsv(*to_rgb(style.color))[1] == 0
        else:
            assert style.color in OKABE_ITO


def test_the_style_holds_inside_the_block_and_is_gone_after_it_even_after_an_error():
    def interrupted() -> None:
        with house_style():
            assert dict(matplotlib.rcParams) == before | HOUSE_STYLE
            raise RuntimeError

    before = dict(matplotlib.rcParams)
    with pytest.raises(RuntimeError):
        interrupted()
    assert dict(matplotlib.rcParams) == before

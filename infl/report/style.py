"""One look for everything infl draws: a colour and a marker per regime, and matplotlib's settings while drawing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from infl.records import Regime


@dataclass(frozen=True)
class RegimeStyle:
    """How a regime is drawn: the marker alone identifies it, the colour helps."""

    color: str
    marker: str


# Colours by Okabe and Ito, told apart by people with any kind of colour vision.
REGIME_STYLES: dict[Regime, RegimeStyle] = {
    "no-op": RegimeStyle("#009E73", "o"),
    "local": RegimeStyle("#0072B2", "s"),
    "spreading": RegimeStyle("#D55E00", "^"),
    "indirect": RegimeStyle("#CC79A7", "D"),
    "undetermined": RegimeStyle("#7A7A7A", "X"),
}

INK = "#222222"
QUIET = "#6B6B6B"
FAINT = "#C9C9C9"
BAND = "#E6E6E6"
HELPS = "#0072B2"
HARMS = "#D55E00"

HOUSE_STYLE: dict[str, Any] = {
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "figure.dpi": 110,
    "image.interpolation": "nearest",
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "pdf.fonttype": 42,  # text stays text in a PDF; many venues refuse the default Type 3
    "savefig.bbox": "tight",
    "savefig.dpi": 150,
    "savefig.facecolor": "white",
    "text.color": INK,
    "text.usetex": False,
    "xtick.color": QUIET,
    "xtick.labelsize": 7.5,
    "xtick.labelcolor": INK,
    "ytick.color": QUIET,
    "ytick.labelsize": 7.5,
    "ytick.labelcolor": INK,
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in infl's style inside the `with` block; the caller's settings are back afterwards."""
    import matplotlib  # here, so that tables can use the palette without it

    # `rc_context` is typed with the literal names of all settings, which a plain dict cannot show.
    with matplotlib.rc_context(HOUSE_STYLE):  # pyright: ignore[reportArgumentType]
        yield

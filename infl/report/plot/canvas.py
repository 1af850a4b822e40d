"""What every figure begins and ends with: axes to draw on, names beside points, a note below, a file."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from textalloc import allocate

from infl.records import Array, InputError
from infl.report.style import current_theme, house_style
from infl.report.text import shorten


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that pyplot knows nothing of."""
    figure = _Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


class _Figure(Figure):
    def draw(self, renderer: RendererBase) -> None:
        with fonts_of_all_letters(self):
            super().draw(renderer)


@contextmanager
def fonts_of_all_letters(figure: Figure) -> Iterator[None]:
    """In a `with` block draw letters that the usual font lacks in one of the machine's that has them; warn once of others."""
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and not text.get_text().isascii()]
    lacking = set[str]()
    for text in texts:
        letters = {letter for letter in text.get_text() if letter.isprintable() and not letter.isspace()}
        lacking |= letters - _letters_in(font_manager.findfont(text.get_fontproperties()))
    more = _fonts_with(lacking) if lacking else []
    for text in texts if more else ():
        text.set_fontfamily(list(dict.fromkeys([*text.get_fontfamily(), *more])))
    with _quiet_about_letters():
        yield


@contextmanager
def _quiet_about_letters() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        yield


_WITHOUT_FONT = set[str]()  # of which that was said


def _fonts_with(letters: set[str]) -> list[str]:
    """Names of the fewest fonts that have the letters, as far as there are any."""
    chosen, missing = list[str](), set(letters)
    # Last Resort is a font of boxes.
    fonts = {one.name: one.fname for one in font_manager.fontManager.ttflist if "Last Resort" not in one.name}
    while missing:
        best = max(fonts, key=lambda name: len(missing & _letters_in(fonts[name])))
        if not missing & _letters_in(fonts[best]):
            break
        chosen.append(best)
        missing -= _letters_in(fonts[best])
    unsaid = missing - _WITHOUT_FONT
    # As text in an SVG they stay letters, for which a browser has fonts.
    if unsaid and matplotlib.rcParams["svg.fonttype"] != "none":
        _WITHOUT_FONT.update(unsaid)
        said = f"no font on this machine has the letters {' '.join(sorted(unsaid))}: figures show boxes in their place"
        warnings.warn(f"{said}; install a font that has them, as Noto Sans CJK", stacklevel=2)
    return chosen


@cache
def _letters_in(path: str) -> frozenset[str]:
    return frozenset(map(chr, font_manager.get_font(path).get_charmap()))


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes given, in the colours of the theme, or new ones on a figure of so many inches."""
    if ax is None:
        return new_figure(width, height).add_subplot()
    theme = current_theme()
    ax.set_facecolor(theme.ground)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(color=theme.quiet, linewidth=0.7)
    ax.tick_params(color=theme.quiet, labelcolor=theme.ink, labelsize=7.5)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_color(theme.ink)
    figure = ax.get_figure(root=True)
    if theme.name == "dark" and figure is not None:  # dark axes on white paper would have white labels
        figure.set_facecolor(theme.ground)
    return ax


def legend_above(ax: Axes, handles: Sequence[Artist] | None = None, **settings: Any) -> None:
    """A legend over the axes, of these handles or of what has a label; labels are written as they are (no TeX)."""
    legend = ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0), **settings)
    for text in legend.get_texts():
        text.set_parse_math(False)


def note_below(ax: Axes, text: str) -> Annotation:
    """What a figure leaves out, small, below its right corner; hidden where there is nothing to say."""
    place: dict[str, Any] = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "va": "top"}
    return ax.annotate(text, (1, 0), (0, -34), fontsize=7, color=current_theme().quiet, **place)


def name_points(
    ax: Axes,
    points: Array | Sequence[tuple[float, float]],
    names: Sequence[str],
    *,
    avoid_points: Array | None = None,
    avoid_lines: Sequence[Array] = (),
    size: float = 6.5,
) -> int:
    """Write each name beside its point, with a thin line to it, where it covers neither another name nor a marker.

    Call it last: limits, scales and all other artists have to be settled. Names are written as they are (no TeX), long ones
    cut in the middle.

    Args:
        points: [k, 2] data coordinates.
        avoid_points: [p, 2] more points that names may not cover.
        avoid_lines: polylines [q, 2] that names may not cross.

    Returns:
        How many names found no room and were left out.
    """
    if not len(names):
        return 0
    theme, points, n_before = current_theme(), np.asarray(points), len(ax.texts)
    marks = points if avoid_points is None else np.concatenate([points, avoid_points])
    # It prints where no name at all finds room, and warns of letters for which a font is chosen when they are drawn.
    with redirect_stdout(io.StringIO()), _quiet_about_letters():
        allocate(
            ax,
            points[:, 0],
            points[:, 1],
            [shorten(name, 28) for name in names],
            x_scatter=marks[:, 0],
            y_scatter=marks[:, 1],
            x_lines=[line[:, 0] for line in avoid_lines],
            y_lines=[line[:, 1] for line in avoid_lines],
            textsize=size,
            textcolor=theme.ink,
            linecolor=theme.quiet,
            linewidth=0.4,
            margin=0.002,
            nbr_candidates=100,
            avoid_label_lines_overlap=True,
            draw_all=False,
            parse_math=False,
        )
    return len(names) - (len(ax.texts) - n_before)


def save(figure_or_axes: Figure | Axes, path: str | Path) -> Path:
    """Write the figure, cropped to what is drawn, at 150 dots per inch; the parent folder is created.

    The ending of the path decides the format (`.png` where it has none, `.pdf` and `.svg` for print). A figure is written
    in the theme that it was drawn in.

    Raises:
        InputError: where matplotlib cannot write that format.
    """
    figure = figure_or_axes if isinstance(figure_or_axes, Figure) else figure_or_axes.get_figure(root=True)
    if figure is None:
        raise InputError("save: expected a figure or axes on a figure, got axes that were removed from theirs")
    path = Path(path)
    path = path if path.suffix else path.with_name(path.name + ".png")
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in formats:
        raise InputError(f"save: expected a path ending in one of {', '.join(sorted(formats))}, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    with house_style(), fonts_of_all_letters(figure):
        figure.savefig(path, dpi=150, bbox_inches="tight")
    return path

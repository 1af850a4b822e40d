"""What every figure begins and ends with: axes to draw on, a note below them, a file."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from infl.records import InputError
from infl.report.style import current_theme, house_style


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches that pyplot knows nothing of."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def axes_or_new(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes given, in the colours of the theme, or new ones on a figure of so many inches."""
    if ax is None:
        return new_figure(width, height).add_subplot()
    theme = current_theme()
    ax.set_facecolor(theme.ground)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set(color=theme.quiet, linewidth=0.7)
    ax.tick_params(color=theme.quiet, labelcolor=theme.ink, labelsize=7.5)
    figure = ax.get_figure(root=True)
    if theme.name == "dark" and figure is not None:  # dark axes on white paper would have white labels
        figure.set_facecolor(theme.ground)
    return ax


def note_below(ax: Axes, text: str) -> Annotation:
    """What a figure leaves out, small, below its right corner; hidden where there is nothing to say."""
    note = ax.annotate(
        text, (1, 0), xytext=(0, -34), xycoords="axes fraction", textcoords="offset points", ha="right", va="top"
    )
    note.set(fontsize=7, color=current_theme().quiet)
    return note


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
    with house_style():
        figure.savefig(path, dpi=150, bbox_inches="tight")
    return path

"""Influence of classes on classes, as a coloured matrix."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.patches import Rectangle
from matplotlib.typing import ColorType

from infl.records import UNITS, Array, Estimate, InputError
from infl.report.plot.canvas import axes_or_new
from infl.report.style import house_style
from infl.report.text import shorten

_NUMBERS_UP_TO = 12
_NAMES_UP_TO = 40
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def class_influence(blocks: Estimate, class_names: tuple[str, ...] | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw how much the examples of each class help or harm each class: sources in rows, influenced classes in columns.

    Colour tells the mean influence of one pair, blue where it helps and orange where it harms, paper where it is 0. Up to
    twelve classes each cell has its value and below it the standard error, both in the power of ten that the scale names;
    values at least two standard errors from 0 are bold. With more classes a dot marks those that are at least two
    standard errors from 0. A cell without an estimate is hatched.

    Args:
        blocks: [c, c], from `infl.scores.influence.class_influence`.
        class_names: c names; None for numbers from 0.
        ax: axes to draw on; new ones where None (reach the figure by `.figure`).

    Raises:
        InputError: where the estimate is not square, or there are not as many names as classes.

    Examples:
        >>> import numpy as np
        >>> value = np.array([[0.004, -0.001], [-0.002, 0.003]])
        >>> blocks = Estimate(value, value * 0 + 0.0005, value, value, "held-out", "correct")
        >>> [text.get_text() for text in class_influence(blocks, ("cat", "dog")).texts][:4]
        ['4.0', '±0.5', '−1.0', '±0.5']
    """
    n = len(blocks.value)
    if blocks.value.shape != (n, n) or n == 0:
        raise InputError(f"blocks: expected influence of classes on classes, [c, c], got {blocks.value.shape}")
    if class_names is not None and len(class_names) != n:
        raise InputError(f"class_names: expected {n} names, one a class, got {len(class_names)}")
    names = [str(k) for k in range(n)] if class_names is None else [shorten(name, 16) for name in class_names]
    finite = blocks.value[np.isfinite(blocks.value)]
    most = float(np.abs(finite).max()) if finite.size and np.abs(finite).max() > 0 else 1.0
    power = min(0, math.floor(math.log10(most) + 1e-9))
    errors = blocks.se[np.isfinite(blocks.se)]
    if power and errors.size and np.median(errors) < 0.3 * 10**power:  # most would read ±0.2 or ±0.1
        power -= 1
    with house_style() as theme:
        side = max(3.4, min(0.52 * n, 9.0)) if n <= _NUMBERS_UP_TO else max(4.0, min(0.16 * n, 9.0))
        ax = axes_or_new(ax, side + 1.6, side + 0.6)
        colors = LinearSegmentedColormap.from_list("influence", [theme.harms, theme.ground, theme.helps])
        norm = Normalize(-most, most)
        # Cells of their own, so that they stay sharp in PDF and a missing one can be hatched.
        for a, b in np.ndindex(n, n):
            value, se = float(blocks.value[a, b]), float(blocks.se[a, b])
            known = math.isfinite(value)
            face = colors(norm(value)) if known else theme.ground
            cell = Rectangle((b - 0.5, a - 0.5), 1, 1, facecolor=face, linewidth=0, gid=f"cell:{a},{b}")
            if not known:
                cell.set(hatch="////", edgecolor=theme.faint)
            ax.add_patch(cell)
            if known:
                _mark(ax, (a, b), value, se, power, n, _ink_on(face))
        ax.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), aspect="equal")
        ax.spines[:].set_visible(False)
        shown = names if n <= _NAMES_UP_TO else []
        slanted = {"rotation": 45, "ha": "right"} if any(len(name) > 3 for name in shown) else {}
        ax.set_xticks(range(len(shown)), shown, parse_math=False, **slanted)
        ax.set_yticks(range(len(shown)), shown, parse_math=False)
        ax.tick_params(length=0)
        ax.set(xlabel="held-out examples of this class are influenced", ylabel="by training examples of this class")
        figure = ax.get_figure(root=False)
        assert figure is not None
        bar = figure.colorbar(ScalarMappable(norm, colors), ax=ax, shrink=0.75, pad=0.03, aspect=28)
        bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
        scale = f"10{str(power).translate(_SUPERSCRIPTS)} " if power else ""
        bar.ax.yaxis.set_major_formatter(lambda value, _: f"{value / 10**power:g}".replace("-", "−"))
        bar.set_label(f"mean influence of a pair, {scale}{UNITS[blocks.outcome]}")
    return ax


def _mark(ax: Axes, cell: tuple[int, int], value: float, se: float, power: int, n: int, ink: str) -> None:
    """The numbers of a cell, or a dot in a small one."""
    a, b = cell
    surely = math.isfinite(se) and abs(value) >= 2 * se
    if n > _NUMBERS_UP_TO:
        if surely:
            ax.plot([b], [a], marker=".", markersize=2.5, color=ink, gid=f"sure:{a},{b}")
        return
    scaled = f"{value / 10**power:z.1f}".replace("-", "−")
    error = f"±{se / 10**power:.1f}" if math.isfinite(se) else "± -"
    weight = "bold" if surely else "normal"
    ax.text(b, a - 0.02, scaled, ha="center", va="bottom", size=7, weight=weight, color=ink, gid=f"value:{a},{b}")
    ax.text(b, a + 0.06, error, ha="center", va="top", size=6, color=ink, gid=f"error:{a},{b}")


def _ink_on(face: ColorType) -> str:
    """Black or white, whichever has more contrast on a cell."""
    channels: Array = np.array(to_rgb(face))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000000" if float(linear @ [0.2126, 0.7152, 0.0722]) > 0.179 else "#FFFFFF"

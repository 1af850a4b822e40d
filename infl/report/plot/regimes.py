"""The map of regimes: every forget set where its self-influence and its harm, or net cross-influence, put it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from infl.records import Array, Quantity, Regime, Thresholds, Verdict
from infl.report.plot.canvas import axes_or_new, legend_above, name_points, note_below
from infl.report.style import current_theme, house_style
from infl.report.text import Row, common_thresholds, count, judged_cross, pair_verdicts

_SELF_LABEL = "self-influence: accuracy lost on forgotten examples"
_CROSS_LABELS = {
    "net": "cross-influence: other examples lost per example forgotten",
    "harm": "harm: other examples harmed per example forgotten",
}
_LINEAR_BELOW = 0.2
_SYMLOG_FROM = 1.0
_MARKER_SIZE = 6.0
_MAX_NAMES = 50  # finding places takes the square of it
_DASHES = (0, (5, 3))


def regime_map(predicted: Sequence[Verdict], measured: Sequence[Verdict] = (), *, ax: Axes | None = None) -> Axes:
    """Draw each forget set where its self-influence and its harm put it.

    x is self-influence, a probability; y is harm, other examples harmed per example forgotten (net cross-influence, where
    the thresholds decide by it). Bars are one standard error. Dashed lines are the thresholds, which part the plane
    into the four regimes. Marker and colour tell the regime of the verdict: hollow as predicted, filled as measured, a
    thin line between the two for the same forget set. Where values exceed 1, y is logarithmic beyond ±0.2.

    A verdict whose self-influence or harm is NaN is not drawn, and a note below the plot counts those; a standard
    error that is NaN has no bar. Names that find no room are counted there too.

    Args:
        predicted, measured: verdicts; matched by the name and ids of their forget sets.
        ax: axes to draw on, settled in size; new ones where None (reach the figure by `.figure`).

    Raises:
        InputError: where the verdicts were judged by different thresholds, or one forget set comes twice.
    """
    rows = pair_verdicts(predicted, measured)
    thresholds = common_thresholds([*predicted, *measured])
    with house_style():
        ax = axes_or_new(ax, 6.4, 5.2)
        drawn = [verdict for verdict in (*predicted, *measured) if is_known(verdict)]
        _set_axes(ax, drawn, thresholds)
        for number, row in enumerate(rows, start=1):
            _draw_row(ax, row, number)
        quadrants = _name_quadrants(ax)
        if drawn:
            _draw_legend(ax, drawn, kinds=[bool(predicted), bool(measured)])
        n_skipped = len(predicted) + len(measured) - len(drawn)
        notes = ["no forget sets"] if not rows else []
        notes += [f"{count(n_skipped, 'verdict')} without an estimate not drawn"] if n_skipped else []
        note = note_below(ax, "; ".join(notes))
        n_unnamed = _name_sets(ax, rows, drawn, quadrants)
        notes += [f"{count(n_unnamed, 'name')} left out for want of room"] if n_unnamed else []
        note.set_text("; ".join(notes))
    return ax


def is_known(verdict: Verdict) -> bool:
    """Whether a verdict has a place on the map."""
    return math.isfinite(verdict.self_influence.value) and math.isfinite(judged_cross(verdict).value)


def _place(verdict: Verdict) -> tuple[float, float]:
    return verdict.self_influence.value, judged_cross(verdict).value


def _ends(quantity: Quantity) -> tuple[float, float]:
    se = quantity.se if math.isfinite(quantity.se) else 0.0
    return quantity.value - se, quantity.value + se


def _set_axes(ax: Axes, drawn: Sequence[Verdict], thresholds: Thresholds) -> None:
    theme = current_theme()
    cut_x, cut_y = thresholds.self_influence, thresholds.cross_influence
    x = [-0.05, max(1.0, 2 * cut_x), *(end for v in drawn for end in _ends(v.self_influence))]
    y = [-0.5 * cut_y, 2.5 * cut_y, *(end for v in drawn for end in _ends(judged_cross(v)))]
    if max(map(abs, y)) > _SYMLOG_FROM:
        ax.set_yscale("symlog", linthresh=_LINEAR_BELOW, linscale=0.8)
        steps = [s * 10.0**k for k in range(-1, 7) for s in (1, 2, 5)]
        ax.yaxis.set_major_locator(FixedLocator([*(-s for s in reversed(steps)), 0.0, *steps]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
        ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xlim(*_padded(ax.xaxis, min(x), max(x)))
    ax.set_ylim(*_padded(ax.yaxis, min(y), max(y)))
    ax.axvline(cut_x, color=theme.quiet, linewidth=0.8, linestyle=_DASHES, zorder=1, gid="threshold-self")
    ax.axhline(cut_y, color=theme.quiet, linewidth=0.8, linestyle=_DASHES, zorder=1, gid="threshold-cross")
    ax.axhline(0, color=theme.faint, linewidth=0.6, zorder=0.5)
    ax.set(xlabel=_SELF_LABEL, ylabel=_CROSS_LABELS[thresholds.cross])


def _padded(axis: Axis, low: float, high: float) -> tuple[float, float]:
    """A margin of the same width on paper at both ends, whatever the scale."""
    transform = axis.get_transform()
    low, high = transform.transform(np.array([low, high]))
    margin = 0.05 * (high - low)
    low, high = transform.inverted().transform(np.array([low - margin, high + margin]))
    return float(low), float(high)


def _draw_row(ax: Axes, row: Row, number: int) -> None:
    """One set; all that belongs to it has one gid, by which the page finds it."""
    theme, gid = current_theme(), f"set-{number}"
    known = [verdict for verdict in row.verdicts if is_known(verdict)]
    if len(known) == 2:
        x, y = zip(*map(_place, known), strict=True)
        ax.plot(x, y, color=theme.quiet, linewidth=0.6, zorder=2, gid=gid)
    for verdict in known:
        style, filled = theme.regimes[verdict.regime], verdict is row.measured
        errors = [q.se if math.isfinite(q.se) else None for q in (verdict.self_influence, judged_cross(verdict))]
        drawn = ax.errorbar(
            *_place(verdict),
            xerr=errors[0],
            yerr=errors[1],
            fmt=style.marker,
            color=style.color,
            markersize=_MARKER_SIZE,
            markerfacecolor=style.color if filled else theme.ground,
            markeredgewidth=1.1,
            elinewidth=0.8,
            zorder=4 if filled else 3,
            label=f"_{'measured' if filled else 'predicted'}:{verdict.forget_set.name}",
        )
        for artist in drawn.get_children():
            artist.set_gid(gid)


def _name_quadrants(ax: Axes) -> list[Annotation]:
    corners: dict[Regime, tuple[int, int]] = {"no-op": (0, 0), "local": (1, 0), "indirect": (0, 1), "spreading": (1, 1)}
    named = []
    for name, (right, top) in corners.items():
        corner, inwards = (ax.get_xlim()[right], ax.get_ylim()[top]), (3 - 6 * right, 3 - 6 * top)
        style = {"color": current_theme().regimes[name].color, "alpha": 0.9, "size": 9, "style": "italic"}
        side: dict[str, Any] = {"ha": ("left", "right")[right], "va": ("bottom", "top")[top]}
        named.append(ax.annotate(name, corner, inwards, textcoords="offset points", zorder=1, **style, **side))
    return named


def _draw_legend(ax: Axes, drawn: Sequence[Verdict], *, kinds: Sequence[bool]) -> None:
    theme, present = current_theme(), {verdict.regime for verdict in drawn}

    def entry(label: str, marker: str, color: str, face: str) -> Line2D:
        mark = {"marker": marker, "color": color, "markerfacecolor": face, "markersize": _MARKER_SIZE}
        return Line2D([], [], linestyle="", label=label, **mark)

    regimes = [
        entry(regime, style.marker, style.color, style.color if kinds[1] else theme.ground)
        for regime, style in theme.regimes.items()
        if regime in present
    ]
    faces = {"predicted": theme.ground, "measured": theme.ink}
    below = [entry(kind, "o", theme.ink, faces[kind]) for kind, there in zip(faces, kinds, strict=True) if there]
    below.append(Line2D([], [], color=theme.quiet, linewidth=0.8, label="1 standard error"))
    # Legends fill column by column; regimes go above, in as many lines as they need, kinds below.
    n_columns = max(3, int(ax.bbox.width / ax.get_figure(root=True).dpi / 0.95))  # pyright: ignore[reportOptionalMemberAccess]
    lines = [regimes[k : k + n_columns] for k in range(0, len(regimes), n_columns)] + [below]
    blank = Line2D([], [], linestyle="", label=" ")
    handles = [handle for column in zip_longest(*lines, fillvalue=blank) for handle in column]
    legend_above(ax, handles, ncols=max(map(len, lines)), columnspacing=1.4, handletextpad=0.5, handlelength=1.4)


def _name_sets(ax: Axes, rows: Sequence[Row], drawn: Sequence[Verdict], quadrants: Sequence[Annotation]) -> int:
    """Names of the sets beside their points, the measured ones where there are; how many found no room."""
    # The measured point carries the name where there is one: it is the one to believe.
    known = [[verdict for verdict in row.verdicts if is_known(verdict)] for row in rows]
    named = [verdicts[-1] for verdicts in known if verdicts]
    if len(named) > _MAX_NAMES:
        named.sort(key=lambda verdict: -sum(_place(verdict)))
    lines = [np.array([_place(verdict) for verdict in verdicts]) for verdicts in known if len(verdicts) == 2]
    for verdict in drawn:
        (x, y), across, up = _place(verdict), _ends(verdict.self_influence), _ends(judged_cross(verdict))
        lines += [np.array([(end, y) for end in across]), np.array([(x, end) for end in up])]
    marks = np.concatenate([[_place(verdict) for verdict in drawn], _covered(ax, quadrants)]) if drawn else None
    names = [verdict.forget_set.name for verdict in named]
    places = [_place(verdict) for verdict in named[:_MAX_NAMES]]
    n_without_room = name_points(
        ax, places, names[:_MAX_NAMES], avoid_points=marks, avoid_lines=lines[: 6 * _MAX_NAMES]
    )
    return n_without_room + len(names[_MAX_NAMES:])


def _covered(ax: Axes, texts: Sequence[Annotation]) -> Array:
    """Points all over some texts, [points, 2]."""
    boxes = [text.get_window_extent() for text in texts]
    points = [(x, y) for box in boxes for x in np.linspace(box.x0, box.x1, 6) for y in np.linspace(box.y0, box.y1, 3)]
    return ax.transData.inverted().transform(points)

"""The map of regimes: every forget set where its self-influence and its harm put it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from infl.records import Array, Quantity, Regime, Thresholds, Verdict
from infl.report.plot.canvas import axes_or_new, note_below
from infl.report.plot.labels import place_labels
from infl.report.style import current_theme, house_style
from infl.report.text import Row, common_thresholds, judged_cross, pair_verdicts

_SELF_LABEL = "self-influence: probability that a forgotten example is lost"
_CROSS_LABELS = {
    "net": "cross-influence: other examples lost per example forgotten",
    "harm": "harm: other examples hurt per example forgotten",
}
_LINEAR_BELOW = 0.2
_SYMLOG_FROM = 1.0
_MARKER_SIZE = 6.0


def regime_map(predicted: Sequence[Verdict], measured: Sequence[Verdict] = (), *, ax: Axes | None = None) -> Axes:
    """Draw each forget set where its self-influence and its cross-influence put it.

    x is self-influence, a probability; y is net cross-influence, other examples lost per example forgotten (harm, where
    the thresholds decide by harm). Bars are one standard error. Dashed lines are the thresholds, which part the plane
    into the four regimes. Marker and colour tell the regime of the verdict: hollow as predicted, filled as measured, a
    thin line between the two for the same forget set. Where values exceed 1, y is logarithmic beyond ±0.2.

    A verdict whose self- or cross-influence is NaN is not drawn, and a note below the plot counts those; a standard
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
        drawn = [verdict for verdict in (*predicted, *measured) if _is_known(verdict)]
        _set_axes(ax, drawn, thresholds)
        for row in rows:
            _draw_row(ax, row)
        quadrants = _name_quadrants(ax)
        if drawn:
            _draw_legend(ax, drawn, predicted=bool(predicted), measured=bool(measured))
        note = note_below(ax, "")
        skipped = len(predicted) + len(measured) - len(drawn)
        note.set_text(_note(skipped, 0, len(rows)))
        unnamed = _name_points(ax, rows, drawn, thresholds, quadrants)
        note.set_text(_note(skipped, unnamed, len(rows)))
    return ax


def _is_known(verdict: Verdict) -> bool:
    return math.isfinite(verdict.self_influence.value) and math.isfinite(judged_cross(verdict).value)


def _bar(quantity: Quantity) -> float:
    return quantity.se if math.isfinite(quantity.se) else 0.0


def _set_axes(ax: Axes, drawn: Sequence[Verdict], thresholds: Thresholds) -> None:
    theme = current_theme()
    x = [(v.self_influence.value, _bar(v.self_influence)) for v in drawn]
    y = [(judged_cross(v).value, _bar(judged_cross(v))) for v in drawn]
    cut_x, cut_y = thresholds.self_influence, thresholds.cross_influence
    low, high = _reach(y, (-0.5 * cut_y, 2.5 * cut_y))
    if max(abs(low), abs(high)) > _SYMLOG_FROM:
        ax.set_yscale("symlog", linthresh=_LINEAR_BELOW, linscale=0.8)
        steps = [s * 10.0**k for k in range(-1, 7) for s in (1, 2, 5)]
        ax.yaxis.set_major_locator(FixedLocator([*(-s for s in reversed(steps)), 0.0, *steps]))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
        ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xlim(*_padded(ax.xaxis, _reach(x, (-0.05, max(1.0, 2 * cut_x)))))
    ax.set_ylim(*_padded(ax.yaxis, (low, high)))
    dashes = (0, (5, 3))
    ax.axvline(cut_x, color=theme.quiet, linewidth=0.8, linestyle=dashes, zorder=1, gid="threshold-self")
    ax.axhline(cut_y, color=theme.quiet, linewidth=0.8, linestyle=dashes, zorder=1, gid="threshold-cross")
    ax.axhline(0, color=theme.faint, linewidth=0.6, zorder=0.5)
    ax.set_xlabel(_SELF_LABEL)
    ax.set_ylabel(_CROSS_LABELS[thresholds.cross])


def _reach(values: Sequence[tuple[float, float]], least: tuple[float, float]) -> tuple[float, float]:
    low = min([least[0], *(value - bar for value, bar in values)])
    high = max([least[1], *(value + bar for value, bar in values)])
    return low, high


def _padded(axis: Axis, limits: tuple[float, float]) -> tuple[float, float]:
    """A margin of the same width on paper at both ends, whatever the scale."""
    transform = axis.get_transform()
    low, high = transform.transform(np.array(limits))
    margin = 0.05 * (high - low)
    low, high = transform.inverted().transform(np.array([low - margin, high + margin]))
    return float(low), float(high)


def _draw_row(ax: Axes, row: Row) -> None:
    theme = current_theme()
    known = [verdict for verdict in row.verdicts if _is_known(verdict)]
    if len(known) == 2:
        ax.plot(
            *_positions(known).T,
            color=theme.quiet,
            linewidth=0.6,
            zorder=2,
            gid=f"pair:{row.verdicts[0].forget_set.name}",
        )
    for verdict in known:
        style = theme.regimes[verdict.regime]
        filled = verdict is row.measured
        ((x, y),) = _positions([verdict])
        ax.errorbar(
            x,
            y,
            xerr=verdict.self_influence.se if math.isfinite(verdict.self_influence.se) else None,
            yerr=judged_cross(verdict).se if math.isfinite(judged_cross(verdict).se) else None,
            fmt=style.marker,
            color=style.color,
            markersize=_MARKER_SIZE,
            markerfacecolor=style.color if filled else theme.ground,
            markeredgecolor=style.color,
            markeredgewidth=1.1,
            elinewidth=0.8,
            capsize=0,
            zorder=4 if filled else 3,
            label=f"_{'measured' if filled else 'predicted'}:{verdict.forget_set.name}",
        )


def _positions(verdicts: Sequence[Verdict]) -> Array:
    return np.array([(v.self_influence.value, judged_cross(v).value) for v in verdicts]).reshape(-1, 2)


def _name_quadrants(ax: Axes) -> list[Text]:
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    corners: dict[Regime, tuple[float, float, float, float, str, str]] = {
        "indirect": (left, top, 3, -3, "left", "top"),
        "spreading": (right, top, -3, -3, "right", "top"),
        "no-op": (left, bottom, 3, 3, "left", "bottom"),
        "local": (right, bottom, -3, 3, "right", "bottom"),
    }
    return [
        ax.annotate(
            name,
            (x, y),
            xytext=(dx, dy),
            textcoords="offset points",
            ha=ha,
            va=va,
            size=9,
            style="italic",
            color=current_theme().regimes[name].color,
            alpha=0.9,
            zorder=1,
        )
        for name, (x, y, dx, dy, ha, va) in corners.items()
    ]


def _draw_legend(ax: Axes, drawn: Sequence[Verdict], *, predicted: bool, measured: bool) -> None:
    theme = current_theme()

    def entry(label: str, marker: str, color: str, face: str) -> Line2D:
        return Line2D(
            [], [], linestyle="", marker=marker, color=color, markerfacecolor=face, markersize=_MARKER_SIZE, label=label
        )

    present = {verdict.regime for verdict in drawn}
    regimes = [
        entry(regime, style.marker, style.color, style.color if measured else theme.ground)
        for regime, style in theme.regimes.items()
        if regime in present
    ]
    kinds = [entry("predicted", "o", theme.ink, theme.ground)] * predicted + [
        entry("measured", "o", theme.ink, theme.ink)
    ] * measured
    kinds.append(Line2D([], [], color=theme.quiet, linewidth=0.8, label="1 standard error"))
    # Legends fill column by column; regimes go above, kinds below.
    blank = Line2D([], [], linestyle="", label=" ")
    handles = [handle for column in zip_longest(regimes, kinds, fillvalue=blank) for handle in column]
    ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=max(len(regimes), len(kinds)),
        columnspacing=1.4,
        handletextpad=0.5,
        handlelength=1.4,
    )


def _name_points(
    ax: Axes, rows: Sequence[Row], drawn: Sequence[Verdict], thresholds: Thresholds, quadrants: Sequence[Text]
) -> int:
    # The measured point carries the name where there is one: it is the one to believe.
    named = [next((v for v in reversed(row.verdicts) if _is_known(v)), None) for row in rows]
    carriers = [verdict for verdict in named if verdict is not None]
    lines = [_positions(known) for row in rows if len(known := [v for v in row.verdicts if _is_known(v)]) == 2]
    for (x, y), verdict in zip(_positions(drawn), drawn, strict=True):
        dx, dy = _bar(verdict.self_influence), _bar(judged_cross(verdict))
        lines += [np.array([(x - dx, y), (x + dx, y)]), np.array([(x, y - dy), (x, y + dy)])]
    lines.append(np.array([(thresholds.self_influence, edge) for edge in ax.get_ylim()]))
    lines.append(np.array([(edge, thresholds.cross_influence) for edge in ax.get_xlim()]))
    _, left_out = place_labels(
        ax,
        _positions(carriers),
        [verdict.forget_set.name for verdict in carriers],
        avoid_points=_positions(drawn),
        avoid_lines=lines,
        avoid_texts=quadrants,
    )
    return left_out


def _note(skipped: int, unnamed: int, n_sets: int) -> str:
    parts = []
    if not n_sets:
        parts.append("no forget sets")
    if skipped:
        parts.append(f"{skipped} {'verdict' if skipped == 1 else 'verdicts'} without an estimate not drawn")
    if unnamed:
        parts.append(f"{unnamed} {'name' if unnamed == 1 else 'names'} left out for want of room")
    return "; ".join(parts)

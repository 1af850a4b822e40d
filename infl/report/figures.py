"""Turns verdicts into the map of regimes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator
from matplotlib.typing import ColorType
from scipy.special import ndtr

from infl.records import Array, Effects, Estimate, ForgetSet, InputError, Quantity, Regime, Thresholds, Verdict
from infl.report.canvas import axes_or_new, note_below
from infl.report.canvas import save as save
from infl.report.labels import place_labels
from infl.report.style import Theme, current_theme, house_style
from infl.report.text import Row, common_thresholds, judged_cross, likeliest, pair_verdicts

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


PROBABILITY_EDGES = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)


def effects_reliability(
    predicted: Sequence[Effects], measured: Sequence[Effects], *, bin_width: float = 0.1, ax: Axes | None = None
) -> Axes:
    """Draw what effects were measured where an effect of so much was predicted, for all sets together.

    Effects of untraining each set S on its members (squares) and on held-out examples (circles) are put into bins of one
    width by their prediction; a bin is drawn at its mean prediction and its mean measurement. On the diagonal predictions
    are right on average. Retained training examples are left out: a network that fits them loses none.

    Bars are one standard error of the mean measurement. All effects of one replicate rest on models of one key, so
    replicates are what is independent, in the same order for every set. With N effects in the bin, those of set s measured
    by R_s replicates D_srj, and z_sr the deviation of sum_j D_srj from its mean over r,

        se^2 = sum_r ( sum_s z_sr / sqrt(R_s (R_s - 1)) )^2 / N^2,  at least (1 / (N R))^2 with R the largest R_s

    (what one outcome makes). NaN, and no bar, where a set has fewer than two replicates. Numbers say how many effects a bin
    holds, where there is room. Errors of the predictions are not drawn: they are what the diagram is to show.

    Args:
        predicted, measured: effects of the same forget sets, in any order; sets on one side alone are left out and counted.
        bin_width: in probability, above 0 and at most 1.
        ax: axes to draw on; new ones where None (reach the figure by `.figure`).

    Raises:
        InputError: for a width out of its range, a set twice, or sets of different data.
    """
    if not 0 < bin_width <= 1:
        raise InputError(f"bin_width: expected above 0 and at most 1, got {bin_width}")
    pairs, alone = _paired_effects(predicted, measured)
    with house_style() as theme:
        ax = axes_or_new(ax, 5.2, 5.2)
        kinds = (("members of the forget set", "s", theme.harms, True), ("held-out examples", "o", theme.helps, False))
        low, high, points, numbers = 0.0, 0.0, [], []
        for label, marker, color, members in kinds:
            bins = [mean_of_bin(pairs, members, b, bin_width) for b in _bins_used(pairs, members, bin_width)]
            if not bins:
                continue
            x, y, se, counts = map(np.array, zip(*bins, strict=True))
            ax.errorbar(
                x,
                y,
                yerr=np.nan_to_num(se),
                fmt=marker,
                color=color,
                markersize=5,
                markeredgecolor=theme.ground,
                markeredgewidth=0.6,
                elinewidth=0.9,
                zorder=3,
                label=label,
            )
            points.append(np.stack([x, y], axis=1))
            numbers += [f"{count:,}" for count in counts]
            low, high = min(low, *x, *(y - se)), max(high, *x, *(y + se))
        margin = 0.08 * max(high - low, 0.1)
        ends = (low - margin, high + margin)
        ax.plot(ends, ends, color=theme.faint, zorder=0, gid="diagonal")
        ax.axhline(0, color=theme.faint, linewidth=0.6, zorder=0)
        ax.set(xlim=ends, ylim=ends, aspect="equal")
        ax.set_xlabel("predicted effect: probability of a correct prediction lost")
        ax.set_ylabel("measured by retraining")
        parts = [] if pairs else ["no sets with both"]
        parts += [f"{alone} {'set' if alone == 1 else 'sets'} without a counterpart left out"] if alone else []
        note_below(ax, "; ".join(parts))
        if ax.get_legend_handles_labels()[0]:
            ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2)
        if points:
            place_labels(ax, np.concatenate(points), numbers, avoid_lines=[np.array([ends, ends]).T], size=6)
    return ax


def regime_reliability(
    predicted: Sequence[Verdict],
    measured: Sequence[Verdict],
    *,
    edges: Sequence[float] = PROBABILITY_EDGES,
    ax: Axes | None = None,
) -> Axes:
    """Draw how often the likeliest regime of a prediction is right, against the probability that it was given.

    Sets are put into bins by the probability of their likeliest regime; y is the mean, over the sets of a bin, of the
    probability that the measurement gives that same regime. So a set whose measured regime is uncertain counts as right in
    part, and none has to be left out for it. Bars are the Wilson interval of that share at one standard error (z = 1),

        (y + z^2/2N -+ z sqrt(y (1 - y) / N + z^2 / 4N^2)) / (1 + z^2 / N)

    Numbers say how many sets a bin holds. The dashed line is the probability from which a regime is named.

    Args:
        predicted, measured: verdicts, matched by the name and ids of their sets; sets on one side alone, or without
            probabilities, are left out and counted.
        edges: of the bins, rising, within [0, 1]; a bin holds its lower edge, the last its upper one too.
        ax: axes to draw on; new ones where None (reach the figure by `.figure`).

    Raises:
        InputError: for edges out of order, different thresholds, or a set twice.
    """
    steps = np.asarray(edges, float)
    if len(steps) < 2 or (np.diff(steps) <= 0).any() or steps[0] < 0 or steps[-1] > 1:
        raise InputError(f"edges: expected at least two rising numbers within [0, 1], got {list(edges)}")
    rows = pair_verdicts(predicted, measured)
    thresholds = common_thresholds([*predicted, *measured])
    stated, right = _stated_and_right([row.verdicts for row in rows if len(row.verdicts) == 2])
    with house_style() as theme:
        ax = axes_or_new(ax, 4.4, 4.2)
        ax.plot([0, 1], [0, 1], color=theme.faint, zorder=0, gid="diagonal")
        ax.axvline(thresholds.probability, color=theme.quiet, linewidth=0.8, linestyle=(0, (5, 3)), zorder=1)
        which = np.minimum(np.searchsorted(steps, stated, side="right") - 1, len(steps) - 2)
        which = np.where((stated < steps[0]) | (stated > steps[-1]), -1, which)
        for k in range(len(steps) - 1):
            inside = which == k
            if not inside.any():
                continue
            share, n = float(right[inside].mean()), int(inside.sum())
            low, high = wilson_interval(share, n)
            bars = [[share - low], [high - share]]
            at = float(stated[inside].mean())
            ax.errorbar(
                at, share, yerr=bars, fmt="o", color=theme.helps, markersize=5, elinewidth=0.9, zorder=3, label="_sets"
            )
            ax.annotate(
                f"{n:,}",
                (at, low),
                xytext=(0, -3),
                textcoords="offset points",
                ha="center",
                va="top",
                size=6.5,
                color=theme.quiet,
            )
        ax.set(xlim=(max(0.0, steps[0] - 0.03), 1.03), ylim=(-0.03, 1.05))
        ax.set_xlabel("predicted probability of the likeliest regime")
        ax.set_ylabel("share of sets where retraining finds it")
        skipped = len(rows) - int((which >= 0).sum())
        note_below(ax, f"{skipped} {'set' if skipped == 1 else 'sets'} without both left out" if skipped else "")
    return ax


def wilson_interval(share: float, n: int, *, z: float = 1.0) -> tuple[float, float]:
    """Interval of a share of n at z standard errors (Wilson 1927): inside [0, 1], and never of no width."""
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * math.sqrt(max(share * (1 - share), 0) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return min(share, max(0.0, middle - reach)), max(share, min(1.0, middle + reach))


def _paired_effects(
    predicted: Sequence[Effects], measured: Sequence[Effects]
) -> tuple[list[tuple[Effects, Effects]], int]:
    sides = []
    for name, effects in (("predicted", predicted), ("measured", measured)):
        keyed = {(one.forget_set.name, one.forget_set.ids): one for one in effects}
        if len(keyed) < len(effects):
            raise InputError(f"{name}: expected each forget set once, got one twice; keep one of them")
        sides.append(keyed)
    left, right = sides
    pairs = [(left[key], right[key]) for key in left if key in right]
    shapes = {(one.n_train, len(one.effect)) for pair in pairs for one in pair}
    if len(shapes) > 1:
        raise InputError(f"effects: expected all to be of the same data, got (n, columns) of {sorted(shapes)}")
    return pairs, len(left) + len(right) - 2 * len(pairs)


def _columns(effects: Effects, members: bool) -> Array:
    return np.array(effects.forget_set.ids) if members else np.arange(effects.n_train, len(effects.effect))


def _bin_numbers(effects: Effects, members: bool, width: float) -> Array:
    """The bin of each column's effect; bin 0 has 0 in its middle."""
    return np.floor(effects.effect[_columns(effects, members)] / width + 0.5)


def _bins_used(pairs: Sequence[tuple[Effects, Effects]], members: bool, width: float) -> list[int]:
    numbers = [_bin_numbers(one, members, width) for one, _ in pairs]
    known = np.concatenate([np.empty(0), *numbers])
    return [int(k) for k in np.unique(known[np.isfinite(known)])]


def mean_of_bin(
    pairs: Sequence[tuple[Effects, Effects]], members: bool, number: int, width: float
) -> tuple[float, float, float, int]:
    """Mean prediction, mean measurement, its error, and how many effects there are, of bin `number` of a width."""
    stated, found, n, deviations = 0.0, 0.0, 0, []
    for one, other in pairs:
        columns = _columns(one, members)[_bin_numbers(one, members, width) == number]
        columns = columns[np.isfinite(other.effect[columns])]
        if not len(columns):
            continue
        stated, found, n = stated + one.effect[columns].sum(), found + other.effect[columns].sum(), n + len(columns)
        sums = other.replicates[:, columns].sum(axis=1, dtype=np.float64)
        r = len(sums)
        deviations.append((sums - sums.mean()) / math.sqrt(r * (r - 1)) if r > 1 else np.full(1, np.nan))
    if not n:
        return math.nan, math.nan, math.nan, 0
    longest = max(map(len, deviations))
    together = sum(np.pad(one, (0, longest - len(one))) for one in deviations)
    error = float(np.sqrt((np.asarray(together) ** 2).sum())) / n
    return stated / n, found / n, max(error, 1 / (n * longest)) if math.isfinite(error) else math.nan, n


def _stated_and_right(pairs: Sequence[tuple[Verdict, ...]]) -> tuple[Array, Array]:
    """Probability of each prediction's likeliest regime, and what the measurement gives it; sets without either left out."""
    found = []
    for guess, truth in pairs:
        regime, stated = likeliest(guess)
        right = truth.probability.get(regime, math.nan)
        if math.isfinite(stated) and math.isfinite(right):
            found.append((min(stated, 1.0), right))
    both = np.array(found).reshape(-1, 2)
    return both[:, 0], both[:, 1]


_MEASURED = "root mean square; bars 10th to 90th percentile"
_MARKERS = ("o", "s", "^", "D", "v")
_DOSE_LABELS = {
    "others": "others lost per example of the group",
    "members": "self-influence: probability that a forgotten example is lost",
}


def dose_response(
    predicted: Sequence[Verdict],
    measured: Sequence[Verdict] = (),
    *,
    of: Literal["others", "members"] = "others",
    ax: Axes | None = None,
) -> Axes:
    """Draw what removing a growing share of a group does: share removed against effect, a curve a group.

    A set S is a part of a group where it has the group as its concept (`infl.forget_sets.share_of`), or is all of it. x is
    |S| / |group|. With `of="others"`, y is |S| / |group| cross(S): how many other examples are lost per example of the group;
    with `of="members"`, self(S). Filled markers and lines are measured by retraining, hollow ones and dots predicted; bars
    are one standard error. The thin straight line runs from nothing to the whole group, as measured (or predicted, where
    it was not measured): where parts do in proportion what the whole does, points lie on it. A redundant group lies below
    it until little of it is left.

    A verdict whose effect is NaN is left out and counted below.

    Args:
        predicted, measured: verdicts of sets with a concept, and of whole groups.
        of: whose loss.
        ax: axes to draw on; new ones where None (reach the figure by `.figure`).

    Raises:
        InputError: for a set without a concept that is no other's concept, more than five groups, or another `of`.
    """
    if of not in _DOSE_LABELS:
        raise InputError(f"of: expected others or members, got {of!r}")
    groups = _groups([*predicted, *measured])
    if len(groups) > len(_MARKERS):
        raise InputError(f"dose-response: expected at most {len(_MARKERS)} groups in one figure, got {len(groups)}")
    with house_style() as theme:
        ax = axes_or_new(ax, 5.0, 3.8)
        skipped, handles, proportional = 0, [], False
        for (group, name), color, marker in zip(groups.items(), theme.cycle, _MARKERS, strict=False):
            chord: tuple[float, float] | None = None
            for verdicts, is_measured in ((predicted, False), (measured, True)):
                doses = sorted(
                    (_dose(v, group, of) for v in verdicts if _group_of(v.forget_set) == group),
                    key=lambda dose: dose[0],
                )
                skipped += sum(not math.isfinite(quantity.value) for _, quantity in doses)
                doses = [(share, quantity) for share, quantity in doses if math.isfinite(quantity.value)]
                if not doses:
                    continue
                shares, values = [share for share, _ in doses], [quantity.value for _, quantity in doses]
                errors = [quantity.se if math.isfinite(quantity.se) else 0.0 for _, quantity in doses]
                ax.errorbar(
                    shares,
                    values,
                    yerr=errors,
                    fmt=marker,
                    linestyle="-" if is_measured else ":",
                    color=color,
                    markersize=4.8,
                    markerfacecolor=color if is_measured else theme.ground,
                    markeredgewidth=1.0,
                    elinewidth=0.8,
                    zorder=4 if is_measured else 3,
                    label=f"_{'measured' if is_measured else 'predicted'}:{name}",
                )
                if of == "others" and shares[-1] == 1:
                    chord = (0.0, values[-1])
            if chord is not None:
                ax.plot([0, 1], chord, color=color, linewidth=0.5, alpha=0.7, zorder=1, gid=f"proportional:{name}")
            proportional = proportional or chord is not None
            handles.append(Line2D([], [], linestyle="", marker=marker, color=color, markersize=5, label=name))
        ax.axhline(0, color=theme.faint, linewidth=0.6, zorder=0.5)
        ax.set_xlim(-0.02, 1.04)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
        ax.set_xlabel("share of the group removed")
        ax.set_ylabel(_DOSE_LABELS[of])
        kinds: list[tuple[str, Any, str]] = [("measured", "-", theme.ink), ("predicted", ":", theme.ground)]
        for kind, style, face in kinds:
            if measured if kind == "measured" else predicted:
                entry = Line2D(
                    [], [], linestyle=style, marker="o", color=theme.ink, markerfacecolor=face, markersize=4.8
                )
                entry.set_label(kind)
                handles.append(entry)
        if proportional:
            handles.append(Line2D([], [], color=theme.ink, linewidth=0.5, label="in proportion to the whole"))
        if handles:
            legend = ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3)
            for text in legend.get_texts():
                text.set_parse_math(False)
        note_below(
            ax,
            f"{skipped} {'verdict' if skipped == 1 else 'verdicts'} without an estimate not drawn" if skipped else "",
        )
    return ax


def error_curve(
    estimates: Mapping[int, Estimate],
    *,
    planned: Mapping[int, float] | None = None,
    target: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how standard errors shrink with the number of models, beside what was planned and the law 1 / sqrt(T).

    Markers are the root mean square of the standard errors over the scores that have one, as a plan and a target mean it;
    bars reach from the 10th to the 90th percentile of the scores' errors, since they differ from score to score. The thin
    line is c / sqrt(T) through the last marker.

    Args:
        estimates: scores with T models, by T: `{t: infl.memorization(run.outcomes("design", range(t))) for t in ...}`.
        planned: standard error expected with T models, by T, such as `ErrorForecast.root_mean_square` says.
        target: the standard error wanted.
        ax: axes to draw on; new ones where None (reach the figure by `.figure`).

    Raises:
        InputError: where a number of models or a planned error is not above 0, or units differ.
    """
    if any(t < 1 for t in [*estimates, *(planned or {})]) or any(not se > 0 for se in (planned or {}).values()):
        raise InputError("error curve: expected numbers of models of at least 1 and planned errors above 0")
    units = {estimate.outcome for estimate in estimates.values()}
    if len(units) > 1:
        raise InputError("estimates: expected all of correct or all of margin, got both")
    rows = []
    for t in sorted(estimates):
        errors = estimates[t].se[np.isfinite(estimates[t].se)]
        if errors.size:
            rows.append((t, float(np.sqrt(np.mean(errors**2))), *np.percentile(errors, [10, 90]).tolist()))
    with house_style() as theme:
        ax = axes_or_new(ax, 4.6, 3.6)
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        if rows:
            models, center, low, high = map(np.array, zip(*rows, strict=True))
            # The mean square may lie above the 90th percentile; a bar then only reaches down.
            bars = [np.maximum(center - low, 0), np.maximum(high - center, 0)]
            law = center[-1] * np.sqrt(models[-1] / models)
            ax.plot(
                models, law, color=theme.quiet, linewidth=0.8, zorder=1, gid="law", label="1/√models, through the last"
            )
            ax.errorbar(
                *(models, center),
                yerr=bars,
                fmt="o",
                color=theme.helps,
                markersize=5,
                elinewidth=0.9,
                zorder=3,
                label=_MEASURED,
            )
        if planned:
            steps = sorted(planned)
            ax.plot(
                *(steps, [planned[t] for t in steps]),
                color=theme.harms,
                linestyle=(0, (4, 2)),
                marker="d",
                markersize=4.5,
                markerfacecolor=theme.ground,
                linewidth=1.0,
                zorder=2,
                gid="planned",
                label="planned",
            )
        if target is not None:
            ax.axhline(target, color=theme.quiet, linewidth=0.8, linestyle=(0, (1, 2)), gid="target", label="wanted")
        ticks: list[int] = sorted(set(estimates) | set(planned or {}))
        if ticks:
            ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
            ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{error:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel("models")
        ax.set_ylabel(f"standard error, {UNITS[units.pop()] if units else 'no estimates'}")
        if ax.get_legend_handles_labels()[0]:
            handles, labels = ax.get_legend_handles_labels()
            order = sorted(range(len(labels)), key=lambda k: labels[k] != _MEASURED)
            ax.legend(
                [handles[k] for k in order], [labels[k] for k in order], loc="lower left", bbox_to_anchor=(-0.02, 1.0)
            )
    return ax


def _groups(verdicts: Sequence[Verdict]) -> dict[tuple[int, ...], str]:
    """The groups, by their ids, in the order they come, and what each is called."""
    sets = [verdict.forget_set for verdict in verdicts]
    groups = {one.concept: "" for one in sets if one.concept is not None}
    for one in sets:
        if one.concept is None and one.ids not in groups:
            raise InputError(
                f"set {one.name!r}: expected a part of a group, with the group as its concept, or the whole of one; "
                "make parts with infl.forget_sets.share_of"
            )
    wholes = {one.ids: one.name for one in sets if one.concept is None}
    parts = {one.concept: one.name for one in reversed(sets) if one.concept is not None}
    return {group: wholes.get(group) or parts[group].rpartition("% of ")[2] for group in groups}


def _group_of(forget_set: ForgetSet) -> tuple[int, ...]:
    return forget_set.ids if forget_set.concept is None else forget_set.concept


def _dose(verdict: Verdict, group: tuple[int, ...], of: str) -> tuple[float, Quantity]:
    share = len(verdict.forget_set) / len(group)
    if of == "members":
        return share, verdict.self_influence
    cross = verdict.cross_influence
    return share, Quantity(share * cross.value, share * cross.se)


_NUMBERS_UP_TO = 12
_NAMES_UP_TO = 40
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def class_influence_map(
    blocks: Estimate, class_names: tuple[str, ...] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw how much the examples of each class help or harm each class: sources in rows, influenced classes in columns.

    Colour tells the mean influence of one pair, blue where it helps and orange where it harms, paper where it is 0. Up to
    twelve classes each cell has its value and below it the standard error, both in the power of ten that the scale names;
    values at least two standard errors from 0 are bold. With more classes a dot marks those that are at least two
    standard errors from 0. A cell without an estimate is hatched.

    Args:
        blocks: [c, c], from `infl.scores.influence.influence_of_classes`.
        class_names: c names; None for numbers from 0.
        ax: axes to draw on; new ones where None (reach the figure by `.figure`).

    Raises:
        InputError: where the estimate is not square, or there are not as many names as classes.

    Example:
        >>> import numpy as np
        >>> value = np.array([[0.004, -0.001], [-0.002, 0.003]])
        >>> blocks = Estimate(value, value * 0 + 0.0005, value, value, "held-out", "correct")
        >>> [text.get_text() for text in class_influence_map(blocks, ("cat", "dog")).texts][:4]
        ['4.0', '±0.5', '−1.0', '±0.5']
    """
    n = len(blocks.value)
    if blocks.value.shape != (n, n) or n == 0:
        raise InputError(f"blocks: expected influence of classes on classes, [c, c], got {blocks.value.shape}")
    if class_names is not None and len(class_names) != n:
        raise InputError(f"class_names: expected {n} names, one a class, got {len(class_names)}")
    names = [str(k) for k in range(n)] if class_names is None else [_short(name) for name in class_names]
    finite = blocks.value[np.isfinite(blocks.value)]
    most = float(np.abs(finite).max()) if finite.size and np.abs(finite).max() > 0 else 1.0
    power = min(0, math.floor(math.log10(most) + 1e-9))
    errors = blocks.se[np.isfinite(blocks.se)]
    if power and errors.size and np.median(errors) < 0.3 * 10**power:  # most would read ±0.2 or ±0.1
        power -= 1
    with house_style() as theme:
        side = max(3.4, min(0.52 * n, 9.0)) if n <= _NUMBERS_UP_TO else max(4.0, min(0.16 * n, 9.0))
        ax = axes_or_new(ax, side + 1.6, side + 0.6)
        colors = _colors(theme)
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
        places = range(n) if n <= _NAMES_UP_TO else []
        shown = [names[k] for k in places]
        slanted = any(len(name) > 3 for name in shown)
        ax.set_xticks(list(places), shown, rotation=45 if slanted else 0, ha="right" if slanted else "center")
        ax.set_yticks(list(places), shown)
        for label in (*ax.get_xticklabels(), *ax.get_yticklabels()):
            label.set_parse_math(False)
        ax.tick_params(length=0)
        ax.set_xlabel("held-out examples of this class are influenced")
        ax.set_ylabel("by training examples of this class")
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


def _colors(theme: Theme) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("influence", [theme.harms, theme.ground, theme.helps])


def _ink_on(face: ColorType) -> str:
    """Black or white, whichever has more contrast on a cell."""
    channels: Array = np.array(to_rgb(face))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return "#000000" if float(linear @ [0.2126, 0.7152, 0.0722]) > 0.179 else "#FFFFFF"


def _short(name: str) -> str:
    return name if len(name) <= 16 else name[:15] + "…"


UNITS = {"correct": "probability", "margin": "log-odds"}
MEMORIZED_FROM = 0.25
LOGARITHMIC_ABOVE = 100  # counts on a linear axis up to here
_BIN = 0.25 / 10.5  # 0 lies in the middle of a bin, 0.25 on an edge
_CHUNK = 1 << 16


@dataclass(frozen=True)
class ScoreCounts:
    """A histogram of scores, before it is drawn.

    Attributes:
        edges: Of the bins, [bins + 1]. counts, errors: scores in each and one standard error of that, [bins].
        expected: What the null expects in each, [bins]; None where no score has an error.
        beyond, expected_beyond: Scores of 0.25 or more, and how many the null expects; None for scores in log-odds, or
            no error.
        n_scores, n_missing: With and without an estimate.
    """

    edges: Array
    counts: Array
    errors: Array
    expected: Array | None
    beyond: int | None
    expected_beyond: float | None
    n_scores: int
    n_missing: int


def memorization_histogram(memorization: Estimate, *, ax: Axes | None = None) -> Axes:
    """Draw how memorization is distributed over D, and what would be seen were nothing memorized.

    Bars count the examples whose score lies in each bin; 0 lies in the middle of one. Their error is that of the scores: with
    q_ik the chance that a score drawn from N(score_i, se_i^2) falls into bin k = [a, b),

        q_ik = Phi((b - score_i) / se_i) - Phi((a - score_i) / se_i),    error_k = sqrt(sum_i q_ik (1 - q_ik))

    which is on the wide side, since scores carry their noise already and are smeared once more. Scores are taken as
    independent of each other.

    The outline is the null: the counts expected were an example as likely right with itself in training as without,

        null_k = sum_i Phi(b / s_i) - Phi(a / s_i),    s_i^2 = d_i p_i (1 - p_i) (1 / n_in,i + 1 / n_out,i)

    where p_i is its share of right models over both sides together and d_i the design effect, by which its squared error
    differs from that of independent models. It is what masks shuffled against the outcomes bring, with a normal law in
    place of the hypergeometric one. Scores in log-odds have s_i = se_i.

    Where the unit is a probability, a dashed line at 0.25 (Feldman & Zhang 2020) with the number of examples at or beyond
    it, and how many of them the null expects there. Counts are on a logarithmic axis where they exceed 100. Scores that are
    NaN are counted below the plot, and are in neither histogram; scores without an error are not in the null.

    Args:
        memorization: scores of the training examples, [n].
        ax: axes to draw on; new ones where None (reach the figure by `.figure`).

    Raises:
        InputError: where the scores are not one number per example.
    """
    counted = count_scores(memorization)
    with house_style() as theme:
        ax = axes_or_new(ax, 4.6, 3.4)
        ax.hist(counted.edges[:-1], bins=counted.edges.tolist(), weights=counted.counts, color=theme.helps, zorder=2)
        handles: list[Line2D | Patch] = []
        if counted.n_scores:
            _draw_errors(ax, counted)
            handles += [Patch(color=theme.helps, label="measured, ± 1 standard error")]
        if counted.expected is not None:
            ax.stairs(counted.expected, counted.edges.tolist(), color=theme.ink, linewidth=1.1, zorder=4, gid="null")
            handles.append(Line2D([], [], color=theme.ink, linewidth=1.1, label="expected were nothing memorized"))
        if np.max(counted.counts) > LOGARITHMIC_ABOVE:
            ax.set_yscale("log", nonpositive="clip")
            ax.set_ylim(0.7, 2.5 * float(np.max(counted.counts)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        if counted.beyond is not None and counted.n_scores:
            handles.append(_draw_bound(ax, counted))
        ax.set_xlabel(f"memorization: {UNITS[memorization.outcome]} gained by training on the example")
        ax.set_ylabel("training examples")
        if not counted.n_scores:
            ax.set_yticks([])
        note_below(ax, f"{counted.n_missing:,} without an estimate not shown" if counted.n_missing else "")
        if handles:
            ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0))
    return ax


def count_scores(memorization: Estimate) -> ScoreCounts:
    """What `memorization_histogram` draws, and the page; see there for its formulas and what is raised."""
    if memorization.value.ndim != 1:
        raise InputError(f"memorization: expected one score per training example, [n], got {memorization.value.shape}")
    known = ~np.isnan(memorization.value)
    scores, deviations = memorization.value[known], null_deviations(memorization)[known]
    is_probability = memorization.outcome == "correct"
    edges = _edges(scores, is_probability)
    has_null = bool(np.isfinite(deviations).any())
    beyond = expected_beyond = None
    if is_probability:
        beyond = int((scores >= MEMORIZED_FROM).sum())
        expected_beyond = float(ndtr(-MEMORIZED_FROM / deviations[deviations > 0]).sum()) if has_null else None
    return ScoreCounts(
        edges=edges,
        counts=np.histogram(scores, edges)[0],
        errors=_errors_of_counts(scores, memorization.se[known], edges),
        expected=expected_counts(np.zeros(len(scores)), deviations, edges).sum(axis=0) if has_null else None,
        beyond=beyond,
        expected_beyond=expected_beyond,
        n_scores=len(scores),
        n_missing=int((~known).sum()),
    )


def null_deviations(memorization: Estimate) -> Array:
    """s_i of `memorization_histogram`: standard deviation of each score were it 0, [n]; NaN where no error is known."""
    if memorization.outcome != "correct" or memorization.mean_out is None:
        return memorization.se
    n_in, n_out = np.asarray(memorization.n_in, np.float64), np.asarray(memorization.n_out, np.float64)
    share_out = memorization.mean_out
    share_in = np.clip(memorization.value + share_out, 0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        independent = _variance_with_two_more(share_in, n_in) + _variance_with_two_more(share_out, n_out)
        together = (n_in * share_in + n_out * share_out) / (n_in + n_out)
        variance = memorization.se**2 / independent * together * (1 - together) * (1 / n_in + 1 / n_out)
    return np.sqrt(np.maximum(variance, 0))


def expected_counts(centres: Array, deviations: Array, edges: Array) -> Array:
    """Chance of each score of falling into each bin, [n, bins]; 0 in all where the deviation is NaN."""
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (edges - centres[:, None]) / deviations[:, None]
    # Without any deviation a score is where it is, and belongs to the bin that it begins.
    steps = np.where(edges - centres[:, None] > 0, 1.0, 0.0)
    below = np.where(deviations[:, None] > 0, ndtr(z), np.where(np.isnan(deviations)[:, None], 0.0, steps))
    return np.diff(below, axis=1)


def _variance_with_two_more(share: Array, n: Array) -> Array:
    """As the errors of estimates are made (Agresti & Caffo 2000)."""
    mean = (share * n + 1) / (n + 2)
    return mean * (1 - mean) / (n + 2)


def _errors_of_counts(scores: Array, errors: Array, edges: Array) -> Array:
    variance = np.zeros(len(edges) - 1)
    for first in range(0, len(scores), _CHUNK):
        part = slice(first, first + _CHUNK)
        chance = expected_counts(scores[part], errors[part], edges)
        variance += (chance * (1 - chance)).sum(axis=0)
    return np.sqrt(variance)


def _draw_errors(ax: Axes, counted: ScoreCounts) -> None:
    shown = counted.counts > 0
    counts, errors = counted.counts[shown], counted.errors[shown]
    bars = ax.errorbar(
        ((counted.edges[1:] + counted.edges[:-1]) / 2)[shown],
        counts,
        yerr=[np.minimum(errors, counts), errors],
        fmt="none",
        ecolor=current_theme().quiet,
        elinewidth=0.8,
        zorder=3,
    )
    bars.set_label("_counts")


def _draw_bound(ax: Axes, counted: ScoreCounts) -> Line2D:
    theme = current_theme()
    dashes = (0, (4, 2))
    ax.axvline(MEMORIZED_FROM, color=theme.quiet, linewidth=0.9, linestyle=dashes, zorder=3, gid="memorized")
    label = f"{counted.beyond:,} of {counted.n_scores:,} are ≥ {MEMORIZED_FROM:g}"
    if counted.expected_beyond is not None:
        label += f" ({counted.expected_beyond:.1f} expected)"
    return Line2D([], [], color=theme.quiet, linewidth=0.9, linestyle=dashes, label=label)


def _edges(scores: Array, is_probability: bool) -> Array:
    low, high = (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 1.0)
    if high == low:
        low, high = low - 0.5 * _BIN, high + 0.5 * _BIN
    if not is_probability:
        return np.linspace(low, high, 41)
    # The hair added at both ends keeps a score that lies on an edge from being lost to rounding.
    first, last = math.floor(low / _BIN + 0.5 - 1e-9), math.ceil(high / _BIN + 0.5 + 1e-9)
    return (np.arange(first, last + 1) - 0.5) * _BIN

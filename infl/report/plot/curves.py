"""Curves: what removing more of a group does, and what training more models does to the errors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from infl.records import UNITS, Estimate, InputError, Verdict
from infl.report.evaluations import concept_names
from infl.report.plot.canvas import axes_or_new, legend_above, note_below
from infl.report.style import house_style
from infl.report.text import count

_MARKERS = ("o", "s", "^", "D", "v")


def dose_response(predicted: Sequence[Verdict], measured: Sequence[Verdict] = (), *, ax: Axes | None = None) -> Axes:
    """Draw what removing a growing fraction of a group does to the others, a curve a group.

    A set S is a part of a group where it has the group as its concept (`infl.forget_sets.take_fraction`), or is all of it. x
    is |S| / |group|, y is |S| / |group| cross(S): how many other examples are lost per example of the group. Filled markers
    and lines are measured by retraining, hollow ones and dots predicted; bars are one standard error. The thin straight line
    runs from nothing to the whole group, as measured (or predicted, where it was not measured): where parts do in proportion
    what the whole does, points lie on it. A redundant group lies below it until little of it is left.

    A verdict whose effect is NaN is left out and counted below.

    Args:
        predicted, measured: verdicts of sets with a concept, and of whole groups.
        ax: axes to draw on; new ones where None (reach the figure by `.figure`).

    Raises:
        InputError: for a set without a concept that is no other's concept, or more than five groups.
    """
    groups = _groups([*predicted, *measured])
    if len(groups) > len(_MARKERS):
        raise InputError(f"dose-response: expected at most {len(_MARKERS)} groups in one figure, got {len(groups)}")
    with house_style() as theme:
        ax = axes_or_new(ax, 5.0, 3.8)
        n_skipped, handles, wholes = 0, [], []
        for (group, name), color, marker in zip(groups.items(), theme.cycle, _MARKERS, strict=False):
            whole: float | None = None
            for kind, verdicts, line, face in (
                ("predicted", predicted, ":", theme.ground),
                ("measured", measured, "-", color),
            ):
                parts = [v for v in verdicts if (v.forget_set.concept or v.forget_set.ids) == group]
                doses = sorted(_dose(part, group) for part in parts)
                known = [dose for dose in doses if math.isfinite(dose[1])]
                n_skipped += len(doses) - len(known)
                if not known:
                    continue
                fractions, values, errors = zip(*known, strict=True)
                drawn = ax.errorbar(fractions, values, yerr=errors, fmt=marker, linestyle=line, color=color)
                drawn.lines[0].set(markersize=4.8, markerfacecolor=face, markeredgewidth=1.0)
                drawn.set_label(f"_{kind}:{name}")
                whole = values[-1] if fractions[-1] == 1 else whole
            if whole is not None:
                ax.plot([0, 1], [0, whole], color=color, linewidth=0.5, alpha=0.7, zorder=1, gid=f"proportional:{name}")
                wholes.append(whole)
            handles.append(Line2D([], [], linestyle="", marker=marker, color=color, markersize=5, label=name))
        ax.axhline(0, color=theme.faint, linewidth=0.6, zorder=0.5)
        ax.set_xlim(-0.02, 1.04)
        ax.xaxis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{fraction:.0%}"))
        ax.set(xlabel="fraction of the group removed", ylabel="others lost per example of the group")
        kinds = (("measured", "-", theme.ink, measured), ("predicted", ":", theme.ground, predicted))
        for kind, line, face, verdicts in kinds:
            mark: dict[str, Any] = {"marker": "o", "markersize": 4.8, "markerfacecolor": face, "linestyle": line}
            handles += [Line2D([], [], label=kind, color=theme.ink, **mark)] if verdicts else []
        if wholes:
            handles.append(Line2D([], [], color=theme.ink, linewidth=0.5, label="in proportion to the whole"))
        if handles:
            legend_above(ax, handles, ncols=3)
        note_below(ax, f"{count(n_skipped, 'verdict')} without an estimate not drawn" if n_skipped else "")
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
            drawn = {"yerr": bars, "fmt": "o", "color": theme.helps, "markersize": 5, "elinewidth": 0.9, "zorder": 3}
            ax.errorbar(models, center, label="root mean square; bars 10th to 90th percentile", **drawn)
            law = {"gid": "law", "label": "1/√models, through the last", "color": theme.quiet, "linewidth": 0.8}
            ax.plot(models, center[-1] * np.sqrt(models[-1] / models), zorder=1, **law)
        if planned:
            steps = sorted(planned)
            style = {"color": theme.harms, "linestyle": (0, (4, 2)), "marker": "d", "markersize": 4.5}
            style |= {"markerfacecolor": theme.ground, "gid": "planned", "label": "planned"}
            ax.plot(steps, [planned[t] for t in steps], zorder=2, **style)
        if target is not None:
            ax.axhline(target, color=theme.quiet, linewidth=0.8, linestyle=(0, (1, 2)), gid="target", label="wanted")
        ticks: list[int] = sorted(set(estimates) | set(planned or {}))
        if ticks:
            ax.set_xticks(ticks, [f"{t:,}" for t in ticks])
            ax.xaxis.set_minor_formatter(NullFormatter())
        ax.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda error, _: f"{error:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set(xlabel="models", ylabel=f"standard error, {UNITS[units.pop()] if units else 'no estimates'}")
        if handles := ax.get_legend_handles_labels()[0]:
            # Bars come last by themselves: what was measured goes first.
            legend_above(ax, sorted(handles, key=lambda handle: not isinstance(handle, ErrorbarContainer)))
    return ax


def _groups(verdicts: Sequence[Verdict]) -> dict[tuple[int, ...], str]:
    """The groups, by their ids, in the order they come, and what each is called."""
    sets = [verdict.forget_set for verdict in verdicts]
    groups = concept_names(sets)
    for one in sets:
        if one.concept is None and one.ids not in groups:
            raise InputError(
                f"set {one.name!r}: expected a part of a group, with the group as its concept, or the whole of one; "
                "make parts with infl.forget_sets.take_fraction"
            )
    return groups


def _dose(verdict: Verdict, group: tuple[int, ...]) -> tuple[float, float, float]:
    """The fraction removed, what others lose per example of the group, and the error of that, 0 where it is unknown."""
    fraction, cross = len(verdict.forget_set) / len(group), verdict.cross_influence
    return fraction, fraction * cross.value, fraction * cross.se if math.isfinite(cross.se) else 0.0

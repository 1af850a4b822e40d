"""Predictions beside what retraining measured: are predicted effects, and predicted probabilities, right on average?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes

from infl.records import Array, Effects, InputError, Verdict
from infl.report.plot.canvas import axes_or_new, legend_above, name_points, note_below
from infl.report.style import house_style
from infl.report.text import by_forget_set, common_thresholds, count, likeliest, pair_verdicts

BIN_WIDTH = 0.1
PROBABILITY_EDGES = np.array([0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0])


def reliability(
    predicted: Sequence[Effects] | Sequence[Verdict],
    measured: Sequence[Effects] | Sequence[Verdict],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw what was measured where so much was predicted; on the diagonal predictions are right on average.

    *Of effects.* Effects of untraining each set S on its members (squares) and on held-out examples (circles) are put into
    bins of width 0.1 by their prediction; a bin is drawn at its mean prediction and its mean measurement. Retained training
    examples are left out: a network that fits them loses none. Bars are one standard error of the mean measurement. All
    effects of one replicate rest on models of one key, so replicates are what is independent, in the same order for every
    set. With N effects in the bin, those of set s measured by R_s replicates D_srj, and z_sr the deviation of sum_j D_srj
    from its mean over r,

        se^2 = sum_r ( sum_s z_sr / sqrt(R_s (R_s - 1)) )^2 / N^2,  at least (1 / (N R))^2 with R the largest R_s

    (what one outcome makes). NaN, and no bar, where a set has fewer than two replicates.

    *Of verdicts.* Sets are put into bins by the probability of their likeliest regime; y is the mean, over the sets of a
    bin, of the probability that the measurement gives that same regime. So a set whose measured regime is uncertain counts
    as right in part, and none has to be left out for it. Bars are the Wilson interval of that fraction at one standard error
    (z = 1),

        (y + z^2/2N -+ z sqrt(y (1 - y) / N + z^2 / 4N^2)) / (1 + z^2 / N)

    The dashed line is the probability from which a regime is named.

    Numbers say how many effects, or sets, a bin holds, where there is room. Errors of the predictions are not drawn: they are
    what the diagram is to show.

    Args:
        predicted, measured: effects or verdicts of the same forget sets, in any order; sets on one side alone, or without
            probabilities, are left out and counted.
        ax: axes to draw on; new ones where None (reach the figure by `.figure`).

    Raises:
        InputError: for a set twice, sets of different data, different thresholds, or effects beside verdicts.
    """
    kinds = {type(one) for one in (*predicted, *measured)}
    if len(kinds) > 1:
        raise InputError("reliability: expected effects on both sides, or verdicts on both, got some of each")
    if kinds == {Effects}:
        return _of_effects(cast(Sequence[Effects], predicted), cast(Sequence[Effects], measured), ax)
    return _of_regimes(cast(Sequence[Verdict], predicted), cast(Sequence[Verdict], measured), ax)


def _of_effects(predicted: Sequence[Effects], measured: Sequence[Effects], ax: Axes | None) -> Axes:
    pairs, n_alone = _paired_effects(predicted, measured)
    with house_style() as theme:
        ax = axes_or_new(ax, 5.2, 5.2)
        low, high, points, numbers = 0.0, 0.0, [np.empty((0, 2))], []
        kinds = (("members of the forget set", "s", theme.harms, True), ("held-out examples", "o", theme.helps, False))
        for label, marker, color, members in kinds:
            used = np.unique(np.concatenate([np.empty(0), *(_bins(one, members)[1] for one, _ in pairs)]))
            bins = [mean_of_bin(pairs, members, int(number)) for number in used[np.isfinite(used)]]
            if not bins:
                continue
            x, y, se, counts = map(np.array, zip(*bins, strict=True))
            se = np.nan_to_num(se)
            style = {"fmt": marker, "color": color, "markersize": 5, "markeredgecolor": theme.ground, "label": label}
            ax.errorbar(x, y, yerr=se, markeredgewidth=0.6, elinewidth=0.9, zorder=3, **style)
            points.append(np.stack([x, y], axis=1))
            numbers += [f"{n:,}" for n in counts]
            low, high = min(low, *x, *(y - se)), max(high, *x, *(y + se))
        margin = 0.08 * max(high - low, 0.1)
        ends = (low - margin, high + margin)
        ax.plot(ends, ends, color=theme.faint, zorder=0, gid="diagonal")
        ax.axhline(0, color=theme.faint, linewidth=0.6, zorder=0)
        ax.set(xlim=ends, ylim=ends, aspect="equal", ylabel="measured by retraining")
        ax.set_xlabel("predicted effect: probability of a correct prediction lost")
        notes = [] if pairs else ["no sets with both"]
        notes += [f"{count(n_alone, 'set')} without a counterpart left out"] if n_alone else []
        note_below(ax, "; ".join(notes))
        if numbers:
            legend_above(ax, ncols=2)
            name_points(ax, np.concatenate(points), numbers, avoid_lines=[np.array([ends, ends]).T], size=6)
    return ax


def _of_regimes(predicted: Sequence[Verdict], measured: Sequence[Verdict], ax: Axes | None) -> Axes:
    rows = pair_verdicts(predicted, measured)
    thresholds = common_thresholds([*predicted, *measured])
    stated, right = _stated_and_right([row.verdicts for row in rows if len(row.verdicts) == 2])
    last = len(PROBABILITY_EDGES) - 2
    bins = np.minimum(np.searchsorted(PROBABILITY_EDGES, stated, side="right") - 1, last)
    with house_style() as theme:
        ax = axes_or_new(ax, 4.4, 4.2)
        ax.plot([0, 1], [0, 1], color=theme.faint, zorder=0, gid="diagonal")
        ax.axvline(thresholds.probability, color=theme.quiet, linewidth=0.8, linestyle=(0, (5, 3)), zorder=1)
        for number in np.unique(bins):
            inside = bins == number
            x, y, n = float(stated[inside].mean()), float(right[inside].mean()), int(inside.sum())
            low, high = wilson_interval(y, n)
            style = {"fmt": "o", "color": theme.helps, "markersize": 5, "elinewidth": 0.9, "label": "_sets"}
            ax.errorbar(x, y, yerr=[[y - low], [high - y]], zorder=3, **style)
            below: dict[str, Any] = {"textcoords": "offset points", "ha": "center", "va": "top"}
            ax.annotate(f"{n:,}", (x, low), (0, -3), size=6.5, color=theme.quiet, **below)
        ax.set(xlim=(PROBABILITY_EDGES[0] - 0.03, 1.03), ylim=(-0.03, 1.05))
        ax.set_xlabel("predicted probability of the likeliest regime")
        ax.set_ylabel("fraction of sets where retraining finds it")
        n_skipped = len(rows) - len(stated)
        note_below(ax, f"{count(n_skipped, 'set')} without both left out" if n_skipped else "")
    return ax


def wilson_interval(fraction: float, n: int, *, z: float = 1.0) -> tuple[float, float]:
    """Interval of a fraction of n at z standard errors (Wilson 1927): inside [0, 1], and never of no width."""
    middle = (fraction + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z * math.sqrt(max(fraction * (1 - fraction), 0) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return min(fraction, max(0.0, middle - reach)), max(fraction, min(1.0, middle + reach))


def mean_of_bin(
    pairs: Sequence[tuple[Effects, Effects]], members: bool, number: int, width: float = BIN_WIDTH
) -> tuple[float, float, float, int]:
    """Mean prediction, mean measurement, its error, and how many effects there are, of bin `number`."""
    stated, found, n, deviations = 0.0, 0.0, 0, []
    for one, other in pairs:
        columns, bins = _bins(one, members, width)
        columns = columns[(bins == number) & np.isfinite(other.effect[columns])]
        if len(columns):
            stated, found, n = stated + one.effect[columns].sum(), found + other.effect[columns].sum(), n + len(columns)
            sums = other.replicates[:, columns].sum(axis=1, dtype=np.float64)
            r = len(sums)
            deviations.append((sums - sums.mean()) / math.sqrt(r * (r - 1)) if r > 1 else np.full(1, np.nan))
    if not n:
        return math.nan, math.nan, math.nan, 0
    longest = max(map(len, deviations))
    together = np.sum([np.pad(one, (0, longest - len(one))) for one in deviations], axis=0)
    error = float(np.sqrt((together**2).sum())) / n
    return stated / n, found / n, max(error, 1 / (n * longest)) if math.isfinite(error) else math.nan, n


def _paired_effects(
    predicted: Sequence[Effects], measured: Sequence[Effects]
) -> tuple[list[tuple[Effects, Effects]], int]:
    left, right = by_forget_set("predicted", predicted), by_forget_set("measured", measured)
    pairs = [(left[key], right[key]) for key in left if key in right]
    shapes = {(one.n_train, len(one.effect)) for pair in pairs for one in pair}
    if len(shapes) > 1:
        raise InputError(f"effects: expected all to be of the same data, got (n, columns) of {sorted(shapes)}")
    return pairs, len(left) + len(right) - 2 * len(pairs)


def _bins(effects: Effects, members: bool, width: float = BIN_WIDTH) -> tuple[Array, Array]:
    """Columns of members, or of held-out examples, and the bin of the effect on each; bin 0 has 0 in its middle."""
    columns = np.array(effects.forget_set.ids) if members else np.arange(effects.n_train, len(effects.effect))
    return columns, np.floor(effects.effect[columns] / width + 0.5)


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

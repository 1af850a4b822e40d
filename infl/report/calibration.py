"""Turns predictions and what retraining measured into diagrams of how far the predictions can be relied on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from infl.records import Array, Effects, InputError, Verdict
from infl.report.canvas import axes_or_new, note_below
from infl.report.labels import place_labels
from infl.report.pairing import common_thresholds, likeliest, pair_verdicts
from infl.report.style import house_style

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

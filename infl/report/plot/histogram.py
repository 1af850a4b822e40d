"""How memorization is distributed over the training examples, beside what chance alone would draw."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from scipy.special import ndtr

from infl.records import UNITS, Array, Estimate, InputError
from infl.report.plot.canvas import axes_or_new, legend_above, note_below
from infl.report.style import house_style
from infl.report.text import MEMORIZED_FROM

_LOGARITHMIC_ABOVE = 100  # counts on a linear axis up to here
_BIN = 0.25 / 10.5  # 0 lies in the middle of a bin, 0.25 on an edge
_CHUNK = 1 << 16


def memorization(memorization: Estimate, *, ax: Axes | None = None) -> Axes:
    """Draw how memorization is distributed over D, and what would be seen were nothing memorized.

    Bars count the examples whose score lies in each bin; 0 lies in the middle of one. Their error is that of the scores: with
    q_ik the chance that a score drawn from N(score_i, se_i^2) falls into bin k = [a, b),

        q_ik = Phi((b - score_i) / se_i) - Phi((a - score_i) / se_i),    error_k = sqrt(sum_i q_ik (1 - q_ik))

    which is on the wide side, since scores carry their noise already and are smeared once more. Scores are taken as
    independent of each other.

    The outline is the null: the counts expected were an example as likely right with itself in training as without,

        null_k = sum_i Phi(b / s_i) - Phi(a / s_i),    s_i^2 = d_i p_i (1 - p_i) (1 / n_in,i + 1 / n_out,i)

    where p_i is its fraction of right models over both sides together and d_i the design effect, by which its squared error
    differs from that of independent models. It is what masks shuffled against the outcomes bring, with a normal distribution in
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
    if memorization.value.ndim != 1:
        raise InputError(f"memorization: expected one score per training example, [n], got {memorization.value.shape}")
    known = ~np.isnan(memorization.value)
    scores, errors, deviations = memorization.value[known], memorization.se[known], null_deviations(memorization)[known]
    edges = _edges(scores, memorization.outcome == "correct")
    counts = np.histogram(scores, edges)[0]
    with house_style() as theme:
        ax = axes_or_new(ax, 4.6, 3.4)
        ax.hist(edges[:-1], bins=edges.tolist(), weights=counts, color=theme.helps, zorder=2)
        handles: list[Line2D | Patch] = []
        if len(scores):
            shown, reach = counts > 0, _errors_of_counts(scores, errors, edges)
            middles = (edges[1:] + edges[:-1]) / 2
            bars = [np.minimum(reach, counts)[shown], reach[shown]]
            style = {"fmt": "none", "ecolor": theme.quiet, "elinewidth": 0.8, "label": "_counts"}
            ax.errorbar(middles[shown], counts[shown], yerr=bars, zorder=3, **style)
            handles.append(Patch(color=theme.helps, label="measured, ± 1 standard error"))
        if np.isfinite(deviations).any():
            expected = expected_counts(np.zeros(len(scores)), deviations, edges).sum(axis=0)
            ax.stairs(expected, edges.tolist(), color=theme.ink, linewidth=1.1, zorder=4, gid="null")
            handles.append(Line2D([], [], color=theme.ink, linewidth=1.1, label="expected were nothing memorized"))
        if np.max(counts) > _LOGARITHMIC_ABOVE:
            ax.set_yscale("log", nonpositive="clip")
            ax.set_ylim(0.7, 2.5 * float(np.max(counts)))
            ax.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        if memorization.outcome == "correct" and len(scores):
            bound = {"color": theme.quiet, "linewidth": 0.9, "linestyle": (0, (4, 2))}
            ax.axvline(MEMORIZED_FROM, zorder=3, gid="memorized", **bound)
            beyond = f"{int((scores >= MEMORIZED_FROM).sum()):,} of {len(scores):,} are ≥ {MEMORIZED_FROM:g}"
            if np.isfinite(deviations).any():
                beyond += f" ({ndtr(-MEMORIZED_FROM / deviations[deviations > 0]).sum():.1f} expected)"
            handles.append(Line2D([], [], label=beyond, **bound))
        unit = UNITS[memorization.outcome]
        ax.set(xlabel=f"memorization: {unit} gained by training on the example", ylabel="training examples")
        if not len(scores):
            ax.set_yticks([])
        n_missing = int((~known).sum())
        note_below(ax, f"{n_missing:,} without an estimate not shown" if n_missing else "")
        if handles:
            legend_above(ax, handles)
    return ax


def null_deviations(memorization: Estimate) -> Array:
    """s_i of `memorization`: standard deviation of each score were it 0, [n]; NaN where no error is known."""
    if memorization.mean_out is None or not memorization.is_counted:
        return memorization.se
    n_in, n_out = np.asarray(memorization.n_in, np.float64), np.asarray(memorization.n_out, np.float64)
    fraction_out = memorization.mean_out
    fraction_in = np.clip(memorization.value + fraction_out, 0, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        independent = _variance_with_two_more(fraction_in, n_in) + _variance_with_two_more(fraction_out, n_out)
        together = (n_in * fraction_in + n_out * fraction_out) / (n_in + n_out)
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


def _variance_with_two_more(fraction: Array, n: Array) -> Array:
    """As the errors of estimates are made (Agresti & Caffo 2000)."""
    mean = (fraction * n + 1) / (n + 2)
    return mean * (1 - mean) / (n + 2)


def _errors_of_counts(scores: Array, errors: Array, edges: Array) -> Array:
    variance = np.zeros(len(edges) - 1)
    for first in range(0, len(scores), _CHUNK):
        chance = expected_counts(scores[first : first + _CHUNK], errors[first : first + _CHUNK], edges)
        variance += (chance * (1 - chance)).sum(axis=0)
    return np.sqrt(variance)


def _edges(scores: Array, is_probability: bool) -> Array:
    low, high = (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 1.0)
    if high == low:
        low, high = low - 0.5 * _BIN, high + 0.5 * _BIN
    if not is_probability:
        return np.linspace(low, high, 41)
    # The hair added at both ends keeps a score that lies on an edge from being lost to rounding.
    first, last = math.floor(low / _BIN + 0.5 - 1e-9), math.ceil(high / _BIN + 0.5 + 1e-9)
    return (np.arange(first, last + 1) - 0.5) * _BIN

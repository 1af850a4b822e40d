"""How memorization is distributed over the training examples, beside what chance alone would draw."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter
from scipy.special import ndtr

from infl.records import Array, Estimate, InputError
from infl.report.plot.canvas import axes_or_new, note_below
from infl.report.style import current_theme, house_style
from infl.report.text import MEMORIZED_FROM, UNITS

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


def memorization(memorization: Estimate, *, ax: Axes | None = None) -> Axes:
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
    """What `memorization` draws, and the page; see there for its formulas and what is raised."""
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
    """s_i of `memorization`: standard deviation of each score were it 0, [n]; NaN where no error is known."""
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

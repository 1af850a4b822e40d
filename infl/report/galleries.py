"""Turns scores and the dataset they speak of into pictures: what is memorized, and what influences what."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from infl.records import Array, Dataset, Estimate, ScoredPair
from infl.report.examples import draw_example, ink_for
from infl.report.pairing import with_error
from infl.report.selection import check_pairs, class_of, example_of, most_memorized, place_of
from infl.report.style import BAND, HARMS, HELPS, INK, QUIET, house_style

_UNITS = {"correct": "probability", "margin": "log-odds"}
_MEMORIZED_FROM = 0.25
_BIN = 0.025
_ROWS = 6


def memorization_figure(memorization: Estimate, dataset: Dataset, *, n_examples: int = 16) -> Figure:
    """Draw how memorization is distributed over D, and the most memorized examples.

    Left: a histogram of the scores, with counts on a logarithmic axis where they span more than two decades. The grey
    band reaches two median standard errors to either side of zero: scores inside it may well be none. Where the unit is
    a probability, a dashed line at 0.25 (Feldman & Zhang 2020) and the number of examples at or beyond it. Right: the
    most memorized examples with label, training id and score ± standard error. Scores that are NaN are in neither,
    and their number is written below the histogram.

    Args:
        memorization: scores of the training examples, [n].
        dataset: the data they were estimated on.
        n_examples: pictures in the gallery, fewer where fewer have a score.

    Raises:
        InputError: where the scores are not one per training example.
    """
    best = most_memorized(memorization, dataset, n_examples)
    columns = max(1, math.ceil(math.sqrt(len(best))))
    rows = max(1, math.ceil(len(best) / columns))
    with house_style():
        figure = _new_figure(4.2 + 1.05 * columns, max(3.6, 1.28 * rows))
        panels = figure.subfigures(1, 2, squeeze=False, width_ratios=(4.2, max(1.05 * columns, 2.0)), wspace=0.02)
        left, right = panels[0]
        _draw_histogram(left, memorization)
        _draw_gallery(right, memorization, dataset, best, shape=(rows, columns))
    return figure


def influence_pairs_figure(
    pairs: Sequence[ScoredPair], dataset: Dataset, *, title: str = "strongest cross-influences"
) -> Figure:
    """Draw pairs of examples: the training example that influences, and the one whose prediction it changes.

    One pair a row, at most six rows, then the next block to the right, in the order given. Below each picture its
    label and column id (training ids below n, held-out ones from n on); on the arrow the score ± standard error, blue
    where the training example helps, orange where it harms. A pair whose score is NaN is left out and counted below.

    Args:
        pairs: the pairs to draw.
        dataset: the data they were estimated on.
        title: written above.

    Raises:
        InputError: where a pair names an example the dataset does not hold.
    """
    check_pairs(pairs, dataset)
    shown = [pair for pair in pairs if not math.isnan(pair.value)]
    blocks = max(1, math.ceil(len(shown) / _ROWS))
    rows = max(1, math.ceil(len(shown) / blocks))
    with house_style():
        figure = _new_figure(3.3 * blocks, 0.55 + 1.25 * rows)
        figure.suptitle(title, x=0.012, ha="left", fontsize=9.5)
        skipped = len(pairs) - len(shown)
        if skipped or not shown:
            figure.supxlabel(_pairs_note(skipped), fontsize=7, color=QUIET)
        # One flat grid, so that all pictures come out the same size: source, arrow, target, gap; headings on top.
        widths = ([1, 0.95, 1, 0.3] * blocks)[:-1]
        grid = figure.add_gridspec(rows + 1, len(widths), width_ratios=widths, height_ratios=[0.04, *[1] * rows])
        ink = ink_for(dataset)
        for k, pair in enumerate(shown):
            row, first = k % rows, 4 * (k // rows)
            if row == 0:
                _draw_heading(figure.add_subplot(grid[0, first]), "training example")
                _draw_heading(figure.add_subplot(grid[0, first + 2]), "influenced example")
            axes = [figure.add_subplot(grid[row + 1, first + c]) for c in range(3)]
            _draw_pair(axes, pair, dataset, ink)
    return figure


def _new_figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _draw_histogram(panel: SubFigure, memorization: Estimate) -> None:
    ax = panel.add_subplot()
    scores = memorization.value[~np.isnan(memorization.value)]
    is_probability = memorization.outcome == "correct"
    unit = _UNITS[memorization.outcome]
    handles: list[Line2D | Patch] = []
    counts, _, _ = ax.hist(scores, bins=_edges(scores, is_probability).tolist(), color=HELPS, zorder=2)
    if np.max(counts) > 100:
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.7)
        ax.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    errors = memorization.se[~np.isnan(memorization.se)]
    if errors.size:
        error = float(np.median(errors))
        ax.axvspan(-2 * error, 2 * error, color=BAND, linewidth=0, zorder=0, gid="null-band")
        handles.append(Patch(color=BAND, label=f"0 ± 2 standard errors (median {error:.3f})"))
    if is_probability and len(scores):
        ax.axvline(_MEMORIZED_FROM, color=INK, linewidth=0.9, linestyle=(0, (4, 2)), zorder=3, gid="memorized")
        beyond = int((scores >= _MEMORIZED_FROM).sum())
        label = f"{beyond:,} of {len(scores):,} are ≥ {_MEMORIZED_FROM:g}"
        handles.append(Line2D([], [], color=INK, linewidth=0.9, linestyle=(0, (4, 2)), label=label))
    ax.set_xlabel(f"memorization: {unit} gained by training on the example")
    ax.set_ylabel("training examples")
    if not len(scores):
        ax.set_yticks([])
    missing = len(memorization.value) - len(scores)
    if missing:
        ax.annotate(
            f"{missing:,} without an estimate not shown",
            (1, 0),
            xytext=(0, -34),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="top",
            size=7,
            color=QUIET,
        )
    if handles:
        ax.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.02, 1.0))


def _edges(scores: Array, is_probability: bool) -> Array:
    low, high = (float(scores.min()), float(scores.max())) if len(scores) else (0.0, 1.0)
    if high == low:
        low, high = low - 0.5 * _BIN, high + 0.5 * _BIN
    if not is_probability:
        return np.linspace(low, high, 41)
    # Edges at whole multiples, so that none of the bars straddles zero or 0.25.
    # The hair added at both ends keeps a score that lies on an edge from being lost to rounding.
    return np.arange(math.floor(low / _BIN - 1e-9), math.ceil(high / _BIN + 1e-9) + 1) * _BIN


def _draw_gallery(
    panel: SubFigure, memorization: Estimate, dataset: Dataset, ids: Array, *, shape: tuple[int, int]
) -> None:
    panel.suptitle(
        f"the {len(ids)} most memorized" if len(ids) else "no example to show", x=0.02, ha="left", fontsize=8.5
    )
    grid = panel.add_gridspec(*shape)
    ink = ink_for(dataset)
    for k, i in enumerate(ids):
        ax = draw_example(panel.add_subplot(grid[divmod(k, shape[1])]), dataset.x_train[i], ink=ink)
        score = _score(float(memorization.value[i]), float(memorization.se[i]))
        _caption(ax, f"{class_of(dataset, int(i))} · #{i}\n{score}")


def _draw_pair(axes: Sequence[Axes], pair: ScoredPair, dataset: Dataset, ink: str) -> None:
    source, arrow, target = axes
    for ax, column in ((source, pair.source), (target, pair.target)):
        draw_example(ax, example_of(dataset, column), ink=ink)
        _caption(ax, f"{class_of(dataset, column)}\n{place_of(dataset, column)}")
    word, color = ("helps", HELPS) if pair.value >= 0 else ("harms", HARMS)
    arrow.set_axis_off()
    arrow.annotate(
        "", (0.95, 0.5), xytext=(0.05, 0.5), arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.2}
    )
    arrow.text(0.5, 0.56, _score(pair.value, pair.se), ha="center", va="bottom", size=7, color=INK)
    arrow.text(0.5, 0.44, word, ha="center", va="top", size=7, color=color)


def _draw_heading(ax: Axes, text: str) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0, text, ha="center", va="bottom", size=7.5, color=QUIET)


def _score(value: float, se: float) -> str:
    return with_error(value, se).replace("-", "−")


def _caption(ax: Axes, text: str) -> None:
    ax.set_xlabel(text, fontsize=6.8, labelpad=2, linespacing=1.15, parse_math=False)


def _pairs_note(skipped: int) -> str:
    if not skipped:
        return "no pairs"
    return f"{skipped} {'pair' if skipped == 1 else 'pairs'} without an estimate not shown"

"""Turns scores and the dataset they speak of into pictures: what is memorized, and what influences what."""

from __future__ import annotations

import math
from collections.abc import Sequence
from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes

from infl.records import Array, Dataset, Estimate, InputError, ScoredPair
from infl.report.plot.canvas import axes_or_new
from infl.report.style import current_theme, house_style
from infl.report.text import (
    MEMORIZED_FROM,
    check_pairs,
    class_name,
    class_of,
    count,
    example_of,
    excerpt,
    minus,
    most_memorized,
    place_of,
    shorten,
    with_error,
)

_ROWS = 6
_MAX_CLASSES = 10
_PICTURE, _SIDE = 0.72, 0.95  # inches, of all examples of a class and of a pair
_TEXT = (18, 8)  # characters in a line and lines of a document in a picture's place


def memorized_gallery(
    memorization: Estimate,
    dataset: Dataset,
    *,
    n_per_class: int = 6,
    labels: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the most memorized examples of each class, a class a row, the most memorized on the left.

    Below each picture its training id and score ± standard error; beside each row the name of the class and how many of its
    examples have a score of 0.25 or more, of how many that have a score. Scores that are NaN are not shown.

    Args:
        memorization: scores of the training examples of `dataset`, [n].
        n_per_class: pictures in a row, fewer where fewer have a score.
        labels: classes to show, in this order; None for all, or, of more than ten, for the ten with the most memorized
            examples.
        ax: axes to draw on; new ones of the size it takes where None (reach the figure by `.figure`).

    Raises:
        InputError: where the scores are not one per training example, a number is out of its range, or a class is none of
            the dataset's.
    """
    order = most_memorized(memorization, dataset, dataset.n_train)
    if n_per_class < 1:
        raise InputError(f"n_per_class: expected at least 1, got {n_per_class}")
    memorized = np.nan_to_num(memorization.rankable, nan=-np.inf) >= MEMORIZED_FROM
    per_class = np.bincount(dataset.y_train[memorized], minlength=dataset.n_classes)
    if wrong := [label for label in labels or () if not 0 <= label < len(per_class)]:
        raise InputError(f"labels: expected classes 0..{len(per_class) - 1}, got {wrong[0]}")
    shown = sorted(np.argsort(-per_class, kind="stable")[:_MAX_CLASSES].tolist()) if labels is None else labels
    with house_style() as theme:
        pitch = (_PICTURE + 0.2, _PICTURE + 0.36)
        width, height = 1.15 + pitch[0] * n_per_class, pitch[1] * max(len(shown), 1)
        ax = axes_or_new(ax, width, height + 0.3)
        ax.set_axis_off()
        ink = ink_for(dataset)
        for row, label in enumerate(shown):
            of_class = order[dataset.y_train[order] == label]
            bottom = 1 - (row * pitch[1] + _PICTURE) / height
            name = "\n".join(wrap(class_name(dataset, label), 14, max_lines=3, placeholder=" …"))
            beside = {"ha": "left", "transform": ax.transAxes, "parse_math": False}
            middle = bottom + 0.5 * _PICTURE / height
            ax.text(0, middle, name, va="bottom", size=8.5, color=theme.ink, **beside)
            counted = f"{per_class[label]:,} of {len(of_class):,}\n≥ {MEMORIZED_FROM:g}"
            ax.text(0, middle - 0.02 / height, counted, va="top", size=7, color=theme.quiet, linespacing=1.15, **beside)
            for k, i in enumerate(of_class[:n_per_class]):
                bounds = ((1.15 + k * pitch[0]) / width, bottom, _PICTURE / width, _PICTURE / height)
                picture = _draw(ax.inset_axes(bounds), dataset, i, ink, _PICTURE)
                _caption(picture, f"#{i}\n{minus(with_error(float(memorization.value[i]), float(memorization.se[i])))}")
        _, one, several = dataset.class_words
        heading = f"most memorized training examples of each {one}"
        if len(shown) < dataset.n_classes:
            heading += f", {len(shown)} of {dataset.n_classes:,} {several}"
        ax.set_title(heading)
    return ax


def influence_pairs(
    pairs: Sequence[ScoredPair],
    dataset: Dataset,
    *,
    intervals: Sequence[tuple[float, float]] | None = None,
    title: str = "strongest cross-influences",
    ax: Axes | None = None,
) -> Axes:
    """Draw pairs of examples: the training example that influences, and the one whose prediction it changes.

    One pair a row, at most six rows, then the next block to the right, in the order given. Below each picture its
    label and column id (training ids below n, held-out ones from n on); on the arrow the score ± standard error, blue
    where the training example helps, orange where it harms, and the interval where one is given. A pair whose score is NaN
    is left out and counted below.

    Args:
        pairs: of `dataset`.
        intervals: (low, high) of each pair, such as `infl.interval` gives.
        title: written above.
        ax: axes to draw on; new ones of the size it takes where None (reach the figure by `.figure`).

    Raises:
        InputError: where a pair names an example the dataset does not hold, or there are not as many intervals as pairs.
    """
    check_pairs(pairs, dataset)
    if intervals is not None and len(intervals) != len(pairs):
        raise InputError(f"intervals: expected one (low, high) for each of {len(pairs)} pairs, got {len(intervals)}")
    shown = [k for k, pair in enumerate(pairs) if not math.isnan(pair.value)]
    blocks = max(1, math.ceil(len(shown) / _ROWS))
    rows = max(1, math.ceil(len(shown) / blocks))
    with house_style() as theme:
        # Inches of a block: source, arrow, target, gap; and of a row.
        side, arrow, gap, pitch, head = _SIDE, 1.0, 0.3, 1.3, 0.24
        width, height = blocks * (2 * side + arrow) + (blocks - 1) * gap, head + rows * pitch
        ax = axes_or_new(ax, width + 0.3, height + 0.3)
        ax.set_axis_off()
        ax.set_title(title)
        if len(shown) < len(pairs) or not shown:
            n_skipped = len(pairs) - len(shown)
            note = f"{count(n_skipped, 'pair')} without an estimate not shown" if n_skipped else "no pairs"
            ax.text(0.5, 0, note, ha="center", va="top", size=7, color=theme.quiet, transform=ax.transAxes)
        ink = ink_for(dataset)
        for position, k in enumerate(shown):
            block, row = divmod(position, rows)
            left, bottom = block * (2 * side + arrow + gap), height - head - row * pitch - side
            places = [(left, side), (left + side, arrow), (left + side + arrow, side)]
            axes = [ax.inset_axes((x / width, bottom / height, w / width, side / height)) for x, w in places]
            if row == 0:
                axes[0].set_title("training example", fontsize=7.5, color=theme.quiet, loc="center", pad=4)
                axes[2].set_title("influenced example", fontsize=7.5, color=theme.quiet, loc="center", pad=4)
            _draw_pair(axes, pairs[k], dataset, ink, None if intervals is None else intervals[k])
    return ax


def _draw_pair(
    axes: Sequence[Axes], pair: ScoredPair, dataset: Dataset, ink: str, interval: tuple[float, float] | None
) -> None:
    theme = current_theme()
    source, arrow, target = axes
    for ax, column in ((source, pair.source), (target, pair.target)):
        _draw(ax, dataset, column, ink, _SIDE)
        _caption(ax, f"{shorten(class_of(dataset, column), 22)}\n{place_of(dataset, column)}")
    word, color = ("helps", theme.helps) if pair.value >= 0 else ("harms", theme.harms)
    arrow.set_axis_off()
    arrow.annotate("", (0.95, 0.5), (0.05, 0.5), arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 1.2})
    arrow.text(0.5, 0.56, minus(with_error(pair.value, pair.se)), ha="center", va="bottom", size=7, color=theme.ink)
    arrow.text(0.5, 0.44, word, ha="center", va="top", size=7, color=color)
    if interval is not None:
        low, high = (f"{end:z.2f}".replace("-", "−") for end in interval)
        arrow.text(0.5, 0.28, f"[{low}, {high}]", ha="center", va="top", size=6.8, color=theme.quiet)


def _draw(ax: Axes, dataset: Dataset, column: int, ink: str, side: float) -> Axes:
    """One example in a square of so many inches; of a document its beginning."""
    if not dataset.has_texts:
        return draw_example(ax, example_of(dataset, column), ink=ink)
    theme, (width, n_lines) = current_theme(), _TEXT
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=True, color=theme.faint, linewidth=0.6)
    lines = wrap(excerpt(dataset, column), width, max_lines=n_lines, placeholder=" …")
    font = {"size": 6.2 * side, "color": theme.ink, "linespacing": 1.15, "parse_math": False}
    ax.text(0.04, 0.96, "\n".join(lines), ha="left", va="top", transform=ax.transAxes, **font)
    return ax


def _caption(ax: Axes, text: str) -> None:
    ax.set_xlabel(text, fontsize=6.8, labelpad=2, linespacing=1.15, parse_math=False)


_BARS_UP_TO = 24
_LOOKED_AT = 256


def draw_example(ax: Axes, example: Array, *, ink: str = "gray") -> Axes:
    """Draw one example, without ticks, in a thin frame.

    [h, w] and [h, w, 1] are drawn in greys, [h, w, 3] in colour, pixel for pixel. uint8 spans 0 to 255 and floats
    within [0, 1] span that; any other range spans its own smallest to largest value. Examples of another shape become
    a strip of their values in storage order: bars up to 24 of them, a line beyond. NaN is left blank, and an example without
    pixels says so.

    Args:
        ink: colour map of grey images; `ink_for` picks one for a dataset.
    """
    theme = current_theme()
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set(visible=True, color=theme.faint, linewidth=0.6)
    if not example.size:
        middle = {"ha": "center", "va": "center", "transform": ax.transAxes}
        ax.text(0.5, 0.5, "no pixels", size=6.5, color=theme.faint, **middle)
    elif is_image(example):
        low, high = span(example)
        if example.shape[2:] != (3,):
            example = example.reshape(example.shape[:2])
        elif example.dtype != np.uint8:  # matplotlib clips colours outside [0, 1]
            example = (example.astype(np.float64) - low) / (high - low)
        ax.imshow(example, cmap=ink, vmin=low, vmax=high, aspect="equal")
    else:
        values = example.reshape(-1).astype(np.float64)
        if len(values) <= _BARS_UP_TO:
            ax.bar(range(len(values)), values, width=0.8, color=theme.ink)
        else:
            ax.plot(values, color=theme.ink, linewidth=0.7)
        ax.axhline(0, color=theme.faint, linewidth=0.6, zorder=0.5)
        ax.set_box_aspect(1)
    return ax


def ink_for(dataset: Dataset) -> str:
    """The colour map in which this dataset's grey images read well on the paper of the theme.

    On white paper light strokes on a dark ground (digits, clothes) are turned into dark strokes; other images stay as
    they are, and so do all on a dark page. One choice for all examples, so that they can be compared.
    """
    images = dataset.x_train[:_LOOKED_AT]
    if not len(images) or not is_image(images[0]) or current_theme().name == "dark":
        return "gray"
    grey = images.reshape(len(images), *images.shape[1:3], -1).mean(axis=3)
    frame = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
    low, high = grey.min(), grey.max()
    return "gray_r" if np.median(frame) < low + 0.15 * (high - low) else "gray"


def is_image(example: Array) -> bool:
    """[h, w], [h, w, 1] or [h, w, 3]."""
    return example.ndim == 2 or (example.ndim == 3 and example.shape[2] in (1, 3))


def span(example: Array) -> tuple[float, float]:
    """The values drawn black and white."""
    if example.dtype == np.uint8:
        return 0.0, 255.0
    finite = example[np.isfinite(example)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1.0

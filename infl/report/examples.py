"""Turns one example of a dataset into a small picture: an image where it is one, otherwise a strip of values."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from infl.records import Array, Dataset
from infl.report.style import current_theme

_BARS_UP_TO = 24
_LOOKED_AT = 256


def draw_example(ax: Axes, example: Array, *, ink: str = "gray") -> Axes:
    """Draw one example, without ticks, in a thin frame.

    [h, w] and [h, w, 1] are drawn in greys, [h, w, 3] in colour, pixel for pixel. uint8 spans 0 to 255 and floats
    within [0, 1] span that; any other range spans its own smallest to largest value. Examples of another shape become
    a strip of their values in storage order: bars up to 24 of them, a line beyond. NaN is left blank, and an example without
    pixels says so.

    Args:
        ax: axes to draw on.
        example: pixels or features of one example.
        ink: colour map of grey images; `ink_for` picks one for a dataset.
    """
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set(visible=True, color=current_theme().faint, linewidth=0.6)
    if not example.size:
        ax.text(
            0.5,
            0.5,
            "no pixels",
            ha="center",
            va="center",
            size=6.5,
            color=current_theme().faint,
            transform=ax.transAxes,
        )
    elif _is_image(example):
        _draw_image(ax, example, ink)
    else:
        _draw_strip(ax, example.reshape(-1).astype(np.float64))
    return ax


def ink_for(dataset: Dataset) -> str:
    """The colour map in which this dataset's grey images read well on the paper of the theme.

    On white paper light strokes on a dark ground (digits, clothes) are turned into dark strokes; other images stay as
    they are, and so do all on a dark page. One choice for all examples, so that they can be compared.
    """
    images = dataset.x_train[:_LOOKED_AT]
    if not len(images) or not _is_image(images[0]) or current_theme().name == "dark":
        return "gray"
    grey = images.reshape(len(images), *images.shape[1:3], -1).mean(axis=3)
    frame = np.concatenate([grey[:, 0], grey[:, -1], grey[:, :, 0], grey[:, :, -1]], axis=1)
    low, high = grey.min(), grey.max()
    return "gray_r" if np.median(frame) < low + 0.15 * (high - low) else "gray"


def _is_image(example: Array) -> bool:
    return example.ndim == 2 or (example.ndim == 3 and example.shape[2] in (1, 3))


def _draw_image(ax: Axes, example: Array, ink: str) -> None:
    low, high = _span(example)
    if example.ndim == 3 and example.shape[2] == 3:
        if example.dtype != np.uint8:  # matplotlib clips colours outside [0, 1]
            example = (example.astype(np.float64) - low) / (high - low)
        ax.imshow(example, aspect="equal")
    else:
        ax.imshow(example.reshape(example.shape[:2]), cmap=ink, vmin=low, vmax=high, aspect="equal")


def _span(example: Array) -> tuple[float, float]:
    if example.dtype == np.uint8:
        return 0.0, 255.0
    finite = example[np.isfinite(example)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high if high > low else low + 1.0


def _draw_strip(ax: Axes, values: Array) -> None:
    places = np.arange(len(values))
    if len(values) <= _BARS_UP_TO:
        ax.bar(places, values, width=0.8, color=current_theme().ink)
    else:
        ax.plot(places, values, color=current_theme().ink, linewidth=0.7)
    ax.axhline(0, color=current_theme().faint, linewidth=0.6, zorder=0.5)
    ax.set_box_aspect(1)

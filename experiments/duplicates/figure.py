"""Turns results.json into duplicates.png: scores of single copies above, effects of whole sets and predictions below."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pictures import picture
from planting import COPIES, KINDS

SCORES = {"0.5": "o", "0.7": "s"}
PREDICTORS = {
    "combined": ("o", "combined"),
    "support": ("^", "support"),
    "surrogate": ("v", "surrogate"),
    "additive-shrunk": ("D", "additive-shrunk"),
    "additive": ("s", "additive"),
    "sum of scores": ("x", "sum of the copies' scores"),
}


def draw(results: dict[str, Any], folder: Path) -> None:
    """Two rows a data set, one column a kind."""
    names = list(results["worlds"])
    title = "Copies hide influence from scores of single examples, not from the set's effect"
    with picture(folder / "duplicates.png", 9.6, 4.6 * len(names), title) as (figure, theme):
        rows = figure.subplots(2 * len(names), len(KINDS), sharex=True, sharey="row", squeeze=False)
        for line, name in enumerate(names):
            cells = results["summary"][name]["cells"]
            for column, kind in enumerate(KINDS):
                above, below = rows[2 * line][column], rows[2 * line + 1][column]
                draw_scores(above, [cells[f"{kind}, {copies}"] for copies in COPIES], theme)
                draw_sets(below, [cells[f"{kind}, {copies}"] for copies in COPIES], theme)
                above.set_title(f"{name}, {kind} examples")
            rows[2 * line][0].set_ylabel("memorization of one copy")
            rows[2 * line + 1][0].set_ylabel("self(S) of all copies")
        for ax in rows[-1]:
            ax.set_xlabel("copies")
        for line, at in ((0, rows[0][-1]), (1, rows[1][-1])):
            at.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0))
            at.set_zorder(1 - line)


def draw_scores(ax: Any, cells: list[dict[str, Any]], theme: Any) -> None:
    """Scores of single copies, and the share of the set's effect that the law gives them."""
    for (fraction, marker), color in zip(SCORES.items(), (theme.helps, theme.harms), strict=True):
        law = [one[f"law at {fraction}"][0] for one in cells]
        ax.plot(places(), law, "--", color=color, lw=0.9, label=f"self(S) (1-r)$^{{c-1}}$, r = {fraction}")
        errors(
            ax, places(0.0), [one[f"score at {fraction}"] for one in cells], marker, color, f"score at r = {fraction}"
        )
    look(ax, theme)


def draw_sets(ax: Any, cells: list[dict[str, Any]], theme: Any) -> None:
    """Measured effects of the sets as bars, predictions as points beside each other."""
    measured = [one["self"] for one in cells]
    ax.bar(places(), [value for value, _ in measured], 0.86, color=theme.band, label="measured")
    ax.errorbar(places(), *np.array([[v, e or 0] for v, e in measured]).T, fmt="none", ecolor=theme.quiet, lw=0.8)
    colors = (theme.ink, theme.helps, theme.helps, theme.harms, theme.harms, theme.quiet)
    offsets = np.linspace(-0.3, 0.3, len(PREDICTORS))
    for (name, (marker, title)), color, offset in zip(PREDICTORS.items(), colors, offsets, strict=True):
        if name in cells[0]:
            errors(ax, places(offset), [one[name] for one in cells], marker, color, title)
    look(ax, theme)


def places(offset: float = 0.0) -> np.ndarray:
    """Numbers of copies at equal distances."""
    return np.arange(len(COPIES)) + offset


def errors(ax: Any, x: np.ndarray, quantities: list[Any], marker: str, color: str, label: str) -> None:
    """Means with one standard error over the examples."""
    values, widths = np.array([[value, error or 0] for value, error in quantities]).T
    ax.errorbar(x, values, widths, fmt=marker, ms=3.6, color=color, lw=0.8, label=label)


def look(ax: Any, theme: Any) -> None:
    """Axes of shares of probability."""
    ax.axhline(0, color=theme.faint, lw=0.7, zorder=0)
    ax.set_xticks(range(len(COPIES)), [str(copies) for copies in COPIES])
    ax.set_ylim(-0.12, 1.12)

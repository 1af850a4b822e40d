"""Turns results.json into approximations.png: every method by four measures, with errors and what is attainable."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pictures import picture

PANELS = {
    "rank_correlation": "rank correlation\nwith influence",
    "rank_correlation_within_class": "the same,\nwithin the class",
    "lds": "LDS: margins of\nother subsets",
    "recall": "recall of regimes\nof forget sets",
}


def draw(results: dict[str, Any], folder: Path) -> None:
    """A row per method, a panel per measure."""
    rows = list(reversed(results["methods"]))
    attainable = results["summary"]["attainable"]
    title = "What says most of margins of subsets does not say most of regimes"
    with picture(folder / "approximations.png", 7.6, 0.6 + 0.19 * len(rows), title, dpi=150) as (figure, theme):
        axes = figure.subplots(1, len(PANELS), sharey=True)
        colors = {"infl": theme.helps, "surrogate": theme.cycle[2], "same label": theme.quiet, "k-NN": theme.quiet}
        for axis, (measure, title) in zip(axes, PANELS.items(), strict=True):
            for place, row in enumerate(rows):
                if measure not in row:
                    continue
                value, error = row[measure]
                family = next((name for name in colors if row["method"].startswith(name)), "")
                color = colors.get(family, theme.harms)
                axis.errorbar(value, place, xerr=error, fmt="o", color=color, markersize=3.6, elinewidth=0.9)
            if measure in attainable:
                axis.axvline(attainable[measure], color=theme.ink, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
            for place in range(len(rows)):
                axis.axhline(place, color=theme.faint, linewidth=0.3, zorder=0)
            axis.axvline(0, color=theme.faint, linewidth=0.7, zorder=0)
            axis.set_title(title, fontsize=8)
            axis.set_xlim(min(-0.05, axis.get_xlim()[0]), 1.02)
            axis.spines["left"].set_visible(False)
            axis.tick_params(axis="y", length=0)
        axes[0].set_yticks(range(len(rows)), [label(row) for row in rows])
        axes[0].set_ylim(-0.7, len(rows) - 0.3)
        figure.supxlabel(
            "bars: one standard error; dashed: what the truth itself would reach, given its own noise", fontsize=7.5
        )


def label(row: dict[str, Any]) -> str:
    """The method and how many models it takes."""
    n = row["trainings"]
    return f"{row['method']}: {n:,} {'model' if n == 1 else 'models'}" if n else f"{row['method']}: none"

"""Turns results.json into approximations.png: every method by four measures, with errors and what is attainable."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import infl
from infl.report.canvas import new_figure
from infl.report.style import house_style

HERE = Path(__file__).parent
PANELS = {
    "rank_correlation": "rank correlation\nwith influence",
    "rank_correlation_within_class": "the same,\nwithin the class",
    "lds": "LDS: margins of\nother subsets",
    "recall": "recall of regimes\nof forget sets",
}


def draw(results: dict[str, Any], path: Path) -> None:
    """A row per method, a panel per measure."""
    rows = list(reversed(results["methods"]))
    attainable = results["summary"]["attainable"]
    with house_style() as theme:
        figure = new_figure(7.6, 0.6 + 0.19 * len(rows))
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
        axes[0].set_yticks(range(len(rows)), [name_of(row) for row in rows])
        axes[0].set_ylim(-0.7, len(rows) - 0.3)
        figure.suptitle(
            "what says most of margins of subsets does not say most of regimes", x=0.01, ha="left", fontsize=9.5
        )
        figure.supxlabel(
            "bars: one standard error; dashed: what the truth itself would reach, given its own noise", fontsize=7.5
        )
    infl.save(figure, path)


def name_of(row: dict[str, Any]) -> str:
    """The method and how many models it takes."""
    n = row["trainings"]
    return f"{row['method']}: {n:,} {'model' if n == 1 else 'models'}" if n else f"{row['method']}: none"


if __name__ == "__main__":
    draw(json.loads((HERE / "results.json").read_text()), HERE / "approximations.png")

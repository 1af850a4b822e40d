"""Turns results.json into tails.png: shares of regimes by how often a fact is stated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pictures import picture


def draw(results: dict[str, Any], folder: Path) -> None:
    """A panel for facts of towns, which conclusions restate, and one for hobbies, which are put in several ways."""
    panels = {"town": "facts of towns, by restatements", "hobby": "hobbies, by ways of putting"}
    with picture(folder / "tails.png", 8, 3, "What is stated twice is not forgotten") as (figure, theme):
        for ax, (kind, title) in zip(figure.subplots(1, 2, sharey=True), panels.items(), strict=True):
            rows, bottom = results["summary"][kind], [0.0] * len(results["summary"][kind])
            for regime, style in theme.regimes.items():
                heights = [row["regimes"].get(regime, 0) / row["n"] for row in rows]
                if any(heights):
                    ax.bar(range(len(rows)), heights, bottom=bottom, color=style.color, width=0.7, label=regime)
                bottom = [a + b for a, b in zip(bottom, heights, strict=True)]
            names = [f"{r['from']}" if r["from"] == r["to"] else f"{r['from']}+" for r in rows]
            ax.set_xticks(range(len(rows)), names)
            ax.set(xlabel="times stated", title=title, ylim=(0, 1))
        figure.axes[0].set_ylabel("share of sets")
        handles = {label: h for ax in figure.axes for h, label in zip(*ax.get_legend_handles_labels(), strict=True)}
        figure.axes[1].legend(handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(1, 0.5))

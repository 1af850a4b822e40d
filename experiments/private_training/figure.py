"""Draws results.json: what untraining each set takes from the set and from others, in every arm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pictures import picture

MARKERS = {"epsilon 1": "o", "epsilon 3": "s", "epsilon 8": "^", "clipped": "D", "neither": "X"}
# From blue to red as privacy goes; told apart by lightness, too.
COLORS = {
    "epsilon 1": "#08306B",
    "epsilon 3": "#2A78B5",
    "epsilon 8": "#84BCDB",
    "clipped": "#E69F00",
    "neither": "#D55E00",
}
NAMES = {"clipped": "clipped, no noise", "neither": "neither clipped nor noised"}


def draw(results: dict[str, Any], folder: Path) -> None:
    """One row a set, self-influence on the left and cross-influence on the right; bars of one standard error."""
    arms = {name: results["arms"][name] for name in MARKERS}
    rows = arms["neither"]["sets"]
    title = describe(results["summary"])
    with picture(folder / "private_training.png", 7.4, 0.31 * len(rows) + 1.3, title, dpi=150) as (figure, theme):
        axes = figure.subplots(1, 2, sharey=True)
        for axis, quantity in zip(axes, ("self", "cross"), strict=True):
            axis.axvspan(-10, 0.1, color=theme.band, linewidth=0, zorder=0)
            for row in range(len(rows)):
                axis.axhline(row, color=theme.faint, linewidth=0.4, zorder=0)
            for number, (name, arm) in enumerate(arms.items()):
                places = [row + 0.13 * (number - (len(arms) - 1) / 2) for row in range(len(rows))]
                values, errors = zip(*(row[quantity] for row in arm["sets"]), strict=True)
                look = {"fmt": MARKERS[name], "color": COLORS[name], "ms": 4, "mew": 0, "elinewidth": 0.9}
                axis.errorbar(values, places, xerr=errors, label=NAMES.get(name, name), **look)
            low = min(min(row[quantity][0] - row[quantity][1] for row in arm["sets"]) for arm in arms.values())
            high = max(max(row[quantity][0] + row[quantity][1] for row in arm["sets"]) for arm in arms.values())
            axis.set_xlim(min(low - 0.05, -0.1), high + 0.05)
        axes[0].set_yticks(range(len(rows)), [f"{row['set']} ({row['size']})" for row in rows])
        axes[0].set_ylim(len(rows) - 0.4, -0.6)
        axes[0].set_xlabel("self-influence: accuracy lost on the set")
        axes[1].set_xlabel("cross-influence: others lost per example forgotten")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(arms))


def describe(summary: dict[str, Any]) -> str:
    """What is seen, from the numbers."""
    accuracies = ", ".join(f"{name} {summary[name]['accuracy_held_out'][0]:.2f}" for name in MARKERS)
    return (
        "Clipping, with noise or without, protects single examples and not what a group teaches\n"
        f"Held-out accuracy: {accuracies}"
    )

"""Turns results.json into fraction.png: level by fraction and leave-one-out, ranks, training length, nulls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pictures import picture

BAND_TITLES = ("below 0.05", "0.05 to 0.25", "0.25 to 0.5", "0.5 and more")


def draw(results: dict[str, Any], folder: Path) -> None:
    """One row a data set."""
    worlds = results["worlds"]
    title = "Scores at r = 0.7 are those of leaving one out, but for low scores of data learned whole"
    with picture(folder / "fraction.png", 11.5, 2.9 * len(worlds), title) as (figure, theme):
        rows = figure.subplots(len(worlds), 4, squeeze=False, width_ratios=[1.25, 1, 1, 1.1])
        for line, (name, world) in zip(rows, worlds.items(), strict=True):
            draw_level(line[0], world["alone"], theme)
            draw_agreement(line[1], world["agreement"], theme)
            draw_epochs(line[2], world["by_epochs"], theme)
            draw_null(line[3], world, theme)
            line[0].set_title(f"{name}: level, by band of a pilot")
            line[1].set_title("rank agreement with r = 0.7")
            line[2].set_title(f"training length, r = 0.7 (usual: {world['usual_epochs']})")
            line[3].set_title("two nulls, r = 0.7")


def draw_level(ax: Any, compared: dict[str, Any], theme: Any) -> None:
    """Mean score of each band at each fraction, on the line to 1, and of leave-one-out."""
    rows = compared["rows"]
    fractions = [name for name in rows if name[0].isdigit()]
    for k, color in enumerate((theme.quiet, theme.helps, theme.regimes["no-op"].color, theme.harms)):
        if not compared["drawn"][k]:
            continue
        values, errors = np.array([rows[name]["by band"][k] for name in fractions]).T
        ax.errorbar([float(r) for r in fractions], values, errors, fmt="-o", ms=3.5, color=color)
        ax.annotate(
            BAND_TITLES[k], (float(fractions[0]), values[0]), (2, 4), textcoords="offset points", color=color, size=7
        )
        ax.errorbar(1.0, *rows["line to 1"]["by band"][k], fmt="_", ms=9, color=color)
        ax.errorbar(1.06, *rows["leave-one-out"]["by band"][k], fmt="*", ms=8, color=color)
    ax.axhline(0, color=theme.faint, lw=0.7, zorder=0)
    ax.set_xticks([*map(float, fractions), 1.0, 1.06], [*fractions, "1", "   D less\n   one"])
    ax.set(xlabel="fraction r", ylabel="mean memorization", ylim=(-0.05, 1.02))


def draw_agreement(ax: Any, agreement: dict[str, Any], theme: Any) -> None:
    """Spearman correlation with 0.7: observed, and divided by the ceiling."""
    found = {}
    for key, row in agreement.items():
        one, other = key.split(", ")
        if "0.7" in (one, other):
            found[float(other if one == "0.7" else one)] = row
    x = sorted(found)
    for name, marker, color in (("observed", "o", theme.helps), ("corrected", "s", theme.ink)):
        ax.errorbar(x, *np.array([found[r][name] for r in x]).T, fmt=f"-{marker}", ms=4, color=color, label=name)
    ax.plot(x, [found[r]["ceiling"][0] for r in x], "--", color=theme.quiet, label="ceiling of noise")
    ax.set(xlabel="fraction r", ylabel="Spearman correlation", ylim=(0.4, 1.05), xticks=x)
    ax.legend(loc="lower center")


def draw_epochs(ax: Any, rows: dict[str, Any], theme: Any) -> None:
    """Share at 0.25 and more and accuracies, by epochs."""
    x = [int(epochs) for epochs in rows]
    for name, marker, color in (("share", "o", theme.ink), ("share without noise", "s", theme.quiet)):
        label = "share at 0.25 and more" if name == "share" else "... less noise"
        ax.errorbar(
            x, *np.array([row[name] for row in rows.values()]).T, fmt=f"-{marker}", ms=4, color=color, label=label
        )
    for name, style, color in (("trained", "--", theme.helps), ("held-out", ":", theme.harms)):
        ax.plot(x, [1 - row["accuracy"][name] for row in rows.values()], style, color=color, label=f"error, {name}")
    ax.set_xscale("log")
    ax.set_xticks(x, [str(epochs) for epochs in x])
    ax.minorticks_off()
    # Room above the lines for what they are.
    ax.set(xlabel="epochs", ylabel="share of examples", ylim=(0, 1.6 * ax.get_ylim()[1]))
    ax.legend(loc="upper right")


def draw_null(ax: Any, world: dict[str, Any], theme: Any) -> None:
    """Where scores lie: of shuffled masks, of D, of shuffled labels after few and after the usual epochs."""
    places, names = [], []
    masks = world["null"]["masks"]["0.7"]
    scores = world["quantiles"]
    lines = [("masks shuffled", [0.0, masks["95th percentile"][0], masks["largest maximum"]], theme.quiet)]
    lines.append(("the data", [scores["median"], scores["95th percentile"], scores["maximum"]], theme.ink))
    for epochs, row in world["null"]["labels"].items():
        title = f"labels shuffled,\n{epochs} epochs"
        lines.append((title, [row["median"], row["95th percentile"], row["maximum"]], theme.harms))
    for place, (name, values, color) in enumerate(reversed(lines)):
        ax.plot([values[0], values[2]], [place, place], color=color, lw=1)
        for value, marker in zip(values, ("o", "|", "x"), strict=True):
            ax.plot(value, place, marker, color=color, ms=5 if marker != "|" else 9, mew=1.2)
        places.append(place)
        names.append(name)
    ax.axvline(0.25, color=theme.faint, zorder=0)
    ax.set_yticks(places, names)
    ax.set(xlim=(-0.04, 1.04), ylim=(-0.6, len(lines) - 0.4), xlabel="score: median (o), 95% (|), maximum (x)")

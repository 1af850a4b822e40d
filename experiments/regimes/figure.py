"""Draws results.json: predicted against measured harm, reliability, models needed, and dose curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pictures import picture
from scoring import COLUMNS, MIN_SIZE

from infl.report.style import LIGHT

FAINT, INK, QUIET = LIGHT.faint, LIGHT.ink, LIGHT.quiet
COLORS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7", "#7A7A7A")


def draw(results: dict[str, Any], folder: Path) -> None:
    """Four panels."""
    worlds = {name: parts for name, parts in results["worlds"].items() if "combined-512" in parts}
    with picture(folder / "regimes.png", 10, 8.2) as (figure, _):
        axes = figure.subplots(2, 2)
        draw_harm(axes[0, 0], worlds)
        draw_reliability(axes[0, 1], results["summary"])
        draw_models(axes[1, 0], worlds)
        draw_dose(axes[1, 1], worlds)


def draw_harm(ax: Any, worlds: dict[str, Any]) -> None:
    """One dot a set of 20 and more; linear below 0.1."""
    ax.plot([0, 10], [0, 10], color=FAINT, zorder=0)
    for color, (world, parts) in zip(COLORS, worlds.items(), strict=False):
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in parts["combined-512"]["rows"]]
        rows = [row for row in rows if row["size"] >= MIN_SIZE]
        measured, predicted = ([max(row[f"{side} harm"], 0) for row in rows] for side in ("measured", "predicted"))
        ax.plot(measured, predicted, "o", ms=2.5, color=color, alpha=0.6, label=world, mew=0)
    for name in ("x", "y"):
        getattr(ax, f"set_{name}scale")("symlog", linthresh=0.1, linscale=0.6)
        getattr(ax, f"{name}axis").set_major_formatter("{x:g}")
    ax.set(xlim=(-0.01, 4), ylim=(-0.01, 4), xlabel="harm, measured by retraining", ylabel="predicted")
    ax.set_title(f"512 models, sets of {MIN_SIZE} examples and more", loc="left")
    ax.legend(frameon=False, fontsize=7)


def draw_reliability(ax: Any, summary: dict[str, Any]) -> None:
    """Share of sets whose most probable regime is right, by its probability; bars hold 90% of such shares."""
    ax.plot([0.25, 1], [0.25, 1], color=FAINT, zorder=0)
    for (name, found), color, beside in zip(summary.items(), (QUIET, INK), ((-5, 8), (5, -12)), strict=True):
        for one in found["reliability"]:
            if not one["sets"]:
                continue
            right, sets = one["right"], one["sets"]
            error = 1.645 * np.sqrt(max(right * (1 - right), 0.25 / sets) / sets)
            label = f"by {name}" if one is found["reliability"][-1] else None
            ax.errorbar(one["probability"], right, error, fmt="o", color=color, ms=4, lw=1, label=label)
            ax.annotate(
                f"{sets}",
                (one["probability"], right),
                xytext=beside,
                ha="right" if beside[0] < 0 else "left",
                textcoords="offset points",
                fontsize=7,
                color=color,
            )
    ax.set(xlabel="probability of the most probable regime", ylabel="share of sets where it is right", xlim=(0.3, 1.03))
    ax.legend(frameon=False, fontsize=7, loc="lower right")
    ax.set_title("reliability, all worlds; numbers of sets", loc="left")


def draw_models(ax: Any, worlds: dict[str, Any]) -> None:
    """Recall by harm against the number of models, with undetermined counted as missed and with the most probable regime."""
    for color, (world, parts) in zip(COLORS, worlds.items(), strict=False):
        curve = sorted((int(name.split("-")[1]), part) for name, part in parts.items() if name.startswith("combined-"))
        if len(curve) < 2:
            continue
        models = [n for n, _ in curve]
        for key, style in (("recall", "-"), ("recall_of_most_probable", ":")):
            ax.plot(models, [part["by harm"][key] for _, part in curve], style, marker="o", ms=3, color=color)
        ax.annotate(
            world, (models[-1], curve[-1][1]["by harm"]["recall"]), fontsize=7, color=color, ha="right", va="top"
        )
    ax.set_xscale("log", base=2)
    ax.set(ylim=(0, 1.02), xlabel="models of subsets", ylabel="recall by harm, averaged over regimes")
    ax.set_title("determined verdicts (lines), most probable regime (dotted)", loc="left")


def draw_dose(ax: Any, worlds: dict[str, Any]) -> None:
    """Harm times share: what the removed share of a concept costs others, in sizes of the concept."""
    world, rows = next(((world, parts["dose"]["rows"]) for world, parts in worlds.items() if "dose" in parts), ("", []))
    if not rows:
        ax.set_axis_off()
        return
    for color, concept in zip(COLORS, dict.fromkeys(row["concept"] for row in rows), strict=False):
        some = [row for row in rows if row["concept"] == concept]
        shares = [row["share"] for row in some]
        for side, style in (("measured", "-"), ("predicted", ":")):
            label = concept.removeprefix("planted: ") if side == "measured" else None
            lost = [row[side][2] * row["share"] for row in some]
            ax.plot(shares, lost, style, marker="o", ms=3, color=color, label=label)
    ax.legend(frameon=False, fontsize=7, loc="upper left")
    ax.axhline(0, color=FAINT, zorder=0)
    ax.set(xlabel="share of the concept removed", ylabel="others harmed, per example of the concept")
    ax.set_title(f"dose, {world}: measured (lines) and predicted (dotted)", loc="left")

"""Draws results.json: predicted against measured cross-influence, reliability, models needed, and dose curves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pictures import picture
from scoring import BINS

from infl.report.style import LIGHT

FAINT, INK, QUIET = LIGHT.faint, LIGHT.ink, LIGHT.quiet
COLORS = ("#0072B2", "#56B4E9", "#009E73", "#D55E00", "#E69F00", "#CC79A7", "#7A7A7A")
MIN_SIZE = 20


def draw(results: dict[str, Any], folder: Path) -> None:
    """Four panels."""
    worlds = {name: parts for name, parts in results["worlds"].items() if "combined-512" in parts}
    with picture(folder / "regimes.png", 10, 8.2) as (figure, _):
        axes = figure.subplots(2, 2)
        draw_cross(axes[0, 0], worlds)
        draw_reliability(axes[0, 1], worlds)
        draw_models(axes[1, 0], worlds)
        draw_dose(axes[1, 1], worlds)


def draw_cross(ax: Any, worlds: dict[str, Any]) -> None:
    """One dot a set of 20 and more."""
    ax.plot([-2, 2], [-2, 2], color=FAINT, zorder=0)
    for color, (world, parts) in zip(COLORS, worlds.items(), strict=False):
        rows = [row for row in parts["combined-512"]["each"] if row["size"] >= MIN_SIZE]
        measured, predicted = ([row[side][2] for row in rows] for side in ("measured", "predicted"))
        ax.plot(measured, predicted, "o", ms=2.5, color=color, alpha=0.6, label=world, mew=0)
    ax.set(xlim=(-1.6, 1.3), ylim=(-1.6, 1.3), xlabel="cross-influence, measured by retraining", ylabel="predicted")
    ax.set_title(f"512 models, sets of {MIN_SIZE} examples and more", loc="left")
    ax.legend(frameon=False, fontsize=7)


def draw_reliability(ax: Any, worlds: dict[str, Any]) -> None:
    """Share of sets whose most probable regime is right, by its probability; bars hold 90% of such shares."""
    bins = [one for parts in worlds.values() for one in parts["combined-512"]["reliability"]]
    ax.plot([0.25, 1], [0.25, 1], color=FAINT, zorder=0)
    for low, high in zip(BINS[:-1], BINS[1:], strict=True):
        those = [one for one in bins if low <= one["probability"] < high]
        sets = sum(one["sets"] for one in those)
        if not sets:
            continue
        at = sum(one["sets"] * one["probability"] for one in those) / sets
        right = sum(one["sets"] * one["right"] for one in those) / sets
        error = 1.645 * np.sqrt(max(right * (1 - right), 0.25 / sets) / sets)
        ax.errorbar(at, right, error, fmt="o", color=INK, ms=4, lw=1)
        ax.annotate(f"{sets}", (at, right), xytext=(5, -10), textcoords="offset points", fontsize=7, color=QUIET)
    ax.set(xlabel="probability of the most probable regime", ylabel="share of sets where it is right", xlim=(0.3, 1.03))
    ax.set_title("reliability, all worlds; numbers of sets", loc="left")


def draw_models(ax: Any, worlds: dict[str, Any]) -> None:
    """Recall against the number of models, with undetermined counted as missed and with the most probable regime."""
    for color, (world, parts) in zip(COLORS, worlds.items(), strict=False):
        curve = sorted((int(name.split("-")[1]), part) for name, part in parts.items() if name.startswith("combined-"))
        if len(curve) < 2:
            continue
        models = [n for n, _ in curve]
        for key, style in (("recall", "-"), ("recall_of_most_probable", ":")):
            ax.plot(models, [part["summary"][key] for _, part in curve], style, marker="o", ms=3, color=color)
        ax.annotate(
            world, (models[-1], curve[-1][1]["summary"]["recall"]), fontsize=7, color=color, ha="right", va="top"
        )
    ax.set_xscale("log", base=2)
    ax.set(ylim=(0, 1.02), xlabel="models of subsets", ylabel="recall, averaged over regimes")
    ax.set_title("determined verdicts (lines), most probable regime (dotted)", loc="left")


def draw_dose(ax: Any, worlds: dict[str, Any]) -> None:
    """Cross-influence times share: what the removed share of a concept costs others, in sizes of the concept."""
    world, rows = next(((world, parts["dose"]["rows"]) for world, parts in worlds.items() if "dose" in parts), ("", []))
    for color, concept in zip(COLORS, dict.fromkeys(row["concept"] for row in rows), strict=False):
        some = [row for row in rows if row["concept"] == concept]
        shares = [row["share"] for row in some]
        for side, style in (("measured", "-"), ("predicted", ":")):
            label = concept.removeprefix("planted: ") if side == "measured" else None
            lost = [row[side][2] * row["share"] for row in some]
            ax.plot(shares, lost, style, marker="o", ms=3, color=color, label=label)
    ax.legend(frameon=False, fontsize=7, loc="lower left")
    ax.axhline(0, color=FAINT, zorder=0)
    ax.set(xlabel="share of the concept removed", ylabel="others lost, per example of the concept")
    ax.set_title(f"dose, {world}: measured (lines) and predicted (dotted)", loc="left")

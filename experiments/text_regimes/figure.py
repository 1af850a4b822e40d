"""Draws results.json: self and cross of forget sets of documents, predicted against measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pictures import picture

TITLES = {"scratch": "trained from nothing", "pretrained": "fine-tuned from a pre-trained model"}
PREDICTORS = {"surrogate": ("infl", "o", "#0072B2"), "additive": ("sum of single influences", "x", "#D55E00")}


def draw(results: dict[str, Any], folder: Path) -> None:
    """A row a world, a column a quantity, a point a set."""
    title = "What forgetting documents does: predicted without retraining, and measured"
    with picture(folder / "text_regimes.png", 7.4, 6.4, title, dpi=150) as (figure, theme):
        axes = figure.subplots(2, 2)
        for line, (world, name) in zip(axes, TITLES.items(), strict=True):
            for axis, place, quantity in zip(line, (0, 2), ("self", "cross on held-out verses"), strict=True):
                for predictor, (label, marker, color) in PREDICTORS.items():
                    rows = results["worlds"][world]["predictors"][predictor]["each"]
                    measured, predicted = ([row[side][place] for row in rows] for side in ("measured", "predicted"))
                    axis.scatter(measured, predicted, s=18, marker=marker, color=color, label=label)
                low, high = min(0, *axis.get_ylim(), *axis.get_xlim()), max(*axis.get_ylim(), *axis.get_xlim())
                axis.plot([low, high], [low, high], color=theme.quiet, linewidth=0.8, zorder=0)
                axis.set_xlabel(f"{quantity}, measured")
                axis.set_ylabel("predicted")
                axis.set_title(name)
        axes[0, 0].legend(loc="upper left")

"""Turns the summary of the tasks into speed.png: models per second of each arm as a share of infl's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arms import TITLES
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from pictures import picture
from tasks import TASKS


def draw(results: dict[str, Any], folder: Path) -> None:
    """One panel per task, one dot per arm with the range of the rounds; to the left of 1 is slower than infl."""
    summary, panels = results["summary"], [name for name in TASKS if name in results["parts"]]
    arms = {name: _measured(summary[name]["arms"]) for name in panels}
    heights = [len(arms[name]) + 1.6 for name in panels]
    with picture(folder / "speed.png", 6.4, 0.21 * sum(heights) + 0.5, dpi=150) as (figure, theme):
        axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)
        for axis, name in zip(axes[:, 0], panels, strict=True):
            ordered = sorted(arms[name], key=lambda arm: arms[name][arm]["infl_over_this"]["median"], reverse=True)
            for place, arm in enumerate(ordered):
                over = arms[name][arm]["infl_over_this"]
                color = theme.helps if arm == "infl" else theme.ink
                axis.plot([1 / over["highest"], 1 / over["lowest"]], [place, place], color=theme.quiet)
                axis.plot(1 / over["median"], place, "o", color=color, markersize=4)
                rate = arms[name][arm]["models_per_second"]["median"]
                axis.annotate(
                    _number(rate), (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=7.5
                )
            axis.axvline(1, color=theme.faint, zorder=0)
            axis.set_yticks(range(len(ordered)), [TITLES[arm] for arm in ordered])
            axis.set_ylim(-0.7, len(ordered) - 0.3)
            axis.set_title(f"{name}: {results['parts'][name]['task']['title']}")
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        axes[0, 0].annotate(
            "models/s", (1.02, 1.0), xycoords="axes fraction", va="bottom", fontsize=7.5, color=theme.quiet
        )
        axes[-1, 0].set_xlabel("models per second / that of infl, median and range of the rounds")


def _measured(arms: dict[str, Any]) -> dict[str, Any]:
    return {name: arm for name, arm in arms.items() if "skipped" not in arm}


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"

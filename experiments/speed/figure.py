"""Turns the summary of the tasks into speed.png: models per second of each arm as a share of infl's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arms import ARMS, INFL_TITLE


def draw_speed(summary: dict[str, Any], tasks: dict[str, Any], path: Path) -> None:
    """One panel per task, one dot per arm with the range of the rounds; to the left of 1 is slower than infl."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    from infl.report.style import FAINT, HELPS, INK, QUIET, house_style

    panels = [name for name in tasks if name in summary]
    arms = {name: _measured(summary[name]["arms"]) for name in panels}
    with house_style():
        heights = [len(arms[name]) + 1.6 for name in panels]
        figure, axes = plt.subplots(
            len(panels), 1, figsize=(6.4, 0.21 * sum(heights) + 0.5), sharex=True, height_ratios=heights, squeeze=False
        )
        for axis, name in zip(axes[:, 0], panels, strict=True):
            ordered = sorted(arms[name], key=lambda arm: arms[name][arm]["infl_over_this"]["median"], reverse=True)
            for place, arm in enumerate(ordered):
                over = arms[name][arm]["infl_over_this"]
                color = HELPS if arm == "infl" else INK
                axis.plot([1 / over["highest"], 1 / over["lowest"]], [place, place], color=QUIET)
                axis.plot(1 / over["median"], place, "o", color=color, markersize=4)
                rate = arms[name][arm]["models_per_second"]["median"]
                axis.annotate(
                    _number(rate), (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=7.5
                )
            axis.axvline(1, color=FAINT, zorder=0)
            axis.set_yticks(range(len(ordered)), [INFL_TITLE if arm == "infl" else ARMS[arm].title for arm in ordered])
            axis.set_ylim(-0.7, len(ordered) - 0.3)
            axis.set_title(f"{name}: {tasks[name]['title']}")
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axis.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axis.xaxis.set_minor_formatter(NullFormatter())
        axes[0, 0].annotate("models/s", (1.02, 1.0), xycoords="axes fraction", va="bottom", fontsize=7.5, color=QUIET)
        axes[-1, 0].set_xlabel("models per second / that of infl, median and range of the rounds")
        figure.tight_layout()
        figure.savefig(path)
        plt.close(figure)


def _measured(arms: dict[str, Any]) -> dict[str, Any]:
    return {name: arm for name, arm in arms.items() if "skipped" not in arm}


def _number(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"

"""Turns results.json into facts.png: of each kind of set, how much of it is still known without it, and what others lose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pictures import picture


def draw(results: dict[str, Any], folder: Path) -> None:
    """One line a kind of set, in two panels."""
    kinds = results["summary"]["table"]["kinds"]
    title = "A conclusion stays known without itself; a premise takes its conclusions along"
    with picture(folder / "facts.png", 9, 0.8 + 0.3 * len(kinds), title) as (figure, theme):
        known, harm = figure.subplots(1, 2, sharey=True)
        for line, kind in enumerate(reversed(kinds)):
            regime = max(kind["regimes"], key=kind["regimes"].get)
            color = theme.regimes[regime].color
            known.barh(line, 1 - kind["self"][0], xerr=kind["self"][1], color=color, height=0.6)
            harm.barh(line, kind["harm"][0], xerr=kind["harm"][1], color=color, height=0.6)
            harm.annotate(regime, (sum(kind["harm"]), line), (6, 0), textcoords="offset points", va="center", size=7)
        known.set_yticks(range(len(kinds)), [kind["kind"] for kind in reversed(kinds)])
        known.set(xlabel="probability that S is still known without S", xlim=(0, 1.02))
        harm.set(xlabel="harm: others lost, per fact forgotten")

"""Turns results into utility.png, and the run into memorized.png and pairs.png."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import shares
from matplotlib.ticker import NullLocator
from pictures import picture
from PIL import Image
from record import select_models

import infl
from infl.records import ScoredPair

N_PAIRS = 12
N_COLOURS = 64  # grey pictures and a few colours take no more, and a third of the bytes


def draw_galleries(run: infl.Run, folder: Path) -> None:
    """The most memorized images, and the strongest pairs."""
    outcomes, dataset = run.outcomes("design").load(), run.dataset()
    memorization = infl.memorization(outcomes)
    title = "strongest influences on held-out images: chosen by half of the models, scored by the others"
    figures = {
        "memorized": infl.plot.memorized_gallery(memorization, dataset, n_per_class=6),
        "pairs": infl.plot.influence_pairs(honest_pairs(outcomes), dataset, title=title),
    }
    for name, figure in figures.items():
        path = infl.plot.save(figure, folder / f"{name}.png")
        Image.open(path).convert("RGB").quantize(N_COLOURS).save(path, optimize=True)


def draw(results: dict[str, Any], folder: Path) -> None:
    """Left: accuracy lost by removal, against the threshold. Right: lost per hundred examples removed, against their number."""
    table = results["utility"]["table"]
    thresholds, sizes = (np.array([row[key] for row in table]) for key in ("threshold", "size"))
    names = {"memorized": "memorized", "random": "random", "same classes": "random, same classes"}
    with picture(folder / "utility.png", 7.2, 3.3, title(table), dpi=150) as (figure, theme):
        left, right = figure.subplots(1, 2)
        styles = zip(names.items(), (theme.harms, theme.helps, theme.quiet), "os^", (0.0, 0.006, -0.006), strict=True)
        for (arm, name), color, marker, aside in styles:
            lost = 100 * np.array([row[f"lost, {arm}"] for row in table])
            look: dict[str, Any] = {"marker": marker, "markersize": 4.2, "color": color, "elinewidth": 0.9}
            left.errorbar(thresholds + aside, lost[:, 0], yerr=lost[:, 1], label=name, **look)
            per_hundred = lost / sizes[:, None] * 100
            right.errorbar(sizes * (1 + 2 * aside), per_hundred[:, 0], yerr=per_hundred[:, 1], label=name, **look)
        for axis in (left, right):
            axis.axhline(0, color=theme.faint, linewidth=0.6, zorder=0)
        left.set_xlabel("memorization of at least (below: images removed)")
        left.set_ylabel("held-out accuracy lost, percentage points")
        left.set_xticks(thresholds, [f"{t:g}\n{row['size']:,}" for t, row in zip(thresholds, table, strict=True)])
        right.set_xscale("log")
        right.set_xlabel("images removed")
        right.set_ylabel("points lost per 100 images removed")
        right.set_xticks(sizes, [f"{size:,}" for size in sizes])
        right.xaxis.set_minor_locator(NullLocator())
        left.legend(loc="upper right")


def title(table: list[dict[str, Any]]) -> str:
    """What the left panel shows, as far as two standard errors allow."""
    differences = np.array([row["lost more than random"] for row in table])
    sure = np.abs(differences[:, 0]) > 2 * differences[:, 1]
    if (sure & (differences[:, 0] > 0)).sum() > len(table) / 2:
        return "training without memorized images costs more accuracy than without as many random ones"
    if (sure & (differences[:, 0] < 0)).sum() > len(table) / 2:
        return "training without memorized images costs less accuracy than without as many random ones"
    return "accuracy lost by training without memorized images, and without as many random ones"


def honest_pairs(outcomes: infl.Outcomes) -> list[ScoredPair]:
    """The strongest pairs of one half of the models with the scores of the other, which do not flatter them.

    No image influences more than one of them, and none is influenced by more than one.
    """
    chooser, other = (select_models(outcomes, part) for part in shares.halves_in_order(outcomes.n_models))
    pairs: list[ScoredPair] = []
    for pair in infl.strongest_influences(chooser, n_pairs=400).pairs(400):
        used = {p.source for p in pairs} | {p.target for p in pairs}
        if pair.source not in used and pair.target not in used:
            pairs.append(pair)
        if len(pairs) == N_PAIRS:
            break
    return [rescored(other, pair) for pair in pairs]


def rescored(outcomes: infl.Outcomes, pair: ScoredPair) -> ScoredPair:
    """The same pair, scored by these models."""
    influence = infl.influence(outcomes, sources=[pair.source], columns=[pair.target])
    value, error = (np.asarray(array).item() for array in (influence.value, influence.se))
    return ScoredPair(pair.source, pair.target, value, error, pair.p, pair.q)

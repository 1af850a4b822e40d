"""Draws results.json: memorization by kind of verse, agreement by number of models, influence by overlap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pictures import picture

OUTCOMES = {
    "correct": ("token accuracy", "o-", "#0072B2"),
    "logprob": ("log-probability", "s-", "#D55E00"),
    "margin": ("margin", "^-", "#009E73"),
    "exact": ("exact second half", "D-", "#CC79A7"),
}


def draw(results: dict[str, Any], folder: Path) -> None:
    """Three panels; bars of two standard errors."""
    title = f"What {results['n_models']} small language models memorize of {results['n_train']:,} verses"
    with picture(folder / "text_memorization.png", 9.6, 3.6, title, dpi=150) as (figure, theme):
        kinds, agreement, influence = figure.subplots(1, 3, width_ratios=(1.2, 1, 1))
        rows = results["by_kind"][::-1]
        values, errors = (np.array([row["memorization"][k] or 0 for row in rows]) for k in (0, 1))
        kinds.barh(range(len(rows)), values, xerr=2 * errors, color=theme.quiet, height=0.6)
        kinds.set_yticks(range(len(rows)), [f"{row['kind']} ({row['n']})" for row in rows])
        kinds.set_xlabel("memorization, token accuracy")
        for kind, (name, style, color) in OUTCOMES.items():
            found = results["summary"]["reliability"][kind]
            sizes = sorted(map(int, found))
            means, deviations = zip(*(found[str(size)] for size in sizes), strict=True)
            agreement.errorbar(sizes, means, deviations, fmt=style, color=color, markersize=4, label=name)
        agreement.axhline(0.9, color=theme.quiet, linestyle=":", zorder=0)
        agreement.set_xscale("log")
        agreement.set_xlabel("models in each of two disjoint sets")
        agreement.set_ylabel("correlation of their scores")
        agreement.legend(loc="lower right")
        for protocol, style in (("left-out", "o-"), ("held-out", "s--")):
            bins = results["influence"][protocol]["bins"]
            places = range(len(bins))
            means, errors = zip(*(one["influence"] for one in bins), strict=True)
            influence.errorbar(
                places, means, 2 * np.array(errors), fmt=style, markersize=4, label=f"on {protocol} verses"
            )
        bins = results["influence"]["left-out"]["bins"]
        influence.set_xticks(range(len(bins)), [f"{one['from']:g}" for one in bins])
        influence.set_xlabel("overlap in runs of three tokens, from")
        influence.set_ylabel("influence, token accuracy")
        influence.legend(loc="upper left")

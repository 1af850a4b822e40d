"""Draws results.json: how well scores find flipped labels against the models that they cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pictures import picture

TITLES = {
    "digits-10": "digits, as trained first",
    "digits fitted-10": "digits, models that fit the flipped labels",
    "fashion-10": "Fashion-MNIST, as trained first",
    "fashion fitted-10": "Fashion-MNIST, models that fit most of them",
}
SHOWN = {
    "memorization": ("o-", "#0072B2"),
    "memorization of margins": ("s-", "#56B4E9"),
    "left out": ("^-", "#009E73"),
    "left out of margins": ("v-", "#222222"),
    "area under the margin": ("D--", "#D55E00"),
    "loss": ("P--", "#E69F00"),
    "learning speed": ("X--", "#CC79A7"),
}


def draw(results: dict[str, Any], folder: Path) -> None:
    """One panel a data set, one line a score; bars of one standard error over three worlds."""
    title = "Margins and learning curves find flipped labels with few models; memorization needs models that fit them"
    with picture(folder / "label_noise.png", 7.4, 6.2, title, dpi=150) as (figure, theme):
        axes = figure.subplots(2, 2, sharex=True, sharey=True)
        for axis, kind in zip(axes.flat, TITLES, strict=True):
            scores = results["summary"][kind]
            for place, (name, (style, color)) in enumerate(SHOWN.items()):
                found = {
                    int(key.rsplit(", ", 1)[1].split()[0]): one
                    for key, one in scores.items()
                    if key.rsplit(", ", 1)[0] == name
                }
                models = sorted(found)
                values, errors = zip(*(found[n]["precision"] for n in models), strict=True)
                shift = 1.03 ** (place - 3)
                look = {"fmt": style, "color": color, "markersize": 4, "markeredgewidth": 0, "elinewidth": 0.9}
                axis.errorbar([n * shift for n in models], values, errors, label=name, **look)
            near = scores["nearest neighbours, 0 models"]["precision"][0]
            axis.axhline(near, color=theme.quiet, linestyle=":", zorder=0, label="ten nearest neighbours, no model")
            axis.set_xscale("log")
            axis.set_title(TITLES[kind])
            axis.set_ylim(0, 1)
        for axis in axes[-1]:
            axis.set_xlabel("models trained")
        for axis in axes[:, 0]:
            axis.set_ylabel("precision at the number flipped")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4)

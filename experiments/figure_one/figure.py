"""Turns results.json into figure_one.png: the plane under the three models, and what they predict of each part.

The plane is the linear discriminant plane of three groups of training images (the concept, the other concepts of its label,
the other label), with shrinkage. Models do not live in it: the background at a point is the mean, over the 15 examples of D
and H that lie nearest in the plane, of the share of models that give them the concept's label. Circles and star are filled
by their own shares.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from instances import WORLDS, make_world
from pictures import picture

NEIGHBOURS = 15
TITLES = {
    "A(D)": "A(D), trained on all",
    "A(D\\S)": "A(D\\S), untrained",
    "A(D\\S_full)": "A(D\\S$_{full}$), unlearned",
}
LOOKS = (("circles", "o", 4.5, "helps"), ("odd star", "D", 4, "ground"), ("star", "*", 9, "harms"))
PARTS = ("circles", "star", "odd star", "held-out")


def draw(results: dict[str, Any], folder: Path) -> None:
    """One row a data set: three planes, bars of the concept drawn, and all concepts."""
    names = list(results["worlds"])
    title = "Untraining S keeps the circles and loses the star"
    with picture(folder / "figure_one.png", 12.0, 2.9 * len(names) + 0.2, title, n_colors=96) as (figure, theme):
        rows = figure.subplots(len(names), 5, squeeze=False, width_ratios=[1, 1, 1, 0.9, 1.05])
        for row, name in enumerate(names):
            line = rows[row]
            world = results["worlds"][name]
            scene = make_scene(name, world)
            for ax, model in zip(line, TITLES, strict=False):
                draw_plane(ax, scene, model, theme)
                ax.set_title(TITLES[model] if row == 0 else "")
            line[0].set_ylabel(f"{name}, concept {scene.name}")
            of_concept = next(one for one in world["instances"] if one["concept"] == scene.name)
            draw_bars(line[3], of_concept, theme)
            draw_all(line[4], world["instances"], theme)
            line[3].set_title(f"P[correct], concept {scene.name}")
            line[4].set_title(f"A(D\\S), all {len(world['instances'])} concepts")
        handles, labels = rows[0, 3].get_legend_handles_labels()
        more = rows[0, 4].get_legend_handles_labels()
        figure.legend(handles + more[0], labels + more[1], loc="outside lower right", ncols=6, handlelength=1)


@dataclass(frozen=True)
class Scene:
    """Where every example lies in the plane, and who is who.

    xy: [n+m, 2]. group: [n+m], 0 the concept, 1 others of its label, 2 the other label.
    shares: for each model, share of the seeds that give each example the concept's label, [n+m].
    """

    name: str
    circles: list[int]
    star: int
    n_train: int
    xy: np.ndarray
    group: np.ndarray
    shares: dict[str, np.ndarray]


def make_scene(name: str, world: dict[str, Any]) -> Scene:
    """Made again from the data, which are the same every time; what models predict is in the results."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    dataset, concepts, names = make_world(WORLDS[name])
    picture = world["picture"]
    concept, star = names.index(picture["concept"]), int(picture["star"])
    n, own = dataset.n_train, dataset.labels == dataset.y_train[star]
    group = np.where(concepts == concept, 0, np.where(own, 1, 2))
    pixels = dataset.images.reshape(dataset.n_columns, -1).astype(np.float64)
    plane = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.3, n_components=2)
    xy = plane.fit(pixels[:n], group[:n]).transform(pixels)
    xy = xy * np.sign(xy[group == 0].mean(axis=0) - xy[group == 2].mean(axis=0))  # the concept at the upper right
    shares = {}
    for model in TITLES:
        right = np.array(picture[model].split(), float) / world["seeds"]
        shares[model] = np.where(own, right, 1 - right)
    return Scene(picture["concept"], [int(i) for i in picture["circles"].split()], star, n, xy, group, shares)


def draw_plane(ax: Any, scene: Scene, model: str, theme: Any) -> None:
    """Background, the examples that the models trained on, circles and star."""
    from matplotlib.colors import LinearSegmentedColormap
    from sklearn.neighbors import KNeighborsRegressor

    shares = scene.shares[model]
    pale = LinearSegmentedColormap.from_list("pale", ["#F4BE98", "#FFFFFF", "#9CC8E6"])
    full = LinearSegmentedColormap.from_list("full", [theme.harms, "#FFFFFF", theme.helps])
    low, high = np.quantile(scene.xy, [0.003, 0.997], axis=0) + np.array([[-0.3], [0.3]])
    x, y = (np.linspace(low[k], high[k], 200) for k in (0, 1))
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    vote = KNeighborsRegressor(NEIGHBOURS).fit(scene.xy, shares).predict(grid).reshape(len(y), len(x))
    ax.contourf(x, y, vote, levels=np.linspace(0, 1, 11), cmap=pale, vmin=0, vmax=1)
    trained = np.arange(len(scene.group)) < scene.n_train
    trained[[*scene.circles, scene.star]] = False
    if model == "A(D\\S_full)":
        trained[scene.group == 0] = False
    for group, color, size in ((2, theme.harms, 2), (1, theme.helps, 2), (0, theme.ink, 4)):
        ax.scatter(*scene.xy[trained & (scene.group == group)].T, s=size, color=color, alpha=0.6, linewidths=0)
    for ids, marker, size in ((scene.circles, "o", 22), ([scene.star], "*", 170)):
        look = {"cmap": full, "vmin": 0, "vmax": 1, "edgecolors": theme.ink, "linewidths": 0.8, "zorder": 3}
        ax.scatter(*scene.xy[ids].T, s=size, marker=marker, c=shares[ids], **look)
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
    ax.spines[["top", "right"]].set_visible(True)


def draw_bars(ax: Any, of_concept: dict[str, Any], theme: Any) -> None:
    """P[correct] of the three parts under the three models, one standard error over seeds."""
    colors = (theme.ink, theme.helps, theme.harms)
    for k, (model, color) in enumerate(zip(TITLES, colors, strict=True)):
        values, errors = np.array([of_concept["probability"][part][model] for part in PARTS]).T
        places = np.arange(len(PARTS)) + 0.27 * (k - 1)
        ax.bar(places, values, 0.25, yerr=errors, color=color, label=TITLES[model].split(",")[0], ecolor=theme.quiet)
    titles = [f"{of_concept['n_circles']}\ncircles", "star", "odd\nstar", f"{of_concept['n_held_out']}\nheld out"]
    ax.set_xticks(range(len(PARTS)), titles)
    ax.set(ylim=(0, 1.03))


def draw_all(ax: Any, rows: list[dict[str, Any]], theme: Any) -> None:
    """P[correct] under A(D\\S) of the circles and of the stars of each concept, one standard error over seeds."""
    model = "A(D\\S)"
    order = sorted(rows, key=lambda one: one["probability"]["star"][model][0])
    for place, one in enumerate(order):
        for part, marker, size, color in LOOKS:
            value, error = one["probability"][part][model]
            look = {"color": getattr(theme, color), "mec": theme.ink, "mew": 0.5, "lw": 0.8, "ecolor": theme.quiet}
            label = part if place == 0 else None
            ax.errorbar(value, place, xerr=error, fmt=marker, ms=size, label=label, **look)
    ax.axvline(0.5, color=theme.faint, zorder=0)
    ax.set_yticks(range(len(order)), [one["concept"] for one in order])
    ax.set(xlim=(-0.04, 1.04), xlabel="P[correct] without S")

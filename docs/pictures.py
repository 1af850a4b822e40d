"""Draws the small pictures of the pages, and puts them into the pages as SVG.

Text and lines take the colour of the text around them, so that they can be read in light and in dark; colours that mean
something are those of infl's own figures. `python docs/pictures.py FOLDER` writes them as files.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, Rectangle
from mkdocs.structure.files import File, Files

from infl.records import Regime
from infl.report.style import REGIME_STYLES

INK = "#010203"  # becomes the colour of the text
QUIET = "#808080"  # legible on white and on black
IN, OUT = "#1B9E8F", "#C2723D"
GAIN, HARM = "#3D8FC9", "#D55E00"

_IMAGE = re.compile(r'<img alt="(?P<alt>[^"]*)" src="(?:\.\./)*pictures/(?P<name>[a-z_]+)\.svg" ?/?>')


def contrast() -> Figure:
    """Models with and without an example, and how many of each are right."""
    figure, axes = _canvas(5.2, 2.3)
    random = np.random.RandomState(0)
    for left, title, share, colour in ((0.0, "trained on $i$", 0.9, IN), (5.6, "trained without $i$", 0.3, OUT)):
        axes.text(left + 2, 3.05, title, ha="center")
        right = random.permutation(20) < round(20 * share)
        for k in range(20):
            x, y = left + k % 5, 2.35 - 0.62 * (k // 5)
            axes.plot(x, y, "o", ms=9, mec=colour, mew=1.4, mfc=colour if right[k] else "none")
        axes.text(left + 2, -0.35, f"{share:.0%} right", ha="center", color=colour, weight="bold")
    axes.text(4.8, 1.4, "−", ha="center", va="center", size=18)
    axes.text(10.55, 1.4, "= 0.6", ha="left", va="center", weight="bold")
    axes.set(xlim=(-0.5, 12.2), ylim=(-0.7, 3.5))
    return figure


def matrix() -> Figure:
    """Where memorization and the protocols stand in the matrix of influences."""
    figure, axes = _canvas(5.2, 2.6)
    n, m = 6, 4
    for i in range(n):
        for j in range(n + m):
            own, held_out = i == j, j >= n
            colour = IN if own else (GAIN if held_out else QUIET)
            gap = 0.5 if held_out else 0.0
            axes.add_patch(Rectangle((j + gap, n - 1 - i), 0.9, 0.9, fc=colour, alpha=1 if own else 0.3, lw=0))
    axes.text(n / 2, n + 0.25, "j in D", ha="center", va="bottom")
    axes.text(n + 0.5 + m / 2, n + 0.25, "j in H", ha="center", va="bottom")
    axes.text(-0.3, n / 2, "i in D", ha="right", va="center", rotation=90)
    for y, colour, alpha, text in (
        (4.6, IN, 1.0, "memorization"),
        (3.2, QUIET, 0.3, "left-out, trained"),
        (1.8, GAIN, 0.3, "held-out"),
    ):
        axes.add_patch(Rectangle((n + m + 1.3, y), 0.7, 0.7, fc=colour, alpha=alpha, lw=0))
        axes.text(n + m + 2.3, y + 0.3, text, va="center")
    axes.set(xlim=(-1.2, n + m + 7.2), ylim=(-0.2, n + 1.1), aspect="equal")
    return figure


def protocols() -> Figure:
    """Which models count for a column, reading by protocol."""
    figure, axes = _canvas(5.2, 2.5)
    random = np.random.RandomState(3)
    with_i, with_j = random.rand(14) < 0.5, random.rand(14) < 0.6
    for y, name, counted in (
        (2.0, "held-out", np.ones(14, bool)),
        (1.0, "left-out", ~with_j),
        (0.0, "trained", with_j),
    ):
        axes.text(-0.8, y, name, ha="right", va="center")
        for k in range(14):
            colour = IN if with_i[k] else OUT
            axes.plot(k, y, "o", ms=9, color=colour, alpha=1.0 if counted[k] else 0.15, mec="none")
    for k in range(14):
        axes.text(k, 2.75, "j" if with_j[k] else "·", ha="center", va="center", color=INK)
    axes.text(-0.8, 2.75, "has j in training", ha="right", va="center")
    axes.text(3.0, -0.85, "● trained on i", ha="center", color=IN)
    axes.text(10.0, -0.85, "● without i", ha="center", color=OUT)
    axes.set(xlim=(-7.4, 13.6), ylim=(-1.2, 3.2))
    return figure


def effects() -> Figure:
    """Effects on every example, sorted, and which sum each of them enters."""
    figure, axes = _canvas(5.2, 2.7, ticks=True)
    members = np.array([0.95, 0.9, 0.8, 0.55])
    others = np.array([0.42, 0.3, 0.22, 0.14, 0.06, 0.04, 0.03, 0.02, 0.01, 0, 0, 0, -0.01, -0.02, -0.04, -0.16, -0.25])
    axes.bar(np.arange(4), members, color=IN, width=0.8)
    colours = [HARM if v >= 0.1 else GAIN if v <= -0.1 else QUIET for v in others]
    axes.bar(np.arange(5, 22), others, color=colours, width=0.8)
    for y in (0.1, -0.1):
        axes.axhline(y, color=QUIET, lw=0.7, ls=(0, (3, 3)))
    axes.axhline(0, color=INK, lw=0.8)
    axes.text(1.5, 1.03, "S", ha="center", color=IN, weight="bold")
    axes.text(6.5, 0.52, "harm", ha="center", color=HARM, weight="bold")
    axes.text(20.5, -0.42, "gain", ha="center", color=GAIN, weight="bold")
    axes.text(13, 0.52, "all other examples", ha="center")
    axes.text(22, 0.12, "e", ha="left")
    axes.set(xlim=(-0.8, 22.5), ylim=(-0.5, 1.2), yticks=[-0.5, 0, 0.5, 1])
    axes.set_ylabel("effect $D_j(S)$")
    axes.set_xticks([])
    return figure


def regimes() -> Figure:
    """The plane of self and harm, its four regimes, and a set whose error crosses a threshold."""
    figure, axes = _canvas(4.6, 3.4, ticks=True)
    axes.axvline(0.1, color=QUIET, lw=0.9)
    axes.axhline(0.1, color=QUIET, lw=0.9)
    # Not to scale on purpose: at their true place the thresholds would leave no room for the words.
    places: dict[Regime, tuple[float, float]] = {
        "no-op": (0.05, 0.045),
        "local": (0.19, 0.045),
        "spreading": (0.19, 0.2),
        "indirect": (0.05, 0.2),
    }
    for regime, (x, y) in places.items():
        style = REGIME_STYLES[regime]
        axes.plot(x, y, style.marker, color=style.color, ms=9)
        axes.text(x, y - 0.028, regime, ha="center", va="center")
    axes.add_patch(Ellipse((0.245, 0.1), 0.05, 0.055, fc="none", ec=REGIME_STYLES["undetermined"].color, lw=1.4))
    axes.plot(0.245, 0.1, REGIME_STYLES["undetermined"].marker, color=REGIME_STYLES["undetermined"].color, ms=8)
    axes.text(0.245, 0.138, "undetermined", ha="center", va="center")
    axes.set(xlim=(0, 0.3), ylim=(0, 0.26), xticks=[0, 0.1], yticks=[0, 0.1])
    axes.set_xlabel("self(S)")
    axes.set_ylabel("harm(S)")
    return figure


def designs() -> Figure:
    """Masks of a few models in each design: rows are models, columns examples."""
    figure, axes = _canvas(5.2, 2.5)
    random = np.random.RandomState(1)
    n, t = 12, 6
    uniform = np.array([random.permutation(n) < k for k in (8, 11, 9, 10, 8, 11)])
    balanced = np.array([(np.arange(n) + k) % 3 != 0 for k in range(t)])[:, random.permutation(n)]
    half = np.array([random.permutation(n) < n // 2 for _ in range(t // 2)])
    paired = np.stack([half, ~half], axis=1).reshape(t, n)
    grouped = np.ones((t, n), bool)
    for row, (start, stop) in enumerate(((0, 3), (3, 6), (6, 9), (9, 12), (3, 5), (6, 12))):
        grouped[row, start:stop] = False
    grouped[5, 1] = False
    for k, (name, masks) in enumerate(
        (("uniform", uniform), ("balanced", balanced), ("paired", paired), ("grouped", grouped))
    ):
        left, top = (k % 2) * 14.5, -(k // 2) * 8.8
        axes.text(left + n / 2, top + 0.5, name, ha="center", va="bottom")
        for i in range(t):
            for j in range(n):
                axes.add_patch(
                    Rectangle(
                        (left + j, top - i - 0.9),
                        0.88,
                        0.88,
                        fc=IN if masks[i, j] else "none",
                        ec=QUIET,
                        lw=0 if masks[i, j] else 0.5,
                    )
                )
    axes.set(xlim=(-0.5, 27.5), ylim=(-15.2, 2.2), aspect="equal")
    return figure


def shrinking() -> Figure:
    """What shrinking does to an estimate: nothing to a large one, all to a small one."""
    figure, axes = _canvas(4.6, 3.0, ticks=True)
    b = np.linspace(-0.3, 0.3, 301)
    s, scale, null = 0.05, 0.1, 0.95
    spike = null * np.exp(-(b**2) / (2 * s**2)) / s
    wide = (1 - null) * np.exp(-(b**2) / (2 * (s**2 + scale**2))) / np.hypot(s, scale)
    axes.plot(b, b, color=QUIET, lw=1, ls=(0, (4, 3)))
    axes.plot(b, b * scale**2 / (scale**2 + s**2) * wide / (wide + spike), color=IN, lw=2)
    axes.axvspan(-s, s, color=QUIET, alpha=0.15, lw=0)
    axes.text(0, -0.28, "± 1 error", ha="center")
    axes.text(0.16, 0.2, "plain", ha="right", color=QUIET)
    axes.text(0.19, 0.06, "shrunk", ha="left", color=IN, weight="bold")
    axes.set(xlim=(-0.3, 0.3), ylim=(-0.3, 0.3), xticks=[-0.2, 0, 0.2], yticks=[-0.2, 0, 0.2])
    axes.set_xlabel("plain estimate")
    axes.set_ylabel("posterior mean")
    return figure


def covered() -> Figure:
    """Two sets to forget: circles that others like them cover, and a star that nothing covers."""
    figure, axes = _canvas(5.2, 2.2)
    random = np.random.RandomState(4)
    circles = random.randn(26, 2) * [0.9, 0.55] + [2, 2]
    squares = random.randn(18, 2) * [0.9, 0.45] + [6.4, 1.2]
    axes.plot(circles[6:, 0], circles[6:, 1], "o", ms=7, mfc="none", mec=QUIET)
    axes.plot(circles[:6, 0], circles[:6, 1], "o", ms=8, color=HARM)
    axes.plot(squares[:, 0], squares[:, 1], "s", ms=6, mfc="none", mec=QUIET)
    axes.plot(6.8, 3.0, "*", ms=16, color=HARM)
    axes.text(2, -0.15, "covered: a no-op", ha="center")
    axes.text(7.2, 3.02, "not covered: lost", ha="left", va="center")
    axes.set(xlim=(-0.3, 10.4), ylim=(-0.5, 3.7))
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    drawn.__name__: drawn for drawn in (contrast, matrix, protocols, effects, regimes, designs, shrinking, covered)
}


def _canvas(width: float, height: float, *, ticks: bool = False) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    if ticks:
        axes.spines[["top", "right"]].set_visible(False)
    else:
        axes.axis("off")
    return figure, axes


def svg(name: str) -> str:
    """One picture as an SVG element whose text is text, and whose ink is the colour around it."""
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 11,
        "font.family": "sans-serif",
        "mathtext.fontset": "dejavusans",
        **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    }
    written = StringIO()
    with matplotlib.rc_context(settings):  # pyright: ignore[reportArgumentType]
        PICTURES[name]().savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    element = written.getvalue()[written.getvalue().index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>", "", element, flags=re.DOTALL)
    element = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', element)
    element = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", element)
    element = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', element)
    element = re.sub(r"font: ([^;\"]*?)'[^;\"]*(?=[;\"])", r"font: \1sans-serif", element)
    element = element.replace("stroke: #000000; stroke-opacity: 0", "stroke: none")
    return re.sub(INK, "currentColor", element, flags=re.IGNORECASE)


def on_files(files: Files, *, config: Any) -> Files:
    """The pictures as files, so that links to them are checked like any other."""
    for name in PICTURES:
        files.append(File.generated(config, f"pictures/{name}.svg", content=svg(name)))
    return files


def on_page_content(content: str, *, page: Any, **_: Any) -> str:
    """Put each picture into its page, with its description for those who do not see it."""

    def inlined(found: re.Match[str]) -> str:
        element = svg(found["name"]).replace("<svg ", f'<svg role="img" aria-label="{found["alt"]}" ', 1)
        return f'<span class="picture">{element}</span>'

    return _IMAGE.sub(inlined, content)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for one in PICTURES:
        (folder / f"{one}.svg").write_text(svg(one))

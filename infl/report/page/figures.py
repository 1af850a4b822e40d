"""The page's drawings: figures of `infl.plot` as inline SVG that follows the theme of the page and links to its cards."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from infl.records import Dataset, Estimate, ScoredPair
from infl.report import plot, text
from infl.report.page.content import SetContent
from infl.report.plot.canvas import new_figure
from infl.report.plot.regimes import is_known
from infl.report.style import LIGHT, THEMES

_SETTINGS: Any = {"svg.fonttype": "none", "svg.hashsalt": "infl"}  # text stays text; one figure, one file


class Drawings:
    """Inline SVG, and the style sheet that all of it shares: a content security policy allows no style attributes."""

    def __init__(self) -> None:
        self._classes: dict[str, str] = {}

    def css(self) -> str:
        """The colours of both themes by name, and the styles that were met."""
        themes = {
            name: "".join(f"--{color}:{value};" for color, value in theme.colors().items())
            for name, theme in THEMES.items()
        }
        regimes = "".join(
            f'.{name}{{--regime:var(--{name})}} .badge.{name}::before{{content:"{style.glyph}"}}'
            for name, style in LIGHT.regimes.items()
        )
        rules = "\n".join(f".{name}{{{style}}}" for style, name in self._classes.items())
        dark = f"@media screen and (prefers-color-scheme: dark){{:root{{{themes['dark']}}}}}"
        return f":root{{{themes['light']}}}\n{dark}\n{regimes}\n{rules}\n"

    def map(self, sets: Sequence[SetContent]) -> Markup:
        """`infl.plot.regime_map`, each of its marks a link to the card of its set; sets are numbered from 1."""
        predicted, measured = ([v for one in sets if (v := getattr(one, side))] for side in ("predicted", "measured"))
        with plot.house_style("light"):
            figure = new_figure(4.5, 4.2)
            ax = plot.regime_map(predicted, measured, ax=figure.add_subplot())
            for number, one in enumerate(sets, start=1):
                if known := [v for v in one.verdicts if is_known(v)]:
                    x, y = [v.self_influence.value for v in known], [text.judged_cross(v).value for v in known]
                    (hit,) = ax.plot(x, y, "o", color=LIGHT.quiet, markersize=17, alpha=0, zorder=9)
                    hit.set_url(f"#set-{number}")
        svg = self._inline(figure, "map", f"Map of the forget sets: {ax.get_xlabel()}, and upwards {ax.get_ylabel()}")

        def link(found: re.Match[str]) -> str:
            best = sets[int(found[1]) - 1].best
            said = escape(f"{best.forget_set.name}: {best.regime}, self {best.self_influence}")
            return (
                f'<a class="hit" href="#set-{found[1]}" data-set="{found[1]}" aria-label="{said}"><title>{said}</title>'
            )

        svg = re.sub(r'<a href="#set-(\d+)" target="_blank">', link, svg)
        return Markup(re.sub(r'id="map-set-(\d+)"', r'data-set="\1"', svg))

    def histogram(self, memorization: Estimate) -> Markup:
        """`infl.plot.memorization`."""
        with plot.house_style("light"):
            figure = new_figure(4.5, 3.2)
            plot.memorization(memorization, ax=figure.add_subplot())
        return Markup(self._inline(figure, "histogram", "Histogram of the memorization of all training examples"))

    def graph(self, pairs: Sequence[ScoredPair], dataset: Dataset) -> Markup:
        """`infl.plot.derivations`."""
        with plot.house_style("light"):
            ax = plot.derivations(pairs, dataset)
        figure = ax.get_figure(root=True)
        assert figure is not None
        return Markup(self._inline(figure, "graph", ax.get_title("left")))

    def _inline(self, figure: Figure, name: str, label: str) -> str:
        buffer = io.StringIO()
        with plot.house_style("light"), _quiet_about_letters(), matplotlib.rc_context(_SETTINGS):
            figure.savefig(buffer, format="svg", transparent=True)
        svg = buffer.getvalue()
        svg = svg[svg.index("<svg") :]
        svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->\n?|<\?.*?\?>", "", svg, flags=re.DOTALL)
        box = re.search(r'viewBox="[^"]*"', svg)
        assert box is not None
        head = f'<svg class="figure" {box[0]} role="group" aria-label="{escape(label)}">'
        svg = re.sub(r"<svg[^>]*>", head, svg, count=1)
        svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
        svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
        svg = re.sub(r'xlink:href="#(?!set-)([^"]+)"', rf'href="#{name}-\1"', svg).replace("xlink:href", "href")
        return re.sub(r' style="([^"]*)"', self._as_class, svg)

    def _as_class(self, found: re.Match[str]) -> str:
        # Of a font the size and the slant, in the letters of the page.
        style = re.sub(r"font: (italic )?[^;]*?([\d.]+px)[^;]*", r"font-style: \1; font-size: \2", found[1])
        style = style.replace("font-style: ; ", "")
        for name, color in LIGHT.colors().items():
            style = style.replace(color.lower(), f"var(--{name})")
        number = self._classes.setdefault(style, f"s{len(self._classes)}")
        return f' class="{number}"'


def _quiet_about_letters() -> warnings.catch_warnings:
    """The browser has the letters that matplotlib's font lacks."""
    return warnings.catch_warnings(action="ignore", category=UserWarning)

"""Which facts models know a fact from: influences as a graph, sources on the left, what follows from them on the right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from infl.records import Dataset, InputError, ScoredPair
from infl.report.plot.canvas import axes_or_new
from infl.report.style import house_style
from infl.report.text import class_of, count, excerpt, shorten

_LINE = 0.19  # height of a fact, inches


def derivations(pairs: Sequence[ScoredPair], dataset: Dataset, *, q: float = 0.05, ax: Axes | None = None) -> Axes:
    """Draw facts beside the training facts that models know them from, as far as influences are found.

    A line is an influence with a false discovery rate of at most `q`, as wide as it is strong: blue where the left fact helps
    the right one, orange where it harms. Facts on the left stand by the mean height of those that they lead to.

    Args:
        pairs: As of `infl.strongest_influences` or `infl.pipeline.facts.fact_sources`.
        dataset: The facts.
        ax: axes to draw on; new ones of the size it takes where None (reach the figure by `.figure`).

    Raises:
        InputError: where the data are no facts.

    Examples:
        >>> import infl
        >>> from infl.data.facts import from_facts
        >>> facts = from_facts([("Ada", "born", "Arles"), ("Arles", "river", "Rhone")], [("Ada", "river", "Rhone")])
        >>> ax = derivations([ScoredPair(k, 2, 0.6, 0.05, q=0.01) for k in (0, 1)], facts)
        >>> [text.get_text() for text in ax.texts]
        ['Ada, river, Rhone', 'Ada, born, Arles', 'Arles, river, Rhone']
    """
    if not dataset.is_facts:
        raise InputError(f"derivations: expected facts (facts:FILE), got {dataset.kind}")
    found = [pair for pair in pairs if pair.q <= q]
    targets = {target: k for k, target in enumerate(sorted({pair.target for pair in found}))}
    led_to = defaultdict[int, list[int]](list)
    for pair in found:
        led_to[pair.source].append(targets[pair.target])
    sources = {source: k for k, source in enumerate(sorted(led_to, key=lambda one: (float(np.mean(led_to[one])), one)))}
    n_lines = max(len(sources), len(targets), 1)
    sides = [(1.0, "left", targets), (0.0, "right", sources)]
    heights = [{k: (row + 0.5) * n_lines / len(side) for k, row in side.items()} for _, _, side in sides]
    with house_style() as theme:
        ax = axes_or_new(ax, 7.2, n_lines * _LINE + 0.5)
        ax.set(xlim=(-1.25, 2.25), ylim=(n_lines, 0))
        ax.set_axis_off()
        for pair in found:
            ends = heights[1][pair.source], heights[0][pair.target]
            color = theme.helps if pair.value > 0 else theme.harms
            ax.plot((0, 1), ends, color=color, linewidth=0.3 + 3 * min(abs(pair.value), 1), alpha=0.8, gid="edge")
        for (x, align, side), height in zip(sides, heights, strict=True):
            for column in side:
                name = shorten(excerpt(dataset, column)[:-1] + class_of(dataset, column), 44)
                end = x + (0.03 if x else -0.03)
                ax.text(end, height[column], name, ha=align, va="center", size=7.5, color=theme.ink, parse_math=False)
        ax.set_title(f"{count(len(found), 'influence')} found at q ≤ {q:g}, of facts on what models know from them")
    return ax

"""How near unlearned models come to both of their references."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from infl.records import Evaluation, InputError
from infl.report.evaluations import OUTCOMES, PREDICTED, PREDICTED_WHOLE, WHOLE, gamma_curves
from infl.report.plot.canvas import axes_or_new, name_points, new_figure, note_below
from infl.report.style import house_style
from infl.report.text import count, shorten

REFERENCES = ("nothing", "retraining", PREDICTED, PREDICTED_WHOLE)


def distances(evaluations: Sequence[Evaluation], *, ax: Axes | None = None) -> Axes:
    """Draw the methods of one set by their distance to A(D\\S) and, upwards, to A(D\\S_full); bars are one standard error.

    Within the bands a distance counts as none: a method in the upright one untrains, in the lying one it unlearns the concept.
    Of a set without a concept there is one distance, and methods lie below each other. Doing nothing, retraining and
    predictions are hollow.

    Args:
        evaluations: From `infl.evaluate`, of one set.
        ax: axes to draw on; new ones where None (reach the figure by `.figure`).

    Raises:
        InputError: where they are none, or of several sets.

    Examples:
        >>> import infl
        >>> run = infl.train(
        ...     infl.load("digits", n_train=60, n_held_out=30), n_models=1, n_references=8, quiet=True,
        ...     algorithm=infl.Algorithm(epochs=2),
        ... )
        >>> _ = infl.verify(run, [3, 1, 4], n_models=8, stop=None, quiet=True)
        >>> infl.plot.distances(infl.evaluate(run, [3, 1, 4], quiet=True)).get_xlabel()[:15]
        'distance to A(D'
    """
    if len({(one.forget_set.name, one.forget_set.ids) for one in evaluations}) != 1:
        raise InputError("distances: expected evaluations of one forget set; draw each set on its own")
    flat = all(one.to_full_oracle is None for one in evaluations)
    tolerance, n = evaluations[0].tolerance, len(evaluations)
    with house_style() as theme:
        ax = axes_or_new(ax, 4.6, max(1.6, 0.28 * n + 0.8) if flat else 4.4)
        points, names, lines = [], [], []
        for row, one in enumerate(evaluations):
            across, up = one.to_oracle.value, None if one.to_full_oracle is None else one.to_full_oracle.value
            if not flat and up is None:
                continue
            x, y = across.value, n - 1 - row if up is None else up.value
            color = theme.quiet if one.method in REFERENCES else theme.helps
            face = theme.ground if one.method in REFERENCES else color
            style = {"color": color, "markerfacecolor": face, "markersize": 4.5, "elinewidth": 0.8, "zorder": 3}
            ax.errorbar(x, y, xerr=across.se, yerr=None if up is None else up.se, fmt="o", gid=f"method-{row}", **style)
            points.append((x, y))
            names.append(one.method)
            lines += [np.array([(x - across.se, y), (x + across.se, y)])]
        low, high = min(-0.02, *(x for x, _ in points)), max(2 * tolerance, *(x for x, _ in points))
        ax.set_xlim(low - 0.05 * (high - low), high + 0.12 * (high - low))
        ax.axvspan(-1, tolerance, color=theme.band, linewidth=0, zorder=0, gid="band")
        ax.set_xlabel("distance to A(D\\S)", parse_math=False)
        forget_set = evaluations[0].forget_set
        ax.set_title(
            f"{shorten(forget_set.name, 40)}, {count(len(forget_set), 'example')}",
            loc="left",
            fontsize=8,
            parse_math=False,
        )
        note_below(ax, f"within the band, {tolerance:g}, a distance counts as none")
        if flat:
            ax.set_yticks(range(n), [shorten(name, 24) for name in reversed(names)])
            ax.set_ylim(-0.6, n - 0.4)
        else:
            low, high = min(-0.02, *(y for _, y in points)), max(2 * tolerance, *(y for _, y in points))
            ax.set_ylim(low - 0.05 * (high - low), high + 0.1 * (high - low))
            ax.axhspan(-1, tolerance, color=theme.band, linewidth=0, zorder=0)
            ax.set_ylabel("distance to A(D\\S_full)", parse_math=False)
            name_points(ax, points, names, avoid_lines=lines)
    return ax


def gamma_curve(evaluations: Sequence[Evaluation]) -> Figure:
    """Draw what methods reach against gamma, the fraction of a concept that was found; bars are one standard error.

    A row of four axes a concept: accuracy on its members in D, and on the held-out examples that training without it changes;
    distances to both references. These are black, retraining without what was found solid and without the whole concept dashed;
    what infl predicts of them, where it was evaluated, is dotted and dash-dotted; doing nothing is grey.

    Args:
        evaluations: From `infl.evaluate`, of sets with a concept and, for gamma = 1, of concepts themselves.

    Raises:
        InputError: Where no set is part of a concept, or there are no models without one.

    Examples:
        >>> import infl
        >>> run = infl.train(
        ...     infl.load("digits", n_train=60, n_held_out=30), n_models=1, n_references=8, quiet=True,
        ...     algorithm=infl.Algorithm(epochs=2),
        ... )
        >>> sets = [infl.ForgetSet(f"{k} found", range(k), range(10)) for k in (2, 5)]
        >>> sets.append(infl.ForgetSet("all", range(10)))
        >>> _ = infl.verify(run, sets, n_models=8, stop=None, quiet=True)
        >>> len(infl.plot.gamma_curve(infl.evaluate(run, sets, quiet=True)).axes)
        4
    """
    curves = gamma_curves(evaluations)
    methods = dict.fromkeys(row["method"] for rows in curves.values() for row in rows)
    with house_style() as theme:
        colors, markers = cycle(theme.cycle[:4]), cycle("s^Dv<>P")
        styles: dict[str, Any] = {
            "nothing": {"color": theme.quiet, "markerfacecolor": theme.ground, "marker": "o"},
            "retraining": {"color": theme.ink, "markerfacecolor": theme.ground, "marker": "o"},
            WHOLE: {"color": theme.ink, "linestyle": (0, (5, 3))},
        }
        if PREDICTED in methods:
            styles[PREDICTED] = {"color": theme.ink, "linestyle": ":", "marker": "x"}
            styles[PREDICTED_WHOLE] = {"color": theme.ink, "linestyle": "-.", "marker": "x"}
        styles |= {one: {"color": next(colors), "marker": next(markers)} for one in methods if one not in styles}
        figure = new_figure(10.4, 0.6 + 2.5 * len(curves))
        for (name, rows), axes in zip(curves.items(), figure.subplots(len(curves), 4, squeeze=False), strict=True):
            for ax, (outcome, label) in zip(axes, OUTCOMES.items(), strict=True):
                for method, style in styles.items():
                    points = [(row["gamma"], row[outcome]) for row in rows if row["method"] == method]
                    x, y, se = [one for one, _ in points], [q.value for _, q in points], [q.se for _, q in points]
                    line = {"label": shorten(method, 30), "markersize": 3.5, "linewidth": 0.9, "elinewidth": 0.6}
                    ax.errorbar(x, y, yerr=se, gid=f"{name}: {method}", **line, **style)
                ax.set_xlim(-0.02, 1.04)
                ax.xaxis.set_major_formatter(PercentFormatter(1))
                ax.set_xlabel("found of the concept")
                ax.set_ylabel(label, parse_math=False)
            axes[0].set_title(shorten(name, 40), loc="left", fontsize=8, parse_math=False)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        for text in figure.legend(handles, labels, loc="outside upper left", ncols=5).get_texts():
            text.set_parse_math(False)
    return figure

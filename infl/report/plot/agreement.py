"""One set of scores against another of the same examples."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from infl.records import Agreement, seeded
from infl.report.plot.canvas import axes_or_new, note_below
from infl.report.style import house_style
from infl.report.text import shorten

MAX_POINTS = 2000


def agreement(
    scores: Agreement, *, names: tuple[str, str] = ("one", "other"), title: str = "", ax: Axes | None = None
) -> Axes:
    """Draw each score of one side against that of the other; on the diagonal the two agree.

    Bars are one standard error of either score, where it is known. Of more than 2,000 scores as many are drawn at random, and
    the note below says so, beside the rank correlation and the root mean square difference of all.

    Args:
        scores: From `infl.compare`, by kind.
        names: Of the two sides.
        title: What is compared.
        ax: axes to draw on; new ones where None (reach the figure by `.figure`).

    Examples:
        >>> import infl
        >>> run = infl.train(infl.load("digits", n_train=60, n_held_out=30), n_models=16, n_references=0, quiet=True)
        >>> found = infl.compare(run, run)
        >>> infl.plot.agreement(found.agreements["memorization"], names=found.names).get_aspect()
        1.0
    """
    k = len(scores)
    some = np.arange(k) if k <= MAX_POINTS else seeded(0).permutation(k)[:MAX_POINTS]
    x, y, x_se, y_se = (one[some] for one in (scores.a, scores.b, scores.a_se, scores.b_se))
    with house_style() as theme:
        ax = axes_or_new(ax, 4.4, 4.4)
        style = {"fmt": "o", "color": theme.helps, "markersize": 2.5, "markeredgewidth": 0, "ecolor": theme.faint}
        ax.errorbar(x, y, xerr=np.nan_to_num(x_se), yerr=np.nan_to_num(y_se), elinewidth=0.4, **style)
        low, high = min(x.min(), y.min(), 0), max(x.max(), y.max(), 0.1)
        margin = 0.06 * (high - low)
        ends = (low - margin, high + margin)
        ax.plot(ends, ends, color=theme.quiet, linewidth=0.8, zorder=0, gid="diagonal")
        ax.set(xlim=ends, ylim=ends, aspect="equal")
        ax.set_xlabel(shorten(names[0], 40), parse_math=False)
        ax.set_ylabel(shorten(names[1], 40), parse_math=False)
        if title:
            ax.set_title(title, loc="left", fontsize=8)
        drawn = f"{len(some):,} of {k:,} drawn" if len(some) < k else f"{k:,} scores"
        note_below(ax, f"{drawn}; Spearman {scores.spearman}; rms difference {scores.rms}")
    return ax

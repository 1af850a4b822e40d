"""Turns blocks of outcomes into how much each column varies, whatever the source: what noise a contrast of it carries.

Models of one stratum (`Outcomes.strata`: a period of a balanced design, a pair of complementary halves) hold every example
equally often between them. A contrast therefore does not feel what a stratum's models have in common, and its error comes
from the scatter within strata. Their variance over that of all models is the design factor of a column; it corrects the
squared error that takes models as independent (blocks in randomized experiments: Imbens & Rubin 2015, section 9.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infl.records import Array


@dataclass(frozen=True)
class Spread:
    """Sums over the models that count for a column; they add up over models.

    n, y, yy: [columns] models, outcomes, squared outcomes.
    within: [4, columns] degrees of freedom, y y, y x and x x within strata, where x is whether the column's own example
        is in (0 in contrasts of pairs).
    across: [3, columns] sums of x, y x and x x over all models.
    """

    n: Array
    y: Array
    yy: Array
    within: Array
    across: Array

    def __add__(self, other: Spread) -> Spread:
        return Spread(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def take(self, columns: slice) -> Spread:
        """Of some of the columns, counted from the first."""
        return Spread(*(array[..., columns] for array in vars(self).values()))

    def design_factor(self, own: Array | float = 0.0) -> Array:
        """Variance within strata over variance among all models, [columns]; 1 where there are no strata or no variance.

        own: contrast of each column with its own example, taken off its outcomes.
        """
        freedom, yy, yx, xx = self.within
        x, across_yx, across_xx = self.across
        within = yy - 2 * own * yx + own**2 * xx
        mean_square = (self.y - own * x) ** 2 / np.maximum(self.n, 1)
        everywhere = self.yy - 2 * own * across_yx + own**2 * across_xx - mean_square
        usable = (freedom > 0) & (self.n > 1) & (within > 0) & (everywhere > 1e-9 * np.maximum(self.n, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(usable, within / freedom / (everywhere / (self.n - 1)), 1.0)


def measure_spread(
    y: Array, *, counted: Array | None = None, strata: Array | None = None, own: Array | None = None
) -> Spread:
    """Sums of a block: y [models, columns]; counted, own: bool [models, columns]; strata [models]."""
    columns = y.shape[1]
    y = y.astype(np.float64)
    n = np.full(columns, float(len(y))) if counted is None else counted.sum(axis=0, dtype=np.float64)
    y = y if counted is None else y * counted
    x = np.zeros((len(y), 1)) if own is None else own.astype(np.float64)
    across = np.stack([np.broadcast_to(part.sum(axis=0), columns) for part in (x, y * x, x * x)])
    # A reading that counts other models for each column takes the strata apart.
    within = np.zeros((4, columns)) if strata is None or counted is not None else _within_strata(y, x, strata)
    return Spread(n, y.sum(axis=0), (y * y).sum(axis=0), within, across)


def _within_strata(y: Array, x: Array, strata: Array) -> Array:
    order = np.argsort(strata, kind="stable")
    y, x = y[order], x[order]
    starts = np.flatnonzero(np.diff(strata[order], prepend=strata[order[0]] - 1))
    sizes = np.diff(starts, append=len(y))[:, None]
    sum_y, sum_x = np.add.reduceat(y, starts, axis=0), np.add.reduceat(x, starts, axis=0)
    within = np.zeros((4, y.shape[1]))
    within[0] = len(y) - len(starts)
    within[1] = (y * y).sum(axis=0) - (sum_y * sum_y / sizes).sum(axis=0)
    within[2] = (y * x).sum(axis=0) - (sum_y * sum_x / sizes).sum(axis=0)
    within[3] = (x * x).sum(axis=0) - (sum_x * sum_x / sizes).sum(axis=0)
    return within

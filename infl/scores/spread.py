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

N_SIZES = 64  # bins of k/n, so that models of a range of sizes are told apart


@dataclass(frozen=True)
class Spread:
    """Sums over the models that count for a column; they add up over models.

    n, y, yy, share: [N_SIZES, columns] models, outcomes, squared outcomes and shares k/n, by size of the subset.
    within: [4, columns] degrees of freedom, y y, y x and x x within strata, where x is whether the column's own example
        is in (0 in contrasts of pairs).
    across: [3, columns] sums of x, y x and x x over all models.
    """

    n: Array
    y: Array
    yy: Array
    share: Array
    within: Array
    across: Array

    def __add__(self, other: Spread) -> Spread:
        return Spread(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def design_factor(self, own: Array | float = 0.0) -> Array:
        """Variance within strata over variance among all models, [columns]; 1 where there are no strata or no variance.

        own: contrast of each column with its own example, taken off its outcomes.
        """
        freedom, yy, yx, xx = self.within
        total, y = self.n.sum(axis=0), self.y.sum(axis=0)
        x, across_yx, across_xx = self.across
        within = yy - 2 * own * yx + own**2 * xx
        everywhere = self.yy.sum(axis=0) - 2 * own * across_yx + own**2 * across_xx - _mean_square(y - own * x, total)
        usable = (freedom > 0) & (total > 1) & (within > 0) & (everywhere > 1e-9 * np.maximum(total, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(usable, within / freedom / (everywhere / (total - 1)), 1.0)

    def variance(self) -> Array:
        """Variance of an outcome under the weights of a contrast, p (1 - p) for a share p, [columns]; NaN without models."""
        weights = self.share * (1 - self.share / np.maximum(self.n, 1))  # n p (1 - p)
        per_model = weights / np.maximum(self.n, 1)
        total, n = weights.sum(axis=0), self.n.sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = (per_model * self.y).sum(axis=0) / total
            squares = (per_model * self.yy).sum(axis=0) / total - mean**2
            return np.where((total > 0) & (n > 1), np.maximum(squares, 0) * n / (n - 1), np.nan)


def measure_spread(
    y: Array, shares: Array, *, counted: Array | None = None, strata: Array | None = None, own: Array | None = None
) -> Spread:
    """Sums of a block: y [models, columns]; shares k/n [models]; counted, own: bool [models, columns]; strata [models]."""
    columns = y.shape[1]
    y = y.astype(np.float64)
    ones = np.ones_like(y) if counted is None else counted.astype(np.float64)
    y = y * ones
    n, sum_y, sum_yy, sum_share = np.zeros((4, N_SIZES, columns))
    bins = np.minimum((shares * N_SIZES).astype(int), N_SIZES - 1)
    for size in np.unique(bins):
        rows = bins == size
        n[size], sum_y[size] = ones[rows].sum(axis=0), y[rows].sum(axis=0)
        sum_yy[size], sum_share[size] = (y[rows] * y[rows]).sum(axis=0), shares[rows] @ ones[rows]
    x = np.zeros((len(y), 1)) if own is None else own.astype(np.float64)
    across = np.stack([np.broadcast_to(part.sum(axis=0), columns) for part in (x, y * x, x * x)])
    # A reading that counts other models for each column takes the strata apart.
    within = np.zeros((4, columns)) if strata is None or counted is not None else _within_strata(y, x, strata)
    return Spread(n, sum_y, sum_yy, sum_share, within, across)


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


def _mean_square(total: Array, n: Array) -> Array:
    return total**2 / np.maximum(n, 1)

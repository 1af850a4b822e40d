"""Turns outcomes into differences in means: outcome when an example is in training minus outcome when it is out.

For source i and column j over the models t that count for the column (weight w_tj in {0, 1}, by the reading):

    contrast(i, j) = sum_t w M_ti y_tj / sum_t w M_ti  -  sum_t w (1 - M_ti) y_tj / sum_t w (1 - M_ti)

with M the inclusion mask and y the outcome. Unbiased for designs that include i independently of the models' other
randomness (Feldman & Zhang 2020, section 2; there without errors). Subsets of one size put i in by taking another out:
the contrast is then i's effect less the mean effect of the others, which matters for n of a few dozen only.

The standard error is Welch's, sqrt(s1^2/n1 + s0^2/n0) with unbiased variances: it takes the models on each side as
independent draws, which holds for `uniform`, and nearly for `balanced` (whose true errors are a little smaller).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infl.records import Array, Columns, Estimate, InputError, OutcomeKind, Outcomes, OutcomeSource, Reading


@dataclass(frozen=True)
class Sums:
    """What a contrast is made from; sums over models, so those of two sets of models add up.

    n, y, yy: over the models that count for the column: how many, their outcomes, outcomes squared; broadcast over sources.
    n_in, y_in, yy_in: the same over those of them that trained on the source.
    """

    n: Array
    y: Array
    yy: Array
    n_in: Array
    y_in: Array
    yy_in: Array

    def __add__(self, other: Sums) -> Sums:
        return Sums(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def estimate(self, *, reading: Reading | str, outcome: OutcomeKind) -> Estimate:
        """Difference in means with standard error; NaN where a side is empty (se: where it has fewer than two models)."""
        mean_in, variance_in = _mean_and_variance(self.n_in, self.y_in, self.yy_in)
        n_out = self.n - self.n_in
        mean_out, variance_out = _mean_and_variance(n_out, self.y - self.y_in, self.yy - self.yy_in)
        with np.errstate(divide="ignore", invalid="ignore"):
            se = np.sqrt(variance_in / self.n_in + variance_out / n_out)
        return Estimate(mean_in - mean_out, se, self.n_in, n_out, reading, outcome)  # pyright: ignore[reportArgumentType]


def sum_pairs(
    source: OutcomeSource,
    *,
    sources: Array,
    columns: Columns,
    reading: Reading,
    outcome: OutcomeKind,
    n_rows: int = 512,
) -> Sums:
    """Sum over all models for every pair of a source in `sources` (ids of D) and a column in `columns`, a slice or numbers.

    Memory: a few arrays [n_rows, columns] and [sources, columns], whatever the number of models. `n_rows` does not
    affect results beyond rounding.

    Raises:
        InputError: where a reading asks for columns outside what it is defined on, or there are no models.
    """
    numbers = np.arange(source.n_columns)[columns]
    if reading != "held-out" and numbers.max(initial=0) >= source.n_train:
        raise InputError(f"reading {reading}: columns must be training examples (0..{source.n_train - 1})")
    total: Sums | None = None
    for block in source.blocks(columns, n_rows=n_rows):
        part = _sum_block(block, sources, columns, reading, outcome)
        total = part if total is None else total + part
    return _require(total)


def sum_own(source: OutcomeSource, *, outcome: OutcomeKind, n_rows: int = 512) -> Sums:
    """Sum over all models for every training example and its own outcome, [n]."""
    total: Sums | None = None
    for block in source.blocks(slice(0, source.n_train), n_rows=n_rows):
        masks, y = block.masks, block.of(outcome).astype(np.float64)
        n = np.full(source.n_train, len(masks), np.float64)
        part = Sums(
            n, y.sum(0), (y * y).sum(0), masks.sum(0, dtype=np.float64), (masks * y).sum(0), (masks * y * y).sum(0)
        )
        total = part if total is None else total + part
    return _require(total)


def weights_of_reading(masks: Array, reading: Reading, columns: Columns) -> Array | None:
    """[models, columns] bool: which models count for which column; None where all do."""
    if reading == "held-out":
        return None
    return masks[:, columns] if reading == "trained" else ~masks[:, columns]


def _sum_block(block: Outcomes, sources: Array, columns: Columns, reading: Reading, outcome: OutcomeKind) -> Sums:
    members = np.ascontiguousarray(block.masks[:, sources].T, dtype=np.float32)
    y = block.of(outcome)
    weights = weights_of_reading(block.masks, reading, columns)
    if weights is None:
        shape = (1, y.shape[1])
        n = np.full(shape, len(y), np.float64)
        n_in = np.broadcast_to(members.sum(1, dtype=np.float64)[:, None], (len(sources), y.shape[1]))
    else:
        y = y * weights
        n = weights.sum(0, dtype=np.float64)[None]
        n_in = (members @ weights.astype(np.float32)).astype(np.float64)
    yy = y if outcome == "correct" else y * y
    y_in = (members @ y).astype(np.float64)
    yy_in = y_in if outcome == "correct" else (members @ yy).astype(np.float64)
    return Sums(n, y.sum(0, dtype=np.float64)[None], yy.sum(0, dtype=np.float64)[None], n_in, y_in, yy_in)


def _mean_and_variance(n: Array, y: Array, yy: Array) -> tuple[Array, Array]:
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = y / n
        variance = np.maximum(yy - n * mean * mean, 0) / (n - 1)
    return np.where(n > 0, mean, np.nan), np.where(n > 1, variance, np.nan)


def _require(total: Sums | None) -> Sums:
    if total is None:
        raise InputError("no models to score: the run holds none that are complete and finite; train some first")
    return total

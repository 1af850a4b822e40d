"""Sums over the models on one side of a contrast: those that trained on the source, or those that did not."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infl.records import Array, Columns, OutcomeSource, Reading


@dataclass(frozen=True)
class Side:
    """Sums over the models on one side of a contrast, weights w: n models, w, w^2, w y, w y^2."""

    n: Array
    w: Array
    ww: Array
    y: Array
    yy: Array

    @staticmethod
    def of_counts(n: Array, right: Array) -> Side:
        """Models of one weight and 0/1 outcomes: how many, and how many of them right."""
        return Side(n, n, n, right, right)

    def __add__(self, other: Side) -> Side:
        return Side(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def mean(self) -> Array:
        """Weighted mean of the outcomes; NaN where there are no models."""
        return self.y / self.weight()

    def weight(self) -> Array:
        """Sum of the weights; NaN where there are no models."""
        return np.where((self.n > 0) & (self.w > 0), self.w, np.nan)

    def effective(self) -> Array:
        """Independent models of equal weight that would tell as much; NaN where there are fewer than two."""
        effective = self.weight() ** 2 / np.where(self.n > 0, self.ww, np.nan)
        return np.where((self.n > 1) & (effective > 1), effective, np.nan)

    def variance_of_mean(self) -> Array:
        """By the sample variance; NaN where there are fewer than two models."""
        mean = self.mean()
        return np.maximum(self.yy / self.weight() - mean * mean, 0) / (self.effective() - 1)

    def variance_with_two_more(self) -> Array:
        """Of the mean of 0/1 outcomes, after one success and one failure; NaN where there are fewer than two."""
        effective = self.effective()
        mean = (self.mean() * effective + 1) / (effective + 2)
        return mean * (1 - mean) / (effective + 2)


def weights_of_sizes(masks: Array, reading: Reading) -> tuple[Array, Array]:
    """Weights of each model on the inside, 1 - p, and on the outside, p, [models].

    p is the chance that a source other than the column is a member: k/n, and of the n - 1 others where the column is known
    to be out (`left-out`) or in (`trained`).
    """
    others = masks.shape[1] - (reading != "held-out")
    members = masks.sum(axis=1, dtype=np.float64) - (reading == "trained")
    share = np.clip(members / max(others, 1), 0, 1)
    return 1 - share, share


def columns_of(source: OutcomeSource, reading: Reading) -> slice:
    """The columns that a reading is about: those of H, or those of D."""
    return slice(source.n_train, source.n_columns) if reading == "held-out" else slice(0, source.n_train)


def columns_counted(masks: Array, reading: Reading, columns: Columns) -> Array | None:
    """[models, columns] bool: which models count for which column in this reading; None where all do."""
    if reading == "held-out":
        return None
    return masks[:, columns] if reading == "trained" else ~masks[:, columns]

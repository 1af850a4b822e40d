"""The estimators that estimators.py compares: from 0/1 outcomes or softened margins, with the surrogate, with a ridge."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from infl.records import Array, Outcomes
from infl.scores.adjustment import N_FOLDS, adjusted_influence, remainder, soften

RIDGE_PENALTIES = (100.0, 300.0, 1000.0)


@dataclass(frozen=True)
class Block:
    """The models a candidate is given, and what the surrogate says of their subsets."""

    outcomes: Outcomes
    surrogate_margins: Array  # [T, n+m], of an example of D without itself
    surrogate_influence: Array  # [n, m]
    surrogate_seconds: float  # for the margins of these models and the influence

    @property
    def masks(self) -> Array:
        """[T, n]."""
        return self.outcomes.masks

    @property
    def held_out(self) -> slice:
        """The columns of H."""
        return slice(self.outcomes.n_train, self.outcomes.n_columns)

    def correct(self) -> Array:
        """0/1 outcomes of the held-out columns, [T, m]."""
        return self.outcomes.of("correct")[:, self.held_out].astype(np.float64)

    def margins(self) -> Array:
        """Margins of the held-out columns, [T, m]."""
        return self.outcomes.of("margin")[:, self.held_out].astype(np.float64)

    def softened(self) -> Array:
        """Softened margins of the held-out columns, [T, m]."""
        return soften(self.margins())

    def covariate(self) -> Array:
        """The surrogate's margins of the held-out columns, [T, m]."""
        return self.surrogate_margins[:, self.held_out].astype(np.float64)


Candidate = Callable[[Block], tuple[Array, Array]]  # -> value and standard error, [n, m]


def contrast(masks: Array, y: Array, strata: Array | None = None) -> tuple[Array, Array]:
    """Plain difference in means, with the error that a column's pooled variance (within strata, where there are any) gives."""
    members = masks.astype(np.float32)
    n_in = members.sum(axis=0)[:, None]
    inside = members.T @ y.astype(np.float32)
    variance = y.var(axis=0)
    if strata is not None:
        _, stratum, sizes = np.unique(strata, return_inverse=True, return_counts=True)
        sums = np.zeros((len(sizes), y.shape[1]))
        np.add.at(sums, stratum, y)
        within = y - (sums / sizes[:, None])[stratum]
        variance = np.square(within).sum(axis=0) / (len(y) - len(sizes))
    with np.errstate(divide="ignore", invalid="ignore"):
        value = inside / n_in - (y.sum(axis=0) - inside) / (len(y) - n_in)
        return value, np.sqrt(variance * (1 / n_in + 1 / (len(y) - n_in)))


def plain(block: Block) -> tuple[Array, Array]:
    """Feldman & Zhang: 0/1 outcomes."""
    return contrast(block.masks, block.correct(), block.outcomes.strata)


def correct_with_surrogate(block: Block) -> tuple[Array, Array]:
    """0/1 outcomes with the surrogate as control variate."""
    rest = remainder(block.correct(), block.covariate())
    value, se = contrast(block.masks, rest.values, block.outcomes.strata)
    influence = block.surrogate_influence
    return value + rest.slope * (influence - influence.mean(axis=0)), se


def softened(width: float, *, surrogate: bool = False) -> Candidate:
    """`adjusted_influence` as the package has it. The widest is the margin times the normal density at zero."""

    def estimate(block: Block) -> tuple[Array, Array]:
        made = adjusted_influence(
            block.outcomes,
            columns=block.held_out,
            covariate=block.covariate() if surrogate else None,
            covariate_influence=block.surrogate_influence if surrogate else None,
            width=width,
        )
        return made.value, made.se

    return estimate


def with_ridge(outcome: Callable[[Block], Array], *, surrogate: bool = False) -> Candidate:
    """The outcome regressed on the masks (and the surrogate), the models of a fold by those of the others.

    estimate = contrast(y - g) + influence of g, g = a + b f + M v fitted to the other folds: unbiased though v is shrunk.
    Folds are runs of models, as those of a balanced period depend on each other: leaving out one at a time gave a slope of
    0.87. The penalty is the one of `RIDGE_PENALTIES` that predicts other folds best.
    """

    def estimate(block: Block) -> tuple[Array, Array]:
        y = outcome(block)
        x = block.covariate() if surrogate else None
        made = [_ridge(block.outcomes, y, x, block.surrogate_influence, penalty) for penalty in RIDGE_PENALTIES]
        return min(made, key=lambda pair: float(np.square(pair[1]).sum()))

    return estimate


def _ridge(outcomes: Outcomes, y: Array, x: Array | None, influence: Array, penalty: float) -> tuple[Array, Array]:
    masks = outcomes.masks
    n_models, n = masks.shape
    centred = masks - masks.mean(axis=0)
    precision = np.linalg.inv(np.eye(n_models) + centred @ centred.T / penalty)
    swept = precision.sum(axis=1)
    precision -= np.outer(swept, swept) / swept.sum()  # the intercept
    dual, slope, reach, scale = precision @ y, np.zeros(y.shape[1]), np.zeros_like(y), np.ones(y.shape[1])
    if x is not None:
        x = x - x.mean(axis=0)
        reach = precision @ x
        scale = (x * reach).sum(axis=0)
        slope = (x * dual).sum(axis=0) / scale
        dual = dual - reach * slope
    rest = np.empty_like(y)
    for fold in np.array_split(np.arange(n_models), N_FOLDS):
        factor = cho_factor(precision[np.ix_(fold, fold)], lower=True)
        rest[fold], part = cho_solve(factor, dual[fold]), cho_solve(factor, reach[fold])
        left = scale - (reach[fold] * part).sum(axis=0)
        rest[fold] += part * (reach[fold] * rest[fold]).sum(axis=0) / left
    taken = precision @ rest / N_FOLDS  # from the dual weights by leaving out a fold, on average
    value, se = contrast(masks, rest, outcomes.strata)
    if x is not None:
        correction = (x * taken).sum(axis=0) / scale
        value = value + (slope - correction) * (influence - influence.mean(axis=0))
        taken -= reach * correction
    effects = centred.T @ (dual - taken) / penalty
    return value + (effects - effects.mean(axis=0)) * n / (n - 1), se


CANDIDATES: dict[str, Candidate] = {
    "plain 0/1": plain,
    "0/1, ridge": with_ridge(Block.correct),
    "0/1, surrogate": correct_with_surrogate,
    "0/1, surrogate, ridge": with_ridge(Block.correct, surrogate=True),
    "soft 0.5": softened(0.5),
    "soft 1": softened(1.0),
    "soft 2": softened(2.0),
    "location shift": softened(50.0),
    "soft 1, ridge": with_ridge(Block.softened),
    "soft 0.5, surrogate": softened(0.5, surrogate=True),
    "soft 1, surrogate": softened(1.0, surrogate=True),
    "soft 2, surrogate": softened(2.0, surrogate=True),
    "soft 1, surrogate, ridge": with_ridge(Block.softened, surrogate=True),
}

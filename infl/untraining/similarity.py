"""Turns what models with much the same left-out set have in common, beyond the response, into a correction for such sets.

A Gaussian process over left-out sets, for every example alike: its covariance is the fourth power of the cosine between two
sets, its variance what residuals of two such models share, its noise the rest of them. Where no two models left out much the
same, or what they did has nothing in common, it says nothing; where some leave out a set asked for (`infl train --cover`),
it says most.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infl.records import Array, Reading
from infl.untraining.evidence import Evidence, parts, scratch_array
from infl.untraining.response import Response

LEAST_NOISE, MOST_NOISE = 1.0, 1e4  # of a model, against the variance of the process
MOST_SIMILAR = 8192  # models kept; the Gram matrix has their square
BLOCK = 512


@dataclass(frozen=True)
class Similarity:
    """The fitted process.

    left_out: [T, n] float32; inverse: [T, T] of their covariance plus noise; residuals: [T, columns] float16.
    """

    left_out: Array
    inverse: Array
    residuals: Array

    def correct(self, left_out: Array) -> tuple[Array, Array]:
        """Correction of the margins [subsets, columns], and how much of the prior variance is left, [subsets]."""
        covariance = _similarity(left_out.astype(np.float32), self.left_out)
        weights = covariance @ self.inverse
        correction = np.zeros((len(left_out), self.residuals.shape[1]), np.float32)
        for start in range(0, len(self.left_out), BLOCK):
            rows = slice(start, start + BLOCK)
            correction += weights[:, rows].astype(np.float32) @ self.residuals[rows].astype(np.float32)
        return correction, np.clip(1 - (weights * covariance).sum(axis=1), 0, 1)


def fit_similarity(
    evidence: Evidence, response: Response, *, reading: Reading, rows: Array | None = None
) -> Similarity:
    """Keep the residuals of the subset models, and the inverse that weighs them. Residuals not counted are zero."""
    subsets = np.flatnonzero(~evidence.of_d & (True if rows is None else rows))[-MOST_SIMILAR:]
    residuals = scratch_array((len(subsets), len(response.columns)), np.float16)
    for part, chunk in parts(response.columns):
        margins, counted = evidence.counted(chunk, reading, rows)
        fitted = response.fitted(evidence.covariates(chunk), evidence.masks, part, evidence.of_starts(margins))
        residuals[:, part] = np.clip(((margins - fitted) * counted)[subsets], -6e4, 6e4)
    left_out = (~evidence.masks[subsets]).astype(np.float32)
    gram = _similarity(left_out, left_out)
    noise = _noise_of_similar(gram, residuals)
    return Similarity(left_out, np.linalg.inv(gram + noise * np.eye(len(gram))), residuals)


def _noise_of_similar(gram: Array, residuals: Array) -> float:
    """Variance of the noise over that of the process: two residuals have in common what it says of both."""
    products = np.zeros(gram.shape, np.float32)
    for start in range(0, residuals.shape[1], BLOCK):
        some = residuals[:, start : start + BLOCK].astype(np.float32)
        products += some @ some.T
    others = gram - np.diag(np.diag(gram))
    common, whole = float((others * products).sum() / max((others**2).sum(), 1e-12)), float(np.diag(products).mean())
    return float(np.clip(whole / max(common, 1e-12) - 1, LEAST_NOISE, MOST_NOISE))


def _similarity(one: Array, other: Array) -> Array:
    common = (one @ other.T).astype(np.float64)
    sizes = np.maximum(one.sum(axis=1), 1)[:, None] * np.maximum(other.sum(axis=1), 1)[None, :]
    return (common**2 / sizes) ** 2

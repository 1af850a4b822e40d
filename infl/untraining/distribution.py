"""Turns margins, and what they are expected to drop by, into the probability of being predicted correctly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from infl.records import Array

N_QUANTILES = 16
MIN_WIDTH = 0.25  # of the kernel over models: one on which all agree is still no step
# Gauss-Hermite nodes and weights for a standard normal, three points
NODES, NODE_WEIGHTS = np.sqrt(3.0) * np.array([-1.0, 0.0, 1.0]), np.array([1, 4, 1]) / 6


@dataclass(frozen=True)
class MarginDistribution:
    """How the margins of the given columns scatter over models of D.

    Attributes:
        quantiles: [q, columns].
        width: [columns] of a normal kernel around each.
    """

    quantiles: Array
    width: Array

    def __getitem__(self, columns: Array | slice) -> MarginDistribution:
        return MarginDistribution(self.quantiles[:, columns], self.width[columns])

    def probability(self, drop: Array | float, variance: Array | float = 0.0) -> Array:
        """Probability of being right once the margins have dropped by N(drop, variance), [columns]."""
        return ndtr((self.quantiles - drop) / np.sqrt(self.width**2 + variance)).mean(axis=0)

    def effect(self, drop: Array, variance: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the probability lost, where the drop is N(drop, variance), [columns] each.

        The mean is less what a drop of N(0, variance) loses: an uncertain drop of zero is no effect. It stays within what can
        be lost, P(0), and gained, 1 - P(0).
        """
        deviation = np.sqrt(variance)
        mean, spread = _over_nodes(lambda node: self.probability(drop + node * deviation))
        nothing, _ = _over_nodes(lambda node: self.probability(node * deviation))
        before = self.probability(0.0)
        return np.clip(nothing - mean, before - 1, before), spread


def margin_distribution(margins: Array) -> MarginDistribution:
    """The distribution of margins [R, columns] of R models of D."""
    n_quantiles = min(N_QUANTILES, len(margins))
    levels = (np.arange(n_quantiles) + 0.5) / n_quantiles
    return MarginDistribution(np.quantile(margins, levels, axis=0), kernel_width(margins))


def kernel_width(margins: Array) -> Array:
    """Width of a normal kernel around each margin [R, columns] of R models by Silverman's rule, [columns]."""
    return np.maximum(0.9 * margins.std(axis=0) * len(margins) ** -0.2, MIN_WIDTH)


def level_probability(level: Array, variance: Array, noise: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the probability of being right at an uncertain level of the margin, [columns] each.

    Args:
        level: Of the expected margin.
        variance: Likewise.
        noise: Variance of a model's margin around it.
    """
    width, deviation = np.sqrt(np.maximum(noise, MIN_WIDTH**2)), np.sqrt(variance)
    return _over_nodes(lambda node: ndtr((level + node * deviation) / width))


def _over_nodes(probability: Callable[[float], Array]) -> tuple[Array, Array]:
    """Mean and standard deviation of a function of a standard normal variable."""
    at_nodes = np.stack([probability(node) for node in NODES])
    mean = NODE_WEIGHTS @ at_nodes
    return mean, np.sqrt(NODE_WEIGHTS @ (at_nodes - mean) ** 2)

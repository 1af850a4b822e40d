"""Turns margins into probabilities of being right: the response of an example to a fall of its margin.

A model is right where its margin is above zero. How margins scatter is read off models of D; a fall shifts them all alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from infl.records import Array

N_QUANTILES = 16
LEAST_WIDTH = 0.25  # of the kernel over models: one on which all agree is still no step
# Gauss-Hermite nodes and weights for a standard normal, three points
NODES, NODE_WEIGHTS = np.sqrt(3.0) * np.array([-1.0, 0.0, 1.0]), np.array([1, 4, 1]) / 6


@dataclass(frozen=True)
class MarginLaw:
    """How the margins of the given columns scatter over models of D.

    quantiles: [q, columns]; width: [columns] of a normal kernel around each.
    """

    quantiles: Array
    width: Array

    def probability(self, fall: Array, variance: Array | float = 0.0) -> Array:
        """Probability of being right once the margins have fallen by N(fall, variance), [columns]."""
        return ndtr((self.quantiles - fall) / np.sqrt(self.width**2 + variance)).mean(axis=0)

    def effect(self, fall: Array, variance: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the probability lost, where the fall is N(fall, variance), [columns] each.

        The mean is less what a fall of N(0, variance) loses: an uncertain fall of zero is no effect. It stays within what can
        be lost, P(0), and gained, 1 - P(0).
        """
        deviation = np.sqrt(variance)
        at_nodes = np.stack([self.probability(fall + node * deviation) for node in NODES])
        mean = NODE_WEIGHTS @ at_nodes
        spread = np.sqrt(NODE_WEIGHTS @ (at_nodes - mean) ** 2)
        nothing = NODE_WEIGHTS @ np.stack([self.probability(node * deviation) for node in NODES])
        before = self.probability(np.zeros(len(fall)))
        return np.clip(nothing - mean, before - 1, before), spread


def margin_law(margins: Array) -> MarginLaw:
    """The law of margins [R, columns] of R models of D."""
    n_models = len(margins)
    levels = (np.arange(min(N_QUANTILES, n_models)) + 0.5) / min(N_QUANTILES, n_models)
    return MarginLaw(np.quantile(margins, levels, axis=0), kernel_width(margins))


def kernel_width(margins: Array) -> Array:
    """Width of a normal kernel around each margin [R, columns] of R models by Silverman's rule, [columns]."""
    return np.maximum(0.9 * margins.std(axis=0) * len(margins) ** -0.2, LEAST_WIDTH)


def level_probability(level: Array, variance: Array, noise: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the probability of being right at an uncertain level of the margin, [columns] each.

    level, variance: of the expected margin; noise: variance of a model's margin around it.
    """
    nodes = level + NODES[:, None] * np.sqrt(variance)
    width = np.sqrt(np.maximum(noise, LEAST_WIDTH**2))
    at_nodes = ndtr(nodes / width)
    mean = NODE_WEIGHTS @ at_nodes
    return mean, np.sqrt(NODE_WEIGHTS @ (at_nodes - mean) ** 2)

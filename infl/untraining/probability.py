"""Turns margins into probabilities of being right: the response of an example to a fall of its margin.

A model is right where its margin exceeds a threshold that depends on how the rest of the probability spreads over the other
classes: above 0 always, below -log(c - 1) never. Which thresholds occur is read off the models of D.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from infl.records import Array, OutcomeSource

N_THRESHOLDS = 8
N_QUANTILES = 16
LEAST_WIDTH = 0.25  # of the kernel over models: one on which all agree is still no step
# Gauss-Hermite nodes and weights for a standard normal, three points
NODES, NODE_WEIGHTS = np.sqrt(3.0) * np.array([-1.0, 0.0, 1.0]), np.array([1, 4, 1]) / 6


@dataclass(frozen=True)
class MarginLaw:
    """How the margins of the given columns scatter over models of D.

    quantiles: [q, columns]; width: [columns] of a normal kernel around each; thresholds: [h], equally likely.
    """

    quantiles: Array
    width: Array
    thresholds: Array

    def probability(self, fall: Array, variance: Array | float = 0.0) -> Array:
        """Probability of being right once the margins have fallen by N(fall, variance), [columns]."""
        width = np.sqrt(self.width**2 + variance)
        shifted = (self.quantiles - fall) / width
        return np.mean([ndtr(shifted - threshold / width).mean(axis=0) for threshold in self.thresholds], axis=0)

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


def margin_law(margins: Array, thresholds: Array) -> MarginLaw:
    """The law of margins [R, columns] of R models of D."""
    n_models = len(margins)
    # Silverman's rule
    width = np.maximum(0.9 * margins.std(axis=0) * n_models**-0.2, LEAST_WIDTH)
    levels = (np.arange(min(N_QUANTILES, n_models)) + 0.5) / min(N_QUANTILES, n_models)
    return MarginLaw(np.quantile(margins, levels, axis=0), width, thresholds)


def level_probability(level: Array, variance: Array, noise: Array, thresholds: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the probability of being right at an uncertain level of the margin, [columns] each.

    level, variance: of the expected margin; noise: variance of a model's margin around it.
    """
    nodes = level + NODES[:, None] * np.sqrt(variance)
    width = np.sqrt(np.maximum(noise, LEAST_WIDTH**2))
    at_nodes = np.mean([ndtr((nodes - threshold) / width) for threshold in thresholds], axis=0)
    mean = NODE_WEIGHTS @ at_nodes
    return mean, np.sqrt(NODE_WEIGHTS @ (at_nodes - mean) ** 2)


def thresholds_of(reference: OutcomeSource, n_classes: int) -> Array:
    """Margins at which models turn from wrong to right, as equally likely values.

    A margin above 0 is always right (p > 1/2), one below -log(c - 1) always wrong (p < 1/c); in between it depends on how
    the rest spreads over the other classes, which the reference models show.
    """
    lowest = -np.log(max(n_classes - 1, 1))
    edges = np.linspace(lowest, 0.0, 21)
    n_right, n_all = np.zeros(20), np.zeros(20)
    for block in reference.blocks():
        margin, correct = block.of("margin"), block.of("correct")
        between = (margin > lowest) & (margin < 0)
        bins = np.clip(np.digitize(margin[between], edges) - 1, 0, 19)
        n_right += np.bincount(bins, weights=correct[between], minlength=20)
        n_all += np.bincount(bins, minlength=20)
    # One right and one wrong pseudo-observation per 20 bins, spread as a straight line, where nothing was seen.
    prior = (np.arange(20) + 0.5) / 20
    share = np.maximum.accumulate((n_right + prior) / (n_all + 1))
    levels = (np.arange(N_THRESHOLDS) + 0.5) / N_THRESHOLDS
    middles = (edges[:-1] + edges[1:]) / 2
    return np.interp(levels, [0.0, *share, 1.0], [lowest, *middles, 0.0])

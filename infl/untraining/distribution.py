"""Turns margins, and what they are expected to drop by, into the probability of being predicted correctly.

Shares s take the place of probabilities by their probits z = Phi^-1(s), which are treated as margins are: a margin is compared
with zero by a kernel around those of models of D, Phi(margin / width), a probit gives its share back, Phi(z / 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from scipy.special import ndtr, ndtri

from infl.records import OUTCOME_KINDS, Array, Columns, OutcomeKind, Outcomes, OutcomeSource

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
        of_shares: Whether margins are probits of shares.
    """

    quantiles: Array
    width: Array
    of_shares: bool = False

    def __getitem__(self, columns: Array | slice) -> MarginDistribution:
        return MarginDistribution(self.quantiles[:, columns], self.width[columns], self.of_shares)

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

    def at_level(self, level: Array, variance: Array, noise: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the probability of being right at an uncertain level of the margin, [columns] each.

        Args:
            level: Of the expected margin.
            variance: Likewise.
            noise: Variance of a model's margin around it.
        """
        width = np.sqrt(1 + noise if self.of_shares else np.maximum(noise, MIN_WIDTH**2))
        deviation = np.sqrt(variance)
        return _over_nodes(lambda node: ndtr((level + node * deviation) / width))

    def outcome_variance(self, probability: Array, noise: Array) -> Array:
        """Of one model's outcome, where it is right with this probability: p (1 - p), less where a share varies less."""
        return probability * (1 - probability) * (noise / (1 + noise) if self.of_shares else 1.0)


def margin_distribution(margins: Array, *, of_shares: bool = False) -> MarginDistribution:
    """The distribution of margins [R, columns] of R models of D."""
    n_quantiles = min(N_QUANTILES, len(margins))
    levels = (np.arange(n_quantiles) + 0.5) / n_quantiles
    width = kernel_width(margins, of_shares=of_shares)
    return MarginDistribution(np.quantile(margins, levels, axis=0), width, of_shares)


def kernel_width(margins: Array, *, of_shares: bool = False) -> Array:
    """Width of a normal kernel around each margin [R, columns] of R models by Silverman's rule, [columns]; 1 of probits."""
    if of_shares:
        return np.ones(margins.shape[1])
    return np.maximum(0.9 * margins.std(axis=0) * len(margins) ** -0.2, MIN_WIDTH)


def has_shares(*sources: OutcomeSource) -> bool:
    """Whether `correct` of any of these models is a share."""
    firsts = [block for source in sources for block in islice(source.blocks(slice(0, 1), n_rows=1), 1)]
    return any(first.correct is not None and not first.is_binary("correct") for first in firsts)


@dataclass(frozen=True)
class ProbitOutcomes:
    """Outcomes with the probits of shares as margins (an `OutcomeSource`), at least half a token away from 0 and 1."""

    source: OutcomeSource

    @property
    def n_models(self) -> int:
        """Models that can be read."""
        return self.source.n_models

    @property
    def n_train(self) -> int:
        """Examples of D."""
        return self.source.n_train

    @property
    def n_columns(self) -> int:
        """Examples of D and H."""
        return self.source.n_columns

    def blocks(
        self, columns: Columns = slice(None), *, n_rows: int = 512, kinds: Sequence[OutcomeKind] = OUTCOME_KINDS
    ) -> Iterator[Outcomes]:
        """See `OutcomeSource.blocks`."""
        for block in self.source.blocks(columns, n_rows=n_rows, kinds=("correct",) if kinds else ()):
            edge = 0.5 / block.tokens if kinds else 0.0
            yield replace(block, margin=ndtri(np.clip(block.of("correct"), edge, 1 - edge))) if kinds else block


def _over_nodes(probability: Callable[[float], Array]) -> tuple[Array, Array]:
    """Mean and standard deviation of a function of a standard normal variable."""
    at_nodes = np.stack([probability(node) for node in NODES])
    mean = NODE_WEIGHTS @ at_nodes
    return mean, np.sqrt(NODE_WEIGHTS @ (at_nodes - mean) ** 2)

"""Statistics of scores made from few models, each with the error that its models give it.

Errors are those of a jackknife that leaves out one of eight groups of consecutive models at a time, whole periods of the
balanced design: the examples are given, the models are what was sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from record import mean_and_error, select_models
from scipy import stats

import infl
from infl.records import Outcomes

GROUPS, PERIOD = 8, 10
MEMORIZED, INFLUENTIAL = 0.25, 0.15  # the thresholds of Feldman & Zhang 2020
TOP_PAIRS = 200

Statistic = Callable[..., np.ndarray]


def jackknife(statistic: Statistic, *sources: Outcomes) -> np.ndarray:
    """A statistic of collections of models that are independent of each other, with standard errors, [..., 2]."""
    value, variance = np.asarray(statistic(*sources), float), 0.0
    for k, source in enumerate(sources):
        group = np.arange(source.n_models) * GROUPS // source.n_models
        without = [
            np.asarray(
                statistic(*sources[:k], select_models(source, np.flatnonzero(group != g)), *sources[k + 1 :]), float
            )
            for g in range(GROUPS)
        ]
        variance = variance + (GROUPS - 1) * np.var(without, axis=0)
    return np.stack([value, np.sqrt(variance)], axis=-1)


def halves(outcomes: Outcomes) -> tuple[Outcomes, Outcomes]:
    """Every other ten models, a whole period of any balanced design here, and the others."""
    period = np.arange(outcomes.n_models) // PERIOD
    return select_models(outcomes, np.flatnonzero(period % 2 == 0)), select_models(
        outcomes, np.flatnonzero(period % 2 == 1)
    )


def scores(outcomes: Outcomes) -> np.ndarray:
    """Memorization, [n]; rounded, so that examples that all models predict are ties and no ranking of the last bits."""
    return infl.memorization(outcomes).value.round(9)


def mean_score(outcomes: Outcomes) -> np.ndarray:
    """Mean memorization over D."""
    return scores(outcomes).mean()


def share_memorized(outcomes: Outcomes) -> np.ndarray:
    """Share of D with a score of at least 0.25: as it is, and without what noise adds to it.

    Noise carries more examples over the threshold than back, in proportion to 1/models at first: twice the share from all
    models, less the mean of those from either half, is free of that part.
    """
    whole = (scores(outcomes) >= MEMORIZED).mean()
    of_halves = np.mean([(scores(half) >= MEMORIZED).mean() for half in halves(outcomes)])
    return np.array([whole, 2 * whole - of_halves])


def rank_agreement(one: Outcomes, other: Outcomes) -> np.ndarray:
    """Spearman correlation of two collections' scores, the most that their noise allows, and their ratio.

    The ceiling is sqrt(a b), with a and b what each would have with as many models again: 2 h / (1 + h), where h is
    the correlation of its two halves (Spearman and Brown).
    """
    observed = spearman(scores(one), scores(other))
    ceiling = np.sqrt(reliability(one) * reliability(other))
    return np.array([observed, ceiling, observed / ceiling])


def reliability(outcomes: Outcomes) -> float:
    """Rank correlation of the scores with those of as many other models of the same kind."""
    half = spearman(*map(scores, halves(outcomes)))
    return 2 * half / (1 + half)


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation; 0 where all of one side are equal."""
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    return float(np.corrcoef(stats.rankdata(one), stats.rankdata(other))[0, 1])


def top_pairs(pilot: Outcomes) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of a source and a held-out column with the largest influence in the pilot."""
    value = np.nan_to_num(infl.influence(pilot).value, nan=-1.0)
    top = np.argsort(-value, axis=None, kind="stable")[:TOP_PAIRS]
    sources, columns = np.unravel_index(top, value.shape)
    return sources, columns


def pair_influence(pairs: tuple[np.ndarray, np.ndarray]) -> Statistic:
    """Mean influence of these pairs, and the share of them at 0.15 and more."""

    def statistic(outcomes: Outcomes) -> np.ndarray:
        used = np.unique(pairs[0])
        value = infl.influence(outcomes, sources=used).value[np.searchsorted(used, pairs[0]), pairs[1]]
        return np.array([value.mean(), (value >= INFLUENTIAL).mean()])

    return statistic


def accuracies(outcomes: Outcomes) -> dict[str, float]:
    """Share of right predictions of examples trained on, of those of D left out, and of held-out ones."""
    assert outcomes.correct is not None
    of_d, n = outcomes.correct[:, : outcomes.n_train], outcomes.n_train
    return {
        "trained": of_d[outcomes.masks].mean(),
        "left-out": of_d[~outcomes.masks].mean(),
        "held-out": outcomes.correct[:, n:].mean(),
    }


def shuffled_masks(outcomes: Outcomes, repeats: int) -> dict[str, Any]:
    """Scores where nothing is memorized: the masks dealt out again over the models, so that scores are noise alone."""
    assert outcomes.correct is not None
    random, rows = np.random.RandomState(0), []
    for _ in range(repeats):
        dealt = Outcomes(outcomes.masks[random.permutation(outcomes.n_models)], outcomes.correct)
        value = scores(dealt)
        rows.append([np.quantile(value, 0.95), value.max(), (value >= MEMORIZED).sum()])
    rows = np.array(rows)
    return {
        "repeats": repeats,
        "95th percentile": mean_and_error(rows[:, 0]),
        "maximum": mean_and_error(rows[:, 1]),
        "largest maximum": rows[:, 1].max(),
        "examples at 0.25 and more": mean_and_error(rows[:, 2]),
    }


def shuffled_labels(outcomes: Outcomes) -> dict[str, Any]:
    """Scores where nothing can be learned but by heart."""
    share, _ = jackknife(share_memorized, outcomes)
    return {**quantiles(outcomes), "share": share, "accuracy": accuracies(outcomes)}


def quantiles(outcomes: Outcomes) -> dict[str, float]:
    """Of the scores over D."""
    names, value = ("5th percentile", "median", "95th percentile", "maximum"), scores(outcomes)
    return dict(zip(names, np.quantile(value, (0.05, 0.5, 0.95, 1.0)), strict=True))

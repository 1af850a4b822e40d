"""Turns outcomes into the share of examples that is memorized and the pairs of strong influence, with errors.

A share of scores beyond a threshold is biased while scores are noisy: more small scores are thrown over the threshold than
large ones under it. As the variance of a score is proportional to 1 / T, so, to first order, is that bias, and halves of the
models tell it (Quenouille 1949): corrected = 2 share(T) - mean share(T / 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from record import select_models
from scipy.stats import rankdata

import infl
from infl.records import Array, Dataset

THRESHOLDS = (0.1, 0.25, 0.5, 0.75)
MEMORIZED, STRONG = 0.25, 0.15  # Feldman & Zhang 2020, sections 3.2 and 3.3
PERIOD = 10  # models of a balanced design at 0.7 that hold every example equally often
N_GROUPS, N_HALVES, N_RESAMPLES = 20, 20, 2000


def memorized_share(outcomes: infl.Outcomes) -> dict[str, Any]:
    """Share with memorization of at least each threshold: as it is, and corrected for noise; how stable scores are."""
    estimate = infl.memorization(outcomes)
    halves = [score_parts(outcomes, part) for part in random_halves(outcomes.n_models)]
    left = [score_parts(outcomes, kept) for kept in without_each_group(outcomes.n_models)]
    n = outcomes.n_train
    rows = {}
    for threshold in THRESHOLDS:
        share = float((estimate.value >= threshold).mean())
        of_halves = float(np.mean([(scores >= threshold).mean() for pair in halves for scores in pair]))
        of_left = np.array([(kept >= threshold).mean() for kept, _ in left])
        rows[str(threshold)] = {
            "share": share,
            "corrected": 2 * share - of_halves,
            "se_over_models": float(np.sqrt((len(of_left) - 1) * of_left.var())),
            "se_over_examples": float(np.sqrt(share * (1 - share) / n)),
        }
    between = [float(np.corrcoef(rankdata(a), rankdata(b))[0, 1]) for a, b in halves]
    sets = [(a >= MEMORIZED, b >= MEMORIZED) for a, b in halves]
    correct = outcomes.of("correct")
    return {
        "n_models": outcomes.n_models,
        "n_train": n,
        "accuracy_trained": float(correct[:, :n][outcomes.masks].mean()),
        "accuracy_left_out": float(correct[:, :n][~outcomes.masks].mean()),
        "accuracy_held_out": float(correct[:, n:].mean()),
        "mean_memorization": float(estimate.value.mean()),
        "root_mean_square_error_of_scores": float(np.sqrt(np.mean(estimate.se**2))),
        "shares": rows,
        "correlation_of_halves": float(np.mean(between)),
        "jaccard_of_halves": float(np.mean([(a & b).sum() / max((a | b).sum(), 1) for a, b in sets])),
    }


def strong_pairs(outcomes: infl.Outcomes, dataset: Dataset) -> dict[str, Any]:
    """Pairs as Feldman & Zhang count them: influence of at least 0.15 on a held-out example, source memorized.

    Once as they do, from all models; once chosen by one half of the models, q-values of at most 0.05 demanded, and
    scored by the other half, which has no part in the choice; averaged over both ways round.
    """
    memorized = infl.memorization(outcomes).value >= MEMORIZED
    first, second = (select_models(outcomes, part) for part in halves_in_order(outcomes.n_models))
    found = []
    for chooser, other in ((first, second), (second, first)):
        chosen = [pair for pair in pairs_from(chooser, infl.memorization(chooser).value >= MEMORIZED) if pair.q <= 0.05]
        again = [one_score(other, pair.source, pair.target) for pair in chosen]
        found.append(
            {
                "pairs": len(chosen),
                "mean_in_choosing_half": float(np.mean([p.value for p in chosen])) if chosen else None,
                "mean_in_other_half": float(np.mean(again)) if chosen else None,
                "share_above_zero_in_other_half": float(np.mean([value > 0 for value in again])) if chosen else None,
                "share_strong_in_other_half": float(np.mean([value >= STRONG for value in again])) if chosen else None,
            }
        )
    pairs = pairs_from(outcomes, memorized)
    sure = [pair for pair in pairs if pair.q <= 0.05]
    labels, targets = dataset.labels, [pair.target for pair in sure]
    return {
        "pairs_as_published": len(pairs),
        "pairs_at_q_0.05": len(sure),
        "targets": len(set(targets)),
        "targets_with_one_source": int(sum(np.unique(targets, return_counts=True)[1] == 1)) if targets else 0,
        "share_within_class": float(np.mean([labels[p.source] == labels[p.target] for p in sure])) if sure else None,
        "halves": found,
        "strongest": [
            {"source": p.source, "target": p.target, "value": p.value, "se": p.se, "q": p.q} for p in sure[:200]
        ],
    }


def pairs_from(outcomes: infl.Outcomes, memorized: Array) -> list[infl.records.ScoredPair]:
    """Pairs of influence of at least 0.15 whose source is memorized, strongest first; at most 5,000."""
    pairs = infl.strongest_influences(outcomes, n_pairs=5000).pairs(5000)
    return [pair for pair in pairs if pair.value >= STRONG and memorized[pair.source]]


def one_score(outcomes: infl.Outcomes, source: int, target: int) -> float:
    """Influence of one example on one held-out example."""
    correct, inside = outcomes.of("correct")[:, target], outcomes.masks[:, source]
    return float(correct[inside].mean() - correct[~inside].mean())


def score_parts(outcomes: infl.Outcomes, part: Array) -> tuple[Array, Array]:
    """Memorization from the models of `part`, [T] bool, and from the others."""
    own = outcomes.of("correct")[:, : outcomes.n_train]
    inside, right_in = outcomes.masks.astype(np.float32), own * outcomes.masks
    weights = np.stack([part, ~part]).astype(np.float32)
    n_in, n_right_in = weights @ inside, weights @ right_in
    n_out, n_right_out = weights.sum(axis=1)[:, None] - n_in, weights @ own - n_right_in
    scores = n_right_in / n_in - n_right_out / n_out
    return scores[0], scores[1]


def random_halves(n_models: int, *, seed: int = 0) -> list[Array]:
    """Bool masks [T] of random halves, whole periods of the design together."""
    random, period = np.random.RandomState(seed), np.arange(n_models) // PERIOD
    n_periods = period[-1] + 1
    return [np.isin(period, random.permutation(n_periods)[: n_periods // 2]) for _ in range(N_HALVES)]


def without_each_group(n_models: int) -> list[Array]:
    """Bool masks [T] that leave out one group of periods each, for the jackknife."""
    period = np.arange(n_models) // PERIOD
    n_groups = min(N_GROUPS, period[-1] + 1)
    return [period % n_groups != group for group in range(n_groups)]


def halves_in_order(n_models: int) -> tuple[slice, slice]:
    """The first and the last half, cut between periods."""
    cut = n_models // PERIOD // 2 * PERIOD
    return slice(0, cut), slice(cut, n_models)

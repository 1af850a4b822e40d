"""How right attribution scores are: pair by pair, subset by subset, and forget set by forget set. Errors by bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import rankdata

import infl
from infl.records import REGIMES, Array, Effects, ForgetSet, Verdict

RESAMPLES = 200
DECIDED = 0.9


Score = tuple[float, float]  # a number and its standard error


def rank_correlations(scores: Array, truth: Array) -> Array:
    """Spearman correlation of each column, over the rows where both are known; [columns]. 0 where the scores are all equal."""
    return correlations(rankdata(scores, axis=0), rankdata(truth, axis=0))


def correlations(a: Array, b: Array) -> Array:
    """Pearson correlation of each column of a with that of b; 0 where one is constant."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    scale = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(scale > 0, (a * b).sum(axis=0) / np.where(scale > 0, scale, 1), 0.0)


def over_columns(per_column: Array) -> Score:
    """Mean over columns, its error by bootstrap over columns."""
    random = np.random.RandomState(0)
    drawn = per_column[random.randint(len(per_column), size=(RESAMPLES, len(per_column)))].mean(axis=1)
    return float(per_column.mean()), float(drawn.std())


def within_classes(scores: Array, truth: Array, rows: Array, columns: Array) -> Array:
    """Correlation of each column over the sources of its own class, [columns]; rows, columns: labels."""
    result = np.zeros(len(columns))
    for label in np.unique(columns):
        sources, targets = np.flatnonzero(rows == label), np.flatnonzero(columns == label)
        part = np.ix_(sources, targets)
        result[targets] = rank_correlations(scores[part], truth[part]) if len(sources) > 2 else 0.0
    return result


def attainable(between_halves: float) -> float:
    """Correlation of the truth itself with the mean of both halves, from that of one half with the other (Spearman-Brown)."""
    between = max(between_halves, 0.0)
    return float(np.sqrt(2 * between / (1 + between)))


def linear_datamodeling_score(predicted: Array, margins: Array) -> Score:
    """LDS (Park et al. 2023, eq. 5): Spearman correlation over subsets of predicted and mean margin, mean over columns.

    predicted: [subsets, m]; margins: [subsets, m]. The error is by bootstrap over subsets and columns together.
    """
    value = float(rank_correlations(predicted, margins).mean())
    random, drawn = np.random.RandomState(0), []
    for _ in range(RESAMPLES):
        rows, columns = (random.randint(size, size=size) for size in predicted.shape)
        part = np.ix_(rows, columns)
        drawn.append(rank_correlations(predicted[part], margins[part]).mean())
    return value, float(np.std(drawn))


def summed_effects(scores: Array, sets: list[ForgetSet]) -> Array:
    """Sum over members of S of what each is worth to members and held-out examples, [sets, n+m]; retained ones keep 0.

    Retained examples lose nothing in truth, as networks fit them; sums do not know that, so they are spared the error.
    """
    n = len(scores)
    effects = np.zeros((len(sets), scores.shape[1]))
    for row, one in zip(effects, sets, strict=True):
        ids = list(one.ids)
        row[n:] = scores[ids, n:].sum(axis=0)
        row[ids] = scores[np.ix_(ids, ids)].sum(axis=0)
    return effects


def fitted_scale(summed: Array, measured: list[Effects]) -> float:
    """The one factor that makes sums probabilities, by least squares over members and held-out examples of all sets."""
    counted = [counted_columns(one) for one in measured]
    x = np.concatenate([row[columns] for row, columns in zip(summed, counted, strict=True)])
    y = np.concatenate([one.effect[columns] for one, columns in zip(measured, counted, strict=True)])
    return float(x @ y / (x @ x)) if (x @ x) > 0 else 0.0


def counted_columns(effects: Effects) -> Array:
    """Members of S and held-out examples."""
    return np.concatenate([list(effects.forget_set.ids), np.arange(effects.n_train, len(effects.effect))])


def as_effects(effect: Array, forget_set: ForgetSet, n_train: int) -> Effects:
    """A prediction without an error, for `infl.judge`."""
    effect = np.clip(effect, -1, 1)
    point = {"covariance": np.diag([1e-12, 1e-12]), "source": "sum", "n_models": 0}
    return Effects(forget_set, n_train, effect, np.zeros_like(effect), np.empty((0, len(effect))), **point)


def regime_scores(predicted: list[Effects], measured: list[Effects]) -> dict[str, Any]:
    """Share of the sets whose most probable regime is right, in all and by regime; and rank correlation of self and cross.

    Of the sets whose measured regime has a probability of at least 0.9. Errors by bootstrap over sets.
    """
    pairs = [(infl.judge(p), infl.judge(t)) for p, t in zip(predicted, measured, strict=True)]
    pairs = [(p, t) for p, t in pairs if max(t.probability.values()) >= DECIDED]
    guess = np.array([REGIMES.index(most_probable(p)) for p, _ in pairs])
    truth = np.array([REGIMES.index(most_probable(t)) for _, t in pairs])
    values = np.array([[p.self_influence.value, t.self_influence.value, p.cross_influence.value, t.cross_influence.value]
                       for p, t in pairs])  # fmt: skip
    values = np.nan_to_num(values)  # where nothing is predicted, nothing is
    random = np.random.RandomState(0)
    draws = [random.randint(len(pairs), size=len(pairs)) for _ in range(RESAMPLES)]

    def with_error(statistic: Any) -> Score:
        repeats = [statistic(guess[d], truth[d], values[d]) for d in draws]
        return float(statistic(guess, truth, values)), float(np.nanstd(repeats))

    return {
        "right": with_error(lambda g, t, v: (g == t).mean()),
        "rank_correlation_self": with_error(lambda g, t, v: rank_correlations(v[:, :1], v[:, 1:2])[0]),
        "rank_correlation_cross": with_error(lambda g, t, v: rank_correlations(v[:, 2:3], v[:, 3:])[0]),
        "sets_by_regime": {name: int((truth == k).sum()) for k, name in enumerate(REGIMES)},
        "right_by_regime": {name: int(((truth == k) & (guess == k)).sum()) for k, name in enumerate(REGIMES)},
    }


def mean_recall(sets: dict[str, int], right: dict[str, int]) -> Score:
    """Share of the sets of each regime that was found, averaged over no-op, local and spreading, with its error over sets.

    sets, right: how many there are of each regime, and how many of these were found. Indirect sets are too rare to count.
    """
    names = [name for name in ("no-op", "local", "spreading") if sets[name]]
    of_regime = np.repeat(np.arange(len(names)), [sets[name] for name in names])
    found = np.concatenate([np.arange(sets[name]) < right[name] for name in names] or [np.zeros(0, bool)])

    def recall(drawn: Array) -> float:
        there = [k for k in range(len(names)) if (of_regime[drawn] == k).any()]
        return float(np.mean([found[drawn][of_regime[drawn] == k].mean() for k in there])) if there else float("nan")

    random, everything = np.random.RandomState(0), np.arange(len(found))
    repeats = [recall(random.choice(everything, len(found))) for _ in range(RESAMPLES)] if len(found) else [np.nan]
    return recall(everything), float(np.std(repeats))


def most_probable(verdict: Verdict) -> str:
    """The regime that it would name if it had to."""
    return max(verdict.probability, key=lambda regime: np.nan_to_num(verdict.probability[regime]))

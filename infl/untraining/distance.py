"""How far models are from a reference: the mean difference of expected accuracy, with a null of zero and limits.

Two sets of K models each, paired by seed, are compared by their expected accuracy on every example. With x_jr the accuracy of
unlearned model r on example j less that of its reference, and m, s mean and error of x_j over the *other* models,

    T = mean over groups g of t_g,    t_g = mean over r and over j in g of  psi(m_j,-r / s_j,-r) x_jr,    psi(z) = 2 Phi(z) - 1

estimates the mean over groups of the mean |difference of expected accuracy|. The sign of a difference comes from other models
than its size, so that models of one distribution have T = 0 on average, with any number of them and any correlations between
examples. What that costs is that differences near their error count less than they are: of a difference d with a normal error s
at most 0.34 sqrt(2) s is missing (at d = 1.06 s), and `Distance.upper` adds this for every example.

Groups are S, the rest of the concept, the other retained examples, and the held-out examples that the reference changes and
that it does not: those k with effect |D_k| of at least e and of two errors, weighted by how probable that is, by the other
models again. Each counts alike: S may be 10 of 10,000 examples. Errors are those of a jackknife that leaves out a group of
models at a time.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import special, stats

from infl.records import GROUPS, Array, Distance, ForgetSet, GroupDistance, Outcomes, Quantity

MIN_MODELS = 6  # halves of three: one is left out by the jackknife, one gives its size, and the others the sign
CONFIDENCE = 0.95
MAX_MISSING = 0.48  # of the errors of single examples: 0.34 sqrt(2)
N_JACKKNIFE = 32
MIN_AFFECTED = 0.5  # examples, below which there is no such group


def measure_distance(
    forget_set: ForgetSet,
    unlearned: Outcomes,
    reference: Outcomes,
    *,
    original: Outcomes,
    min_effect: float = 0.1,
    weights: dict[Any, Array] | None = None,
) -> Distance:
    """Distance of models from a reference; see the module for the formula.

    Args:
        unlearned, reference, original: `correct` [N, n+m] each.
        min_effect: From which effect of the reference on a held-out example on that is affected.
        weights: Those of affected examples, kept here from method to method where the other arguments stay.
    """
    unlearned, reference, original = align(unlearned, reference, original)
    u, r, o = (one.of("correct").astype(np.float64) for one in (unlearned, reference, original))
    binary = all(one.is_binary("correct") for one in (unlearned, reference))
    least = np.ones(u.shape[1]) if binary else 1 / reference.tokens
    n_models, n_train = len(u), reference.n_train
    fixed = np.full(n_train, GROUPS.index("retained"))
    fixed[list(forget_set.concept or ())] = GROUPS.index("concept")
    fixed[list(forget_set.ids)] = GROUPS.index("set")

    weights = {} if weights is None else weights
    compared = n_models, None if reference.init_seeds is None else reference.init_seeds.tobytes()

    def of(rows: Array, left_out: int | None = None) -> Array:
        key = compared, left_out
        if key not in weights:
            weights[key] = _affected_weights((o - r)[rows, n_train:], least[n_train:], min_effect)
        return _group_means(u[rows], r[rows], weights[key], fixed, least)

    found = of(np.ones(n_models, bool))
    n_parts = min(N_JACKKNIFE, n_models)
    part = np.arange(n_models) % n_parts
    without = np.array([of(part != number, number) for number in range(n_parts)])
    without = np.where(np.isnan(without), found, without)  # a group that one part alone brought about
    there = [number for number in range(len(GROUPS)) if not math.isnan(found[0, number])]
    sizes = found[4, there]
    # No error is smaller than what one outcome of one example in one pair makes.
    minimum = least.max() / (n_models * sizes)

    def error(of_parts: Array, at_least: float) -> float:
        scatter = (n_parts - 1) / n_parts * ((of_parts - of_parts.mean(axis=0)) ** 2).sum()
        return max(float(np.sqrt(scatter)), at_least)

    total, missing = found[0, there].mean(), MAX_MISSING * found[3, there].mean()
    se = error(without[:, 0, there].mean(axis=1), minimum.max() / len(there))
    excess = without[:, 2, there].mean(axis=1) - without[:, 1, there].mean(axis=1)
    reach = stats.t.ppf(CONFIDENCE, n_parts - 1) * se
    groups = {
        GROUPS[number]: GroupDistance(
            float(found[4, number]),
            *(Quantity(float(found[row, number]), error(without[:, row, number], low)) for row in range(3)),
        )
        for number, low in zip(there, minimum, strict=True)
    }
    return Distance(
        value=Quantity(float(total), se),
        lower=float(total - reach),
        upper=float(total + missing + reach),
        excess=Quantity(float((found[2, there] - found[1, there]).mean()), error(excess, minimum.max() / len(there))),
        groups=groups,
        n_models=n_models,
    )


def expected_outcomes(original: Outcomes, effect: Array) -> Outcomes:
    """Outcomes of models of D as they are expected without S: each example loses `effect` [n+m] of its accuracy.

    What is lost is a fraction of what each model knew, and what is gained one of what it did not, so that every model stays
    paired with its own outcomes on D.
    """
    correct = original.of("correct").astype(np.float64)
    before = correct.mean(axis=0)
    after = np.clip(before - effect, 0, 1)
    kept = np.divide(after, before, out=np.ones_like(after), where=after < before)
    missed = np.divide(1 - after, 1 - before, out=np.ones_like(after), where=after > before)
    return replace(original, correct=1 - (1 - correct * kept) * missed, margin=None, logprob=None, exact=None)


def align(*sides: Outcomes) -> list[Outcomes]:
    """As many models of each as all have, in one order: by init seeds where all sides have some, as they come otherwise."""
    seeds = [one.init_seeds for one in sides if one.init_seeds is not None]
    if len(seeds) == len(sides):
        common = sorted(set.intersection(*(set(one.tolist()) for one in seeds)))
        if len(common) >= MIN_MODELS:
            rows = [{seed: row for row, seed in enumerate(one.tolist())} for one in seeds]
            return [take(one, np.array([of[seed] for seed in common])) for one, of in zip(sides, rows, strict=True)]
    n_models = min(one.n_models for one in sides)
    return [take(one, slice(n_models)) for one in sides]


def take(outcomes: Outcomes, rows: Array | slice) -> Outcomes:
    """Some of the models."""
    arrays: dict[str, Any] = {**outcomes.recorded, "masks": outcomes.masks, "init_seeds": outcomes.init_seeds}
    return replace(outcomes, strata=None, **{k: None if one is None else one[rows] for k, one in arrays.items()})


def _affected_weights(x: Array, least: Array, min_effect: float) -> Array:
    """How probable it is by the other models that an example is affected, [K, m], of outcomes of D less the reference's."""
    effect, error = _without_each(x, least)
    affected = special.ndtr((np.abs(effect) - np.maximum(min_effect, 2 * error)) / error)
    return affected * (affected > 0.02)


def _group_means(u: Array, r: Array, affected: Array, fixed: Array, least: Array) -> Array:
    """Distance, accuracy of both sides, error of a single example, and size, by group, [5, groups]; NaN where there is none."""
    n_train = len(fixed)
    mean, error = _without_each(u - r, least)
    signed = (2 * special.ndtr(mean / error) - 1) * (u - r)
    every = np.ones((len(u), 1))
    parts = [(slice(n_train), every * (fixed == number)) for number in range(3)]
    parts += [(slice(n_train, None), affected), (slice(n_train, None), 1 - affected)]
    found = np.full((5, len(parts)), np.nan)
    for number, (columns, weights) in enumerate(parts):
        sizes = weights.sum(axis=1)
        some = sizes > 0
        if sizes.mean() >= MIN_AFFECTED:
            for row, values in enumerate((signed, u, r, error)):
                found[row, number] = ((values[:, columns] * weights).sum(axis=1)[some] / sizes[some]).mean()
            found[4, number] = sizes.mean()
    return found


def _without_each(x: Array, least: Array) -> tuple[Array, Array]:
    """Mean of the other models and its standard error, each [K, columns].

    The error is that of a posterior whose prior is half a model more that gains and that loses what one outcome makes: never 0.
    """
    n = len(x) - 1
    mean = (x.sum(axis=0) - x) / n
    variance = np.maximum(((x**2).sum(axis=0) - x**2) / n - mean**2, 0)
    return mean, np.sqrt((variance * n + least**2) / ((n + 1.5) * (n + 2.5)))

"""Compares unlearned models with those that they should be: retrained without S, or without all of the concept S is part of.

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

Equivalence is claimed and not taken for granted: models *untrain* where T is below the tolerance with all that its error and
small differences could add, and are named otherwise only where T is above it with all that its error could take away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import special, stats

from infl.records import (
    GROUPS,
    Array,
    Direction,
    Distance,
    Effects,
    Evaluation,
    ForgetSet,
    GroupDistance,
    InputError,
    Judgement,
    MetricName,
    Outcomes,
    Quantity,
    Thresholds,
    check_fraction,
    join_blocks,
)
from infl.untraining.metrics import measure_metrics
from infl.untraining.regimes import MORE_MODELS, judge
from infl.untraining.verification import measure_effects

TOLERANCE = 0.05  # half of the least effect that counts as harm
MIN_MODELS = 4
CONFIDENCE = 0.95
MAX_MISSING = 0.48  # of the errors of single examples: 0.34 sqrt(2)
N_JACKKNIFE = 32
MIN_AFFECTED = 0.5  # examples, below which there is no such group


def evaluate_models(
    forget_set: ForgetSet,
    unlearned: Mapping[str, Outcomes],
    *,
    original: Outcomes,
    oracle: Outcomes,
    full_oracle: Outcomes | None = None,
    thresholds: Thresholds | None = None,
    tolerance: float = TOLERANCE,
    metrics: Sequence[MetricName] = (),
    held_out_only: bool = False,
) -> list[Evaluation]:
    """Evaluate what unlearning methods made of models of D against models retrained without the set.

    Models pair by their init seeds where all sides have some, and by their order otherwise; as many count as all sides have.

    Args:
        unlearned: Models of each method by its name, `correct` or `margin` [N, n+m]; their masks do not matter.
        original: Models of D, that methods began with.
        oracle: Models of D\\S.
        full_oracle: Models of D\\S_full, for a set with a concept.
        thresholds: By which regimes are named; the least effect in them is that of affected examples.
        tolerance: Largest distance that counts as none.
        metrics: Those of others to measure besides, each with its null; see `infl.untraining.metrics`.
        held_out_only: Whether cross, harm and gain are read on held-out examples alone, as of documents.

    Returns:
        Doing nothing, retraining (one half of the oracles against the other) and then the methods, in their order.

    Raises:
        InputError: where models are of other examples, fewer than four, or not what they are said to be.
    """
    check_fraction("tolerance", tolerance)
    thresholds = thresholds or Thresholds()
    original, oracle = _with_correct("original", original), _with_correct("oracle", oracle)
    references = [oracle]
    if full_oracle is not None:
        references.append(_with_correct("full oracle", full_oracle))
    _check_references(forget_set, original, *references)

    def measure(models: Outcomes, trained_without: tuple[int, ...], source: str) -> Effects:
        before, after = align(original, models)
        masks = np.broadcast_to(ForgetSet("", trained_without).retained(before.n_train), after.masks.shape)
        measured = measure_effects(forget_set, full=before, without=replace(after, masks=masks))
        return replace(measured, source=source, held_out_only=held_out_only)

    whole = None
    if full_oracle is not None:
        assert forget_set.concept is not None
        of_concept = measure(references[1], forget_set.concept, "retrained")
        whole = replace(of_concept, forget_set=ForgetSet(forget_set.name, forget_set.concept))
    retrained = judge(replace(measure(oracle, forget_set.ids, "retrained"), whole=whole), thresholds)
    evaluations = []
    for method, given in {"nothing": original, "retraining": oracle, **unlearned}.items():
        models = _with_correct(method, given)
        _check_examples(method, models, oracle)
        sides = [(models, reference) for reference in references]
        if method == "retraining":
            halves = [replace(take(oracle, slice(half, None, 2)), init_seeds=None) for half in (0, 1)]
            sides[0] = halves[0], halves[1]
        effects = replace(measure(models, forget_set.ids, method), whole=whole)
        distances = [
            measure_distance(forget_set, *side, original=original, min_effect=thresholds.effect) for side in sides
        ]
        evaluation = Evaluation(
            forget_set=forget_set,
            method=method,
            judgement="undetermined",
            to_oracle=distances[0],
            to_full_oracle=distances[1] if len(distances) > 1 else None,
            effect=judge(effects, thresholds),
            retrained=retrained,
            tolerance=tolerance,
        )
        if metrics:
            paired = align(models, references[0], original, *references[1:])
            evaluation = replace(evaluation, metrics=measure_metrics(metrics, forget_set, *paired))
        evaluations.append(_decide(evaluation))
    return evaluations


def measure_distance(
    forget_set: ForgetSet, unlearned: Outcomes, reference: Outcomes, *, original: Outcomes, min_effect: float = 0.1
) -> Distance:
    """Distance of models from a reference; see the module for the formula.

    Args:
        unlearned, reference, original: `correct` [N, n+m] each.
        min_effect: From which effect of the reference on a held-out example on that is affected.
    """
    unlearned, reference, original = align(unlearned, reference, original)
    u, r, o = (one.of("correct").astype(np.float64) for one in (unlearned, reference, original))
    binary = all(one.is_binary("correct") for one in (unlearned, reference))
    least = np.ones(u.shape[1]) if binary else 1 / reference.tokens
    n_models, n_train = len(u), reference.n_train
    fixed = np.full(n_train, GROUPS.index("retained"))
    fixed[list(forget_set.concept or ())] = GROUPS.index("concept")
    fixed[list(forget_set.ids)] = GROUPS.index("set")

    def of(rows: Array) -> Array:
        return _group_means(u[rows], r[rows], o[rows], fixed, least, min_effect)

    found = of(np.ones(n_models, bool))
    n_parts = min(N_JACKKNIFE, n_models)
    part = np.arange(n_models) % n_parts
    without = np.array([of(part != number) for number in range(n_parts)])
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


def _group_means(u: Array, r: Array, o: Array, fixed: Array, least: Array, min_effect: float) -> Array:
    """Distance, accuracy of both sides, error of a single example, and size, by group, [5, groups]; NaN where there is none."""
    n_train = len(fixed)
    mean, error = _without_each(u - r, least)
    signed = (2 * special.ndtr(mean / error) - 1) * (u - r)
    effect, its_error = _without_each(o[:, n_train:] - r[:, n_train:], least[n_train:])
    affected = special.ndtr((np.abs(effect) - np.maximum(min_effect, 2 * its_error)) / its_error)
    affected *= affected > 0.02
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


def _decide(evaluation: Evaluation) -> Evaluation:
    """With the judgement, its direction, and what would decide."""
    forget_set, tolerance = evaluation.forget_set, evaluation.tolerance
    distances = [one for one in (evaluation.to_oracle, evaluation.to_full_oracle) if one is not None]
    whole = forget_set.concept is not None and set(forget_set.concept) == set(forget_set.ids)

    def judgement(factor: int = 1) -> Judgement:
        shrink = math.sqrt(factor)
        states = []
        for one in distances:
            value = one.value.value
            near = value + (one.upper - value) / shrink <= tolerance
            far = value - (value - one.lower) / shrink > tolerance
            states.append("near" if near else "far" if far else "")
        if states[0] == "near":
            return "both" if whole or states[-1:] == ["near"] and len(states) > 1 else "untrains"
        if states[-1] == "near":
            return "unlearns the concept"
        return "neither" if set(states) == {"far"} else "undetermined"

    decided, needed = judgement(), None
    note = "the set is all of its concept: untraining it is unlearning it" if whole else ""
    if decided == "undetermined":
        needed = next((f * distances[0].n_models for f in MORE_MODELS if judgement(f) != "undetermined"), None)
        note = "lies on the tolerance: no number of models within reach would decide"
        if needed is not None:
            note = f"about {needed:,} models on each side would decide, if the estimates hold"
    direction = _direction(distances) if decided == "neither" else ""
    return replace(evaluation, judgement=decided, direction=direction, models_needed=needed, note=note)


def _direction(distances: list[Distance]) -> Direction:
    signs = []
    for one in distances:
        reach = stats.t.ppf(CONFIDENCE, min(N_JACKKNIFE, one.n_models) - 1) * one.excess.se
        signs.append(1 if one.excess.value > reach else -1 if one.excess.value < -reach else 0)
    if signs == [1, -1]:
        return "in between"
    return {1: "too much", -1: "too little"}.get(signs[0] if len(set(signs)) == 1 else 0, "other")  # pyright: ignore


def _with_correct(name: str, outcomes: Outcomes) -> Outcomes:
    """The outcomes with `correct`, by the sign of margins where there is none."""
    if outcomes.n_models < MIN_MODELS:
        models = "1 model says" if outcomes.n_models == 1 else f"{outcomes.n_models} models say"
        raise InputError(
            f"{name}: {models} nothing of what training does on average: give at least {MIN_MODELS}, 16 for a look, "
            "64 for a table"
        )
    if outcomes.correct is None:
        outcomes = replace(outcomes, correct=outcomes.of("margin") > 0)
    return join_blocks(
        list(outcomes.blocks())
    )  # entries out of their range are named, shares that are all 0 or 1 counted


def _check_examples(name: str, outcomes: Outcomes, oracle: Outcomes) -> None:
    if (outcomes.n_train, outcomes.n_columns) != (oracle.n_train, oracle.n_columns):
        raise InputError(
            f"{name}: expected outcomes on the {oracle.n_train:,} training and then the {oracle.n_columns - oracle.n_train:,} "
            f"held-out examples of the oracles, {oracle.n_columns:,} columns, got {outcomes.n_columns:,} of which "
            f"{outcomes.n_train:,} are of training examples"
        )


def _check_references(forget_set: ForgetSet, original: Outcomes, oracle: Outcomes, *full_oracles: Outcomes) -> None:
    name, concept = f"set {forget_set.name!r}", forget_set.concept
    for what, one in (("original", original), *(("full oracle", one) for one in full_oracles)):
        _check_examples(what, one, oracle)
    if (last := (concept or forget_set.ids)[-1]) >= oracle.n_train or forget_set.ids[-1] >= oracle.n_train:
        raise InputError(f"{name} names id {last}, and there are {oracle.n_train:,} training examples")
    if not original.masks.all():
        raise InputError(f"{name}: the originals were not trained on all of D")
    if oracle.masks[:, list(forget_set.ids)].any():
        raise InputError(f"{name}: the oracles were trained on examples of the set")
    for one in full_oracles:
        if concept is None:
            raise InputError(
                f"{name} has no concept, so there are no models without one: give it a concept, or no full oracle"
            )
        if concept == forget_set.ids:
            raise InputError(f"{name} is all of its concept: its oracles are those of the concept, give no full oracle")
        if one.masks[:, list(concept)].any():
            raise InputError(f"{name}: the full oracles were trained on examples of its concept")

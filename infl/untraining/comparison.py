"""Says whether unlearned models are what they should be: those retrained without S, or without all of its concept.

How far they are from either is measured by `infl.untraining.distance`. Equivalence is claimed and not taken for granted: models
*untrain* where T is below the tolerance with all that its error and small differences could add, and are named otherwise only
where T is above it with all that its error could take away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from infl.records import (
    Direction,
    Distance,
    Effects,
    Evaluation,
    ForgetSet,
    InputError,
    Judgement,
    MetricName,
    Outcomes,
    Thresholds,
    check_fraction,
    join_blocks,
)
from infl.untraining.distance import CONFIDENCE, MIN_MODELS, N_JACKKNIFE, align, measure_distance, take
from infl.untraining.metrics import measure_metrics
from infl.untraining.regimes import MORE_MODELS, judge
from infl.untraining.verification import measure_effects

TOLERANCE = 0.05  # half of the least effect that counts as harm


def evaluate_models(
    forget_set: ForgetSet,
    unlearned: Mapping[str, Outcomes],
    *,
    expected: Mapping[str, Outcomes] | None = None,
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
        expected: What is predicted of retraining (`infl.untraining.distance.expected_outcomes`), likewise; without metrics.
        original: Models of D, that methods began with.
        oracle: Models of D\\S.
        full_oracle: Models of D\\S_full, for a set with a concept.
        thresholds: By which regimes are named; the least effect in them is that of affected examples.
        tolerance: Largest distance that counts as none.
        metrics: Those of others to measure besides, each with its null; see `infl.untraining.metrics`.
        held_out_only: Whether cross, harm and gain are read on held-out examples alone, as of documents.

    Returns:
        Doing nothing, retraining (one half of the oracles against the other), what is expected, and the methods in their
        order.

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
        # Right or wrong: methods may stop where margins cross 0, at which smoothing over margins is biased.
        before, after = (replace(one, margin=None) for one in align(original, models))
        masks = np.broadcast_to(ForgetSet("", trained_without).retained(before.n_train), after.masks.shape)
        measured = measure_effects(forget_set, full=before, without=replace(after, masks=masks))
        return replace(measured, source=source, held_out_only=held_out_only)

    whole = None
    if full_oracle is not None:
        assert forget_set.concept is not None
        of_concept = measure(references[1], forget_set.concept, "retrained")
        whole = replace(of_concept, forget_set=ForgetSet(forget_set.name, forget_set.concept))
    retrained = judge(replace(measure(oracle, forget_set.ids, "retrained"), whole=whole), thresholds)
    evaluations, weights = [], [dict[Any, Any]() for _ in references]
    expected = expected or {}
    for method, given in {"nothing": original, "retraining": oracle, **expected, **unlearned}.items():
        models = _with_correct(method, given)
        _check_examples(method, models, oracle)
        sides: list[Any] = [(models, *known) for known in zip(references, weights, strict=True)]
        if method == "retraining":
            halves = [replace(take(oracle, slice(half, None, 2)), init_seeds=None) for half in (0, 1)]
            sides[0] = (*halves, None)
        effects = replace(measure(models, forget_set.ids, method), whole=whole)
        distances = [
            measure_distance(forget_set, u, r, original=original, min_effect=thresholds.effect, weights=known)
            for u, r, known in sides
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
        if metrics and method not in expected:
            # As many for all rows: what metrics say depends on the number of models, and so does their null.
            n_models = min(one.n_models for one in (original, *references, *unlearned.values()))
            paired = [take(one, slice(n_models)) for one in align(models, references[0], original, *references[1:])]
            evaluation = replace(evaluation, metrics=measure_metrics(metrics, forget_set, *paired))
        evaluations.append(_decide(evaluation))
    return evaluations


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

"""A mistake in what a score is asked for is an InputError of one line that names it, before any work and instead of a NaN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import infl
from infl.records import Estimate, InputError, Outcomes
from infl.scores.adjustment import adjusted_influence, remainder, soften
from infl.scores.evidence import joint_q_values
from infl.scores.influence import class_influence, cross_influence_totals
from infl.scores.planning import ErrorForecast, models_for_standard_error
from infl.scores.power import (
    EffectiveModels,
    detectable,
    findings,
    models_for_effect,
    p_value_cut,
)
from infl.scores.shrinkage import Prior, fit_prior, shrink
from infl.scores.shrunk_influence import shrunk_influence
from infl.scores.surrogate import fit_surrogate, leave_one_out_influence

T, N, M = 30, 6, 4
RANDOM = np.random.RandomState(0)
MASKS = RANDOM.rand(T, N) < 0.5
OUTCOMES = Outcomes(MASKS, RANDOM.rand(T, N + M) < 0.6, RANDOM.randn(T, N + M).astype(np.float32))
NONE = Outcomes(MASKS[:0], OUTCOMES.of("correct")[:0] > 0, OUTCOMES.of("margin")[:0])
ALONE = Outcomes(MASKS, OUTCOMES.of("correct")[:, :N] > 0)  # without held-out examples
PRIOR = Prior(np.array([0.0, 0.1]), np.array([[0.9, 0.1], [0.5, 0.5]]), 1.5, np.array([0.05]))
ONE = Estimate(np.array([0.1]), np.array([0.1]), np.ones(1), np.ones(1), "own", "correct")
HELD_OUT: Any = slice(N, N + M)
COVARIATE, WORTH = RANDOM.randn(T, M), RANDOM.randn(N, M)
ROW: Any = "row"


def adjusted(**settings: Any) -> Any:
    return adjusted_influence(OUTCOMES, **{"columns": HELD_OUT, **settings})


def surrogate(ridge: float = 0.05) -> Any:
    return fit_surrogate(RANDOM.randn(9, 2).astype(np.float32), np.arange(9) % 3, n_train=6, n_classes=3, ridge=ridge)


def found(pairs: Any, outcomes: Outcomes = OUTCOMES, **changes: Any) -> Any:
    return findings(outcomes, replace(infl.memorization(OUTCOMES), **changes), pairs)


MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: infl.influence(OUTCOMES, sources=[6]), "sources: expected numbers 0..5 in protocol held-out"),
    (lambda: infl.influence(OUTCOMES, sources=[]), "sources: .* at least one"),
    (lambda: infl.influence(OUTCOMES, columns=[0]), "columns: expected numbers 6..9 in protocol held-out"),
    (lambda: infl.influence(OUTCOMES, columns=[6], protocol="trained"), "columns: expected numbers 0..5 in protocol"),
    (lambda: infl.influence(ALONE), "no such columns"),
    (lambda: infl.memorization(NONE), "no models"),
    (lambda: infl.memorization(Outcomes(MASKS, margin=OUTCOMES.margin)), "hold no 'correct'"),
    (lambda: class_influence(OUTCOMES, infl.load("digits", n_train=60)), "6 training and 4 held-out"),
    (lambda: cross_influence_totals(ALONE), "no held-out columns"),
    (lambda: cross_influence_totals(NONE), "no models to score"),
    (lambda: infl.strongest_influences(OUTCOMES, n_pairs=-1), "0 pairs or more"),
    (lambda: infl.strongest_influences(OUTCOMES, n_per_column=-1), "0 a column or more"),
    (lambda: infl.strongest_influences(OUTCOMES, false_discovery_rate=1.0), "false discovery rate"),
    (lambda: infl.strongest_influences(OUTCOMES, protocols=[]), "a protocol"),
    (lambda: infl.strongest_influences(OUTCOMES, q_over=ROW), "q_over: expected matrix or column, got 'row'"),
    (lambda: infl.strongest_influences(NONE), "no models"),
    (lambda: infl.strongest_influences(ALONE), "no such columns"),
    (lambda: infl.interval(ONE, level=1.0), "level"),
    (lambda: infl.q_values(np.ones((2, 2)), axis=2), "axis: expected one of the 2"),
    (lambda: joint_q_values(infl.influence(OUTCOMES), q_over=ROW), "q_over: expected matrix or column, got 'row'"),
    (lambda: joint_q_values(ONE), "these scores have no p-values"),
    (lambda: adjusted(covariate=COVARIATE), "together"),
    (lambda: adjusted(covariate=COVARIATE, covariate_influence=WORTH[:, :2]), r"influence \(6, 4\)"),
    (lambda: adjusted(covariate=COVARIATE[:5], covariate_influence=WORTH), "shape of the outcomes"),
    (lambda: adjusted(columns=slice(0, 3)), "must be held out"),
    (lambda: adjusted(protocol="left-out"), "must be training examples"),
    (lambda: adjusted_influence(ALONE, columns=HELD_OUT), "no 'margin'"),
    (lambda: soften(COVARIATE, 0), "width"),
    (lambda: remainder(COVARIATE, COVARIATE, n_folds=T + 1), "folds"),
    (lambda: fit_prior(np.full(3, np.nan), np.zeros(3)), "error above 0"),
    (lambda: fit_prior(np.zeros(3), np.ones(4)), "standard error for each"),
    (lambda: shrink(ONE, PRIOR), "covariate"),
    (lambda: shrink(ONE, PRIOR, np.zeros(1), level=1.0), "level"),
    (lambda: shrunk_influence(Outcomes(np.ones((1, 4), bool), np.ones((1, 6), bool))), "train more models"),
    (lambda: shrunk_influence(NONE, surrogate=surrogate()), "no models to score"),
    (lambda: surrogate(ridge=0.0), "ridge"),
    (lambda: surrogate(ridge=float("nan")), "ridge"),
    (lambda: leave_one_out_influence(surrogate(), fraction=1.1), "fraction"),
    (lambda: leave_one_out_influence(surrogate(), fraction=0.01), "fraction"),
    (lambda: leave_one_out_influence(surrogate(), fraction=0.7, n_subsets=0), "subsets"),
    (lambda: models_for_standard_error(float("nan"), fraction=0.7), "above 0 and below 1"),
    (lambda: models_for_standard_error(0.1, fraction=(0.5, 1.2)), "fraction: .* above 0 and below 1, got 1.2"),
    (
        lambda: ErrorForecast.from_outcomes(OUTCOMES).models_for(-0.1),
        "standard_error: expected a number above 0 .* -0.1",
    ),
    (lambda: detectable(OUTCOMES, protocol="own", power=1.0), "power: expected a number above 0 and below 1, got 1.0"),
    (lambda: detectable(OUTCOMES, protocol="own", false_discovery_rate=0.0), "false discovery rate: expected a number"),
    (lambda: detectable(ALONE, protocol="held-out"), "no such columns"),
    (lambda: p_value_cut(10, expected_fraction=2), "expected fraction: expected a number from 0 to 1, got 2"),
    (lambda: p_value_cut(0), "tests: expected at least 1"),
    (lambda: models_for_effect(1.5, EffectiveModels.one(0.5), p_cut=0.01), "effect: expected a number above 0 .* 1.5"),
    (
        lambda: found(infl.strongest_influences(OUTCOMES), ALONE),
        "protocol held-out: these outcomes have no such columns",
    ),
    (lambda: found(infl.strongest_influences(OUTCOMES), p=None), "these scores have no p-values"),
    (
        lambda: found(infl.strongest_influences(OUTCOMES, protocols=["left-out", "held-out"])),
        "expected those of one protocol, got left-out, held-out",
    ),
]


@pytest.mark.parametrize(("call", "words"), MISTAKES, ids=[words for _, words in MISTAKES])
def test_a_mistake_is_named_in_one_line(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as refused:
        call()
    assert "\n" not in str(refused.value)

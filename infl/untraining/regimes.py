"""Turns effects of untraining S, predicted or measured, into self, cross, harm, gain and a verdict with its probability.

With D_j the effect on example j (probability of being predicted correctly that is lost), K = D\\S retained and H held out:

    self(S)  = mean of D_j over S
    cross(S) = (1/|S|) [ sum of D_k over K + (n/m) sum of D_k over H ]
    harm(S), gain(S): the same sums over D_k >= e, and over D_k <= -e with the sign turned.

cross is the drop of population accuracy in units of |S|: other examples lost, net, per example forgotten.

Of documents all three are sums over H alone, (n/m) sum of D_k over H: what retained documents lose or gain when others go is no
matter of what they say, but of the weights and steps that these leave free, and hides what generalization loses.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy import stats

from infl.records import REGIMES, Array, ConceptGap, Effects, Quantity, Regime, Thresholds, Verdict

MORE_MODELS = [2**k for k in range(1, 13)]  # times as many, that are tried
N_MOST_HARMED = 10
# v: errors of single effects are known within a factor, and the wider they are the more of an effect of nothing lies beyond e.
# With all of the variance predicted harm was .09 too high for Fashion-MNIST, with none of it .07 too low for digits
# (`experiments/regimes`); its difference from that with all of it counts as an error.
HARM_VARIANCE = 0.5
FULLY_COVERED = 0.5  # fraction of S that models should have left out at once, for a prediction not to reach too far


def judge(effects: Effects, thresholds: Thresholds | None = None) -> Verdict:
    """Sum effects and name the regime.

    The regime is that of (self, harm) compared with the thresholds: low/low no-op, high/low local, high/high spreading,
    low/high indirect; or of (self, cross), where `thresholds.cross` is `net`. Its probability takes both as normal around
    their estimates, self and cross jointly with the covariance of the replicates, widened for their small number as a t
    distribution would be. Where no regime reaches the wanted
    probability the verdict is `undetermined`, and `models_needed` says roughly how many models would decide: the
    number at which the same estimates with errors shrunk as 1/sqrt(models) do.

    Harm and gain of measured effects are cross-fitted: one half of the replicates selects the examples with |D_k| >= e, the
    other half sums them, and the other way round, so that noise does not select itself; e is a step of width e/5, so that
    errors know of examples that might as well have been selected. Those of posteriors
    (`Effects.covariance`) are the means of the sums over the examples' normal posteriors.

    Args:
        effects: Predicted or measured.
        thresholds: None for infl's own.

    Returns:
        The verdict. Errors are NaN, and the regime undetermined, with fewer than four replicates.
    """
    thresholds = thresholds or Thresholds()
    inside = np.zeros(len(effects.effect), bool)
    inside[list(effects.forget_set.ids)] = True
    weights = cross_weights(inside, effects.n_train, held_out_only=effects.held_out_only) / len(effects.forget_set)
    values = np.array([effects.effect[inside].mean(), _sum(effects.effect, weights)])
    if effects.covariance is None:
        least = np.ones(len(weights)) if effects.n_tokens is None else 1 / effects.n_tokens
        covariance = _replicated_covariance(effects.replicates, inside, weights, least)
        harm, gain = (_cross_fitted(sign * effects.replicates, weights, thresholds.effect, least) for sign in (1, -1))
    else:
        covariance = effects.covariance.copy()
        harm, gain = (_posterior_sum(effects, weights, thresholds.effect, sign=sign) for sign in (1, -1))
    self_influence, cross_influence = map(Quantity, values.tolist(), np.sqrt(np.diag(covariance)).tolist())
    if thresholds.cross == "harm":
        values[1], covariance[1, 1], covariance[0, 1], covariance[1, 0] = harm.value, harm.se**2, 0.0, 0.0
    probability = regime_probabilities(values, covariance, thresholds)
    others = np.where(weights == 0, -np.inf, np.nan_to_num(effects.effect, nan=-np.inf))
    harmed = [int(j) for j in np.argsort(-others, kind="stable")[:N_MOST_HARMED] if others[j] > 0]
    verdict = Verdict(
        forget_set=effects.forget_set,
        regime=_decide(probability, thresholds),
        probability=probability,
        self_influence=self_influence,
        cross_influence=cross_influence,
        harm=harm,
        gain=gain,
        thresholds=thresholds,
        source=effects.source,
        n_models=effects.n_models,
        most_harmed=tuple(harmed),
        most_harmed_effects=tuple(float(effects.effect[j]) for j in harmed),
        concept_gap=None if effects.whole is None else _concept_gap(effects, effects.whole, thresholds.effect),
        held_out_only=effects.held_out_only,
    )
    if verdict.regime != "undetermined":
        return verdict
    if effects.covariance is not None:
        return replace(verdict, note=_what_to_train(covariance, effects.covered))
    return _with_models_needed(verdict, values, covariance)


def regime_probabilities(values: Array, covariance: Array, thresholds: Thresholds) -> dict[str, float]:
    """Probability of each regime for (self, cross) ~ Normal(values [2], covariance [2, 2]).

    NaN for all where a value or an error is unknown.
    """
    if not (np.isfinite(values).all() and np.isfinite(covariance).all()):
        return dict.fromkeys(REGIMES, math.nan)
    # An error of exactly zero is a point mass; one far below any threshold keeps the density proper.
    errors = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    correlation = float(np.clip(covariance[0, 1] / errors.prod(), -0.999, 0.999))
    distances = (np.array([thresholds.self_influence, thresholds.cross_influence]) - values) / errors
    low_self, low_cross = stats.norm.cdf(distances)
    standard: Any = stats.multivariate_normal
    both_low = float(standard.cdf(distances, cov=[[1.0, correlation], [correlation, 1.0]]))
    both_low = min(max(both_low, low_self + low_cross - 1, 0.0), low_self, low_cross)
    return {
        "no-op": float(both_low),
        "local": float(low_cross - both_low),
        "spreading": float(max(0.0, 1 - low_self - low_cross + both_low)),
        "indirect": float(low_self - both_low),
    }


def cross_weights(inside: Array, n_train: int, *, held_out_only: bool = False) -> Array:
    """What each effect counts for in |S| cross(S), [n+m]; inside: [n+m] bool, which columns are members of S.

    Args:
        held_out_only: Whether retained examples count for nothing.
    """
    n_held_out = len(inside) - n_train
    weights = np.full(len(inside), 0.0 if held_out_only else 1.0)
    weights[n_train:] = n_train / n_held_out if n_held_out else 0.0
    return np.where(inside, 0.0, weights)


def _sum(values: Array, weights: Array) -> Array:
    """Weighted over the columns that count, so that NaN in others reaches no sum."""
    counted = weights != 0
    return values[..., counted] @ weights[counted]


def _replicated_covariance(replicates: Array, inside: Array, weights: Array, least: Array) -> Array:
    """Covariance of (self, cross) by the scatter of the replicates, widened as a t distribution is, [2, 2].

    Args:
        least: By how much an outcome of each example can change at least, [n+m].
    """
    n_replicates = len(replicates)
    if n_replicates < 4:
        return np.full((2, 2), np.nan)
    own = replicates[:, inside].mean(axis=1)
    covariance = (
        np.cov(np.stack([own, _sum(replicates, weights)])) / n_replicates * (n_replicates - 1) / (n_replicates - 3)
    )
    # Where all replicates agree their scatter is zero, which so few cannot know: no error is smaller than what one outcome
    # of one example in one replicate makes. Members of S may all be lost together, so self counts as one outcome.
    own_minimum = least[inside].max() / (1 if own.std() == 0 else inside.sum())
    minimum = np.array([own_minimum, (weights * least).max()]) / n_replicates
    np.fill_diagonal(covariance, np.maximum(np.diag(covariance), minimum**2))
    return covariance


def _cross_fitted(replicates: Array, weights: Array, min_effect: float, least: Array) -> Quantity:
    """Weighted sum of the effects of at least `min_effect`, selected by one half of the replicates and summed by the other.

    Effects within a fifth of `min_effect` are selected in part: the error is that of a function of two means, linearized.
    """
    n_replicates, counted = len(replicates), weights > 0
    halves = [replicates[start::2, counted] for start in (0, 1)]
    if len(halves[1]) < 2 or np.isnan(halves[0]).any() or np.isnan(halves[1]).any():
        return Quantity(math.nan, math.nan)
    step: Any = stats.norm(min_effect, max(0.2 * min_effect, 0.01))
    one, two = (half.mean(axis=0) for half in halves)
    value, variance = 0.0, 0.0
    for half, own, other in ((halves[0], one, two), (halves[1], two, one)):
        selected = step.cdf(other)
        value += float(weights[counted] @ (selected * own)) / 2
        contributions = (half - own) @ (weights[counted] * (selected + step.pdf(own) * other)) / 2
        variance += contributions.var(ddof=1) / len(half)
    variance *= (n_replicates - 1) / max(n_replicates - 3, 1)
    # As of self and cross: where all replicates agree, no error is smaller than what one outcome in one of them makes.
    minimum = (weights * least).max(initial=0.0) / n_replicates
    return Quantity(value, max(float(np.sqrt(variance)), float(minimum)))


def _posterior_sum(effects: Effects, weights: Array, min_effect: float, *, sign: int) -> Quantity:
    """Mean and error of the weighted sum of sign * D_k over sign * D_k >= e, where D_k ~ N(effect, v se^2)."""
    assert effects.covariance is not None
    mean, claimed = sign * effects.effect, np.maximum(effects.se, 1e-9)

    def moments(deviation: Array) -> tuple[Array, Array]:
        z = (mean - min_effect) / deviation
        above, density = stats.norm.cdf(z), stats.norm.pdf(z)
        first = mean * above + deviation * density
        return first, (mean**2 + deviation**2) * above + deviation * (mean + min_effect) * density

    first, second = moments(np.sqrt(HARM_VARIANCE) * claimed)
    value = float(_sum(first, weights))
    by_claim = float(_sum(moments(claimed)[0], weights)) - value
    independent = float(_sum(np.maximum(second - first**2, 0), weights**2))
    # Of what net has in error beyond its independent parts half is borne by either sum, also where little of it was predicted
    # (sets whose removal helps harm as well), the other half by harm and gain in proportion.
    shared = max(float(effects.covariance[1, 1]) - float(_sum(claimed**2, weights**2)), 0.0)
    fraction = float(_sum(np.maximum(mean, 0), weights)) / max(float(_sum(np.abs(mean), weights)), 1e-12)
    return Quantity(value, float(np.sqrt(independent + shared * (1 + fraction) / 2 + by_claim**2)))


def _concept_gap(part: Effects, whole: Effects, min_effect: float) -> ConceptGap:
    concept = part.n_train + np.flatnonzero(whole.effect[part.n_train :] >= min_effect)
    if not len(concept):
        return ConceptGap(len(whole.forget_set), 0, math.nan, math.nan, Quantity(math.nan, math.nan))
    means = float(part.effect[concept].mean()), float(whole.effect[concept].mean())
    error = float(np.sqrt((part.se[concept] ** 2 + whole.se[concept] ** 2).sum())) / len(concept)
    return ConceptGap(len(whole.forget_set), len(concept), *means, Quantity(means[1] - means[0], error))


def _decide(probability: dict[str, float], thresholds: Thresholds) -> Regime:
    best = max(REGIMES, key=lambda regime: np.nan_to_num(probability[regime], nan=-1.0))
    return best if probability[best] >= thresholds.probability else "undetermined"


def _what_to_train(covariance: Array, covered: float) -> str:
    """What would determine a prediction."""
    if not np.isfinite(covariance).all():
        return "has more examples than any model left out: infl verify retrains without it"
    if covered < FULLY_COVERED:
        return f"no models left out more than {covered:.0%} of it at once: infl train --cover adds some that do"
    return "infl train --cover adds models that leave it out; infl verify retrains without it"


def _with_models_needed(verdict: Verdict, values: Array, covariance: Array) -> Verdict:
    if not np.isfinite(covariance).all() or not np.isfinite(values).all():
        return replace(verdict, note="its effects have no estimate or no error: too few models")
    for factor in MORE_MODELS:
        probability = regime_probabilities(values, covariance / factor, verdict.thresholds)
        if _decide(probability, verdict.thresholds) != "undetermined":
            needed = factor * verdict.n_models
            note = f"about {needed:,} models would decide, if the estimates hold"
            return replace(verdict, models_needed=needed, note=note)
    return replace(verdict, note="lies on a threshold: no number of models within reach would decide")

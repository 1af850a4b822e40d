"""Turns models of random and grouped subsets into a predictor: for any set S, the effect of removing it, with its error.

The response of every margin to what is left out (`infl.untraining.response`) gives the fall of the margins of retained and
held-out examples from D to D\\S, laid under the margins of models of D to give a probability; members of S are given the
margins that models which left them out would have on D\\S. Errors hold the fit's posterior and the misfit seen on models held
out of it (`infl.untraining.errors`). Effects are posterior means: shrunk towards none where the models say little.

    D_j(S) = P_j(0) - P_j(fall_j(S))    retained and held out        D_j(S) = P_j(0) - P[right at level_j(S)]    j in S

| predictor | the response rests on |
|---|---|
| `support` | how much same-class and other-class support is left at three radii, neighbours and slopes of one's own |
| `surrogate` | kernel ridge regression refitted on D\\S, likewise |
| `combined` | both: the default |
| `additive-shrunk` | neither: one term per left-out example, all shrunk; ridge regression |
| `additive` | sums of the influences of single examples (`infl.untraining.additive`) |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from infl.records import Array, Effects, ForgetSet, InputError, OutcomeSource, ProtocolName
from infl.untraining.additive import predict_additive
from infl.untraining.errors import N_FOLDS, ErrorModel, Misfit, fit_errors
from infl.untraining.regimes import cross_weights
from infl.untraining.response import (
    MarginLaw,
    Response,
    Similarity,
    fit_response,
    fit_similarity,
    level_probability,
    margin_law,
)
from infl.untraining.support import Support, chosen, gather_evidence, parts, prepare_support

Expected = tuple[Array, Array, Array]
PredictorName = Literal["combined", "support", "surrogate", "additive-shrunk", "additive"]

MAX_REFERENCES = 64  # models of D that the fit rests on
SETS_AT_ONCE = 16
MIN_MODELS = 16
FIT_STEPS = 1 + 3 + N_FOLDS  # refits, a response for each protocol, models held out
N_COVERING = 3  # models that must have left out a share of S at once for it to count as covered


class Predictor(Protocol):
    """Anything that predicts the effects of removing a set."""

    def predict(self, forget_sets: Sequence[ForgetSet]) -> Iterator[Effects]:
        """The effects of each set in turn."""
        ...


def fit_predictor(
    name: PredictorName = "combined",
    *,
    sources: Sequence[OutcomeSource],
    reference: OutcomeSource,
    images: Array,
    labels: Array,
    n_classes: int,
    batch_size: int | None = None,
    advance: Callable[[], None] = lambda: None,
) -> Predictor:
    """Fit a predictor to what models of subsets of D, and of D, do.

    Args:
        sources: Collections of models of subsets, uniform ones first.
        reference: Models of all of D.
        images, labels: Of D and of the held-out examples, [n+m, ...] and [n+m].
        batch_size: Of the training algorithm, where it is known: it decides after how many examples an epoch gets a
            step less.
        advance: Called `FIT_STEPS` times on the way, but for `additive`, which needs no fit.

    Raises:
        InputError: where there are too few models to fit on.
    """
    if name not in get_args(PredictorName):
        raise InputError(f"predictor: expected one of {', '.join(get_args(PredictorName))}; got {name!r}")
    if not reference.n_models:
        raise InputError("effects are measured from models of all of D, and this run has none; train with --references")
    if not sources:
        raise InputError("predicting effects needs models of subsets, and none were given")
    if name == "additive":
        return _Additive(sources[0], reference)
    sources = [source for source in sources if source.n_models]
    n_models = sum(source.n_models for source in sources)
    if n_models < MIN_MODELS:
        raise InputError(
            f"predicting effects needs at least {MIN_MODELS} models of subsets, and this run has {n_models}"
        )
    support = prepare_support(images, labels, n_train=reference.n_train, n_classes=n_classes, batch_size=batch_size)
    models_of_d = _first(reference, MAX_REFERENCES)
    evidence = gather_evidence(support, [*sources, models_of_d], reference.n_columns)
    advance()
    correct, margins = (np.concatenate([b.of(kind) for b in models_of_d.blocks()]) for kind in ("correct", "margin"))
    law = margin_law(margins)

    use = chosen(["support", "surrogate"] if name == "combined" else [name]) if name != "additive-shrunk" else []
    own_terms = name != "additive-shrunk"
    of_d, of_h = np.arange(reference.n_train), np.arange(reference.n_train, reference.n_columns)
    columns_of: dict[ProtocolName, Array] = {"trained": of_d, "left-out": of_d, "held-out": of_h}
    responses, similar = {}, {}
    for protocol, columns in columns_of.items():
        if len(columns):
            responses[protocol] = fit_response(evidence, columns, protocol=protocol, use=use, own_terms=own_terms)
            similar[protocol] = fit_similarity(evidence, responses[protocol], protocol=protocol)
        advance()
    return ResponsePredictor(
        name=name,
        support=support,
        law=law,
        right_at_d=law.probability(np.zeros(reference.n_columns)),
        n_references=len(margins),
        responses=responses,
        similar=similar,
        errors=fit_errors(evidence, law, correct, margins, use=use, own_terms=own_terms, advance=advance),
        n_models=n_models,
    )


@dataclass(frozen=True)
class ResponsePredictor:
    """A fitted response with its errors."""

    name: str
    support: Support
    law: MarginLaw
    right_at_d: Array
    n_references: int
    responses: dict[ProtocolName, Response]
    similar: dict[ProtocolName, Similarity]
    errors: ErrorModel
    n_models: int

    def predict(self, forget_sets: Sequence[ForgetSet]) -> Iterator[Effects]:
        """The effects of each set in turn; posterior mean, standard deviation, and covariance of (self, cross).

        The covariance is NaN, so that the verdict is undetermined, for a set of more examples than any model left out.
        """
        for start in range(0, len(forget_sets), SETS_AT_ONCE):
            some = forget_sets[start : start + SETS_AT_ONCE]
            masks = np.stack([one.retained(self.support.n_train) for one in some])
            surrogate = self.support.surrogate_margins(masks)
            expected: dict[ProtocolName, Expected] = {
                protocol: self._expect(protocol, masks, surrogate) for protocol in self.responses
            }
            for row, one in enumerate(some):
                yield self._effects(one, row, expected)

    def _expect(self, protocol: ProtocolName, masks: Array, surrogate: Array) -> Expected:
        """Expected change or level and its posterior variance, [sets, columns]; share of the misfit that is left, [sets]."""
        response, similar = self.responses[protocol], self.similar[protocol]
        expected, unexplained = similar.correct(~masks)
        variance = np.empty_like(expected)
        for part, columns in parts(response.columns):
            covariates = self.support.covariates(masks, surrogate[:, columns], columns)
            value, variance[:, part] = response.of(part).expect(covariates, masks)
            expected[:, part] += value
        return expected, variance, unexplained

    def _effects(self, forget_set: ForgetSet, row: int, expected: dict[ProtocolName, Expected]) -> Effects:
        n_train, n_columns = self.support.n_train, len(self.right_at_d)
        ids, share = np.array(forget_set.ids), len(forget_set) / n_train
        effect, se = np.zeros(n_columns), np.zeros(n_columns)
        columns_of: dict[ProtocolName, Array] = {
            "trained": np.arange(n_train),
            "held-out": np.arange(n_train, n_columns),
        }
        misfit_of: dict[ProtocolName, Misfit] = {"trained": self.errors.trained, "held-out": self.errors.held_out}
        for protocol, columns in columns_of.items():
            if protocol in expected:
                change, variance, unexplained = (array[row] for array in expected[protocol])
                misfit = unexplained * misfit_of[protocol].variance(share, change)
                law = MarginLaw(self.law.quantiles[:, columns], self.law.width[columns])
                effect[columns], se[columns] = law.effect(-change, variance + misfit)

        level, variance, unexplained = (array[row] for array in expected["left-out"])
        fall = self.responses["left-out"].level_at_d[ids] - level[ids]
        misfit = unexplained * self.errors.held_out.variance(share, fall)
        noise = self.responses["left-out"].noise[ids]
        right, spread = level_probability(level[ids], variance[ids] + misfit, noise)
        before = self.right_at_d[ids]
        effect[ids] = before - right
        se[ids] = np.sqrt(spread**2 + before * (1 - before) / self.n_references)
        return Effects(
            forget_set=forget_set,
            n_train=n_train,
            effect=effect,
            se=se,
            replicates=np.empty((0, n_columns)),
            source=self.name,
            n_models=self.n_models,
            covariance=self._covariance(effect, se, ids, float(unexplained)),
            covered=self._covered(ids),
        )

    def _covariance(self, effect: Array, se: Array, ids: Array, unexplained: float) -> Array:
        size, inside = len(ids), np.zeros(len(effect), bool)
        if size > self.similar["left-out"].left_out.sum(axis=1).max():
            # No model was trained on so few: the response is extrapolated, and no residual shows how far off that is.
            return np.full((2, 2), np.nan)
        inside[ids] = True
        weights = cross_weights(inside, self.support.n_train)
        # However well all agree, so many models cannot show what fewer than one in all of them would.
        least = np.array([1.0, weights.max(initial=0) / size]) / self.n_models
        own = (se[ids] ** 2).sum() / size**2 + unexplained * self.errors.self_common
        shared = self.errors.shared(float(weights @ np.abs(effect)))
        cross = ((weights * se) ** 2).sum() + unexplained * shared
        return np.diag(np.maximum([own, cross / size**2], least**2))

    def _covered(self, ids: Array) -> float:
        shares = self.similar["left-out"].left_out[:, ids].mean(axis=1)
        return float(np.sort(shares)[-min(N_COVERING, len(shares))])


@dataclass(frozen=True)
class _Additive:
    design: OutcomeSource
    reference: OutcomeSource

    def predict(self, forget_sets: Sequence[ForgetSet]) -> Iterator[Effects]:
        for one in forget_sets:
            yield predict_additive(one, design=self.design, reference=self.reference)


def _first(source: OutcomeSource, n_models: int) -> OutcomeSource:
    if source.n_models <= n_models:
        return source
    return next(source.blocks(n_rows=n_models))

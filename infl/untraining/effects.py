"""Turns models of random and grouped subsets into a predictor: for any set S, the effect of removing it, with its error.

The response of every margin to what is left out (`infl.untraining.response`) gives the drop of the margins of retained
and held-out examples from D to D\\S, compared with the margins of models of D to give a probability; members of S are given the
margins that models which left them out would have on D\\S. Errors hold the fit's posterior and the misfit seen on models held
out of it (`infl.untraining.errors`). Effects are posterior means: shrunk towards none where the models say little.

    D_j(S) = P_j(0) - P_j(drop_j(S))    retained and held out        D_j(S) = P_j(0) - P[right at level_j(S)]    j in S

| predictor | the response rests on |
|---|---|
| `support` | how much same-class and other-class support is left at three radii, neighbours and slopes of one's own |
| `surrogate` | kernel ridge regression, of documents an n-gram model, refitted on D\\S, likewise: the default for documents |
| `combined` | both: the default for pixels |
| `forests` | of facts: trees over the facts that each is known from (`infl.untraining.forests`): their default |
| `additive-shrunk` | neither: one term per left-out example, all shrunk; ridge regression |
| `additive` | sums of the influences of single examples (`infl.untraining.additive`) |

Where features of networks are given, both are read on pixels alone or on pixels and on these, whichever predicts models held
out of the fit better; the source of the effects is then called `combined with network features`. Of a proxy, many models of
another network, the response rests on the margins that it expects and on the refits: `combined with proxy`; on the refits
alone, with a warning, where models follow these better than the proxy (`infl.untraining.carry_over`): `surrogate`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from infl.records import Array, Effects, ForgetSet, InputError, OutcomeSource, ProtocolName, Quantity
from infl.untraining.additive import predict_additive
from infl.untraining.carry_over import carry_over
from infl.untraining.distribution import MarginDistribution, ProbitOutcomes, has_shares, margin_distribution
from infl.untraining.errors import CROSS_PER_EFFECT, N_FOLDS, SELF_PER_EFFECT, ErrorModel, fit_errors, shared_variance
from infl.untraining.forests import fit_forests
from infl.untraining.regimes import cross_weights
from infl.untraining.response import Expected, Response, fit_response
from infl.untraining.support import (
    N_COVARIATES,
    OF_NETWORKS,
    RIDGES,
    Support,
    gather_evidence,
    prepare_support,
)

# Gives the effects of removing each set in turn.
Predictor = Callable[[Sequence[ForgetSet]], Iterator[Effects]]
PredictorName = Literal["combined", "support", "surrogate", "forests", "additive-shrunk", "additive"]

COVARIATES = {  # positions of those that a response rests on
    "combined": range(N_COVARIATES),
    "support": range(len(RIDGES), N_COVARIATES),
    "surrogate": range(len(RIDGES)),
    "additive-shrunk": (),
}
MAX_REFERENCES = 64  # models of D that the fit rests on
SETS_AT_ONCE = 16
MIN_MODELS = 16
FIT_STEPS = 1 + N_FOLDS + 3  # refits, models held out, a response for each protocol
WITH_NETWORKS, WITH_PROXY = "{} with network features", "{} with proxy"
NO_PROXY = Quantity(np.nan, np.nan)
N_COVERING = 3  # models that must have left out a fraction of S at once for it to count as covered


def fit_predictor(
    name: PredictorName = "combined",
    *,
    sources: Sequence[OutcomeSource],
    reference: OutcomeSource,
    images: Array,
    labels: Array,
    n_classes: int,
    n_tokens: int = 0,
    features: Array | None = None,
    proxy: ResponsePredictor | None = None,
    of_margins: bool = False,
    advance: Callable[[], object] = lambda: None,
) -> Predictor:
    """Fit a predictor to what models of subsets of D, and of D, do.

    Args:
        name: See the table above.
        sources: Collections of models of subsets, uniform ones first.
        reference: Models of all of D.
        images: Of D and of the held-out examples, [n+m, ...].
        labels: Likewise, [n+m].
        n_tokens: Size of the vocabulary where images are documents, else 0.
        features: Of networks, [n+m, d] (`infl.pipeline.weights.network_features`); None for none.
        proxy: Fitted to models of another network on the same examples, in place of features.
        of_margins: Whether to fit margins where shares of tokens would be fitted by their probits: for
            `ResponsePredictor.margins` of documents.
        advance: Called `FIT_STEPS` times on the way, but for `additive`, which needs no fit; with features, where models are
            held out of two fits, `N_FOLDS` times more.

    Raises:
        InputError: where there are too few models to fit on.
    """
    if name not in get_args(PredictorName):
        raise InputError(f"predictor: expected one of {', '.join(get_args(PredictorName))}; got {name!r}")
    if not reference.n_models:
        raise InputError(
            "effects are measured from models of all of D, and this run has none; train with --n-references"
        )
    if not sources:
        raise InputError("predicting effects needs models of subsets, and none were given")
    if name == "additive":
        return lambda sets: (predict_additive(one, design=sources[0], reference=reference) for one in sets)
    if of_shares := name != "forests" and not of_margins and has_shares(*sources, reference):
        sources, reference = [ProbitOutcomes(source) for source in sources], ProbitOutcomes(reference)
    sources = [source for source in sources if source.n_models]
    n_models = sum(source.n_models for source in sources)
    if n_models < MIN_MODELS:
        raise InputError(
            f"predicting effects needs at least {MIN_MODELS} models of subsets, and this run has {n_models}"
        )
    if name == "forests":
        return fit_forests(sources, reference, images, labels)
    references = reference if reference.n_models <= MAX_REFERENCES else next(reference.blocks(n_rows=MAX_REFERENCES))
    margins = np.concatenate([block.of("margin") for block in references.blocks()])
    n_train, n_columns = reference.n_train, reference.n_columns
    support = prepare_support(
        images, labels, n_train=n_train, n_classes=n_classes, n_tokens=n_tokens, features=features
    )
    uses = {name: list(COVARIATES[name])}
    if proxy is not None:
        support = replace(support, network=replace(support, surrogates=[proxy, *support.surrogates[1:]]))
        uses = {WITH_PROXY.format(name): [*COVARIATES["surrogate"], OF_NETWORKS[0]]}
    elif features is not None and uses[name]:
        uses[WITH_NETWORKS.format(name)] = [
            *uses[name],
            *(OF_NETWORKS[one] for one in uses[name] if one < len(OF_NETWORKS)),
        ]
    evidence = gather_evidence(support, [*sources, references])
    found = NO_PROXY if proxy is None else carry_over(evidence)
    if found.interval(0.9)[1] < 0:
        warnings.warn(
            f"the proxy does not carry over: margins of the {n_models} models of subsets correlate with it less than with "
            f"closed-form refits ({found}), which are taken alone; try another proxy, or train more models",
            stacklevel=2,
        )
        uses = {"surrogate": list(COVARIATES["surrogate"])}
    advance()

    errors = {one: fit_errors(evidence, margins, use=use, advance=advance) for one, use in uses.items()}
    chosen = min(errors, key=lambda one: errors[one].squared)
    training, held_out = np.arange(n_train), np.arange(n_train, n_columns)
    columns: dict[ProtocolName, Array] = {"trained": training, "left-out": training, "held-out": held_out}
    responses: dict[ProtocolName, Response] = {}
    for protocol, some in columns.items():
        if len(some):
            responses[protocol] = fit_response(evidence, some, protocol=protocol, use=uses[chosen])
        advance()
    return ResponsePredictor(
        name=chosen,
        support=replace(support, network=None) if chosen in COVARIATES else support,
        distribution=margin_distribution(margins, of_shares=of_shares),
        n_references=len(margins),
        responses=responses,
        errors=errors[chosen],
        n_models=n_models,
        carry_over=found,
    )


@dataclass(frozen=True)
class ResponsePredictor:
    """A fitted response with its errors.

    Attributes:
        name: As in `fit_predictor`, and what was chosen.
        distribution: Of the margins of models of D, all columns.
        responses: By protocol.
        n_models: Of subsets.
        carry_over: Of a proxy, by how much these follow it better than refits; NaN without one.
    """

    name: str
    support: Support
    distribution: MarginDistribution
    n_references: int
    responses: dict[ProtocolName, Response]
    errors: ErrorModel
    n_models: int
    carry_over: Quantity = NO_PROXY

    def __call__(self, forget_sets: Sequence[ForgetSet]) -> Iterator[Effects]:
        """The effects of each set in turn; posterior mean, standard deviation, and covariance of (self, cross).

        The covariance is NaN, so that the verdict is undetermined, for a set of more examples than any model left out.
        """
        for start in range(0, len(forget_sets), SETS_AT_ONCE):
            some = forget_sets[start : start + SETS_AT_ONCE]
            expected = self._expect(np.stack([one.retained(self.support.n_train) for one in some]))
            for row, one in enumerate(some):
                yield self._effects(one, {name: Expected(*(part[row] for part in e)) for name, e in expected.items()})

    def margins(self, left_out: Array) -> Array:
        """Expected margin of every example of A(D\\S), [n+m], where S are the examples `left_out` (their ids).

        Members of S are given the margins that models which left them out would have on D\\S.
        """
        margins = self.distribution.quantiles.mean(axis=0)
        mask = np.ones((1, self.support.n_train), bool)
        mask[:, left_out] = False
        expected = self._expect(mask)
        level = expected.pop("left-out").value[0]
        for protocol, other in expected.items():
            margins[self.responses[protocol].columns] += other.value[0]
        margins[left_out] = level[left_out]
        return margins

    def _expect(self, masks: Array) -> dict[ProtocolName, Expected]:
        surrogate = self.support.surrogate_margins(masks)

        cached: dict[bytes, Array] = {}  # two protocols ask for the same columns

        def covariates(columns: Array) -> Array:
            key = columns.tobytes()
            if key not in cached:
                cached[key] = self.support.covariates(masks, surrogate[:, columns], columns)
            return cached[key]

        return {protocol: response.expect(masks, covariates) for protocol, response in self.responses.items()}

    def _effects(self, forget_set: ForgetSet, expected: dict[ProtocolName, Expected]) -> Effects:
        n_train, n_columns = self.support.n_train, len(self.support.labels)
        ids, effect, se = np.array(forget_set.ids), np.zeros(n_columns), np.zeros(n_columns)
        for protocol, misfit in (("trained", self.errors.trained), ("held-out", self.errors.held_out)):
            if protocol in expected:
                change, variance, unexplained = expected[protocol]
                columns = self.responses[protocol].columns
                variance = variance + unexplained * misfit * np.abs(change)
                effect[columns], se[columns] = self.distribution[columns].effect(-change, variance)

        level, variance, unexplained = expected["left-out"]
        response = self.responses["left-out"]
        drop = response.level_at_d[ids] - level[ids]
        variance = variance[ids] + unexplained * self.errors.held_out * np.abs(drop)
        noise = response.noise[ids]
        right, spread = self.distribution.at_level(level[ids], variance, noise)
        before = self.distribution.probability(0.0)[ids]
        effect[ids] = before - right
        se[ids] = np.sqrt(spread**2 + self.distribution.outcome_variance(before, noise) / self.n_references)
        covering = np.sort(response.similarity.left_out[:, ids].mean(axis=1))
        return Effects(
            forget_set=forget_set,
            n_train=n_train,
            effect=effect,
            se=se,
            replicates=np.empty((0, n_columns)),
            source=self.name,
            n_models=self.n_models,
            covariance=self._covariance(effect, se, ids, float(unexplained)),
            covered=float(covering[-min(N_COVERING, len(covering))]),
        )

    def _covariance(self, effect: Array, se: Array, ids: Array, unexplained: float) -> Array:
        size, inside = len(ids), np.zeros(len(effect), bool)
        if size > self.responses["left-out"].similarity.left_out.sum(axis=1).max():
            # No model was trained on so few: the response is extrapolated, and no residual shows how far off that is.
            return np.full((2, 2), np.nan)
        inside[ids] = True
        weights = cross_weights(inside, self.support.n_train)
        # However well all agree, so many models cannot show what fewer than one in all of them would.
        minimum = np.array([1.0, weights.max(initial=0) / size]) / self.n_models
        found = [
            ((counted * se) ** 2).sum() + unexplained * shared_variance(per_effect, float(counted @ np.abs(effect)))
            for counted, per_effect in ((inside, SELF_PER_EFFECT), (weights, CROSS_PER_EFFECT))
        ]
        return np.diag(np.maximum(np.array(found) / size**2, minimum**2))

"""Turns models of many subsets into the expected margin of every example as a function of which examples are left out.

For example j and left-out set O, in one protocol of j (held-out, trained, or left-out: itself in O),

    E[margin_j | O] = a_j + g(z_j(O)) - g(z_j(0)) + u_j + w_j (g(z_j(O)) - g(z_j(0))) + sum_k b_jk [k in O]
                      + p_j r_j + h_j(O)

- a: the mean margin of models of D, where j is held out or trained on: what is modelled is the drop from there. Where j is
  left out no model of D has its margin, and g(z_j(0)) stands in its place;
- z: covariates of the support that is left (`infl.untraining.support`). g is one function for all examples: what they have in
  common (`infl.untraining.pooled`);
- u, w, b: example j's own level and slope, and terms for the six nearest training examples of its class and of others. Normal
  priors around zero whose variances are fitted to all examples together by EM (empirical Bayes), residual variance of each
  example its own, drawn towards the median of all;
- r: what the model of D with the same init seed does beyond their mean, where a model has one: noise that is known, and can
  be taken off. In predictions it is zero;
- h: a Gaussian process over subsets, what models with almost the same O have in common beyond all that. Its covariance is
  cos(O, O')^4; margins of models observe it with a noise that is fitted to all examples together.

Without covariates to rest on there is no g, and examples have u, r and h alone: ridge regression on who is left out.

Models of subsets near D count more than those far from it: forget sets are small.

What each part gains was measured by taking it out (`experiments/regimes`). The pooled function carries the prediction; a
linear one is as good in one world of two. Neighbours' terms and weights near D gain a few percent of single effects, each in
one world. Init seeds gain next to nothing with 256 models, and 11% of single effects with 512. The process gains nothing from
models of random and grouped subsets: `infl train --cover` works through it, where it halves the errors of single effects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from infl.records import Array, ProtocolName
from infl.untraining.pooled import PooledFunction, fit_pooled
from infl.untraining.support import Evidence, parts, scratch_array

N_PAIRS = 200_000  # sampled for the pooled function, roughly
EM_STEPS = 8
MIN_MODELS = 10  # of its own that an example's residual variance weighs against the median of all
MIN_NOISE, MAX_NOISE = 1.0, 1e4  # of a model, compared with the variance of the process
MAX_SIMILAR = 8192  # models kept for the process; the Gram matrix has their square
BLOCK = 512


class Expected(NamedTuple):
    """What is expected of margins in some subsets.

    Attributes:
        value: [subsets, columns] change from D where the response is anchored there, else the level.
        variance: [subsets, columns] of the posterior.
        unexplained: [subsets] fraction of the prior variance of the process that no model of a similar subset takes away.
    """

    value: Array
    variance: Array
    unexplained: Array


@dataclass(frozen=True)
class Response:
    """The fitted function for the given columns in one protocol. Make one with `fit_response`.

    Attributes:
        anchored: Whether drops from D are modelled; else levels.
        use: Positions of the covariates that it rests on.
        neighbours: [columns, 12] ids of D.
        anchor: [columns] a_j, or zero.
        at_d: [columns, z] covariates on D.
        coefficients: [columns, k] of each example's own terms.
        covariance: [columns, k, k] of their posterior.
        noise: [columns] residual variance.
    """

    columns: Array
    anchored: bool
    use: Array
    pooled: PooledFunction
    neighbours: Array
    anchor: Array
    at_d: Array
    coefficients: Array
    covariance: Array
    noise: Array
    similarity: Similarity

    def __getitem__(self, part: slice) -> Response:
        """The same for some of its columns."""
        per_column = ("columns", "neighbours", "anchor", "at_d", "coefficients", "covariance", "noise", "similarity")
        return replace(self, **{name: getattr(self, name)[part] for name in per_column})

    @property
    def level_at_d(self) -> Array:
        """Expected margin with nothing left out, [columns]."""
        on_d = self.at_d[:, self.use]
        return self.anchor + self.pooled(on_d[None], on_d)[0][0] + self.coefficients[:, 0]

    def expect(self, masks: Array, covariates: Callable[[Array], Array]) -> Expected:
        """What is expected of models of these subsets, [subsets, n]; covariates: columns -> [subsets, columns, z]."""
        value, unexplained = self.similarity.correct(~masks)
        variance = np.empty_like(value)
        for part, columns in parts(self.columns):
            some = self[part]
            pooled, terms = some.terms(covariates(columns), masks)
            if self.anchored:  # u_j is part of the level on D and on all of its subsets
                terms[..., 0] = 0.0
            value[:, part] += pooled + some.own(terms)
            by_column = np.matmul(terms.transpose(1, 0, 2), some.covariance)  # [columns, subsets, k]
            variance[:, part] = np.einsum("jtk,tjk->tj", by_column, terms)
        return Expected(value, variance, unexplained)

    def terms(self, covariates: Array, masks: Array, by_init_seed: Array | None = None) -> tuple[Array, Array]:
        """Pooled prediction [subsets, columns] and the terms of each example's own coefficients, [subsets, columns, k].

        Args:
            covariates: [subsets, columns, z].
            masks: [subsets, n].
            by_init_seed: What init seeds do on D, [subsets, columns]; nothing where None.
        """
        pooled, change = self.pooled(covariates[..., self.use], self.at_d[:, self.use])
        terms = [np.ones_like(pooled)]
        if len(self.use):
            terms += [change, *(~masks[:, self.neighbours]).astype(np.float32).transpose(2, 0, 1)]
        terms.append(np.zeros_like(pooled) if by_init_seed is None else by_init_seed)
        return pooled, np.stack(terms, axis=-1)

    def own(self, terms: Array) -> Array:
        """What the examples' own coefficients make of their terms, [subsets, columns]."""
        return np.einsum("tjk,jk->tj", terms, self.coefficients, optimize=True)


def fit_response(evidence: Evidence, columns: Array, *, protocol: ProtocolName, use: Sequence[int]) -> Response:
    """Fit the response of the given columns in one protocol to the rows of the evidence.

    Args:
        use: Positions of the covariates to rest on; with none, examples have no slopes and neighbours of their own either.
    """
    positions, anchored = np.array(use, int), protocol != "left-out"
    at_d = evidence.at_d[columns]
    anchor = evidence.mean_on_d[columns] if anchored else np.zeros(len(columns), np.float32)

    sampled = list(_sample_pairs(evidence, columns, at_d[:, positions], anchor, positions, protocol))
    x, on_d, y, from_seed, models = (np.concatenate([part[k] for part in sampled]) for k in range(5))
    y = y - from_seed * float(from_seed @ y) / max(float(from_seed @ from_seed), 1e-12)
    pooled, nothing = fit_pooled(x, on_d, y, models, anchored=anchored), np.zeros((len(columns), 0))
    neighbours, none = evidence.neighbours[columns], Similarity(*np.zeros((3, 0, len(columns))))
    bare = Response(columns, anchored, positions, pooled, neighbours, anchor, at_d, nothing, nothing, nothing, none)

    statistics = []
    for part, chunk in parts(columns):
        margins, counted = evidence.counted(chunk, protocol)
        counted = counted * evidence.nearness[:, None]
        seeds = evidence.by_init_seed(margins)
        common, terms = bare[part].terms(evidence.covariates(chunk), evidence.masks, seeds)
        weighted = (terms * counted[..., None]).transpose(1, 2, 0)  # [columns, k, T]
        residual = margins - anchor[part] - common
        gram, moment = np.matmul(weighted, terms.transpose(1, 0, 2)), np.matmul(weighted, residual.T[..., None])[..., 0]
        statistics.append((gram, moment, (counted * residual**2).sum(axis=0), counted.sum(axis=0)))
    gram, moment, squares, n_models = (
        np.concatenate([part[k] for part in statistics]).astype(np.float64) for k in range(4)
    )
    coefficients, covariance, noise = _shrink(gram, moment, squares, n_models)
    fit = replace(
        bare, coefficients=coefficients.astype(np.float32), covariance=covariance.astype(np.float32), noise=noise
    )
    return replace(fit, similarity=_fit_similarity(evidence, fit, protocol))


def _sample_pairs(
    evidence: Evidence, columns: Array, at_d: Array, anchor: Array, use: Array, protocol: ProtocolName
) -> Iterator[tuple[Array, Array, Array, Array, Array]]:
    """Per chunk: inputs, inputs on D, margins, what init seeds do, and the model of random (model, example) pairs."""
    random = np.random.RandomState(0)
    n_counted = len(columns) * len(evidence.masks)
    n_counted *= float((~evidence.masks).mean()) if protocol == "left-out" else 1.0
    fraction = N_PAIRS / max(n_counted, 1)
    for part, chunk in parts(columns):
        margins, counted = evidence.counted(chunk, protocol)
        wanted = fraction * evidence.nearness[:, None]
        pairs = np.nonzero(counted & (random.random_sample(counted.shape) < wanted))
        covariates, on_d = evidence.covariates(chunk)[pairs][:, use], at_d[part][pairs[1]]
        yield (
            np.concatenate([covariates, covariates - on_d], axis=1),
            np.concatenate([on_d, np.zeros_like(on_d)], axis=1),
            (margins - anchor[part])[pairs],
            evidence.by_init_seed(margins)[pairs],
            pairs[0],
        )


def _shrink(gram: Array, moment: Array, squares: Array, n_models: Array) -> tuple[Array, Array, Array]:
    """Posterior mean, covariance and residual variance per example, under normal priors fitted to all by EM."""
    n_terms, known = gram.shape[1], n_models > 0
    prior = np.full(n_terms, 0.1)
    noise = np.maximum(squares / np.maximum(n_models, 1), 1e-6)
    noise = np.where(known, noise, np.median(noise[known]) if known.any() else 1.0)
    coefficients, covariance = np.zeros(moment.shape), np.zeros(gram.shape)
    for _ in range(EM_STEPS):
        covariance = np.linalg.inv(gram / noise[:, None, None] + np.diag(1 / prior))
        coefficients = np.einsum("jkl,jl->jk", covariance, moment / noise[:, None])
        diagonal = np.einsum("jkk->jk", covariance)
        free = np.maximum(n_models - (n_terms - (diagonal / prior).sum(axis=1)), 1)
        prior = np.maximum((coefficients**2 + diagonal).mean(axis=0), 1e-8)
        left = squares - 2 * (coefficients * moment).sum(axis=1)
        left += np.einsum("jk,jkl,jl->j", coefficients, gram, coefficients, optimize=True)
        median = np.median(np.maximum(left, 0)[known] / free[known]) if known.any() else 1.0
        noise = np.maximum((np.maximum(left, 0) + MIN_MODELS * median) / (free + MIN_MODELS), 1e-6)
    return coefficients, covariance, noise


@dataclass(frozen=True)
class Similarity:
    """h: the fitted process.

    Attributes:
        left_out: [T, n] float32.
        inverse: [T, T] of their covariance plus noise.
        residuals: [T, columns] float16.
    """

    left_out: Array
    inverse: Array
    residuals: Array

    def __getitem__(self, part: slice) -> Similarity:
        return replace(self, residuals=self.residuals[:, part])

    def correct(self, left_out: Array) -> tuple[Array, Array]:
        """Correction of the margins [subsets, columns], and the fraction of the prior variance that is left, [subsets]."""
        covariance = _similarity(left_out.astype(np.float32), self.left_out)
        weights = covariance @ self.inverse
        correction = np.zeros((len(left_out), self.residuals.shape[1]), np.float32)
        for start in range(0, len(self.left_out), BLOCK):
            rows = slice(start, start + BLOCK)
            correction += weights[:, rows].astype(np.float32) @ self.residuals[rows].astype(np.float32)
        return correction, np.clip(1 - (weights * covariance).sum(axis=1), 0, 1)


def _fit_similarity(evidence: Evidence, response: Response, protocol: ProtocolName) -> Similarity:
    """Keep the residuals of the subset models, and the inverse that weighs them. Residuals not counted are zero."""
    subsets = np.flatnonzero(evidence.rows)[-MAX_SIMILAR:]
    residuals = scratch_array((len(subsets), len(response.columns)), np.float16)
    for part, chunk in parts(response.columns):
        margins, counted = evidence.counted(chunk, protocol)
        some, seeds = response[part], evidence.by_init_seed(margins)
        pooled, terms = some.terms(evidence.covariates(chunk), evidence.masks, seeds)
        fitted = pooled + some.anchor + some.own(terms)
        residuals[:, part] = np.clip(((margins - fitted) * counted)[subsets], -6e4, 6e4)
    left_out = (~evidence.masks[subsets]).astype(np.float32)
    gram = _similarity(left_out, left_out)
    inverse = np.linalg.inv(gram + _process_noise(gram, residuals) * np.eye(len(gram)))
    return Similarity(left_out, inverse, residuals)


def _process_noise(gram: Array, residuals: Array) -> float:
    """Variance of the noise over that of the process: two residuals have in common what it says of both."""
    products = np.zeros(gram.shape, np.float32)
    for start in range(0, residuals.shape[1], BLOCK):
        some = residuals[:, start : start + BLOCK].astype(np.float32)
        products += some @ some.T
    others = gram - np.diag(np.diag(gram))
    common, whole = float((others * products).sum() / max((others**2).sum(), 1e-12)), float(np.diag(products).mean())
    return float(np.clip(whole / max(common, 1e-12) - 1, MIN_NOISE, MAX_NOISE))


def _similarity(one: Array, other: Array) -> Array:
    common = (one @ other.T).astype(np.float64)
    sizes = np.maximum(one.sum(axis=1), 1)[:, None] * np.maximum(other.sum(axis=1), 1)[None, :]
    return (common**2 / sizes) ** 2

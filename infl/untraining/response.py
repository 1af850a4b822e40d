"""Turns models of many subsets into the expected margin of every example as a function of which examples are left out.

For example j and left-out set O, in one protocol of j (held-out, trained, or left-out: itself in O),

    E[margin_j | O] = a_j + g(z_j(O)) - g(z_j(0)) + u_j + v_j (s_j(O) - s_j(0)) + w_j (g(z_j(O)) - g(z_j(0)))
                      + c_j e(O) + sum_k b_jk [k in O] + (p_j + q_j |O|/n) r_j + h_j(O)

- a: the mean margin of models of D, where j is held out or trained on: what is modelled is the fall from there. Where j is
  left out no model of D has its margin, and g(z_j(0)) stands in its place;
- z: covariates of the support that is left (`infl.untraining.support`), s the closed-form refits' margins among them. g is one
  function for all examples, ridge regression on 256 random ReLU features (Rahimi & Recht 2008) of z and its change from D:
  what examples have in common, pooled over millions of pairs;
- u, v, w, c, b: example j's own level and slopes (e: steps in an epoch), and terms for the six nearest training examples of
  its class and of others. Normal priors around zero whose variances are fitted to all examples together by EM (empirical
  Bayes), residual variance of each example its own, drawn towards the median of all;
- r: what the model of D with the same start does beyond their mean, where a model has one: noise that is known, and can be
  taken off. In predictions it is zero;
- h: what models with almost the same O have in common beyond all that (`infl.untraining.response`).

Examples at the border of being right count most in g and in the priors: for those a small change of margin is an effect.
Models of subsets near D count more than those far from it: forget sets are small.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from infl.records import Array, ProtocolName
from infl.untraining.support import STEPS, SURROGATES, Evidence, borderline, parts, scratch_array

N_FEATURES = 256
N_PAIRS = 200_000  # sampled for the pooled function, roughly
MEAN_BORDERLINE = 0.35  # weight of an average example in that sample, roughly
EM_STEPS = 8
MIN_MODELS = 10  # of its own that an example's residual variance weighs against the median of all
RIDGE = 1e-2  # of the pooled function, per pair


@dataclass(frozen=True)
class Response:
    """The fitted function for the given columns in one protocol.

    residual variance. at_d: covariates on D, [columns, z].

    Attributes:
        anchor: [columns] a_j, or zero.
        coefficients: [columns, k], their posterior covariance [columns, k, k].
        noise: [columns]
    """

    columns: Array
    pooled: PooledFunction
    neighbours: Array
    anchor: Array
    coefficients: Array
    covariance: Array
    noise: Array
    at_d: Array
    use: Array
    own_terms: bool

    @property
    def anchored(self) -> bool:
        """Whether falls from D are modelled; else levels."""
        return self.pooled.anchored

    @property
    def level_at_d(self) -> Array:
        """Expected margin with nothing left out, [columns]."""
        on_d = self.at_d[:, self.use]
        return self.anchor + self.pooled(on_d[None], on_d)[0][0] + self.coefficients[:, 0]

    def expect(self, covariates: Array, masks: Array) -> tuple[Array, Array]:
        """Expected change from D (anchored) or level of the margin, without h, and its variance, [subsets, columns]."""
        pooled, terms = self.terms(covariates, masks, slice(None))
        if self.anchored:  # u_j is part of the level on D and on all of its subsets
            terms[..., 0] = 0.0
        expected = pooled + self._own(terms, slice(None))
        by_column = np.matmul(terms.transpose(1, 0, 2), self.covariance)  # [columns, subsets, k]
        return expected, np.einsum("jtk,tjk->tj", by_column, terms)

    def fitted(self, covariates: Array, masks: Array, which: slice, by_init_seed: Array | None = None) -> Array:
        """Margins that models of these starts would have by the fit, without h, [subsets, columns]."""
        pooled, terms = self.terms(covariates, masks, which, by_init_seed)
        return pooled + self.anchor[which] + self._own(terms, which)

    def of(self, which: slice) -> Response:
        """The same function for some of its columns."""
        arrays = (self.neighbours, self.anchor, self.coefficients, self.covariance, self.noise, self.at_d)
        neighbours, anchor, coefficients, covariance, noise, at_d = (array[which] for array in arrays)
        return replace(
            self,
            columns=self.columns[which],
            neighbours=neighbours,
            anchor=anchor,
            coefficients=coefficients,
            covariance=covariance,
            noise=noise,
            at_d=at_d,
        )

    def terms(
        self, covariates: Array, masks: Array, which: slice, by_init_seed: Array | None = None
    ) -> tuple[Array, Array]:
        """Pooled prediction [subsets, columns] and the terms of each example's own coefficients, [subsets, columns, k].

        Args:
            by_init_seed: What the starts do on D, [subsets, columns]; nothing where None.
        """
        at_d = self.at_d[which]
        pooled, change = self.pooled(covariates[..., self.use], at_d[:, self.use])
        terms = [np.ones_like(pooled)]
        if self.own_terms:
            terms += [covariates[..., one] - at_d[:, one] for one in SURROGATES if one in self.use]
            terms.append(change)
            terms.append(covariates[..., STEPS])
            terms += list((~masks[:, self.neighbours[which]]).astype(np.float32).transpose(2, 0, 1))
        by_init_seed = np.zeros_like(pooled) if by_init_seed is None else by_init_seed
        terms += [by_init_seed, by_init_seed * (~masks).mean(axis=1, dtype=np.float32)[:, None]]
        return pooled, np.stack(terms, axis=-1)

    def _own(self, terms: Array, which: slice) -> Array:
        """What the examples' own coefficients make of their terms, [subsets, columns]."""
        return np.einsum("tjk,jk->tj", terms, self.coefficients[which], optimize=True)


@dataclass(frozen=True)
class PooledFunction:
    """g: ridge regression on random ReLU features of covariates and of their change from D, standardized."""

    mean: Array
    scale: Array
    directions: Array
    offsets: Array
    weights: Array
    intercept: float
    anchored: bool

    def __call__(self, covariates: Array, at_d: Array) -> tuple[Array, Array]:
        """[subsets, columns, z], [columns, z] -> g (less g on D where anchored) and its change from D, [subsets, columns]."""
        value = self._evaluate(np.concatenate([covariates, covariates - at_d], axis=-1))
        on_d = self._evaluate(np.concatenate([at_d, np.zeros_like(at_d)], axis=-1))
        change = value - on_d
        return (change if self.anchored else value + np.float32(self.intercept)), change

    def features(self, x: Array) -> Array:
        """Random features and the standardized inputs themselves, [pairs, features + inputs]."""
        z = (x - self.mean) / self.scale
        return np.concatenate([np.maximum(z @ self.directions + self.offsets, 0), z], axis=1)

    def _evaluate(self, x: Array) -> Array:
        flat = x.reshape(int(np.prod(x.shape[:-1])), x.shape[-1])  # no -1: there may be no covariates
        result = np.empty(len(flat), np.float32)
        for start in range(0, len(flat), 1 << 15):
            rows = slice(start, start + (1 << 15))
            result[rows] = self.features(flat[rows]) @ self.weights
        return result.reshape(x.shape[:-1])


def fit_pooled(x: Array, on_d: Array, y: Array, *, anchored: bool, seed: int = 0) -> PooledFunction:
    """Ridge regression of y [pairs] on random features of x [pairs, 2z]; anchored: on their change from those of `on_d`."""
    random = np.random.RandomState(seed)
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-6
    directions = (1.5 * random.standard_normal((x.shape[1], N_FEATURES)) / np.sqrt(max(x.shape[1], 1))).astype(
        np.float32
    )
    offsets = (0.8 * random.standard_normal(N_FEATURES)).astype(np.float32)
    intercept = 0.0 if anchored else float(y.mean())
    function = PooledFunction(mean, scale, directions, offsets, np.zeros(0, np.float32), intercept, anchored)
    features = function.features(x)
    features -= function.features(on_d) if anchored else features.mean(axis=0)
    gram = (features.T @ features).astype(np.float64) + RIDGE * len(x) * np.eye(features.shape[1])
    weights = np.linalg.solve(gram, features.T.astype(np.float64) @ (y - intercept)).astype(np.float32)
    if not anchored:  # the features were centred
        intercept -= float(function.features(x).mean(axis=0) @ weights)
    return PooledFunction(mean, scale, directions, offsets, weights, intercept, anchored)


def fit_response(
    evidence: Evidence,
    columns: Array,
    *,
    protocol: ProtocolName,
    use: list[int],
    rows: Array | None = None,
    own_terms: bool = True,
    seed: int = 0,
) -> Response:
    """Fit the response of the given columns in one protocol.

    Args:
        use: Positions of the covariates to rest on.
        rows: [T] bool, the models to fit on, all where None.
        own_terms: Whether examples have slopes and neighbours of their own, or a level alone.
    """
    positions, anchored = np.array(use, int), protocol != "left-out"
    at_d, neighbours = evidence.at_d[columns], evidence.neighbours[columns]
    anchor = evidence.mean_on_d[columns] if anchored else np.zeros(len(columns), np.float32)

    sampled = list(_sample_pairs(evidence, columns, at_d[:, positions], anchor, positions, protocol, rows, seed))
    x, on_d, y, of_start, weights = (np.concatenate([part[k] for part in sampled]) for k in range(5))
    y = y - of_start * float(of_start @ y) / max(float(of_start @ of_start), 1e-12)
    pooled = fit_pooled(x, on_d, y, anchored=anchored, seed=seed)
    nothing = np.zeros((len(columns), 0))
    bare = Response(columns, pooled, neighbours, anchor, nothing, nothing, nothing, at_d, positions, own_terms)

    sums = []
    for part, chunk in parts(columns):
        margins, counted = evidence.counted(chunk, protocol, rows)
        counted = counted * evidence.nearness[:, None]
        fitted, terms = bare.terms(evidence.covariates(chunk), evidence.masks, part, evidence.by_init_seed(margins))
        weighted = (terms * counted[..., None]).transpose(1, 2, 0)  # [columns, k, T]
        residual = margins - anchor[part] - fitted
        sums.append(
            (
                np.matmul(weighted, terms.transpose(1, 0, 2)),
                np.matmul(weighted, residual.T[..., None])[..., 0],
                (counted * residual**2).sum(axis=0),
                counted.sum(axis=0),
            )
        )
    gram, moment, squares, n_models = (np.concatenate([part[k] for part in sums]).astype(np.float64) for k in range(4))
    coefficients, covariance, noise = _shrink(gram, moment, squares, n_models, weights)
    fit = (coefficients.astype(np.float32), covariance.astype(np.float32), noise)
    return Response(columns, pooled, neighbours, anchor, *fit, at_d, positions, own_terms)


def _shrink(gram: Array, moment: Array, squares: Array, n_models: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Posterior mean, covariance and residual variance per example, under normal priors fitted to all by EM."""
    n_terms = gram.shape[1]
    enough = n_models > n_terms if (n_models > n_terms).any() else n_models >= 0
    prior = np.full(n_terms, 0.1)
    noise = np.maximum(squares / np.maximum(n_models, 1), 1e-6)
    noise = np.where(n_models > 0, noise, np.median(noise[enough]))
    coefficients, covariance = np.zeros(moment.shape), np.zeros(gram.shape)
    for _ in range(EM_STEPS):
        covariance = np.linalg.inv(gram / noise[:, None, None] + np.diag(1 / prior))
        coefficients = np.einsum("jkl,jl->jk", covariance, moment / noise[:, None])
        diagonal = np.einsum("jkk->jk", covariance)
        second = (coefficients**2 + diagonal) * weights[:, None]
        prior = np.maximum(second[enough].sum(axis=0) / weights[enough].sum(), 1e-8)
        left = squares - 2 * (coefficients * moment).sum(axis=1)
        left += np.einsum("jk,jkl,jl->j", coefficients, gram, coefficients, optimize=True)
        free = np.maximum(n_models - (n_terms - (diagonal / prior).sum(axis=1)), 1)
        median = np.median(np.maximum(left, 0)[enough] / free[enough])
        noise = np.maximum((np.maximum(left, 0) + MIN_MODELS * median) / (free + MIN_MODELS), 1e-6)
    return coefficients, covariance, noise


def _sample_pairs(
    evidence: Evidence,
    columns: Array,
    at_d: Array,
    anchor: Array,
    use: Array,
    protocol: ProtocolName,
    rows: Array | None,
    seed: int,
) -> Iterator[tuple[Array, Array, Array, Array, Array]]:
    """Per chunk: inputs, inputs on D, margins and what starts do of random (model, example) pairs; weights of examples."""
    random = np.random.RandomState(seed)
    n_counted = len(columns) * len(evidence.masks)
    n_counted *= float((~evidence.masks).mean()) if protocol == "left-out" else 1.0
    share = N_PAIRS / max(n_counted * MEAN_BORDERLINE, 1)
    for part, chunk in parts(columns):
        margins, counted = evidence.counted(chunk, protocol, rows)
        mean = (margins * counted).sum(axis=0) / np.maximum(counted.sum(axis=0), 1)
        weights = borderline(mean)
        wanted = share * weights * evidence.nearness[:, None]
        models, places = np.nonzero(counted & (random.random_sample(counted.shape) < wanted))
        covariates = evidence.covariates(chunk)[models, places][:, use]
        here = at_d[part][places]
        x = np.concatenate([covariates, covariates - here], axis=1)
        yield (
            x,
            np.concatenate([here, np.zeros_like(here)], axis=1),
            (margins - anchor[part])[models, places],
            evidence.by_init_seed(margins)[models, places],
            weights,
        )


N_QUANTILES = 16
MIN_WIDTH = 0.25  # of the kernel over models: one on which all agree is still no step
# Gauss-Hermite nodes and weights for a standard normal, three points
NODES, NODE_WEIGHTS = np.sqrt(3.0) * np.array([-1.0, 0.0, 1.0]), np.array([1, 4, 1]) / 6


@dataclass(frozen=True)
class MarginLaw:
    """How the margins of the given columns scatter over models of D.

    Attributes:
        quantiles: [q, columns].
        width: [columns] of a normal kernel around each.
    """

    quantiles: Array
    width: Array

    def probability(self, fall: Array, variance: Array | float = 0.0) -> Array:
        """Probability of being right once the margins have fallen by N(fall, variance), [columns]."""
        return ndtr((self.quantiles - fall) / np.sqrt(self.width**2 + variance)).mean(axis=0)

    def effect(self, fall: Array, variance: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the probability lost, where the fall is N(fall, variance), [columns] each.

        The mean is less what a fall of N(0, variance) loses: an uncertain fall of zero is no effect. It stays within what can
        be lost, P(0), and gained, 1 - P(0).
        """
        deviation = np.sqrt(variance)
        at_nodes = np.stack([self.probability(fall + node * deviation) for node in NODES])
        mean = NODE_WEIGHTS @ at_nodes
        spread = np.sqrt(NODE_WEIGHTS @ (at_nodes - mean) ** 2)
        nothing = NODE_WEIGHTS @ np.stack([self.probability(node * deviation) for node in NODES])
        before = self.probability(np.zeros(len(fall)))
        return np.clip(nothing - mean, before - 1, before), spread


def margin_law(margins: Array) -> MarginLaw:
    """The law of margins [R, columns] of R models of D."""
    n_models = len(margins)
    levels = (np.arange(min(N_QUANTILES, n_models)) + 0.5) / min(N_QUANTILES, n_models)
    return MarginLaw(np.quantile(margins, levels, axis=0), kernel_width(margins))


def kernel_width(margins: Array) -> Array:
    """Width of a normal kernel around each margin [R, columns] of R models by Silverman's rule, [columns]."""
    return np.maximum(0.9 * margins.std(axis=0) * len(margins) ** -0.2, MIN_WIDTH)


def level_probability(level: Array, variance: Array, noise: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the probability of being right at an uncertain level of the margin, [columns] each.

    Args:
        level, variance: Of the expected margin.
        noise: Variance of a model's margin around it.
    """
    nodes = level + NODES[:, None] * np.sqrt(variance)
    width = np.sqrt(np.maximum(noise, MIN_WIDTH**2))
    at_nodes = ndtr(nodes / width)
    mean = NODE_WEIGHTS @ at_nodes
    return mean, np.sqrt(NODE_WEIGHTS @ (at_nodes - mean) ** 2)


MIN_NOISE, MAX_NOISE = 1.0, 1e4  # of a model, against the variance of the process
MAX_SIMILAR = 8192  # models kept; the Gram matrix has their square
BLOCK = 512


@dataclass(frozen=True)
class Similarity:
    """The fitted process.

    Attributes:
        left_out: [T, n] float32.
        inverse: [T, T] of their covariance plus noise.
        residuals: [T, columns] float16.
    """

    left_out: Array
    inverse: Array
    residuals: Array

    def correct(self, left_out: Array) -> tuple[Array, Array]:
        """Correction of the margins [subsets, columns], and how much of the prior variance is left, [subsets]."""
        covariance = _similarity(left_out.astype(np.float32), self.left_out)
        weights = covariance @ self.inverse
        correction = np.zeros((len(left_out), self.residuals.shape[1]), np.float32)
        for start in range(0, len(self.left_out), BLOCK):
            rows = slice(start, start + BLOCK)
            correction += weights[:, rows].astype(np.float32) @ self.residuals[rows].astype(np.float32)
        return correction, np.clip(1 - (weights * covariance).sum(axis=1), 0, 1)


def fit_similarity(
    evidence: Evidence, response: Response, *, protocol: ProtocolName, rows: Array | None = None
) -> Similarity:
    """Keep the residuals of the subset models, and the inverse that weighs them. Residuals not counted are zero."""
    subsets = np.flatnonzero(~evidence.of_d & (True if rows is None else rows))[-MAX_SIMILAR:]
    residuals = scratch_array((len(subsets), len(response.columns)), np.float16)
    for part, chunk in parts(response.columns):
        margins, counted = evidence.counted(chunk, protocol, rows)
        fitted = response.fitted(evidence.covariates(chunk), evidence.masks, part, evidence.by_init_seed(margins))
        residuals[:, part] = np.clip(((margins - fitted) * counted)[subsets], -6e4, 6e4)
    left_out = (~evidence.masks[subsets]).astype(np.float32)
    gram = _similarity(left_out, left_out)
    noise = _noise_of_similar(gram, residuals)
    return Similarity(left_out, np.linalg.inv(gram + noise * np.eye(len(gram))), residuals)


def _noise_of_similar(gram: Array, residuals: Array) -> float:
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

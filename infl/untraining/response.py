"""Turns models of many subsets into the expected margin of every example as a function of which examples are left out.

For example j and left-out set O, in one reading of j (held-out, trained, or left-out: itself in O),

    E[margin_j | O] = a_j + g(z_j(O)) - g(z_j(0)) + u_j + v_j (s_j(O) - s_j(0)) + w_j (g(z_j(O)) - g(z_j(0)))
                      + c_j e(O) + sum_k b_jk [k in O] + h_j(O)

- a: the mean margin of models of D, where j is held out or trained on: what is modelled is the fall from there. Where j is
  left out no model of D has its margin, and g(z_j(0)) stands in its place;
- z: covariates of the support that is left (`infl.untraining.support`), s the closed-form refit's margin among them. g is one
  function for all examples, ridge regression on 256 random ReLU features (Rahimi & Recht 2008) of z and its change from D:
  what examples have in common, pooled over millions of pairs;
- u, v, w, c, b: example j's own level and slopes (e: steps in an epoch), and terms for the six nearest training examples of
  its class and of others. Normal priors around zero whose variances are fitted to all examples together by EM (empirical
  Bayes), residual variance of each example its own, drawn towards the median of all;
- h: what the residuals of models with almost the same O say: a Gaussian process over left-out sets whose covariance is the
  fourth power of the cosine between them, its variance what the residuals of such models have in common.

Examples at the border of being right count most in g and in the priors: for those a small change of margin is an effect.
Models of subsets near D count more than those far from it: forget sets are small. All columns are read in chunks: memory
does not grow with n + m but for the coefficients, and for one residual per model and example (on disk where they are many).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from infl.records import Array, OutcomeKind, OutcomeSource, Reading
from infl.scores.contrasts import columns_counted
from infl.untraining.support import STEPS, SURROGATES, Support

N_FEATURES = 256
N_PAIRS = 200_000  # sampled for the pooled function, roughly
MEAN_BORDERLINE = 0.35  # weight of an average example in that sample, roughly
N_NEIGHBOURS = 6
NEAR = 0.03  # share of D left out at which a model weighs half as much as one of D
EM_STEPS = 8
LEAST_MODELS = 10  # of its own that an example's residual variance weighs against the median of all
LEAST_NOISE, MOST_NOISE = 1.0, 1e4  # of a model, against the variance of h
RIDGE = 1e-2  # of the pooled function, per pair
MOST_SIMILAR = 8192  # models kept for h; its Gram matrix has their square
CHUNK = 512
MOST_IN_MEMORY = 1 << 28  # entries


@dataclass(frozen=True)
class Evidence:
    """Models with their covariates, to be read by columns.

    masks: [T, n]; margins, correct: columns -> [T, columns] float32; surrogate: [T, n+m, ridges] margins of the closed-form
        refits.
    partners: [T] row of a model of D that had the same start, -1 where there is none.
    """

    support: Support
    masks: Array
    margins: Callable[[Array], Array]
    correct: Callable[[Array], Array]
    surrogate: Array
    partners: Array
    kept: dict[bytes, Array] = field(default_factory=dict)

    @property
    def n_columns(self) -> int:
        """n + m."""
        return self.surrogate.shape[1]

    def of_starts(self, outcomes: Array) -> Array:
        """What the start of each model does on D beyond the mean of all, from outcomes [T, columns]; 0 where not known."""
        deviations = outcomes[self.partners] - outcomes[self.masks.all(axis=1)].mean(axis=0)
        return np.where(self.partners[:, None] >= 0, deviations, np.float32(0))

    def covariates(self, columns: Array) -> Array:
        """[T, columns, z]; kept for the next call while memory for it lasts."""
        key = columns.tobytes()
        if key not in self.kept:
            made = self.support.covariates(self.masks, self.surrogate[:, columns], columns)
            if sum(array.size for array in self.kept.values()) + made.size > MOST_IN_MEMORY:
                return made
            self.kept[key] = made
        return self.kept[key]


def gather_evidence(support: Support, sources: list[OutcomeSource], n_columns: int) -> Evidence:
    """Bring the masks of several collections of models together, and refit the surrogate without what each left out."""
    masks = np.concatenate([block.masks for source in sources for block in source.blocks(np.array([0]))])
    surrogate = scratch_array((len(masks), n_columns, len(support.surrogates)), np.float32)
    for start in range(0, len(masks), 64):
        surrogate[start : start + 64] = support.surrogate_margins(masks[start : start + 64])

    def read(kind: OutcomeKind) -> Callable[[Array], Array]:
        return lambda columns: np.concatenate([b.of(kind) for source in sources for b in source.blocks(columns)])

    starts = np.concatenate(
        [
            np.full(len(block.masks), -1) if block.starts is None else block.starts
            for source in sources
            for block in source.blocks(np.array([0]))
        ]
    )
    return Evidence(support, masks, read("margin"), read("correct"), surrogate, _partners(masks, starts))


def _partners(masks: Array, starts: Array) -> Array:
    of_d = np.flatnonzero(masks.all(axis=1) & (starts >= 0))
    row_of = dict(zip(starts[of_d].tolist(), of_d.tolist(), strict=True))
    partners = np.array([row_of.get(start, -1) for start in starts.tolist()], int)
    partners[of_d] = -1
    return partners


@dataclass(frozen=True)
class Response:
    """The fitted function for the given columns in one reading.

    anchor: [columns] a_j, or zero. coefficients: [columns, k], their posterior covariance [columns, k, k]; noise: [columns]
    residual variance. at_d: covariates on D, [columns, z].
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
        expected = pooled + np.einsum("tjk,jk->tj", terms, self.coefficients, optimize=True)
        by_column = np.matmul(terms.transpose(1, 0, 2), self.covariance)  # [columns, subsets, k]
        return expected, np.einsum("jtk,tjk->tj", by_column, terms)

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
        self, covariates: Array, masks: Array, which: slice, of_starts: Array | None = None
    ) -> tuple[Array, Array]:
        """Pooled prediction [subsets, columns] and the terms of each example's own coefficients, [subsets, columns, k].

        of_starts: what the starts do on D, [subsets, columns]; nothing where None.
        """
        at_d = self.at_d[which]
        pooled, change = self.pooled(covariates[..., self.use], at_d[:, self.use])
        terms = [np.ones_like(pooled)]
        if self.own_terms:
            terms += [covariates[..., one] - at_d[:, one] for one in SURROGATES if one in self.use]
            terms.append(change)
            terms.append(covariates[..., STEPS])
            terms += list((~masks[:, self.neighbours[which]]).astype(np.float32).transpose(2, 0, 1))
        of_starts = np.zeros_like(pooled) if of_starts is None else of_starts
        terms += [of_starts, of_starts * (~masks).mean(axis=1, dtype=np.float32)[:, None]]
        return pooled, np.stack(terms, axis=-1)


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
    reading: Reading,
    use: list[int],
    rows: Array | None = None,
    own_terms: bool = True,
    seed: int = 0,
) -> Response:
    """Fit the response of the given columns in one reading.

    use: positions of the covariates to rest on; rows: [T] bool, the models to fit on, all where None.
    own_terms: whether examples have slopes and neighbours of their own, or a level alone.
    """
    support, positions, anchored = evidence.support, np.array(use, int), reading != "left-out"
    all_members = np.ones((1, support.n_train), bool)
    surrogate_at_d = support.surrogate_margins(all_members)
    at_d = np.concatenate(
        [support.covariates(all_members, surrogate_at_d[:, chunk], chunk)[0] for chunk in _chunks(columns)]
    )
    neighbours = np.concatenate([support.neighbours(chunk, N_NEIGHBOURS) for chunk in _chunks(columns)])
    of_d = evidence.masks.all(axis=1)
    anchor = np.zeros(len(columns), np.float32)
    if anchored:
        anchor = np.concatenate([evidence.margins(chunk)[of_d].mean(axis=0) for chunk in _chunks(columns)])

    sampled = list(_sample_pairs(evidence, columns, at_d[:, positions], anchor, positions, reading, rows, seed))
    x, on_d, y, of_start, borderline = (np.concatenate([part[k] for part in sampled]) for k in range(5))
    y = y - of_start * float(of_start @ y) / max(float(of_start @ of_start), 1e-12)
    pooled = fit_pooled(x, on_d, y, anchored=anchored, seed=seed)
    nothing = np.zeros((len(columns), 0))
    bare = Response(columns, pooled, neighbours, anchor, nothing, nothing, nothing, at_d, positions, own_terms)

    nearness, sums = _nearness(evidence.masks), []
    for start, chunk in zip(range(0, len(columns), CHUNK), _chunks(columns), strict=True):
        part = slice(start, start + len(chunk))
        margins, counted = _counted(evidence, chunk, reading, rows)
        counted = counted * nearness[:, None]
        fitted, terms = bare.terms(evidence.covariates(chunk), evidence.masks, part, evidence.of_starts(margins))
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
    coefficients, covariance, noise = _shrink(gram, moment, squares, n_models, borderline)
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
        noise = np.maximum((np.maximum(left, 0) + LEAST_MODELS * median) / (free + LEAST_MODELS), 1e-6)
    return coefficients, covariance, noise


def _sample_pairs(
    evidence: Evidence,
    columns: Array,
    at_d: Array,
    anchor: Array,
    use: Array,
    reading: Reading,
    rows: Array | None,
    seed: int,
) -> Iterator[tuple[Array, Array, Array, Array, Array]]:
    """Per chunk: inputs, inputs on D, margins and what starts do of random (model, example) pairs; weights of examples."""
    random = np.random.RandomState(seed)
    nearness = _nearness(evidence.masks)
    n_counted = len(columns) * len(evidence.masks)
    n_counted *= float((~evidence.masks).mean()) if reading == "left-out" else 1.0
    share = N_PAIRS / max(n_counted * MEAN_BORDERLINE, 1)
    for start, chunk in zip(range(0, len(columns), CHUNK), _chunks(columns), strict=True):
        part = slice(start, start + len(chunk))
        margins, counted = _counted(evidence, chunk, reading, rows)
        mean = (margins * counted).sum(axis=0) / np.maximum(counted.sum(axis=0), 1)
        borderline = 0.1 + np.exp(-((mean / 2) ** 2) / 2)
        wanted = share * borderline * nearness[:, None]
        models, places = np.nonzero(counted & (random.random_sample(counted.shape) < wanted))
        covariates = evidence.covariates(chunk)[models, places][:, use]
        here = at_d[part][places]
        x = np.concatenate([covariates, covariates - here], axis=1)
        yield (
            x,
            np.concatenate([here, np.zeros_like(here)], axis=1),
            (margins - anchor[part])[models, places],
            evidence.of_starts(margins)[models, places],
            borderline,
        )


def _nearness(masks: Array) -> Array:
    """Weights of the models, one on average: those near D say more of what forget sets do than those far from it."""
    weights = 1 / ((~masks).mean(axis=1) + NEAR) if NEAR else np.ones(len(masks))
    return (weights / weights.mean()).astype(np.float32)


def _counted(evidence: Evidence, columns: Array, reading: Reading, rows: Array | None) -> tuple[Array, Array]:
    """Margins, and which models say something of which column in this reading, [T, columns] each."""
    margins = evidence.margins(columns)
    counted = columns_counted(evidence.masks, reading, columns)
    counted = np.ones(margins.shape, bool) if counted is None else counted
    return margins, counted if rows is None else counted & rows[:, None]


def scratch_array(shape: tuple[int, ...], dtype: type) -> Array:
    """An array in memory, or in a nameless file where it would be large."""
    if np.prod(shape) <= MOST_IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def _chunks(columns: Array) -> list[Array]:
    return [columns[start : start + CHUNK] for start in range(0, len(columns), CHUNK)]


@dataclass(frozen=True)
class Similarity:
    """The Gaussian process over left-out sets: residuals of models that left out much the same.

    left_out: [T, n] float32; inverse: [T, T] of their covariance plus noise; residuals: [T, columns] float16.
    """

    left_out: Array
    inverse: Array
    residuals: Array

    def correct(self, left_out: Array) -> tuple[Array, Array]:
        """Correction of the margins [subsets, columns], and how much of the prior variance is left, [subsets]."""
        covariance = _similarity(left_out.astype(np.float32), self.left_out)
        weights = covariance @ self.inverse
        correction = np.zeros((len(left_out), self.residuals.shape[1]), np.float32)
        for start in range(0, len(self.left_out), 512):
            rows = slice(start, start + 512)
            correction += weights[:, rows].astype(np.float32) @ self.residuals[rows].astype(np.float32)
        return correction, np.clip(1 - (weights * covariance).sum(axis=1), 0, 1)


def fit_similarity(
    evidence: Evidence, response: Response, *, reading: Reading, rows: Array | None = None
) -> Similarity:
    """Keep the residuals of the subset models, and the inverse that weighs them. Residuals not counted are zero."""
    subsets = np.flatnonzero(~evidence.masks.all(axis=1) & (True if rows is None else rows))[-MOST_SIMILAR:]
    residuals = scratch_array((len(subsets), len(response.columns)), np.float16)
    for start, chunk in zip(range(0, len(response.columns), CHUNK), _chunks(response.columns), strict=True):
        part = slice(start, start + len(chunk))
        margins, counted = _counted(evidence, chunk, reading, rows)
        fitted, terms = response.terms(evidence.covariates(chunk), evidence.masks, part, evidence.of_starts(margins))
        fitted = (
            fitted + response.anchor[part] + np.einsum("tjk,jk->tj", terms, response.coefficients[part], optimize=True)
        )
        residuals[:, part] = np.clip(((margins - fitted) * counted)[subsets], -6e4, 6e4)
    left_out = (~evidence.masks[subsets]).astype(np.float32)
    gram = _similarity(left_out, left_out)
    noise = _noise_of_similar(gram, residuals)
    return Similarity(left_out, np.linalg.inv(gram + noise * np.eye(len(gram))), residuals)


def _noise_of_similar(gram: Array, residuals: Array) -> float:
    """Variance of noise over that of h: residuals of two models have in common what h says of both."""
    products = np.zeros(gram.shape, np.float32)
    for start in range(0, residuals.shape[1], CHUNK):
        part = residuals[:, start : start + CHUNK].astype(np.float32)
        products += part @ part.T
    others = gram - np.diag(np.diag(gram))
    common, whole = float((others * products).sum() / max((others**2).sum(), 1e-12)), float(np.diag(products).mean())
    return float(np.clip(whole / max(common, 1e-12) - 1, LEAST_NOISE, MOST_NOISE))


def _similarity(one: Array, other: Array) -> Array:
    common = (one @ other.T).astype(np.float64)
    sizes = np.maximum(one.sum(axis=1), 1)[:, None] * np.maximum(other.sum(axis=1), 1)[None, :]
    return (common**2 / sizes) ** 2

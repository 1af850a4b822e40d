"""Turns models held out of a fit into the errors of what the fit predicts: model noise apart from misfit.

A quarter of the models at a time is held out, with all models that left out much the same (a cosine above 1/2 between left-out
sets, in steps up to 0.99 where more than a tenth would hang together), and predicted from the rest as if what each left out
were a forget set. One model is a noisy observation of its own expectation, and models of D tell how noisy: what the squared
errors hold beyond that, and beyond the posterior variance of the fit, is misfit. It is described by what it grows with:

    Var[drop_j]   = posterior + a |S|/n + b drop_j^2          a, b by non-negative least squares, one pair for each protocol
    Var[|S| cross(S)] = sum of independent parts + c (sum_k |D_k|)^1.5
    Var[self(S)]  = sum of independent parts + e

The fraction of a sum of effects that is mispredicted falls slowly with its size: between independent errors (power 1) and
one that all have in common (2). The noise of one model hides most of c: sums over all examples scatter several times as widely
from model to model as they are mispredicted. What noise cannot do is to err alike in models that left out much the same, so
c is the maximum of the posterior of

    total_t - predicted_t ~ Normal(0, diag(v0 + v1 |O_t| + v2 gross_t) + c cos^2(O_t, O_u) (gross_t gross_u)^0.75)

where totals are compared with the model of D with the same init seed, and log c has a normal prior around what the errors of
verified forget sets were in three development worlds (`experiments/regimes`), which are not reported. Models leave out several
times as much as most forget sets: with the power 1.5 both give much the same c on digits, with 1 models give five times that of
sets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular
from scipy.optimize import minimize, nnls
from scipy.sparse.csgraph import connected_components
from threadpoolctl import threadpool_limits

from infl.records import Array, ProtocolName
from infl.scores.sufficient_statistics import columns_counted
from infl.untraining.distribution import MarginDistribution
from infl.untraining.response import fit_response
from infl.untraining.support import Evidence, borderline

N_FOLDS = 4
MAX_ALIKE = (
    0.1  # fraction of the models that may hang together; with more, all that is known of a class may be held out
)
MAX_SQUARE = 100.0  # of a drop: beyond, a margin is as low as it gets
MAX_COLUMNS = 400  # of D, and of H, that the errors are judged on
MAX_TOTALS = 512  # models nearest D on which sums are judged
GROSS_POWER = 1.5
CROSS_PER_EFFECT, ITS_DEVIATION = 0.08, 0.3  # prior of c: its median, standard deviation of its logarithm


@dataclass(frozen=True)
class Misfit:
    """Variance of the drop of a margin beyond the posterior's: per fraction of D left out, and per squared drop."""

    per_fraction: float
    per_square: float

    def variance(self, fraction: Array | float, drop: Array) -> Array:
        """[columns], or what fractions and drops broadcast to."""
        return self.per_fraction * fraction + self.per_square * drop**2


@dataclass(frozen=True)
class ErrorModel:
    """Misfit by protocol, and of the sums cross and self beyond their independent parts.

    Attributes:
        squared: Error of the margins of models held out, noise of one model and all: mean square, examples at the border of
            being right counting most. By it covariates are chosen.
    """

    held_out: Misfit
    trained: Misfit
    cross_per_effect: float
    self_common: float
    squared: float

    def shared(self, gross: float) -> float:
        """Variance of |S| cross(S) beyond the independent parts, where the effects on others sum to `gross` in size."""
        return self.cross_per_effect * gross**GROSS_POWER


NO_MISFIT = ErrorModel(Misfit(0.0, 0.0), Misfit(0.0, 0.0), 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class HeldOut:
    """Predictions for models held out of the fit, over some columns of D and some of H, [models, columns] each.

    Attributes:
        drop: From D, of columns held out or trained on.
        level: Of columns of D that are left out.
        variance: Of either.
        noise: Residual variance around the level.
    """

    drop: Array
    level: Array
    variance: Array
    noise: Array


def fit_errors(
    evidence: Evidence,
    distribution: MarginDistribution,
    correct: Array,
    margins: Array,
    *,
    use: Sequence[int],
    advance: Callable[[], object] = lambda: None,
) -> ErrorModel:
    """Hold out models, predict them, and describe the errors.

    Args:
        distribution: Of the margins of all columns.
        correct: [R, n+m] of models of D.
        margins: Likewise.
        use: Positions of the covariates that the response rests on.
        advance: Called after each of `N_FOLDS` folds.
    """
    n_train = evidence.support.n_train
    random = np.random.RandomState(0)
    columns_d = np.sort(random.permutation(n_train)[:MAX_COLUMNS])
    columns_h = n_train + np.sort(random.permutation(len(evidence.at_d) - n_train)[:MAX_COLUMNS])
    columns = np.concatenate([columns_d, columns_h])
    subsets = np.flatnonzero(evidence.rows)
    if len(subsets) < 4 * N_FOLDS:
        return NO_MISFIT
    masks = evidence.masks[subsets]
    held = _predict_held_out(evidence, columns_d, columns_h, use, advance)

    trained = np.zeros(held.drop.shape, bool)
    trained[:, : len(columns_d)] = masks[:, columns_d]
    held_out = np.broadcast_to(columns >= n_train, trained.shape)
    noise, level = margins[:, columns].var(axis=0, ddof=1), margins[:, columns].mean(axis=0)
    dropped = level - evidence.margins(columns)[subsets]
    squares = np.where(trained | held_out, dropped - held.drop, level - dropped - held.level) ** 2
    squared = float(np.average(squares, weights=np.outer(evidence.nearness[subsets], borderline(level))))
    excess = (dropped - held.drop) ** 2 - noise * (1 + 1 / len(margins)) - held.variance
    fraction = np.broadcast_to((~masks).mean(axis=1)[:, None], excess.shape)
    weights = np.broadcast_to(borderline(level), excess.shape)
    expected = noise + held.variance
    expected = np.maximum(
        expected, 1e-3 * np.median(expected)
    )  # models of D may all agree on every token of a document
    misfit_h, misfit_d = (
        _fit_misfit(excess, fraction, held.drop, weights, expected, counted) for counted in (held_out, trained)
    )
    misfit = np.where(trained, misfit_d.variance(fraction, held.drop), misfit_h.variance(fraction, held.drop))

    distribution, correct = distribution[columns], correct[:, columns].mean(axis=0)
    outcomes = evidence.correct(columns)
    lost, same_seed = correct - outcomes[subsets], evidence.by_init_seed(outcomes)[subsets]
    scale = np.concatenate(
        [np.full(len(part), n / max(len(part), 1)) for part, n in ((columns_d, n_train), (columns_h, n_train))]
    )
    totals, gross, own = np.zeros(len(subsets)), np.zeros(len(subsets)), []
    for t in range(len(subsets)):
        left_out, variance = ~(trained[t] | held_out[t]), held.variance[t] + misfit[t]
        effect, _ = distribution.effect(held.drop[t], variance)
        weight = np.where(left_out, 0.0, scale)
        totals[t], gross[t] = (lost[t] + same_seed[t] - effect) @ weight, np.abs(effect) @ weight
        if left_out.sum() >= 5:
            noise = held.noise[t, left_out]
            right, deviation = distribution.at_level(held.level[t, left_out], variance[left_out], noise)
            error = lost[t, left_out].mean() - (correct[left_out] - right).mean()
            scatter = distribution.outcome_variance(right, noise) + deviation**2
            own.append(error**2 - scatter.sum() / left_out.sum() ** 2)
    paired = evidence.partners[subsets] >= 0
    nearest = np.flatnonzero(paired if paired.any() else ~paired)
    nearest = nearest[np.argsort((~masks[nearest]).sum(axis=1), kind="stable")[:MAX_TOTALS]]
    common = max(float(np.mean(own)), 0.0) if own else 0.0
    cross = fit_cross_error(totals[nearest], ~masks[nearest], gross[nearest])
    return ErrorModel(misfit_h, misfit_d, cross, common, squared)


def fit_cross_error(errors: Array, left_out: Array, gross: Array) -> float:
    """c of the module's text, from the errors of the totals of models."""
    members = left_out.astype(np.float64)
    sizes = members.sum(axis=1)
    alike = (members @ members.T) ** 2 / np.outer(sizes, sizes) * np.outer(gross, gross) ** (GROSS_POWER / 2)
    scale = float(np.mean(errors**2)) + 1e-12
    units = scale / np.array([1.0, sizes.mean(), max(float(gross.mean()), 1e-12)])

    def loss(logarithms: Array) -> float:
        noise = np.exp(logarithms[:3]) * units
        covariance = np.diag(noise[0] + noise[1] * sizes + noise[2] * gross) + np.exp(logarithms[3]) * alike
        factor = np.linalg.cholesky(covariance + 1e-6 * scale * np.eye(len(errors)))
        half = solve_triangular(factor, errors, lower=True, check_finite=False)
        prior = (logarithms[3] - np.log(CROSS_PER_EFFECT)) / ITS_DEVIATION
        return float(2 * np.log(np.diag(factor)).sum() + half @ half + prior**2)

    start = np.array([-1.0, -1.0, -1.0, np.log(CROSS_PER_EFFECT)])
    with threadpool_limits(limits=1, user_api="blas"):
        best = minimize(loss, start, method="Nelder-Mead", bounds=[(-8, 3)] * 3 + [(-6, 4)], options={"xatol": 0.02})
    return float(np.exp(best.x[3]))


def fold_by_similarity(masks: Array, n_folds: int) -> Array:
    """[T] number of the fold of each model; models whose left-out sets are alike share one."""
    left_out = (~masks).astype(np.float32)
    norms = np.sqrt(np.maximum(left_out.sum(axis=1), 1))
    cosine = (left_out @ left_out.T) / norms[:, None] / norms[None, :]
    for minimum in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99):
        _, component = connected_components(cosine > minimum, directed=False)
        if np.bincount(component).max() <= max(MAX_ALIKE * len(masks), 1):
            break
    else:
        component = np.arange(len(masks))  # copies of one subset are too many themselves: every model by itself
    sizes = np.zeros(n_folds)
    members = np.bincount(component)
    order = np.random.RandomState(0).permutation(len(members))
    placed = np.empty(len(members), int)
    for one in order[np.argsort(-members[order], kind="stable")]:
        placed[one] = sizes.argmin()
        sizes[placed[one]] += members[one]
    return placed[component]


def _predict_held_out(
    evidence: Evidence, columns_d: Array, columns_h: Array, use: Sequence[int], advance: Callable[[], object]
) -> HeldOut:
    subsets = np.flatnonzero(evidence.rows)
    masks = evidence.masks[subsets]
    fold = fold_by_similarity(masks, N_FOLDS)
    held = HeldOut(*np.zeros((4, len(subsets), len(columns_d) + len(columns_h)), np.float32))
    part_d, part_h = slice(len(columns_d)), slice(len(columns_d), None)
    protocols: list[tuple[ProtocolName, Array, slice, Array]] = [
        ("trained", columns_d, part_d, held.drop),
        ("left-out", columns_d, part_d, held.level),
        ("held-out", columns_h, part_h, held.drop),
    ]
    for number in range(fold.max() + 1):
        out = np.flatnonzero(fold == number)
        rest, rows = evidence.without(subsets[out]), subsets[out]
        for protocol, columns, part, target in protocols:
            if not len(columns):
                continue
            response = fit_response(rest, columns, protocol=protocol, use=use)
            value, variance, _ = response.expect(masks[out], lambda chunk, rows=rows: evidence.covariates(chunk)[rows])
            counted = columns_counted(masks[out], protocol, columns)
            counted = True if counted is None else counted
            target[out, part] = np.where(counted, value if protocol == "left-out" else -value, target[out, part])
            held.variance[out, part] = np.where(counted, variance, held.variance[out, part])
            held.noise[out, part] = np.where(counted, response.noise, held.noise[out, part])
        advance()
    return held


def _fit_misfit(excess: Array, fraction: Array, drop: Array, weights: Array, noise: Array, counted: Array) -> Misfit:
    """Non-negative least squares of the excess on fraction and squared drop, over the pairs that count, per unit of noise."""
    if not counted.any():
        return Misfit(0.0, 0.0)
    root = np.sqrt(weights[counted].astype(np.float64)) / noise[counted]
    x = np.stack([fraction[counted], np.minimum(drop[counted].astype(np.float64) ** 2, MAX_SQUARE)], axis=1)
    x, y = x * root[:, None], excess[counted] * root
    scale = np.maximum(np.sqrt((x**2).mean(axis=0)), 1e-12)
    z = x / scale
    solution, _ = nnls(z.T @ z / len(z), z.T @ y / len(z))
    return Misfit(*(solution / scale).tolist())

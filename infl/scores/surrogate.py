"""Turns examples into a closed-form surrogate of retraining: what kernel ridge regression says after leaving examples out.

Ridge regression of the one-hot labels on D with the neural tangent kernel of a wide two-layer ReLU network (Jacot, Gabriel &
Hongler 2018; the arc-cosine kernels of Cho & Saul 2009),

    K(x, z) = <x, z> k0(a) + |x| |z| k1(a),   k0 = (pi - a)/pi,   k1 = (sin a + (pi - a) cos a)/pi,

a the angle between x and z, both with a constant 1 appended, and K scaled to mean one on the diagonal. Leaving out O turns
the inverse P = (K + ridge I)^-1 into that of the rest by a downdate,

    P' = P_II - P_IO P_OO^-1 P_OI        (Rasmussen & Williams 2006, appendix A.3; I the rest of D)

so that a refit costs |O|^2 n operations instead of n^3. For more than 4,096 examples the kernel is replaced by its Nystroem
features on 1,024 random examples (Williams & Seeger 2001), and the downdate happens among these.

The margin of an example is its label's score less the best other one. For an example of D that is not left out it is that
of a fit without it, by the leave-one-out formulas Y_i - alpha_i / P_ii and (F_i - h_i Y_i) / (1 - h_i): a fit is right on what
it was given, and what the rest of D says of the example is what changes when more is left out. Nothing here is a
prediction of a network's margin; it is a covariate for one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from infl.records import Array, Columns, InputError, flat_pixels

MAX_EXACT = 4096
N_LANDMARKS = 1024
RIDGE = 1e-2


@dataclass(frozen=True)
class Surrogate:
    """Kernel ridge regression on D, ready to leave examples out. Make one with `fit_surrogate`.

    Attributes:
        kernel: [n+m, n] against all of D, or features [n+m, q] where `exact` is False.
        solver: Inverse of the regularized [n, n] kernel, or the regularized [q, q] Gram matrix of the features.
        weights: [n, c] dual; or the moments [q, c] of features and targets.
    """

    kernel: Array
    solver: Array
    weights: Array
    targets: Array
    labels: Array
    exact: bool
    ridge: float

    @property
    def n_train(self) -> int:
        """Number of examples of D."""
        return len(self.targets)

    def with_ridge(self, ridge: float) -> Surrogate:
        """The same with another ridge; the kernel is shared."""
        if self.exact:
            return _solve_exact(self.kernel, self.targets, self.labels, ridge)
        return replace(self, solver=self.solver + (ridge - self.ridge) * np.eye(len(self.solver)), ridge=ridge)

    def margins(self, left_out: Array) -> Array:
        """Margins [n+m] float32 of a refit without the ids `left_out`; of those kept, without the example itself."""
        scores = self._refit_exact(left_out) if self.exact else self._refit_features(left_out)
        return _own_less_best_other(scores, self.labels)

    def _refit_exact(self, left_out: Array) -> Array:
        kept = _others(left_out, self.n_train)
        diagonal, weights = np.diag(self.solver)[kept], self.weights[kept]
        if len(left_out):
            factor = np.linalg.cholesky(self.solver[np.ix_(left_out, left_out)])
            cross = solve_triangular(factor, self.solver[np.ix_(left_out, kept)], lower=True, check_finite=False)
            own = solve_triangular(factor, self.weights[left_out], lower=True, check_finite=False)
            weights = weights - cross.T @ own
            diagonal = diagonal - np.einsum("ij,ij->j", cross, cross)
        padded = np.zeros((self.n_train, weights.shape[1]), np.float32)
        padded[kept] = weights
        scores = (self.kernel @ padded).astype(np.float64)
        scores[kept] = self.targets[kept] - weights / diagonal[:, None]
        return scores

    def _refit_features(self, left_out: Array) -> Array:
        kept = _others(left_out, self.n_train)
        features, gone = self.kernel, self.kernel[left_out]
        gram = self.solver - gone.T @ gone
        moment = self.weights - gone.T @ self.targets[left_out]
        factor = cho_factor(gram, lower=True, check_finite=False)
        scores = (features @ cho_solve(factor, moment).astype(np.float32)).astype(np.float64)
        half = solve_triangular(factor[0].astype(np.float32), features[kept].T, lower=True, check_finite=False)
        leverage = np.einsum("ij,ij->j", half, half).astype(np.float64)[:, None]
        scores[kept] = (scores[kept] - leverage * self.targets[kept]) / np.maximum(1 - leverage, 1e-6)
        return scores


def fit_surrogate(
    x: Array,
    labels: Array,
    *,
    n_train: int,
    n_classes: int,
    ridge: float = RIDGE,
    max_exact: int = MAX_EXACT,
    n_landmarks: int = N_LANDMARKS,
) -> Surrogate:
    """Fit kernel ridge regression to D, the first `n_train` rows.

    Args:
        x: [n+m, ...] pixels or features.
        labels: [n+m] 0..n_classes-1.
        ridge: Added to the diagonal of a kernel whose diagonal is one on average.
        max_exact: More training examples than this are replaced by features on `n_landmarks` random ones.

    Examples:
        >>> import infl, numpy as np
        >>> data = infl.load("digits")
        >>> surrogate = fit_surrogate(data.images, data.labels, n_train=1000, n_classes=10)
        >>> fours = np.flatnonzero(data.y_train == 4)
        >>> held_out_fours = 1000 + np.flatnonzero(data.y_held_out == 4)
        >>> with_, without = surrogate.margins(np.array([], int)), surrogate.margins(fours)
        >>> bool(with_[held_out_fours].mean() > 0.5), bool(without[held_out_fours].mean() < -0.5)
        (True, True)
    """
    if not ridge > 0:
        raise InputError(f"ridge: expected a number above 0, got {ridge}")
    flat = _with_constant(x)
    targets = np.eye(n_classes)[labels[:n_train]] - 1 / n_classes
    scale = float(np.mean(2 * (flat[:n_train] ** 2).sum(axis=1)))  # K(x, x) = 2 |x|^2
    if n_train <= max_exact:
        kernel = tangent_kernel(flat, flat[:n_train]) / scale
        return _solve_exact(kernel, targets, np.asarray(labels), ridge)
    landmarks = np.random.RandomState(0).permutation(n_train)[:n_landmarks]
    among = tangent_kernel(flat[landmarks], flat[landmarks]).astype(np.float64) / scale
    factor = np.linalg.cholesky(among + 1e-4 * np.eye(len(landmarks)))
    features = np.empty((len(flat), len(landmarks)), np.float32)
    for start in range(0, len(flat), 4096):
        rows = slice(start, start + 4096)
        part = tangent_kernel(flat[rows], flat[landmarks]) / scale
        features[rows] = solve_triangular(factor, part.T, lower=True, check_finite=False).T
    inside = features[:n_train]
    gram = (inside.T @ inside).astype(np.float64) + ridge * np.eye(len(landmarks))
    moments = inside.T.astype(np.float64) @ targets
    return Surrogate(features, gram, moments, targets, np.asarray(labels), exact=False, ridge=ridge)


def leave_one_out_influence(
    surrogate: Surrogate, *, fraction: float, columns: Columns = slice(None), n_subsets: int = 16, seed: int = 0
) -> Array:
    """Surrogate influence, of each example of D on the surrogate's margin on each column, [n, columns] float32; takes no model.

        s(i, j) = mean over random S of fraction x n examples, i among them, of  margin_j(S - j) - margin_j(S - j - i)

    the closed-form counterpart of cross-influence on the margin, read held-out for j in H and left-out for j in D. With
    A the hat matrix of a fit on S (A_jk: what a unit of the target of k in S adds to the score of j) and R = Y - A Y on S,

        score_j(S) - score_j(S - i)  =  A_ji R_i / (1 - A_ii)                                                for j outside S
        Y_j - score_j(S - j)         =  R_j / (1 - A_jj)                                                     for j in S
        Y_j - score_j(S - j - i)     =  (A_ji R_i + (1 - A_ii) R_j) / ((1 - A_ii) (1 - A_jj) - A_ji^2)       for i, j in S

    exact for one and two rows left out (Cook & Weisberg 1982, section 2.2 and appendix A.2). A subset costs one solve and
    some n x columns x classes operations.

    Returns margins, without unit. NaN where j is i, and in the row of an example that no subset holds.

    Args:
        fraction: Of D that a subset holds, in (0, 1]: that of the models to be compared with.
        columns: Of the n+m; take some at a time where the matrix is larger than memory. Others do not change by it.
        n_subsets: Drawn with `seed`; half their number is enough to tell which pairs matter.

    Examples:
        >>> import infl
        >>> data = infl.load("digits", n_train=200, n_held_out=50)
        >>> surrogate = fit_surrogate(data.images, data.labels, n_train=200, n_classes=10)
        >>> influence = leave_one_out_influence(surrogate, fraction=0.7, columns=slice(200, 250))
        >>> same_class = data.y_train[:, None] == data.y_held_out
        >>> bool(influence[same_class].mean() > 0.01 > 0 > influence[~same_class].mean())
        True
    """
    n = surrogate.n_train
    if not 0 < fraction <= 1 or round(fraction * n) < 1:
        raise InputError(f"fraction: expected a fraction of the {n} examples in (0, 1] that leaves one, got {fraction}")
    if n_subsets < 1:
        raise InputError(f"subsets: expected at least one, got {n_subsets}")
    numbers = np.arange(len(surrogate.labels))[columns]
    total, count = np.zeros((n, len(numbers)), np.float32), np.zeros(n, np.float32)
    random = np.random.RandomState(seed)
    for _ in range(n_subsets):
        kept = np.sort(random.permutation(n)[: round(fraction * n)])
        total[kept] += _influence_within(surrogate, kept, numbers)
        count[kept] += 1
    total /= np.where(count > 0, count, np.nan)[:, None]
    own = np.flatnonzero(numbers < n)
    total[numbers[own], own] = np.nan
    return total


def _influence_within(surrogate: Surrogate, kept: Array, numbers: Array) -> Array:
    """Margins of a fit on `kept` less those of a fit on all of it but i, [kept, numbers]; of no meaning where j is i."""
    hat, residuals, slack = _hat_matrix(surrogate, kept, numbers)
    position = np.full(len(surrogate.labels), -1)
    position[kept] = np.arange(len(kept))
    inside = position[numbers] >= 0
    own_residuals, own_slack = np.zeros((len(numbers), residuals.shape[1])), np.ones(len(numbers))
    own_residuals[inside], own_slack[inside] = residuals[position[numbers[inside]]], slack[position[numbers[inside]]]
    own_residuals /= own_slack[:, None]
    scores = hat @ surrogate.targets[kept]
    scores[inside] = surrogate.targets[numbers[inside]] - own_residuals[inside]
    labels = surrogate.labels[numbers]
    before = _own_less_best_other(scores, labels)
    influence = np.empty((len(kept), len(numbers)), np.float32)
    for k in range(len(kept)):
        a = hat[:, k]
        rest = slack[k] * own_slack - inside * a * a
        unit = a / np.where(position[numbers] == k, 1, rest)
        change = unit[:, None] * (residuals[k] + a[:, None] * own_residuals)
        influence[k] = before - _own_less_best_other(scores - change, labels)
    return influence


def _hat_matrix(surrogate: Surrogate, kept: Array, numbers: Array) -> tuple[Array, Array, Array]:
    """Of a fit on `kept`: A [numbers, kept], the residuals Y - A Y [kept, c], and 1 - A_ii [kept]."""
    ridge, targets = surrogate.ridge, surrogate.targets[kept]
    if surrogate.exact:
        among = surrogate.kernel[np.ix_(kept, kept)].astype(np.float64)
        inverse = np.linalg.inv(among + ridge * np.eye(len(kept)))
        return surrogate.kernel[np.ix_(numbers, kept)] @ inverse, ridge * inverse @ targets, ridge * np.diag(inverse)
    inside = surrogate.kernel[kept].astype(np.float64)
    factor = cho_factor(inside.T @ inside + ridge * np.eye(inside.shape[1]), lower=True, check_finite=False)
    solved = cho_solve(factor, inside.T, check_finite=False)
    slack = 1 - np.einsum("ij,ji->i", inside, solved)
    return surrogate.kernel[numbers] @ solved, targets - inside @ (solved @ targets), slack


def _solve_exact(kernel: Array, targets: Array, labels: Array, ridge: float) -> Surrogate:
    n_train = len(targets)
    inverse = np.linalg.inv(kernel[:n_train].astype(np.float64) + ridge * np.eye(n_train))
    return Surrogate(kernel, (inverse + inverse.T) / 2, inverse @ targets, targets, labels, exact=True, ridge=ridge)


def tangent_kernel(x: Array, z: Array) -> Array:
    """K of the module's text between rows of x [a, d] and of z [b, d], unscaled, [a, b] float32."""
    x, z = x.astype(np.float32), z.astype(np.float32)
    norms = np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(z, axis=1)[None, :]
    inner = x @ z.T
    cosine = np.clip(inner / np.maximum(norms, 1e-12), -1, 1)
    rest = (np.pi - np.arccos(cosine)) / np.pi
    return inner * rest + norms * (np.sqrt(1 - cosine**2) / np.pi + rest * cosine)


def _with_constant(x: Array) -> Array:
    flat = flat_pixels(x)
    return np.concatenate([flat, np.ones((len(flat), 1), np.float32)], axis=1)


def _others(left_out: Array, n_train: int) -> Array:
    kept = np.ones(n_train, bool)
    kept[left_out] = False
    return np.flatnonzero(kept)


def _own_less_best_other(scores: Array, labels: Array) -> Array:
    rows = np.arange(len(scores))
    own = scores[rows, labels]
    others = scores.copy()
    others[rows, labels] = -np.inf
    return (own - others.max(axis=1)).astype(np.float32)

"""Turns models held out of a fit into the errors of what the fit predicts: model noise apart from misfit.

A quarter of the models at a time is held out, with all models that left out much the same (a cosine above 1/2 between left-out
sets, in steps up to 0.99 where more than a tenth would hang together), and predicted from the rest as if what each left out
were a forget set. One model is a noisy observation of its own expectation, and models of D tell how noisy: what the squared
errors hold beyond that, and beyond the posterior variance of the fit, is misfit. It is in proportion to the drop:

    Var[drop_j]            = posterior + b |drop_j|          b by least squares, one for each protocol
    Var[|S| cross(S)]      = sum of independent parts + c (sum_k |D_k|)^1.5        likewise |S| self(S), over members of S

In proportion to the squared drop and to |S|/n it was three times too small for drops of 1 to 4 in models near D, and 90%
intervals of effects predicted to be 0.1 and more covered 80 to 88% instead of 87 to 95%.

The fraction of a sum of effects that is mispredicted falls slowly with its size: between independent errors (power 1) and
one that all have in common (2). c is what the errors of verified forget sets were in three development worlds
(`experiments/regimes`), which are not reported: fitted to held-out models it came out the same, since the noise of one model
hides most of it. With the power 1 squared errors of cross are 1.9 times those claimed, with 2 a quarter less is determined.
For self c is half of that: 0.01 was the most likely in one development world and 0.08 in the other, 0.04 in both together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse.csgraph import connected_components

from infl.records import Array, ProtocolName
from infl.scores.sufficient_statistics import columns_counted
from infl.untraining.response import fit_response
from infl.untraining.support import Evidence

N_FOLDS = 4
MAX_ALIKE = (
    0.1  # fraction of the models that may hang together; with more, all that is known of a class may be held out
)
MAX_COLUMNS = 400  # of D, and of H, that the errors are judged on
SELF_PER_EFFECT, CROSS_PER_EFFECT, GROSS_POWER = 0.04, 0.08, 1.5  # c, and the power beside it


@dataclass(frozen=True)
class ErrorModel:
    """Misfit.

    Attributes:
        held_out: Variance of the drop of a margin per size of the drop, of held-out examples and of members of S.
        trained: Likewise, of retained examples.
        squared: Error of the margins of models held out, noise of one model and all, mean square. By it covariates are chosen.
    """

    held_out: float
    trained: float
    squared: float


def shared_variance(per_effect: float, gross: float) -> float:
    """Variance of a sum of effects beyond its independent parts, where they sum to `gross` in size; per_effect: c."""
    return per_effect * gross**GROSS_POWER


def fit_errors(
    evidence: Evidence, margins: Array, *, use: Sequence[int], advance: Callable[[], object] = lambda: None
) -> ErrorModel:
    """Hold out models, predict them, and describe the errors.

    Args:
        margins: [R, n+m] of models of D.
        use: Positions of the covariates that the response rests on.
        advance: Called after each of `N_FOLDS` folds.
    """
    n_train, subsets = evidence.support.n_train, np.flatnonzero(evidence.rows)
    random = np.random.RandomState(0)
    columns_d = np.sort(random.permutation(n_train)[:MAX_COLUMNS])
    columns_h = n_train + np.sort(random.permutation(len(evidence.at_d) - n_train)[:MAX_COLUMNS])
    if len(subsets) < 4 * N_FOLDS:
        return ErrorModel(0.0, 0.0, 0.0)
    fold, found, squares = fold_by_similarity(evidence.masks[subsets], N_FOLDS), [0.0, 0.0], [np.zeros(0)]
    parts: list[tuple[ProtocolName, Array]] = [("held-out", columns_h), ("trained", columns_d)]
    drops, variances = ([np.zeros((len(subsets), len(columns))) for _, columns in parts] for _ in range(2))
    for number in range(N_FOLDS):
        out = np.flatnonzero(fold == number)
        rest, rows = evidence.without(subsets[out]), subsets[out]
        for (protocol, columns), drop, variance in zip(parts, drops, variances, strict=True):
            if len(columns) and len(out):
                response = fit_response(rest, columns, protocol=protocol, use=use)
                expected = response.expect(
                    evidence.masks[rows], lambda chunk, rows=rows: evidence.covariates(chunk)[rows]
                )
                drop[out], variance[out] = -expected.value, expected.variance
        advance()
    for position, ((protocol, columns), drop, variance) in enumerate(zip(parts, drops, variances, strict=True)):
        counted = columns_counted(evidence.masks[subsets], protocol, columns)
        counted = np.ones(drop.shape, bool) if counted is None else counted
        square = (margins[:, columns].mean(axis=0) - evidence.margins(columns)[subsets] - drop) ** 2
        noise = margins[:, columns].var(axis=0, ddof=1)
        found[position] = _fit_misfit(
            square - noise * (1 + 1 / len(margins)) - variance, drop, noise + variance, counted
        )
        squares.append((square * evidence.nearness[subsets][:, None])[counted])
    return ErrorModel(found[0], found[1], float(np.concatenate(squares).mean()))


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


def _fit_misfit(excess: Array, drop: Array, noise: Array, counted: Array) -> float:
    """Least squares of the excess on the size of the drop, over the pairs that count, in units of the noise."""
    if not counted.any():
        return 0.0
    # Models of D may all agree on every token of a document, and have no noise.
    weights = 1 / np.maximum(noise, 1e-3 * np.median(noise))[counted] ** 2
    size = np.abs(drop[counted])
    return max(float((weights * size * excess[counted]).sum() / max((weights * size**2).sum(), 1e-12)), 0.0)

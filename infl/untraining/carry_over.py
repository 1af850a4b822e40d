"""Tells whether a proxy carries over to a network: whether margins of the network's models follow what the proxy predicts.

The network's models of subsets had no part in the proxy, so that all of them test it. Of model t and an example j of D that
it was trained on, with less than the mean over models and over examples taken away,

    y_tj = margin_tj - mean margin of j in models of D
    p_tj = y_tj as the proxy predicts it,    x_tj = as closed-form refits on what is left do, which cost nothing
    difference = corr(y, p) - R(y; x)        R: multiple correlation; error by a jackknife over models

Means go because every predictor gets right that models of less data do worse. Only examples trained on count: held-out ones
follow the fraction of their class that is left, which a proxy whose examples were mixed up within classes gets right as well.
In a development pair (400 digits, a small CNN and perceptrons, 16 models of subsets, three draws) the difference was +.01 to
+.04 ± .01 for a perceptron that carries over, -.06 to -.13 ± .02 for one trained for one epoch, and -.12 to -.14 ± .03 where
examples were mixed up. The two last made predicted effects no better than refits alone; the first took harm from .17 to .14.
"""

from __future__ import annotations

import numpy as np

from infl.records import Array, Quantity
from infl.untraining.support import RIDGES, Evidence

MAX_COLUMNS = 2000
N_CENTRINGS = 20  # rows and columns in turn, where not every model has every example


def carry_over(evidence: Evidence) -> Quantity:
    """How much better margins of models of subsets follow the proxy than refits; below zero it does not carry over.

    Args:
        evidence: The proxy's margins stand behind those of the closed-form refits.

    Returns:
        The difference of the two correlations, with its error.
    """
    rows, n_train = np.flatnonzero(evidence.rows), evidence.support.n_train
    columns = np.sort(np.random.RandomState(0).permutation(n_train)[:MAX_COLUMNS])
    change = evidence.surrogate[rows][:, columns] - evidence.surrogate[np.flatnonzero(evidence.on_all)[0], columns]
    return compare_correlations(
        evidence.margins(columns)[rows] - evidence.mean_on_d[columns],
        change[..., len(RIDGES)],
        change[..., : len(RIDGES)],
        evidence.masks[rows][:, columns],
    )


def compare_correlations(y: Array, one: Array, several: Array, counted: Array) -> Quantity:
    """corr(y, one) - R(y; several) of pairs [models, columns] that count, both centred; its error by a jackknife over models.

    Args:
        y: [models, columns].
        one: Likewise.
        several: [models, columns, k].
        counted: Which pairs count, [models, columns] bool.
    """
    weights = counted.astype(float)
    z = np.stack([_centred(part, weights) for part in (y, one, *np.moveaxis(several, -1, 0))])
    products = np.einsum("atj,btj->tab", z, z, optimize=True)
    values = [_difference(products.sum(axis=0) - left_out) for left_out in (0 * products[0], *products)]
    n, jackknife = len(products), np.array(values[1:])
    return Quantity(values[0], float(np.sqrt((n - 1) / n * ((jackknife - jackknife.mean()) ** 2).sum())))


def _difference(products: Array) -> float:
    (yy, y_one), one_one = products[0, :2], products[1, 1]
    y_several, several = products[0, 2:], products[2:, 2:]
    explained = y_several @ np.linalg.lstsq(several, y_several, rcond=None)[0]
    return float(y_one / np.sqrt(max(yy * one_one, 1e-30)) - np.sqrt(max(explained, 0) / max(yy, 1e-30)))


def _centred(x: Array, weights: Array) -> Array:
    """Without the means of rows and of columns, over the pairs that count; 0 elsewhere."""
    x = x * weights
    for _ in range(N_CENTRINGS):
        for axis in (0, 1):
            x = weights * (x - x.sum(axis=axis, keepdims=True) / np.maximum(weights.sum(axis=axis, keepdims=True), 1))
    return x

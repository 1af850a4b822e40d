"""Turns outcomes into the influence of whole classes on whole classes, with errors that count what pairs have in common."""

from __future__ import annotations

import numpy as np

from infl.records import Array, Dataset, Estimate, InputError, OutcomeKind, OutcomeSource
from infl.scores.contrasts import no_models
from infl.scores.evidence import normal_p_values
from infl.scores.sides import weights_of_sizes
from infl.scores.spread import measure_spread


def influence_of_classes(outcomes: OutcomeSource, dataset: Dataset, *, outcome: OutcomeKind = "correct") -> Estimate:
    """Mean cross-influence of the training examples of class a on the held-out examples of class b, for all a and b.

        block(a, b) = mean over i in D of class a, and j in H of class b, of xinf(i, j) = sum_t W_ta y_tb
        W_ta = mean over i of [ a_t M_ti / sum_s a_s M_si - b_t (1 - M_ti) / sum_s b_s (1 - M_si) ]

    with y_tb the mean outcome of model t on the class, and weights a_t, b_t of the sizes of subsets as in `contrasts`. Pairs
    of a block share models, so their errors do not average out; the block is one contrast of the T numbers y_tb, with error

        se^2 = d T / (T - 2) sum_t W_ta^2 (y_tb - mean_t y_tb)^2

    (heteroskedasticity-consistent: White 1980), d the design factor where models are in strata. What the class itself does to
    y_tb stays in: which of its examples were in together by chance is part of the error. So the error is a little wide, by
    the share of one example in what its class does. The matrix of all pairs is never made.

    Among subsets of one size an example comes in by taking another out. A block therefore says how much more an example of
    class a does for class b than an average training example: blocks of one column, weighted by the sizes of the classes,
    sum to about 0.

    Returns an Estimate with arrays [c, c], sources in rows, reading `held-out`; NaN for a class without training examples
    (row) or held-out ones (column), and without an error where there are fewer than three models. n_in, n_out: models with
    and without an example of the class, on average over its examples.

    Raises:
        InputError: where there are no models, the outcome was not recorded, or the dataset is not that of the models.

    Example:
        >>> import numpy as np, infl
        >>> x, y = np.zeros((4, 1), np.float32), np.array([0, 0, 1, 1])
        >>> two_classes = infl.from_arrays(x, y, x[:2], y[1:3])
        >>> masks = np.random.RandomState(0).rand(500, 4) < 0.5
        >>> taught = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0] | masks[:, 1], masks[:, 2] | masks[:, 3]])
        >>> infl.influence_of_classes(taught, two_classes).value.round(1)
        array([[ 0.4, -0.4],
               [-0.4,  0.3]])
    """
    if (outcomes.n_train, outcomes.n_columns) != (dataset.n_train, dataset.n_columns):
        raise InputError(
            f"dataset: expected the {outcomes.n_train} training and {outcomes.n_columns - outcomes.n_train} held-out "
            f"examples of the models, got {dataset.n_train} and {dataset.n_held_out}"
        )
    if not dataset.n_held_out:
        raise InputError("influence of classes: these outcomes have no held-out columns to read it on")
    members = _membership(dataset.y_train, dataset.n_classes)  # [n, c], columns sum to 1
    targets = _membership(dataset.y_held_out, dataset.n_classes)
    held_out = slice(outcomes.n_train, outcomes.n_columns)
    n_in, inside, outside, y, strata = np.zeros(outcomes.n_train), 0.0, 0.0, [], []
    for block in outcomes.blocks(held_out):
        a, b = weights_of_sizes(block.masks, "held-out")
        masks = block.masks.astype(np.float64)
        n_in = n_in + masks.sum(axis=0)
        inside, outside = inside + a @ masks, outside + b @ (1 - masks)
        y.append(block.of(outcome).astype(np.float64) @ targets)
        strata.append(block.strata)
    if not y:
        raise no_models()
    y = np.concatenate(y)
    n_models = len(y)
    usable = (inside > 0) & (outside > 0)
    members = _membership(np.where(usable, dataset.y_train, -1), dataset.n_classes)
    with np.errstate(divide="ignore"):
        per_in, per_out = (np.where(usable, 1 / side, 0)[:, None] * members for side in (inside, outside))
    weights = []
    for block in outcomes.blocks(slice(outcomes.n_train, outcomes.n_train + 1)):
        a, b = weights_of_sizes(block.masks, "held-out")
        masks = block.masks.astype(np.float64)
        weights.append(a[:, None] * (masks @ per_in) - b[:, None] * ((1 - masks) @ per_out))
    w = np.concatenate(weights)  # [T, c]
    value = w.T @ y
    spread = (w**2).T @ (y - y.mean(axis=0)) ** 2
    known = [part for part in strata if part is not None]
    factor = measure_spread(y, strata=np.concatenate(known) if known else None).design_factor()
    with np.errstate(divide="ignore", invalid="ignore"):
        correction = n_models / (n_models - 2) if n_models > 2 else np.nan
        se = np.sqrt(np.maximum(spread, 0) * factor * correction)
    absent = (members.sum(axis=0) == 0)[:, None] | (targets.sum(axis=0) == 0)
    value, se = np.where(absent, np.nan, value), np.where(absent, np.nan, se)
    of_class = (n_in @ members)[:, None]
    return Estimate(value, se, of_class, n_models - of_class, "held-out", outcome, p=normal_p_values(value, se))


def _membership(labels: Array, n_classes: int) -> Array:
    """[examples, c]: 1 / size of its class in each example's class, so that a product with it averages over classes."""
    one_hot = (labels[:, None] == np.arange(n_classes)).astype(np.float64)
    return one_hot / np.maximum(one_hot.sum(axis=0), 1)

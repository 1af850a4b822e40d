"""Turns margins into influence on P[correct] with a smaller error than the difference in means, from the same models.

Two steps between outcomes and `contrasts`, each of use without the other:

1. Softened outcomes. A 0/1 outcome tells only on which side of zero the margin fell. With m_j and s_j the mean and the spread
   of the margins z_tj of a column,

       u_tj = c_j Phi(z_tj / (h s_j)),    c_j = [phi(m_j/s_j) / s_j] / [phi(m_j/s'_j) / s'_j],    s'_j = s_j sqrt(1 + h^2)

   varies less. Where an example shifts a margin that is about normal by a small d, P[z > 0] moves by d phi(m/s)/s and
   E Phi(z/(h s)) by d phi(m/s')/s'; c_j is the ratio, so that contrasts of u estimate the same influence as those of 0/1.

2. A control variate. Let f_tj be the margin that a closed-form surrogate of training gives column j on the subset of model t
   (`infl.scores.surrogate`), and F_ij the surrogate's own influence, which takes no models to know. Then

       estimate(i, j) = contrast_i(u_j - b_j f_j) + b_j (F_ij - mean of F_kj over k)

   has the mean of contrast_i(u_j) for any slope b_j that is not fitted to the models it is applied to, and only the error of
   what f leaves unexplained (control variates; Owen 2013, section 8.9; for values of data "regression-adjusted Monte
   Carlo", Witter, Liu & Musco 2025). b_j is the least-squares slope on the models of the other folds. F less its mean, as
   the contrast of subsets of one size is i's effect less the mean effect of the others.

What it costs in bias: none by the second step. By the first, columns that are nearly always right with a long tail of failures
are understated; a shift that is not small against s is misjudged, so an example's effect on itself, memorization, is not
to be estimated so. `experiments/scores` says how both were measured, beside candidates that did not win.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from infl.records import Array, Columns, Estimate, InputError, OutcomesOrRun, ProtocolName, as_outcomes, join_blocks
from infl.scores.contrasts import contrast_pairs
from infl.scores.evidence import welch_p_values
from infl.scores.sufficient_statistics import columns_counted, no_models, pair_statistics

WIDTH = 1.0
ROUNDING = 2.0**-24
N_FOLDS = 16


@dataclass(frozen=True)
class Remainder:
    """What a covariate leaves of outcomes.

    Attributes:
        values: [T, columns], outcome less slope times covariate, the slope of a model that of the other folds.
        slope: [columns], mean slope over the models that count, unit of the outcomes per unit of the covariate; 0 where
            the covariate does not vary.
    """

    values: Array
    slope: Array


def adjusted_influence(
    outcomes: OutcomesOrRun,
    *,
    columns: Columns,
    covariate: Array | None = None,
    covariate_influence: Array | None = None,
    protocol: ProtocolName = "held-out",
    width: float = WIDTH,
    n_folds: int = N_FOLDS,
) -> Estimate:
    """Cross-influence on P[correct] of all examples on some columns, from margins; formulas in the module's text.

    Returns an Estimate [n, columns] in probability, with the error of the contrast of remainders and two-sided normal p-values.
    The errors leave out those of F, of the slopes and of c_j, and any bias. NaN where i is j, and where there is no contrast.

    Args:
        outcomes: With margins.
        columns: A slice or numbers of the n+m; T x columns margins are held in memory.
        covariate: F, [T, columns].
        covariate_influence: F, [n, columns], under subsets of the same sizes as the models', in the unit of f; its
            entry for an example on itself is not used. Both or neither.
        protocol: `held-out`, or `left-out` for columns of D; f is then that of the subset without the column's own
            example.
        width: h; wider has less error and more bias.
        n_folds: Of neighbouring models, which may depend on each other.

    Raises:
        InputError: where shapes do not fit, only one of the two covariates is given, there are no margins or no models, or
            fewer models than folds.

    Examples:
        >>> import infl
        >>> rng = np.random.RandomState(0)
        >>> masks = np.argsort(rng.rand(400, 20), axis=1) < 10
        >>> taught = masks @ rng.randn(20, 1)  # the margin of the one held-out example, column 20, but for chance
        >>> models = infl.Outcomes(masks, margin=np.c_[np.zeros((400, 20)), taught + rng.randn(400, 1)])
        >>> known = np.linalg.lstsq(masks * 1.0, taught)[0]  # influence of each example on `taught`
        >>> plain = adjusted_influence(models, columns=slice(20, 21))
        >>> adjusted = adjusted_influence(models, columns=slice(20, 21), covariate=taught, covariate_influence=known)
        >>> bool(adjusted.se.max() < 0.6 * plain.se.min())
        True
    """
    outcomes = as_outcomes(outcomes)
    blocks = list(outcomes.blocks(columns, kinds=("margin",)))
    if not blocks:
        raise no_models()
    models = join_blocks(blocks)  # all in memory, with these columns alone
    n_train, numbers = outcomes.n_train, np.arange(outcomes.n_columns)[columns]
    if (covariate is None) != (covariate_influence is None):
        raise InputError("a covariate and its influence are given together: one says nothing without the other")
    if protocol == "held-out" and numbers.min(initial=n_train) < n_train:
        raise InputError(f"protocol held-out: columns must be held out ({n_train} or more), got {numbers.min()}")
    if protocol != "held-out" and numbers.max(initial=0) >= n_train:
        raise InputError(f"protocol {protocol}: columns must be training examples (0..{n_train - 1})")
    counted = columns_counted(models.masks, protocol, numbers)
    values, shift = soften(models.of("margin"), width, counted=counted), np.zeros((n_train, len(numbers)))
    own = numbers[None, :] == np.arange(n_train)[:, None]
    if covariate is not None and covariate_influence is not None:
        if covariate_influence.shape != shift.shape:
            raise InputError(f"expected the covariate's influence {shift.shape}, got {covariate_influence.shape}")
        rest = remainder(values, covariate, counted=counted, n_folds=n_folds)
        values = rest.values
        others = np.where(own, np.nan, covariate_influence)
        shift = rest.slope * (others - np.nanmean(others, axis=0))
    statistics = pair_statistics(
        replace(models, margin=values - values.mean(axis=0)).blocks(),
        sources=np.arange(n_train),
        columns=numbers,
        protocol=protocol,
        outcome="margin",
    )
    estimate = contrast_pairs(statistics, shift.shape, protocol=protocol, outcome="margin")
    value, se = (np.where(own, np.nan, a) for a in (estimate.value + shift, estimate.se))
    # Softened outcomes far from zero fall below what a float32 of size 1 tells apart; no difference of them is known better.
    se = np.maximum(se, ROUNDING)
    return replace(
        estimate,
        value=value,
        se=se,
        outcome="correct",
        mean_out=None,
        p=welch_p_values(value, se),
        df=None,
        sources=np.arange(n_train),
        columns=numbers,
    )


def soften(margins: Array, width: float = WIDTH, *, counted: Array | None = None) -> Array:
    """Outcomes u of the module's text, [T, columns] float64, whose contrasts estimate influence on P[correct].

    A column whose margins are all equal is 0/1 unchanged.

    Args:
        margins: [T, columns], above zero where the model is right.
        width: H, above zero; towards zero u becomes 0/1.
        counted: [T, columns] bool, models that mean and spread are taken over; None for all.
    """
    if not width > 0:
        raise InputError(f"width: expected a number above 0, got {width}")
    z = np.asarray(margins, np.float64)
    weight = np.ones((1, 1)) if counted is None else counted / np.maximum(counted.mean(axis=0), 1e-300)
    mean = (weight * z).mean(axis=0)
    spread = np.sqrt((weight * (z - mean) ** 2).mean(axis=0))
    varies = spread > 1e-9 * np.abs(mean)
    safe = np.where(varies, spread, 1.0)
    standard = (mean / safe) ** 2
    # One exponent for phi(m/s) / phi(m/s'): far from zero each of them is 0.
    ratio = np.sqrt(1 + width**2) * np.exp((standard / (1 + width**2) - standard) / 2)
    return np.where(varies, ratio * ndtr(z / (width * safe)), z > 0)


def remainder(outcomes: Array, covariate: Array, *, counted: Array | None = None, n_folds: int = N_FOLDS) -> Remainder:
    """Take from each outcome what the covariate says of it, by a least-squares slope per column from other folds.

    Args:
        outcomes, covariate: [T, columns], any units.
        counted: [T, columns] bool, models that slopes are fitted to; None for all.
        n_folds: Runs of neighbouring models, of (nearly) one length.
    """
    if covariate.shape != outcomes.shape:
        raise InputError(f"expected a covariate of the shape of the outcomes {outcomes.shape}, got {covariate.shape}")
    if not 2 <= n_folds <= len(outcomes):
        raise InputError(f"folds: expected 2 to the number of models ({len(outcomes)}), got {n_folds}")
    weight = np.ones(outcomes.shape) if counted is None else counted.astype(np.float64)
    total = np.maximum(weight.sum(axis=0), 1)
    x = np.asarray(covariate, np.float64)
    x = x - (weight * x).sum(axis=0) / total
    y = np.asarray(outcomes, np.float64)
    y = y - (weight * y).sum(axis=0) / total
    starts = np.arange(n_folds) * len(y) // n_folds
    in_fold = np.stack([np.add.reduceat(weight * a, starts) for a in (np.ones_like(x), x, y, x * x, x * y)])
    n, sx, sy, sxx, sxy = in_fold.sum(axis=1)[:, None] - in_fold  # of the other folds, [folds, columns]
    n = np.maximum(n, 1)
    spread = sxx - sx * sx / n
    usable = spread > 1e-9 * np.maximum(sxx, 1e-300)
    slope = np.where(usable, (sxy - sx * sy / n) / np.where(usable, spread, 1.0), 0.0)
    fold = np.searchsorted(starts, np.arange(len(y)), side="right") - 1
    return Remainder(y - slope[fold] * x, (slope * in_fold[0]).sum(axis=0) / total)

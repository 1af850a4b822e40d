"""Turns models of D and models retrained on D\\S with the same keys into the measured effect of untraining S."""

from __future__ import annotations

import numpy as np

from infl.records import Effects, ForgetSet, InputError, Outcomes


def measure_effects(forget_set: ForgetSet, *, full: Outcomes, without: Outcomes) -> Effects:
    """Measured effects, paired by key.

        D_j = mean over keys r of [ correct_j under A(D; r) - correct_j under A(D\\S; r) ]

    with the standard error of the mean of those differences. Models trained with one key share weights at the start and
    the order of the examples they have in common, so the difference varies less than that of unpaired models.

    full, without: `correct` [R, n+m] of the same R keys in the same order.

    Raises:
        InputError: where they do not pair, or `without` was not trained without the set.
    """
    if full.correct is None or without.correct is None or full.correct.shape != without.correct.shape:
        raise InputError("verification needs `correct` of as many models of D as of D without the set, one pair a key")
    if without.masks[:, list(forget_set.ids)].any() or not full.masks.all():
        raise InputError(f"set {forget_set.name!r}: the models given were not trained on D, and on D without the set")
    replicates = full.correct.astype(np.float32) - without.correct.astype(np.float32)
    n_models = len(replicates)
    with np.errstate(invalid="ignore", divide="ignore"):
        se = np.sqrt(replicates.var(axis=0) / (n_models - 1)) if n_models > 1 else np.full(replicates.shape[1], np.nan)
    return Effects(
        forget_set=forget_set,
        n_train=full.n_train,
        effect=replicates.mean(axis=0, dtype=np.float64),
        se=se,
        replicates=replicates,
        source="retrained",
        n_models=n_models,
    )

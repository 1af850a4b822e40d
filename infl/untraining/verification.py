"""Turns models of D and models retrained on D\\S with the same keys into the measured effect of untraining S.

It also says when enough models of D\\S have been retrained: after a few, and each time that their number has doubled, the
effects so far are judged (`looks_at`), and a set whose regime has become clear (`is_clear`) needs no more.
"""

from __future__ import annotations

import numpy as np

from infl.records import Array, Effects, ForgetSet, InputError, Outcomes, Thresholds, TokenEffects
from infl.untraining.regimes import judge

MIN_BEFORE_A_LOOK = 4  # replicates; `judge` knows no error with fewer


def looks_at(n_models: int, *, stop: float | None, first: int) -> list[int]:
    """Numbers of models at which a set is judged: `first`, twice as many, and so on, and at last `n_models`.

    Args:
        stop: The probability of its regime at which a set gets no more models; None for a single look, with all of
            them.

    Raises:
        InputError: for a number out of its range.

    Examples:
        >>> looks_at(100, stop=0.95, first=16)
        [16, 32, 64, 100]
    """
    if stop is not None and not 0 < stop < 1:
        raise InputError(
            f"stop: expected a probability above 0 and below 1, or None (--stop 1) to train all, got {stop}"
        )
    if first < MIN_BEFORE_A_LOOK:
        raise InputError(f"first: expected at least {MIN_BEFORE_A_LOOK} models before the first look, got {first}")
    looks = []
    while stop is not None and first < n_models:
        looks.append(first)
        first *= 2
    return [*looks, n_models]


def is_clear(effects: Effects, thresholds: Thresholds, stop: float | None) -> bool:
    """Whether a regime is as probable as `stop` and as the thresholds ask for, whichever is more."""
    if stop is None:
        return False
    # Where errors are unknown the probabilities are NaN, and NaN is not at least anything.
    return max(judge(effects, thresholds).probability.values()) >= max(stop, thresholds.probability)


def paired_error(replicates: Array) -> Array:
    """The error of `measure_effects` of the mean over keys of differences that are 1, 0 or -1, [R, ...], above 0: [...]."""
    n_models = len(replicates)
    lost, gained = (((sign * replicates > 0).sum(axis=0) + 0.5) / (n_models + 1.5) for sign in (1, -1))
    return np.sqrt((lost + gained - (lost - gained) ** 2) / (n_models + 2.5))


def measure_token_effects(
    column: int, forget_set: ForgetSet, tokens: Array, *, full: Array, without: Array
) -> TokenEffects:
    """Measured effects on each token of a document, paired by key as in `measure_effects`; NaN where none is predicted.

    Args:
        tokens: Of the document, [L]: the first is not predicted, and those of a prompt, which are negative, are not scored.
        full, without: Whether each token but the first is predicted by models of D and of D\\S, [R, L-1] bool.

    Raises:
        InputError: where they do not pair, or there are none.
    """
    if full.shape != without.shape or not len(full):
        raise InputError(
            f"effects on tokens: expected one pair of models a key, and one at least, got {len(full)} and {len(without)}"
        )
    replicates = full.astype(np.float32) - without.astype(np.float32)
    scored = np.append(False, tokens[1:] > 0)
    effect, se, mean_without = np.full((3, len(tokens)), np.nan)
    for array, found in (
        (effect, replicates.mean(axis=0)),
        (se, paired_error(replicates)),
        (mean_without, without.mean(axis=0)),
    ):
        array[scored] = found[scored[1:]]
    return TokenEffects(column, forget_set, effect, se, mean_without, n_models=len(full))


def measure_effects(forget_set: ForgetSet, *, full: Outcomes, without: Outcomes) -> Effects:
    """Measured effects, paired by key.

        D_j = mean over keys r of [ correct_j under A(D; r) - correct_j under A(D\\S; r) ]

    with the standard deviation of its posterior as the error: a key loses j, gains it or changes nothing, with R + 3/2 for the
    number of keys R and half a key more of either kind (a Dirichlet prior of 1/2 each, as of Jeffreys). Of shares the error is
    by the sample variance of the differences, and at least what one token of one key makes. So no error is 0, also
    where all keys agree. Models trained with one key share weights at the start and
    the order of the examples they have in common, so the difference varies less than that of unpaired models.

    Args:
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
    n_tokens = None
    if full.is_binary("correct") and without.is_binary("correct"):
        se = paired_error(replicates)
    else:
        n_tokens = full.tokens
        scatter = replicates.std(axis=0, ddof=1) if n_models > 1 else np.full(full.n_columns, np.nan)
        se = np.maximum(scatter / np.sqrt(n_models), 1 / (n_models * n_tokens))
    return Effects(
        forget_set=forget_set,
        n_train=full.n_train,
        effect=replicates.mean(axis=0, dtype=np.float64),
        se=se,
        replicates=replicates,
        source="retrained",
        n_models=n_models,
        n_tokens=n_tokens,
    )

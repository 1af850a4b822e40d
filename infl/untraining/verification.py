"""Turns models of D and models retrained on D\\S with the same keys into the measured effect of untraining S.

It also says when enough models of D\\S have been retrained: after a few, and each time that their number has doubled, the
effects so far are judged (`looks_at`), and a set whose regime has become clear (`is_clear`) needs no more.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from scipy.special import ndtr

from infl.records import Array, Effects, ForgetSet, InputError, Outcomes, TokenEffects, Verdict
from infl.untraining.distribution import kernel_width

MIN_BEFORE_A_LOOK = 4  # replicates; `judge` knows no error with fewer


def looks_at(n_models: int, *, stop: float | None, first: int) -> list[int]:
    """Numbers of models at which a set is judged: `first`, twice as many, and so on, and at last `n_models`.

    Args:
        stop: The probability of its regime at which a set gets no more models; None for a single look, with all of
            them.

    Raises:
        InputError: for a number out of its range.

    Examples:
        >>> looks_at(100, stop=0.95, first=8)
        [8, 16, 32, 64, 100]
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


def is_clear(verdict: Verdict, stop: float | None) -> bool:
    """Whether a regime is as probable as `stop` and as the verdict's thresholds ask for, whichever is more."""
    if stop is None:
        return False
    # Where errors are unknown the probabilities are NaN, and NaN is not at least anything.
    return _most_probable(verdict) >= max(stop, verdict.thresholds.probability)


def order(verdicts: Iterable[Verdict], stop: float | None = 0.0) -> list[Verdict]:
    """Those that are not clear, the one that is nearest to a decision first: by models needed, then by probability.

    Args:
        stop: As of `is_clear`; 0 for the probability that the verdicts' own thresholds ask for.
    """
    waiting = [one for one in verdicts if not is_clear(one, stop)]
    return sorted(waiting, key=lambda one: (one.models_needed or math.inf, -_most_probable(one)))


def _most_probable(verdict: Verdict) -> float:
    return max(np.nan_to_num(list(verdict.probability.values())))


def paired_error(replicates: Array) -> Array:
    """The error of `measure_effects` of the mean over keys of differences between -1 and 1, [R, ...], above 0: [...]."""
    n_models = len(replicates) + 1.5
    mean, square = replicates.sum(axis=0) / n_models, ((replicates**2).sum(axis=0) + 1) / n_models
    return np.sqrt((square - mean**2) / (n_models + 1))


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

        D_j = mean over keys r of [ P_j(A(D; r)) - P_j(A(D\\S; r)) ],    P_j = Phi(margin_j / width_j)

    Where margins are recorded a model counts as right on j by how far its margin is from 0, within the width of a normal
    kernel over the models of D (`infl.untraining.distribution.kernel_width`); otherwise as right or wrong. Margins say more:
    two that lie on one side of 0 may differ. The bias is that of smoothing (`experiments/regimes`). Of shares P_j is the share.

    The error is the standard deviation of a posterior: a key loses j, gains it or changes nothing, with R + 3/2 for the
    number of keys R and half a key more of either kind (a Dirichlet prior of 1/2 each, as of Jeffreys); the same formula takes
    differences between -1 and 1 by their squares. Of shares the error is by the sample variance of the differences, and at
    least what one token of one key makes. So no error is 0, also where all keys agree. Models trained with one key share
    weights at the start and the order of the examples they have in common, so the difference varies less than that of
    unpaired models.

    Args:
        full, without: `correct` [R, n+m] of the same R keys in the same order, with `margin` to go by margins.

    Raises:
        InputError: where they do not pair, or `without` was not trained without the set.
    """
    if full.correct is None or without.correct is None or full.correct.shape != without.correct.shape:
        raise InputError("verification needs `correct` of as many models of D as of D without the set, one pair a key")
    if without.masks[:, list(forget_set.ids)].any() or not full.masks.all():
        raise InputError(f"set {forget_set.name!r}: the models given were not trained on D, and on D without the set")
    n_models, n_tokens = full.n_models, None
    is_binary = full.is_binary("correct") and without.is_binary("correct")
    if is_binary and full.margin is not None and without.margin is not None:
        margins = full.of("margin")
        width = kernel_width(margins).astype(np.float32)
        replicates = ndtr(margins / width) - ndtr(without.of("margin") / width)
    else:
        replicates = full.of("correct") - without.of("correct")
    if is_binary:
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

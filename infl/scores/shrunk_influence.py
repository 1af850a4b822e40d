"""Shrinks a whole influence matrix, or block by block: margins and a surrogate sharpen what the prior and the estimates know.

What is shrunk is the plain estimate, or where margins were recorded that of `adjustment`, with the surrogate refitted to the
subset of every model as its control variate. The covariate of the prior is the surrogate's own influence times how much
the models disagree on the column; without a surrogate the latter alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import cached_property
from tempfile import TemporaryFile

import numpy as np
from scipy.special import ndtri

from infl.records import Array, Estimate, OutcomeKind, OutcomesOrRun, OutcomeSource, ProtocolName, as_outcomes
from infl.scores.adjustment import N_FOLDS, adjusted_influence
from infl.scores.contrasts import join_columns
from infl.scores.influence import influence, influence_blocks
from infl.scores.shrinkage import Shrunk, fit_prior, shrink
from infl.scores.sufficient_statistics import as_slice, no_models, protocol_columns
from infl.scores.surrogate import Surrogate, leave_one_out_influence

N_PAIRS = 1 << 20  # that a prior is fitted to
MAX_HELD_PAIRS = 1 << 26  # of the surrogate's influence, which takes as long for some columns as for all


def shrunk_influence(
    outcomes: OutcomesOrRun,
    *,
    protocol: ProtocolName = "held-out",
    outcome: OutcomeKind = "correct",
    surrogate: Surrogate | None = None,
) -> tuple[Estimate, Shrunk]:
    """Cross-influence of every source on every column, as estimated and shrunk, both [n, m] or [n, n]; see `influence`.

    For a matrix larger than memory use `shrunk_influence_blocks`.

    Args:
        surrogate: Of the same data (`fit_surrogate`); without it the prior knows of a pair only how much the models
            disagree on its column. Where margins were recorded it is refitted to the subset of every model.

    Raises:
        InputError: where there are no models, none estimates an error, or the outcome was not recorded.

    Examples:
        >>> import numpy as np, infl
        >>> rng = np.random.RandomState(0)
        >>> masks = rng.rand(400, 30) < 0.7
        >>> correct = rng.rand(400, 60) < 0.8
        >>> correct[:, 59] = masks[:, 3]  # example 3 teaches the last column, all else is noise
        >>> estimate, shrunk = shrunk_influence(infl.Outcomes(masks, correct))
        >>> bool(np.abs(estimate.value[:, :-1]).mean() > 0.03), bool(np.abs(shrunk.value[:, :-1]).mean() < 0.01)
        (True, True)
        >>> bool(shrunk.value[3, -1] > 0.9)
        True
    """
    blocks = shrunk_influence_blocks(outcomes, protocol=protocol, outcome=outcome, surrogate=surrogate)
    estimates, shrunk = zip(*blocks, strict=True)
    whole = [np.concatenate([getattr(block, field.name) for block in shrunk], axis=1) for field in fields(Shrunk)]
    return join_columns(estimates), Shrunk(*whole)


def shrunk_influence_blocks(
    outcomes: OutcomesOrRun,
    *,
    protocol: ProtocolName = "held-out",
    outcome: OutcomeKind = "correct",
    surrogate: Surrogate | None = None,
    n_columns: int | None = None,
) -> Iterator[tuple[Estimate, Shrunk]]:
    """Yield (estimate, shrunk) from the first column to the last, as `influence_blocks`; see `shrunk_influence`.

    Args:
        n_columns: Bounds the memory, to some two dozen float64 arrays of [n, n_columns]. Does not affect results beyond
            rounding.
    """
    outcomes = as_outcomes(outcomes)
    knowledge = None if surrogate is None else _SurrogateKnowledge(outcomes, surrogate, protocol)
    whole = protocol_columns(outcomes, protocol)
    # The prior is fitted to all sources and as many random columns as make a million pairs.
    random = np.random.RandomState(0).permutation(np.arange(whole.start, whole.stop))
    columns = np.sort(random[: max(1, N_PAIRS // outcomes.n_train)])
    estimate = influence(outcomes, protocol=protocol, outcome=outcome, columns=columns)
    sharpened, covariate = _sharpened(outcomes, estimate, knowledge), _covariate(estimate, knowledge)
    prior = fit_prior(sharpened.value, sharpened.se, covariate, centred=knowledge is not None)
    for estimate in influence_blocks(outcomes, protocol=protocol, outcome=outcome, n_columns=n_columns):
        sharpened, covariate = _sharpened(outcomes, estimate, knowledge), _covariate(estimate, knowledge)
        yield estimate, shrink(sharpened, prior, covariate)


class _SurrogateKnowledge:
    """What the surrogate says: of the influence of each example on a column, and of the subset of every model."""

    def __init__(self, outcomes: OutcomeSource, surrogate: Surrogate, protocol: ProtocolName) -> None:
        block = next(iter(outcomes.blocks(kinds=())), None)
        if block is None or not outcomes.n_models:
            raise no_models()
        self.outcomes, self.surrogate = outcomes, surrogate
        self.fraction = float(block.masks.mean())
        self.whole = protocol_columns(outcomes, protocol)

    def influence(self, columns: Array) -> Array:
        """On the surrogate's margin, [n, columns]."""
        if self.outcomes.n_train * (self.whole.stop - self.whole.start) <= MAX_HELD_PAIRS:
            return self._all[:, columns - self.whole.start]
        return self._influence(columns)

    @cached_property
    def _all(self) -> Array:
        return self._influence(self.whole)

    def _influence(self, columns: Array | slice) -> Array:
        return np.nan_to_num(leave_one_out_influence(self.surrogate, fraction=self.fraction, columns=columns))

    def margins(self, columns: Array) -> Array:
        """Margins that the surrogate gives after each model's subset, [T, columns]."""
        return np.asarray(self._margins[:, columns], np.float64)

    @cached_property
    def _margins(self) -> Array:
        """[T, n+m] in a file, as the margins of the models are: a refit gives those of all columns at once."""
        shape = self.outcomes.n_models, self.outcomes.n_columns
        with TemporaryFile() as file:
            margins = np.memmap(file, np.float32, "w+", shape=shape)
        masks = (mask for block in self.outcomes.blocks(kinds=()) for mask in block.masks)
        for t, mask in enumerate(masks):
            margins[t] = self.surrogate.margins(np.flatnonzero(~mask))
        return margins


def _sharpened(outcomes: OutcomeSource, estimate: Estimate, knowledge: _SurrogateKnowledge | None) -> Estimate:
    """The estimate from softened margins in place of that from 0/1 outcomes, where there are margins.

    With a surrogate as their control variate, where there are models to fit slopes to.
    """
    columns = estimate.columns
    assert columns is not None
    first = next(iter(outcomes.blocks(columns[:1], n_rows=1)))
    assert estimate.protocol != "own"
    if estimate.outcome != "correct" or not first.is_binary("correct") or first.margin is None:
        return _as_normal(estimate)
    if knowledge is None or outcomes.n_models < N_FOLDS:
        return adjusted_influence(outcomes, columns=as_slice(columns), protocol=estimate.protocol)
    return adjusted_influence(
        outcomes,
        columns=as_slice(columns),
        covariate=knowledge.margins(columns),
        covariate_influence=knowledge.influence(columns),
        protocol=estimate.protocol,
    )


def _as_normal(estimate: Estimate) -> Estimate:
    """With the errors with which normal estimates, as a prior takes them to be, would have the same p-values."""
    if estimate.df is None or estimate.p is None:
        return estimate
    z = -ndtri(np.maximum(estimate.p, 1e-300) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return replace(estimate, se=np.maximum(estimate.se, np.where(z > 0, np.abs(estimate.value) / z, 0.0)))


def _covariate(estimate: Estimate, knowledge: _SurrogateKnowledge | None) -> Array:
    """[n, columns]: surrogate influence times the spread p (1 - p) of the column's outcomes; the spread where there is none.

    A change of margin moves a probability as far as the models disagree; a margin it moves by itself.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = estimate.se**2 / (1 / estimate.n_in + 1 / estimate.n_out)
    known = np.isfinite(spread)
    spread = np.where(known, spread, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    if knowledge is None:
        return np.broadcast_to(spread, estimate.value.shape)
    assert estimate.columns is not None
    return knowledge.influence(estimate.columns) * (1.0 if estimate.outcome == "margin" else spread)

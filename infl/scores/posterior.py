"""Turns outcomes into posteriors of influence: the whole matrix, or block by block; `shrinkage` says what they are.

The covariate of a pair is known before its estimate is: the exact influence under the closed-form surrogate times the spread
p (1 - p) of the column's outcomes, since a change of margin moves a probability only where the models disagree; the
spread alone where no surrogate is at hand. Nothing is shrunk in place: a `Shrunk` stands beside the `Estimate`. Where margins
were recorded, what is shrunk is the influence from softened margins (`adjustment`), which the same models tell better; and
where there is a surrogate, too, less what it says of each model's subset, which the other examples in it have brought about.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from tempfile import TemporaryFile

import numpy as np

from infl.records import Array, Columns, Estimate, OutcomeKind, OutcomeSource, Reading
from infl.scores.adjustment import N_FOLDS, adjusted_influence
from infl.scores.contrasts import no_models, sum_pairs
from infl.scores.influence import influence_blocks, join_columns
from infl.scores.shrinkage import Prior, Shrunk, fit_prior, shrink
from infl.scores.sides import columns_of
from infl.surrogate import Surrogate, leave_one_out_influence

N_PAIRS = 1 << 20  # that a prior is fitted to


def shrunk_influence(
    outcomes: OutcomeSource,
    *,
    reading: Reading = "held-out",
    outcome: OutcomeKind = "correct",
    surrogate: Surrogate | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Estimate, Shrunk]:
    """Cross-influence of every source on every column, as estimated and shrunk, both [n, m] or [n, n]; see `influence`.

    surrogate: of the same data (`fit_surrogate`); without it the prior knows of a pair only how much the models disagree on
        its column. Where margins were recorded it is refitted to the subset of every model.

    For a matrix larger than memory use `shrunk_influence_blocks` with `fit_influence_prior`.

    Raises:
        InputError: where there are no models, none estimates an error, or the outcome was not recorded.

    Example:
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
    worth = None if surrogate is None else _Worth(outcomes, surrogate, seed, known=columns_of(outcomes, reading))
    prior = _fit(outcomes, reading=reading, outcome=outcome, worth=worth, n_pairs=N_PAIRS, seed=seed)
    blocks = list(_blocks(outcomes, prior, reading=reading, outcome=outcome, worth=worth, n_columns=None, level=level))
    whole = [np.concatenate([getattr(b, name) for *_, b in blocks], axis=1) for name in Shrunk.__dataclass_fields__]
    return join_columns([estimate for _, estimate, _ in blocks]), Shrunk(*whole)


def fit_influence_prior(
    outcomes: OutcomeSource,
    *,
    reading: Reading = "held-out",
    outcome: OutcomeKind = "correct",
    surrogate: Surrogate | None = None,
    n_pairs: int = N_PAIRS,
    seed: int = 0,
) -> Prior:
    """The prior of cross-influence, from all sources and as many random columns as make `n_pairs`; see `shrunk_influence`.

    Raises:
        InputError: where there are no models, none estimates an error, or the outcome was not recorded.
    """
    worth = None if surrogate is None else _Worth(outcomes, surrogate, seed)
    return _fit(outcomes, reading=reading, outcome=outcome, worth=worth, n_pairs=n_pairs, seed=seed)


def shrunk_influence_blocks(
    outcomes: OutcomeSource,
    prior: Prior,
    *,
    reading: Reading = "held-out",
    outcome: OutcomeKind = "correct",
    surrogate: Surrogate | None = None,
    n_columns: int | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> Iterator[tuple[slice, Estimate, Shrunk]]:
    """Yield (columns, estimate, shrunk) from the first column to the last, as `influence_blocks`; see `shrunk_influence`.

    prior: from `fit_influence_prior` with the same reading, outcome, surrogate and seed.
    n_columns: bounds the memory, to some two dozen float64 arrays of [n, n_columns]. Does not affect results beyond rounding.
    """
    worth = None if surrogate is None else _Worth(outcomes, surrogate, seed)
    return _blocks(outcomes, prior, reading=reading, outcome=outcome, worth=worth, n_columns=n_columns, level=level)


class _Worth:
    """What the surrogate says: of each example to a column, worked out when asked for, and of the subset of every model."""

    def __init__(self, outcomes: OutcomeSource, surrogate: Surrogate, seed: int, *, known: slice = slice(0, 0)) -> None:
        block = next(iter(outcomes.blocks(slice(0, 1))), None)
        if block is None or not outcomes.n_models:
            raise no_models()
        self.outcomes, self.surrogate, self.seed = outcomes, surrogate, seed
        self.fraction = float(block.masks.mean())
        self.first, self.values = known.start, np.zeros((0, 0))
        if known != slice(0, 0):
            self.values = self.of(known)

    def of(self, columns: Columns) -> Array:
        """Influence on the surrogate's margin, [n, columns]."""
        if self.values.size:
            numbers = np.arange(self.first + self.values.shape[1])[columns]
            return self.values[:, numbers - self.first]
        worth = leave_one_out_influence(self.surrogate, fraction=self.fraction, columns=columns, seed=self.seed)
        return np.nan_to_num(worth)

    def of_models(self, columns: Columns) -> Array:
        """Margins that the surrogate gives after each model's subset, [T, columns]."""
        return np.asarray(self._margins[:, columns], np.float64)

    @cached_property
    def _margins(self) -> Array:
        """[T, n+m] in a file, as the margins of the models are: a refit gives those of all columns at once."""
        shape = self.outcomes.n_models, self.outcomes.n_columns
        with TemporaryFile() as file:
            margins = np.memmap(file, np.float32, "w+", shape=shape)
        t = 0
        for block in self.outcomes.blocks(slice(0, 1)):
            for mask in block.masks:
                margins[t] = self.surrogate.margins(np.flatnonzero(~mask))
                t += 1
        return margins[:t]


def _fit(
    outcomes: OutcomeSource, *, reading: Reading, outcome: OutcomeKind, worth: _Worth | None, n_pairs: int, seed: int
) -> Prior:
    n = outcomes.n_train
    whole = columns_of(outcomes, reading)
    candidates = np.arange(whole.start, whole.stop)
    columns = np.sort(np.random.RandomState(seed).permutation(candidates)[: max(1, n_pairs // max(n, 1))])
    sums = sum_pairs(outcomes, sources=np.arange(n), columns=columns, reading=reading, outcome=outcome)
    estimate = sums.estimate(reading=reading, outcome=outcome)
    told = _told_by_margins(outcomes, estimate, columns, worth)
    covariate = _covariate(estimate, columns, worth)
    return fit_prior(told.value, told.se, covariate, centred=worth is not None, seed=seed)


def _blocks(
    outcomes: OutcomeSource,
    prior: Prior,
    *,
    reading: Reading,
    outcome: OutcomeKind,
    worth: _Worth | None,
    n_columns: int | None,
    level: float,
) -> Iterator[tuple[slice, Estimate, Shrunk]]:
    for columns, estimate in influence_blocks(outcomes, reading=reading, outcome=outcome, n_columns=n_columns):
        told = _told_by_margins(outcomes, estimate, columns, worth)
        yield columns, estimate, shrink(told, prior, _covariate(estimate, columns, worth), level=level)


def _told_by_margins(outcomes: OutcomeSource, estimate: Estimate, columns: Columns, worth: _Worth | None) -> Estimate:
    """The estimate from softened margins in place of that from 0/1 outcomes, where there are margins.

    With a surrogate as their control variate, where there are models to fit slopes to.
    """
    first = next(iter(outcomes.blocks(slice(0, 1), n_rows=1)))
    if estimate.outcome == "margin" or first.margin is None or estimate.reading == "own":
        return estimate
    of_models = None if worth is None else worth.of_models(columns)
    if worth is None or of_models is None or len(of_models) < N_FOLDS:
        return adjusted_influence(outcomes, columns=columns, reading=estimate.reading)
    return adjusted_influence(
        outcomes,
        columns=columns,
        covariate=of_models,
        covariate_influence=worth.of(columns),
        reading=estimate.reading,
    )


def _covariate(estimate: Estimate, columns: Columns, worth: _Worth | None) -> Array:
    """[n, columns]: surrogate influence times the spread p (1 - p) of the column's outcomes; the spread where there is none.

    A change of margin moves a probability as far as the models disagree; a margin it moves by itself.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = estimate.se**2 / (1 / estimate.n_in + 1 / estimate.n_out)
    known = np.isfinite(spread)
    spread = np.where(known, spread, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    if worth is None:
        return np.broadcast_to(spread, estimate.value.shape)
    return worth.of(columns) * (spread if estimate.outcome == "correct" else 1.0)

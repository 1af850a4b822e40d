"""What models did: outcomes in memory, and the protocol of whatever can be read block by block."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from infl.records.words import Array, Columns, InputError, OutcomeKind


class OutcomeSource(Protocol):
    """Outcomes that can be read block by block: in memory (`Outcomes`) or from a run folder (`store`).

    Estimators ask for nothing else, so their memory does not grow with the number of models.
    """

    @property
    def n_models(self) -> int: ...
    @property
    def n_train(self) -> int: ...
    @property
    def n_columns(self) -> int: ...

    def blocks(self, columns: Columns = slice(None), *, n_rows: int = 512) -> Iterator[Outcomes]:
        """Yield the models in order, at most `n_rows` at a time, with the given columns only; masks stay whole."""
        ...


@dataclass(frozen=True)
class Outcomes:
    """What T models did on every example, made by infl or by anyone.

    masks: [T, n] bool, which examples of D each model trained on.
    correct: [T, n+m] bool, whether the model predicts the label; None where it was not recorded.
    margin: [T, n+m] float, log p(y) - max over c != y of log p(c), above zero where the model is right (the correct-class
        margin of Ilyas et al. 2022, section 2); None where it was not recorded.
    starts: [T] integers: models of one number had the same initial weights and met the examples that they share in the same
        order, so that their difference says more than that of any two; None where that is not known.
    strata: [T] integers: models of one number hold every example equally often between them (a period of a balanced design, a
        pair of complementary halves); None where models are drawn independently.

    Raises:
        InputError: where the arrays do not fit each other, are empty, or hold a margin that is not a number.
    """

    masks: Array
    correct: Array | None = None
    margin: Array | None = None
    starts: Array | None = None
    strata: Array | None = None

    def __post_init__(self) -> None:
        if self.masks.ndim != 2 or self.masks.dtype != np.bool_:
            raise InputError(f"masks: expected a bool array [models, n], got {self.masks.dtype} {self.masks.shape}")
        for name in ("correct", "margin"):
            array = getattr(self, name)
            if array is not None and (array.ndim != 2 or len(array) != len(self.masks)):
                raise InputError(
                    f"{name}: expected [models, n+m] with {len(self.masks)} models as in masks, got {array.shape}"
                )

    @property
    def n_models(self) -> int:
        return len(self.masks)

    @property
    def n_train(self) -> int:
        return self.masks.shape[1]

    @property
    def n_columns(self) -> int:
        recorded = self.correct if self.correct is not None else self.margin
        if recorded is None:
            raise InputError("outcomes: neither correct nor margin was given")
        return recorded.shape[1]

    def of(self, kind: OutcomeKind) -> Array:
        """The outcomes of one kind as float32, [T, columns].

        Raises:
            InputError: where that kind was not recorded.
        """
        array = self.correct if kind == "correct" else self.margin
        if array is None:
            raise InputError(f"these outcomes hold no {kind!r}; use the other kind, or record it when training")
        return array.astype(np.float32)

    def blocks(self, columns: Columns = slice(None), *, n_rows: int = 512) -> Iterator[Outcomes]:
        """See `OutcomeSource.blocks`."""
        for rows in rows_of_blocks(self.n_models, n_rows, self.strata):
            yield Outcomes(
                self.masks[rows],
                None if self.correct is None else self.correct[rows, columns],
                None if self.margin is None else self.margin[rows, columns],
                None if self.starts is None else self.starts[rows],
                None if self.strata is None else self.strata[rows],
            )


def rows_of_blocks(n_models: int, n_rows: int, strata: Array | None) -> Iterator[slice]:
    """Runs of at most `n_rows` models that part no stratum, unless it is longer itself."""
    start = 0
    while start < n_models:
        stop = min(start + n_rows, n_models)
        if strata is not None and stop < n_models:
            first = start + int(np.searchsorted(strata[start:stop], strata[stop]))
            stop = first if first > start and strata[stop - 1] == strata[stop] else stop
        yield slice(start, stop)
        start = stop

"""What models did: outcomes in memory, and the protocol of whatever can be read block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from infl.records.words import OUTCOME_KINDS, Array, Columns, InputError, OutcomeKind


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

    def blocks(
        self, columns: Columns = slice(None), *, n_rows: int = 512, kinds: Sequence[OutcomeKind] = OUTCOME_KINDS
    ) -> Iterator[Outcomes]:
        """Yield the models in order, at most `n_rows` at a time, with these columns and kinds only; masks stay whole."""
        ...


class _HasOutcomes(Protocol):
    """What holds collections of outcomes by name, as a `Run` does."""

    def outcomes(self, name: str, /) -> OutcomeSource: ...


OutcomesOrRun = OutcomeSource | _HasOutcomes


def as_outcomes(given: OutcomesOrRun) -> OutcomeSource:
    """The outcomes that scores rest on: those given, or of a run those of its models of random subsets (`design`)."""
    return given.outcomes("design") if hasattr(given, "outcomes") else given  # pyright: ignore


@dataclass(frozen=True)
class Outcomes:
    """What T models did on every example, made by infl or by anyone; arrays of other frameworks become NumPy's.

    A block of some columns is one of these too, so that how many columns there are, and what is in them, is looked at only
    where scores begin to read: see `blocks`.

    Attributes:
        masks: [T, n] bool, which examples of D each model trained on.
        correct: [T, n+m] bool, whether the model predicts the label; None where it was not recorded.
        margin: [T, n+m] float, log p(y) - max over c != y of log p(c), above zero where the model is right (the
            correct-class margin of Ilyas et al. 2022, section 2); None where it was not recorded.
        init_seeds: [T] integers: models of one number had the same initial weights and met the examples that they share
            in the same order, so that their difference says more than that of any two; None where that is not known.
        strata: [T] integers: models of one number hold every example equally often between them (a period of a balanced
            design, a pair of complementary halves); None where models are drawn independently.

    Raises:
        InputError: where masks are not bool, or the shapes do not fit each other.
    """

    masks: Array
    correct: Array | None = None
    margin: Array | None = None
    init_seeds: Array | None = None
    strata: Array | None = None

    def __post_init__(self) -> None:
        for name, given in vars(self).items():
            if given is not None and not isinstance(given, np.ndarray):
                object.__setattr__(self, name, np.asarray(given))
        if self.masks.ndim != 2 or self.masks.dtype != np.bool_:
            raise InputError(f"masks: expected a bool array [models, n], got {self.masks.dtype} {self.masks.shape}")
        for name in ("correct", "margin"):
            array = getattr(self, name)
            if array is not None and (array.ndim != 2 or len(array) != self.n_models or array.dtype.kind not in "biuf"):
                raise InputError(
                    f"{name}: expected numbers [models, n+m] with {self.n_models} models as in masks, "
                    f"got {array.dtype} {array.shape}"
                )
        if self.correct is not None and self.margin is not None and self.correct.shape != self.margin.shape:
            raise InputError(
                f"correct and margin: expected one shape [models, n+m], got {self.correct.shape} and {self.margin.shape}"
            )
        for name in ("init_seeds", "strata"):
            array = getattr(self, name)
            if array is not None and array.shape != (self.n_models,):
                raise InputError(f"{name}: expected one number for each of {self.n_models} models, got {array.shape}")

    def __repr__(self) -> str:
        kinds = {"correct": self.correct, "margin": self.margin}
        recorded = [f"{name} {list(array.shape)}" for name, array in kinds.items() if array is not None]
        return f"Outcomes({self.n_models:,} models of subsets of {self.n_train:,} examples: {', '.join(recorded) or 'none'})"

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
        """The outcomes of one kind as float32, [T, columns]."""
        array = self.correct if kind == "correct" else self.margin
        if array is None:
            raise InputError(f"these outcomes hold no {kind!r}; use the other kind, or record it when training")
        return array.astype(np.float32)

    def blocks(
        self, columns: Columns = slice(None), *, n_rows: int = 512, kinds: Sequence[OutcomeKind] = OUTCOME_KINDS
    ) -> Iterator[Outcomes]:
        """See `OutcomeSource.blocks`. All scores are read through here: what cannot be scored is refused, once per record.

        Raises:
            InputError: where columns of training examples are asked for that there are not, an entry of `correct` is not 0
                or 1, or a margin is not finite; model and column are named.
        """
        self._check_columns(columns)
        if not self.__dict__.get("_checked"):
            self._check_entries()
            object.__setattr__(self, "_checked", True)
        for rows in block_rows(self.n_models, n_rows, self.strata):
            yield Outcomes(
                self.masks[rows],
                None if self.correct is None or "correct" not in kinds else self.correct[rows, columns],
                None if self.margin is None or "margin" not in kinds else self.margin[rows, columns],
                None if self.init_seeds is None else self.init_seeds[rows],
                None if self.strata is None else self.strata[rows],
            )

    def _check_columns(self, columns: Columns) -> None:
        bounds = (columns.start or 0, columns.stop or 0) if isinstance(columns, slice) else np.asarray(columns) + 1
        asked = int(np.max(bounds, initial=0))
        if self.n_columns < min(asked, self.n_train):
            raise InputError(
                f"outcomes: expected a column for each of the {self.n_train} training examples of masks, and after them one "
                f"for each held-out example, got {self.n_columns} columns"
            )

    def _check_entries(self) -> None:
        for rows in block_rows(self.n_models, 512, None):
            if self.correct is not None and self.correct.dtype != np.bool_:
                correct = self.correct[rows]
                refuse_entries("correct", correct, (correct != 0) & (correct != 1), rows.start, "0 or 1")
            if self.margin is not None:
                margin = self.margin[rows]
                wanted = "finite numbers (clip infinite ones, leave out models that diverged)"
                refuse_entries("margin", margin, ~np.isfinite(margin), rows.start, wanted)


def join_blocks(blocks: Sequence[Outcomes]) -> Outcomes:
    """Blocks of models, at least one, as one."""
    arrays = {name: [getattr(block, name) for block in blocks] for name in vars(blocks[0]) if name != "_checked"}
    return Outcomes(**{name: np.concatenate(parts) for name, parts in arrays.items() if parts[0] is not None})


def refuse_entries(name: str, array: Array, wrong: Array, first: int, expected: str) -> None:
    """Raise `InputError` where an entry of an array [models, columns], whose rows begin with model `first`, is wrong."""
    if wrong.any():
        model, column = map(int, np.argwhere(wrong)[0])
        came = array[model, column].item()
        raise InputError(f"{name}: expected {expected}, got {came} for model {first + model}, column {column}")


def block_rows(n_models: int, n_rows: int, strata: Array | None) -> Iterator[slice]:
    """Runs of at most `n_rows` models that part no stratum, unless it is longer itself."""
    start = 0
    while start < n_models:
        stop = min(start + n_rows, n_models)
        if strata is not None and stop < n_models:
            first = start + int(np.searchsorted(strata[start:stop], strata[stop]))
            stop = first if first > start and strata[stop - 1] == strata[stop] else stop
        yield slice(start, stop)
        start = stop

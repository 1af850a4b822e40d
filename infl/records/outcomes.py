"""What models did: outcomes in memory, and the protocol of whatever can be read block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from infl.records.verdicts import Quantity
from infl.records.words import OUTCOME_KINDS, Array, Columns, InputError, OutcomeKind

ACCURACY_MODELS = 16  # that accuracies are read from
MAX_MARGIN = 60000.0  # what runs store: float16 ends at 65504
SHARE_STEPS = 1024  # shares of unknown numbers of tokens are told apart by one over that; float16 does not everywhere


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
        correct: [T, n+m] bool or 0/1, whether the model predicts the label; or floating-point shares in [0, 1], of the tokens
            of a document that it predicts, or the probability that it gives the label. None, as all kinds of outcomes,
            where it was not recorded.
        margin: [T, n+m] float, log p(y) - max over c != y of log p(c), above zero where the model is right (the
            correct-class margin of Ilyas et al. 2022, section 2); of documents the mean over tokens.
        init_seeds: [T] integers: models of one number had the same initial weights and met the examples that they share
            in the same order, so that their difference says more than that of any two; None where that is not known.
        strata: [T] integers: models of one number hold every example equally often between them (a period of a balanced
            design, a pair of complementary halves); None where models are drawn independently.
        logprob: [T, n+m] float, at most 0: mean over the tokens of a document of their log-probability.
        exact: [T, n+m] bool or 0/1, whether all tokens of a document are predicted.
        n_tokens: [n+m] numbers of at least 1: of how many tokens the shares in `correct` are means, so that none of their
            errors is below what one token makes; None for `SHARE_STEPS`.

    Raises:
        InputError: where masks are not bool, or the shapes do not fit each other.
    """

    masks: Array
    correct: Array | None = None
    margin: Array | None = None
    init_seeds: Array | None = None
    strata: Array | None = None
    logprob: Array | None = None
    exact: Array | None = None
    n_tokens: Array | None = None

    def __post_init__(self) -> None:
        for name, given in vars(self).items():
            if given is not None and not isinstance(given, np.ndarray):
                object.__setattr__(self, name, np.asarray(given))
        if self.masks.ndim != 2 or self.masks.dtype != np.bool_:
            raise InputError(f"masks: expected a bool array [models, n], got {self.masks.dtype} {self.masks.shape}")
        for name, array in self.recorded.items():
            if array.ndim != 2 or len(array) != self.n_models or array.dtype.kind not in "biuf":
                raise InputError(
                    f"{name}: expected numbers [models, n+m] with {self.n_models} models as in masks, "
                    f"got {array.dtype} {array.shape}"
                )
        if len({array.shape for array in self.recorded.values()}) > 1:
            raise InputError(
                f"{' and '.join(self.recorded)}: expected one shape [models, n+m], "
                f"got {' and '.join(str(array.shape) for array in self.recorded.values())}"
            )
        if self.n_tokens is not None and (self.n_tokens.shape != (self.n_columns,) or self.n_tokens.min(initial=1) < 1):
            raise InputError(
                f"n_tokens: expected a number of at least 1 for each of {self.n_columns} columns, got {self.n_tokens.shape} "
                f"from {self.n_tokens.min(initial=1)}"
            )
        for name in ("init_seeds", "strata"):
            array = getattr(self, name)
            if array is not None and array.shape != (self.n_models,):
                raise InputError(f"{name}: expected one number for each of {self.n_models} models, got {array.shape}")

    def __repr__(self) -> str:
        recorded = [f"{name} {list(array.shape)}" for name, array in self.recorded.items()]
        return f"Outcomes({self.n_models:,} models of subsets of {self.n_train:,} examples: {', '.join(recorded) or 'none'})"

    @property
    def n_models(self) -> int:
        return len(self.masks)

    @property
    def n_train(self) -> int:
        return self.masks.shape[1]

    @property
    def n_columns(self) -> int:
        for array in self.recorded.values():
            return array.shape[1]
        raise InputError(f"outcomes: none of {', '.join(OUTCOME_KINDS)} was given")

    @property
    def tokens(self) -> Array:
        """Tokens that shares are means of, or as many as they are told apart by, [n+m]."""
        return np.full(self.n_columns, SHARE_STEPS) if self.n_tokens is None else self.n_tokens

    @property
    def recorded(self) -> dict[OutcomeKind, Array]:
        """Outcomes by their kind."""
        return {kind: array for kind in OUTCOME_KINDS if (array := getattr(self, kind)) is not None}

    def of(self, kind: OutcomeKind) -> Array:
        """The outcomes of one kind as float32, [T, columns]."""
        if kind not in self.recorded:
            there = " and ".join(self.recorded) or "no other"
            raise InputError(
                f"these outcomes hold no {kind!r} but {there}; use another kind, or record it when training"
            )
        return self.recorded[kind].astype(np.float32)

    def is_binary(self, kind: OutcomeKind) -> bool:
        """Whether outcomes of a kind are 0/1 by their dtype, so that they are counted; of `correct` floats are shares.

        `blocks` gives shares that are all 0 or 1 as bool.
        """
        return kind in ("correct", "exact") and kind in self.recorded and self.recorded[kind].dtype.kind != "f"

    def blocks(
        self, columns: Columns = slice(None), *, n_rows: int = 512, kinds: Sequence[OutcomeKind] = OUTCOME_KINDS
    ) -> Iterator[Outcomes]:
        """See `OutcomeSource.blocks`. All scores are read through here: what cannot be scored is refused, once per record.

        Raises:
            InputError: where columns of training examples are asked for that there are not, or an entry of an outcome is out of
                its range; model and column are named.
        """
        self._check_columns(columns)
        if "_checked" not in self.__dict__:
            object.__setattr__(self, "_checked", self._check_entries())
        for rows in block_rows(self.n_models, n_rows, self.strata):
            wanted = {kind: array[rows, columns] for kind, array in self.recorded.items() if kind in kinds}
            for kind in self.__dict__["_checked"] & wanted.keys():
                wanted[kind] = wanted[kind].astype(bool, copy=False)
            yield Outcomes(
                self.masks[rows],
                **wanted,
                init_seeds=None if self.init_seeds is None else self.init_seeds[rows],
                strata=None if self.strata is None else self.strata[rows],
                n_tokens=None if self.n_tokens is None or not wanted else self.n_tokens[columns],
            )

    def _check_columns(self, columns: Columns) -> None:
        bounds = (columns.start or 0, columns.stop or 0) if isinstance(columns, slice) else np.asarray(columns) + 1
        asked = int(np.max(bounds, initial=0))
        if self.n_columns < min(asked, self.n_train):
            raise InputError(
                f"outcomes: expected a column for each of the {self.n_train} training examples of masks, and after them one "
                f"for each held-out example, got {self.n_columns} columns"
            )

    def _check_entries(self) -> set[OutcomeKind]:
        """Check that all entries lie in the range of their kind; the kinds whose entries are all 0 or 1."""
        binary = set[OutcomeKind]()
        for kind, array in self.recorded.items():
            all_binary = kind in ("correct", "exact")
            for rows in block_rows(self.n_models if array.dtype != np.bool_ else 0, 512, None):
                wrong, expected = wrong_entries(kind, array[rows])
                refuse_entries(kind, array[rows], wrong, rows.start, expected)
                all_binary = all_binary and bool(np.isin(array[rows], (0, 1)).all())
            binary |= {kind} if all_binary else set()
        return binary


def wrong_entries(kind: OutcomeKind, array: Array) -> tuple[Array, str]:
    """Which entries of outcomes lie out of the range of their kind, and what is expected of all."""
    if kind == "correct" and array.dtype.kind == "f":
        return ~((array >= 0) & (array <= 1)), "0 or 1, or shares from 0 to 1"
    if kind in ("correct", "exact"):
        return (array != 0) & (array != 1), "0 or 1"
    finite = "finite numbers (clip infinite ones, leave out models that diverged)"
    if kind == "logprob":
        return ~(np.isfinite(array) & (array <= 0)), f"{finite} of at most 0"
    return ~np.isfinite(array), finite


def join_blocks(blocks: Sequence[Outcomes]) -> Outcomes:
    """Blocks of models, at least one, as one."""
    names = [field.name for field in fields(Outcomes) if field.name != "n_tokens"]
    arrays = {
        name: [getattr(block, name) for block in blocks] for name in names if getattr(blocks[0], name) is not None
    }
    return Outcomes(**{name: np.concatenate(parts) for name, parts in arrays.items()}, n_tokens=blocks[0].n_tokens)


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


@dataclass(frozen=True)
class Accuracy:
    """How often models are right, beside a model that always names the largest class.

    Attributes:
        trained: On the examples of D that each model was trained on; NaN where outcomes are of H alone.
        held_out: On H; NaN where there is none.
        largest_class: Fractions of D and of H that are of their largest class: what needs no learning; NaN where outcomes are
            not those of classes.
        n_models: Models that this was read from.
        clipped: Fraction of their margins at the bound of what is stored, `MAX_MARGIN`.
    """

    trained: Quantity
    held_out: Quantity
    largest_class: tuple[float, float]
    n_models: int
    clipped: float

    @property
    def learned(self) -> bool:
        """Whether they are right more often than naming the largest class is, by more than the error, on D or on H.

        True where outcomes are not those of classes.
        """
        if all(map(math.isnan, self.largest_class)):
            return True
        both = zip((self.trained, self.held_out), self.largest_class, strict=True)
        return any(one.value - one.se > fraction for one, fraction in both)

    def to_dict(self) -> dict[str, Any]:
        """As JSON; what is not known is None."""
        sides = {"trained": self.trained, "held_out": self.held_out}
        fields: dict[str, Any] = {
            name: None if math.isnan(one.value) else {"value": one.value, "se": one.se} for name, one in sides.items()
        }
        largest = dict(zip(sides, (None if math.isnan(p) else p for p in self.largest_class), strict=True))
        rest = {"largest_class": largest, "n_models": self.n_models, "clipped_margins": self.clipped}
        return fields | rest | {"learned": self.learned}


def measure_accuracy(
    outcomes: Outcomes, *, largest_class: tuple[float, float], held_out_only: bool = False
) -> Accuracy:
    """Mean accuracies, with errors over models and over examples, sqrt(var_t a_t / T + p (1 - p) / examples).

    Without `correct` a model is right where its margin is above 0.

    Args:
        held_out_only: Whether columns are those of H alone.
    """
    right = outcomes.of("correct") if outcomes.correct is not None else outcomes.of("margin") > 0
    n = 0 if held_out_only else outcomes.n_train
    members = outcomes.masks[:, :n]
    clipped = 0.0 if outcomes.margin is None else float((np.abs(outcomes.margin) >= MAX_MARGIN).mean())
    trained = _fraction((right[:, :n] * members).sum(axis=1), members.sum(axis=1))
    held_out = _fraction(right[:, n:].sum(axis=1), np.full(len(right), right.shape[1] - n))
    on_d, on_h = largest_class
    return Accuracy(trained, held_out, (math.nan if held_out_only else on_d, on_h), len(right), clipped)


def _fraction(n_right: Array, n_examples: Array) -> Quantity:
    if not len(n_examples) or not n_examples.min():
        return Quantity(math.nan, math.nan)
    each, p = n_right / n_examples, (n_right.mean() + 0.5) / (n_examples.mean() + 1)
    between = each.var(ddof=1) / len(each) if len(each) > 1 else 0.0
    return Quantity(float(each.mean()), float(np.sqrt(between + p * (1 - p) / n_examples.mean())))

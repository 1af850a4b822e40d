"""What the stages hand each other. Every stage imports this file; it imports nothing of infl.

Letters used throughout: `n` training examples D with ids 0..n-1, `m` held-out examples H whose columns are n..n+m-1,
`T` models. Arrays are NumPy arrays on the host, axes in the order model, training example, column.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    import pandas
    import xarray

Array = np.ndarray
Columns = slice | Array  # a run of columns, or their numbers
Reading = Literal["held-out", "left-out", "trained"]
OutcomeKind = Literal["correct", "margin"]
Regime = Literal["no-op", "local", "spreading", "indirect", "undetermined"]

REGIMES: tuple[Regime, ...] = ("no-op", "local", "spreading", "indirect")


class InputError(ValueError):
    """A user's mistake. The message says what was expected, what came, and what to do."""


@dataclass(frozen=True)
class Dataset:
    """Labelled examples: D to train on, H to judge on.

    Pixels are float32 and used as they are, or uint8 and divided by 255 on the device. No statistic of D enters the
    pixels: otherwise an example that a model leaves out would still reach it.

    x_train: [n, ...] float32 or uint8; [n, 0] where outcomes were imported and pixels did not come with them.
    y_train: [n] int32, classes 0..c-1.
    x_held_out: [m, ...], same dtype and shape per example.
    y_held_out: [m] int32.
    train_ids: [n] position of each training example in the source it came from.
    held_out_ids: [m] likewise.
    class_names: c names.
    source: what `infl.load` was given, so that a person can tell where the examples came from.
    """

    name: str
    x_train: Array
    y_train: Array
    x_held_out: Array
    y_held_out: Array
    train_ids: Array
    held_out_ids: Array
    class_names: tuple[str, ...]
    source: str = ""

    @property
    def n_train(self) -> int:
        return len(self.y_train)

    @property
    def n_held_out(self) -> int:
        return len(self.y_held_out)

    @property
    def n_columns(self) -> int:
        return self.n_train + self.n_held_out

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @property
    def has_pixels(self) -> bool:
        return self.x_train.size > 0

    @property
    def images(self) -> Array:
        """Pixels of all columns, [n+m, ...]."""
        return np.concatenate([self.x_train, self.x_held_out])

    @property
    def labels(self) -> Array:
        """Labels of all columns, [n+m]."""
        return np.concatenate([self.y_train, self.y_held_out])

    def fingerprint(self) -> str:
        """SHA-256 of pixels, labels, shapes and dtypes: two datasets with the same one train the same models."""
        digest = hashlib.sha256()
        for array in (self.x_train, self.y_train, self.x_held_out, self.y_held_out):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def flat_pixels(x: Array) -> Array:
    """Pixels [k, ...] as infl trains on them, float32 and uint8 divided by 255, one row per example: [k, d]."""
    flat = x.reshape(len(x), -1).astype(np.float32)
    return flat / 255 if x.dtype == np.uint8 else flat


@dataclass(frozen=True, eq=False)
class Groups:
    """Examples of D that belong together, at several resolutions: classes, clusters, users, documents.

    names: of the resolutions, R.
    tables: [R, n] int32, the group of each example, 0..g-1; -1 where an example is in none.

    Raises:
        InputError: where a table holds other numbers, no group at all, or there are not as many tables as names.
    """

    names: tuple[str, ...]
    tables: Array

    def __post_init__(self) -> None:
        tables = self.tables
        if tables.ndim != 2 or not np.issubdtype(tables.dtype, np.integer) or len(tables) != len(self.names):
            raise InputError(
                f"groups: expected one row of integers [n] for each of {len(self.names)} names, "
                f"got {tables.dtype} {tables.shape}"
            )
        if not len(self.names):
            raise InputError("groups: expected at least one resolution")
        for name, table in zip(self.names, tables, strict=True):
            used = np.unique(table[table != -1])
            if not len(used) or used[0] < 0 or used[-1] != len(used) - 1:
                raise InputError(f"groups {name}: expected the numbers 0..g-1 without gaps, and -1 for no group")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Groups) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def fingerprint(self) -> str:
        """SHA-256 of names and tables."""
        digest = hashlib.sha256(repr((tuple(map(str, self.names)), self.tables.shape)).encode())
        digest.update(np.ascontiguousarray(self.tables, dtype=np.int32).data)
        return digest.hexdigest()


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


@dataclass(frozen=True)
class Estimate:
    """Scores with their errors and counts; NaN where there is no estimate, and the counts say why.

    value, se: same shape: [n] for memorization, [n, columns] for influence. The error takes the design into account, and is
        that of proportions with one success and one failure added, so that it is not 0 where all outcomes of a side agree.
    n_in, n_out: models on each side of the difference, broadcastable to that shape.
    reading: which models a column is read in (DESIGN: held-out, left-out or trained).
    outcome: `correct` makes the unit a probability, `margin` makes it log-odds against the best other class.
    center: middle of the intervals, see `infl.interval`; None for `value`.
    p: chance of a score as far from 0, were the masks shuffled against the outcomes; two-sided. See `infl.q_values`.
    """

    value: Array
    se: Array
    n_in: Array
    n_out: Array
    reading: Reading | Literal["own"]
    outcome: OutcomeKind
    center: Array | None = None
    p: Array | None = None

    def to_dataframe(
        self,
        dataset: Dataset | None = None,
        *,
        sources: Sequence[int] | Array | None = None,
        targets: Sequence[int] | Array | None = None,
    ) -> pandas.DataFrame:
        """One row per score, with its error and counts (needs the extra `analysis`).

        Memorization has a column `example`; influence, in long form, `source` and `target`, where a held-out target j is
        n + j. Pairs without an estimate are there, as NaN. A matrix larger than memory comes in blocks: give the sources
        and targets of each.

        dataset: adds the names of the labels, and checks the shape.
        sources, targets: ids of rows and columns, where the estimate is not of all of D, or not of all columns.

        Raises:
            InputError: where pandas is not installed, or ids are missing or do not fit the shape.

        Example:
            >>> import numpy as np, infl
            >>> masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]] * 4, bool)
            >>> outcomes = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0]])
            >>> infl.influence(outcomes).to_dataframe()[["source", "target", "value"]].values.tolist()
            [[0.0, 3.0, 1.0], [1.0, 3.0, -0.5], [2.0, 3.0, -0.5]]
        """
        frames, axes = _optional("pandas"), self._axes(dataset, sources, targets)
        columns: dict[str, Any] = {}
        for (name, ids), grid in zip(axes.items(), np.indices(self.value.shape), strict=True):
            columns[name] = ids[grid.ravel()]
        for name in axes if dataset is not None else ():
            assert dataset is not None
            codes = dataset.labels[columns[name]]
            columns[_label_of(name)] = frames.Categorical.from_codes(codes, categories=list(dataset.class_names))
        return frames.DataFrame(columns | {name: array.ravel() for name, array in self._arrays().items()})

    def to_xarray(
        self,
        dataset: Dataset | None = None,
        *,
        sources: Sequence[int] | Array | None = None,
        targets: Sequence[int] | Array | None = None,
    ) -> xarray.Dataset:
        """The arrays with their dimensions named, (example) or (source, target); see `to_dataframe`.

        Raises:
            InputError: where xarray is not installed, or ids are missing or do not fit the shape.

        Example:
            >>> import numpy as np, infl
            >>> masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]] * 4, bool)
            >>> outcomes = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0]])
            >>> float(infl.influence(outcomes).to_xarray().value.sel(source=0, target=3))
            1.0
        """
        axes = self._axes(dataset, sources, targets)
        coordinates: dict[str, Any] = dict(axes)
        for name, ids in axes.items() if dataset is not None else ():
            assert dataset is not None
            coordinates[_label_of(name)] = (name, np.array(dataset.class_names)[dataset.labels[ids]])
        variables = {name: (tuple(axes), array) for name, array in self._arrays().items()}
        attributes = {"reading": self.reading, "outcome": self.outcome}
        return _optional("xarray").Dataset(variables, coordinates, attributes)

    def _arrays(self) -> dict[str, Array]:
        """Scores and what is known of each, in the shape of the scores; counts as integers."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        arrays = {name: np.broadcast_to(a, self.value.shape) for name, a in given.items() if isinstance(a, np.ndarray)}
        return arrays | {name: arrays[name].astype(np.int64) for name in ("n_in", "n_out")}

    def _axes(
        self, dataset: Dataset | None, sources: Sequence[int] | Array | None, targets: Sequence[int] | Array | None
    ) -> dict[str, Array]:
        """Names of the dimensions and the ids along each."""
        shape, n_train = self.value.shape, None if dataset is None else dataset.n_train
        rows = np.arange(shape[0] if n_train is None else n_train) if sources is None else np.asarray(sources)
        axes = {"example" if len(shape) == 1 else "source": rows}
        if len(shape) == 2 and targets is None:
            if self.reading != "held-out":
                targets = rows if sources is None else np.arange(shape[1] if n_train is None else n_train)
            elif n_train is None and sources is not None:
                raise InputError(
                    "held-out columns are numbered from n on, which some sources do not tell: give dataset"
                )
            else:
                first = len(rows) if n_train is None else n_train
                targets = np.arange(first, first + shape[1] if dataset is None else dataset.n_columns)
        if len(shape) == 2:
            axes["target"] = np.asarray(targets)
        for (name, ids), length in zip(axes.items(), shape, strict=True):
            if ids.shape != (length,):
                raise InputError(
                    f"{name}: expected {length} ids, as many as there are scores, got {ids.size}; "
                    f"say which they are with sources=... and targets=..., or give the dataset of the models"
                )
            if dataset is not None and length and not 0 <= ids.min() <= ids.max() < dataset.n_columns:
                raise InputError(f"{name}: expected ids 0..{dataset.n_columns - 1}, got {ids.min()}..{ids.max()}")
        return axes


@dataclass(frozen=True)
class ForgetSet:
    """Training examples S to forget.

    ids: sorted, distinct, within D.
    concept: ids of the full set of the behaviour that S is part of, where it is known.
    """

    name: str
    ids: tuple[int, ...]
    concept: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def retained(self, n_train: int) -> Array:
        """Mask [n] of D without S."""
        mask = np.ones(n_train, bool)
        mask[list(self.ids)] = False
        return mask


@dataclass(frozen=True)
class Effects:
    """Effect of untraining S on every example, D_j(S) = P_A(D)[correct_j] - P_A(D\\S)[correct_j], predicted or measured.

    effect, se: [n+m].
    replicates: [B, n+m] equally good estimates whose mean is `effect` and whose scatter / sqrt(B) is its error. Any
        sum over examples gets its error from the same sum over each replicate, so correlations between examples
        are kept. Measured effects have one replicate per seed, predicted ones one per group of models.
    source: `retrained`, or the name of the predictor.
    n_models: models the effects rest on.
    covariance: [2, 2] of (self, cross), from a predictor that knows more of its errors than replicates show. Then `effect` and
        `se` are mean and standard deviation of a posterior, and there are no replicates, [0, n+m].
    covered: largest share of S that a model left out at once, for predictors to which that matters.
    whole: effects of untraining all of the concept that S is part of, where S has one and they are known.
    """

    forget_set: ForgetSet
    n_train: int
    effect: Array
    se: Array
    replicates: Array
    source: str
    n_models: int
    covariance: Array | None = None
    covered: float = math.nan
    whole: Effects | None = None


@dataclass(frozen=True)
class Quantity:
    """A number and its standard error."""

    value: float
    se: float


@dataclass(frozen=True)
class ConceptGap:
    """How far untraining S is from unlearning the concept that S is a discovered part of.

    Over the held-out examples of the concept, those k with D_k(S_full) >= e, where S_full is all of the concept's examples:

        gap = mean of D_k(S_full) - D_k(S)

    the accuracy on the concept that A(D\\S) has and A(D\\S_full) has not. 0 where the part does what the whole does.

    n_full: size of S_full; n_held_out: examples averaged over; of_part, of_whole: mean effects there.
    value: NaN where unlearning the concept takes e from no held-out example. Its error takes the examples as independent.
    """

    n_full: int
    n_held_out: int
    of_part: float
    of_whole: float
    value: Quantity


@dataclass(frozen=True)
class Thresholds:
    """Where the regimes part. Infl's own choice: the note that defines the regimes gives none.

    self_influence, cross_influence: least self(S), cross(S) called high.
    effect: least |D_j(S)| that counts as harm or gain.
    probability: a verdict below it is `undetermined`.
    cross: whether cross is judged by its net value or by harm alone.

    Raises:
        InputError: for a threshold out of its range.
    """

    self_influence: float = 0.1
    cross_influence: float = 0.1
    effect: float = 0.1
    probability: float = 0.8
    cross: Literal["net", "harm"] = "net"

    def __post_init__(self) -> None:
        for name in ("self_influence", "cross_influence", "effect"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"threshold {name}: expected a finite number of at least 0, got {getattr(self, name)}")
        if not 0 < self.probability <= 1:
            raise InputError(f"threshold probability: expected a number above 0 and at most 1, got {self.probability}")
        if self.cross not in ("net", "harm"):
            raise InputError(f"threshold cross: expected net or harm, got {self.cross!r}")


@dataclass(frozen=True)
class Verdict:
    """The regime of one forget set with everything it was decided by.

    probability: of each of the four regimes; they sum to one, or are NaN where the errors are unknown.
    hurt_most: ids of the columns outside S with the largest effects, largest first.
    models_needed: roughly how many models would decide; None when decided, or when none of 4,096 times as many would.
    concept_gap: for sets with a concept, where its effects are known.
    """

    forget_set: ForgetSet
    regime: Regime
    probability: dict[str, float]
    self_influence: Quantity
    cross_influence: Quantity
    harm: Quantity
    gain: Quantity
    thresholds: Thresholds
    source: str
    n_models: int
    hurt_most: tuple[int, ...] = ()
    hurt_most_effects: tuple[float, ...] = ()
    models_needed: int | None = None
    note: str = ""
    concept_gap: ConceptGap | None = None


@dataclass(frozen=True)
class Detectable:
    """The smallest true effect that the models at hand find with chance `power`, at a false discovery rate over all tests.

    typical: in the column of median noise. worst: where outcomes are right half of the time (NaN for margins). NaN where
        there are too few models for any error.
    n_tests: examples, or pairs, that the false discovery rate is over.
    p_cut: the largest p-value that counts as found.
    """

    typical: float
    worst: float
    n_tests: int
    p_cut: float
    power: float
    false_discovery_rate: float
    outcome: OutcomeKind


@dataclass(frozen=True)
class ScoredPair:
    """Training example `source` raises (or lowers) the probability that column `target` is predicted correctly.

    p, q: its p-value, and the false discovery rate at which it is found among those it was picked from; NaN where not asked.
    """

    source: int
    target: int
    value: float
    se: float
    p: float = math.nan
    q: float = math.nan


def _label_of(axis: str) -> str:
    return "label" if axis == "example" else f"{axis}_label"


def _optional(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"this needs {module}, which is not installed: pip install 'infl[analysis]'") from error

"""What scores say: estimates with their errors, single pairs, and the smallest effect that could have been found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infl.records.examples import Dataset
from infl.records.words import Array, InputError, OutcomeKind, ProtocolName

if TYPE_CHECKING:
    import pandas
    import xarray


@dataclass(frozen=True)
class Estimate:
    """Scores with their errors and counts; NaN where there is no estimate, and the counts say why.

    Attributes:
        value, se: Same shape: [n] for memorization, [n, columns] for influence. The error takes the design into
            account, and is that of proportions with one success and one failure added, so that it is not 0 where all
            outcomes of a side agree.
        n_in, n_out: Models on each side of the difference, broadcastable to that shape.
        protocol: Which models a column is read in: `held-out`, `left-out` or `trained`, and `own` for memorization.
        outcome: `correct` makes the unit a probability, `margin` makes it log-odds against the best other class.
        mean_out: Mean outcome of the models without the source, of the shape of `value`; with `value` it tells how near
            0 and 1 both sides are, as `infl.interval` has to know. None where scores are no difference of two means of
            outcomes.
        p: Chance of a score as far from 0, were the masks shuffled against the outcomes; two-sided. See
            `infl.q_values`.
    """

    value: Array
    se: Array
    n_in: Array
    n_out: Array
    protocol: ProtocolName | Literal["own"]
    outcome: OutcomeKind
    mean_out: Array | None = None
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

        Args:
            dataset: Adds the names of the labels, and checks the shape.
            sources, targets: Ids of rows and columns, where the estimate is not of all of D, or not of all columns.

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
        attributes = {"protocol": self.protocol, "outcome": self.outcome}
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
            if self.protocol != "held-out":
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
class ScoredPair:
    """Training example `source` raises (or lowers) the probability that column `target` is predicted correctly.

    Attributes:
        p, q: Its p-value, and the false discovery rate at which it is found among those it was picked from; NaN where
            not asked.
    """

    source: int
    target: int
    value: float
    se: float
    p: float = math.nan
    q: float = math.nan


@dataclass(frozen=True)
class Detectable:
    """The smallest true effect that the models at hand find with chance `power`, at a false discovery rate over all tests.

    Attributes:
        typical: In the column of median noise.
        worst: Where outcomes are right half of the time (NaN for margins). NaN where there are too few models for any
            error.
        n_tests: Examples, or pairs, that the false discovery rate is over.
        p_cut: The largest p-value that counts as found.
    """

    typical: float
    worst: float
    n_tests: int
    p_cut: float
    power: float
    false_discovery_rate: float
    outcome: OutcomeKind


def _label_of(axis: str) -> str:
    return "label" if axis == "example" else f"{axis}_label"


def _optional(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(f"this needs {module}, which is not installed: pip install 'infl[analysis]'") from error

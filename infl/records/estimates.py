"""What scores say: estimates with their errors, single pairs, and the smallest effect that could have been found."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infl.records.examples import Dataset
from infl.records.verdicts import Quantity
from infl.records.words import UNITS, Array, InputError, OutcomeKind, ProtocolName

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Estimate:
    """Scores with their errors and counts; NaN where there is no estimate, and the counts say why.

    Attributes:
        value: [n] for memorization, [n, columns] for influence.
        se: Standard error, of the same shape. It takes the design into account, and is that of proportions with one
            success and one failure added, so that it is not 0 where all outcomes of a side agree.
        n_in: Models that trained on the source, broadcastable to that shape.
        n_out: Models that did not.
        protocol: Which models a column is read in: `held-out`, `left-out` or `trained`, and `own` for memorization.
        outcome: Whose unit the scores have: a probability (of documents a fraction of tokens), log-odds against the best
            other class, nats a token.
        mean_out: Mean outcome of the models without the source, of the shape of `value`; with `value` it tells how near
            0 and 1 both sides are, as `infl.interval` has to know. None where scores are no difference of two means of
            outcomes.
        p: Chance of a score as far from 0, were the masks shuffled against the outcomes; two-sided. See
            `infl.q_values`.
        df: Satterthwaite's degrees of freedom of `se`, where that is by sample variances and not by counts; None too where
            they are not known, for infinitely many.
        sources: Of influence, the ids of D that it is of; None for all, in order.
        columns: The columns of n+m that it is of; None for all, in order.
    """

    value: Array
    se: Array
    n_in: Array
    n_out: Array
    protocol: ProtocolName | Literal["own"]
    outcome: OutcomeKind
    mean_out: Array | None = None
    p: Array | None = None
    df: Array | None = None
    sources: Array | None = None
    columns: Array | None = None

    def __repr__(self) -> str:
        name = "memorization" if self.protocol == "own" else f"{self.protocol} influence"
        n_models = int(np.max(self.n_in + self.n_out, initial=0))
        said = f"Estimate({name} {list(self.value.shape)} in {UNITS[self.outcome]}, from {n_models:,} models"
        known = self.rankable
        if np.isnan(known).all():
            return f"{said}; no estimate with an error)"
        at = np.unravel_index(np.nanargmax(known), known.shape)
        return f"{said}; largest {known[at]:.2f} ± {self.se[at]:.2f} at {list(map(int, at))})"

    @property
    def is_counted(self) -> bool:
        """Whether the scores are differences of two fractions of models, so that counts say more than errors."""
        return self.outcome in ("correct", "exact") and self.mean_out is not None and self.df is None

    @property
    def rankable(self) -> Array:
        """The scores that have an error, NaN for the others: one model on a side can give any score.

        Nor is an error of 0 one: margins that all are at a bound do not say how they would scatter.
        """
        return np.where(np.isfinite(self.se) & (self.se > 0), self.value, np.nan)

    def to_dataframe(self, dataset: Dataset | None = None) -> pandas.DataFrame:
        """One row per score, with its error and counts .

        Memorization has a column `example`; influence, in long form, `source` and `target`, where a held-out target j is
        n + j. Pairs without an estimate are there, as NaN. With ids as its index it becomes a matrix of xarray:
        `frame.set_index(["source", "target"]).to_xarray()`.

        Args:
            dataset: Adds the names of the labels.

        Raises:
            InputError: where the dataset has no such examples.

        Examples:
            >>> import numpy as np, infl
            >>> masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]] * 4, bool)
            >>> outcomes = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0]])
            >>> infl.influence(outcomes).to_dataframe()[["source", "target", "value"]].values.tolist()
            [[0.0, 3.0, 1.0], [1.0, 3.0, -0.5], [2.0, 3.0, -0.5]]
        """
        frames, axes = import_module("pandas"), self._axes(dataset)
        grids = zip(axes.items(), np.indices(self.value.shape), strict=True)
        columns: dict[str, Any] = {name: ids[grid.ravel()] for (name, ids), grid in grids}
        if dataset is not None:
            for name in axes:
                codes = dataset.labels[columns[name]]
                columns[_label_of(name)] = frames.Categorical.from_codes(codes, categories=list(dataset.class_names))
        return frames.DataFrame(columns | {name: array.ravel() for name, array in self._arrays().items()})

    def _arrays(self) -> dict[str, Array]:
        """Scores and what is known of each, in the shape of the scores; counts as integers."""
        names = ("value", "se", "n_in", "n_out", "mean_out", "p")
        arrays = {n: np.broadcast_to(getattr(self, n), self.value.shape) for n in names if getattr(self, n) is not None}
        return arrays | {name: arrays[name].astype(np.int64) for name in ("n_in", "n_out")}

    def _axes(self, dataset: Dataset | None) -> dict[str, Array]:
        """Names of the dimensions and the ids along each."""
        given = {"example": self.sources} if self.value.ndim == 1 else {"source": self.sources, "target": self.columns}
        axes = {
            name: np.arange(length) if ids is None else ids
            for (name, ids), length in zip(given.items(), self.value.shape, strict=True)
        }
        for name, ids in axes.items():
            if dataset is not None and len(ids) and ids.max() >= dataset.n_columns:
                raise InputError(
                    f"{name}: these scores are of examples up to {ids.max()}, the dataset has {dataset.n_columns}"
                )
        return axes


@dataclass(frozen=True)
class ScoredPair:
    """Training example `source` raises (or lowers) the probability that column `target` is predicted correctly.

    Attributes:
        p: Its p-value; NaN where not asked.
        q: The false discovery rate at which it is found among those it was picked from; NaN where not asked.
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
        worst: Where outcomes are right half of the time; NaN for what has no range, as margins. Both are NaN where there are
            too few models for any error.
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


@dataclass(frozen=True, eq=False)
class Agreement:
    """How far two sets of scores of the same k examples, or pairs, agree; made by `infl.scores.agreement.measure_agreement`.

    Attributes:
        source: [k] ids of the training examples.
        target: [k] of whom they influence; of memorization, the same ids.
        a: [k] the scores of one side.
        b: [k] those of the other.
        a_se: [k] standard errors; NaN where they are not known.
        b_se: [k] likewise.
        spearman: Rank correlation; NaN where k < 3 or one side does not vary, as `pearson`.
        pearson: Correlation of the values.
        difference: Mean of a - b.
        rms: Root mean square of a - b.
        explained: Fraction of the mean square of a - b that the two errors bring, were they independent; NaN where a side
            has none.
    """

    source: Array
    target: Array
    a: Array
    b: Array
    a_se: Array
    b_se: Array
    spearman: Quantity
    pearson: Quantity
    difference: Quantity
    rms: Quantity
    explained: Quantity

    def __len__(self) -> int:
        return len(self.a)

    def __repr__(self) -> str:
        return f"Agreement({len(self):,} scores: Spearman {self.spearman}, Pearson {self.pearson}, rms difference {self.rms})"

    def to_dict(self) -> dict[str, Any]:
        """The numbers, without the scores."""
        names = ("spearman", "pearson", "difference", "rms", "explained")
        return {"n": len(self), **{name: asdict(getattr(self, name)) for name in names}}


def _label_of(axis: str) -> str:
    return "label" if axis == "example" else f"{axis}_label"

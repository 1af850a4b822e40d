"""Turns scores into files for other tools: a table as CSV or Parquet, and the .npz layout of the published scores."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infl.records import Array, Dataset, Estimate, InputError, Reading, ScoredPair
from infl.report.machine import write_arrays

COLUMNS = (
    "kind",
    "source",
    "target",
    "source_label",
    "target_label",
    "reading",
    "value",
    "se",
    "n_in",
    "n_out",
    "p",
    "q",
)
Row = dict[str, Any]


def check_table(path: Path | None) -> None:
    """Check, before work goes into a table, that this kind of file can be written.

    Raises:
        InputError: for another ending than .csv or .parquet, or where Parquet is asked for and pyarrow is not installed.
    """
    if path is not None and path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path}: expected a path that ends in .csv or .parquet")
    if path is not None and path.suffix == ".parquet":
        _parquet()


def memorization_rows(memorization: Estimate, dataset: Dataset, *, q: Array | None = None) -> list[Row]:
    """A row of the table per training example, source and target both; q: q-values, [n]."""
    ids = range(dataset.n_train)
    return [_row("memorization", i, i, memorization.reading, dataset, _scores(memorization, q, (i,))) for i in ids]


def pair_rows(pairs: Sequence[ScoredPair], reading: Reading, dataset: Dataset) -> list[Row]:
    """A row of the table per pair; pairs carry no counts."""
    scores = [{name: _known(getattr(pair, name)) for name in ("value", "se", "p", "q")} for pair in pairs]
    return [
        _row("influence", pair.source, pair.target, reading, dataset, of)
        for pair, of in zip(pairs, scores, strict=True)
    ]


def influence_rows(
    influence: Estimate,
    sources: Sequence[int] | Array,
    targets: Sequence[int] | Array,
    dataset: Dataset,
    *,
    q: Array | None = None,
) -> list[Row]:
    """A row of the table per pair of a source and a target, but for those of an example with itself; q: q-values."""
    return [
        _row("influence", int(sources[i]), int(targets[j]), influence.reading, dataset, _scores(influence, q, (i, j)))
        for i, j in np.ndindex(influence.value.shape)
        if sources[i] != targets[j]
    ]


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV or, where the path ends in .parquet, as Parquet (which needs the extra `analysis`).

    Columns: `kind` (memorization, or influence of the training example `source` on the column `target`, n + j for a held-out
    one), `source_label`, `target_label`, `reading`, `value`, `se`, the counts `n_in` and `n_out`, `p` and `q`. A column that
    no row has is left out; what is unknown is empty, or null.

    Raises:
        InputError: where the path cannot be written or ends in something else, or pyarrow is not installed.
    """
    check_table(path)
    names = [name for name in COLUMNS if any(row.get(name) is not None for row in rows)] or list(COLUMNS[:8])
    try:
        if path.suffix == ".csv":
            with open(path, "w", newline="") as file:
                writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
        else:
            arrow, parquet = _parquet()
            table = arrow.table({name: [row.get(name) for row in rows] for name in names})
            with open(path, "wb") as file:
                parquet.write_table(table, file)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_feldman_zhang(
    path: Path, memorization: Estimate, classes: Iterable[tuple[Array, Array, Estimate | None]], dataset: Dataset
) -> None:
    """Write scores in the layout of `cifar100_infl_matrix.npz`, so that what reads the published scores reads these.

        tr_labels [n], tt_labels [m]   labels of the training and of the held-out ("test") examples
        tr_mem [n]                     memorization
        tr_classidx_C, tt_classidx_C   positions of the examples of class C among the training, among the held-out ones
        infl_matrix_classC             [training examples of C, held-out examples of C] influence, within the class alone

    Those are the arrays of the file that Feldman & Zhang (2020) offer at https://pluskid.github.io/influence-memorization/, by
    the code that reads it (`tr_mem` is also what `imagenet_index.npz` calls its scores). Their sign and reading are infl's:
    accuracy with the example less accuracy without, held-out examples over all models, positive where training helps. Theirs
    are plain differences in means over subsets of 70%. Besides, and absent there: `tr_mem_se` and `infl_se_classC`, standard
    errors. NaN where there is no estimate: theirs take the accuracy of no models as 0.

    classes: training examples, held-out columns and influence (None where there are none of either), class after class, as
        `scores.query.influence_within_classes` yields them.

    Raises:
        InputError: where the path cannot be written.
    """
    arrays: dict[str, Array] = {
        "tr_labels": dataset.y_train.astype(np.int64),
        "tt_labels": dataset.y_held_out.astype(np.int64),
        "tr_mem": memorization.value.astype(np.float32),
        "tr_mem_se": memorization.se.astype(np.float32),
    }
    for c, (sources, targets, influence) in enumerate(classes):
        empty = np.zeros((len(sources), len(targets)))
        arrays[f"tr_classidx_{c}"] = sources
        arrays[f"tt_classidx_{c}"] = targets - dataset.n_train
        arrays[f"infl_matrix_class{c}"] = (empty if influence is None else influence.value).astype(np.float32)
        arrays[f"infl_se_class{c}"] = (empty if influence is None else influence.se).astype(np.float32)
    write_arrays(path, **arrays)


def _row(kind: str, source: int, target: int, reading: str, dataset: Dataset, scores: Row) -> Row:
    labels = {"source_label": _label(dataset, source), "target_label": _label(dataset, target)}
    return {"kind": kind, "source": source, "target": target, **labels, "reading": reading, **scores}


def _scores(estimate: Estimate, q: Array | None, at: tuple[int, ...]) -> Row:
    arrays = {"value": estimate.value, "se": estimate.se, "p": estimate.p, "q": q}
    scores = {name: _known(array[at]) for name, array in arrays.items() if array is not None}
    counts = {name: np.broadcast_to(getattr(estimate, name), estimate.value.shape)[at] for name in ("n_in", "n_out")}
    return scores | {name: int(count) for name, count in counts.items()}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _label(dataset: Dataset, column: int) -> str:
    n = dataset.n_train
    return dataset.class_names[int(dataset.y_train[column] if column < n else dataset.y_held_out[column - n])]


def _parquet() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError(
            "Parquet needs pyarrow, which is not installed: pip install 'infl[analysis]', or write a .csv"
        ) from error
    return pyarrow, pyarrow.parquet

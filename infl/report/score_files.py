"""Reads scores back from the files that `exchange` writes, and from those that others publish in their layouts.

What comes is untrusted: a file is read or refused in one line, and runs no code.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from infl.records import Array, Dataset, InputError, first_line, seeded
from infl.records.files import Archive, max_array_bytes, open_archive, read_bytes

MAX_PAIRS = 1 << 19  # of one protocol: what a comparison looks at
# Names that a column may have in a table of others, lower case.
_EXAMPLE, _VALUE = ("example", "id", "index"), ("value", "memorization", "influence", "score")


@dataclass(frozen=True, eq=False)
class ScoreTable:
    """Scores as rows.

    Attributes:
        frame: Columns `source`, `target`, `value`, `se` (NaN where it is not known), without NaN among the values. Memorization
            has the target of its source; a held-out target j is n + j, or -1 - j where the file does not say n.
        n_train: n; None where the file does not say it.
        labels: [n] classes of the training examples, where the file has them.
    """

    frame: pd.DataFrame
    n_train: int | None = None
    labels: Array | None = None

    def memorization(self, dataset: Dataset) -> Array:
        """Of each of its training examples, [n], NaN where there is none.

        Rows are matched as `infl.compare` does: by id where the file has n scores or fewer, else by the position in the source.

        Raises:
            InputError: where there is no memorization, or of too few examples.
        """
        own = self.frame.query("source == target")
        n = self.n_train or max(int(own["source"].to_numpy().max(initial=-1)) + 1, dataset.n_train)
        if own.empty or (n != dataset.n_train and dataset.train_ids.max() >= n):
            raise InputError(
                f"expected memorization of the {dataset.n_train:,} training examples of {dataset.name}, got that of {n:,}"
            )
        scores = np.full(n, np.nan)
        scores[own["source"]] = own["value"]
        return scores if n == dataset.n_train else scores[dataset.train_ids]


def read_scores(path: str | Path) -> ScoreTable:
    """Read scores from a file.

    - `.npz` in the layout of Feldman and Zhang's `cifar100_infl_matrix.npz` (see `infl.report.exchange.write_feldman_zhang`);
      theirs have no errors. `tr_mem` alone is enough. So are their lists of pairs, `tr_idx`, `tt_idx` and `infl`, perhaps with
      `mem`, the memorization of each `tr_idx`;
    - `.npz` with `memorization` [n] and/or `influence` [n, n+m], and `_se` of them, as `infl scores --arrays` writes it. Of an
      influence matrix with more than `MAX_PAIRS` pairs on either side of n columns are drawn, of one shape always the same;
    - `.csv` or `.parquet` with columns `source`, `target` and `value`, as of `infl scores --table`; or `example` (or `id`,
      `index`) and `value` (or `memorization`, `score`); and `se` where it is known. Rows of the protocol `trained` are left
      out.

    Raises:
        InputError: where the file cannot be read, or holds no scores in one of these forms.
    """
    path = Path(path).expanduser()
    if path.suffix == ".npz":
        with open_archive(path) as archive:
            if "tr_mem" in archive.names:
                return _feldman_zhang(archive)
            if "tr_idx" in archive.names:
                return _pairs(archive)
            if {"memorization", "influence"} & {*archive.names}:
                return _arrays(archive)
            raise InputError(
                f"{path}: expected scores, as tr_mem or memorization or influence, got {', '.join(archive.names[:9])}"
            )
    if path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path}: expected a run, or scores in a file that ends in .npz, .csv or .parquet")
    try:
        content = read_bytes(path, max_array_bytes() // 4)
        with warnings.catch_warnings(
            action="error", category=pd.errors.ParserWarning
        ):  # of lines longer than the first
            csv = path.suffix == ".csv"
            frame = pd.read_csv(io.BytesIO(content), index_col=False) if csv else pd.read_parquet(io.BytesIO(content))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ImportError as error:
        raise InputError(
            f"{path}: Parquet needs pyarrow, which is not installed: pip install 'infl[analysis]'"
        ) from error
    except Exception as error:  # pandas and pyarrow fail with more kinds than they document
        raise InputError(
            f"{path}: expected a table as {path.suffix[1:]}, but it cannot be read ({first_line(error)})"
        ) from error
    return _table(frame, path)


def random_columns(n_train: int, columns: range) -> Array:
    """At most `MAX_PAIRS` / n of these columns, drawn at random, always the same of the same range; in order."""
    n = max(1, MAX_PAIRS // max(1, n_train))
    return np.sort(seeded(0).permutation(len(columns))[:n]) + columns.start


def score_frame(value: Array, se: Array | None, sources: Array, targets: Array) -> pd.DataFrame:
    """Rows of scores [n], targets as their sources, or of a matrix [sources, targets]; NaN is left out."""
    at = np.nonzero(np.isfinite(value))
    targets = sources[at[0]] if value.ndim == 1 else targets[at[1]]
    errors = np.full(len(targets), np.nan) if se is None else np.asarray(se, np.float64)[at]
    columns = {"source": sources[at[0]], "target": targets, "value": np.asarray(value, np.float64)[at], "se": errors}
    return pd.DataFrame(columns)


def _feldman_zhang(archive: Archive) -> ScoreTable:
    memorization = _numbers(archive, "tr_mem", 1)
    n = len(memorization)
    frames = [score_frame(memorization, _error(archive, "tr_mem_se", memorization), np.arange(n), np.arange(n))]
    for name in archive.names:
        if (c := name.removeprefix("infl_matrix_class")) != name:
            rows, columns = (_numbers(archive, f"{part}_classidx_{c}", 1, "iu") for part in ("tr", "tt"))
            influence, ids = _numbers(archive, name, 2), np.concatenate([rows, columns, [0]])
            if influence.shape != (len(rows), len(columns)) or rows.max(initial=0) >= n or ids.min() < 0:
                raise InputError(
                    f"{archive.path}: {name} {influence.shape} does not fit tr_classidx_{c} and tt_classidx_{c}"
                )
            frames.append(score_frame(influence, _error(archive, f"infl_se_class{c}", influence), rows, n + columns))
    labels = _numbers(archive, "tr_labels", 1, "iu") if "tr_labels" in archive.names else None
    if labels is not None and len(labels) != n:
        raise InputError(f"{archive.path}: tr_labels has {len(labels):,} labels, tr_mem {n:,} scores")
    return _known(pd.concat(frames, ignore_index=True), n, labels)


def _pairs(archive: Archive) -> ScoreTable:
    sources, targets = (_numbers(archive, name, 1, "iu").astype(np.int64) for name in ("tr_idx", "tt_idx"))
    frames = []
    for name, target in {"infl": -1 - targets, "mem": sources}.items():
        if name == "mem" and name not in archive.names:
            continue
        value = _numbers(archive, name, 1).astype(np.float64)
        if not len(value) == len(sources) == len(targets) or (sources < 0).any() or (targets < 0).any():
            raise InputError(f"{archive.path}: {name} {value.shape} does not fit ids in tr_idx and tt_idx")
        frames.append(pd.DataFrame({"source": sources, "target": target, "value": value, "se": np.nan}))
    rows = pd.concat(frames, ignore_index=True).dropna(subset="value")
    return _known(rows.drop_duplicates(["source", "target"]), None)


def _arrays(archive: Archive) -> ScoreTable:
    frames, lengths = [], set()
    if "memorization" in archive.names:
        value = _numbers(archive, "memorization", 1)
        ids = np.arange(len(value))
        frames.append(score_frame(value, _error(archive, "memorization_se", value), ids, ids))
        lengths.add(len(value))
    if "influence" in archive.names:
        value = _numbers(archive, "influence", 2)
        n, n_columns = value.shape
        se = _error(archive, "influence_se", value)
        for side in (range(min(n, n_columns)), range(n, n_columns)):
            some = random_columns(n, side)
            block = value[:, some].astype(np.float64)
            block[some[some < n], np.flatnonzero(some < n)] = np.nan  # an example on itself
            frames.append(score_frame(block, None if se is None else se[:, some], np.arange(n), some))
        lengths.add(n)
    if len(lengths) > 1:
        raise InputError(
            f"{archive.path}: memorization and influence are of {' and '.join(map(str, lengths))} examples"
        )
    return _known(pd.concat(frames, ignore_index=True), lengths.pop())


def _table(frame: pd.DataFrame, path: Path) -> ScoreTable:
    frame = frame.rename(columns=lambda name: str(name).strip().lower())
    names = [next((one for one in given if one in frame), None) for given in (_EXAMPLE, _VALUE)]
    if {"source", "target"} <= {*frame}:
        names[0] = "source"
    example, value = names
    if example is None or value is None:
        raise InputError(
            f"{path}: expected columns source, target and value, or example and value; got {', '.join(list(frame)[:9])}"
        )
    if "protocol" in frame:
        frame = frame.query("protocol != 'trained'")
    target = "target" if example == "source" else example
    columns = {"source": example, "target": target, "value": value} | ({"se": "se"} if "se" in frame else {})
    try:
        rows = pd.DataFrame({name: pd.to_numeric(frame[column]) for name, column in columns.items()}).reindex(
            columns=["source", "target", "value", "se"]
        )
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: expected numbers in {', '.join(columns.values())} ({first_line(error)})") from error
    ids = rows[["source", "target"]].to_numpy(np.float64, na_value=np.nan)
    if not (
        np.isfinite(ids).all() and (ids >= 0).all() and (ids == np.floor(ids)).all() and ids.max(initial=0) < 2**53
    ):
        raise InputError(f"{path}: expected ids in {example} and {target}: whole numbers from 0")
    if rows.duplicated(["source", "target"]).any():
        raise InputError(f"{path}: an example, or a pair, comes twice: keep one row of each")
    rows = rows.astype({"source": np.int64, "target": np.int64, "value": np.float64, "se": np.float64})
    own = rows.query("source == target")["source"].to_numpy()
    n_train = len(own) if len(own) and own.max() == len(own) - 1 else None
    return _known(rows.loc[np.isfinite(rows["value"].to_numpy())], n_train)


def _known(frame: pd.DataFrame, n_train: int | None, labels: Array | None = None) -> ScoreTable:
    """Where there are errors, a score without one is none; see `Estimate.rankable`."""
    finite = np.isfinite(frame["se"].to_numpy())
    if finite.any():
        frame = frame.loc[finite]
    return ScoreTable(frame.reset_index(drop=True), n_train, labels)


def _numbers(archive: Archive, name: str, n_axes: int, kinds: str = "fiu") -> Array:
    if name not in archive.names:
        raise InputError(f"{archive.path}: expected {name}, got {', '.join(archive.names[:9])}")
    array = archive.read(name)
    if array.ndim != n_axes or array.dtype.kind not in kinds:
        raise InputError(f"{archive.path}: {name}: expected numbers on {n_axes} axes, got {array.dtype} {array.shape}")
    return array


def _error(archive: Archive, name: str, value: Array) -> Array | None:
    if name not in archive.names:
        return None
    se = _numbers(archive, name, value.ndim)
    if se.shape != value.shape:
        raise InputError(f"{archive.path}: {name} {se.shape} does not fit scores of shape {value.shape}")
    return se

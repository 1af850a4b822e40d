"""Turns scores and verdicts into files for other tools: JSON, CSV, Parquet, and .npz in two layouts.

Each function that writes raises an `InputError` where the path cannot be written. NaN is null in JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from infl.records import (
    Array,
    Dataset,
    Detectable,
    Effects,
    Estimate,
    InputError,
    OutcomeKind,
    ScoredPair,
    Thresholds,
    Verdict,
)
from infl.report.tables import COLUMNS, REQUIRED_COLUMNS, verdict_fields


def check_table(path: Path | None) -> None:
    """Check, before work goes into a table, that this kind of file can be written.

    Raises:
        InputError: for another ending than .csv or .parquet, or where Parquet is asked for and pyarrow is not installed.
    """
    if path is not None and path.suffix not in (".csv", ".parquet"):
        raise InputError(f"{path}: expected a path that ends in .csv or .parquet")
    if path is not None and path.suffix == ".parquet":
        try:
            import pyarrow as pyarrow
        except ImportError as error:
            raise InputError(
                "Parquet needs pyarrow, which is not installed: pip install 'infl[analysis]', or write a .csv"
            ) from error


def write_table(path: Path, *frames: pd.DataFrame) -> None:
    """Write frames of scores below each other as CSV or, where the path ends in .parquet, as Parquet (extra `analysis`).

    Columns: `kind` (memorization, or influence of the training example `source` on the column `target`, n + j for a held-out
    one), `source_label`, `target_label`, `protocol`, `value`, `se`, the counts `n_in` and `n_out`, `p` and `q`. A column that
    no row has is left out; what is unknown is empty, or null.

    Raises:
        InputError: see `check_table`.
    """
    check_table(path)
    frame = pd.DataFrame({name: pd.concat([one[name] for one in frames]) if frames else [] for name in COLUMNS})
    known = [name for name in COLUMNS if name in REQUIRED_COLUMNS or not frame[name].isna().to_numpy().all()]
    frame = frame[known].astype({name: "Int64" for name in ("n_in", "n_out") if name in known})
    with _writable(path) as file:
        if path.suffix == ".csv":
            frame.to_csv(file, index=False, lineterminator="\n")
        else:
            frame.to_parquet(file, engine="pyarrow", index=False)


def write_feldman_zhang(
    path: Path, memorization: Estimate, classes: Iterable[Estimate | None], dataset: Dataset
) -> None:
    """Write scores in the layout of `cifar100_infl_matrix.npz`, so that what reads the published scores reads these.

        tr_labels [n], tt_labels [m]   labels of the training and of the held-out ("test") examples
        tr_mem [n]                     memorization
        tr_classidx_C, tt_classidx_C   positions of the examples of class C among the training, among the held-out ones
        infl_matrix_classC             [training examples of C, held-out examples of C] influence, within the class alone

    Those are the arrays of the file that Feldman & Zhang (2020) offer at https://pluskid.github.io/influence-memorization/, by
    the code that reads it (`tr_mem` is also what `imagenet_index.npz` calls its scores). Their sign and protocol are infl's:
    accuracy with the example less accuracy without, held-out examples over all models, positive where training helps. Theirs
    are plain differences in means over subsets of 70%. Besides, and absent there: `tr_mem_se` and `infl_se_classC`, standard
    errors. NaN where there is no estimate: theirs take the accuracy of no models as 0.

    Args:
        classes: Influence of the training examples on the held-out ones of each class, class after class; None where a
            class lacks either.
    """
    arrays: dict[str, Array] = {
        "tr_labels": dataset.y_train.astype(np.int64),
        "tt_labels": dataset.y_held_out.astype(np.int64),
        "tr_mem": memorization.value.astype(np.float32),
        "tr_mem_se": memorization.se.astype(np.float32),
    }
    for c, influence in enumerate(classes):
        sources, targets = np.flatnonzero(dataset.y_train == c), np.flatnonzero(dataset.y_held_out == c)
        empty = np.zeros((len(sources), len(targets)))
        arrays[f"tr_classidx_{c}"] = sources
        arrays[f"tt_classidx_{c}"] = targets
        arrays[f"infl_matrix_class{c}"] = (empty if influence is None else influence.value).astype(np.float32)
        arrays[f"infl_se_class{c}"] = (empty if influence is None else influence.se).astype(np.float32)
    _write_arrays(path, arrays)


def write_effects(path: str | Path, effects: Sequence[Effects]) -> None:
    """Write `names` [s], `effect` and `se` [s, n+m] as .npz."""
    arrays = {name: np.stack([getattr(one, name) for one in effects]).astype(np.float32) for name in ("effect", "se")}
    _write_arrays(path, {"names": np.array([e.forget_set.name for e in effects], dtype=np.str_), **arrays})


def write_scores(
    path: str | Path,
    memorization: Estimate,
    *parts: Estimate,
    q: tuple[Array, Array],
    shrunk: tuple[Array, Array],
) -> None:
    """Write `memorization`, `memorization_se` [n] and `influence`, `influence_se` [n, n+m] as .npz.

    Columns of D are in the `left-out` protocol, NaN on the diagonal; columns of H follow.

    Args:
        parts: Influence in the protocols `left-out` and, where there are held-out examples, `held-out`.
        q: Written as `memorization_q` [n], over all examples, and `influence_q` [n, n+m], over all pairs of both protocols.
        shrunk: Posterior means and rates of false signs, written as `influence_shrunk` and `influence_sign_rate` [n, n+m].
    """
    scores = {"memorization": memorization.value, "memorization_se": memorization.se}
    pairs = {
        "influence": np.concatenate([part.value for part in parts], axis=1),
        "influence_se": np.concatenate([part.se for part in parts], axis=1),
        "influence_shrunk": shrunk[0],
        "influence_sign_rate": shrunk[1],
    }
    pairs = {name: array.astype(np.float32) for name, array in pairs.items()}
    _write_arrays(path, {**scores, **pairs, "memorization_q": q[0], "influence_q": q[1]})


def _write_arrays(path: str | Path, arrays: Mapping[str, Array]) -> None:
    with _writable(path) as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]


def verdicts_as_json(
    predicted: Sequence[Verdict], measured: Sequence[Verdict] = (), *, thresholds: Thresholds
) -> dict[str, Any]:
    """`{"thresholds": ..., "sets": {name: fields}}`, measured fields under `"measured"` in each set."""
    sets = {verdict.forget_set.name: verdict_fields(verdict) for verdict in predicted}
    for verdict in measured:
        known = sets.setdefault(verdict.forget_set.name, {"size": len(verdict.forget_set)})
        known["measured"] = verdict_fields(verdict)
    return {"thresholds": asdict(thresholds), "sets": sets}


def scores_as_json(
    memorization: Estimate | None,
    pairs: Sequence[ScoredPair],
    *,
    n_top: int,
    n_models: int,
    n_train: int,
    q: Array,
    detectable: Mapping[str, Detectable | None] | None = None,
) -> dict[str, Any]:
    """The most memorized examples and the strongest pairs; a target of `n_train` or more is held out.

    Args:
        memorization: None where there is none; then there is no `outcome` either.
        q: Of memorization, [n].
        detectable: Under `memorization` and `influence`, the smallest that could have been found.
    """
    own = {}
    if memorization is not None:
        order = np.argsort(-np.nan_to_num(memorization.rankable, nan=-np.inf), kind="stable")[:n_top]
        scores = [{**_memorization_fields(memorization, int(i)), "q": q[i]} for i in order]
        own = {"outcome": memorization.outcome, "memorization": scores}
    smallest = {name: asdict(one) for name, one in (detectable or {}).items() if one is not None}
    return {
        "n_models": n_models,
        "n_train": n_train,
        **own,
        "pairs": [_pair_fields(pair) for pair in pairs],
        **({"detectable": smallest} if smallest else {}),
    }


def example_as_json(
    example: int,
    memorization: Estimate | None,
    listed: Mapping[str, tuple[str, Sequence[ScoredPair]]],
    *,
    outcome: OutcomeKind,
    n_models: int,
    n_train: int,
) -> dict[str, Any]:
    """The strongest influences on an example and, of a training example, by it.

    Args:
        listed: `influenced_by`, and of a training example `held_out` and `left_out`, whom it influences; each with its
            protocol.
    """
    parts = {
        name: {"protocol": protocol, "pairs": [_pair_fields(pair) for pair in pairs]}
        for name, (protocol, pairs) in listed.items()
    }
    own = {} if memorization is None else {"memorization": _memorization_fields(memorization, example)}
    return {"example": example, "n_models": n_models, "n_train": n_train, "outcome": outcome, **own, **parts}


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    """Write JSON; what is not finite becomes null."""
    with _writable(path) as file:
        file.write((json.dumps(_finite(content), indent=2, allow_nan=False) + "\n").encode())


def _memorization_fields(memorization: Estimate, i: int) -> dict[str, Any]:
    n_in, n_out = (np.broadcast_to(n, memorization.value.shape)[i] for n in (memorization.n_in, memorization.n_out))
    score = {"id": i, "memorization": memorization.value[i], "se": memorization.se[i]}
    return {**score, "n_in": int(n_in), "n_out": int(n_out)}


def _pair_fields(pair: ScoredPair) -> dict[str, Any]:
    known = {name: getattr(pair, name) for name in ("p", "q") if not math.isnan(getattr(pair, name))}
    return {"source": pair.source, "target": pair.target, "influence": pair.value, "se": pair.se, **known}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value


@contextmanager
def _writable(path: str | Path) -> Iterator[IO[bytes]]:
    try:
        with open(path, "wb") as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error

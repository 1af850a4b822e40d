"""Keeps fitted predictors in the run folder, so that `predict`, `verify` and `report` fit one once for the same models.

A fit follows from the models of the run, so its file is named by them; it lies under `predictors/` in the folder where this
machine keeps what belongs to the run. It is arrays alone, with their SHA-256 in front: what does not fit is fitted anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast, get_args, get_origin, get_type_hints

import numpy as np

from infl.pipeline.weights import kept_models
from infl.records import Array, Dataset
from infl.records.files import checksum, read_arrays, write_arrays
from infl.store import Run
from infl.untraining.effects import ResponsePredictor
from infl.untraining.support import prepare_support

FORMAT = 7  # one more with every change of what is fitted
MAX_BYTES = 1 << 29  # larger fits are not kept


def read_fit(run: Run, name: str, dataset: Dataset, features: Callable[[], Array | None]) -> ResponsePredictor | None:
    """The fit to all models that the run holds now; None where there is none, or the file is damaged.

    Args:
        name: Of the predictor, with what tells fits by the same one apart.
        features: Makes those of networks, which are needed only where the fit looks at them.
    """
    arrays = read_arrays(_path(run, name))
    if arrays is None:
        return None
    support = prepare_support(
        dataset.images,
        dataset.labels,
        n_train=dataset.n_train,
        n_classes=dataset.n_classes,
        n_tokens=len(dataset.vocabulary),
        features=features() if _from_arrays(str, arrays, "name") != name else None,
    )
    hints = get_type_hints(ResponsePredictor)
    parts = [one.name for one in fields(ResponsePredictor) if one.name != "support"]
    return ResponsePredictor(support=support, **{part: _from_arrays(hints[part], arrays, part) for part in parts})


def keep_fit(run: Run, name: str, fitted: ResponsePredictor) -> None:
    """Write a fit in place of those to fewer models; not where it is large or the folder cannot be written to."""
    arrays = _arrays({one.name: getattr(fitted, one.name) for one in fields(fitted) if one.name != "support"})
    if sum(array.nbytes for array in arrays.values()) > MAX_BYTES:
        return
    path = _path(run, name)
    older = set(path.parent.glob(f"{name}-*.fit")) - {path}
    with suppress(OSError):
        write_arrays(path, arrays)
        for one in older:
            one.unlink(missing_ok=True)


def _path(run: Run, name: str) -> Path:
    models = {
        collection: run.complete(collection)
        for collection in run.collections()
        if not collection.startswith(("without-", "unlearned-"))
    }
    data, weights = run.manifest["dataset"]["fingerprint"], kept_models(run)
    key = checksum({"models": models, "weights": weights, "data": data, "infl": version("infl"), "format": FORMAT})
    return run.folder / "predictors" / f"{name}-{key[:16]}.fit"


def _arrays(record: Any, name: str = "") -> dict[str, Array]:
    """The leaves of nested dataclasses and dictionaries, each under its path: `responses/trained/noise`."""
    if isinstance(record, Mapping):
        parts = dict(record)
    elif is_dataclass(record):
        parts = {one.name: getattr(record, one.name) for one in fields(record)}
    else:
        return {name: np.asarray(record)}
    found = (_arrays(part, f"{name}/{key}" if name else key) for key, part in parts.items())
    return {path: array for arrays in found for path, array in arrays.items()}


def _from_arrays(kind: Any, arrays: Mapping[str, Array], name: str) -> Any:
    if get_origin(kind) is dict:
        inside = [path.removeprefix(f"{name}/") for path in arrays if path.startswith(f"{name}/")]
        keys = dict.fromkeys(path.partition("/")[0] for path in inside)
        return {key: _from_arrays(get_args(kind)[1], arrays, f"{name}/{key}") for key in keys}
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        parts = {one.name: _from_arrays(hints[one.name], arrays, f"{name}/{one.name}") for one in fields(kind)}
        return cast(Any, kind)(**parts)
    return arrays[name].item() if kind in (int, float, bool, str) else arrays[name]

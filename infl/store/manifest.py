"""What a run is made of, run.json: turns data and settings into JSON with a checksum, and that into settings or a refusal.

Data and groups are .npz files beside it that are named by their fingerprints, so what is put once is right for good.
"""

from __future__ import annotations

import io
import json
import math
import platform
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from infl.records import LABEL_KINDS, OUTCOME_KINDS, Dataset, DiskError, Groups, InputError, first_line
from infl.records.files import checksum, max_array_bytes, open_archive, parse_json
from infl.store.storage import Storage

Made = TypeVar("Made", Dataset, Groups)

FORMAT = 4
MAX_JSON_BYTES = 1 << 24
# Entries that say how a run was made and do not bind how it goes on.
NOT_BINDING = ("dataset.source", "design.period", "infl", "versions")


def software() -> dict[str, Any]:
    """Versions, as JSON: `infl`, and under `versions` Python and the packages on which numbers depend."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    versions = {"python": platform.python_version(), **{package: version(package) for package in packages}}
    return {"infl": version("infl"), "versions": versions}


def make_manifest(dataset: Dataset, settings: dict[str, Any]) -> dict[str, Any]:
    """What the manifest of a new run says."""
    described = {
        "name": dataset.name,
        "source": dataset.source,
        "n_train": dataset.n_train,
        "n_columns": dataset.n_columns,
        "largest_class": [None if math.isnan(fraction) else fraction for fraction in dataset.largest_class],
        "fingerprint": dataset.fingerprint(),
    }
    # As it will be read back: a tuple in the settings would never equal the list that it becomes.
    return json.loads(json.dumps({"format": FORMAT, "dataset": described, **settings}, default=np.generic.item))


def with_checksum(content: Mapping[str, Any]) -> bytes:
    """JSON as a file."""
    return json.dumps({**content, "checksum": checksum(content)}, indent=2).encode() + b"\n"


def read_record(storage: Storage, name: str, advice: str = "restore it") -> dict[str, Any] | None:
    """JSON that `with_checksum` made; None where there is no such object."""
    content = storage.read(name, MAX_JSON_BYTES)
    if content is None:
        return None
    try:
        record = parse_json(content)
        if record.pop("checksum") != checksum(record):
            raise ValueError("its checksum does not fit its content")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise DiskError(f"{storage.place}/{name} is damaged or was edited: {first_line(error)}; {advice}") from error
    return record


def read_manifest(storage: Storage) -> dict[str, Any] | None:
    """The manifest of a run; None where there is none."""
    manifest = read_record(storage, "run.json")
    if manifest is None:
        return None
    number, named = manifest.get("format"), f"{storage.place}: run.json"
    if number != FORMAT or type(number) is not int:
        newer = type(number) is int and number > FORMAT
        advice = (
            "update infl" if newer else "train it again in another folder, or read it with the version that made it"
        )
        raise InputError(
            f"{named} was made by infl {str(manifest.get('infl', 'of a version not named'))[:20]} and has format "
            f"{str(number)[:20]}; this version of infl reads format {FORMAT}: {advice}"
        )
    wrong = _wrong_entry(manifest)
    if wrong:
        raise InputError(
            f"{named} says of {wrong} what no run of infl does: it was written by another program; restore it"
        )
    return manifest


def binding(manifest: dict[str, Any]) -> dict[str, Any]:
    """The entries from which the models of a run follow."""
    described = {name: dict(value) if isinstance(value, dict) else value for name, value in manifest.items()}
    for name in NOT_BINDING:
        section, _, key = name.rpartition(".")
        (described.get(section) or {} if section else described).pop(key, None)
    return described


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """The binding entries in which two manifests differ, as a person reads them."""
    old, new = (old, new) if prefix else (binding(old), binding(new))
    found = []
    for key in sorted(set(old) | set(new)):
        mine, other = old.get(key), new.get(key)
        if isinstance(mine, dict) and isinstance(other, dict):
            found += differences(mine, other, f"{prefix}{key}.")
        elif mine != other:
            found.append(f"{prefix}{key} is {mine!r} in the run, {other!r} asked for")
    return found


def data_name(manifest: dict[str, Any]) -> str:
    """The object of the data set that a manifest describes."""
    return f"data/{manifest['dataset']['fingerprint'][:16]}.npz"


def put_dataset(storage: Storage, dataset: Dataset, manifest: dict[str, Any]) -> None:
    """Put all arrays of a data set."""
    arrays = {name: np.asarray(value) for name, value in vars(dataset).items() if value is not None}
    del arrays["name"], arrays["source"]  # they stand in the manifest
    _put_arrays(storage, data_name(manifest), arrays)


def read_dataset(storage: Storage, manifest: dict[str, Any]) -> Dataset:
    """The data set that a manifest describes."""
    description = manifest["dataset"]

    def make(fields: dict[str, Any]) -> Dataset:
        names = ("class_names", "vocabulary", "entities", "relations")
        texts = {name: tuple(map(str, fields.pop(name, ()))) for name in names}
        return Dataset(name=description["name"], source=description["source"], **texts, **fields)

    return _read_arrays(storage, data_name(manifest), make, description["fingerprint"], "the data")


def put_groups(storage: Storage, groups: Groups) -> None:
    """Put groups."""
    _put_arrays(storage, f"groups/{groups.fingerprint()[:16]}.npz", {"names": groups.names, "tables": groups.tables})


def read_groups(storage: Storage, fingerprint: str) -> Groups:
    """The groups of this fingerprint."""
    if not re.fullmatch("[0-9a-f]{64}", str(fingerprint)):
        raise DiskError(
            f"{storage.place}: a record names groups by what is no fingerprint, {str(fingerprint)[:40]!r}; restore it"
        )

    def make(fields: dict[str, Any]) -> Groups:
        return Groups(tuple(map(str, fields["names"])), fields["tables"])

    return _read_arrays(storage, f"groups/{fingerprint[:16]}.npz", make, fingerprint, "the groups")


def _put_arrays(storage: Storage, name: str, arrays: Mapping[str, Any]) -> None:
    content = io.BytesIO()
    np.savez(content, **arrays)
    storage.put(name, content.getvalue())


def _read_arrays(
    storage: Storage, name: str, make: Callable[[dict[str, Any]], Made], fingerprint: str, what: str
) -> Made:
    """What is made of arrays, where it has this fingerprint."""
    try:
        content = storage.read(name, max_array_bytes())
        if content is None:
            raise FileNotFoundError("it is gone")
        with open_archive(Path(name), content) as archive:
            made = make({name: archive.read(name) for name in archive.names})
        found = made.fingerprint()
    except Exception as error:  # a damaged file fails with more kinds than zipfile, zlib and numpy document
        raise DiskError(f"{storage.place}/{name} is missing or damaged ({first_line(error)}); restore it") from error
    if found != fingerprint:
        raise DiskError(f"{storage.place}/{name} is not {what} that this run was made with; restore it")
    return made


def _wrong_entry(manifest: dict[str, Any]) -> str | None:
    """The first entry on which the store itself relies and cannot."""
    dataset, design = manifest.get("dataset"), manifest.get("design", {})
    if not isinstance(dataset, dict):
        return "dataset"
    for name in ("name", "source", "fingerprint"):
        if not isinstance(dataset.get(name), str):
            return f"dataset.{name}"
    for name, least in (("n_train", 1), ("n_columns", dataset.get("n_train"))):
        if type(dataset.get(name)) is not int or not least <= dataset[name] < 1 << 40:
            return f"dataset.{name}"
    if not all(character in "0123456789abcdef" for character in dataset["fingerprint"]):
        return "dataset.fingerprint"
    if not isinstance(manifest.get("algorithm", {}), dict) or not isinstance(design, dict):
        return "algorithm or design"
    if not isinstance(manifest.get("seed"), int | None) or isinstance(manifest.get("seed"), bool):
        return "seed"
    kinds = manifest.get("outcomes", list(LABEL_KINDS))
    if kinds != [kind for kind in OUTCOME_KINDS if kind in kinds] or not {*kinds} & {*LABEL_KINDS}:
        return "outcomes"
    for name in ("shares", "held_out_only"):
        if not isinstance(manifest.get(name, False), bool):
            return name
    return "imported" if not isinstance(manifest.get("imported", ""), str) else None

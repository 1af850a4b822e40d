"""The manifest of a run, run.json: turns data and settings into sealed JSON, and that into data and settings or a refusal."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from infl.records import Dataset, DiskError, InputError, first_line
from infl.records.files import checksum, read_json
from infl.store.examples import describe_examples
from infl.store.rows import BOTH_KINDS

FORMAT = 2
MAX_BYTES = 1 << 24
# Why a run of an older format is not read: what is needed to migrate it is not in it.
OLDER = {1: "its margins are log-odds against all other classes together, and not against the best of them"}
# Entries that say how a run was made and do not bind how it goes on.
NOT_BINDING = ("dataset.source", "design.period", "infl", "versions", "devices", "timings")


def manifest_of(dataset: Dataset, settings: dict[str, Any]) -> dict[str, Any]:
    """What the manifest of a new run says."""
    # As it will be read back: a tuple in the settings would never equal the list that it becomes.
    given = {"format": FORMAT, "dataset": describe_examples(dataset), **settings}
    return json.loads(json.dumps(given, default=np.generic.item))


def sealed(manifest: dict[str, Any]) -> bytes:
    """As the bytes of run.json, with a checksum."""
    return json.dumps({**manifest, "checksum": checksum(manifest)}, indent=2).encode() + b"\n"


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file, without its checksum.

    Raises:
        InputError: where it is damaged, or of an older or a newer format, or says what no run is.
    """
    try:
        manifest = read_json(path, max_bytes=MAX_BYTES)
        seal = manifest.pop("checksum")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        reason = first_line(error)
        raise DiskError(f"{path} is damaged: not a complete JSON manifest ({reason}); restore it") from error
    if seal != checksum(manifest):
        raise DiskError(f"{path} is damaged or was edited: its checksum does not fit its content; restore it")
    made_by = f"{path} was made by infl {str(manifest.get('infl', 'of a version not named'))[:20]}"
    number = manifest.get("format")
    if type(number) is int and number > FORMAT:
        raise InputError(f"{made_by} and has format {number}; this version of infl reads format {FORMAT}: update infl")
    if number != FORMAT or type(number) is not int:
        why = OLDER.get(number) if type(number) is int else None
        raise InputError(
            f"{made_by} and has format {str(number)[:20]}; this version of infl reads format {FORMAT} and cannot convert it"
            f"{f': {why}' if why else ''}; read it with the version that made it, or train it again in another folder"
        )
    wrong = _wrong_entry(manifest)
    if wrong:
        raise InputError(
            f"{path} says of {wrong} what no run of infl does: it was written by another program; restore it"
        )
    return manifest


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """The binding entries in which two manifests differ, in words."""
    found = []
    for key in sorted(set(old) | set(new)):
        name = f"{prefix}{key}"
        mine, other = old.get(key), new.get(key)
        if name in NOT_BINDING:
            continue
        if isinstance(mine, dict) and isinstance(other, dict):
            found += differences(mine, other, f"{name}.")
        elif mine != other:
            found.append(f"{name} is {mine!r} in the run, {other!r} asked for")
    return found


def _wrong_entry(manifest: dict[str, Any]) -> str | None:
    """The first entry on which the store itself relies and cannot."""
    dataset, design = manifest.get("dataset"), manifest.get("design", {})
    if not isinstance(dataset, dict):
        return "dataset"
    for name in ("name", "source", "fingerprint"):
        if not isinstance(dataset.get(name), str):
            return f"dataset.{name}"
    for name, least in (("n_train", 0), ("n_columns", dataset.get("n_train"))):
        if type(dataset.get(name)) is not int or not least < dataset[name] < 1 << 40:
            return f"dataset.{name}"
    if not isinstance(manifest.get("algorithm", {}), dict) or not isinstance(design, dict):
        return "algorithm or design"
    if type(design.get("period", 1)) is not int or not 1 <= design.get("period", 1) < 1 << 31:
        return "design.period"
    if not isinstance(design.get("groups", {"sha256": ""}), dict | None):
        return "design.groups"
    if design.get("groups") is not None and not isinstance(design.get("groups", {}).get("sha256", ""), str):
        return "design.groups"
    if not isinstance(manifest.get("seed"), int | None) or isinstance(manifest.get("seed"), bool):
        return "seed"
    if manifest.get("outcomes", list(BOTH_KINDS)) not in (list(BOTH_KINDS), ["correct"], ["margin"]):
        return "outcomes"
    if not isinstance(manifest.get("imported", ""), str):
        return "imported"
    return None


def software() -> dict[str, Any]:
    """Versions, as JSON: `infl`, and under `versions` Python and the packages on which numbers depend."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy")
    versions = {"python": platform.python_version(), **{package: version(package) for package in packages}}
    return {"infl": version("infl"), "versions": versions}

"""Turns a JSON file, or ids in memory, into forget sets, and back.

Sets made from a wish ("the 50 most memorized") come from `generators`, and are at hand here under the same names.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infl.reading import read_json
from infl.records import ForgetSet, InputError
from infl.untraining.generators import class_set as class_set
from infl.untraining.generators import cluster_set as cluster_set
from infl.untraining.generators import clusters as clusters
from infl.untraining.generators import memorized_set as memorized_set
from infl.untraining.generators import neighbours_set as neighbours_set
from infl.untraining.generators import random_set as random_set
from infl.untraining.generators import share_of as share_of
from infl.untraining.generators import varied_sets as varied_sets


def read_forget_sets(path: str | Path, *, n_train: int) -> list[ForgetSet]:
    """Read `{"name": [ids], ...}` or `{"name": {"ids": [ids], "concept": [ids]}, ...}`.

    Raises:
        InputError: where the file is missing or not such JSON, or a set is empty, repeats an id, names an id outside D
            (0..n_train-1), or is all of D.
    """
    try:
        content = read_json(path, object_pairs_hook=_without_repeats)
    except OSError as error:
        raise InputError(f"forget file {path}: cannot be read: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"forget file {path}: {error}") from error
    except ValueError as error:
        raise InputError(f'forget file {path}: not JSON ({error}); expected {{"name": [ids], ...}}') from error
    if not isinstance(content, dict) or not content:
        raise InputError(f'forget file {path}: expected an object {{"name": [ids], ...}} with at least one set')
    try:
        return make_forget_sets(content, n_train=n_train)
    except InputError as error:
        raise InputError(f"forget file {path}: {error}") from error


def make_forget_sets(sets: Mapping[str, Any], *, n_train: int) -> list[ForgetSet]:
    """Check sets given as in a forget file and make records of them; ids may be lists or integer arrays.

    Raises:
        InputError: see `read_forget_sets`.
    """
    made = []
    for name, entry in sets.items():
        concept = None
        if isinstance(entry, Mapping):
            unknown = sorted(set(entry) - {"ids", "concept"})
            if "ids" not in entry or unknown:
                raise InputError(f"set {name!r}: expected the keys ids and, if known, concept; got {sorted(entry)}")
            entry, concept = entry["ids"], entry.get("concept")
        ids = _check_ids(entry, f"set {name!r}", n_train)
        if len(ids) == n_train:
            raise InputError(f"set {name!r} is all of D ({n_train} examples): nothing would be left to train on")
        whole = None if concept is None else _check_ids(concept, f"set {name!r}, concept", n_train)
        if whole is not None and len(whole) == n_train:
            raise InputError(f"set {name!r}: its concept is all of D ({n_train} examples)")
        if whole is not None and (missing := sorted(set(ids) - set(whole))):
            raise InputError(f"set {name!r}: its concept must name every id of the set; {missing[0]} is missing")
        made.append(ForgetSet(_check_name(name), ids, whole))
    return made


def by_name(sets: Sequence[ForgetSet]) -> dict[str, Any]:
    """The sets as in a forget file.

    Raises:
        InputError: where two have one name.
    """
    pairs = [(s.name, s.ids if s.concept is None else {"ids": s.ids, "concept": s.concept}) for s in sets]
    return _without_repeats(pairs)


def write_forget_sets(path: str | Path, sets: Sequence[ForgetSet]) -> None:
    """Write sets as a forget file; one that is there is replaced whole, or stays as it was.

    Raises:
        InputError: where two sets have one name, or the file cannot be written.
    """
    content = json.dumps(by_name(sets)) + "\n"
    path = os.path.realpath(path)  # the file, where the path is a link to it
    try:
        with open(f"{path}.partial", "w") as file:
            file.write(content)
        os.replace(f"{path}.partial", path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(f"{path}.partial")
        raise InputError(f"forget file {path}: cannot be written: {error.strerror or error}") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, entry in pairs:
        if name in named:
            raise InputError(f"the name {name!r} comes twice: give each set a name of its own")
        named[name] = entry
    return named


def _check_name(name: Any) -> str:
    try:
        str(name).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"set {name!r}: half a character (a lone surrogate) stands in its name; write it anew"
        ) from error
    return str(name)


def _check_ids(entry: Any, what: str, n_train: int) -> tuple[int, ...]:
    if isinstance(entry, np.ndarray):
        entry = entry.tolist()
    if not isinstance(entry, (list, tuple, range)):
        raise InputError(f"{what}: expected a list of ids, got {type(entry).__name__}")
    wrong = [i for i in entry if isinstance(i, bool) or not isinstance(i, (int, np.integer))]
    if wrong:
        raise InputError(f"{what}: ids must be whole numbers, got {wrong[0]!r}")
    ids = tuple(sorted(int(i) for i in entry))
    if not ids:
        raise InputError(f"{what} is empty: name at least one id")
    if len(set(ids)) < len(ids):
        repeated = next(a for a, b in zip(ids, ids[1:], strict=False) if a == b)
        raise InputError(f"{what} repeats id {repeated}: name each id once")
    if ids[0] < 0 or ids[-1] >= n_train:
        outside = ids[0] if ids[0] < 0 else ids[-1]
        raise InputError(f"{what} names id {outside}, outside D (0..{n_train - 1})")
    return ids

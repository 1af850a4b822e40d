"""Turns a JSON file, or a wish ("the 50 most memorized"), into forget sets.

Each generator says which regime its sets are meant to land in; only verification tells.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infl.records import Array, Dataset, Estimate, ForgetSet, InputError


def read_forget_sets(path: str | Path, *, n_train: int) -> list[ForgetSet]:
    """Read `{"name": [ids], ...}` or `{"name": {"ids": [ids], "concept": [ids]}, ...}`.

    Raises:
        InputError: where the file is missing or not such JSON, or a set is empty, repeats an id, names an id outside D
            (0..n_train-1), or is all of D.
    """
    try:
        content = json.loads(Path(path).read_bytes(), object_pairs_hook=_without_repeats)
    except OSError as error:
        raise InputError(f"forget file {path}: cannot be read: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"forget file {path}: {error}") from error
    except (ValueError, RecursionError) as error:
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
        made.append(ForgetSet(str(name), ids, whole))
    return made


def by_name(sets: Sequence[ForgetSet]) -> dict[str, Any]:
    """The sets as in a forget file.

    Raises:
        InputError: where two have one name.
    """
    pairs = [(s.name, s.ids if s.concept is None else {"ids": s.ids, "concept": s.concept}) for s in sets]
    return _without_repeats(pairs)


def write_forget_sets(path: str | Path, sets: Sequence[ForgetSet]) -> None:
    """Write sets as a forget file."""
    try:
        Path(path).write_text(json.dumps(by_name(sets)) + "\n")
    except OSError as error:
        raise InputError(f"forget file {path}: cannot be written: {error.strerror or error}") from error


def random_set(dataset: Dataset, size: int, *, seed: int = 0, name: str | None = None) -> ForgetSet:
    """`size` examples of D, every set equally likely. Meant for: no-op."""
    _check_size(size, dataset.n_train, "D")
    ids = np.random.RandomState(seed).permutation(dataset.n_train)[:size]
    return _make(name or f"random {size}", ids)


def class_set(dataset: Dataset, label: int, *, share: float = 1.0, seed: int = 0, name: str | None = None) -> ForgetSet:
    """A class, or a random share of it. Meant for: spreading when whole, no-op for a small share."""
    if not 0 <= label < dataset.n_classes:
        raise InputError(f"class: expected 0..{dataset.n_classes - 1}, got {label}")
    if not 0 < share <= 1:
        raise InputError(f"share of a class: expected above 0 and at most 1, got {share}")
    members = np.flatnonzero(dataset.y_train == label)
    size = max(1, round(share * len(members)))
    ids = np.random.RandomState(seed).permutation(members)[:size]
    title = dataset.class_names[label]
    return _make(name or (f"class {title}" if share == 1 else f"{share:.0%} of class {title}"), ids)


def memorized_set(memorization: Estimate, size: int, *, highest: bool = True, name: str | None = None) -> ForgetSet:
    """The `size` most (or least) memorized examples. Meant for: local when most, no-op when least."""
    scores = np.where(np.isnan(memorization.value), -np.inf if highest else np.inf, memorization.value)
    _check_size(size, len(scores), "D")
    order = np.argsort(-scores if highest else scores, kind="stable")
    return _make(name or f"{'highest' if highest else 'lowest'} memorization {size}", order[:size])


def neighbours_set(dataset: Dataset, example: int, size: int, *, name: str | None = None) -> ForgetSet:
    """A training example and those nearest to it in pixels, `size` in all. Meant for: no-op to spreading, by its size."""
    if not 0 <= example < dataset.n_train:
        raise InputError(f"example: expected an id of D (0..{dataset.n_train - 1}), got {example}")
    _check_size(size, dataset.n_train, "D")
    pixels = dataset.x_train.reshape(dataset.n_train, -1).astype(np.float32)
    distances = ((pixels - pixels[example]) ** 2).sum(axis=1)
    distances[example] = -1.0
    return _make(name or f"neighbours of {example}, {size}", np.argsort(distances, kind="stable")[:size])


def varied_sets(dataset: Dataset, memorization: Estimate, *, seed: int = 0) -> list[ForgetSet]:
    """Sets of different kinds and sizes to get to know a run by: what `infl demo` shows.

    Sizes are shares of n, so that small data work too.
    """
    n = dataset.n_train
    few, some, many = max(1, n // 100), max(2, n // 20), max(3, n // 10)
    classes = np.random.RandomState(seed).permutation(dataset.n_classes)
    first, second, third = (int(classes[k % dataset.n_classes]) for k in range(3))
    ordered = memorized_set(memorization, n, name="all").ids if n < 2 else _by_memorization(memorization)
    typical, atypical = int(ordered[len(ordered) // 2]), int(ordered[0])
    return [
        random_set(dataset, few, seed=seed),
        random_set(dataset, some, seed=seed + 1),
        random_set(dataset, many, seed=seed + 2),
        memorized_set(memorization, some, highest=False),
        memorized_set(memorization, few),
        memorized_set(memorization, some),
        memorized_set(memorization, many),
        neighbours_set(dataset, typical, few),
        neighbours_set(dataset, typical, some),
        neighbours_set(dataset, atypical, some),
        class_set(dataset, first, share=0.2, seed=seed),
        class_set(dataset, first, share=0.8, seed=seed),
        class_set(dataset, second),
        class_set(dataset, third),
    ]


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, entry in pairs:
        if name in named:
            raise InputError(f"the name {name!r} comes twice: give each set a name of its own")
        named[name] = entry
    return named


def _by_memorization(memorization: Estimate) -> Array:
    return np.argsort(-np.nan_to_num(memorization.value, nan=-np.inf), kind="stable")


def _make(name: str, ids: Array) -> ForgetSet:
    return ForgetSet(name, tuple(sorted(int(i) for i in ids)))


def _check_size(size: int, available: int, where: str) -> None:
    if not 1 <= size <= available:
        raise InputError(f"size: expected 1..{available} examples of {where}, got {size}")


def _check_ids(entry: Any, what: str, n_train: int) -> tuple[int, ...]:
    if isinstance(entry, np.ndarray):
        entry = entry.tolist()
    if not isinstance(entry, (list, tuple)):
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

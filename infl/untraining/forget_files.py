"""Turns what names forget sets into records, and writes them: forget files, and ids as people have them.

A forget file is JSON, `{"name": ids}` or `{"name": {"ids": ids, "concept": ids}}`; NumPy arrays, lines of text and columns of
CSV become the same. Ids are those of D; under the key or in the column `source_ids` positions in the source; or file names of
pictures.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from infl.data.folder import ids_of_files
from infl.records import Dataset, ForgetSet, Groups, InputError, first_line, sorted_ids
from infl.records.files import MAX_JSON_BYTES, open_archive, parse_json, read_bytes

NOT_JSON = (".npy", ".npz", ".csv", ".tsv", ".txt")  # files by these endings are read, and never written
COMMENT = re.compile(r"(^|\s)#.*|^sep=.$")  # the second: what Excel writes first
NUMBER = re.compile(r"[+-]?[0-9]{1,18}(\.[0-9]*)?([eE][+-]?[0-9]+)?")
COLUMNS = {
    "ids": ("id", "ids", "index", "example", "example_id", "train_id"),
    "source_ids": ("source_id", "source_ids", "in source"),
    "files": ("file", "filename", "file_name", "path", "image", "picture"),
}
NAMES = ("set", "forget_set", "group", "user")
FLAGS = ("forget", "remove", "selected", "mask")  # columns that say of each example whether it is meant
YES, NO = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
FORMS = 'JSON {"name": [ids], ...} or [ids], .npy, .npz, or text or CSV with a column id'


def as_forget_sets(given: Any, *, n_train: int, dataset: Callable[[], Dataset] | None = None) -> list[ForgetSet]:
    """Records of whatever names sets.

    Args:
        given: Records, `{"name": ids}`, the path of a forget file, or the ids, or mask, of a single set; see
            `make_forget_sets`.

    Raises:
        InputError: see `read_forget_sets`.

    Examples:
        >>> as_forget_sets(np.array([15, 3, 14]), n_train=20)[0]
        ForgetSet('3 examples': 3 examples)
    """
    if isinstance(given, (str, os.PathLike)):
        return read_forget_sets(given, n_train=n_train, dataset=dataset)
    given = [given] if isinstance(given, ForgetSet) else given
    if isinstance(given, (list, tuple)) and all(isinstance(one, ForgetSet) for one in given):
        given = _by_name(given)
    if isinstance(given, Mapping):
        return make_forget_sets(given, n_train=n_train, dataset=dataset)
    (one,) = make_forget_sets({"given": given}, n_train=n_train, dataset=dataset)
    return [replace(one, name=f"{len(one):,} examples" if len(one) > 1 else f"example {one.ids[0]}")]


def read_forget_sets(
    path: str | os.PathLike[str],
    *,
    n_train: int,
    dataset: Callable[[], Dataset] | None = None,
    ids: Literal["run", "source"] = "run",
) -> list[ForgetSet]:
    """Read a forget file, or ids as other programs write them.

    A forget file is JSON, `{"name": [ids], ...}` or `{"name": {"ids": [ids], "concept": [ids]}, ...}`; a bare list is one set,
    named as the file. So are an `.npy`, numbers in a text, and a CSV with a column `id`, `source_id` or `file`; its column
    `set`, `group` or `user` tells sets apart, and one called `forget`, `remove`, `selected` or `mask` the lines that are
    meant. The arrays of an `.npz` are sets. n values of 0 and 1, or false and true, are a mask of D.

    Args:
        ids: Whether they are ids of D, or positions in the source (as always under `source_ids`).

    Raises:
        InputError: where the file is missing or not such a one, or a set is empty, repeats an id, names an id outside D
            (0..n_train-1), or is all of D.
    """
    with _named_in_errors(f"forget file {path}"):
        return make_forget_sets(_entries(Path(path)), n_train=n_train, dataset=dataset, ids=ids)


def read_members(
    path: str | os.PathLike[str], *, n_train: int, dataset: Callable[[], Dataset] | None = None
) -> dict[str, tuple[int, ...]]:
    """Read the ids of D of each group, from files as `read_forget_sets` takes them.

    Of two columns the second is the group, whatever it is called. Values of all n examples, in an array or a column, are
    their groups. Groups of no example are left out.

    Raises:
        InputError: see `read_forget_sets`.
    """
    with _named_in_errors(f"groups file {path}"):
        entries = _entries(Path(path), grouped=True)
        values: Any = next(iter(entries.values()), None)
        if isinstance(values, list) and all(isinstance(one, (int, str)) for one in values):
            values = np.array(values)
        of_each = isinstance(values, np.ndarray) and values.shape == (n_train,) and values.dtype != bool
        if of_each and len(entries) == 1:
            names, group = np.unique(values, return_inverse=True)
            members = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
            entries = dict(zip(map(str, names), members, strict=True))
        entries = {name: ids for name, ids in entries.items() if not (isinstance(ids, list) and not ids)}
        if not entries:
            raise InputError("holds no group")
        return {one.name: one.ids for one in make_forget_sets(entries, n_train=n_train, dataset=dataset)}


def read_groups(path: str | os.PathLike[str], *, n_train: int, dataset: Callable[[], Dataset] | None = None) -> Groups:
    """Read which examples belong together, see `read_members`; those that the file does not name are in no group.

    Raises:
        InputError: see `read_members`, or where an example is in two groups.
    """
    table = np.full(n_train, -1, np.int32)
    for number, ids in enumerate(read_members(path, n_train=n_train, dataset=dataset).values()):
        if (twice := table[list(ids)] >= 0).any():
            raise InputError(f"groups file {path}: example {ids[twice.argmax()]} comes twice; give each one group")
        table[list(ids)] = number
    return Groups((Path(path).stem,), table[None])


@contextlib.contextmanager
def _named_in_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{what}: cannot be read: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
    except csv.Error as error:
        raise InputError(f"{what}: expected columns of ids ({error})") from error
    except ValueError as error:
        raise InputError(f'{what}: not JSON ({error}); expected {{"name": [ids], ...}}') from error


def make_forget_sets(
    sets: Mapping[str, Any],
    *,
    n_train: int,
    dataset: Callable[[], Dataset] | None = None,
    ids: Literal["run", "source"] = "run",
) -> list[ForgetSet]:
    """Make records of sets given as in a forget file.

    Args:
        sets: For each name ids as a list, a set, an array or a mask of D, or file names of pictures of a `folder:`; or a
            mapping with the key `ids`, or `source_ids` for positions in the source, and perhaps `concept`, likewise.
        dataset: Asked where file names or positions in the source must be found in D.
        ids: See `read_forget_sets`.

    Raises:
        InputError: see `read_forget_sets`.
    """
    made = []
    for name, entry in sets.items():
        if not isinstance(entry, Mapping):
            entry = {"ids": entry}
        given = entry.get("ids", entry.get("source_ids"))
        if given is None or set(entry) - {"ids", "source_ids", "concept"} or {"ids", "source_ids"} <= set(entry):
            raise InputError(
                f"set {name!r}: expected the keys ids or source_ids and, if known, concept; got {sorted(entry)}"
            )
        of_source = ids == "source" or "source_ids" in entry
        parts = []
        for part, what in ((given, f"set {name!r}"), (entry.get("concept"), f"set {name!r}, concept")):
            part = None if part is None else _ids_of_run(part, what, of_source, n_train, dataset)
            if part and max(part) >= n_train:
                raise InputError(f"{what} names id {max(part)}, outside D (0..{n_train - 1})")
            if part and len(part) == n_train:
                raise InputError(f"{what} is all of D ({n_train} examples): nothing would be left to train on")
            parts.append(part)
        made.append(ForgetSet(str(name), *parts))
    return made


def _ids_of_run(
    given: Any, what: str, of_source: bool, n_train: int, dataset: Callable[[], Dataset] | None
) -> tuple[int, ...]:
    """Ids of D, each once, of what examples were named by."""
    of_where = isinstance(given, tuple) and len(given) == 1 and hasattr(given[0], "dtype")
    given = cast(Any, given[0] if of_where else given)
    shape = np.shape(given) if hasattr(given, "dtype") else None
    if shape is not None and given.dtype == bool and shape == (n_train,):
        return sorted_ids(np.flatnonzero(given), what)
    if shape is not None and (len(shape) != 1 or given.dtype == bool):
        raise InputError(f"{what}: expected ids along one axis, or a mask of D, [{n_train}], got {given.dtype} {shape}")
    values = given.tolist() if shape is not None else list(given) if isinstance(given, (set, frozenset)) else given
    if isinstance(values, (list, tuple)):
        if dataset is not None and values and all(isinstance(one, str) for one in values):
            values, of_source = ids_of_files(dataset(), values), False
        values = [int(one) if isinstance(one, float) and one.is_integer() else one for one in values]
        if len(values) == n_train > 2 and all(isinstance(one, int) and one in (0, 1) for one in values):  # a mask
            values, of_source = np.flatnonzero(values), False
    ids = sorted_ids(values, what)
    if not of_source:
        return ids
    positions = dataset().train_ids if dataset is not None else np.arange(n_train)
    if missing := sorted({*ids} - {*positions.tolist()}):
        raise InputError(
            f"{what} names {len(missing)} of {len(ids)} positions of the source that are not in D, the first {missing[0]}"
        )
    return tuple(np.flatnonzero(np.isin(positions, ids)).tolist())


def _by_name(sets: Sequence[ForgetSet]) -> dict[str, Any]:
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
    content = json.dumps(_by_name(sets)) + "\n"
    path = os.path.realpath(path)  # the file, where the path is a link to it
    try:
        with open(f"{path}.partial", "w") as file:
            file.write(content)
        os.replace(f"{path}.partial", path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(f"{path}.partial")
        raise InputError(f"forget file {path}: cannot be written: {error.strerror or error}") from error


def _entries(path: Path, *, grouped: bool = False) -> dict[str, Any]:
    """The sets that a file names, as in a forget file but unchecked; grouped: by the second of two columns."""
    content = read_bytes(path, MAX_JSON_BYTES)
    if content.startswith(b"PK"):
        with open_archive(path, content) as archive:
            return {name: archive.read(name) for name in archive.names}
    if content.startswith(b"\x93NUMPY"):
        try:
            return {path.stem: np.load(io.BytesIO(content), allow_pickle=False)}
        except Exception as error:
            raise InputError(f"expected an array of ids as np.save writes it ({first_line(error)})") from error
    try:
        utf_16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = content.decode("utf-16" if utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"expected {FORMS}; it is none of these") from error
    if text.lstrip()[:1] in ("{", "[") or path.suffix.lower() == ".json":
        entries = parse_json(text.encode(), object_pairs_hook=_without_repeats)
        if isinstance(entries, list):
            return {path.stem: entries}
        if not isinstance(entries, dict) or not entries:
            raise InputError('expected an object {"name": [ids], ...} with at least one set, or a list of ids')
        return entries
    return _of_text(text, path.stem, grouped)


def _of_text(text: str, name: str, grouped: bool) -> dict[str, Any]:
    lines = [line for line in (COMMENT.sub("", line).strip() for line in text.splitlines()) if line]
    separator = next((mark for mark in "\t;," if any(mark in line for line in lines)), None)
    split = csv.reader(lines, delimiter=separator, skipinitialspace=True) if separator else [[line] for line in lines]
    rows = [[cell.strip().strip('"') for cell in row] for row in split]
    head, body = rows[:1], rows[1:]
    header = [cell.lower() for row in head for cell in row]
    examples = {*header} & {column for columns in COLUMNS.values() for column in columns}
    if grouped and len(header) == 2 and not examples:
        return _of_columns(["id", "set"], rows if re.search(r"\d", header[0]) else body, name, grouped)
    if grouped and len(header) == 1 and {*header} & {*NAMES}:
        return {name: [row[0] for row in body]}
    if not any(map(_are_numbers, header)):
        if examples or {*header} & {*NAMES}:
            return _of_columns(header, body, name, grouped)
        if not any(_are_numbers(row[0]) for row in body):
            return {name: lines}  # names of pictures
        if len(header) > 1:
            raise InputError(f"columns {', '.join(header)}: expected one that is called id, source_id or file")
        rows = rows if re.search(r"\d", "".join(header)) else body  # with a digit it is no name of a column, but a slip
    if len(rows) > 1 and all(len(row) == 2 for row in rows):
        if any(_are_numbers(group) for _, group in rows):
            raise InputError("two columns of numbers: say in a first line what they are, as in id,set")
        return _of_columns(["id", "set"], rows, name, grouped)
    return {name: [_id_of(word) for row in rows for cell in row for word in cell.split()]}


def _of_columns(header: list[str], rows: list[list[str]], name: str, grouped: bool) -> dict[str, Any]:
    """Sets of the column that tells examples, by the column that tells sets where there is one."""
    told = [(key, header.index(column)) for key, columns in COLUMNS.items() for column in columns if column in header]
    if not told:
        raise InputError(f"columns {', '.join(header)}: expected one that is called id, source_id or file")
    key, column = told[0]
    by = next((header.index(one) for one in NAMES if one in header), None)
    if by is None and grouped:
        if len(header) != 2:
            raise InputError(f"columns {', '.join(header)}: expected one that is called group")
        by = 1 - column
    flag = next((header.index(one) for one in FLAGS if one in header), None)
    if flag is not None and all(row[flag].lower() in YES + NO for row in rows if len(row) == len(header)):
        rows = [row for row in rows if len(row) != len(header) or row[flag].lower() in YES]
    sets: dict[str, list[Any]] = {} if by is not None else {name: []}
    if not rows:
        raise InputError(f"columns {', '.join(header)}: expected lines below the names")
    for row in rows:
        if len(row) != len(header):
            raise InputError(f"expected {len(header)} columns as in the first line, got {','.join(row)!r}")
        if by is not None and not row[by]:
            raise InputError(f"{','.join(row)!r} names no {header[by]}; leave out examples that are in none")
        sets.setdefault(name if by is None else row[by], []).append(
            row[column] if key == "files" else _id_of(row[column])
        )
    return {one: {"source_ids": ids} if key == "source_ids" else ids for one, ids in sets.items()}


def _id_of(word: str) -> int | float:
    if not NUMBER.fullmatch(word):
        raise InputError(f"expected whole numbers, got {word!r}; a column of ids is called id, one of files file")
    return int(word) if word.lstrip("+-").isdigit() else float(word)


def _are_numbers(cell: str) -> bool:
    return bool(words := cell.split()) and all(map(NUMBER.fullmatch, words))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, entry in pairs:
        if name in named:
            raise InputError(f"the name {name!r} comes twice: give each set a name of its own")
        named[name] = entry
    return named

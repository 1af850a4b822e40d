"""A `.npz` file, written by `np.savez` or `np.savez_compressed`, becomes a `Dataset`, and a `Dataset` such a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from infl.data.arrays import from_arrays, prefix_errors
from infl.data.documents import from_tokens
from infl.records import Array, Dataset, InputError
from infl.records.files import open_archive

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
TOKENS = ("x_train", "x_test")
TEXTS = ("class_names", "vocabulary")
REMEDY = "write it with np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"


def load(path: str, *, documents: bool = False) -> Dataset:
    """Load `x_train`, `y_train`, `x_test`, `y_test` and, where it is there, `class_names` from a `.npz` file.

    The test arrays become the held-out examples. See `infl.data.from_arrays` for shapes, dtypes and ranges; where there is a
    `vocabulary` as well, rows are documents, see `infl.data.text`. Python objects in the file are never unpickled, so a file
    from a stranger runs no code. Other arrays are left unread.

    Args:
        path: Of the file; `class_names` and `vocabulary` in it are one-axis arrays of strings.
        documents: Whether rows are token ids even where there is no vocabulary.

    Raises:
        InputError: where the file is missing or damaged, lacks an array, or holds arrays that are no dataset.

    Examples:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "two.npz")
        >>> np.savez(path, x_train=np.eye(4), y_train=[0, 0, 1, 1], x_test=np.eye(4), y_test=[0, 0, 1, 1])
        >>> load(path).name
        'two'
    """
    path = os.path.abspath(os.path.expanduser(path))
    arrays = _read(path, TOKENS if documents else REQUIRED)
    with prefix_errors(path, " (x_test and y_test are read as x_held_out and y_held_out)"):
        name, class_names = os.path.splitext(os.path.basename(path))[0], _texts("class_names", arrays)
        if documents or "vocabulary" in arrays:
            return from_tokens(
                arrays["x_train"],
                arrays["x_test"],
                _texts("vocabulary", arrays),
                y_train=arrays.get("y_train"),
                y_held_out=arrays.get("y_test"),
                class_names=class_names,
                name=name,
                source=f"text:{path}" if documents else path,
            )
        return from_arrays(*(arrays[n] for n in REQUIRED), name=name, class_names=class_names, source=path)


def write_npz(path: str | os.PathLike[str], dataset: Dataset) -> None:
    """Write a dataset as a `.npz` file that `infl.load` reads; `train_ids` are not kept: the file is a new source.

    Raises:
        InputError: where the path does not end in .npz, something is there already, or it cannot be written.
    """
    path = os.path.expanduser(os.fspath(path))
    if not path.lower().endswith(".npz"):
        raise InputError(f"{path}: expected a path that ends in .npz, since that is how infl tells such files")
    arrays = {
        "x_train": dataset.x_train,
        "y_train": dataset.y_train,
        "x_test": dataset.x_held_out,
        "y_test": dataset.y_held_out,
        "class_names": np.array(dataset.class_names, dtype=np.str_),
    }
    if dataset.is_documents:
        arrays["vocabulary"] = np.array(dataset.vocabulary, dtype=np.str_)
    if dataset.is_facts:
        raise InputError(f"{path}: facts are no arrays; change the table that they came from")
    if dataset.targets is not None:
        raise InputError(
            f"{path}: a data set with targets cannot be written, since no .npz with them is read; keep it in memory"
        )
    try:
        with open(path, "xb") as file:
            try:
                np.savez(file, **arrays)
            except BaseException:
                os.unlink(path)
                raise
    except FileExistsError as error:
        raise InputError(f"{path} exists already; choose another name, nothing is overwritten") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _read(path: str, required: tuple[str, ...]) -> dict[str, Array]:
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise InputError(f"{path}: expected several named arrays, found a single one (.npy); {REMEDY}")
    with open_archive(Path(path)) as archive:
        if missing := [name for name in required if name not in archive.names]:
            raise InputError(
                f"{path}: expected the arrays {', '.join(required)}; missing {', '.join(missing)}, "
                f"found {', '.join(map(repr, archive.names[:20])) or 'none'}; {REMEDY}"
            )
        return {name: archive.read(name) for name in (*REQUIRED, *TEXTS) if name in archive.names}


def _texts(name: str, arrays: dict[str, Array]) -> list[str] | None:
    if name not in arrays:
        return None
    array = arrays[name]
    if array.dtype.kind != "U" or array.ndim != 1:
        raise InputError(f"{name}: expected a one-axis array of strings, got {array.dtype} of shape {array.shape}")
    return array.tolist()

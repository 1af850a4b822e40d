"""A `.npz` file, written by `np.savez` or `np.savez_compressed`, becomes a `Dataset`, and a `Dataset` such a file."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from infl.data.arrays import from_arrays, prefix_errors
from infl.records import Array, Dataset, InputError
from infl.records.files import open_archive

REQUIRED = ("x_train", "y_train", "x_test", "y_test")
REMEDY = "write it with np.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)"


def load(path: str) -> Dataset:
    """Load `x_train`, `y_train`, `x_test`, `y_test` and, where it is there, `class_names` from a `.npz` file.

    The test arrays become the held-out examples. See `infl.data.from_arrays` for shapes, dtypes and ranges. Python
    objects in the file are never unpickled, so a file from a stranger runs no code. Other arrays are left unread.

    Args:
        path: Of the file; `class_names` in it is a one-axis array of strings.

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
    arrays = _read(path)
    with prefix_errors(path, " (x_test and y_test are read as x_held_out and y_held_out)"):
        return from_arrays(
            *(arrays[name] for name in REQUIRED),
            name=os.path.splitext(os.path.basename(path))[0],
            class_names=_class_names(arrays.get("class_names")),
            source=path,
        )


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


def _read(path: str) -> dict[str, Array]:
    if os.path.isfile(path):
        with open(path, "rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise InputError(f"{path}: expected several named arrays, found a single one (.npy); {REMEDY}")
    with open_archive(Path(path)) as archive:
        if missing := [name for name in REQUIRED if name not in archive.names]:
            raise InputError(
                f"{path}: expected the arrays {', '.join(REQUIRED)}; missing {', '.join(missing)}, "
                f"found {', '.join(map(repr, archive.names[:20])) or 'none'}; {REMEDY}"
            )
        return {name: archive.read(name) for name in (*REQUIRED, "class_names") if name in archive.names}


def _class_names(array: Array | None) -> list[str] | None:
    if array is None:
        return None
    if array.dtype.kind != "U" or array.ndim != 1:
        raise InputError(f"class_names: expected a one-axis array of strings, got {array.dtype} of shape {array.shape}")
    return array.tolist()

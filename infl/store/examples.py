"""The copies of data set and groups in a run: turns a Dataset or Groups into .npz and back, checked by fingerprint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from infl.records import Array, Dataset, DiskError, Groups, InputError, first_line
from infl.records.files import make_folder, open_archive, write_durably


def describe_examples(dataset: Dataset) -> dict[str, Any]:
    """What the manifest says of a dataset."""
    return {
        "name": dataset.name,
        "source": dataset.source,
        "n_train": dataset.n_train,
        "n_columns": dataset.n_columns,
        "fingerprint": dataset.fingerprint(),
    }


def write_examples(path: Path, dataset: Dataset) -> None:
    """Write all arrays of a dataset, whole or not at all."""
    arrays = {
        "x_train": dataset.x_train,
        "y_train": dataset.y_train,
        "x_held_out": dataset.x_held_out,
        "y_held_out": dataset.y_held_out,
        "train_ids": dataset.train_ids,
        "held_out_ids": dataset.held_out_ids,
        "class_names": np.array(dataset.class_names, dtype=np.str_),
    }
    _write(path, arrays)


def read_examples(path: Path, description: dict[str, Any]) -> Dataset:
    """Read the dataset that the manifest describes.

    Raises:
        InputError: where the file is missing or damaged, or holds other data.
    """
    try:
        fields = _read(path)
        names = tuple(str(name) for name in fields.pop("class_names"))
        dataset = Dataset(name=description["name"], source=description["source"], class_names=names, **fields)
        fingerprint = dataset.fingerprint()
    except Exception as error:
        raise _damaged(path, error) from error
    if fingerprint != description["fingerprint"]:
        raise InputError(f"{path} is not the data that this run was made with: its fingerprint differs; restore it")
    return dataset


def write_groups(path: Path, groups: Groups) -> None:
    """Write groups, whole or not at all."""
    make_folder(path.parent)
    _write(path, {"names": np.array(groups.names, dtype=np.str_), "tables": groups.tables})


def read_groups(path: Path) -> Groups:
    """Read groups written by `write_groups`.

    Raises:
        InputError: where the file is missing or damaged.
    """
    try:
        fields = _read(path)
        return Groups(tuple(str(name) for name in fields["names"]), fields["tables"])
    except Exception as error:
        raise _damaged(path, error) from error


def _write(path: Path, arrays: dict[str, Array]) -> None:
    write_durably(path, lambda file: np.savez(file, **arrays))  # pyright: ignore[reportArgumentType]


def _read(path: Path) -> dict[str, Array]:
    with open_archive(path) as archive:
        return {name: archive.read(name) for name in archive.names}


def _damaged(path: Path, error: Exception) -> InputError:
    # A damaged file fails in zipfile, zlib or numpy, with more kinds of exception than those modules document.
    return DiskError(f"{path} is missing or damaged ({first_line(error)}); restore it")

"""The copy of the data set in a run: turns a Dataset into data.npz and back, checked by its fingerprint."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from infl.records import Dataset, InputError


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
    temporary = path.with_suffix(".partial")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_examples(path: Path, description: dict[str, Any]) -> Dataset:
    """Read the dataset that the manifest describes.

    Raises:
        InputError: where the file is missing or damaged, or holds other data.
    """
    try:
        # Opened here and not by np.load, which leaves the file open where it is no zip.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            fields = {name: arrays[name] for name in arrays.files}
        names = tuple(str(name) for name in fields.pop("class_names"))
        dataset = Dataset(name=description["name"], source=description["source"], class_names=names, **fields)
        fingerprint = dataset.fingerprint()
    # A damaged file fails in zipfile, zlib or numpy, with more kinds of exception than those modules document.
    except Exception as error:
        raise InputError(
            f"{path} is missing or damaged ({(str(error).splitlines() or [type(error).__name__])[0]}); restore it"
        ) from error
    if fingerprint != description["fingerprint"]:
        raise InputError(f"{path} is not the data that this run was made with: its fingerprint differs; restore it")
    return dataset

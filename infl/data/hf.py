"""A folder that Hugging Face's `datasets` wrote with `save_to_disk` becomes a `Dataset`; nothing is fetched from a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from infl.data.arrays import HELD_OUT_NAMES, draw_held_out, from_arrays, held_out_name
from infl.data.folder import parse_place, read_pictures
from infl.records import Array, Dataset, InputError, first_line

INSTALL = "pip install 'infl[huggingface]', or in infl's folder pip install '.[huggingface]'"
PIXEL_NAMES = ("image", "img", "pixels", "pixel_values", "x")
ARRAYS = ("Image", "Array2D", "Array3D", "Array4D", "Array5D", "Sequence", "List", "LargeList")
LABEL_NAMES = ("label", "labels", "fine_label", "y")


def load(place: str) -> Dataset:
    """Load `FOLDER[:FRACTION][:HEIGHTxWIDTH]`.

    Either the folder holds a `DatasetDict` with the split `train` and one of `test`, `held_out`, `validation`, `valid`, `val`
    (the first of these); or it holds a single `Dataset`, and FRACTION says how much of each class to hold out, always the same
    draw. The order is that of the rows; ids are their numbers, and a drawn split shares one numbering.

    Pixels are the column `image`, `img`, `pixels`, `pixel_values` or `x`, or else the only one of images or arrays: encoded
    images come as in `folder:` (uint8; HEIGHTxWIDTH cuts and scales them), arrays and lists of numbers as they are. Labels are
    the column `label`, `labels`, `fine_label` or `y`, or else the only `ClassLabel`: integers, or texts, whose sorted values
    are then the classes. Classes have the names of a `ClassLabel`.

    Raises:
        InputError: where `datasets` is not installed, the folder is not such a one, splits or columns are not found, or a
            picture cannot be read.
    """
    parsed = parse_place("hf", place)
    splits = _splits(parsed.folder, parsed.fraction)
    try:
        pixels_of, label_of = _columns(splits[0].features)
        if any(split.features != splits[0].features for split in splits):
            raise InputError("expected the same columns in both splits")
        pixels = _pixels(splits, pixels_of, parsed.size)
        labels, class_names = _labels(splits, label_of)
        n_train = len(splits[0])
        if len(splits) == 2:
            train, held_out, first = np.arange(n_train), np.arange(n_train, len(labels)), n_train
        else:
            (train, held_out), first = draw_held_out(labels, parsed.fraction or 0), 0
        return from_arrays(
            pixels[train],
            labels[train],
            pixels[held_out],
            labels[held_out],
            name=os.path.basename(parsed.folder) or "hf",
            class_names=class_names,
            train_ids=train,
            held_out_ids=held_out - first,
            source=f"hf:{parsed}",
        )
    except InputError as error:
        raise InputError(f"hf:{place}: {error}") from error


def _splits(folder: str, fraction: float | None) -> list[Any]:
    """The training and the held-out split, or the single collection."""
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        raise InputError(f"hf: reading Hugging Face's folders takes an extra of infl ({error}): {INSTALL}") from error
    try:
        found = datasets.load_from_disk(folder)
    except Exception as error:  # FileNotFoundError of its own, and whatever a damaged description or table raises
        raise InputError(
            f"{folder}: expected a folder written by save_to_disk of Hugging Face's datasets, and it cannot be opened "
            f"({first_line(error)}); check the path, or save it again"
        ) from error
    if not isinstance(found, datasets.DatasetDict):
        if fraction is None:
            raise InputError(f"{folder} holds one collection: say what fraction to hold out, as in hf:{folder}:0.2")
        return [found]
    name = held_out_name(found)
    if "train" not in found or name is None:
        raise InputError(
            f"{folder}: expected the splits train and test (or {', '.join(HELD_OUT_NAMES[1:])}), got {', '.join(found)}"
        )
    if fraction is not None:
        raise InputError(f"{folder} holds train and {name}: leave the fraction to hold out away")
    return [found["train"], found[name]]


def _columns(features: Any) -> tuple[str, str]:
    """Names of the columns of pixels and of labels."""
    arrays = [name for name, feature in features.items() if type(feature).__name__ in ARRAYS]
    labels = [name for name, feature in features.items() if type(feature).__name__ in ("ClassLabel", "Value")]
    named_classes = [name for name in labels if type(features[name]).__name__ == "ClassLabel"]
    pixels, label = _column(PIXEL_NAMES, arrays, arrays), _column(LABEL_NAMES, labels, named_classes)
    for name, wanted, what in ((pixels, "image", "images or arrays"), (label, "label", "labels")):
        if name is None:
            listed = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in features.items())
            raise InputError(
                f"expected a column of {what}, got {listed}; rename it with rename_column(..., {wanted!r}) and save again"
            )
    return str(pixels), str(label)


def _column(names: Sequence[str], of_its_kind: list[str], likely: list[str]) -> str | None:
    """The first of these names that is there and of the right kind, otherwise the only likely one."""
    named = next((name for name in names if name in of_its_kind), None)
    return named or (likely[0] if len(likely) == 1 else None)


def _pixels(splits: list[Any], column: str, size: tuple[int, int] | None) -> Array:
    feature = splits[0].features[column]
    if type(feature).__name__ == "Image":
        encoded = [split.cast_column(column, type(feature)(decode=False)) for split in splits]
        return read_pictures(
            [
                (
                    f"row {row}{f' of {split.split}' if split.split else ''}",
                    cell["bytes"] if cell["bytes"] is not None else Path(cell["path"]),
                )
                for split in encoded
                for row, cell in enumerate(split.select_columns(column)[:][column])
            ],
            size,
        )
    if size is not None:
        raise InputError(f"a size scales pictures, and {column} holds {type(feature).__name__}: leave the size away")
    while not hasattr(feature, "dtype"):
        feature = feature.feature
    try:
        parts = [
            split.select_columns(column).with_format("numpy", dtype=np.dtype(feature.dtype))[:][column]
            for split in splits
        ]
        return np.concatenate(parts)
    except (ValueError, TypeError) as error:
        raise InputError(f"column {column}: expected arrays of one shape, got others ({first_line(error)})") from error


def _labels(splits: list[Any], column: str) -> tuple[Array, list[str] | None]:
    values = [value for split in splits for value in split.select_columns(column)[:][column]]
    if values and all(isinstance(value, str) for value in values):
        class_names = sorted(set(splits[0].select_columns(column)[:][column]))
        if unknown := sorted(set(values) - set(class_names)):
            raise InputError(f"column {column}: expected no labels besides those to train on, got {unknown[0]!r}")
        return np.searchsorted(class_names, values), class_names
    if not all(isinstance(value, int) for value in values):
        raise InputError(f"column {column}: expected an integer or a text for every row; drop rows without a label")
    return np.array(values, np.int64), getattr(splits[0].features[column], "names", None)

"""A folder that Hugging Face's `datasets` wrote with `save_to_disk` becomes a `Dataset`; nothing is fetched from a network."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from infl.data.arrays import prefix_errors
from infl.data.images import read_pictures
from infl.data.splits import HELD_OUT_NAMES, Place, parse_place
from infl.data.text import OPTIONS, Documents
from infl.records import Array, Dataset, InputError, first_line

INSTALL = "pip install 'infl[huggingface]', or in infl's folder pip install '.[huggingface]'"
PIXEL_NAMES = ("image", "img", "pixels", "pixel_values", "x")
ARRAYS = ("Image", "Array2D", "Array3D", "Array4D", "Array5D", "Sequence", "List", "LargeList")
LABEL_NAMES = ("label", "labels", "fine_label", "y")
EXPECTED = (
    f"the splits train and test (or {', '.join(HELD_OUT_NAMES[1:])}), or one collection and a fraction to hold out"
)


def load(place: str) -> Dataset:
    """Load `FOLDER[:FRACTION][:HEIGHTxWIDTH]`, or of texts `FOLDER[:FRACTION][:OPTION=VALUE ...]`.

    Either the folder holds a `DatasetDict` with the split `train` and one of `test`, `held_out`, `validation`, `valid`, `val`
    (the first of these); or it holds a single `Dataset`, and FRACTION says how much of each class to hold out, always the same
    draw. The order is that of the rows; ids are their numbers, and a drawn split shares one numbering.

    Pixels are the column `image`, `img`, `pixels`, `pixel_values` or `x`, or else the only one of images or arrays: encoded
    images come as in `folder:` (uint8; HEIGHTxWIDTH cuts and scales them), arrays and lists of numbers as they are. Labels are
    the column `label`, `labels`, `fine_label` or `y`, or else the only `ClassLabel`: integers, or texts, whose sorted values
    are then the classes. Classes have the names of a `ClassLabel`.

    Rows are documents where there is a column `text` and none of images or arrays, or where `text=COLUMN` names one. Their
    groups are the column `group`, if it is there, or that which `group=COLUMN` names; a column `prompt` is read before the text
    and not scored. `context` and `tokenizer` are as in `infl.data.text`.

    Raises:
        InputError: where `datasets` is not installed, the folder is not such a one, splits or columns are not found, or a
            picture cannot be read.
    """
    parsed = parse_place("hf", place, OPTIONS)
    splits = _splits(parsed)
    with prefix_errors(f"hf:{place}"):
        if documents := _documents(splits, parsed.options):
            if parsed.size:
                raise InputError("a size scales pictures, and rows are documents: leave the size away")
            return documents.dataset(parsed, len(splits[0]) if len(splits) == 2 else None)
        pixel_column, label_column = _columns(splits[0].features)
        if any(split.features != splits[0].features for split in splits):
            raise InputError("expected the same columns in both splits")
        pixels = _pixels(splits, pixel_column, parsed.size)
        labels, class_names = _labels(splits, label_column)
        return parsed.dataset(pixels, labels, len(splits[0]) if len(splits) == 2 else None, class_names)


def holds_documents(place: str) -> bool:
    """Whether `load` makes documents of the rows."""
    parsed = parse_place("hf", place, OPTIONS)
    return _are_documents(_splits(parsed)[0].features, parsed.options)


def _are_documents(features: Any, options: dict[str, str]) -> bool:
    return bool(options) or ("text" in features and not any(type(one).__name__ in ARRAYS for one in features.values()))


def _splits(place: Place) -> list[Any]:
    """The training and the held-out split, or the single collection."""
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        raise InputError(f"hf: reading Hugging Face's folders takes an extra of infl ({error}): {INSTALL}") from error
    try:
        found = datasets.load_from_disk(place.path)
    except Exception as error:  # FileNotFoundError of its own, and whatever a damaged description or table raises
        raise InputError(
            f"{place.path}: expected a folder written by save_to_disk of Hugging Face's datasets, and it cannot be opened "
            f"({first_line(error)}); check the path, or save it again"
        ) from error
    single = not isinstance(found, datasets.DatasetDict)
    name = place.held_out_split(["one collection"] if single else list(found), EXPECTED)
    if name is None and not single:
        raise InputError(f"{place.path}: expected {EXPECTED}, got {', '.join(found)}")
    return [found] if name is None else [found["train"], found[name]]


def _documents(splits: list[Any], options: dict[str, str]) -> Documents | None:
    """Texts, with their groups and prompts; None where rows are no documents."""
    features = splits[0].features
    if not _are_documents(features, options):
        return None
    values: dict[str, list[str] | None] = {}
    for key, column in (("text", options.get("text", "text")), ("group", options.get("group")), ("prompt", None)):
        name = column or key
        if name not in features:
            if column is not None:
                raise InputError(f"expected a column {name!r} as {key}, got {', '.join(features)}")
            values[key] = None
            continue
        cells = [value for split in splits for value in split.select_columns(name)[:][name]]
        if None in cells:
            raise InputError(f"column {name}: expected a value in every row, got none in row {cells.index(None):,}")
        if key != "group" and not all(isinstance(cell, str) for cell in cells):
            raise InputError(f"column {name}: expected texts, got {type(features[name]).__name__}")
        named = getattr(features[name], "int2str", None)
        values[key] = [named(cell) for cell in cells] if named else list(map(str, cells))
    return Documents(values["text"] or [], np.arange(len(values["text"] or [])), values["group"], values["prompt"])


def _columns(features: Any) -> tuple[str, str]:
    """Names of the columns of pixels and of labels."""
    arrays = [name for name, feature in features.items() if type(feature).__name__ in ARRAYS]
    labels = [name for name, feature in features.items() if type(feature).__name__ in ("ClassLabel", "Value")]
    named_classes = [name for name in labels if type(features[name]).__name__ == "ClassLabel"]
    columns = []
    for names, candidates, likely, what in (
        (PIXEL_NAMES, arrays, arrays, "images or arrays"),
        (LABEL_NAMES, labels, named_classes, "labels"),
    ):
        # The first of these names that is there and of the right kind, otherwise the only likely one.
        found = [name for name in names if name in candidates] or (likely if len(likely) == 1 else [])
        if not found:
            listed = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in features.items())
            raise InputError(
                f"expected a column of {what}, got {listed}; rename it with rename_column(..., {names[0]!r}) and save again"
            )
        columns.append(found[0])
    return columns[0], columns[1]


def _pixels(splits: list[Any], column: str, size: tuple[int, int] | None) -> Array:
    feature = splits[0].features[column]
    if type(feature).__name__ == "Image":
        encoded = [split.cast_column(column, type(feature)(decode=False)) for split in splits]
        cells = [
            (f"row {row}{f' of {split.split}' if split.split else ''}", cell)
            for split in encoded
            for row, cell in enumerate(split.select_columns(column)[:][column])
        ]
        return read_pictures([(name, cell["bytes"] or Path(cell["path"])) for name, cell in cells], size)
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

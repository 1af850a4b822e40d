"""A folder of pictures, with one subfolder for each class, becomes a `Dataset`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from infl.data.arrays import prefix_errors
from infl.data.images import read_pictures
from infl.data.splits import HELD_OUT_NAMES, Place, parse_place
from infl.records import Array, Dataset, InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
EXPECTED = (
    f"folders train and test (or {', '.join(HELD_OUT_NAMES[1:])}) with one subfolder a class, or one subfolder a class and a "
    "fraction to hold out"
)


def load(place: str) -> Dataset:
    """Load `FOLDER[:FRACTION][:HEIGHTxWIDTH]`.

    Either the folder holds `train` and one of `test`, `held_out`, `validation`, `valid`, `val` (the first of these), each with
    one subfolder a class; or it holds the subfolders itself, and FRACTION says how much of each class to hold out, always the
    same draw. Names of the subfolders, sorted, are the classes; a picture belongs to the class however deep it lies in the
    subfolder. Pictures are sorted by class, then by path, characters by their code points; ids are positions in that order,
    and a drawn split shares one numbering. Files that do not end like a picture, and hidden ones, are skipped.

    Pixels are uint8, [n, h, w] where all pictures are grey, otherwise [n, h, w, 3]. All must be of one size, unless
    HEIGHTxWIDTH asks for one: then they are cut around the middle and scaled (see `infl.data.images`).

    Raises:
        InputError: where the folder is missing or not laid out so, a class has no pictures, or one cannot be read.

    Examples:
        >>> import tempfile
        >>> from PIL import Image
        >>> folder = tempfile.mkdtemp()
        >>> for k, colour in enumerate(["red", "red", "blue", "blue"]):
        ...     os.makedirs(f"{folder}/{colour}", exist_ok=True)
        ...     Image.new("RGB", (4, 3), colour).save(f"{folder}/{colour}/{k}.png")
        >>> pictures = load(f"{folder}:0.5")
        >>> pictures.class_names, pictures.x_train.shape, pictures.x_train[0, 0, 0].tolist()
        (('blue', 'red'), (2, 3, 4, 3), [0, 0, 255])
    """
    parsed = parse_place("folder", place)
    class_names, paths, labels, n_train = _listing(parsed)
    with prefix_errors(f"folder:{place}"):
        pixels = read_pictures([(str(path), path) for path in paths], parsed.size)
        return parsed.dataset(pixels, labels, n_train, class_names)


def files(source: str) -> tuple[list[Path], list[Path]]:
    """The pictures that `dataset.train_ids` and `dataset.held_out_ids` number, for a dataset made from `folder:...`.

    The picture of training example i is `files(dataset.source)[0][dataset.train_ids[i]]`, in a subset too.

    Raises:
        InputError: where the folder is missing or not laid out as `load` wants it.
    """
    _, paths, _, n_train = _listing(parse_place("folder", source.removeprefix("folder:")))
    return (paths, paths) if n_train is None else (paths[:n_train], paths[n_train:])


def _listing(place: Place) -> tuple[list[str], list[Path], Array, int | None]:
    """Classes, all pictures and their labels, and how many of them are training examples; None where that is to be drawn."""
    root = Path(place.folder)
    held_out = place.held_out_split(_subfolders(root), EXPECTED)
    train_folder = root if held_out is None else root / "train"
    class_names = _subfolders(train_folder)
    paths, labels = _pictures(train_folder, class_names)
    if empty := [name for label, name in enumerate(class_names) if label not in set(labels)]:
        raise InputError(
            f"{train_folder / empty[0]}: expected pictures ({', '.join(SUFFIXES)}), got none; add some or remove it"
        )
    n_train = None if held_out is None else len(paths)
    if held_out is not None:
        more, more_labels = _pictures(root / held_out, class_names)
        paths, labels = paths + more, labels + more_labels
    return class_names, paths, np.array(labels, np.int64), n_train


def _subfolders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: expected a folder with one subfolder a class, got {error}; check the path"
        ) from error


def _pictures(folder: Path, class_names: list[str]) -> tuple[list[Path], list[int]]:
    """Pictures of the classes, sorted, and the label of each."""
    if unknown := [name for name in _subfolders(folder) if name not in class_names]:
        raise InputError(f"{folder}: expected no classes besides those to train on, got {', '.join(unknown[:5])}")
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = [
            Path(parent, file)
            for parent, _, names in os.walk(folder / name)
            for file in names
            if file.lower().endswith(SUFFIXES) and not file.startswith(".")
        ]
        paths += sorted(found, key=lambda path: path.as_posix())
        labels += [label] * len(found)
    return paths, labels

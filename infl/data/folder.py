"""A folder of pictures, with one subfolder for each class, becomes a `Dataset`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from infl.data.arrays import from_arrays
from infl.data.held_out import HELD_OUT_NAMES, draw_held_out, held_out_name, split_off_share
from infl.data.pictures import read_pictures, split_off_size
from infl.records import Array, Dataset, InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def load(place: str) -> Dataset:
    """Load `FOLDER[:SHARE][:HEIGHTxWIDTH]`.

    Either the folder holds `train` and one of `test`, `held_out`, `validation`, `valid`, `val` (the first of these), each with
    one subfolder a class; or it holds the subfolders itself, and SHARE says what share of each class to hold out, always the
    same draw. Names of the subfolders, sorted, are the classes; a picture belongs to the class however deep it lies in the
    subfolder. Pictures are sorted by class, then by path, characters by their code points; ids are positions in that order,
    and a drawn split shares one numbering. Files that do not end like a picture, and hidden ones, are passed over.

    Pixels are uint8, [n, h, w] where all pictures are grey, otherwise [n, h, w, 3]. All must be of one size, unless
    HEIGHTxWIDTH asks for one: then they are cut around the middle and scaled (see `infl.data.pictures`).

    Raises:
        InputError: where the folder is missing or not laid out so, a class has no pictures, or one cannot be read.

    Example:
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
    root, share, size = _parse(place)
    class_names, paths, labels, train, held_out, first = _listing(root, share)
    try:
        pixels = read_pictures([(str(path), path) for path in paths], size)
        return from_arrays(
            pixels[train],
            labels[train],
            pixels[held_out],
            labels[held_out],
            name=os.path.basename(root) or "folder",
            class_names=class_names,
            train_ids=train,
            held_out_ids=held_out - first,
            source=f"folder:{root}{'' if share is None else f':{share}'}{f':{size[0]}x{size[1]}' if size else ''}",
        )
    except InputError as error:
        raise InputError(f"folder:{place}: {error}") from error


def files(source: str) -> tuple[list[Path], list[Path]]:
    """The pictures that `dataset.train_ids` and `dataset.held_out_ids` number, for a dataset made from `folder:...`.

    The picture of training example i is `files(dataset.source)[0][dataset.train_ids[i]]`, in a subset too.

    Raises:
        InputError: where the folder is missing or not laid out as `load` wants it.
    """
    root, share, _ = _parse(source.removeprefix("folder:"))
    _, paths, _, _, _, first = _listing(root, share)
    return (paths[:first], paths[first:]) if first else (paths, paths)


def _parse(place: str) -> tuple[str, float | None, tuple[int, int] | None]:
    rest, size = split_off_size(place)
    folder, share = split_off_share(rest)
    if not folder:
        raise InputError("folder: expected a folder after the colon, as in folder:DIR, got none; name the folder")
    return os.path.abspath(os.path.expanduser(folder)), share, size


def _listing(root: str, share: float | None) -> tuple[list[str], list[Path], Array, Array, Array, int]:
    """Classes, all pictures and their labels, positions of training and held-out ones, and where ids of the latter begin."""
    train_folder, held_out_folder = _layout(root, share)
    class_names = _subfolders(train_folder)
    paths, labels = _pictures(train_folder, class_names)
    if empty := [name for label, name in enumerate(class_names) if label not in set(labels)]:
        raise InputError(
            f"{train_folder / empty[0]}: expected pictures ({', '.join(SUFFIXES)}), got none; add some or remove it"
        )
    n_train = len(paths)
    if held_out_folder is None:
        train, held_out = draw_held_out(np.array(labels, np.int64), share or 0)
        return class_names, paths, np.array(labels, np.int64), train, held_out, 0
    more, more_labels = _pictures(held_out_folder, class_names)
    numbers = np.array(labels + more_labels, np.int64)
    return class_names, paths + more, numbers, np.arange(n_train), np.arange(n_train, len(numbers)), n_train


def _layout(folder: str, share: float | None) -> tuple[Path, Path | None]:
    """The folder of training examples, and that of held-out ones or None where they are drawn from it."""
    there = _subfolders(Path(folder))
    name = held_out_name(there)
    if "train" in there and name:
        if share is not None:
            raise InputError(f"{folder} holds train and {name}: leave the share to hold out away")
        return Path(folder, "train"), Path(folder, name)
    if share is None:
        raise InputError(
            f"{folder}: expected folders train and test (or {', '.join(HELD_OUT_NAMES[1:])}) with one subfolder a class, or "
            f"one subfolder a class and a share to hold out, as in folder:{folder}:0.2; got {_listed(there)}"
        )
    return Path(folder), None


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
        raise InputError(f"{folder}: expected no classes besides those to train on, got {_listed(unknown)}")
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


def _listed(names: list[str]) -> str:
    return (", ".join(names[:5]) + (", ..." if len(names) > 5 else "")) or "no subfolders"

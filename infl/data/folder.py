"""A folder of pictures, with one subfolder for each class, becomes a `Dataset`."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np

from infl.data.arrays import prefix_errors
from infl.data.images import picture_endings, read_pictures
from infl.data.splits import HELD_OUT_NAMES, Place, parse_place
from infl.records import Array, Dataset, InputError

# By systems and tools, at any depth, beside all that begins with a dot; in small letters.
LEFT_BEHIND = {
    "__macosx",
    "__pycache__",
    "thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "icon\r",
    "@eadir",
    "#recycle",
    "lost+found",
    "$recycle.bin",
    "system volume information",
}
SPLITS = {name: name for name in ("train", *HELD_OUT_NAMES)} | {"training": "train", "testing": "test"}  # lower case
EXPECTED = (
    f"folders train and test (or {', '.join(HELD_OUT_NAMES[1:])}) with one subfolder a class, or one subfolder a class and a "
    "fraction to hold out"
)


def load(place: str) -> Dataset:
    """Load `FOLDER[:FRACTION][:HEIGHTxWIDTH]`.

    Either the folder holds `train` and one of `test`, `held_out`, `validation`, `valid`, `val` (the first of these), each with
    one subfolder a class; or it holds the subfolders itself, and FRACTION says how much of each class to hold out, always the
    same draw. Names of the subfolders, sorted, are the classes; a picture belongs to the class however deep it lies in the
    subfolder, or in one that a link there leads to. Pictures are sorted by class, then by path, characters by their code
    points; ids are positions in that order, and a drawn split shares one numbering. What systems and tools leave behind
    (hidden files and folders, Thumbs.db, __MACOSX ...) is skipped; a warning counts the other files that do not end like a
    picture that Pillow reads.

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
    class_names, paths, labels, n_train, others = _listing(parsed)
    if others:
        told = f"not read: {_counted(others)}; expected pictures, by their endings, in the class folders"
        warnings.warn(f"folder:{place}: {told}", stacklevel=4)
    with prefix_errors(f"folder:{place}"):
        pixels = read_pictures([(str(path), path) for path in paths], parsed.size)
        # Names that the locale cannot decode came as lone surrogates, which no file or terminal takes.
        readable = [os.fsencode(name).decode(errors="backslashreplace") for name in class_names]
        return parsed.dataset(pixels, labels, n_train, readable)


def files(source: str) -> tuple[list[Path], list[Path]]:
    """The pictures that `dataset.train_ids` and `dataset.held_out_ids` number, for a dataset made from `folder:...`.

    The picture of training example i is `files(dataset.source)[0][dataset.train_ids[i]]`, in a subset too.

    Raises:
        InputError: where the folder is missing or not laid out as `load` wants it.
    """
    _, paths, _, n_train, _ = _listing(parse_place("folder", source.removeprefix("folder:")))
    return (paths, paths) if n_train is None else (paths[:n_train], paths[n_train:])


def ids_of_files(dataset: Dataset, names: Sequence[str]) -> list[int]:
    """Ids of training examples, by the names of their pictures: as much of the end of its path as tells one apart.

    Raises:
        InputError: where the dataset is not of `folder:`, a name is that of no training example, or of several, or a picture
            is not the one that it was.
    """
    if not dataset.source.startswith("folder:"):
        raise InputError(f"expected ids, got {names[0]!r}: examples of a folder: alone have file names")
    paths = files(dataset.source)[0]
    known: dict[tuple[str, ...], list[int]] = {}
    for i, position in enumerate(dataset.train_ids.tolist()):
        parts = paths[position].parts if position < len(paths) else ()
        for k in range(len(parts)):
            known.setdefault(parts[k:], []).append(i)
    found = []
    for name in names:
        ids = known.get(PurePath(os.path.normpath(name.replace("\\", "/"))).parts, [])
        if len(ids) != 1:
            raise InputError(
                f"expected files of training examples, got {name!r}, which is that of {len(ids) or 'none'}"
            )
        found += ids
    pictures = [(str(path), path) for path in (paths[dataset.train_ids[i]] for i in found)]
    pixels = read_pictures(pictures, dataset.x_train.shape[1:3])
    if pixels.ndim < dataset.x_train.ndim:
        pixels = np.repeat(pixels[..., None], 3, axis=3)
    if not np.array_equal(pixels, dataset.x_train[found]):
        raise InputError(
            f"{dataset.source}: its pictures have changed since they were loaded; name examples by their ids"
        )
    return found


def _listing(place: Place) -> tuple[list[str], list[Path], Array, int | None, Counter[str]]:
    """Classes, all pictures, their labels, how many are training examples (None: to be drawn), endings of other files."""
    root = Path(place.path)
    names = _subfolders(root)
    splits = {SPLITS.get(name.lower(), name): name for name in names}
    held_out = place.held_out_split(splits, EXPECTED)
    both = [root] if held_out is None else [root / splits["train"], root / splits[held_out]]
    class_names = _subfolders(both[0])
    paths: list[Path] = []
    labels: list[int] = []
    others = Counter(f"folder {name}" for name in names if held_out is not None and root / name not in both)
    n_train = None
    for folder in both:
        there = _subfolders(folder)
        if unknown := [name for name in there if name not in class_names]:
            raise InputError(f"{folder}: expected no classes besides those to train on, got {', '.join(unknown[:5])}")
        loose = (path for path in folder.iterdir() if path.suffix.lower() in picture_endings() and path.is_file())
        others += Counter(f"{path.suffix.lower()} beside them" for path in loose if not _is_left_behind(path.name))
        for label, name in enumerate(class_names):
            found, more = _pictures(folder / name) if name in there else ([], Counter())
            if not found and n_train is None:
                raise InputError(
                    f"{folder / name}: expected pictures (PNG, JPEG ...), got {_counted(more)}; add some or remove it"
                )
            paths += found
            labels += [label] * len(found)
            others += more
        n_train = None if held_out is None else n_train or len(paths)
    return class_names, paths, np.array(labels, np.int64), n_train, others


def _subfolders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not _is_left_behind(entry.name))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder}: expected a folder with one subfolder a class, got {error}; check the path"
        ) from error


def _pictures(folder: Path) -> tuple[list[Path], Counter[str]]:
    """Pictures at any depth, sorted, and endings of the other files; no folder twice, and none above, where links lead."""
    found: list[Path] = []
    others: Counter[str] = Counter()
    entered = set(map(str, Path(os.path.realpath(folder)).parents))
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        if (place := os.path.realpath(parent)) in entered:
            folders.clear()
            continue
        entered.add(place)
        folders[:] = sorted(name for name in folders if not _is_left_behind(name))
        for path in (Path(parent, name) for name in names if not _is_left_behind(name)):
            if path.suffix.lower() in picture_endings():
                found.append(path)
            else:
                others[path.suffix.lower()] += 1
    return sorted(found, key=lambda path: path.as_posix()), others


def _refuse(error: OSError) -> None:
    raise InputError(
        f"{error.filename}: cannot be read: {error.strerror}; change its permissions or remove it"
    ) from error


def _is_left_behind(name: str) -> bool:
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def _counted(endings: Counter[str]) -> str:
    """How many files of which endings, most frequent first."""
    return ", ".join(f"{n:,} {ending or 'without an ending'}" for ending, n in endings.most_common()) or "none"

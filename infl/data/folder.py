"""A folder of pictures, with one subfolder for each class, becomes a `Dataset`."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infl.data.arrays import HELD_OUT_NAMES, draw_held_out, from_arrays, held_out_name
from infl.records import Array, Dataset, InputError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

PLACE = re.compile(r"(.*?)(?::([0-9]*\.[0-9]+|[01]))?(?::([1-9][0-9]*)x([1-9][0-9]*))?", re.DOTALL)
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")


def load(place: str) -> Dataset:
    """Load `FOLDER[:FRACTION][:HEIGHTxWIDTH]`.

    Either the folder holds `train` and one of `test`, `held_out`, `validation`, `valid`, `val` (the first of these), each with
    one subfolder a class; or it holds the subfolders itself, and FRACTION says how much of each class to hold out, always the
    same draw. Names of the subfolders, sorted, are the classes; a picture belongs to the class however deep it lies in the
    subfolder. Pictures are sorted by class, then by path, characters by their code points; ids are positions in that order,
    and a drawn split shares one numbering. Files that do not end like a picture, and hidden ones, are skipped.

    Pixels are uint8, [n, h, w] where all pictures are grey, otherwise [n, h, w, 3]. All must be of one size, unless
    HEIGHTxWIDTH asks for one: then they are cut around the middle and scaled (see `infl.data.folder`).

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
    parsed = parse_place("folder", place)
    class_names, paths, labels, train, held_out, first = _listing(parsed)
    try:
        pixels = read_pictures([(str(path), path) for path in paths], parsed.size)
        return from_arrays(
            pixels[train],
            labels[train],
            pixels[held_out],
            labels[held_out],
            name=os.path.basename(parsed.folder) or "folder",
            class_names=class_names,
            train_ids=train,
            held_out_ids=held_out - first,
            source=f"folder:{parsed}",
        )
    except InputError as error:
        raise InputError(f"folder:{place}: {error}") from error


def files(source: str) -> tuple[list[Path], list[Path]]:
    """The pictures that `dataset.train_ids` and `dataset.held_out_ids` number, for a dataset made from `folder:...`.

    The picture of training example i is `files(dataset.source)[0][dataset.train_ids[i]]`, in a subset too.

    Raises:
        InputError: where the folder is missing or not laid out as `load` wants it.
    """
    _, paths, _, _, _, first = _listing(parse_place("folder", source.removeprefix("folder:")))
    return (paths[:first], paths[first:]) if first else (paths, paths)


@dataclass(frozen=True)
class Place:
    """What stands behind the colon of `folder:` and `hf:`, FOLDER[:FRACTION][:HEIGHTxWIDTH]; None where left away."""

    folder: str
    fraction: float | None
    size: tuple[int, int] | None

    def __str__(self) -> str:
        fraction = "" if self.fraction is None else f":{self.fraction}"
        return f"{self.folder}{fraction}{f':{self.size[0]}x{self.size[1]}' if self.size else ''}"


def parse_place(form: str, place: str) -> Place:
    """The parts of `FORM:PLACE`, its folder as an absolute path.

    Raises:
        InputError: where no folder is named, or the fraction is not above 0 and below 1.

    Example:
        >>> parse_place("folder", "/pets:0.2:32x48")
        Place(folder='/pets', fraction=0.2, size=(32, 48))
    """
    folder, fraction, height, width = PLACE.fullmatch(place).groups()  # pyright: ignore[reportOptionalMemberAccess]
    if not folder:
        raise InputError(f"{form}: expected a folder after the colon, as in {form}:DIR, got none; name the folder")
    if fraction and not 0 < float(fraction) < 1:
        raise InputError(
            f"{form}:{place}: expected a fraction of the examples to hold out, above 0 and below 1, got {fraction}"
        )
    return Place(
        os.path.abspath(os.path.expanduser(folder)),
        float(fraction) if fraction else None,
        (int(height), int(width)) if height else None,
    )


def _listing(place: Place) -> tuple[list[str], list[Path], Array, Array, Array, int]:
    """Classes, all pictures and their labels, positions of training and held-out ones, and where ids of the latter begin."""
    train_folder, held_out_folder = _layout(place.folder, place.fraction)
    class_names = _subfolders(train_folder)
    paths, labels = _pictures(train_folder, class_names)
    if empty := [name for label, name in enumerate(class_names) if label not in set(labels)]:
        raise InputError(
            f"{train_folder / empty[0]}: expected pictures ({', '.join(SUFFIXES)}), got none; add some or remove it"
        )
    n_train = len(paths)
    if held_out_folder is None:
        train, held_out = draw_held_out(np.array(labels, np.int64), place.fraction or 0)
        return class_names, paths, np.array(labels, np.int64), train, held_out, 0
    more, more_labels = _pictures(held_out_folder, class_names)
    numbers = np.array(labels + more_labels, np.int64)
    return class_names, paths + more, numbers, np.arange(n_train), np.arange(n_train, len(numbers)), n_train


def _layout(folder: str, fraction: float | None) -> tuple[Path, Path | None]:
    """The folder of training examples, and that of held-out ones or None where they are drawn from it."""
    there = _subfolders(Path(folder))
    name = held_out_name(there)
    if "train" in there and name:
        if fraction is not None:
            raise InputError(f"{folder} holds train and {name}: leave the fraction to hold out away")
        return Path(folder, "train"), Path(folder, name)
    if fraction is None:
        raise InputError(
            f"{folder}: expected folders train and test (or {', '.join(HELD_OUT_NAMES[1:])}) with one subfolder a class, or "
            f"one subfolder a class and a fraction to hold out, as in folder:{folder}:0.2; got {_listed(there)}"
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


GREY = ("1", "L", "LA")
COLOUR = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB")
WITH_ALPHA = ("RGBA", "LA", "PA")


def read_pictures(pictures: Sequence[tuple[str, Path | bytes]], size: tuple[int, int] | None = None) -> Array:
    """Decode pictures, all in grey where all of them are, otherwise all in colour.

    Pixels are as the files have them: no rotation by EXIF, no colour profile. With a size, pictures are cut around the middle
    to its shape and scaled to it (bicubic); without one, all must have the same.

    Args:
        pictures: of each a name for messages, and its file or its encoded bytes.
        size: (height, width), or None.

    Raises:
        InputError: where one is no picture or damaged, has more than 8 bits a channel or transparent pixels, or where sizes
            differ and none is asked for.
    """
    grey, first_size = True, None
    for name, place in pictures:
        with _opened(name, place) as picture:
            if picture.mode not in GREY + COLOUR:
                raise InputError(
                    f"{name}: expected a picture with 8 bits a channel, got mode {picture.mode}; save it with 8, or bring the "
                    "numbers as an .npz"
                )
            grey &= picture.mode in GREY
            first_size = first_size or picture.size
            if size is None and picture.size != first_size:
                raise InputError(
                    f"{name}: expected pictures of one size, got {_written(picture.size)}, and {_written(first_size)} for "
                    f"{pictures[0][0]}; scale them, or ask for a size as in :32x32 behind the folder"
                )
    if first_size is None:
        raise InputError("expected at least one picture, got none")
    height, width = size or first_size[::-1]
    pixels = np.empty((len(pictures), height, width) if grey else (len(pictures), height, width, 3), np.uint8)
    for position, (name, place) in enumerate(pictures):
        with _opened(name, place) as picture:
            pixels[position] = _decoded(name, picture, "L" if grey else "RGB", (height, width))
    return pixels


def _opened(name: str, place: Path | bytes) -> Image:
    from PIL import Image  # here, since most sources need none

    try:
        return Image.open(io.BytesIO(place) if isinstance(place, bytes) else place)
    except Exception as error:  # UnidentifiedImageError, OSError, and whatever the decoders of damaged files raise
        raise _damaged(name, error) from error


def _decoded(name: str, picture: Image, mode: str, size: tuple[int, int]) -> Array:
    from PIL import Image, ImageOps

    try:
        picture.load()
        if picture.mode in WITH_ALPHA or "transparency" in picture.info:
            alpha = np.asarray(picture.convert("RGBA"))[..., 3]
            if alpha.min() < 255:
                raise InputError(
                    f"{name}: expected a picture without transparent pixels; lay it on a ground of your choice"
                )
        picture = picture.convert(mode)
        if picture.size != (size[1], size[0]):
            picture = ImageOps.fit(picture, (size[1], size[0]), method=Image.Resampling.BICUBIC)
        return np.asarray(picture)
    except InputError:
        raise
    except Exception as error:
        raise _damaged(name, error) from error


def _damaged(name: str, error: Exception) -> InputError:
    reason = first_line(error)
    return InputError(
        f"{name}: expected a picture (PNG, JPEG ...), but it cannot be read ({reason}); repair or remove it"
    )


def _written(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} pixels"

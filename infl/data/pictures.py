"""Encoded pictures, as files or bytes, become one uint8 array: grey [n, height, width] or colour [n, height, width, 3]."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infl.records import Array, InputError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = ("1", "L", "LA")
COLOUR = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB")
WITH_ALPHA = ("RGBA", "LA", "PA")
SIZE_AT_THE_END = re.compile(r":([1-9][0-9]*)x([1-9][0-9]*)$")


def split_off_size(place: str) -> tuple[str, tuple[int, int] | None]:
    """`PLACE:HEIGHTxWIDTH` as its two parts; None where no size stands behind it.

    Example:
        >>> split_off_size("pets:32x48"), split_off_size("pets")
        (('pets', (32, 48)), ('pets', None))
    """
    match = SIZE_AT_THE_END.search(place)
    return (place[: match.start()], (int(match[1]), int(match[2]))) if match else (place, None)


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

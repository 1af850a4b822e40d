"""Files or bytes of pictures become one array of pixels."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infl.records import Array, InputError, first_line

if TYPE_CHECKING:
    from PIL.Image import Image

GREY = ("1", "L", "LA")
COLOUR = ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "HSV", "LAB")
WITH_ALPHA = ("RGBA", "LA", "PA")
NOT_DECODED = (
    "BUFR",
    "EPS",
    "GRIB",
    "HDF5",
    "MPEG",
    "WMF",
)  # formats that Pillow opens and decodes with other programs alone


@cache
def picture_endings() -> frozenset[str]:
    """Endings of the files that Pillow reads, in small letters, with their dot."""
    from PIL import Image

    formats = Image.registered_extensions().items()
    return frozenset(end for end, form in formats if form in Image.OPEN and form not in NOT_DECODED)


def read_pictures(pictures: Sequence[tuple[str, Path | bytes]], size: tuple[int, int] | None = None) -> Array:
    """Decode pictures, all in grey where all of them are, otherwise all in colour.

    Pixels are as the files have them: no rotation by EXIF, no colour profile. With a size, pictures are cut around the middle
    to its shape and scaled to it (bicubic); without one, all must have the same.

    Args:
        pictures: Of each a name for messages, and its file or its encoded bytes.
        size: (height, width), or None.

    Returns:
        uint8 pixels, [pictures, height, width] in grey and [pictures, height, width, 3] in colour.

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
                    f"{name}: expected pictures of one size, got {_text(picture.size)}, and {_text(first_size)} for "
                    f"{pictures[0][0]}; scale them, or ask for a size as in :32x32 behind the folder"
                )
    if first_size is None:
        raise InputError("expected at least one picture, got none")
    height, width = size or first_size[::-1]
    pixels = np.empty((len(pictures), height, width) if grey else (len(pictures), height, width, 3), np.uint8)
    for position, (name, place) in enumerate(pictures):
        with _opened(name, place) as picture:
            pixels[position] = _decode(name, picture, "L" if grey else "RGB", (width, height))
    return pixels


@contextmanager
def _opened(name: str, place: Path | bytes) -> Iterator[Image]:
    from PIL import Image  # here, since most sources need none

    try:
        with Image.open(io.BytesIO(place) if isinstance(place, bytes) else place) as picture:
            yield picture
    except InputError:
        raise
    except Exception as error:  # UnidentifiedImageError, OSError, and whatever the decoders of damaged files raise
        raise InputError(
            f"{name}: expected a picture (PNG, JPEG ...), but it cannot be read ({first_line(error)}); repair or remove it"
        ) from error


def _decode(name: str, picture: Image, mode: str, size: tuple[int, int]) -> Array:
    from PIL import Image, ImageOps

    picture.load()
    has_alpha = picture.mode in WITH_ALPHA or "transparency" in picture.info
    if has_alpha and np.asarray(picture.convert("RGBA"))[..., 3].min() < 255:
        raise InputError(f"{name}: expected a picture without transparent pixels; lay it on a ground of your choice")
    picture = picture.convert(mode)
    if picture.size != size:
        picture = ImageOps.fit(picture, size, method=Image.Resampling.BICUBIC)
    return np.asarray(picture)


def _text(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]} pixels"

"""A folder of the four files in which MNIST and its relatives are published becomes a `Dataset`.

An idx file is a header of big-endian 32-bit numbers, then one byte per entry: first the magic number, 0x0800 plus the
number of axes (0x08 means unsigned bytes), then the length of each axis.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from typing import BinaryIO

import numpy as np

from infl.data.arrays import from_arrays, prefix_errors
from infl.records import Array, Dataset, InputError
from infl.records.files import max_array_bytes

FILES = {
    "train-images-idx3-ubyte": 3,
    "train-labels-idx1-ubyte": 1,
    "t10k-images-idx3-ubyte": 3,
    "t10k-labels-idx1-ubyte": 1,
}
FASHION_MNIST = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CHUNK = 1 << 20


def load(folder: str) -> Dataset:
    """Load four idx files, gzipped (`.gz`) or not; the `t10k` ones become the held-out examples.

    Pixels are uint8, shape [n, height, width]; ids are positions in the files. Classes are named "0", "1", ..., and as
    clothes where the folder's name contains fashion-mnist.

    Args:
        folder: With the files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
            t10k-labels-idx1-ubyte, each with or without `.gz`; the gzipped one is read where both are there.

    Raises:
        InputError: where the folder or a file is missing, a file is damaged, or the files do not fit each other.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> for part in ("train", "t10k"):
        ...     with open(f"{folder}/{part}-images-idx3-ubyte", "wb") as file:
        ...         _ = file.write(struct.pack(">4I", 0x0803, 2, 1, 1) + bytes([0, 255]))
        ...     with open(f"{folder}/{part}-labels-idx1-ubyte", "wb") as file:
        ...         _ = file.write(struct.pack(">2I", 0x0801, 2) + bytes([0, 1]))
        >>> load(folder).x_train.tolist()
        [[[0]], [[255]]]
    """
    if not folder:
        raise InputError("idx: expected a folder after the colon, as in idx:FOLDER, got none; name the folder")
    folder = os.path.abspath(os.path.expanduser(folder))
    arrays = [_read(path, n_axes) for path, n_axes in zip(_paths(folder), FILES.values(), strict=True)]
    with prefix_errors(folder, " (the t10k files are read as x_held_out and y_held_out)"):
        return from_arrays(
            *arrays,
            name=os.path.basename(folder) or "idx",
            class_names=FASHION_MNIST if _is_fashion_mnist(folder) else None,
            source=f"idx:{folder}",
        )


def _paths(folder: str) -> list[str]:
    """The files to read, in the order of `FILES`."""
    expected = f"{', '.join(FILES)}, each with or without .gz"
    try:
        present = {entry.name for entry in os.scandir(folder) if entry.is_file()}
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: expected a folder that holds {expected}; got {error}; check the path") from error
    files = {stem: next((name for name in (f"{stem}.gz", stem) if name in present), None) for stem in FILES}
    missing = [stem for stem, name in files.items() if name is None]
    if missing:
        found = ", ".join(map(repr, sorted(present)[:8])) or "no files"
        raise InputError(f"{folder}: expected {expected}; missing {', '.join(missing)}, found {found}; add them")
    return [os.path.join(folder, name) for name in files.values() if name is not None]


def _read(path: str, n_axes: int) -> Array:
    try:
        with open(path, "rb") as raw:
            # By content, not by name: browsers unpack a download and leave the name as it was.
            zipped = raw.peek(2)[:2] == b"\x1f\x8b"
            with gzip.GzipFile(fileobj=raw) if zipped else raw as file:
                shape = _shape(path, file.read(4 + 4 * n_axes), n_axes)
                entries = _at_most(file, min(math.prod(shape), max_array_bytes()) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: expected an idx file, but it cannot be read ({error}); copy it again") from error
    if 0 in shape:
        raise InputError(f"{path}: expected at least one entry, got {' x '.join(map(str, shape))}; check the file")
    if max_array_bytes() < len(entries) <= math.prod(shape):
        raise InputError(
            f"{path}: {math.prod(shape):,} bytes are more than half of this machine's memory; take a part of it"
        )
    if len(entries) != math.prod(shape):
        held = f"only {len(entries)}" if len(entries) < math.prod(shape) else "more"
        raise InputError(
            f"{path}: the header promises {' x '.join(map(str, shape))} = {math.prod(shape)} bytes, "
            f"the file holds {held}; copy it again"
        )
    return np.frombuffer(entries, np.uint8).reshape(shape)


def _shape(path: str, header: bytes, n_axes: int) -> tuple[int, ...]:
    magic = struct.pack(">I", 0x0800 + n_axes)
    if header[:4] != magic:
        raise InputError(
            f"{path}: expected an idx file of unsigned bytes with {n_axes} axes, which starts with the bytes "
            f"{magic.hex(' ')}, got {header[:4].hex(' ') or 'an empty file'}; check that it is the right file"
        )
    if len(header) < 4 + 4 * n_axes:
        raise InputError(f"{path}: the file ends within its header, after {len(header)} bytes; copy it again")
    return struct.unpack(f">{n_axes}I", header[4:])


def _at_most(file: BinaryIO | gzip.GzipFile, n_bytes: int) -> bytearray:
    """Read up to `n_bytes`. In chunks: `read(n)` allocates n, and a damaged header may promise any number."""
    entries = bytearray()
    while len(entries) < n_bytes and (chunk := file.read(min(CHUNK, n_bytes - len(entries)))):
        entries += chunk
    return entries


def _is_fashion_mnist(folder: str) -> bool:
    """By the folder's name, or the exact name of the one around it, as in FashionMNIST/raw."""
    *_, around, own = ["", *folder.lower().replace("-", "").replace("_", "").split(os.sep)]
    return "fashionmnist" in own or around == "fashionmnist"

"""A folder of the four files in which MNIST and its relatives are published becomes a `Dataset`.

An idx file is a header of big-endian 32-bit numbers, then one byte per entry: first the magic number, 0x0800 plus the
number of axes (0x08 means unsigned bytes), then the length of each axis.
"""

from __future__ import annotations

import gzip
import math
import os
import re
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
# As their authors name them, as mirrors with dots do, and as EMNIST's: emnist-letters-test-images-idx3-ubyte.gz.
NAME = re.compile(
    r"(?P<set>.*?)[-_.]?((?P<train>train)|t10k|test)[-_.](?P<kind>images|labels)[-_.]idx[13][-_.]ubyte(?P<gz>\.gz)?",
    re.I,
)
FASHION_MNIST = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"]
FASHION_MNIST += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
CHUNK = 1 << 20


def load(folder: str) -> Dataset:
    """Load four idx files, gzipped (`.gz`) or not; the `t10k` (or `test`) ones become the held-out examples.

    Pixels are uint8, shape [n, height, width], as they stand in the file (EMNIST's lie on their side); ids are positions in
    the files. Classes are named by their numbers in the files, which may begin at 1, and as clothes where the folder's name
    contains fashion-mnist.

    Args:
        folder: With the files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
            t10k-labels-idx1-ubyte, each with or without `.gz`, with dots for hyphens or not; the gzipped one is read where
            both are there. Where files of several sets lie in a folder, FOLDER/SET, by what their names begin with.

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
    x, y, x_held_out, y_held_out = (
        _read(path, axes) for path, axes in zip(_paths(folder), FILES.values(), strict=True)
    )
    # By the folder's name, or the exact name of the one around it, as in FashionMNIST/raw.
    *_, around, own = ["", *folder.lower().replace("-", "").replace("_", "").split(os.sep)]
    class_names = FASHION_MNIST if "fashionmnist" in own or around == "fashionmnist" else None
    if y.min() == 1 and y_held_out.min() >= 1:
        y, y_held_out, class_names = y - 1, y_held_out - 1, tuple(map(str, range(1, int(y.max()) + 1)))
    with prefix_errors(folder, " (the t10k or test files are read as x_held_out and y_held_out)"):
        return from_arrays(
            *(x, y, x_held_out, y_held_out),
            name=os.path.basename(folder) or "idx",
            class_names=class_names,
            source=f"idx:{folder}",
        )


def _paths(place: str) -> list[str]:
    """The files to read, in the order of `FILES`."""
    folder, wanted = (place, None) if os.path.isdir(place) else os.path.split(place)
    expected = f"{', '.join(FILES)}, each with or without .gz"
    try:
        present = sorted(entry.name for entry in os.scandir(folder) if entry.is_file())
    except (OSError, ValueError) as error:
        raise InputError(f"{place}: expected a folder that holds {expected}; got {error}; check the path") from error
    sets: dict[str, dict[str, str]] = {}
    for match in filter(None, map(NAME.fullmatch, present)):
        stem = f"{'train' if match['train'] else 't10k'}-{match['kind'].lower()}"
        files = sets.setdefault(match["set"], {})
        if match["gz"] or stem not in files:
            files[stem] = match[0]
    if wanted is not None and wanted not in sets:
        raise InputError(f"{place}: expected a folder that holds {expected}; there is none; check the path")
    if wanted is None and "" not in sets and len(sets) > 1:
        one = os.path.join(place, min(sets))
        raise InputError(f"{place}: holds files of {', '.join(sets)}; name one set, as in idx:{one}")
    found = sets.get(wanted or "", next(iter(sets.values()), {}))
    paths = [found.get(name.partition("-idx")[0]) for name in FILES]
    if missing := [name for name, path in zip(FILES, paths, strict=True) if path is None]:
        there = ", ".join(map(repr, present[:8])) or "no files"
        raise InputError(f"{place}: expected {expected}; missing {', '.join(missing)}, found {there}; add them")
    return [os.path.join(folder, path) for path in paths if path is not None]


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
    said, promised = " x ".join(map(str, shape)), math.prod(shape)
    if not promised:
        raise InputError(f"{path}: expected at least one entry, got {said}; check the file")
    if max_array_bytes() < len(entries) <= promised:
        raise InputError(f"{path}: {promised:,} bytes are more than half of this machine's memory; take a part of it")
    if len(entries) != promised:
        held = f"only {len(entries)}" if len(entries) < promised else "more"
        raise InputError(f"{path}: the header promises {said} = {promised} bytes, the file holds {held}; copy it again")
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

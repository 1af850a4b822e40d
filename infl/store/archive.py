"""Turns the arrays of an .npz file into rows that are read block by block, with nothing larger than a block in memory.

`np.load` holds a whole array, and believes what its header says of its size. Here the header is read first and held to the
size of the member, and no member is ever unpickled, so a file from a stranger runs no code.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from infl.records import Array, InputError

MOST_BYTES_A_ROW = 1 << 28
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True)
class Member:
    """An array in an archive: what its header says, before any of its content is read."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype


class Archive:
    """An .npz file that is open. Make one with `open_archive`."""

    def __init__(self, path: Path, file: zipfile.ZipFile) -> None:
        self.path = path
        self._file = file
        self._entries = {Path(entry.filename).stem: entry for entry in file.infolist() if _is_array(entry.filename)}

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return sorted(self._entries)

    def member(self, name: str) -> Member:
        """Shape and dtype of an array.

        Raises:
            InputError: where its header is not one, its rows are stored column by column, it holds Python objects, or there
                are fewer or more bytes than the header says.
        """
        with self._opened(name) as file:
            return self._header(name, file)

    def blocks(self, name: str, *, n_rows: int) -> Generator[Array]:
        """Yield the rows of an array in order, `n_rows` at a time (the last block may have fewer).

        Raises:
            InputError: as `member`, or where the content is damaged.
        """
        with self._opened(name) as file:
            member = self._header(name, file)
            width = math.prod(member.shape[1:])
            for start in range(0, member.shape[0], n_rows):
                shape = (min(n_rows, member.shape[0] - start), *member.shape[1:])
                content = file.read(shape[0] * width * member.dtype.itemsize)
                yield np.frombuffer(content, member.dtype).reshape(shape)

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        # A damaged file fails in zipfile, zlib, lzma or numpy, with more kinds of exception than those modules document.
        try:
            with self._file.open(self._entries[name]) as file:
                yield file
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{self.path}: {name} is damaged ({_first_line(error)}); copy the file again, or write it anew"
            ) from error

    def _header(self, name: str, file: IO[bytes]) -> Member:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise InputError(f"{self.path}: {name} holds named fields, expected plain numbers; save its columns apart")
        shape, by_columns, dtype = _HEADERS[version](file)
        if dtype.hasobject:
            raise InputError(
                f"{self.path}: {name} holds Python objects, which are not read since that can run code; "
                "convert it with np.asarray(x, dtype=...) and save again"
            )
        if by_columns and len(shape) > 1:
            raise InputError(f"{self.path}: {name} is stored column by column; save np.ascontiguousarray({name})")
        row = math.prod(shape[1:]) * dtype.itemsize
        if row > MOST_BYTES_A_ROW:
            raise InputError(
                f"{self.path}: {name} of shape {shape} has rows of {row:,} bytes: that is no outcome of a model"
            )
        held, said = self._entries[name].file_size - file.tell(), row * (shape[0] if shape else 1)
        if held != said:
            raise InputError(
                f"{self.path}: {name} is damaged: its header says {dtype} {shape}, {said:,} bytes, and {held:,} are there; "
                "copy the file again, or write it anew"
            )
        return Member(name, tuple(shape), dtype)


@contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """Open an .npz file.

    Raises:
        InputError: where it is missing, or no .npz, or a part of one.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: expected an .npz file, found {'a folder' if path.is_dir() else 'nothing'}; check the path"
        )
    try:
        file = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: expected an .npz file as np.savez writes it, but it is of another kind or cut off ({_first_line(error)})"
        ) from error
    with file:
        yield Archive(path, file)


def _is_array(name: str) -> bool:
    return name.endswith(".npy") and "/" not in name


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

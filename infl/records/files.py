"""Turns a file into bytes or JSON, up to a size: what is larger is refused before it fills the memory."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import os
import struct
import zipfile
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from infl.records import Array, InputError, first_line

MAX_JSON_BYTES = 1 << 28  # a forget file that names 30 million ids
USUAL_MEMORY = 1 << 36  # where the system does not say


def read_bytes(path: str | Path, max_bytes: int) -> bytes:
    """Content of a file."""
    with open(path, "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"more than {max_bytes:,} bytes")
    return content


def parse_json(text: bytes, *, object_pairs_hook: Callable[[Any], Any] | None = None) -> Any:
    """What JSON text means; `json.loads` but that nesting too deep is a ValueError too."""
    try:
        return json.loads(text, object_pairs_hook=object_pairs_hook)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def host_memory() -> int:
    """Bytes of memory of this machine."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return USUAL_MEMORY


def max_array_bytes() -> int:
    """Half of this machine's memory: an array that says it is larger is none that can be worked with."""
    return host_memory() // 2


MAX_BYTES_A_ROW = 1 << 28
MAX_HEADER_BYTES = 1 << 14
BYTES_AT_ONCE = 1 << 22
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Member:
    """An array in an archive: what its header says, before any of its content is read."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    by_columns: bool = False


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
        """Shape and dtype of an array."""
        with self._opened(name) as file:
            return self._row_header(name, file)

    def blocks(self, name: str, *, n_rows: int) -> Generator[Array]:
        """Yield the rows of an array in order, `n_rows` at a time (the last block may have fewer)."""
        with self._opened(name) as file:
            member = self._row_header(name, file)
            width = math.prod(member.shape[1:])
            for start in range(0, member.shape[0], n_rows):
                shape = (min(n_rows, member.shape[0] - start), *member.shape[1:])
                content = file.read(shape[0] * width * member.dtype.itemsize)
                yield np.frombuffer(content, member.dtype).reshape(shape)

    def read(self, name: str) -> Array:
        """A whole array."""
        with self._opened(name) as file:
            member, size = self._header(name, file), self._entries[name].file_size
            if size > max_array_bytes():
                raise InputError(
                    f"{self.path}: {name} {member.dtype} {member.shape} takes {size:,} bytes, more "
                    f"than half of this machine's memory; check the file, or take a part of it"
                )
            # What is not there is not allocated either: pages of an empty array come with what is written to them.
            content = np.empty(math.prod(member.shape) * member.dtype.itemsize, np.uint8)
            there = 0
            while there < len(content) and (n := file.readinto(content[there : there + BYTES_AT_ONCE])):  # pyright: ignore[reportAttributeAccessIssue]
                there += n
            if there < len(content):
                raise ValueError(f"it ends after {there:,} of {len(content):,} bytes")
            file.read(1)  # the end, where its checksum is looked at
            return content.view(member.dtype).reshape(member.shape, order="F" if member.by_columns else "C")

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
                f"{self.path}: {name} is damaged ({first_line(error)}); copy the file again, or write it anew"
            ) from error

    def _row_header(self, name: str, file: IO[bytes]) -> Member:
        """That of an array which can be read by rows."""
        member = self._header(name, file)
        if member.by_columns and len(member.shape) > 1:
            raise InputError(f"{self.path}: {name} is stored column by column; save np.ascontiguousarray({name})")
        return member

    def _header(self, name: str, file: IO[bytes]) -> Member:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise InputError(f"{self.path}: {name} holds named fields, expected plain numbers; save its columns apart")
        shape, by_columns, dtype = _HEADERS[version](_bounded(file, version))
        if dtype.hasobject:
            raise InputError(
                f"{self.path}: {name} holds Python objects, which are not read since that can run code; "
                "save np.asarray(x.tolist()), which is text or numbers where x is"
            )
        if any(length < 0 for length in shape):
            raise ValueError(f"its header says shape {shape}")
        if (row := math.prod(shape[1:]) * dtype.itemsize) > MAX_BYTES_A_ROW:
            raise InputError(f"{self.path}: {name} of shape {shape} has rows of {row:,} bytes, more than infl reads")
        held, said = self._entries[name].file_size - file.tell(), math.prod(shape) * dtype.itemsize
        if held != said:
            raise InputError(
                f"{self.path}: {name} is damaged: its header says {dtype} {shape}, {said:,} bytes, and {held:,} are there; "
                "copy the file again, or write it anew"
            )
        return Member(name, tuple(shape), dtype, by_columns)


class Arrays:
    """Arrays in memory or mapped from files of their own, read as those of an archive are.

    Args:
        path: What messages call them.
        arrays: By name, of anything that NumPy makes an array of.
    """

    def __init__(self, path: Path, arrays: Mapping[str, Any]) -> None:
        self.path, self._arrays = path, {name: np.asanyarray(array) for name, array in arrays.items()}

    @property
    def names(self) -> list[str]:
        """Names of the arrays."""
        return sorted(self._arrays)

    def member(self, name: str) -> Member:
        """Shape and dtype of an array."""
        return Member(name, self._arrays[name].shape, self._arrays[name].dtype)

    def blocks(self, name: str, *, n_rows: int) -> Generator[Array]:
        """Yield the rows of an array in order, `n_rows` at a time (the last block may have fewer)."""
        for start in range(0, len(self._arrays[name]), n_rows):
            yield np.asarray(self._arrays[name][start : start + n_rows])


def map_arrays(folder: Path) -> Arrays:
    """The .npy files of a folder by their names; nothing is read before it is asked for.

    Raises:
        InputError: where one is damaged or holds Python objects.
    """
    arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            arrays[path.stem] = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:
            raise InputError(f"{path}: expected an array as np.save writes it ({first_line(error)})") from error
    return Arrays(folder, arrays)


@contextmanager
def open_archive(path: Path, content: bytes | None = None) -> Iterator[Archive]:
    """Open an .npz file, or its content where that was read already."""
    if content is None and not path.is_file():
        raise InputError(
            f"{path}: expected an .npz file, found {'a folder' if path.is_dir() else 'nothing'}; check the path"
        )
    # A damaged directory fails with more kinds of exception than zipfile documents.
    try:
        file = zipfile.ZipFile(path if content is None else io.BytesIO(content))
    except Exception as error:
        raise InputError(
            f"{path}: expected an .npz file as np.savez writes it, but it is of another kind or cut off ({first_line(error)})"
        ) from error
    with file:
        yield Archive(path, file)


def _bounded(file: IO[bytes], version: tuple[int, int]) -> IO[bytes]:
    """The header, whose length NumPy would believe up to four gigabytes."""
    form = "<H" if version == (1, 0) else "<I"
    start = file.read(struct.calcsize(form))
    (length,) = struct.unpack(form, start)
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header says that it is {length:,} bytes long")
    return io.BytesIO(start + file.read(length))


def _is_array(name: str) -> bool:
    return name.endswith(".npy") and "/" not in name


def cache_folder() -> Path:
    """`$INFL_CACHE_DIR`, else `infl` in `$XDG_CACHE_HOME` or in `~/.cache`."""
    if own := os.environ.get("INFL_CACHE_DIR"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infl"


# What systems say that sync no folders (some network and user-space file systems), or let us write a folder and not list it.
_NOT_FOR_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM}


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on disk; file systems that sync no folders are skipped."""
    try:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise


_DIGEST = hashlib.sha256().digest_size


@contextmanager
def written_whole(path: Path) -> Iterator[io.BufferedRandom]:
    """A file to write in a `with` block; it has its name once it is on disk, in place of one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except Exception:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays as one file, an .npz after its SHA-256."""
    with written_whole(path) as file:
        file.write(bytes(_DIGEST))
        np.savez(file, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]
        file.seek(_DIGEST)
        digest = hashlib.file_digest(file, "sha256").digest()
        file.seek(0)
        file.write(digest)


def read_arrays(path: Path) -> dict[str, Array] | None:
    """Arrays that `write_arrays` wrote; None where there is no such file, or a byte of it is another one."""
    try:
        with open(path, "rb") as file:
            digest = file.read(_DIGEST)
            if hashlib.file_digest(file, "sha256").digest() != digest:
                return None
            file.seek(_DIGEST)
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
    except Exception:  # with a digest that fits: NumPy and zipfile fail with more kinds than they document
        return None


def checksum(content: Mapping[str, Any]) -> str:
    """SHA-256 of JSON with sorted keys; its own entry, `checksum`, is left out."""
    described = {name: value for name, value in content.items() if name != "checksum"}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()

"""Writes that a power cut cannot undo: content is synced, then the name it got, so what is said to be there is there."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO

# What systems say that sync no folders (some network and user-space file systems), or let us write a folder and not list it.
_NOT_FOR_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM}


def write_durably(path: Path, content: bytes | Callable[[IO[bytes]], None]) -> None:
    """Give a file this content, whole or not at all; what a kill leaves is called as it, with .partial behind.

    Raises:
        OSError: where the disk refuses; the file is then as it was.
    """
    partial = path.with_suffix(".partial")
    with open(partial, "wb") as file:
        if callable(content):
            content(file)
        else:
            file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing.

    Raises:
        OSError: where the disk refuses.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on disk.

    Raises:
        OSError: where the disk refuses; file systems that sync no folders are passed over.
    """
    try:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError as error:
        if error.errno not in _NOT_FOR_FOLDERS:
            raise

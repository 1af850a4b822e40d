"""Where a run may keep files: inside its own folder. A link that leads out would let a stranger's run read or write there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from infl.records import InputError

DEPTH = 4  # models/<collection>/<array>/zarr.json, checkpoints/<block>/<epochs>/about.json


def check_places(folder: Path) -> None:
    """Check that nothing in a run folder leads out of it, and that all of it is files and folders; itself it may be a link.

    Raises:
        InputError: where something does; it is named.
    """
    home = os.path.realpath(folder)
    for path in _entries(home, DEPTH):
        if path.is_symlink():
            place = os.path.realpath(path.path)
            if os.path.commonpath([home, place]) != home:
                raise InputError(
                    f"{path.path} is a link that leads out of the run folder, to {place}; put the file or folder itself there"
                )
        try:
            mode = path.stat(follow_symlinks=False).st_mode
        except FileNotFoundError:  # of a writer that is at work
            continue
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            raise InputError(f"{path.path} is neither file nor folder, so it is no part of a run; delete it")


def _entries(folder: str, depth: int) -> Iterator[os.DirEntry[str]]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{folder}: cannot be read: {error.strerror or error}") from error
    for entry in entries:
        yield entry
        if depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _entries(entry.path, depth - 1)

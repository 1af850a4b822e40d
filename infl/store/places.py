"""Where a run may keep files: inside its own folder. A link that leads out would let a stranger's run read or write there."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from infl.records import InputError
from infl.store.ledger import COLLECTION
from infl.store.manifest import MAX_BYTES
from infl.store.rows import ARRAYS, MAX_CHUNK_BYTES, MAX_DESCRIPTION_BYTES

DEPTH = 4  # models/<collection>/<array>/zarr.json, checkpoints/<block>/<epochs>/about.json
MAX_ANY = 1 << 40
# What a run holds that cannot be worked out again, and how large a file of the kind may be.
_ARRAY = f"models/{COLLECTION}/({'|'.join(ARRAYS)})"
_PARTS = (
    (re.compile(r"run\.json"), MAX_BYTES),
    (re.compile(r"journal\.jsonl"), 1 << 30),
    (re.compile(rf"data\.npz|groups/{COLLECTION}\.npz"), MAX_ANY),
    (re.compile(r"forget/without-[0-9a-f]{16}\.json"), 1 << 28),
    (re.compile(rf"{_ARRAY}/zarr\.json"), MAX_DESCRIPTION_BYTES),
    (re.compile(rf"{_ARRAY}/c/[0-9]{{1,10}}/[0-9]{{1,10}}"), 2 * MAX_CHUNK_BYTES),
    (re.compile(rf"weights/{COLLECTION}/[0-9]{{1,10}}(/[A-Za-z0-9_][A-Za-z0-9_.-]{{0,99}}){{1,5}}"), MAX_ANY),
)


def most_bytes_of(name: str) -> int | None:
    """Most bytes of the file that a run holds under a name, `models/design/masks/c/0/0`; None where it holds none such.

    Raises:
        InputError: where the name leads out of the run.
    """
    if any(part in ("", ".", "..") for part in name.split("/")) or not name.isprintable() or "\\" in name:
        raise InputError(f"{name!r} is no name of a file in a run: it leads elsewhere; delete it")
    return next((most for pattern, most in _PARTS if pattern.fullmatch(name)), None)


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

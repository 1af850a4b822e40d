"""The journal of a run: turns one JSON object per line, sealed by a checksum, into the list of what is complete."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infl.records import InputError

LONGEST_LINE = 1 << 20


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines; what a kill left behind the last of them is passed over.

    Raises:
        InputError: where a line does not fit its seal.
    """
    if not path.exists():
        return
    for number, raw in enumerate(path.read_bytes()[: _whole_length(path)].splitlines(), start=1):
        text, _, seal = raw.rpartition(b"\t")
        if seal != b"%08x" % zlib.crc32(text):
            raise InputError(f"{path} is damaged in line {number}; delete that line and its models are trained again")
        yield json.loads(text)


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Append a line and wait until it is on disk. A line torn by a kill is cut off before."""
    text = json.dumps(line, separators=(",", ":")).encode()
    with open(path, "r+b" if path.exists() else "wb") as file:
        file.seek(_whole_length(path))
        file.truncate()
        file.write(text + b"\t%08x\n" % zlib.crc32(text))
        file.flush()
        os.fsync(file.fileno())


def _whole_length(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - LONGEST_LINE)
        file.seek(start)
        last = file.read().rfind(b"\n")
    if last < 0 and start > 0:
        raise InputError(f"{path} is damaged: its last {LONGEST_LINE:,} bytes hold no line; restore it")
    return start + last + 1

"""The journal of a run: turns one JSON object per line, sealed by a checksum, into the list of what is complete."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from infl.records import DiskError
from infl.records.files import parse_json, sync_folder, write_durably

LONGEST_LINE = 1 << 26
BYTES_AT_ONCE = 1 << 16


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the whole lines; what a kill left behind the last of them is passed over.

    Raises:
        DiskError: where a line does not fit its seal, or is longer than any that infl writes.
    """
    for number, raw in _whole_lines(path):
        line = _content(raw)
        if line is None:
            raise DiskError(
                f"{path} is damaged in line {number}; infl inspect --run {path.parent} --repair True trains its models again"
            )
        yield line


def append_line(path: Path, line: dict[str, Any]) -> None:
    """Append a line and wait until it is on disk. A line torn by a kill is cut off before.

    Raises:
        OSError: where the disk refuses.
    """
    new = not path.exists()
    with open(path, "wb" if new else "r+b") as file:
        file.seek(_whole_length(path))
        file.truncate()
        file.write(_sealed(line))
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def keep_lines(path: Path, wanted: Callable[[dict[str, Any]], bool]) -> int:
    """Take out the lines that do not fit their seal and those not wanted; returns how many did not fit it.

    Raises:
        OSError: where the disk refuses; the journal is then as it was.
        DiskError: where a line is longer than any that infl writes.
    """
    kept: list[bytes] = []
    n_damaged, n_lines = 0, 0
    for _, raw in _whole_lines(path):
        line, n_lines = _content(raw), n_lines + 1
        if line is None:
            n_damaged += 1
        elif wanted(line):
            kept.append(raw)
    if len(kept) < n_lines:
        write_durably(path, b"".join(raw + b"\n" for raw in kept))
    return n_damaged


def _whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Numbers and bytes of the lines that have their end."""
    if not path.exists():
        return
    with open(path, "rb") as file:
        number = 0
        while raw := file.readline(LONGEST_LINE + 1):
            number += 1
            if len(raw) > LONGEST_LINE:
                raise DiskError(f"{path} is damaged in line {number}: more than {LONGEST_LINE:,} bytes; restore it")
            if raw.endswith(b"\n"):
                yield number, raw[:-1]


def _sealed(line: dict[str, Any]) -> bytes:
    text = json.dumps(line, separators=(",", ":")).encode()
    return text + b"\t%08x\n" % zlib.crc32(text)


def _content(raw: bytes) -> dict[str, Any] | None:
    """What a line says; None where it does not fit its seal or says nothing that infl writes."""
    text, _, seal = raw.rpartition(b"\t")
    if seal != b"%08x" % zlib.crc32(text):
        return None
    try:
        line = parse_json(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _whole_length(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    if not path.exists():
        return 0
    with open(path, "rb") as file:
        stop = file.seek(0, os.SEEK_END)
        while stop:
            start = max(0, stop - BYTES_AT_ONCE)
            file.seek(start)
            last = file.read(stop - start).rfind(b"\n")
            if last >= 0:
                return start + last + 1
            stop = start
    return 0

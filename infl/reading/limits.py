"""Turns a file into bytes or JSON, up to a size: what is larger is refused before it fills the memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_JSON_BYTES = 1 << 28  # a forget file that names 30 million ids
USUAL_MEMORY = 1 << 36  # where the system does not say


def read_json(
    path: str | Path, *, most_bytes: int = MOST_JSON_BYTES, object_pairs_hook: Callable[[Any], Any] | None = None
) -> Any:
    """What a JSON file holds.

    Raises:
        OSError: where it cannot be read.
        ValueError: where it is larger than `most_bytes`, or no JSON, or nested too deeply; from the hook, what it raises.
    """
    return parse_json(read_at_most(path, most_bytes), object_pairs_hook=object_pairs_hook)


def read_at_most(path: str | Path, most_bytes: int) -> bytes:
    """Content of a file.

    Raises:
        OSError: where it cannot be read.
        ValueError: where it holds more than `most_bytes`.

    Example:
        >>> read_at_most("/dev/zero", 10)
        Traceback (most recent call last):
        ValueError: more than 10 bytes
    """
    with open(path, "rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"more than {most_bytes:,} bytes")
    return content


def parse_json(text: bytes, *, object_pairs_hook: Callable[[Any], Any] | None = None) -> Any:
    """What JSON text means; `json.loads` but for its second kind of error.

    Raises:
        ValueError: where it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=object_pairs_hook)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def most_bytes_held() -> int:
    """Half of this machine's memory: an array that says it is larger is none that can be worked with."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, ValueError, OSError):
        return USUAL_MEMORY // 2

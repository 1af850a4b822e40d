"""What the journal of a run adds up to: which models are complete, in which blocks, from which sessions."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from infl.records import InputError
from infl.store.journal import read_journal
from infl.store.rows import ARRAYS

MAX_MODEL = 1 << 32
COLLECTION = "(?:design|grouped|full|(?:without|cover)-[0-9a-f]{16})"


class Ledger:
    """Models by collection, blocks and sessions, in the order of the journal."""

    def __init__(self) -> None:
        self.finite: dict[str, dict[int, bool]] = {}  # of each complete model: whether it stayed so
        self.blocks: list[dict[str, Any]] = []
        self.sessions: list[dict[str, Any]] = []

    @staticmethod
    def read(path: Path) -> Ledger:
        """The ledger of a journal.

        Raises:
            InputError: where the journal is damaged, or holds what this version of infl does not know.
        """
        ledger = Ledger()
        for line in read_journal(path):
            if not is_line(line):
                raise InputError(
                    f"{path} holds a line that this version of infl does not know, {str(line)[:80]}; it was written by a newer "
                    "one, or by another program: update infl, or restore the file"
                )
            ledger.add(line)
        return ledger

    def add(self, line: dict[str, Any]) -> None:
        """Take in one more line."""
        if "session" in line:
            self.sessions.append(line["session"])
            return
        diverged = set(line["diverged"])
        self.finite.setdefault(line["collection"], {}).update({m: m not in diverged for m in line["models"]})
        self.blocks.append(line)

    def last_blocks(self, collection: str) -> dict[int, dict[str, Any]]:
        """The block in which each complete model was written last."""
        return {model: line for line in self.blocks if line["collection"] == collection for model in line["models"]}

    def seconds(self, collection: str) -> float:
        """Wall-clock seconds of the blocks of a collection."""
        return sum(block["seconds"] for block in self.blocks if block["collection"] == collection)

    def missing(self) -> dict[str, list[range]]:
        """Models that sessions were to train and that are not complete, by collection, as ranges."""
        wanted: dict[str, list[range]] = {}
        for session in self.sessions:
            first = session.get("first", {})
            for collection, stop in session.get("wanted", {}).items():
                wanted.setdefault(collection, []).append(range(first.get(collection, 0), stop))
        return {
            collection: _without(_joined(ranges), sorted(self.finite.get(collection, {})))
            for collection, ranges in wanted.items()
        }


def is_line(line: Any) -> bool:
    """Whether a line of a journal is one that infl writes: a block of models, or a session.

    Example:
        >>> is_line({"collection": "../..", "models": [0], "diverged": [], "seconds": 1.0})
        False
    """
    if "session" in line:
        session = line["session"]
        counts = [session.get(name, {}) for name in ("wanted", "first")] if isinstance(session, dict) else [None]
        return all(isinstance(one, dict) and all(map(_is_number, one.values())) for one in counts) and isinstance(
            session.get("layout", {}), dict
        )
    collection, models, diverged = (line.get(name) for name in ("collection", "models", "diverged"))
    seconds, sums = line.get("seconds"), line.get("crc32", {})
    return (
        isinstance(collection, str)
        and is_collection(collection)
        and isinstance(models, list)
        and isinstance(diverged, list)
        and all(map(_is_number, (*models, *diverged)))
        and isinstance(seconds, (int, float))
        and 0 <= seconds < float("inf")
        and isinstance(sums, dict)
        and set(sums) <= set(ARRAYS)
        and all(map(_is_number, sums.values()))
    )


def is_collection(name: str) -> bool:
    """Whether a collection of models has such a name. Folders are called by it, so no other is let in."""
    return re.fullmatch(COLLECTION, name) is not None


def _is_number(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_MODEL


def _joined(ranges: list[range]) -> list[range]:
    """The same numbers in ranges that do not meet, ascending."""
    joined: list[range] = []
    for one in sorted((one for one in ranges if one), key=lambda one: one.start):
        if joined and one.start <= joined[-1].stop:
            joined[-1] = range(joined[-1].start, max(joined[-1].stop, one.stop))
        else:
            joined.append(one)
    return joined


def _without(ranges: list[range], numbers: list[int]) -> list[range]:
    """The ranges without these numbers, both ascending."""
    left: list[range] = []
    for one in ranges:
        start = one.start
        for number in numbers:
            if number in one:
                left.append(range(start, number))
                start = number + 1
        left.append(range(start, one.stop))
    return [one for one in left if one]

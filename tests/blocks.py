"""The blocks of a run, found by other means than infl's own: their files and the models that these are named by."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import infl


def stored_blocks(folder: Path) -> dict[str, int]:
    """The files of all blocks, as `design/blocks/0000000-0000007.npz`, and when each was written, in nanoseconds."""
    found = sorted((folder / "collections").glob("*/blocks/*.npz"))
    return {path.relative_to(folder / "collections").as_posix(): path.stat().st_mtime_ns for path in found}


def stored_models(folder: Path) -> list[tuple[str, int]]:
    """Collection and number of every model, as often as blocks hold it."""
    found = []
    for name in stored_blocks(folder):
        first, last = map(int, Path(name).stem.split("-"))
        found += [(name.partition("/")[0], model) for model in range(first, last + 1)]
    return found


def delete_blocks(folder: Path, beginning: str, *numbers: int) -> None:
    """Delete the blocks of these numbers, counted from 0, of those whose names begin so; all where none are named."""
    names = [name for name in stored_blocks(folder) if name.startswith(beginning)]
    for number in numbers or range(len(names)):
        (folder / "collections" / names[number]).unlink()


def assert_same_outcomes(one: infl.Run, other: infl.Run, *collections: str) -> None:
    """Two runs hold the same models and, bit for bit, the same outcomes in these collections, or in all of both."""
    assert collections or one.collections() == other.collections()
    for collection in collections or one.collections():
        assert one.complete(collection) == other.complete(collection)
        mine, theirs = one.outcomes(collection).load(), other.outcomes(collection).load()
        for name in ("masks", "correct", "margin"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))

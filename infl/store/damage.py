"""Finds the blocks of a run whose rows are not those that were written, and clears the way for writing them anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from infl.records import first_line
from infl.records.files import sync_folder
from infl.store.ledger import Ledger
from infl.store.rows import DTYPES, checksums, open_array, read_rows, width_of

BYTES_OF_CACHE = 1 << 26


@dataclass(frozen=True)
class DamagedBlock:
    """A block that cannot be used: its line in the journal, and what is wrong with its rows."""

    line: dict[str, Any]
    reason: str

    def describe(self) -> str:
        """Which block it is."""
        models = self.line["models"]
        named = f"{models[0]} to {models[-1]}" if models == list(range(models[0], models[-1] + 1)) else f"{models[:8]}"
        return f"{self.line['collection']}: block of models {named}: {self.reason}"


@dataclass(frozen=True)
class Damage:
    """What is damaged in a run; empty where nothing is. descriptions: of arrays (zarr.json) whose rows may be whole."""

    blocks: tuple[DamagedBlock, ...]
    descriptions: tuple[Path, ...]

    def models(self) -> dict[str, list[int]]:
        """Models of the damaged blocks by collection, ascending."""
        found: dict[str, set[int]] = {}
        for block in self.blocks:
            found.setdefault(block.line["collection"], set()).update(block.line["models"])
        return {collection: sorted(models) for collection, models in found.items()}


def find_damage(folder: Path, ledger: Ledger, arrays: Sequence[str], dataset: dict[str, Any]) -> Damage:
    """Read all blocks of the collections in a folder.

    arrays: that each collection has; dataset: of the manifest. Blocks of which models were written again later, and those
    without a checksum, are only read.
    """
    context = ts.Context({"cache_pool": {"total_bytes_limit": BYTES_OF_CACHE}})
    blocks: list[DamagedBlock] = []
    descriptions = [
        folder / collection / name
        for collection in ledger.finite
        for name in arrays
        if not _is_described(folder / collection / name, dataset)
    ]
    last = {collection: ledger.last_blocks(collection) for collection in ledger.finite}
    for line in ledger.blocks:
        reason = _fault(folder / line["collection"], line, arrays, last[line["collection"]], context)
        if reason is not None:
            blocks.append(DamagedBlock(line, reason))
    return Damage(tuple(blocks), tuple(descriptions))


def mend_descriptions(folder: Path, damage: Damage, ledger: Ledger, dataset: dict[str, Any]) -> None:
    """Write the descriptions of arrays anew; all that they say follows from the run. Their rows then show what they are.

    Raises:
        OSError, ValueError: where the disk refuses.
    """
    for array in damage.descriptions:
        (array / "zarr.json").unlink(missing_ok=True)
        width = width_of(array.name, dataset["n_train"], dataset["n_columns"])
        n_rows = max(ledger.finite[array.parent.name]) + 1
        open_array(array, np.zeros((0, width), DTYPES[array.name]), n_rows=n_rows)
        sync_folder(array)
    if damage.descriptions:
        sync_folder(folder)


def clear(folder: Path, damage: Damage, arrays: Sequence[str]) -> None:
    """Take away the chunks of damaged blocks that cannot be read: rows could not be written into them.

    Raises:
        OSError, ValueError: where the disk refuses.
    """
    for block in damage.blocks:
        for name in arrays:
            _clear_chunks(folder / block.line["collection"] / name, block.line["models"])


def _clear_chunks(array: Path, models: Sequence[int]) -> None:
    stored = open_array(array)
    height, width = stored.chunk_layout.read_chunk.shape
    for part in sorted({model // height for model in models}):
        for column in range(-(-stored.shape[1] // width)):
            rows = slice(part * height, min((part + 1) * height, stored.shape[0]))
            try:
                stored[rows, column * width : min((column + 1) * width, stored.shape[1])].read().result()
            except (OSError, ValueError):
                (array / "c" / str(part) / str(column)).unlink(missing_ok=True)


def _fault(
    folder: Path, line: dict[str, Any], arrays: Sequence[str], last: dict[int, dict[str, Any]], context: Any
) -> str | None:
    models = line["models"]
    try:
        read = read_rows(folder, np.asarray(models, np.int64), arrays, context)
    except (OSError, ValueError, IndexError) as error:
        return first_line(error)
    sums = line.get("crc32")
    if sums is None or any(last[model] is not line for model in models):
        return None
    wrong = [name for name, found in checksums(read).items() if sums.get(name) != found]
    return f"the checksum of its {' and '.join(wrong)} does not fit" if wrong else None


def _is_described(array: Path, dataset: dict[str, Any]) -> bool:
    try:
        open_array(array, width=width_of(array.name, dataset["n_train"], dataset["n_columns"]))
    except (OSError, ValueError):
        return False
    return True

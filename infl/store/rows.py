"""Outcomes as rows of zarr arrays: turns a block of models into rows on disk, and rows back into outcomes by blocks."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from infl.records import Array, Columns, DiskError, OutcomeKind, Outcomes, first_line, rows_of_blocks
from infl.records.files import read_json, sync_folder

ROWS_PER_CHUNK = 64
BYTES_PER_CHUNK_ROW = 16384
LARGEST_MARGIN = 60000.0  # float16 ends at 65504
BOTH_KINDS: tuple[OutcomeKind, ...] = ("correct", "margin")
ARRAYS = ("masks", *BOTH_KINDS)
DTYPES = {"masks": "uint8", "correct": "uint8", "margin": "float16"}
CODECS = [{"name": "zstd", "configuration": {"level": 1}}, {"name": "crc32c"}]
MAX_CHUNK_BYTES = 1 << 26
MAX_DESCRIPTION_BYTES = 1 << 16
DEFAULT_KEYS = {"name": "default", "configuration": {"separator": "/"}}
_ENTRIES = {
    *("chunk_grid", "chunk_key_encoding", "codecs", "data_type", "fill_value", "node_type", "shape", "zarr_format"),
}


def pack(outcomes: Outcomes) -> dict[str, Array]:
    """Outcomes, of the kinds that there are, as the arrays that are kept of them: bits [B, bytes] and float16 [B, n+m]."""
    arrays: dict[str, Array] = {"masks": np.packbits(outcomes.masks, axis=1)}
    if outcomes.correct is not None:
        arrays["correct"] = np.packbits(outcomes.correct, axis=1)
    if outcomes.margin is not None:
        margin = np.clip(np.nan_to_num(outcomes.margin, nan=0.0), -LARGEST_MARGIN, LARGEST_MARGIN)
        arrays["margin"] = margin.astype(np.float16)
    return arrays


def write_rows(folder: Path, models: Array, arrays: dict[str, Array]) -> dict[str, int]:
    """Put packed outcomes into the rows `models` and wait until they are on disk, and the names of new files with them.

    Returns a checksum of each array.

    Raises:
        OSError, ValueError: where the disk refuses.
    """
    n_rows = int(models.max()) + 1
    parts = [folder / name / "c" / str(part) for name in arrays for part in np.unique(models // ROWS_PER_CHUNK)]
    writes = [open_array(folder / name, array, n_rows=n_rows)[models].write(array) for name, array in arrays.items()]
    for write in writes:
        write.result()
    # TensorStore syncs files and the folders they are in, but not the folders that new folders are in. Those of a writer that
    # was killed are not new to this one, so all are synced; where nothing is to be done that takes no time.
    above = {place for part in parts for place in [*part.parents][:5]}  # c, the array, the collection, models, the run
    for place in sorted(above, key=lambda place: -len(place.parts)):
        sync_folder(place)
    return checksums(arrays)


def read_rows(folder: Path, models: Array, names: Sequence[str], context: Any = None) -> dict[str, Array]:
    """Packed outcomes of these rows.

    context: a `tensorstore.Context` with a cache, for rows that share chunks.

    Raises:
        OSError, ValueError, IndexError: where they are damaged or gone.
    """
    reads = {name: open_array(folder / name, context=context)[models].read() for name in names}
    return {name: read.result() for name, read in reads.items()}


def checksums(arrays: dict[str, Array]) -> dict[str, int]:
    """CRC-32 of each array."""
    return {name: zlib.crc32(array.tobytes()) for name, array in arrays.items()}


@dataclass(frozen=True)
class StoredOutcomes:
    """Outcomes in a run folder, read block by block (an `OutcomeSource`).

    kinds: those that the run holds; models made elsewhere may have come with one.
    """

    folder: Path
    models: tuple[int, ...]
    n_train: int
    n_columns: int
    init_seeds: tuple[int, ...] | None = None
    period: int = 1  # models whose masks balance each other
    kinds: tuple[OutcomeKind, ...] = BOTH_KINDS

    @property
    def n_models(self) -> int:
        """Models that can be read."""
        return len(self.models)

    def blocks(self, columns: Columns = slice(None), *, n_rows: int = 512) -> Iterator[Outcomes]:
        """See `OutcomeSource.blocks`."""
        if not self.models:
            return
        with _damage_named(self.folder):
            masks, *arrays = (
                open_array(self.folder / name, width=width_of(name, self.n_train, self.n_columns))
                for name in ("masks", *self.kinds)
            )
        stored = dict(zip(self.kinds, arrays, strict=True))
        numbers = np.arange(self.n_columns)[columns]
        # TensorStore counts neither from the end nor past it, as NumPy does: it is given plain bounds or numbers.
        wanted: Columns = numbers
        window, first_bit = slice(0, -(-self.n_columns // 8)), 0
        if isinstance(columns, slice) and columns.step in (None, 1) and len(numbers):
            wanted = slice(int(numbers[0]), int(numbers[-1]) + 1)
            window, first_bit = slice(wanted.start // 8, -(-wanted.stop // 8)), wanted.start // 8 * 8
        models = np.asarray(self.models, np.int64)
        strata = self._strata(models)
        for some in rows_of_blocks(len(models), n_rows, strata):
            rows = models[some]
            with _damage_named(self.folder):
                reads = {"masks": masks[rows].read()}
                if "correct" in stored:
                    reads["correct"] = stored["correct"][rows, window].read()
                if "margin" in stored:
                    reads["margin"] = stored["margin"].oindex[rows, wanted].read()
                read = {name: future.result() for name, future in reads.items()}
            bits = read.get("correct")
            yield Outcomes(
                np.unpackbits(read["masks"], axis=1, count=self.n_train).astype(bool),
                None if bits is None else np.unpackbits(bits, axis=1).astype(bool)[:, numbers - first_bit],
                read.get("margin"),
                None if self.init_seeds is None else np.asarray(self.init_seeds[some], np.int64),
                None if strata is None else strata[some],
            )

    def load(self) -> Outcomes:
        """All of them in memory."""
        # Of no models there are blocks of none.
        empty = np.zeros((0, self.n_columns))
        blocks = [Outcomes(np.zeros((0, self.n_train), bool), empty.astype(bool), empty.astype(np.float16))]
        blocks += self.blocks()

        def joined(kind: OutcomeKind) -> Array | None:
            arrays = [getattr(block, kind) for block in blocks]
            return np.concatenate(arrays) if kind in self.kinds else None

        return Outcomes(
            np.concatenate([block.masks for block in blocks]),
            joined("correct"),
            joined("margin"),
            None if self.init_seeds is None else np.asarray(self.init_seeds, np.int64),
            self._strata(np.asarray(self.models, np.int64)),
        )

    def _strata(self, models: Array) -> Array | None:
        return None if self.period == 1 else models // self.period


def bytes_per_model(n_train: int, n_columns: int) -> int:
    """Disk that one model takes before compression."""
    return -(-n_train // 8) + -(-n_columns // 8) + 2 * n_columns


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, IndexError) as error:
        reason = first_line(error)
        raise DiskError(
            f"{folder} is damaged: {reason}; infl inspect --run {folder.parents[1]} --repair True names the blocks and trains "
            "their models again"
        ) from error


def width_of(name: str, n_train: int, n_columns: int) -> int:
    """Columns of an array as it is kept."""
    return {"masks": -(-n_train // 8), "correct": -(-n_columns // 8), "margin": n_columns}[name]


def open_array(
    path: Path, like: Array | None = None, *, n_rows: int = 0, width: int | None = None, context: Any = None
) -> Any:
    """Open a zarr3 array as infl writes it; where `like` is given, make it or grow it to n_rows first.

    width: that it must have; a changed one would be read as other outcomes.

    Raises:
        OSError, ValueError: where it is none, or its description is not one that infl writes.
    """
    spec: dict[str, Any] = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path.absolute())}}
    # A chunk that is gone is an error, not zeros; so chunks of zeros are stored too.
    spec |= {"fill_missing_data_reads": False, "store_data_equal_to_fill_value": True}
    if like is None or (path / "zarr.json").exists():
        _check_description(path)
    metadata: dict[str, Any] = {"codecs": CODECS, "data_type": DTYPES.get(path.name, "uint8")}
    if like is None:
        stored = ts.open({**spec, "metadata": metadata}, open=True, context=context).result()
        if width is not None and stored.shape[1] != width:
            raise ValueError(f"{path.name} has rows of {stored.shape[1]:,} entries, expected {width:,}")
        return stored
    n_columns = like.shape[1]
    chunk = (ROWS_PER_CHUNK, min(n_columns, BYTES_PER_CHUNK_ROW // like.itemsize))
    metadata |= {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}}}
    spec["metadata"] = metadata | {"data_type": like.dtype.name}
    if not (path / "zarr.json").exists():
        return ts.open(spec, create=True, open=True, shape=(n_rows, n_columns), fill_value=0).result()
    stored = ts.open(spec, open=True).result()
    if stored.shape[1] != n_columns:
        raise ValueError(f"{path.name} has rows of {stored.shape[1]:,} entries, expected {n_columns:,}")
    if stored.shape[0] >= n_rows:
        return stored
    return stored.resize(exclusive_max=(n_rows, n_columns), expand_only=True).result()


def _check_description(path: Path) -> None:
    """Hold what zarr.json says to what infl writes, before TensorStore allocates what it says."""
    described = read_json(path / "zarr.json", max_bytes=MAX_DESCRIPTION_BYTES)
    try:
        (n_rows, width), chunk = described["shape"], described["chunk_grid"]["configuration"]["chunk_shape"]
        item = np.dtype(DTYPES[path.name]).itemsize
        right = [type(length) is int and length > 0 for length in (n_rows, width, *chunk)]
        right += [len(chunk) == 2, math.prod(chunk) * item <= MAX_CHUNK_BYTES, described["fill_value"] == 0]
        right += [described["chunk_key_encoding"] in ({"name": "default"}, DEFAULT_KEYS), set(described) == _ENTRIES]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path.name}/zarr.json describes no array of infl") from error
    if not all(right):
        raise ValueError(f"{path.name}/zarr.json does not describe an array as infl writes them")

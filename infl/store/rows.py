"""Outcomes as rows of zarr arrays: turns a block of models into rows on disk, and rows back into outcomes by blocks."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from infl.records import Array, Columns, InputError, OutcomeKind, Outcomes, rows_of_blocks

ROWS_PER_CHUNK = 64
BYTES_PER_CHUNK_ROW = 16384
LARGEST_MARGIN = 60000.0  # float16 ends at 65504
BOTH_KINDS: tuple[OutcomeKind, ...] = ("correct", "margin")


def write_rows(folder: Path, models: Array, outcomes: Outcomes) -> dict[str, int]:
    """Put outcomes, of the kinds that there are, into the rows `models` and wait until they are on disk.

    Returns a checksum of each array.

    Raises:
        OSError, ValueError: where the disk refuses.
    """
    arrays: dict[str, Array] = {"masks": np.packbits(outcomes.masks, axis=1)}
    if outcomes.correct is not None:
        arrays["correct"] = np.packbits(outcomes.correct, axis=1)
    if outcomes.margin is not None:
        margin = np.clip(np.nan_to_num(outcomes.margin, nan=0.0), -LARGEST_MARGIN, LARGEST_MARGIN)
        arrays["margin"] = margin.astype(np.float16)
    n_rows = int(models.max()) + 1
    writes = [_open_array(folder / name, array, n_rows=n_rows)[models].write(array) for name, array in arrays.items()]
    for write in writes:
        write.result()
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
    starts: tuple[int, ...] | None = None
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
            masks, *arrays = (_open_array(self.folder / name) for name in ("masks", *self.kinds))
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
                None if self.starts is None else np.asarray(self.starts[some], np.int64),
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
            None if self.starts is None else np.asarray(self.starts, np.int64),
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
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{folder} is damaged: {reason}; restore it, or delete it and the lines of {folder.name!r} in journal.jsonl, "
            "and its models are trained again"
        ) from error


def _open_array(path: Path, like: Array | None = None, *, n_rows: int = 0) -> Any:
    """Open a zarr3 array; where `like` is given, make it or grow it to n_rows first."""
    spec: dict[str, Any] = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path.absolute())}}
    # A chunk that is gone is an error, not zeros; so chunks of zeros are stored too.
    spec |= {"fill_missing_data_reads": False, "store_data_equal_to_fill_value": True}
    if like is None:
        return ts.open(spec, open=True).result()
    width = like.shape[1]
    chunk = (ROWS_PER_CHUNK, min(width, BYTES_PER_CHUNK_ROW // like.itemsize))
    spec["metadata"] = {
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "codecs": [{"name": "zstd", "configuration": {"level": 1}}, {"name": "crc32c"}],
        "data_type": like.dtype.name,
    }
    if not (path / "zarr.json").exists():
        return ts.open(spec, create=True, open=True, shape=(n_rows, width), fill_value=0).result()
    stored = ts.open(spec, open=True).result()
    if stored.shape[0] >= n_rows:
        return stored
    return stored.resize(exclusive_max=(n_rows, width), expand_only=True).result()

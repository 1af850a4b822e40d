"""A folder of zarr3 arrays that are written by tiles of columns, for matrices larger than memory.

It is a zarr group: `zarr.json` with attributes, and beside it an array a folder, which zarr, xarray and TensorStore read as it
is. It is made under another name and takes its own once it is whole, so a folder of that name is never a part of one.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from infl.records import Array, DiskError, InputError, first_line
from infl.records.files import sync_folder

ENTRIES_PER_CHUNK = 1 << 20
PARTIAL = "partial-"  # what the name of a folder that is being made begins with


@dataclass
class TileWriter:
    """A folder that is being made. Its attributes are written last."""

    folder: Path
    width: int
    attributes: dict[str, Any] = field(default_factory=dict)
    _arrays: dict[str, Any] = field(default_factory=dict)

    def write(self, tile: Mapping[str, Array], columns: slice, *, n_columns: int) -> None:
        """Write the columns of some arrays, [rows, columns] each, and wait until the disk has them.

        n_columns: of the whole arrays.
        """
        for name, array in tile.items():
            if name not in self._arrays:
                self._arrays[name] = self._create(name, array.dtype, (len(array), n_columns), ("source", "target"))
        for write in [self._arrays[name][:, columns].write(array) for name, array in tile.items()]:
            write.result()

    def read(self, name: str, columns: slice) -> Array:
        """Read back what was written."""
        return np.asarray(self._arrays[name][:, columns].read().result())

    def write_axis(self, name: str, ids: Array) -> None:
        """Write the ids along `source` or `target`, from which xarray makes coordinates."""
        self._create(name, ids.dtype, ids.shape, (name,)).write(ids).result()

    def _create(self, name: str, dtype: Any, shape: tuple[int, ...], dimensions: tuple[str, ...]) -> Any:
        chunk = [max(1, min(shape[0], ENTRIES_PER_CHUNK // self.width)), min(shape[-1], self.width)][: len(shape)]
        metadata = {
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": chunk if len(shape) > 1 else list(shape)},
            },
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "zstd", "configuration": {"level": 1, "checksum": False}},
                {"name": "crc32c"},
            ],
            "dimension_names": list(dimensions),
        }
        dtype = np.dtype(dtype)
        fill_value = np.nan if dtype.kind == "f" else 0
        spec = {**_spec(self.folder / name), "metadata": metadata}
        return ts.open(spec, create=True, dtype=dtype.name, shape=shape, fill_value=fill_value).result()


@contextmanager
def new_tiles(folder: Path, *, width: int) -> Iterator[TileWriter]:
    """Make a folder of tiles; on an error nothing is left of it.

    width: columns of a chunk.
    """
    if folder.exists():
        raise InputError(f"{folder} exists already; choose another name, nothing is overwritten")
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_name(f"{PARTIAL}{folder.name}-{uuid.uuid4().hex[:8]}")
        partial.mkdir()
        writer = TileWriter(partial, width)
        yield writer
        _write_group(partial, writer.attributes)
        partial.rename(folder)
        sync_folder(folder.parent)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise DiskError(f"{folder}: cannot be written: {first_line(error)}") from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _spec(path: Path) -> dict[str, Any]:
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(path.absolute())},
        "store_data_equal_to_fill_value": True,  # a chunk that is gone is then told from one of zeros
    }


def _write_group(folder: Path, attributes: Mapping[str, Any]) -> None:
    group = {"zarr_format": 3, "node_type": "group", "attributes": dict(attributes)}
    with open(folder / "zarr.json", "w") as file:
        json.dump(group, file)
        file.flush()
        os.fsync(file.fileno())

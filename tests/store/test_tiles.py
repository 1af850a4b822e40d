"""A folder of tiles holds what was written, has its name only once it is whole, and other programs can read it as it is.

What is read is compared with arrays that never leave this file.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorstore

from infl.records import InputError
from infl.store import new_tiles
from infl.store import tiles as module

ROWS, WIDTH = 11, 23
COUNTS = np.arange(ROWS * WIDTH, dtype=np.int32).reshape(ROWS, WIDTH)
VALUES = np.where(COUNTS % 5, COUNTS / 7, np.nan).astype(np.float32)


def write(folder: Path, *, step: int = 6, stop: int = WIDTH) -> None:
    with new_tiles(folder, width=4) as writer:
        for start in range(0, stop, step):
            span = slice(start, min(start + step, stop))
            writer.write({"counts": COUNTS[:, span], "values": VALUES[:, span]}, span, n_columns=WIDTH)
        writer.attributes["kind"] = "a test"


def read(folder: Path, name: str) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / name)}}
    return np.asarray(tensorstore.open(spec).result().read().result())


def test_it_is_a_zarr_group_with_named_axes_in_chunks_of_no_more_than_they_may_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ENTRIES_PER_CHUNK", 12)
    write(tmp_path / "matrix")
    group, array = (json.loads((tmp_path / "matrix" / name / "zarr.json").read_text()) for name in (".", "values"))
    assert (group["zarr_format"], group["node_type"], group["attributes"]) == (3, "group", {"kind": "a test"})
    assert array["chunk_grid"]["configuration"]["chunk_shape"] == [3, 4]
    assert (array["dimension_names"], array["fill_value"]) == (["source", "target"], "NaN")
    for name, expected in (("counts", COUNTS), ("values", VALUES)):
        np.testing.assert_array_equal(read(tmp_path / "matrix", name), expected)


def test_a_folder_has_its_name_only_once_it_is_whole(tmp_path: Path) -> None:
    def written(*, killed: bool) -> None:
        with new_tiles(tmp_path / "matrix", width=4) as writer:
            writer.write({"counts": COUNTS[:, :4]}, slice(0, 4), n_columns=WIDTH)
            assert [path.name.startswith("partial-") for path in tmp_path.iterdir()] == [True]
            if killed:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        written(killed=True)
    assert list(tmp_path.iterdir()) == []
    written(killed=False)
    assert [path.name for path in tmp_path.iterdir()] == ["matrix"]


def test_a_place_that_is_taken_or_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, words in (("file", "exists already"), ("file/matrix", "cannot be written")):
        with pytest.raises(InputError, match=words):
            write(tmp_path / place)

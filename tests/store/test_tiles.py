"""A folder of tiles gives back what was written or nothing at all, and other programs can read it as it is.

Each way of ending up with less than the whole is staged: an error or a kill while it is made, a chunk cut short, turned or
gone, attributes edited, a folder of another format. What is read is compared with arrays that never leave this file.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorstore

from infl.records import InputError
from infl.store import new_tiles, open_tiles
from infl.store import tiles as module

ROWS, WIDTH = 11, 23
COUNTS = np.arange(ROWS * WIDTH, dtype=np.int32).reshape(ROWS, WIDTH)
VALUES = np.where(COUNTS % 5, COUNTS / 7, np.nan).astype(np.float32)
ONE = np.arange(ROWS, dtype=np.int32)[:, None]


def write(folder: Path, *, step: int = 6, stop: int = WIDTH) -> None:
    with new_tiles(folder, width=4) as writer:
        for start in range(0, stop, step):
            span = slice(start, min(start + step, stop))
            tile = {"counts": COUNTS[:, span], "values": VALUES[:, span], "one": ONE}
            writer.write(tile, span, n_columns=WIDTH)
        writer.attributes["kind"] = "a test"


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    write(tmp_path / "matrix")
    tiles = open_tiles(tmp_path / "matrix")
    assert tiles is not None
    assert tiles.attributes["kind"] == "a test"
    for columns in (slice(0, WIDTH), slice(5, 17), np.array([22, 0, 9])):
        np.testing.assert_array_equal(tiles.read("counts", columns), COUNTS[:, columns])
        np.testing.assert_array_equal(tiles.read("values", columns), VALUES[:, columns])
        np.testing.assert_array_equal(tiles.read("one", columns), ONE)


def test_chunks_hold_no_more_than_they_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ENTRIES_PER_CHUNK", 12)
    write(tmp_path / "matrix")
    metadata = json.loads((tmp_path / "matrix" / "counts" / "zarr.json").read_text())
    assert metadata["chunk_grid"]["configuration"]["chunk_shape"] == [3, 4]
    tiles = open_tiles(tmp_path / "matrix")
    assert tiles is not None
    np.testing.assert_array_equal(tiles.read("counts", slice(0, WIDTH)), COUNTS)


def test_it_is_a_zarr_group_with_named_axes(tmp_path: Path) -> None:
    write(tmp_path / "matrix")
    group = json.loads((tmp_path / "matrix" / "zarr.json").read_text())
    assert (group["zarr_format"], group["node_type"]) == (3, "group")
    array = json.loads((tmp_path / "matrix" / "values" / "zarr.json").read_text())
    assert array["dimension_names"] == ["source", "target"]
    assert array["fill_value"] == "NaN"
    path = str(tmp_path / "matrix" / "values")
    stored = tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}).result()
    np.testing.assert_array_equal(stored.read().result(), VALUES)


def test_zarr_reads_it(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    write(tmp_path / "matrix")
    group = zarr.open_group(tmp_path / "matrix", mode="r")
    np.testing.assert_array_equal(group["values"][:], VALUES)


def test_a_damaged_chunk_is_never_read(tmp_path: Path) -> None:
    """Cut short, gone, or with one bit turned, wherever that is."""
    write(tmp_path / "matrix")
    chunk = tmp_path / "matrix" / "counts" / "c" / "0" / "1"
    tiles, raw = open_tiles(tmp_path / "matrix"), chunk.read_bytes()
    assert tiles is not None
    for k in range(len(raw)):
        chunk.write_bytes(raw[:k] + bytes([raw[k] ^ 1]) + raw[k + 1 :])
        assert tiles.read("counts", slice(3, 6)) is None
    chunk.write_bytes(raw[:-3])
    assert tiles.read("counts", slice(3, 6)) is None
    chunk.unlink()
    assert tiles.read("counts", slice(3, 6)) is None
    np.testing.assert_array_equal(tiles.read("counts", slice(8, 12)), COUNTS[:, 8:12])


def test_an_array_that_is_gone_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "matrix")
    tiles = open_tiles(tmp_path / "matrix")
    assert tiles is not None
    assert tiles.read("nothing", slice(0, 1)) is None
    assert tiles.read("counts", slice(0, WIDTH + 1)) is None


@pytest.mark.parametrize(
    ("old", "new"), [('"a test"', '"another"'), ('"format": 2', '"format": 3'), ("{", ""), ('"checksum"', '"sum"')]
)
def test_attributes_that_were_edited_are_not_believed(tmp_path: Path, old: str, new: str) -> None:
    write(tmp_path / "matrix")
    path = tmp_path / "matrix" / "zarr.json"
    path.write_text(path.read_text().replace(old, new, 1))
    assert open_tiles(tmp_path / "matrix") is None


def test_what_is_no_folder_of_tiles_is_not_opened(tmp_path: Path) -> None:
    assert open_tiles(tmp_path) is None
    assert open_tiles(tmp_path / "nothing") is None


def test_an_error_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    def killed() -> None:
        with new_tiles(tmp_path / "matrix", width=4) as writer:
            writer.write({"counts": COUNTS[:, :4]}, slice(0, 4), n_columns=WIDTH)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_has_its_name_only_once_it_is_whole(tmp_path: Path) -> None:
    with new_tiles(tmp_path / "matrix", width=4) as writer:
        writer.write({"counts": COUNTS[:, :4]}, slice(0, 4), n_columns=WIDTH)
        assert [path.name.startswith("partial-") for path in tmp_path.iterdir()] == [True]
    assert [path.name for path in tmp_path.iterdir()] == ["matrix"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "matrix").mkdir()
    with pytest.raises(InputError, match="exists already"):
        write(tmp_path / "matrix")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write(tmp_path / "file" / "matrix")

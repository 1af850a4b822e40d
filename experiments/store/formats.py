"""File formats for a block of models, and storage libraries, compared on the same arrays."""

from __future__ import annotations

import json
import struct
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts
from worlds import best, random_block

from infl.records import Outcomes
from infl.store import blocks as stored
from infl.store.storage import Storage

TILE = stored.TILE_COLUMNS


def compare_formats(n: int, m: int, n_models: int, n_blocks: int, repeats: int) -> dict[str, Any]:
    """Bytes, and seconds to write and to read 1,000 columns and all, of blocks of each format."""
    given = [Outcomes(*random_block(n, m, range(k * n_models, (k + 1) * n_models))) for k in range(n_blocks)]
    found = {}
    for name, (write, read) in _FORMATS.items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            start = time.perf_counter()
            for k, outcomes in enumerate(given):
                write(folder, k, outcomes)
            wrote = time.perf_counter() - start
            n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            some, every = slice(n // 2, n // 2 + min(1000, n // 2)), slice(0, n + m)
            for columns in (some, every):
                margin = read(folder, 0, columns, n + m)
                assert np.array_equal(margin, np.asarray(given[0].margin)[:, columns])
            found[name] = {
                "bytes": n_bytes,
                "files": sum(path.is_file() for path in folder.rglob("*")),
                "write": round(wrote, 3),
                "1000_columns": _seconds(read, folder, range(n_blocks), some, n + m, repeats),
                "all_columns": _seconds(read, folder, range(n_blocks), every, n + m, repeats),
            }
    return found


def _seconds(
    read: Callable[..., Any], folder: Path, blocks: range, columns: slice, n_columns: int, repeats: int
) -> float:
    return round(best(lambda: [read(folder, k, columns, n_columns) for k in blocks], repeats), 4)


def _write_npz(folder: Path, k: int, outcomes: Outcomes) -> None:
    models = range(k * outcomes.n_models, (k + 1) * outcomes.n_models)
    about = {
        "run": "",
        "collection": "",
        "models": [models[0], models[-1]],
        "diverged": [],
        "seconds": 0,
        "session": {},
    }
    arrays = stored.pack(outcomes, stored.Layout(outcomes.n_train, outcomes.n_columns))
    Storage(folder).put(stored.block_name(models[0], models[-1]), stored.block_bytes(arrays, about))


def _read_npz(folder: Path, k: int, columns: slice, n_columns: int) -> Any:
    storage = Storage(folder)
    name, size = sorted(storage.list().items())[k]
    models = stored.block_range(name)
    assert models is not None
    layout = stored.Layout(1, n_columns)
    block = stored.read_block(storage, name, size, layout, run="", collection="")
    tiles = range(columns.start // layout.width, -(-columns.stop // layout.width))
    read = stored.read_tiles(storage, block, layout, [("margin", tile) for tile in tiles], stored.TileCache())
    return _cut(read, columns, layout.width)


def _write_deflated(folder: Path, k: int, outcomes: Any) -> None:
    with zipfile.ZipFile(folder / f"{k}.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("masks", np.packbits(outcomes.masks, axis=1).tobytes())
        for at in range(0, outcomes.n_columns, TILE):
            archive.writestr(
                f"correct/{at // TILE}", np.packbits(outcomes.correct[:, at : at + TILE], axis=1).tobytes()
            )
            archive.writestr(f"margin/{at // TILE}", np.ascontiguousarray(outcomes.margin[:, at : at + TILE]).tobytes())


def _read_deflated(folder: Path, k: int, columns: slice, n_columns: int) -> Any:
    with zipfile.ZipFile(folder / f"{k}.npz") as archive:
        tiles = []
        for tile in range(columns.start // TILE, -(-columns.stop // TILE)):
            width = min(TILE, n_columns - tile * TILE)
            tiles.append(np.frombuffer(archive.read(f"margin/{tile}"), np.float16).reshape(-1, width))
    return _cut(tiles, columns, TILE)


def _write_safetensors(folder: Path, k: int, outcomes: Any) -> None:
    arrays = {"masks": np.packbits(outcomes.masks, axis=1), "correct": np.packbits(outcomes.correct, axis=1)}
    arrays["margin"] = np.ascontiguousarray(outcomes.margin)
    header, at = {}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": str(array.dtype), "shape": array.shape, "data_offsets": [at, at + array.nbytes]}
        header[name]["crc32"] = zlib.crc32(array.tobytes())
        at += array.nbytes
    text = json.dumps(header).encode()
    with open(folder / f"{k}.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(array.tobytes() for array in arrays.values()))


def _read_safetensors(folder: Path, k: int, columns: slice, n_columns: int) -> Any:
    with open(folder / f"{k}.safetensors", "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))["margin"]
        file.seek(8 + length + header["data_offsets"][0])  # whole: one checksum an array
        content = file.read(header["data_offsets"][1] - header["data_offsets"][0])
    assert zlib.crc32(content) == header["crc32"]
    return np.frombuffer(content, np.float16).reshape(header["shape"])[:, columns]


def _zarr(path: Path, array: Any, *, sharded: bool) -> None:
    bits = array.dtype == np.uint8
    inner = [len(array), min(array.shape[1], TILE // 8 if bits else TILE)]
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}] + (
        [] if sharded else [{"name": "zstd", "configuration": {"level": 1}}]
    )
    codecs += [{"name": "crc32c"}]
    metadata: dict[str, Any] = {"shape": array.shape, "data_type": array.dtype.name, "codecs": codecs}
    grid = [len(array), -(-array.shape[1] // inner[1]) * inner[1]] if sharded else inner
    metadata["chunk_grid"] = {"name": "regular", "configuration": {"chunk_shape": grid}}
    if sharded:
        metadata["codecs"] = [{"name": "sharding_indexed", "configuration": {"chunk_shape": inner, "codecs": codecs}}]
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path)}, "metadata": metadata}
    ts.open(spec, create=True).result().write(array).result()


def _write_zarr(sharded: bool) -> Callable[[Path, int, Outcomes], None]:
    def write(folder: Path, k: int, outcomes: Any) -> None:
        _zarr(folder / str(k) / "masks", np.packbits(outcomes.masks, axis=1), sharded=sharded)
        _zarr(folder / str(k) / "correct", np.packbits(outcomes.correct, axis=1), sharded=sharded)
        _zarr(folder / str(k) / "margin", outcomes.margin, sharded=sharded)

    return write


def _read_zarr(folder: Path, k: int, columns: slice, n_columns: int) -> Any:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(folder / str(k) / "margin")}}
    return ts.open(spec).result()[:, columns].read().result()


def _cut(tiles: list[Any], columns: slice, width: int) -> Any:
    first = columns.start // width * width
    return np.concatenate(tiles, axis=1)[:, columns.start - first : columns.stop - first]


_FORMATS: dict[str, tuple[Callable[..., None], Callable[..., Any]]] = {
    "npz, one member an array in tiles (chosen)": (_write_npz, _read_npz),
    "npz, a deflated member a tile": (_write_deflated, _read_deflated),
    "as safetensors, one checksum an array": (_write_safetensors, _read_safetensors),
    "zarr3, a shard a block": (_write_zarr(True), _read_zarr),
    "zarr3, zstd chunks in a folder a block": (_write_zarr(False), _read_zarr),
}


def compare_libraries(n_bytes: int, n_objects: int, repeats: int, url: str | None = None) -> dict[str, Any]:
    """Seconds of three libraries for as many objects: put if absent, two ranges of each, list; and bytes installed."""
    content = np.random.default_rng(0).bytes(n_bytes)
    found: dict[str, Any] = {}
    for name, make in {"obstore": _obstore, "fsspec": _fsspec, "tensorstore": _tensorstore}.items():
        with tempfile.TemporaryDirectory() as place:
            put, ranges, listed = make(place if url is None else f"{url}/{name}")
            start = time.perf_counter()
            for k in range(n_objects):
                put(f"{k}.bin", content)
            wrote = time.perf_counter() - start
            refused = False
            try:
                refused = put("0.bin", b"other") is False
            except Exception:
                refused = True
            unchanged = bytes(ranges("0.bin", [(0, 5)])[0]) == content[:5]
            spans = [(n_bytes // 8, n_bytes // 8 + n_bytes // 32), (n_bytes // 2, n_bytes // 2 + n_bytes // 8)]
            found[name] = {
                "put": round(wrote, 3),
                "put_if_absent": refused and unchanged,
                "two_ranges": _seconds_of_ranges(ranges, spans, n_objects, repeats),
                "list": round(best(listed, repeats), 4),
                "installed_bytes": sum(map(_installed, _PACKAGES[name])),
            }
    return found


def _seconds_of_ranges(ranges: Callable[..., Any], spans: list[tuple[int, int]], n: int, repeats: int) -> float:
    return round(best(lambda: [ranges(f"{k}.bin", spans) for k in range(n)], repeats), 4)


def _obstore(place: str) -> Any:
    import obstore
    from obstore.store import LocalStore, from_url

    store = from_url(place) if "://" in place else LocalStore(place, mkdir=True)
    return (
        lambda name, content: obstore.put(store, name, content, mode="create", use_multipart=False),
        lambda name, spans: obstore.get_ranges(
            store, name, starts=[a for a, _ in spans], ends=[b for _, b in spans], coalesce=1 << 16
        ),
        lambda: [meta for part in obstore.list(store) for meta in part],
    )


def _fsspec(place: str) -> Any:
    from fsspec.core import url_to_fs

    files, root = url_to_fs(place, **({"use_listings_cache": False} if "://" in place else {}))

    def put(name: str, content: bytes) -> None:
        files.pipe_file(f"{root}/{name}", content, mode="create")

    def ranges(name: str, spans: list[tuple[int, int]]) -> list[bytes]:
        return files.cat_ranges([f"{root}/{name}"] * len(spans), *map(list, zip(*spans, strict=True)))

    return put, ranges, lambda: files.find(root, detail=True)


def _tensorstore(place: str) -> Any:
    spec: Any = f"{place}/" if "://" in place else {"driver": "file", "path": f"{place}/"}
    store = ts.KvStore.open(spec).result()

    def put(name: str, content: bytes) -> bool:
        absent = store.read("none").result().stamp.generation
        return store.write(name, content, if_equal=absent).result().generation not in (b"", absent)

    def ranges(name: str, spans: list[tuple[int, int]]) -> list[bytes]:
        return [one.result().value for one in [store.read(name, byte_range=slice(*span)) for span in spans]]

    return put, ranges, lambda: store.list().result()


_PACKAGES = {
    "obstore": ("obstore",),
    "fsspec": ("fsspec", "s3fs", "aiobotocore", "botocore"),
    "tensorstore": ("tensorstore",),
}


def _installed(package: str) -> int:
    try:
        return sum(file.size or 0 for file in distribution(package).files or ())
    except Exception:
        return 0

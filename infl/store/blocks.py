"""Outcomes on disk: turns a block of models into one immutable file, and files back into outcomes, by rows and columns.

A block is an uncompressed .npz file, named by the models that it holds, `0000000-0000031.npz`, so that a listing says what is
complete. Anybody reads it with `numpy.load`:

    masks    [B, ceil(n / 8)] uint8, packed bits: which examples each model trained on
    correct  [K, B, W / 8] uint8, packed bits, and margin [K, B, W] float16: the n + m columns in K tiles of W, the last
             one filled up with zeros; the m of H alone where run.json says held_out_only. Of documents correct is float16
             too, shares rounded by at most 2.5e-4, beside logprob, float16, and exact, bits
    about.json  which models of which run, which of them diverged, seconds, where and with what they were trained, and where
             in the file each array begins, with a CRC-32 of every tile

A tile is contiguous, so that some columns are one range of every block; what is read is compared with its CRC-32.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import re
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from infl.records import (
    LABEL_KINDS,
    MAX_MARGIN,
    OUTCOME_KINDS,
    Array,
    Columns,
    DiskError,
    InputError,
    OutcomeKind,
    Outcomes,
    block_rows,
    first_line,
    join_blocks,
)
from infl.store.storage import Storage

TILE_COLUMNS = 2048
MAX_BLOCK_MODELS = 256
MAX_BLOCK_BYTES = 1 << 30
MAX_ABOUT_BYTES = 1 << 24
TAIL_BYTES = 1 << 15  # that about.json and the directory of the .npz are read in
MAX_ENTRIES = 1 << 26  # of the masks of some rows in memory
CACHED_BYTES = 1 << 26
THREADS = 8
RANGES = {"correct": (0.0, 1.0), "margin": (-MAX_MARGIN, MAX_MARGIN), "logprob": (-MAX_MARGIN, 0.0)}
HELD_OUT_ONLY = (
    "this run has outcomes of held-out examples alone: no memorization, and no influence on training examples"
)
_NAME = re.compile(r"(\d{7,10})-(\d{7,10})\.npz")


@dataclass(frozen=True)
class Layout:
    """How the arrays of a block of B models are laid out, by the sizes of D and of all columns.

    Attributes:
        kinds: Outcomes that there are; models made elsewhere may have come with one.
        shares: Whether `correct` is a share, and not 0/1.
        held_out_only: Whether there are columns of H alone.
    """

    n_train: int
    n_columns: int
    kinds: tuple[OutcomeKind, ...] = LABEL_KINDS
    shares: bool = False
    held_out_only: bool = False

    @property
    def first_column(self) -> int:
        """The first column that there is."""
        return self.n_train if self.held_out_only else 0

    @property
    def n_tiles(self) -> int:
        """Tiles that hold all columns."""
        return -(-(self.n_columns - self.first_column) // TILE_COLUMNS)

    @property
    def width(self) -> int:
        """Columns of a tile, a multiple of 8."""
        return -(-(self.n_columns - self.first_column) // (8 * self.n_tiles)) * 8

    def is_packed(self, array: str) -> bool:
        """Whether an array is packed bits, and not float16."""
        return array in ("masks", "exact") or (array == "correct" and not self.shares)

    def dtype(self, array: str) -> type[np.generic]:
        """Of an array on disk."""
        return np.uint8 if self.is_packed(array) else np.float16

    def shape(self, array: str, n_models: int) -> tuple[int, int, int]:
        """Shape of an array; masks are one tile."""
        if array == "masks":
            return 1, n_models, -(-self.n_train // 8)
        return self.n_tiles, n_models, self.width // 8 if self.is_packed(array) else self.width

    def tile_bytes(self, array: str, n_models: int) -> int:
        """Bytes of a tile of an array."""
        _, height, width = self.shape(array, n_models)
        return height * width * np.dtype(self.dtype(array)).itemsize

    def bytes_per_model(self) -> int:
        """Disk that one model takes."""
        return sum(self.n_tiles * self.tile_bytes(kind, 1) for kind in self.kinds) + self.tile_bytes("masks", 1)


def bytes_per_model(n_train: int, n_columns: int) -> int:
    """Disk that one model takes."""
    return Layout(n_train, n_columns).bytes_per_model()


def block_name(first: int, last: int) -> str:
    """The file of a block of models `first` to `last`."""
    return f"{first:07d}-{last:07d}.npz"


def block_range(name: str) -> range | None:
    """The models that the file of a block holds; None where it is no block."""
    found = _NAME.fullmatch(name.rpartition("/")[2])
    if found is None:
        return None
    first, last = map(int, found.groups())
    return range(first, last + 1) if 0 <= last - first < MAX_BLOCK_MODELS else None


def pack(outcomes: Outcomes, layout: Layout) -> dict[str, Array]:
    """Arrays of a block, with their columns in tiles; outcomes are brought into their range."""
    arrays = {"masks": np.packbits(outcomes.masks, axis=1)}
    for kind in layout.kinds:
        array = outcomes.recorded[kind]
        if layout.is_packed(kind):
            arrays[kind] = np.packbits(_tiled(array.astype(bool), layout), axis=2)
        else:
            arrays[kind] = _tiled(np.clip(np.nan_to_num(array, nan=0.0), *RANGES[kind]).astype(np.float16), layout)
    return arrays


def block_bytes(arrays: dict[str, Array], about: dict[str, Any]) -> bytes:
    """The file of a block."""
    content, described = io.BytesIO(), {}
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w") as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
            tiles = array[None] if name == "masks" else array
            crc32 = [zlib.crc32(np.ascontiguousarray(tile).data) for tile in tiles]
            described[name] = {"start": content.tell() - array.nbytes, "crc32": crc32}
        archive.writestr(zipfile.ZipInfo("about.json"), json.dumps({**about, "arrays": described}))
    return content.getvalue()


@dataclass(frozen=True)
class Block:
    """A block on disk, and what its about.json says.

    Attributes:
        diverged: Models whose training did not stay finite; no outcomes are read of them.
        session: Where and with what they were trained.
        starts: Where in the file each array begins.
        crc32: Of each tile of each array.
    """

    name: str
    models: range
    diverged: tuple[int, ...]
    seconds: float
    session: dict[str, Any]
    starts: dict[str, int]
    crc32: dict[str, list[int]]


def read_block(storage: Storage, name: str, size: int, layout: Layout, *, run: str, collection: str) -> Block:
    """Read what a block says of itself.

    Args:
        size: Bytes of the file.
        run: SHA-256 of what the models of its run follow from.
    """
    with damage_named(storage, name):
        about = _read_about(storage, name, size)
        models = block_range(name)
        if models is None or about["models"] != [models[0], models[-1]]:
            raise ValueError("it holds other models than its name says")
        if about["run"] != run or about["collection"] != collection:
            raise ValueError("it is of another run or another collection")
        if not 0 <= float(about["seconds"]) < math.inf or not set(about["diverged"]) <= set(models):
            raise ValueError("it says of its training what infl does not")
        _check_session(about["session"])
        arrays = about["arrays"]
        block = Block(
            name,
            models,
            tuple(int(model) for model in about["diverged"]),
            float(about["seconds"]),
            dict(about["session"]),
            {array: int(arrays[array]["start"]) for array in arrays},
            {array: [int(crc32) for crc32 in arrays[array]["crc32"]] for array in arrays},
        )
        if set(block.crc32) != {"masks", *layout.kinds}:
            raise ValueError("it holds other arrays than the run's")
        for array, crc32 in block.crc32.items():
            if len(crc32) != layout.shape(array, len(models))[0]:
                raise ValueError(f"its {array} have another shape than the run's")
        return block


def _check_session(session: dict[str, Any]) -> None:
    counts = [session.get(name, {}) for name in ("wanted", "first")]
    right = [isinstance(session.get("layout", {}), dict), isinstance(session.get("devices", []), list)]
    right += [type(n) is int and n >= 0 for count in counts for n in count.values()]
    if not all(right):
        raise ValueError("it says of its session what infl does not")


def _read_about(storage: Storage, name: str, size: int) -> dict[str, Any]:
    # The end of the file is read as a whole .npz: what comes before it then seems to begin before its start.
    length = TAIL_BYTES
    while True:
        (tail,) = storage.ranges(name, [max(0, size - length)], [min(length, size)])
        with zipfile.ZipFile(io.BytesIO(tail)) as archive:
            entry = archive.getinfo("about.json")
            if entry.header_offset >= 0:
                return json.loads(archive.read(entry))
        if length >= MAX_ABOUT_BYTES:
            raise ValueError("its about.json is too large")
        length *= 16


class DamagedError(DiskError):
    """A block is not as it was written."""


@contextmanager
def damage_named(storage: Storage, name: str) -> Iterator[None]:
    """Say of any failure within that a block is damaged, and what to do."""
    try:
        yield
    except DiskError:
        raise
    except Exception as error:  # zipfile, json and obstore fail with more kinds of exception than they document
        raise DamagedError(
            f"{storage.place}/{name} is damaged: {first_line(error)}; infl inspect --run {storage.place} --repair trains its "
            "models again"
        ) from error


class TileCache:
    """The tiles that were read last, up to `CACHED_BYTES`: narrow columns meet the same ones again and again."""

    def __init__(self) -> None:
        self._tiles: OrderedDict[tuple[str, str, int], Any] = OrderedDict()
        self._size, self._lock = 0, threading.Lock()

    def get(self, key: tuple[str, str, int]) -> Any:
        """A tile, by block, array and number; None where it is not there."""
        return self._tiles.get(key)

    def put(self, key: tuple[str, str, int], tile: Any) -> None:
        """Keep a tile, and as many of those read before as there is room for."""
        with self._lock:
            self._size += len(tile) if key not in self._tiles else 0
            self._tiles[key] = tile
            while self._size > CACHED_BYTES:
                self._size -= len(self._tiles.popitem(last=False)[1])


def read_tiles(
    storage: Storage, block: Block, layout: Layout, wanted: Sequence[tuple[str, int]], cache: TileCache
) -> list[Array]:
    """Tiles of a block, by array and number, each [B, bytes or columns], compared with their checksums."""
    n_models = len(block.models)
    found = {key: cache.get((block.name, *key)) for key in wanted}
    missing = [key for key in wanted if found[key] is None]
    if missing:
        with damage_named(storage, block.name):
            lengths = [layout.tile_bytes(array, n_models) for array, _ in missing]
            places = zip(missing, lengths, strict=True)
            starts = [block.starts[array] + tile * length for (array, tile), length in places]
            read = storage.ranges(block.name, starts, lengths)
            for (array, tile), content, length in zip(missing, read, lengths, strict=True):
                if len(content) != length or zlib.crc32(content) != block.crc32[array][tile]:
                    raise ValueError(f"the checksum of its {array} does not fit")
                found[array, tile] = content
                cache.put((block.name, array, tile), content)
    return [np.frombuffer(found[key], layout.dtype(key[0])).reshape(n_models, -1) for key in wanted]


def check_block(storage: Storage, name: str, layout: Layout, *, run: str, collection: str) -> str | None:
    """Read all of a block; what is wrong with it, or None.

    Raises:
        DiskError: Where object storage cannot be reached, which is no damage.
    """
    try:
        with damage_named(storage, name):
            content = storage.read(name, MAX_BLOCK_BYTES)
            if content is None:
                return "it is gone"
            block = read_block(storage, name, len(content), layout, run=run, collection=collection)
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                if (member := archive.testzip()) is not None:
                    return f"the checksum of {member} does not fit"
            for array, crc32 in block.crc32.items():
                read_tiles(storage, block, layout, [(array, tile) for tile in range(len(crc32))], TileCache())
    except DiskError as error:
        if not isinstance(error, DamagedError) and not storage.is_local:
            raise
        return first_line(error.__cause__ or error) if isinstance(error, DamagedError) else first_line(error)
    return None


@dataclass(frozen=True)
class StoredOutcomes:
    """Outcomes of some models of a collection, read by blocks of rows and by columns (an `OutcomeSource`).

    Attributes:
        models: Their numbers, ascending.
        owners: The block that each is read from.
        period: Models whose masks balance each other.
        n_tokens: As of `Outcomes`.
    """

    storage: Storage
    layout: Layout
    models: tuple[int, ...]
    owners: tuple[Block, ...]
    init_seeds: tuple[int, ...] | None = None
    period: int = 1
    n_tokens: Array | None = None
    cache: TileCache = field(default_factory=TileCache, compare=False, repr=False)

    @property
    def n_models(self) -> int:
        """Models that can be read."""
        return len(self.models)

    @property
    def n_train(self) -> int:
        """Examples of D."""
        return self.layout.n_train

    @property
    def n_columns(self) -> int:
        """Examples of D and H."""
        return self.layout.n_columns

    def blocks(
        self, columns: Columns = slice(None), *, n_rows: int = 512, kinds: Sequence[OutcomeKind] = OUTCOME_KINDS
    ) -> Iterator[Outcomes]:
        """See `OutcomeSource.blocks`; raises `InputError` where columns of D are asked for that there are not."""
        numbers, first = np.arange(self.n_columns)[columns], self.layout.first_column
        kinds = [kind for kind in self.layout.kinds if kind in kinds]
        if kinds and numbers.min(initial=first) < first:
            raise InputError(HELD_OUT_ONLY)
        strata = None if self.period == 1 else np.asarray(self.models, np.int64) // self.period
        wanted = self._wanted_tiles(numbers - first)
        n_wanted = sum(len(inner) for _, _, inner in wanted)
        with ThreadPoolExecutor(THREADS) as pool:
            n_rows = min(n_rows, max(8, MAX_ENTRIES // self.n_train))
            for some in block_rows(self.n_models, n_rows, strata):
                n_models = some.stop - some.start
                arrays: dict[str, Array] = {"masks": np.empty((n_models, self.n_train), bool)}
                for kind in kinds:
                    arrays[kind] = np.empty((n_models, n_wanted), bool if self.layout.is_packed(kind) else np.float16)
                blocks, rows, places = zip(*self._parts(some), strict=True)
                list(pool.map(partial(self._read, wanted=wanted, arrays=arrays), blocks, rows, places))
                yield Outcomes(
                    **arrays,
                    init_seeds=None if self.init_seeds is None else np.asarray(self.init_seeds[some], np.int64),
                    strata=None if strata is None else strata[some],
                    n_tokens=None if self.n_tokens is None or len(arrays) == 1 else self.n_tokens[columns],
                )

    def _wanted_tiles(self, numbers: Array) -> list[tuple[int, Array, Array]]:
        """Tiles that hold these columns: its number, which of the columns they are, and where in the tile."""
        tiles = numbers // self.layout.width
        found = []
        for tile in np.unique(tiles):
            outer = np.flatnonzero(tiles == tile)
            found.append((int(tile), outer, numbers[outer] - tile * self.layout.width))
        return found

    def _parts(self, some: slice) -> list[tuple[Block, Array, slice]]:
        """Blocks that hold these models, which of their rows, and which of the models they are."""
        models, owners = np.asarray(self.models[some]), self.owners[some]
        cuts = [0, *(k for k in range(1, len(owners)) if owners[k] is not owners[k - 1]), len(owners)]
        return [(owners[a], models[a:b] - owners[a].models[0], slice(a, b)) for a, b in itertools.pairwise(cuts)]

    def _read(
        self, block: Block, rows: Array, places: slice, wanted: list[tuple[int, Array, Array]], arrays: dict[str, Array]
    ) -> None:
        """Put outcomes of some rows of a block where they belong in `arrays`."""
        names = [("masks", 0), *((kind, tile) for kind in arrays if kind != "masks" for tile, _, _ in wanted)]
        tiles = iter(read_tiles(self.storage, block, self.layout, names, self.cache))
        arrays["masks"][places] = np.unpackbits(next(tiles)[rows], axis=1, count=self.n_train)
        for kind in arrays:
            for _, outer, inner in wanted if kind != "masks" else ():
                tile = next(tiles)[rows]
                tile = np.unpackbits(tile, axis=1) if self.layout.is_packed(kind) else tile
                arrays[kind][places, _as_slice(outer)] = tile[:, _as_slice(inner)]

    def load(self) -> Outcomes:
        """All of them in memory."""
        blocks = list(self.blocks())
        if not blocks:  # of no models there are blocks of none
            empty = np.zeros((0, self.n_columns), np.float16)
            kinds = {kind: empty.astype(bool) if self.layout.is_packed(kind) else empty for kind in self.layout.kinds}
            return Outcomes(np.zeros((0, self.n_train), bool), **kinds, n_tokens=self.n_tokens)
        return join_blocks(blocks)


def _as_slice(numbers: Array) -> Columns:
    """Numbers that follow each other as a slice, of which NumPy makes no copy."""
    first, last = int(numbers[0]), int(numbers[-1])
    return slice(first, last + 1) if last - first == len(numbers) - 1 and np.all(np.diff(numbers) == 1) else numbers


def _tiled(array: Array, layout: Layout) -> Array:
    """[B, columns] as [K, B, W]."""
    padded = np.zeros((len(array), layout.n_tiles * layout.width), array.dtype)
    padded[:, : array.shape[1]] = array
    return np.ascontiguousarray(padded.reshape(len(array), layout.n_tiles, layout.width).swapaxes(0, 1))

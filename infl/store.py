"""A run folder: turns outcomes as they come into rows on disk that survive a kill, and back into outcomes.

    run.json                 dataset, algorithm, design, seed, versions, devices; with its own checksum
    data.npz                 the examples, so that a run can be analysed and verified wherever it is copied
    journal.jsonl            one line per block of models, appended after its rows are on disk: what is complete
    models/design/           models of the design: zarr3 arrays masks, correct (bits), margin (float16); a row a model
    models/full/             reference models of all of D, one row a seed
    models/without-<sha>/    models of D without one forget set, one row a seed

A model counts once its line in the journal is whole. Rows without a line are leftovers of a kill and are written again.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore as ts

from infl.records import Array, Columns, Dataset, InputError, Outcomes

FORMAT = 1
ROWS_PER_CHUNK = 64
BYTES_PER_CHUNK_ROW = 16384
LARGEST_MARGIN = 60000.0  # float16 ends at 65504


class Run:
    """A run folder that is open. Make one with `create_run` or `open_run`."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._done: dict[str, dict[int, bool]] = {}
        self._sessions: list[dict[str, Any]] = []
        self._blocks: list[dict[str, Any]] = []
        for line in _read_journal(folder / "journal.jsonl"):
            self._remember(line)

    def dataset(self) -> Dataset:
        """The examples of the run.

        Raises:
            InputError: where data.npz is damaged or is not the data of this run.
        """
        return _read_dataset(self.folder / "data.npz", self.manifest["dataset"])

    def collections(self) -> list[str]:
        """Names of the collections that hold at least one complete model."""
        return sorted(self._done)

    def complete(self, collection: str) -> list[int]:
        """Ids of the models whose outcomes are on disk, diverged ones too, ascending."""
        return sorted(self._done.get(collection, {}))

    def diverged(self, collection: str) -> list[int]:
        """Ids of the complete models whose training did not stay finite; they are left out of the outcomes."""
        return sorted(model for model, finite in self._done.get(collection, {}).items() if not finite)

    def seconds(self, collection: str) -> float:
        """Wall-clock seconds that training the complete models of a collection took."""
        return sum(block["seconds"] for block in self._blocks if block["collection"] == collection)

    def describe(self) -> dict[str, Any]:
        """What the run holds, as JSON: its manifest, the models of each collection, what was asked for and is missing."""
        wanted: dict[str, int] = {}
        for session in self._sessions:
            for collection, n_models in session.get("wanted", {}).items():
                wanted[collection] = max(wanted.get(collection, 0), n_models)
        collections = {}
        for name in sorted(set(self._done) | set(wanted)):
            complete = self.complete(name)
            collections[name] = {
                "complete": len(complete),
                "missing": len(set(range(wanted.get(name, 0))) - set(complete)),
                "diverged": self.diverged(name),
                "seconds": round(self.seconds(name), 3),
            }
        return {"folder": str(self.folder), **self.manifest, "collections": collections, "sessions": self._sessions}

    def outcomes(self, collection: str, models: Sequence[int] | None = None) -> StoredOutcomes:
        """Outcomes of the complete models of a collection, or of those given, without the diverged ones."""
        done = self._done.get(collection, {})
        wanted = self.complete(collection) if models is None else [model for model in models if model in done]
        return StoredOutcomes(
            self.folder / "models" / collection,
            tuple(model for model in wanted if done[model]),
            self.manifest["dataset"]["n_train"],
            self.manifest["dataset"]["n_columns"],
        )

    def write(
        self, collection: str, models: Sequence[int], outcomes: Outcomes, finite: Array, *, seconds: float
    ) -> None:
        """Put the outcomes of a block on disk, then mark its models complete.

        models: row of each outcome; finite: [B] whether each stayed finite; seconds: what training the block took.

        Raises:
            InputError: where the disk refuses.
        """
        if outcomes.correct is None or outcomes.margin is None:
            raise ValueError("a run stores both correct and margin")
        margin = np.clip(np.nan_to_num(outcomes.margin, nan=0.0), -LARGEST_MARGIN, LARGEST_MARGIN)
        arrays = {
            "masks": np.packbits(outcomes.masks, axis=1),
            "correct": np.packbits(outcomes.correct, axis=1),
            "margin": margin.astype(np.float16),
        }
        rows = np.asarray(models, np.int64)
        try:
            pending = []
            for name, array in arrays.items():
                stored = _open_array(self.folder / "models" / collection / name, array, n_rows=int(rows.max()) + 1)
                pending.append(stored[rows].write(array))
            for write in pending:
                write.result()
            line = {"collection": collection, "models": [int(model) for model in models], "seconds": round(seconds, 4)}
            line["diverged"] = [int(model) for model, ok in zip(models, finite, strict=True) if not ok]
            line["crc32"] = {name: zlib.crc32(array.tobytes()) for name, array in arrays.items()}
            self._append(line)
        except (OSError, ValueError) as error:
            raise InputError(f"run folder {self.folder}: cannot write outcomes: {_first_line(error)}") from error

    def record_session(self, session: dict[str, Any]) -> None:
        """Note in the journal where and with what models are about to be trained.

        Raises:
            InputError: where the disk refuses.
        """
        try:
            self._append({"session": session})
        except OSError as error:
            raise InputError(f"run folder {self.folder}: cannot write the journal: {_first_line(error)}") from error

    def _append(self, line: dict[str, Any]) -> None:
        path = self.folder / "journal.jsonl"
        whole = _whole_length(path)
        # A line torn by a kill is cut off before the next one is appended.
        with open(path, "r+b" if path.exists() else "wb") as file:
            file.seek(whole)
            file.truncate()
            file.write(_sealed_line(line))
            file.flush()
            os.fsync(file.fileno())
        self._remember(line)

    def _remember(self, line: dict[str, Any]) -> None:
        if "session" in line:
            self._sessions.append(line["session"])
            return
        diverged = set(line["diverged"])
        self._done.setdefault(line["collection"], {}).update({m: m not in diverged for m in line["models"]})
        self._blocks.append(line)


@dataclass(frozen=True)
class StoredOutcomes:
    """Outcomes in a run folder, read block by block (an `OutcomeSource`)."""

    folder: Path
    models: tuple[int, ...]
    n_train: int
    n_columns: int

    @property
    def n_models(self) -> int:
        """Models that can be read."""
        return len(self.models)

    def blocks(self, columns: Columns = slice(None), *, n_rows: int = 512) -> Iterator[Outcomes]:
        """See `OutcomeSource.blocks`."""
        if not self.models:
            return
        with _damage_named(self.folder):
            masks, correct, margin = (_open_array(self.folder / name) for name in ("masks", "correct", "margin"))
        numbers = np.arange(self.n_columns)[columns]
        # TensorStore counts neither from the end nor past it, as NumPy does: it is given plain bounds or numbers.
        wanted: Columns = numbers
        window, first_bit = slice(0, -(-self.n_columns // 8)), 0
        if isinstance(columns, slice) and columns.step in (None, 1) and len(numbers):
            wanted = slice(int(numbers[0]), int(numbers[-1]) + 1)
            window, first_bit = slice(wanted.start // 8, -(-wanted.stop // 8)), wanted.start // 8 * 8
        for start in range(0, len(self.models), n_rows):
            rows = np.asarray(self.models[start : start + n_rows], np.int64)
            with _damage_named(self.folder):
                reads = masks[rows].read(), correct[rows, window].read(), margin.oindex[rows, wanted].read()
                packed_masks, bits, values = (read.result() for read in reads)
            yield Outcomes(
                np.unpackbits(packed_masks, axis=1, count=self.n_train).astype(bool),
                np.unpackbits(bits, axis=1).astype(bool)[:, numbers - first_bit],
                values,
            )

    def load(self) -> Outcomes:
        """All of them in memory."""
        blocks = list(self.blocks())
        if not blocks:
            width = self.n_columns
            empty = np.zeros((0, width))
            return Outcomes(np.zeros((0, self.n_train), bool), empty.astype(bool), empty.astype(np.float16))
        return Outcomes(
            np.concatenate([block.masks for block in blocks]),
            np.concatenate([block.of("correct") for block in blocks]).astype(bool),
            np.concatenate([block.of("margin") for block in blocks]).astype(np.float16),
        )


def create_run(folder: str | Path, dataset: Dataset, settings: dict[str, Any]) -> Run:
    """Make a run folder, or open the one that is there if its data and settings are the same.

    settings: JSON; every entry must agree with that of an existing run.

    Raises:
        InputError: where the folder holds something else, was made with other data or settings (they are named), or
            cannot be written.
    """
    folder = Path(folder)
    # As it will be read back: a tuple in the settings would never equal the list that it becomes.
    given = {"format": FORMAT, "dataset": _describe(dataset), **settings}
    manifest = json.loads(json.dumps(given, default=np.generic.item))
    if (folder / "run.json").exists():
        run = open_run(folder)
        differences = _differences(run.manifest, manifest)
        if differences:
            raise InputError(
                f"run folder {folder} was made with other settings: {'; '.join(differences)}. "
                "Use the same settings to continue it, or another --run folder"
            )
        return run
    if folder.exists() and not (folder.is_dir() and _is_empty_or_begun(folder)):
        raise InputError(f"{folder} exists and is not a run of infl (no run.json); choose a new or an empty folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # run.partial comes first and becomes run.json last: it tells a folder that a kill left unfinished from a user's.
        _write_durably(folder / "run.partial", _sealed_json(manifest))
        _write_dataset(folder / "data.npz", dataset)
        (folder / "journal.jsonl").touch()
        (folder / "run.partial").replace(folder / "run.json")
    except OSError as error:
        raise InputError(f"run folder {folder}: cannot be written: {_first_line(error)}") from error
    return Run(folder, manifest)


def open_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises:
        InputError: where it is not one, or its manifest or journal is damaged or of another format.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        raise InputError(
            f"{folder} is not a run folder: it has no run.json. Make one with: infl train DATASET --run {folder}"
        )
    try:
        manifest = json.loads(path.read_bytes())
        sealed = manifest.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path} is damaged: not a complete JSON manifest ({_first_line(error)}); restore it"
        ) from error
    if sealed != _checksum(manifest):
        raise InputError(f"{path} is damaged or was edited: its checksum does not fit its content; restore it")
    if manifest.get("format") != FORMAT:
        raise InputError(f"{path} has format {manifest.get('format')}; this version of infl reads format {FORMAT}")
    return Run(folder, manifest)


def name_of_leave_out(ids: Sequence[int]) -> str:
    """The collection of the models trained on D without these ids."""
    text = ",".join(str(i) for i in sorted(ids))
    return f"without-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def bytes_per_model(n_train: int, n_columns: int) -> int:
    """Disk that one model takes before compression."""
    return -(-n_train // 8) + -(-n_columns // 8) + 2 * n_columns


@contextmanager
def _damage_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, IndexError) as error:
        raise InputError(
            f"{folder} is damaged: {_first_line(error)}; restore it, or delete it and the lines of {folder.name!r} in "
            "journal.jsonl, and its models are trained again"
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


def _describe(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "source": dataset.source,
        "n_train": dataset.n_train,
        "n_columns": dataset.n_columns,
        "fingerprint": dataset.fingerprint(),
    }


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted(set(old) | set(new)):
        name = f"{prefix}{key}"
        mine, other = old.get(key), new.get(key)
        if name == "dataset.source" or name in ("infl", "versions"):
            continue
        if isinstance(mine, dict) and isinstance(other, dict):
            found += _differences(mine, other, f"{name}.")
        elif mine != other:
            found.append(f"{name} is {mine!r} in the run, {other!r} asked for")
    return found


def _write_dataset(path: Path, dataset: Dataset) -> None:
    arrays = {
        "x_train": dataset.x_train,
        "y_train": dataset.y_train,
        "x_held_out": dataset.x_held_out,
        "y_held_out": dataset.y_held_out,
        "train_ids": dataset.train_ids,
        "held_out_ids": dataset.held_out_ids,
        "class_names": np.array(dataset.class_names, dtype=np.str_),
    }
    temporary = path.with_suffix(".partial")
    with open(temporary, "wb") as file:
        np.savez(file, **arrays)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _read_dataset(path: Path, description: dict[str, Any]) -> Dataset:
    try:
        # Opened here and not by np.load, which leaves the file open where it is no zip.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            fields = {name: arrays[name] for name in arrays.files}
        names = tuple(str(name) for name in fields.pop("class_names"))
        dataset = Dataset(name=description["name"], source=description["source"], class_names=names, **fields)
        fingerprint = dataset.fingerprint()
    # A damaged file fails in zipfile, zlib or numpy, with more kinds of exception than those modules document.
    except Exception as error:
        raise InputError(f"{path} is missing or damaged ({_first_line(error)}); restore it") from error
    if fingerprint != description["fingerprint"]:
        raise InputError(f"{path} is not the data that this run was made with: its fingerprint differs; restore it")
    return dataset


def _read_journal(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    for number, raw in enumerate(path.read_bytes()[: _whole_length(path)].splitlines(), start=1):
        text, _, seal = raw.rpartition(b"\t")
        if seal != b"%08x" % zlib.crc32(text):
            raise InputError(f"{path} is damaged in line {number}; delete that line and its models are trained again")
        yield json.loads(text)


def _whole_length(path: Path) -> int:
    """Bytes of the journal up to the end of its last whole line."""
    return path.read_bytes().rfind(b"\n") + 1 if path.exists() else 0


def _sealed_line(line: dict[str, Any]) -> bytes:
    text = json.dumps(line, separators=(",", ":")).encode()
    return text + b"\t%08x\n" % zlib.crc32(text)


def _sealed_json(manifest: dict[str, Any]) -> bytes:
    return json.dumps({**manifest, "checksum": _checksum(manifest)}, indent=2).encode() + b"\n"


def _checksum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _is_empty_or_begun(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return not names or "run.partial" in names <= {"run.partial", "data.partial", "data.npz", "journal.jsonl"}


def _write_durably(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

"""Every reader of files that a stranger may have written, what is fed to it, and what it must do: read, or raise InputError."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

import infl
from infl.data.tokenizers import read_tokenizer, train_tokenizer
from infl.records import Dataset, ForgetSet, InputError
from infl.report.score_files import read_scores
from infl.store import Collection, create_run, leave_out_name, open_run
from infl.store.manifest import make_manifest, with_checksum
from infl.untraining.forget_files import read_groups
from infl.untraining.forget_sets import read_forget_sets

N_TRAIN, N_HELD_OUT = 12, 6
IMAGES = "train-images-idx3-ubyte"
BLOCK = "collections/design/blocks/0000000-0000002.npz"
WITHOUT = leave_out_name([1, 2])
RECORD = {"design": {"kind": "leave-out"}, "forget_set": {"name": "mine", "ids": [1, 2], "concept": [1, 2, 3]}}


@dataclass(frozen=True)
class Reader:
    """A kind of file: cases of its content, where it lies in a folder, what reads the folder, and what else lies there."""

    cases: st.SearchStrategy[bytes]
    name: str
    read: Callable[[Path], Any]
    prepare: Callable[[Path], None] = lambda folder: None

    def survives(self, folder: Path, content: bytes) -> bool:
        """Read one case; whether it was accepted. What is neither read nor refused in one line comes out as it is.

        Raises:
            AssertionError: where the refusal is longer than a line.
        """
        (folder / self.name).write_bytes(content)
        try:
            self.read(folder)
        except InputError as error:
            if "\n" in str(error):
                raise AssertionError(f"a refusal of several lines: {error}") from error
            return False
        return True


def readers() -> dict[str, Reader]:
    """All readers by name."""
    return {
        "npz": Reader(
            _mutated([_npz(np.savez), _npz(np.savez_compressed)]) | _npz_headers(),
            "mine.npz",
            lambda folder: infl.load(str(folder / "mine.npz")),
        ),
        "import": Reader(
            _mutated([_outcomes(np.savez), _outcomes(np.savez_compressed)]) | _npz_headers("masks"),
            "theirs.npz",
            _import,
        ),
        "idx": Reader(
            _mutated([_idx(), gzip.compress(_idx())]) | _idx_headers(),
            IMAGES,
            lambda folder: infl.load(f"idx:{folder}"),
            _write_idx,
        ),
        "run.json": Reader(_mutated([_manifest()]) | _changed_manifests(), "run.json", _look_at, _write_run),
        "block": Reader(_mutated([_block({})]) | st.builds(_block, _abouts()), BLOCK, _look_at, _write_run),
        "collection.json": Reader(
            _mutated([_record(RECORD)]) | st.builds(_record, _records()),
            f"collections/{WITHOUT}/collection.json",
            _look_at,
            _write_run,
        ),
        "scores.npz": Reader(
            _mutated([_scores(np.savez), _scores(np.savez_compressed)]),
            "scores.npz",
            lambda folder: read_scores(folder / "scores.npz"),
        ),
        "scores.csv": Reader(_mutated([TABLE]), "scores.csv", lambda folder: read_scores(folder / "scores.csv")),
        "forget": Reader(
            _sets(FORGET), "forget.json", lambda folder: read_forget_sets(folder / "forget.json", n_train=N_TRAIN)
        ),
        "forget, .npy .npz .csv .txt": Reader(
            _mutated([SET_TABLE, b"3\n4, 5\n", b"1,a\n2,b\n", _ids(np.save), _ids(np.savez)]),
            "forget",
            lambda folder: read_forget_sets(folder / "forget", n_train=N_TRAIN, dataset=_dataset),
        ),
        "groups.json": Reader(
            _sets(GROUPS), "groups.json", lambda folder: read_groups(folder / "groups.json", n_train=N_TRAIN)
        ),
        "groups.csv": Reader(
            _mutated([b"id,user\n" + b"".join(b"%d,u%d\n" % (i, i % 3) for i in range(N_TRAIN))]),
            "groups.csv",
            lambda folder: read_groups(folder / "groups.csv", n_train=N_TRAIN),
        ),
        "text.txt": Reader(
            _mutated([b"One line.\nAnother.\n%\nA second.\n%\nA third.\n", b"One.\n\nTwo.\n\nThree.\n"]),
            "text.txt",
            _load_text("text.txt"),
        ),
        "text.jsonl": Reader(
            _mutated([DOCUMENTS]) | st.lists(_documents() | _json(), max_size=5).map(_as_lines),
            "text.jsonl",
            _load_text("text.jsonl"),
        ),
        "tokens.npz": Reader(
            _mutated([_tokens(np.savez), _tokens(np.savez_compressed)]),
            "tokens.npz",
            _load_text("tokens.npz"),
        ),
        "tokenizer.json": Reader(
            _mutated([_tokenizer()])
            | st.dictionaries(st.text(max_size=3), st.integers(0, 1 << 32), max_size=5).map(_words),
            "tokenizer.json",
            lambda folder: read_tokenizer(folder / "tokenizer.json"),
        ),
    }


TABLE = b"kind,source,target,protocol,value,se\nmemorization,0,0,own,0.5,0.1\ninfluence,0,13,held-out,-0.25,\n"
SET_TABLE = b"id,set\n1,a\n2,a\n3,b\n"
GROUPS = b'{"a": [0, 1, 2, 3], "b": [4, 5, 6, 7], "c": [8, 9, 10, 11]}'
DOCUMENTS = b"".join(
    b'{"text": "Line %d.", "group": "g%d", "prompt": "p", "id": %d}\n' % (i, i % 2, i) for i in range(6)
)
FORGET = b'{"a": [1, 2, 3], "b": {"ids": [4, 5], "concept": [4, 5, 6]}}'


def _mutated(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """A whole file with one to eight bytes flipped, cut out, put in or repeated, or cut off; or any bytes."""
    kinds = st.sampled_from(["flip", "set", "cut", "insert", "repeat", "end", "number"])
    edits = st.lists(
        st.tuples(kinds, st.integers(0, 1 << 20), st.binary(min_size=1, max_size=8)), min_size=1, max_size=8
    )
    return st.builds(_edited, st.sampled_from(seeds), edits) | st.binary(max_size=200)


def _edited(content: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for kind, position, given in edits:
        at = position % max(1, len(content))
        n = len(given)
        if kind == "flip":
            content = content[:at] + bytes([content[at] ^ (1 << given[0] % 8)] if content else b"") + content[at + 1 :]
        elif kind == "set":
            content = content[:at] + given + content[at + n :]
        elif kind == "cut":
            content = content[:at] + content[at + n :]
        elif kind == "insert":
            content = content[:at] + given + content[at:]
        elif kind == "repeat":
            content = content[:at] + content[at : at + 8 * n] * given[0] + content[at:]
        elif kind == "end":
            content = content[:at]
        else:
            largest = {1: b"\xff", 2: b"\xff\xff", 4: b"\xff\xff\xff\x7f", 8: b"\xff" * 7 + b"\x7f"}[1 << given[0] % 4]
            content = content[:at] + largest + content[at + len(largest) :]
    return content[: 1 << 20]


def _json() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.integers(-3, 20)
    return st.recursive(
        leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    )


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _sets(whole: bytes) -> st.SearchStrategy[bytes]:
    return _mutated([whole]) | _json().map(_as_json) | _forget_files().map(_as_json)


def _saved(save: Callable[..., None], *array: Any, **arrays: Any) -> bytes:
    file = io.BytesIO()
    save(file, *array, **arrays)
    return file.getvalue()


def _dataset() -> Dataset:
    random = np.random.RandomState(0)
    labels = np.arange(N_TRAIN) % 3
    return infl.from_arrays(random.rand(N_TRAIN, 2, 2), labels, random.rand(N_HELD_OUT, 2, 2), labels[:N_HELD_OUT])


def _npz(save: Callable[..., None]) -> bytes:
    data = _dataset()
    return _saved(save, x_train=data.x_train, y_train=data.y_train, x_test=data.x_held_out, y_test=data.y_held_out)


def _outcomes(save: Callable[..., None]) -> bytes:
    masks = np.arange(64)[:, None] >> np.arange(4) & 1 == 1
    return _saved(save, masks=masks, correct=np.c_[masks, masks], labels=np.arange(8) % 2)


def _ids(save: Callable[..., None]) -> bytes:
    return _saved(save, np.array([1, 4, 5]))


def _scores(save: Callable[..., None]) -> bytes:
    labels, columns = np.arange(N_TRAIN) % 2, np.arange(0, N_HELD_OUT, 2)
    rows = np.flatnonzero(labels == 0)
    ids = {"tr_classidx_0": rows, "tt_classidx_0": columns, "infl_matrix_class0": np.ones((len(rows), len(columns)))}
    return _saved(save, tr_mem=labels / 2, tr_mem_se=labels / 9, tr_labels=labels, **ids)


def _load_text(name: str) -> Callable[[Path], Any]:
    def load(folder: Path) -> Dataset:
        with warnings.catch_warnings(action="ignore"):  # of empty documents and of documents that are cut
            return infl.load(f"text:{folder / name}")

    return load


def _documents() -> st.SearchStrategy[dict[str, Any]]:
    keys = {name: st.text(max_size=8) | _json() for name in ("group", "prompt", "id")}
    return st.fixed_dictionaries({"text": st.text(max_size=8) | _json()}, optional=keys)


def _as_lines(values: list[Any]) -> bytes:
    return b"\n".join(map(_as_json, values))


def _tokens(save: Callable[..., None]) -> bytes:
    file, tokens = io.BytesIO(), np.arange(24, dtype=np.int32).reshape(6, 4) % 7 + 1
    groups, vocabulary = np.arange(6) % 2, np.array(["", *"abcdefg"])
    save(file, x_train=tokens[:4], x_test=tokens[4:], y_train=groups[:4], y_test=groups[4:], vocabulary=vocabulary)
    return file.getvalue()


def _words(vocabulary: dict[str, int]) -> bytes:
    """A tokenizer of whole words."""
    return _as_json({"model": {"type": "WordLevel", "vocab": {"[UNK]": 0} | vocabulary, "unk_token": "[UNK]"}})


def _tokenizer() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        train_tokenizer(["abc abc", "abd"], Path(folder) / "made.json", vocabulary=260)
        return (Path(folder) / "made.json").read_bytes()


def _npz_headers(name: str = "x_train") -> st.SearchStrategy[bytes]:
    """Files of which one array says of itself whatever it likes, in a zip that is whole."""
    shapes = st.lists(st.integers(-2, 20) | st.integers(), max_size=4).map(tuple)
    descriptions = st.sampled_from(["<f4", "|b1", "<i8", "|O", "<U5", "|V8", "<f16", "M8[s]", "<f4,<i2", "U0"])
    headers = st.builds(
        lambda shape, descr, order, rest: repr({"descr": descr, "fortran_order": order, "shape": shape})[
            : rest or None
        ],
        *(shapes, descriptions | st.text(max_size=5), st.booleans(), st.integers(-5, 0)),
    ) | st.text(max_size=40)
    return st.builds(_npz_with, st.just(name), headers, st.integers(0, 4), st.integers(0, 1 << 33), st.booleans())


def _npz_with(name: str, header: str, version: int, length: int, honest: bool) -> bytes:
    text = header.encode("utf-8", "replace") + b"\n"
    said = len(text) if honest else length
    size = struct.pack("<H", said % (1 << 16)) if version == 1 else struct.pack("<I", said % (1 << 32))
    file = io.BytesIO(_npz(np.savez) if name == "x_train" else _outcomes(np.savez))
    whole = io.BytesIO()
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new:
        for entry in old.infolist():
            content = old.read(entry.filename)
            if entry.filename == f"{name}.npy":
                content = b"\x93NUMPY" + bytes([version, 0]) + size + text + bytes(192)
            new.writestr(entry.filename, content)
    return whole.getvalue()


def _idx() -> bytes:
    return struct.pack(">4I", 0x0803, N_TRAIN, 2, 2) + bytes(range(N_TRAIN * 4))


def _idx_headers() -> st.SearchStrategy[bytes]:
    """Any lengths of axes before few bytes, gzipped or not."""
    numbers = st.integers(0, (1 << 32) - 1) | st.integers(0, 20)
    plain = st.builds(
        lambda axes, body: struct.pack(">4I", 0x0803, *axes) + body,
        st.tuples(numbers, numbers, numbers),
        st.binary(max_size=99),
    )
    return plain | plain.map(lambda content: gzip.compress(content, compresslevel=1))


def _write_idx(folder: Path) -> None:
    labels = bytes(i % 3 for i in range(N_TRAIN))
    (folder / IMAGES).write_bytes(_idx())
    (folder / "train-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x0801, N_TRAIN) + labels)
    (folder / "t10k-images-idx3-ubyte").write_bytes(struct.pack(">4I", 0x0803, 3, 2, 2) + bytes(12))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 0x0801, 3) + bytes([0, 1, 2]))


def _settings() -> dict[str, Any]:
    return {
        "algorithm": infl.Algorithm(hidden=(4,)).to_dict(),
        "design": {"kind": "uniform", "fraction": 0.7},
        "seed": 0,
        "infl": "0.1",
    }


def _write_run(folder: Path) -> None:
    run = create_run(folder, _dataset(), _settings())
    run.add_collection(Collection("design", {"kind": "uniform"}))
    run.add_collection(Collection(WITHOUT, {"kind": "leave-out"}, forget_set=ForgetSet("mine", (1, 2))))
    width = N_TRAIN + N_HELD_OUT
    outcomes = infl.Outcomes(np.eye(3, N_TRAIN) < 1, np.eye(3, width) < 1, np.ones((3, width), np.float16))
    run.write("design", range(3), outcomes, np.array([True, False, True]), seconds=1.0, session={"date": "today"})


def _look_at(folder: Path) -> None:
    run = open_run(folder)
    json.dumps(run.to_dict())
    run.damaged_blocks()
    for collection in run.collections():
        run.outcomes(collection).load()
    run.collection(WITHOUT)


def _import(folder: Path) -> None:
    shutil.rmtree(folder / "run", ignore_errors=True)
    with warnings.catch_warnings(action="ignore"):  # of rows that no model filled
        infl.import_outcomes(folder / "theirs.npz", run=folder / "run")


def _manifest() -> bytes:
    return with_checksum(make_manifest(_dataset(), _settings()))


def _changed_manifests() -> st.SearchStrategy[bytes]:
    """Manifests whose seal fits and of which some entries, found by a path, are anything."""
    paths = st.sampled_from(
        [
            (key,)
            for key in ("format", "dataset", "algorithm", "design", "seed", "outcomes", "imported", "infl", "versions")
        ]
        + [("dataset", key) for key in ("name", "source", "n_train", "n_columns", "fingerprint")]
        + [("design", key) for key in ("kind", "fraction", "period", "groups")]
        + [("algorithm", key) for key in ("network", "epochs", "optimizer")]
    )
    return st.lists(st.tuples(paths, _json()), min_size=1, max_size=3).map(_changed)


def _changed(changes: list[tuple[tuple[str, ...], Any]]) -> bytes:
    manifest = json.loads(_manifest())
    del manifest["checksum"]
    for (*above, key), value in changes:
        place = manifest
        for part in above:
            place = place.get(part) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[key] = value
    seal = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    return json.dumps({**manifest, "checksum": seal}).encode()


def _block(changes: dict[str, Any]) -> bytes:
    """A block that is whole, and says of itself what it likes."""
    with tempfile.TemporaryDirectory() as folder:
        _write_run(Path(folder))
        old, new = zipfile.ZipFile(Path(folder) / BLOCK), io.BytesIO()
    with zipfile.ZipFile(new, "w") as archive:
        for name in old.namelist():
            content = old.read(name)
            archive.writestr(name, json.dumps(json.loads(content) | changes) if name == "about.json" else content)
    return new.getvalue()


def _abouts() -> st.SearchStrategy[dict[str, Any]]:
    numbers = st.lists(st.integers(-1, 50) | st.integers(), max_size=4)
    array = st.fixed_dictionaries({"start": st.integers(), "crc32": numbers}) | _json()
    arrays = st.dictionaries(st.sampled_from(["masks", "correct", "margin", "x"]), array)
    wanted = st.dictionaries(st.text(max_size=8), st.integers(), max_size=3) | _json()
    session = st.fixed_dictionaries(
        {}, optional={"wanted": wanted, "first": wanted, "layout": _json(), "date": _json()}
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "models": numbers | _json(),
            "diverged": numbers | _json(),
            "seconds": st.floats() | _json(),
            "session": session | _json(),
            "arrays": arrays | _json(),
            "run": _json(),
        },
    )


def _record(content: Any) -> bytes:
    """A record whose checksum fits."""
    return with_checksum(content) if isinstance(content, dict) else _as_json(content)


def _records() -> st.SearchStrategy[Any]:
    ids = st.lists(st.integers(-1, N_TRAIN) | st.integers() | st.floats(), max_size=6) | _json() | st.just([1, 2])
    forget_set = st.fixed_dictionaries({"name": st.text() | _json(), "ids": ids}, optional={"concept": ids}) | _json()
    design = st.fixed_dictionaries({"kind": st.text(max_size=8) | _json()}, optional={"period": _json()}) | _json()
    entries = {"design": design, "forget_set": forget_set, "groups": st.text(max_size=70) | _json(), "added": _json()}
    return st.fixed_dictionaries({}, optional=entries) | _json()


def _forget_files() -> st.SearchStrategy[Any]:
    ids = st.lists(st.integers(-1, N_TRAIN) | st.integers() | st.floats(), max_size=6) | _json()
    entry = ids | st.fixed_dictionaries({"ids": ids}, optional={"concept": ids, "more": ids})
    return st.dictionaries(st.text(max_size=6), entry, max_size=3)

"""Feeds the command line files and folders that are none, and writes down what it says: the list of bad inputs."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

import infl
from infl.__main__ import main

SMALL = [
    "--design",
    "uniform",
    "--epochs",
    "1",
    "--hidden",
    "4",
    "--n-models",
    "8",
    "--n-references",
    "4",
    "--tune",
    "off",
]


def messages(folder: Path) -> list[dict[str, Any]]:
    """What was given, the exit status, and what was said on stderr with the folder left out; one line where infl is right."""
    folder.mkdir(parents=True, exist_ok=True)
    sound = folder / "sound"
    with redirect_stdout(io.StringIO()):
        main(["train", "digits", "--n-train", "60", "--n-held-out", "30", *SMALL, "--run", str(sound)])
    rows = []
    for number, (given, make) in enumerate(_cases().items()):
        place = folder / str(number)
        place.mkdir()
        command = make(place, shutil.copytree(sound, place / "run"))
        said = io.StringIO()
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            status = main(command)
        rows.append({"given": given, "exit_status": status, "said": said.getvalue().replace(f"{place}/", "").strip()})
    return rows


def _cases() -> dict[str, Callable[[Path, Path], list[str]]]:
    """What is given, and what makes it in a folder beside a sound run and says the command."""
    return {
        "an .npz that is no zip": _data(lambda path: path.write_bytes(b"hello")),
        "an .npz cut off in the middle": _data(lambda path: (_npz(path), path.write_bytes(path.read_bytes()[:-300]))),
        "an .npz with Python objects": _data(lambda path: _npz(path, x_train=np.array([{}] * 20, object))),
        "an .npz whose header says 10 TB": _data(_huge),
        "an .npz without test examples": _data(lambda path: _npz(path, x_test=None, y_test=None)),
        "pixels that are not numbers": _data(lambda path: _npz(path, x_train=np.full((20, 4), np.nan, np.float32))),
        "labels that are shares": _data(lambda path: _npz(path, y_train=np.linspace(0, 1, 20))),
        "one class alone": _data(lambda path: _npz(path, y_train=np.zeros(20, int))),
        "fewer labels than examples": _data(lambda path: _npz(path, y_train=np.arange(7) % 2)),
        "an idx folder that is not there": lambda place, run: _train("idx:" + str(place / "nowhere"), place),
        "idx files with another magic number": _idx,
        "a folder of pictures with no picture": lambda place, run: _train(
            "folder:" + str(_made(place / "none")), place
        ),
        "a source that nobody knows": lambda place, run: _train("digit", place),
        "a run folder that is not there": lambda place, run: ["scores", "--run", str(place / "nowhere")],
        "a file in place of a run folder": lambda place, run: [
            "scores",
            "--run",
            str(_written(place / "file", "mine")),
        ],
        "a manifest cut off": _manifest(lambda text: text[: len(text) // 2]),
        "a manifest that was edited": _manifest(lambda text: text.replace('"epochs": 1', '"epochs": 2')),
        "a manifest of a newer format": _resealed(format=9),
        "a manifest of format 1": _resealed(format=1),
        "a line of the journal changed": _journal,
        "a flipped bit in a chunk of outcomes": _chunk,
        "zarr.json says an array of terabytes": _zarr,
        "a link that leads out of the run": _link,
        "a pipe in the run folder": _pipe,
        "a forget file that is no JSON": _forget("{"),
        "a forget file with a set twice": _forget('{"a": [1], "a": [2]}'),
        "an id outside D": _forget('{"a": [60]}'),
        "an id twice": _forget('{"a": [4, 5, 4]}'),
        "an empty set": _forget('{"a": []}'),
        "all of D to forget": _forget(json.dumps({"a": list(range(60))})),
        "a set with a word for an id": _forget('{"a": ["3"]}'),
        "masks and outcomes of other lengths to import": _import,
        "shards of two different runs": _merge,
        "a network whose module cannot be imported": lambda place, run: [
            *_train("digits", place),
            *("--network", "nosuch.module:net"),
        ],
        "a share above 1": lambda place, run: [*_train("digits", place), "--fraction", "1.2"],
        "a Ray cluster that does not answer": lambda place, run: [
            *_train("digits", place),
            *("--engine", "ray", "--ray.address", "127.0.0.1:9"),
        ],
    }


def _train(source: str, place: Path) -> list[str]:
    return ["train", source, "--run", str(place / "new")]


def _data(write: Callable[[Path], Any]) -> Callable[[Path, Path], list[str]]:
    def make(place: Path, run: Path) -> list[str]:
        write(place / "mine.npz")
        return _train(str(place / "mine.npz"), place)

    return make


def _npz(path: Path, **changes: Any) -> None:
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "x_train": random.random((20, 4)).astype(np.float32),
        "y_train": np.arange(20) % 2,
        "x_test": random.random((10, 4)).astype(np.float32),
        "y_test": np.arange(10) % 2,
    }
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})


def _huge(path: Path) -> None:
    import zipfile

    _npz(path, x_train=None)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (2_500_000_000, 1000)}
    )
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x_train.npy", header.getvalue())


def _idx(place: Path, run: Path) -> list[str]:
    folder = _made(place / "idx")
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x0D03, 2, 2, 2) + bytes(8))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x0801, 2) + bytes(2))
    return _train(f"idx:{folder}", place)


def _manifest(change: Callable[[str], str]) -> Callable[[Path, Path], list[str]]:
    def make(place: Path, run: Path) -> list[str]:
        (run / "run.json").write_text(change((run / "run.json").read_text()))
        return ["scores", "--run", str(run)]

    return make


def _resealed(**changes: Any) -> Callable[[Path, Path], list[str]]:
    """A manifest whose checksum fits."""

    def make(place: Path, run: Path) -> list[str]:
        from infl.store.manifest import sealed

        content = json.loads((run / "run.json").read_text())
        del content["checksum"]
        (run / "run.json").write_bytes(sealed(content | changes))
        return ["scores", "--run", str(run)]

    return make


def _journal(place: Path, run: Path) -> list[str]:
    path = run / "journal.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"design"', b'"dosign"', 1))
    return ["scores", "--run", str(run)]


def _chunk(place: Path, run: Path) -> list[str]:
    path = run / "models" / "design" / "correct" / "c" / "0" / "0"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return ["scores", "--run", str(run)]


def _zarr(place: Path, run: Path) -> list[str]:
    path = run / "models" / "design" / "correct" / "zarr.json"
    content = json.loads(path.read_text())
    content["chunk_grid"]["configuration"]["chunk_shape"] = [10**7, 10**6]
    path.write_text(json.dumps(content))
    return ["scores", "--run", str(run)]


def _link(place: Path, run: Path) -> list[str]:
    shutil.move(run / "models" / "design", place / "elsewhere")
    (run / "models" / "design").symlink_to(place / "elsewhere")
    return ["scores", "--run", str(run)]


def _pipe(place: Path, run: Path) -> list[str]:
    (run / "data.npz").unlink()
    os.mkfifo(run / "data.npz")
    return ["scores", "--run", str(run)]


def _forget(content: str) -> Callable[[Path, Path], list[str]]:
    def make(place: Path, run: Path) -> list[str]:
        return ["verify", "--run", str(run), "--forget", str(_written(place / "forget.json", content))]

    return make


def _import(place: Path, run: Path) -> list[str]:
    masks, correct, labels = np.ones((5, 4), bool), np.ones((6, 4), bool), np.arange(4) % 2
    np.savez(place / "theirs.npz", masks=masks, correct=correct, labels=labels)
    return ["import", str(place / "theirs.npz"), "--run", str(place / "new")]


def _merge(place: Path, run: Path) -> list[str]:
    infl.train(
        infl.load("digits", n_train=60, n_held_out=30),
        run=place / "other",
        n_models=8,
        n_references=4,
        design=infl.Design("uniform"),
        algorithm=infl.Algorithm(hidden=(4,), epochs=2),
        quiet=True,
    )
    return ["merge", str(place / "both"), str(run), str(place / "other")]


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _written(path: Path, content: str) -> Path:
    path.write_text(content)
    return path

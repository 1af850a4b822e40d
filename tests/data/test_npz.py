"""A `.npz` file comes in as it was saved, or is refused with one line that says what is wrong with it.

It is the door for people's own data, so most mistakes are made here, and none of them may end in a traceback or in a
dataset that is not what was saved. Pickled objects must never be read: that would run code out of a stranger's file.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infl.data import load
from infl.records import InputError
from infl.records import files as archive_reader
from tests.streaming import peak_bytes


def arrays(**changes: Any) -> dict[str, Any]:
    random = np.random.RandomState(1)
    good = {
        "x_train": random.rand(12, 3, 3).astype(np.float32),
        "y_train": np.arange(12) % 3,
        "x_test": random.rand(6, 3, 3).astype(np.float32),
        "y_test": np.arange(6) % 3,
    }
    return good | changes


@pytest.mark.parametrize(("save", "order"), [(np.savez, "C"), (np.savez_compressed, "F")])
def test_a_file_comes_in_as_it_was_saved(tmp_path: Path, save: Any, order: Any) -> None:
    """Also where columns come one by one."""
    pixels = np.asarray(arrays()["x_train"], order=order)
    save(tmp_path / "toy.npz", **arrays(x_train=pixels, class_names=np.array(["a", "b", "c"]), ignored=np.ones(3)))
    dataset = load(str(tmp_path / "toy.npz"))
    np.testing.assert_array_equal(dataset.x_train, arrays()["x_train"])
    np.testing.assert_array_equal(dataset.y_train, arrays()["y_train"])
    np.testing.assert_array_equal(dataset.x_held_out, arrays()["x_test"])
    np.testing.assert_array_equal(dataset.y_held_out, arrays()["y_test"])
    assert (dataset.name, dataset.class_names) == ("toy", ("a", "b", "c"))
    np.savez(tmp_path / "toy.npz", **arrays())
    assert load(str(tmp_path / "toy.npz")).class_names == ("0", "1", "2")


def saved(path: Path, **changes: Any) -> None:
    np.savez(path, **{name: array for name, array in arrays(**changes).items() if array is not None})


def member(name: str, content: bytes, **changes: Any) -> Callable[[Path], None]:
    """Writes a file in which this array has this content instead of its own."""

    def write(path: Path) -> None:
        saved(path, **{name: None, **changes})
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{name}.npy", content)

    return write


def flipped(path: Path) -> None:
    """One bit of one pixel changed."""
    saved(path)
    whole = bytearray(path.read_bytes())
    whole[whole.index(arrays()["x_test"].tobytes()) + 20] ^= 1
    path.write_bytes(whole)


def npy_header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"shape": shape, "fortran_order": False, "descr": "<i8"})
    return file.getvalue()


def one_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.ones(3))


OBJECTS = np.array([0, None] * 6, object)
LONG = b"\x93NUMPY\x02\x00" + (2**32 - 1).to_bytes(4, "little") + bytes(100_000_000)
BAD: dict[str, tuple[Any, str]] = {
    "missing file": (lambda path: None, "expected an .npz file, found nothing"),
    "empty file": (lambda path: path.touch(), "of another kind or cut off"),
    "one bit flipped": (flipped, "x_test is damaged"),
    "one array": (one_array, "expected several named arrays, found a single one"),
    "header of 10**15 numbers and no number": (member("y_test", npy_header((10**15,))), "damaged: its header says"),
    "header that says that it is 4 GB long": (
        member("y_test", LONG),
        r"damaged .its header says .* 4,294,967,295 bytes",
    ),
    "text inside": (member("y_test", b"0 1 2 0 1 2"), "y_test is damaged"),
    "lacks arrays": (
        lambda path: saved(path, y_test=None, x_test=None, images=np.ones(2)),
        "missing x_test, y_test, found 'images', 'x_train', 'y_train'; write it with np.savez",
    ),
    "objects": (lambda path: saved(path, x_train=OBJECTS), "x_train holds Python objects"),
    "bytes as names": (lambda path: saved(path, class_names=np.array([b"a", b"b", b"c"])), "class_names: .* got .S1"),
    "bad test labels": (lambda path: saved(path, y_test=np.arange(6)), "y_held_out: .* y_test are read as"),
}


@pytest.mark.parametrize(("write", "message"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_refused_in_one_line_and_little_memory(tmp_path: Path, write: Any, message: str) -> None:
    path = tmp_path / "bad.npz"
    write(path)

    def refused() -> None:
        with pytest.raises(InputError, match=message) as refusal:
            load(str(path))
        assert str(path) in str(refusal.value)
        assert "\n" not in str(refusal.value)

    assert peak_bytes(refused) < 20e6


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.npz"
    np.savez_compressed(path, **arrays())
    whole = path.read_bytes()
    for length in range(1, len(whole), len(whole) // 20):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="of another kind or cut off"):
            load(str(path))


class Bomb:
    """Leaves a mark when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def test_no_pickle_is_ever_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "bomb.npz", **arrays(x_train=np.array([Bomb(tmp_path / "mark")] * 12, object)))
    with pytest.raises(InputError, match="x_train holds Python objects"):
        load(str(tmp_path / "bomb.npz"))
    assert not (tmp_path / "mark").exists()


def test_an_array_larger_than_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "large.npz", **arrays(x_train=np.zeros((12, 1000, 1000), np.uint8)))
    monkeypatch.setattr(archive_reader, "max_array_bytes", lambda: 1_000_000)
    with pytest.raises(InputError, match=r"x_train uint8 \(12, 1000, 1000\) takes .* more than half of this machine's"):
        load(str(tmp_path / "large.npz"))

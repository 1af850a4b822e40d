"""Idx files built here byte by byte, after the format's description, come in exactly; damaged ones are refused.

The files are written with `struct` and not by infl, so that reader and writer cannot share a mistake. Plain idx files
carry no checksum: their header, against the number of bytes, is all that tells a damaged one, and it must never be
believed before the bytes are there, or a flipped bit would ask for gigabytes.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from infl.data import idx, load
from infl.records import InputError
from tests.streaming import peak_bytes

CLOTHES = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
N, M, HEIGHT, WIDTH = 20, 10, 3, 2
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
Encode = Callable[[bytes], bytes]


def pixel(k: int, row: int, column: int) -> int:
    return (50 * k + 10 * row + column) % 256


def image_bytes(n: int) -> bytes:
    entries = [pixel(k, row, column) for k in range(n) for row in range(HEIGHT) for column in range(WIDTH)]
    return struct.pack(">BBBBIII", 0, 0, 8, 3, n, HEIGHT, WIDTH) + bytes(entries)


def label_bytes(n: int) -> bytes:
    return struct.pack(">BBBBI", 0, 0, 8, 1, n) + bytes(k % 10 for k in range(n))


def write(folder: Path, encode: Encode = gzip.compress, suffix: str = ".gz") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for part, n in (("train", N), ("t10k", M)):
        (folder / f"{part}-images-idx3-ubyte{suffix}").write_bytes(encode(image_bytes(n)))
        (folder / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(encode(label_bytes(n)))
    return folder


@pytest.mark.parametrize(
    ("encode", "suffix"),
    [(gzip.compress, ".gz"), (bytes, ""), (bytes, ".gz")],
    ids=["gzipped", "plain", "unpacked by the browser"],
)
def test_every_byte_arrives_where_the_format_puts_it(tmp_path: Path, encode: Encode, suffix: str) -> None:
    dataset = load(f"idx:{write(tmp_path / 'mnist', encode, suffix)}")
    assert dataset.x_train.dtype == dataset.x_held_out.dtype == np.uint8
    assert dataset.x_train.shape == (N, HEIGHT, WIDTH)
    assert dataset.x_held_out.shape == (M, HEIGHT, WIDTH)
    for index in np.ndindex(N, HEIGHT, WIDTH):
        assert dataset.x_train[index] == pixel(*index)
    assert dataset.y_train.tolist() == [k % 10 for k in range(N)]
    assert dataset.y_held_out.tolist() == [k % 10 for k in range(M)]
    assert dataset.train_ids.tolist() == list(range(N))
    assert (dataset.name, dataset.class_names) == ("mnist", tuple("0123456789"))


NAMES = {
    "dots, as of Kaggle": ["{}-images.idx3-ubyte", "{}-labels.idx1-ubyte"],
    "dots, zipped": ["{}-images.idx3-ubyte.gz", "{}-labels.idx1-ubyte.gz"],
    "EMNIST": ["emnist-letters-{}-images-idx3-ubyte.gz", "emnist-letters-{}-labels-idx1-ubyte.gz"],
    "underscores": ["{}_images_idx3_ubyte", "{}_labels_idx1_ubyte"],
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("held_out", ["t10k", "test"])
def test_the_names_of_relatives_and_of_mirrors_are_read(tmp_path: Path, kind: str, held_out: str) -> None:
    for part, n in (("train", N), (held_out, M)):
        for name, content in zip(NAMES[kind], (image_bytes(n), label_bytes(n)), strict=True):
            (tmp_path / name.format(part)).write_bytes(content)
    assert load(f"idx:{tmp_path}").fingerprint() == load(f"idx:{write(tmp_path / 'usual')}").fingerprint()


def test_one_of_several_sets_is_named_and_labels_may_begin_at_1(tmp_path: Path) -> None:
    for name in ("emnist-letters", "emnist-digits"):
        for part, n in (("train", N), ("test", M)):
            images = image_bytes(n) if name == "emnist-letters" else header(n, 1, 1) + bytes(n)
            (tmp_path / f"{name}-{part}-images-idx3-ubyte").write_bytes(images)
            (tmp_path / f"{name}-{part}-labels-idx1-ubyte").write_bytes(header(n) + bytes(k % 4 + 1 for k in range(n)))
    with pytest.raises(
        InputError, match=f"of emnist-digits, emnist-letters; name one set, as in idx:{tmp_path}/emnist-digits"
    ):
        load(f"idx:{tmp_path}")
    letters = load(f"idx:{tmp_path}/emnist-letters")
    assert (letters.name, letters.class_names, letters.x_train.shape) == (
        "emnist-letters",
        tuple("1234"),
        (N, HEIGHT, WIDTH),
    )
    assert letters.y_train.tolist() == [k % 4 for k in range(N)]
    assert load(letters.source).fingerprint() == letters.fingerprint()
    with pytest.raises(InputError, match="emnist-mnist: expected a folder that holds .* there is none; check"):
        load(f"idx:{tmp_path}/emnist-mnist")


def test_only_fashion_mnist_is_named_as_clothes(tmp_path: Path) -> None:
    for folder in ("fashion-mnist", "my-Fashion-MNIST-copy", "FashionMNIST/raw"):
        assert load(f"idx:{write(tmp_path / folder)}").class_names == tuple(CLOTHES)
    folder = "fashion-mnist-experiments/data/mnist"
    assert load(f"idx:{write(tmp_path / folder)}").class_names == tuple("0123456789")


def header(*shape: int, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, kind, len(shape), *shape)


GOOD = image_bytes(N)
ZIPPED = gzip.compress(GOOD)
BAD: dict[str, tuple[str, bytes, str]] = {
    "empty": (IMAGES, b"", "starts with the bytes 00 00 08 03, got an empty file"),
    "labels for images": (IMAGES, label_bytes(N), "3 axes.* 00 00 08 03, got 00 00 08 01"),
    "little-endian": (IMAGES, GOOD[3::-1] + GOOD[4:], "got 03 08 00 00"),
    "cut in the header": (IMAGES, GOOD[:9], "ends within its header, after 9 bytes"),
    "cut in the entries": (IMAGES, GOOD[:-1], "promises 20 x 3 x 2 = 120 bytes, the file holds only 119"),
    "no entries": (IMAGES, header(0, 2**32 - 1, 2**32 - 1), "expected at least one entry, got 0 x"),
    "gzip cut": (IMAGES, ZIPPED[:-10], "cannot be read .*; copy it again"),
    "gzip checksum wrong": (IMAGES, ZIPPED[:-8] + b"\0\0\0\0" + ZIPPED[-4:], "cannot be read .*CRC"),
    "fewer labels": (LABELS, label_bytes(N - 1), "y_train: expected 20 labels, as many as x_train, got shape .19,."),
    "held-out of another size": (f"t10k{IMAGES[5:]}", header(M, 2, 2) + bytes(40), "same shape per example"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=BAD.keys())
def test_bad_files_are_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write(tmp_path)
    (tmp_path / f"{name}.gz").write_bytes(content)
    with pytest.raises(InputError, match=message) as refusal:
        load(f"idx:{tmp_path}")
    assert str(tmp_path) in str(refusal.value)
    assert "\n" not in str(refusal.value)


LIES = {
    "any size": (header(*(2**32 - 1,) * 3) + bytes(100), "the file holds only 100"),
    "600 MB": (gzip.compress(header(60_000, 100, 100) + bytes(100)), "the file holds only 100"),
    "less than there is": (gzip.compress(GOOD + bytes(100_000_000), compresslevel=1), "the file holds more"),
}


@pytest.mark.parametrize(("content", "message"), LIES.values(), ids=LIES)
def test_a_header_is_not_believed_before_the_bytes_are_there(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path)
    (tmp_path / f"{IMAGES}.gz").write_bytes(content)

    def refused() -> None:
        with pytest.raises(InputError, match=message):
            load(f"idx:{tmp_path}")

    assert peak_bytes(refused) < 20e6


def test_a_file_that_unpacks_to_more_than_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gzip of a few bytes may hold a thousand times as many, and a header that fits them."""
    write(tmp_path)
    (tmp_path / f"{IMAGES}.gz").write_bytes(gzip.compress(header(1000, 100, 100) + bytes(10_000_000)))
    monkeypatch.setattr(idx, "max_array_bytes", lambda: 1_000_000)
    with pytest.raises(InputError, match="10,000,000 bytes are more than half of this machine's memory"):
        load(f"idx:{tmp_path}")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / f"{IMAGES}.gz").rename(tmp_path / "images.gz")
    with pytest.raises(InputError, match=f"missing {IMAGES}, found 'images.gz', 't10k-images"):
        load(f"idx:{tmp_path}")
    with pytest.raises(InputError, match=f"{tmp_path}/nowhere: expected a folder that holds {IMAGES}"):
        load(f"idx:{tmp_path}/nowhere")

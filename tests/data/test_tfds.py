"""What tensorflow-datasets wrote is what infl reads: every pixel, label and name, in the order of the source.

The files are written and read for real, without TensorFlow: for the stock data sets, which only TensorFlow can write, stands a
builder with the same features whose images come as PNG files. TFDS shuffles what it writes, so positions in its files say
nothing of the source: ids must.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from infl.data import load
from infl.records import InputError

N, M = 40, 10


def picture(k: int, shape: tuple[int, ...] = (5, 4, 3)) -> np.ndarray:
    return np.random.RandomState(k).randint(0, 256, shape).astype(np.uint8)


def png(pixels: np.ndarray) -> io.BytesIO:
    file = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(file, "PNG")
    file.seek(0)
    return file


class Stock(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Like CIFAR-10: shuffled as it is written, ids such as train_00017, images stored as PNG, a second label."""

    VERSION = tfds.core.Version("1.2.0")
    numbered = True
    held_out_split = "test"
    features: dict[str, Any] = {}

    def _info(self) -> Any:
        features = {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(5, 4, 3)),
            "coarse_label": tfds.features.ClassLabel(names=["all"]),
            "label": tfds.features.ClassLabel(names=["frog", "ship"]),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict({**features, **self.features}))

    def _split_generators(self, dl_manager: Any) -> Any:
        return {"train": self._generate_examples(0, N), self.held_out_split: self._generate_examples(N, M)}

    def _generate_examples(self, first: int, n: int) -> Any:
        part = "train" if first == 0 else "test"
        for k in range(n):
            made = {"image": png(self.pixels(first + k)), "coarse_label": 0, "label": self.label(k)}
            yield f"{part}{k}", {"id": f"{part}_{k:05d}" if self.numbered else "none", **made}

    def pixels(self, k: int) -> np.ndarray:
        return picture(k)

    def label(self, k: int) -> Any:
        return k % 2


def prepare(folder: Path, *, file_format: str = "array_record", **changes: Any) -> Path:
    """Write a variant of `Stock`; returns where."""
    made = type("Stock", (Stock,), changes, skip_registration=True)(data_dir=folder, file_format=file_format)
    made.download_and_prepare()
    return Path(made.data_dir)


def stored(data_dir: Path, split: str) -> Any:
    """The examples as TFDS itself reads them, in the order of its files."""
    builder: Any = tfds.builder_from_directory(data_dir / "stock" / "1.2.0")
    return builder.as_data_source(split)


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path / "tfds"


def test_stock_images_come_in_the_order_of_their_numbers(data_dir: Path, capfd: pytest.CaptureFixture[str]) -> None:
    prepare(data_dir)
    files = [one["id"] for one in stored(data_dir, "train")]
    assert files != sorted(files), "TFDS shuffles: otherwise this test shows nothing"
    capfd.readouterr()
    dataset = load("tfds:stock")
    assert capfd.readouterr() == ("", "")
    assert "tensorflow" not in sys.modules
    np.testing.assert_array_equal(dataset.x_train, [picture(k) for k in range(N)])
    np.testing.assert_array_equal(dataset.x_held_out, [picture(N + k) for k in range(M)])
    assert dataset.y_train.tolist() == [k % 2 for k in range(N)]
    assert (dataset.train_ids.tolist(), dataset.held_out_ids.tolist()) == (list(range(N)), list(range(M)))
    assert (dataset.name, dataset.class_names) == ("stock", ("frog", "ship"))
    assert load("tfds:stock:1.2.0").source == load("tfds:stock:train").source == dataset.source


def test_without_numbers_examples_keep_the_order_of_the_files(data_dir: Path) -> None:
    prepare(data_dir, numbered=False, held_out_split="validation")
    files = stored(data_dir, "train")
    dataset = load("tfds:stock")
    assert dataset.source == "tfds:stock:1.2.0:train:validation"
    np.testing.assert_array_equal(dataset.x_train, [one["image"] for one in files])
    assert dataset.train_ids.tolist() == list(range(N))
    assert sorted(pixels.tobytes() for pixels in dataset.x_train) == sorted(picture(k).tobytes() for k in range(N))


def test_splits_are_tfds_s_own(data_dir: Path) -> None:
    prepare(data_dir)
    whole = load("tfds:stock")
    slices = load("tfds:stock:train[:75%]:train[75%:]+test")
    assert (slices.n_train, slices.n_held_out) == (30, 20)
    of_files = [int(one["id"][-5:]) for one in stored(data_dir, "train[:75%]")]
    assert slices.train_ids.tolist() == sorted(of_files)
    np.testing.assert_array_equal(slices.x_train, whole.x_train[slices.train_ids])
    assert load(slices.source).fingerprint() == slices.fingerprint()
    # train and test number their examples alike, so over both of them a number names no example.
    assert slices.held_out_ids.tolist() == sorted(slices.held_out_ids.tolist())
    both = load("tfds:stock:train+test[:5]:test[5:]")
    assert (both.n_train, both.n_held_out, both.train_ids.tolist()) == (45, 5, list(range(45)))


def sizes(self: Any, k: int) -> np.ndarray:
    return picture(k, (5, 4 if k < 7 else 6, 3))


def truncated(place: Path) -> None:
    path = next(place.glob("*train*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_format(place: Path) -> None:
    description = json.loads((place / "dataset_info.json").read_text())
    (place / "dataset_info.json").write_text(json.dumps(description | {"fileFormat": "tfrecord"}))


SIZES = {"features": {"image": tfds.features.Image(shape=(None, None, 3))}, "pixels": sizes}
BAD: dict[str, tuple[dict[str, Any], Callable[[Path], Any] | None, str, str]] = {
    "sizes": (SIZES, None, "", r"images of one size, got \(5, [46], 3\) first and \(5, [46], 3\) at position"),
    "no label": ({"features": {"label": tfds.features.Text()}, "label": lambda self, k: "a"}, None, "", "one integer"),
    "no held-out": ({"held_out_split": "more"}, None, "", r"split test or validation, found train, more; say what"),
    "tfrecord": (
        {},
        other_format,
        "",
        "lies in .* as tfrecord, .* tfds build stock --file_format=array_record --data_",
    ),
    "truncated": ({}, truncated, "", "train in .*stock/1.2.0 cannot be read .*; if files are damaged, delete"),
    "no description": (
        {},
        lambda place: (place / "dataset_info.json").write_text("{"),
        "",
        "tfds:stock cannot be opened",
    ),
    "overlap": ({}, None, ":train[:30]:train[20:]", "10 examples would be there twice"),
    "unknown split": ({}, None, ":train:dev", "no split 'dev': there are train, test, slices as"),
    "unknown version": ({}, None, ":9.9.9", "version 9.9.9 is not among what is prepared of it: .*/tfds/stock/1.2.0$"),
}


@pytest.mark.parametrize(("changes", "damage", "splits", "message"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_read_is_said_in_one_line(
    data_dir: Path, changes: dict[str, Any], damage: Callable[[Path], Any] | None, splits: str, message: str
) -> None:
    place = prepare(data_dir, **changes)
    if damage:
        damage(place)
    with pytest.raises(InputError, match=message) as refusal:
        load(f"tfds:stock{splits}")
    assert "tfds:stock" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_is_not_there_is_said_with_what_to_run(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            load(source)

    refused("tfds:../../etc", "expected tfds:NAME")
    refused("tfds:mnits", "knows no data set of this name, .*; did you mean tfds:mnist")
    refused("tfds:mnist", "not prepared in .* pip install tensorflow .* && tfds build mnist --file_format=array_record")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    refused("tfds:mnist", r"takes an extra of infl .*pip install 'infl\[tfds\]'")

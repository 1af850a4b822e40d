"""What `datasets` saved to disk comes in row for row, and nothing is written beside it or fetched.

Images are saved as PNG inside the tables, so every pixel can be asked for; arrays keep their type, since uint8 counts as
divided by 255 and other numbers do not.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image

from infl.data import load
from infl.records import InputError

N = 20
PIXELS = np.random.RandomState(0).randint(0, 256, (N, 5, 4, 3)).astype(np.uint8)
LABELS = np.arange(N) * 7 % 20 % 2
NAMES = datasets.ClassLabel(names=["frog", "ship"])
IMAGES = [Image.fromarray(pixels) for pixels in PIXELS]


@pytest.fixture(autouse=True)
def no_bars() -> Any:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def table(features: dict[str, Any], **columns: Any) -> datasets.Dataset:
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


def images(**changes: Any) -> datasets.Dataset:
    features = {"image": datasets.Image(), "label": NAMES}
    return table(features, **{"image": IMAGES, "label": LABELS.tolist(), **changes})


def split(whole: datasets.Dataset, name: str = "test") -> datasets.DatasetDict:
    return datasets.DatasetDict({"train": whole.select(range(14)), name: whole.select(range(14, N))})


def test_images_come_in_row_for_row(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    split(images()).save_to_disk(tmp_path / "pets")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "pets").rglob("*")}
    dataset = load(f"hf:{tmp_path / 'pets'}")
    np.testing.assert_array_equal(dataset.x_train, PIXELS[:14])
    np.testing.assert_array_equal(dataset.x_held_out, PIXELS[14:])
    np.testing.assert_array_equal(dataset.labels, LABELS)
    assert (dataset.train_ids.tolist(), dataset.held_out_ids.tolist()) == (list(range(14)), list(range(6)))
    assert (dataset.name, dataset.class_names) == ("pets", ("frog", "ship"))
    assert load(dataset.source).fingerprint() == dataset.fingerprint()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pets").rglob("*")} == before
    assert capfd.readouterr() == ("", "")


def test_a_single_collection_is_split_by_a_fraction(tmp_path: Path) -> None:
    images().save_to_disk(tmp_path / "one")
    dataset = load(f"hf:{tmp_path / 'one'}:0.2")
    assert np.bincount(dataset.y_held_out).tolist() == [2, 2]
    assert sorted([*dataset.train_ids, *dataset.held_out_ids]) == list(range(N))
    np.testing.assert_array_equal(dataset.x_train, PIXELS[dataset.train_ids])
    np.testing.assert_array_equal(dataset.x_held_out, PIXELS[dataset.held_out_ids])
    assert load(dataset.source).fingerprint() == dataset.fingerprint()
    assert load(f"hf:{tmp_path / 'one'}:0.2:3x2").x_train.shape == (16, 3, 2, 3)


GREY = PIXELS[..., 0]
ARRAYS = {
    "Array3D": (datasets.Array3D((5, 4, 3), "float32"), PIXELS / np.float32(255)),
    "lists": (datasets.List(datasets.List(datasets.Value("uint8"))), GREY),
    "features": (datasets.List(datasets.Value("float32")), GREY.reshape(N, -1) / np.float32(7)),
}


@pytest.mark.parametrize(("feature", "array"), ARRAYS.values(), ids=ARRAYS.keys())
def test_arrays_keep_numbers_and_type(tmp_path: Path, feature: Any, array: np.ndarray) -> None:
    split(table({"x": feature, "y": datasets.Value("int8")}, x=array.tolist(), y=LABELS.tolist())).save_to_disk(
        tmp_path
    )
    dataset = load(f"hf:{tmp_path}")
    assert dataset.x_train.dtype == (np.uint8 if array.dtype == np.uint8 else np.float32)
    np.testing.assert_array_equal(dataset.images, array)
    assert dataset.class_names == ("0", "1")


def test_texts_are_classes_in_sorted_order(tmp_path: Path) -> None:
    words = ["zebra" if label else "ape" for label in LABELS]
    features = {"image": datasets.Image(), "label": datasets.Value("string")}
    split(table(features, image=IMAGES, label=words), "validation").save_to_disk(tmp_path / "good")
    dataset = load(f"hf:{tmp_path / 'good'}")
    assert (dataset.class_names, dataset.labels.tolist()) == (("ape", "zebra"), LABELS.tolist())
    split(table(features, image=IMAGES, label=[*words[:-1], "yak"])).save_to_disk(tmp_path / "bad")
    with pytest.raises(InputError, match="no labels besides those to train on, got 'yak'"):
        load(f"hf:{tmp_path / 'bad'}")


def test_the_column_is_found_by_its_name_or_as_the_only_one(tmp_path: Path) -> None:
    """As CIFAR-100 has them: img, fine_label, coarse_label."""
    features = {"id": datasets.Value("string"), "img": datasets.Image(), "coarse_label": NAMES, "fine_label": NAMES}
    columns = {"id": ["a"] * N, "img": IMAGES, "coarse_label": (1 - LABELS).tolist(), "fine_label": LABELS.tolist()}
    whole = table(features, **columns)
    split(whole).save_to_disk(tmp_path / "named")
    assert load(f"hf:{tmp_path / 'named'}").labels.tolist() == LABELS.tolist()
    only = whole.rename_column("img", "photo").remove_columns("fine_label")
    split(only).save_to_disk(tmp_path / "only")
    assert load(f"hf:{tmp_path / 'only'}").labels.tolist() == (1 - LABELS).tolist()
    split(whole.rename_column("fine_label", "kind")).save_to_disk(tmp_path / "two")
    with pytest.raises(InputError, match=r"a column of labels, got id \(Value\), img .*; rename it with rename_column"):
        load(f"hf:{tmp_path / 'two'}")


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(message: str, source: str) -> None:
        with pytest.raises(InputError, match=message) as refusal:
            load(source)
        assert "\n" not in str(refusal.value)

    def saved(name: str, data: datasets.Dataset | datasets.DatasetDict) -> str:
        data.save_to_disk(tmp_path / name)
        return f"hf:{tmp_path / name}"

    refused("expected a folder written by save_to_disk .* not found", f"hf:{tmp_path}/nowhere")
    refused("or one collection and a fraction to hold out, as in hf:.*:0.2; got one collection", saved("one", images()))
    both = saved("both", split(images()))
    refused("leave the fraction to hold out away", f"{both}:0.2")
    refused("expected the splits train and test .* got train, more", saved("more", split(images(), "more")))
    one = table({"x": datasets.Value("string"), "label": NAMES}, x=["a"] * N, label=LABELS.tolist())
    refused(r"a column of images or arrays, got x \(Value\), label \(ClassLabel\); rename", saved("text", split(one)))
    sizes = [*IMAGES[:-1], Image.new("RGB", (6, 5))]
    refused("row 5: .*one size, got 5 x 6", saved("sizes", split(images(image=sizes))))
    broken = [{"bytes": b"no picture", "path": None}, *IMAGES[1:]]
    refused("row 0: expected a picture", saved("broken", split(images(image=broken))))
    refused("a text for every row", saved("unlabelled", split(images(label=[None, *LABELS[1:].tolist()]))))
    ragged = {"x": datasets.List(datasets.Value("float32")), "label": NAMES}
    rows = [[0.0] * (3 if k else 2) for k in range(N)]
    refused("arrays of one shape", saved("ragged", split(table(ragged, x=rows, label=LABELS.tolist()))))
    vectors = table(ragged, x=[[0.0, 1.0]] * N, label=LABELS.tolist())
    refused("leave the size away", f"{saved('vectors', split(vectors))}:3x3")
    next((tmp_path / "both" / "train").glob("*.arrow")).write_bytes(b"damaged")
    refused("cannot be opened", both)
    monkeypatch.setitem(sys.modules, "datasets", None)
    refused(r"takes an extra of infl .*pip install 'infl\[huggingface\]'", both)


def texts(**columns: Any) -> datasets.Dataset:
    return datasets.Dataset.from_dict({"text": [f"text {k}" for k in range(N)], **columns})


def test_texts_are_documents_with_their_groups_and_prompts(tmp_path: Path) -> None:
    whole = texts(group=[str(k % 3) for k in range(N)], prompt=["Say: "] * N, label=[k % 2 for k in range(N)])
    split(whole.cast_column("label", NAMES)).save_to_disk(tmp_path / "letters")
    dataset = load(f"hf:{tmp_path}/letters:context=12")
    assert (dataset.name, dataset.class_names, dataset.x_train.shape) == ("letters", ("0", "1", "2"), (14, 12))
    assert [dataset.text(k) for k in range(N)] == [f"Say: text {k}" for k in range(N)]
    assert (dataset.labels.tolist(), dataset.held_out_ids.tolist()) == ([k % 3 for k in range(N)], list(range(6)))
    assert load(dataset.source).fingerprint() == dataset.fingerprint()
    other = load(f"hf:{tmp_path}/letters:text=prompt:group=label")
    assert (other.text(3), other.class_names) == ("Say: Say: ", ("frog", "ship"))


@pytest.mark.parametrize(
    ("options", "columns", "said"),
    [
        (":0.5:text=body", {}, "expected a column 'body' as text, got text"),
        (":0.5:group=author", {}, "expected a column 'author' as group, got text"),
        (
            ":0.5",
            {"group": ["a"] * (N - 1) + [None]},
            "column group: expected a value in every row, got none in row 19",
        ),
        (":0.5:text=k", {"k": list(range(N))}, "column k: expected texts, got Value"),
        (":0.5:32x32", {}, "a size scales pictures"),
    ],
)
def test_texts_that_are_no_documents_are_named(
    options: str, columns: dict[str, Any], said: str, tmp_path: Path
) -> None:
    texts(**columns).save_to_disk(tmp_path / "letters")
    with pytest.raises(InputError, match=said):
        load(f"hf:{tmp_path}/letters{options}")

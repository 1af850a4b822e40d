"""Whatever passes `from_arrays` is a dataset, and a subset of it is still the same examples.

Later stages check nothing again: a gap in the labels, a NaN or a swapped shape that got through here would come out
hours later as a score. Subsets keep ids, since a forget set names examples by where they came from; and they must not
differ between machines or NumPy versions, since a run is continued by drawing its subset again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infl.data import from_arrays, subset
from infl.records import Dataset, InputError

N, M, CLASSES = 60, 30, 3


def arrays(**changes: Any) -> dict[str, Any]:
    """Arguments that `from_arrays` accepts, with some of them changed."""
    random = np.random.RandomState(7)
    good = {
        "x_train": random.randint(0, 256, (N, 4, 5)).astype(np.uint8),
        "y_train": np.arange(N) % CLASSES,
        "x_held_out": random.randint(0, 256, (M, 4, 5)).astype(np.uint8),
        "y_held_out": np.arange(M) % CLASSES,
    }
    return good | changes


def dataset(**changes: Any) -> Dataset:
    return from_arrays(**arrays(**changes))


def test_good_arrays_come_out_as_they_went_in() -> None:
    given = arrays()
    made = from_arrays(**given, name="toy", class_names=["a", "b", "c"], source="somewhere")
    for field in given:
        np.testing.assert_array_equal(getattr(made, field), given[field])
    assert made.y_train.dtype == made.y_held_out.dtype == np.int32
    assert made.train_ids.tolist() == list(range(N))
    assert made.held_out_ids.tolist() == list(range(M))
    assert (made.name, made.class_names, made.source) == ("toy", ("a", "b", "c"), "somewhere")


def test_pixels_stay_uint8_or_become_float32_and_labels_int32_of_the_same_value() -> None:
    for given in ("u1", "i1", "i8", "u2", "?", "f2", "f8", ">f4"):
        pixels = (np.arange(N * 4).reshape(N, 4) % 2).astype(given)
        made = dataset(x_train=pixels, x_held_out=pixels[:M])
        assert made.x_train.dtype == made.x_held_out.dtype == (np.uint8 if given == "u1" else np.float32)
        np.testing.assert_array_equal(made.x_train, pixels)
    for given in ("u1", "i2", "u8", ">i4"):
        made = dataset(y_train=arrays()["y_train"].astype(given))
        assert made.y_train.dtype.str == np.dtype(np.int32).str
        np.testing.assert_array_equal(made.y_train, arrays()["y_train"])


def test_lists_are_accepted_and_classes_get_their_numbers_as_names() -> None:
    made = from_arrays([[0.0], [1.0]], [0, 1], [[0.5]], [1])
    assert made.class_names == ("0", "1")
    assert made.x_train.dtype == np.float32


def with_value(value: float) -> np.ndarray:
    pixels = np.zeros((N, 4, 5))
    pixels[17, 2, 3] = value
    return pixels


FLOATS = {"x_held_out": np.zeros((M, 4, 5))}
BAD = {
    "object array": ({"x_train": np.array([[1], [None]], object)}, "x_train: .* Python objects"),
    "ragged list": ({"x_train": [[1, 2], [3]]}, "x_train: expected an array"),
    "complex pixels": ({"x_train": np.zeros((N, 4, 5), complex)}, "x_train: expected numbers .* got dtype complex128"),
    "no pixel axis": ({"x_train": np.zeros(N)}, r"x_train: .* got shape \(60,\); .*x\[:, None\]"),
    "no training examples": ({"x_train": np.zeros((0, 4, 5)), "y_train": np.zeros(0, int)}, "x_train: .*at least one"),
    "NaN": ({"x_train": with_value(np.nan), **FLOATS}, "x_train: .*NaN.* 1 of 60 examples, the first at 17"),
    "too large for float32": ({"x_train": with_value(1e300), **FLOATS}, "x_train: .*the first at 17"),
    "shapes differ": ({"x_held_out": np.zeros((M, 5, 4), np.uint8)}, r"same shape .* \(4, 5\) and \(5, 4\)"),
    "dtypes differ": (FLOATS, "one dtype .* uint8 and float64"),
    "float labels": ({"y_train": np.arange(N) % 3 * 1.0}, r"y_train: .* got dtype float64; cast .*astype\(int\)"),
    "one-hot labels": ({"y_train": np.eye(3)[np.arange(N) % 3]}, r"y_train: .* got \(60, 3\); .*argmax"),
    "too few labels": ({"y_train": np.arange(N - 1) % 3}, "y_train: expected 60 labels, as many as x_train, got 59"),
    "negative label": ({"y_train": np.arange(N) % 3 - 1}, r"y_train: expected labels 0\.\.c-1, got -1"),
    "gap": ({"y_train": np.arange(N) % 3 * 2}, "labels leave classes empty: .* got none of 1, 3;"),
    "stray label": ({"y_train": np.r_[np.arange(N - 1) % 3, 2**31]}, r"leave classes empty: .* 3, 4, 5, 6, 7, \.\.\.;"),
    "one class": ({"y_train": np.zeros(N, int), "y_held_out": np.zeros(M, int)}, "at least 2 classes, got 1"),
    "unseen class": ({"y_held_out": np.arange(M) % 4}, r"y_held_out: expected labels 0\.\.2 .* got 3"),
    "class without name": ({"class_names": ["a", "b"]}, "class_names: expected at least 3 names, .* got 2"),
    "uint8 label without name": (
        {"y_train": np.full(N, 255, np.uint8), "class_names": ["a", "b"]},
        "class_names: expected at least 256 names, since y_train holds the label 255, got 2",
    ),
    "one string of names": ({"class_names": "abc"}, "class_names: expected a sequence of strings"),
    "same name twice": ({"class_names": ["a", "b", "a"]}, "class_names: expected distinct names"),
    "too few ids": ({"train_ids": np.arange(N - 1)}, "train_ids: expected 60 integers"),
    "float ids": ({"held_out_ids": np.arange(M) * 1.0}, "held_out_ids: expected 30 integers .* got float64"),
}


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD.keys())
def test_bad_arrays_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset(**changes)


def test_a_subset_holds_the_examples_that_its_ids_name() -> None:
    position = np.random.RandomState(3).permutation(N + M)
    whole = dataset(train_ids=position[:N], held_out_ids=position[N:])
    part = subset(whole, 20, 10, 5)
    assert (part.n_train, part.n_held_out) == (20, 10)
    row, held_out_row = ({i: k for k, i in enumerate(ids.tolist())} for ids in (whole.train_ids, whole.held_out_ids))
    for k, i in enumerate(part.train_ids.tolist()):
        np.testing.assert_array_equal(part.x_train[k], whole.x_train[row[i]])
        assert part.y_train[k] == whole.y_train[row[i]]
    for k, i in enumerate(part.held_out_ids.tolist()):
        np.testing.assert_array_equal(part.x_held_out[k], whole.x_held_out[held_out_row[i]])
        assert part.y_held_out[k] == whole.y_held_out[held_out_row[i]]
    assert len(set(part.train_ids.tolist())) == 20
    assert (part.class_names, part.source, part.name) == (whole.class_names, whole.source, whole.name)


def test_the_draw_is_pinned_and_another_with_another_seed() -> None:
    whole = dataset()
    assert subset(whole, 20, 10, 5).train_ids.tolist() != subset(whole, 20, 10, 6).train_ids.tolist()
    assert subset(whole, 20, 10, 5).held_out_ids.tolist() != subset(whole, 20, 10, 6).held_out_ids.tolist()
    # These numbers must never change: stored runs draw their subsets again from the seed.
    part = subset(whole, 12, 4, 2)
    assert part.train_ids.tolist() == [0, 1, 23, 28, 30, 32, 35, 36, 46, 47, 49, 55]
    assert part.held_out_ids.tolist() == [13, 24, 25, 29]


def test_a_larger_subset_contains_the_smaller_and_the_held_out_draw_stands_alone() -> None:
    whole = dataset()
    small, large = subset(whole, 20, 10, 5), subset(whole, 40, 10, 5)
    assert set(small.train_ids.tolist()) < set(large.train_ids.tolist())
    assert small.held_out_ids.tolist() == large.held_out_ids.tolist()


def test_all_examples_are_the_dataset_itself() -> None:
    whole = dataset()
    assert subset(whole, None, None, 5) is whole
    assert subset(whole, N, M, 5).fingerprint() == whole.fingerprint()
    assert subset(whole, 20, None).n_held_out == M
    assert subset(whole, None, 10).n_train == N


@pytest.mark.parametrize(
    ("n_train", "n_held_out", "seed", "message"),
    [
        (61, None, 0, "n_train: expected 1 to 60, .* got 61"),
        (None, 0, 0, "n_held_out: expected 1 to 30, .* got 0"),
        (20.0, None, 0, "n_train: expected a whole number, got 20.0"),
        (20, None, 2**32, "seed: expected 0 to .* got 4294967296"),
        (2, None, 0, "n_train: 2 training examples drawn with seed 0 leave classes empty: .*; take more"),
        (12, None, 2, "leave classes empty: 'axolotl'; take more"),
    ],
)
def test_impossible_subsets_are_named(n_train: Any, n_held_out: Any, seed: Any, message: str) -> None:
    rare = dataset(y_train=np.r_[0, 1, 2, np.arange(N - 3) % 2], class_names=["cat", "dog", "axolotl"])
    with pytest.raises(InputError, match=message):
        subset(rare, n_train, n_held_out, seed)


def test_the_fingerprint_follows_the_data_and_nothing_else() -> None:
    one = dataset()
    assert dataset(name="another", source="elsewhere").fingerprint() == one.fingerprint()
    pixels = arrays()["x_train"]
    pixels[59, 3, 4] += 1
    assert dataset(x_train=pixels).fingerprint() != one.fingerprint()
    # Seen through other strides and byte orders, equal data is still equal data.
    mirrored = np.ascontiguousarray(arrays()["x_train"][:, ::-1])[:, ::-1]
    assert dataset(x_train=mirrored, y_train=arrays()["y_train"].astype(">i8")).fingerprint() == one.fingerprint()

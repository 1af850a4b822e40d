"""Whatever passes `from_arrays` is a dataset, and a subset of it is still the same examples.

Later stages check nothing again: a gap in the labels, a NaN or a swapped shape that got through here would come out
hours later as a score. Subsets keep ids, since a forget set names examples by where they came from; and they must not
differ between machines or NumPy versions, since a run is continued by drawing its subset again.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

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


def ragged() -> np.ndarray:
    """An array of arrays of two shapes."""
    objects = np.empty(N, object)
    objects[:] = [np.zeros(2 + k % 2) for k in range(N)]
    return objects


def with_value(value: float) -> np.ndarray:
    pixels = np.zeros((N, 4, 5))
    pixels[17, 2, 3] = value
    return pixels


FLOATS = {"x_held_out": np.zeros((M, 4, 5))}
BAD = {
    "ragged list": ({"x_train": [[1, 2], [3]]}, "x_train: expected an array"),
    "shapes in objects": ({"x_train": ragged()}, r"x_train: expected one shape .* got \(2,\), \(3,\)"),
    "missing value": ({"x_train": np.array([[1, None]] * N, object)}, "x_train: .* got none .* in 60 of 60 examples"),
    "masked pixels": ({"x_train": np.ma.masked_equal(np.eye(N), 1)}, "x_train: .* got 60 masked entries"),
    "a path": ({"x_train": "x.npy"}, "x_train: expected an array, got str; load"),
    "high strips": (
        {"x_train": np.zeros((N, 3, 32, 32))},
        r"looks like \[n, channels, h, w\]; .*transpose\(0, 2, 3, 1\)",
    ),
    "13 bands": ({"x_train": np.zeros((N, 13, 8, 8), np.uint8)}, r"looks like \[n, channels, h, w\]"),
    "complex pixels": ({"x_train": np.zeros((N, 4, 5), complex)}, "x_train: expected numbers .* got dtype complex128"),
    "dates": (
        {"x_train": pd.DataFrame({"a": 1.5, "d": pd.date_range("2020", periods=N)})},
        r"neither .*\('d'\), .* Timestamp",
    ),
    "file names": ({"x_train": np.array([f"{k}.png" for k in range(N)])}, r"neither .* such as '0.png'; .* folder:DIR"),
    "arrays in a column": ({"x_train": pd.DataFrame({"e": [np.zeros(3)] * N})}, r"such as array\(\[0., 0., 0.\]\);"),
    "text pixels": ({"x_held_out": np.full((M, 4, 5), "a")}, r"x_held_out: .* got columns that hold none \(0, 1"),
    "no pixel axis": ({"x_train": np.zeros(N)}, r"x_train: .* got shape \(60,\); .*\[:, None\]"),
    "no training examples": ({"x_train": np.zeros((0, 4, 5)), "y_train": np.zeros(0, int)}, "x_train: .*at least one"),
    "no objects": ({"x_train": np.zeros((0, 4), object), "y_train": []}, "x_train: .*at least one"),
    "one number as labels": ({"y_train": 5}, r"y_train: expected 60 labels, .* got shape \(\)"),
    "NaN": ({"x_train": with_value(np.nan), **FLOATS}, "x_train: .*NaN.* 1 of 60 examples, the first at 17"),
    "too large for float32": ({"x_train": with_value(1e300), **FLOATS}, "x_train: .*the first at 17"),
    "shapes differ": ({"x_held_out": np.zeros((M, 5, 4), np.uint8)}, r"same shape .* \(4, 5\) and \(5, 4\)"),
    "dtypes differ": (FLOATS, "one dtype .* uint8 and float64: .*`x_train = .*astype.np.float32. / 255`"),
    "bytes as floats": ({"x_train": with_value(255.0)}, "one dtype .*: .*`x_train = .*astype.np.uint8.`"),
    "unlabelled": (
        {"y_train": np.where(np.arange(N) == 7, np.nan, 1)},
        "y_train: .* got none .* for 1 of 60 .* at 7; leave",
    ),
    "amounts": (
        {"y_train": np.linspace(0, 9, N)},
        "got 60 numbers from 0.0 to 9.0; .*amounts are targets=... of .*return_inverse",
    ),
    "whole amounts": ({"y_train": np.arange(N) * 5.0}, "60 numbers from 0.0 to 295.0; amounts are targets="),
    "infinite": ({"y_held_out": np.where(np.arange(M) < 5, np.inf, 1)}, "y_held_out: .* got 2 numbers from 1.0 to inf"),
    "two types": ({"y_train": np.array([0, "cat"] * (N // 2), object)}, "several types .'int', 'str'."),
    "multi-hot": ({"y_train": np.eye(3)[np.arange(N) % 3] * np.c_[:N].clip(0, 1)}, "rows with 0 to 1 .* not supported"),
    "one-hot but for a row": (
        {"y_train": np.where(np.arange(N)[:, None] == 7, np.nan, np.eye(3)[np.arange(N) % 3])},
        "with NaN in 1 rows; leave",
    ),
    "probabilities": ({"y_train": np.full((N, 2), 0.5)}, "rows of probabilities; these are not supported"),
    "label maps": ({"y_train": np.zeros((N, 4, 5), int)}, "labels of parts of an example are not supported"),
    "two labels": ({"y_train": np.arange(2 * N).reshape(N, 2)}, "several targets for one example are not supported"),
    "too few labels": ({"y_train": np.arange(N - 1) % 3}, r"y_train: expected 60 labels, .* got shape \(59,\)"),
    "minus one": ({"y_train": np.arange(N) % 3 - 1}, r"got -1 \(20 of 60 .*if -1 is a class, .*no label, leave"),
    "gap": (
        {"y_train": np.arange(N) % 3 * 2, "y_held_out": np.zeros(M, int)},
        "leave classes empty: .* got none of 1, 3;",
    ),
    "stray label": ({"y_train": np.r_[np.arange(N - 1) % 3, 2**31]}, r"leave classes empty: .* 3, 4, 5, 6, 7, \.\.\.;"),
    "one class": ({"y_train": np.zeros(N, int), "y_held_out": np.zeros(M, int)}, "at least 2 classes, got 1"),
    "unseen class": ({"y_held_out": np.arange(M) % 4}, r"y_held_out: expected labels that y_train .* got 3 \(7 of 30"),
    "unseen class below": ({"y_train": np.arange(N) % 3 + 1}, r"y_held_out: expected labels that .* got 0 \(10 of 30"),
    "class without name": ({"class_names": ["a", "b"]}, "class_names: expected at least 3 names, .* got 2"),
    "uint8 label": (
        {"y_train": np.full(N, 255, np.uint8), "class_names": ["a", "b"]},
        "expected at least 256 names, .* 255",
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


CODES = np.arange(N + M) % CLASSES  # what the labels below stand for
LABELS: dict[str, Any] = {
    "floats": CODES * 1.0,
    "bools": CODES == 1,
    "a column": CODES[:, None],
    "a frame of one column": pd.DataFrame({"y": CODES}),
    "one-hot": np.eye(3)[CODES],
    "one-hot of -1 and 1": 2 * np.eye(3)[CODES] - 1,
    "sparse one-hot": scipy.sparse.csr_array(np.eye(3)[CODES]),
    "-1 and 1": np.where(CODES == 2, 1, -1),
    "-1, 0, 1": CODES - 1,
    "from 1 on": CODES + 1,
    "from 1 on, floats": CODES + 1.0,
    "from 1 on, bytes": (CODES + 1).astype(np.uint8),
    "even numbers": CODES * 2,
    "halves": CODES / 2,
    "text": np.array(["cat", "ant", "bee"])[CODES],
    "text as objects": np.array(["cat", "ant", "bee"], object)[CODES],
    "bytes": np.array([b"cat", b"ant", b"bee"])[CODES],
    "numbers as objects": CODES.astype(object),
    "dates": np.datetime64("2020-01-01") + CODES,
    "pandas text": pd.Series(["cat", "ant", "bee"], dtype="string")[CODES],
    "pandas categories": pd.Series(["cat", "ant", "bee"], dtype="category")[CODES],
    "pandas categories of numbers": pd.Series([7, 3, 5], dtype="category")[CODES],
    "pandas nullable": pd.Series([0, 1, 2], dtype="Int64")[CODES],
}


def follow_advice(given: dict[str, Any]) -> Dataset:
    """Do what the messages say, line by line, as a user would."""
    names = {*given, "class_names"}
    for _ in range(5):
        try:
            return from_arrays(**{name: value for name, value in given.items() if name in names})
        except InputError as error:
            given |= {"np": np, "pandas": pd}
            exec(re.findall("`(.*?)`", str(error))[0], given)
    raise AssertionError("the advice leads nowhere")


@pytest.mark.parametrize("kind", LABELS)
def test_advice_on_labels_keeps_every_example_and_class(kind: str) -> None:
    """The held-out part lacks a class, so that each part numbered on its own would call classes by others' numbers."""
    held_out = N + np.flatnonzero(CODES[N:] != 0)
    rows: Any = LABELS[kind]
    take = rows.iloc.__getitem__ if hasattr(rows, "iloc") else rows.__getitem__
    y_train, y_held_out = take(np.arange(N)), take(held_out)
    made = follow_advice(
        arrays(y_train=y_train, x_held_out=arrays()["x_held_out"][held_out - N], y_held_out=y_held_out)
    )
    labels, codes = made.labels.tolist(), CODES[np.r_[:N, held_out]]
    if kind in ("bools", "-1 and 1"):
        codes = codes == (1 if kind == "bools" else 2)
    assert len(set(zip(labels, codes.tolist(), strict=True))) == len(set(labels)) == len(set(codes.tolist()))
    if "text" in kind or kind in ("bytes", "pandas categories"):
        assert made.class_names == ("ant", "bee", "cat")


def test_advice_on_labels_keeps_given_names() -> None:
    made = follow_advice(arrays(y_train=CODES[:N] * 2, y_held_out=np.full(M, 4), class_names=["a", "b", "c", "d", "e"]))
    assert [made.class_names[k] for k in made.labels] == [*np.array(["a", "c", "e"])[CODES[:N]], *["e"] * M]


TABLE = np.random.RandomState(5).rand(N + M, 3).round(3)
TOWN = np.array(["x", "y", "z"])[CODES]
FRAME = pd.DataFrame(TABLE, columns=list("abc"))
WITH_TOWN = np.c_[TABLE, np.eye(3)[CODES]]
TABLES: dict[str, tuple[Any, np.ndarray]] = {
    "sparse": (scipy.sparse.csr_matrix(TABLE), TABLE),
    "objects": (TABLE.astype(object), TABLE),
    "numbers as text": (TABLE.astype(str), TABLE),
    "an array of arrays": (np.array([*TABLE, None], object)[:-1], TABLE),
    "bools beside floats": (FRAME.assign(d=CODES == 1), np.c_[TABLE, CODES == 1]),
    "nullable": (FRAME.convert_dtypes(), TABLE),
    "text": (FRAME.assign(town=TOWN), WITH_TOWN),
    "categories": (FRAME.assign(town=pd.Categorical(TOWN)), WITH_TOWN),
    "text in an array": (np.c_[TABLE.astype(object), TOWN], WITH_TOWN),
    "channels first": (np.random.RandomState(5).rand(N + M, 3, 6, 8), np.random.RandomState(5).rand(N + M, 3, 6, 8)),
}


@pytest.mark.parametrize("kind", TABLES)
def test_advice_on_features_keeps_every_number_and_category(kind: str) -> None:
    """The held-out part lacks a town: encoded by itself it would have other columns."""
    given, wanted = TABLES[kind]
    rows, kept = given.iloc if hasattr(given, "iloc") else given, np.r_[:N, N + np.flatnonzero(CODES[N:] != 0)]
    made = follow_advice(arrays(x_train=rows[kept[:N]], x_held_out=rows[kept[N:]], y_held_out=CODES[kept[N:]]))
    wanted = wanted.transpose(0, 2, 3, 1) if kind == "channels first" else wanted
    np.testing.assert_allclose(made.images, wanted[kept], rtol=1e-6)


def test_images_with_channels_last_and_tables_are_not_taken_for_channels_first() -> None:
    for shape in ((32, 32, 3), (28, 28, 1), (4, 5, 3), (3, 40, 3), (8, 8, 13), (4, 4, 16), (3, 32), (3,), (3, 3, 3)):
        assert from_arrays(np.zeros((2, *shape)), [0, 1], np.zeros((1, *shape)), [0]).x_train.shape[1:] == shape


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

"""Generated sets are what their names say, and a forget file is read back as written or refused with the reason.

A verdict is about the ids of a set and reported under its name: where the two part, the verdict is about something else.
Every generator is therefore compared with a loop, or with the library it calls, on the same data.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans

import infl
from infl import forget_sets
from infl.records import Estimate, InputError
from infl.untraining.forget_files import read_groups, read_members


@pytest.fixture(scope="module")
def digits():
    return infl.load("digits", n_train=200, n_held_out=50)


@pytest.fixture(scope="module")
def memorization():
    value = np.random.RandomState(0).rand(200)
    value[7] = np.nan
    return Estimate(value, value, value, value, "own", "correct")


# Generators


def test_random_class_and_neighbour_sets_are_those_of_a_loop(digits):
    one, same, other = (forget_sets.random_set(digits, 20, seed=seed) for seed in (1, 1, 2))
    assert len(set(one.ids)) == 20
    assert one == same
    assert one.ids != other.ids
    whole, half = forget_sets.class_set(digits, 3), forget_sets.class_set(digits, 3, fraction=0.5)
    assert whole.ids == tuple(i for i in range(200) if digits.y_train[i] == 3)
    assert set(half.ids) < set(whole.ids)
    assert len(half) == round(0.5 * len(whole))
    assert (whole.concept, half.concept) == (None, whole.ids)
    named = replace(digits, class_names=tuple("123456789") + ("cat",))  # the class that is called 3 is number 2
    for label, number in (("3", 2), (3, 3), ("cat", 9), ("0", 0)):
        one = forget_sets.class_set(named, label)
        assert set(digits.y_train[list(one.ids)]) == {number}
        assert one.name == f"class {named.class_names[number]}"
    distances = [float(((digits.x_train[17] - digits.x_train[i]) ** 2).sum()) for i in range(200)]
    nearest = sorted(range(200), key=lambda i: distances[i])[:9]  # 17 itself is one of them
    assert forget_sets.neighbours_set(digits, 17, 9).ids == tuple(sorted(nearest))


def test_a_larger_fraction_contains_every_smaller_one_of_its_seed_and_is_at_least_one_example():
    whole = infl.ForgetSet("whole", tuple(range(5, 45)))
    parts = [forget_sets.take_fraction(whole, fraction, seed=3) for fraction in (0.001, 0.25, 0.5, 1)]
    assert [len(one) for one in parts] == [1, 10, 20, 40]
    for smaller, larger in zip(parts, parts[1:], strict=False):
        assert set(smaller.ids) < set(larger.ids)
    assert {one.concept for one in parts} == {whole.ids}
    assert forget_sets.take_fraction(whole, 0.5, seed=4).ids != parts[2].ids
    assert parts[1].name == "25% of whole"


def test_clusters_are_those_of_scikit_learn(digits):
    kmeans: Any = KMeans
    own = kmeans(7, n_init=1, random_state=5).fit_predict(digits.x_train.reshape(200, -1))
    np.testing.assert_array_equal(forget_sets.clusters(digits, 7, seed=5), own)
    whole = [forget_sets.cluster_set(digits, number, n_clusters=7, seed=5) for number in range(7)]
    for number, found in enumerate(whole):
        assert found == infl.ForgetSet(f"cluster {number} of 7, seed 5", tuple(np.flatnonzero(own == number).tolist()))
        assert forget_sets.cluster_set(digits, example=found.ids[-1], n_clusters=7, seed=5) == found
    part = forget_sets.cluster_set(digits, 6, n_clusters=7, seed=5, fraction=0.3)
    assert part == forget_sets.take_fraction(whole[6], 0.3, seed=5)
    # Bytes are clustered as the numbers that models see.
    pixels = np.random.RandomState(0).randint(0, 256, size=(60, 4)).astype(np.uint8)
    as_bytes = infl.from_arrays(pixels, np.arange(60) % 2, pixels, np.arange(60) % 2)
    own = kmeans(5, n_init=1, random_state=0).fit_predict(pixels.astype(np.float32) / 255)
    np.testing.assert_array_equal(forget_sets.clusters(as_bytes, 5), own)


@pytest.mark.parametrize("highest", [True, False])
def test_memorized_sets_are_the_extremes_of_what_has_scores(memorization, highest):
    """With or without cross-influence they come from thrice as many; examples without a score of either come last."""
    extremes = sorted((i for i in range(200) if i != 7), key=lambda i: memorization.value[i], reverse=highest)
    made = forget_sets.memorized_set(memorization, 30, highest=highest)
    assert made.ids == tuple(sorted(extremes[:30]))
    cross = np.random.RandomState(1).randn(200)
    cross[extremes[:18]] = np.nan
    for with_cross in (True, False):
        made = forget_sets.memorized_set(memorization, 10, highest=highest, cross=cross, with_cross=with_cross)
        wanted = sorted(extremes[18:30], key=lambda i: cross[i], reverse=with_cross)[:10]
        assert made.ids == tuple(sorted(wanted))
        kind = f"{'highest' if highest else 'lowest'} memorization 10, {'high' if with_cross else 'low'} cross"
        assert made.name == kind


def test_varied_sets_have_distinct_names_and_many_kinds(digits, memorization):
    sets = forget_sets.varied_sets(digits, memorization)
    assert len(sets) >= 12
    assert len({s.name for s in sets}) == len({s.ids for s in sets}) == len(sets)


@pytest.mark.filterwarnings("default")  # a user's warnings are no errors
def test_generators_refuse_what_cannot_be(digits, memorization):
    three = infl.from_arrays(np.arange(60)[:, None] % 3, np.arange(60) % 2, np.zeros((1, 1)), [0])
    pair, cross = infl.ForgetSet("a", (1, 2)), memorization.value
    mistakes: list[tuple[Callable[[], Any], str]] = [
        (lambda: forget_sets.random_set(digits, 0), "size: expected 1 to 200"),
        (lambda: forget_sets.random_set(digits, digits.n_train / 2), "size: expected"),
        (lambda: forget_sets.random_set(digits, 5, seed=-1), "seed: expected"),
        (lambda: forget_sets.class_set(digits, 10), "class: expected 0 to 9"),
        (lambda: forget_sets.class_set(digits, 1, fraction=0), "expected above 0 and at most 1, got 0"),
        (lambda: forget_sets.take_fraction(pair, 1.1), "expected above 0 and at most 1, got 1.1"),
        (lambda: forget_sets.neighbours_set(digits, 200, 5), "example: expected 0 to 199"),
        (lambda: forget_sets.memorized_set(memorization, 0), "size: expected"),
        (lambda: forget_sets.memorized_set(memorization, 5, cross=cross), "expected"),
        (lambda: forget_sets.memorized_set(memorization, 5, with_cross=True), "expected"),
        (lambda: forget_sets.memorized_set(memorization, 5, cross=cross[:3], with_cross=True), "expected"),
        (lambda: forget_sets.cluster_set(digits, n_clusters=5), "expected either"),
        (lambda: forget_sets.cluster_set(digits, 1, example=1, n_clusters=5), "expected either"),
        (lambda: forget_sets.cluster_set(digits, 5, n_clusters=5), "cluster: expected 0 to 4"),
        (lambda: forget_sets.cluster_set(digits, example=200, n_clusters=5), "example: expected"),
        (lambda: forget_sets.cluster_set(digits, 0, n_clusters=1), "is all of D: ask for more"),
        (lambda: forget_sets.clusters(digits, 201), "n_clusters: expected 1 to 200"),
        (lambda: forget_sets.clusters(digits, 5, seed=2**32), "seed: expected"),
        (lambda: forget_sets.clusters(three, 5), "5 are more than there are distinct examples"),
    ]
    for call, said in mistakes:
        with pytest.raises(InputError, match=said):
            call()


# Files


def test_a_written_file_is_read_back_and_stays_as_it_was_where_it_cannot_be_replaced(tmp_path):
    path, link = tmp_path / "f.json", tmp_path / "link.json"
    sets = [infl.ForgetSet("a", (3, 5)), infl.ForgetSet("part", (1, 2), concept=(1, 2, 3))]
    link.symlink_to(path)
    forget_sets.write_forget_sets(link, sets)
    assert link.is_symlink()
    assert forget_sets.read_forget_sets(path, n_train=200) == sets
    assert json.loads(path.read_text())["part"] == {"ids": [1, 2], "concept": [1, 2, 3]}
    before = path.read_bytes()
    (tmp_path / "folder").mkdir()
    for place, said in (
        (path, "comes twice"),
        (tmp_path / "folder", "cannot be w"),
        (tmp_path / "no/f", "cannot be w"),
    ):
        with pytest.raises(InputError, match=said):
            forget_sets.write_forget_sets(place, [*sets, *sets] if place == path else sets)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["f.json", "folder", "link.json"]


@pytest.mark.parametrize("ids", [np.array([5, 2, 8]), range(8, 0, -3), (2, 8, 5)])
def test_arrays_and_ranges_of_ids_are_accepted_and_sorted(ids):
    assert forget_sets.make_forget_sets({"a": ids}, n_train=10)[0].ids == (2, 5, 8)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "not JSON"),
        ("3", "expected an object"),
        ("[1, [2, 3]]", "whole numbers, got \\[2, 3\\]"),
        ("{}", "at least one set"),
        ('{"a": []}', "'a' is empty"),
        ('{"a": [1, 200]}', "id 200, outside D \\(0..199\\)"),
        ('{"a": [-1]}', "id -1, outside D"),
        ('{"a": [4, 5, 4]}', "repeats id 4"),
        ('{"a": [1.5]}', "whole numbers, got 1.5"),
        ('{"a": [NaN]}', "whole numbers, got nan"),
        ('{"a": ["3"]}', "whole numbers, got '3'"),
        ('{"a": [true]}', "whole numbers, got True"),
        ('{"a": 3}', "expected a list of ids"),
        ('{"a": {"concept": [1]}}', "keys ids"),
        ('{"a": {"ids": [1], "extra": 2}}', "keys ids"),
        ('{"a": {"ids": [1], "concept": [1, 999]}}', "concept names id 999"),
        ('{"a": {"ids": [1, 5], "concept": [1, 3]}}', "concept must name every id of the set; 5 is missing"),
        (json.dumps({"a": list(range(200))}), "all of D"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str, said: str):
    path = tmp_path / "forget.json"
    path.write_text(content)
    with pytest.raises(InputError, match=said) as raised:
        forget_sets.read_forget_sets(path, n_train=200)
    assert str(path) in str(raised.value)


FORMS: dict[str, tuple[str | bytes, dict[str, list[int]]]] = {
    "list.json": ("[3, 14.0, 15]", {"list": [3, 14, 15]}),
    "bom.json": (b"\xef\xbb\xbf" + b'{"a": [3]}', {"a": [3]}),
    "positions.json": ('{"a": {"source_ids": [103, 114], "concept": [103, 114, 115]}}', {"a": [3, 14]}),
    "a line.txt": ("3 14\t15", {"a line": [3, 14, 15]}),
    "spaces.txt": ("3 14 15", {"spaces": [3, 14, 15]}),
    "wrapped.txt": ("3 14\n15 16 17\n", {"wrapped": [3, 14, 15, 16, 17]}),
    "commas.txt": ("3, 14, 15,\n", {"commas": [3, 14, 15]}),
    "windows.txt": (b"\xef\xbb\xbfid\r\n15\r\n3\r\n", {"windows": [3, 15]}),
    "powershell.txt": ("3\r\n15\r\n".encode("utf-16"), {"powershell": [3, 15]}),
    "savetxt.txt": ("# np.savetxt\n3.000000000000000000e+00\n1.5e+01\n", {"savetxt": [3, 15]}),
    "comments.txt": ("3 # the first\n# 4\n15", {"comments": [3, 15]}),
    "quoted.csv": ('"id"\n"3"\n"15"\n', {"quoted": [3, 15]}),
    "unknown header.csv": ("forget\n3\n15\n", {"unknown header": [3, 15]}),
    "a row.csv": ("3,15\n", {"a row": [3, 15]}),
    "scores.csv": (",id,label,score\n0,3,9,0.5\n1,15,9,0.1\n", {"scores": [3, 15]}),
    "users.csv": ("3,alice\n15,bob\n14,alice\n", {"alice": [3, 14], "bob": [15]}),
    "numbers.csv": ("id;user\n3;7\n15;8\n14;7\n", {"7": [3, 14], "8": [15]}),
    "positions.csv": ("label,in source\n1,103\n1,115\n", {"positions": [3, 15]}),
    "excel.csv": ("sep=;\r\nid;set\r\n3;a\r\n15;b\r\n", {"a": [3], "b": [15]}),
    "flags.csv": ("id,Forget\n3,True\n4,False\n15,True\n", {"flags": [3, 15]}),
    "a flag of each.csv": (
        "\n".join(["remove", *["01"[k in (3, 15)] for k in range(200)]]),
        {"a flag of each": [3, 15]},
    ),
    "mask.txt": ("\n".join("01"[k in (3, 15)] for k in range(200)), {"mask": [3, 15]}),
    "mask.json": (json.dumps({"a": [k in (3, 15) for k in range(200)]}), {"a": [3, 15]}),
}


@pytest.mark.parametrize("form", FORMS)
def test_ids_are_read_as_people_have_them(tmp_path: Path, form: str):
    """One file name a form; position 100 + i of the source is example i."""
    content, sets = FORMS[form]
    (tmp_path / form).write_bytes(content if isinstance(content, bytes) else content.encode())
    whole = infl.from_arrays(np.eye(200), np.arange(200) % 2, [[0.0] * 200], [0], train_ids=np.arange(100, 300))
    read = forget_sets.read_forget_sets(tmp_path / form, n_train=200, dataset=lambda: whole)
    assert {one.name: list(one.ids) for one in read} == sets


def test_arrays_are_read_and_a_mask_is_one_of_d(tmp_path: Path):
    mask = np.isin(np.arange(200), [3, 15])
    for k, ids in enumerate(([15, 3], np.array([3.0, 15.0]), np.array([3, 15], np.uint8), mask, mask.astype(int))):
        np.save(tmp_path / f"{k}.npy", ids)
        (one,) = forget_sets.read_forget_sets(tmp_path / f"{k}.npy", n_train=200)
        assert (one.name, one.ids) == (str(k), (3, 15))
    np.savez(tmp_path / "two.npz", a=[3, 15], b=mask)
    assert forget_sets.read_forget_sets(tmp_path / "two.npz", n_train=200) == [
        infl.ForgetSet("a", (3, 15)),
        infl.ForgetSet("b", (3, 15)),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt", "", "'a' is empty"),
        ("a.txt", "3\n3", "repeats id 3"),
        ("a.txt", "3\n-1", "id -1, outside D"),
        ("a.txt", "3\n200", "id 200, outside D"),
        ("a.txt", "3\n1.5", "whole numbers, got 1.5"),
        ("a.txt", "l4\n3", "whole numbers, got 'l4'"),
        ("a.csv", "id,user\n", "columns id, user: expected lines below the names"),
        ("a.csv", "id,user\n3,x\n4,\n", "'4,' names no user"),
        ("a.csv", "x" * 200_000 + ",y", "expected columns of ids .field larger"),
        ("a.txt", "3\nfour", "whole numbers, got 'four'"),
        ("a.txt", "a/1.png\nb/2.png", "whole numbers, got 'a/1.png'"),
        ("a.csv", "3,1\n4,1", "two columns of numbers: say in a first line"),
        ("r.csv", '"","x"\n"1",3\n"2",15\n', "columns , x: expected one that is called id"),  # rows numbered from 1
        ("a.csv", "client,label\n3,1\n4,1", "columns client, label: expected one that is called id"),
        ("a.csv", "id,user\n3,x\n4", "expected 2 columns as in the first line, got '4'"),
        ("a.csv", "id,user\n3,x\n,x", "whole numbers, got ''"),
        ("a.bin", b"\x80\x04\x95", "it is none of these"),
        ("a.npy", b"\x93NUMPY\x01", "expected an array of ids as np.save writes it"),
        ("a.npy", b"\x93NUMPY\x01\x00\xff\x7f" + bytes(40_000), "as np.save writes it .Header info length"),
        ("a.npz", b"PK\x03\x04", "of another kind or cut off"),
    ],
)
def test_a_file_of_ids_that_is_none_is_named(tmp_path: Path, name: str, content: str | bytes, said: str):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=said) as raised:
        forget_sets.read_forget_sets(path, n_train=200)
    assert "\n" not in str(raised.value)


# Groups


MEMBERS = {"ann": (0, 1), "bob": (3, 5)}
GROUPED: dict[str, str | bytes] = {
    "with an empty group.json": '{"ann": [0, 1], "nobody": [], "bob": [5, 3]}',
    "without a last line break.csv": "0,ann\n1,ann\n3,bob\n5,bob",
    "spaces, quotes and empty lines.csv": '\n 0 , "ann"\n\n1,ann\n"3",bob\n5, bob \n\n',
    "Windows, with mark and header.csv": "\ufeffid,user\r\n0,ann\r\n1,ann\r\n3,bob\r\n5,bob\r\n",
    "another header.csv": "image_no;photographer\n0;ann\n1;ann\n3;bob\n5;bob\n",
    "an id and another header.csv": "annotator,id\nann,0\nann,1\nbob,3\nbob,5\n",
    "an index of pandas.csv": ",user\n0,ann\n1,ann\n3,bob\n5,bob\n",
    "tabs.tsv": "0\tann\n1\tann\n3\tbob\n5\tbob\n",
    "positions.csv": "source_id,user\n100,ann\n101,ann\n103,bob\n105,bob\n",
}


@pytest.mark.parametrize("form", GROUPED)
def test_groups_are_read_as_people_have_them(tmp_path: Path, form: str):
    """By the reader of forget files; of two columns the second is the group. Position 100 + i of the source is example i."""
    content = GROUPED[form]
    (tmp_path / form).write_bytes(content if isinstance(content, bytes) else content.encode())
    whole = infl.from_arrays(np.eye(8), np.arange(8) % 2, [[0.0] * 8], [0], train_ids=np.arange(100, 108))
    given: Any = {"n_train": 8, "dataset": lambda: whole}
    assert read_members(tmp_path / form, **given) == MEMBERS
    groups = read_groups(str(tmp_path / form), **given)
    assert (groups.names, groups.tables.tolist()) == ((Path(form).stem,), [[0, 0, -1, 1, -1, 1, -1, -1]])


def test_numbers_are_names_of_groups(tmp_path: Path):
    (tmp_path / "users.csv").write_text("1,7\n2,8\n4,7\n")
    assert read_members(tmp_path / "users.csv", n_train=8) == {"7": (1, 4), "8": (2,)}


def test_values_of_all_examples_are_their_groups(tmp_path: Path):
    users = np.array([7, 3, 7, 7, 12])
    np.save(tmp_path / "users.npy", users)
    np.save(tmp_path / "names.npy", users.astype(str))
    (tmp_path / "column.csv").write_text("user\n" + "\n".join(map(str, users)))
    (tmp_path / "list.json").write_text(json.dumps(users.tolist()))
    for path in tmp_path.iterdir():
        assert read_members(path, n_train=5) == {"3": (1,), "7": (0, 2, 3), "12": (4,)}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("users.json", None, "cannot be read: No such file or directory"),
        ("users.json", '{"a": [1, 2', "not JSON"),
        ("users.json", "[" * 100_000, "not JSON"),
        ("users.json", "[[0, 1]]", r"whole numbers, got \[0, 1\]"),
        ("users.json", "[[0, 1], [2]]", r"whole numbers, got \[0, 1\]"),
        ("users.json", '{"a": []}', "holds no group"),
        ("users.json", '{"a": [8]}', r"names id 8, outside D \(0..7\)"),
        ("users.json", '{"a": [true]}', "got True"),
        ("users.json", '{"a": [1, 2], "b": [3, 2]}', "example 2 comes twice; give each one group"),
        ("users.json", '{"a": [1], "b": [2], "a": [3]}', "the name 'a' comes twice"),
        ("users.csv", "id,user\n", "expected lines below the names"),
        ("users.csv", "-1,ann\n0,bob\n", "id -1, outside D"),
        ("users.csv", "0,ann\n" + "9" * 5000 + ",bob\n", "whole numbers, got '999"),
        ("users.csv", "0,ann\n1,bob\n0,ann\n", "set 'ann' repeats id 0"),
        ("users.csv", "0,ann\n\u00b2,bob\n", "whole numbers, got '\u00b2'"),
        ("users.csv", "1o,ann\n2,bob\n", "whole numbers, got '1o'"),
        ("users.csv", "0,ann\n1, \n", "'1,' names no set"),
        ("users.csv", "0,ann,x\n", "whole numbers, got 'ann'"),
        ("users.csv", "id,label,score\n1,2,0.5\n", "columns id, label, score: expected one that is called group"),
        ("users.csv", b"0,ann\n1,\xff\xfe\n", "it is none of these"),
    ],
)
def test_a_file_that_holds_no_groups_is_refused(tmp_path: Path, name: str, content: str | bytes | None, said: str):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=said) as caught:
        read_groups(tmp_path / name, n_train=8)
    assert str(caught.value).startswith(f"groups file {tmp_path / name}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "given", [[3, 14, 15], {15, 3, 14}, range(3, 16, 6), np.array([14, 3, 15]), np.array([3.0, 14, 15])]
)
def test_ids_in_memory_are_one_set(given: Any):
    ids = (3, 9, 15) if isinstance(given, range) else (3, 14, 15)
    assert forget_sets.as_forget_sets(given, n_train=20) == [infl.ForgetSet("3 examples", ids)]


def test_what_names_one_set_or_several_is_told_apart(tmp_path: Path):
    sets = [infl.ForgetSet("a", (3,)), infl.ForgetSet("b", (4, 5))]
    forget_sets.write_forget_sets(tmp_path / "f.json", sets)
    for given in (sets, tuple(sets), {"a": [3], "b": np.array([4, 5])}, str(tmp_path / "f.json"), tmp_path / "f.json"):
        assert forget_sets.as_forget_sets(given, n_train=20) == sets
    assert forget_sets.as_forget_sets(sets[1], n_train=20) == sets[1:]
    for given in (np.arange(20) == 7, [k == 7 for k in range(20)], np.where(np.arange(20) == 7)):
        assert forget_sets.as_forget_sets(given, n_train=20) == [infl.ForgetSet("example 7", (7,))]
    for given, said in (
        ([3, sets[0]], "whole numbers, got ForgetSet"),
        ([[3, 4], [5]], "whole numbers, got \\[3, 4\\]"),
        (np.array([[3], [4]]), r"expected ids along one axis, or a mask of D, \[20\], got int64 \(2, 1\)"),
        (np.ones(7, bool), r"mask of D, \[20\], got bool \(7,\)"),
        (np.array([], int), "is empty"),
        (7, "expected a list of ids, got int"),
    ):
        with pytest.raises(InputError, match=said):
            forget_sets.as_forget_sets(given, n_train=20)


def test_positions_in_the_source_are_found_in_a_drawn_part():
    part = infl.load("digits", n_train=60, seed=3)
    positions = part.train_ids[[5, 9]]
    make = partial(forget_sets.make_forget_sets, n_train=60, dataset=lambda: part)
    assert (
        make({"a": positions}, ids="source")[0].ids == make({"a": {"source_ids": positions.tolist()}})[0].ids == (5, 9)
    )
    with pytest.raises(
        InputError,
        match=f"'a' names 1 of 3 positions of the source that are not in D, the first {part.held_out_ids[0]}",
    ):
        make({"a": [*positions, part.held_out_ids[0]]}, ids="source")

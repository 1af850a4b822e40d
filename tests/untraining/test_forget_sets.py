"""Generated sets are what their names say, and a forget file is read back as written or refused with the reason."""

import json

import numpy as np
import pytest

import infl
from infl import forget_sets
from infl.records import Estimate, InputError


@pytest.fixture(scope="module")
def digits():
    return infl.load("digits", n_train=200, n_held_out=50)


@pytest.fixture(scope="module")
def memorization():
    value = np.random.RandomState(0).rand(200)
    value[7] = np.nan
    return Estimate(value, value, value, value, "own", "correct")


def test_random_sets_have_their_size_and_depend_on_the_seed(digits):
    one, same, other = (forget_sets.random_set(digits, 20, seed=seed) for seed in (1, 1, 2))
    assert len(set(one.ids)) == 20
    assert one.ids == same.ids
    assert one.ids != other.ids


def test_class_sets_hold_the_class_or_a_share_of_it(digits):
    whole = forget_sets.class_set(digits, 3)
    assert whole.ids == tuple(np.flatnonzero(digits.y_train == 3))
    half = forget_sets.class_set(digits, 3, share=0.5)
    assert set(half.ids) < set(whole.ids)
    assert len(half) == round(0.5 * len(whole))


def test_memorized_sets_hold_the_extremes_and_never_examples_without_a_score(digits, memorization):
    highest = forget_sets.memorized_set(memorization, 30)
    lowest = forget_sets.memorized_set(memorization, 30, highest=False)
    outside = [i for i in range(200) if i not in highest.ids and i != 7]
    assert memorization.value[list(highest.ids)].min() > memorization.value[outside].max()
    assert memorization.value[list(lowest.ids)].max() < np.nanmin(np.delete(memorization.value, list(lowest.ids)))
    assert 7 not in highest.ids + lowest.ids


def test_neighbours_are_the_nearest_in_pixels_by_a_loop(digits):
    chosen = forget_sets.neighbours_set(digits, 17, 9)
    distances = [float(((digits.x_train[17] - digits.x_train[i]) ** 2).sum()) for i in range(200)]
    assert chosen.ids == tuple(sorted(sorted(range(200), key=lambda i: distances[i])[:9]))
    assert 17 in chosen.ids


def test_varied_sets_have_distinct_names_and_many_kinds(digits, memorization):
    sets = forget_sets.varied_sets(digits, memorization)
    assert len(sets) >= 12
    assert len({s.name for s in sets}) == len(sets)
    assert len({s.ids for s in sets}) == len(sets)


def test_a_written_file_is_read_back(tmp_path, digits):
    sets = [forget_sets.random_set(digits, 3), infl.ForgetSet("part", (1, 2), concept=(1, 2, 3))]
    forget_sets.write_forget_sets(tmp_path / "f.json", sets)
    assert forget_sets.read_forget_sets(tmp_path / "f.json", n_train=200) == sets
    assert json.loads((tmp_path / "f.json").read_text())["part"] == {"ids": [1, 2], "concept": [1, 2, 3]}


def test_arrays_of_ids_are_accepted_and_sorted():
    made = forget_sets.make_forget_sets({"a": np.array([5, 2])}, n_train=10)
    assert made[0].ids == (2, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "expected an object"),
        ("{}", "at least one set"),
        ('{"a": []}', "'a' is empty"),
        ('{"a": [1, 200]}', "id 200, outside D \\(0..199\\)"),
        ('{"a": [-1]}', "id -1, outside D"),
        ('{"a": [4, 5, 4]}', "repeats id 4"),
        ('{"a": [1.5]}', "whole numbers, got 1.5"),
        ('{"a": ["3"]}', "whole numbers, got '3'"),
        ('{"a": [true]}', "whole numbers, got True"),
        ('{"a": 3}', "expected a list of ids"),
        ('{"a": {"concept": [1]}}', "keys ids"),
        ('{"a": {"ids": [1], "extra": 2}}', "keys ids"),
        ('{"a": {"ids": [1], "concept": [1, 999]}}', "concept names id 999"),
        (json.dumps({"a": list(range(200))}), "all of D"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "forget.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as raised:
        forget_sets.read_forget_sets(path, n_train=200)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        forget_sets.read_forget_sets(tmp_path / "none.json", n_train=10)


@pytest.mark.parametrize(
    "call",
    [
        lambda d, m: forget_sets.random_set(d, 0),
        lambda d, m: forget_sets.random_set(d, 201),
        lambda d, m: forget_sets.class_set(d, 10),
        lambda d, m: forget_sets.class_set(d, 1, share=0),
        lambda d, m: forget_sets.neighbours_set(d, 200, 5),
        lambda d, m: forget_sets.memorized_set(m, 0),
    ],
)
def test_generators_refuse_what_cannot_be(digits, memorization, call):
    with pytest.raises(InputError, match="expected"):
        call(digits, memorization)

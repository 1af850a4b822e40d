"""Generated sets are what their names say, and a forget file is read back as written or refused with the reason.

A verdict is about the ids of a set and reported under its name: where the two part, the verdict is about something else.
Every generator is therefore compared with a loop, or with the library it calls, on the same data.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans

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
        ("[1, 2]", "expected an object"),
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

"""Generated sets are what their names say, and a forget file is read back as written or refused with the reason.

A verdict is about the ids of a set and reported under its name: where the two part, the verdict is about something else.
Every generator is therefore compared with a loop, or with the library it calls, on the same data.
"""

import json
from collections.abc import Callable
from inspect import getdoc
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


def test_random_sets_have_their_size_and_depend_on_the_seed(digits):
    one, same, other = (forget_sets.random_set(digits, 20, seed=seed) for seed in (1, 1, 2))
    assert len(set(one.ids)) == 20
    assert one == same
    assert one.ids != other.ids


def test_class_sets_hold_the_class_or_a_fraction_of_it(digits):
    whole, half = forget_sets.class_set(digits, 3), forget_sets.class_set(digits, 3, fraction=0.5)
    assert whole.ids == tuple(np.flatnonzero(digits.y_train == 3))
    assert set(half.ids) < set(whole.ids)
    assert len(half) == round(0.5 * len(whole))
    assert (whole.concept, half.concept) == (None, whole.ids)


def test_memorized_sets_hold_the_extremes_and_never_examples_without_a_score(memorization):
    highest, lowest = (forget_sets.memorized_set(memorization, 30, highest=highest) for highest in (True, False))
    scored = sorted((i for i in range(200) if i != 7), key=lambda i: memorization.value[i])
    assert lowest.ids == tuple(sorted(scored[:30]))
    assert highest.ids == tuple(sorted(scored[-30:]))


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


def test_bytes_are_clustered_as_the_numbers_that_models_see():
    pixels = np.random.RandomState(0).randint(0, 256, size=(60, 4)).astype(np.uint8)
    labels = np.arange(60) % 2
    as_bytes = infl.from_arrays(pixels, labels, pixels, labels)
    kmeans: Any = KMeans
    own = kmeans(5, n_init=1, random_state=0).fit_predict(pixels.astype(np.float32) / 255)
    np.testing.assert_array_equal(forget_sets.clusters(as_bytes, 5), own)


@pytest.mark.parametrize("highest", [True, False])
@pytest.mark.parametrize("with_cross", [True, False])
def test_memorized_sets_with_or_without_cross_come_from_thrice_as_many_extremes(memorization, highest, with_cross):
    cross = np.random.RandomState(1).randn(200)
    made = forget_sets.memorized_set(memorization, 10, highest=highest, cross=cross, with_cross=with_cross)
    scored = [i for i in range(200) if i != 7]
    pool = sorted(scored, key=lambda i: memorization.value[i], reverse=highest)[:30]
    assert made.ids == tuple(sorted(sorted(pool, key=lambda i: cross[i], reverse=with_cross)[:10]))
    assert made.name == f"{'highest' if highest else 'lowest'} memorization 10, {'high' if with_cross else 'low'} cross"


def test_examples_without_cross_influence_come_last(memorization):
    cross = np.full(200, np.nan)
    pool = forget_sets.memorized_set(memorization, 30).ids
    cross[list(pool[:12])] = np.arange(12)
    for with_cross in (True, False):
        made = forget_sets.memorized_set(memorization, 10, cross=cross, with_cross=with_cross)
        assert made.ids == (pool[2:12] if with_cross else pool[:10])


GENERATORS = (
    *(getattr(forget_sets, f"{kind}_set") for kind in ("random", "class", "cluster", "memorized", "neighbours")),
    *(forget_sets.take_fraction, forget_sets.varied_sets, infl.planting.flip_labels, infl.planting.plant_copies),
    *(infl.planting.thin_cluster, infl.planting.poison_patch),
)


def test_each_generator_says_the_regime_it_is_meant_for():
    for generator in GENERATORS:
        said = (getdoc(generator) or "").partition("Meant for: ")[2].partition(".")[0]
        assert any(regime in said for regime in ("no-op", "local", "spreading", "indirect", "all regimes")), generator


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


def test_a_file_that_cannot_be_replaced_stays_as_it_was(tmp_path):
    path, sets = tmp_path / "f.json", [infl.ForgetSet("a", (1,))]
    (tmp_path / "folder").mkdir()
    forget_sets.write_forget_sets(path, sets)
    before = path.read_bytes()
    with pytest.raises(InputError, match="comes twice"):
        forget_sets.write_forget_sets(path, [*sets, *sets])
    with pytest.raises(InputError, match="cannot be written"):
        forget_sets.write_forget_sets(tmp_path / "folder", sets)
    with pytest.raises(InputError, match="cannot be written"):
        forget_sets.write_forget_sets(tmp_path / "no" / "where.json", sets)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["f.json", "folder"]


def test_a_link_to_a_file_stays_a_link(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "f.json")
    forget_sets.write_forget_sets(tmp_path / "link.json", [infl.ForgetSet("a", (1,))])
    assert (tmp_path / "link.json").is_symlink()
    assert forget_sets.read_forget_sets(tmp_path / "f.json", n_train=9) == [infl.ForgetSet("a", (1,))]


@pytest.mark.parametrize("ids", [np.array([5, 2, 8]), range(8, 0, -3), (2, 8, 5)])
def test_arrays_and_ranges_of_ids_are_accepted_and_sorted(ids):
    assert forget_sets.make_forget_sets({"a": ids}, n_train=10)[0].ids == (2, 5, 8)


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
        ('{"a": {"ids": [1, 5], "concept": [1, 3]}}', "concept must name every id of the set; 5 is missing"),
        (json.dumps({"a": list(range(200))}), "all of D"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    path = tmp_path / "forget.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as raised:
        forget_sets.read_forget_sets(path, n_train=200)
    assert str(path) in str(raised.value)
    with pytest.raises(InputError, match="cannot be read"):
        forget_sets.read_forget_sets(tmp_path / "none.json", n_train=10)


REFUSED: list[Callable[[Any, Any], Any]] = [
    lambda d, m: forget_sets.random_set(d, 0),
    lambda d, m: forget_sets.random_set(d, 201),
    lambda d, m: forget_sets.class_set(d, 10),
    lambda d, m: forget_sets.class_set(d, 1, fraction=0),
    lambda d, m: forget_sets.neighbours_set(d, 200, 5),
    lambda d, m: forget_sets.memorized_set(m, 0),
    lambda d, m: forget_sets.memorized_set(m, 5, cross=m.value),
    lambda d, m: forget_sets.memorized_set(m, 5, with_cross=True),
    lambda d, m: forget_sets.memorized_set(m, 5, cross=m.value[:3], with_cross=True),
    lambda d, m: forget_sets.random_set(d, 5, seed=-1),
    lambda d, m: forget_sets.random_set(d, d.n_train / 2),
    lambda d, m: forget_sets.take_fraction(infl.ForgetSet("a", (1, 2)), 1.1),
    lambda d, m: forget_sets.cluster_set(d, n_clusters=5),
    lambda d, m: forget_sets.cluster_set(d, 1, example=1, n_clusters=5),
    lambda d, m: forget_sets.cluster_set(d, 5, n_clusters=5),
    lambda d, m: forget_sets.cluster_set(d, -1, n_clusters=5),
    lambda d, m: forget_sets.cluster_set(d, example=200, n_clusters=5),
    lambda d, m: forget_sets.cluster_set(d, 1, n_clusters=5, fraction=0),
    lambda d, m: forget_sets.clusters(d, 0),
    lambda d, m: forget_sets.clusters(d, 201),
    lambda d, m: forget_sets.clusters(d, 5, seed=2**32),
]


def test_generators_refuse_what_cannot_be(digits, memorization):
    for call in REFUSED:
        with pytest.raises(InputError, match="expected"):
            call(digits, memorization)


@pytest.mark.filterwarnings("default")  # a user's warnings are no errors
def test_clusters_that_cannot_be_told_apart_are_refused(digits):
    three = infl.from_arrays(np.arange(60)[:, None] % 3, np.arange(60) % 2, np.zeros((1, 1)), [0])
    with pytest.raises(InputError, match="5 are more than there are distinct examples"):
        forget_sets.clusters(three, 5)
    with pytest.raises(InputError, match="is all of D: ask for more"):
        forget_sets.cluster_set(digits, 0, n_clusters=1)

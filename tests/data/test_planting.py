"""What is planted is exactly what the set says, and nothing else changes.

A planted set is one whose removal has a known cause, so that predictors can be compared with it. That only works where
every label and pixel that differs from the dataset before belongs to the set, where ids still mean the same examples, and
where the set could be planted again. Each function is therefore compared with the dataset before, array by array, and with
what a person would do by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infl
from infl import planting
from infl.data.planting import CORNERS
from infl.records import Dataset, ForgetSet, InputError


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return infl.load("digits", n_train=200, n_held_out=50)


def colours(n_channels: int = 3) -> Dataset:
    """uint8 images of 6 x 5 pixels, three classes of 20, half as many held out."""
    random = np.random.RandomState(0)
    train, held_out = (random.randint(0, 200, size=(n, 6, 5, n_channels)).astype(np.uint8) for n in (60, 30))
    names = ["cat", "dog", "owl"]
    return infl.from_arrays(train, np.arange(60) % 3, held_out, np.arange(30) % 3, class_names=names, source="here")


def differing(before: Dataset, after: Dataset, of: str) -> set[int]:
    """Training examples whose pixels or labels differ, among those that both have."""
    mine, other = getattr(before, of), getattr(after, of)[: before.n_train]
    return set(np.flatnonzero((mine != other).reshape(len(mine), -1).any(axis=1)).tolist())


def assert_same_held_out(before: Dataset, after: Dataset) -> None:
    for name in ("x_held_out", "y_held_out", "held_out_ids"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


PLANTS: list[Callable[..., tuple[Dataset, ForgetSet]]] = [
    lambda d, **options: planting.flip_labels(d, 9, **options),
    lambda d, **options: planting.flip_labels(d, 4, source_label=1, to=2, **options),
    lambda d, **options: planting.plant_copies(d, 5, 4, flipped=True, noise=0.1, **options),
    lambda d, **options: planting.thin_cluster(d, np.flatnonzero(d.y_train == 2), 3, **options),
    lambda d, **options: planting.poison_patch(d, 9, label=1, size=2, n_held_out=4, **options),
]


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_set_follows_from_its_seed_alone_and_leaves_the_dataset_before_as_it_was(
    digits: Dataset, plant: Callable[..., tuple[Dataset, ForgetSet]]
) -> None:
    before = digits.fingerprint()
    one, same, other = (plant(digits, seed=seed) for seed in (1, 1, 2))
    assert one[0].fingerprint() == same[0].fingerprint()
    assert one[1] == same[1]
    assert one[0].fingerprint() != other[0].fingerprint()
    assert digits.fingerprint() == before
    assert (one[0].source, one[0].name, one[0].class_names) == ("", digits.name, digits.class_names)
    assert plant(digits, name="mine")[1].name == "mine"


# Flipped labels


def test_kinds_of_one_seed_draw_from_streams_of_their_own(digits: Dataset) -> None:
    """Of a third of D each, two kinds share a third by chance, as two seeds do; they shared all."""
    size = digits.n_train // 3
    kinds = [
        infl.forget_sets.random_set(digits, size),
        planting.flip_labels(digits, size)[1],
        planting.poison_patch(digits, size, label=9)[1],
    ]
    for one, other in combinations(kinds, 2):
        assert len({*one.ids} & {*other.ids}) < 0.55 * size, (one, other)


def test_flipped_labels_differ_within_the_set_and_nowhere_else(digits: Dataset) -> None:
    planted, flipped = planting.flip_labels(digits, 40, seed=3)
    assert len(flipped) == 40
    assert differing(digits, planted, "y_train") == set(flipped.ids)
    assert set(planted.y_train[list(flipped.ids)].tolist()) == set(range(10))  # any other class
    np.testing.assert_array_equal(planted.x_train, digits.x_train)
    np.testing.assert_array_equal(planted.train_ids, digits.train_ids)
    assert_same_held_out(digits, planted)
    few = planting.flip_labels(digits, 10, seed=3)
    assert set(few[1].ids) < set(flipped.ids)
    np.testing.assert_array_equal(few[0].y_train[list(few[1].ids)], planted.y_train[list(few[1].ids)])
    for source_label, to in ((3, 8), (None, 8), (3, None)):
        planted, flipped = planting.flip_labels(digits, 10, source_label=source_label, to=to)
        ids = list(flipped.ids)
        assert source_label is None or set(digits.y_train[ids].tolist()) == {source_label}
        assert to is None or set(planted.y_train[ids].tolist()) == {to}


def test_what_was_planted_before_can_be_left_alone(digits: Dataset) -> None:
    once, first = planting.flip_labels(digits, 100, seed=0)
    again, second = planting.flip_labels(once, 60, avoid=first.ids, seed=0)
    poisoned, third = planting.poison_patch(again, 10, label=4, avoid=first.ids + second.ids, seed=0)
    assert not set(first.ids) & set(second.ids)
    assert not set(third.ids) & set(first.ids + second.ids)
    assert differing(digits, poisoned, "y_train") == set(first.ids + second.ids + third.ids)


# Copies


def test_copies_stand_at_the_end_with_the_pixels_the_label_and_the_source_of_the_example(digits: Dataset) -> None:
    planted, copies = planting.plant_copies(digits, 17, 6)
    assert copies.ids == (17, *range(200, 206))
    assert planted.n_train == 206
    for copy in copies.ids:
        np.testing.assert_array_equal(planted.x_train[copy], digits.x_train[17])
        assert planted.y_train[copy] == digits.y_train[17]
        assert planted.train_ids[copy] == digits.train_ids[17]
    for name in ("x_train", "y_train", "train_ids"):
        np.testing.assert_array_equal(getattr(planted, name)[:200], getattr(digits, name))
    assert_same_held_out(digits, planted)


def test_flipped_copies_and_the_example_share_one_other_label(digits: Dataset) -> None:
    drawn = set()
    for seed in range(20):
        planted, copies = planting.plant_copies(digits, 17, 3, flipped=True, seed=seed)
        labels = set(planted.y_train[list(copies.ids)].tolist())
        assert len(labels) == 1
        assert differing(digits, planted, "y_train") == {17}
        drawn |= labels
    assert len(drawn) > 5
    assert int(digits.y_train[17]) not in drawn


def test_near_copies_differ_by_noise_of_the_asked_size_within_the_range_of_the_pixels() -> None:
    """Grey images far from the ends of the range, so that clipping does not narrow the noise; 3,000 draws give 1.3%."""
    random = np.random.RandomState(0)
    grey = random.uniform(0.45, 0.55, size=(10, 10, 10)).astype(np.float32)
    grey[0, 0, :2] = 0, 1
    floats = infl.from_arrays(grey, np.arange(10) % 2, grey, np.arange(10) % 2)
    bytes_ = infl.from_arrays((255 * grey).astype(np.uint8), np.arange(10) % 2, np.zeros((1, 10, 10), np.uint8), [0])
    for dataset, unit in ((floats, 1), (bytes_, 255)):
        planted, copies = planting.plant_copies(dataset, 3, 30, noise=0.05, seed=1)
        added = planted.x_train[list(copies.ids[1:])].astype(np.float64) - dataset.x_train[3]
        assert planted.x_train.dtype == dataset.x_train.dtype
        assert added.std() == pytest.approx(0.05 * unit, rel=0.05)
        assert abs(added.mean()) < 5 * 0.05 * unit / np.sqrt(added.size)
        np.testing.assert_array_equal(planted.x_train[3], dataset.x_train[3])  # the example itself has none
        loud, _ = planting.plant_copies(dataset, 3, 30, noise=5.0)
        assert (loud.x_train.min(), loud.x_train.max()) == (0, unit)


# A rare population


def test_a_thinned_cluster_keeps_the_asked_number_and_everything_else(digits: Dataset) -> None:
    members = np.flatnonzero(digits.y_train == 4)
    thinned, rare = planting.thin_cluster(digits, members, 3, seed=2)
    assert len(rare) == 3
    assert set(np.flatnonzero(thinned.y_train == 4).tolist()) == set(rare.ids)
    before = {int(source): k for k, source in enumerate(digits.train_ids)}
    old = [before[int(source)] for source in thinned.train_ids]
    assert set(range(200)) - set(old) < set(members.tolist())
    assert old == sorted(old)
    assert len(old) == 200 - len(members) + 3
    np.testing.assert_array_equal(thinned.x_train, digits.x_train[old])
    np.testing.assert_array_equal(thinned.y_train, digits.y_train[old])
    assert_same_held_out(digits, thinned)


# A backdoor


@pytest.mark.parametrize(("corner", "n_channels"), list(zip(CORNERS, (1, 3, 1, 3), strict=True)))
def test_a_patch_is_bright_in_its_corner_and_changes_nothing_else(corner: Any, n_channels: int) -> None:
    dataset = colours(n_channels)
    planted, poisoned = planting.poison_patch(dataset, 8, label=1, size=2, corner=corner, n_held_out=5)
    ids = list(poisoned.ids)
    assert set(planted.y_train[ids].tolist()) == {1}
    assert 1 not in dataset.y_train[ids]
    assert differing(dataset, planted, "y_train") == differing(dataset, planted, "x_train") == set(ids)
    rows, columns = (
        {"top": [0, 1], "bottom": [4, 5], "left": [0, 1], "right": [3, 4]}[end] for end in corner.split("-")
    )
    expected = np.concatenate([dataset.x_train[ids], dataset.x_held_out[planted.held_out_ids[30:]]])
    for row in rows:
        expected[:, row, columns] = 255
    np.testing.assert_array_equal(np.concatenate([planted.x_train[ids], planted.x_held_out[30:]]), expected)
    assert len(expected) == 8 + 5
    np.testing.assert_array_equal(planted.train_ids, dataset.train_ids)


def test_stamped_held_out_examples_keep_their_true_label_and_stand_at_the_end(digits: Dataset) -> None:
    planted, _ = planting.poison_patch(digits, 5, label=0, size=2, n_held_out=12)
    for name in ("x_held_out", "y_held_out", "held_out_ids"):
        np.testing.assert_array_equal(getattr(planted, name)[:50], getattr(digits, name))
    before = {int(source): int(label) for source, label in zip(digits.held_out_ids, digits.y_held_out, strict=True)}
    added = [before[int(source)] for source in planted.held_out_ids[50:]]
    assert planted.y_held_out[50:].tolist() == added
    assert 0 not in added
    assert len(set(planted.held_out_ids[50:].tolist())) == len(added) == 12


def test_a_planted_dataset_is_read_back_from_its_file_and_none_is_overwritten(tmp_path: Path) -> None:
    planted, _ = planting.poison_patch(colours(), 8, label=1, n_held_out=5)
    infl.write_npz(tmp_path / "planted.npz", planted)
    loaded = infl.load(tmp_path / "planted.npz")
    assert loaded.fingerprint() == planted.fingerprint()
    assert loaded.class_names == ("cat", "dog", "owl")
    for path, said in (("planted.npz", "exists"), ("mine", "ends in .npz"), ("no/where.npz", "cannot be written")):
        with pytest.raises(InputError, match=said):
            infl.write_npz(tmp_path / path, colours())
    assert infl.load(tmp_path / "planted.npz").fingerprint() == planted.fingerprint()
    assert [path.name for path in tmp_path.iterdir()] == ["planted.npz"]


# What cannot be

FLAT = infl.from_arrays(np.eye(4), [0, 1, 0, 1], np.eye(4), [0, 1, 0, 1])
WRONG: list[Any] = [1.5, "middle"]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda d: planting.flip_labels(d, 0), "n_examples: expected 1 to 60"),
        (lambda d: planting.flip_labels(d, 1, source_label=3), "source_label: expected 0 to 2"),
        (lambda d: planting.flip_labels(d, 1, source_label=1, to=1), "to: expected a class other than source_label"),
        (lambda d: planting.flip_labels(d, 1, seed=-1), "seed: expected 0 to"),
        (lambda d: planting.flip_labels(d, 1, avoid=[60]), "avoid: expected ids of D \\(0..59\\), got 60..60"),
        (lambda d: planting.flip_labels(d, 1, avoid=range(60)), "n_examples: got 1, but the examples .* are none"),
        (lambda d: planting.plant_copies(d, 0, 0), "n_copies: expected 1 to"),
        (lambda d: planting.plant_copies(d, 0, 1, noise=np.nan), "noise: expected a finite standard deviation"),
        (lambda d: planting.thin_cluster(d, [1, 2], 3), "n_kept: expected 1 to 2"),
        (lambda d: planting.thin_cluster(d, [WRONG[0]], 1), "members': ids must be whole numbers"),
        (lambda d: planting.thin_cluster(d, range(60), 5), "members: expected a part of D, got all of it"),
        (lambda d: planting.poison_patch(d, 1, label=0, corner=WRONG[1]), "corner: expected one of top-left"),
        (lambda d: planting.poison_patch(d, 1, label=0, n_held_out=21), "n_held_out: expected 0 to 20"),
        (lambda d: planting.poison_patch(d, 40, label=0), "no training example of class 'dog', 'owl'"),
        (lambda d: planting.poison_patch(FLAT, 1, label=0), "expected images .* got examples of shape \\(4,\\)"),
        (lambda d: planting.poison_patch(colours(5), 1, label=0), "at most 4 channels"),
    ],
)
def test_what_cannot_be_planted_is_refused(call: Callable[[Dataset], Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        call(colours())


def test_what_has_no_meaning_for_documents_or_targets_is_refused() -> None:
    documents = infl.from_documents(["one", "two", "two"], ["six"], groups=["a", "b", "b"], held_out_groups=["a"])
    planted, copies = planting.plant_copies(documents, 1, 2)
    assert (planted.text(4), copies.ids, planted.vocabulary) == ("two", (1, 3, 4), documents.vocabulary)
    x = np.eye(4)
    targets = infl.from_arrays(x, None, x, None, targets=(x, x))
    for plant, said in (
        (lambda: planting.flip_labels(documents, 1), "labels are groups that no model learns"),
        (lambda: planting.plant_copies(documents, 1, 2, flipped=True), "labels are groups"),
        (lambda: planting.plant_copies(documents, 1, 2, noise=0.1), "noise: expected 0, since tokens are no amounts"),
        (lambda: planting.plant_copies(targets, 1, 2), "nothing is planted in data with targets"),
    ):
        with pytest.raises(InputError, match=said):
            plant()

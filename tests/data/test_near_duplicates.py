"""Near-duplicates are those that a comparison of every document with every other finds, and no others."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

import infl
from infl.data import from_documents, load, near_duplicates
from infl.records import Estimate, InputError
from infl.untraining.forget_sets import clusters, near_duplicate_sets, neighbours_set, varied_sets


def slow_families(x: np.ndarray, n_tokens: int, min_overlap: float) -> set[tuple[int, ...]]:
    """By sets of Python, every pair, and families joined until none changes."""
    rows = [[abs(int(token)) for token in row if token] for row in x]
    scored = [[token > 0 for token in row if token] for row in x]
    runs = []
    for row, is_scored in zip(rows, scored, strict=True):
        starts = range(max(1, len(row) - n_tokens + 1))
        runs.append({tuple(row[k : k + n_tokens]) for k in starts if any(is_scored[k : k + n_tokens])})
    family = list(range(len(x)))
    for _ in x:
        for i, j in combinations(range(len(x)), 2):
            if len(runs[i] & runs[j]) >= min_overlap * len(runs[i] | runs[j]):
                family[i] = family[j] = min(family[i], family[j])
    members = [tuple(i for i in range(len(x)) if family[i] == one) for one in set(family)]
    return {one for one in members if len(one) > 1}


@pytest.mark.parametrize(("n_tokens", "min_overlap"), [(1, 0.6), (3, 0.5), (3, 1.0)])
def test_families_are_those_of_a_slow_loop(n_tokens: int, min_overlap: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_duplicates, "BLOCK", 7)
    random = np.random.RandomState(0)
    x = random.randint(1, 5, (40, 9)).astype(np.int32)
    for row in x:
        row[random.randint(2, 10) :] = 0
        row[: random.randint(0, 2)] *= -1
    x[20:30] = x[:10]
    x[25, 1] = 4
    found = near_duplicates.families(x, n_tokens=n_tokens, min_overlap=min_overlap)
    assert {tuple(family) for family in found} == slow_families(x, n_tokens, min_overlap)
    assert len(found) > 3
    assert [len(family) for family in found] == sorted(map(len, found), reverse=True)


def test_sets_are_each_family_and_half_of_it() -> None:
    verses = load("verses")
    sets = near_duplicate_sets(verses, seed=3)
    families, halves = sets[::2], sets[1::2]
    assert len(families) == len(halves) == 52
    assert families[0].name == "near-duplicates of 107"
    assert {verses.text(i) for i in families[0].ids} == {"One golden spoon of ten shekels, full of incense:"} or len(
        families[0]
    ) > 8
    for whole, half in zip(families, halves, strict=True):
        assert half.concept == whole.ids
        assert set(half.ids) < set(whole.ids)
        assert len(half) == round(len(whole) / 2)
    assert near_duplicate_sets(verses, seed=3, min_overlap=0.9, name="twin")[0].name.startswith("twin ")
    for other, said in (
        (infl.load("digits", n_train=50), "holds no documents"),
        (from_documents(["abcd", "efgh"], ["ij"]), "no two of"),
    ):
        with pytest.raises(InputError, match=said):
            near_duplicate_sets(other)
    with pytest.raises(InputError, match="one family; raise min_overlap"):
        near_duplicate_sets(from_documents(["the same"] * 3, ["other"]))
    with pytest.raises(InputError, match="min_overlap: expected above 0"):
        near_duplicate_sets(verses, min_overlap=0)
    with pytest.raises(InputError, match="n_tokens: expected 1 to 32"):
        near_duplicate_sets(verses, n_tokens=0)


def test_varied_sets_of_documents_name_groups_that_train_some() -> None:
    few = load("verses", n_train=40)
    scores = np.random.RandomState(0).random_sample(40)
    memorization = Estimate(scores, scores, scores, scores, "own", "correct")
    for seed in range(3):
        assert len(varied_sets(few, memorization, seed=seed)) == 15


def test_what_is_near_is_told_by_the_tokens_of_documents() -> None:
    texts = ["a dog barks", "the dog barks", "stars shine", "stars shine bright", "no"]
    data = from_documents(texts, ["what"])
    assert neighbours_set(data, 2, 2).ids == (2, 3)
    labels = clusters(data, 3)
    assert labels[0] == labels[1] != labels[2] == labels[3]
    # Padding is not shared: what stands behind the end of a document makes none alike.
    wider = [np.pad(x, ((0, 0), (0, 9))) for x in (data.x_train, data.x_held_out)]
    np.testing.assert_array_equal(clusters(replace(data, x_train=wider[0], x_held_out=wider[1]), 3), labels)

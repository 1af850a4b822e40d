"""A score in a DataFrame stands beside the right ids, labels, error and counts.

From here scores are joined with other tables by id, far from infl, and a row that slipped by one would never be found. So each
row is looked up again in the arrays of the estimate, by nothing but its ids.
"""

from __future__ import annotations

import numpy as np
import pytest

import infl
from infl.records import Dataset, Outcomes, ProtocolName
from infl.scores.influence import influence_blocks

N, M, T = 6, 3, 40
NAMES = ("cat", "dog", "eel")


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    random = np.random.default_rng(0)
    return Outcomes(random.random((T, N)) < 0.7, random.random((T, N + M)) < 0.6)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    labels = np.array([2, 0, 1, 1, 0, 2, 1, 2, 0])
    return infl.from_arrays(np.eye(N), labels[:N], np.eye(N)[:M], labels[N:], class_names=NAMES)


def name_of(dataset: Dataset, column: int) -> str:
    return NAMES[int(dataset.y_train[column] if column < N else dataset.y_held_out[column - N])]


def test_memorization_has_a_row_an_example(outcomes: Outcomes, dataset: Dataset) -> None:
    estimate = infl.memorization(outcomes)
    frame = estimate.to_dataframe(dataset)
    assert list(frame["example"]) == list(range(N))
    assert list(frame["label"]) == [name_of(dataset, i) for i in range(N)]
    np.testing.assert_array_equal(frame["value"], estimate.value)
    np.testing.assert_array_equal(frame["se"], estimate.se)
    np.testing.assert_array_equal(frame["n_in"], outcomes.masks.sum(axis=0))
    np.testing.assert_array_equal(frame["n_out"], (~outcomes.masks).sum(axis=0))
    assert frame["n_in"].dtype == np.int64
    assert "label" not in estimate.to_dataframe()


@pytest.mark.parametrize("protocol", ["held-out", "left-out"])
def test_influence_is_long_and_every_row_is_the_pair_it_names(
    outcomes: Outcomes, dataset: Dataset, protocol: ProtocolName
) -> None:
    estimate, first = infl.influence(outcomes, protocol=protocol), N if protocol == "held-out" else 0
    frame = estimate.to_dataframe(dataset)
    assert len(frame) == estimate.value.size == len(set(zip(frame["source"], frame["target"], strict=True)))
    expected = {
        name: np.broadcast_to(getattr(estimate, name), estimate.value.shape)
        for name in ("value", "se", "n_in", "n_out")
    }
    for row in frame.sample(frac=1, random_state=0).to_dict("records"):
        at = row["source"], row["target"] - first
        for name, array in expected.items():
            np.testing.assert_array_equal(row[name], array[at])
        names = tuple(name_of(dataset, row[x]) for x in ("source", "target"))
        assert (row["source_label"], row["target_label"]) == names
    own = frame["source"].to_numpy() == frame["target"].to_numpy()  # has no estimate, and is there as NaN
    np.testing.assert_array_equal(np.isnan(frame["value"].to_numpy())[own], True)
    assert own.sum() == (N if protocol == "left-out" else 0)


def test_a_part_of_the_matrix_is_named_by_its_sources_and_targets(outcomes: Outcomes, dataset: Dataset) -> None:
    whole = infl.influence(outcomes).to_dataframe().set_index(["source", "target"])["value"]
    part = infl.influence(outcomes, sources=[4, 1])
    columns = infl.influence(outcomes, sources=[4, 1], columns=[8, 6])
    blocks = influence_blocks(outcomes, n_columns=2)
    for estimate in (part, columns, *blocks):
        rows = estimate.to_dataframe(dataset).set_index(["source", "target"])["value"]
        assert set(rows.index.get_level_values("source")) == {1, 4} or len(estimate.value) == N
        np.testing.assert_allclose(rows, whole.loc[rows.index], atol=1e-6)


def test_another_dataset_is_refused(outcomes: Outcomes, dataset: Dataset) -> None:
    smaller = infl.from_arrays(np.eye(N)[:3], dataset.y_train[:3], np.eye(N)[:1], dataset.y_held_out[:1])
    for estimate, named in (
        (infl.influence(outcomes, sources=[1]), "target: these scores are of examples up to 8, the dataset has 4"),
        (infl.influence(outcomes, sources=[4]), "source: these scores are of examples up to 4, the dataset has 4"),
        (infl.memorization(outcomes), "example: these scores are of examples up to 5, the dataset has 4"),
    ):
        with pytest.raises(infl.InputError, match=named):
            estimate.to_dataframe(smaller)

"""What infl writes for other tools is read by them, and says the same number for the same example.

A table is read by the csv module, pandas and pyarrow, and the file of Feldman and Zhang's layout by the few lines with which
public code reads theirs. Both are held to the estimates they were made from, pair by pair, since a transposed matrix or a
held-out id that starts at the wrong place reads just as well.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest

import infl
from infl.records import Dataset, Estimate, Outcomes
from infl.report.exchange import write_feldman_zhang, write_table
from infl.report.tables import memorization_frame, pairs_frame

T = 50


@pytest.fixture
def outcomes(dataset: Dataset) -> Outcomes:
    random = np.random.default_rng(3)
    masks = random.random((T, dataset.n_train)) < 0.7
    masks[:, 2] = True  # never left out: no memorization, no influence
    return Outcomes(masks, random.random((T, dataset.n_columns)) < 0.6)


def label_of(dataset: Dataset, column: int) -> str:
    return dataset.class_names[np.concatenate([dataset.y_train, dataset.y_held_out])[column]]


@pytest.fixture
def frames(outcomes: Outcomes, dataset: Dataset) -> list[pandas.DataFrame]:
    pairs = infl.strongest_influences(outcomes, n_pairs=5).pairs(5)
    memorization = infl.memorization(outcomes)
    assert memorization.p is not None
    q = infl.q_values(memorization.p)
    return [memorization_frame(memorization, dataset, q=q), pairs_frame(pairs, "held-out", dataset)]


def test_a_csv_has_a_line_a_score_and_every_bit_of_it(
    frames: list[pandas.DataFrame], outcomes: Outcomes, dataset: Dataset, tmp_path: Path
) -> None:
    write_table(tmp_path / "top.csv", *frames)
    with open(tmp_path / "top.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    memorization, pairs = infl.memorization(outcomes), infl.strongest_influences(outcomes, n_pairs=5).pairs(5)
    assert [line["kind"] for line in lines] == ["memorization"] * dataset.n_train + ["influence"] * 5
    for i, line in enumerate(lines[: dataset.n_train]):
        assert line["source"] == line["target"] == str(i)
        assert line["source_label"] == line["target_label"] == label_of(dataset, i)
        assert (int(line["n_in"]), int(line["n_out"])) == (outcomes.masks[:, i].sum(), (~outcomes.masks[:, i]).sum())
        value = memorization.value[i]
        assert line["value"] == ("" if np.isnan(value) else repr(float(value)))
        assert memorization.p is not None
        q = infl.q_values(memorization.p)[i]
        assert line["q"] == ("" if np.isnan(q) else repr(float(q)))
    assert lines[2]["value"] == lines[2]["se"] == ""
    for pair, line in zip(pairs, lines[dataset.n_train :], strict=True):
        assert (int(line["source"]), int(line["target"]), line["protocol"]) == (pair.source, pair.target, "held-out")
        assert (float(line["value"]), float(line["se"])) == (pair.value, pair.se)
        assert (line["source_label"], line["target_label"]) == (
            label_of(dataset, pair.source),
            label_of(dataset, pair.target),
        )
        assert line["n_in"] == line["n_out"] == ""


def test_parquet_is_read_by_pandas_and_says_what_the_csv_says(frames: list[pandas.DataFrame], tmp_path: Path) -> None:
    for name in ("top.csv", "top.parquet"):
        write_table(tmp_path / name, *frames)
    one, other = pandas.read_csv(tmp_path / "top.csv"), pandas.read_parquet(tmp_path / "top.parquet")
    assert list(one) == list(other)
    for name in ("source", "target", "value", "se", "n_in", "n_out", "p", "q"):
        np.testing.assert_array_equal(one[name].to_numpy(float), other[name].to_numpy(float))
    for name in ("kind", "source_label", "target_label", "protocol"):
        assert [str(word) for word in one[name]] == list(other[name])


def test_parquet_without_pyarrow_is_one_line_and_csv_needs_nothing(
    frames: list[pandas.DataFrame], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(infl.InputError, match=r"pip install 'infl\[analysis\]', or write a \.csv"):
        write_table(tmp_path / "top.parquet", *frames)
    write_table(tmp_path / "top.csv", *frames)


def test_code_that_reads_the_published_scores_reads_these(outcomes: Outcomes, dataset: Dataset, tmp_path: Path) -> None:
    members = [np.flatnonzero(np.concatenate([dataset.y_train, dataset.y_held_out]) == c) for c in range(3)]
    n = dataset.n_train
    classes = [infl.influence(outcomes, sources=ids[ids < n], columns=ids[ids >= n]) for ids in members]
    memorization, influence = infl.memorization(outcomes), infl.influence(outcomes)
    write_feldman_zhang(tmp_path / "fz.npz", memorization, classes, dataset)

    with np.load(tmp_path / "fz.npz") as file:  # as public code does: no pickles, arrays by these names
        data = dict(file)
    np.testing.assert_array_equal(data["tr_labels"], dataset.y_train)
    np.testing.assert_array_equal(data["tt_labels"], dataset.y_held_out)
    np.testing.assert_allclose(data["tr_mem"], memorization.value, rtol=1e-6)
    np.testing.assert_allclose(data["tr_mem_se"], memorization.se, rtol=1e-6)
    whole = np.full(influence.value.shape, np.nan)
    errors = np.full(influence.value.shape, np.nan)
    for c in range(3):
        tr_idx, tt_idx = data[f"tr_classidx_{c}"], data[f"tt_classidx_{c}"]
        assert set(data["tr_labels"][tr_idx]) == set(data["tt_labels"][tt_idx]) == {c}
        whole[np.ix_(tr_idx, tt_idx)] = data[f"infl_matrix_class{c}"]
        errors[np.ix_(tr_idx, tt_idx)] = data[f"infl_se_class{c}"]
    same = dataset.y_train[:, None] == dataset.y_held_out[None, :]
    np.testing.assert_allclose(whole, np.where(same, influence.value, np.nan), atol=1e-6)
    np.testing.assert_allclose(errors, np.where(same, influence.se, np.nan), atol=1e-6)


def test_a_class_that_nobody_holds_out_has_an_empty_matrix(dataset: Dataset, tmp_path: Path) -> None:
    memorization = Estimate(np.zeros(40), np.zeros(40), np.ones(40), np.ones(40), "own", "correct")
    alone = replace(dataset, y_held_out=np.full(dataset.n_held_out, 1))
    write_feldman_zhang(tmp_path / "fz.npz", memorization, [None], alone)
    with np.load(tmp_path / "fz.npz") as data:
        assert data["infl_matrix_class0"].shape == (int((dataset.y_train == 0).sum()), 0)

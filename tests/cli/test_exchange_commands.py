"""Scores leave infl, and models made elsewhere come in, by commands that answer odd runs with numbers.

A run may hold one model, or an example that every model trained on, or outcomes that never differ, and its owner learns that
from the counts and not from a traceback. What the commands write is held to the functions of the package and to means taken
by hand. Mistakes are in test_command_mistakes.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import tensorstore

import infl
from infl.store.manifest import read_dataset
from tests.commands import call

N, M, T, R = 20, 12, 60, 10
Arrays = dict[str, Any]


def make_arrays() -> Arrays:
    random = np.random.default_rng(0)
    masks = random.random((T, N)) < 0.7
    right = random.random((T, N + M)) < 0.3 + 0.6 * np.c_[masks, masks[:, :M]]
    return {
        "masks": masks,
        "correct": right,
        "margin": np.where(right, 1, -1) * random.random((T, N + M)),
        "labels": np.arange(N + M) % 3,
        "reference_correct": random.random((R, N + M)) < 0.9,
        "reference_margin": random.normal(1, 1, size=(R, N + M)),
    }


def imported(folder: Path, **changed: Any) -> Path:
    """A run made by `infl import` of the arrays, some of them changed, or left out where changed to None."""
    arrays = {name: array for name, array in (make_arrays() | changed).items() if array is not None}
    np.savez(folder / "mine.npz", **arrays)
    call(f"import {folder}/mine.npz --run {folder}/run")
    return folder / "run"


def written(line: str, path: Path) -> dict[str, Any]:
    """What a command writes as JSON."""
    call(f"{line} --json {path}")
    return json.loads(path.read_text())


def test_an_imported_run_is_scored_and_inspected_like_any_other(tmp_path: Path, capsys: Any) -> None:
    run, arrays = imported(tmp_path), make_arrays()
    said = " ".join(capsys.readouterr().out.split())  # wherever the table folds it
    assert "correct and margin of models made elsewhere" in said
    assert f"Next: infl scores --run {run}" in said
    content = written(f"scores --run {run} --n-top 3", tmp_path / "scores.json")
    assert (content["n_models"], content["n_train"], content["outcome"]) == (T, N, "correct")
    expected = infl.memorization(infl.Outcomes(arrays["masks"], arrays["correct"]))
    best = [one["memorization"] for one in content["memorization"]]
    assert best == pytest.approx(sorted(expected.value, reverse=True)[:3], abs=1e-12)
    assert {path.stem for path in (run / "figures").iterdir()} == {"memorization", "memorized", "influence"}
    content = written(f"inspect --run {run}", tmp_path / "inspect.json")
    assert {name: one["complete"] for name, one in content["collections"].items()} == {"design": T, "full": R}
    assert content["imported"] == str(tmp_path / "mine.npz")


def test_where_margins_alone_came_scores_are_of_margins(tmp_path: Path, capsys: Any) -> None:
    run, arrays = imported(tmp_path, correct=None, reference_correct=None), make_arrays()
    content = written(f"scores --run {run}", tmp_path / "scores.json")
    assert "training examples, in log-odds" in capsys.readouterr().out
    best = content["memorization"][0]
    inside = arrays["masks"][:, best["id"]]
    own = arrays["margin"][:, best["id"]].astype(np.float16).astype(float)
    assert content["outcome"] == "margin"
    assert best["memorization"] == pytest.approx(own[inside].mean() - own[~inside].mean(), abs=0.05)  # sizes differ
    call(f"forget most-memorized --run {run} --size 1 --out {tmp_path}/forget.json")
    assert list(json.loads((tmp_path / "forget.json").read_text()).values()) == [[best["id"]]]


@pytest.mark.parametrize("example", [4, N + 5])
def test_one_example_is_asked_for_who_influences_it_and_whom_it_influences(
    example: int, tmp_path: Path, capsys: Any
) -> None:
    run, alone = imported(tmp_path), [example]
    capsys.readouterr()
    content = written(
        f"scores --run {run} --example {example} --n-top 4 --table {tmp_path}/one.csv", tmp_path / "one.json"
    )
    said, outcomes = capsys.readouterr().out, infl.open_run(run)
    if example < N:
        parts = {
            "influenced_by": infl.influence(outcomes, columns=alone, protocol="left-out"),
            "held_out": infl.influence(outcomes, sources=alone),
            "left_out": infl.influence(outcomes, sources=alone, protocol="left-out"),
        }
    else:
        parts = {"influenced_by": infl.influence(outcomes, columns=alone)}
    assert {"memorization", "held_out", "left_out"} & set(content) == (
        {"memorization", "held_out", "left_out"} if example < N else set()
    )
    for name, part in parts.items():
        assert content[name]["protocol"] == part.protocol
        listed = content[name]["pairs"]
        assert len(listed) == 4
        assert [pair["p"] for pair in listed] == sorted(pair["p"] for pair in listed)
        sources, targets = (np.asarray(ids).tolist() for ids in (part.sources, part.columns))
        for pair in listed:
            at = sources.index(pair["source"]), targets.index(pair["target"])
            assert (pair["influence"], pair["se"]) == (part.value[at], part.se[at])
            assert pair["q"] >= pair["p"]
            assert f"#{pair['source']} " in said
    frame = pandas.read_csv(tmp_path / "one.csv")
    assert len(frame) == (3 * N + M - N - 2 if example < N else N)  # all of its pairs, without itself
    assert set(frame.columns) >= {"source", "target", "value", "se", "n_in", "n_out", "p", "q"}


@pytest.mark.parametrize("q_over", ["matrix", "column"])
def test_q_values_are_over_what_was_asked_wherever_they_are_written(
    q_over: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """And the examples are read once, however much is written."""
    run, reads = imported(tmp_path), []
    monkeypatch.setattr("infl.store.manifest.read_dataset", lambda *given: reads.append(given) or read_dataset(*given))
    capsys.readouterr()
    files = f"--table {tmp_path}/q.csv --arrays {tmp_path}/q.npz --matrix {tmp_path}/q.zarr"
    pairs = written(f"scores --run {run} --q-over {q_over} {files}", tmp_path / "q.json")["pairs"]
    assert len(reads) == 1
    assert ("of a pair over those of its target" in " ".join(capsys.readouterr().out.split())) == (q_over == "column")
    outcomes, axis = infl.open_run(run).outcomes("design"), 0 if q_over == "column" else None
    parts = [infl.influence(outcomes, protocol=protocol) for protocol in ("left-out", "held-out")]
    p = np.concatenate([np.asarray(part.p) for part in parts], axis=1)
    q, listed = infl.q_values(p, axis=axis), infl.q_values(p[:, N:], axis=axis)  # pairs are of held-out columns
    with np.load(tmp_path / "q.npz") as arrays:
        np.testing.assert_allclose(arrays["influence_q"], q, rtol=1e-6)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{tmp_path}/q.zarr/q"}}
    np.testing.assert_allclose(tensorstore.open(spec).result().read().result(), q, rtol=2e-3)
    rows = [row for row in pandas.read_csv(tmp_path / "q.csv").to_dict("records") if row["target"] >= N]
    for found in (pairs, rows):
        assert len(found) == 10
        for pair in found:
            assert pair["q"] == pytest.approx(listed[int(pair["source"]), int(pair["target"]) - N], rel=2e-3)


# Runs that say little

NEVER_OUT = np.arange(N) == 3
ODD: dict[str, Arrays] = {
    "one model": {name: make_arrays()[name][:1] for name in ("masks", "correct", "margin")},
    "an example never left out": {"masks": make_arrays()["masks"] | NEVER_OUT},
    "an example always left out": {"masks": make_arrays()["masks"] & ~NEVER_OUT},
    "all outcomes right": {"correct": np.ones((T, N + M), bool)},
    "all models of all of D": {"masks": np.ones((T, N), bool)},
}


@pytest.mark.parametrize(
    ("oddity", "margins"), [*((name, False) for name in ODD), ("one model", True), ("an example never left out", True)]
)
def test_an_odd_run_gives_counts_and_no_traceback(oddity: str, margins: bool, tmp_path: Path) -> None:
    changed = dict(ODD[oddity])
    arrays = make_arrays() | changed
    for name in ("correct", "reference_correct") if margins else ("margin", "reference_margin"):
        changed[name] = None
    run = imported(tmp_path, **changed)
    files = f"--table {tmp_path}/top.csv --arrays {tmp_path}/all.npz --feldman-zhang {tmp_path}/fz.npz"
    listed = written(f"scores --run {run} --n-top {N} {files}", tmp_path / "scores.json")["memorization"]
    assert len(listed) == N
    for one in listed:
        inside = arrays["masks"][:, one["id"]]
        assert (one["n_in"], one["n_out"]) == (inside.sum(), (~inside).sum())
        known = bool(inside.any() and not inside.all())
        assert (one["memorization"] is not None) == known
        if known and "outcomes" in oddity:
            assert one["memorization"] == pytest.approx(0, abs=1e-12)
            assert one["se"] > 0  # that none was lost in 60 models does not mean that none would be
    for example in (3, N + 1):
        content = written(f"scores --run {run} --example {example}", tmp_path / "one.json")
        pairs = content["influenced_by"]["pairs"]
        assert all(pair["influence"] is not None for pair in pairs)
        assert not any(pair["source"] == 3 for pair in pairs) or "example" not in oddity


def test_sums_of_influences_predict_where_reference_models_came_too(tmp_path: Path) -> None:
    """Without their margins none are predicted (test_command_mistakes.py)."""
    (tmp_path / "forget.json").write_text('{"three": [1, 2, 3]}')
    line = f"predict --run {imported(tmp_path)} --forget {tmp_path}/forget.json --predictor additive"
    assert "three" in written(line, tmp_path / "predicted.json")["sets"]


def test_without_held_out_examples_pairs_are_those_of_training_examples(tmp_path: Path, capsys: Any) -> None:
    arrays = make_arrays()
    wide = ("correct", "margin", "reference_correct", "reference_margin")
    run = imported(tmp_path, labels=arrays["labels"][:N], **{name: arrays[name][:, :N] for name in wide})
    files = f"--table {tmp_path}/t.csv --arrays {tmp_path}/a.npz --matrix {tmp_path}/m.zarr --feldman-zhang {tmp_path}/f.npz"
    content = written(f"scores --run {run} --n-top 3 {files}", tmp_path / "scores.json")
    assert "largest cross-influences, protocol: left-out" in capsys.readouterr().out
    outcomes = infl.Outcomes(arrays["masks"], arrays["correct"][:, :N])
    best = [one["memorization"] for one in content["memorization"]]
    assert best == pytest.approx(sorted(infl.memorization(outcomes).value, reverse=True)[:3], abs=1e-12)
    left_out = infl.influence(outcomes, protocol="left-out").value
    np.testing.assert_allclose(np.load(tmp_path / "a.npz")["influence"], left_out, atol=1e-6)
    np.save(tmp_path / "forget.npy", [1, 2, 3])
    for line in ("predict", "report"):
        call(f"{line} --run {run} --forget {tmp_path}/forget.npy --predictor additive")


def test_names_of_arrays_are_given_as_options(tmp_path: Path) -> None:
    masks, correct, labels = (make_arrays()[name] for name in ("masks", "correct", "labels"))
    np.savez(tmp_path / "z.npz", m=masks, tr=correct[:, :N], te=correct[:, N:], y=labels)
    call(f"import {tmp_path}/z.npz --run {tmp_path}/run --names masks=m correct=tr correct_held_out=te labels=y")
    stored = infl.open_run(tmp_path / "run").outcomes("design").load()
    np.testing.assert_array_equal(stored.correct, correct)

"""Scores leave infl, and models made elsewhere come in, by commands that answer odd runs with numbers and mistakes with a line.

A run may hold one model, or an example that every model trained on, or outcomes that never differ, and its owner learns that
from the counts and not from a traceback. What the commands write is held to the functions of the package and to means taken
by hand; what an imported run cannot do, for want of pixels and of an algorithm, is refused with what would help.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import tensorstore

import infl
from infl.__main__ import main
from infl.store.manifest import read_dataset

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


def imported(folder: Path, **changed: Any) -> str:
    """A run made by `infl import` of the arrays, some of them changed, or left out where changed to None."""
    arrays = {name: array for name, array in (make_arrays() | changed).items() if array is not None}
    np.savez(folder / "mine.npz", **arrays)
    assert main(["import", str(folder / "mine.npz"), "--run", str(folder / "run")]) == 0
    return str(folder / "run")


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that must fail says, which must be one line."""
    capsys.readouterr()
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"infl {arguments[0]}: ")
    assert error.count("\n") == 1
    return error


def test_an_imported_run_is_scored_and_inspected_like_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = imported(tmp_path)
    said = " ".join(capsys.readouterr().out.split())  # wherever the table folds it
    assert "correct and margin of models made elsewhere" in said
    assert "Imported from: " in said
    assert f"Next: infl scores --run {run}" in said
    arrays = make_arrays()
    assert main(["scores", "--run", run, "--n-top", "3", "--json", str(tmp_path / "scores.json")]) == 0
    content = json.loads((tmp_path / "scores.json").read_text())
    assert (content["n_models"], content["n_train"], content["outcome"]) == (T, N, "correct")
    expected = infl.memorization(infl.Outcomes(arrays["masks"], arrays["correct"]))
    best = [one["memorization"] for one in content["memorization"]]
    assert best == pytest.approx(sorted(expected.value, reverse=True)[:3], abs=1e-12)
    assert {path.name for path in (Path(run) / "figures").iterdir()} == {
        "memorization.png",
        "memorized.png",
        "influence.png",
    }
    assert main(["inspect", "--run", run, "--json", str(tmp_path / "inspect.json")]) == 0
    content = json.loads((tmp_path / "inspect.json").read_text())
    assert {name: of["complete"] for name, of in content["collections"].items()} == {"design": T, "full": R}
    assert content["imported"] == str(tmp_path / "mine.npz")


def test_where_margins_alone_came_scores_are_of_margins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = imported(tmp_path, correct=None, reference_correct=None)
    assert main(["scores", "--run", run, "--json", str(tmp_path / "scores.json")]) == 0
    assert "memorization (log-odds)" in capsys.readouterr().out
    content = json.loads((tmp_path / "scores.json").read_text())
    arrays = make_arrays()
    best = content["memorization"][0]
    inside = arrays["masks"][:, best["id"]]
    own = arrays["margin"][:, best["id"]].astype(np.float16).astype(float)
    assert content["outcome"] == "margin"
    assert best["memorization"] == pytest.approx(own[inside].mean() - own[~inside].mean(), abs=0.05)  # sizes differ
    forget = ["forget", "most-memorized", "--run", run, "--size", "1", "--out", str(tmp_path / "forget.json")]
    assert main(forget) == 0
    assert list(json.loads((tmp_path / "forget.json").read_text()).values()) == [[best["id"]]]


@pytest.mark.parametrize("example", [4, N + 5])
def test_one_example_is_asked_for_who_influences_it_and_whom_it_influences(
    example: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, table = imported(tmp_path), tmp_path / "one.csv"
    capsys.readouterr()
    arguments = ["--example", str(example), "--n-top", "4", "--json", str(tmp_path / "one.json"), "--table", str(table)]
    assert main(["scores", "--run", run, *arguments]) == 0
    said, content = capsys.readouterr().out, json.loads((tmp_path / "one.json").read_text())
    outcomes, alone = infl.open_run(run), [example]
    if example < N:
        parts = {
            "influenced_by": infl.influence(outcomes, columns=alone, protocol="left-out"),
            "held_out": infl.influence(outcomes, sources=alone),
            "left_out": infl.influence(outcomes, sources=alone, protocol="left-out"),
        }
    else:
        parts = {"influenced_by": infl.influence(outcomes, columns=alone), "held_out": None, "left_out": None}
    assert ("memorization" in content) == (example < N)
    for name, part in parts.items():
        assert (name in content) == (part is not None)
        if part is None:
            continue
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
    frame = pandas.read_csv(table)
    assert len(frame) == (3 * N + M - N - 2 if example < N else N)  # all of its pairs, without itself
    assert set(frame.columns) >= {"source", "target", "value", "se", "n_in", "n_out", "p", "q"}


def test_a_table_and_a_file_in_the_published_layout_are_written_beside(tmp_path: Path) -> None:
    run, top = imported(tmp_path), tmp_path / "top"
    for ending in (".csv", ".parquet"):
        assert main(["scores", "--run", run, "--n-top", "4", "--table", f"{top}{ending}"]) == 0
    assert main(["scores", "--run", run, "--feldman-zhang", str(tmp_path / "fz.npz")]) == 0
    outcomes = infl.open_run(run).outcomes("design")
    memorization, pairs = infl.memorization(outcomes), infl.strongest_influences(outcomes, n_pairs=4).pairs(4)
    with open(f"{top}.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["value"]) for line in lines] == [*memorization.value, *(pair.value for pair in pairs)]
    assert list(pandas.read_parquet(f"{top}.parquet")["target"]) == [int(line["target"]) for line in lines]
    with np.load(tmp_path / "fz.npz") as data:
        np.testing.assert_array_equal(data["tr_mem"], memorization.value.astype(np.float32))
        influence = infl.influence(outcomes).value
        for c in range(3):
            mine = influence[np.ix_(data[f"tr_classidx_{c}"], data[f"tt_classidx_{c}"])]
            np.testing.assert_allclose(data[f"infl_matrix_class{c}"], mine, atol=1e-6)


def test_the_examples_are_read_once_however_much_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, reads = imported(tmp_path), []
    monkeypatch.setattr("infl.store.manifest.read_dataset", lambda *given: reads.append(given) or read_dataset(*given))
    files = [
        f"--{name}={tmp_path / name}.{kind}" for name, kind in (("json", "json"), ("table", "csv"), ("arrays", "npz"))
    ]
    assert main(["scores", "--run", run, *files]) == 0
    assert len(reads) == 1


# Runs that say little

NEVER_OUT = np.arange(N) == 3
ODD: dict[str, Arrays] = {
    "one model": {name: make_arrays()[name][:1] for name in ("masks", "correct", "margin")},
    "an example never left out": {"masks": make_arrays()["masks"] | NEVER_OUT},
    "an example always left out": {"masks": make_arrays()["masks"] & ~NEVER_OUT},
    "all outcomes right": {"correct": np.ones((T, N + M), bool)},
    "all outcomes wrong": {"correct": np.zeros((T, N + M), bool)},
    "all models of all of D": {"masks": np.ones((T, N), bool)},
    "models of nothing": {"masks": np.zeros((T, N), bool)},
}


@pytest.mark.parametrize("margins", [False, True])
@pytest.mark.parametrize("oddity", ODD)
def test_an_odd_run_gives_counts_and_no_traceback(oddity: str, margins: bool, tmp_path: Path) -> None:
    changed = dict(ODD[oddity])
    arrays = make_arrays() | changed
    for name in ("correct", "reference_correct") if margins else ("margin", "reference_margin"):
        changed[name] = None
    run, content = imported(tmp_path, **changed), tmp_path / "scores.json"
    files = ["--table", str(tmp_path / "top.csv"), "--arrays", str(tmp_path / "all.npz")]
    files += ["--feldman-zhang", str(tmp_path / "fz.npz")]
    assert main(["scores", "--run", run, "--n-top", str(N), "--json", str(content), *files]) == 0
    listed = json.loads(content.read_text())["memorization"]
    assert len(listed) == N
    for one in listed:
        inside = arrays["masks"][:, one["id"]]
        assert (one["n_in"], one["n_out"]) == (inside.sum(), (~inside).sum())
        known = bool(inside.any() and not inside.all())
        assert (one["memorization"] is not None) == known
        if known and "outcomes" in oddity and not margins:
            assert one["memorization"] == pytest.approx(0, abs=1e-12)
            assert one["se"] > 0  # that none was lost in 60 models does not mean that none would be
    for example in (3, N + 1):
        one = tmp_path / f"{example}.json"
        assert main(["scores", "--run", run, "--example", str(example), "--json", str(one)]) == 0
        pairs = json.loads(one.read_text())["influenced_by"]["pairs"]
        assert all(pair["influence"] is not None for pair in pairs)
        assert not any(pair["source"] == 3 for pair in pairs) or "example" not in oddity


def test_a_trained_run_of_one_model_is_scored(small_digits: infl.Dataset, tmp_path: Path) -> None:
    algorithm = infl.Algorithm(hidden=(4,), epochs=1, batch_size=20)
    infl.train(
        small_digits,
        run=tmp_path / "run",
        n_models=1,
        n_references=1,
        design=infl.Design("uniform", 0.5),
        algorithm=algorithm,
        quiet=True,
    )
    run, arrays = str(tmp_path / "run"), str(tmp_path / "all.npz")
    assert main(["scores", "--run", run, "--arrays", arrays, "--json", str(tmp_path / "scores.json")]) == 0
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["pairs"] == []
    assert {one["memorization"] for one in content["memorization"]} == {None}
    assert main(["scores", "--run", run, "--example", "3"]) == 0


# Mistakes


def test_what_needs_pixels_or_training_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, forget, out = imported(tmp_path), str(tmp_path / "forget.json"), str(tmp_path / "out.json")
    Path(forget).write_text('{"three": [1, 2, 3]}')
    before = {path: path.read_bytes() for path in Path(run).rglob("*") if path.is_file()}
    for arguments, named in (
        (["train"], "it holds no pixels and no training algorithm, so it can be scored but not trained"),
        (["train", "digits"], "it can be scored but not trained; use a run made by infl train"),
        (["train", "--cover", forget], "it can be scored but not trained"),
        (["verify", "--forget", forget], "it can be scored but not trained"),
        (["predict", "--forget", forget], "predictor combined looks at them; take --predictor additive"),
        (["predict", "--forget", forget, "--predictor", "support"], "predictor support looks at them"),
        (
            ["forget", "cluster", "--n-clusters", "2", "--cluster", "1", "--out", out],
            "its examples came without pixels",
        ),
        (["forget", "neighbours", "--example", "1", "--size", "3", "--out", out], "its examples came without pixels"),
    ):
        assert named in refusal(capsys, *arguments, "--run", run)
    assert {path: path.read_bytes() for path in Path(run).rglob("*") if path.is_file()} == before
    assert not Path(out).exists()


def test_sums_of_influences_predict_where_reference_models_came_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "forget.json").write_text('{"three": [1, 2, 3]}')
    ask = ["--forget", str(tmp_path / "forget.json"), "--predictor", "additive"]
    run = imported(tmp_path)
    assert main(["predict", "--run", run, *ask, "--json", str(tmp_path / "predicted.json")]) == 0
    assert "three" in json.loads((tmp_path / "predicted.json").read_text())["sets"]
    for number, missing in enumerate((("margin", "reference_margin"), ("reference_margin", "reference_correct"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        run = imported(folder, **dict.fromkeys(missing))
        assert "import a file with margin and reference_margin" in refusal(capsys, "predict", "--run", run, *ask)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"masks": make_arrays()["masks"][1:]}, "masks are of 59 models, correct of 60"),
        ({"labels": None}, "missing labels"),
        ({"correct": np.full((T, N + M), np.nan)}, "correct: expected 0 or 1, got nan"),
        ({"margin": np.full((T, N + M), np.nan)}, "margin: expected finite numbers"),
    ],
)
def test_a_file_that_is_wrong_is_one_line_and_no_run(
    changed: Arrays, named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = {name: array for name, array in (make_arrays() | changed).items() if array is not None}
    np.savez(tmp_path / "mine.npz", **arrays)
    run = tmp_path / "run"
    assert named in refusal(capsys, "import", str(tmp_path / "mine.npz"), "--run", str(run))
    assert not run.exists()


@pytest.mark.parametrize("q_over", ["matrix", "column"])
def test_q_values_are_over_what_was_asked_wherever_they_are_written(
    q_over: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = imported(tmp_path)
    names = {name: str(tmp_path / f"scores.{name}") for name in ("json", "csv", "npz", "zarr")}
    arguments = ["--json", names["json"], "--table", names["csv"], "--arrays", names["npz"], "--matrix", names["zarr"]]
    assert main(["scores", "--run", run, "--q-over", q_over, *arguments]) == 0
    assert ("of a pair over those of its target" in " ".join(capsys.readouterr().out.split())) == (q_over == "column")
    outcomes = infl.open_run(run).outcomes("design")
    parts = [infl.influence(outcomes, protocol=protocol) for protocol in ("left-out", "held-out")]
    p = np.concatenate([np.asarray(part.p) for part in parts], axis=1)
    q = infl.q_values(p, axis=0) if q_over == "column" else infl.q_values(p)
    # Pairs are listed from the held-out columns.
    listed = infl.q_values(p[:, N:], axis=0) if q_over == "column" else infl.q_values(p[:, N:])
    with np.load(names["npz"]) as arrays:
        np.testing.assert_allclose(arrays["influence_q"], q, rtol=1e-6)
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{names['zarr']}/q"}}
    np.testing.assert_allclose(tensorstore.open(spec).result().read().result(), q, rtol=2e-3)
    pairs = json.loads(Path(names["json"]).read_text())["pairs"]
    assert len(pairs) == 10
    for pair in pairs:
        assert pair["q"] == pytest.approx(listed[pair["source"], pair["target"] - N], rel=2e-3)
    rows = [row for row in pandas.read_csv(names["csv"]).to_dict("records") if row["target"] >= N]
    assert len(rows) == 10
    for row in rows:
        assert row["q"] == pytest.approx(listed[int(row["source"]), int(row["target"]) - N], rel=2e-3)


def test_mistakes_in_what_is_asked_are_named_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = imported(tmp_path)
    monkeypatch.setattr("infl.cli.scores.score", lambda *_, **__: pytest.fail("it was scored first"))
    for arguments, named in (
        (["--example", "-1"], "example: expected a training example 0..19 or a held-out one 20..31, got -1"),
        (["--example", str(N + M)], "or a held-out one 20..31, got 32"),
        (["--example", "1", "--arrays", str(tmp_path / "a.npz")], "leave --example out"),
        (["--example", "1", "--feldman-zhang", str(tmp_path / "a.npz")], "leave --example out"),
        (["--example", "1", "--matrix", str(tmp_path / "a.zarr")], "leave --example out"),
        (["--example", "1", "--q-over", "column"], "leave it out"),
        (["--table", str(tmp_path / "top.xlsx")], "expected a path that ends in .csv or .parquet"),
        (["--table", str(tmp_path / "none" / "top.csv")], "cannot be written"),
        (["--feldman-zhang", str(tmp_path)], "cannot be written"),
    ):
        assert named in refusal(capsys, "scores", "--run", run, *arguments)

"""The command line does what the pipeline does, says it to people and machines alike, and answers a mistake with one line.

Machines read the JSON and .npz files, so their layout is held to DESIGN.md, section 5, and their numbers to the functions of
the package, or to a slow loop over the outcomes. People mistype, so every mistake here must end with exit code 2, one line
on stderr that names what was wrong, no traceback, and a run folder in which not a byte has changed. Help and mistyped
options must answer at once, so nothing heavy may be loaded for them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infl
from infl.__main__ import main
from infl.cli import COMMANDS
from infl.cli.training import Train, Wanted
from infl.pipeline.score import check_target
from infl.records import REGIMES, ProtocolName
from infl.scores.power import findings
from infl.scores.shrunk_influence import shrunk_influence
from infl.scores.surrogate import fit_surrogate
from infl.store import bytes_per_model, name_of_leave_out
from tests.blocks import delete_blocks, stored_blocks

N_TRAIN, N_HELD_OUT, N_MODELS, N_REFERENCES = 60, 30, 40, 8
N_COLUMNS = N_TRAIN + N_HELD_OUT
DATA = ["digits", "--n-train", str(N_TRAIN), "--n-held-out", str(N_HELD_OUT)]
ALGORITHM = ["--epochs", "2", "--hidden", "8", "--batch-size", "20", "--models-per-device", "4"]
SETTINGS = [*ALGORITHM, "--design", "balanced", "--fraction", "0.6"]  # none of them what `infl train` takes by itself
AMOUNT = ["--n-models", str(N_MODELS), "--n-references", str(N_REFERENCES)]
FORGET: dict[str, Any] = {"a third": list(range(0, 60, 3)), "a dozen": {"ids": list(range(30, 42)), "concept": None}}
IDS = {"a third": list(range(0, 60, 3)), "a dozen": list(range(30, 42))}
N_VERIFY = 6
THRESHOLDS = [
    "--thresholds.self-influence",
    "0.2",
    "--thresholds.cross-influence",
    "0.3",
    "--thresholds.effect",
    "0.15",
    "--thresholds.probability",
    "0.7",
]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by `infl train`, and the JSON that it wrote beside it."""
    folder = tmp_path_factory.mktemp("trained")
    run, content = folder / "run", folder / "train.json"
    assert main(["train", *DATA, *SETTINGS, *AMOUNT, "--run", str(run), "--json", str(content)]) == 0
    return run


@pytest.fixture(scope="module")
def outputs(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what every other command wrote about a copy of that run, in the order a user would call them."""
    folder = tmp_path_factory.mktemp("outputs")
    run, forget = str(shutil.copytree(trained, folder / "run")), str(folder / "forget.json")
    (folder / "forget.json").write_text(json.dumps(FORGET))

    def call(name: str, *arguments: str) -> None:
        assert main([name, "--run", run, *arguments, "--json", str(folder / f"{name}.json")]) == 0

    call("scores", "--n-top", "4", "--arrays", str(folder / "scores.npz"))
    call("predict", "--forget", forget, "--effects", str(folder / "predict.npz"), *THRESHOLDS)
    verify = ("--forget", forget, "--n-models", str(N_VERIFY))
    call("verify", *verify, "--effects", str(folder / "verify.npz"), *THRESHOLDS)
    call("inspect")
    return folder


def read(outputs: Path, name: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((outputs / f"{name}.json").read_text(), parse_constant=refuse)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


# What the commands write


def test_train_writes_what_the_run_holds(trained: Path) -> None:
    content = read(trained.parent, "train")
    assert content["dataset"]["n_train"] == N_TRAIN
    assert content["dataset"]["n_columns"] == N_COLUMNS
    assert content["algorithm"]["network"] == {"name": "mlp", "hidden": [8]}
    assert (content["algorithm"]["epochs"], content["algorithm"]["batch_size"], content["seed"]) == (2, 20, 0)
    assert content["design"] == {"kind": "balanced", "fraction": 0.6, "period": 5}
    counts = {name: collection["complete"] for name, collection in content["collections"].items()}
    assert counts == {"design": N_MODELS, "full": N_REFERENCES}


def test_inspect_writes_what_the_run_holds(outputs: Path) -> None:
    content = read(outputs, "inspect")
    counts = {name: collection["complete"] for name, collection in content["collections"].items()}
    without = {name_of_leave_out(ids): N_VERIFY for ids in IDS.values()}
    assert counts == {"design": N_MODELS, "full": N_REFERENCES, **without}
    assert all(collection["missing"] == 0 for collection in content["collections"].values())
    assert len(content["sessions"]) == 2  # train and verify


def test_scores_lists_the_top_examples_and_pairs(outputs: Path) -> None:
    content, outcomes = read(outputs, "scores"), infl.open_run(outputs / "run").outcomes("design").load()
    assert (content["n_models"], content["n_train"]) == (N_MODELS, N_TRAIN)
    assert outcomes.correct is not None
    values = [
        outcomes.correct[outcomes.masks[:, i], i].mean() - outcomes.correct[~outcomes.masks[:, i], i].mean()
        for i in range(N_TRAIN)
    ]
    listed = content["memorization"]
    assert [entry["memorization"] for entry in listed] == pytest.approx(sorted(values, reverse=True)[:4])
    for entry in listed:
        assert entry["memorization"] == pytest.approx(values[entry["id"]])
        assert entry["n_in"] + entry["n_out"] == N_MODELS
        assert entry["se"] >= 0
    pairs = content["pairs"]
    assert len(pairs) == 4
    assert all(N_TRAIN <= pair["target"] < N_COLUMNS for pair in pairs)
    for pair in pairs:
        members, right = outcomes.masks[:, pair["source"]], outcomes.correct[:, pair["target"]]
        assert pair["influence"] == pytest.approx(right[members].mean() - right[~members].mean())
    assert [pair["influence"] for pair in pairs] == sorted((pair["influence"] for pair in pairs), reverse=True)
    memorization, scored = infl.memorization(outcomes), infl.strongest_influences(outcomes, n_pairs=4)
    found = findings(outcomes, memorization, scored)
    assert [entry["q"] for entry in listed] == pytest.approx([found.q[entry["id"]] for entry in listed])
    assert [pair["q"] for pair in pairs] == pytest.approx([pair.q for pair in scored.pairs(4)])
    smallest = content["detectable"]
    assert smallest["memorization"]["typical"] == pytest.approx(found.memorization.typical)
    assert (smallest["memorization"]["n_tests"], smallest["influence"]["n_tests"]) == (N_TRAIN, N_TRAIN * N_HELD_OUT)
    assert (smallest["influence"]["power"], smallest["influence"]["false_discovery_rate"]) == (0.8, 0.05)


def test_the_arrays_of_scores_are_those_of_a_slow_loop(outputs: Path) -> None:
    outcomes = infl.open_run(outputs / "run").outcomes("design").load()
    masks, correct = outcomes.masks, outcomes.of("correct")
    with np.load(outputs / "scores.npz") as arrays:
        assert arrays["memorization"].shape == arrays["memorization_se"].shape == (N_TRAIN,)
        assert arrays["influence"].shape == arrays["influence_se"].shape == (N_TRAIN, N_COLUMNS)
        assert np.isnan(np.diagonal(arrays["influence"])).all()
        assert np.isnan(np.diagonal(arrays["influence_se"])).all()
        assert np.isfinite(arrays["influence"][:, N_TRAIN:]).all()
        own = np.asarray(infl.memorization(outcomes).p)
        np.testing.assert_allclose(arrays["memorization_q"], infl.q_values(own))
        left_out, held_out = (infl.influence(outcomes, protocol=protocol) for protocol in ("left-out", "held-out"))
        p = np.concatenate(
            [np.asarray(one.p) for one in (left_out, held_out)], axis=1
        )  # q over both protocols together
        np.testing.assert_allclose(arrays["influence_q"], infl.q_values(p), rtol=1e-6)
        assert np.isnan(np.diagonal(arrays["influence_q"])).all()
        data = infl.open_run(outputs / "run").dataset()
        surrogate = fit_surrogate(data.images, data.labels, n_train=N_TRAIN, n_classes=data.n_classes)
        both: tuple[tuple[ProtocolName, slice], ...] = (
            ("left-out", slice(0, N_TRAIN)),
            ("held-out", slice(N_TRAIN, None)),
        )
        for protocol, columns in both:
            shrunk = shrunk_influence(outcomes, protocol=protocol, surrogate=surrogate)[1]
            np.testing.assert_allclose(arrays["influence_shrunk"][:, columns], shrunk.value, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(
                arrays["influence_sign_rate"][:, columns], shrunk.sign_rate, rtol=1e-3, atol=1e-6
            )
        random = np.random.default_rng(0)
        for i, j in zip(random.integers(0, N_TRAIN, 200), random.integers(0, N_COLUMNS, 200), strict=True):
            counted = ~masks[:, j] if j < N_TRAIN else np.ones(N_MODELS, bool)
            sides = correct[counted & masks[:, i], j], correct[counted & ~masks[:, i], j]
            if i == j or not all(map(len, sides)):
                assert np.isnan(arrays["influence"][i, j])
            else:
                assert arrays["influence"][i, j] == pytest.approx(sides[0].mean() - sides[1].mean(), abs=1e-6)


QUANTITIES = ("self", "cross", "harm", "gain")


@pytest.mark.parametrize("command", ["predict", "verify"])
def test_verdicts_have_the_layout_that_others_rely_on(outputs: Path, command: str) -> None:
    content = read(outputs, command)
    assert set(content) == {"thresholds", "sets"}
    assert content["thresholds"] == {
        "self_influence": 0.2,
        "cross_influence": 0.3,
        "effect": 0.15,
        "probability": 0.7,
        "cross": "net",
    }
    assert list(content["sets"]) == list(IDS)
    for name, fields in content["sets"].items():
        assert ("measured" in fields) == (command == "verify")
        for verdict in (fields, fields["measured"]) if command == "verify" else (fields,):
            assert verdict["size"] == len(IDS[name])
            assert verdict["regime"] in {*REGIMES, "undetermined"}
            assert set(verdict["probability"]) == set(REGIMES)
            probabilities = [p for p in verdict["probability"].values() if p is not None]
            assert sum(probabilities) == pytest.approx(1) if probabilities else verdict["regime"] == "undetermined"
            for quantity in QUANTITIES:
                assert set(verdict[quantity]) == {"value", "se"}


def test_verdicts_are_those_of_the_package(outputs: Path) -> None:
    thresholds = infl.Thresholds(0.2, 0.3, 0.15, 0.7)
    verified = read(outputs, "verify")["sets"]
    measured = infl.verify(outputs / "run", IDS, n_models=N_VERIFY, thresholds=thresholds, quiet=True)
    predicted = infl.predict(outputs / "run", IDS, thresholds=thresholds)
    for expected, written in (
        (measured, {name: fields["measured"] for name, fields in verified.items()}),
        (predicted, verified),
        (predicted, read(outputs, "predict")["sets"]),
    ):
        for verdict in expected:
            fields = written[verdict.forget_set.name]
            assert fields["regime"] == verdict.regime
            for name, quantity in zip(
                QUANTITIES,
                (verdict.self_influence, verdict.cross_influence, verdict.harm, verdict.gain),
                strict=True,
            ):
                assert as_number(fields[name]["value"]) == pytest.approx(quantity.value, nan_ok=True)
                assert as_number(fields[name]["se"]) == pytest.approx(quantity.se, nan_ok=True)


def as_number(value: float | None) -> float:
    return float("nan") if value is None else value


def test_measured_effects_are_mean_differences_of_paired_models(outputs: Path) -> None:
    run = infl.open_run(outputs / "run")
    full = run.outcomes("full", range(N_VERIFY)).load().of("correct")
    with np.load(outputs / "verify.npz") as arrays:
        assert arrays["names"].tolist() == list(IDS)
        assert arrays["effect"].shape == arrays["se"].shape == (2, N_COLUMNS)
        for effect, se, ids in zip(arrays["effect"], arrays["se"], IDS.values(), strict=True):
            difference = full - run.outcomes(name_of_leave_out(ids)).load().of("correct")
            np.testing.assert_allclose(effect, difference.mean(axis=0), atol=1e-6)
            np.testing.assert_allclose(se, difference.std(axis=0, ddof=1) / N_VERIFY**0.5, atol=1e-6)


def test_predicted_effects_are_those_of_the_package(outputs: Path) -> None:
    with np.load(outputs / "predict.npz") as arrays:
        assert arrays["names"].tolist() == list(IDS)
        for k, expected in enumerate(infl.predict_effects(outputs / "run", IDS)):
            np.testing.assert_allclose(arrays["effect"][k], expected.effect, rtol=1e-6)
            np.testing.assert_allclose(arrays["se"][k], expected.se, rtol=1e-6)


def test_the_gap_to_the_concept_is_said_and_written(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = {"part": {"ids": [0, 1], "concept": list(range(40))}, "whole": list(range(40))}
    (tmp_path / "forget.json").write_text(json.dumps(sets))
    arguments = ["--run", str(outputs / "run"), "--forget", str(tmp_path / "forget.json")]
    assert main(["predict", *arguments, "--thresholds.effect", "0.0", "--json", str(tmp_path / "out.json")]) == 0
    written = json.loads((tmp_path / "out.json").read_text())["sets"]
    gap = written["part"]["concept_gap"]
    assert "concept_gap" not in written["whole"]
    part, whole = infl.predict_effects(outputs / "run", sets, quiet=True)
    of_concept = N_TRAIN + np.flatnonzero(whole.effect[N_TRAIN:] >= 0)
    assert (gap["n_full"], gap["n_held_out"]) == (40, len(of_concept))
    assert gap["value"] == pytest.approx((whole.effect - part.effect)[of_concept].mean())
    assert f"takes {gap['of_part']:.2f} from the {len(of_concept)} held-out examples of its concept" in " ".join(
        capsys.readouterr().out.split()
    )


def test_figures_are_in_the_run_folder(outputs: Path) -> None:
    for name in ("memorization", "memorized", "influence", "regime_map"):
        assert (outputs / "run" / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_people_are_told_what_to_do_next(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--run", str(run), *AMOUNT]) == 0
    captured = capsys.readouterr()
    assert f"Next: infl scores --run {run}" in captured.out
    assert captured.err == ""


def test_plan_writes_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    asked = ["--design", "balanced", "--standard-error", "0.07", "--n-references", "5"]
    assert main(["plan", *DATA, *ALGORITHM, *asked, "--json", str(path)]) == 0
    content = json.loads(path.read_text())
    assert content["n_models"] == 250  # 0.25 / (0.21 * 0.0049) = 242.95, in whole periods of 10
    assert content["n_bytes"] == 255 * bytes_per_model(N_TRAIN, N_COLUMNS)
    before = content["prepare_seconds"] + content["compile_seconds"]
    assert content["seconds"] == pytest.approx(before + 255 / content["models_per_second"])
    worst = [answer for answer in content["answers"] if "worst" in answer["basis"]]
    assert [(answer["question"], answer["value"], answer["n_models"]) for answer in worst] == [
        ("memorization", 0.07, 250)
    ]


def test_plan_answers_every_question_of_a_run_in_a_table(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infl.pipeline.plan.MIN_SECONDS", 0.0)
    asked = ["--detect", "0.3", "--false-discovery-rate", "0.1", "--power", "0.9", "--set-size", "20"]
    assert main(["plan", "--run", str(run), *asked, "--json", str(tmp_path / "plan.json")]) == 0
    said = capsys.readouterr().out
    content = json.loads((tmp_path / "plan.json").read_text())
    assert content["n_pilot"] == N_MODELS
    assert content["n_pairs"] == N_TRAIN * (N_COLUMNS - 1)
    questions = [answer["question"] for answer in content["answers"]]
    assert questions[:9] == ["memorization"] * 2 + ["influence"] * 4 + ["prediction"] * 3
    assert set(questions[9:]) == {"verification"}
    assert "influence found with power 0.9 at a false discovery rate of 0.1 over\n5,340 pairs" in said
    rows = [line.split() for line in said.splitlines() if line.startswith("  ")]
    for row, answer in zip(rows[1:], content["answers"], strict=True):
        expected = "-" if answer["n_models"] is None else f"{answer['n_models']:,}"
        assert expected in row
    assert max(map(len, said.splitlines())) <= 100


def test_train_to_a_target_says_what_it_reached(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "train.json"
    arguments = ["train", "--run", str(run), "--n-references", str(N_REFERENCES), "--json", str(path)]
    assert main([*arguments, "--standard-error", "0.05", "--n-models", "70"]) == 0
    said, target = capsys.readouterr().out, json.loads(path.read_text())["target"]
    assert (target["wanted"], target["n_models"]) == (0.05, 70)
    assert f"not reached 0.05: {target['reached']:.4f} with 70 models; about {target['n_needed']:,} would" in said
    assert main([*arguments, "--standard-error", "0.12", "--n-models", "70"]) == 0
    reached = check_target(infl.open_run(run), 0.12)
    assert f"reached {reached.reached:.4f} with 70 models" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["plan", *DATA, "--standard-error", "-0.1"],
            "standard_error: expected a number above 0 and below 1, got -0.1",
        ),
        (["plan", *DATA, "--detect", "0.1", "--power", "1"], "power: expected a number above 0 and below 1, got 1"),
        (
            ["plan", *DATA, "--false-discovery-rate", "2"],
            "false discovery rate: expected a number above 0 and below 1, got 2",
        ),
        (["plan", *DATA, "--set-size", "60"], "set size: expected 1 to 59"),
        (["plan", "--run", "nowhere"], "nowhere is not a run folder"),
        (["train", *DATA, "--run", "new", "--standard-error", "0"], "standard_error: expected a number above 0"),
        (
            ["train", *DATA, "--run", "new", "--standard-error", "0.1", "--grouped-share", "1"],
            "rest on no grouped models",
        ),
    ],
)
def test_a_target_out_of_reach_is_one_line(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in refusal(capsys)
    assert list(tmp_path.iterdir()) == []


# A run that exists


def test_a_run_is_extended_without_naming_its_data_and_settings(run: Path) -> None:
    before = infl.open_run(run).outcomes("design").load()
    manifest = json.loads((run / "run.json").read_bytes())
    assert main(["train", "--run", str(run), "--n-models", "50", "--n-references", "8"]) == 0
    after = infl.open_run(run)
    assert after.complete("design") == list(range(50))
    assert json.loads((run / "run.json").read_bytes()) == manifest
    np.testing.assert_array_equal(after.outcomes("design", range(N_MODELS)).load().margin, before.margin)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (["--epochs", "7"], "algorithm.epochs is 2 in the run, 7 asked for"),
        (["--hidden", "8", "9"], "algorithm.network.hidden is [8] in the run, [8, 9] asked for"),
        (["--optimizer", "adam"], "algorithm.optimizer is 'sgd' in the run, 'adam' asked for"),
        (["--fraction", "0.5"], "design.fraction is 0.6 in the run, 0.5 asked for"),
        (["--design", "paired"], "design.kind is 'balanced' in the run, 'paired' asked for"),
        (["--design", "grouped"], "design.kind is 'balanced' in the run, 'grouped' asked for"),
        (["--grouped-share", "0.3"], "grouped_share is a setting of design grouped, and the design is balanced"),
        (["--seed", "3"], "seed is 0 in the run, 3 asked for"),
    ],
)
def test_another_setting_is_refused_with_both_values(
    run: Path, option: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(run)
    assert main(["train", "--run", str(run), *AMOUNT, *option]) == 2
    assert said in refusal(capsys)
    assert snapshot(run) == before


# Groups and covered sets


USERS = {"ann": list(range(8)), "bob": [40, 41, 42], "carol": []}
COVER = {"every fifth": list(range(0, 60, 5)), "two": {"ids": [8, 9], "concept": None}}
GROUPED = ["--grouped-share", "0.25", "--n-models", "20", "--n-references", "2", "--models-per-covered-set", "3"]


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made with a file of groups and a file of sets to cover, which lie beside it."""
    folder = tmp_path_factory.mktemp("grouped")
    (folder / "users.json").write_text(json.dumps(USERS))
    (folder / "cover.json").write_text(json.dumps(COVER))
    files = ["--groups", str(folder / "users.json"), "--cover", str(folder / "cover.json")]
    content = ["--json", str(folder / "train.json")]
    assert main(["train", *DATA, *ALGORITHM, *GROUPED, *files, "--run", str(folder / "run"), *content]) == 0
    return folder / "run"


@pytest.fixture
def grouped_run(grouped: Path, tmp_path: Path) -> Path:
    return shutil.copytree(grouped, tmp_path / "run")


def covering(run: Path) -> str:
    (name,) = [name for name in infl.open_run(run).collections() if name.startswith("cover-")]
    return name


def test_train_leaves_out_the_groups_of_the_file_and_covers_the_sets(grouped: Path) -> None:
    run, content = infl.open_run(grouped), read(grouped.parent, "train")
    counts = {name: collection["complete"] for name, collection in content["collections"].items()}
    assert counts == {"design": 15, "grouped": 5, "full": 2, covering(grouped): 6}
    design = content["design"]
    assert (design["kind"], design["fraction"], design["grouped_share"]) == ("grouped", [0.7, 0.97], 0.25)
    assert design["groups"]["names"] == ["labels", "10 clusters", "users"]
    groups, covered = (run.collection(name).groups for name in ("grouped", covering(grouped)))
    assert groups is not None
    assert covered is not None
    users = groups.tables[2]
    assert [np.flatnonzero(users == k).tolist() for k in range(users.max() + 1)] == [USERS["ann"], USERS["bob"]]
    assert covered.names == ("every fifth", "two")
    masks = run.outcomes(covering(grouped)).load().masks
    for first, ids in enumerate((COVER["every fifth"], COVER["two"]["ids"])):  # sets take turns
        assert not masks[first::2][:, ids].all(axis=1).any()


def test_the_same_command_again_trains_nothing(grouped_run: Path, tmp_path: Path) -> None:
    (tmp_path / "users.csv").write_text("id,user\n" + "".join(f"{i},{u}\n" for u, ids in USERS.items() for i in ids))
    (tmp_path / "cover.json").write_text(json.dumps(COVER))
    before = stored_blocks(grouped_run)
    for files in ([], ["--groups", str(tmp_path / "users.csv")], ["--cover", str(tmp_path / "cover.json")]):
        assert main(["train", "--run", str(grouped_run), *GROUPED, *files]) == 0
        assert main(["train", *DATA, *ALGORITHM, "--run", str(grouped_run), *GROUPED, *files]) == 0
    assert stored_blocks(grouped_run) == before


def test_a_grouped_run_grows_and_covers_more(grouped_run: Path, tmp_path: Path) -> None:
    (tmp_path / "cover.json").write_text(json.dumps(COVER))
    more = [
        "--n-models",
        "24",
        "--n-references",
        "2",
        "--cover",
        str(tmp_path / "cover.json"),
        "--models-per-covered-set",
        "4",
    ]
    before = infl.open_run(grouped_run)
    assert main(["train", "--run", str(grouped_run), *more]) == 0
    after = infl.open_run(grouped_run)
    assert {name: len(after.complete(name)) for name in after.collections()} == {
        **{"design": 18, "grouped": 6, "full": 2},
        covering(grouped_run): 8,
    }
    for name in before.collections():
        kept, old = after.outcomes(name, before.complete(name)).load(), before.outcomes(name).load()
        np.testing.assert_array_equal(kept.masks, old.masks)
        np.testing.assert_array_equal(kept.margin, old.margin)


def test_inspect_says_what_each_kind_of_models_is_for(grouped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--run", str(grouped)]) == 0
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    sha = covering(grouped).removeprefix("cover-")
    for beginning in ("of random subsets 15 0 0", "leaving out groups 5 0 0", f"covering sets {sha[:6]} 6 0 0"):
        assert sum(row.startswith(beginning) for row in rows) == 1, rows
    assert not any(sha in row for row in rows)


def test_scores_without_uniform_models_are_refused(grouped_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What a run with `--grouped-share 1` holds: every model has left out groups."""
    delete_blocks(grouped_run, "design")
    assert main(["scores", "--run", str(grouped_run)]) == 2
    assert "Traceback" not in refusal(capsys)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["--groups", "{users}"], "users.json: expected ids of D (0..59), got 60"),
        (["--groups", "{cover}"], 'cover.json: expected an object {"group": [ids], ...}'),
        (["--groups", "{nowhere}"], "cannot be read: No such file or directory"),
        (["--groups", "{good}", "--design", "uniform"], "by design grouped, and the design is uniform"),
        (["--cover", "{users}"], "set 'ann' names id 60, outside D (0..59)"),
        (["--cover", "{nowhere}"], "cannot be read: No such file or directory"),
        (
            ["--cover", "{good}", "--models-per-covered-set", "0"],
            "models for each covered set: expected at least 1, got 0",
        ),
        (["--grouped-share", "0"], "grouped_share: expected a share above 0 and at most 1, got 0.0"),
        (["--grouped-share", "0.4", "--design", "uniform"], "grouped_share is a setting of design grouped"),
    ],
)
@pytest.mark.parametrize("where", ["a new run", "a run that exists"])
def test_mistakes_about_groups_and_cover_are_refused(
    grouped_run: Path,
    tmp_path: Path,
    where: str,
    settings: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {name: tmp_path / f"{name}.json" for name in ("users", "cover", "good")}
    for name, content in (("users", {"ann": [3, 60]}), ("cover", COVER), ("good", {"ann": [3, 4]})):
        places[name].write_text(json.dumps(content))
    places |= {"nowhere": tmp_path / "no" / "where", "here": tmp_path}
    options = [setting.format(**places) if setting.startswith("{") else setting for setting in settings]
    before = snapshot(grouped_run)
    command = ["train", *DATA, "--run", str(tmp_path / "new")]
    if where == "a run that exists":
        command = ["train", "--run", str(grouped_run), "--n-models", "21"]
    assert main([*command, *options]) == 2
    assert said in refusal(capsys)
    assert not (tmp_path / "new").exists()
    assert snapshot(grouped_run) == before


def test_other_groups_than_those_of_the_run_are_refused(
    grouped_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "users.json").write_text(json.dumps({**USERS, "bob": [40, 41]}))
    before = snapshot(grouped_run)
    command = ["train", "--run", str(grouped_run), *GROUPED]
    assert main([*command, "--groups", str(tmp_path / "users.json")]) == 2
    assert "was made with other groups: continue it without naming any, or choose another folder" in refusal(capsys)
    assert main([*command, "--grouped-share", "0.5"]) == 2
    assert "design.grouped_share is 0.25 in the run, 0.5 asked for" in refusal(capsys)
    assert snapshot(grouped_run) == before


@pytest.mark.parametrize("option", ["--groups", "--cover"])
def test_a_file_without_data_to_fit_it_to_is_refused(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sets.json").write_text(json.dumps({"a": [1, 2]}))
    assert main(["train", "--run", str(tmp_path / "new"), option, str(tmp_path / "sets.json")]) == 2
    assert "is not a run yet: name the data set to train on" in refusal(capsys)


@pytest.mark.parametrize("command", ["train", "verify"])
def test_a_run_whose_groups_are_damaged_names_the_file(
    grouped_run: Path, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "forget.json").write_text(json.dumps({"a": [1, 2]}))
    for path in (grouped_run / "groups").iterdir():
        path.write_bytes(path.read_bytes()[:100])
    options = ["--forget", str(tmp_path / "forget.json")] if command == "verify" else []
    assert main([command, "--run", str(grouped_run), *options]) == 3
    assert re.search(r"groups/[0-9a-f]{16}\.npz is (missing or )?damaged", refusal(capsys))


# Mistakes


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """What was said on stderr, which must be one line and no traceback."""
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("\n") == 1, said
    return said


def write_npz(path: Path, **changes: Any) -> None:
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "x_train": random.random((20, 4)).astype(np.float32),
        "y_train": np.arange(20) % 2,
        "x_test": random.random((10, 4)).astype(np.float32),
        "y_test": np.arange(10) % 2,
    }
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (["nosuch"], "unknown source 'nosuch'"),
        (["nosuch.npz"], "expected an .npz file, found nothing"),
        (["tfds:nosuch"], "TFDS knows no data set of this name"),
        (["digits", "--n-train", "100000"], "n_train: expected 1 to 1000, the examples there are, got 100000"),
        ([], "is not a run yet: name the data set to train on"),
        (["--n-train", "60"], "--n-train and --n-held-out draw from a data set: name it"),
    ],
)
def test_data_that_are_none_are_refused(
    tmp_path: Path, data: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *data, "--run", str(tmp_path / "new")]) == 2
    assert said in refusal(capsys)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"y_test": None, "x_test": None}, "missing x_test, y_test"),
        ({"x_train": np.array([{}] * 20, object)}, "x_train holds Python objects"),
    ],
)
def test_a_file_that_holds_no_data_set_is_refused(
    tmp_path: Path, changes: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_npz(tmp_path / "mine.npz", **changes)
    assert main(["train", str(tmp_path / "mine.npz"), "--run", str(tmp_path / "new")]) == 2
    assert said in refusal(capsys)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["--fraction", "1.2"], "fraction: expected a share above 0 and below 1"),
        (["--fraction", "abc"], "fraction: expected a share such as 0.7"),
        (["--design", "balanced", "--fraction", "0.5:0.7"], "use design uniform"),
        (["--fraction", "0.7", "--design", "paired"], "fraction must be 0.5"),
        (["--n-models", "0"], "expected at least 1 model"),
        (["--n-models", "-3"], "expected a number of models, or FROM:TO as in 100:200, got -3"),
        (["--epochs", "0"], "epochs: expected at least 1, got 0"),
        (["--network", "nosuch"], "network: expected one of mlp"),
        (["--optimizer", "nosuch"], "optimizer: expected one of sgd, adam, adamw"),
        (["--models-per-device", "0"], "models_per_device: expected at least 1, got 0"),
    ],
)
def test_settings_out_of_their_range_are_refused_before_anything_is_made(
    tmp_path: Path, settings: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *DATA, *settings, "--run", str(tmp_path / "new")]) == 2
    assert said in refusal(capsys)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        ("{}", "with at least one set"),
        ('{"a": [60]}', "set 'a' names id 60, outside D (0..59)"),
        ('{"a": [NaN]}', "ids must be whole numbers, got nan"),
    ],
)
def test_a_forget_file_that_is_none_is_refused(
    trained: Path, tmp_path: Path, content: str | None, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, before = tmp_path / "forget.json", snapshot(trained)
    if content is not None:
        path.write_text(content)
    for command in ("predict", "verify"):
        assert main([command, "--run", str(trained), "--forget", str(path)]) == 2
        message = refusal(capsys)
        assert said in message
        assert str(path) in message
    assert snapshot(trained) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["scores", "--n-top", "0"], "--n-top: expected at least 1, got 0"),
        (["verify", "--forget", "{forget}", "--n-models", "1"], "verification needs at least 2 models a set, got 1"),
        (
            ["predict", "--forget", "{forget}", "--thresholds.probability", "2"],
            "threshold probability: expected a number above 0",
        ),
        (["predict", "--forget", "{forget}", "--thresholds.effect", "inf"], "threshold effect: expected a finite"),
        (["train", *AMOUNT, "--json", "{nowhere}"], "cannot be written: No such file or directory"),
        (["train", "digits", *AMOUNT], "was made with other settings: dataset.fingerprint is"),
    ],
)
def test_a_mistake_about_a_good_run_changes_nothing_in_it(
    run: Path, tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "forget.json").write_text(json.dumps({"a": [1, 2]}))
    places = {"{forget}": tmp_path / "forget.json", "{nowhere}": tmp_path / "no" / "where", "{here}": tmp_path}
    before = snapshot(run)
    command, *options = (str(places.get(argument, argument)) for argument in arguments)
    assert main([command, "--run", str(run), *options]) == 2
    assert said in refusal(capsys)
    assert {name: content for name, content in snapshot(run).items() if not name.startswith("figures")} == before


def to_nothing(folder: Path) -> None:
    shutil.rmtree(folder)


def to_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("mine")


def without_manifest(folder: Path) -> None:
    (folder / "run.json").unlink()


def with_half_a_manifest(folder: Path) -> None:
    content = (folder / "run.json").read_bytes()
    (folder / "run.json").write_bytes(content[: len(content) // 2])


def with_an_edited_manifest(folder: Path) -> None:
    content = (folder / "run.json").read_text()
    (folder / "run.json").write_text(content.replace('"epochs": 2', '"epochs": 3'))


def with_a_damaged_block(folder: Path) -> None:
    path = next(folder.glob("collections/design/blocks/*.npz"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def with_half_a_block(folder: Path) -> None:
    path = next(folder.glob("collections/design/blocks/*.npz"))
    path.write_bytes(path.read_bytes()[:100])


def without_examples(folder: Path) -> None:
    shutil.rmtree(folder / "data")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (to_nothing, "is not a run folder: it has no run.json. Make one with: infl train DATASET --run"),
        (to_a_file, "is not a run folder"),
        (without_manifest, "is not a run folder"),
        (with_half_a_manifest, "run.json is damaged"),
        (with_an_edited_manifest, "run.json is damaged or was edited"),
        (with_a_damaged_block, "is damaged: the checksum of its margin does not fit; infl inspect --run"),
        (with_half_a_block, "is damaged: File is not a zip file; infl inspect --run"),
        (without_examples, ".npz is missing or damaged"),
    ],
)
@pytest.mark.parametrize("command", ["scores", "predict"])
def test_a_folder_that_is_no_run_or_damaged_is_refused(
    run: Path,
    tmp_path: Path,
    command: str,
    damage: Callable[[Path], None],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "forget.json").write_text(json.dumps({"a": [1, 2]}))
    damage(run)
    before = snapshot(run)
    options = ["--forget", str(tmp_path / "forget.json")] if command == "predict" else []
    assert main([command, "--run", str(run), *options]) == (3 if "damaged" in said else 2)
    assert said in refusal(capsys)
    assert snapshot(run) == before


def test_training_into_a_folder_of_other_things_leaves_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infl.pipeline.train.make_groups", lambda *_, **__: pytest.fail("models are trained first"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "data.npz").write_text("precious")
    assert main(["train", *DATA, "--run", str(tmp_path / "mine")]) == 2
    assert "exists and is not a run of infl" in refusal(capsys)
    assert snapshot(tmp_path / "mine") == {"data.npz": b"precious"}


def test_a_folder_name_that_the_system_refuses_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *DATA, "--run", "x" * 300]) == 2
    assert "File name too long" in refusal(capsys)


def test_figures_that_cannot_be_written_are_one_line_too(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "figures").write_text("in the way")
    assert main(["scores", "--run", str(run)]) == 2
    assert "figures" in refusal(capsys)


def test_plan_needs_a_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan"]) == 2
    assert "plan: name a data set" in refusal(capsys)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name a command"),
        (["tran"], "there is no command 'tran': did you mean train?"),
        (["train", "digits"], "Missing from infl train"),
        (["train", "digits", "--run", "new", "--nosuch", "3"], "--nosuch"),
        (["train", "digits", "--run", "new", "--epochs", "many"], "--epochs"),
        (["train", "digits", "--run", "new", "--epochs", "1.5"], "--epochs"),
        (["train", "digits", "--run", "new", "--mode", "both"], "--mode"),
        (["predict", "--run", "new", "--forget", "f.json", "--thresholds.cross", "both"], "--thresholds.cross"),
    ],
)
def test_a_command_that_cannot_be_read_is_refused(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert list(tmp_path.iterdir()) == []


# As a process of its own


def as_process(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(infl.__file__).parents[1]), "COLUMNS": "100"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_help_names_the_commands() -> None:
    done = as_process("-m", "infl", "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"  {command} " in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", ["--help", "scores --help"])
def test_a_reader_that_has_enough_of_the_output_is_no_mistake(command: str) -> None:
    """As in `infl --help | head -1`: by convention 128 + SIGPIPE, and not a word."""
    environment = {**os.environ, "PYTHONPATH": str(Path(infl.__file__).parents[1])}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-m", "infl", *command.split()], env=environment, stdout=pipe, stderr=pipe
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_exit_codes_reach_the_shell(tmp_path: Path) -> None:
    for arguments in (["scores", "--run", str(tmp_path)], ["scores", "--run", str(tmp_path), "--tpo", "3"]):
        done = as_process("-m", "infl", *arguments)
        assert done.returncode == 2
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        assert done.stderr.strip()


HELP = [["--help"], ["scroes"], ["scores", "--help"], ["train", "--help"], ["plan", "--help"], ["verify", "--nosuch"]]


@pytest.mark.parametrize("arguments", HELP, ids=str)
def test_nothing_heavy_is_loaded_for_help_or_a_mistyped_option(arguments: list[str]) -> None:
    """Options are made of settings that know nothing of what computes with them."""
    code = (
        "import sys; from infl.__main__ import main; status = main(sys.argv[1:]); "
        "heavy = {'jax', 'flax', 'optax', 'matplotlib', 'tensorstore', 'scipy', 'sklearn', 'pandas'} & set(sys.modules); "
        "print(status, sorted(heavy))"
    )
    done = as_process("-c", code, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{0 if '--help' in arguments else 2} []"


def test_options_have_the_defaults_of_the_functions_that_take_them() -> None:
    for command, function in ((Train, infl.train), (Wanted, infl.plan)):
        parameters = signature(function).parameters
        shared = {field.name: field.default for field in dataclasses.fields(command) if field.name in parameters}
        simple = {name: default for name, default in shared.items() if default is not dataclasses.MISSING}
        assert len(simple) >= 9
        simple.pop("engine", None)  # a word here, a cluster there
        assert simple == {name: parameters[name].default for name in simple}


@pytest.mark.parametrize("kind", ["grouped", "uniform"])
def test_subsets_have_the_sizes_of_a_range_of_fractions(tmp_path: Path, kind: str) -> None:
    """`grouped` is what is drawn where no design is named; it needs none beside a range."""
    arguments = [*ALGORITHM, "--n-models", "60", "--n-references", "0", "--fraction", "0.5:0.9"]
    named = [] if kind == "grouped" else ["--design", kind]
    assert main(["train", *DATA, *arguments, *named, "--run", str(tmp_path / "run")]) == 0
    run = infl.open_run(tmp_path / "run")
    assert (run.manifest["design"]["kind"], run.manifest["design"]["fraction"]) == (kind, [0.5, 0.9])
    n_models = {"design": 30, "grouped": 30} if kind == "grouped" else {"design": 60}
    assert {name: len(run.complete(name)) for name in run.collections()} == n_models
    for name in n_models:
        sizes = run.outcomes(name).load().masks.sum(axis=1)
        assert sizes.min() >= 30
        assert sizes.max() <= (59 if name == "grouped" else 54)  # some leave out a group and nothing else
        assert len(set(sizes.tolist())) > 8

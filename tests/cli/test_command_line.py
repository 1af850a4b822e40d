"""The command line does what the pipeline does, and says it to people and machines alike.

Machines read the JSON and .npz files, so their layout is held to DESIGN.md, section 5, and their numbers to the functions of
the package, or to a slow loop over the outcomes. Help and mistyped options must answer at once, so nothing heavy may be loaded
for them. Mistakes have a file of their own.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from scipy import stats

import infl
from infl.__main__ import main
from infl.cli import COMMANDS
from infl.cli.training import Train, Wanted
from infl.pipeline.score import check_target
from infl.records import REGIMES, ProtocolName
from infl.scores.power import findings
from infl.scores.shrunk_influence import shrunk_influence
from infl.scores.surrogate import fit_surrogate
from infl.store import bytes_per_model, leave_out_name
from infl.training.ensemble import Ensemble
from tests.blocks import stored_blocks
from tests.commands import call, contents, python
from tests.pages import ROOT

N_TRAIN, N_HELD_OUT = 60, 30
N_COLUMNS = N_TRAIN + N_HELD_OUT
DATA = "digits --n-train 60 --n-held-out 30"
ALGORITHM = "--epochs 2 --hidden 8 --batch-size 20 --models-per-device 4"
DESIGN = "--fraction 0.6 --grouped-share 0.25"
AMOUNT = "--n-models 40 --n-references 8 --models-per-covered-set 3"
N_VERIFY = 6
USERS = {"ann": list(range(8)), "bob": [40, 41, 42], "carol": []}
COVER = {"every fifth": list(range(0, 60, 5)), "two": {"ids": [8, 9], "concept": None}}
FORGET = {"a third": list(range(0, 60, 3)), "a dozen": {"ids": list(range(30, 42)), "concept": None}}
IDS = {"a third": list(range(0, 60, 3)), "a dozen": list(range(30, 42))}
THRESHOLDS = {"self_influence": 0.2, "cross_influence": 0.3, "effect": 0.15, "probability": 0.7, "cross": "net"}
QUANTITIES = {"self": "self_influence", "cross": "cross_influence", "harm": "harm", "gain": "gain"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder made by `infl train`, none of whose settings it takes by itself; its files and its JSON lie beside it."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "users.json").write_text(json.dumps(USERS))
    (folder / "cover.json").write_text(json.dumps(COVER))
    files = f"--groups {folder}/users.json --cover {folder}/cover.json --json {folder}/train.json"
    call(f"train {DATA} {ALGORITHM} {DESIGN} {AMOUNT} {files} --run {folder}/run")
    return folder / "run"


@pytest.fixture(scope="module")
def outputs(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what every other command wrote about a copy of that run, in the order a user would call them."""
    folder = tmp_path_factory.mktemp("outputs")
    shutil.copytree(trained, folder / "run")
    (folder / "forget.json").write_text(json.dumps(FORGET))
    given = [f"--thresholds.{name.replace('_', '-')} {value}" for name, value in THRESHOLDS.items()]
    asked = f"--forget {folder}/forget.json {' '.join(given)}"
    for name, options in {
        "scores": f"--n-top 4 --arrays {folder}/scores.npz",
        "predict": f"{asked} --effects {folder}/predict.npz",
        "verify": f"{asked} --effects {folder}/verify.npz --n-models {N_VERIFY}",
        "inspect": "",
    }.items():
        call(f"{name} --run {folder}/run {options} --json {folder}/{name}.json")
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def read(outputs: Path, name: str) -> dict[str, Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads((outputs / f"{name}.json").read_text(), parse_constant=refuse)


def covering(run: Path) -> str:
    (name,) = [name for name in infl.open_run(run).collections() if name.startswith("cover-")]
    return name


def complete(content: dict[str, Any]) -> dict[str, int]:
    return {name: collection["complete"] for name, collection in content["collections"].items()}


# What the commands write


def test_train_does_and_writes_what_was_asked_for(trained: Path) -> None:
    content, run = read(trained.parent, "train"), infl.open_run(trained)
    assert (content["dataset"]["n_train"], content["dataset"]["n_columns"]) == (N_TRAIN, N_COLUMNS)
    assert content["algorithm"]["network"] == {"name": "mlp", "hidden": [8]}
    assert (content["algorithm"]["epochs"], content["algorithm"]["batch_size"], content["seed"]) == (2, 20, 0)
    assert complete(content) == {"design": 30, "grouped": 10, "full": 8, covering(trained): 6}
    design = content["design"]
    assert (design["kind"], design["fraction"], design["grouped_share"]) == ("grouped", 0.6, 0.25)
    assert design["groups"]["names"] == ["labels", "10 clusters", "users"]
    groups, covered = (run.collection(name).groups for name in ("grouped", covering(trained)))
    assert groups is not None
    assert covered is not None
    users = groups.tables[2]
    assert [np.flatnonzero(users == k).tolist() for k in range(users.max() + 1)] == [USERS["ann"], USERS["bob"]]
    assert covered.names == ("every fifth", "two")
    masks = run.outcomes(covering(trained)).load().masks
    for first, ids in enumerate((COVER["every fifth"], [8, 9])):  # sets take turns
        assert not masks[first::2][:, ids].all(axis=1).any()
    assert set(run.outcomes("design").load().masks.sum(axis=1)) == {36}


def test_settings_of_training_reach_the_run(tmp_path: Path) -> None:
    mine = "--augmentation flip shift:1:reflect --precision bfloat16 --privacy clip:1 noise:1.5"
    layout = "--mode vmap --models-per-device 1 --convolution xla"
    few = "--n-models 2 --n-references 0 --design uniform --fraction 0.5:0.9 --epochs 1"
    call(f"train {DATA} {few} {mine} {layout} --run {tmp_path}/run")
    run = infl.open_run(tmp_path / "run")
    assert (run.manifest["design"]["kind"], run.manifest["design"]["fraction"]) == ("uniform", [0.5, 0.9])
    described, used = run.manifest["algorithm"], run.sessions[0]["layout"]
    assert (described["augmentation"], described["precision"]) == ("flip shift:1:reflect", "bfloat16")
    assert described["privacy"] == "clip:1.0 noise:1.5"
    assert (used["mode"], used["models_per_device"], used["convolution"]) == ("vmap", 1, "xla")


def test_inspect_writes_what_the_run_holds_and_says_what_it_is_for(outputs: Path, capsys: Any) -> None:
    content, cover = read(outputs, "inspect"), covering(outputs / "run")
    without = {leave_out_name(ids): N_VERIFY for ids in IDS.values()}
    assert complete(content) == {"design": 30, "grouped": 10, "full": 8, cover: 6, **without}
    assert all(collection["missing"] == 0 for collection in content["collections"].values())
    assert len(content["sessions"]) == 2  # train and verify
    call(f"inspect --run {outputs}/run")
    rows = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    figures = {path.name for path in (outputs / "run" / "figures").iterdir()}
    assert figures == {"memorization.png", "memorized.png", "influence.png", "regime_map.png"}
    sha = cover.removeprefix("cover-")
    for beginning in ("of random subsets 30 0 0", "leaving out groups 10 0 0", f"covering sets {sha[:6]} 6 0 0"):
        assert sum(row.startswith(beginning) for row in rows) == 1, rows


def test_scores_lists_the_top_examples_and_pairs(outputs: Path) -> None:
    content, outcomes = read(outputs, "scores"), infl.open_run(outputs / "run").outcomes("design").load()
    masks, correct = outcomes.masks, outcomes.of("correct")

    def influence(i: int, j: int) -> float:
        return correct[masks[:, i], j].mean() - correct[~masks[:, i], j].mean()

    assert (content["n_models"], content["n_train"]) == (30, N_TRAIN)
    listed, pairs = content["memorization"], content["pairs"]
    own = sorted((influence(i, i) for i in range(N_TRAIN)), reverse=True)
    assert [entry["memorization"] for entry in listed] == pytest.approx(own[:4])
    for entry in listed:
        assert entry["memorization"] == pytest.approx(influence(entry["id"], entry["id"]))
        assert entry["n_in"] + entry["n_out"] == 30
        assert entry["se"] >= 0
    assert len(pairs) == 4
    assert all(N_TRAIN <= pair["target"] < N_COLUMNS for pair in pairs)
    assert [pair["influence"] for pair in pairs] == sorted((pair["influence"] for pair in pairs), reverse=True)
    for pair in pairs:
        assert pair["influence"] == pytest.approx(influence(pair["source"], pair["target"]))
    memorization, scored = infl.memorization(outcomes), infl.strongest_influences(outcomes, n_pairs=4)
    found, smallest = findings(outcomes, memorization, scored), content["detectable"]
    assert [entry["q"] for entry in listed] == pytest.approx([found.q[entry["id"]] for entry in listed])
    assert [pair["q"] for pair in pairs] == pytest.approx([pair.q for pair in scored.pairs(4)])
    assert found.memorization is not None
    assert smallest["memorization"]["typical"] == pytest.approx(found.memorization.typical)
    assert (smallest["memorization"]["n_tests"], smallest["influence"]["n_tests"]) == (N_TRAIN, N_TRAIN * N_HELD_OUT)
    assert (smallest["influence"]["power"], smallest["influence"]["false_discovery_rate"]) == (0.8, 0.05)


def test_the_arrays_of_scores_are_those_of_a_slow_loop(outputs: Path) -> None:
    opened = infl.open_run(outputs / "run")
    data, outcomes = opened.dataset(), opened.outcomes("design").load()
    masks, correct = outcomes.masks, outcomes.of("correct")
    with np.load(outputs / "scores.npz") as file:
        arrays = dict(file)
    for name in ("memorization", "memorization_se", "memorization_q"):
        assert arrays[name].shape == (N_TRAIN,)
    for name in ("influence", "influence_se", "influence_q", "influence_shrunk"):
        assert arrays[name].shape == (N_TRAIN, N_COLUMNS)
        assert np.isnan(np.diagonal(arrays[name])).all()
    assert np.isfinite(arrays["influence"][:, N_TRAIN:]).all()
    random = np.random.default_rng(0)
    for i, j in zip(random.integers(0, N_TRAIN, 200), random.integers(0, N_COLUMNS, 200), strict=True):
        counted = ~masks[:, j] if j < N_TRAIN else np.ones(len(masks), bool)
        sides = correct[counted & masks[:, i], j], correct[counted & ~masks[:, i], j]
        if i == j or not all(map(len, sides)):
            assert np.isnan(arrays["influence"][i, j])
        else:
            assert arrays["influence"][i, j] == pytest.approx(sides[0].mean() - sides[1].mean(), abs=1e-6)
    parts = [infl.influence(outcomes, protocol=protocol) for protocol in ("left-out", "held-out")]
    p = np.concatenate([np.asarray(part.p) for part in parts], axis=1)  # q over both protocols together
    np.testing.assert_allclose(arrays["influence_q"], infl.q_values(p), rtol=1e-6)
    np.testing.assert_allclose(arrays["memorization_q"], infl.q_values(np.asarray(infl.memorization(outcomes).p)))
    surrogate = fit_surrogate(data.images, data.labels, n_train=N_TRAIN, n_classes=data.n_classes)
    both: dict[ProtocolName, slice] = {"left-out": slice(0, N_TRAIN), "held-out": slice(N_TRAIN, None)}
    for protocol, columns in both.items():
        shrunk: Any = shrunk_influence(outcomes, protocol=protocol, surrogate=surrogate)[1]
        for name, expected in (("influence_shrunk", shrunk.value), ("influence_sign_rate", shrunk.sign_rate)):
            np.testing.assert_allclose(arrays[name][:, columns], expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("command", ["predict", "verify"])
def test_verdicts_have_the_layout_that_others_rely_on(outputs: Path, command: str) -> None:
    content = read(outputs, command)
    assert set(content) == {"thresholds", "sets", "accuracy"}
    assert content["thresholds"] == THRESHOLDS
    assert list(content["sets"]) == list(IDS)
    for name, fields in content["sets"].items():
        assert ("measured" in fields) == (command == "verify")
        for verdict in (fields, fields["measured"]) if command == "verify" else (fields,):
            assert verdict["size"] == len(IDS[name])
            assert verdict["regime"] in {*REGIMES, "undetermined"}
            assert set(verdict["probability"]) == set(REGIMES)
            probabilities = [p for p in verdict["probability"].values() if p is not None]
            assert sum(probabilities) == pytest.approx(1) if probabilities else verdict["regime"] == "undetermined"
            assert all(set(verdict[quantity]) == {"value", "se"} for quantity in QUANTITIES)
            assert verdict["others"] in get_args(infl.records.verdicts.Others)


def test_verdicts_are_those_of_the_package(outputs: Path) -> None:
    thresholds = infl.Thresholds(**{name: THRESHOLDS[name] for name in THRESHOLDS})  # type: ignore[arg-type]
    measured = infl.verify(outputs / "run", IDS, n_models=N_VERIFY, thresholds=thresholds, quiet=True)
    predicted = infl.predict(outputs / "run", IDS, thresholds=thresholds)
    verified = read(outputs, "verify")["sets"]
    for verdicts, written in (
        (measured, {name: fields["measured"] for name, fields in verified.items()}),
        (predicted, verified),
        (predicted, read(outputs, "predict")["sets"]),
    ):
        for verdict in verdicts:
            fields = written[verdict.forget_set.name]
            assert fields["regime"] == verdict.regime
            for name, field in QUANTITIES.items():
                for one in ("value", "se"):
                    expected = getattr(getattr(verdict, field), one)
                    assert fields[name][one] == (None if np.isnan(expected) else pytest.approx(expected))


def test_ids_may_be_positions_in_the_source_and_it_is_said(run: Path, tmp_path: Path, capsys: Any) -> None:
    """The digits' training examples are drawn from all over the source."""
    positions = infl.open_run(run).dataset().train_ids[[5, 9]]
    np.savetxt(tmp_path / "mine.txt", positions)
    told = f"set 'mine' is read as ids 5, 9 of the run, positions {positions[0]}, {positions[1]} in the source"
    asked = f"predict --run {run} --forget {tmp_path}/mine.txt --predictor additive --json {tmp_path}/predict.json"
    call(f"{asked} --ids source")
    assert f"{told}\n" in capsys.readouterr().out
    (verdict,) = infl.predict(run, [5, 9], predictor="additive")
    assert read(tmp_path, "predict")["sets"]["mine"]["self"]["value"] == pytest.approx(verdict.self_influence.value)
    np.save(tmp_path / "mine.npy", [5, 9])
    call(asked.replace("mine.txt", "mine.npy"))
    assert f"{told} (--ids source takes these)\n" in capsys.readouterr().out
    assert read(tmp_path, "predict")["sets"]["mine"]["self"]["value"] == pytest.approx(verdict.self_influence.value)


def test_effects_are_those_of_the_package_and_of_paired_models(outputs: Path) -> None:
    run = infl.open_run(outputs / "run")
    full = run.outcomes("full", range(N_VERIFY)).load().of("margin")
    width = np.maximum(0.9 * full.std(axis=0) * N_VERIFY**-0.2, 0.25)
    with np.load(outputs / "predict.npz") as arrays:
        assert arrays["names"].tolist() == list(IDS)
        for k, expected in enumerate(infl.predict_effects(run, IDS)):
            np.testing.assert_allclose(arrays["effect"][k], expected.effect, rtol=1e-6)
            np.testing.assert_allclose(arrays["se"][k], expected.se, rtol=1e-6)
    with np.load(outputs / "verify.npz") as arrays:
        assert arrays["names"].tolist() == list(IDS)
        for k, expected in enumerate(infl.verify_effects(run, IDS, n_models=N_VERIFY, quiet=True)):
            without = run.outcomes(leave_out_name(expected.forget_set.ids)).load().of("margin")
            drop = stats.norm.cdf(full / width) - stats.norm.cdf(without / width)
            np.testing.assert_allclose(arrays["effect"][k], drop.mean(axis=0), atol=1e-5)
            np.testing.assert_allclose(arrays["se"][k], expected.se, rtol=1e-6)


def test_the_gap_to_the_concept_is_said_and_written(outputs: Path, tmp_path: Path, capsys: Any) -> None:
    sets = {"part": {"ids": [0, 1], "concept": list(range(40))}, "whole": list(range(40))}
    (tmp_path / "forget.json").write_text(json.dumps(sets))
    files = f"--forget {tmp_path}/forget.json --json {tmp_path}/out.json"
    call(f"predict --run {outputs}/run {files} --thresholds.effect 0.0")
    written = json.loads((tmp_path / "out.json").read_text())["sets"]
    gap = written["part"]["concept_gap"]
    assert "concept_gap" not in written["whole"]
    part, whole = infl.predict_effects(outputs / "run", sets, quiet=True)
    lost = N_TRAIN + np.flatnonzero(whole.effect[N_TRAIN:] >= 0)
    assert (gap["n_full"], gap["n_held_out"]) == (40, len(lost))
    assert gap["value"] == pytest.approx((whole.effect - part.effect)[lost].mean(), abs=1e-6)
    said = " ".join(capsys.readouterr().out.split())
    assert f"takes {gap['of_part']:.2f} from the {len(lost)} held-out examples of its concept" in said


def test_plan_answers_every_question_of_a_run_in_a_table(
    run: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infl.pipeline.plan.MIN_SECONDS", 0.0)
    asked = "--detect 0.3 --false-discovery-rate 0.1 --power 0.9 --set-size 20 --n-models 250 --n-references 5"
    call(f"plan --run {run} {asked} --json {tmp_path}/plan.json")
    said, content = capsys.readouterr().out, json.loads((tmp_path / "plan.json").read_text())
    assert (content["n_models"], content["n_pairs"]) == (250, N_TRAIN * (N_COLUMNS - 1))
    assert content["n_bytes"] == 255 * bytes_per_model(N_TRAIN, N_COLUMNS)
    before = content["prepare_seconds"] + content["compile_seconds"]
    assert content["seconds"] == pytest.approx(before + 255 / content["models_per_second"])
    questions = [answer["question"] for answer in content["answers"]]
    assert questions[:9] == ["memorization"] * 2 + ["influence"] * 4 + ["prediction"] * 3
    assert set(questions[9:]) == {"verification"}
    rows = [line.split() for line in said.splitlines() if line.startswith("  ")]
    for row, answer in zip(rows[1:], content["answers"], strict=True):
        assert ("-" if answer["n_models"] is None else f"{answer['n_models']:,}") in row
    assert max(map(len, said.splitlines())) <= 100


def test_a_stopped_plan_says_that_nothing_is_kept_and_keeps_nothing(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Its models are of no run; the same command measures anew. The first line comes before JAX is loaded."""
    before, train, n_batches = contents(run), Ensemble.train, iter(range(2))

    def stopped(*arguments: Any, **settings: Any) -> Any:
        if next(n_batches, None) is None:
            raise KeyboardInterrupt
        return train(*arguments, **settings)

    monkeypatch.setattr(Ensemble, "train", stopped)
    monkeypatch.setattr("infl.pipeline.progress._QUICK", 0.0)
    capsys.readouterr()
    assert main(["plan", "--run", str(run), "--n-models", "100"]) == 130
    first, *measured, empty, last = capsys.readouterr().err.splitlines()
    assert (first, empty) == ("measuring what models take here; none of them is kept", "")
    n_done, n_all = map(int, measured[-1].split()[1].split("/"))
    assert (4 * n_done, measured[-1].startswith("measuring: ")) == (n_all, True)  # two blocks of each of two designs
    assert last == "stopped; nothing is kept of it: the same command begins anew"
    assert contents(run) == before


def test_every_command_says_how_often_the_models_are_right(outputs: Path, tmp_path: Path, capsys: Any) -> None:
    """Scores and regimes of models that guess say nothing, so it stands beside each, printed and as JSON."""
    run, forget = outputs / "run", outputs / "forget.json"
    accuracy = infl.open_run(run).accuracy()
    assert accuracy is not None
    for name in ("scores", "predict", "verify", "inspect"):
        assert read(outputs, name)["accuracy"] == accuracy.to_dict()
    for line in (
        f"scores --run {run} --example 1",
        f"compare {run} {run}",
        f"report --run {run} --forget {forget} --out {tmp_path}/page.html",
        f"forget random --run {run} --size 3 --out {tmp_path}/sets.json",
        f"train --run {run} {AMOUNT}",
        f"merge {tmp_path}/merged {run}",
    ):
        call(f"{line} --json {tmp_path}/out.json")
        written = json.loads((tmp_path / "out.json").read_text())["accuracy"]
        assert written == ([accuracy.to_dict()] * 2 if line.startswith("compare") else accuracy.to_dict())
        assert f"accuracy of {accuracy.n_models} models: {accuracy.trained}" in capsys.readouterr().out


# A run that exists


def test_the_same_command_again_trains_nothing_and_more_models_leave_the_others_as_they_are(
    run: Path, tmp_path: Path, capsys: Any
) -> None:
    """Neither the data nor the settings are named again, or all of them are; groups may come in another form."""
    (tmp_path / "users.csv").write_text("id,user\n" + "".join(f"{i},{u}\n" for u, ids in USERS.items() for i in ids))
    (tmp_path / "cover.json").write_text(json.dumps(COVER))
    before, blocks, manifest = infl.open_run(run), stored_blocks(run), (run / "run.json").read_bytes()
    for files in ("", f"--groups {tmp_path}/users.csv", f"--cover {tmp_path}/cover.json"):
        call(f"train --run {run} {AMOUNT} {files}")
        call(f"train {DATA} {ALGORITHM} {DESIGN} --run {run} {AMOUNT} {files}")
    said = capsys.readouterr()
    assert f"Next: infl scores --run {run}" in said.out
    assert said.err == ""
    assert stored_blocks(run) == blocks
    more = f"--n-models 48 --n-references 8 --cover {tmp_path}/cover.json --models-per-covered-set 4"
    call(f"train --run {run} {more}")
    after = infl.open_run(run)
    counts = {name: len(after.complete(name)) for name in after.collections()}
    assert counts == {"design": 36, "grouped": 12, "full": 8, covering(run): 8}
    assert (run / "run.json").read_bytes() == manifest
    for name in before.collections():
        kept, old = after.outcomes(name, before.complete(name)).load(), before.outcomes(name).load()
        np.testing.assert_array_equal(kept.masks, old.masks)
        np.testing.assert_array_equal(kept.margin, old.margin)


def test_train_to_a_target_says_what_it_reached(run: Path, tmp_path: Path, capsys: Any) -> None:
    train = f"train --run {run} --n-references 8 --n-models 70 --json {tmp_path}/train.json"
    call(f"{train} --standard-error 0.01")
    said, target = capsys.readouterr().out, json.loads((tmp_path / "train.json").read_text())["target"]
    assert (target["wanted"], target["n_models"]) == (0.01, 70)
    assert f"not reached 0.01: {target['reached']:.4f} with 70 models; about {target['n_needed']:,} would" in said
    call(f"{train} --standard-error 0.2")
    reached = check_target(infl.open_run(run), 0.2).reached
    assert f"reached {reached:.4f} with 70 models" in capsys.readouterr().out


def test_options_have_the_defaults_of_the_functions_that_take_them() -> None:
    for command, function in ((Train, infl.train), (Wanted, infl.plan)):
        parameters = signature(function).parameters
        shared = {field.name: field.default for field in dataclasses.fields(command) if field.name in parameters}
        simple = {name: default for name, default in shared.items() if default is not dataclasses.MISSING}
        assert len(simple) >= 9
        simple.pop("engine", None)  # a word here, a cluster there
        assert simple == {name: parameters[name].default for name in simple}


# As a process of its own


@pytest.mark.parametrize(
    "line", ["--help", "scroes", "train --help", "plan --help", "scores --help", "verify --nosuch"]
)
def test_nothing_heavy_is_loaded_for_help_or_a_mistyped_option(line: str) -> None:
    """Options are made of settings that know nothing of what computes with them."""
    code = (
        "import sys; from infl.__main__ import main; status = main(sys.argv[1:]); "
        "heavy = {'jax', 'flax', 'optax', 'matplotlib', 'tensorstore', 'scipy', 'sklearn', 'pandas'} & set(sys.modules); "
        "print(status, sorted(heavy))"
    )
    done = python("-c", code, *line.split())
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"{0 if '--help' in line else 2} []"
    if line == "--help":
        assert all(f"  {command} " in done.stdout for command in COMMANDS)


def test_help_and_the_version_are_asked_for_as_elsewhere(capsys: Any) -> None:
    for asked, same in (("help", "--help"), ("help scores", "scores --help")):
        said = []
        for line in (asked, same):
            call(line)
            said.append(capsys.readouterr().out)
        assert said[0] == said[1]
    call("--version")
    assert capsys.readouterr().out == f"infl {version('infl')}\n"


def test_exit_statuses_reach_the_shell(tmp_path: Path) -> None:
    done = python("-m", "infl", "scores", "--run", str(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("infl scores: ")


@pytest.mark.filterwarnings("default:no font on this machine")
@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", ("class \\u732b", "+-", "\\U0001f600", "run caf\\xe9")),
        ("cp1252", ("class \\u732b", "±", "\\U0001f600", "run café")),
        ("utf-8", ("class 猫", "±", "😀", "run café")),
    ],
)
def test_what_the_terminal_cannot_print_is_spelled(
    encoding: str, expected: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every command that prints names: of classes, sets, files."""
    monkeypatch.chdir(tmp_path)
    masks = np.random.RandomState(0).rand(60, 20) < 0.7
    labels, names = np.arange(32) % 3, np.array(["猫", "犬", "đ"])
    correct = np.c_[masks, masks[:, :12]]
    outcomes = {"correct": correct, "margin": correct * 2.0 - 1}
    references = {f"reference_{kind}": array[:8] for kind, array in outcomes.items()}
    np.savez("outcomes.npz", masks=masks, labels=labels, class_names=names, **outcomes, **references)
    terminal = io.TextIOWrapper(io.BytesIO(), encoding, "strict", write_through=True)
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    call("import outcomes.npz --run café")
    call("forget class --run café --label 0 --out sets.json")
    call("forget random --run café --size 3 --name 😀 --out sets.json")
    for line in (
        "scores --n-top 3",
        "scores --example 1",
        "inspect",
        "predict --forget sets.json --predictor additive",
    ):
        call(f"{line} --run café")
    with pytest.raises(AssertionError):
        call("inspect --run 犬")
    said = terminal.buffer.getvalue().decode(encoding)  # pyright: ignore[reportAttributeAccessIssue]
    assert all(one in said for one in expected)
    assert ("犬" in said) == (encoding == "utf-8")


@pytest.mark.parametrize("line", ["--help", "scores --help"])
def test_a_reader_that_has_enough_of_the_output_is_no_mistake(line: str) -> None:
    """As in `infl --help | head -1`: by convention 128 + SIGPIPE, and not a word."""
    command, pipe = [sys.executable, "-m", "infl", *line.split()], subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 141

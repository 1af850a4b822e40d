"""`infl forget` and `infl plant` write what the generators make, keep what was there, and answer a mistake with one line.

A forget file is built up over several calls and then costs hours of retraining, so no call may lose a set that it held, write
one that is refused later, or leave a data set and a forget file that do not belong together. What the commands write is
held against the functions that they call, and every mistake must end with exit code 2, one line on stderr, and files as
they were.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infl
from infl import forget_sets, planting
from infl.__main__ import main
from infl.records import Dataset, ForgetSet
from infl.scores.influence import cross_influence_totals

DATA = ["digits", "--n-train", "60", "--n-held-out", "30"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "run"
    settings = ["--design", "uniform", "--epochs", "2", "--hidden", "8", "--n-models", "40", "--n-references", "0"]
    assert main(["train", *DATA, *settings, "--run", str(folder)]) == 0
    return folder


@pytest.fixture
def forget(tmp_path: Path) -> Path:
    return tmp_path / "forget.json"


def digits() -> Dataset:
    return infl.load("digits", n_train=60, n_held_out=30)


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("\n") == 1, said
    return said


KINDS: list[tuple[list[str], ForgetSet]] = [
    (["random", "--size", "7", "--seed", "3"], forget_sets.random_set(digits(), 7, seed=3)),
    (["class", "--label", "4"], forget_sets.class_set(digits(), 4)),
    (
        ["class", "--label", "4", "--fraction", "0.5", "--seed", "2"],
        forget_sets.class_set(digits(), 4, fraction=0.5, seed=2),
    ),
    (
        ["cluster", "--n-clusters", "6", "--cluster", "2", "--seed", "1"],
        forget_sets.cluster_set(digits(), 2, n_clusters=6, seed=1),
    ),
    (
        ["cluster", "--n-clusters", "6", "--example", "9", "--fraction", "0.4"],
        forget_sets.cluster_set(digits(), example=9, n_clusters=6, fraction=0.4),
    ),
    (["neighbours", "--example", "9", "--size", "5"], forget_sets.neighbours_set(digits(), 9, 5)),
]


@pytest.mark.parametrize(("arguments", "made"), KINDS)
def test_a_set_is_what_its_generator_makes(
    arguments: list[str], made: ForgetSet, run: Path, forget: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data set and a run made from it give the same set."""
    kind, *options = arguments
    assert main(["forget", kind, *DATA, *options, "--out", str(forget)]) == 0
    assert forget_sets.read_forget_sets(forget, n_train=60) == [made]
    said = capsys.readouterr().out
    assert f"{made.name}: {len(made)} of 60 training examples of digits" in said
    assert any(regime in said.partition("meant for")[2] for regime in ("no-op", "spreading"))
    assert main(["forget", kind, "--run", str(run), *options, "--name", "again", "--out", str(forget)]) == 0
    again = ForgetSet("again", made.ids, made.concept)
    assert forget_sets.read_forget_sets(forget, n_train=60) == [made, again]


def test_memorized_sets_are_read_from_the_models_of_the_run(run: Path, forget: Path) -> None:
    outcomes = infl.open_run(run).outcomes("design")
    memorization, cross = infl.memorization(outcomes), cross_influence_totals(outcomes).value
    made = [
        forget_sets.memorized_set(memorization, 5),
        forget_sets.memorized_set(memorization, 5, highest=False),
        forget_sets.memorized_set(memorization, 5, cross=cross, with_cross=True),
        forget_sets.memorized_set(memorization, 5, highest=False, cross=cross, with_cross=False),
    ]
    for kind, *options in (
        ["most-memorized"],
        ["least-memorized"],
        ["most-memorized", "--cross", "high"],
        ["least-memorized", "--cross", "low"],
    ):
        assert main(["forget", kind, "--run", str(run), "--size", "5", *options, "--out", str(forget)]) == 0
    assert forget_sets.read_forget_sets(forget, n_train=60) == made
    assert len({one.ids for one in made}) == 4


def test_the_next_commands_are_as_said(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "for get.json"
    capsys.readouterr()
    assert main(["forget", "random", *DATA, "--size", "5", "--out", str(out)]) == 0
    train, predict = (line.partition(": infl ")[2] for line in capsys.readouterr().out.splitlines()[-2:])
    assert shlex.split(train) == ["train", *DATA, "--run", "runs/digits"]
    assert shlex.split(predict) == ["predict", "--run", "runs/digits", "--forget", str(out)]
    assert main(["forget", "random", "--run", str(run), "--size", "6", "--out", str(out)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "infl " in line]
    assert shlex.split(line.partition(": infl ")[2]) == ["predict", "--run", str(run), "--forget", str(out)]


PLANTED: list[tuple[list[str], tuple[Dataset, ForgetSet]]] = [
    (["flipped", "--n-examples", "6", "--seed", "2"], planting.flip_labels(digits(), 6, seed=2)),
    (
        ["flipped", "--n-examples", "3", "--source-label", "1", "--to", "7"],
        planting.flip_labels(digits(), 3, source_label=1, to=7),
    ),
    (["copies", "--example", "9", "--n-copies", "4"], planting.plant_copies(digits(), 9, 4)),
    (
        ["copies", "--example", "9", "--n-copies", "4", "--flipped", "--noise", "0.1"],
        planting.plant_copies(digits(), 9, 4, flipped=True, noise=0.1),
    ),
    (["patch", "--n-examples", "6", "--label", "3"], planting.poison_patch(digits(), 6, label=3)),
    (
        ["patch", "--n-examples", "6", "--label", "3", "--size", "2", "--corner", "top-left", "--stamp-held-out", "8"],
        planting.poison_patch(digits(), 6, label=3, size=2, corner="top-left", n_held_out=8),
    ),
    (
        ["rare", "--n-clusters", "6", "--example", "9", "--n-kept", "2", "--seed", "1"],
        planting.thin_cluster(
            digits(), forget_sets.cluster_set(digits(), example=9, n_clusters=6, seed=1).ids, 2, seed=1
        ),
    ),
]


@pytest.mark.parametrize(("arguments", "planted"), PLANTED)
def test_what_is_planted_is_what_its_function_plants(
    arguments: list[str],
    planted: tuple[Dataset, ForgetSet],
    forget: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kind, *options = arguments
    out = tmp_path / "planted.npz"
    assert main(["plant", kind, *DATA, *options, "--out", str(out), "--forget", str(forget)]) == 0
    dataset, made = planted
    assert infl.load(out).fingerprint() == dataset.fingerprint()
    assert forget_sets.read_forget_sets(forget, n_train=dataset.n_train) == [made]
    said = capsys.readouterr().out
    assert f"{dataset.n_train} training and {dataset.n_held_out} held-out examples" in said
    assert any(regime in said.partition("meant for")[2] for regime in ("no-op", "local", "spreading"))
    assert shlex.split(said.splitlines()[-2].partition(": infl ")[2]) == ["train", str(out), "--run", "runs/planted"]


def test_planting_goes_on_in_a_planted_file_beside_the_sets_before(forget: Path, tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{k}.npz") for k in range(4)]
    rest = ["--forget", str(forget)]
    assert (
        main(["plant", "rare", *DATA, "--n-clusters", "6", "--cluster", "1", "--n-kept", "2", "--out", paths[0], *rest])
        == 0
    )
    assert main(["plant", "copies", paths[0], "--example", "9", "--n-copies", "4", "--out", paths[1], *rest]) == 0
    assert main(["plant", "flipped", paths[1], "--n-examples", "15", "--out", paths[2], *rest]) == 0
    assert main(["plant", "patch", paths[2], "--n-examples", "15", "--label", "2", "--out", paths[3], *rest]) == 0
    last = infl.load(paths[3])
    sets = forget_sets.read_forget_sets(forget, n_train=last.n_train)
    assert [len(one) for one in sets] == [2, 5, 15, 15]
    assert len({i for one in sets for i in one.ids}) == 2 + 5 + 15 + 15
    copied = last.x_train[list(sets[1].ids)]
    np.testing.assert_array_equal(copied, np.repeat(copied[:1], 5, axis=0))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["random", "--size", "3"], "name a data set, e.g. infl forget random digits, or give --run"),
        (["random", *DATA, "--run", "{run}", "--size", "3"], "name a data set or give --run, not both"),
        (["random", "--run", "{run}", "--n-train", "9", "--size", "3"], "draw from a data set: name it"),
        (["random", "--run", "nosuch", "--size", "3"], "nosuch is not a run folder"),
        (["most-memorized", *DATA, "--size", "3"], "most-memorized: needs --run"),
        (["random", *DATA, "--size", "61"], "size: expected 1 to 60"),
        (["random", *DATA, "--size", "60"], "is all of D"),
        (["random", *DATA, "--size", "3", "--seed", "-1"], "seed: expected 0 to"),
        (["random", *DATA, "--size", "3", "--name", "mine"], "the name 'mine' comes twice"),
        (["class", *DATA, "--label", "10"], "class: expected 0 to 9"),
        (["cluster", *DATA, "--n-clusters", "5"], "expected either a cluster's number or an example"),
        (["cluster", *DATA, "--n-clusters", "61", "--example", "1"], "n_clusters: expected 1 to 60"),
        (["random", "digits", "--n-train", "55", "--size", "3"], "names id 58, outside D (0..54)"),
        (["random", "nosuch", "--size", "3"], "unknown source 'nosuch'"),
    ],
)
def test_a_mistake_leaves_the_forget_file_as_it_was(
    arguments: list[str], said: str, run: Path, forget: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget.write_text(json.dumps({"mine": [1, 58]}))
    before = forget.read_bytes()
    capsys.readouterr()
    filled = [argument.replace("{run}", str(run)) for argument in arguments]
    assert main(["forget", *filled, "--out", str(forget)]) == 2
    assert said in refusal(capsys)
    assert forget.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["flipped", "--n-examples", "3"], "name the data set to plant in, e.g. infl plant flipped digits"),
        (["flipped", *DATA, "--n-examples", "61"], "n_examples: expected 1 to 58"),
        (["patch", *DATA, "--n-examples", "3", "--label", "1", "--size", "9"], "size: expected 1 to 8"),
        (
            ["rare", *DATA, "--n-kept", "3", "--n-clusters", "5", "--cluster", "1"],
            "would no longer fit; name a new file",
        ),
        (["copies", *DATA, "--n-copies", "3", "--example", "60"], "example: expected 0 to 59"),
        (["copies", *DATA, "--n-copies", "3", "--example", "1", "--name", "mine"], "the name 'mine' comes twice"),
    ],
)
def test_a_mistake_plants_nothing(
    arguments: list[str], said: str, forget: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget.write_text(json.dumps({"mine": [1, 58]}))
    before = forget.read_bytes()
    assert main(["plant", *arguments, "--out", str(tmp_path / "planted.npz"), "--forget", str(forget)]) == 2
    assert said in refusal(capsys)
    assert forget.read_bytes() == before
    assert list(tmp_path.iterdir()) == [forget]


def test_no_data_set_is_overwritten_and_none_is_left_without_its_forget_file(
    forget: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def plant(out: Path, file: Path) -> int:
        return main(["plant", "flipped", *DATA, "--n-examples", "3", "--out", str(out), "--forget", str(file)])

    (tmp_path / "mine.npz").write_text("precious")
    assert plant(tmp_path / "mine.npz", forget) == 2
    assert "exists already" in refusal(capsys)
    assert plant(tmp_path / "mine.data", forget) == 2
    assert "ends in .npz" in refusal(capsys)
    assert plant(tmp_path / "new.npz", tmp_path / "no" / "where.json") == 2
    assert "cannot be written" in refusal(capsys)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"mine.npz": "precious"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["forget"], "most-memorized"),
        (["forget", "nosuch", "digits", "--out", "f.json"], "nosuch"),
        (["forget", "random", "digits", "--out", "f.json"], "--size"),
        (["forget", "class", "digits", "--label", "1", "--size", "3", "--out", "f.json"], "--size"),
        (["plant", "flipped", "digits", "--n-examples", "3"], "--out"),
    ],
)
def test_a_command_that_cannot_be_read_is_refused(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_people_are_told_to_train_only_where_nothing_is_trained_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --run the folder is the usual one of the data set."""
    monkeypatch.chdir(tmp_path)
    make = ["forget", "random", *DATA, "--size", "3", "--out", "f.json"]
    assert main([*make, "--name", "a"]) == 0
    assert "Next: infl train digits" in capsys.readouterr().out
    settings = ["--design", "uniform", "--epochs", "1", "--hidden", "4", "--n-models", "2", "--n-references", "0"]
    assert main(["train", *DATA, *settings, "--run", "runs/digits"]) == 0
    capsys.readouterr()
    assert main([*make, "--name", "b"]) == 0
    said = capsys.readouterr().out
    assert "Next: infl predict --run runs/digits --forget f.json" in said
    assert "infl train" not in said

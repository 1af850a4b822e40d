"""A mistake in a command is one line that says what was expected, what came and what to do; it costs no training and no byte.

People mistype, and a run may have cost them days. So every command here must end with exit status 2, or with 3 where a disk has
damaged the run, without a traceback, without training a model, and with the folder that it was called in as it was.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infl
from infl.__main__ import main
from infl.training.ensemble import Ensemble
from tests.blocks import delete_blocks
from tests.commands import call, contents, refusal

DATA = "digits --n-train 60 --n-held-out 30"
FORGET = f"forget random {DATA} --out kept.json"
PLANT = f"{DATA} --out planted.npz --forget kept.json"
FILES: dict[str, Any] = {
    "sets.json": {"a": [1, 2], "b": [3, 4]},
    "kept.json": {"mine": [1, 58]},
    "outside.json": {"ann": [3, 60]},
    "empty.json": {},
}


@pytest.fixture(scope="module")
def folder(small_run: infl.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of every kind, and files of every kind, good and bad."""
    folder = tmp_path_factory.mktemp("mistakes")
    shutil.copytree(small_run.folder, folder / "run")
    for name, content in FILES.items():
        (folder / name).write_text(json.dumps(content))
    x, y = np.zeros((20, 4), np.float32), np.arange(20) % 2
    np.savez(folder / "half.npz", x_train=x, y_train=y)
    masks = np.random.default_rng(0).random((60, 20)) < 0.7
    outcomes: dict[str, Any] = {"masks": masks, "correct": np.c_[masks, masks[:, :12]], "labels": np.arange(32) % 3}
    np.savez(folder / "outcomes.npz", **outcomes)
    call(f"import {folder}/outcomes.npz --run {folder}/imported")
    wrong: dict[str, dict[str, Any]] = {
        "counts": {"masks": masks[1:]},
        "values": {"correct": np.full((60, 32), np.nan)},
    }
    for name, changed in wrong.items():
        np.savez(folder / f"{name}.npz", **outcomes | changed)
    np.savez(folder / "unlabelled.npz", masks=masks, correct=outcomes["correct"])
    (folder / "precious").mkdir()
    (folder / "precious" / "data.npz").write_text("precious")
    return folder


SCORED_ONLY = "it can be scored but not trained"
ABOVE_0 = "expected a number above 0"
MISTAKES = [
    # The data
    ("train nosuch --run new", "unknown source 'nosuch'"),
    ("train tfds:nosuch --run new", "TFDS knows no data set of this name"),
    ("train digits --n-train 100000 --run new", "expected 1 to 1000, the examples there are, got 100000"),
    ("train --run new", "is not a run yet: name the data set to train on"),
    ("train --n-train 60 --run new", "--n-train and --n-held-out draw from a data set: name it"),
    ("import counts.npz --run new", "masks is of 59 models, correct of 60"),
    ("import unlabelled.npz --run new", "missing labels"),
    (
        "import values.npz --run new --names masks",
        "--names: expected NAME=ARRAY, as in masks=trainset_mask, got 'masks'",
    ),
    ("import values.npz --run new", "none of the 60 rows of masks and outcomes was filled"),
    # Settings of a new run
    (f"train {DATA} --run new --fraction abc", "fraction: expected a fraction such as 0.7"),
    (f"train {DATA} --run new --design paired --fraction 0.7", "fraction must be 0.5"),
    (f"train {DATA} --run new --n-models 0", "expected at least 1 model"),
    (f"train {DATA} --run new --n-models -3", "expected a number of models, or FROM:TO as in 100:200, got -3"),
    (f"train {DATA} --run new --epochs 0", "epochs: expected at least 1, got 0"),
    (f"train {DATA} --run new --augmentation turn", "expected flip, shift:PIXELS or shift:PIXELS:reflect; got 'turn'"),
    (f"train {DATA} --run new --checkpoint-minutes 1 --engine ray", "workers of a Ray cluster keep no checkpoints"),
    (f"train {DATA} --run new --grouped-share 0.4 --design uniform", "grouped_share is a setting of design grouped"),
    (f"train {DATA} --run new --groups outside.json", "outside.json: set 'ann' names id 60, outside D (0..59)"),
    (f"train {DATA} --run new --groups empty.json", 'empty.json: expected an object {"name": [ids], ...}'),
    (f"train {DATA} --run new --cover outside.json", "set 'ann' names id 60, outside D (0..59)"),
    (f"train {DATA} --run new --cover sets.json --models-per-covered-set 0", "covered set: expected at least 1, got 0"),
    (f"train {DATA} --run precious", "exists and is not a run of infl"),
    (f"train {DATA} --run {'x' * 300}", "File name too long"),
    # Other settings than those of a run
    ("train --run run --hidden 8 9", "algorithm.network.hidden is [4] in the run, [8, 9] asked for"),
    ("train --run run --fraction 0.5", "design.fraction is [0.7, 0.97] in the run, 0.5 asked for"),
    ("train --run run --json no/where", "cannot be written: No such file or directory"),
    ("train digits --run run", "was made with other settings: dataset.fingerprint is"),
    # Plans
    ("plan --quiet", "plan: name a data set"),
    ("plan --quiet --run nowhere", "nowhere is not a run folder"),
    (f"plan --quiet {DATA} --n-models 0", "models: expected at least 1, got 0"),
    (f"plan --quiet {DATA} --n-references -1", "references: expected at least 0, got -1"),
    (f"plan --quiet {DATA} --n-pilot -1", "pilot models: expected at least 0, got -1"),
    (f"plan --quiet {DATA} --detect 1.5", f"detect: {ABOVE_0} and below 1, got 1.5"),
    (f"plan --quiet {DATA} --set-size 60", "set size: expected 1 to 59"),
    (f"plan --quiet {DATA} --set-size 5 --set-error 0", f"set error: {ABOVE_0}"),
    # Words that are mistyped
    (f"train {DATA} --run new --epoch 3", "there is no option --epoch: did you mean --epochs?"),
    (f"train {DATA} --run new --Batch_Sise=3", "there is no option --Batch_Sise: did you mean --batch-size?"),
    (f"train {DATA} --run new --lr 0.1", "--lr: did you mean --learning-rate?"),
    (f"train {DATA} --run new --worker 2", "--worker: did you mean --ray.n-workers?"),
    ("predict --run run --forgt sets.json", "there is no option --forgt: did you mean --forget?"),
    ("scores --run run --what", "there is no option --what: infl scores --help lists them"),
    ("forget randm digits --size 3", "infl forget: there is no kind 'randm': did you mean random?"),
    ("forget random digits --sze 3", "there is no option --sze: did you mean --size?"),
    ("forget --out new.json random", "the kind comes first: infl forget random ..."),
    ("train --dataset digits --run new", "DATASET is named without an option: infl train DATASET"),
    ("compare --a run --b run", "A is named without an option"),
    ("plant fliped digits", "there is no kind 'fliped': did you mean flipped?"),
    ("plant nosuch digits", "there is no kind 'nosuch': expected one of facts, flipped, copies, patch, rare"),
    # Questions to a run
    ("scores --run nowhere", "is not a run folder: it has no run.json. Make one with: infl train DATASET --run"),
    ("scores --run run --n-top 0", "--n-top: expected at least 1, got 0"),
    ("scores --run run --example -1", "expected a training example 0..59 or a held-out one 60..89, got -1"),
    ("scores --run run --example 1 --arrays a.npz", "leave --example out"),
    ("scores --run run --example 1 --feldman-zhang a.npz", "leave --example out"),
    ("scores --run run --example 1 --matrix a.zarr", "leave --example out"),
    ("scores --run run --example 1 --q-over column", "leave it out"),
    ("scores --run run --table top.xlsx", "expected a path that ends in .csv or .parquet"),
    ("predict --run run --forget none.json", "none.json: cannot be read: No such file or directory"),
    ("verify --run run --forget empty.json", "forget file empty.json: expected an object"),
    ("predict --run run --forget outside.json", "outside.json: set 'ann' names id 60, outside D (0..59)"),
    ("predict --run run --forget sets.json --ids source", "positions of the source that are not in D"),
    ("predict --run run --forget sets.json --thresholds.probability 2", f"threshold probability: {ABOVE_0}"),
    ("predict --run run --forget sets.json --thresholds.effect inf", "threshold effect: expected a finite"),
    ("verify --run run --forget sets.json --n-models 1", "verification needs at least 2 models a set, got 1"),
    (
        "unlearn --run run --forget sets.json --method neggrad+ --tried alpha=0.9,epochs",
        "--tried: expected NAME=NUMBER, as in epochs=5, got 'epochs'",
    ),
    ("report --run run --n-top 0", "n_top: expected at least 1, got 0"),
    # A run that was made elsewhere, without pixels and algorithm
    ("train --run imported", f"it holds no pixels and no training algorithm, so {SCORED_ONLY}"),
    ("train digits --run imported", f"{SCORED_ONLY}; use a run made by infl train"),
    ("verify --run imported --forget sets.json", SCORED_ONLY),
    (
        "predict --run imported --forget sets.json --predictor combined",
        "at pixels and classes; take --predictor additive",
    ),
    ("predict --run imported --forget sets.json", "import a file with margin and reference_mar"),
    ("forget cluster --run imported --n-clusters 2 --cluster 1 --out new.json", "its examples came without pixels"),
    ("forget neighbours --run imported --example 1 --size 3 --out new.json", "its examples came without pixels"),
    # Forget sets
    ("forget random --size 3 --out new.json", "name a data set, e.g. infl forget random digits, or give --run"),
    (f"{FORGET} --run run --size 3", "name a data set or give --run, not both"),
    ("forget random --run run --n-train 9 --size 3 --out new.json", "draw from a data set: name it"),
    (f"forget most-memorized {DATA} --size 3 --out new.json", "most-memorized: needs --run"),
    (
        "forget most-memorized --run run --size 3 --scores half.npz --cross low --out new.json",
        "leave out --cross or --scores",
    ),
    (
        f"forget most-memorized {DATA} --size 3 --scores half.npz --out new.json",
        "half.npz: expected scores, as tr_mem or",
    ),
    ("compare run nowhere.npz", "nowhere.npz: expected a run, or a file of scores, found neither"),
    ("compare run imported", "expected scores of the same examples: run has 60 training examples, imported 20"),
    (f"{FORGET} --size 3 --name mine", "the name 'mine' comes twice"),
    ("forget random digits --n-train 55 --size 3 --out kept.json", "names id 58, outside D (0..54)"),
    (
        f"forget class {DATA} --label cat --out new.json",
        "class: expected a class (0, 1, 2, 3, 4, 5, 6, 7, 8, 9) or its",
    ),
    (f"forget group {DATA} --groups sets.json --out new.json", "name one of the groups in sets.json by --group"),
    (f"forget group {DATA} --groups sets.json --name bob --out new.json", "got 'bob'"),
    (
        f"forget random {DATA} --size 3 --out ids.txt",
        "ids.txt: sets are written as JSON, and .txt is read as something",
    ),
    (f"forget cluster {DATA} --n-clusters 5 --out new.json", "expected either a cluster's number or an example"),
    ("plant flipped --n-examples 3 --out planted.npz --forget kept.json", "name the data set to plant in, e.g. infl"),
    (f"plant rare {PLANT} --n-kept 3 --n-clusters 5 --cluster 1", "would no longer fit; name a new file"),
    (f"plant copies {PLANT} --n-copies 3 --example 1 --name mine", "the name 'mine' comes twice"),
    (f"plant flipped {DATA} --n-examples 3 --out half.npz --forget kept.json", "half.npz exists already"),
    (f"plant flipped {DATA} --n-examples 3 --out mine.data --forget kept.json", "ends in .npz"),
]


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder as the current one, and no model can be trained."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(Ensemble, "__init__", lambda *_, **__: pytest.fail("models are trained first"))
    return folder


@pytest.mark.parametrize(("line", "said"), MISTAKES)
def test_a_mistake_is_one_line_and_changes_nothing(line: str, said: str, here: Path, capsys: Any) -> None:
    before = contents(here)
    assert said in refusal(line, capsys)
    assert contents(here) == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "name a command"),
        ("tran", "there is no command 'tran': did you mean train?"),
        ("Scores", "there is no command 'Scores': did you mean scores?"),
        ("train digits", "Missing from infl train"),
        ("train digits --run new --epochs many", "--epochs"),
        ("train digits --run new --mode both", "--mode"),
        ("predict --run new --forget f.json --thresholds.cross both", "--thresholds.cross"),
        ("forget", "most-memorized"),
        ("forget random digits --out f.json", "--size"),
        ("plant flipped digits --n-examples 3", "--out"),
    ],
)
def test_a_command_that_cannot_be_read_is_refused(line: str, said: str, here: Path, capsys: Any) -> None:
    before = contents(here)
    assert main(shlex.split(line)) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "Traceback" not in message
    assert contents(here) == before


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace('"epochs": 2', '"epochs": 3'))


DAMAGE: list[tuple[str, str, Callable[[Path], None], str]] = [
    ("scores --run run", "run.json", cut, "run.json is damaged"),
    ("predict --run run --forget sets.json", "run.json", edit, "run.json is damaged or was edited"),
    (
        "predict --run run --forget sets.json",
        "collections/design/blocks/*.npz",
        flip,
        "the checksum of its margin does not fit; infl insp",
    ),
    (
        "predict --run run --forget sets.json",
        "collections/design/blocks/*.npz",
        cut,
        "File is not a zip file; infl ins",
    ),
    ("scores --run run", "data/*.npz", Path.unlink, ".npz is missing or damaged"),
    ("train --run run --n-models 50", "groups/*.npz", cut, ".npz is missing or damaged"),
    ("verify --run run --forget sets.json", "groups/*.npz", Path.unlink, ".npz is missing or damaged"),
]


@pytest.mark.parametrize(("line", "file", "damage", "said"), DAMAGE)
def test_a_damaged_run_is_named_with_the_file(
    line: str,
    file: str,
    damage: Callable[[Path], None],
    said: str,
    here: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    shutil.copytree(here / "run", tmp_path / "run")
    shutil.copy(here / "sets.json", tmp_path)
    monkeypatch.chdir(tmp_path)
    for path in Path("run").glob(file):
        damage(path)
    before = contents(tmp_path)
    assert said in refusal(line, capsys, status=3)
    assert contents(tmp_path) == before


def test_scores_without_uniform_models_are_refused(folder: Path, tmp_path: Path, capsys: Any) -> None:
    """What a run with `--grouped-share 1` holds: every model has left out groups."""
    shutil.copytree(folder / "run", tmp_path / "run")
    delete_blocks(tmp_path / "run", "design")
    refusal(f"scores --run {tmp_path}/run", capsys)


def test_figures_that_cannot_be_written_are_one_line_too(folder: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copytree(folder / "run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "figures", ignore_errors=True)
    (tmp_path / "run" / "figures").write_text("in the way")
    assert "figures" in refusal(f"scores --run {tmp_path}/run", capsys)

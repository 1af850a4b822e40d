"""The two walks that everything else is for: a forget set from the command line to the page, and a run that survives a kill.

Each is the fast witness of what the second tier tests at length: `tests/cli`, `tests/report` and `tests/faults`.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

import infl
from infl.__main__ import main
from tests.pages import ROOT

TRAIN = ["train", "digits", "--n-train", "60", "--n-held-out", "30", "--epochs", "2", "--hidden", "4"]


def test_a_forget_set_goes_from_the_command_line_to_the_page(
    small_run: infl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_run.folder, "run")
    commands: tuple[str, ...] = (
        "forget class --run run --label 3 --out forget.json",
        "predict --run run --forget forget.json --json predicted.json",
        "verify --run run --forget forget.json --n-models 8 --json verified.json",
        "report --run run --out page.html",
    )
    for command in commands:
        assert main(shlex.split(command)) == 0, (command, capsys.readouterr().err)
    [(name, ids)] = json.loads(Path("forget.json").read_text()).items()
    np.testing.assert_array_equal(small_run.dataset().y_train[ids], 3)
    predicted, verified = (
        json.loads(Path(f"{made}.json").read_text())["sets"][name] for made in ("predicted", "verified")
    )
    assert predicted.items() <= verified.items()
    run = infl.open_run("run")
    [without] = [collection for collection in run.collections() if collection.startswith("without-")]
    margins = [run.outcomes(name, range(8)).load().of("margin")[:, ids] for name in ("full", without)]
    width = np.maximum(0.9 * margins[0].std(axis=0) * 8**-0.2, 0.25)
    lost = np.mean(ndtr(margins[0] / width) - ndtr(margins[1] / width))
    assert verified["measured"]["self"]["value"] == pytest.approx(lost, abs=1e-5)
    page = Path("page.html").read_text()
    for shown in (
        name,
        predicted["regime"],
        verified["measured"]["regime"],
        f"{verified['measured']['self']['value']:.2f}",
    ):
        assert shown in page


def test_a_run_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(
    small_run: infl.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*TRAIN, "--n-models", "40", "--n-references", "8", "--models-per-device", "2", "--n-devices", "1"]
    command += ["--run", str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "infl", *command], env=environment, stderr=subprocess.DEVNULL)
    before = complete(tmp_path / "run")
    while process.poll() is None and not before:
        time.sleep(0.01)
        before = complete(tmp_path / "run")
    process.kill()
    process.wait()
    before = complete(tmp_path / "run")
    assert 0 < len(before) < 48
    assert main(command) == 0, capsys.readouterr().err
    run = infl.open_run(tmp_path / "run")
    assert before < complete(run.folder) == complete(small_run.folder)
    for collection in small_run.collections():
        got, wanted = run.outcomes(collection).load(), small_run.outcomes(collection).load()
        for field, tolerance in (("masks", 0), ("correct", 0), ("margin", 2e-3)):  # float16, and another layout
            np.testing.assert_allclose(getattr(got, field), getattr(wanted, field), rtol=0, atol=tolerance)


def complete(folder: Path) -> set[tuple[str, int]]:
    """The models whose outcomes are in a run, of each collection; none where there is no run yet."""
    try:
        run = infl.open_run(folder)
    except infl.InputError:
        return set()
    return {(name, model) for name in run.collections() for model in run.complete(name)}

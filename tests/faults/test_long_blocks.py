"""A block that is killed in the middle goes on from its last checkpoint and ends in the same bits, and no epoch before it is
trained again.

Where a block takes hours, starting it over is what a kill costs; and one that went on from a state that is not quite its own
would give models that no seed gives. So each training here is compared bit for bit with one that nobody disturbed. One kill is
real (SIGKILL, of a process of its own); the others are an exception that nothing catches, thrown where a kill would fall. What
was trained is counted by its epochs.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import infl
from infl.store import Checkpoint, Checkpoints
from infl.training.ensemble import Ensemble
from tests.commands import call, python

EPOCHS, N_MODELS = 5, 5  # two blocks, of which the second is short
PLAIN = infl.Algorithm(hidden=(8,), epochs=EPOCHS, batch_size=20, schedule="cosine")
KINDS = {
    "map": replace(PLAIN, augmentation=infl.Augmentation(shift=1), standardize=True),
    "vmap": replace(PLAIN, optimizer="adam"),
}


class Killed(BaseException):
    """As a kill, it is caught by nobody."""


def layout(mode: Any, width: int = 2) -> infl.Layout:
    return infl.Layout(n_devices=2, models_per_device=width, mode=mode)


def train(dataset: infl.Dataset, run: Path, mode: str, **settings: Any) -> infl.Run:
    usual = {"n_models": N_MODELS, "n_references": 0, "design": infl.Design("uniform", 0.7), "algorithm": KINDS[mode]}
    usual |= {"layout": layout(mode), "checkpoint_minutes": 0, "quiet": True}
    return infl.train(dataset, run=run, **usual | settings)


@pytest.fixture(scope="module")
def undisturbed(small_digits: infl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], infl.Run]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return cache(lambda mode: train(small_digits, folder / mode, mode))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The pieces that are trained, by their first and last epoch."""
    log: list[tuple[int, int]] = []
    train_epochs = Ensemble.train_epochs

    def logged(self: Ensemble, batch: Any, states: Any, first: int, last: int, **epochs: Any) -> Any:
        log.append((first, last))
        return train_epochs(self, batch, states, first, last, **epochs)

    monkeypatch.setattr(Ensemble, "train_epochs", logged)
    return log


def dying(monkeypatch: pytest.MonkeyPatch, place: Any, name: str, dies: Callable[..., bool]) -> Any:
    """In a `with` block, the process is killed where this function is called with what `dies` says yes to."""
    real = getattr(place, name)

    def killed(*arguments: Any, **settings: Any) -> Any:
        if dies(*arguments):
            raise Killed
        return real(*arguments, **settings)

    context = monkeypatch.context()
    context.__enter__().setattr(place, name, killed)
    return context


def kept(run: Path) -> list[int]:
    """Epochs done of each checkpoint on disk."""
    return [one["epochs"] for one in Checkpoints(infl.open_run(run), print).listed()]


def assert_equal(run: infl.Run, other: infl.Run, collection: str = "design") -> None:
    assert run.complete(collection) == other.complete(collection)
    mine, theirs = run.outcomes(collection).load(), other.outcomes(collection).load()
    for name in ("masks", "correct", "margin"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name), err_msg=name)


@pytest.mark.slow  # in the first tier test_end_to_end.py kills a run, and test_executors.py goes on from states
@pytest.mark.parametrize("mode", ["map", "vmap"])
def test_a_killed_block_goes_on_where_it_was(
    mode: str,
    undisturbed: Callable[[str], infl.Run],
    small_digits: infl.Dataset,
    tmp_path: Path,
    trained: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = undisturbed(mode)
    trained.clear()
    folder, all_epochs = tmp_path / "run", [(epoch, epoch + 1) for epoch in range(EPOCHS)]
    # While the checkpoint after the fourth epoch of the first block is written, once the outcomes of this block are there, and
    # in the third epoch of the second block.
    moments = {
        3: (Path, "replace", lambda path, to: "checkpoints" in to.parts and kept(folder) == [3]),
        4: (Checkpoint, "delete", lambda checkpoint: len(checkpoint.jobs) == 4),
        2: (Ensemble, "train_epochs", lambda *arguments: arguments[3] == 2 and len(arguments[1].slots) == 1),
    }
    for left, moment in moments.items():
        context = dying(monkeypatch, *moment)
        with pytest.raises(Killed):
            train(small_digits, folder, mode)
        context.__exit__(None, None, None)
        assert kept(folder) == [left]
    assert infl.open_run(folder).complete("design") == [0, 1, 2, 3]
    run = train(small_digits, folder, mode)
    # The fourth epoch was trained once more, as the checkpoint after it was not whole.
    assert trained == [*all_epochs[:4], *all_epochs[3:], *all_epochs]
    assert_equal(run, whole)
    assert not (folder / "checkpoints").exists()
    assert run.to_dict()["collections"]["design"]["seconds"] > 0


LINE = (  # what `train` trains with mode map
    f"train digits --n-train 60 --n-held-out 30 --design uniform --fraction 0.7 --n-models {N_MODELS} --n-references 0 "
    f"--hidden 8 --epochs {EPOCHS} --batch-size 20 --schedule cosine --augmentation shift:1 --standardize "
    "--mode map --models-per-device 2 --n-devices 2 --checkpoint-minutes 0"
)
DIES = """
import os, runpy, signal, jax
from infl.training.ensemble import Ensemble
jax.config.update("jax_num_cpu_devices", 2)
train_epochs = Ensemble.train_epochs
def dying(self, batch, states, first, last):
    if last == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return train_epochs(self, batch, states, first, last)
Ensemble.train_epochs = dying
runpy.run_module("infl", run_name="__main__", alter_sys=True)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_goes_on(
    undisturbed: Callable[[str], infl.Run],
    tmp_path: Path,
    trained: list[tuple[int, int]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, line = undisturbed("map"), f"{LINE} --run {tmp_path}/run"
    done = python("-c", DIES, *line.split())
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert kept(tmp_path / "run") == [3]
    trained.clear()
    call(line)
    assert trained == [(3, 4), (4, 5), *((epoch, epoch + 1) for epoch in range(EPOCHS))]
    said = capsys.readouterr().err
    assert "4 models go on after epoch 3\n" in said
    assert "checkpoint" not in said
    assert_equal(infl.open_run(tmp_path / "run"), whole)
    assert not (tmp_path / "run" / "checkpoints").exists()


def killed_in_the_fourth_epoch(
    dataset: infl.Dataset, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any
) -> None:
    context = dying(monkeypatch, Ensemble, "train_epochs", lambda *arguments: arguments[3] == 3)
    with pytest.raises(Killed):
        train(dataset, folder, "map", **settings)
    context.__exit__(None, None, None)
    assert kept(folder) == [3]


@pytest.mark.parametrize("because", ["is damaged", "it was made with other jax"])
def test_what_does_not_fit_is_left_with_a_line(
    because: str,
    undisturbed: Callable[[str], infl.Run],
    small_digits: infl.Dataset,
    tmp_path: Path,
    trained: list[tuple[int, int]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, folder = undisturbed("map"), tmp_path / "run"
    killed_in_the_fourth_epoch(small_digits, folder, monkeypatch)
    if "damaged" in because:
        (path,) = (folder / "checkpoints").iterdir()
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif "jax" in because:
        monkeypatch.setattr(jax, "__version__", "another")
    trained.clear()
    capsys.readouterr()
    run = train(small_digits, folder, "map", quiet=False)
    assert trained[0] == (0, 1)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "checkpoint" in line]
    assert because in line
    assert not (folder / "checkpoints").exists()
    assert_equal(run, whole)

"""A disk that is full, or may not be written to, ends a command with one line and exit status 3, and costs no finished model.

Long runs fill disks. What was complete before must still be there, the run must open, and the same command must go on once
there is room. Full disks are real here: a limit on the size of files, which needs no rights, and a tmpfs where they suffice.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import infl
from tests.blocks import stored_blocks, stored_models
from tests.commands import call, python, refusal
from tests.pages import ROOT


def train(folder: Path, n_models: int) -> str:
    return (
        "train digits --n-train 60 --n-held-out 30 --design uniform --epochs 1 --hidden 4 --n-references 4 "
        f"--models-per-device 8 --n-devices 1 --n-models {n_models} --run {folder}"
    )


def assert_whole(folder: Path, n_models: int) -> None:
    run = infl.open_run(folder)
    assert run.complete("design") == list(range(n_models))
    assert not run.damaged_blocks()


def assert_equal(folder: Path, other: Path) -> None:
    one, two = (infl.open_run(path).outcomes("design").load() for path in (folder, other))
    assert (one.masks == two.masks).all()
    assert (one.of("margin") == two.of("margin")).all()


def test_a_disk_that_fills_while_models_are_written(tmp_path: Path) -> None:
    """No file may be larger than a block of a few models; what is complete stays, and nothing half-written is left."""
    folder = tmp_path / "run"
    call(train(folder, 16))
    before = stored_blocks(folder)
    largest = max(path.stat().st_size for path in folder.glob("collections/*/blocks/*.npz")) - 500
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, {largest})); "
    start = "import runpy; runpy.run_module('infl', run_name='__main__', alter_sys=True)"
    done = python("-c", limited + start, *train(folder, 64).split())
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{folder} cannot be written" in done.stderr
    assert stored_blocks(folder) == before
    assert_whole(folder, 16)
    call(train(folder, 64))
    assert_whole(folder, 64)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this system lets us mount no tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(small_disk: Path, capsys: Any) -> None:
    folder = small_disk / "run"
    call(train(folder, 8))
    with open(small_disk / "filler", "wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(512))
    assert "No space left on device" in refusal(f"{train(folder, 64)} --quiet", capsys, status=3)
    assert_whole(folder, 8)
    (small_disk / "filler").unlink()
    call(train(folder, 16))
    assert_whole(folder, 16)


def test_a_disk_that_may_only_be_read(small_disk: Path, capsys: Any) -> None:
    """What is complete can be asked; what needs a model is refused."""
    folder = small_disk / "run"
    call(train(folder, 8))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    call(train(folder, 8))
    call(f"inspect --run {folder} --repair")  # nothing is damaged
    assert infl.memorization(infl.open_run(folder)).value.shape == (60,)
    assert "Read-only file system" in refusal(f"{train(folder, 16)} --quiet", capsys, status=3)


@pytest.mark.slow
def test_two_trainers_at_once_end_in_one_run(tmp_path: Path) -> None:
    """Both make the same blocks: the first stays, and the one that came later was told."""
    folder, pipe = tmp_path / "run", subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "infl", *train(folder, 600).split()]
    both = [subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert any("another process trains in this run too" in one for one in said), said
    assert_whole(folder, 600)
    assert set(Counter(stored_models(folder)).values()) == {1}
    call(train(tmp_path / "alone", 600))
    assert_equal(folder, tmp_path / "alone")


def test_a_clock_that_goes_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two, real = tmp_path / "one", tmp_path / "two", time.time
    call(train(one, 16))
    call(train(two, 8))
    monkeypatch.setattr(time, "time", lambda: real() - 1e7)
    for path in two.rglob("*"):
        os.utime(path, (real() + 1e7, real() + 1e7))
    call(train(two, 16))
    assert_equal(one, two)

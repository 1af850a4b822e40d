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

import pytest

import infl
from infl.__main__ import main
from tests.blocks import stored_blocks, stored_models

DATA = ["digits", "--n-train", "60", "--n-held-out", "30"]
SMALL = [
    *("--design", "uniform", "--epochs", "1", "--hidden", "4", "--n-references", "4"),
    *("--models-per-device", "8", "--n-devices", "1"),
]


def train(folder: Path, models: int, *more: str) -> list[str]:
    return ["train", *DATA, *SMALL, "--n-models", str(models), "--run", str(folder), *more]


def as_process(arguments: list[str], largest: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command; no file of its own may then be larger than `largest` bytes."""
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({largest}, {largest})); " if largest else ""
    start = limited + "import runpy; runpy.run_module('infl', run_name='__main__', alter_sys=True)"
    environment = {**os.environ, "PYTHONPATH": str(Path(infl.__file__).parents[1])}
    command = [sys.executable, "-c", start, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_a_disk_that_fills_while_models_are_written(tmp_path: Path) -> None:
    """No file may be larger than a block of a few models; what is complete stays, and nothing half-written is left."""
    folder = tmp_path / "run"
    assert main(train(folder, 16)) == 0
    before = stored_blocks(folder)
    size = max(path.stat().st_size for path in folder.glob("collections/*/blocks/*.npz"))
    done = as_process(train(folder, 64), largest=size - 500)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{folder} cannot be written" in done.stderr
    assert stored_blocks(folder) == before
    assert not infl.open_run(folder).damaged_blocks()
    assert main(train(folder, 64)) == 0
    assert infl.open_run(folder).complete("design") == list(range(64))
    assert not infl.open_run(folder).damaged_blocks()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(place)], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this system lets us mount no tmpfs")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small_disk / "run"
    assert main(train(folder, 8)) == 0
    with open(small_disk / "filler", "wb", buffering=0) as filler, suppress(OSError):
        while True:
            filler.write(bytes(512))
    assert main(train(folder, 64)) == 3
    assert "No space left on device" in capsys.readouterr().err
    assert infl.open_run(folder).complete("design") == list(range(8))
    (small_disk / "filler").unlink()
    assert main(train(folder, 16)) == 0
    assert infl.open_run(folder).complete("design") == list(range(16))


def test_a_disk_that_may_only_be_read(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is complete can be asked; what needs a model is refused."""
    folder = small_disk / "run"
    assert main(train(folder, 8)) == 0
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert main(train(folder, 8)) == 0
    assert main(["inspect", "--run", str(folder)]) == 0
    assert infl.memorization(infl.open_run(folder)).value.shape == (60,)
    capsys.readouterr()
    assert main(["inspect", "--run", str(folder), "--repair"]) == 0  # nothing is damaged
    assert main(train(folder, 16)) == 3
    assert "Read-only file system" in capsys.readouterr().err


@pytest.mark.slow
def test_two_trainers_at_once_end_in_one_run(tmp_path: Path) -> None:
    """Both make the same blocks: the first stays, and the one that came later was told."""
    folder = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(Path(infl.__file__).parents[1])}
    command = [sys.executable, "-m", "infl", *train(folder, 600)]
    pipe = subprocess.PIPE
    both = [subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert any("another process trains in this run too" in one for one in said), said
    run = infl.open_run(folder)
    assert run.complete("design") == list(range(600))
    assert set(Counter(stored_models(folder)).values()) == {1}
    assert not run.damaged_blocks()
    assert main(train(tmp_path / "alone", 600)) == 0
    mine, alone = (infl.open_run(tmp_path / name).outcomes("design").load() for name in ("run", "alone"))
    assert (mine.masks == alone.masks).all()
    assert (mine.of("margin") == alone.of("margin")).all()


def test_a_clock_that_goes_back_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(train(tmp_path / "one", 16)) == 0
    assert main(train(tmp_path / "two", 8)) == 0
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 1e7)
    for path in (tmp_path / "two").rglob("*"):
        os.utime(path, (real() + 1e7, real() + 1e7))
    assert main(train(tmp_path / "two", 16)) == 0
    one, two = (infl.open_run(tmp_path / name).outcomes("design").load() for name in ("one", "two"))
    assert (one.masks == two.masks).all()
    assert (one.of("margin") == two.of("margin")).all()

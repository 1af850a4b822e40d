"""A disk that is full, or may not be written to, ends a command with one line and exit status 3, and costs no finished model.

Long runs fill disks. What was complete before must still be there, the run must open, and the same command must go on once
there is room. Full disks are real here: a limit on the size of files, which needs no rights, and a tmpfs where they suffice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import infl
from infl.__main__ import main
from infl.records import LockedError

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
    """Of a chunk of 64 models the first blocks fit under the limit, and then no more."""
    folder = tmp_path / "run"
    assert main(train(folder, 16)) == 0
    size = max(path.stat().st_size for path in (folder / "models").rglob("*") if path.is_file())
    limit = max(size + 500, (folder / "journal.jsonl").stat().st_size + 2000)
    done = as_process(train(folder, 64, "--tune", "off"), largest=limit)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert f"run folder {folder}: cannot write" in done.stderr
    run = infl.open_run(folder)
    complete = run.complete("design")
    assert 16 <= len(complete) < 64
    assert not run.find_damage().blocks
    assert not (folder / "run.lock").exists()
    assert main(train(folder, 64)) == 0
    assert infl.open_run(folder).complete("design") == list(range(64))
    assert not infl.open_run(folder).find_damage().blocks


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
    assert main(train(folder, 64, "--tune", "off")) == 3
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
    for command in (train(folder, 16), ["inspect", "--run", str(folder), "--repair"]):
        assert main(command) == 3
        assert "[Errno 30] Read-only file system" in capsys.readouterr().err


def test_of_two_trainers_at_once_one_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    environment = {**os.environ, "PYTHONPATH": str(Path(infl.__file__).parents[1])}
    command = [sys.executable, "-m", "infl", *train(folder, 600)]
    first, second = (
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    )
    ends = sorted(
        [(process.communicate(timeout=300)[1], process.returncode) for process in (first, second)], key=lambda e: e[1]
    )
    assert [status for _, status in ends] in ([0, 4], [0, 0]), ends
    if ends[1][1] == 4:
        assert "is being written by process" in ends[1][0]
    run = infl.open_run(folder)
    assert run.complete("design") == list(range(600))
    trained = [model for line in run.blocks if line["collection"] == "design" for model in line["models"]]
    assert sorted(trained) == list(range(600))
    assert not run.find_damage().blocks


def test_a_trainer_is_refused_while_another_holds_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    assert main(train(folder, 8)) == 0
    run = infl.open_run(folder)
    holder = {"host": "elsewhere", "boot": "b", "space": "s", "pid": 7, "began": "8", "token": "t"}
    (folder / "run.lock").write_text(json.dumps(holder))
    assert main(train(folder, 8)) == 0  # nothing to train
    assert main(train(folder, 16)) == 4
    with pytest.raises(LockedError, match="process 7 on host elsewhere"):
        run.record_session({"wanted": {}})
    (folder / "run.lock").unlink()
    assert main(train(folder, 16)) == 0


def test_a_disk_slower_than_a_lock_is_patient_costs_time_alone(tmp_path: Path) -> None:
    """Each block takes twice as long to write as a silent lock lives; its holder must keep it meanwhile."""
    patient = "infl.store.lock.HEARTBEAT, infl.store.lock.STALE_AFTER, infl.store.lock.WATCHED = 0.1, 0.5, 0.5; "
    slow = (
        "import time, infl.store.lock, infl.store.run; write = infl.store.run.write_rows; "
        "infl.store.run.write_rows = lambda *a: (time.sleep(1.0), write(*a))[1]; "
    )
    # Both say that they are on hosts of their own, where the one cannot ask whether the other still runs.
    hosts = [
        "import socket; socket.gethostname = lambda: 'one'; ",
        "import socket; socket.gethostname = lambda: 'two'; ",
    ]
    start = "import runpy; runpy.run_module('infl', run_name='__main__', alter_sys=True)"
    environment = {**os.environ, "PYTHONPATH": str(Path(infl.__file__).parents[1])}
    folder, pipe = tmp_path / "run", subprocess.PIPE
    command = [sys.executable, "-c", slow + patient + hosts[0] + start, *train(folder, 48)]
    first = subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True)
    while first.poll() is None and not (folder / "models").exists():
        time.sleep(0.01)
    second = subprocess.run(
        [sys.executable, "-c", "import infl.store.lock; " + patient + hosts[1] + start, *train(folder, 48)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (second.returncode, first.poll()) == (4, None), second.stderr
    assert "on host one" in second.stderr
    _, errors = first.communicate(timeout=300)
    assert first.returncode == 0, errors
    assert main(train(tmp_path / "quick", 48)) == 0
    quick, slowly = (infl.open_run(tmp_path / name).outcomes("design").load() for name in ("quick", "run"))
    assert (quick.masks == slowly.masks).all()
    assert (quick.of("margin") == slowly.of("margin")).all()


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

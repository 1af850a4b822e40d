"""At any moment at most one process writes to a run, and a process that is gone keeps nobody from it.

Two writers would take each other's rows and lines away; a lock that outlives its holder would make every kill a job for a
person. Holders are real processes here: one that is killed, one that stands still, one whose number was given to another.
Other hosts are played by another name in the lock, since all that tells them apart is what stands there.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import infl
from infl.records import LockedError
from infl.store import lock as locks
from infl.store.lock import lock

HOLD = "import sys, time; from pathlib import Path; from infl.store.lock import lock\n"
HOLD += "with lock(Path(sys.argv[1])): print('held', flush=True); time.sleep(100)"


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of tmp_path."""
    environment = {**os.environ, "PYTHONPATH": str(Path(infl.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch of half a second."""
    monkeypatch.setattr(locks, "WATCHED", 0.5)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_lock_keeps_others_out_and_is_gone_afterwards(tmp_path: Path) -> None:
    with lock(tmp_path):
        assert names(tmp_path) == ["run.lock"]
        with lock(tmp_path):  # locks of one thread nest
            pass
        assert names(tmp_path) == ["run.lock"]
        refused: list[BaseException] = []

        def other() -> None:
            try:
                with lock(tmp_path):
                    pass
            except LockedError as error:
                refused.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(refused) == 1
    assert names(tmp_path) == []


def test_a_living_process_is_named_and_keeps_its_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.utime(tmp_path / "run.lock", (0, 0))  # no age makes the lock of a process that lives stale
    holder.send_signal(signal.SIGSTOP)
    with (
        pytest.raises(
            LockedError, match=f"is being written by process {holder.pid} on host .*: wait for it, or stop it"
        ),
        lock(tmp_path),
    ):
        pass
    assert json.loads((tmp_path / "run.lock").read_text())["pid"] == holder.pid
    assert names(tmp_path) == ["run.lock"]


def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with lock(tmp_path):
        assert json.loads((tmp_path / "run.lock").read_text())["pid"] == os.getpid()
    assert names(tmp_path) == []


def test_a_number_given_to_another_process_is_not_the_holder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    content = json.loads((tmp_path / "run.lock").read_text())
    (tmp_path / "run.lock").write_text(json.dumps(content | {"began": "1"}))
    with lock(tmp_path):
        pass


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("age", [-1e6, 1e6], ids=["from the future", "old"])
def test_a_lock_of_another_host_is_taken_over_once_it_stands_still(
    tmp_path: Path, holder: subprocess.Popen[str], age: float
) -> None:
    """Whatever its clock says: a lock from the future, as after a clock went back, does not last forever."""
    content = json.loads((tmp_path / "run.lock").read_text())
    (tmp_path / "run.lock").write_text(json.dumps(content | {"host": "elsewhere"}))
    with pytest.raises(LockedError, match=f"process {holder.pid} on host elsewhere"), lock(tmp_path):
        pass
    then = time.time() - age
    os.utime(tmp_path / "run.lock", (then, then))
    with lock(tmp_path):
        pass


@pytest.mark.usefixtures("soon")
def test_a_lock_of_another_host_that_is_touched_while_watched_is_kept(tmp_path: Path) -> None:
    """Its clock is a million seconds behind, and it lives."""
    content = {"host": "elsewhere", "boot": "b", "space": "s", "pid": 7, "began": "8", "token": "t"}
    (tmp_path / "run.lock").write_text(json.dumps(content))
    begun, done = time.time() - 1e6, threading.Event()
    os.utime(tmp_path / "run.lock", (begun, begun))

    def beat() -> None:
        n = 0
        while not done.wait(0.05):
            n += 1
            os.utime(tmp_path / "run.lock", (begun + n, begun + n))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(LockedError, match="process 7 on host elsewhere"), lock(tmp_path):
            pass
    finally:
        done.set()
        thread.join()


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": 1}', b"\xff" * 10_000, b"[" * 3000], ids=range(6))
def test_a_lock_that_says_nothing_is_taken_over_once_it_is_old(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.lock").write_bytes(content)
    with pytest.raises(LockedError, match="a process that does not say which"), lock(tmp_path):
        pass
    os.utime(tmp_path / "run.lock", (0, 0))
    with lock(tmp_path):
        pass


def test_who_lost_its_lock_notices_before_it_writes(tmp_path: Path) -> None:
    with lock(tmp_path) as mine:
        mine.check()
        content = json.loads((tmp_path / "run.lock").read_text())
        (tmp_path / "run.lock").write_text(json.dumps(content | {"token": "another", "pid": 7}))
        with pytest.raises(LockedError, match="its lock was taken over by process 7"):
            mine.check()
    assert names(tmp_path) == ["run.lock"]  # which is not ours to take away


def test_a_stale_lock_that_was_replaced_meanwhile_is_put_back(tmp_path: Path) -> None:
    """Of two that find a lock stale, the second must not take away the one that the first made."""
    path = tmp_path / "run.lock"
    fresh = {"host": "h", "boot": "b", "space": "s", "pid": 7, "began": "8", "token": "fresh"}
    path.write_text(json.dumps(fresh))
    locks._remove(path, {**fresh, "token": "stale"})
    assert json.loads(path.read_text()) == fresh
    assert names(tmp_path) == ["run.lock"]


def test_a_holder_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "HEARTBEAT", 0.05)
    with lock(tmp_path):
        os.utime(tmp_path / "run.lock", (0, 0))
        until = time.monotonic() + 20
        while (tmp_path / "run.lock").stat().st_mtime == 0 and time.monotonic() < until:
            time.sleep(0.02)
        assert (tmp_path / "run.lock").stat().st_mtime > 0

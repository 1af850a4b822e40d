"""One writer at a time: turns a run folder into a lock that its holder keeps fresh and that no dead holder can keep.

RUN/run.lock    {"host", "boot", "space", "pid", "began", "token"} of the process that writes to the run

A lock is stale, and taken over,

- where its holder was a process of this host, this boot and this space of process numbers, and is gone (its number may have
  been given to another process: the time at which it began tells them apart);
- where it was not touched for `STALE_AFTER` seconds, as the clock of the file system says it, and neither while it was watched
  for `WATCHED` seconds more. A holder touches it every `HEARTBEAT` seconds, on whatever host. Both are compared on one
  clock, that of the disk, and watching it needs none: clocks of hosts that differ, or go back, make a lock neither stale
  nor eternal.

Locks of one process and thread nest. Taking one that was lost to another process (it slept for a minute) is noticed before
the next line of the journal.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infl.records import LockedError
from infl.records.files import read_json

HEARTBEAT, STALE_AFTER, WATCHED = 10.0, 60.0, 25.0
MAX_BYTES = 1 << 12
_KEYS = {"host", "boot", "space", "pid", "began", "token"}


@dataclass
class Held:
    """A lock that this process holds."""

    path: Path
    token: str
    thread: int
    name: str  # of what is locked
    depth: int = 1
    done: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raises LockedError where another process has taken the run over."""
        found = _read(self.path)
        if found is None or found.get("token") != self.token:
            raise LockedError(
                f"{self.name}: its lock was taken over by {named(found)} while this process did not answer; "
                "what is complete is kept, run the same command again once the other has ended"
            )


_held: dict[str, Held] = {}
_between_threads = threading.Lock()


@contextmanager
def lock(folder: Path, name: str | None = None) -> Iterator[Held]:
    """Hold the only right to write to a run folder, in a `with` block.

    name: of what is locked, in messages; None for that of the folder.

    Raises:
        LockedError: where another process or thread holds it.
        OSError: where the disk refuses.
    """
    place, name = os.path.realpath(folder), name or f"run folder {folder}"
    with _between_threads:
        mine = _held.get(place)
        if mine is not None:
            if mine.thread != threading.get_ident():
                raise LockedError(f"{name} is being written by another thread of this process; wait for it")
            mine.depth += 1
        else:
            mine = _held[place] = Held(folder / "run.lock", uuid.uuid4().hex, threading.get_ident(), name)
            try:
                _take(mine)
            except BaseException:
                del _held[place]
                raise
            threading.Thread(target=_keep_fresh, args=(mine,), daemon=True).start()
    try:
        yield mine
    finally:
        with _between_threads:
            mine.depth -= 1
            if not mine.depth:
                del _held[place]
                mine.done.set()
                _release(mine)


def _take(mine: Held) -> None:
    own = mine.path.with_name(f"run.lock.{mine.token}")
    try:
        own.write_text(json.dumps(identity(mine.token)))
        for _ in range(5):  # until nobody is quicker
            if _put(own, mine.path):
                return
            holder = _read(mine.path)
            if holder is None and not mine.path.exists():
                continue
            if not _is_stale(mine.path, holder, own):
                raise LockedError(
                    f"{mine.name} is being written by {named(holder)}: wait for it, or stop it; "
                    f"if it is sure that no such process runs, delete {mine.path}"
                )
            _remove(mine.path, holder)
        raise LockedError(f"{mine.name}: several processes want to write to it at once; start one")
    finally:
        with contextlib.suppress(OSError):
            own.unlink(missing_ok=True)


def _put(own: Path, path: Path) -> bool:
    """Whether the lock, whole at once, is now ours."""
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        try:
            with open(path, "xb") as file:
                file.write(own.read_bytes())
        except FileExistsError:
            return False
    return True


def _remove(path: Path, stale: dict[str, Any] | None) -> None:
    """Take away a stale lock, and no other that may have come in its place meanwhile."""
    aside = path.with_name(f"run.lock.{uuid.uuid4().hex}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if _read(aside) != stale:
        _put(aside, path)
    aside.unlink(missing_ok=True)


def _release(mine: Held) -> None:
    with contextlib.suppress(OSError):
        found = _read(mine.path)
        if found is not None and found.get("token") == mine.token:
            mine.path.unlink()


def _keep_fresh(mine: Held) -> None:
    while not mine.done.wait(HEARTBEAT):
        with contextlib.suppress(OSError):
            found = _read(mine.path)
            if found is not None and found.get("token") == mine.token:
                os.utime(mine.path)


def _is_stale(path: Path, holder: dict[str, Any] | None, probe: Path) -> bool:
    gone = is_gone(holder)
    if gone is not None:
        return gone
    try:
        os.utime(probe)  # now, as the disk sees it
        last = path.stat().st_mtime_ns
        if abs(probe.stat().st_mtime_ns - last) < STALE_AFTER * 1e9:
            return False
        until = time.monotonic() + WATCHED
        while time.monotonic() < until:
            time.sleep(min(1.0, WATCHED / 5))
            if path.stat().st_mtime_ns != last:
                return False
    except FileNotFoundError:
        return False
    return True


def identity(token: str) -> dict[str, Any]:
    """This process, as a lock names it."""
    return {
        "host": socket.gethostname(),
        "boot": _line_of("/proc/sys/kernel/random/boot_id"),
        "space": _link_of("/proc/self/ns/pid"),
        "pid": os.getpid(),
        "began": _began(os.getpid()),
        "token": token,
    }


def is_gone(holder: dict[str, Any] | None) -> bool | None:
    """Whether a holder runs no more; None where it ran elsewhere, or is not known, so that nobody here can tell."""
    here = identity("")
    if holder is None or any(holder[name] != here[name] for name in ("host", "boot", "space")):
        return None
    return _began(holder["pid"]) != holder["began"]


def holder_of(content: Any) -> dict[str, Any] | None:
    """Who holds a lock that says this; None where it does not say."""
    if not isinstance(content, dict) or set(content) != _KEYS or type(content["pid"]) is not int or content["pid"] <= 0:
        return None
    return content


def named(holder: dict[str, Any] | None) -> str:
    """A holder in words."""
    if holder is None:
        return "a process that does not say which"
    return f"process {holder['pid']} on host {holder['host']}"


def _began(pid: int) -> str | None:
    """When a process began, as the system counts it; None where there is none, "" where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except (OSError, OverflowError):
        return ""
    return ""


def _line_of(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _link_of(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _read(path: Path) -> dict[str, Any] | None:
    """Who holds a lock; None where there is none, or it does not say."""
    try:
        return holder_of(read_json(path, max_bytes=MAX_BYTES))
    except (OSError, ValueError):
        return None

"""One writer at a time to a run on object storage: turns an object, `run.lock`, into the right to write.

URL/run.lock    {"host", "boot", "space", "pid", "began", "token", "beat"} of the process that writes to the run

It is made by a conditional put, which of several at once one alone wins, and put again with another beat every `HEARTBEAT`
seconds. It is stale, and taken over,

- where its holder was a process of this host, this boot and this space of process numbers, and is gone;
- where it was not put for `STALE_AFTER` seconds, by the clock of the storage, and neither while it was watched for `WATCHED`
  seconds more.

Who takes over a stale lock first makes an object with the name of that very lock, `run.lock.<checksum>`, by a conditional put
too. One taker alone can; it looks whether the stale lock is still the one that is there, puts its own in its place, and takes
that object away. A taker that comes late finds another lock in place, and leaves it alone.

A holder that lost its lock, as it slept for some minutes, notices before it publishes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from infl.records import InputError, LockedError
from infl.records.files import parse_json
from infl.store.lock import MAX_BYTES, holder_of, identity, is_gone, named
from infl.store.objects import Objects

LOCK = "run.lock"
HEARTBEAT, STALE_AFTER, WATCHED = 30.0, 180.0, 75.0
PATIENCE = 60.0  # with the thread that keeps the lock fresh
LOOKS = 15  # while a lock is watched
_tokens: set[str] = set()  # of the locks that this process holds


@dataclass
class HeldRemotely:
    """The lock of a run on object storage that this process holds."""

    objects: Objects
    token: str
    thread: int
    beat: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def content(self) -> bytes:
        """What the object says of this process."""
        return json.dumps({**identity(self.token), "beat": self.beat}).encode()

    def check(self) -> None:
        """Raises LockedError where another process has taken the run over."""
        found = self.objects.read(LOCK, MAX_BYTES)
        if not self.is_mine(found):
            raise LockedError(
                f"run {self.objects.url}: its lock was taken over by {named(_holder(found))} while this process did not "
                "answer; what is complete is kept, run the same command again once the other has ended"
            )

    def is_mine(self, content: bytes | None) -> bool:
        """Whether a lock that says this is that of this process."""
        holder = _holder(content)
        return holder is not None and holder["token"] == self.token


@contextmanager
def lock_remotely(objects: Objects) -> Iterator[HeldRemotely]:
    """Hold the only right to write to the objects of a run, in a `with` block. These locks do not nest.

    Raises:
        LockedError: where another process holds it.
        InputError: where the storage cannot be reached or refuses.
    """
    mine = HeldRemotely(objects, uuid.uuid4().hex, threading.get_ident())
    _tokens.add(mine.token)
    try:
        _take(mine)
        beating = threading.Thread(target=_keep_fresh, args=(mine,), daemon=True)
        beating.start()
        try:
            yield mine
        finally:
            mine.done.set()
            beating.join(PATIENCE)  # else it could put the lock again after it was taken away
            with contextlib.suppress(InputError):
                if mine.is_mine(objects.read(LOCK, MAX_BYTES)):
                    objects.delete([LOCK])
    finally:
        _tokens.discard(mine.token)


def _take(mine: HeldRemotely) -> None:
    objects = mine.objects
    for _ in range(5):  # until nobody is quicker
        if objects.create(LOCK, mine.content()):
            return
        found = objects.read(LOCK, MAX_BYTES)
        if found is None:
            continue
        if not _is_stale(mine, LOCK, found):
            raise LockedError(
                f"run {objects.url} is being written by {named(_holder(found))}: wait for it, or stop it; "
                f"if it is sure that no such process runs, delete {objects.url}/{LOCK}"
            )
        if _succeed(mine, found):
            return
    raise LockedError(f"run {objects.url}: several processes want to write to it at once; start one")


def _succeed(mine: HeldRemotely, stale: bytes) -> bool:
    """Whether the lock is now ours, after one that is stale."""
    objects, claim = mine.objects, f"{LOCK}.{hashlib.sha256(stale).hexdigest()[:16]}"
    if not objects.create(claim, mine.content()):
        other = objects.read(claim, MAX_BYTES)
        if other is not None and _is_stale(mine, claim, other):  # a taker that was killed on its way
            objects.delete([claim])
        return False
    try:
        if objects.read(LOCK, MAX_BYTES) != stale:
            return False
        objects.write(LOCK, mine.content())
        return True
    finally:
        objects.delete([claim])


def _keep_fresh(mine: HeldRemotely) -> None:
    while not mine.done.wait(HEARTBEAT):
        with contextlib.suppress(InputError):
            if mine.is_mine(mine.objects.read(LOCK, MAX_BYTES)):
                mine.beat += 1
                mine.objects.write(LOCK, mine.content())


def _is_stale(mine: HeldRemotely, name: str, content: bytes) -> bool:
    holder = _holder(content)
    gone = is_gone(holder)
    if holder is not None and gone is not None:
        # One of this process that it does not hold was left behind when the storage could not be reached.
        return gone or (holder["pid"] == os.getpid() and holder["token"] not in _tokens)
    objects, probe = mine.objects, f"{LOCK}.{mine.token}"
    objects.write(probe, b"")
    now, then = objects.modified(probe), objects.modified(name)
    objects.delete([probe])
    if now is not None and then is not None and abs((now - then).total_seconds()) < STALE_AFTER:
        return False
    for _ in range(LOOKS):
        time.sleep(WATCHED / LOOKS)
        if objects.read(name, MAX_BYTES) != content:
            return False
    return True


def _holder(content: bytes | None) -> dict[str, Any] | None:
    try:
        said = parse_json(content or b"")
        said.pop("beat")
    except (ValueError, AttributeError, KeyError, TypeError):
        return None
    return holder_of(said)

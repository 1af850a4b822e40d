"""A run on object storage: turns a URL into a folder of this machine that the store works on, and its files into objects.

Object storage knows neither appending nor links. So what is written is put there in an order: what a line of the journal names
first, the journal after, so that what the journal there says is there. Chunks are put whole, and hold all that they held
before, so a reader that reads the journal first finds all that it names.

The truth is what the storage has. Where the journal of the working copy is that one and goes on, a process was killed before
it published: its models are published by the next writer and trained by nobody again. In every other case what differs is
fetched. Scores that are kept, figures and pages are of this machine alone.

- `objects`      the objects under a URL;
- `working_copy` the folder, and which of its files are those of the storage;
- `remote_lock`  one writer at a time among machines.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from infl.records import DiskError, InputError, LockedError
from infl.records.files import cache_folder, parse_json, read_json, write_durably
from infl.store.lock import Held, lock
from infl.store.manifest import MAX_BYTES, differences
from infl.store.objects import Listed, Objects, is_url
from infl.store.places import most_bytes_of
from infl.store.remote_lock import HeldRemotely, lock_remotely
from infl.store.working_copy import JOURNAL, Progress, Stamp, WorkingCopy, stamp_of, url_of

PUBLISH_EVERY = 5.0  # seconds: blocks that follow each other more quickly are published together
FETCHES = 5  # until a listing holds while it is fetched
FILES_AT_ONCE = 256
MANIFEST, BEGUN = "run.json", "run.partial"
WHOLE_WEIGHTS = "/_CHECKPOINT_METADATA"  # put last of the weights of a model

_remotes: dict[tuple[int, str, str], Remote] = {}


def located(place: str | Path) -> tuple[Path, Remote | None]:
    """The folder of a run, and where that is a working copy, what it is one of: by its URL, or by the folder itself.

    Raises:
        InputError: where the URL is none, or needs a package that is not installed.
    """
    if isinstance(place, str) and place.startswith("file://"):
        place = place.removeprefix("file://")
    if is_url(place):
        return _remote_of(str(place).rstrip("/"))
    url = url_of(Path(place))
    return (Path(place), None) if url is None else _remote_of(url)


def _remote_of(url: str) -> tuple[Path, Remote]:
    key = os.getpid(), url, str(cache_folder().absolute())
    if key not in _remotes:
        _remotes[key] = Remote(url)
    return _remotes[key].folder, _remotes[key]


class Remote:
    """A run on object storage and its working copy. There is one of each URL in a process: see `located`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.objects = Objects(url)
        self.copy = WorkingCopy(url)
        self.folder = self.copy.folder
        self._held: HeldRemotely | None = None
        self._there = False  # whether the storage has a run, as it was seen last; and its journal
        self._journal = b""
        self._journal_tag: str | None = None
        self._published_at = 0.0
        self._refused: InputError | None = None  # by which the last publication ended

    def fetch(self, *, doubted: str | None = None) -> None:
        """Give the working copy what the storage has. What is not published stays; while a process writes to it, all does.

        doubted: the beginning of the names of files that are fetched whether they changed or not.

        Raises:
            InputError: where the storage cannot be reached or refuses, or holds what no run does.
        """
        if self._is_mine():
            if doubted is not None:
                self._mirror(doubted)
            return
        with self._alone(), suppress(LockedError), ExitStack() as stack:
            stack.enter_context(lock(self.folder, f"run {self.url}"))
            self._mirror(doubted)

    @contextmanager
    def writing(self) -> Iterator[Held]:
        """Be the only one that writes to the run, on all machines, in a `with` block; publishes at its end. Blocks nest.

        Raises:
            LockedError: where another process writes to it.
            InputError: where the storage cannot be reached or refuses.
        """
        with ExitStack() as stack:
            if self._is_mine():
                yield stack.enter_context(lock(self.folder))
                return
            with self._alone():
                held = stack.enter_context(lock(self.folder, f"run {self.url}"))
                self._held = stack.enter_context(lock_remotely(self.objects))
                stack.callback(self._let_go)
                self._mirror(None)
                self.publish()
            try:
                yield held
            except BaseException:
                if self._refused is None:
                    with suppress(InputError):  # what is done, where this machine is stopped for good
                        self.publish()
                raise
            self.publish()

    def publish_soon(self) -> None:
        """As `publish`, now or with what follows within `PUBLISH_EVERY` seconds."""
        if time.monotonic() - self._published_at >= PUBLISH_EVERY:
            self.publish()

    def publish(self, *, rewritten: bool = False) -> None:
        """Put what the working copy holds and the storage lacks, the journal last. Within `writing` alone.

        rewritten: lines were taken out of the journal, and the chunks that it named perhaps taken away.

        Raises:
            LockedError: where another process has taken the run over meanwhile.
            DiskError: where the storage cannot be reached or refuses, or the working copy was changed by others.
        """
        try:
            self._publish(rewritten)
            self._refused = None
        except InputError as error:
            self._refused = error
            raise

    def check_new(self) -> None:
        """Check that a run can be made here.

        Raises:
            InputError: where the storage holds something else under this URL.
        """
        names = {name for name in self.objects.listed() if not name.startswith("run.lock")}
        if names and BEGUN not in names:
            raise InputError(
                f"{self.url} holds {min(names)} and is not a run of infl (no {MANIFEST}); choose a new or an empty place"
            )

    def _publish(self, rewritten: bool) -> None:
        held, journal, files = self._held, self.copy.journal(), self.copy.files()
        assert held is not None
        if journal is None or MANIFEST not in files:
            return
        if not rewritten and not journal.startswith(self._journal):
            raise DiskError(
                f"{self.folder}, the working copy of {self.url}, was changed by another program: delete "
                f"{self.copy.home}, and run the same command again"
            )
        known = self.copy.known()
        stamps = {name: stamp for name, stamp in files.items() if known.get(name, [()])[:2] != [*stamp]}
        gone = [name for name in known if rewritten and name not in files and "/c/" in name]
        if stamps or gone or journal != self._journal or not self._there:
            held.check()
            if not self._there:
                self.objects.write(BEGUN, b"")  # tells a run that a kill left half there from what others keep there
            self._upload(known, {name: stamp for name, stamp in stamps.items() if name != MANIFEST})
            self.objects.delete(gone)
            for name in gone:
                del known[name]
            held.check()
            if journal != self._journal or not self._there:
                if self.objects.tag(JOURNAL) != self._journal_tag:
                    raise LockedError(f"run {self.url}: another process wrote to it; run the same command again")
                self._journal_tag = self.objects.write(JOURNAL, journal)
                self._journal = journal
            self._upload(known, {name: stamp for name, stamp in stamps.items() if name == MANIFEST})
            if not self._there:
                self.objects.delete([BEGUN])
            self._there = True
            self.copy.keep(known, len(self._journal))
        self._published_at = time.monotonic()

    def _is_mine(self) -> bool:
        return self._held is not None and self._held.thread == threading.get_ident()

    def _let_go(self) -> None:
        self._held = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait until no other process of this machine fetches the run or begins to write to it."""
        with ExitStack() as stack:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                progress = Progress(f"waiting for another process that fetches {self.url}")
                while True:
                    with suppress(LockedError):
                        stack.enter_context(lock(self.copy.home))
                        break
                    progress.show("")
                    time.sleep(0.2)
            except OSError as error:
                raise self.copy.unwritable(error) from error
            yield

    def _mirror(self, doubted: str | None) -> None:
        """Fetch what differs, until what was fetched goes together."""
        try:
            for _ in range(FETCHES):
                with suppress(FileNotFoundError):  # of what was listed: taken away meanwhile
                    if self._mirror_once(doubted):
                        return
        except OSError as error:
            raise self.copy.unwritable(error) from error
        raise DiskError(f"{self.url} changes while it is fetched: wait for the process that repairs it, and try again")

    def _mirror_once(self, doubted: str | None) -> bool:
        tag = self.objects.tag(JOURNAL)
        journal = self.objects.read(
            JOURNAL, most_bytes_of(JOURNAL) or 0
        )  # before the listing: what it names is listed then
        listed = _parts_of_run(self.url, self.objects.listed())
        self._there = MANIFEST in listed and journal is not None
        self._journal, self._journal_tag = (journal or b"") if self._there else b"", tag
        if not self._there:
            listed = {}
        known, files, mine = self.copy.known(), self.copy.files(), self.copy.journal()
        for name in known:
            if doubted is not None and name.startswith(doubted):
                known[name][2] = ""
        # A journal that lost lines was repaired: those that the copy still has are not to come back.
        goes_on = mine is not None and mine.startswith(self._journal) and len(self._journal) >= self.copy.published()
        goes_on = goes_on and self._is_same_run(listed, known, files)
        is_ahead = goes_on and mine != self._journal

        def is_own(name: str) -> bool:
            """Whether the file was written here after it was fetched or published."""
            return name in files and known.get(name, [()])[:2] != [*files[name]]

        def stays(name: str) -> bool:
            changed = known.get(name, [0, 0, ""])[2] != listed[name].tag
            if is_ahead and changed:
                known.pop(name, None)  # what another process left there unfinished is put anew
            return name in files and (is_ahead or not changed) and (goes_on or not is_own(name))

        wanted = {name: one for name, one in listed.items() if not stays(name)}
        self._fetch(wanted, known)
        if wanted and not (self.objects.read(JOURNAL, most_bytes_of(JOURNAL) or 0) or b"").startswith(self._journal):
            return False
        for name in set(files) - set(listed):
            if not (is_ahead or (goes_on and is_own(name))):
                (self.folder / name).unlink(missing_ok=True)
        if not goes_on:
            if self._there:
                write_durably(self.folder / JOURNAL, self._journal)
            else:
                (self.folder / JOURNAL).unlink(missing_ok=True)
        self.copy.keep({name: one for name, one in known.items() if name in listed}, len(self._journal))
        return True

    def _is_same_run(self, listed: dict[str, Listed], known: dict[str, list[Any]], files: dict[str, Stamp]) -> bool:
        """Whether the storage has the run of which this is a copy, and not another that was made in its place."""
        if MANIFEST not in listed or MANIFEST not in files:
            return False
        if known.get(MANIFEST) == [*files[MANIFEST], listed[MANIFEST].tag]:
            return True
        there = self.objects.read(MANIFEST, MAX_BYTES)
        try:
            one, other = parse_json(there or b""), read_json(self.folder / MANIFEST, max_bytes=MAX_BYTES)
            return not differences({**one, "checksum": ""}, {**other, "checksum": ""})
        except (OSError, ValueError, TypeError):
            return False

    def _fetch(self, wanted: dict[str, Listed], known: dict[str, list[Any]]) -> None:
        n_bytes = sum(one.size for one in wanted.values())
        free = shutil.disk_usage(self.copy.home).free
        if n_bytes > free:
            raise DiskError(
                f"{self.url} needs {n_bytes / 1e9:,.1f} GB more in {self.copy.home}, and {free / 1e9:,.1f} GB are free; "
                "INFL_CACHE_DIR names another folder"
            )
        incoming, progress = self.copy.home / "incoming", Progress(f"fetching {self.url}")
        shutil.rmtree(incoming, ignore_errors=True)
        names, n_done = list(wanted), 0
        for start in range(0, len(names), FILES_AT_ONCE):
            incoming.mkdir(exist_ok=True)
            some = {name: incoming / str(number) for number, name in enumerate(names[start : start + FILES_AT_ONCE])}

            def done(name: str, _: None, some: dict[str, Path] = some) -> None:
                nonlocal n_done
                place, n_done = self.folder / name, n_done + 1
                place.parent.mkdir(parents=True, exist_ok=True)
                some[name].replace(place)
                known[name] = [*stamp_of(place), wanted[name].tag]
                progress.show(f": {n_done:,} of {len(names):,} files, {n_bytes / 1e6:,.0f} MB in all")

            self.objects.download(some, done)
            self.copy.keep(known, self.copy.published())
        shutil.rmtree(incoming, ignore_errors=True)

    def _upload(self, known: dict[str, list[Any]], stamps: dict[str, Stamp]) -> None:
        progress, n_done = Progress(f"publishing {self.url}"), 0

        def done(name: str, tag: str) -> None:
            nonlocal n_done
            n_done += 1
            known[name] = [*stamps[name], tag]
            progress.show(f": {n_done:,} of {len(stamps):,} files")

        last = [name for name in stamps if name.endswith(WHOLE_WEIGHTS)]
        for names in ([name for name in stamps if name not in last], last):
            if names:
                self.objects.upload({name: self.folder / name for name in names}, done)
                self.copy.keep(known, len(self._journal))


def _parts_of_run(url: str, listed: dict[str, Listed]) -> dict[str, Listed]:
    """Of what the storage lists, the files of a run; others are left alone.

    Raises:
        InputError: where a name leads elsewhere, or a file is larger than any that infl writes.
    """
    parts = {}
    for name, one in listed.items():
        try:
            most = most_bytes_of(name)
        except InputError as error:
            raise InputError(f"{url}: {error}") from error
        if most is not None and one.size > most:
            raise InputError(f"{url}/{name} holds {one.size:,} bytes, more than infl writes there; restore it")
        if most is not None and name != JOURNAL:
            parts[name] = one
    whole = {name.removesuffix(WHOLE_WEIGHTS) for name in parts if name.endswith(WHOLE_WEIGHTS)}
    return {
        name: one
        for name, one in parts.items()
        if not name.startswith("weights/") or "/".join(name.split("/")[:3]) in whole
    }

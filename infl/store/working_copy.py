"""The working copy of a run on object storage: which of its files are those of the storage, and which were written here since.

CACHE/runs/<sha of the URL>/copy/         the working copy: a run folder
CACHE/runs/<sha of the URL>/remote.json   its URL, bytes of the journal that the storage had, and of each file that is as the
                                          storage has it: size, time, tag of the object
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from infl.records import DiskError, first_line
from infl.records.files import cache_folder, read_json, write_durably
from infl.store.places import most_bytes_of

JOURNAL = "journal.jsonl"
Stamp = tuple[int, int]  # size of a file, and when it was written


def url_of(folder: Path) -> str | None:
    """The URL of the run of which a folder is the working copy; None where it is none."""
    if folder.name == "copy" and folder.absolute().parents[1] == (cache_folder() / "runs").absolute():
        with suppress(OSError, ValueError, KeyError, TypeError):
            return str(read_json(folder.parent / "remote.json")["url"])
    return None


class WorkingCopy:
    """A folder of this machine, and what is known of its files."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.home = cache_folder().absolute() / "runs" / hashlib.sha256(url.encode()).hexdigest()[:16]
        self.folder = self.home / "copy"

    def journal(self) -> bytes | None:
        """Of the working copy, without the line that a kill left torn."""
        with suppress(FileNotFoundError):
            content = (self.folder / JOURNAL).read_bytes()
            return content[: content.rfind(b"\n") + 1]
        return None

    def files(self) -> dict[str, Stamp]:
        """What the working copy holds of a run, but for the journal."""
        found = {}
        for place, folders, names in os.walk(self.folder):
            if Path(place) == self.folder:
                folders[:] = [name for name in folders if name in ("groups", "forget", "models", "weights")]
            for path in (Path(place) / name for name in names):
                name = path.relative_to(self.folder).as_posix()
                if name != JOURNAL and most_bytes_of(name) is not None:
                    with suppress(FileNotFoundError):
                        found[name] = stamp_of(path)
        return found

    def known(self) -> dict[str, list[Any]]:
        """Size, time and tag of each file as it was when it was what the storage has."""
        try:
            kept = read_json(self.home / "remote.json")
            return {str(name): [int(size), int(ns), str(tag)] for name, (size, ns, tag) in kept["files"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def published(self) -> int:
        """Bytes of the journal that the storage had when it was seen last."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return int(read_json(self.home / "remote.json")["published"])
        return 0

    def keep(self, known: dict[str, list[Any]], published: int) -> None:
        """Keep what `known` and `published` give.

        Raises:
            DiskError: where the disk refuses.
        """
        try:
            write_durably(
                self.home / "remote.json",
                json.dumps({"url": self.url, "published": published, "files": known}).encode(),
            )
        except OSError as error:
            raise self.unwritable(error) from error

    def unwritable(self, error: OSError) -> DiskError:
        """What to say where the disk refuses."""
        return DiskError(
            f"{self.home}, for the working copy of {self.url}, cannot be written: {first_line(error)}; INFL_CACHE_DIR names "
            "another folder"
        )


class Progress:
    """A line on stderr after two seconds, and then every ten."""

    def __init__(self, what: str) -> None:
        self._what, self._next = what, time.monotonic() + 2.0

    def show(self, how_far: str) -> None:
        """Say how far it is, where it is time."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + 10.0
            print(f"{self._what}{how_far}", file=sys.stderr, flush=True)


def stamp_of(path: Path) -> Stamp:
    """Size of a file, and when it was written."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns

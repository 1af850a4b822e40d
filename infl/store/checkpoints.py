"""Checkpoints of blocks in training: folders in the run that are whole or not there, and gone once the outcomes are on disk.

    RUN/checkpoints/<collection>-<first model>-<sha>/<epochs done>/about.json  models, what states fit, SHA-256 of each file
    RUN/checkpoints/<collection>-<first model>-<sha>/<epochs done>/states/     states, as `infl.training.weights` writes them

One is written as `partial`, synced and renamed, and only then the one before it goes. What it holds is read after every byte
was held against its SHA-256. One that is damaged, or does not fit what is to be trained, is deleted with a line that says so:
a checkpoint saves time and is never needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from infl.records import DiskError, InputError, first_line
from infl.records.files import checksum, make_folder, read_json, sync_folder
from infl.store.collections import COLLECTION
from infl.store.run import Run

Job = tuple[str, int]  # collection, model id

MAX_ABOUT_BYTES = 1 << 24
PARTIAL = "partial"
_ENTRIES = {"jobs", "made_for", "fits", "epochs", "seconds", "files", "checksum"}


class Reached(NamedTuple):
    """What a checkpoint holds: epochs done, seconds that they took, and the folder of the states."""

    epochs: int
    seconds: float
    states: Path


class Checkpoints:
    """Those of a run. say: told in a line which block goes on, and what was wrong with one that does not."""

    def __init__(self, run: Run, say: Callable[[str], None]) -> None:
        self.run, self.say = run, say
        self.folder = run.folder / "checkpoints"

    def of(self, jobs: Sequence[Job]) -> Checkpoint:
        """That of a block of these models, in this order, whether there is one or not."""
        return Checkpoint(self, tuple(jobs))

    def begun(self) -> list[list[Job]]:
        """The models of each block that has a checkpoint; what is none is deleted."""
        found = []
        for folder in _folders(self.folder):
            abouts = [_about(place) for place in _places(folder)]
            jobs = next((about["jobs"] for about in abouts if about is not None), None)
            if jobs is not None and folder == self.of(jobs).folder:
                found.append(jobs)
                continue
            if any((place / "about.json").exists() for place in _places(folder)):
                self.say(f"checkpoint {folder} is damaged, and not used")
            _delete(folder)
        return found

    def drop_trained(self) -> None:
        """Delete those of blocks of which a model is complete: a kill left them."""
        for jobs in self.begun():
            complete = {name: set(self.run.complete(name)) for name in {name for name, _ in jobs}}
            if any(model in complete[name] for name, model in jobs):
                self.of(jobs).drop()


@dataclass(frozen=True)
class Checkpoint:
    """The states of one block after so many epochs."""

    checkpoints: Checkpoints
    jobs: tuple[Job, ...]

    @property
    def folder(self) -> Path:
        """Of this block."""
        collection, first = self.jobs[0]
        sha = hashlib.sha256(json.dumps(self.jobs).encode()).hexdigest()
        return self.checkpoints.folder / f"{collection}-{first}-{sha[:16]}"

    def read(self, fits: dict[str, Any]) -> Reached | None:
        """The last one, if it is whole and was written with the same `fits`; others are deleted. None where none is left.

        fits: JSON that says what the states are states of.
        """
        fits, reason = json.loads(json.dumps(fits)), ""
        for place in _places(self.folder):
            about = _about(place)
            if about is None or about["jobs"] != list(self.jobs):
                reason = "it is damaged"
            elif wrong := [name for name in sorted(fits | about["fits"]) if about["fits"].get(name) != fits.get(name)]:
                reason = f"it was made with other {' and '.join(wrong)}"
            elif about["made_for"] != _made_for(self.checkpoints.run):
                reason = "it is of another run"
            else:
                try:
                    damaged = _files(place) != about["files"]
                except (OSError, ValueError):
                    damaged = True
                if not damaged:
                    self.checkpoints.say(f"{len(self.jobs)} models go on after epoch {about['epochs']}")
                    return Reached(about["epochs"], about["seconds"], place / "states")
                reason = "it is damaged"
        if reason:
            self.refuse(reason)
        return None

    def refuse(self, reason: str) -> None:
        """Delete it and say why: its block is trained from the beginning."""
        self.checkpoints.say(
            f"checkpoint {self.folder} is not used, since {reason}: {len(self.jobs)} models begin again"
        )
        self.drop()

    def write(self, write_states: Callable[[Path], None], *, epochs: int, seconds: float, fits: dict[str, Any]) -> None:
        """Keep states on disk, and then delete those of fewer epochs.

        write_states: writes them into a folder of that name. seconds: that the epochs took.

        Raises:
            DiskError: where the disk refuses; the checkpoint before is then still there.
        """
        run, partial, place = self.checkpoints.run, self.folder / PARTIAL, self.folder / f"{epochs:06d}"
        if True:
            try:
                shutil.rmtree(partial, ignore_errors=True)
                make_folder(partial)
                write_states(partial / "states")
                about = {
                    "jobs": self.jobs,
                    "made_for": _made_for(run),
                    "fits": fits,
                    "epochs": epochs,
                    "seconds": seconds,
                }
                content = json.loads(json.dumps(about | {"files": _files(partial)}))
                (partial / "about.json").write_text(json.dumps(content | {"checksum": checksum(content)}))
                _sync(partial)
                _delete(place)  # a damaged one, where an older was taken up
                partial.rename(place)
                sync_folder(self.folder)
            except (OSError, ValueError) as error:
                shutil.rmtree(partial, ignore_errors=True)
                if isinstance(error, InputError):
                    raise
                reason = first_line(error)
                raise DiskError(f"run folder {run.folder}: cannot write a checkpoint: {reason}") from error
            for other in _places(self.folder):
                if other != place:
                    _delete(other)

    def drop(self) -> None:
        """Delete it."""
        _delete(self.folder)
        with suppress(OSError):
            self.checkpoints.folder.rmdir()  # where it was the last


def _made_for(run: Run) -> str:
    """SHA-256 of what the training of a run follows from."""
    binding = {name: run.manifest.get(name) for name in ("dataset", "algorithm", "seed")}
    return checksum(binding)


def _folders(folder: Path) -> list[Path]:
    """None in a link: what it leads to was not made here, and must not be deleted."""
    try:
        return [] if folder.is_symlink() else sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())
    except OSError:
        return []


def _places(folder: Path) -> list[Path]:
    """Folders of states, those of most epochs first."""
    places = [place for place in _folders(folder) if place.name.isascii() and place.name.isdigit()]
    return sorted(places, key=lambda place: (len(place.name), place.name), reverse=True)


def _about(place: Path) -> dict[str, Any] | None:
    """What about.json says; None where it does not fit its checksum or says what infl does not."""
    try:
        about = read_json(place / "about.json", max_bytes=MAX_ABOUT_BYTES)
        if set(about) != _ENTRIES or about["checksum"] != checksum(about):
            return None
        jobs = [(name, model) for name, model in about["jobs"]]
        right = [COLLECTION.fullmatch(name) and type(model) is int and model >= 0 for name, model in jobs]
        right += [type(about["epochs"]) is int, about["epochs"] > 0, type(about["seconds"]) is float]
        right += [isinstance(about["fits"], dict), isinstance(about["files"], dict), 0 < len(jobs) == len(set(jobs))]
        return about | {"jobs": jobs} if all(right) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _files(place: Path) -> dict[str, str]:
    """SHA-256 of every file but about.json, by its path within.

    Raises:
        OSError: where one cannot be read.
        ValueError: where there is a link, or what is neither file nor folder.
    """
    found = {}
    for path in _tree(place):
        if path.is_file() and path != place / "about.json":
            with open(path, "rb") as file:
                found[path.relative_to(place).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _tree(folder: Path) -> Iterator[Path]:
    """All that is in a folder, itself last."""
    for path in sorted(folder.iterdir()):
        mode = path.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from _tree(path)
        elif stat.S_ISREG(mode):
            yield path
        else:
            raise ValueError(f"{path} is neither file nor folder")
    yield folder


def _sync(folder: Path) -> None:
    for path in _tree(folder):
        if path.is_dir():
            sync_folder(path)
        else:
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _delete(folder: Path) -> None:
    """What says that it is whole goes first."""
    for place in (folder, *_folders(folder)):
        with suppress(OSError):
            (place / "about.json").unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)

"""Checkpoints of blocks in training: folders of this machine that are whole or not there, gone once the outcomes are stored.

    RUN/checkpoints/<collection>-<first model>-<sha>/<epochs done>/about.json  models, what states fit, SHA-256 of each file
    RUN/checkpoints/<collection>-<first model>-<sha>/<epochs done>/states/     states, as `infl.training.weights` writes them

One is written under another name, synced and renamed, and only then the one before it goes. One that is damaged, or does not
fit what is to be trained, is deleted with a line that says so: a checkpoint saves time and is never needed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infl.records import DiskError, first_line
from infl.records.files import checksum, read_json, sync_folder
from infl.store.collections import COLLECTION
from infl.store.run import Run

Job = tuple[str, int]  # collection, model id

MAX_ABOUT_BYTES = 1 << 24
_NAME = re.compile(rf"{COLLECTION.pattern}-\d+-[0-9a-f]{{16}}")


class Checkpoints:
    """Those of a run.

    Args:
        note: Gets a line on which block goes on, and on what was wrong with one that does not.
    """

    def __init__(self, run: Run, note: Callable[[str], None]) -> None:
        self.run, self.note, self.folder = run, note, run.folder / "checkpoints"
        self.made_for = checksum({name: run.manifest.get(name) for name in ("dataset", "algorithm", "seed")})

    def of(self, jobs: Sequence[Job]) -> Checkpoint:
        """That of a block of these models, in this order, whether there is one or not."""
        return Checkpoint(self, tuple(jobs))

    def resumable(self) -> list[list[Job]]:
        """The models of each block that has a checkpoint; damaged ones are deleted."""
        found = []
        for folder in self._folders():
            abouts = [_read_about(place) for place in _places(folder)]
            jobs = next((about["jobs"] for about in abouts if about is not None), None)
            if jobs is not None and folder == self.of(jobs).folder:
                found.append(jobs)
                continue
            if any((place / "about.json").exists() for place in _places(folder)):
                self.note(f"checkpoint {folder} is damaged, and not used")
            _delete(folder)
        return found

    def listed(self) -> list[dict[str, Any]]:
        """Models by collection, epochs done and bytes of each block that has one, as JSON; nothing is deleted."""
        found = []
        for folder in self._folders():
            abouts = [about for place in _places(folder) if (about := _read_about(place)) is not None]
            if not abouts or folder != self.of(abouts[0]["jobs"]).folder:
                continue
            models: dict[str, list[int]] = {}
            for name, model in abouts[0]["jobs"]:
                models.setdefault(name, []).append(model)
            with suppress(FileNotFoundError):  # the training that wrote it has ended
                n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
                found.append({"models": models, "epochs": abouts[0]["epochs"], "bytes": n_bytes})
        return found

    def _folders(self) -> list[Path]:
        """But for what somebody else has made."""
        found = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return [folder for folder in found if _NAME.fullmatch(folder.name) and not folder.is_symlink()]

    def prune(self) -> None:
        """Delete those of blocks of which a model is complete: a kill left them."""
        for jobs in self.resumable():
            if any(model in self.run.complete(name) for name, model in jobs):
                self.of(jobs).delete()


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

    def read(self, fits: dict[str, Any]) -> tuple[int, float, Path] | None:
        """Epochs done, seconds that they took and the folder of the states, where these are whole and of the same `fits`.

        Others are deleted. None where none is left.

        Args:
            fits: JSON that says what the states are states of.
        """
        fits, reason = json.loads(json.dumps(fits)), ""
        for place in _places(self.folder):
            about = _read_about(place)
            if about is None or about["jobs"] != list(self.jobs):
                reason = "it is damaged"
            elif wrong := [name for name in sorted(fits | about["fits"]) if about["fits"].get(name) != fits.get(name)]:
                reason = f"it was made with other {' and '.join(wrong)}"
            elif about["made_for"] != self.checkpoints.made_for:
                reason = "it is of another run"
            elif _digests(place) != about["files"]:
                reason = "it is damaged"
            else:
                self.checkpoints.note(f"{len(self.jobs)} models go on after epoch {about['epochs']}")
                return about["epochs"], about["seconds"], place / "states"
        if reason:
            self.discard(reason)
        return None

    def discard(self, reason: str) -> None:
        """Delete it and note why: its block is trained from the beginning."""
        self.checkpoints.note(
            f"checkpoint {self.folder} is not used, since {reason}: {len(self.jobs)} models begin again"
        )
        self.delete()

    @contextmanager
    def writing(self, *, epochs: int, seconds: float, fits: dict[str, Any]) -> Iterator[Path]:
        """Keep states on disk that a `with` block writes into the folder it is given, and then delete those of fewer epochs.

        Args:
            seconds: That the epochs took.

        Raises:
            DiskError: Where the disk refuses; the checkpoint before is then still there.
        """
        partial, place = self.folder / "partial", self.folder / f"{epochs:06d}"
        about = {"jobs": self.jobs, "made_for": self.checkpoints.made_for, "fits": fits, "epochs": epochs}
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            yield partial / "states"
            content = json.loads(json.dumps(about | {"seconds": seconds, "files": _digests(partial)}))
            (partial / "about.json").write_text(json.dumps(content | {"checksum": checksum(content)}))
            _sync(partial)
            _delete(place)  # a damaged one, where an older was taken up
            partial.rename(place)
            sync_folder(self.folder)
        except (OSError, ValueError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            folder = self.checkpoints.run.folder
            raise DiskError(f"run folder {folder}: cannot write a checkpoint: {first_line(error)}") from error
        for other in _places(self.folder):
            if other != place:
                _delete(other)

    def delete(self) -> None:
        """Delete it."""
        _delete(self.folder)
        with suppress(OSError):
            self.checkpoints.folder.rmdir()  # where it was the last


def _places(folder: Path) -> list[Path]:
    """Folders of states, those of most epochs first."""
    places = [place for place in folder.glob("[0-9]*") if place.name.isascii() and place.name.isdigit()]
    return sorted(places, key=lambda place: int(place.name), reverse=True)


def _read_about(place: Path) -> dict[str, Any] | None:
    """What about.json says; None where it does not fit its checksum."""
    try:
        about = read_json(place / "about.json", max_bytes=MAX_ABOUT_BYTES)
        if about["checksum"] != checksum(about) or not about["jobs"]:
            return None
        return about | {"jobs": [(str(name), int(model)) for name, model in about["jobs"]]}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _digests(place: Path) -> dict[str, str] | None:
    """SHA-256 of every file but about.json, by its path within; None where there is what is neither file nor folder."""
    found = {}
    for path in sorted(place.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            return None
        if path.is_file() and path != place / "about.json":
            with open(path, "rb") as file:
                found[path.relative_to(place).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _sync(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        if path.is_dir():
            sync_folder(path)
        else:
            with open(path, "rb") as file:
                os.fsync(file.fileno())


def _delete(folder: Path) -> None:
    """What says that it is whole goes first."""
    for about in folder.glob("**/about.json"):
        about.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)

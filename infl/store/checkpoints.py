"""Checkpoints of batches in training: files of this machine, gone once the outcomes are stored.

    RUN/checkpoints/<collection>-<first model>-<sha>.ckpt  states, and as JSON their models, epochs done and what they fit

A file takes the place of the one before it, and every byte of it counts (`infl.records.files.write_arrays`). One that is
damaged, or does not fit what is to be trained, is deleted, and a line says so: a checkpoint saves time and is never needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infl.records import Array, DiskError, first_line
from infl.records.files import checksum, read_arrays, write_arrays
from infl.store.collections import COLLECTION
from infl.store.run import Run

Job = tuple[str, int]  # collection, model id

_ABOUT = "about"  # the name of the JSON among the arrays
_NAME = re.compile(rf"{COLLECTION.pattern}-\d+-[0-9a-f]{{16}}\.ckpt(\.\d+\.partial)?")


class Checkpoints:
    """Those of a run.

    Args:
        note: Gets a line on which batch goes on, and on what was wrong with one that does not.
    """

    def __init__(self, run: Run, note: Callable[[str], None]) -> None:
        self.run, self.note, self.folder = run, note, run.folder / "checkpoints"
        self.made_for = checksum({name: run.manifest.get(name) for name in ("dataset", "algorithm", "seed")})

    def of(self, jobs: Sequence[Job]) -> Checkpoint:
        """That of a batch of these models, in this order, whether there is one or not."""
        return Checkpoint(self, tuple(jobs))

    def resumable(self) -> list[list[Job]]:
        """The models of each batch that has a checkpoint; damaged ones, and what a kill left of one, are deleted."""
        found = []
        for path, about in self._there().items():
            if about is not None:
                found.append(about["jobs"])
                continue
            if path.suffix == ".ckpt":
                self.note(f"checkpoint {path} is damaged, and not used")
            self._delete(path)
        return found

    def listed(self) -> list[dict[str, Any]]:
        """Models by collection, epochs done and bytes of each batch that has one, as JSON; nothing is deleted."""
        found = []
        for path, about in self._there().items():
            if about is not None:
                models: dict[str, list[int]] = {}
                for name, model in about["jobs"]:
                    models.setdefault(name, []).append(model)
                with suppress(FileNotFoundError):  # the training that wrote it has ended
                    found.append({"models": models, "epochs": about["epochs"], "bytes": path.stat().st_size})
        return found

    def prune(self) -> None:
        """Delete those of batches of which a model is complete: a kill left them."""
        for jobs in self.resumable():
            if any(model in self.run.complete(name) for name, model in jobs):
                self.of(jobs).delete()

    def _there(self) -> dict[Path, dict[str, Any] | None]:
        """What each file says that is named as a checkpoint is; None where it is none."""
        paths = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        paths = [path for path in paths if _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink()]
        abouts = {path: _parse(read_arrays(path)) for path in paths}
        return {
            path: about if about and self.of(about["jobs"]).path == path else None for path, about in abouts.items()
        }

    def _delete(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            self.folder.rmdir()  # where it was the last


@dataclass(frozen=True)
class Checkpoint:
    """The states of one batch after so many epochs."""

    checkpoints: Checkpoints
    jobs: tuple[Job, ...]

    @property
    def path(self) -> Path:
        """Of its file."""
        collection, first = self.jobs[0]
        sha = hashlib.sha256(json.dumps(self.jobs).encode()).hexdigest()
        return self.checkpoints.folder / f"{collection}-{first}-{sha[:16]}.ckpt"

    def read(self, fits: dict[str, Any]) -> tuple[int, float, dict[str, Array]] | None:
        """Epochs done, seconds that they took, and states, where these are whole and of the same `fits`; else it is deleted.

        Args:
            fits: JSON that says what the states are states of.
        """
        if not self.path.exists():
            return None
        arrays = read_arrays(self.path)
        about, fits = _parse(arrays), json.loads(json.dumps(fits))
        if arrays is None or about is None or about["jobs"] != list(self.jobs):
            reason = "it is damaged"
        elif wrong := [name for name in sorted(fits | about["fits"]) if about["fits"].get(name) != fits.get(name)]:
            reason = f"it was made with other {' and '.join(wrong)}"
        elif about["made_for"] != self.checkpoints.made_for:
            reason = "it is of another run"
        else:
            self.checkpoints.note(f"{len(self.jobs)} models go on after epoch {about['epochs']}")
            return about["epochs"], about["seconds"], {name: arrays[name] for name in arrays if name != _ABOUT}
        self.discard(reason)
        return None

    def write(self, states: Mapping[str, Array], *, epochs: int, seconds: float, fits: dict[str, Any]) -> None:
        """Keep states on disk in place of those of fewer epochs.

        Args:
            seconds: That the epochs took.

        Raises:
            DiskError: Where the disk refuses; the checkpoint before is then still there.
        """
        about = {"jobs": self.jobs, "made_for": self.checkpoints.made_for, "fits": fits, "epochs": epochs}
        text = json.dumps(about | {"seconds": seconds}).encode()
        try:
            write_arrays(self.path, {**states, _ABOUT: np.frombuffer(text, np.uint8)})
        except OSError as error:
            folder = self.checkpoints.run.folder
            raise DiskError(f"run folder {folder}: cannot write a checkpoint: {first_line(error)}") from error

    def discard(self, reason: str) -> None:
        """Delete it and note why: its batch is trained from the beginning."""
        self.checkpoints.note(
            f"checkpoint {self.path} is not used, since {reason}: {len(self.jobs)} models begin again"
        )
        self.delete()

    def delete(self) -> None:
        """Delete it."""
        self.checkpoints._delete(self.path)


def _parse(arrays: Mapping[str, Array] | None) -> dict[str, Any] | None:
    """What a checkpoint says of its states; None where it says nothing of models."""
    try:
        about = json.loads((arrays or {})[_ABOUT].tobytes())
        jobs = [(str(name), int(model)) for name, model in about["jobs"]]
    except (KeyError, ValueError, TypeError):
        return None
    return about | {"jobs": jobs} if jobs else None

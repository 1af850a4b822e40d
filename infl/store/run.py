"""The run folder as a whole: made or opened, written to block by block, asked what it holds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from infl.records import Array, Dataset, ForgetSet, Groups, InputError, OutcomeKind, Outcomes
from infl.store.examples import describe_examples, read_examples, read_groups, write_examples, write_groups
from infl.store.forgotten import read_forgotten, write_forgotten
from infl.store.journal import append_line, read_journal
from infl.store.rows import BOTH_KINDS, StoredOutcomes, write_rows

FORMAT = 2  # 1 had margins against all other classes together
N_STARTS = 61  # of grouped subsets: fewer than the usual models of D, and prime, so that no period meets the same ones
# Entries of the manifest that say how a run was made and do not bind how it goes on.
NOT_BINDING = ("dataset.source", "design.period", "infl", "versions", "devices", "timings")
_OF_A_BEGUN_RUN = {"run.partial", "data.partial", "data.npz", "groups", "journal.jsonl", "models"}


class Run:
    """A run folder that is open. Make one with `create_run` or `open_run`."""

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self._done: dict[str, dict[int, bool]] = {}
        self._sessions: list[dict[str, Any]] = []
        self._blocks: list[dict[str, Any]] = []
        for line in read_journal(folder / "journal.jsonl"):
            self._remember(line)

    @property
    def outcome_kinds(self) -> tuple[OutcomeKind, ...]:
        """What is known of its models: both kinds, unless they were made elsewhere and came with one."""
        return tuple(self.manifest.get("outcomes", BOTH_KINDS))

    def check_trainable(self) -> None:
        """Check that models can be added to this run.

        Raises:
            InputError: where its models were made elsewhere, from pixels and by an algorithm that it does not know.
        """
        if "imported" in self.manifest:
            raise InputError(
                f"run folder {self.folder} was imported from {self.manifest['imported']}: it holds no pixels and no training "
                "algorithm, so it can be scored but not trained; use a run made by infl train"
            )

    def dataset(self) -> Dataset:
        """The examples of the run; without pixels, [n, 0], where it was imported.

        Raises:
            InputError: where data.npz is damaged or is not the data of this run.
        """
        return read_examples(self.folder / "data.npz", self.manifest["dataset"])

    def groups(self, collection: str) -> Groups:
        """The groups that the models of a collection leave out together.

        Raises:
            InputError: where the file is missing or damaged, or holds other groups than the run was made with.
        """
        path = self.folder / "groups" / f"{collection}.npz"
        groups = read_groups(path)
        made_with = self.manifest["design"].get("groups") if collection == "grouped" else None
        if made_with is not None and groups.fingerprint() != made_with["sha256"]:
            raise InputError(
                f"{path} is not the groups that this run was made with: its fingerprint differs; restore it"
            )
        return groups

    def write_groups(self, collection: str, groups: Groups) -> None:
        """Keep the groups of a collection; where it has some already, they must be the same.

        Raises:
            InputError: where it has others, or the disk refuses.
        """
        if (self.folder / "groups" / f"{collection}.npz").exists():
            if self.groups(collection) != groups:
                raise InputError(f"run folder {self.folder}: its collection {collection} was made with other groups")
            return
        with self._refusal_named("groups"):
            write_groups(self.folder / "groups" / f"{collection}.npz", groups)

    def forget_sets(self) -> list[ForgetSet]:
        """The sets without which it holds models, in the order in which these came.

        Raises:
            InputError: where the file that names one is damaged.
        """
        found = []
        for name in (name for name in self._done if name.startswith("without-")):
            finite = self.outcomes(name).models
            if finite:
                (mask,) = self.outcomes(name, finite[:1]).load().masks
                ids = tuple(np.flatnonzero(~mask).tolist())
                found.append(read_forgotten(self.folder / "forget" / f"{name}.json", ids))
        return found

    def name_forget_set(self, forget_set: ForgetSet) -> None:
        """Keep name and concept of a set beside the models without it; the first name stays.

        Raises:
            InputError: where the disk refuses.
        """
        path = self.folder / "forget" / f"{name_of_leave_out(forget_set.ids)}.json"
        if not path.exists():
            with self._refusal_named("the name of a forget set"):
                write_forgotten(path, forget_set)

    @property
    def sessions(self) -> tuple[dict[str, Any], ...]:
        """Where and how models were trained, as noted when that began, in order."""
        return tuple(self._sessions)

    def collections(self) -> list[str]:
        """Names of the collections that hold at least one complete model."""
        return sorted(self._done)

    def complete(self, collection: str) -> list[int]:
        """Ids of the models whose outcomes are on disk, diverged ones too, ascending."""
        return sorted(self._done.get(collection, {}))

    def diverged(self, collection: str) -> list[int]:
        """Ids of the complete models whose training did not stay finite; they are left out of the outcomes."""
        return sorted(model for model, finite in self._done.get(collection, {}).items() if not finite)

    def seconds(self, collection: str) -> float:
        """Wall-clock seconds that training the complete models of a collection took."""
        return sum(block["seconds"] for block in self._blocks if block["collection"] == collection)

    def fingerprint(self, collection: str, models: Sequence[int]) -> str:
        """SHA-256 of these models and of the checksums of their outcomes: another one where any of them was made again."""
        sums: dict[int, Any] = {}
        for line in self._blocks:
            if line["collection"] == collection:
                sums.update(dict.fromkeys(line["models"], (line["models"], line.get("crc32"))))
        content = [self.manifest["dataset"], [[model, *sums.get(model, ())] for model in models]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def describe(self) -> dict[str, Any]:
        """What the run holds, as JSON: its manifest, the models of each collection, what was asked for and is missing."""
        wanted: dict[str, int] = {}
        for session in self._sessions:
            for collection, n_models in session.get("wanted", {}).items():
                wanted[collection] = max(wanted.get(collection, 0), n_models)
        collections = {}
        for name in sorted(set(self._done) | set(wanted)):
            complete = self.complete(name)
            collections[name] = {
                "complete": len(complete),
                "missing": len(set(range(wanted.get(name, 0))) - set(complete)),
                "diverged": self.diverged(name),
                "seconds": round(self.seconds(name), 3),
            }
        return {"folder": str(self.folder), **self.manifest, "collections": collections, "sessions": self._sessions}

    def outcomes(self, collection: str, models: Sequence[int] | None = None) -> StoredOutcomes:
        """Outcomes of the complete models of a collection, or of those given, without the diverged ones."""
        done = self._done.get(collection, {})
        wanted = self.complete(collection) if models is None else [model for model in models if model in done]
        finite = tuple(model for model in wanted if done[model])
        return StoredOutcomes(
            self.folder / "models" / collection,
            finite,
            self.manifest["dataset"]["n_train"],
            self.manifest["dataset"]["n_columns"],
            starts_of(collection, finite),
            int(self.manifest["design"].get("period", 1)) if collection == "design" else 1,
            self.outcome_kinds,
        )

    def write(
        self, collection: str, models: Sequence[int], outcomes: Outcomes, finite: Array, *, seconds: float
    ) -> None:
        """Put the outcomes of a block on disk, then mark its models complete.

        models: row of each outcome; finite: [B] whether each stayed finite; seconds: what training the block took.

        Raises:
            InputError: where the disk refuses.
        """
        with self._refusal_named("outcomes"):
            checksums = write_rows(self.folder / "models" / collection, np.asarray(models, np.int64), outcomes)
            line = {"collection": collection, "models": [int(model) for model in models], "seconds": round(seconds, 4)}
            line["diverged"] = [int(model) for model, ok in zip(models, finite, strict=True) if not ok]
            self._append({**line, "crc32": checksums})

    def record_session(self, session: dict[str, Any]) -> None:
        """Note in the journal where and with what models are about to be trained.

        Raises:
            InputError: where the disk refuses.
        """
        with self._refusal_named("the journal"):
            self._append({"session": session})

    def record_timings(self, devices: Sequence[str]) -> None:
        """Put the devices used last, and models and seconds of each collection, into the manifest.

        Raises:
            InputError: where the disk refuses.
        """
        timings = {
            name: {"models": len(done), "seconds": round(self.seconds(name), 3)} for name, done in self._done.items()
        }
        manifest = {**self.manifest, "devices": list(devices), "timings": timings}
        with self._refusal_named("run.json"):
            _write_durably(self.folder / "run.next", _sealed_json(manifest))
            (self.folder / "run.next").replace(self.folder / "run.json")
        self.manifest = manifest

    @contextmanager
    def _refusal_named(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"run folder {self.folder}: cannot write {what}: {_first_line(error)}") from error

    def _append(self, line: dict[str, Any]) -> None:
        append_line(self.folder / "journal.jsonl", line)
        self._remember(line)

    def _remember(self, line: dict[str, Any]) -> None:
        if "session" in line:
            self._sessions.append(line["session"])
            return
        diverged = set(line["diverged"])
        self._done.setdefault(line["collection"], {}).update({m: m not in diverged for m in line["models"]})
        self._blocks.append(line)


def create_run(folder: str | Path, dataset: Dataset, settings: dict[str, Any], groups: Groups | None = None) -> Run:
    """Make a run folder, or open the one that is there if its data and settings are the same.

    settings: JSON; every entry must agree with that of an existing run.
    groups: of the collection `grouped`, where the design has it.

    Raises:
        InputError: where the folder holds something else, was made with other data or settings (they are named), or
            cannot be written.
    """
    folder = Path(folder)
    manifest = _manifest_of(dataset, settings)
    if (folder / "run.json").exists():
        run = open_run(folder)
        differences = _differences(run.manifest, manifest)
        if differences:
            raise InputError(
                f"run folder {folder} was made with other settings: {'; '.join(differences)}. "
                "Use the same settings to continue it, or another --run folder"
            )
        return run
    check_new(folder)
    _begin(folder, manifest, dataset, groups)
    _complete(folder)
    return Run(folder, manifest)


@contextmanager
def new_run(folder: str | Path, dataset: Dataset, settings: dict[str, Any]) -> Iterator[Run]:
    """A run to write to in a `with` block, which is a run only once the block ends.

    A block that fails leaves nothing behind, one that is killed a folder that is no run, in which one can be made.

    Raises:
        InputError: where the folder holds something, a run too, or cannot be written.
    """
    folder, manifest = Path(folder), _manifest_of(dataset, settings)
    if (folder / "run.json").exists():
        raise InputError(f"{folder} is a run already, and nothing is added to it here; choose a new or an empty folder")
    check_new(folder)
    there_before = folder.exists()
    try:
        _begin(folder, manifest, dataset, None)
        yield Run(folder, manifest)
        _complete(folder)
    except BaseException:
        for path in (folder / name for name in _OF_A_BEGUN_RUN):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if not there_before and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
        raise


def check_new(folder: str | Path) -> None:
    """Check, before work goes into a run that is not there yet, that `create_run` can make it in this folder.

    Raises:
        InputError: where the folder holds something else.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and _is_empty_or_begun(folder)):
        raise InputError(f"{folder} exists and is not a run of infl (no run.json); choose a new or an empty folder")


def open_run(folder: str | Path) -> Run:
    """Open a run folder.

    Raises:
        InputError: where it is not one, or its manifest or journal is damaged or of another format.
    """
    folder = Path(folder)
    path = folder / "run.json"
    if not path.is_file():
        raise InputError(
            f"{folder} is not a run folder: it has no run.json. Make one with: infl train DATASET --run {folder}"
        )
    try:
        manifest = json.loads(path.read_bytes())
        sealed = manifest.pop("checksum")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path} is damaged: not a complete JSON manifest ({_first_line(error)}); restore it"
        ) from error
    if sealed != _checksum(manifest):
        raise InputError(f"{path} is damaged or was edited: its checksum does not fit its content; restore it")
    if manifest.get("format") != FORMAT:
        raise InputError(f"{path} has format {manifest.get('format')}; this version of infl reads format {FORMAT}")
    return Run(folder, manifest)


def name_of_cover(sets: Mapping[str, Sequence[int]]) -> str:
    """The collection of the models that leave out these sets or parts of them."""
    text = json.dumps({name: sorted(int(i) for i in ids) for name, ids in sets.items()}, sort_keys=True)
    return f"cover-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def name_of_leave_out(ids: Sequence[int]) -> str:
    """The collection of the models trained on D without these ids."""
    text = ",".join(str(i) for i in sorted(ids))
    return f"without-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def starts_of(collection: str, models: Sequence[int]) -> tuple[int, ...] | None:
    """Numbers of the starts (initial weights and order) of models; None where the collection has starts of its own.

    Models of D and of every D\\S pair by number; those of grouped subsets take the first of these again and again. What a
    start does on D can then be taken off what it does on the subset.
    """
    if collection == "full" or collection.startswith("without-"):
        return tuple(models)
    if collection == "grouped" or collection.startswith("cover-"):
        return tuple(model % N_STARTS for model in models)
    return None


def _manifest_of(dataset: Dataset, settings: dict[str, Any]) -> dict[str, Any]:
    # As it will be read back: a tuple in the settings would never equal the list that it becomes.
    given = {"format": FORMAT, "dataset": describe_examples(dataset), **settings}
    return json.loads(json.dumps(given, default=np.generic.item))


def _begin(folder: Path, manifest: dict[str, Any], dataset: Dataset, groups: Groups | None) -> None:
    """Write all that a run begins with. run.partial comes first: it tells a folder that a kill left from a user's."""
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write_durably(folder / "run.partial", _sealed_json(manifest))
        if (folder / "models").is_dir():  # of an import that was killed
            shutil.rmtree(folder / "models")
        (folder / "journal.jsonl").unlink(missing_ok=True)
        write_examples(folder / "data.npz", dataset)
        if groups is not None:
            write_groups(folder / "groups" / "grouped.npz", groups)
        (folder / "journal.jsonl").touch()


def _complete(folder: Path) -> None:
    with _writing(folder):
        (folder / "run.partial").replace(folder / "run.json")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"run folder {folder}: cannot be written: {_first_line(error)}") from error


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key in sorted(set(old) | set(new)):
        name = f"{prefix}{key}"
        mine, other = old.get(key), new.get(key)
        if name in NOT_BINDING:
            continue
        if isinstance(mine, dict) and isinstance(other, dict):
            found += _differences(mine, other, f"{name}.")
        elif mine != other:
            found.append(f"{name} is {mine!r} in the run, {other!r} asked for")
    return found


def _sealed_json(manifest: dict[str, Any]) -> bytes:
    return json.dumps({**manifest, "checksum": _checksum(manifest)}, indent=2).encode() + b"\n"


def _checksum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _is_empty_or_begun(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return not names or "run.partial" in names <= _OF_A_BEGUN_RUN


def _write_durably(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

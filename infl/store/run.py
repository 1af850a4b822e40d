"""The run as a whole, in a folder or on object storage: made or opened, written to block by block, asked what it holds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from infl.records import Array, Dataset, DiskError, ForgetSet, Groups, InputError, OutcomeKind, Outcomes, first_line
from infl.records.files import make_folder, sync_folder, write_durably
from infl.store.damage import Damage, clear, find_damage, mend_descriptions
from infl.store.examples import read_examples, read_groups, write_examples, write_groups
from infl.store.forgotten import read_forgotten, write_forgotten
from infl.store.journal import append_line, keep_lines
from infl.store.ledger import Ledger, is_collection, is_line
from infl.store.lock import Held, lock
from infl.store.manifest import differences, manifest_of, read_manifest, sealed
from infl.store.places import check_places
from infl.store.remote import Remote, located
from infl.store.rows import ARRAYS, BOTH_KINDS, StoredOutcomes, pack, write_rows

N_INIT_SEEDS = (
    61  # of grouped subsets: fewer than the usual models of D, and prime, so that no period meets the same ones
)
MAX_MISSING = 1 << 24
_OF_A_BEGUN_RUN = {"run.partial", "data.partial", "data.npz", "groups", "journal.jsonl", "models"}


class Run:
    """A run folder that is open. Make one with `create_run` or `open_run`."""

    def __init__(self, folder: Path, manifest: dict[str, Any], remote: Remote | None = None) -> None:
        self.folder = folder  # a working copy where the run is on object storage
        self.manifest = manifest
        self._remote = remote
        self._ledger = Ledger.read(folder / "journal.jsonl")

    @contextmanager
    def lock(self) -> Iterator[Held]:
        """Be the only one that writes to the run, in a `with` block; what others wrote before is known within. Locks nest.

        Raises:
            LockedError: where another process writes to it.
            DiskError: where the disk refuses.
        """
        with ExitStack() as stack:
            with self._refusal_named("its lock"):
                held = stack.enter_context(_lock(self.folder, self._remote))
            if held.depth == 1:
                self._ledger = Ledger.read(self.folder / "journal.jsonl")
                if self._remote:
                    self._check_still_there()
            yield held

    @property
    def place(self) -> str:
        """Where it is: its URL on object storage, or its folder."""
        return self._remote.url if self._remote else str(self.folder)

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
                f"run folder {self.place} was imported from {self.manifest['imported']}: it holds no pixels and no training "
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
        made_with = self.manifest.get("design", {}).get("groups") if collection == "grouped" else None
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
                raise InputError(f"run folder {self.place}: its collection {collection} was made with other groups")
            return
        with self.lock(), self._refusal_named("groups"):
            write_groups(self.folder / "groups" / f"{collection}.npz", groups)

    def forget_sets(self) -> list[ForgetSet]:
        """The sets without which it holds models, in the order in which these came.

        Raises:
            InputError: where the file that names one is damaged.
        """
        found = []
        for name in (name for name in self._ledger.finite if name.startswith("without-")):
            finite = self.outcomes(name).models
            if finite:
                (mask,) = self.outcomes(name, finite[:1]).load().masks
                ids = tuple(np.flatnonzero(~mask).tolist())
                found.append(read_forgotten(self._name_of_set(name), ids, n_train=len(mask)))
        return found

    def known_forget_sets(self) -> dict[str, ForgetSet]:
        """The sets that files in the run name, by the collection of models without each; damaged files are passed over."""
        found = {}
        for path in sorted((self.folder / "forget").glob("without-*.json")):
            with suppress(InputError):
                forget_set = read_forgotten(path, None, n_train=self.manifest["dataset"]["n_train"])
                if path.stem == name_of_leave_out(forget_set.ids):
                    found[path.stem] = forget_set
        return found

    def name_forget_set(self, forget_set: ForgetSet) -> None:
        """Keep name and concept of a set beside the models without it; the first name stays.

        Raises:
            InputError: where the disk refuses.
        """
        path = self._name_of_set(name_of_leave_out(forget_set.ids))
        if not path.exists():
            with self.lock(), self._refusal_named("the name of a forget set"):
                write_forgotten(path, forget_set)

    @property
    def blocks(self) -> tuple[dict[str, Any], ...]:
        """Lines of the journal that blocks of models have, in order: collection, models, diverged, seconds, crc32."""
        return tuple(self._ledger.blocks)

    @property
    def sessions(self) -> tuple[dict[str, Any], ...]:
        """Where and how models were trained, as noted when that began, in order."""
        return tuple(self._ledger.sessions)

    def collections(self) -> list[str]:
        """Names of the collections that hold at least one complete model."""
        return sorted(self._ledger.finite)

    def complete(self, collection: str) -> list[int]:
        """Ids of the models whose outcomes are on disk, diverged ones too, ascending."""
        return sorted(self._ledger.finite.get(collection, {}))

    def diverged(self, collection: str) -> list[int]:
        """Ids of the complete models whose training did not stay finite; they are left out of the outcomes."""
        return sorted(model for model, finite in self._ledger.finite.get(collection, {}).items() if not finite)

    def seconds(self, collection: str) -> float:
        """Wall-clock seconds that training the complete models of a collection took."""
        return self._ledger.seconds(collection)

    def missing(self, collection: str) -> list[int]:
        """Ids of the models that a session was to train and that are not complete, ascending.

        Raises:
            InputError: where they are more than any run holds, so that the journal says what is not so.
        """
        n_models = sum(map(len, self._ledger.missing().get(collection, [])))
        if n_models > MAX_MISSING:
            raise InputError(
                f"{self.folder / 'journal.jsonl'}: {n_models:,} models of {collection} are missing, more than any run holds"
            )
        return [model for models in self._ledger.missing().get(collection, []) for model in models]

    def fingerprint(self, collection: str, models: Sequence[int]) -> str:
        """SHA-256 of these models and of the checksums of their outcomes: another one where any of them was made again."""
        blocks = self._ledger.last_blocks(collection)
        sums = {model: (line["models"], line.get("crc32")) for model, line in blocks.items()}
        content = [self.manifest["dataset"], [[model, *sums.get(model, ())] for model in models]]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """What the run holds, as JSON: its manifest, the models of each collection, what was asked for and is missing."""
        missing = {name: sum(map(len, ranges)) for name, ranges in self._ledger.missing().items()}
        collections = {}
        for name in sorted(set(self._ledger.finite) | set(missing)):
            collections[name] = {
                "complete": len(self.complete(name)),
                "missing": missing.get(name, 0),
                "diverged": self.diverged(name),
                "seconds": round(self.seconds(name), 3),
            }
        sessions = self._ledger.sessions
        return {"folder": self.place, **self.manifest, "collections": collections, "sessions": sessions}

    def outcomes(self, collection: str, models: Sequence[int] | None = None) -> StoredOutcomes:
        """Outcomes of the complete models of a collection, or of those given, without the diverged ones."""
        done = self._ledger.finite.get(collection, {})
        wanted = self.complete(collection) if models is None else [model for model in models if model in done]
        finite = tuple(model for model in wanted if done[model])
        return StoredOutcomes(
            self.folder / "models" / collection,
            finite,
            self.manifest["dataset"]["n_train"],
            self.manifest["dataset"]["n_columns"],
            init_seed_numbers(collection, finite),
            int(self.manifest.get("design", {}).get("period", 1)) if collection == "design" else 1,
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
        rows, diverged = (
            [int(model) for model in models],
            [int(m) for m, ok in zip(models, finite, strict=True) if not ok],
        )
        self.write_packed(collection, rows, pack(outcomes), diverged, seconds=seconds)

    def write_packed(
        self, collection: str, models: list[int], arrays: dict[str, Array], diverged: list[int], *, seconds: float
    ) -> None:
        """As `write`, of outcomes as they are kept (`infl.store.rows.pack`)."""
        if not is_collection(collection):
            raise ValueError(f"no collection of models is called {collection!r}")
        with self.lock() as held, self._refusal_named("outcomes"):
            sums = write_rows(self.folder / "models" / collection, np.asarray(models, np.int64), arrays)
            line = {"collection": collection, "models": models, "seconds": round(seconds, 4), "diverged": diverged}
            held.check()
            self._append({**line, "crc32": sums})

    def record_session(self, session: dict[str, Any]) -> None:
        """Note in the journal where and with what models are about to be trained.

        Raises:
            InputError: where the disk refuses.
        """
        with self.lock(), self._refusal_named("the journal"):
            self._append({"session": session})

    def record_timings(self, devices: Sequence[str]) -> None:
        """Put the devices used last, and models and seconds of each collection, into the manifest.

        Raises:
            InputError: where the disk refuses.
        """
        timings = {
            name: {"models": len(done), "seconds": round(self.seconds(name), 3)}
            for name, done in self._ledger.finite.items()
        }
        manifest = {**self.manifest, "devices": list(devices), "timings": timings}
        with self.lock(), self._refusal_named("run.json"):
            write_durably(self.folder / "run.json", sealed(manifest))
        self.manifest = manifest

    def find_damage(self) -> Damage:
        """Read every row of every block and hold it against the checksum that its line in the journal has."""
        found = find_damage(self.folder / "models", self._ledger, self._arrays(), self.manifest["dataset"])
        if self._remote and (found.blocks or found.descriptions):  # of the copy alone, it may be
            self._remote.fetch(doubted="models/")
            found = find_damage(self.folder / "models", self._ledger, self._arrays(), self.manifest["dataset"])
        return found

    def drop_damage(self) -> dict[str, list[int]]:
        """Take out of the run the blocks that are damaged, so that their models can be trained again; returns these.

        Raises:
            InputError: where another process writes to the run, or the disk refuses.
        """
        with self.lock(), self._refusal_named("the journal"):
            models = self.folder / "models"
            mend_descriptions(models, self.find_damage(), self._ledger, self.manifest["dataset"])
            damage = self.find_damage()
            # Chunks first: killed between the two, their blocks are still in the journal and found to be damaged.
            clear(models, damage, self._arrays())
            lines = [block.line for block in damage.blocks]
            keep_lines(self.folder / "journal.jsonl", lambda line: line not in lines)
            self._ledger = Ledger.read(self.folder / "journal.jsonl")
            if self._remote:
                self._remote.publish(rewritten=True)
        return damage.models()

    def _arrays(self) -> list[str]:
        return [name for name in ARRAYS if name == "masks" or name in self.outcome_kinds]

    def _name_of_set(self, collection: str) -> Path:
        return self.folder / "forget" / f"{collection}.json"

    @contextmanager
    def _refusal_named(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise DiskError(f"run folder {self.folder}: cannot write {what}: {first_line(error)}") from error

    def _append(self, line: dict[str, Any]) -> None:
        assert is_line(line), line
        append_line(self.folder / "journal.jsonl", line)
        self._ledger.add(line)
        if self._remote:
            self._remote.publish_soon()

    def _check_still_there(self) -> None:
        path = self.folder / "run.json"
        if not path.is_file() or differences(self.manifest, read_manifest(path)):
            raise InputError(f"{self.place} was deleted or made anew by another process: open it again")


def create_run(place: str | Path, dataset: Dataset, settings: dict[str, Any], groups: Groups | None = None) -> Run:
    """Make a run, or open the one that is there if its data and settings are the same.

    place: its folder, or a URL on object storage.
    settings: JSON; every entry must agree with that of an existing run.
    groups: of the collection `grouped`, where the design has it.

    Raises:
        InputError: where the folder holds something else, was made with other data or settings (they are named), or
            cannot be written.
    """
    manifest = manifest_of(dataset, settings)
    if not is_run(place):
        check_new(place)
        folder, remote = located(place)
        with _writing(folder), _locked(folder, remote):
            if not (folder / "run.json").exists():  # else another process made it meanwhile
                check_new(place)
                _begin(folder, manifest, dataset, groups)
                _complete(folder)
    run = open_run(place)
    found = differences(run.manifest, manifest)
    if found:
        raise InputError(
            f"run folder {place} was made with other settings: {'; '.join(found)}. "
            "Use the same settings to continue it, or another --run folder"
        )
    return run


@contextmanager
def new_run(place: str | Path, dataset: Dataset, settings: dict[str, Any]) -> Iterator[Run]:
    """A run to write to in a `with` block, which is a run only once the block ends.

    A block that fails leaves nothing behind, one that is killed a folder that is no run, in which one can be made.

    Raises:
        InputError: where the folder holds something, a run too, or cannot be written.
    """
    manifest = manifest_of(dataset, settings)
    if is_run(place):
        raise InputError(f"{place} is a run already, and nothing is added to it here; choose a new or an empty folder")
    check_new(place)
    folder, remote = located(place)
    there_before = folder.exists()
    with ExitStack() as stack:
        with _writing(folder):
            stack.callback(_remove_if_empty, folder, there_before)
            stack.enter_context(_locked(folder, remote))
            check_new(place)
        try:
            _begin(folder, manifest, dataset, None)
            run = Run(folder, manifest)
            yield run
            _complete(folder)
            run._remote = remote  # on whose storage it is put now, whole
        except BaseException:
            for path in (folder / name for name in _OF_A_BEGUN_RUN):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            raise


def is_run(place: str | Path) -> bool:
    """Whether there is a run in a folder, or at a URL on object storage.

    Raises:
        InputError: where the storage cannot be reached or refuses.
    """
    folder, remote = located(place)
    if remote:
        remote.fetch()
    return (folder / "run.json").exists()


def check_new(place: str | Path) -> None:
    """Check, before work goes into a run that is not there yet, that `create_run` can make it there.

    Raises:
        InputError: where the folder, or the storage under the URL, holds something else.
    """
    folder, remote = located(place)
    if remote:
        remote.check_new()
    elif folder.exists() and not (folder.is_dir() and _is_empty_or_begun(folder)):
        raise InputError(f"{folder} exists and is not a run of infl (no run.json); choose a new or an empty folder")


def open_run(place: str | Path) -> Run:
    """Open a run.

    place: its folder, or a URL on object storage, s3://bucket/path or gs://bucket/path. From there it is fetched into the
        user's cache folder, what is not there yet, and what is written to it is published there.

    Raises:
        InputError: where it is not one, or its manifest or journal is damaged or of another format, or the storage cannot be
            reached or refuses.
    """
    folder, remote = located(place)
    if remote:
        remote.fetch()
    path = folder / "run.json"
    if not path.is_file():
        raise InputError(
            f"{place} is not a run folder: it has no run.json. Make one with: infl train DATASET --run {place}"
        )
    check_places(folder)
    return Run(folder, read_manifest(path), remote)


def mend_journal(place: str | Path) -> int:
    """Take the lines that do not fit their seal out of the journal of a run; returns how many there were.

    Raises:
        InputError: where it is no run, another process writes to it, or the disk refuses.
    """
    if not is_run(place):
        open_run(place)
    folder, remote = located(place)
    check_places(folder)
    with _writing(folder), _lock(folder, remote):
        n_lines = keep_lines(folder / "journal.jsonl", lambda line: True)
        if remote:
            remote.publish(rewritten=True)
        return n_lines


def name_of_cover(sets: Mapping[str, Sequence[int]]) -> str:
    """The collection of the models that leave out these sets or parts of them."""
    text = json.dumps({name: sorted(int(i) for i in ids) for name, ids in sets.items()}, sort_keys=True)
    return f"cover-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def name_of_leave_out(ids: Sequence[int]) -> str:
    """The collection of the models trained on D without these ids."""
    text = ",".join(str(i) for i in sorted(ids))
    return f"without-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def init_seed_numbers(collection: str, models: Sequence[int]) -> tuple[int, ...] | None:
    """Numbers of the starts (initial weights and order) of models; None where the collection has starts of its own.

    Models of D and of every D\\S pair by number; those of grouped subsets take the first of these again and again. What a
    start does on D can then be taken off what it does on the subset.
    """
    if collection == "full" or collection.startswith("without-"):
        return tuple(models)
    if collection == "grouped" or collection.startswith("cover-"):
        return tuple(model % N_INIT_SEEDS for model in models)
    return None


def _begin(folder: Path, manifest: dict[str, Any], dataset: Dataset, groups: Groups | None) -> None:
    """Write all that a run begins with. run.partial comes first: it tells a folder that a kill left from a user's."""
    with _writing(folder):
        with open(folder / "run.partial", "wb") as file:
            file.write(sealed(manifest))
            file.flush()
            os.fsync(file.fileno())
        sync_folder(folder)
        if (folder / "models").is_dir():  # of an import that was killed
            shutil.rmtree(folder / "models")
        (folder / "journal.jsonl").unlink(missing_ok=True)
        write_examples(folder / "data.npz", dataset)
        if groups is not None:
            write_groups(folder / "groups" / "grouped.npz", groups)
        (folder / "journal.jsonl").touch()
        sync_folder(folder)


def _complete(folder: Path) -> None:
    with _writing(folder):
        (folder / "run.partial").replace(folder / "run.json")
        sync_folder(folder)


def _remove_if_empty(folder: Path, there_before: bool) -> None:
    if not there_before and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


@contextmanager
def _locked(folder: Path, remote: Remote | None) -> Iterator[None]:
    make_folder(folder)
    with _lock(folder, remote):
        yield


def _lock(folder: Path, remote: Remote | None) -> AbstractContextManager[Held]:
    return lock(folder) if remote is None else remote.writing()


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"run folder {folder}: cannot be written: {first_line(error)}") from error


def _is_empty_or_begun(folder: Path) -> bool:
    names = {
        path.name for path in folder.iterdir() if path.name != "run.lock" and not path.name.startswith("run.lock.")
    }
    return not names or "run.partial" in names <= _OF_A_BEGUN_RUN

"""A run that is open: asked what it holds, and written to block by block."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import filelock
import numpy as np

from infl.records import (
    ACCURACY_MODELS,
    LABEL_KINDS,
    Accuracy,
    Array,
    Dataset,
    DiskError,
    ForgetSet,
    Groups,
    InputError,
    OutcomeKind,
    Outcomes,
    join_blocks,
    measure_accuracy,
)
from infl.store import manifest as manifests
from infl.store.blocks import (
    MAX_BLOCK_MODELS,
    THREADS,
    Block,
    DamagedError,
    Layout,
    StoredOutcomes,
    TileCache,
    block_bytes,
    block_name,
    block_range,
    check_block,
    pack,
    read_block,
)
from infl.store.collections import COLLECTION, Collection, put_collection, read_collection
from infl.store.storage import Storage

USUAL_BLOCK_BYTES = 1 << 26
MAX_MODELS = 1 << 20  # that a session may have been about to train


@dataclass(frozen=True)
class DamagedBlock:
    """A block that is not as it was written: its object, its models, and what is wrong."""

    name: str
    collection: str
    models: range
    reason: str

    def describe(self) -> str:
        """Which block it is."""
        return f"{self.collection}: block of models {self.models[0]} to {self.models[-1]}: {self.reason}"


class Run:
    """A run that is open; see `infl.store.opening` for how one is made.

    What is there was listed when it was opened, see `refresh`; what this process writes is known. `DiskError`, an `InputError`,
    is raised where an object is missing or damaged, or the storage refuses.

    Attributes:
        place: The run folder, or its URL on object storage.
        folder: Where this machine keeps what belongs to it: the run folder, or one in the user's cache.
        manifest: Data, algorithm, design, seed and versions, as JSON.
    """

    def __init__(self, storage: Storage, manifest: dict[str, Any]) -> None:
        self.storage, self.manifest = storage, manifest
        self.place, self.folder = storage.place, storage.folder
        dataset = manifest["dataset"]
        flags = {name: bool(manifest.get(name, False)) for name in ("shares", "held_out_only")}
        self._layout = Layout(dataset["n_train"], dataset["n_columns"], self.outcome_kinds, **flags)
        self._id = manifests.checksum(manifests.binding(manifest))
        self._accuracies: dict[tuple[str, int], Accuracy | None] = {}
        self._cache, self._blocks, self._collections = TileCache(), dict[str, Block](), dict[str, Collection]()
        self.refresh()

    def __repr__(self) -> str:
        data, counts = self.manifest["dataset"], {name: len(self.complete(name)) for name in self.collections()}
        models = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "none"
        said = f"Run({str(self.place)!r}: {data['name']}, {data['n_train']:,} training examples; models: {models}"
        found = self.accuracy()
        if found is None:
            return f"{said})"
        guess = "" if found.learned else ": no more than the largest class"
        return f"{said}; accuracy {found.trained} on D, {found.held_out} held out{guess})"

    def accuracy(self) -> Accuracy | None:
        """How often its models are right, by the first 16 of all of D, or of subsets where there are none; None without."""
        for name in ("full", "design"):
            if some := self.complete(name)[:ACCURACY_MODELS]:
                if (name, len(some)) not in self._accuracies:
                    blocks = list(self.outcomes(name, some).blocks(slice(self._layout.first_column, None)))
                    on_d, on_h = (math.nan if one is None else one for one in self.manifest["dataset"]["largest_class"])
                    outcomes = join_blocks(blocks) if blocks else None
                    self._accuracies[name, len(some)] = outcomes and measure_accuracy(
                        outcomes, largest_class=(on_d, on_h), held_out_only=self.held_out_only
                    )
                return self._accuracies[name, len(some)]
        return None

    def refresh(self) -> None:
        """List again what is there: other processes may have added to it."""
        self._sizes: dict[str, dict[str, int]] = {}
        self._records: set[str] = set()
        for name, size in self.storage.list("collections/").items():
            collection, _, rest = name.removeprefix("collections/").partition("/")
            if not COLLECTION.fullmatch(collection):
                continue
            if rest == "collection.json":
                self._records.add(collection)
            elif rest.startswith("blocks/") and block_range(rest) is not None:
                self._sizes.setdefault(collection, {})[name] = size
        self._owners = {name: _owners(sizes) for name, sizes in self._sizes.items()}

    @property
    def outcome_kinds(self) -> tuple[OutcomeKind, ...]:
        """What is known of its models: those of a classifier, unless its manifest names others."""
        return tuple(self.manifest.get("outcomes", LABEL_KINDS))

    @property
    def held_out_only(self) -> bool:
        """Whether it holds outcomes of held-out examples alone, as models made elsewhere may come."""
        return self._layout.held_out_only

    @cached_property
    def _n_tokens(self) -> Array | None:
        """Of how many tokens shares are means; 0/1 outcomes have no need of the data."""
        return self.dataset().n_tokens if self._layout.shares else None

    @cached_property
    def has_documents(self) -> bool:
        """Whether its examples are documents."""
        return self.dataset().is_documents

    def check_trainable(self) -> None:
        """Check that models can be added to this run.

        Raises:
            InputError: Where its models were made elsewhere, from pixels and by an algorithm that it does not know.
        """
        if "imported" in self.manifest:
            raise InputError(
                f"run {self.place} was imported from {self.manifest['imported']}: it holds no pixels and no training "
                "algorithm, so it can be scored but not trained; use a run made by infl train"
            )

    def dataset(self) -> Dataset:
        """The examples of the run; without pixels, [n, 0], where it was imported."""
        return manifests.read_dataset(self.storage, self.manifest)

    def collections(self) -> list[str]:
        """Names of the collections that hold at least one complete model."""
        return sorted(self._owners)

    def collection(self, name: str) -> Collection:
        """The record of a collection."""
        if name not in self._collections:
            self._collections[name] = read_collection(self.storage, name, n_train=self._layout.n_train)
        return self._collections[name]

    def add_collection(self, collection: Collection) -> None:
        """Say what the models of a collection are, before the first of them; where there is a record, it must say the same.

        Of a forget set the first name and concept stay.
        """
        if collection.name not in self._records:
            put_collection(self.storage, collection)
            self._records.add(collection.name)
        there = self.collection(collection.name)
        if not there.same_models(collection):
            raise InputError(
                f"run {self.place}: its collection {collection.name} was made by another design, {there.design}, asked for "
                f"{collection.design}; choose another run"
            )

    def design_groups(self) -> Groups | None:
        """Those that its design names by their fingerprint."""
        named = self.manifest.get("design", {}).get("groups")
        return manifests.read_groups(self.storage, named["sha256"]) if named else None

    def forget_sets(self) -> list[ForgetSet]:
        """The sets without which it holds models, in the order in which these came."""
        found = [self.collection(name) for name in self.collections() if name.startswith("without-")]
        found = [one for one in found if self.outcomes(one.name).n_models]
        return [one.forget_set for one in sorted(found, key=lambda one: (one.added, one.name)) if one.forget_set]

    def complete(self, name: str) -> list[int]:
        """Numbers of the models of a collection whose outcomes are stored, diverged ones too, ascending."""
        return sorted(self._owners.get(name, ()))

    def diverged(self, name: str) -> list[int]:
        """Numbers of the complete models whose training did not stay finite; they have no outcomes."""
        owners = self._owners.get(name, {})
        blocks = self._read_blocks(name, skip_damaged=True)
        return sorted(model for block in blocks for model in block.diverged if owners.get(model) == block.name)

    def outcomes(self, name: str, models: Sequence[int] | None = None) -> StoredOutcomes:
        """Outcomes of the complete models of a collection, or of those given, without the diverged ones."""
        self._read_blocks(name)
        owners, diverged = self._owners.get(name, {}), set(self.diverged(name))
        wanted = self.complete(name) if models is None else models
        finite = tuple(int(model) for model in wanted if model in owners and model not in diverged)
        collection = self.collection(name) if finite else None
        return StoredOutcomes(
            self.storage,
            self._layout,
            finite,
            tuple(self._blocks[owners[model]] for model in finite),
            collection.init_seeds(finite) if collection else None,
            collection.period if collection else 1,
            self._n_tokens,
            self._cache,
        )

    def write(
        self,
        name: str,
        models: Sequence[int],
        outcomes: Outcomes,
        finite: Array,
        *,
        seconds: float,
        session: dict[str, Any] | None = None,
    ) -> None:
        """Store the outcomes of some models: a block for each range of numbers without a gap, put where there is none.

        Args:
            models: The number of each.
            finite: [B] whether the training of each stayed finite.
            seconds: That their training took.
            session: JSON: where and with what.
        """
        rows = np.argsort(np.asarray(models), kind="stable")
        numbers = np.asarray(models, np.int64)[rows]
        size = max(1, min(MAX_BLOCK_MODELS, USUAL_BLOCK_BYTES // self._layout.bytes_per_model()))
        for part in _ranges(numbers, size):
            some, first, last = rows[part], int(numbers[part][0]), int(numbers[part][-1])
            diverged = [int(m) for m, ok in zip(numbers[part], np.asarray(finite)[some], strict=True) if not ok]
            about = {"run": self._id, "collection": name, "models": [first, last], "diverged": diverged}
            about |= {"seconds": round(seconds * len(some) / len(rows), 4), "session": session or {}}
            part = Outcomes(outcomes.masks[some], **{kind: array[some] for kind, array in outcomes.recorded.items()})
            content = block_bytes(pack(part, self._layout), about)
            self._put_block(name, f"collections/{name}/blocks/{block_name(first, last)}", content)

    def copy_blocks(self, shard: Run, name: str) -> None:
        """Add the blocks of a collection of a shard that hold models which this run lacks."""
        for block in shard._read_blocks(name):
            reason = check_block(shard.storage, block.name, self._layout, run=self._id, collection=name)
            if reason is not None:
                raise DiskError(
                    f"{shard.place}/{block.name} is damaged: {reason}; infl inspect --run {shard.place} --repair"
                )
            both = [model for model in block.models if model in self._owners.get(name, {})]
            finite = [run.outcomes(name, both) for run in (self, shard)]
            own, other = (outcomes.load().masks for outcomes in finite)
            if finite[0].models == finite[1].models and not np.array_equal(own, other):
                different = finite[0].models[int(np.argmax((own != other).any(axis=1)))]
                raise InputError(
                    f"{shard.place} is no shard of {self.place}: model {different} of {name} trained on other examples there; "
                    "were they made by different versions of infl or JAX?"
                )
            if len(both) < len(block.models):
                content = shard.storage.read(block.name, shard._sizes[name][block.name])
                assert content is not None
                self._put_block(name, block.name, content)

    def damaged_blocks(self) -> list[DamagedBlock]:
        """Read all blocks and compare them with their checksums."""
        found = []
        for collection, sizes in self._sizes.items():
            for name in sizes:
                reason = check_block(self.storage, name, self._layout, run=self._id, collection=collection)
                if reason is not None:
                    models = block_range(name)
                    assert models is not None
                    found.append(DamagedBlock(name, collection, models, reason))
        return found

    def remove(self, blocks: Sequence[DamagedBlock]) -> dict[str, list[int]]:
        """Delete blocks. Returns the models that are not complete any more, by collection, ascending."""
        before = {block.collection: set(self.complete(block.collection)) for block in blocks}
        self.storage.delete([block.name for block in blocks])
        for block in blocks:
            self._blocks.pop(block.name, None)
        self._cache = TileCache()
        self.refresh()
        gone = {name: sorted(models - set(self.complete(name))) for name, models in before.items()}
        return {name: models for name, models in gone.items() if models}

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """Where and how models were trained, each once, in order."""
        blocks = [block for name in self.collections() for block in self._read_blocks(name, skip_damaged=True)]
        found = {json.dumps(block.session, sort_keys=True): block.session for block in blocks if block.session}
        return sorted(found.values(), key=lambda session: str(session.get("date", "")))

    def to_dict(self) -> dict[str, Any]:
        """What the run holds, as JSON: its manifest, the models of each collection, what was asked for and is missing."""
        sessions = self.sessions
        wanted: dict[str, set[int]] = {name: set() for name in self.collections()}
        for session in sessions:
            for name, stop in session.get("wanted", {}).items():
                first = session.get("first", {}).get(name, 0)
                wanted.setdefault(name, set()).update(range(first, min(stop, MAX_MODELS)))
        collections = {}
        for name in sorted(wanted):
            blocks, complete = self._read_blocks(name, skip_damaged=True), self.complete(name)
            collections[name] = {
                "complete": len(complete),
                "missing": len(wanted[name].difference(complete)),
                "diverged": self.diverged(name),
                "seconds": round(sum(block.seconds for block in blocks), 3),
            }
        devices = {"devices": sessions[-1]["devices"]} if sessions and "devices" in sessions[-1] else {}
        accuracy = {} if (found := self.accuracy()) is None else {"accuracy": found.to_dict()}
        return {
            "folder": self.place,
            **self.manifest,
            **devices,
            **accuracy,
            "collections": collections,
            "sessions": sessions,
        }

    @contextmanager
    def training(self) -> Iterator[bool]:
        """Say, in a `with` block, that this process trains here; whether no other on this disk does. It keeps nobody out."""
        lock, alone = filelock.FileLock(self.folder / "training.lock", timeout=0), True
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            self.storage.delete_partial()
        except filelock.Timeout:
            alone = False
        except (OSError, NotImplementedError):
            pass  # a file system without locks
        try:
            yield alone
        finally:
            lock.release()

    def _put_block(self, collection: str, name: str, content: bytes) -> None:
        if self.storage.put(name, content):
            self._sizes.setdefault(collection, {})[name] = len(content)
            _add_owner(self._owners.setdefault(collection, {}), name)
        else:
            self.refresh()

    def _read_blocks(self, collection: str, *, skip_damaged: bool = False) -> list[Block]:
        sizes = self._sizes.get(collection, {})
        missing = [name for name in sizes if name not in self._blocks]

        def read(name: str) -> Block | None:
            try:
                return read_block(self.storage, name, sizes[name], self._layout, run=self._id, collection=collection)
            except DamagedError:
                if skip_damaged:
                    return None
                raise

        if missing:
            with ThreadPoolExecutor(THREADS) as pool:
                found = zip(missing, pool.map(read, missing), strict=True)
                self._blocks |= {name: block for name, block in found if block is not None}
        return [self._blocks[name] for name in sizes if name in self._blocks]


def _owners(names: Iterable[str]) -> dict[int, str]:
    """The block of each model."""
    owners: dict[int, str] = {}
    for name in names:
        _add_owner(owners, name)
    return owners


def _add_owner(owners: dict[int, str], name: str) -> None:
    """Of several blocks that hold a model, the first by name counts."""
    for model in block_range(name) or ():
        owners[model] = min(name, owners.get(model, name))


def _ranges(numbers: Array, size: int) -> Iterator[slice]:
    """Parts of ascending numbers that follow each other without a gap, each of at most so many."""
    start = 0
    for stop in [*(np.flatnonzero(np.diff(numbers) != 1) + 1).tolist(), len(numbers)]:
        for first in range(start, stop, size):
            yield slice(first, min(first + size, stop))
        start = stop

"""Makes runs, opens them, and joins those that were trained apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infl.records import Dataset, Groups, InputError
from infl.store import manifest as manifests
from infl.store.collections import COLLECTION
from infl.store.run import Run
from infl.store.storage import Storage

_LEFTOVERS = re.compile(
    rf"(data|groups)/[0-9a-f]{{16}}\.npz|collections/{COLLECTION.pattern}/(collection\.json|blocks/[0-9-]+\.npz)"
)


def create_run(place: str | Path, dataset: Dataset, settings: dict[str, Any], groups: Groups | None = None) -> Run:
    """Make a run, or open the one that is there if its data and settings are the same.

    Args:
        place: Its folder, or a URL on object storage.
        settings: JSON; every entry must agree with that of an existing run.
        groups: That its design names by their fingerprint.

    Raises:
        InputError: Where the place holds something else, was made with other data or settings (they are named), or cannot be
            written.
    """
    manifest, storage = manifests.make_manifest(dataset, settings), Storage(place)
    there = manifests.read_manifest(storage)
    found = manifests.differences(there, manifest) if there is not None else []
    if found:
        raise InputError(
            f"run {place} was made with other settings: {'; '.join(found)}. Use the same settings to continue it, or "
            "another --run folder"
        )
    if there is None:
        check_new(place)
    if manifests.data_name(manifest) not in storage.list("data/"):
        manifests.put_dataset(storage, dataset, manifest)
    if there is None:
        if groups is not None:
            manifests.put_groups(storage, groups)
        if not storage.put("run.json", manifests.with_checksum(manifest)):  # last: now it is a run
            return create_run(place, dataset, settings, groups)  # another process made it meanwhile
    return open_run(place)


@contextmanager
def new_run(place: str | Path, dataset: Dataset, settings: dict[str, Any]) -> Iterator[Run]:
    """A run to write to in a `with` block, and a run only once the block ends; one that fails leaves nothing behind."""
    manifest, storage = manifests.make_manifest(dataset, settings), Storage(place)
    if manifests.read_manifest(storage) is not None:
        raise InputError(f"{place} is a run already, and nothing is added to it here; choose a new or an empty folder")
    check_new(place)
    storage.delete(storage.list())  # of one that was killed
    made_folder = storage.is_local and not storage.folder.exists()
    try:
        manifests.put_dataset(storage, dataset, manifest)
        run = Run(storage, manifest)
        yield run
        if not storage.put("run.json", manifests.with_checksum(manifest)):
            raise InputError(f"{place} was made by another process meanwhile; choose a new or an empty folder")
    except BaseException:
        storage.delete(storage.list())
        if made_folder:
            storage.folder.rmdir()
        raise


def is_run(place: str | Path) -> bool:
    """Whether there is a run in a folder, or at a URL on object storage."""
    return Storage(place).read("run.json", manifests.MAX_JSON_BYTES) is not None


def check_new(place: str | Path) -> None:
    """Check, before work goes into a run that is not there yet, that `create_run` can make it there.

    What a kill left of a run that was being made does not count.

    Raises:
        InputError: Where the place holds something else.
    """
    storage = Storage(place)
    known = {"data", "groups", "collections", "training.lock"}
    if not (storage.names() <= known and all(map(_LEFTOVERS.fullmatch, storage.list()))):
        raise InputError(f"{place} exists and is not a run of infl (no run.json); choose a new or an empty folder")


def open_run(place: str | Path) -> Run:
    """Open a run.

    Args:
        place: Its folder, or a URL on object storage, s3://bucket/path or gs://bucket/path.

    Raises:
        InputError: Where it is none, or its manifest is damaged or of another format, or the storage cannot be reached.
    """
    storage = Storage(place)
    manifest = manifests.read_manifest(storage)
    if manifest is None:
        raise InputError(
            f"{place} is not a run folder: it has no run.json. Make one with: infl train DATASET --run {place}"
        )
    return Run(storage, manifest)


def merge(run: str | Path, shards: Sequence[str | Path]) -> Run:
    """Add to a run the models of its shards that it lacks; the shards stay as they are.

    Shards are runs made from the same data with the same settings and seed, of which each trained some of the models
    (`infl train --n-models 100:200`). What model t is follows from (seed, t) alone, so a merged run is the one that a single
    machine would have made. A place that is no run yet becomes one. Blocks are compared with their checksums and copied; after
    a kill the same call goes on.

    Args:
        run: Folder or URL; made where it is not there yet.
        shards: Folders or URLs.

    Raises:
        InputError: Where a shard is none of this run (the settings that differ are named), its blocks are damaged, or two
            shards hold one model with different masks.

    Examples:
        >>> import infl, tempfile
        >>> data, folder = infl.load("digits", n_train=40, n_held_out=20), tempfile.mkdtemp()
        >>> settings = {"algorithm": infl.Algorithm(hidden=(4,), epochs=1), "n_references": 1, "quiet": True}
        >>> shards = [f"{folder}/a", f"{folder}/b"]
        >>> for shard, models in zip(shards, (range(3), range(3, 6))):
        ...     _ = infl.train(data, run=shard, n_models=models, design=infl.Design("uniform", 0.7), **settings)
        >>> infl.merge(f"{folder}/all", shards).complete("design")
        [0, 1, 2, 3, 4, 5]
    """
    if not shards:
        raise InputError("merge: expected a run and at least one shard of it, got no shard")
    opened = [open_run(shard) for shard in shards]
    if is_run(run):
        whole = open_run(run)
    else:
        settings = {key: value for key, value in opened[0].manifest.items() if key not in ("format", "dataset")}
        whole = create_run(run, opened[0].dataset(), settings, opened[0].design_groups())
    for shard in opened:
        _check_same(whole, shard)
    for shard in opened:
        for name in shard.collections():
            whole.add_collection(shard.collection(name))
            whole.copy_blocks(shard, name)
    return whole


def _check_same(run: Run, shard: Run) -> None:
    if shard.folder.resolve() == run.folder.resolve():
        raise InputError(f"{shard.place} is the run itself: name its shards")
    if "imported" in run.manifest or "imported" in shard.manifest:
        raise InputError("runs that were imported have no shards: join the arrays before the import")
    found = manifests.differences(run.manifest, shard.manifest)
    if found:
        named = "; ".join(one.replace("asked for", f"in {shard.place}") for one in found)
        raise InputError(f"{shard.place} is no shard of {run.place}: {named}. Merge runs of the same data and settings")

"""Joins shards of one run: turns the models of several run folders, trained apart, into rows of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from infl.records import Array, DiskError, InputError, first_line
from infl.store.manifest import differences
from infl.store.rows import ARRAYS, checksums, read_rows
from infl.store.run import Run, create_run, is_run, open_run


def merge(run: str | Path, shards: Sequence[str | Path]) -> Run:
    """Add to a run the models of its shards that it lacks; the shards stay as they are.

    Shards are runs made from the same data with the same settings and seed, of which each trained some of the models
    (`infl train --models 100:200`). What model t is follows from (seed, t) alone, so a merged run is the one that a single
    machine would have made. A folder that is no run yet becomes one. Rows are held against their checksums on the way, and a
    block counts once it is on disk; after a kill the same call goes on.

    run, shards: folders, or URLs on object storage; the run is made where it is not there yet.

    Raises:
        InputError: where a shard is none of this run (the settings that differ are named), its blocks are damaged, or two
            shards hold one model with different masks.

    Example:
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
    whole = open_run(run) if is_run(run) else _begun(run, opened[0])
    for shard in opened:
        _check_same(whole, shard)
    with whole.lock():
        for shard in opened:
            _add(whole, shard)
    return whole


def _begun(place: str | Path, shard: Run) -> Run:
    settings = {key: value for key, value in shard.manifest.items() if key not in ("format", "dataset", "timings")}
    groups = shard.groups("grouped") if "groups" in shard.manifest.get("design", {}) else None
    return create_run(place, shard.dataset(), settings, groups)


def _check_same(run: Run, shard: Run) -> None:
    if shard.folder.resolve() == run.folder.resolve():
        raise InputError(f"{shard.place} is the run itself: name its shards")
    if "imported" in run.manifest or "imported" in shard.manifest:
        raise InputError("runs that were imported have no shards: join the arrays before the import")
    found = differences(run.manifest, shard.manifest)
    if found:
        named = "; ".join(one.replace("asked for", f"in {shard.place}") for one in found)
        raise InputError(f"{shard.place} is no shard of {run.place}: {named}. Merge runs of the same data and settings")


def _add(run: Run, shard: Run) -> None:
    for path in sorted((shard.folder / "groups").glob("cover-*.npz")):
        run.write_groups(path.stem, shard.groups(path.stem))
    for forget_set in shard.forget_sets():
        run.name_forget_set(forget_set)
    known = run.sessions
    for session in shard.sessions:
        if session not in known:
            run.record_session(session)
    names = [name for name in ARRAYS if name == "masks" or name in shard.outcome_kinds]
    for line in shard.blocks:
        read = _whole_block(shard, line, names)
        there = set(run.complete(line["collection"]))
        rows = [row for row, model in enumerate(line["models"]) if model not in there]
        _check_masks(run, shard, line, read["masks"], sorted(set(range(len(line["models"]))) - set(rows)))
        if rows:
            models = [line["models"][row] for row in rows]
            diverged = [model for model in line["diverged"] if model in models]
            seconds = line["seconds"] * len(rows) / len(line["models"])
            arrays = {name: np.ascontiguousarray(array[rows]) for name, array in read.items()}
            run.write_packed(line["collection"], models, arrays, diverged, seconds=seconds)


def _whole_block(shard: Run, line: dict[str, Any], names: list[str]) -> dict[str, Array]:
    folder = shard.folder / "models" / line["collection"]
    read: dict[str, Array] = {}
    try:
        read = read_rows(folder, np.asarray(line["models"], np.int64), names)
        sums = line.get("crc32", {})
        wrong = [name for name, found in checksums(read).items() if sums.get(name, found) != found]
    except (OSError, ValueError, IndexError) as error:
        wrong = [first_line(error)]
    if wrong:
        raise DiskError(
            f"{folder} is damaged in the block of models {line['models'][0]} to {line['models'][-1]}: {', '.join(wrong)}; "
            f"infl inspect --run {shard.place} --repair True trains them again"
        )
    return read


def _check_masks(run: Run, shard: Run, line: dict[str, Any], masks: Array, rows: list[int]) -> None:
    """A model that both have must have trained on the same examples in both."""
    if not rows:
        return
    models = np.asarray([line["models"][row] for row in rows], np.int64)
    mine = read_rows(run.folder / "models" / line["collection"], models, ["masks"])["masks"]
    different = np.flatnonzero((mine != masks[rows]).any(axis=1))
    if len(different):
        raise InputError(
            f"{shard.place} is no shard of {run.place}: model {models[different[0]]} of {line['collection']} trained on "
            "other examples there; were they made by different versions of infl or JAX?"
        )

"""Runs of random outcomes, written by one store or the other, and reads of them, each in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np


def random_block(n: int, m: int, models: range) -> tuple[Any, Any, Any]:
    """Masks, correct and margin of some models: examples differ in how hard they are, as real ones do."""
    random = np.random.default_rng(models.start)
    hardness = np.random.default_rng(0).normal(3.0, 3.0, n + m).astype(np.float32)
    margin = (hardness + random.standard_normal((len(models), n + m), np.float32)).astype(np.float16)
    return random.random((len(models), n), np.float32) < 0.7, margin > 0, margin


def peak_bytes() -> int:
    """Most memory that this process held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def best(work: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of some repeats."""
    took = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return min(took)


def drain(blocks: Iterator[Any]) -> int:
    """Read all blocks; returns how many are right, so that nothing is left out."""
    return sum(int(block.correct.sum()) for block in blocks)


def reads(outcomes: Any, n: int, m: int, repeats: int) -> dict[str, float]:
    """Seconds of reading all models in columns as estimators ask for them."""
    scattered = np.random.default_rng(1).choice(n + m, min(1000, n + m), replace=False)
    narrow = [slice(at, at + 80) for at in range(n, n + m, 80)][:10]
    found = {
        "held_out_columns": best(lambda: drain(outcomes.blocks(slice(n, n + m))), repeats),
        "1000_columns": best(lambda: drain(outcomes.blocks(slice(n // 2, n // 2 + 1000))), repeats),
        "10_times_80_columns": best(lambda: [drain(outcomes.blocks(columns)) for columns in narrow], repeats),
        "1000_scattered_columns": best(lambda: drain(outcomes.blocks(scattered)), repeats),
        "all_columns": best(lambda: drain(outcomes.blocks()), repeats),
    }
    return {name: round(seconds, 3) for name, seconds in found.items()}


def today(folder: Path, n: int, m: int, n_models: int, size: int, repeats: int) -> dict[str, Any]:
    """The store before: rows of zarr arrays, zstd, chunks of 64 models."""
    from infl.store.rows import StoredOutcomes, pack, write_rows  # pyright: ignore

    from infl.records import Outcomes  # pyright: ignore

    seconds = 0.0
    for first in range(0, n_models, size):
        models = range(first, min(first + size, n_models))
        arrays = pack(Outcomes(*random_block(n, m, models)))
        start = time.perf_counter()
        write_rows(folder / "models" / "design", np.arange(models.start, models.stop), arrays)
        seconds += time.perf_counter() - start
    outcomes = StoredOutcomes(folder / "models" / "design", tuple(range(n_models)), n, n + m)
    return {"write": round(seconds, 3), "read": reads(outcomes, n, m, repeats)}


def blocks(folder: Path, n: int, m: int, n_models: int, size: int, repeats: int) -> dict[str, Any]:
    """This store: one uncompressed .npz a block."""
    from infl.records import Outcomes
    from infl.store import blocks as stored
    from infl.store.storage import Storage

    storage, layout, seconds = Storage(folder), stored.Layout(n, n + m), 0.0
    about = {"run": "", "collection": "design", "diverged": [], "seconds": 0.0, "session": {}}
    for first in range(0, n_models, size):
        models = range(first, min(first + size, n_models))
        outcomes = Outcomes(*random_block(n, m, models))
        start = time.perf_counter()
        about["models"] = [models[0], models[-1]]
        storage.put(stored.block_name(models[0], models[-1]), stored.block_bytes(stored.pack(outcomes, layout), about))
        seconds += time.perf_counter() - start
    start = time.perf_counter()
    found = [
        stored.read_block(storage, name, n_bytes, layout, run="", collection="design")
        for name, n_bytes in storage.list().items()
    ]
    opened = time.perf_counter() - start
    owners = tuple(block for block in found for _ in block.models)
    outcomes = stored.StoredOutcomes(storage, layout, tuple(range(n_models)), owners)
    return {"write": round(seconds, 3), "open": round(opened, 3), "read": reads(outcomes, n, m, repeats)}


def large(folder: Path, n: int, m: int, n_models: int, size: int, n_columns: int) -> dict[str, Any]:
    """Memorization of all, and the influences of all on some held-out columns, without margins; each mask is random."""
    import infl
    from infl.records import Outcomes
    from infl.scores.influence import influence_blocks
    from infl.store import blocks as stored
    from infl.store.storage import Storage

    storage, layout = Storage(folder), stored.Layout(n, n + m, ("correct",))
    about = {"run": "", "collection": "design", "diverged": [], "seconds": 0.0, "session": {}}
    for first in range(0, n_models, size):
        masks, correct, _ = random_block(n, m, models := range(first, min(first + size, n_models)))
        about["models"] = [models[0], models[-1]]
        content = stored.block_bytes(stored.pack(Outcomes(masks, correct), layout), about)
        storage.put(stored.block_name(models[0], models[-1]), content)
    blocks = [
        stored.read_block(storage, name, n_bytes, layout, run="", collection="design")
        for name, n_bytes in storage.list().items()
    ]
    owners = tuple(block for block in blocks for _ in block.models)
    outcomes = stored.StoredOutcomes(storage, layout, tuple(range(n_models)), owners)
    found: dict[str, Any] = {"peak_bytes_writing": peak_bytes()}
    wall, processor = time.perf_counter(), time.process_time()

    def measured() -> dict[str, float]:
        seconds, used = time.perf_counter() - wall, time.process_time() - processor
        return {"seconds": round(seconds), "processor_seconds": round(used), "peak_bytes": peak_bytes()}

    infl.memorization(outcomes)
    found["memorization"] = measured()
    wall, processor = time.perf_counter(), time.process_time()
    for estimate in influence_blocks(outcomes, columns=np.arange(n, n + n_columns)):
        done = int(np.asarray(estimate.columns)[-1]) + 1 - n
        found["influence"] = {"columns": done, **measured()}
        print(json.dumps(found["influence"]), file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    name, folder, *numbers = sys.argv[1:]
    before = peak_bytes()
    result = globals()[name](Path(folder), *map(int, numbers))
    sizes = [path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()]
    print(
        json.dumps(
            {**result, "peak_bytes": peak_bytes(), "imports_bytes": before, "files": len(sizes), "bytes": sum(sizes)}
        )
    )

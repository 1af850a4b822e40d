"""How fast does `infl train` train, against what people use today and against the machine's own matrix product?

    python experiments/speed/run.py                  # every task and stage; needs the extra `torch`
    python experiments/speed/run.py --task T1        # one part, into the same results.json; tasks: T1 T2 T3 T4
    python experiments/speed/run.py --stage growth   # likewise; stages: growth devices verify gate precision
    python experiments/speed/run.py --small          # under a minute

Tasks are in tasks.py, the arms that train them in arms.py. Writes results.json with the raw numbers of every round.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from arms import measure_round
from record import surroundings, write_results
from stages import STAGES
from summary import summarize_task
from tasks import SMALL_TASKS, TASKS

QUICK = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "XLA_FLAGS": "--xla_backend_optimization_level=0"}


def main() -> None:
    """Run the parts that were asked for and write or complete results.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="one round of few models")
    parser.add_argument("--task", choices=[*TASKS, "all"])
    parser.add_argument("--stage", choices=[*STAGES, "all"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    options = parser.parse_args()
    everything = options.task is None and options.stage is None
    tasks = _chosen(options.task or ("all" if everything else ""), list(TASKS))
    stages = _chosen(options.stage or ("all" if everything else ""), list(STAGES))
    # The small size compiles quickly and keeps it for its other processes; those that are measured find nothing kept.
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryDirectory() as folder:
        if options.small:
            os.environ |= QUICK | {"JAX_COMPILATION_CACHE_DIR": folder}
        measure_all([*tasks, *stages], options.out, small=options.small, rounds=options.rounds)


def measure_all(parts: list[str], out: Path, *, small: bool, rounds: int) -> None:
    """Measure part after part; each is written as soon as it is there."""
    results = {} if set(parts) == {*TASKS, *STAGES} else _read(out)
    if small:  # nothing is timed that counts: two parts at once
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            all_measured = list(pool.map(partial(measure, small=True, rounds=1), parts))
    else:
        all_measured = (measure(part, small=False, rounds=rounds) for part in parts)
    for part, measured in zip(parts, all_measured, strict=True):
        results = merge(results, part, measured, small=small)
        write_results(out, results)


def measure(part: str, *, small: bool, rounds: int) -> dict[str, Any]:
    """A task or a stage: its raw numbers and their summary."""
    if part in STAGES:
        return STAGES[part](small=small, rounds=rounds)
    task = (SMALL_TASKS if small else TASKS)[part]
    raw = [measure_round(task, number=number, small=small) for number in range(1 if small else rounds)]
    return {"summary": summarize_task(task, raw), "task": task.to_dict(), "rounds": raw}


def merge(results: dict[str, Any], part: str, measured: dict[str, Any], *, small: bool) -> dict[str, Any]:
    """The results with one part replaced; every part keeps the commit that it was measured at."""
    now = surroundings("torch", "scikit-learn")
    commits = results.get("commits", {}) | {part: {key: now[key] for key in ("commit", "date", "uncommitted_changes")}}
    return {
        "summary": results.get("summary", {}) | {part: measured.pop("summary")},
        "parts": results.get("parts", {}) | {part: measured},
        "commits": commits,
        **now,
        "uncommitted_changes": any(one["uncommitted_changes"] for one in commits.values()),
        "small": small or results.get("small", False),
    }


def _chosen(word: str, names: list[str]) -> list[str]:
    return names if word == "all" else [name for name in names if name == word]


def _read(path: Path) -> dict[str, Any]:
    results = json.loads(path.read_text()) if path.exists() else {}
    return results if "parts" in results else {}


if __name__ == "__main__":
    main()

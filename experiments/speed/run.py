"""How fast does `infl train` train, against what people use today and against the machine's own matrix product?

    python experiments/speed/run.py                     # every part; needs the extra `torch`
    python experiments/speed/run.py --parts T1 growth   # some parts, into the same results.json
    python experiments/speed/run.py --small             # under a minute

Parts are the tasks T1 to T4 and the stages growth, devices, verify, gate and precision.

Tasks are in tasks.py, the arms that train them in arms.py. Writes results.json with the raw numbers of every round.
"""

from __future__ import annotations

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
from record import argument_parser, write_part
from stages import STAGES
from summary import summarize_task
from tasks import SMALL_TASKS, TASKS

PARTS = [*TASKS, *STAGES]
QUICK = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "XLA_FLAGS": "--xla_backend_optimization_level=0"}


def main() -> None:
    """Run the parts that were asked for and write or complete results.json."""
    parser = argument_parser(__doc__, __file__, small="one round of few models")
    parser.add_argument("--parts", nargs="*", choices=PARTS, help="all by default; of the small size T1")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    # The small size compiles quickly and keeps it for its other processes; those that are measured find nothing kept.
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    with tempfile.TemporaryDirectory() as folder:
        if options.small:
            os.environ |= QUICK | {"JAX_COMPILATION_CACHE_DIR": folder}
        measure_all(
            options.parts or (["T1"] if options.small else PARTS),
            options.out,
            small=options.small,
            rounds=options.rounds,
        )


def measure_all(parts: list[str], out: Path, *, small: bool, rounds: int) -> None:
    """Measure part after part; each is written as soon as it is there."""
    if small:  # nothing is timed that counts: two parts at once
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            all_measured = list(pool.map(partial(measure, small=True, rounds=1), parts))
    else:
        all_measured = (measure(part, small=False, rounds=rounds) for part in parts)
    for part, measured in zip(parts, all_measured, strict=True):
        write_part(out, part, measured.pop("summary"), measured, small=small)


def measure(part: str, *, small: bool, rounds: int) -> dict[str, Any]:
    """A task or a stage: its raw numbers and their summary."""
    if part in STAGES:
        return STAGES[part](small=small, rounds=rounds)
    task = (SMALL_TASKS if small else TASKS)[part]
    raw = [measure_round(task, number=number, small=small) for number in range(1 if small else rounds)]
    return {"summary": summarize_task(task, raw), "task": task.to_dict(), "rounds": raw}


if __name__ == "__main__":
    main()

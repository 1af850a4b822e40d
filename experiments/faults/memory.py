"""Measures the most memory that the process which drives a training and the worker that trains took, by number of models.

Each training is a process of its own. Its peak, and those of the Ray workers that it has, are what Linux counted (VmHWM) when
they were last looked at, five times a second.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import infl

SIZES = (500, 1_000, 2_000, 4_000, 8_000)
ENGINES = ("local", "ray")
DRIVER = """
import sys
sys.path.insert(0, sys.argv[4])
import memory
memory.train(sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


def train(folder: str, engine: str, n_models: int) -> None:
    """The same small models whatever their number, 1,000 digits and 797 more to judge; Ray's on one worker of one core."""
    infl.train(
        infl.load("digits"),
        run=folder,
        n_models=n_models,
        n_references=0,
        design=infl.Design("uniform", 0.7),
        algorithm=infl.Algorithm(hidden=(16,), epochs=1),
        layout=infl.Layout(n_devices=1, models_per_device=16, mode="map"),
        engine=infl.Ray(cpus=1, n_workers=1) if engine == "ray" else None,
        quiet=True,
    )


def peaks(folder: Path, done: list[Any]) -> Iterator[dict[str, Any]]:
    """Peaks of driver and worker in megabytes, engine by engine and size by size."""
    for engine in ENGINES:
        for n_models in SIZES:
            if not any((one["engine"], one["n_models"]) == (engine, n_models) for one in done):
                yield {
                    "engine": engine,
                    "n_models": n_models,
                    **_peaks(folder / f"{engine}-{n_models}", engine, n_models),
                }


def _peaks(folder: Path, engine: str, n_models: int) -> dict[str, Any]:
    command = [sys.executable, "-c", DRIVER, str(folder), engine, str(n_models), str(Path(__file__).parent)]
    driver, most = subprocess.Popen(command), {"driver": 0, "worker": 0}
    while driver.poll() is None:
        most["driver"] = max(most["driver"], _peak(driver.pid))
        if engine == "ray":
            most["worker"] = max([most["worker"], *map(_peak, _workers())])
        time.sleep(0.2)
    if driver.returncode:
        raise RuntimeError(f"training {n_models} models on {engine} ended with {driver.returncode}")
    return {f"{name}_megabytes": round(kilobytes / 1000) for name, kilobytes in most.items() if kilobytes}


def _workers() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes().startswith(b"ray::_Actor"):
                found.append(int(path.parent.name))
    return found


def _peak(pid: int) -> int:
    """Kilobytes; 0 where the process is gone."""
    with suppress(OSError):
        found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        return int(found[1]) if found else 0
    return 0

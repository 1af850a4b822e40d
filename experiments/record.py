"""What every experiment's run has in common: its options, its folder, and what results.json holds beside the numbers."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

# What an experiment of several parts writes after each of them changes none of the others.
_RESULTS = [f":(top,exclude)experiments/*/{name}" for name in ("results.json", "README.md", "*.png")]


def parser(description: str | None, folder: Path, *, small: str) -> argparse.ArgumentParser:
    """The options of every experiment; small: what its small size is."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--small", action="store_true", help=small)
    options.add_argument(
        "--work", type=Path, help="folder of the models, where a run goes on; a temporary one by default"
    )
    options.add_argument("--out", type=Path, default=folder / "results.json")
    return options


@contextmanager
def work_folder(options: argparse.Namespace) -> Iterator[Path]:
    """The folder of the models, which is there."""
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        yield work


def mean_and_error(values: Sequence[float] | np.ndarray) -> list[float]:
    """Mean and its standard error, over independent values."""
    return [float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))]


def surroundings(*packages: str) -> dict[str, Any]:
    """Commit, date, Python and package versions, processor and cores of this run."""
    versions = {"python": platform.python_version()}
    for package in ("jax", "jaxlib", "flax", "optax", "numpy", *packages):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain", "--untracked-files=no", "--", ":(top)", *_RESULTS)),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join(Path(word).name if Path(word).is_absolute() else word for word in sys.argv),
        "versions": versions,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def write_results(path: Path, results: dict[str, Any]) -> None:
    """Write results as JSON, every number with six digits."""
    path.write_text(json.dumps(_rounded(results), indent=1) + "\n")
    print(f"wrote {path}")


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())

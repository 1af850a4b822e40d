"""What every experiment's results.json holds beside its numbers: commit, date, versions, device, command."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# What an experiment of several parts writes after each of them changes none of the others.
_RESULTS = [f":(top,exclude)experiments/*/{name}" for name in ("results.json", "README.md", "*.png")]


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
    """Write results as JSON, one line per innermost list."""
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(f"wrote {path}")


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return done.stdout.strip()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())

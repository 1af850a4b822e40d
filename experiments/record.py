"""What every experiment's run has in common: its options, its folder, and what results.json holds beside the numbers."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # processes whose memory is measured import this file
    from infl.records import Outcomes, Verdict
    from infl.store import Run

# What an experiment of several parts writes after each of them changes none of the others.
_RESULTS = [f":(top,exclude)experiments/*/{name}" for name in ("results.json", "README.md", "*.png")]


def argument_parser(description: str | None, script: str, *, small: str) -> argparse.ArgumentParser:
    """The options of every experiment; script: its `__file__`; small: what its small size is."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help=small)
    parser.add_argument(
        "--work", type=Path, help="folder of the models, where a run goes on; a temporary one by default"
    )
    parser.add_argument("--out", type=Path, default=Path(script).parent / "results.json")
    return parser


@contextmanager
def work_folder(options: argparse.Namespace) -> Iterator[Path]:
    """The folder of the models, which is there."""
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        yield work


def cached(path: Path, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What lies at the path as JSON; computed and written there first where nothing does."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_plain(compute())))
    return json.loads(path.read_text())


def mean_and_error(values: Sequence[float] | np.ndarray) -> list[float | None]:
    """Mean and its standard error over independent values; no error of one value."""
    n = len(values)
    return [float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else None]


def select_models(outcomes: Outcomes, rows: np.ndarray | slice) -> Outcomes:
    """The outcomes of some of the models, whole strata of them."""
    strata = None if outcomes.strata is None else outcomes.strata[rows]
    return type(outcomes)(outcomes.masks[rows], outcomes.of("correct")[rows] > 0, strata=strata)


def verdict_row(verdict: Verdict) -> dict[str, Any]:
    """A verdict's regime, and its quantities with their standard errors."""
    quantities = {"self": verdict.self_influence, "cross": verdict.cross_influence}
    quantities |= {"harm": verdict.harm, "gain": verdict.gain}
    return {"regime": verdict.regime, **{name: [one.value, one.se] for name, one in quantities.items()}}


def training_seconds(run: Run, collections: Sequence[str] | None = None) -> float:
    """Seconds that the models of some collections took to train, of all by default."""
    rows = run.to_dict()["collections"]
    return sum(rows[name]["seconds"] for name in (rows if collections is None else collections))


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
        "batches": "cut from one stream of shuffled epochs",
        "regimes": "by harm",
        "command": " ".join(Path(word).name if Path(word).is_absolute() else word for word in sys.argv),
        "versions": versions,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def write_results(path: Path, results: dict[str, Any], *packages: str) -> None:
    """Write results and the surroundings of this run, with versions of these packages too; every number with six digits."""
    write_json(path, {**results, **surroundings(*packages)})


def write_part(path: Path, part: str, summary: Any, measured: Any, *, key: str = "parts", small: bool) -> None:
    """Write one of the parts of the results, which lie under the key; every part keeps the commit that it was measured at."""
    results, now = json.loads(path.read_text()) if path.exists() else {}, surroundings("torch", "scikit-learn")
    commits = results.get("commits", {}) | {part: _commit(now)}
    content = {
        "summary": results.get("summary", {}) | {part: summary},
        key: results.get(key, {}) | {part: measured},
        "commits": commits,
        **now,
        "uncommitted_changes": any(one["uncommitted_changes"] for one in commits.values()),
        "small": small or results.get("small", False),
    }
    write_json(path, content)


def add_worlds(path: Path, part: str, worlds: dict[str, Any]) -> None:
    """Write worlds that a script of its own measured beside the other results, with the surroundings of this run.

    Worlds that it measured before stay; each has its commit.
    """
    results, now = json.loads(path.read_text()) if path.exists() else {}, surroundings("scikit-learn")
    write_json(path, results | {part: {"worlds": results.get(part, {}).get("worlds", {}) | stamp(worlds, now), **now}})


def stamp(worlds: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Worlds with the commit and the date of these surroundings, which they are measured in."""
    return {name: world | {"measured_at": _commit(now)} for name, world in worlds.items()}


def _commit(now: dict[str, Any]) -> dict[str, Any]:
    return {key: now[key] for key in ("commit", "date", "uncommitted_changes")}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write numbers with six digits, rows of them in a line each."""
    text = json.dumps(_plain(content), indent=1)
    path.write_text(re.sub(r"[\[{]\n[^\[\]{}]*[\]}]", lambda row: re.sub(r"\n *", " ", row.group()), text) + "\n")
    print(f"wrote {path}")


def _plain(value: Any) -> Any:
    """The same without types of NumPy, numbers with six digits."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
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

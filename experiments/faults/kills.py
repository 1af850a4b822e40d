"""Kills processes of infl at random moments and compares what they leave with undisturbed runs.

A round is one run that is trained, extended, merged and verified, each command killed with SIGKILL a few times, started again
by the same words each time, and let to its end at last. One kill in three falls anywhere in the time that the undisturbed
command takes; the others a few blocks after it began to write, up to 20 ms later. Processes are forked from one that has
imported what infl imports and computed nothing, so that a command starts as quickly as it would in a warm cache.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np

import infl

DATA = ["digits", "--n-train", "120", "--n-held-out", "60", "--epochs", "2", "--hidden", "8"]
SIZES = ["--models-per-device", "8", "--n-devices", "1"]
SETS = {"a": [1, 2, 3], "b": [4, 5], "c": [6, 7, 8, 9]}
N_MODELS, N_REFERENCES, N_SEEDS = 256, 8, 24
COMMANDS = ("train", "extend", "merge", "verify")
WRITES_TO = {"train": "run", "extend": "run", "verify": "run", "merge": "merged"}
LONGEST = 300.0  # seconds until a process is called hanging
_FORKED = multiprocessing.get_context("forkserver")
Model = tuple[str, int]  # collection, number


def kill_rounds(folder: Path, *, seeds: Iterator[int], kills_a_command: int = 5) -> Iterator[dict[str, Any]]:
    """Yield what came of one round after another, with the raw moments of its kills."""
    _FORKED.set_forkserver_preload(
        ["infl.__main__", "infl.pipeline", "infl.pipeline.train", "sklearn.datasets", "kills"]
    )
    os.environ["INFL_CACHE_DIR"] = str(folder / "cache")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    folder.mkdir(parents=True)
    (folder / "forget.json").write_text(json.dumps(SETS))
    for number, references in enumerate((N_REFERENCES, 0)):
        models = f"{number * N_MODELS // 2}:{(number + 1) * N_MODELS // 2}"
        words = ["--n-models", models, "--n-references", str(references), "--run", str(folder / f"shard-{number}")]
        run_to_its_end(["train", *DATA, *SIZES, *words], folder)
    took = {}
    for name in COMMANDS:
        start = time.perf_counter()
        run_to_its_end(_command(name, folder, "undisturbed"), folder)
        took[name] = time.perf_counter() - start
    for seed in seeds:
        yield _round(folder, seed, took, kills_a_command)
        shutil.rmtree(folder / f"round-{seed}")


def _command(name: str, folder: Path, place: str) -> list[str]:
    run, merged = str(folder / place / "run"), str(folder / place / "merged")
    references = ["--n-references", str(N_REFERENCES), "--run", run]
    return {
        "train": ["train", *DATA, *SIZES, "--n-models", str(N_MODELS // 2), *references],
        "extend": ["train", *SIZES, "--n-models", str(N_MODELS), *references],
        "merge": ["merge", merged, str(folder / "shard-0"), str(folder / "shard-1")],
        "verify": [
            *("verify", "--run", run, "--forget", str(folder / "forget.json")),
            *("--n-models", str(N_SEEDS), "--stop", "1"),
        ],
    }[name]


def _round(folder: Path, seed: int, took: dict[str, float], kills_a_command: int) -> dict[str, Any]:
    moments, place = random.Random(seed), f"round-{seed}"
    kills: list[dict[str, Any]] = []
    for name in COMMANDS:
        run, command = folder / place / WRITES_TO[name], _command(name, folder, place)
        for _ in range(kills_a_command):
            before = _stored(run)
            process = start(command, folder)
            anywhere = not moments.randrange(3)
            if anywhere:
                time.sleep(moments.uniform(0.0, took[name]))
            else:
                _wait_for_blocks(process, run, len(before) + moments.randint(1, 3))
                time.sleep(moments.uniform(0.0, 0.02))
            if not process.is_alive():
                process.join()
                break
            seen = _stored(run)
            process.kill()
            process.join()
            after = _stored(run)
            kills.append(
                {
                    "command": name,
                    "anywhere": anywhere,
                    "blocks_before": len(before),
                    "blocks_then": len(after),
                    "models_lost": len(set(_models(before + seen)) - set(_models(after))),
                    "damaged_blocks": _damaged(run),
                }
            )
        run_to_its_end(command, folder)
    compared = {
        name: _compared(infl.open_run(folder / place / name), infl.open_run(folder / "undisturbed" / name))
        for name in ("run", "merged")
    }
    return {"seed": seed, "kills": kills, **compared}


def _compared(run: infl.Run, undisturbed: infl.Run) -> dict[str, Any]:
    times = Counter(_models(_stored(run.folder)))
    collections = run.collections() == undisturbed.collections()
    return {
        "models": len(times),
        "models_in_two_blocks": sum(n > 1 for n in times.values()),
        "models_missing": sum(len(set(undisturbed.complete(c)) - set(run.complete(c))) for c in run.collections()),
        "damaged_blocks": len(run.damaged_blocks()),
        "outcomes_equal": collections and all(same_outcomes(run, undisturbed, name) for name in run.collections()),
        "scores_equal": all(
            np.array_equal(_scores(run, name), _scores(undisturbed, name)) for name in ("memorization", "influence")
        ),
    }


def same_outcomes(run: infl.Run, undisturbed: infl.Run, collection: str) -> bool:
    """Whether a collection of both holds the same, bit for bit."""
    mine, theirs = run.outcomes(collection).load(), undisturbed.outcomes(collection).load()
    return all(np.array_equal(getattr(mine, kind), getattr(theirs, kind)) for kind in ("masks", "correct", "margin"))


def _scores(run: infl.Run, name: str) -> np.ndarray:
    outcomes = run.outcomes("design")
    return np.nan_to_num((infl.memorization if name == "memorization" else infl.influence)(outcomes).value)


def _stored(run: Path) -> list[str]:
    """Files of blocks, found by other means than infl's own."""
    return sorted(path.relative_to(run).as_posix() for path in run.glob("collections/*/blocks/*.npz"))


def _models(blocks: list[str]) -> list[Model]:
    found = []
    for name in blocks:
        first, last = map(int, Path(name).stem.split("-"))
        found += [(name.split("/")[1], model) for model in range(first, last + 1)]
    return found


def _damaged(run: Path) -> int:
    return len(infl.open_run(run).damaged_blocks()) if (run / "run.json").exists() else 0


def _wait_for_blocks(process: BaseProcess, run: Path, n_blocks: int) -> None:
    deadline = time.monotonic() + LONGEST
    while process.is_alive() and len(_stored(run)) < n_blocks and time.monotonic() < deadline:
        time.sleep(0.001)


def start(command: list[str], folder: Path) -> BaseProcess:
    """A process of a command of infl, its output in `said.txt`."""
    process = _FORKED.Process(target=_main, args=(command, str(folder / "said.txt")))
    process.start()
    return process


def run_to_its_end(command: list[str], folder: Path) -> None:
    """Run a command of infl, which must succeed."""
    process = start(command, folder)
    process.join(LONGEST)
    if process.exitcode != 0:
        process.kill()
        said = (folder / "said.txt").read_text()[-2000:]
        raise RuntimeError(f"infl {' '.join(command)} ended with {process.exitcode}: {said}")


def _main(command: list[str], said: str) -> None:
    from infl.__main__ import main

    with open(said, "w") as file, redirect_stdout(file), redirect_stderr(file):
        status = main(command)
    sys.exit(status)

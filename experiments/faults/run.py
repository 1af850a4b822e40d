"""Does a run survive kills, a disk that changes bytes, and files from strangers?

    python experiments/faults/run.py                     # 200 kills, 2,000 flips, 100,000 cases a reader
    python experiments/faults/run.py --stage kills       # one part, into the same results.json; kills flips fuzz ray cost ...
    python experiments/faults/run.py --minutes 5         # as far as that takes it: the same command goes on later
    python experiments/faults/run.py --page              # only write README.md again
    python experiments/faults/run.py --small             # under a minute

- kills: train, extend, merge and verify are killed (SIGKILL) and started again; in the end outcomes and scores are compared
  bit for bit with undisturbed ones, and models that were lost or are in two blocks are counted.
- flips: one bit of a small run is flipped, file by file, and the run is asked for everything that it says. Each flip is
  refused, or harmless (all is the same), or silent: a score, a name or a pixel is different and nothing was said.
- ray: on three nodes of a Ray cluster of this machine a node is killed and another joins, or the process that drives
  training, extending and verifying is killed; outcomes are compared bit for bit with those of one process.
- cost: what the engine adds to blocks of about 1, 5 and 20 seconds, both engines with all cores, five rounds. Like kills not
  in --small: CI has tests of its own for these.
- messages: what the command line says of bad files, folders and settings, one after another.
- memory: the most that the driving process and a Ray worker took for 500, 2,000 and 8,000 models.
- checkpoints: blocks of about 15 seconds trained in one piece, in segments, and with a checkpoint every four seconds.
- fuzz: readers.py, whole files with changed bytes and files whose checksums fit and whose content is anything.

Each part is made of pieces with seeds 0, 1, 2, ...; a piece is written as soon as it is there, and none is made twice.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from checkpoints import prices
from cluster import BLOCK_SECONDS, costs, rounds
from flips import make_run, try_flips
from fuzz import fuzz
from kills import kill_rounds
from memory import peaks
from messages import messages
from page import summarize, write_page
from readers import readers
from record import surroundings, write_results

STAGES = ("kills", "flips", "fuzz", "ray", "cost", "memory", "messages", "checkpoints")
IN_SMALL = ("flips", "fuzz")
FLIPS_A_PIECE, CASES_A_PIECE = 100, 2_500
RAY_ROUNDS, COST_ROUNDS = 10, 5


def main() -> None:
    """Run the stages that were asked for until they are complete or the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a piece of each")
    parser.add_argument("--stage", choices=STAGES, help="this one alone")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--flips", type=int, default=2_000)
    parser.add_argument("--cases", type=int, default=100_000, help="of each reader")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no piece begins later")
    parser.add_argument("--page", action="store_true", help="measure nothing")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    options = parser.parse_args()
    stages = STAGES if options.stage is None else (options.stage,)
    if options.small:
        options.flips, options.cases = 20, 50
        stages = [stage for stage in stages if stage in IN_SMALL]
    until = time.monotonic() + 60 * options.minutes
    pieces: dict[str, list[Any]] = _read(options.out).get("pieces", {})
    for stage in () if options.page else stages:
        with tempfile.TemporaryDirectory() as folder:
            for piece in more(stage, pieces.setdefault(stage, []), Path(folder), options):
                pieces[stage].append(piece)
                results = {
                    "summary": summarize(pieces),
                    **surroundings("tensorstore", "hypothesis", "ray"),
                    "pieces": pieces,
                }
                write_results(options.out, results)
                if time.monotonic() > until:
                    break
    write_page(_read(options.out), options.out.parent)


def more(stage: str, done: list[Any], folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The pieces that a stage lacks, in order."""
    if stage == "kills":
        n_kills = sum(len(one["kills"]) for one in done)
        if n_kills >= options.kills:
            return
        seeds = iter(range(len(done), 10_000))
        for one in kill_rounds(folder / "kills", seeds=seeds, kills_a_command=5):
            yield one
            n_kills += len(one["kills"])
            if n_kills >= options.kills:
                return
    elif stage == "flips":
        size = min(FLIPS_A_PIECE, options.flips)
        seeds = range(len(done), -(-options.flips // size))
        run = make_run(folder / "flips").folder if seeds else folder
        for seed in seeds:
            start = time.perf_counter()
            counts, silent = try_flips(run, size, seed=seed)
            seconds = round(time.perf_counter() - start, 1)
            yield {"seed": seed, "flips": size, "counts": dict(sorted(counts.items())), "silent": silent} | {
                "seconds": seconds
            }
    elif stage == "ray":
        yield from rounds(folder, iter(range(len(done), RAY_ROUNDS)))
    elif stage == "checkpoints":
        yield from prices(folder, done)
    elif stage == "cost":
        for number in range(len(done), COST_ROUNDS * len(BLOCK_SECONDS)):
            yield costs(folder / str(number), seconds=BLOCK_SECONDS[number % len(BLOCK_SECONDS)])
    elif stage == "messages":
        if not done:
            yield from messages(folder)
    elif stage == "memory":
        yield from peaks(folder, list(done))
    else:
        size = min(CASES_A_PIECE, options.cases)
        for seed in range(-(-options.cases // size)):
            for name, reader in readers().items():
                if not any(one["reader"] == name and one["seed"] == seed for one in done):
                    yield {"reader": name, **fuzz(reader, size, seed=seed)}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text()) if path.exists() else {}


if __name__ == "__main__":
    main()

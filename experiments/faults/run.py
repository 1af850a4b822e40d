"""Does a run survive kills, a disk that changes bytes, and files from strangers?

    python experiments/faults/run.py                     # 200 kills, 2,000 flips, 20,000 cases a reader
    python experiments/faults/run.py --stage kills       # one part, into the same results.json
    python experiments/faults/run.py --minutes 5         # as far as that takes it: the same command goes on later
    python experiments/faults/run.py --small             # under a minute
    python experiments/readme.py faults                  # write README.md

- kills: train, extend, merge and verify are killed (SIGKILL) and started again; in the end outcomes and scores are compared
  bit for bit with undisturbed ones, and models that were lost or are in two blocks are counted.
- storage: the same of training in a run on an S3 server of this machine.
- flips: one bit of a small run is flipped, file by file, and the run is asked for everything that it says. Each flip is
  refused, or harmless (all is the same), or silent: a score, a name or a pixel is different and nothing was said.
- fuzz: readers.py, whole files with changed bytes and files whose checksums fit and whose content is anything.
- ray: on three nodes of a Ray cluster of this machine a node is killed and another joins, or the process that drives
  training, extending and verifying is killed; outcomes are compared bit for bit with those of one process.
- memory: the most that the driving process and a Ray worker took for 500 to 8,000 models.

Each part is made of pieces with seeds 0, 1, 2, ...; a piece is written as soon as it is there, and none is made twice.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from cluster import rounds
from flips import make_run, try_flips
from fuzz import fuzz
from kills import COMMANDS, kill_rounds
from memory import peaks
from readers import readers
from record import argument_parser, write_results
from storage import storage_rounds

STAGES = ("kills", "storage", "flips", "fuzz", "ray", "memory")
FLIPS_A_PIECE, CASES_A_PIECE = 100, 2_500
RAY_ROUNDS, STORAGE_ROUNDS = 10, 8


def main() -> None:
    """Run the stages that were asked for until they are complete or the time is up."""
    parser = argument_parser(__doc__, __file__, small="20 flips and 50 cases of each reader")
    parser.add_argument("--stage", choices=STAGES, help="this one alone")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--flips", type=int, default=2_000)
    parser.add_argument("--cases", type=int, default=20_000, help="of each reader")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no piece begins later")
    options = parser.parse_args()
    stages = STAGES if options.stage is None else (options.stage,)
    if options.small:
        options.flips, options.cases = 20, 50
        stages = [stage for stage in stages if stage in ("flips", "fuzz")]
    until = time.monotonic() + 60 * options.minutes
    before = json.loads(options.out.read_text()) if options.out.exists() else {}
    pieces: dict[str, list[Any]] = before.get("pieces", {})
    for stage in stages:
        with tempfile.TemporaryDirectory() as folder:
            for piece in more(stage, pieces.setdefault(stage, []), Path(folder), options):
                pieces[stage].append(piece)
                results = {"summary": summarize(pieces), "pieces": pieces}
                write_results(options.out, results, "obstore", "hypothesis", "ray", "moto")
                if time.monotonic() > until:
                    break


def more(stage: str, done: list[Any], folder: Path, options: Any) -> Iterator[dict[str, Any]]:
    """The pieces that a stage lacks, in order."""
    if stage == "kills":
        n_kills = sum(len(one["kills"]) for one in done)
        if n_kills < options.kills:
            for one in kill_rounds(folder / "kills", seeds=iter(range(len(done), 10_000)), kills_a_command=5):
                yield one
                n_kills += len(one["kills"])
                if n_kills >= options.kills:
                    return
    elif stage == "storage":
        if len(done) < STORAGE_ROUNDS:
            yield from storage_rounds(folder / "storage", iter(range(len(done), STORAGE_ROUNDS)))
    elif stage == "flips":
        size = min(FLIPS_A_PIECE, options.flips)
        seeds = range(len(done), -(-options.flips // size))
        run = make_run(folder / "flips").folder if seeds else folder
        for seed in seeds:
            start = time.perf_counter()
            counts, silent = try_flips(run, size, seed=seed)
            piece = {"seed": seed, "flips": size, "counts": dict(sorted(counts.items())), "silent": silent}
            yield piece | {"seconds": round(time.perf_counter() - start, 1)}
    elif stage == "ray":
        if len(done) < RAY_ROUNDS:
            yield from rounds(folder, iter(range(len(done), RAY_ROUNDS)))
    elif stage == "memory":
        yield from peaks(folder, list(done))
    else:
        size = min(CASES_A_PIECE, options.cases)
        for seed in range(-(-options.cases // size)):
            for name, reader in readers().items():
                if not any(one["reader"] == name and one["seed"] == seed for one in done):
                    yield {"reader": name, **fuzz(reader, size, seed=seed)}


def summarize(pieces: dict[str, list[Any]]) -> dict[str, Any]:
    """The sums of the pieces of each stage."""
    found: dict[str, Any] = {}
    if rounds_of_kills := pieces.get("kills"):
        kills = [kill for one in rounds_of_kills for kill in one["kills"]]
        ends = [one[name] for one in rounds_of_kills for name in ("run", "merged")]
        commands = {name: [kill for kill in kills if kill["command"] == name] for name in COMMANDS}
        found["kills"] = {
            "kills": len(kills),
            "rounds": len(rounds_of_kills),
            "runs": len(ends),
            "commands": {
                name: {"kills": len(of)} | _sums(of, "models_lost", "damaged_blocks") for name, of in commands.items()
            },
            **_sums(ends, "models", "models_in_two_blocks", "models_missing", "damaged_blocks"),
            **_sums(ends, "outcomes_equal", "scores_equal"),
        }
    if stored := pieces.get("storage"):
        kinds = ("models", "blocks_put_again", "damaged_blocks", "outcomes_equal")
        found["storage"] = {
            "rounds": len(stored),
            "kills": sum(len(one["kills"]) for one in stored),
            **_sums(stored, *kinds),
        }
    if flips := pieces.get("flips"):
        files: dict[str, Counter[str]] = {}
        for name, n in ((name, n) for piece in flips for name, n in piece["counts"].items()):
            kind, _, fate = name.rpartition(": ")
            files.setdefault(kind, Counter())[fate] += n
        files["all"] = sum(files.values(), Counter())
        by_file = {
            kind: {fate: counts[fate] for fate in ("refused", "harmless", "silent")} for kind, counts in files.items()
        }
        found["flips"] = {"flips": sum(piece["flips"] for piece in flips), "files": by_file}
    if cases := pieces.get("fuzz"):
        by_reader = {
            name: [one for one in cases if one["reader"] == name] for name in dict.fromkeys(c["reader"] for c in cases)
        }
        found["fuzz"] = {
            name: _sums(some, "cases", "accepted", "failed")
            | {key: max(piece[key] for piece in some) for key in ("slowest_seconds", "growth_mb")}
            for name, some in by_reader.items()
        }
    if ray := pieces.get("ray"):
        drivers = [len(one["models_on_disk_then"]) for one in ray if one["lost"] == "driver"]
        found["ray"] = {
            "rounds": len(ray),
            "driver_rounds": len(drivers),
            "driver_kills": sum(drivers),
            **_sums(ray, "equal"),
        }
    if memory := pieces.get("memory"):
        found["memory"] = {f"{one['engine']}, {one['n_models']}": one for one in memory}
    return found


def _sums(rows: list[dict[str, Any]], *names: str) -> dict[str, int]:
    return {name: sum(row[name] for row in rows) for name in names}


if __name__ == "__main__":
    main()

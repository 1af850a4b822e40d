"""What a run is kept in: formats of a block, storage libraries, reads beside the store before, and a large run.

python experiments/store/run.py --before ../before    # a checkout of commit ceb2be1, whose reads are measured too
python experiments/store/run.py --parts large         # one part, into the same results.json
python experiments/store/run.py --small               # within a minute
python experiments/readme.py store                    # write README.md
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from formats import compare_formats, compare_libraries
from record import argument_parser, work_folder, write_results

HERE = Path(__file__).parent
PARTS = ("libraries", "formats", "reads", "large")


def main() -> None:
    """Measure the parts that are asked for and write them into results.json."""
    parser = argument_parser(__doc__, __file__, small="small arrays, once")
    parser.add_argument("--before", help="checkout of infl before this store, to compare reads with")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() and not options.small else {}
    with work_folder(options) as work:
        for part in options.parts:
            results[part] = measure(part, work, small=options.small, before=options.before)
            results["summary"] = summarize(results)
            write_results(options.out, results, "obstore", "fsspec", "tensorstore", "s3fs")


def measure(part: str, work: Path, *, small: bool, before: str | None) -> Any:
    """The numbers of a part."""
    if part == "libraries":
        return compare_libraries(*((1 << 20, 8, 1) if small else (4 << 20, 64, 5)))
    if part == "formats":
        return compare_formats(*((2000, 500, 32, 2, 1) if small else (50_000, 10_000, 32, 16, 5)))
    if part == "reads":
        sizes = (2000, 500, 200, 32, 1) if small else (50_000, 10_000, 4000, 32, 3)
        rounds = []
        for _ in range(1 if small else 3):
            rounds.append({"blocks": in_process("blocks", *sizes, place=work)})
            if before:
                rounds[-1]["today"] = in_process("today", *sizes, path=before, place=work)
        return rounds
    n, m, worlds = (20_000, 1000, ((64, 32),)) if small else (1_200_000, 50_000, ((250, 64), (1000, 1000)))
    return [
        {"n": n, "m": m, "models": n_models, **in_process("large", n, m, n_models, 8, columns, place=work)}
        for n_models, columns in worlds
    ]


def summarize(results: dict[str, Any]) -> dict[str, Any]:
    """The least seconds of all rounds and the most memory, by store."""
    rounds = results.get("reads", [])
    stores = {name: [one[name] for one in rounds] for name in (rounds[0] if rounds else ())}
    return {
        name: {
            "read": {columns: min(one["read"][columns] for one in ones) for columns in ones[0]["read"]},
            "peak_bytes": max(one["peak_bytes"] for one in ones),
        }
        for name, ones in stores.items()
    }


def in_process(name: str, *numbers: int, path: str | None = None, place: Path) -> dict[str, Any]:
    """A function of worlds.py in a process of its own, so that its memory is its own."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        environment = dict(os.environ) | ({"PYTHONPATH": path} if path else {})
        command = [sys.executable, str(HERE / "worlds.py"), name, f"{folder}/run", *map(str, numbers)]
        done = subprocess.run(command, env=environment, cwd=HERE, stdout=subprocess.PIPE, text=True, check=True)
        print(done.stdout, flush=True)
        return json.loads(done.stdout)


if __name__ == "__main__":
    main()

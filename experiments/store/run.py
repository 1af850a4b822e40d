"""What a run is kept in: formats of a block, storage libraries, reads beside the store before, and a large run."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from formats import compare_formats, compare_libraries

HERE = Path(__file__).parent


def in_process(name: str, *numbers: int, path: str | None = None, place: str) -> dict[str, Any]:
    """A function of worlds.py in a process of its own, so that its memory is its own."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        environment = dict(os.environ) | ({"PYTHONPATH": path} if path else {})
        command = [sys.executable, str(HERE / "worlds.py"), name, f"{folder}/run", *map(str, numbers)]
        done = subprocess.run(command, env=environment, cwd=HERE, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout)


def main() -> None:
    """Measure the parts that are asked for and write them into results.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", help="checkout of infl before this store (commit ceb2be1), to compare reads with")
    parser.add_argument("--parts", nargs="*", default=["libraries", "formats", "reads", "large"])
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="disk to measure on")
    parser.add_argument("--small", action="store_true", help="within a minute")
    parser.add_argument("--output", default=str(HERE / "results.json"))
    asked = parser.parse_args()
    small, output = asked.small, Path(asked.output)
    results = json.loads(output.read_text()) if output.exists() and not small else {}
    for part in asked.parts:
        print(part, flush=True)
        if part == "libraries":
            results[part] = compare_libraries(*((1 << 20, 8, 1) if small else (4 << 20, 64, 5)))
        if part == "formats":
            results[part] = compare_formats(*((2000, 500, 32, 2, 1) if small else (50_000, 10_000, 32, 16, 5)))
        if part == "reads":
            sizes = (2000, 500, 200, 32, 1) if small else (50_000, 10_000, 4000, 32, 3)
            results[part] = []
            for _ in range(1 if small else 3):
                results[part].append({"blocks": in_process("blocks", *sizes, place=asked.folder)})
                if asked.before:
                    results[part][-1]["today"] = in_process("today", *sizes, path=asked.before, place=asked.folder)
                print(json.dumps(results[part][-1]), flush=True)
        if part == "large":
            n, m, counts, targets = (20_000, 1000, (64,), 100) if small else (1_200_000, 50_000, (250, 500, 1000), 1000)
            results[part] = []
            for n_models in counts:
                done = in_process("large", n, m, n_models, 8, targets, 2, place=asked.folder)
                results[part].append({"n": n, "m": m, "models": n_models, "targets": targets, "tiles": 2, **done})
                print(json.dumps(results[part][-1]), flush=True)
        if not small:
            output.write_text(json.dumps(results, indent=1) + "\n")
    if small:
        output_small = Path(tempfile.gettempdir()) / "store-small.json"
        output_small.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

"""Is what is rare forgotten cleanly? Regimes of single facts by how often what they are about occurs, and is stated.

    python experiments/tails/run.py --work work

Worlds of lives whose towns have persons by Zipf's law (`infl plant facts lives --zipf`). Forget sets are one fact of a town
(B), which the conclusions of its persons state again, and one way of putting a hobby, which nothing implies, put in 1 to 3.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(1, str(Path(__file__).parents[1] / "facts"))
from lives import dataset_of, measure  # pyright: ignore[reportMissingImports]
from record import argument_parser, mean_and_error, work_folder, write_results

import infl
from infl.data import worlds

COMPOSES = infl.Algorithm.default("facts")


def main() -> None:
    """Measure all sets by retraining and write results.json."""
    options = argument_parser(__doc__, __file__, small="one world, 3 sets of each, 4 seeds").parse_args()
    n_worlds, n_sets, seeds = (1, 3, (4, None)) if options.small else (2, None, (32, 128))
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with work_folder(options) as work:
        for seed in range(n_worlds):
            world = worlds.lives(zipf=True, seed=seed)
            dataset = dataset_of(world)
            kinds, features = sets_of(world, dataset, n_sets)
            measured = measure(work / f"tails-{seed}", dataset, kinds, COMPOSES, n_seeds=seeds[0], max_seeds=seeds[1])
            for row, more in zip(measured, features, strict=True):
                rows[row["kind"]].append({**row, **more})
    summary = {kind: curve(some) for kind, some in rows.items()}
    once = [row for row in rows["hobby"] if row["stated"] == 1]
    summary |= {f"once, {by}": curve(once, by) for by in ("of_person", "of_object")}
    write_results(options.out, {"summary": summary, "rows": rows, "n_seeds": seeds, "n_worlds": n_worlds})


def sets_of(
    world: worlds.World, dataset: infl.Dataset, n_sets: int | None
) -> tuple[dict[str, list[infl.ForgetSet]], list[dict[str, int]]]:
    """Sets by kind, and of each how often it is stated, in all ways, and how often what it is about occurs in D."""
    facts = [row for row in world.rows if row[3] == "train"]
    town = {s: o for s, r, o, _, _ in facts if r == "born in"}
    known = Counter(town[s] for s, r, _, _, _ in facts if r == "nation")
    of_person, of_object = (Counter(row[position] for row in facts) for position in (0, 2))
    ways = Counter(row[4] for row in facts)
    numbers = dataset.train_ids.tolist()
    found: dict[str, list[tuple[infl.ForgetSet, dict[str, int]]]] = {"town": [], "hobby": []}
    names = list(worlds.PROPERTIES.values())
    for s, r, o, _, number in facts:
        one = infl.ForgetSet(f"{s}, {r}", (numbers.index(number),))  # the first of its ways
        if s in known.keys() | set(town.values()) and r == names[int(s.rpartition("-")[2]) % 3]:
            found["town"].append((one, {"stated": 1 + known[s]}))
        elif r == worlds.HOBBIES[0]:
            counts = {"stated": ways[number], "of_person": of_person[s] - ways[number], "of_object": of_object[o]}
            found["hobby"].append((one, counts))
    kinds = {kind: [one for one, _ in some[:n_sets]] for kind, some in found.items()}
    return kinds, [more for some in found.values() for _, more in some[:n_sets]]


def curve(rows: list[dict[str, Any]], by: str = "stated") -> list[dict[str, Any]]:
    """Shares of regimes, and means over sets, by how often: 1, 2, 3, 4 to 7, 8 and more."""
    found = []
    for low, high in ((0, 0), (1, 1), (2, 2), (3, 3), (4, 7), (8, 99)):
        some = [row for row in rows if low <= row[by] <= high]
        if some:
            known = mean_and_error([1 - row["self"][0] for row in some])
            harm, cross = (mean_and_error([row[name][0] for row in some]) for name in ("harm", "cross"))
            regimes = Counter(row["regime"] for row in some)
            found.append(
                {
                    "harm": harm,
                    "cross": cross,
                    "from": low,
                    "to": high,
                    "n": len(some),
                    "regimes": regimes,
                    "known": known,
                }
            )
    return found


if __name__ == "__main__":
    main()

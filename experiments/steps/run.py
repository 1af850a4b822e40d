"""Does the number of batches decide a regime? Random sets of 1 to 20 examples around a multiple of the batch size.

    python experiments/steps/run.py --part proportional

Two worlds, stopped early, where training notices its steps most: n = 958 and batches of 50, so that a set of 8 or more
takes D across the multiple 950. Twenty random sets, sizes 1 to 20, are retrained without. If a step an epoch less had an
effect of its own, the summed effects on all other examples would jump between sizes 7 and 8: a weighted regression of the
sums on size and on "8 or more" has that jump and its error. A third world is the case that showed it: n = 408, 400 digits with
10 flipped labels and 12 twos turned upside down and shifted, of which eight are there twice; 400 held out.

The part `ceiling` was measured at the commit before batches were cut from a stream of shuffled epochs, when an epoch
over k examples took ceil(k / 50) steps; `--part` names what is written.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from fashion import half_size_fashion
from record import argument_parser, verdict_row, work_folder, write_part

import infl

N, BATCH, SIZES = 958, 50, range(1, 21)
CROSSING = 8  # from this size on, n - size is at most a multiple of the batch size


def main() -> None:
    """Measure both worlds and the case, and write the part."""
    parser = argument_parser(__doc__, __file__, small="4 models a set, digits alone")
    parser.add_argument("--part", default="proportional")
    options = parser.parse_args()
    n_models = 4 if options.small else 256
    worlds = {
        "digits": (infl.load("digits", n_train=N, n_held_out=500), infl.Algorithm(batch_size=BATCH, epochs=5)),
        "fashion": (half_size_fashion(N, 500), infl.Algorithm(hidden=(64,), batch_size=BATCH, epochs=5)),
    }
    if options.small:
        del worlds["fashion"]
    with work_folder(options) as work:
        measured: dict[str, Any] = {
            name: random_sets(data, algorithm, work / name, n_models) for name, (data, algorithm) in worlds.items()
        }
        measured["copies"] = case_of_copies(work / "copies", n_models)
    summary = {name: jump(measured[name]) for name in worlds}
    write_part(options.out, options.part, summary, measured, small=options.small)


def random_sets(data: Any, algorithm: Any, folder: Path, n_models: int) -> list[dict[str, Any]]:
    """A random set of each size, and the effects of untraining it."""
    random = np.random.RandomState(1)
    sets = [infl.ForgetSet(f"random {size}", random.permutation(N)[:size].tolist()) for size in SIZES]
    return _verified(data, algorithm, folder, sets, n_models)


def case_of_copies(folder: Path, n_models: int) -> list[dict[str, Any]]:
    """The eight copies, and eight at random; the same sets less one."""
    digits, random = infl.load("digits", n_train=400, n_held_out=400), np.random.RandomState(0)
    x, y = digits.x_train.copy(), digits.y_train.copy()
    flipped = random.permutation(400)[:10]
    y[flipped] = (y[flipped] + random.randint(1, 10, 10)) % 10
    turned = random.permutation(np.setdiff1d(np.flatnonzero(digits.y_train == 2), flipped))[:12]
    x[turned] = np.roll(x[turned].reshape(-1, 8, 8)[:, ::-1], 1, axis=2).reshape(x[turned].shape)
    x, y = np.concatenate([x, x[turned[:8]]]), np.concatenate([y, y[turned[:8]]])
    data = infl.from_arrays(x, y, digits.x_held_out, digits.y_held_out)
    copies, others = list(range(400, 408)), random.permutation(400)[:8].tolist()
    sets = {"8 copies": copies, "7 copies": copies[1:], "random 8": others, "random 7": others[1:]}
    algorithm = infl.Algorithm(batch_size=BATCH)
    return _verified(data, algorithm, folder, [infl.ForgetSet(name, ids) for name, ids in sets.items()], n_models)


def _verified(data: Any, algorithm: Any, folder: Path, sets: list[Any], n_models: int) -> list[dict[str, Any]]:
    run = infl.train(data, run=folder, n_models=2, n_references=n_models, algorithm=algorithm)
    verdicts = infl.verify(run, sets, n_models=n_models, stop=None)
    return [
        {
            "set": verdict.forget_set.name,
            "size": len(verdict.forget_set),
            "probability": max(verdict.probability.values()),
            **verdict_row(verdict),
        }
        for verdict in verdicts
    ]


def jump(rows: list[dict[str, Any]]) -> dict[str, list[float]]:
    """Summed effects on others: slope by size and jump at the multiple of the batch size, with standard errors."""
    sizes = np.array([row["size"] for row in rows], float)
    totals, errors = (sizes * np.array([row["cross"][k] for row in rows]) for k in (0, 1))
    design = np.stack([sizes, sizes >= CROSSING], axis=1) / errors[:, None]
    covariance = np.linalg.inv(design.T @ design)
    estimate = covariance @ design.T @ (totals / errors)
    spread = max(1.0, float(((totals / errors - design @ estimate) ** 2).mean()))  # sets of a size differ, too
    slope, step = np.stack([estimate, np.sqrt(spread * np.diag(covariance))], axis=1).tolist()
    return {"an example": slope, "a step less": step}


if __name__ == "__main__":
    main()

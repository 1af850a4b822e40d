"""Do the circles survive, and is the star lost? The first figure of the note on unlearning and untraining, on real data.

    python experiments/figure_one/run.py --work FOLDER     # about ten minutes on two cores; models are kept in FOLDER
    python experiments/figure_one/run.py --small           # seconds
    python experiments/readme.py figure_one            # results.json becomes README.md and figure_one.png

Of a concept somebody asks to forget a sample S: circles, which have close relatives that stay, and a star, which has none
(Triantafillou et al. 2026, figure 1, drawn by hand there). Question: what do A(D), A(D\\S) and the reference of unlearning,
A(D\\S_full) without all of the concept, predict on circles, star and the concept's held-out examples? For each of ten
concepts of 1,000 digits and of 1,000 Fashion-MNIST images one set with the star that other models memorize most, and one with
the star that is oddest by its pixels; see instances.py.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from instances import WORLDS, Instance, World, make_instances, make_world
from record import argument_parser, mean_and_error, training_seconds, verdict_row, work_folder, write_results

import infl

N_PILOT = 200
SEEDS = {"digits": 128, "fashion": 64}
DRAWN = {"digits": "8", "fashion": "Trouser"}  # the concepts of the picture, for its contrast; all are in the table
PARTS = ("circles", "star", "odd star", "held-out")
MODELS = ("A(D)", "A(D\\S)", "A(D\\S_full)")
HIGH = 0.5  # an example counts as kept where more than half of the models predict it


def main() -> None:
    """Train, measure, and write results.json."""
    parser = argument_parser(__doc__, __file__, small="two concepts of few digits, few models")
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), help="these data sets alone")
    options = parser.parse_args()
    with work_folder(options) as work:
        worlds = {
            name: measure(name, small_world(world) if options.small else world, work / name, small=options.small)
            for name, world in WORLDS.items()
            if name in (["digits"] if options.small else options.worlds)
        }
    summary = {name: summarize(world["instances"]) for name, world in worlds.items()}
    write_results(options.out, {"summary": summary, "worlds": worlds}, "scikit-learn")


def small_world(world: World) -> World:
    """The same with few examples and a small network."""
    return replace(world, n_train=300, n_held_out=200, algorithm={**world.algorithm, "hidden": (32,), "epochs": 12})


def measure(name: str, world: World, folder: Path, *, small: bool) -> dict[str, Any]:
    """Retrain without S and without S_full of every instance."""
    dataset, concepts, names = make_world(world)
    n_seeds, start = 8 if small else SEEDS[name], time.perf_counter()
    run = infl.train(
        dataset,
        run=folder,
        n_models=20 if small else N_PILOT,
        n_references=n_seeds,
        design=infl.Design("balanced", 0.7),
        algorithm=infl.Algorithm(**world.algorithm),
    )
    memorization = infl.memorization(run.outcomes("design", range(20 if small else N_PILOT)))
    instances = make_instances(dataset, concepts, names, memorization.value)[: 2 if small else None]
    distinct = {one.ids: one for instance in instances for one in instance.forget_sets}
    effects = {
        one.forget_set.ids: one
        for one in infl.verify_effects(run, list(distinct.values()), n_models=n_seeds, stop=None)
    }
    full = run.outcomes("full", range(n_seeds)).load().of("correct")
    drawn = names.index(DRAWN[name]) if not small else 0
    rows, picture = [], {}
    for instance in instances:
        part, with_odd, whole = (effects[one.ids] for one in instance.forget_sets)
        correct = {"A(D)": full, "A(D\\S)": full - part.replicates, "A(D\\S_full)": full - whole.replicates}
        rows.append(row(instance, correct, full - with_odd.replicates, infl.judge(part)))
        if instance.concept == drawn:
            of_parts = {"circles": list(instance.circles), "star": instance.star, "odd star": instance.odd}
            picture = {
                "concept": instance.name,
                **{part: as_text(ids) for part, ids in of_parts.items()},
                **{key: as_text(of.sum(axis=0)) for key, of in correct.items()},
            }
    return {
        "n_train": dataset.n_train,
        "n_held_out": dataset.n_held_out,
        "labels": list(dataset.class_names),
        "seeds": n_seeds,
        "models": N_PILOT + n_seeds * (1 + len(distinct)),
        "model_seconds": training_seconds(run),
        "wall_seconds": time.perf_counter() - start,
        "accuracy": {
            "trained": full[:, : dataset.n_train].mean(),
            "held-out": full[:, dataset.n_train :].mean(),
        },
        "instances": rows,
        "picture": picture,
    }


def row(
    instance: Instance, correct: dict[str, np.ndarray], without_odd: np.ndarray, verdict: infl.Verdict
) -> dict[str, Any]:
    """P[correct] of each part under each model, with standard errors over seeds.

    The odd star has an S of its own, the circles and itself; all else is measured without circles and memorized star.
    """
    columns = {
        "circles": list(instance.circles),
        "star": [instance.star],
        "odd star": [instance.odd],
        "held-out": list(instance.held_out),
    }
    probabilities = {
        part: {model: quantity(of[:, ids].mean(axis=1)) for model, of in correct.items()}
        for part, ids in columns.items()
    }
    probabilities["odd star"]["A(D\\S)"] = quantity(without_odd[:, instance.odd])
    return {
        "concept": instance.name,
        "n_circles": len(instance.circles),
        "n_covered": instance.n_covered,
        "star": instance.star,
        "odd star": instance.odd,
        "oddness": instance.oddness,
        "memorization": instance.memorization,
        "n_full": len(instance.whole),
        "n_held_out": len(instance.held_out),
        "probability": probabilities,
        "circles_kept_by_most": {
            model: int((of[:, columns["circles"]].mean(axis=0) > HIGH).sum()) for model, of in correct.items()
        },
        "untraining_S": verdict_row(verdict),
    }


def quantity(by_seed: np.ndarray) -> list[float | None]:
    """Mean and its standard error over seeds; one success and one failure added, so that no error is 0."""
    n = len(by_seed)
    if np.ptp(by_seed) == 0:
        return [float(by_seed[0]), float(np.sqrt((n + 1) / (n + 2) ** 2 / (n + 2)))]
    return mean_and_error(by_seed)


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the concepts with standard errors over concepts, and how many stars and circles are kept."""
    summary: dict[str, Any] = {"concepts": len(rows)}
    for part in PARTS:
        for model in MODELS:
            summary[f"{part}, {model}"] = mean_and_error([one["probability"][part][model][0] for one in rows])
    for model in MODELS:
        stars, odd = ([one["probability"][k][model][0] > HIGH for one in rows] for k in ("star", "odd star"))
        circles = sum(one["circles_kept_by_most"][model] for one in rows), sum(one["n_circles"] for one in rows)
        summary[f"kept by most, {model}"] = {
            "circles": list(circles),
            "stars": [sum(stars), len(stars)],
            "odd stars": [sum(odd), len(odd)],
        }
    return summary


def as_text(numbers: Any) -> str:
    """Whole numbers on one line."""
    return " ".join(str(int(number)) for number in np.atleast_1d(numbers))


if __name__ == "__main__":
    main()

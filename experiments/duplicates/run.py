"""Do duplicates hide influence? Scores of single examples and effects of sets, by the number of copies.

    python experiments/duplicates/run.py --work FOLDER     # about ten minutes on two cores; models are kept in FOLDER
    python experiments/duplicates/run.py --small           # seconds
    python experiments/readme.py duplicates            # results.json becomes README.md and duplicates.png

A model lacks an example's teaching only where it lacks all c copies. Of the models that go without one copy, a share of
(1-r)^(c-1) go without the others too, so the memorization score of each copy should be that share of what removing all
copies does. Question: is it, does the set's effect stay, and which predictor of the set's effect knows? In 1,000 digits and
600 Fashion-MNIST images copies of ordinary, atypical and flipped examples are planted (planting.py); scores are from
uniform subsets of 50% and 70%, predictions from as many models of infl's own design, the truth from retraining without
each set.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from planting import COPIES, KINDS, Planted, plant
from record import argument_parser, mean_and_error, training_seconds, verdict_row, work_folder, write_results

import infl

FRACTIONS = (0.5, 0.7)
PREDICTORS = ("additive", "additive-shrunk", "support", "surrogate", "combined")
SGD = {"batch_size": 50, "learning_rate": 0.05}
WORLDS: dict[str, dict[str, Any]] = {
    "digits": {
        "source": "digits",
        "size": (1000, 797),
        "algorithm": {"hidden": (256,), "epochs": 30, **SGD},
        "n_each": 4,
        "seeds": 48,
    },
    "fashion": {
        "source": "idx:/usr/share/datasets/fashion-mnist",  # Debian's dataset-fashion-mnist
        "size": (600, 600),
        "algorithm": {"hidden": (32,), "epochs": 15, "schedule": "cosine", **SGD},
        "n_each": 3,
        "seeds": 32,
    },
}
SMALL = {"size": (200, 150), "algorithm": {"hidden": (32,), "epochs": 10, **SGD}, "n_each": 1, "seeds": 6}
MODELS = 400


def main() -> None:
    """Train, predict, retrain, and write results.json."""
    parser = argument_parser(__doc__, __file__, small="few models of few digits, one predictor")
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS), help="these data sets alone")
    options = parser.parse_args()
    worlds = (
        {"digits": {**WORLDS["digits"], **SMALL}} if options.small else {name: WORLDS[name] for name in options.worlds}
    )
    predictors = ("additive",) if options.small else PREDICTORS
    n_models, fractions = (40, FRACTIONS[1:]) if options.small else (MODELS, FRACTIONS)
    with work_folder(options) as work:
        measured = {
            name: measure(world, work / name, n_models=n_models, predictors=predictors, fractions=fractions)
            for name, world in worlds.items()
        }
    summary = {name: summarize(world["sets"]) for name, world in measured.items()}
    write_results(options.out, {"summary": summary, "worlds": measured}, "scikit-learn")


def measure(
    world: dict[str, Any], folder: Path, *, n_models: int, predictors: tuple[str, ...], fractions: tuple[float, ...]
) -> dict[str, Any]:
    """Scores, predictions and truth of every planted set."""
    n_train, n_held_out = world["size"]
    dataset, planted = plant(infl.load(world["source"], n_train=n_train, n_held_out=n_held_out), world["n_each"])
    sets, start = [one.forget_set for one in planted], time.perf_counter()
    settings: dict[str, Any] = {
        "n_models": n_models,
        "n_references": world["seeds"],
        "algorithm": infl.Algorithm(**world["algorithm"]),
    }
    grouped = infl.train(dataset, run=folder / "grouped", **settings)
    uniform = {
        r: infl.train(dataset, run=folder / f"uniform-{r}", design=infl.Design("balanced", r), **settings)
        for r in fractions
    }
    truth = [infl.judge(one) for one in infl.verify_effects(grouped, sets, n_models=world["seeds"], stop=None)]
    # Sums of single influences are for uniform models: they get as many of them.
    sources = {name: uniform[0.7] if name == "additive" else grouped for name in predictors}
    predicted = {
        name: infl.predict(run, sets, predictor=name)  # pyright: ignore[reportArgumentType]
        for name, run in sources.items()
    }
    memorization = {r: infl.memorization(run.outcomes("design")) for r, run in uniform.items()}
    of_d = grouped.outcomes("full", range(world["seeds"])).load().of("correct")
    rows = []
    for k, (one, verdict) in enumerate(zip(planted, truth, strict=True)):
        rows.append(
            {
                "kind": one.kind,
                "copies": one.copies,
                "example": one.forget_set.ids[0],
                "learned": of_d[:, list(one.forget_set.ids)].mean(),
                "measured": verdict_row(verdict),
                "predicted": {name: verdict_row(verdicts[k]) for name, verdicts in predicted.items()},
                "scores": {str(r): mean_score(memorization[r], one) for r in fractions},
            }
        )
    runs = [infl.open_run(run.folder) for run in (grouped, *uniform.values())]  # with what verification has added
    return {
        "n_train": dataset.n_train,
        "n_before": n_train,
        "n_held_out": dataset.n_held_out,
        "seeds": world["seeds"],
        "models_scored": n_models,
        "models": sum(len(run.complete(name)) for run in runs for name in run.collections()),
        "model_seconds": sum(map(training_seconds, runs)),
        "wall_seconds": time.perf_counter() - start,
        "sets": rows,
    }


def mean_score(memorization: infl.Estimate, one: Planted) -> list[float]:
    """Mean memorization of the copies; its error takes them as fully dependent, which copies nearly are."""
    ids = list(one.forget_set.ids)
    return [memorization.value[ids].mean(), memorization.se[ids].mean()]


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By kind and copies: means with errors over the examples; errors of predictors over all sets."""
    cells = {}
    for kind in KINDS:
        for copies in COPIES:
            some = [one for one in rows if one["kind"] == kind and one["copies"] == copies]
            cells[f"{kind}, {copies}"] = cell(some, copies)
    names = rows[0]["predicted"]
    errors = {name: [one["predicted"][name]["self"][0] - one["measured"]["self"][0] for one in rows] for name in names}
    errors["sum of scores"] = [one["copies"] * one["scores"]["0.7"][0] - one["measured"]["self"][0] for one in rows]
    redundant = [one["copies"] > 1 and one["kind"] != "ordinary" for one in rows]
    return {
        "cells": cells,
        "error_of_self": {name: mean_errors(np.array(of)) for name, of in errors.items()},
        "error_of_self_of_redundant": {name: mean_errors(np.array(of)[redundant]) for name, of in errors.items()},
        "regimes_right": {name: regimes_right(rows, name) for name in names},
    }


def cell(some: list[dict[str, Any]], copies: int) -> dict[str, Any]:
    """Means over the sets of one kind and number of copies."""
    measured = [one["measured"]["self"][0] for one in some]
    result: dict[str, Any] = {
        "sets": len(some),
        "learned": mean_and_error([one["learned"] for one in some]),
        "self": mean_and_error(measured),
        "cross": mean_and_error([one["measured"]["cross"][0] for one in some]),
        "regimes": count([one["measured"]["regime"] for one in some]),
    }
    for r in map(float, some[0]["scores"]):
        result[f"score at {r}"] = mean_and_error([one["scores"][str(r)][0] for one in some])
        result[f"law at {r}"] = mean_and_error([(1 - r) ** (copies - 1) * value for value in measured])
    for name in some[0]["predicted"]:
        result[name] = mean_and_error([one["predicted"][name]["self"][0] for one in some])
    result["sum of scores"] = mean_and_error([copies * one["scores"]["0.7"][0] for one in some])
    return result


def mean_errors(errors: np.ndarray) -> dict[str, list[float | None]]:
    """Mean error and mean absolute error of predicted self(S), with standard errors over the sets."""
    return {"mean": mean_and_error(errors), "mean absolute": mean_and_error(np.abs(errors))}


def regimes_right(rows: list[dict[str, Any]], name: str) -> dict[str, int]:
    """Of the sets that retraining decides: called right, wrong, or left undetermined."""
    pairs = [(one["predicted"][name]["regime"], one["measured"]["regime"]) for one in rows]
    decided = [pair for pair in pairs if pair[1] != "undetermined"]
    undetermined = sum(said == "undetermined" for said, _ in decided)
    right = sum(said == is_so for said, is_so in decided)
    return {
        "decided": len(decided),
        "right": right,
        "undetermined": undetermined,
        "wrong": len(decided) - right - undetermined,
    }


def count(words: list[str]) -> dict[str, int]:
    """How often each comes."""
    return {word: words.count(word) for word in sorted(set(words))}


if __name__ == "__main__":
    main()

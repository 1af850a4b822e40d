"""Which regime do forget sets of documents land in, and what is predicted of it without retraining?

    python experiments/text_regimes/run.py --work FOLDER   # three hours on two shared cores; resumable
    python experiments/text_regimes/run.py --small         # under a minute

For every world of worlds.py: a run of grouped and uniform models of small GPTs on verses; over 40 forget sets of every kind;
their truth by retraining, 16 paired seeds and up to 32 where these do not decide; and what each predictor says from the models
of the run. The world named development is what the predictor for text was chosen on, and is no part of the summary.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.append(str(Path(__file__).parents[1] / "regimes"))
import numpy as np
from record import argument_parser, mean_and_error, training_seconds, work_folder, write_results
from scoring import score_verdicts  # pyright: ignore[reportMissingImports]
from worlds import WORLDS, World, make_algorithm, make_dataset, make_sets

import infl
from infl.data.embedded import load_verses
from infl.records import Effects, ForgetSet
from infl.store import Run

N_MODELS, N_REFERENCES = 256, 32
PREDICTORS = ("surrogate", "combined", "support", "additive-shrunk", "additive")


def main() -> None:
    """Run what is missing and write results.json."""
    parser = argument_parser(__doc__, __file__, small="one little world")
    parser.add_argument("--worlds", nargs="*", default=list(WORLDS))
    options = parser.parse_args()
    little = replace(WORLDS["development"], name="little", chapters=("Numbers 7", "Job 41"), epochs=3, seeds=(4, 4))
    worlds = [little] if options.small else [WORLDS[name] for name in options.worlds]
    parts = {}
    with work_folder(options) as work:
        for world in worlds:
            run, sets = train_world(world, work, small=options.small)
            first, n_models = world.seeds
            measured = list(infl.verify_effects(run, sets, n_models=n_models, first=first, stop=0.9))
            parts[world.name] = {**describe(run, measured), **compare(run, sets, measured)}
    summary = {
        name: {world: part["predictors"][name]["summary"] for world, part in parts.items()} for name in PREDICTORS
    }
    write_results(options.out, {"summary": summary, "worlds": parts, "small": options.small}, "scikit-learn")


def train_world(world: World, work: Path, *, small: bool = False) -> tuple[Run, list[ForgetSet]]:
    """The run of models of subsets and of D, and its sets."""
    dataset = make_dataset(world)
    n_models, n_of_d = (24, 4) if small else (N_MODELS, N_REFERENCES)
    start = str(pretrain(world, work / "start")) if world.pretrained else None
    algorithm = make_algorithm(world, start)
    run = infl.train(dataset, run=work / world.name, n_models=n_models, n_references=n_of_d, algorithm=algorithm)
    path = work / world.name / "sets.json"
    if not path.exists():
        infl.forget_sets.write_forget_sets(path, make_sets(dataset, infl.memorization(run)))
    return run, infl.forget_sets.read_forget_sets(path, n_train=dataset.n_train)


def pretrain(world: World, folder: Path) -> Path:
    """Weights of a model of the training verses of all chapters but the world's."""
    others = [name for name in load_verses().class_names if name not in world.chapters]
    algorithm = make_algorithm(replace(world, pretrained=False, epochs=8), None)
    infl.train(load_verses(others), run=folder, n_models=1, n_references=1, algorithm=algorithm)
    infl.keep_weights(folder)
    return folder / "weights/full/0.safetensors"


def describe(run: Run, measured: list[Effects]) -> dict[str, Any]:
    """What the world is, and what its models know."""
    dataset, subsets, full = run.dataset(), run.outcomes("design").load(), run.outcomes("full").load()
    n, known = dataset.n_train, subsets.of("correct")[:, : dataset.n_train]
    return {
        "n_train": n,
        "n_held_out": dataset.n_held_out,
        "chapters": len(dataset.class_names),
        "models": len(run.complete("design")) + len(run.complete("grouped")),
        "seconds_per_model": training_seconds(run) / sum(len(run.complete(name)) for name in run.collections()),
        "accuracy": {
            "trained": mean_and_error(full.of("correct")[:, :n].mean(axis=1)),
            "left out": mean_and_error([row[~mask].mean() for row, mask in zip(known, subsets.masks, strict=True)]),
            "held out": mean_and_error(full.of("correct")[:, n:].mean(axis=1)),
        },
        "memorization": float(np.nanmean(infl.memorization(subsets).value)),
        "seeds": float(np.mean([one.n_models for one in measured])),
    }


def compare(run: Run, sets: list[ForgetSet], measured: list[Effects]) -> dict[str, Any]:
    """Every predictor against the truth, set by set."""
    truth = [infl.judge(one) for one in measured]
    result: dict[str, Any] = {"predictors": {}}
    for name in PREDICTORS:
        predicted = infl.predict(run, sets, predictor=name, quiet=True)
        found = score_verdicts(list(zip(predicted, truth, strict=True)), each=name in ("surrogate", "additive"))
        result["predictors"][name] = found
        print(run.place, name, found["summary"], flush=True)
    return result


if __name__ == "__main__":
    main()

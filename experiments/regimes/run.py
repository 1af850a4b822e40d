"""Which regime does a forget set land in, what do predictors say of it, and at what cost?

    python experiments/regimes/run.py --work FOLDER   # hours on two cores; resumable
    python experiments/regimes/run.py --small         # under a minute

For every world of worlds.py: a run of grouped and uniform models; 70 to 180 forget sets of every generator; their truth by
retraining with 16 to 64 seeds, by margins; and what the predictor and sums say of them, by net and by harm. Sets and outcomes
stay in FOLDER (outside git); results.json holds what scoring.py makes of them. The worlds named development were what
predictors were chosen on, and are not part of the summary.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from dose import choose_concepts, measure_dose
from record import argument_parser, cached, stamp, surroundings, training_seconds, work_folder, write_json
from scoring import COLUMNS, compare_criteria, score, summarize
from worlds import WORLDS, World, make_dataset, stored_sets

import infl
from infl.records import Effects, ForgetSet
from infl.store import Run
from infl.untraining.additive import predict_additive
from infl.untraining.effects import MAX_REFERENCES, fit_predictor

USUAL = 512
CURVE = (128, 256, 1024, 2048)
CLOSER = ("digits-fitting", "fashion-early")  # worlds of all numbers of models, dose and discovery


def main() -> None:
    """Run what is missing and write results.json."""
    parser = argument_parser(__doc__, __file__, small="one little world")
    reported = [name for name, world in WORLDS.items() if not world.development]
    parser.add_argument("--worlds", nargs="*", default=reported, help="only these; others stay in the results")
    parser.add_argument("--stage", choices=["truth", "predict", "dose", "collect"], help="only this stage")
    options = parser.parse_args()
    worlds = [small_world()] if options.small else [WORLDS[name] for name in options.worlds]
    with work_folder(options) as work:
        parts = {}
        for world in worlds:
            folder = work / world.name
            if options.stage in (None, "truth"):
                measure(world, folder, small=options.small)
            if options.stage in (None, "predict"):
                plans = [(name, 64 if options.small else USUAL) for name in ("combined", "additive")]
                plans += [("combined", n) for n in CURVE] if world.name in CLOSER else []
                measured = truth(folder)
                cached(folder / "predicted" / "criteria.json", lambda given=measured: compare_criteria(given))
                for predictor, n_models in plans:
                    predict(folder, measured, predictor, n_models)
            if options.stage in (None, "dose") and (options.small or world.name in CLOSER):
                remove_shares(world, folder, small=options.small)
            files = sorted(folder.glob("predicted/*.json"))
            parts[world.name] = {"cost": cost(folder), **{file.stem: json.loads(file.read_text()) for file in files}}
    if options.stage in (None, "collect"):
        results = json.loads(options.out.read_text()) if options.out.exists() else {}  # with parts of other scripts
        now = surroundings("scikit-learn")
        known = results.get("worlds", {}) | stamp(parts, now)
        found = {"summary": summarize(known), "columns": COLUMNS, "worlds": known}
        write_json(options.out, results | found | now)


def small_world() -> World:
    """A world that takes seconds."""
    return replace(WORLDS["digits-early"], name="small", n_train=300, n_held_out=200, share=0.1)


def measure(world: World, folder: Path, *, small: bool) -> None:
    """Train the run, make its sets, and retrain without each."""
    run, sets = train_world(world, folder, small=small)
    for _ in infl.verify_effects(run, sets, n_models=16 if small else world.seeds, stop=None):
        pass  # outcomes stay in the folder


def train_world(world: World, folder: Path, *, small: bool) -> tuple[Run, list[ForgetSet]]:
    """The run of models of subsets and of D, and its sets."""
    dataset, planted = make_dataset(world)
    n_models, n_of_d = (64, 16) if small else (max(CURVE) if world.name in CLOSER else USUAL, MAX_REFERENCES)
    run = infl.train(
        dataset, run=folder, n_models=n_models, n_references=n_of_d, algorithm=infl.Algorithm(**world.algorithm)
    )
    return run, stored_sets(world, dataset, planted, run)


def truth(folder: Path, *, min_seeds: int = 16) -> list[Effects]:
    """Measured effects of all sets that have been retrained without."""
    from infl.store import leave_out_name
    from infl.untraining.verification import measure_effects

    run = infl.open_run(folder)
    sets = infl.forget_sets.read_forget_sets(folder / "sets.json", n_train=run.dataset().n_train)
    measured = []
    for one in sets:
        collection = leave_out_name(one.ids)
        models = range(len(run.complete(collection)))
        if len(models) >= min_seeds:
            full, without = run.outcomes("full", models).load(), run.outcomes(collection, models).load()
            measured.append(measure_effects(one, full=full, without=without))
    return measured


def predict(folder: Path, measured: list[Effects], predictor: str, n_models: int) -> None:
    """Keep what a predictor is worth with so many models, where the run holds them."""
    run = infl.open_run(folder)
    if n_models <= 2 * len(run.complete("grouped")):
        path = folder / "predicted" / f"{predictor}-{n_models}.json"
        found = cached(path, lambda: compare(run, measured, predictor, n_models))
        print(path, found["by harm"], found.get("harm"), flush=True)


def compare(run: Run, measured: list[Effects], predictor: str, n_models: int) -> dict[str, Any]:
    """Predict all sets from so many models, half of them grouped, and score against the truth."""
    reference, start = run.outcomes("full").load(), time.perf_counter()
    sets = [one.forget_set for one in measured]
    if predictor == "additive":
        uniform = run.outcomes("design", range(n_models)).load()  # sums are for uniform models
        predicted = [predict_additive(one, design=uniform, reference=reference) for one in sets]
        seconds = time.perf_counter() - start
    else:
        fitted = fit(run, predictor, n_models)
        seconds = time.perf_counter() - start
        predicted = list(fitted(sets))
    whole = time.perf_counter() - start
    usual = predictor == "combined" and n_models in (USUAL, 64)
    return {"fit_seconds": seconds, "seconds": whole, **score(predicted, measured, each=usual)}


def fit(
    run: Run, predictor: str, n_models: int | None = None, n_references: int | None = None, proxy: Any = None
) -> Any:
    """A predictor from so many models of the run, half of them grouped, and so many of D; from all where None."""
    dataset, models = run.dataset(), None if n_models is None else range(n_models // 2)
    return fit_predictor(
        predictor,  # pyright: ignore[reportArgumentType]
        sources=[run.outcomes(name, models).load() for name in ("design", "grouped")],
        reference=run.outcomes("full", None if n_references is None else range(n_references)).load(),
        images=dataset.images,
        labels=dataset.labels,
        n_classes=dataset.n_classes,
        n_tokens=len(dataset.vocabulary),
        proxy=proxy,
    )


def remove_shares(world: World, folder: Path, *, small: bool) -> None:
    """Dose and discovery; see dose.py."""
    run = infl.open_run(folder)
    sets = infl.forget_sets.read_forget_sets(folder / "sets.json", n_train=run.dataset().n_train)
    concepts = choose_concepts(sets, n_each=1 if small else 2)
    n_models, n_seeds = (64, 16) if small else (USUAL, world.seeds)

    def rows() -> dict[str, Any]:
        return {"rows": measure_dose(run, concepts, fit(run, "combined", n_models), n_seeds=n_seeds)}

    cached(folder / "predicted" / "dose.json", rows)


def cost(folder: Path) -> dict[str, Any]:
    """Models and wall-clock seconds of the run and of the truth, and from how many sets the run is cheaper."""
    run = infl.open_run(folder)
    without = [name for name in run.collections() if name.startswith("without-")]
    retrained = sum(len(run.complete(name)) for name in without)
    seconds = training_seconds(run, without)
    per_model = seconds / max(retrained, 1)
    return {
        "models_of_d": len(run.complete("full")),
        "sets": len(without),
        "models_retrained": retrained,
        "models_retrained_per_set": retrained / max(len(without), 1),
        "seconds_per_model": per_model,
        "sets_from_which_the_run_has_fewer_models": USUAL / max(retrained / max(len(without), 1), 1),
    }


if __name__ == "__main__":
    main()

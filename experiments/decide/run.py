"""How many forget sets does a budget of retrainings decide, with prediction first and by verification alone?

    python experiments/decide/run.py --work FOLDER   # ten minutes on two cores; resumable
    python experiments/decide/run.py --small         # under a minute

One of the worlds of experiments/regimes, its forget sets of every generator, 512 models. `infl.decide` and
verification alone may spend seeds 0 to 63 of each set; seeds 64 to 127 are the truth that both are compared with.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "regimes"))
from record import argument_parser, verdict_row, work_folder, write_results
from scoring import DECIDED, best  # pyright: ignore[reportMissingImports]
from worlds import WORLDS, World, make_dataset, stored_sets  # pyright: ignore[reportMissingImports]

import infl
from infl.records import ForgetSet, Verdict
from infl.store import Run, leave_out_name
from infl.untraining.verification import measure_effects

N_MODELS, N_REFERENCES, N_SEEDS, FIRST, STOP = 512, 128, 64, 8, 0.95
BUDGETS = (0, 250, 500, 1000, 1500, 3000)
REPORTED = ("digits-early",)


def main() -> None:
    """Train what is missing, replay both ways of spending, and write results.json."""
    options = argument_parser(__doc__, __file__, small="one little world, 8 seeds").parse_args()
    found = {}
    with work_folder(options) as work:
        for name in ("digits-early",) if options.small else REPORTED:
            world = WORLDS[name]
            if options.small:
                world = replace(world, n_train=200, n_held_out=100, share=0.02)
            found[name] = measure(world, work / name, small=options.small)
            print(name, found[name]["budgets"], flush=True)
    summary = {
        name: {budget: row["with prediction"] for budget, row in one["budgets"].items()} for name, one in found.items()
    }
    write_results(
        options.out, {"summary": summary, "worlds": found, "n_models": N_MODELS, "n_seeds": N_SEEDS}, "scikit-learn"
    )


def measure(world: World, folder: Path, *, small: bool) -> dict[str, Any]:
    """Both ways at every budget, against the truth."""
    n_seeds, first = (8, 4) if small else (N_SEEDS, FIRST)
    run, sets = train(world, folder, n_seeds=n_seeds, small=small)
    truth = {one.ids: true_verdict(run, one, n_seeds) for one in sets}
    budgets = {}
    for budget in (0, 40) if small else BUDGETS:
        given: Any = {"budget": budget, "n_models": n_seeds, "stop": STOP, "first": first, "quiet": True}
        predicted, measured = infl.decide(run, sets, **given)
        last = {one.forget_set.ids: one for one in (*predicted, *measured)}
        alone = infl.verify(run, sets, **given)
        budgets[str(budget)] = {
            "with prediction": outcome(list(last.values()), measured, truth),
            "verification alone": outcome(alone, alone, truth),
        }
    return {"n_sets": len(sets), "budgets": budgets, "truth": [verdict_row(one) for one in truth.values()]}


def train(world: World, folder: Path, *, n_seeds: int, small: bool) -> tuple[Run, list[ForgetSet]]:
    """The run, with models without each set for both ways and for the truth."""
    dataset, planted = make_dataset(world)
    n_models, n_references = (48, 2 * n_seeds) if small else (N_MODELS, N_REFERENCES)
    algorithm = infl.Algorithm(**world.algorithm)
    run = infl.train(
        dataset, run=folder, n_models=n_models, n_references=n_references, algorithm=algorithm, quiet=small
    )
    sets = stored_sets(world, dataset, planted, run)[: 8 if small else None]
    for _ in infl.verify_effects(run, sets, n_models=2 * n_seeds, stop=None, quiet=small):
        pass  # outcomes stay in the folder
    return infl.open_run(folder), sets


def true_verdict(run: Run, forget_set: ForgetSet, n_seeds: int) -> Verdict:
    """By the seeds that neither way may look at."""
    seeds = range(n_seeds, 2 * n_seeds)
    full, without = (run.outcomes(name, seeds).load() for name in ("full", leave_out_name(forget_set.ids)))
    return infl.judge(measure_effects(forget_set, full=full, without=without))


def outcome(named: list[Verdict], measured: list[Verdict], truth: dict[Any, Verdict]) -> dict[str, Any]:
    """Share of all sets that are decided, and of those whose truth is known the share that is wrong."""
    decided = [one for one in named if one.regime != "undetermined"]
    known = [
        (one, other) for one in decided if max((other := truth[one.forget_set.ids]).probability.values()) >= DECIDED
    ]
    return {
        "decided": len(decided) / len(truth),
        "wrong": sum(one.regime != best(other) for one, other in known) / max(len(known), 1),
        "known": len(known),
        "models": sum(one.n_models for one in measured),
        "measured": len(measured),
    }


if __name__ == "__main__":
    main()

"""What would predictors say now, of sets whose truth stands in results.json?

    python experiments/regimes/again.py --work DIR --worlds fashion-fitting fashion-flipped fashion-10000

Trains the models that predictions rest on, and takes self and cross, measured, from the rows of results.json. It retrains
without sets that were chosen by memorization, whose scores may rank examples in another order by now, and without a few
others: where these do not come out as they stand there, to the last digit, it stops. What needs effects of single examples
(their correlation and intervals) is kept from results.json, and is right only where predicted effects did not change.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from run import USUAL, fit, train_world
from scoring import score_verdicts
from worlds import WORLDS

import infl
from infl.records import REGIMES, ForgetSet, Quantity, Thresholds, Verdict
from infl.untraining.regimes import judge

PREDICTOR = f"combined-{USUAL}"
N_CONTROLS = 6


def main() -> None:
    """Predict anew, and write to the folder that `run.py --stage collect` reads."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--worlds", nargs="+", required=True)
    parser.add_argument("--truth", type=Path, default=Path(__file__).parent / "results.json")
    options = parser.parse_args()
    kept = json.loads(options.truth.read_text())["worlds"]
    for name in options.worlds:
        parts = kept[name]
        folder = options.work / name / "predicted"
        again = predict_again(name, options.work / name, parts[PREDICTOR])
        folder.mkdir(exist_ok=True)
        for file, part in ((PREDICTOR, again), (f"additive-{USUAL}", parts[f"additive-{USUAL}"])):
            (folder / f"{file}.json").write_text(json.dumps(part))
        (folder.parent / "cost.json").write_text(json.dumps(parts["cost"]))
        print(name, json.dumps(again["summary"]), again["truth"], flush=True)


def predict_again(name: str, folder: Path, before: dict[str, Any]) -> dict[str, Any]:
    """The part of a world in results.json, with predictions of today."""
    world = WORLDS[name]
    run, sets = train_world(world, folder, small=False)
    rows = {row["set"]: row for row in before["each"]}
    changed = [one for one in sets if "memor" in one.name]
    same = [one for one in sets if one not in changed and one.name in rows]
    if missing := {name for name in rows if "memor" not in name} - {one.name for one in same}:
        raise SystemExit(f"{name}: results.json is of other sets than those of {folder}: {sorted(missing)[:3]}")
    controls = same[:: max(len(same) // N_CONTROLS, 1)]
    measured = {one.name: measured_before(one, rows[one.name]) for one in same}
    first, n_models = world.seeds
    for effects in infl.verify_effects(run, [*controls, *changed], n_models=n_models, first=first, stop=0.95):
        verdict = judge(effects)
        if effects.forget_set in controls and difference(verdict, measured[effects.forget_set.name]) > 1e-4:
            raise SystemExit(f"{name}, {effects.forget_set.name}: measured otherwise than in results.json")
        measured[effects.forget_set.name] = verdict
    start = time.perf_counter()
    fitted = fit(run, "combined", USUAL)
    seconds = time.perf_counter() - start
    pairs = [(judge(one), measured[one.forget_set.name]) for one in fitted([*same, *changed])]
    result = score_verdicts(pairs, each=True)
    result["summary"] = before["summary"] | result["summary"]
    truth = {"sets_from_before": len(same) - len(controls), "controls": len(controls), "measured_anew": len(changed)}
    return {"fit_seconds": seconds, "seconds": time.perf_counter() - start, **result, "truth": truth}


def difference(one: Verdict, other: Verdict) -> float:
    """Of self and cross, the larger."""
    return max(
        abs(one.self_influence.value - other.self_influence.value),
        abs(one.cross_influence.value - other.cross_influence.value),
    )


def measured_before(forget_set: ForgetSet, row: dict[str, Any]) -> Verdict:
    """The measured verdict of a row; what of its probability is not the regime's is shared by the others."""
    best, probability = row["regimes"][1], row["probabilities"][1]
    rest = (1 - probability) / (len(REGIMES) - 1)
    own, own_se, cross, cross_se = row["measured"]
    nothing = Quantity(float("nan"), float("nan"))
    return Verdict(
        forget_set=forget_set,
        regime=best,
        probability={regime: probability if regime == best else rest for regime in REGIMES},
        self_influence=Quantity(own, own_se),
        cross_influence=Quantity(cross, cross_se),
        harm=nothing,
        gain=nothing,
        thresholds=Thresholds(),
        source="retrained",
        n_models=row["seeds"],
    )


if __name__ == "__main__":
    main()

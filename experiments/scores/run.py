"""Can scores be trusted, and what do they cost? Coverage, false discoveries, models saved, planning, and the classic scale.

    python experiments/scores/run.py --work FOLDER      # about an hour on two cores; models are kept in FOLDER
    python experiments/scores/run.py --stage coverage   # one part, into the same results.json
    python experiments/scores/run.py --small            # under a minute

Models: 12,288 of balanced subsets of 70%, of 1,000 digits (MLP 64-256-10, 30 epochs) and of 2,000 Fashion-MNIST images (MLP
784-128-10, 8 epochs). Scores are made from the first 4,096 or parts of them; the other 8,192 say what they should have been.
`estimators.py` beside it judges designs and estimators, with results of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import classic_scale
import coverage
import discoveries
import models_saved
import plan
from record import surroundings, write_results

STAGES: dict[str, Callable[..., Any]] = {
    "coverage": coverage.measure,
    "discoveries": discoveries.measure,
    "models_saved": models_saved.measure,
    "plan": lambda *, small, work: _measure_plan(small=small),
    "classic_scale": lambda *, small, work: classic_scale.measure(small=small),
}


def _measure_plan(*, small: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as empty:  # times are those of runs that begin
        return plan.measure(small, Path(empty))


def main() -> None:
    """Run the stages and write or complete results.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few models of few digits")
    parser.add_argument("--stage", choices=[*STAGES, "all"], default="all")
    parser.add_argument("--work", type=Path, help="folder of the models; a temporary one by default")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    options = parser.parse_args()
    stages = list(STAGES) if options.stage == "all" else [options.stage]
    results = json.loads(options.out.read_text()) if options.out.exists() and options.stage != "all" else {}
    measured, commits = results.get("stages", {}), results.get("commits", {})
    with tempfile.TemporaryDirectory() as temporary:
        for stage in stages:
            measured[stage] = STAGES[stage](small=options.small, work=options.work or Path(temporary))
            now = surroundings()
            commits[stage] = {key: now[key] for key in ("commit", "date", "uncommitted_changes")}
    changed = any(of_stage["uncommitted_changes"] for of_stage in commits.values())
    content = {"summary": summarize(measured), "stages": measured, "commits": commits, **surroundings()}
    write_results(options.out, {**content, "uncommitted_changes": changed})


def summarize(measured: dict[str, Any]) -> dict[str, Any]:
    """The numbers that the page quotes, by stage."""
    summary: dict[str, Any] = {}
    if "coverage" in measured:
        keys = ("coverage", "coverage_of_disputed", "coverage_of_varied", "coverage_of_largest")
        summary["coverage"] = {
            f"{row['world']}, {row['score']}, {row['n_models']} models": [round(row[key], 3) for key in keys]
            for row in measured["coverage"]
        }
    if "discoveries" in measured:
        found = measured["discoveries"]
        summary["discoveries"] = {
            "repeats_with_any_of_shuffled": {
                r["world"]: [r["repeats_with_any"], r["repeats"]] for r in found["shuffled"]
            },
            "realised_rates": {str(row["q"]): round(row["realised"], 4) for row in found["simulated"]},
        }
    if "models_saved" in measured:
        summary["models_saved"] = {
            f"{r['world']}, {r['reading']}, {r['estimator']}, {r['n_models']} models": [
                round(r["rmse"], 5),
                round(r["average_precision"], 3),
            ]
            for r in measured["models_saved"]
        }
    if "plan" in measured:
        summary["plan"] = measured["plan"].get("summary", measured["plan"])
    if "classic_scale" in measured:
        keys = ("times_bare_product", "peak_gigabytes", "memorization_seconds", "influence_seconds")
        summary["classic_scale"] = {key: measured["classic_scale"][key] for key in keys}
    return summary


if __name__ == "__main__":
    main()

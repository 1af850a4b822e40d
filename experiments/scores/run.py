"""Can scores be trusted, and what do they cost? Coverage, false discoveries, models saved, planning, and the classic scale.

    python experiments/scores/run.py --work FOLDER      # about an hour on two cores; models are kept in FOLDER
    python experiments/scores/run.py --parts coverage   # some parts, into the same results.json
    python experiments/scores/run.py --small            # under a minute

Models: 12,288 of balanced subsets of 70%, of 1,000 digits (MLP 64-256-10, 30 epochs) and of 2,000 Fashion-MNIST images (MLP
784-128-10, 8 epochs). Scores are made from the first 4,096 or parts of them; the other 8,192 say what they should have been.
"""

from __future__ import annotations

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
from record import argument_parser, work_folder, write_part

PARTS: dict[str, Callable[..., Any]] = {
    "coverage": coverage.measure,
    "discoveries": discoveries.measure,
    "models_saved": models_saved.measure,
    "plan": lambda *, small, work: _measure_plan(small=small),
    "classic_scale": lambda *, small, work: classic_scale.measure(small=small),
}


def main() -> None:
    """Measure the parts that were asked for and write or complete results.json."""
    parser = argument_parser(__doc__, __file__, small="few models of few digits")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    options = parser.parse_args()
    with work_folder(options) as work:
        for part in options.parts:
            measured = PARTS[part](small=options.small, work=work)
            write_part(options.out, part, SUMMARIES[part](measured), measured, key="stages", small=options.small)


def _measure_plan(*, small: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as empty:  # times are those of runs that begin
        return plan.measure(small, Path(empty))


def _coverage(rows: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("coverage", "coverage_of_disputed", "coverage_of_varied", "coverage_of_largest")
    return {f"{row['world']}, {row['score']}, {row['n_models']} models": [row[key] for key in keys] for row in rows}


def _discoveries(found: dict[str, Any]) -> dict[str, Any]:
    return {
        "repeats_with_any_of_shuffled": {r["world"]: [r["repeats_with_any"], r["repeats"]] for r in found["shuffled"]},
        "realised_rates": {str(row["q"]): row["realised"] for row in found["simulated"]},
    }


def _models_saved(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        f"{r['world']}, {r['reading']}, {r['estimator']}, {r['n_models']} models": [r["rmse"], r["average_precision"]]
        for r in rows
    }


def _classic_scale(found: dict[str, Any]) -> dict[str, Any]:
    return {
        key: found[key] for key in ("times_bare_product", "peak_gigabytes", "memorization_seconds", "influence_seconds")
    }


SUMMARIES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "coverage": _coverage,
    "discoveries": _discoveries,
    "models_saved": _models_saved,
    "plan": lambda measured: measured["summary"],
    "classic_scale": _classic_scale,
}


if __name__ == "__main__":
    main()

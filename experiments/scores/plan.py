"""Does a plan keep its promise: the standard error that it plans for, in the time that it plans?

The stage `plan` of run.py: some ten minutes on two cores, and under half a minute with --small.

On each data set, three rounds of: plan for a root mean square standard error of memorization, train the number of models that
the plan says into a run of a seed of its own, and compare the error and the time with those planned. Both are taken one
after the other in the same round, beside whatever else the machine does; its load is noted. Then `infl.train` to the target
itself, with five times as many models as the limit. Designs are the default: half of the models uniform, which scores rest on.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from fashion import FASHION

import infl
from infl.pipeline.score import check_target

N_ROUNDS, N_REFERENCES = 3, 16


def measure(small: bool, work: Path) -> dict[str, Any]:
    """Rounds of both data sets and their summary; work: an empty folder for the runs."""
    if small:
        digits = infl.load("digits", n_train=200, n_held_out=100)
        return _collected(
            {"digits": _data_set(digits, infl.Algorithm(epochs=5, hidden=(32,)), 0.06, 1, work / "digits")}
        )
    # Errors are planned a little apart from each other, so that neither number is a special one.
    fashion = infl.Algorithm(hidden=(128,), epochs=8, schedule="cosine", learning_rate=0.05, batch_size=50)
    return _collected(
        {
            "digits": _data_set(infl.load("digits"), infl.Algorithm(), 0.012, N_ROUNDS, work / "digits"),
            "fashion": _data_set(
                infl.load(FASHION, n_train=2000, n_held_out=2000), fashion, 0.025, N_ROUNDS, work / "fashion"
            ),
        }
    )


def _data_set(dataset: Any, algorithm: Any, wanted: float, n_rounds: int, work: Path) -> dict[str, Any]:
    rounds = []
    for seed in range(n_rounds):
        load = os.getloadavg()[0]
        planned = infl.plan(dataset, standard_error=wanted, n_references=N_REFERENCES, algorithm=algorithm)
        mean, _ = planned.answers
        assert mean.n_models is not None
        assert mean.seconds is not None
        start = time.perf_counter()
        run = infl.train(
            dataset,
            run=work / f"round-{seed}",
            n_models=mean.n_models,
            n_references=N_REFERENCES,
            algorithm=algorithm,
            seed=seed + 1,  # the pilot is of seed 0
            quiet=True,
        )
        seconds = time.perf_counter() - start
        target = check_target(run, wanted)
        errors = infl.memorization(run.outcomes("design")).se
        row = {
            "n_pilot": planned.n_pilot,
            "n_models": mean.n_models,
            "n_models_at_worst": planned.n_models,
            "standard_error": {"planned": wanted, "reached": target.reached, "ratio": target.reached / wanted},
            "median_error": float(np.median(errors)),
            "seconds": {"planned": mean.seconds, "measured": seconds, "ratio": seconds / mean.seconds},
            "models_per_second_planned": planned.models_per_second,
            "bytes": {"planned": mean.n_bytes, "measured": _bytes(run.folder / "collections")},
            "load": [load, os.getloadavg()[0]],
        }
        print(json.dumps(row), flush=True)
        rounds.append(row)
    limit = 5 * rounds[0]["n_models"]
    run = infl.train(
        dataset,
        run=work / "target",
        n_models=limit,
        standard_error=wanted,
        n_references=N_REFERENCES,
        algorithm=algorithm,
        seed=n_rounds + 1,
        quiet=True,
    )
    target = check_target(run, wanted)
    trained = {
        "wanted": wanted,
        "reached": target.reached,
        "n_models": target.n_models,
        "limit": limit,
        "met": target.met,
    }
    return {"rounds": rounds, "to_a_target": trained}


def _collected(data_sets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    rows = [row for one in data_sets.values() for row in one["rounds"]]
    summary: dict[str, Any] = {
        "largest_departure_of_standard_error": max(abs(row["standard_error"]["ratio"] - 1) for row in rows),
        "largest_departure_of_median_time": max(
            abs(statistics.median(row["seconds"]["ratio"] for row in one["rounds"]) - 1) for one in data_sets.values()
        ),
        "targets_met": all(one["to_a_target"]["met"] for one in data_sets.values()),
    }
    for name, one in data_sets.items():
        summary[name] = {
            "models_planned": [row["n_models"] for row in one["rounds"]],
            "reached_over_planned_error": [row["standard_error"]["ratio"] for row in one["rounds"]],
            "measured_over_planned_time": [row["seconds"]["ratio"] for row in one["rounds"]],
            "models_at_worst": one["rounds"][0]["n_models_at_worst"],
            "target": one["to_a_target"],
        }
    return {"summary": summary, "data_sets": data_sets}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

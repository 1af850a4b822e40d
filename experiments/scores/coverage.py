"""Do 95% intervals of memorization and influence hold what a reference of 8,192 other models says?

Question: coverage overall, and among the examples and pairs with the largest effects. The reference has an error of its own, so
coverage is of the difference: |value - reference| <= sqrt(reach^2 + (1.96 se of the reference)^2), reach that of the interval
towards the reference. The largest are chosen by one half of the reference and compared with the other, since the largest of
many noisy values are too large.

Columns that nearly all models have right (or wrong) are covered nearly always, whatever the interval:
    share_never_missed      pairs whose outcomes agree in all models, of estimate and reference: both are 0, and any
                            interval that holds its own estimate holds the reference
    least_overall           coverage over all pairs, were those covered and all others at 95%
    coverage_of_disputed    where not all models of the estimate agree, which its user can see
    coverage_of_varied      of columns which 5 to 95% of the models have right
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from worlds import N_DATA, N_REFERENCE, SMALL, names, open_world

import infl
from infl.records import Array, Estimate

SIZES = (128, 512, 2048)
N_LARGEST = 1000


def measure(*, small: bool, work: Path) -> list[dict[str, Any]]:
    """One row for each data set, kind of score and number of models."""
    n_data, n_reference = (SMALL["data"], SMALL["reference"]) if small else (N_DATA, N_REFERENCE)
    rows = []
    for name in names(small=small):
        run = open_world(name, work, small=small)
        models = run.complete("design")
        halves = [models[n_data : n_data + n_reference // 2], models[n_data + n_reference // 2 : n_data + n_reference]]
        rate = _rates(run, halves[0] + halves[1])
        for kind in ("memorization", "left-out", "held-out"):
            reference = _scores(run, kind, halves[0] + halves[1])
            n_train = run.manifest["dataset"]["n_train"]
            of_kind = rate[n_train:] if kind == "held-out" else rate[:n_train]
            varied = np.broadcast_to((of_kind > 0.05) & (of_kind < 0.95), reference.value.shape)
            chooser, other = (_scores(run, kind, half) for half in halves)
            for n_models in (30,) if small else SIZES:
                # Disjoint parts of the data, so that one unlucky part does not tell the whole.
                parts = [models[k * n_models : (k + 1) * n_models] for k in range(min(4, n_data // n_models))]
                estimates = [_scores(run, kind, part) for part in parts]
                inside = np.mean([_covers(estimate, reference) for estimate in estimates])
                disputed = [_disputed(estimate) for estimate in estimates]
                of_disputed = np.mean(
                    [_covers(e, reference, np.flatnonzero(d)) for e, d in zip(estimates, disputed, strict=True)]
                )
                known = np.isfinite(reference.value)
                never = np.mean([(~d & ~_disputed(reference))[known].mean() for d in disputed])
                of_varied = np.mean([_covers(estimate, reference, np.flatnonzero(varied)) for estimate in estimates])
                largest = _largest(chooser.value, min(N_LARGEST, chooser.value.size // 20))
                of_largest = np.mean([_covers(estimate, other, largest) for estimate in estimates])
                row = {"world": name, "score": kind, "n_models": n_models, "repeats": len(parts)}
                row |= {"coverage": float(inside), "coverage_of_largest": float(of_largest), "n_largest": len(largest)}
                row |= {"coverage_of_varied": float(of_varied), "share_of_varied": float(varied.mean())}
                row |= {"coverage_of_disputed": float(of_disputed)}
                row |= {"share_of_disputed": float(np.mean([d[known].mean() for d in disputed]))}
                row |= {"share_never_missed": float(never), "least_overall": float(never + 0.95 * (1 - never))}
                row["least_of_largest"] = float(np.abs(chooser.value.ravel()[largest]).min())
                rows.append(row)
                print(row, flush=True)
    return rows


def _scores(run: infl.Run, kind: str, models: list[int]) -> Estimate:
    outcomes = run.outcomes("design", models)
    if kind == "memorization":
        return infl.memorization(outcomes)
    return infl.influence(outcomes, protocol="left-out" if kind == "left-out" else "held-out")


def _rates(run: infl.Run, models: list[int]) -> Array:
    return np.sum([block.of("correct").sum(axis=0) for block in run.outcomes("design", models).blocks()], axis=0) / len(
        models
    )


def _covers(estimate: Estimate, reference: Estimate, among: Array | None = None) -> float:
    value, truth = estimate.value, reference.value
    low, high = infl.interval(estimate)
    reach = np.where(truth < value, value - low, high - value)
    covered = np.abs(value - truth) <= np.sqrt(reach**2 + (1.959964 * reference.se) ** 2)
    known = np.isfinite(reach) & np.isfinite(reference.se)
    if among is not None:
        covered, known = covered.ravel()[among], known.ravel()[among]
    return float(covered[known].mean())


def _disputed(estimate: Estimate) -> Array:
    """Where the models do not all agree, with the source or without it."""
    assert estimate.mean_out is not None
    shares = estimate.mean_out, estimate.mean_out + estimate.value
    return ~np.logical_or.reduce([np.logical_and.reduce([abs(share - x) < 1e-9 for share in shares]) for x in (0, 1)])


def _largest(value: Array, n: int) -> Array:
    return np.argsort(-np.nan_to_num(np.abs(value)).ravel(), kind="stable")[:n]

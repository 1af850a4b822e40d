"""Turns the rounds of a task into medians, ratios taken within rounds, and whether all arms trained the same models."""

from __future__ import annotations

import math
import statistics
from typing import Any

from tasks import Task

MAX_STANDARD_ERRORS = 2.0
COSTS = ("cpu_seconds_per_model", "compile_seconds", "peak_megabytes")


def summarize_task(task: Task, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Per arm: models_per_second, its ratio to infl's and its share of sgemm, each as median, lowest and highest; costs."""
    arms: dict[str, Any] = {}
    names = sorted({name for measured in rounds for name in measured} - {"sgemm"})
    for name in names:
        arms[name] = _summarize_arm(task, name, rounds)
    return {
        "sgemm_gflop_per_second": _spread([measured["sgemm"]["gflop_per_second"] for measured in rounds]),
        "sgemm_by_library": {
            name: statistics.median(measured["sgemm"]["by_library"][name] for measured in rounds)
            for name in rounds[0]["sgemm"]["by_library"]
        },
        "steps_per_model": task.steps,
        "gflop_per_model": task.flop_per_model / 1e9,
        "arms": arms,
    }


def _summarize_arm(task: Task, name: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    both = [(measured[name], measured) for measured in rounds if "skipped" not in measured[name]]
    if not both:
        return {"skipped": rounds[0][name]["skipped"]}
    rates = [one["models_per_second"] for one, _ in both]
    gflop = [rate * task.flop_per_model / 1e9 for rate in rates]
    summary: dict[str, Any] = {
        "models_per_second": _spread(rates),
        "infl_over_this": _spread(
            [measured["infl"]["models_per_second"] / one["models_per_second"] for one, measured in both]
        ),
        "share_of_sgemm": _spread(
            [mine / measured["sgemm"]["gflop_per_second"] for mine, (_, measured) in zip(gflop, both, strict=True)]
        ),
        **{cost: statistics.median(one[cost] for one, _ in both) for cost in COSTS},
        "gate": _gate([one for one, _ in both], [measured["infl"] for measured in rounds], name),
    }
    if name == "infl":
        whole = [one["whole_models_per_second"] for one, _ in both]
        summary["whole_models_per_second"] = _spread(whole)
        summary["whole_over_torch"] = _spread(
            [
                mine / measured["torch"]["models_per_second"]
                for mine, (_, measured) in zip(whole, both, strict=True)
                if "models_per_second" in measured["torch"]
            ]
        )
    return summary


def _gate(arm: list[dict[str, Any]], infl: list[dict[str, Any]], name: str) -> dict[str, Any] | str:
    """Mean held-out accuracies of an arm and infl over the models of all rounds, and their difference in standard errors."""
    if any("held_out_accuracy" not in one for one in arm):
        return "only some steps of each model: no accuracy"
    mine, theirs = (_pooled([one["held_out_accuracy"] for one in some]) for some in (arm, infl))
    gate: dict[str, Any] = {"models": mine["models"], "held_out_accuracy": mine["mean"]}
    if name == "infl":
        return gate
    error = math.hypot(mine["error"], theirs["error"])
    gate["standard_errors_from_infl"] = (mine["mean"] - theirs["mean"]) / error if error > 0 else None
    gate["passed"] = (
        None if error == 0 or math.isnan(error) else abs(mine["mean"] - theirs["mean"]) <= MAX_STANDARD_ERRORS * error
    )
    return gate


def _pooled(parts: list[dict[str, float]]) -> dict[str, float]:
    """Number, mean and its standard error over the models of all parts."""
    n = sum(part["models"] for part in parts)
    mean = sum(part["models"] * part["mean"] for part in parts) / n
    squares = sum(
        (part["models"] - 1) * (part["sd"] if part["models"] > 1 else 0.0) ** 2
        + part["models"] * (part["mean"] - mean) ** 2
        for part in parts
    )
    return {"models": n, "mean": mean, "error": math.sqrt(squares / (n - 1) / n) if n > 1 else math.nan}


def _spread(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}

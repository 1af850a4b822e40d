"""Evaluations of unlearning methods as tables for a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from infl.records import Distance, Evaluation, Thresholds
from infl.report import text
from infl.report.style import REGIME_STYLES
from infl.report.tables import fitting_columns, terminal_table, verdict_fields

METHODS_A_TABLE = 4


def evaluations_by_set(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Rows of each set by its name, in the order given."""
    sets: dict[str, list[Evaluation]] = {}
    for one in evaluations:
        sets.setdefault(one.forget_set.name, []).append(one)
    return sets


def evaluations_as_json(
    evaluations: Sequence[Evaluation], *, thresholds: Thresholds, tolerance: float
) -> dict[str, Any]:
    """`{"tolerance": ..., "thresholds": ..., "sets": {name: {"size", "concept", "retrained", "methods": {name: fields}}}}`."""
    sets = {
        name: {
            "size": len(rows[0].forget_set),
            "concept": None if rows[0].forget_set.concept is None else len(rows[0].forget_set.concept),
            "retrained": verdict_fields(rows[0].retrained),
            "methods": {one.method: evaluation_fields(one) for one in rows},
        }
        for name, rows in evaluations_by_set(evaluations).items()
    }
    return {"tolerance": tolerance, "thresholds": asdict(thresholds), "sets": sets}


def evaluation_fields(one: Evaluation) -> dict[str, Any]:
    """An evaluation as JSON has it."""
    return {
        "judgement": one.judgement,
        "direction": one.direction,
        "to_oracle": _distance_fields(one.to_oracle),
        "to_full_oracle": None if one.to_full_oracle is None else _distance_fields(one.to_full_oracle),
        "effect": verdict_fields(one.effect),
        "n_models": one.to_oracle.n_models,
        "n_diverged": one.n_diverged,
        "models_needed": one.models_needed,
        "cost": one.cost,
        "settings": dict(one.settings),
        "metrics": {name: asdict(metric) for name, metric in one.metrics.items()},
        "note": one.note,
    }


def _distance_fields(distance: Distance) -> dict[str, Any]:
    return {
        **asdict(distance.value),
        "lower": distance.lower,
        "upper": distance.upper,
        "excess": asdict(distance.excess),
        "groups": {name: asdict(group) for name, group in distance.groups.items()},
    }


def evaluation_table(rows: Sequence[Evaluation], *, width: int = 100) -> Table:
    """A line a method of one set: what it is, its distances, and self, cross, harm and regime of what it did.

    In the line of `retraining` the latter are those of the retrained models: what the others should have done. Cross, then the
    number of models, then self go where there is no room.
    """
    methods = [text.shorten(one.method, 30) for one in rows]
    lines = pd.DataFrame({"method": methods, "is": [Text(one.verdict) for one in rows]})
    lines["to A(D\\S)"] = [str(one.to_oracle) for one in rows]
    if any(one.to_full_oracle is not None for one in rows):
        lines["to A(D\\S_full)"] = ["-" if one.to_full_oracle is None else str(one.to_full_oracle) for one in rows]
    for name, field in {"self": "self_influence", "cross": "cross_influence", "harm": "harm"}.items():
        lines[name] = [str(getattr(one.effect, field)) for one in rows]
    lines["regime"] = [Text(one.effect.regime, style=REGIME_STYLES[one.effect.regime].color) for one in rows]
    if any(one.cost > 0 and one.method != "retraining" for one in rows):
        lines["cost"] = [text.number(one.cost) for one in rows]
    lines["models"] = [f"{one.to_oracle.n_models:,}" for one in rows]
    lines, _ = fitting_columns(lines, width, 0, ["cross"], ["cross", "models"], ["cross", "models", "self"])
    forget_set, tolerance = rows[0].forget_set, rows[0].tolerance
    size = text.count(len(forget_set), "example")
    part = "" if forget_set.concept is None else f" of the {len(forget_set.concept):,} of its concept"
    caption = f"distances within {tolerance:g} count as none; cost in retrainings; ± is one standard error over models"
    return terminal_table(
        lines,
        title=f"{forget_set.name}: {size}{part}",
        caption=caption,
        left=("method", "is", "regime"),
    )


def group_table(rows: Sequence[Evaluation], *, full: bool = False) -> Table:
    """A line a method and group of examples: accuracy of both sides and the mean difference.

    Args:
        full: Whether from the models without the whole concept, and not from those without the set.
    """
    words = {
        "set": "the set",
        "concept": "rest of its concept",
        "retained": "other retained",
        "affected": "held out, affected",
        "other": "held out, others",
    }
    distances = [(one.method, one.to_full_oracle if full else one.to_oracle) for one in rows]
    lines = [
        {
            "method": method,
            "group": words[name],
            "examples": f"{group.n_examples:,.0f}",
            "accuracy": str(group.accuracy),
            "should be": str(group.reference),
            "mean difference": str(group.distance),
        }
        for method, distance in distances
        if distance is not None
        for name, group in distance.groups.items()
    ]
    title = f"{rows[0].forget_set.name}: by groups, from A(D\\{'S_full' if full else 'S'})"
    return terminal_table(pd.DataFrame(lines), title=title, left=("method", "group"), folded={"method": 24})


def metric_tables(rows: Sequence[Evaluation]) -> Iterator[Table]:
    """A line a metric and a column a method, four a table; null: what the metric says of oracles against oracles."""
    names = list(dict.fromkeys(name for one in rows for name in one.metrics))
    nulls = {name: metric.null for one in rows for name, metric in one.metrics.items()}
    for start in range(0, len(rows), METHODS_A_TABLE):
        lines = pd.DataFrame({"metric": names, "null": [str(nulls[name]) for name in names]})
        for one in rows[start : start + METHODS_A_TABLE]:
            lines[one.method] = [str(one.metrics[name].value) if name in one.metrics else "-" for name in names]
        title = f"{rows[0].forget_set.name}: metrics of others, each at half of the models"
        yield terminal_table(lines, title=title, caption="null: oracles against oracles", left=("metric",))

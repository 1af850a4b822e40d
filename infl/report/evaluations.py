"""Evaluations of unlearning methods as tables for a terminal and as JSON."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from infl.records import Distance, Evaluation, ForgetSet, InputError, Quantity, Thresholds
from infl.report import text
from infl.report.style import REGIME_STYLES
from infl.report.tables import fitting_columns, terminal_table, verdict_fields

METHODS_A_TABLE = 4
WHOLE = "retraining, whole concept"
PREDICTED, PREDICTED_WHOLE = "prediction", "prediction, whole concept"
OUTCOMES = {
    "members": "accuracy, concept in D",
    "held out": "accuracy, concept held out",
    "to_oracle": "distance to A(D\\S)",
    "to_full_oracle": "distance to A(D\\S_full)",
}


def evaluations_by_set(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """Rows of each set by its name, in the order given."""
    sets: dict[str, list[Evaluation]] = {}
    for one in evaluations:
        sets.setdefault(one.forget_set.name, []).append(one)
    return sets


def evaluations_as_json(
    evaluations: Sequence[Evaluation], *, thresholds: Thresholds, tolerance: float, gamma: bool = False
) -> dict[str, Any]:
    """`{"tolerance": ..., "thresholds": ..., "sets": {name: {"size", "concept", "retrained", "methods": {name: fields}}}}`.

    Args:
        gamma: Whether with `"curves": {concept: [{"gamma", "size", "method", outcome: {"value", "se"}, ...}]}`.
    """
    sets = {
        name: {
            "size": len(rows[0].forget_set),
            "concept": None if rows[0].forget_set.concept is None else len(rows[0].forget_set.concept),
            "retrained": verdict_fields(rows[0].retrained),
            "methods": {one.method: evaluation_fields(one) for one in rows},
        }
        for name, rows in evaluations_by_set(evaluations).items()
    }
    found: dict[str, Any] = {"tolerance": tolerance, "thresholds": asdict(thresholds), "sets": sets}
    if gamma:
        found["curves"] = {
            name: [{key: asdict(v) if key in OUTCOMES else v for key, v in row.items()} for row in rows]
            for name, rows in gamma_curves(evaluations).items()
        }
    return found


def concept_names(sets: Iterable[ForgetSet]) -> dict[tuple[int, ...], str]:
    """The concepts of sets by their ids, in the order they come, and what each is called: as its whole, or after a part."""
    sets = list(sets)
    wholes = {one.ids: one.name for one in sets if one.concept in (None, one.ids)}
    parts = {one.concept: one.name for one in reversed(sets) if one.concept is not None}
    concepts = dict.fromkeys(one.concept for one in sets if one.concept is not None)
    return {concept: wholes.get(concept) or parts[concept].rpartition("% of ")[2] for concept in concepts}


def gamma_curves(evaluations: Sequence[Evaluation]) -> dict[str, list[dict[str, Any]]]:
    """Of each concept that sets are parts of, a row a set and method, by gamma = |S| / |S_full| upwards.

    A row has `gamma`, `size`, `method`, and the `OUTCOMES` as quantities: accuracy on all members of the concept in D, accuracy
    on the held-out examples that training without the concept changes (NaN where there are none), and both distances. The
    whole concept, where it is among the sets, is at gamma = 1; `WHOLE` is A(D\\S_full) itself, `PREDICTED` and
    `PREDICTED_WHOLE` are what is predicted of both references.

    Raises:
        InputError: Where no set is part of a concept, or there are no models without one.
    """
    names = concept_names(one.forget_set for one in evaluations)
    if not names:
        raise InputError(
            "gamma: expected sets that are parts of one concept and differ in size, and none has a concept; make some with "
            "infl.forget_sets.take_fraction, or infl forget class --fraction"
        )
    curves: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for one in evaluations:
        size, concept = len(one.forget_set), one.forget_set.concept or one.forget_set.ids
        if concept not in names:
            continue
        to_concept = one.to_oracle if size == len(concept) else one.to_full_oracle
        if to_concept is None:
            raise InputError(
                f"gamma: no models without all of the concept of {one.forget_set.name!r}: infl verify --concepts trains them"
            )
        at = {"gamma": size / len(concept), "size": size}
        row = {**at, "method": one.method, **_of_concept(to_concept, "accuracy")}
        row |= {"to_oracle": one.to_oracle.value, "to_full_oracle": to_concept.value}
        rows = curves[names[concept]]
        rows.append(row)
        if one.method == "retraining":
            distances = {"to_oracle": to_concept.value, "to_full_oracle": Quantity(0.0, to_concept.value.se)}
            rows.append({**at, "method": WHOLE, **_of_concept(to_concept, "reference"), **distances})
        elif one.method == PREDICTED and size == len(concept):
            rows.append({**row, "method": PREDICTED_WHOLE})
    return {name: sorted(rows, key=lambda row: row["gamma"]) for name, rows in curves.items()}


def _of_concept(distance: Distance, side: str) -> dict[str, Quantity]:
    """Accuracy of one side on members of the concept, in D and held out; errors of its groups are added up."""

    def mean(*names: str) -> Quantity:
        groups = [distance.groups[name] for name in names if name in distance.groups]
        n = sum(group.n_examples for group in groups)
        quantities = [(group.n_examples / n, getattr(group, side)) for group in groups]
        value, se = (sum(w * getattr(q, of) for w, q in quantities) for of in ("value", "se"))
        return Quantity(value, se) if groups else Quantity(math.nan, math.nan)

    return {"members": mean("set", "concept"), "held out": mean("affected")}


def gamma_table(name: str, rows: Sequence[dict[str, Any]]) -> Table:
    """A line a set and method of one concept."""
    lines = [
        {"found": f"{row['gamma']:.0%}", "method": text.shorten(row["method"], 30)}
        | {"concept in D": str(row["members"]), "concept held out": str(row["held out"])}
        | {"to A(D\\S)": str(row["to_oracle"]), "to A(D\\S_full)": str(row["to_full_oracle"])}
        for row in rows
    ]
    caption = "accuracy on the concept, held out: on what training without it changes; distances to both references"
    return terminal_table(
        pd.DataFrame(lines), title=f"{name}: by how much of it is found", caption=caption, left=("found", "method")
    )


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
        "settings_from": one.settings_from,
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
    if any(one.settings_from for one in rows):
        caption += "; settings are defaults unless said"
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

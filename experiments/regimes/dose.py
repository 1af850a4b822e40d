"""How the effect of removing a share of a concept grows with the share: predicted and measured, and what discovery misses.

For classes, clusters, copies and a planted confusion of a world: a random share g of the concept is removed, g from 0.05 to 1.
The gap is what unlearning all of the concept takes from its held-out examples and untraining the share does not
(`infl.records.ConceptGap`), both from predicted effects and from measured ones.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import infl
from infl.records import Effects, ForgetSet, Verdict
from infl.untraining.effects import Predictor

SHARES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)
MIN_SIZE = 12  # examples of a concept


def choose_concepts(sets: list[ForgetSet], *, n_each: int) -> list[ForgetSet]:
    """The first whole sets of each kind among the sets of a world."""
    whole = [one for one in sets if one.concept is None and len(one) >= MIN_SIZE]
    kinds = {
        "class": lambda name: name.startswith("class ") and " in cluster" not in name,
        "cluster": lambda name: name.startswith("cluster "),
        "copies": lambda name: " copies of " in name,
        "confusion": lambda name: name.startswith("planted: confusion"),
    }
    return [one for fits in kinds.values() for one in [s for s in whole if fits(s.name)][:n_each]]


def measure_dose(run: Any, concepts: list[ForgetSet], fitted: Predictor, *, n_seeds: int) -> list[dict[str, Any]]:
    """One row for each concept and share; retrains without each share."""
    shares = [infl.forget_sets.take_fraction(one, share, seed=7) for one in concepts for share in SHARES]
    predicted = list(fitted(shares))
    measured = list(infl.verify_effects(run, shares, n_models=n_seeds, first=n_seeds, stop=None))
    rows = []
    for start in range(0, len(shares), len(SHARES)):
        some = slice(start, start + len(SHARES))
        for share, p, m in zip(SHARES, with_whole(predicted[some]), with_whole(measured[some]), strict=True):
            rows.append({"concept": concepts[start // len(SHARES)].name, "share": share, **row(p, m)})
    return rows


def with_whole(effects: list[Effects]) -> list[Verdict]:
    """Verdicts that know what the last, the whole concept, does."""
    return [infl.judge(replace(one, whole=effects[-1])) for one in effects]


def row(predicted: Verdict, measured: Verdict) -> dict[str, Any]:
    """Self, harm and gap of both sides, with errors."""
    result: dict[str, Any] = {"size": len(predicted.forget_set), "regimes": [predicted.regime, measured.regime]}
    for name, verdict in (("predicted", predicted), ("measured", measured)):
        gap = verdict.concept_gap
        quantities = [verdict.self_influence, verdict.harm, *([gap.value] if gap else [])]
        result[name] = [v for q in quantities for v in (q.value, q.se)]
        result[f"{name}_held_out"] = gap.n_held_out if gap else 0
    return result

"""Turns results.json and text.md into README.md, and draws duplicates.png."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from figure import draw
from planting import COPIES, KINDS

HERE = Path(__file__).parent
PREDICTORS = ("combined", "support", "surrogate", "additive-shrunk", "additive", "sum of scores")


def main() -> None:
    """Write both."""
    results = json.loads((HERE / "results.json").read_text())
    draw(results, HERE / "duplicates.png")
    summary, worlds = results["summary"], results["worlds"]
    text = (HERE / "text.md").read_text()
    for key, table in {
        **quoted(summary),
        **departures(worlds),
        "cells": "\n\n".join(f"{name}\n\n{cells_table(of)}" for name, of in summary.items()),
        "predictors": predictors_table(summary),
        "made": "\n".join(made(name, world) for name, world in worlds.items()),
        "machine": f"{results['processor']}, {results['cores']} cores, jax {results['versions']['jax']}",
    }.items():
        text = text.replace("{" + key + "}", table)
    (HERE / "README.md").write_text(text)
    print(f"wrote {HERE / 'README.md'}")


def quoted(summary: dict[str, Any]) -> dict[str, str]:
    """Numbers of the answer, one after another for the data sets."""

    def each(find: Any, form: str = ".2f") -> str:
        return ", ".join(f"{plus_minus(find(of), form)} ({name})" for name, of in summary.items())

    found = {}
    for kind in ("atypical", "flipped"):
        for key in ("score at 0.7", "self", "learned"):
            for copies in (1, 10):
                found[f"{kind} {copies} {key}"] = each(lambda of, k=kind, c=copies, q=key: of["cells"][f"{k}, {c}"][q])
    for predictor in PREDICTORS:
        found[f"error of {predictor}"] = each(
            lambda of, p=predictor: of["error_of_self_of_redundant"][p]["mean absolute"]
        )
        found[f"bias of {predictor}"] = each(
            lambda of, p=predictor: of["error_of_self_of_redundant"][p]["mean"], "+.2f"
        )
    for predictor in ("combined", "additive", "additive-shrunk"):
        found[f"verdicts of {predictor}"] = "; ".join(
            f"{of['regimes_right'][predictor]['right']} right, {of['regimes_right'][predictor]['wrong']} wrong, "
            f"{of['regimes_right'][predictor]['undetermined']} open ({name})"
            for name, of in summary.items()
        )
    return found


def departures(worlds: dict[str, Any]) -> dict[str, str]:
    """Scores of copies less what the law says of them, means over the sets of 2 and more copies, both fractions."""
    found = {}
    for kind in ("atypical", "flipped"):
        parts = []
        for name, world in worlds.items():
            sets = [one for one in world["sets"] if one["kind"] == kind and one["copies"] > 1]
            differences = [
                np.mean(
                    [
                        score[0] - (1 - float(r)) ** (one["copies"] - 1) * one["measured"]["self"][0]
                        for r, score in one["scores"].items()
                    ]
                )
                for one in sets
            ]
            error = np.std(differences, ddof=1) / np.sqrt(len(sets))
            parts.append(f"{np.mean(differences):+.3f} ± {error:.3f} ({name})")
        found[f"{kind} over the law"] = ", ".join(parts)
    return found


def cells_table(of: dict[str, Any]) -> str:
    """Score of a copy at two fractions beside the law, the set's effect and the best predictor."""
    lines = [
        "| examples | copies | score at 0.5 | law | score at 0.7 | law | self(S) | cross(S) | A(D) right | regimes |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in KINDS:
        for copies in COPIES:
            one = of["cells"][f"{kind}, {copies}"]
            keys = ("score at 0.5", "law at 0.5", "score at 0.7", "law at 0.7", "self", "cross", "learned")
            cells = [plus_minus(one[key]) for key in keys]
            regimes = ", ".join(f"{count} {name}" for name, count in one["regimes"].items())
            lines.append(f"| {kind} | {copies} | " + " | ".join([*cells, regimes]) + " |")
    return "\n".join(lines)


def predictors_table(summary: dict[str, Any]) -> str:
    """Errors of predicted self(S), and verdicts."""
    lines = [
        "| data | predictor | error of self(S), redundant sets | absolute | all sets | absolute | right / wrong / open |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, of in summary.items():
        for predictor in PREDICTORS:
            cells = []
            for which in ("error_of_self_of_redundant", "error_of_self"):
                error = of[which][predictor]
                cells += [plus_minus(error["mean"], "+.2f"), plus_minus(error["mean absolute"])]
            called = of["regimes_right"].get(predictor)
            verdicts = f"{called['right']} / {called['wrong']} / {called['undetermined']}" if called else ""
            lines.append(f"| {name} | {predictor} | " + " | ".join([*cells, verdicts]) + " |")
    return "\n".join(lines)


def made(name: str, world: dict[str, Any]) -> str:
    """What one data set took."""
    scored, seeds, n_sets = world["models_scored"], world["seeds"], len(world["sets"])
    n_models = 3 * (scored + seeds) + seeds * n_sets
    return (
        f"- {name}: {world['n_before']:,} examples and {world['n_train'] - world['n_before']} copies, "
        f"{world['n_held_out']:,} held out; {n_sets} sets; {scored} models at each fraction and for the predictors, "
        f"{seeds} seeds of D beside each of these and of D without each set: {n_models:,} models"
    )


def plus_minus(quantity: list[float | None], form: str = ".2f") -> str:
    """Value and standard error."""
    value, error = quantity
    return f"{value:{form}}" + ("" if error is None else f" ± {error:.2f}")


if __name__ == "__main__":
    main()

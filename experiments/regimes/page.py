"""Writes the tables of README.md from results.json: every block of lines that starts with the header of one of them.

python experiments/regimes/page.py
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from infl.records import REGIMES

HERE = Path(__file__).parent
OTHERS = ("support-512", "surrogate-512", "additive-shrunk-512", "additive-probability-512")

Results = dict[str, Any]


def main() -> None:
    """Replace the tables, in the order in which they stand on the page."""
    worlds = json.loads((HERE / "results.json").read_text())["worlds"]
    named = [(world, one) for world in worlds for one in ("combined-512", "additive-512")]
    others = [(world, one) for world in worlds if OTHERS[0] in worlds[world] for one in OTHERS]
    tables = [predictors(worlds, named), by_regime(worlds), by_models(worlds), predictors(worlds, others)]
    page = (HERE / "README.md").read_text().splitlines()
    (HERE / "README.md").write_text("\n".join(_with_tables(page, tables)) + "\n")


def predictors(worlds: Results, named: list[tuple[str, str]]) -> list[str]:
    """A row a world and predictor."""
    header = (
        "world | sets (decided) | predictor | recall (most probable) | undetermined | wrong of determined | "
        "self, cross rms (S >= 20) | no-op cross | median correlation | 90% intervals of cross"
    )
    rows = []
    for world, one in named:
        s = worlds[world][one]["summary"]
        rows.append(
            f"{world} | {s['sets']} ({s['decided']}) | {one} | {_verdicts(s)} | {_number(s['rms_self'], 2)}, "
            f"{_number(s['rms_cross'], 2)} | {_number(s['mean_cross_of_no_op'], 2, sign='+')} | "
            f"{_number(s['median_correlation'], 2)} | {s['cross_intervals_90_cover']:.0%}"
        )
    return _table(header, rows)


def by_regime(worlds: Results) -> list[str]:
    """A row a world: verdicts of `combined-512` by the regime that was measured, and what they save."""
    rows = []
    for world in worlds:
        part, cost = worlds[world]["combined-512"], worlds[world]["cost"]
        counts = (part["by_regime"][regime] for regime in REGIMES)
        cells = [f"{one['right']} / {one['undetermined']} / {one['sets']}" for one in counts]
        per_set = cost["models_retrained_per_set"]
        worth = part.get("seeds_worth")
        seeds = "-" if worth is None else f"{worth['factor']:.1f}"
        rows.append(" | ".join([world, *cells, f"{per_set:.0f}", f"{512 / per_set:.0f}", seeds]))
    return _table(f"world | {' | '.join(REGIMES)} | models per set | sets | seeds", rows)


def by_models(worlds: Results) -> list[str]:
    """A row a number of models."""
    header = (
        "world | models | recall (most probable) | undetermined | wrong of determined | self, cross rms | "
        "cross less noise of truth | 90% of cross | seconds to fit"
    )
    rows = []
    for world in worlds:
        numbers = sorted(int(name.split("-")[1]) for name in worlds[world] if name.startswith("combined-"))
        for n_models in numbers if len(numbers) > 1 else ():
            part = worlds[world][f"combined-{n_models}"]
            s = part["summary"]
            rows.append(
                f"{world} | {n_models:,} | {_verdicts(s)} | {_number(s['rms_self'], 3)}, {_number(s['rms_cross'], 3)} | "
                f"{_number(s['rms_cross_less_noise_of_truth'], 3)} | {s['cross_intervals_90_cover']:.0%} | "
                f"{part['fit_seconds']:.0f}"
            )
    return _table(header, rows)


def _verdicts(summary: Results) -> str:
    return (
        f"{_number(summary['recall'], 2)} ({_number(summary['recall_of_most_probable'], 2)}) | "
        f"{summary['undetermined']:.0%} | {summary['wrong_of_determined']:.0%}"
    )


def _number(value: float | None, digits: int, *, sign: str = "") -> str:
    return "-" if value is None else f"{value:{sign}.{digits}f}"


def _table(header: str, rows: list[str]) -> list[str]:
    n_columns = header.count("|") + 1
    return [f"| {header} |", "|" + "---|" * n_columns, *(f"| {row} |" for row in rows)]


def _with_tables(page: list[str], tables: list[list[str]]) -> Iterator[str]:
    waiting, replacing = list(tables), False
    for line in page:
        if replacing and line.startswith("|"):
            continue
        replacing = bool(waiting) and line == waiting[0][0]
        if replacing:
            yield from waiting.pop(0)
        else:
            yield line
    if waiting:
        raise SystemExit(f"README.md has no table that starts with: {waiting[0][0]}")


if __name__ == "__main__":
    main()

"""How many models does verification need, by margins and by counts, and do its errors cover?

    python experiments/regimes/verification.py --work FOLDER   # an hour on one core; resumable

In four worlds, smaller than those of worlds.py, 47 to 81 sets each are retrained without, with 160 or 192 seeds. The first 64
of them, and the next 64 where others are left, are a verification that looks after 8 (counts: 16), 16, 32 and 64; the truth is
what all other seeds say: by counts for cross, and by margins for harm, which counts overstate the fewer they are. Errors are
compared with that truth over blocks of 8, 16 and 32 seeds. The control takes models of D with other seeds in place of models of
D\\S. Results go into results.json, under `verification`; counts and margins are of the same models.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from fashion import FASHION
from record import add_worlds, argument_parser, cached, work_folder
from scoring import CRITERIA, DECIDED, best, select_seeds
from worlds import EARLY_FASHION, FITTING_DIGITS, WORLDS, World, make_dataset, stored_sets

import infl
from infl.records import Effects, ForgetSet, Outcomes, Thresholds, Verdict
from infl.store import leave_out_name
from infl.untraining.distance import take
from infl.untraining.regimes import judge
from infl.untraining.verification import is_clear, looks_at, measure_effects

SMALL_DIGITS = {**FITTING_DIGITS, "hidden": (128,)}
# Each with the number of seeds, and of sets at most.
CHOSEN_ON = (
    (replace(WORLDS["digits-early-development"], share=0.2), 192, 81),
    (
        World("digits-500", "digits", 500, 797, SMALL_DIGITS, flipped=0.03, data_seed=1, share=0.2, development=True),
        160,
        60,
    ),
)
REPORTED = (
    (World("fashion-1000", FASHION, 1000, 1000, {**EARLY_FASHION, "hidden": (64,)}, flipped=0.03, share=0.2), 160, 26),
    (World("digits-500-flipped", "digits", 500, 797, SMALL_DIGITS, flipped=0.1, share=0.2), 160, 26),
)
MOST, STOP, FIRST = 64, 0.95, {"counts": 16, "margins": 8}
BLOCKS = (8, 16, 32)
SIZES = {"1 to 5": (0, 5), "6 to 19": (6, 19), "20 and more": (20, 10**9)}
N_CONTROLS, CONTROL_SIZES = 40, (1, 6, 30)


def main() -> None:
    """Train what is missing, measure, and write the part."""
    parser = argument_parser(__doc__, __file__, small="one little world")
    parser.add_argument("--worlds", nargs="*", help="measure these and write no results yet")
    options = parser.parse_args()
    tiny = (World("tiny", "digits", 200, 100, {"epochs": 2}, share=0.02), 96, 3)
    plan, found = [tiny] if options.small else [*CHOSEN_ON, *REPORTED], {}
    with work_folder(options) as work:
        for world, n_seeds, n_sets in plan:
            if world.name in (options.worlds or [world.name]):
                path = work / world.name / "verification.json"
                found[world.name] = cached(
                    path, lambda given=(world, path.parent, n_seeds, n_sets): measure_world(*given)
                )
                print(world.name, json.dumps(found[world.name]["summary"]), flush=True)
    if not options.worlds:
        for one in found.values():
            one["rows"] = [compact(row) for row in one["rows"]]
        add_worlds(options.out, "verification", found)


def measure_world(world: World, folder: Path, n_seeds: int, n_sets: int) -> dict[str, Any]:
    """Rows of all sets, their summary, and the control."""
    dataset, planted = make_dataset(world)
    run = infl.train(
        dataset, run=folder, n_models=256, n_references=n_seeds, algorithm=infl.Algorithm(**world.algorithm)
    )
    sets = stored_sets(world, dataset, planted, run)
    sets = [sets[i] for i in np.random.RandomState(0).permutation(len(sets))[:n_sets]]
    for _ in infl.verify_effects(run, sets, n_models=n_seeds, stop=None):
        pass  # outcomes stay in the folder
    run = infl.open_run(folder)
    full = run.outcomes("full", range(n_seeds)).load()
    rows = [measure_set(one, full, run.outcomes(leave_out_name(one.ids), range(n_seeds)).load()) for one in sets]
    summary = summarize(rows) | {"development": world.development, "seeds": n_seeds, "n": dataset.n_train}
    controls = control(full)
    summary["control"] = {key: summarize_control(np.array(one)) for key, one in controls.items()}
    return {"summary": summary, "control": controls, "rows": rows}


def measure_set(one: ForgetSet, full: Outcomes, without: Outcomes) -> dict[str, Any]:
    """What verification says of a set by counts and by margins, and what the other seeds say."""
    counts, margins = (measured(one, full, without, method) for method in ("counts", "margins"))
    n_seeds, seeds = full.n_models, np.arange(full.n_models)
    whole = {"net": judge(counts, CRITERIA["net"]), "harm": judge(margins, CRITERIA["harm"])}
    row: dict[str, Any] = {"set": one.name, "size": len(one), "kind": kind(one.name)}
    row |= {"cross": pair(whole["net"].cross_influence), "harm": pair(whole["harm"].harm)}
    row |= {"regimes": {name: best(verdict) for name, verdict in whole.items()}, "verified": [], "errors": {}}
    for start in range(0, n_seeds - MOST, MOST):
        rest = np.setdiff1d(seeds, range(start, start + MOST))
        for name, thresholds in CRITERIA.items():
            truth = judge(select_seeds(counts if name == "net" else margins, rest), thresholds)
            for method, first in FIRST.items():
                verdict = look(one, full, without, start, method, first, thresholds)
                decided = max(truth.probability.values()) >= DECIDED
                row["verified"].append(
                    [name, method, verdict.n_models, verdict.regime, best(truth) if decided else None]
                )
    for size in BLOCKS:
        found: dict[str, list[list[float]]] = {method: [] for method in FIRST}
        for start in range(0, n_seeds - size + 1, 2 * size):
            block = np.arange(start, start + size)
            rest = np.setdiff1d(seeds, block)
            of_counts, of_margins = (judge(select_seeds(one, rest)) for one in (counts, margins))
            for method in FIRST:
                verdict = judge(measured(one, take(full, block), take(without, block), method))
                cross = compare(verdict.cross_influence, of_counts.cross_influence)
                found[method].append(cross + compare(verdict.harm, of_margins.harm))
        row["errors"] |= {f"{method}, {size}": np.mean(blocks, axis=0).tolist() for method, blocks in found.items()}
    return row


def measured(one: ForgetSet, full: Outcomes, without: Outcomes, method: str) -> Effects:
    """Effects by one of the two methods."""
    if method == "counts":
        full, without = replace(full, margin=None), replace(without, margin=None)
    return measure_effects(one, full=full, without=without)


def look(
    one: ForgetSet, full: Outcomes, without: Outcomes, start: int, method: str, first: int, thresholds: Thresholds
) -> Verdict:
    """The verdict at the first look that is clear, or at the last."""
    runs = (np.arange(start, start + n_models) for n_models in looks_at(MOST, stop=STOP, first=first))
    effects = (measured(one, take(full, rows), take(without, rows), method) for rows in runs)
    verdicts = (judge(one, thresholds) for one in effects)
    return next(one for one in verdicts if one.n_models == MOST or is_clear(one, STOP))


def compare(found: Any, truth: Any) -> list[float]:
    """Difference, its square less the noise of the truth, and whether its 90% interval covers 0."""
    difference = found.value - truth.value
    return [difference, difference**2 - truth.se**2, float(abs(difference) < 1.645 * np.hypot(found.se, truth.se))]


def control(full: Outcomes) -> dict[str, list[list[float]]]:
    """Harm and its error of sets without effect, by size and seeds: other models of D in place of those without the set."""
    random, found = np.random.RandomState(0), dict[str, list[list[float]]]()
    for size in CONTROL_SIZES:
        for n_models in BLOCKS:
            for _ in range(N_CONTROLS):
                one = ForgetSet("nothing", tuple(random.permutation(full.n_train)[:size].tolist()))
                seeds = random.permutation(full.n_models)[: 2 * n_models]
                before, after = take(full, seeds[:n_models]), take(full, seeds[n_models:])
                after = replace(after, masks=np.broadcast_to(one.retained(full.n_train), after.masks.shape))
                verdict = judge(measured(one, before, after, "margins"))
                found.setdefault(f"{size}, {n_models}", []).append(pair(verdict.harm))
    return found


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Models, undetermined and wrong by criterion and method; errors by method, number of seeds, size and kind."""
    verified: dict[str, Any] = {}
    for name in CRITERIA:
        for method in FIRST:
            these = [one[2:] for row in rows for one in row["verified"] if one[:2] == [name, method]]
            named = [(regime, truth) for _, regime, truth in these if regime != "undetermined" and truth]
            verified[f"{name}, {method}"] = {
                "models": np.mean([n for n, _, _ in these]),
                "undetermined": np.mean([regime == "undetermined" for _, regime, _ in these]),
                "wrong": np.mean([regime != truth for regime, truth in named]) if named else None,
                "named": len(named),
            }
    groups = {name: [row for row in rows if low <= row["size"] <= high] for name, (low, high) in SIZES.items()} | {
        name: [row for row in rows if row["kind"] == name] for name in ("flips", "confusions")
    }
    errors: dict[str, Any] = {}
    for method in FIRST:
        for size in BLOCKS:
            errors[f"{method}, {size}"] = {
                name: summarize_errors(some, method, size) for name, some in {"all": rows, **groups}.items() if some
            }
    differ: dict[str, int] = {}
    for row in rows:
        both = " / ".join(row["regimes"].values())
        differ[both] = differ.get(both, 0) + 1
    return {"sets": len(rows), "verified": verified, "errors": errors, "net / harm": differ}


def summarize_errors(rows: list[dict[str, Any]], method: str, size: int) -> dict[str, float]:
    """Over blocks of seeds of these sets; squares are of |S| times cross or harm, noise of the truth taken off."""
    sizes, values = (
        np.array([row["size"] for row in rows]),
        np.array([row["errors"][f"{method}, {size}"] for row in rows]),
    )
    result: dict[str, float] = {"sets": len(rows)}
    for name, part in (("cross", values[:, :3]), ("harm", values[:, 3:])):
        bias, square, cover = part.T
        result |= {
            f"{name}_bias": bias.mean(),
            f"{name}_square": (sizes**2 * square).mean(),
            f"{name}_cover": cover.mean(),
        }
    return result


def summarize_control(found: np.ndarray) -> dict[str, Any]:
    """Mean harm with its error over draws, how wide errors are, and how often harm would be claimed."""
    value, se = found.T
    mean = [value.mean(), value.std(ddof=1) / np.sqrt(len(value))]
    ratio = np.sqrt(np.mean(value**2) / np.mean(se**2))
    return {"harm": mean, "rms_by_error": ratio, "above": np.mean(value > 1.645 * se)}


def compact(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose lists are lines of text, a quarter of the size with an indent."""
    verified = [" ".join(map(str, one)) for one in row["verified"]]
    errors = {key: " ".join(f"{value:.4g}" for value in one) for key, one in row["errors"].items()}
    return row | {"verified": verified, "errors": errors}


def kind(name: str) -> str:
    """Which of the kinds that are reported apart."""
    return "flips" if "flipped" in name else "confusions" if "confusion" in name else "other"


def pair(quantity: Any) -> list[float]:
    """Value and error."""
    return [quantity.value, quantity.se]


if __name__ == "__main__":
    main()

r"""Which method of unlearning comes nearest to retraining without S, and which to retraining without its whole concept?

    python experiments/unlearning/run.py --work FOLDER [--parts settings digits ...]   # see README.md for the time; resumable
    python experiments/unlearning/run.py --small        # a minute

The worlds are those of worlds.py: digits, Fashion-MNIST with a perceptron and with a network with batch norm, and verses. Every
method begins from the same models of D, paired by seed with those retrained without each set and without its whole concept.

Settings are chosen on the development world alone, which has other digits planted otherwise: the part named settings has
infl try some for every method, and choose by the distance to its oracles and by that to what it predicts of these. The method
stop-then-match was designed there, too. Nothing was chosen by what is reported of the other worlds, but for the columns that
say so: what choosing for each set by itself would give.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import argument_parser, cached, verdict_row, work_folder, write_part
from worlds import SMALL, THRESHOLDS, WORLDS, World, make_sets, support_sets  # pyright: ignore[reportMissingImports]

import infl
from infl.pipeline.jobs import collection_keys
from infl.pipeline.predict import predict_margins
from infl.pipeline.unlearn import N_TRIED, ChooseBy, score_settings
from infl.pipeline.verify import verified_effects
from infl.pipeline.weights import load_originals
from infl.records import Evaluation, ForgetSet, MetricName
from infl.report.evaluations import PREDICTED, PREDICTED_WHOLE, gamma_curves
from infl.store import Run, leave_out_name
from infl.training.ensemble import Ensemble
from infl.unlearning.ensemble import UnlearningEnsemble, key_bytes
from infl.unlearning.methods import METHODS

OURS = "stop-then-match"
SETS_AT_ONCE = 8
N_REPORTED = 80  # sets of digits, of every fourth of which it is said what choosing settings is worth
N_SUPPORT = 12  # sets of examples that others lean on
N_TIMED = 8  # models of a batch, of which the processor time is measured
METRICS: tuple[MetricName, ...] = (
    *("shift", "ks", "energy", "klom", "tug-of-war", "epsilon", "competition", "u-lira", "relative", "membership"),
)
LARGER_IS_BETTER = ("tug-of-war", "competition", "relative")
# At less than half of a retraining, that which is chosen in the part named settings last.
CHEAP = [{"first": 2, "epochs": 3}, {"first": 2, "epochs": 3, "learning_rate": 9e-3}]
OURS_CHEAP = f"{OURS}, cheap"
# What is tried of each method, its defaults among it.
TRIED: dict[str, list[dict[str, float]]] = {
    "neggrad+": [{"alpha": a, "epochs": e} for a, e in ((0.95, 5), (0.98, 5), (0.98, 10), (0.99, 10))],
    "newton": [{"damping": d} for d in (1e-3, 1e-2, 1e-1)],
    "match-prediction": [{"learning_rate": r, "epochs": e} for r, e in ((3e-3, 8), (6e-3, 8), (6e-3, 16))],
    OURS: [{"first": 4}, {"learning_rate": 3e-3}, {"first": 2}, {"first": 6, "epochs": 4}, *CHEAP],
}


def main() -> None:
    """Run what is missing and write results.json."""
    parser = argument_parser(__doc__, __file__, small="200 digits, 4 sets, 2 methods, 8 models a side")
    names = [name for name in WORLDS if name != "development"]
    parser.add_argument("--parts", nargs="*", default=[*names, "cost", "settings"], help="which parts to measure")
    options = parser.parse_args()
    with work_folder(options) as work:
        for part in ["digits"] if options.small else options.parts:
            if part == "settings":
                summary, measured = choose_settings(work)
            elif part == "cost":
                summary, measured = measure_costs(work)
            else:
                world = SMALL if options.small else WORLDS[part]
                summary, measured = measure_world(world, work / part.replace(" ", "_"))
            write_part(options.out, part, summary, measured, key="worlds", small=options.small)


def prepare(world: World, folder: Path) -> tuple[Run, list[ForgetSet]]:
    """The run with all that methods are compared with, and its sets."""
    data, planted = world.plant()
    settings: Any = {"algorithm": world.algorithm, "n_references": world.n_models}
    run = infl.train(data, folder / "run", n_models=max(world.n_subsets, 1), **settings)
    memorization = infl.memorization(run).value if world.n_subsets else np.zeros(data.n_train)
    sets = make_sets(world, data, planted, memorization)
    if world.more:
        of = cached(
            folder / "support.json",
            lambda: {one.name: one.ids for one in support_sets(run, planted, memorization, N_SUPPORT)},
        )
        sets += [ForgetSet(name, ids) for name, ids in of.items()]
    if world is SMALL:
        sets = [sets[0], *planted, next(one for one in sets if one.concept)]
    whole = infl.forget_sets.whole_concepts([one for one in sets if one.concept])
    for _ in infl.verify_effects(run, [*sets, *whole], n_models=world.n_models, stop=None, algorithm=world.algorithm):
        pass
    return infl.open_run(run.place), sets


def measure_world(world: World, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every method on every set: summary and rows."""
    run, sets = prepare(world, folder)
    predicted = dict[str, str]()
    if world.n_subsets:
        predicted = {one.forget_set.name: one.regime for one in infl.predict(run, sets, thresholds=THRESHOLDS)}
    methods = [*world.methods, *([OURS] if predicted else ())]
    collections = {
        method: infl.unlearn(run, sets, method=method, n_models=world.n_unlearned, algorithm=world.algorithm)
        for method in methods
    }
    if predicted:
        made = infl.unlearn(run, sets, method=OURS, n_models=world.n_unlearned, algorithm=world.algorithm, **CHEAP[-1])
        collections[OURS_CHEAP] = made
    run = infl.open_run(run.place)
    paths = [folder / f"evaluated_{world.n_unlearned}" / f"{one.name}.pickle" for one in sets]
    paths[0].parent.mkdir(exist_ok=True)
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    with_metrics = [
        k for k in missing if world.metrics and (k % world.metrics == 0 or sets[k].name.startswith("10% of patch"))
    ]
    for metrics, numbers in ((METRICS, with_metrics), ((), [k for k in missing if k not in with_metrics])):
        for start in range(0, len(numbers), SETS_AT_ONCE):
            some = numbers[start : start + SETS_AT_ONCE]
            found = evaluate_sets(run, [sets[k] for k in some], methods, metrics, predict=bool(predicted))
            for k in some:
                paths[k].write_bytes(pickle.dumps(found[sets[k].name]))
    rows, evaluations = {}, list[Evaluation]()
    for one, path in zip(sets, paths, strict=True):
        found = pickle.loads(path.read_bytes())
        evaluations += found
        rows[one.name] = {e.method: row_of(e) for e in found}
    effects = list(verified_effects(run, sets))
    retrained = {one.forget_set.name: infl.judge(one, THRESHOLDS) for one in effects}
    summary = summarize(rows, evaluations, predicted, {name: one.regime for name, one in retrained.items()})
    summary["sets by harm"] = dict(Counter(infl.judge(one).regime for one in effects))
    if predicted:
        summary["margins"] = margin_errors(run, sets)
    return summary, {
        "rows": rows,
        "predicted": predicted,
        "retrained": {name: verdict_row(one) for name, one in retrained.items()},
        "sizes": {one.name: len(one) for one in sets},
        "n_train": run.dataset().n_train,
        "n_held_out": run.dataset().n_held_out,
        "n_models": world.n_models,
        "n_unlearned": world.n_unlearned,
        "n_subsets": world.n_subsets,
        "patch": backdoor(run, world, sets, evaluations, collections),
    }


def evaluate_sets(
    run: Run, sets: Sequence[ForgetSet], methods: Sequence[str], metrics: Sequence[MetricName], *, predict: bool
) -> dict[str, list[Evaluation]]:
    """Of each set methods with their default settings, and OURS_CHEAP, beside nothing, retraining and its prediction."""
    of: dict[str, dict[str, Evaluation]] = {one.name: {} for one in sets}
    for found in infl.evaluate(run, sets, metrics=metrics, predict=predict, quiet=True):
        method = found.method
        if found.settings == METHODS[OURS].settings(CHEAP[-1]) and method.startswith(OURS):
            method = OURS_CHEAP
        elif found.settings_from == "default":
            method = method.split()[0]  # what follows are settings, where the run holds several
        elif found.settings_from:
            continue
        of[found.forget_set.name][method] = replace(found, method=method)
    first = ["nothing", "retraining", *((PREDICTED, PREDICTED_WHOLE) if predict else ())]
    return {name: [rows[one] for one in (*first, *methods, OURS_CHEAP) if one in rows] for name, rows in of.items()}


def margin_errors(run: Run, sets: Sequence[ForgetSet]) -> dict[str, list[float]]:
    """Mean |predicted - measured| margin without each set and mean |change| of it, by group, mean over sets."""
    n, before = run.dataset().n_train, run.outcomes("full").load().of("margin").mean(axis=0)
    found: dict[str, list[list[float]]] = {"set": [], "retained": [], "held out": []}
    for one, predicted in zip(sets, predict_margins(run, sets, quiet=True), strict=True):
        measured = run.outcomes(leave_out_name(one.ids)).load().of("margin").mean(axis=0)
        groups = np.where(np.arange(len(before)) < n, "retained", "held out")
        groups[list(one.ids)] = "set"
        for name, values_of in found.items():
            some = groups == name
            values_of.append([float(np.abs(side - measured)[some].mean()) for side in (predicted, before)])
    return {name: np.mean(rows, axis=0).tolist() for name, rows in found.items()}


def row_of(one: Evaluation) -> dict[str, Any]:
    """Distances, verdict, and each metric beside its null."""
    full = one.to_full_oracle
    row = {
        "is": one.verdict,
        "T": [one.to_oracle.value.value, one.to_oracle.value.se],
        "T_full": None if full is None else [full.value.value, full.value.se],
        "diverged": one.n_diverged,
        "cost": one.cost,
    }
    metrics = {
        name: [m.value.value, m.null.value]
        for name, m in one.metrics.items()
        if not name.endswith(("(retained)", "(held out)"))
    }
    return row | ({"metrics": metrics} if metrics else {})


def summarize(
    rows: Mapping[str, Any],
    evaluations: Sequence[Evaluation],
    predicted: Mapping[str, str],
    retrained: Mapping[str, str],
) -> dict[str, Any]:
    """Mean T by regime and method, what each metric says of it, and the curves over gamma."""
    of: dict[str, list[str]] = {}
    for one in evaluations:
        if one.method == "nothing":
            of.setdefault(retrained[one.forget_set.name], []).append(one.forget_set.name)
            if one.to_full_oracle is not None:
                of.setdefault("parts", []).append(one.forget_set.name)
    of["all"] = list(rows)
    names: list[str] = [name for name in next(iter(rows.values())) if name != PREDICTED_WHOLE]
    methods = {method: method_row(rows, of, dict.fromkeys(rows, method)) for method in names}
    if predicted:
        rule = {name: "nothing" if regime == "no-op" else OURS for name, regime in predicted.items()}
        methods["by predicted regime"] = method_row(rows, of, rule)
    summary: dict[str, Any] = {"sets": {key: len(names) for key, names in of.items()}, "methods": methods}
    if with_metrics := {name: of_set for name, of_set in rows.items() if "metrics" in of_set["nothing"]}:
        summary["metrics"] = what_metrics_say(with_metrics)
        summary["sets"]["with metrics"] = len(with_metrics)
    if "parts" in of:
        summary["curves"] = {
            name: [{k: [v.value, v.se] if hasattr(v, "se") else v for k, v in row.items()} for row in lines]
            for name, lines in gamma_curves(
                [e for e in evaluations if not e.forget_set.name.startswith("other ")]
            ).items()
        }
    return summary


def method_row(rows: Mapping[str, Any], of: Mapping[str, list[str]], method: Mapping[str, str]) -> dict[str, Any]:
    """What one method a set comes to."""
    at = {name: rows[name][method[name]] for name in rows}
    row: dict[str, Any] = {"T": {key: mean([at[name]["T"] for name in names]) for key, names in of.items()}}
    if "parts" in of:
        row["T"]["to the concept"] = mean([at[name]["T_full"] for name in of["parts"]])
    return row | {
        "untrains": sum(one["is"] in ("untrains", "both") for one in at.values()),
        "diverged": sum(one["diverged"] for one in at.values()),
        "cost": float(np.median([one["cost"] for one in at.values()])),
    }


def what_metrics_say(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Of each metric: rank correlation with T over methods and sets, and over methods within sets; the method it puts first."""
    unused = ("nothing", "retraining", "match-oracle", PREDICTED, PREDICTED_WHOLE)
    methods = [one for one in next(iter(rows.values())) if one not in unused]
    found: dict[str, Any] = {}
    names = next(iter(next(iter(rows.values())).values()))["metrics"]
    t = np.array([[row[one]["T"][0] for one in methods] for row in rows.values()])
    for metric in names:
        # What is bad about a value: how far it is from what oracles get, in the direction that counts as worse.
        value, null = (
            np.array([[row[one]["metrics"].get(metric, [np.nan] * 2)[k] for one in methods] for row in rows.values()])
            for k in (0, 1)
        )
        bad = null - value if metric in LARGER_IS_BETTER else value - null
        if metric.startswith(("membership", "u-lira auc")):
            bad = np.abs(value - null)
        there = np.isfinite(bad).all(axis=1)
        if there.sum() < len(rows):
            continue
        best = stats.rankdata(bad, axis=1).mean(axis=0)
        found[metric] = {
            "all": float(stats.spearmanr(bad.ravel(), t.ravel())[0]),  # pyright: ignore[reportArgumentType]
            "within": float(np.mean([stats.spearmanr(a, b)[0] for a, b in zip(bad, t, strict=True) if np.ptp(a)])),  # pyright: ignore
            "first": methods[int(best.argmin())],
            "T of its choice": float(np.mean([t_row[a.argmin()] for a, t_row in zip(bad, t, strict=True)])),
        }
    found["T itself"] = {
        "first": methods[int(stats.rankdata(t, axis=1).mean(axis=0).argmin())],
        "T of its choice": float(t.min(axis=1).mean()),
    }
    return found


def backdoor(
    run: Run, world: World, sets: Sequence[ForgetSet], evaluations: Sequence[Evaluation], collections: Mapping[str, Any]
) -> dict[str, Any]:
    """Of parts of patches: how often held-out images that bear the patch are wrong, beside what metrics say of the method."""
    found: dict[str, Any] = {}
    shown, n_patches = world.shown, len(world.patches)
    metrics = {(e.forget_set.name, e.method): row_of(e).get("metrics", {}) for e in evaluations}
    for one in sets:
        number = next((k for k in range(n_patches) if one.name.endswith(f"patch {k + 1}")), None)
        if number is None or one.name.startswith("other "):
            continue
        start = run.dataset().n_columns - (n_patches - number) * shown
        places: dict[str, str] = {"nothing": "full", "retraining": leave_out_name(one.ids)}
        places |= {label: names[one.name] for label, names in collections.items()}
        if one.concept:
            places["retraining, whole concept"] = leave_out_name(one.concept)
        found[one.name] = {
            label: {
                "wrong": 1 - float(run.outcomes(name).load().of("correct")[:, start : start + shown].mean()),
                **metrics.get((one.name, label), {}),
            }
            for label, name in places.items()
        }
    return found


def choose_settings(work: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of each method what is chosen on the development world, on its oracles and by prediction, and T with that on digits.

    Beside that T with what is chosen for each set of digits by itself.
    """
    run, sets = prepare(WORLDS["development"], work / "development")
    digits, reported = prepare(WORLDS["digits"], work / "digits")
    reported = reported[:N_REPORTED:4]
    summary: dict[str, dict[str, Any]] = {}
    for method, grid in TRIED.items():
        found: dict[str, Any] = {"tried": len(grid), "T": {}}
        at = {by: score_settings(digits, reported, grid, method=method, choose_by=by) for by in get_args(ChooseBy)}

        def t(chosen: Sequence[int], at: Any = at) -> list[float]:
            quantities = [at["oracle"][number][k] for k, number in enumerate(chosen)]
            return mean([[one.value, one.se] for one in quantities])

        for by, of_set in at.items():
            rows = values(score_settings(run, sets, grid, method=method, choose_by=by)).mean(axis=1)
            found[by] = grid[rows.argmin()]
            found["T"] |= {by: t([rows.argmin()] * len(reported)), f"{by}, each set": t(values(of_set).argmin(axis=0))}
            if method == OURS and by == "prediction":
                cheap = min(range(len(CHEAP)), key=lambda k, rows=rows: rows[k - len(CHEAP)]) - len(CHEAP)
                found["cheap"], found["T"]["cheap"] = grid[cheap], t([cheap] * len(reported))
        default = next(k for k, one in enumerate(grid) if METHODS[method].settings(one) == METHODS[method].defaults)
        summary[method] = found
        found["T"]["default"] = t([default] * len(reported))
        print(method, found, flush=True)
    fashion = prepare(WORLDS["fashion"], work / "fashion")
    for method, settings in {OURS: summary[OURS]["cheap"], "newton": {}}.items():
        [scores] = score_settings(*fashion, [settings], method=method, choose_by="oracle")
        summary[method]["T"]["on fashion"] = mean([[one.value, one.se] for one in scores])
    return summary, {
        "tried": TRIED,
        "sets": [one.name for one in sets],
        "n_models": N_TRIED,
        "n_reported": len(reported),
    }


def values(scores: list[list[Any]]) -> np.ndarray:
    """Of quantities, [settings, sets]."""
    return np.array([[one.value for one in row] for row in scores])


def measure_costs(work: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Processor time of each method in that of retraining: on one core, in turn, without compilation, by world and method."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ratios, seconds = {}, {}
    for name in (one for one in WORLDS if one != "development"):
        world, layout = WORLDS[name], infl.Layout(n_devices=1, models_per_device=N_TIMED)
        data, _ = world.plant()
        settings: Any = {"n_models": 1, "n_references": N_TIMED, "algorithm": world.algorithm}
        run = infl.train(data, work / "cost" / name, **settings)
        infl.keep_weights(run, n_models=N_TIMED)
        keys, models = collection_keys(run, "full", range(N_TIMED)), range(N_TIMED)
        originals = dict(zip(key_bytes(keys), load_originals(run, models, world.algorithm, data), strict=True))
        sizes = [min(size, data.n_train // 4) for size in (10, 20, 40, 80)]
        masks = [infl.forget_sets.random_set(data, size, seed=size).retained(data.n_train) for size in sizes]
        # Methods take as long whatever is predicted.
        changes = {mask.tobytes(): np.zeros(data.n_columns, np.float32) for mask in masks}
        arms = [(method, METHODS[method], {}) for method in (*world.methods, OURS)]
        arms += [(words(OURS, one), METHODS[OURS], one) for one in CHEAP]
        arms += [("fine-tune epochs=1", METHODS["fine-tune"], {"epochs": 1})]
        ensembles: dict[str, Any] = {"retraining": Ensemble(world.algorithm, data, layout)}
        for arm, method, given in arms:
            more: Any = {"originals": originals, "changes": changes, "settings": method.settings(given)}
            ensembles[arm] = UnlearningEnsemble(world.algorithm, data, layout, method=method, **more)
        rows = []
        for mask in (masks[0], *masks):  # the first compiles
            rows.append({})
            for arm, ensemble in ensembles.items():
                before = time.process_time()
                ensemble.train(keys, np.tile(mask, (N_TIMED, 1)))
                rows[-1][arm] = time.process_time() - before
        seconds[name] = {arm: [row[arm] for row in rows[1:]] for arm in ensembles}
        retraining = np.array(seconds[name]["retraining"])
        ratios[name] = {
            arm: [float(f(of / retraining)) for f in (np.median, np.min, np.max)] for arm, of in seconds[name].items()
        }
        print(name, {arm: round(one[0], 3) for arm, one in ratios[name].items()}, flush=True)
    return ratios, {"seconds": seconds, "n_models": N_TIMED}


def words(method: str, settings: Mapping[str, float]) -> str:
    """A method with its settings."""
    return " ".join([method, *(f"{key}={value:g}" for key, value in settings.items())])


def mean(pairs: list[list[float]]) -> list[float]:
    """Mean of values with errors; its error is that of the models, not of the choice of sets."""
    values, errors = np.array(pairs).T
    return [float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors))]


if __name__ == "__main__":
    main()

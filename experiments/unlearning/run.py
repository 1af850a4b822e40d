r"""Which method of unlearning comes nearest to retraining without S, and which to retraining without its whole concept?

    python experiments/unlearning/run.py --work FOLDER [--parts settings digits ...]   # see README.md for the time; resumable
    python experiments/unlearning/run.py --small        # a minute

The worlds are those of worlds.py: digits, Fashion-MNIST with a perceptron and with a network with batch norm, and verses. Every
method begins from the same models of D, paired by seed with those retrained without each set and without its whole concept.

Settings are chosen on the development world alone, which has other digits planted otherwise: the part named settings tries
some for every method, scores them by the distance to its oracles and by that to what infl predicts of these, and keeps the best
by each. The method stop-then-match was designed there, too. Nothing was chosen by what is reported of the other worlds.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import argument_parser, cached, verdict_row, work_folder, write_part
from worlds import SMALL, WORLDS, World, make_sets, support_sets  # pyright: ignore[reportMissingImports]

import infl
from infl.pipeline.jobs import collection_keys
from infl.pipeline.weights import load_originals
from infl.records import Evaluation, ForgetSet, MetricName, Outcomes
from infl.report.evaluations import gamma_curves
from infl.store import Run, leave_out_name
from infl.training.ensemble import Ensemble
from infl.unlearning.ensemble import UnlearningEnsemble, key_bytes
from infl.unlearning.methods import METHODS
from infl.untraining.distance import measure_distance, take

OURS = "stop-then-match"
N_TRIED = 16  # models a side, by which settings are chosen
N_SUPPORT = 12  # sets of examples that others lean on
N_TIMED = 8  # models of a batch, of which the processor time is measured
METRICS: tuple[MetricName, ...] = (
    *("shift", "ks", "energy", "klom", "tug-of-war", "epsilon", "competition", "u-lira", "relative", "membership"),
)
LARGER_IS_BETTER = ("tug-of-war", "competition", "relative")
# At less than half of a retraining.
CHEAP = [{"first": 2, "epochs": 3}, {"first": 2, "epochs": 3, "learning_rate": 9e-3}]
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
        sets += support_sets(run, planted, memorization, N_SUPPORT)
    if world is SMALL:
        sets = [sets[0], *planted, next(one for one in sets if one.concept)]
    whole = infl.forget_sets.whole_concepts([one for one in sets if one.concept])
    for _ in infl.verify_effects(run, [*sets, *whole], n_models=world.n_models, stop=None, algorithm=world.algorithm):
        pass
    return infl.open_run(run.place), sets


def measure_world(world: World, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Every method on every set: summary and rows."""
    run, sets = prepare(world, folder)
    predicted = {one.forget_set.name: one.regime for one in infl.predict(run, sets)} if world.n_subsets else {}
    methods = [*world.methods, *([OURS] if predicted else ())]
    collections = {
        method: infl.unlearn(run, sets, method=method, n_models=world.n_unlearned, algorithm=world.algorithm)
        for method in methods
    }
    run = infl.open_run(run.place)
    rows, evaluations = {}, list[Evaluation]()
    for number, one in enumerate(sets):
        measured = world.metrics and (number % world.metrics == 0 or one.name.startswith("10% of patch"))
        path = folder / "evaluated" / f"{one.name}.pickle"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(pickle.dumps(evaluate_set(run, one, methods, METRICS if measured else ())))
        found = pickle.loads(path.read_bytes())
        evaluations += found
        rows[one.name] = {e.method: row_of(e) for e in found}
    summary = summarize(rows, evaluations, predicted)
    return summary, {
        "rows": rows,
        "predicted": predicted,
        "retrained": {one.forget_set.name: verdict_row(one.retrained) for one in evaluations},
        "sizes": {one.name: len(one) for one in sets},
        "n_train": run.dataset().n_train,
        "n_held_out": run.dataset().n_held_out,
        "n_models": world.n_models,
        "n_unlearned": world.n_unlearned,
        "n_subsets": world.n_subsets,
        "patch": backdoor(run, world, sets, evaluations, collections),
    }


def evaluate_set(run: Run, one: ForgetSet, methods: Sequence[str], metrics: Sequence[MetricName]) -> list[Evaluation]:
    """Evaluations of methods with their default settings, beside nothing and retraining."""
    of = {}
    for found in infl.evaluate(run, [one], metrics=metrics, quiet=True):
        method = found.method.split()[0]  # what follows are settings, where the run holds several
        if method not in METHODS or found.settings == METHODS[method].settings({}):
            of[method] = replace(found, method=method)
    return [of[method] for method in ("nothing", "retraining", *methods)]


def with_setting(run: Run, sets: Sequence[ForgetSet], method: str, settings: Any) -> list[float]:
    """Mean T of a method, of `N_TRIED` models a side."""
    names, original = infl.unlearn(run, sets, method=method, n_models=N_TRIED, **settings), run.outcomes("full").load()
    opened, found = infl.open_run(run.place), list[list[float]]()
    for one in sets:
        models, oracle = (opened.outcomes(name).load() for name in (names[one.name], leave_out_name(one.ids)))
        sides = [take(side, slice(N_TRIED)) for side in (models, oracle, original)]
        value = measure_distance(one, sides[0], sides[1], original=sides[2]).value
        found.append([value.value, value.se])
    return mean(found)


def row_of(one: Evaluation) -> dict[str, Any]:
    """Distances, verdict, and each metric beside its null."""
    full = one.to_full_oracle
    row = {
        "is": one.verdict,
        "T": [one.to_oracle.value.value, one.to_oracle.value.se],
        "T_full": None if full is None else [full.value.value, full.value.se],
        "diverged": one.n_diverged,
    }
    metrics = {
        name: [m.value.value, m.null.value]
        for name, m in one.metrics.items()
        if not name.endswith(("(retained)", "(held out)"))
    }
    return row | ({"metrics": metrics} if metrics else {})


def summarize(
    rows: Mapping[str, Any], evaluations: Sequence[Evaluation], predicted: Mapping[str, str]
) -> dict[str, Any]:
    """Mean T by regime and method, what each metric says of it, and the curves over gamma."""
    of: dict[str, list[str]] = {}
    for one in evaluations:
        if one.method == "nothing":
            of.setdefault(one.retrained.regime, []).append(one.forget_set.name)
            if one.to_full_oracle is not None:
                of.setdefault("parts", []).append(one.forget_set.name)
    of["all"] = list(rows)
    names: list[str] = list(next(iter(rows.values())))
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
    }


def what_metrics_say(rows: Mapping[str, Any]) -> dict[str, Any]:
    """Of each metric: rank correlation with T over methods and sets, and over methods within sets; the method it puts first."""
    methods = [one for one in next(iter(rows.values())) if one not in ("nothing", "retraining", "match-oracle")]
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
    """Of each method the best of what is tried on the development world, by its oracles and by their prediction, on digits."""
    world, folder = WORLDS["development"], work / "development"
    run, sets = prepare(world, folder)
    original = take(run.outcomes("full").load(), slice(N_TRIED))
    predicted = {one.forget_set.name: one.effect for one in infl.predict_effects(run, sets)}
    tried = {}
    for method, grid in TRIED.items():
        for settings in grid:

            def score(method: str = method, settings: Any = settings) -> dict[str, Any]:
                names = infl.unlearn(run, sets, method=method, n_models=N_TRIED, quiet=True, **settings)
                opened = infl.open_run(run.place)
                models = {one.name: take(opened.outcomes(names[one.name]).load(), slice(N_TRIED)) for one in sets}
                rows = []
                for one in sets:
                    oracle = take(run.outcomes(leave_out_name(one.ids)).load(), slice(N_TRIED))
                    exact = measure_distance(one, models[one.name], oracle, original=original).value.value
                    rows.append([exact, distance_to_prediction(one, models[one.name], original, predicted[one.name])])
                return {"rows": rows}

            rows = np.array(cached(folder / "tried" / f"{words(method, settings)}.json", score)["rows"])
            tried.setdefault(method, []).append(
                {"settings": settings, "oracle": float(rows[:, 0].mean()), "prediction": float(rows[:, 1].mean())}
            )
            print(method, tried[method][-1], flush=True)
    summary: dict[str, dict[str, Any]] = {
        method: {by: min(found, key=lambda one, by=by: one[by])["settings"] for by in ("oracle", "prediction")}
        | {"tried": len(found)}
        for method, found in tried.items()
    }
    cheap = [one for one in tried[OURS] if one["settings"] in CHEAP]
    summary[OURS]["cheap"] = min(cheap, key=lambda one: one["prediction"])["settings"]
    run, reported = prepare(WORLDS["digits"], work / "digits")
    for method, found in summary.items():
        settings = {"default": {}, **{by: found[by] for by in ("oracle", "prediction", "cheap") if by in found}}
        found["T"] = {by: with_setting(run, reported[::4], method, one) for by, one in settings.items()}
    fashion = prepare(WORLDS["fashion"], work / "fashion")
    summary[OURS]["T"]["cheap on fashion"] = with_setting(*fashion, OURS, summary[OURS]["cheap"])
    return summary, {"tried": tried, "sets": [one.name for one in sets], "n_models": N_TRIED}


def distance_to_prediction(forget_set: ForgetSet, models: Outcomes, original: Outcomes, effect: np.ndarray) -> float:
    """Mean over S, retained, affected and other held-out examples of |accuracy - what is predicted of A(D\\S)|."""
    n, accuracy = models.n_train, models.of("correct").mean(axis=0)
    apart = np.abs(accuracy - np.clip(original.of("correct").mean(axis=0) - effect, 0, 1))
    of_set = np.isin(np.arange(models.n_columns), forget_set.ids)
    held_out, affected = np.arange(models.n_columns) >= n, np.abs(effect) >= 0.1
    groups = (of_set, ~of_set & ~held_out, held_out & affected, held_out & ~affected)
    return float(np.mean([apart[group].mean() for group in groups if group.any()]))


def measure_costs(work: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Processor time of each method in that of retraining: on one core, in turn, without compilation, by world and method."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    ratios, seconds = {}, {}
    for name in ("digits", "fashion"):
        world, layout = WORLDS[name], infl.Layout(n_devices=1, models_per_device=N_TIMED)
        data, _ = world.plant()
        settings: Any = {"n_models": 1, "n_references": N_TIMED, "algorithm": world.algorithm}
        run = infl.train(data, work / "cost" / name, **settings)
        infl.keep_weights(run, n_models=N_TIMED)
        keys, models = collection_keys(run, "full", range(N_TIMED)), range(N_TIMED)
        originals = dict(zip(key_bytes(keys), load_originals(run, models, world.algorithm, data), strict=True))
        masks = [infl.forget_sets.random_set(data, size, seed=size).retained(data.n_train) for size in (10, 20, 40, 80)]
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

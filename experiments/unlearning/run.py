r"""Which method of unlearning comes nearest to retraining without S, and which to retraining without its whole concept?

    python experiments/unlearning/run.py --work FOLDER    # see README.md for the time; resumable
    python experiments/unlearning/run.py --small        # a minute

Digits (n = 600, MLP 64-64-10, 30 epochs), in which 12 labels are flipped at random, 24 fours are called nines, and 40 images
bear a patch and the label 0; 100 held-out images bear it under their own label. 17 sets: parts and wholes of classes, clusters,
random and memorized examples, and what was planted, wholly and in part. Every method begins from the same models of D, paired
by seed with those retrained without each set and without its whole concept.

Methods have their default settings, which come from a prototype on other sets of unplanted digits and a larger network:
nothing was chosen by what is reported. `by predicted regime` is no method: a Newton step where infl predicts a no-op, else
match-prediction; named before the run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import argument_parser, cached, verdict_row, work_folder, write_results

import infl
from infl.records import Dataset, Evaluation, ForgetSet

CHOICE = {"no-op": "newton"}  # by predicted regime, else match-prediction
SMALL = ("fine-tune", "neggrad+", "newton")
METHODS = (
    *("newton", "match-prediction", "fine-tune", "neggrad+", "neggrad-to-prediction", "push", "match-oracle", "npo"),
    *("random-labels", "scrub", "ssd", "eu-k"),
)


def main() -> None:
    """Run what is missing and write results.json."""
    options = argument_parser(__doc__, __file__, small="200 digits, 4 sets, 3 methods, 16 models a side").parse_args()
    n_models, n_subsets = (16, 60) if options.small else (32, 400)
    methods = SMALL if options.small else METHODS
    with work_folder(options) as work:
        dataset, planted = make_world(small=options.small)
        algorithm = infl.Algorithm(hidden=(64,))
        run = infl.train(dataset, work / "run", n_models=n_subsets, n_references=n_models, algorithm=algorithm)
        sets = make_sets(run, dataset, planted, small=options.small)
        predicted = cached(
            work / "predicted.json", lambda: {one.forget_set.name: one.regime for one in infl.predict(run, sets)}
        )
        whole = infl.forget_sets.whole_concepts([one for one in sets if one.concept])
        for _ in infl.verify_effects(run, [*sets, *whole], n_models=n_models, stop=None):
            pass
        for method in methods:
            infl.unlearn(run, sets, method=method, n_models=n_models)
        rows = {
            one.name: cached(work / f"{one.name}.json", lambda one=one: evaluated(run, one))["rows"] for one in sets
        }
        results = {
            "summary": summarize(rows, predicted),
            "rows": rows,
            "predicted": predicted,
            "sizes": {one.name: len(one) for one in sets},
            "n_models": n_models,
            "n_subsets": n_subsets,
        }
        write_results(options.out, results)


def make_world(*, small: bool) -> tuple[Dataset, list[ForgetSet]]:
    """Digits with flips, a confusion of classes and a backdoor, and what was planted."""
    n, m, shown, size = (200, 100, 30, 0.5) if small else (600, 600, 100, 1)
    data = infl.load("digits", n_train=n, n_held_out=m)
    data, flips = infl.planting.flip_labels(data, int(12 * size), name="flips")
    confusion: Any = {"source_label": 4, "to": 9, "avoid": flips.ids, "name": "confusion"}
    data, confused = infl.planting.flip_labels(data, int(24 * size), **confusion)
    patch: Any = {"label": 0, "size": 2, "avoid": [*flips.ids, *confused.ids], "n_held_out": shown, "name": "patch"}
    data, poisoned = infl.planting.poison_patch(data, int(40 * size), **patch)
    return data, [flips, confused, poisoned]


def make_sets(run: infl.Run, dataset: Dataset, planted: list[ForgetSet], *, small: bool) -> list[ForgetSet]:
    """The forget sets: for each regime some, of what was planted wholes and parts."""
    flips, confused, poisoned = planted
    part, sets, used = infl.forget_sets.take_fraction, infl.forget_sets, sorted({i for s in planted for i in s.ids})

    def clean(one: ForgetSet, name: str) -> ForgetSet:
        return ForgetSet(name, tuple(i for i in one.ids if i not in used))

    def parts(whole: ForgetSet, fraction: float) -> ForgetSet:
        some = part(whole, fraction, seed=1)
        return ForgetSet(f"{fraction:.0%} of {whole.name}", some.ids, concept=whole.ids)

    classes = {k: clean(sets.class_set(dataset, k), f"class {k}") for k in (3, 5, 7, 8)}
    random = [clean(sets.random_set(dataset, size, seed=seed), f"random {size}") for size, seed in ((40, 5), (20, 6))]
    if small:
        return [random[0], classes[3], flips, parts(poisoned, 0.5)]
    memorized = infl.memorization(run).value.copy()
    memorized[used] = -1
    order = np.argsort(-memorized)
    clusters = sets.clusters(dataset, 25)
    largest = np.argsort(-np.bincount(clusters[clusters >= 0]))[:2]
    return [
        *random,
        *(ForgetSet(f"half of class {k}", part(classes[k], 0.5, seed=1).ids) for k in (3, 7)),
        *(ForgetSet(f"memorized {size}", tuple(order[:size].tolist())) for size in (12, 30)),
        flips,
        classes[3],
        classes[8],
        ForgetSet("80% of class 5", part(classes[5], 0.8, seed=1).ids),
        *(
            clean(ForgetSet("c", tuple(np.flatnonzero(clusters == k).tolist())), f"cluster {i}")
            for i, k in enumerate(largest)
        ),
        confused,
        parts(confused, 0.5),
        poisoned,
        parts(poisoned, 0.5),
        parts(poisoned, 0.1),
    ]


def evaluated(run: infl.Run, forget_set: ForgetSet) -> dict[str, Any]:
    """What is said of each method on one set."""
    return {"rows": {one.method: evaluation_row(one) for one in infl.evaluate(run, [forget_set])}}


def evaluation_row(one: Evaluation) -> dict[str, Any]:
    """Its distances, what the method did, and what it cost in retrainings."""
    full = one.to_full_oracle
    return {
        "verdict": one.verdict,
        "T": [one.to_oracle.value.value, one.to_oracle.value.se],
        "T_full": None if full is None else [full.value.value, full.value.se],
        "excess": [one.to_oracle.excess.value, one.to_oracle.excess.se],
        "cost": one.cost,
        "diverged": one.n_diverged,
        "did": verdict_row(one.effect),
        "retrained": verdict_row(one.retrained),
    }


def summarize(rows: dict[str, Any], predicted: dict[str, str]) -> dict[str, Any]:
    """Mean T of each method over the sets of each regime (of retraining), over all, and of parts to their whole concepts."""
    sets_of: dict[str, list[str]] = {}
    for name, methods in rows.items():
        sets_of.setdefault(methods["nothing"]["retrained"]["regime"], []).append(name)
        if methods["nothing"]["T_full"] is not None:
            sets_of.setdefault("parts", []).append(name)
    sets_of["all"] = list(rows)
    table: dict[str, Any] = {}
    for method in next(iter(rows.values())):
        of_regime = {regime: mean([rows[name][method]["T"] for name in names]) for regime, names in sets_of.items()}
        if "parts" in sets_of:
            of_regime["to the concept"] = mean([rows[name][method]["T_full"] for name in sets_of["parts"]])
        untrained = sum(methods[method]["verdict"] in ("untrains", "both") for methods in rows.values())
        cost = float(np.mean([methods[method]["cost"] for methods in rows.values()]))
        diverged = sum(methods[method]["diverged"] for methods in rows.values())
        table[method] = {"T": of_regime, "untrains": untrained, "cost": cost, "diverged": diverged}
    choice = {name: CHOICE.get(regime, "match-prediction") for name, regime in predicted.items()}
    if all(choice[name] in methods for name, methods in rows.items()):
        by_choice = {
            regime: mean([rows[name][choice[name]]["T"] for name in names]) for regime, names in sets_of.items()
        }
        untrained = sum(rows[name][choice[name]]["verdict"] in ("untrains", "both") for name in rows)
        cost = float(np.mean([rows[name][choice[name]]["cost"] for name in rows]))
        table["by predicted regime"] = {"T": by_choice, "untrains": untrained, "cost": cost, "diverged": 0}
    return {"sets": {regime: len(names) for regime, names in sets_of.items()}, "methods": table}


def mean(pairs: list[list[float]]) -> list[float]:
    """Mean of values with errors; its error is that of the models, not of the choice of sets."""
    values, errors = np.array(pairs).T
    return [float(values.mean()), float(np.sqrt((errors**2).sum()) / len(errors))]


if __name__ == "__main__":
    main()

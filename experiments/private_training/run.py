"""Is untraining a no-op for a differentially private model? The note's section 7 says that a private model has nothing to lose.

    python experiments/private_training/run.py --work FOLDER    # see README.md for the time; resumable
    python experiments/private_training/run.py --small       # seconds

One pipeline, five arms: DP-SGD with epsilon 1, 3 and 8 (delta 1e-5, neighbours by adding or removing one example), the same
with clipping and no noise, and with neither. Everything else is the same: 4,000 Fashion-MNIST images at half size, 40 of them
with flipped labels; an MLP 196-64-10; Poisson samples of 200 on average, 400 steps. For each arm: the same forget sets,
measured by retraining; memorization of all examples from models of 70% of D; accuracy of models of D.
Settings were chosen by the accuracy of two models an arm, on another draw of 4,000 of the 60,000 images: so that the arm with
neither fits its training set better than others, and the others learn.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from fashion import half_size_fashion
from record import argument_parser, mean_and_error, training_seconds, verdict_row, work_folder, write_results

import infl
from infl.records import Dataset, ForgetSet

ARMS = {"epsilon 1": 1.0, "epsilon 3": 3.0, "epsilon 8": 8.0, "clipped": math.inf, "neither": math.inf}
DELTA, CLIP = 1e-5, 1.0
SIZES = (1, 2, 5, 10, 20)  # of groups whose protection is computed


def main() -> None:
    """Run what is missing and write results.json."""
    parser = argument_parser(__doc__, __file__, small="digits, one arm, few models")
    parser.add_argument("--arm", choices=list(ARMS), help="train this arm only, and write nothing")
    options = parser.parse_args()
    with work_folder(options) as work:
        dataset, flipped = make_dataset(small=options.small)
        arms: dict[str, Any] = {}
        # The arm that memorizes comes first: its memorization chooses two of the sets.
        names = ["epsilon 3"] if options.small else ["neither", *(name for name in ARMS if name != "neither")]
        sets = None
        for name in names:
            if options.arm not in (None, name) and sets:
                continue
            run = train(name, dataset, work / name.replace(" ", "-"), small=options.small)
            sets = sets or make_sets(dataset, flipped, infl.memorization(run.outcomes("design")), small=options.small)
            if options.arm in (None, name):
                arms[name] = measure(name, run, sets, flipped, small=options.small)
                print(name, arms[name]["summary"], flush=True)
            if options.arm == name:
                return
    summary = {name: arm["summary"] for name, arm in arms.items()}
    write_results(options.out, {"summary": summary, "arms": arms}, "dp-accounting")


def make_dataset(*, small: bool) -> tuple[Dataset, ForgetSet]:
    """The examples with a hundredth of the labels flipped, and which they are."""
    dataset = infl.load("digits", n_train=200, n_held_out=100) if small else half_size_fashion(4000, 2000, seed=1)
    return infl.planting.flip_labels(dataset, dataset.n_train // 100, seed=1, name="all flipped")


def algorithm(arm: str, dataset: Dataset, *, small: bool) -> infl.Algorithm:
    """The arm's training; noise is what its epsilon takes."""
    full = {
        "hidden": (64,),
        "batch_size": 200,
        "epochs": 20,
        "learning_rate": 0.2,
        "momentum": 0.9,
        "schedule": "cosine",
    }
    settings = full | ({"hidden": (16,), "batch_size": 50, "epochs": 3} if small else {})
    rate, steps = infl.Algorithm(**settings).sampling(dataset.n_train)
    clip, noise = (math.inf if arm == "neither" else CLIP), 0.0
    if math.isfinite(ARMS[arm]):
        noise = infl.accounting.noise_multiplier(ARMS[arm], sampling_rate=rate, steps=steps, delta=DELTA)
    return infl.Algorithm(**settings, privacy=infl.Privacy(clip, noise))


def train(arm: str, dataset: Dataset, folder: Path, *, small: bool) -> infl.Run:
    """Models of balanced subsets of 70%, and of D."""
    n_models, n_of_d = (20, 8) if small else (80, 32)
    return infl.train(
        dataset,
        run=folder,
        n_models=n_models,
        n_references=n_of_d,
        design=infl.Design("balanced", 0.7),
        algorithm=algorithm(arm, dataset, small=small),
        layout=infl.Layout(models_per_device=16, mode="map"),
    )


def make_sets(dataset: Dataset, flipped: ForgetSet, memorization: Any, *, small: bool) -> list[ForgetSet]:
    """Forget sets of every kind and several sizes, the same for all arms."""
    kinds = infl.forget_sets
    few = [
        kinds.random_set(dataset, dataset.n_train // 20, name="random, 5%"),
        kinds.class_set(dataset, 8, name="class 8"),
    ]
    if small:
        return [flipped, *few]
    clusters = [kinds.cluster_set(dataset, c, n_clusters=100, name=f"cluster {c}") for c in pick_clusters(dataset)]
    return [
        kinds.random_set(dataset, 40, seed=7, name="random, 1%"),  # seed 1 drew those whose labels are flipped
        *few,
        kinds.memorized_set(memorization, 40, highest=False, name="40 least memorized"),
        ForgetSet("10 flipped", flipped.ids[::4]),
        flipped,
        kinds.memorized_set(memorization, 10, name="10 most memorized"),
        kinds.memorized_set(memorization, 40, name="40 most memorized"),
        kinds.neighbours_set(
            dataset, int(np.argsort(memorization.value)[dataset.n_train // 2]), 20, name="20 neighbours"
        ),
        *clusters,
        kinds.class_set(dataset, 6, fraction=0.5, name="half of class 6"),
        kinds.class_set(dataset, 6, name="class 6"),
        kinds.class_set(dataset, 1, fraction=0.9, name="90% of class 1"),
        kinds.class_set(dataset, 1, name="class 1"),
    ]


def pick_clusters(dataset: Dataset) -> list[int]:
    """Three of the 100 clusters: the smallest of at least ten, the median, and the largest."""
    sizes = np.bincount(infl.forget_sets.clusters(dataset, 100))
    by_size = [int(c) for c in np.argsort(sizes, kind="stable") if sizes[c] >= 10]
    return [by_size[0], by_size[len(by_size) // 2], by_size[-1]]


def measure(arm: str, run: infl.Run, sets: list[ForgetSet], flipped: ForgetSet, *, small: bool) -> dict[str, Any]:
    """Regimes by retraining, memorization, accuracy, and what the arm's privacy promises."""
    rows = []
    for verdict in infl.verify(
        run, sets, n_models=8 if small else 16, first=8, layout=infl.Layout(models_per_device=16, mode="map")
    ):
        row = {"set": verdict.forget_set.name, "size": len(verdict.forget_set), **verdict_row(verdict)}
        rows.append({**row, "probability": verdict.probability, "models": verdict.n_models})
    of_d = run.outcomes("full").load().correct
    n = run.dataset().n_train
    assert of_d is not None
    noise, promises = run_noise(run), promised(run, small=small)
    summary = {
        "noise_multiplier": noise,
        "accuracy_held_out": mean_and_error(of_d[:, n:].mean(axis=1)),
        "accuracy_trained": mean_and_error(of_d[:, :n].mean(axis=1)),
        "memorization": mean_memorization(run, np.arange(n)),
        "memorization_of_flipped": mean_memorization(run, np.array(flipped.ids)),
        "memorized_by_0.1": share_memorized(run),
        "largest_effect_of_one": promises[0]["largest_effect"],
        "regimes": {
            regime: sum(row["regime"] == regime for row in rows) for regime in (*infl.records.REGIMES, "undetermined")
        },
        "sets": len(rows),
    }
    return {"summary": summary, "promises": promises, "sets": rows, "training_seconds": training_seconds(run)}


def run_noise(run: infl.Run) -> float:
    """The noise multiplier in the run's manifest."""
    return infl.Privacy.parse(run.manifest["algorithm"]["privacy"].split()).noise_multiplier


def promised(run: infl.Run, *, small: bool) -> list[dict[str, float]]:
    """Epsilon at delta, and the largest effect possible, for groups of several sizes."""
    settings, n = run.manifest["algorithm"], run.dataset().n_train
    rate, steps = infl.Algorithm(batch_size=settings["batch_size"], epochs=settings["epochs"]).sampling(n)
    noise, rows = run_noise(run), []
    for group in SIZES[:2] if small else SIZES:
        same = {"sampling_rate": rate, "steps": steps, "group": group}
        epsilon = infl.accounting.epsilon(noise, **same, delta=DELTA)
        rows.append(
            {"group": group, "epsilon": epsilon, "largest_effect": infl.accounting.largest_effect(noise, **same)}
        )
    return rows


def mean_memorization(run: infl.Run, ids: np.ndarray) -> list[float]:
    """Mean memorization of these examples; its error by leaving out one model at a time."""
    outcomes = run.outcomes("design").load()
    assert outcomes.correct is not None
    inside, correct = outcomes.masks[:, ids].astype(float), outcomes.correct[:, ids].astype(float)
    n_in, hits_in, hits = inside.sum(axis=0), (inside * correct).sum(axis=0), correct.sum(axis=0)
    n_models = len(inside)

    def contrast(n_in: np.ndarray, hits_in: np.ndarray, hits: np.ndarray, total: int) -> np.ndarray:
        return np.mean(hits_in / n_in - (hits - hits_in) / (total - n_in), axis=-1)

    without = contrast(n_in - inside, hits_in - inside * correct, hits - correct, n_models - 1)
    error = np.sqrt((n_models - 1) * without.var())
    return [float(contrast(n_in, hits_in, hits, n_models)), float(error)]


def share_memorized(run: infl.Run) -> float:
    """Share of examples with memorization of 0.1 or more, were true scores normal with the spread that errors leave."""
    from scipy import stats

    estimate = infl.memorization(run.outcomes("design"))
    spread = np.sqrt(max(np.nanvar(estimate.value) - np.nanmean(estimate.se**2), 1e-12))
    return float(stats.norm.sf((0.1 - np.nanmean(estimate.value)) / spread))


if __name__ == "__main__":
    main()

"""How well does memorization find wrong labels, and do cheaper scores find them as well?

    python experiments/label_noise/run.py --work FOLDER    # see README.md for the time; resumable
    python experiments/label_noise/run.py --small       # seconds

Digits (n = 1,000, MLP 64-128-10) and Fashion-MNIST at half size (n = 2,000, MLP 196-64-10); in each 5, 10 and 20% of the
training labels are replaced by another class, three times with other examples, labels and subsets. Scores of every training
example, high where the label is suspect:

- memorization from 10 to 1,000 models of subsets of 70%, and what the same models say without using the example (`left out`);
- statistics of training on all of D, from one model and from ten: loss and margin after the last epoch, and over all epochs
  area under the margin (Pleiss et al. 2020), mean confidence (Swayamdipta et al. 2020), learning speed (share of epochs with
  the label predicted), first epoch learned, forgetting events (Toneva et al. 2019);
- disagreement of the labels of the ten nearest neighbours in pixels.

Memorization presumes models that fit what they train on. Those do not fit flipped labels, so at 10% there are two more worlds
("fitted") with twice the learning rate and 100 epochs, which do or nearly; they were added after the others had been seen.

Each is evaluated by ROC AUC and by precision at the number flipped. Other settings were not chosen by results.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

sys.path.insert(0, str(Path(__file__).parents[1]))
from fashion import half_size_fashion
from record import argument_parser, cached, mean_and_error, work_folder, write_results

import infl
from infl.records import Dataset
from infl.training.ensemble import model_keys
from infl.training.model import train_model

RATES, WORLDS = (0.05, 0.1, 0.2), 3
CURVE = (10, 30, 100, 300, 1000)
EPOCHS = {"digits": 30, "fashion": 20, "digits fitted": 100, "fashion fitted": 100}
FITTING = ("digits fitted", "fashion fitted")
MAX_MODELS = {"digits": 1000, "fashion": 1000, "digits fitted": 1000, "fashion fitted": 300}  # models at 10%
USUAL = 100  # models for the rates that are not of the curve
NEIGHBOURS = 10


def main() -> None:
    """Run what is missing and write results.json."""
    parser = argument_parser(__doc__, __file__, small="200 digits, one rate, two worlds, few models")
    parser.add_argument("--only", help="a prefix of the names of the worlds to run; writes nothing")
    options = parser.parse_args()
    with work_folder(options) as work:
        worlds: dict[str, Any] = {}
        for name, source, rate, seed in list_worlds(small=options.small):
            if options.only and not name.startswith(options.only):
                continue
            measure = partial(one_world, source, rate, seed, work / name, small=options.small)
            worlds[name] = cached(work / f"{name}.json", measure)
            print(name, f"{worlds[name]['seconds']:.0f} s", flush=True)
    if not options.only:
        write_results(options.out, {"summary": summarize(worlds), "worlds": worlds}, "scikit-learn")


def list_worlds(*, small: bool) -> Iterator[tuple[str, str, float, int]]:
    """Name, data set, rate and seed of each world; the data sets at one rate also with models that fit what they train on."""
    for source in ("digits",) if small else ("digits", "fashion", *FITTING):
        for rate in (0.1,) if small or source in FITTING else RATES:
            for seed in range(2 if small else WORLDS):
                yield f"{source}-{rate:.0%}-{seed}".replace("%", ""), source, rate, seed


def one_world(source: str, rate: float, seed: int, folder: Path, *, small: bool) -> dict[str, Any]:
    """Flip labels, score every example, and say how well each score finds the flipped ones."""
    start = time.perf_counter()
    if source.startswith("digits"):
        clean = infl.load("digits", n_train=200 if small else 1000, n_held_out=100 if small else 797, seed=seed)
    else:
        clean = half_size_fashion(2000, 1000, seed=seed)
    dataset, planted = infl.planting.flip_labels(clean, round(rate * clean.n_train), seed=seed)
    flipped = np.isin(np.arange(dataset.n_train), planted.ids)
    algorithm = infl.Algorithm(
        hidden=(128,) if source.startswith("digits") else (64,),
        learning_rate=0.1 if source in FITTING else 0.05,
        schedule="constant",  # so that a model of fewer epochs is the same model, earlier
        epochs=8 if small else EPOCHS[source],
    )
    scores = {"nearest neighbours, 0 models": neighbours_disagree(dataset)}
    n_models = 10 if small else MAX_MODELS[source] if rate == 0.1 else USUAL
    run = infl.train(
        dataset,
        run=folder,
        n_models=n_models,
        n_references=0,
        design=infl.Design("balanced", 0.7),
        algorithm=algorithm,
        seed=seed,
        layout=infl.Layout(models_per_device=16, mode="map"),
    )
    for models in (n for n in CURVE if n <= n_models):
        outcomes = run.outcomes("design", range(models)).load()
        scores |= {f"{name}, {models} models": values for name, values in subset_scores(outcomes).items()}
    # Seeds that no model of the design has.
    each = training_scores(dataset, algorithm, n_models=3 if small else 10, seed=seed + 1000)
    for models in (1, len(next(iter(each.values())))):
        scores |= {f"{name}, {models} models": values[:models].mean(axis=0) for name, values in each.items()}
    found = {name: quality(values, flipped) for name, values in scores.items()}
    outcomes = run.outcomes("design").load()
    assert outcomes.correct is not None
    inside, correct = outcomes.masks[:, flipped], outcomes.correct[:, : dataset.n_train][:, flipped]
    learned = {"in": float(correct[inside].mean()), "out": float(correct[~inside].mean())}
    return {"flipped_correct": learned, "scores": found, "seconds": time.perf_counter() - start}


def subset_scores(outcomes: infl.Outcomes) -> dict[str, np.ndarray]:
    """Memorization, and what models without an example say of its label, as correctness and as margin."""
    estimates = {kind: infl.memorization(outcomes, outcome=kind) for kind in ("correct", "margin")}
    found = {}
    for kind, title in (("correct", ""), ("margin", " of margins")):
        found[f"memorization{title}"] = estimates[kind].value
        mean_out = estimates[kind].mean_out
        assert mean_out is not None
        found[f"left out{title}"] = -mean_out
    return found


def training_scores(dataset: Dataset, algorithm: infl.Algorithm, *, n_models: int, seed: int) -> dict[str, np.ndarray]:
    """Statistics of training on all of D, [n_models, n] each, from the model after every epoch, or every third of 100."""
    n, log_probabilities = dataset.n_train, trainer(algorithm, dataset.n_train, dataset.n_classes)
    images, labels = jax.numpy.asarray(dataset.x_train), jax.numpy.asarray(dataset.labels[:n].astype(np.int32))
    keys, y = model_keys(seed, "design", np.arange(n_models)), dataset.labels[:n]
    found: dict[str, list[np.ndarray]] = {}
    every = max(1, algorithm.epochs // 30)
    for key in keys:
        looks = range(every, algorithm.epochs + 1, every)
        logs = np.stack([np.asarray(log_probabilities(key, images, labels, epochs)) for epochs in looks])
        own = logs[:, np.arange(n), y]
        others = np.where(np.arange(logs.shape[2]) == y[:, None], -np.inf, logs).max(axis=2)
        correct = own > others
        lost = (correct[:-1] & ~correct[1:]).sum(axis=0)
        one = {
            "loss": -own[-1],
            "margin": others[-1] - own[-1],
            "area under the margin": (others - own).mean(axis=0),
            "confidence over training": -np.exp(own).mean(axis=0),
            "learning speed": -correct.mean(axis=0),
            "first epoch learned": np.where(correct.any(axis=0), correct.argmax(axis=0), len(correct)).astype(float),
            "forgetting events": np.where(correct.any(axis=0), lost, len(correct)).astype(float),
        }
        for name, values in one.items():
            found.setdefault(name, []).append(values)
    return {name: np.stack(values) for name, values in found.items()}


@cache  # worlds of one data set share what is compiled
def trainer(algorithm: infl.Algorithm, n: int, n_classes: int) -> Callable[..., jax.Array]:
    """A compiled function of (key, images, labels, epochs): log-probabilities [n, classes] after training on all examples."""
    network = algorithm.build_network(n_classes)

    def log_probabilities(key: jax.Array, images: jax.Array, labels: jax.Array, epochs: jax.Array) -> jax.Array:
        everyone = jax.numpy.ones(n, bool)
        trained = train_model(key, everyone, images, labels, algorithm=algorithm, network=network, epochs=epochs)
        return jax.nn.log_softmax(network.apply(trained.params, images))

    return jax.jit(log_probabilities)


def neighbours_disagree(dataset: Dataset) -> np.ndarray:
    """Share of the ten nearest other training examples, by Euclidean distance of pixels, with another label."""
    pixels, labels = dataset.x_train.reshape(dataset.n_train, -1), dataset.labels[: dataset.n_train]
    near = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(pixels).kneighbors(return_distance=False)
    return (labels[near] != labels[:, None]).mean(axis=1)


def quality(scores: np.ndarray, flipped: np.ndarray) -> dict[str, float]:
    """ROC AUC, and the share of flipped ones among as many of the highest scores as there are flipped, ties shared out."""
    count, known = int(flipped.sum()), np.round(np.nan_to_num(scores, nan=0.0), 6)  # rounding breaks no ties
    threshold = np.sort(known)[-count]
    above, tied = known > threshold, known == threshold
    precision = (flipped[above].sum() + (count - above.sum()) * flipped[tied].mean()) / count
    return {"auc": float(roc_auc_score(flipped, known)), "precision": float(precision)}


def summarize(worlds: dict[str, Any]) -> dict[str, Any]:
    """Mean over the worlds of a data set and a rate, and the standard error of it."""
    summary: dict[str, Any] = {}
    for kind in dict.fromkeys(name.rpartition("-")[0] for name in worlds):
        those = [world["scores"] for name, world in worlds.items() if name.rpartition("-")[0] == kind]
        summary[kind] = {
            score: {
                measure: mean_and_error([world[score][measure] for world in those]) for measure in ("auc", "precision")
            }
            for score in those[0]
        }
    return summary


if __name__ == "__main__":
    main()

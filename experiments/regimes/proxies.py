"""Are the regimes of a network predicted from a bank of a cheaper one, and 32 models of its own?

    python experiments/regimes/proxies.py --work FOLDER --documents FOLDER --cifar FILE   # four hours on a core; resumable

FOLDER are those of convolutional.py and of experiments/text_regimes, which hold the large networks' models and the truth; a
ResNet-9 is trained here on images of Fashion-MNIST and of CIFAR-10: a bank of its own, and models without each of 40 sets.
Beside each a bank of a small network is trained on the same examples, and as a control one whose images are mixed up
within classes. Of the large network 16 models of subsets and 16 of D are read, then all of its own. Results go into
results.json, under `proxies`.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from convolutional import sample
from fashion import FASHION
from record import add_worlds, training_seconds
from run import fit, truth
from scoring import score
from worlds import World, make_dataset, make_sets

import infl
from infl.records import Dataset
from infl.store import Run
from infl.untraining.effects import Predictor, ResponsePredictor

FEW, N_MODELS, N_REFERENCES, MIN_SEEDS = 16, 512, 32, 8
MLP = infl.Algorithm(hidden=(64,), epochs=20, schedule="cosine")
NARROW = infl.Algorithm(
    "gpt",
    widths=(32,),
    hidden=(128,),
    batch_size=8,
    epochs=30,
    optimizer="adam",
    learning_rate=0.008,
    schedule="cosine",
)
CNN = infl.Algorithm("cnn", widths=(8, 16), hidden=(32,), epochs=20, schedule="cosine")
RESNET = {"network": "resnet9", "widths": (8, 16, 32, 64), "norm": "batch", "epochs": 10, "schedule": "cosine"}
N_SETS = 40  # of a ResNet-9
BANKS = {
    "fashion-cnn": (MLP, N_MODELS),
    "cifar-batch-norm": (MLP, N_MODELS),
    "fashion-resnet9": (CNN, N_MODELS),
    "cifar-resnet9": (CNN, N_MODELS),
    "scratch": (NARROW, 192),
}


def make_worlds(cifar: Path | None) -> dict[str, World]:
    """What a ResNet-9 is trained on here."""
    shared: dict[str, Any] = {"flipped": 0.03, "data_seed": 1, "share": 0.2, "half": True}
    adam = {**RESNET, "optimizer": "adam", "learning_rate": 0.003, "augmentation": infl.Augmentation(flip=True)}
    worlds = [
        World("fashion-resnet9", FASHION, 500, 500, RESNET, seeds=8, **shared),
        World("cifar-resnet9", str(cifar), 500, 500, adam, seeds=12, **shared),
    ]
    return {world.name: world for world in worlds}


def main() -> None:
    """Train the banks that are missing, predict, compare with the truth, and write the part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="work folder of convolutional.py")
    parser.add_argument("--documents", type=Path, help="work folder of experiments/text_regimes")
    parser.add_argument("--cifar", type=Path, help="an .npz with images of CIFAR-10")
    parser.add_argument("--worlds", nargs="*", default=list(BANKS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    options = parser.parse_args()
    parts, resnets = {}, make_worlds(options.cifar)
    for name in options.worlds:
        if name in resnets:
            train_resnet(resnets[name], options.work)
        large = infl.open_run((options.documents if name == "scratch" else options.work) / name)
        banks = {"proxy": large.dataset()}
        if not large.has_documents:
            banks["mixed-up proxy"] = mix_up(banks["proxy"])
        small = {bank: train_bank(name, data, options.work / f"{name}-{bank}") for bank, data in banks.items()}
        parts[name] = compare(large, small)
    add_worlds(options.out, "proxies", parts)


def train_bank(name: str, data: Dataset, place: Path) -> Run:
    """Train what is missing of the bank for a large network."""
    algorithm, n_models = BANKS[name]
    return infl.train(data, run=place, n_models=n_models, n_references=N_REFERENCES, algorithm=algorithm)


def train_resnet(world: World, work: Path) -> None:
    """Train a ResNet-9's own bank, and models without each of its sets: the memorized examples are those of its proxy."""
    (data, planted), algorithm = make_dataset(world), infl.Algorithm(**world.algorithm)
    small = train_bank(world.name, data, work / f"{world.name}-proxy")
    run = work / world.name
    run = infl.train(data, run=run, n_models=N_MODELS, n_references=N_REFERENCES, algorithm=algorithm)
    sets = sample(make_sets(world, data, planted, small.outcomes("design")))[:N_SETS]
    infl.forget_sets.write_forget_sets(run.folder / "sets.json", sets)
    for _ in infl.verify_effects(run, sets, n_models=world.seeds, stop=None, algorithm=algorithm):
        pass  # outcomes stay in the folder


def mix_up(data: Dataset) -> Dataset:
    """The images of D in another order within each class."""
    n, order = data.n_train, np.arange(data.n_columns)
    for label in range(data.n_classes):
        members = np.flatnonzero(data.y_train == label)
        order[members] = np.random.RandomState(0).permutation(members)
    return infl.from_arrays(data.images[order[:n]], data.y_train, data.images[n:], data.labels[n:])


def compare(large: Run, small: Mapping[str, Run]) -> dict[str, Any]:
    """Each way to predict the regimes of the large network's sets, against the truth."""
    documents = large.has_documents
    measured = [replace(one, held_out_only=documents) for one in truth(large.folder, min_seeds=MIN_SEEDS)]
    usual = "surrogate" if documents else "combined"
    ways: dict[str, Predictor] = {"32 models alone": fit(large, usual, FEW, FEW)}
    if not documents:
        ways["32 models, refits alone"] = fit(large, "surrogate", FEW, FEW)
    results: dict[str, Any] = {"carry_over": {}}
    for bank, run in small.items():
        proxy = fit(run, usual)
        assert isinstance(proxy, ResponsePredictor)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it does not carry over is among the results
            fitted = fit(large, usual, FEW, FEW, proxy)
        ways[f"32 models and {bank}"] = fitted
        results["carry_over"][bank] = [fitted.carry_over.value, fitted.carry_over.se]
        if bank == "proxy":
            ways["the proxy's predictions"] = proxy
    if count(large) > FEW:
        ways["its own bank"] = fit(large, usual)
    for way, predictor in ways.items():
        predicted = [replace(one, held_out_only=documents) for one in predictor([one.forget_set for one in measured])]
        results[way] = score(predicted, measured, each=False) | {"source": predicted[0].source}
        print(large.place, way, results[way]["harm"], flush=True)
    runs = {"large": large, "small": small["proxy"]}
    results["models"] = {name: count(run) for name, run in runs.items()}
    results["seconds_per_model"] = {name: seconds(run) for name, run in runs.items()}
    return results


def seconds(run: Run) -> float:
    """A model, as it was trained."""
    return training_seconds(run) / sum(len(run.complete(name)) for name in run.collections())


def count(run: Run) -> int:
    """Models of subsets."""
    return len(run.complete("design")) + len(run.complete("grouped"))


if __name__ == "__main__":
    main()

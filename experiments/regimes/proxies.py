"""Are the regimes of a network predicted from a bank of a cheaper one, and 32 models of its own?

    python experiments/regimes/proxies.py --work FOLDER --documents FOLDER   # half an hour; resumable

FOLDER are those of convolutional.py and of experiments/text_regimes, which hold the large networks' models and the truth.
Beside each a bank of a small network is trained on the same examples. Of the large network 16 models of subsets and 16 of D
are read, then all of its own. Results go into results.json, under `proxies`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import add_worlds, training_seconds
from run import fit, truth
from scoring import CRITERIA, score_verdicts

import infl
from infl.store import Run
from infl.untraining.effects import Predictor, ResponsePredictor
from infl.untraining.regimes import judge

FEW, N_REFERENCES, MIN_SEEDS = 16, 32, 8
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
BANKS = {"fashion-cnn": (MLP, 512), "cifar-batch-norm": (MLP, 512), "scratch": (NARROW, 192)}


def main() -> None:
    """Train the banks that are missing, predict, compare with the truth, and write the part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="work folder of convolutional.py")
    parser.add_argument("--documents", type=Path, help="work folder of experiments/text_regimes")
    parser.add_argument("--worlds", nargs="*", default=list(BANKS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    options = parser.parse_args()
    parts = {}
    for name in options.worlds:
        algorithm, n_models = BANKS[name]
        large = infl.open_run((options.documents if name == "scratch" else options.work) / name)
        place = options.work / f"{name}-proxy"
        data = large.dataset()
        small = infl.train(data, run=place, n_models=n_models, n_references=N_REFERENCES, algorithm=algorithm)
        parts[name] = compare(large, small)
    add_worlds(options.out, "proxies", parts)


def compare(large: Run, small: Run) -> dict[str, Any]:
    """Each way to predict the regimes of the large network's sets, against the truth."""
    documents = large.has_documents
    measured = [replace(one, held_out_only=documents) for one in truth(large.folder, min_seeds=MIN_SEEDS)]
    usual = "surrogate" if documents else "combined"
    proxy = fit(small, usual)
    assert isinstance(proxy, ResponsePredictor)
    ways: dict[str, Predictor] = {
        "32 models alone": fit(large, usual, FEW, FEW),
        "32 models and proxy": fit(large, usual, FEW, FEW, proxy),
        "the proxy's predictions": proxy,
        "its own bank": fit(large, usual),
    }
    results: dict[str, Any] = {"seconds_per_model": {"large": seconds(large), "small": seconds(small)}}
    for way, predictor in ways.items():
        predicted = [replace(one, held_out_only=documents) for one in predictor([one.forget_set for one in measured])]
        net = CRITERIA["net"]
        verdicts = [(judge(p, net), judge(t, net)) for p, t in zip(predicted, measured, strict=True)]
        results[way] = score_verdicts(verdicts, each=way == "32 models and proxy")
        print(large.place, way, results[way]["summary"], flush=True)
    results["models"] = {name: count(run) for name, run in (("large", large), ("small", small))}
    return results


def seconds(run: Run) -> float:
    """A model, as it was trained."""
    return training_seconds(run) / sum(len(run.complete(name)) for name in run.collections())


def count(run: Run) -> int:
    """Models of subsets."""
    return len(run.complete("design")) + len(run.complete("grouped"))


if __name__ == "__main__":
    main()

"""Does verification need fewer models where it starts from what was predicted?

    python experiments/regimes/with_prior.py --work DIR     # of run.py; trains nothing, a minute

Self and cross of a set as measured by its first seeds, alone and weighed with the prediction of 512 models (precision weights,
as of two independent normal estimates); looks after 16, 32, 64, 128 seeds, up to half of those that the set has, stopped at
a probability of 0.95. The truth is the other half of the seeds, where it is decided (0.9).
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import write_results
from run import truth
from scoring import select_seeds

from infl.records import Effects, Thresholds
from infl.untraining.regimes import judge, regime_probabilities

LOOKS, STOP, NAMED, DECIDED = (16, 32, 64, 128), 0.95, 0.8, 0.9
ARMS = ("measured alone", "measured and predicted", "likewise, none where the prediction is clear")
WORLDS = ("digits-early", "digits-fitting", "digits-flipped", "fashion-early", "fashion-fitting", "fashion-flipped")


def main() -> None:
    """Compare the arms on every world, and write with_prior.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    worlds = {name: compare(options.work / name) for name in WORLDS}
    summary = {
        arm: {key: sum(of[arm][key] for of in worlds.values()) for key in worlds[WORLDS[0]][arm]} for arm in ARMS
    }
    per_set = {arm: row["models"] / row["sets"] for arm, row in summary.items()}
    results = {"summary": summary, "models_per_set": per_set, "worlds": worlds}
    write_results(Path(__file__).parent / "with_prior.json", results)


def compare(folder: Path) -> dict[str, dict[str, int]]:
    """Models, sets left undetermined, and verdicts that the other seeds call wrong, by arm."""
    rows = json.loads((folder / "predicted" / "combined-512.json").read_text())["each"]
    predicted = {row["set"]: row["predicted"] for row in rows}
    keys = ("sets", "models", "undetermined", "determined and decided", "wrong of these")
    counts: dict[str, dict[str, int]] = {arm: dict.fromkeys(keys, 0) for arm in ARMS}
    for measured in truth(folder):
        self_value, self_se, cross_value, cross_se = predicted[measured.forget_set.name]
        prior = np.array([self_value, cross_value]), np.diag([self_se**2, cross_se**2])
        half = measured.n_models // 2
        true = regime_probabilities(*moments(select_seeds(measured, slice(half, None))), Thresholds())
        regime = max(true, key=lambda name: true[name])
        for arm in ARMS:
            n_models, probability = verify(measured, half, prior, arm)
            named = max(probability, key=lambda name: probability[name])
            count = counts[arm]
            count["sets"] += 1
            count["models"] += n_models
            if probability[named] < NAMED:
                count["undetermined"] += 1
            elif true[regime] >= DECIDED:
                count["determined and decided"] += 1
                count["wrong of these"] += named != regime
    return counts


def verify(
    measured: Effects, max_models: int, prior: tuple[np.ndarray, np.ndarray], arm: str
) -> tuple[int, dict[str, float]]:
    """Models of D without the set that an arm takes, and the probabilities that it ends with."""
    probability = regime_probabilities(prior[0], prior[1], Thresholds())
    if arm == ARMS[2] and max(probability.values()) >= STOP:
        return 0, probability
    n_models = 0
    for n_models in (look for look in LOOKS if look <= max_models):
        found = moments(select_seeds(measured, slice(n_models)))
        values, covariance = found if arm == ARMS[0] else weighed(found, prior)
        probability = regime_probabilities(values, covariance, Thresholds())
        if max(probability.values()) >= STOP:
            break
    return n_models, probability


def moments(effects: Effects) -> tuple[np.ndarray, np.ndarray]:
    """(self, cross) and their covariance, taken as independent."""
    verdict = judge(effects)
    both = (verdict.self_influence, verdict.cross_influence)
    return np.array([one.value for one in both]), np.diag([one.se**2 for one in both])


def weighed(one: Any, other: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two estimates with diagonal covariances weighed by their precision."""
    precisions = [1 / np.maximum(np.diag(covariance), 1e-10) for _, covariance in (one, other)]
    total = precisions[0] + precisions[1]
    return (precisions[0] * one[0] + precisions[1] * other[0]) / total, np.diag(1 / total)


if __name__ == "__main__":
    main()

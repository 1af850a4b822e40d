"""Does a predictor fit within memory at n = 50,000 and m = 10,000, and how long does it take?

    python experiments/regimes/scale.py --models 64      # minutes on a core; --n 2000 --m 500 seconds

Fashion-MNIST with simulated outcomes: margins are noise around a level of each example that falls with the share of its
class that is left out. What they are does not change the work. Writes seconds and the peak of the process's memory, before
and with the prediction of two sets, to scale.json.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from fashion import FASHION
from record import write_results

import infl
from infl.records import Array, Outcomes
from infl.untraining.effects import fit_predictor


def main() -> None:
    """Simulate, fit, predict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--m", type=int, default=10_000)
    parser.add_argument("--models", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "scale.json")
    options = parser.parse_args()
    start = clocks()
    dataset = infl.load(FASHION, n_train=options.n, n_held_out=options.m)
    random = np.random.RandomState(0)
    shares = random.uniform(0.7, 0.97, options.models)
    masks = random.random_sample((options.models, options.n)) < shares[:, None]
    subsets = simulate(masks, dataset.labels, random)
    of_d = simulate(np.ones((16, options.n), bool), dataset.labels, random)
    marks: dict[str, Any] = {"simulated": mark(start)}
    start = clocks()
    fitted = fit_predictor(
        sources=[subsets],
        reference=of_d,
        images=dataset.images,
        labels=dataset.labels,
        n_classes=dataset.n_classes,
        advance=lambda: print("step", mark(start), flush=True),
    )
    marks["fitted"] = mark(start)
    sets = [infl.forget_sets.random_set(dataset, 100), infl.forget_sets.class_set(dataset, 3)]
    start = clocks()
    n_predicted = sum(1 for _ in fitted(sets))
    marks["predicted"] = mark(start) | {"sets": n_predicted}
    print(marks)
    asked = {"n": options.n, "m": options.m, "models": options.models, "models_of_d": 16}
    write_results(options.out, {"summary": marks, "asked": asked}, "scikit-learn")


def simulate(masks: Array, labels: Array, random: np.random.RandomState) -> Outcomes:
    """Outcomes of models with these masks."""
    n_train = masks.shape[1]
    level = random.normal(2, 2, len(labels)).astype(np.float32)
    left = np.stack([masks[:, labels[:n_train] == label].mean(axis=1) for label in range(labels.max() + 1)], axis=1)
    margins = level + 4 * np.log(left)[:, labels] + random.normal(0, 1, (len(masks), len(labels)))
    return Outcomes(masks, margins > 0, margins.astype(np.float16))


def clocks() -> tuple[float, float]:
    """Seconds by the wall and of the processor."""
    return time.perf_counter(), time.process_time()


def mark(start: tuple[float, float]) -> dict[str, float]:
    """Seconds since then, and the most memory held so far."""
    wall, processor = (now - then for now, then in zip(clocks(), start, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": wall, "processor_seconds": processor, "peak_mib": round(peak)}


if __name__ == "__main__":
    main()

"""Trains a few models to see what many would cost: their time, their outcomes, and what retraining without a set scatters by.

Nothing is kept on disk.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from infl.records import Array, Dataset, Outcomes
from infl.training.ensemble import Ensemble, model_keys
from infl.training.subsets import Design, draw_masks
from infl.untraining.regimes import cross_weights

LEAST_SECONDS, LEAST_BLOCKS, MOST_BLOCKS = 3.0, 4, 64
N_SETS, N_SEEDS = 2, 16


@dataclass(frozen=True)
class MeasuredBlocks:
    """Models of a design and how long they took. compile_seconds: how much longer the first block took than the others."""

    outcomes: Outcomes
    models_per_second: float
    compile_seconds: float


def measure_blocks(
    ensemble: Ensemble,
    dataset: Dataset,
    design: Design,
    *,
    beside: Design | None = None,
    share: float = 1.0,
    n_pilot: int = 0,
) -> MeasuredBlocks:
    """Train blocks of models of a design: at least `n_pilot` models, 4 blocks and, up to 64 blocks, 3 seconds.

    beside: a design that a share 1 - `share` of the models of the run is of: as many blocks of it are trained in turns, since
        their subsets may be larger. They count for the time, not for the outcomes; nor do models that did not stay finite.
    """
    size, blocks, first = ensemble.block_size, [], 0.0
    seconds: dict[str, list[float]] = {"design": [], "beside": []}

    def enough() -> bool:
        if len(blocks) < LEAST_BLOCKS or len(blocks) * size < n_pilot:
            return False
        return sum(map(sum, seconds.values())) >= LEAST_SECONDS or len(blocks) >= MOST_BLOCKS

    while not enough():
        models = list(range(len(blocks) * size, (len(blocks) + 1) * size))
        keys = model_keys(0, "design", np.array(models))
        for name, drawn in (("design", design), ("beside", beside)):
            if drawn is None:
                continue
            masks = draw_masks(drawn, models, n_train=dataset.n_train, seed=0)
            start = time.perf_counter()
            block = ensemble.finish(ensemble.start(keys, masks))
            took = time.perf_counter() - start
            if name == "design":
                kept = block.finite
                blocks.append((masks[kept], block.correct[kept], np.array(models)[kept] // design.period))
            if name == "design" and len(blocks) == 1:
                first = took
            else:
                seconds[name].append(took)
    masks, correct, strata = (np.concatenate(part) for part in zip(*blocks, strict=True))
    pilot = Outcomes(masks, correct, strata=strata if design.period > 1 else None)
    of_design = float(np.median(seconds["design"]))
    of_block = of_design if beside is None else share * of_design + (1 - share) * float(np.median(seconds["beside"]))
    return MeasuredBlocks(pilot, size / of_block, max(0.0, first - of_design))


def scatter_of_retraining(ensemble: Ensemble, dataset: Dataset, size: int) -> float:
    """Standard deviation of self and of cross over single seeds, the larger one, for random sets of a size.

    From 16 models of D and as many without each of two random sets, paired by key as `infl.verify` pairs them; the error of
    either after R retrainings is this over sqrt(R). Known to about an eighth of itself; NaN where models did not stay finite.
    """
    n_train, random = dataset.n_train, np.random.RandomState(0)
    sets = [random.choice(n_train, size, replace=False) for _ in range(N_SETS)]
    masks = np.ones((1 + N_SETS, N_SEEDS, n_train), bool)
    for mask, ids in zip(masks[1:], sets, strict=True):
        mask[:, ids] = False
    correct = _train(ensemble, masks.reshape(-1, n_train), np.tile(np.arange(N_SEEDS), 1 + N_SETS))
    full, *without = correct.reshape(1 + N_SETS, N_SEEDS, -1)
    variances = []
    for ids, outcomes in zip(sets, without, strict=True):
        fall = full - outcomes
        inside = np.isin(np.arange(dataset.n_columns), ids)
        scatter = np.stack([fall[:, inside].mean(axis=1), fall @ cross_weights(inside, n_train) / size])
        variances.append(scatter.var(axis=1, ddof=1))
    return math.sqrt(np.mean(variances, axis=0).max())


def _train(ensemble: Ensemble, masks: Array, starts: Array) -> Array:
    """Whether each model is right on each example, [models, n+m]; NaN for models that did not stay finite."""
    keys = model_keys(0, "reference", starts)
    blocks = [slice(first, first + ensemble.block_size) for first in range(0, len(masks), ensemble.block_size)]
    trained = [ensemble.finish(ensemble.start(keys[block], masks[block])) for block in blocks]
    correct = np.concatenate([block.correct for block in trained]).astype(np.float64)
    correct[~np.concatenate([block.finite for block in trained])] = np.nan
    return correct

"""The matrix of the classic study: n = 50,000, n + m = 60,000 columns, 4,000 models, on one machine.

Question: do memorization of all examples, and the top 256 influences of every column with q-values, come in at most 1.5 times
the time of a bare matrix product of the same size, in 3 GB, and are planted effects found as often as theory says?

Outcomes are simulated: columns are right at rates drawn from 0.05 to 0.999, a fifth of D is memorized, and a thousand pairs
have an influence of 0.05 to 0.25. Command: `python experiments/scores/classic_scale.py`; about 15 minutes on two cores.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

import infl
from infl.records import Array, Columns, OutcomeKind, Outcomes, block_rows
from infl.scores.strongest import StrongestInfluences
from infl.training.subsets import draw_masks

EFFECTS = (0.05, 0.1, 0.15, 0.2, 0.25)


class Simulated:
    """An `OutcomeSource` of packed bits: what a run folder of the classic study holds, without the disk."""

    def __init__(self, n_models: int, n_train: int, n_columns: int, *, n_planted: int, seed: int = 0) -> None:
        self.n_models, self.n_train, self.n_columns = n_models, n_train, n_columns
        rng = np.random.default_rng(seed)
        masks = draw_masks(infl.Design("balanced", 0.7), range(n_models), n_train=n_train, seed=seed)
        # Half of the rates near 1, as those of a network that fits are.
        self.rate = np.where(
            rng.random(n_columns) < 0.5, rng.uniform(0.95, 0.999, n_columns), rng.uniform(0.05, 0.95, n_columns)
        )
        self.memorization = np.where(rng.random(n_train) < 0.2, rng.uniform(0, 1, n_train), 0.0)
        self.planted_target = rng.choice(n_columns, n_planted, replace=False)
        self.planted_source = rng.integers(0, n_train, n_planted)
        self.planted_effect = np.resize(EFFECTS, n_planted)
        self.rate[self.planted_target] = rng.uniform(0.3, 0.7, n_planted)  # so that no chance leaves [0, 1]
        own = self.planted_source == self.planted_target
        self.planted_effect[own] = 0.0
        effect_on, source_of = np.zeros(n_columns), np.zeros(n_columns, int)
        effect_on[self.planted_target], source_of[self.planted_target] = self.planted_effect, self.planted_source
        correct = np.empty((n_models, -(-n_columns // 8)), np.uint8)
        for start in range(0, n_columns, 1024):
            columns = np.arange(start, min(start + 1024, n_columns))
            chance = self.rate[columns] + effect_on[columns] * (masks[:, source_of[columns]] - 0.7)
            trained = columns[columns < n_train]
            memory = np.zeros(len(columns))
            memory[: len(trained)] = self.memorization[trained]
            is_in = np.zeros((n_models, len(columns)), bool)
            is_in[:, : len(trained)] = masks[:, trained]
            chance = np.where(is_in, chance + memory * (1 - chance), chance)
            drawn = rng.random(chance.shape, dtype=np.float32) < chance
            correct[:, start // 8 : start // 8 + -(-len(columns) // 8)] = np.packbits(drawn, axis=1)
        self._masks, self._correct = np.packbits(masks, axis=1), correct

    def blocks(
        self, columns: Columns = slice(None), *, n_rows: int = 512, kinds: Sequence[OutcomeKind] = ("correct",)
    ) -> Iterator[Outcomes]:
        """See `OutcomeSource.blocks`; for runs of columns."""
        wanted = np.arange(self.n_columns)[columns]
        first = wanted[0] // 8 if len(wanted) else 0
        last = -(-(wanted[-1] + 1) // 8) if len(wanted) else 0
        strata = np.arange(self.n_models) // 10
        for rows in block_rows(self.n_models, n_rows, strata):
            bits = np.unpackbits(self._correct[rows, first:last], axis=1).astype(bool)
            yield Outcomes(
                np.unpackbits(self._masks[rows], axis=1, count=self.n_train).astype(bool),
                bits[:, wanted - 8 * first],
                strata=strata[rows],
            )


def measure(*, small: bool = False) -> dict[str, Any]:
    """Times, memory, and power of planted pairs."""
    n_models, n_train, n_columns, n_planted = (400, 1000, 1200, 100) if small else (4000, 50_000, 60_000, 1000)
    source = Simulated(n_models, n_train, n_columns, n_planted=n_planted)
    made_with = _peak_gigabytes()
    product_before = _bare_product(n_models, n_train, n_columns // 2)
    start = time.perf_counter()
    memorization = infl.memorization(source)
    memorization_seconds = time.perf_counter() - start
    start = time.perf_counter()
    found = infl.strongest_influences(source, n_per_column=min(256, n_train), protocols=("left-out", "held-out"))
    influence_seconds = time.perf_counter() - start
    peak = _peak_gigabytes()
    product_after = _bare_product(n_models, n_train, n_columns - n_columns // 2)
    product = product_before + product_after
    missed = np.abs(memorization.value - source.memorization * (1 - source.rate[:n_train])) / memorization.se
    return {
        "n_models": n_models,
        "n_train": n_train,
        "n_columns": n_columns,
        "bare_product_seconds": [product_before, product_after],
        "gigaflops_of_bare_product": 2e-9 * n_models * n_train * n_columns / product,
        "memorization_seconds": memorization_seconds,
        "influence_seconds": influence_seconds,
        "times_bare_product": (memorization_seconds + influence_seconds) / product,
        "peak_gigabytes": peak,
        "peak_gigabytes_before": made_with,
        "pairs_of_matrix": found.n_tests,
        "pairs_kept": len(found),
        "largest_p_at_q_0.05": found.largest_p,
        "memorization_within_two_errors": float((missed < 2).mean()),
        "found": _found(source, found),
    }


def _found(source: Simulated, found: StrongestInfluences) -> dict[str, Any]:
    """Planted pairs that are found at q <= 0.05, by effect and protocol, beside the power of a test of two proportions."""
    at = found.q <= 0.05
    keys = set((found.target[at].astype(np.int64) * source.n_train + found.source[at]).tolist())
    planted = source.planted_target.astype(np.int64) * source.n_train + source.planted_source
    hit = np.array([key in keys for key in planted.tolist()])
    rows = []
    for protocol, by_protocol in (
        ("left-out", source.planted_target < source.n_train),
        ("held-out", source.planted_target >= source.n_train),
    ):
        for effect in EFFECTS:
            wanted = by_protocol & (source.planted_effect == effect)
            power = _power(source.rate[source.planted_target[wanted]], effect, source, protocol, found.largest_p)
            rows.append(
                {
                    "reading": protocol,
                    "effect": effect,
                    "planted": int(wanted.sum()),
                    "found": int(hit[wanted].sum()),
                    "expected": float(power.sum()),
                    "standard_error": float(np.sqrt((power * (1 - power)).sum())),
                }
            )
    false = int(at.sum()) - int(hit.sum())
    return {"rows": rows, "found_at_all": int(at.sum()), "not_planted": false}


def _power(rate: Array, effect: float, source: Simulated, protocol: str, p: float) -> Array:
    n = source.n_models * (0.3 if protocol == "left-out" else 1.0)
    inside, outside = rate + 0.3 * effect, rate - 0.7 * effect
    null = np.sqrt(rate * (1 - rate) / (0.21 * n))
    error = np.sqrt(inside * (1 - inside) / (0.7 * n) + outside * (1 - outside) / (0.3 * n))
    return ndtr((effect + ndtri(p / 2) * null) / error)


def _bare_product(n_models: int, n_train: int, n_columns: int) -> float:
    """Seconds of the product of masks and outcomes in single precision, by tiles, and of nothing else."""
    width = min(n_columns, 1024)
    masks, y = np.ones((n_models, n_train), np.float32), np.ones((width, n_models), np.float32)
    out = np.empty((width, n_train), np.float32)
    np.matmul(y[:8], masks, out=out[:8])
    start = time.perf_counter()
    for first in range(0, n_columns, width):
        rows = min(width, n_columns - first)
        np.matmul(y[:rows], masks, out=out[:rows])
    return time.perf_counter() - start


def _peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    import json

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="n = 1,000, in seconds")
    print(json.dumps(measure(small=parser.parse_args().small), indent=1))

"""Are discoveries false no more often than they say?

Question: with masks shuffled against outcomes, in how many of 100 repeats is anything found at q <= 0.05 over the whole matrix;
and on simulated matrices with known truth, what share of what is found is false?
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from worlds import SMALL, names, open_world

import infl
from infl.records import Outcomes
from infl.training.subsets import Design, draw_masks

LEVELS = (0.01, 0.05, 0.2)


def measure(*, small: bool, work: Path) -> dict[str, Any]:
    """Repeats in which shuffled masks made a discovery, and realised rates on simulated matrices."""
    n_repeats, n_models = (3, SMALL["data"]) if small else (100, 512)
    shuffled = []
    for name in names(small=small):
        run = open_world(name, work, small=small)
        outcomes = run.outcomes("design", range(n_models)).load()
        n_found, n_pairs = [], 0
        for seed in range(n_repeats):
            order = np.random.default_rng(seed).permutation(n_models)
            mixed = Outcomes(outcomes.masks[order], outcomes.correct)
            found = infl.strongest_influences(mixed, protocols=("left-out", "held-out"))
            n_pairs = found.n_tests
            n_found.append(int((found.p <= found.largest_p).sum()) if found.largest_p else 0)
        row = {"world": name, "n_models": n_models, "repeats": n_repeats, "pairs": n_pairs}
        shuffled.append({**row, "repeats_with_any": int(np.count_nonzero(n_found)), "found": n_found})
        print(shuffled[-1], flush=True)
    return {"shuffled": shuffled, "simulated": _simulated(3 if small else 100)}


def _simulated(n_repeats: int) -> list[dict[str, Any]]:
    """Balanced subsets of 100 examples, 200 columns at rates of 0.05 to 0.95; one pair in fifty has an influence."""
    n, m, n_models = 100, 200, 400
    realised: dict[float, list[float]] = {level: [] for level in LEVELS}
    power: dict[float, list[float]] = {level: [] for level in LEVELS}
    for seed in range(n_repeats):
        rng = np.random.default_rng(seed)
        masks = draw_masks(Design("balanced", 0.7), range(n_models), n_train=n, seed=seed)
        effect = np.where(rng.random((n, m)) < 0.02, rng.choice([-1, 1], (n, m)) * rng.uniform(0.1, 0.4, (n, m)), 0.0)
        chance = np.clip(rng.uniform(0.05, 0.95, m) + (masks - 0.7) @ effect, 0, 1)
        correct = rng.random((n_models, m)) < chance
        outcomes = Outcomes(masks, np.concatenate([masks, correct], axis=1), strata=np.arange(n_models) // 10)
        p = infl.influence(outcomes).p
        assert p is not None
        # Fixed sizes: an example comes in by taking another out, so where a column's effects do not sum to zero every pair
        # of it has a contrast of its own, a fiftieth as large. Those count as true where they have the found sign.
        contrast = effect - (effect.sum(axis=0) - effect) / (n - 1)
        q = infl.q_values(p)
        for level in LEVELS:
            found = q <= level
            false = found & (np.abs(contrast) < 0.03)
            realised[level].append(float(false.sum() / max(found.sum(), 1)))
            power[level].append(float((found & (effect != 0)).sum() / (effect != 0).sum()))
    rows = []
    for level in LEVELS:
        values = np.array(realised[level])
        row = {
            "q": level,
            "realised": float(values.mean()),
            "power": float(np.mean(power[level])),
            "repeats": n_repeats,
        }
        row["standard_error"] = float(values.std(ddof=1) / np.sqrt(n_repeats))
        rows.append(row)
        print(row, flush=True)
    return rows

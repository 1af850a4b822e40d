"""Do errors of shares cover the truth, and does chance make no pairs? Simulated documents whose influences are known.

    python experiments/shares/run.py

100 documents in D and 100 held out, of 8 to 30 tokens; subsets of 70%. Two columns in three have one duplicate in D (or are
themselves memorized), which raises their share; the others depend on nobody. Two worlds: in `chance` every token is right
with the same probability and by itself; in `hard tokens` a token has a difficulty of its own that all models share, as tokens
of texts have, so that shares scatter less than p (1 - p) / tokens. Influence is estimated by three ways to say how surely a
pair is there and how wide its interval is:

    infl        sample variances of at least what one token of one model makes; p at least that under shuffled masks
    welch       the same errors, p of Welch's t test alone
    binomial    variances of at least p (1 - p) / tokens, p of Welch's t test
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import argument_parser, mean_and_error, write_results

import infl

N, FRACTION, NOISE, Q = 100, 0.7, 0.12, 0.05
PAIRS: dict[infl.ProtocolName, slice] = {"held-out": slice(N, None), "left-out": slice(0, N)}
WAYS = ("infl", "welch", "binomial")


def main() -> None:
    """Simulate both worlds with several numbers of models, and shuffle masks against outcomes."""
    options = argument_parser(__doc__, __file__, small="2 repeats, 5 shuffles").parse_args()
    n_repeats, n_shuffles = (2, 5) if options.small else (20, 100)
    rows = [
        {"world": world, "models": n_models, **repeat(world, n_models, n_repeats)}
        for world in ("chance", "hard tokens")
        for n_models in (30, 70, 200)
    ]
    shuffled = {world: shuffles(world, 70, n_shuffles) for world in ("chance", "hard tokens")}
    worst = [min(row["infl"]["covered"][0] for row in rows), max(row["infl"]["covered"][0] for row in rows)]
    summary = {"coverage": worst, "most_false": {way: max(row[way]["false"][0] for row in rows) for way in WAYS}}
    write_results(options.out, {"summary": summary, "rows": rows, "shuffled": shuffled, "n_shuffles": n_shuffles})


def simulate(world: str, n_models: int, seed: int) -> tuple[infl.Outcomes, np.ndarray]:
    """Outcomes, and the true contrast of every source on every column, [n, n+m], by 20,000 models of each side."""
    rng, width = np.random.default_rng(seed), 2 * N
    masks = rng.random((n_models, N)).argsort(axis=1) < FRACTION * N
    duplicate, tokens = np.concatenate([np.arange(N), rng.permutation(N)]), rng.integers(8, 31, width)
    shares, truth = np.zeros((n_models, width)), np.zeros((N, width))
    for j in range(width):
        difficulty = rng.normal(size=tokens[j]) * (world == "hard tokens")
        low, lifted = rng.normal(-0.9, 0.3), rng.uniform(0.3, 2.5) if j % 3 else 0.0
        scatter = 0.3 if world == "hard tokens" else 1.0
        draw = partial(share_of_tokens, rng, difficulty, scatter)
        shares[:, j] = draw(low + lifted * masks[:, duplicate[j]])
        if lifted:
            effect = draw(np.full(20_000, low + lifted)).mean() - draw(np.full(20_000, low)).mean()
            truth[:, j] = -effect / (N - 1)  # whoever comes in takes the duplicate's place as often as another's
            truth[duplicate[j], j] = effect
    return infl.Outcomes(masks, shares.astype(np.float16), n_tokens=tokens), truth


def share_of_tokens(rng: Any, difficulty: np.ndarray, scatter: float, level: np.ndarray) -> np.ndarray:
    """Share of the tokens of a document that each model gets right, of models of these levels."""
    level = level + NOISE * rng.normal(size=len(level))
    return (level[:, None] > difficulty + scatter * rng.normal(size=(len(level), len(difficulty)))).mean(axis=1)


def repeat(world: str, n_models: int, n_repeats: int) -> dict[str, Any]:
    """Of each way: coverage of 95% intervals, and of pairs found at q <= 0.05 how many are false; means over repeats."""
    found: dict[str, dict[str, list[float]]] = {way: {"covered": [], "false": [], "power": []} for way in WAYS}
    for seed in range(n_repeats):
        outcomes, truth = simulate(world, n_models, seed)
        for way in WAYS:
            scores = found[way]
            covered, evident, there = [], [], []
            for protocol, columns in PAIRS.items():
                estimate = infl.influence(outcomes, protocol=protocol)
                estimate = (
                    estimate if way == "infl" else without_shuffles(estimate, outcomes, binomial=way == "binomial")
                )
                low, high = infl.interval(estimate)
                known = ~np.isnan(estimate.se)
                covered.append(((low <= truth[:, columns]) & (truth[:, columns] <= high))[known])
                evident.append((infl.q_values(np.asarray(estimate.p)) <= Q)[known])
                there.append((truth[:, columns] > 0)[known])
            inside, pairs, true = (np.concatenate(part) for part in (covered, evident, there))
            scores["covered"].append(inside.mean())
            scores["false"].append((pairs & ~true).sum() / max(pairs.sum(), 1))
            scores["power"].append((pairs & true).sum() / true.sum())
    return {way: {name: mean_and_error(values) for name, values in some.items()} for way, some in found.items()}


def without_shuffles(estimate: infl.Estimate, outcomes: infl.Outcomes, *, binomial: bool) -> infl.Estimate:
    """The same with the p-value of Welch's t test alone; by binomial variances where these are larger."""
    se, df = estimate.se, np.asarray(estimate.df)
    if binomial:
        columns, tokens = np.asarray(estimate.columns), np.asarray(outcomes.n_tokens)
        means = np.clip(np.asarray(estimate.mean_out) + estimate.value, 0, 1), np.asarray(estimate.mean_out)
        numbers = [np.asarray(n) * tokens[columns] for n in (estimate.n_in, estimate.n_out)]
        floors = [p * (1 - p) / np.maximum(n, 1) for p, n in zip(means, numbers, strict=True)]
        se = np.maximum(se, np.sqrt(sum(floors)))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stats.t(df).sf(np.abs(estimate.value) / se)
    return replace(estimate, se=se, p=p)


def shuffles(world: str, n_models: int, n_shuffles: int) -> dict[str, int]:
    """In how many shuffles of masks against outcomes anything was found at q <= 0.05."""
    outcomes, _ = simulate(world, n_models, 0)
    found: dict[str, int] = dict.fromkeys(("memorization", *PAIRS), 0)
    for seed in range(n_shuffles):
        masks = outcomes.masks[np.random.default_rng(seed).permutation(n_models)]
        mixed = replace(outcomes, masks=masks)
        scores: dict[str, infl.Estimate] = {"memorization": infl.memorization(mixed)}
        scores |= {str(protocol): infl.influence(mixed, protocol=protocol) for protocol in PAIRS}
        for name, score in scores.items():
            found[name] += bool((infl.q_values(np.asarray(score.p)) <= Q).any())
    return found


if __name__ == "__main__":
    main()

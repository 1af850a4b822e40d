"""Which estimator gets most out of a trained model? Candidates against 8,192 other models of the same kind.

    python experiments/scores/estimators.py RUN[:REFERENCE] ... [--models 512 1024] [--max-models 2048] [--json PATH]

Each RUN is a folder of models of subsets of one size; its first models are taken in blocks. The truth is the plain
difference in means of the models from 4,096 on, of the run itself or of REFERENCE (same data, algorithm, fraction). They
are split into two halves A and B, so that their noise cancels: MSE = mean of (estimate - A)(estimate - B).

models_saved   MSE of the plain difference in means over that of the candidate: as the former falls as 1/T, how many times
               the models it would need for the same error. Held-out pairs of a RUN:REFERENCE are compared with the plain
               one of the first run that was compared with that reference: so designs are compared;
slope          mean of estimate x truth over mean of A x B: 1 where the scale is right, on the whole;
slope_strong   the same over the 1 in 2,000 pairs that are largest in the other half;
calibration    MSE over the mean of the squared standard errors: 1 where errors are true;
seconds        of this process, beyond training: what the candidate adds for these models.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from candidates import CANDIDATES, Block, contrast
from scipy.special import ndtr

import infl
from infl.records import Array, Outcomes
from infl.scores.adjustment import adjusted_influence, remainder
from infl.scores.surrogate import Surrogate, fit_surrogate

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import training_seconds, write_results

FIRST_OF_REFERENCE = 4096
RIDGE = 0.1  # of the surrogate: of 1e-4 .. 1 the one that explains most of the digits' margins, 0.40 (0.38 at 0.01)
N_SUBSETS = 32  # that the surrogate's own influence is averaged over
N_LEFT_OUT = 60  # columns of D that the left-out protocol is measured on
STRONG = 1 / 2000


@dataclass(frozen=True)
class Truth:
    """Two halves of the reference: influence [n, m], memorization [n], influence on some columns of D [n, k]."""

    held_out: tuple[Array, Array]
    memorization: tuple[Array, Array]
    left_out: tuple[Array, Array]
    left_out_columns: Array


def read_truth(folder: Path) -> Truth:
    """Plain estimates of the two halves of the models from 4,096 on."""
    run = infl.open_run(folder)
    ids = [model for model in run.complete("design") if model >= FIRST_OF_REFERENCE]
    halves = [run.outcomes("design", part).load() for part in (ids[: len(ids) // 2], ids[len(ids) // 2 :])]
    n, correct = halves[0].n_train, halves[0].of("correct")
    spread = np.array([correct[~halves[0].masks[:, j], j].std() for j in range(n)])
    columns = np.sort(np.argsort(-spread, kind="stable")[: 4 * N_LEFT_OUT : 4])  # of those that models disagree on
    held_out = [contrast(half.masks, half.of("correct")[:, n:])[0] for half in halves]
    memorization = [infl.memorization(half).value for half in halves]
    left_out = [left_out_plain(half, columns)[0] for half in halves]
    return Truth((held_out[0], held_out[1]), (memorization[0], memorization[1]), (left_out[0], left_out[1]), columns)


def left_out_plain(outcomes: Outcomes, columns: Array) -> tuple[Array, Array]:
    """Plain influence on columns of D among the models that did not train on them, [n, columns]; NaN on the diagonal."""
    correct, made = outcomes.of("correct"), []
    for j in columns:
        without = ~outcomes.masks[:, j]
        value, se = contrast(outcomes.masks[without], correct[without, j : j + 1])
        value[j], se[j] = np.nan, np.nan
        made.append((value[:, 0], se[:, 0]))
    return np.stack([value for value, _ in made], axis=1), np.stack([se for _, se in made], axis=1)


def evaluate(value: Array, se: Array, truth: tuple[Array, Array]) -> dict[str, float]:
    """MSE and the other numbers of the module's text, but for models_saved."""
    known = np.isfinite(value)
    value, se, a, b = value[known], se[known], truth[0][known], truth[1][known]
    of_value, of_truth = 0.0, 0.0
    for chooser, other in ((a, b), (b, a)):
        strong = np.abs(chooser) > np.quantile(np.abs(chooser), 1 - STRONG)
        of_value += float((value * np.sign(chooser))[strong].sum())
        of_truth += float((other * np.sign(chooser))[strong].sum())
    mse = float(((value - a) * (value - b)).mean())
    return {
        "mse": mse,
        "slope": float((value * (a + b)).mean() / 2 / (a * b).mean()),
        "slope_strong": of_value / of_truth,
        "calibration": mse / float(np.square(se).mean()),
    }


def evaluate_memorization(block: Block, truth: tuple[Array, Array]) -> dict[str, dict[str, float]]:
    """MSE by what stands for the models without an example; those with it are right and need no help."""
    n, masks = block.outcomes.n_train, block.masks
    y, z = (block.outcomes.of(kind)[:, :n].astype(np.float64) for kind in ("correct", "margin"))
    f = block.surrogate_margins[:, :n].astype(np.float64)

    def mean(x: Array, models: Array) -> Array:
        return (models * x).sum(axis=0) / models.sum(axis=0)

    inside, z_mean, f_mean = mean(y, masks), mean(z, ~masks), mean(f, ~masks)
    z_spread = np.sqrt(mean((z - z_mean) ** 2, ~masks))
    slope = mean((f - f_mean) * (z - z_mean), ~masks) / mean((f - f_mean) ** 2, ~masks)
    further = f.mean(axis=0) - f_mean  # the surrogate knows all models' subsets without the example, not only those
    outside = {
        "plain 0/1": mean(y, ~masks),
        "0/1, surrogate": mean(y, ~masks) + remainder(y, f, counted=~masks).slope * further,
        "soft 1": mean(ndtr(z / z_spread), ~masks),
        "normal margins": ndtr(z_mean / z_spread),
        "normal margins, surrogate": ndtr((z_mean + slope * further) / z_spread),
    }
    a, b = truth
    return {name: {"mse": float(((inside - p - a) * (inside - p - b)).mean())} for name, p in outside.items()}


def surrogate_influence(surrogate: Surrogate, masks: Array, columns: Array) -> Array:
    """Mean over the subsets of what leaving i out takes from the margin of j, j not in the subset: [n, columns].

    With P the inverse of the ridged kernel of a subset and a its dual weights, the scores of j fall by (K_jS P)_i a_i / P_ii.
    """
    n = surrogate.n_train
    total, count = np.zeros((n, len(columns))), np.zeros((n, len(columns)))
    for mask in masks:
        members = np.flatnonzero(mask)
        outside = np.flatnonzero((columns >= n) | ~mask[np.minimum(columns, n - 1)])
        labels = surrogate.labels[columns[outside]]
        gram = surrogate.kernel[np.ix_(members, members)].astype(np.float64)
        inverse = np.linalg.inv(gram + surrogate.ridge * np.eye(len(members)))
        dual = inverse @ surrogate.targets[members]
        rows = surrogate.kernel[np.ix_(columns[outside], members)]
        scores, reach = rows @ dual.astype(np.float32), np.ascontiguousarray((rows @ inverse.astype(np.float32)).T)
        pull = (dual / np.diag(inverse)[:, None]).astype(np.float32)
        before = _margin((scores[None, :, c].copy() for c in range(scores.shape[1])), labels)
        after = _margin((scores[:, c] - reach * pull[:, c, None] for c in range(scores.shape[1])), labels)
        total[np.ix_(members, outside)] += before - after
        count[np.ix_(members, outside)] += 1
    with np.errstate(invalid="ignore"):
        return (total / count).astype(np.float32)


def _margin(scores: Iterator[Array], labels: Array) -> Array:
    own, best = np.zeros(0), np.zeros(0)
    for c, score in enumerate(scores):
        if c == 0:
            own, best = np.empty_like(score), np.full_like(score, -np.inf)
        own[:, labels == c] = score[:, labels == c]
        score[:, labels == c] = -np.inf
        np.maximum(best, score, out=best)
    return own - best


@dataclass(frozen=True)
class Stage:
    """A run with what the surrogate says of it."""

    run: Any
    margins: Array  # [models, n+m]
    influence: Array  # [n, m]
    influence_left_out: Array  # [n, k]
    seconds_per_model: float
    seconds_of_influence: float

    def blocks(self, n_models: int) -> Iterator[Block]:
        """Disjoint blocks of the first models."""
        for start in range(0, len(self.margins) - n_models + 1, n_models):
            ids = range(start, start + n_models)
            seconds = self.seconds_per_model * n_models + self.seconds_of_influence
            outcomes = self.run.outcomes("design", ids).load()
            yield Block(outcomes, self.margins[start : ids.stop], self.influence, seconds)


def prepare(folder: Path, n_models: int, left_out_columns: Array) -> Stage:
    """Refit the surrogate on the subsets of the first models."""
    run = infl.open_run(folder)
    dataset = run.dataset()
    n = dataset.n_train
    masks = run.outcomes("design", range(n_models)).load().masks
    surrogate = fit_surrogate(dataset.images, dataset.labels, n_train=n, n_classes=dataset.n_classes, ridge=RIDGE)
    started = time.perf_counter()
    margins = np.stack([surrogate.margins(np.flatnonzero(~mask)) for mask in masks])
    per_model = (time.perf_counter() - started) / n_models
    started = time.perf_counter()
    influence = surrogate_influence(surrogate, masks[:N_SUBSETS], np.arange(n, dataset.n_columns))
    seconds = time.perf_counter() - started
    left_out = surrogate_influence(surrogate, masks[: 3 * N_SUBSETS], left_out_columns)
    return Stage(run, margins, influence, left_out, per_model, seconds)


def evaluate_left_out(stage: Stage, block: Block, truth: Truth) -> dict[str, dict[str, float]]:
    """The left-out protocol on some columns of D: plain, softened, and with the surrogate."""
    columns = truth.left_out_columns
    known = (block.surrogate_margins[:, columns], stage.influence_left_out)
    rows = {"plain 0/1": evaluate(*left_out_plain(block.outcomes, columns), truth.left_out)}
    for name, (covariate, influence) in {"soft 1": (None, None), "soft 1, surrogate": known}.items():
        made = adjusted_influence(
            block.outcomes, columns=columns, covariate=covariate, covariate_influence=influence, protocol="left-out"
        )
        rows[name] = evaluate(made.value, made.se, truth.left_out)
    return rows


def evaluate_held_out(block: Block, truth: Truth) -> dict[str, dict[str, float]]:
    """All candidates on the held-out columns, with their time."""
    rows = {}
    for name, candidate in CANDIDATES.items():
        started = time.perf_counter()
        value, se = candidate(block)
        seconds = time.perf_counter() - started + ("surrogate" in name) * block.surrogate_seconds
        rows[name] = {**evaluate(value, se, truth.held_out), "seconds": seconds}
    return rows


def mean_over(blocks: list[dict[str, dict[str, float]]], plain_mse: float | None = None) -> dict[str, dict[str, float]]:
    """Mean of each number over the blocks; models saved in comparison with the plain estimate here, or another."""
    mean = {
        name: {number: float(np.mean([block[name][number] for block in blocks])) for number in row}
        for name, row in blocks[0].items()
    }
    base = plain_mse or mean["plain 0/1"]["mse"]
    return {
        name: {"models_saved": base / row["mse"], "rmse": row["mse"] ** 0.5, **{k: row[k] for k in row if k != "mse"}}
        for name, row in mean.items()
    }


def main() -> None:
    """Compare the candidates on each run and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", help="run folders, each with :REFERENCE where the truth is another run's")
    parser.add_argument("--models", nargs="+", type=int, default=[512, 1024], help="models a candidate is given")
    parser.add_argument("--max-models", type=int, default=2048, help="models of each run that are used, in blocks")
    parser.add_argument("--json", type=Path, help="write the table here")
    arguments = parser.parse_args()
    tables: dict[str, Any] = {}
    truths: dict[Path, Truth] = {}
    plain_of_first: dict[tuple[Path, int], float] = {}
    for argument in arguments.runs:
        folder, _, other = argument.partition(":")
        reference = Path(other or folder)
        truth = truths[reference] = truths.get(reference) or read_truth(reference)
        stage = prepare(Path(folder), arguments.max_models, truth.left_out_columns)
        tables[Path(folder).name] = record = {
            "reference": reference.name,
            "signal_rms": float((truth.held_out[0] * truth.held_out[1]).mean() ** 0.5),
            "training_seconds_per_model": training_seconds(stage.run, ["design"]) / len(stage.run.complete("design")),
            "surrogate_seconds_per_model": stage.seconds_per_model,
            "surrogate_influence_seconds": stage.seconds_of_influence,
        }
        for n_models in arguments.models:
            blocks = list(stage.blocks(n_models))
            plain_mse = plain_of_first.get((reference, n_models))
            results = {
                "held-out": mean_over([evaluate_held_out(block, truth) for block in blocks], plain_mse),
                "left-out": mean_over([evaluate_left_out(stage, block, truth) for block in blocks]),
                "memorization": mean_over([evaluate_memorization(block, truth.memorization) for block in blocks]),
            }
            plain_of_first.setdefault((reference, n_models), results["held-out"]["plain 0/1"]["rmse"] ** 2)
            record[str(n_models)] = {"blocks": len(blocks), **results}
            for protocol, table in results.items():
                print(f"\n{Path(folder).name}: {n_models} models, {protocol}")
                for name, row in table.items():
                    print(f"  {name:26s}" + "".join(f"  {key} {value:.4g}" for key, value in row.items()), flush=True)
    if arguments.json:
        write_results(arguments.json, {"runs": tables}, "scipy")


if __name__ == "__main__":
    main()

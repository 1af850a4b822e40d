"""What does each part of the predictor of regimes gain?

    python experiments/regimes/verification.py --work FOLDER   # trains the worlds and retrains without their sets
    python experiments/regimes/ablation.py --work FOLDER       # ten minutes on one core

One part at a time is taken out of `infl.untraining` (response, support, errors), the predictor is fitted again in the two
development worlds of verification.py, and its predictions are compared with retraining: 60 and 81 sets, 160 and 192 seeds each,
256 models of subsets. Results go into results.json, under `ablation` and the label.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import argument_parser, surroundings, work_folder, write_json
from scoring import CRITERIA, DECIDED, best, mean_recall, select_seeds
from verification import CHOSEN_ON, measured

import infl
from infl.records import Array, Effects
from infl.store import Run, leave_out_name
from infl.untraining import effects, errors, pooled, response
from infl.untraining.distribution import margin_distribution
from infl.untraining.pooled import PooledFunction
from infl.untraining.regimes import judge
from infl.untraining.response import Response, Similarity
from infl.untraining.support import Evidence, gather_evidence, prepare_support

N_REFERENCES, LARGE = 64, 0.1


def without_terms(*numbers: int) -> Callable[..., tuple[Array, Array]]:
    """Examples' own terms but these: 0 level, 1 pooled change, 2 to 13 neighbours, 14 init seed."""
    whole = Response.terms

    def terms(self: Response, *given: Any) -> tuple[Array, Array]:
        pooled, terms = whole(self, *given)
        return pooled, np.delete(terms, numbers, axis=-1)

    return terms


def uncorrected(self: Similarity, left_out: Array) -> tuple[Array, Array]:
    """No process: nothing is corrected, nothing explained."""
    return np.zeros((len(left_out), self.residuals.shape[1]), np.float32), np.ones(len(left_out))


def levels_alone(self: PooledFunction, x: Array) -> Array:
    """Features of the covariates and not of their change from D."""
    z = (x - self.mean) / self.scale
    z[:, z.shape[1] // 2 :] = 0
    return np.concatenate([np.maximum(z @ self.directions + self.offsets, 0), z], axis=1)


def random_folds(masks: Array, n_folds: int) -> Array:
    """Folds that models of alike subsets do not share."""
    return np.random.RandomState(0).permutation(len(masks)) % n_folds


Patches = list[tuple[Any, str, Any]]


def use(positions: Sequence[int]) -> Patches:
    """These covariates alone."""
    return [(effects, "COVARIATES", effects.COVARIATES | {"combined": positions})]


PARTS: dict[str, Patches] = {
    "nothing": [],
    "7 of 8 random features": [(pooled, "N_FEATURES", 32)],
    "random features (linear)": [(pooled, "N_FEATURES", 0)],
    "choice of the penalty (.01)": [(pooled, "STRENGTHS", (1e-2,))],
    "change from D among the covariates": [(PooledFunction, "features", levels_alone)],
    "weights of models near D": [(Evidence, "nearness", property(lambda self: np.ones(len(self.masks), np.float32)))],
    "own slope on the pooled change": [(Response, "terms", without_terms(1))],
    "own terms of neighbours": [(Response, "terms", without_terms(*range(2, 14)))],
    "init seed": [(Response, "terms", without_terms(14))],
    "process": [(Similarity, "correct", uncorrected)],
    "weak refit": use([0, *range(2, 9)]),
    "strong refit": use(range(1, 9)),
    "both refits": use(range(2, 9)),
    "support at two larger radii": use([0, 1, 2, 3, 8]),
    "support of other classes": use([0, 1, 2, 4, 6, 8]),
    "fraction of the class": use(range(8)),
    "support": use([0, 1, 8]),
    "support and fraction": use([0, 1]),
    "all covariates": use([]),
    "folds by similarity": [(errors, "fold_by_similarity", random_folds)],
    "2 of 4 folds": [(errors, "N_FOLDS", 2)],
    "misfit": [(errors, "_fit_misfit", lambda *given: 0.0)],
    "power 1.5 (1)": [(errors, "GROSS_POWER", 1.0)],
    "power 1.5 (2)": [(errors, "GROSS_POWER", 2.0)],
}


def main() -> None:
    """Fit with each part out, and write what it does."""
    parser = argument_parser(__doc__, __file__, small="the first two parts in one world")
    parser.add_argument("--parts", nargs="*", help="these alone")
    parser.add_argument("--worlds", nargs="*", help="other worlds, by the names of their folders")
    parser.add_argument("--label", default="parts", help="of the rows in results.json")
    options = parser.parse_args()
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    rows = results.setdefault("ablation", {}).setdefault(options.label, {}).setdefault("worlds", {})
    with work_folder(options) as work:
        for name in options.worlds or [world.name for world, *_ in CHOSEN_ON]:
            run = infl.open_run(work / name)
            truth, fit = list(measure(run)), Fit(run)
            found = rows.setdefault(name, {})
            for part in options.parts or list(PARTS)[: 2 if options.small else None]:
                found[part] = one = found.get(part) or compare(fit, truth, PARTS[part])
                print(f"{name:26s} {part:36s}", " ".join(f"{k} {v:.3f}" for k, v in one.items()), flush=True)
                results["ablation"][options.label] |= surroundings("scikit-learn")
                write_json(options.out, results)


def measure(run: Run) -> Any:
    """Of each set that as many models left out as there are of D: effects by counts and by margins."""
    sets = infl.forget_sets.read_forget_sets(run.folder / "sets.json", n_train=run.dataset().n_train)
    n_seeds = len(run.complete("full"))
    full = run.outcomes("full").load()
    for one in sets:
        name = leave_out_name(one.ids)
        if len(run.complete(name)) >= n_seeds:
            without = run.outcomes(name, range(n_seeds)).load()
            yield Truth([measured(one, full, without, method) for method in ("counts", "margins")])


class Truth:
    """What retraining says of a set: net by counts, harm by margins, and single effects by either half of the seeds."""

    def __init__(self, both: list[Effects]):
        counts, margins = both
        self.forget_set = counts.forget_set
        self.net, self.harm = judge(counts, CRITERIA["net"]), judge(margins).harm
        self.effect = counts.effect
        self.se = single_se(counts)
        halves = [select_seeds(counts, slice(start, None, 2)) for start in (0, 1)]
        self.halves = [(one.effect, single_se(one)) for one in halves]


def single_se(one: Effects) -> Array:
    """Error of single effects by counts, never zero."""
    n = len(one.replicates)
    return np.sqrt(((one.replicates**2).sum(axis=0) + 1) / n / (n + 1))


class Fit:
    """What `infl.untraining.effects.fit_predictor` does, step by step, so that parts share the steps before them."""

    def __init__(self, run: Run):
        dataset = run.dataset()
        self.support = prepare_support(
            dataset.images, dataset.labels, n_train=dataset.n_train, n_classes=dataset.n_classes
        )
        of_d = run.outcomes("full", range(N_REFERENCES)).load()
        sources = [run.outcomes(name).load() for name in ("design", "grouped")]
        self.evidence = gather_evidence(self.support, [*sources, of_d])
        self.margins = of_d.of("margin")
        self.n_models = sum(source.n_models for source in sources)
        self.responses, self.errors = self.fit_responses(), self.fit_errors()

    def fit_responses(self) -> dict[Any, Response]:
        """One for each protocol."""
        n_train = self.support.n_train
        ids = {"trained": np.arange(n_train), "left-out": np.arange(n_train)}
        ids["held-out"] = np.arange(n_train, len(self.support.labels))
        use = effects.COVARIATES["combined"]
        self.evidence.__dict__.pop("nearness", None)
        return {
            protocol: response.fit_response(self.evidence, columns, protocol=protocol, use=use)  # pyright: ignore[reportArgumentType]
            for protocol, columns in ids.items()
        }

    def fit_errors(self) -> errors.ErrorModel:
        """From predictions of models held out."""
        return errors.fit_errors(self.evidence, self.margins, use=effects.COVARIATES["combined"])

    def predictor(self, responses: dict[Any, Response], error_model: errors.ErrorModel) -> effects.ResponsePredictor:
        """With these responses and errors."""
        return effects.ResponsePredictor(
            name="combined",
            support=self.support,
            distribution=margin_distribution(self.margins),
            n_references=N_REFERENCES,
            responses=responses,
            errors=error_model,
            n_models=self.n_models,
        )


def compare(fit: Fit, truth: list[Truth], patches: Patches) -> dict[str, float]:
    """One row. A part of the response leaves the errors as they are, a part of the errors the response."""
    with ExitStack() as stack:
        for place, name, value in patches:
            stack.enter_context(patch.object(place, name, value))
        start, of_errors = time.process_time(), any(place is errors for place, *_ in patches)
        responses = fit.fit_responses() if patches and not of_errors else fit.responses
        error_model = fit.fit_errors() if of_errors else fit.errors
        predicted = list(fit.predictor(responses, error_model)([one.forget_set for one in truth]))
        seconds = time.process_time() - start
    return score(predicted, truth) | {"seconds": seconds}


def score(predicted: list[Effects], truth: list[Truth]) -> dict[str, float]:
    """Verdicts, root mean square errors (sets >= 20, noise of the truth taken off), squares by claims, single effects."""
    verdicts = [judge(one, CRITERIA["net"]) for one in predicted]
    pairs = [(p, t.net) for p, t in zip(verdicts, truth, strict=True) if max(t.net.probability.values()) >= DECIDED]
    named = [(p, t) for p, t in pairs if p.regime != "undetermined"]
    result = {
        "recall": float(mean_recall(pairs) or np.nan),
        "undetermined": 1 - len(named) / len(pairs),
        "wrong": sum(p.regime != best(t) for p, t in named) / len(named),
        "surprise": float(np.mean([-np.log(max(p.probability[best(t)], 0.01)) for p, t in pairs])),
    }
    large = np.array([len(t.forget_set) >= 20 for t in truth])
    for name, mine, theirs in (
        ("self", [p.self_influence for p in verdicts], [t.net.self_influence for t in truth]),
        ("cross", [p.cross_influence for p in verdicts], [t.net.cross_influence for t in truth]),
        ("harm", [p.harm for p in verdicts], [t.harm for t in truth]),
    ):
        square = np.array([(p.value - t.value) ** 2 for p, t in zip(mine, theirs, strict=True)])
        noise, claimed = (np.array([q.se**2 for q in part]) for part in (theirs, mine))
        result[f"rms_{name}"] = float(np.sqrt(max(0.0, np.mean((square - noise)[large]))))
        result[f"by_claim_{name}"] = float(square.mean() / (noise + claimed).mean())
    return result | score_single(predicted, truth)


def score_single(predicted: list[Effects], truth: list[Truth]) -> dict[str, float]:
    """Single effects on others and on members: root mean square error, and what 90% intervals cover.

    Large ones are selected by one half of the seeds and compared with the other, or selected by the prediction.
    """
    squares, cover = [], {}
    for p, t in zip(predicted, truth, strict=True):
        inside = np.zeros(len(p.effect), bool)
        inside[list(t.forget_set.ids)] = True
        squares.append(((p.effect - t.effect) ** 2 - t.se**2)[~inside].sum() / len(t.forget_set))
        for (by, _), (value, se) in (t.halves, t.halves[::-1]):
            within = np.abs(p.effect - value) < 1.645 * np.hypot(p.se, se)
            for name, some in (
                ("others", ~inside),
                ("large_others", ~inside & (np.abs(by) >= LARGE)),
                ("predicted_others", ~inside & (np.abs(p.effect) >= LARGE)),
                ("members", inside),
            ):
                cover.setdefault(name, []).append(within[some])
    single = {f"cover_{name}": float(np.concatenate(parts).mean()) for name, parts in cover.items()}
    return {"rms_single": float(np.sqrt(max(0.0, np.mean(squares))))} | single


if __name__ == "__main__":
    main()

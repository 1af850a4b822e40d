"""Turns predicted and measured effects of the same sets into how right the predictions are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from infl.records import REGIMES, Effects, Verdict
from infl.untraining.regimes import judge

DECIDED = 0.9  # probability from which a measured regime counts as the truth
BINS = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.001)


def score(predicted: list[Effects], measured: list[Effects], *, each: bool) -> dict[str, Any]:
    """Summary over all sets; with `each`, one row per set."""
    pairs = [(judge(one), judge(other)) for one, other in zip(predicted, measured, strict=True)]
    result = score_verdicts(pairs, each=each)
    result["summary"] |= {
        "median_correlation": correlation(predicted, measured),
        "intervals_90_cover": coverage(predicted, measured),
    }
    return result


def score_verdicts(pairs: list[tuple[Verdict, Verdict]], *, each: bool) -> dict[str, Any]:
    """What verdicts alone tell: predicted and measured of each set."""
    decided = [(p, t) for p, t in pairs if max(t.probability.values()) >= DECIDED]
    by_regime = {}
    for regime in REGIMES:
        those = [p for p, t in decided if best(t) == regime]
        right = sum(p.regime == regime for p in those)
        undetermined = sum(p.regime == "undetermined" for p in those)
        by_regime[regime] = {"sets": len(those), "right": right, "undetermined": undetermined}
    named = [(p, t) for p, t in decided if p.regime != "undetermined"]
    three = [by_regime[regime] for regime in ("no-op", "local", "spreading") if by_regime[regime]["sets"]]
    large = [(p, t) for p, t in pairs if len(p.forget_set) >= 20]
    self_errors = np.array([p.self_influence.value - t.self_influence.value for p, t in large])
    cross_errors = np.array([p.cross_influence.value - t.cross_influence.value for p, t in large])
    noise = np.array([t.cross_influence.se for _, t in large])
    nothing = [p.cross_influence.value for p, t in decided if best(t) == "no-op"]
    likely = [agree(p, t) for p, t in decided]
    both = [(p.cross_influence, t.cross_influence) for p, t in pairs]
    within = [abs(p.value - t.value) < 1.645 * np.hypot(p.se, t.se) for p, t in both]
    known = len(noise) and np.isfinite(cross_errors).all()
    summary = {
        "sets": len(pairs),
        "decided": len(decided),
        "recall": np.mean([one["right"] / one["sets"] for one in three]) if three else None,
        "recall_of_most_probable": mean_recall(decided),
        "undetermined": 1 - len(named) / max(len(decided), 1),
        "wrong_of_determined": sum(p.regime != best(t) for p, t in named) / max(len(named), 1),
        "right_regime_of_most_probable": float(np.mean(likely)) if likely else None,
        "rms_self": rms(self_errors),
        "rms_cross": rms(cross_errors),
        "rms_cross_less_noise_of_truth": np.sqrt(max(0.0, np.mean(cross_errors**2 - noise**2))) if known else None,
        "mean_cross_of_no_op": float(np.mean(nothing)) if nothing and np.isfinite(nothing).all() else None,
        "cross_intervals_90_cover": np.mean(within),
    }
    result: dict[str, Any] = {"summary": summary, "by_regime": by_regime, "reliability": reliability(decided)}
    result["missed"] = [f"{p.forget_set.name}: {p.regime}, {best(t)} measured" for p, t in named if p.regime != best(t)]
    if each:
        result["each"] = [row(p, t) for p, t in pairs]
    return result


def best(verdict: Verdict) -> str:
    """The most probable regime."""
    return max(verdict.probability, key=lambda regime: np.nan_to_num(verdict.probability[regime]))


def agree(p: Verdict, t: Verdict) -> bool:
    """Whether the most probable regimes agree."""
    return best(p) == best(t)


def mean_recall(decided: list[tuple[Verdict, Verdict]]) -> float | None:
    """Recall averaged over no-op, local and spreading, were the most probable regime always named."""
    recalls = []
    for regime in ("no-op", "local", "spreading"):
        those = [best(p) == regime for p, t in decided if best(t) == regime]
        recalls += [float(np.mean(those))] if those else []
    return float(np.mean(recalls)) if recalls else None


def rms(errors: np.ndarray) -> float | None:
    """Root mean square."""
    return float(np.sqrt(np.mean(errors**2))) if len(errors) and np.isfinite(errors).all() else None


def correlation(predicted: list[Effects], measured: list[Effects]) -> float | None:
    """Median over sets with any effect (above 0.3 on an example) of the correlation over examples."""
    values = [
        np.corrcoef(one.effect, other.effect)[0, 1]
        for one, other in zip(predicted, measured, strict=True)
        if np.abs(other.effect).max() > 0.3 and one.effect.std() > 0
    ]
    return float(np.median(values)) if values else None


def coverage(predicted: list[Effects], measured: list[Effects]) -> dict[str, float | None]:
    """Share of examples whose effect lies within 1.645 errors of the predicted, errors of the truth included.

    touched: those predicted or measured beyond 0.05; choosing by the measured one favours its noise, so cover is understated.
    """
    every, touched = [], []
    for one, other in zip(predicted, measured, strict=True):
        error = np.hypot(one.se, np.maximum(other.se, 1 / (other.n_models + 2)))
        within = np.abs(one.effect - other.effect) < 1.645 * error
        every.append(within.mean())
        some = (np.abs(one.effect) > 0.05) | (np.abs(other.effect) > 0.05)
        touched += [within[some].mean()] if some.any() else []
    return {"all": float(np.mean(every)), "touched": float(np.mean(touched)) if touched else None}


def reliability(decided: list[tuple[Verdict, Verdict]]) -> list[dict[str, float]]:
    """Per bin of the probability given to the most probable regime: mean, sets, share that were right."""
    bins = []
    for low, high in zip(BINS[:-1], BINS[1:], strict=True):
        those = [
            (max(p.probability.values()), agree(p, t)) for p, t in decided if low <= max(p.probability.values()) < high
        ]
        if those:
            bins.append(
                {
                    "probability": float(np.mean([q for q, _ in those])),
                    "sets": len(those),
                    "right": float(np.mean([r for _, r in those])),
                }
            )
    return bins


def seeds_worth(predicted: list[Effects], measured: list[Effects], n_seeds: int = 16) -> dict[str, float] | None:
    """What a prediction adds to the first seeds of a verification, compared with the other seeds of the same sets.

    cross(S) from `n_seeds` pairs alone, predicted alone, and both weighed by their errors; root mean square errors against the
    pairs that remain, whose own noise is taken off. `factor`: how many times as many seeds the prediction is worth.
    """
    alone, guessed, both, noise = [], [], [], []
    for one, other in zip(predicted, measured, strict=True):
        if other.n_models < 4 * n_seeds:
            continue
        first, rest = (judge(select_seeds(other, rows)) for rows in (slice(n_seeds), slice(n_seeds, None)))
        p, m, t = judge(one).cross_influence, first.cross_influence, rest.cross_influence
        weights = np.array([p.se**-2, m.se**-2])
        size = len(one.forget_set)
        alone.append(size * (m.value - t.value))
        guessed.append(size * (p.value - t.value))
        both.append(size * (float(weights @ [p.value, m.value]) / weights.sum() - t.value))
        noise.append(size * t.se)
    if len(alone) < 5:
        return None

    def net(errors: list[float]) -> float:
        return float(np.sqrt(max(0.0, np.mean(np.square(errors)) - np.mean(np.square(noise)))))

    result = {
        "sets": len(alone),
        "seeds": n_seeds,
        "seeds_alone": net(alone),
        "predicted": net(guessed),
        "both": net(both),
    }
    return result | {"factor": (result["seeds_alone"] / max(result["both"], 1e-9)) ** 2}


def select_seeds(measured: Effects, rows: slice | np.ndarray) -> Effects:
    """The effects that some of the seeds alone would have measured."""
    replicates = measured.replicates[rows]
    se = replicates.std(axis=0, ddof=1) / np.sqrt(len(replicates))
    return replace(measured, effect=replicates.mean(axis=0), se=se, replicates=replicates, n_models=len(replicates))


def row(p: Verdict, t: Verdict) -> dict[str, Any]:
    """One set."""
    numbers = {
        name: [v for q in (side.self_influence, side.cross_influence) for v in (q.value, q.se)]
        for name, side in (("predicted", p), ("measured", t))
    }
    return {
        "set": p.forget_set.name,
        "size": len(p.forget_set),
        "seeds": t.n_models,
        **numbers,
        "regimes": [p.regime, best(t)],
        "probabilities": [max(p.probability.values()), max(t.probability.values())],
    }


def summarize(parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The lines of the page: per world, predictor and number of models."""
    worlds = {
        world: {
            name: {**part["summary"], "by_regime": part["by_regime"], "seeds_worth": part.get("seeds_worth")}
            for name, part in results.items()
            if "summary" in part
        }
        for world, results in parts.items()
    }
    return {"worlds": worlds}

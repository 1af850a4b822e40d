"""Turns predicted and measured effects of the same sets into how right the predictions are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from infl.records import REGIMES, Effects, Thresholds, Verdict
from infl.untraining.regimes import judge

Pairs = list[tuple[Verdict, Verdict]]  # predicted and measured

CRITERIA = {"net": Thresholds(cross="net"), "harm": Thresholds(cross="harm")}
QUANTITIES = {"self": "self_influence", "net": "cross_influence", "harm": "harm"}
COLUMNS = [
    *("set", "size", "seeds"),
    *(f"{side} {name}{se}" for side in ("predicted", "measured") for name in QUANTITIES for se in ("", " se")),
    *(f"{name}: {what}" for name in CRITERIA for what in ("predicted", "its probability", "measured", "probability")),
]
OF_VERDICTS = (
    *("sets", "decided", "recall", "recall_of_most_probable", "undetermined", "wrong_of_determined"),
    *("right_regime_of_most_probable", "cross_intervals_90_cover"),
)
MIN_SIZE = 20
DECIDED = 0.9  # probability from which a measured regime counts as the truth
BINS = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.001)
STEPS = list(zip(BINS[:-1], BINS[1:], strict=True))


def score(predicted: list[Effects], measured: list[Effects], *, each: bool) -> dict[str, Any]:
    """How right verdicts are by either criterion, and how far sums are off; with `each`, one row per set (`COLUMNS`)."""
    result: dict[str, Any] = {}
    pairs: dict[str, Pairs] = {}
    for name, thresholds in CRITERIA.items():
        pairs[name] = [(judge(p, thresholds), judge(t, thresholds)) for p, t in zip(predicted, measured, strict=True)]
        found = score_verdicts(pairs[name], each=False)
        kept = {key: value for key, value in found["summary"].items() if key in OF_VERDICTS}
        near = {"near_a_threshold": near_a_threshold(pairs[name])}
        result[f"by {name}"] = kept | near | {key: found[key] for key in ("reliability", "missed")}
    result |= errors(pairs["net"])
    if each:
        result["rows"] = [both_rows(*both) for both in zip(*pairs.values(), strict=True)]
    return result


def errors(pairs: Pairs) -> dict[str, dict[str, float]]:
    """Of self, net and harm: errors over sets of 20 and more, and how many of all sets 90% intervals hold.

    `less noise`: root mean square error without the noise of the truth; `squared by claimed`: over both sides' variance.
    """
    result: dict[str, dict[str, float]] = {}
    for name, field in QUANTITIES.items():
        both = [(getattr(p, field), getattr(t, field), len(p.forget_set)) for p, t in pairs]
        rows = np.array([(p.value - t.value, p.se, t.se, size) for p, t, size in both])
        error, claimed, noise, size = rows[np.isfinite(rows).all(axis=1)].T  # sums of some sets have no estimate
        large = size >= MIN_SIZE
        if not large.any():
            continue
        square = np.mean(error[large] ** 2)
        result[name] = {
            "sets": int(large.sum()),
            "rms": np.sqrt(square),
            "less noise": np.sqrt(max(0.0, square - np.mean(noise[large] ** 2))),
            "noise of truth": np.sqrt(np.mean(noise[large] ** 2)),
            "bias": error[large].mean(),
            "squared by claimed": square / np.mean((claimed**2 + noise**2)[large]),
            "cover": np.mean(np.abs(error) < 1.645 * np.hypot(claimed, noise)),
        }
    return result


def near_a_threshold(pairs: Pairs) -> list[float | None]:
    """Fraction of the undetermined, and of the determined, that measure within 0.1 of a threshold."""
    found: dict[bool, list[bool]] = {True: [], False: []}
    for p, t in pairs:
        others = t.harm if t.thresholds.cross == "harm" else t.cross_influence
        distances = t.self_influence.value - t.thresholds.self_influence, others.value - t.thresholds.cross_influence
        found[p.regime == "undetermined"].append(min(map(abs, distances)) < 0.1)
    return [float(np.mean(some)) if some else None for some in found.values()]


def compare_criteria(measured: list[Effects]) -> dict[str, Any]:
    """What retraining says of the sets by either criterion: pairs of regimes, and the harm of those that are local by net."""
    pairs = [[judge(one, thresholds) for thresholds in CRITERIA.values()] for one in measured]
    pairs = [both for both in pairs if all(max(one.probability.values()) >= DECIDED for one in both)]
    harm = [by_harm.harm.value for by_net, by_harm in pairs if best(by_net) == "local"]
    found = Counter(f"{best(by_net)} / {best(by_harm)}" for by_net, by_harm in pairs)
    return {"net / harm": dict(found.most_common()), "harm of local by net": sorted(harm)}


def score_verdicts(pairs: Pairs, *, each: bool) -> dict[str, Any]:
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


def mean_recall(decided: Pairs) -> float | None:
    """Recall averaged over no-op, local and spreading, were the most probable regime always named."""
    recalls = []
    for regime in ("no-op", "local", "spreading"):
        those = [best(p) == regime for p, t in decided if best(t) == regime]
        recalls += [float(np.mean(those))] if those else []
    return float(np.mean(recalls)) if recalls else None


def rms(errors: np.ndarray) -> float | None:
    """Root mean square."""
    return float(np.sqrt(np.mean(errors**2))) if len(errors) and np.isfinite(errors).all() else None


def reliability(decided: Pairs) -> list[dict[str, float]]:
    """Per bin of the probability given to the most probable regime: mean, sets, share that were right."""
    bins = []
    for low, high in STEPS:
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


def both_rows(net: tuple[Verdict, Verdict], harm: tuple[Verdict, Verdict]) -> list[Any]:
    """One set, as `COLUMNS` say."""
    p, t = net
    numbers = [v for one in net for field in QUANTITIES.values() for v in vars(getattr(one, field)).values()]
    regimes = [
        v for p, t in (net, harm) for v in (p.regime, max(p.probability.values()), best(t), max(t.probability.values()))
    ]
    return [p.forget_set.name, len(p.forget_set), t.n_models, *numbers, *regimes]


def summarize(worlds: dict[str, Any]) -> dict[str, Any]:
    """By either criterion over all worlds, from the usual number of models: verdicts, and whether probabilities hold."""
    found = [world[name] for world in worlds.values() for name in ("combined-512", "combined-64") if name in world]
    result = {}
    for name in CRITERIA:
        parts = [one[f"by {name}"] for one in found]
        decided = sum(one["decided"] for one in parts)
        named = [one["decided"] * (1 - one["undetermined"]) for one in parts]
        wrong = sum(n * one["wrong_of_determined"] for n, one in zip(named, parts, strict=True))
        bins = [one for part in parts for one in part["reliability"]]
        result[name] = {
            "decided": decided,
            "undetermined": 1 - sum(named) / max(decided, 1),
            "determined": sum(named),
            "wrong": wrong,
            "recall_of_most_probable": np.mean([one["recall_of_most_probable"] or np.nan for one in parts]),
            "reliability": [
                merge_bins([one for one in bins if low <= one["probability"] < high]) for low, high in STEPS
            ],
        }
    return result


def merge_bins(bins: list[dict[str, float]]) -> dict[str, float]:
    """One bin of several, weighted by their sets."""
    sets = sum(one["sets"] for one in bins)
    means = {key: sum(one["sets"] * one[key] for one in bins) / max(sets, 1) for key in ("probability", "right")}
    return {"sets": sets} | means

"""What do language models memorize of verses? Counterfactual memorization (Zhang et al. 2023) with errors.

    python experiments/text_memorization/run.py --work FOLDER    # an hour on two shared cores
    python experiments/text_memorization/run.py --small          # under a minute

1,000 verses, gpt of 165,000 weights, 200 models of random subsets of 70%: memorization and influence by token accuracy,
log-probability, margin and exact continuation; how well two disjoint sets of k models agree; what is memorized by kind of
verse; influence between near-duplicates. A killed run is resumable. `experiments/readme.py` writes README.md from
results.json.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy as np
from record import argument_parser, mean_and_error, training_seconds, work_folder, write_results
from scipy import stats

import infl
from infl.data.near_duplicates import token_ngrams
from infl.records import Array, Dataset, OutcomeKind, Outcomes, ProtocolName
from infl.scores.evidence import joint_q_values
from infl.untraining.distance import take

OPTIMIZER: dict[str, Any] = {"optimizer": "adam", "learning_rate": 0.003, "schedule": "cosine"}
N_MODELS, N_TRAIN, N_HELD_OUT = 200, 1000, 430
KINDS: tuple[OutcomeKind, ...] = ("correct", "logprob", "margin", "exact")
HALVES = (4, 8, 16, 32, 64, 100)
N_SPLITS, N_SHUFFLES = 20, 100
N_SHOWN = 12
OVERLAPS = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.8, 1.0)  # bounds, of the runs of three tokens of either document
FORMULAIC = ("Genesis 5", "Genesis 11", "Numbers 1", "Numbers 7", "1 Chronicles 24", "1 Chronicles 25", "Psalm 136")
LISTS = (
    *("Genesis 36", "Numbers 33", "Joshua 12", "Joshua 15", "Joshua 19", "Ezra 2", "Nehemiah 7"),
    *("1 Chronicles 1", "1 Chronicles 2", "1 Chronicles 6", "1 Chronicles 8"),
)
SAYINGS = ("Proverbs", "Ecclesiastes")


def main() -> None:
    """Train what is missing and write results.json."""
    options = argument_parser(__doc__, __file__, small="few models of few verses").parse_args()
    with work_folder(options) as work:
        run = train(work, small=options.small)
        write_results(options.out, measure(run, small=options.small))


def train(work: Path, *, small: bool) -> infl.Run:
    """The run of subset models, trained as far as it is not."""
    n_train, n_held_out = (60, 30) if small else (N_TRAIN, N_HELD_OUT)
    return infl.train(
        infl.load("verses", n_train=n_train, n_held_out=n_held_out),
        run=work / "run",
        n_models=16 if small else N_MODELS,
        n_references=0,
        design=infl.Design("uniform", 0.7),
        algorithm=infl.Algorithm("gpt", batch_size=8, epochs=4 if small else 40, **OPTIMIZER),
        quiet=small,
    )


def measure(run: infl.Run, *, small: bool) -> dict[str, Any]:
    """All that is reported."""
    outcomes, dataset = run.outcomes("design").load(), run.dataset()
    n, masks = dataset.n_train, outcomes.masks
    overlap = overlaps(dataset)
    nearest = overlap[:, :n].max(axis=0)
    memorized = {kind: infl.memorization(outcomes, outcome=kind) for kind in KINDS}
    main_scores = memorized["correct"]
    inside = np.where(masks, outcomes.of("correct")[:, :n], np.nan)
    outside = np.where(masks, np.nan, outcomes.of("correct")[:, :n])
    left_out_accuracy = np.nanmean(outside, axis=0)
    copied = nearest >= 0.99
    summary: dict[str, Any] = {
        "accuracy": {
            "trained": mean_and_error(np.nanmean(inside, axis=1)),
            "left out": mean_and_error(np.nanmean(outside, axis=1)),
            "held out": mean_and_error(outcomes.of("correct")[:, n:].mean(axis=1)),
        },
        "memorization": {
            kind: {
                "mean": float(np.nanmean(one.value)),
                "sd": float(np.nanstd(one.value)),
                "median_se": float(np.nanmedian(one.se)),
                "correlation_with_accuracy": correlation(one.value, main_scores.value, ranks=True),
            }
            for kind, one in memorized.items()
        },
        "reliability": {kind: reliability(outcomes, kind) for kind in KINDS},
        "correlations": {
            "left-out accuracy": correlation(left_out_accuracy, main_scores.value, ranks=True),
            "overlap with the nearest": correlation(nearest, main_scores.value),
            "near-duplicates": correlation((overlap[:, :n] >= 0.5).sum(axis=0), main_scores.value),
            "length": correlation((dataset.x_train != 0).sum(axis=1), main_scores.value, ranks=True),
        },
    }
    return {
        "summary": summary,
        "n_train": n,
        "n_held_out": dataset.n_held_out,
        "n_models": outcomes.n_models,
        "seconds_per_model": training_seconds(run) / outcomes.n_models,
        "by_kind": by_kind(dataset, main_scores, copied),
        "by_copies": by_copies((overlap[:, :n] >= 0.99).sum(axis=0), main_scores.value),
        "by_nearest": by_overlap(nearest, main_scores.value),
        "intermediate": by_difficulty(left_out_accuracy, main_scores.value),
        "influence": influence_by_overlap(outcomes, dataset, overlap),
        "top": shown(dataset, main_scores, np.argsort(-main_scores.rankable)[:N_SHOWN], nearest),
        "bottom": shown(dataset, main_scores, np.argsort(main_scores.rankable)[:N_SHOWN], nearest),
        "each": [
            [float(v), float(s), float(a), float(o)]
            for v, s, a, o in zip(main_scores.value, main_scores.se, left_out_accuracy, nearest, strict=True)
        ],
        "coverage": split_half_coverage(outcomes),
        "shuffled": shuffles(outcomes, 2 if small else N_SHUFFLES),
        "small": small,
    }


def overlaps(dataset: Dataset) -> Array:
    """Jaccard index of the sets of runs of three tokens, of each document of D with all of D and H, [n, n+m]; 0 with itself."""
    present = token_ngrams(dataset.images, 3)
    present.data[:] = 1
    common = (present[: dataset.n_train] @ present.T).toarray()
    sizes = np.asarray(present.sum(axis=1))
    result = common / (sizes[: dataset.n_train, None] + sizes[None, :] - common)
    np.fill_diagonal(result, 0)
    return result


def reliability(outcomes: Outcomes, kind: OutcomeKind) -> dict[str, list[float | None]]:
    """Correlation over documents of the scores of two disjoint sets of k models: mean over splits, and its deviation."""
    random, found = np.random.RandomState(0), {}
    y, masks = outcomes.of(kind)[:, : outcomes.n_train].astype(np.float64), outcomes.masks
    for size in HALVES:
        if 2 * size > outcomes.n_models:
            continue
        values = []
        for _ in range(N_SPLITS):
            order = random.permutation(outcomes.n_models)
            halves = [contrast(y[rows], masks[rows]) for rows in (order[:size], order[size : 2 * size])]
            values.append(correlation(*halves))
        found[str(size)] = [float(np.mean(values)), float(np.std(values, ddof=1))]
    return found


def correlation(one: Array, other: Array, *, ranks: bool = False) -> float:
    """Over the documents that have both."""
    known = np.isfinite(one) & np.isfinite(other)
    measure = stats.spearmanr if ranks else stats.pearsonr
    return float(np.asarray(measure(one[known], other[known]))[0])


def contrast(y: Array, masks: Array) -> Array:
    """Difference in means, written out; NaN where a side has no model."""
    with np.errstate(invalid="ignore"):
        return (y * masks).sum(axis=0) / masks.sum(axis=0) - (y * ~masks).sum(axis=0) / (~masks).sum(axis=0)


def split_half_coverage(outcomes: Outcomes) -> dict[str, dict[str, float]]:
    """How often the scores of two disjoint halves of the models lie within 1.96 errors of their difference.

    Among pairs whose models disagree: where no model differs from another there is nothing to cover.
    """
    n, order = outcomes.n_train, np.random.RandomState(1).permutation(outcomes.n_models)
    halves = [take(outcomes, rows) for rows in np.array_split(order, 2)]
    varying = outcomes.of("correct").std(axis=0) > 0
    found = {}
    for name, some in (
        ("memorization", [infl.memorization(half) for half in halves]),
        ("held-out pairs", [infl.influence(half, columns=np.arange(n, outcomes.n_columns)) for half in halves]),
        ("left-out pairs", [infl.influence(half, columns=np.arange(n), protocol="left-out") for half in halves]),
    ):
        distance = np.abs(some[0].value - some[1].value) / np.hypot(some[0].se, some[1].se)
        columns = slice(n, None) if name == "held-out pairs" else slice(0, n)
        known = np.isfinite(distance) & varying[columns]
        found[name] = {"scores": int(known.sum()), "covered": float((distance[known] < 1.96).mean())}
    return found


def shuffles(outcomes: Outcomes, repeats: int) -> dict[str, int]:
    """In how many of the repeats anything is found at q <= 0.05 once masks are shuffled against outcomes."""
    n, random = outcomes.n_train, np.random.RandomState(2)
    found = dict.fromkeys(("memorization", "held-out pairs"), 0)
    for _ in range(repeats):
        shuffled = replace(outcomes, masks=outcomes.masks[random.permutation(outcomes.n_models)])
        found["memorization"] += bool((infl.q_values(np.asarray(infl.memorization(shuffled).p)) <= 0.05).any())
        pairs = infl.influence(shuffled, columns=np.arange(n, outcomes.n_columns))
        found["held-out pairs"] += bool((joint_q_values(pairs) <= 0.05).any())
    return {"repeats": repeats, **found}


def by_copies(n_copies: Array, values: Array) -> list[dict[str, Any]]:
    """Memorization by how often D holds the text again; what those without a copy would have where no copy is trained on.

    Subsets of 70% miss all of k copies with probability 0.3^k, and only then is a verse unlike one without copies.
    """
    single, rows = float(values[n_copies == 0].mean()), []
    for least, most in ((1, 1), (2, 2), (3, 1000)):
        some = (n_copies >= least) & (n_copies <= most)
        if some.any():
            expected = single * float((0.3 ** n_copies[some]).mean())
            found = {"memorization": mean_and_error(values[some]), "expected": expected}
            rows.append({"copies": least, "n": int(some.sum()), **found})
    return rows


def by_kind(dataset: Dataset, scores: infl.Estimate, copied: Array) -> list[dict[str, Any]]:
    """Memorization of groups of chapters, and of verses of which D holds the same text again."""
    names = np.array(dataset.class_names)[dataset.y_train]
    sayings = np.array([name.startswith(SAYINGS) for name in names])
    kinds = {
        "the same text again in D": copied,
        "on one pattern": np.isin(names, FORMULAIC) & ~copied,
        "lists of names and places": np.isin(names, LISTS) & ~copied,
        "sayings": sayings & ~copied,
    }
    kinds["psalms, tales, letters"] = ~np.any(list(kinds.values()), axis=0)
    return [
        {"kind": kind, "n": int(some.sum()), "memorization": mean_and_error(scores.value[some]), "share": share}
        for kind, some in kinds.items()
        if some.any()
        for share in [float((scores.value[some] > 2 * scores.se[some]).mean())]
    ]


def by_overlap(nearest: Array, values: Array) -> list[dict[str, Any]]:
    """Memorization by the overlap with the nearest other document of D."""
    bins = zip(OVERLAPS[:-1], (*OVERLAPS[1:-1], 1.01), strict=True)
    return [
        {"from": low, "to": min(high, 1.0), "n": int(some.sum()), "memorization": mean_and_error(values[some])}
        for low, high in bins
        if (some := (nearest >= low) & (nearest < high)).any()
    ]


def by_difficulty(left_out_accuracy: Array, values: Array) -> list[dict[str, Any]]:
    """Memorization by fifths of the accuracy of models that left the document out."""
    fifths = np.array_split(np.argsort(left_out_accuracy, kind="stable"), 5)
    return [
        {"left_out_accuracy": float(left_out_accuracy[some].mean()), "memorization": mean_and_error(values[some])}
        for some in fifths
    ]


def influence_by_overlap(outcomes: Outcomes, dataset: Dataset, overlap: Array) -> dict[str, Any]:
    """Mean influence on others by overlap, and how many pairs are found."""
    n, result = dataset.n_train, {}
    protocols: dict[ProtocolName, Array] = {"left-out": np.arange(n), "held-out": np.arange(n, dataset.n_columns)}
    for protocol, columns in protocols.items():
        estimate = infl.influence(outcomes, columns=columns, protocol=protocol)
        values, q = estimate.value, joint_q_values(estimate)
        some_overlap = overlap[:, columns]
        pairs = np.isfinite(values)
        bins = []
        for low, high in zip(OVERLAPS, (*OVERLAPS[1:-1], 0.99, 1.01), strict=True):
            chosen = pairs & (some_overlap >= low) & (some_overlap < high) & ((some_overlap > 0) | (low == 0))
            if chosen.any():
                error = values[chosen].std() / np.sqrt(max(len(np.unique(np.nonzero(chosen)[1])), 2))
                found = float((q[chosen] <= 0.05).mean())
                mean = float(values[chosen].mean())
                bins.append({"from": low, "n": int(chosen.sum()), "influence": [mean, float(error)], "found": found})
        strong = np.argwhere(pairs & (q <= 0.05))
        known = sorted(((float(values[i, j]), int(i), int(j)) for i, j in strong), reverse=True)[:N_SHOWN]
        result[protocol] = {
            "bins": bins,
            "pairs": int(pairs.sum()),
            "found": len(strong),
            "found_without_overlap": int((some_overlap[tuple(strong.T)] < OVERLAPS[1]).sum()),
            "shown": [
                {
                    "influence": [v, float(estimate.se[i, j])],
                    "overlap": float(some_overlap[i, j]),
                    "of": dataset.text(i),
                    "on": dataset.text(int(columns[j])),
                }
                for v, i, j in known
            ],
        }
    return result


def shown(dataset: Dataset, scores: infl.Estimate, ids: Array, nearest: Array) -> list[dict[str, Any]]:
    """Documents with their scores and texts."""
    return [
        {
            "memorization": [float(scores.value[i]), float(scores.se[i])],
            "nearest": float(nearest[i]),
            "group": dataset.class_names[dataset.y_train[i]],
            "text": dataset.text(int(i)),
        }
        for i in ids
    ]


if __name__ == "__main__":
    main()

"""Turns results.json into README.md, so that no number on the page is typed."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
COLUMNS = {
    "rank_correlation": "all pairs",
    "rank_correlation_within_class": "within class",
    "rank_correlation_probability": "probability",
    "lds": "LDS",
    "recall": "recall",
    "rank_correlation_self": "self",
    "rank_correlation_cross": "cross",
}


def page(results: dict[str, Any]) -> str:
    """The page in Markdown."""
    return "\n\n".join(
        [
            "# What does cheap attribution say of the influence that retraining measures?",
            answer(results),
            "![Every method by rank correlation, LDS and recall](approximations.png)",
            table(results),
            flow(MEASURES.format(**counts(results))),
            "## What did not come out as expected",
            surprises(results),
            "## How it was made",
            flow(HOW.format(**counts(results))),
            "    python experiments/approximations/run.py --work FOLDER\n"
            "    python experiments/approximations/figure.py\n"
            "    python experiments/approximations/page.py",
            flow(f"Raw numbers, all sets, versions and commit ({results['commit'][:10]}): `results.json`."),
        ]
    ) + "\n"  # fmt: skip


MEASURES = """
    *All pairs*: Spearman correlation over the sources of a held-out digit with the measured influence on its margin, mean of
    {n_held_out} digits; *within class*: over the sources of its own label, so that knowing labels earns nothing;
    *probability*: with the influence on being right, for the digits that 5 to 95% of the models have right. Errors by
    bootstrap over digits. *LDS*: Spearman correlation over {subsets} random halves of D of the sum of scores in the half with
    the margin of {seeds} models trained on it (Park et al. 2023), error over halves and digits together. *Recall*: of the
    most probable regime, averaged over no-op, local and spreading; *self*, *cross*: rank correlation over sets of the
    predicted with the measured. {judged} sets of decided regime were judged ({regimes}), errors by bootstrap over sets. Sums
    become probabilities by one factor for each method, fitted to {fitted} other sets; retained training examples are taken to
    lose nothing, which is true here and spares sums an error. *Attainable*: what the truth itself would reach, from
    two halves of its models and the Spearman-Brown formula. Trainings of D or of parts of it; CPU seconds come on top.
"""

HOW = """
    {n_train:,} digits, {n_flipped} of them with a wrong label, {n_held_out} held out; MLP 64-256-10, 30 epochs.
    Influence by {truth:,} models of balanced subsets of 70% that no method sees; infl's own scores from up to {own:,}
    others, its predictors from grouped runs. {sets} forget sets of all kinds, retrained without each 16 to
    {seeds_of_set} times. Gradients of models of D; TracIn with checkpoints after 1, 3, 10 and 30 epochs; TRAK with
    512 projections by random signs and no regularization; k-NN with k = 5 (Shapley values). Numbers of neighbours,
    features and checkpoints were set once, before any result; sets of flipped labels were added after a first look at
    five methods, as few sets were local. {cores} cores of a {processor}, shared with other work. Formulas and
    sources: `attribution.py`; tests of them against finite differences, all orders of a small game and a regression
    written out: `tests/experiments`.
"""


def answer(results: dict[str, Any]) -> str:
    """Two sentences, and what is missing."""
    said = {(row["method"], row["trainings"]): row for row in results["methods"]}

    def of(method: str, trainings: int, measure: str) -> str:
        return with_error(said[method, trainings][measure])

    cheap = max(row["recall"][0] for row in results["methods"] if row["trainings"] <= 10)
    text = f"""
        Of margins of other subsets the closed-form surrogate says most, without a training: **LDS
        {of("surrogate, refitted", 0, "lds")}**, against {of("gradient dot, all layers", 10, "lds")} of gradient dot products of
        ten models, {of("k-NN, features", 10, "lds")} of nearest neighbours in their features, {of("TRAK", 10, "lds")} of TRAK
        with ten models, and {of("infl scores, margins", 1000, "lds")} of infl's sums over 1,000 models of subsets. Regimes of
        forget sets are found best by infl's predictor `combined`, **recall
        {of("infl predictor, combined", 576, "recall")}** with 576 trainings and
        {of("infl predictor, combined", 128, "recall")} with 128; sums of scores of 1,000 models reach
        {of("infl scores, probabilities", 1000, "recall")}, and of what takes ten trainings or fewer nothing exceeds
        {cheap:.2f}.
    """
    if results["skipped"]:
        names = "; ".join(name.replace("-", ", trainings: ") for name in map(last_dash, results["skipped"]))
        text += f" **Not measured yet**, for want of time: {names}. Run again without `--skip`."
    return flow(text)


def last_dash(name: str) -> str:
    """Only the dash before the number of trainings counts."""
    head, _, number = name.rpartition("-")
    return f"{head.replace('-', ' ')}-{number}"


def surprises(results: dict[str, Any]) -> str:
    """What was not expected, and what the numbers do not show."""
    said = {(row["method"], row["trainings"]): row for row in results["methods"]}
    trak, tracin, dot = (said[name, 1] for name in ("TRAK", "TracIn", "gradient dot, all layers"))
    one, neighbours = trak["sets_by_regime"], said["k-NN, pixels", 0]
    best = results["summary"]["attainable"]
    lines = [
        f"""- LDS and regimes order the methods differently. TRAK with one model has a recall of {with_error(trak["recall"])},
        yet names {trak["right_by_regime"]["spreading"]} of {one["spreading"]} spreading sets. Nearest
        neighbours in pixels have an LDS of {with_error(neighbours["lds"])}, better than dot products of gradients, and a
        recall of {with_error(neighbours["recall"])}, since they give an example no influence on itself.""",
        f"""- Checkpoints did not help the pairs: TracIn has an LDS of {with_error(tracin["lds"])}, the last weights alone
        {with_error(dot["lds"])}.""",
        f"""- Over all pairs even the truth would reach only {best["rank_correlation"]:.2f}, and knowing the labels
        ({with_error(said["same label", 0]["rank_correlation"])}) beats every gradient. Within a class
        {best["rank_correlation_within_class"]:.2f} is attainable, and TRAK with ten models comes nearest,
        {with_error(said["TRAK", 10]["rank_correlation_within_class"])}.""",
        f"""- Ten models of subsets tell nothing by differences of means
        (LDS {with_error(said["infl scores, margins", 10]["lds"])}), and `infl.shrunk_influence` refuses so few.""",
        f"""- Not shown: other data, other networks, larger n. Local sets are few ({one["local"]} of those judged), so recall
        rests on few of them, and where all sets of a regime are right or wrong the bootstrap sees no error.""",
    ]
    return "\n".join(flow(line).replace("\n", "\n  ") for line in lines)


def table(results: dict[str, Any]) -> str:
    """Every method by every measure, and the ceilings."""
    lines = [
        "| method | trainings | CPU s | " + " | ".join(COLUMNS.values()) + " |",
        "|---|---|---|" + "---|" * len(COLUMNS),
    ]
    for row in results["methods"]:
        cells = " | ".join(with_error(row.get(name)) for name in COLUMNS)
        lines.append(f"| {row['method']} | {row['trainings']:,} | {row['seconds']:.1f} | {cells} |")
    best = results["summary"]["attainable"]
    lines.append("| *attainable* | | | " + " | ".join(f"{best[n]:.2f}" if n in best else "" for n in COLUMNS) + " |")
    return "\n".join(lines)


def counts(results: dict[str, Any]) -> dict[str, Any]:
    """Numbers that the text quotes."""
    by_regime = results["methods"][0]["sets_by_regime"]
    n_sets = len(results["sets"])
    return results["sizes"] | {
        "sets": n_sets,
        "fitted": -(-n_sets // 3),
        "judged": sum(by_regime.values()),
        "regimes": ", ".join(f"{count} {name}" for name, count in by_regime.items() if count),
        "cores": results["cores"],
        "processor": results["processor"],
    }


def with_error(value_and_error: list[float] | None) -> str:
    """`0.12 ± 0.03`."""
    if value_and_error is None:
        return ""
    return f"{value_and_error[0]:z.2f} ± {value_and_error[1]:.2f}".replace("-", "−")


def flow(text: str) -> str:
    """A paragraph, broken at 128 characters."""
    return textwrap.fill(" ".join(text.split()), 128, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    (HERE / "README.md").write_text(page(json.loads((HERE / "results.json").read_text())))

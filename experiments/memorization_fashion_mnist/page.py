"""Turns results.json into README.md, so that no number on the page is typed."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

NOISE = """
    Sets were chosen by the plain scores of all models. Noise blurs who is in them at the border, but it cannot flatter these
    numbers: accuracy is read on held-out images, of models with other keys, and neither had a part in the scores.
"""


def page(results: dict[str, Any]) -> str:
    """The page in Markdown."""
    memorized, pairs, utility = results["memorized"], results["pairs"], results["utility"]
    parts = [
        "# How much of Fashion-MNIST does a network memorize, and what is that worth?",
        answer(memorized, utility),
        "![Held-out accuracy lost by training without the images above each memorization threshold](utility.png)",
        marginal(utility),
        "## Scores",
        scores(memorized),
        "![The most memorized images of each class](memorized.png)",
        influence(pairs),
        "![Strong influences of training images on held-out ones](pairs.png)",
        "## Against the paper",
        against_the_paper(results),
        "## How it was made",
        how(results),
        "    python experiments/memorization_fashion_mnist/run.py --work FOLDER\n"
        "    python experiments/memorization_fashion_mnist/page.py",
        flow(f"Raw numbers, versions and commit ({results['commit'][:10]}): `results.json`."),
    ]
    return "\n\n".join(parts) + "\n"


def answer(memorized: dict[str, Any], utility: dict[str, Any]) -> str:
    """Two sentences."""
    share, row = memorized["shares"]["0.25"], row_at(utility, 0.3)
    return flow(f"""
        **{percent(share["corrected"])} ± {100 * both_errors(share):.1f}% of {memorized["n_train"]:,} images are memorized**
        (score of 0.25 or more; {percent(share["share"])} before a correction for noise). Training without the {row["size"]}
        images of 0.3 or more costs **{points(row["lost, memorized"])} points** of held-out accuracy, without as many random
        ones {points(row["lost, random"])}, and without as many random ones of the same classes
        {points(row["lost, same classes"])}. Errors are one standard error.
    """)


def marginal(utility: dict[str, Any]) -> str:
    """The table of what removal costs."""
    keys = [f"lost, {arm}" for arm in ("memorized", "random", "same classes")]
    differences = [f"lost more than {arm}" for arm in ("random", "same classes")]
    lines = [
        flow(f"""
            Held-out accuracy lost, in percentage points of {100 * utility["accuracy_of_all"][0]:.2f}% with all of D. Means of
            {utility["n_seeds"]} seeds; random sets are drawn anew for each, so that errors hold the draw too. The last two
            columns are differences within a seed, and their second error is that of another draw of 4,000 held-out images.
        """),
        "",
        "| memorization | removed | memorized | random | random, same classes | more than random | than same classes |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in utility["table"]:
        cells = [points(row[key]) for key in keys]
        cells += [f"{points(row[key])} ± {100 * row[f'{key}, error over images']:.2f}" for key in differences]
        lines.append(f"| ≥ {row['threshold']:g} | {row['size']:,} ({percent(row['share'])}) | {' | '.join(cells)} |")
    lines += ["", flow(NOISE)]
    return "\n".join(lines)


def scores(memorized: dict[str, Any]) -> str:
    """The shares beyond each threshold."""
    lines = [
        "| score of at least | share | corrected | error over models | over examples |",
        "|---|---|---|---|---|",
    ]
    for threshold, row in memorized["shares"].items():
        shares = (row[key] for key in ("share", "corrected", "se_over_models", "se_over_examples"))
        lines.append(f"| {float(threshold):g} | " + " | ".join(f"{100 * share:.2f}%" for share in shares) + " |")
    text = flow(f"""
        Noisy scores cross a threshold upwards more often than downwards; the correction takes twice the share of all models
        less that of halves of them (`shares.py`). The error over models is by jackknife, that over examples is for another
        draw of {memorized["n_train"]:,} images. Scores have a root mean square standard error of
        {memorized["root_mean_square_error_of_scores"]:.3f}; two halves of the models rank the images with a correlation of
        {memorized["correlation_of_halves"]:.2f}, and agree on those of 0.25 or more with a Jaccard index of
        {memorized["jaccard_of_halves"]:.2f}.
    """)
    return "\n".join([*lines, "", text])


def influence(pairs: dict[str, Any]) -> str:
    """How many pairs, and what the other half of the models says of them."""
    text = f"""
        Pairs with an influence of at least 0.15 from a memorized image on a held-out one: {pairs["pairs_as_published"]:,} by
        the paper's count, {pairs["pairs_at_q_0.05"]:,} with q <= 0.05 over all 16 million pairs. These are on
        {pairs["targets"]:,} held-out images, of which {pairs["targets_with_one_source"]:,} have a single such source;
        {percent(pairs["share_within_class"])} are within a class.
    """
    halves = [half for half in pairs["halves"] if half["pairs"]]
    if halves:
        chosen, again, strong, above = (
            sum(half[key] for half in halves) / len(halves)
            for key in (
                "mean_in_choosing_half",
                "mean_in_other_half",
                "share_strong_in_other_half",
                "share_above_zero_in_other_half",
            )
        )
        text += f"""
            The largest of many noisy scores flatter: pairs that one half of the models finds at q <= 0.05
            ({" and ".join(str(half["pairs"]) for half in halves)}) have a mean influence of {chosen:.2f} there and
            {again:.2f} in the other half, where {percent(strong)} reach 0.15 and {percent(above)} are above zero. The
            picture shows such pairs with the scores of the other half.
        """
    return flow(text)


def against_the_paper(results: dict[str, Any]) -> str:
    """What Feldman and Zhang (2020) found, and what came out here."""
    memorized, pairs, utility = results["memorized"], results["pairs"], results["utility"]
    table = utility["table"]
    least, matched = (
        min(in_errors(row, f"lost more than {arm}") for row in table) for arm in ("random", "same classes")
    )
    first, last = row_at(utility, 0.1), row_at(utility, 0.8)
    per_hundred = [100 * row["lost, memorized"][0] / row["size"] * 100 for row in (first, last)]
    single = pairs["targets_with_one_source"] / max(pairs["targets"], 1)
    lines = [
        flow(f"""
            - Came out: memorized images are worth more than random ones at every threshold, by at least {least:.1f}
              standard errors of seeds and held-out images together; with classes matched, by at least {matched:.1f}. Classes
              explain part of it only for the largest set.
        """),
        flow(f"""
            - Came out: a long tail. {percent(memorized["shares"]["0.25"]["corrected"])} is far from nothing, and strong
              influences join images that look like two takes of one article; {percent(single)} of the influenced held-out
              images have a single strong source. Most images, {percent(1 - memorized["shares"]["0.1"]["corrected"])}, are
              below 0.1.
        """),
        flow(f"""
            - Not expected: the most memorized are worth the most, each. {per_hundred[1]:.2f} points go with every hundred
              images of 0.8 or more, {per_hundred[0]:.2f} with every hundred of 0.1 or more. Wrong labels, which are memorized
              and worth nothing, are rare among them, it seems.
        """),
        flow(f"""
            - Not shown: what a network that fits its data would do. This one has {percent(memorized["accuracy_trained"])} of
              its training images right, and what it does not fit it cannot memorize. Scores are of models of 70% of D, the
              removals are from all of it. One network, one draw of images, one order of magnitude of n.
        """),
    ]
    return "\n".join(line.replace("\n", "\n  ") for line in lines)


def how(results: dict[str, Any]) -> str:
    """Data, models, machine, time."""
    memorized, utility, seconds = results["memorized"], results["utility"], results["seconds"]
    n_retrained = utility["n_seeds"] * (1 + 3 * len(utility["table"]))
    return flow(f"""
        {memorized["n_train"]:,} training and 4,000 held-out images drawn from Fashion-MNIST; MLP 784-64-10, SGD with momentum
        0.9, learning rate 0.05 on half a cosine, batches of 50, 20 epochs. {memorized["n_models"]:,} models of balanced subsets
        of 70% for the scores, {n_retrained} models of all of D or D without a set ({utility["n_seeds"]} seeds) for the
        accuracies. {results["cores"]} cores of a {results["processor"]} that other work shared:
        {seconds["subset_models"] / 60:.1f} and {seconds["retraining"] / 60:.1f} minutes. The models of subsets have
        {percent(memorized["accuracy_trained"])} of their training images right, {percent(memorized["accuracy_left_out"])} of
        those left out and {percent(memorized["accuracy_held_out"])} of the held-out ones.
    """)


def row_at(utility: dict[str, Any], threshold: float) -> dict[str, Any]:
    """The row of a threshold."""
    return next(row for row in utility["table"] if row["threshold"] == threshold)


def in_errors(row: dict[str, Any], key: str) -> float:
    """A difference in standard errors, of seeds and of images."""
    value, over_seeds = row[key]
    return value / (over_seeds**2 + row[f"{key}, error over images"] ** 2) ** 0.5


def both_errors(row: dict[str, float]) -> float:
    """Of models and of examples together."""
    return (row["se_over_models"] ** 2 + row["se_over_examples"] ** 2) ** 0.5


def points(value_and_error: list[float]) -> str:
    """`1.23 ± 0.04`, of shares."""
    return f"{100 * value_and_error[0]:z.2f} ± {100 * value_and_error[1]:.2f}".replace("-", "−")


def percent(share: float) -> str:
    """`12.3%`."""
    return f"{100 * share:.1f}%"


def flow(text: str) -> str:
    """A paragraph, broken at 128 characters."""
    return textwrap.fill(" ".join(text.split()), 128, break_long_words=False, break_on_hyphens=False)


if __name__ == "__main__":
    (HERE / "README.md").write_text(page(json.loads((HERE / "results.json").read_text())))

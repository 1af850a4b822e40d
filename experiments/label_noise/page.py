"""Turns results.json into README.md, so that no number on the page is typed: python experiments/label_noise/page.py."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KINDS = (
    "digits-5",
    "digits-10",
    "digits-20",
    "fashion-5",
    "fashion-10",
    "fashion-20",
    "digits fitted-10",
    "fashion fitted-10",
)


def page(results: dict[str, Any]) -> str:
    """The page in Markdown."""
    summary = results["summary"]

    def precision(kind: str, score: str) -> str:
        return pm(summary[kind][score]["precision"])

    def learned(kind: str) -> str:
        worlds = [world for name, world in results["worlds"].items() if name.startswith(kind)]
        return f"{sum(world['flipped_correct']['in'] for world in worlds) / len(worlds):.0%}"

    parts = [
        "# How well does memorization find wrong labels?",
        flow(answer(precision, learned)),
        "![Precision of scores against the models that they cost, at 10% flipped](label_noise.png)",
        flow(
            """Errors are standard errors over three worlds, each with other examples, flips and subsets; points are
            moved apart a little. Scores of one and ten models are those of training on all examples."""
        ),
        "## Precision at the number flipped",
        table(summary, "precision"),
        "## ROC AUC",
        table(summary, "auc"),
        flow(DEFINITIONS),
        "## What did not come out as expected",
        flow(SURPRISES),
        "## How it was made",
        flow(
            f"""Digits: n = 1,000, MLP 64-128-10; Fashion-MNIST at half size: n = 2,000, MLP 196-64-10; batches of 50,
            learning rate 0.05, momentum 0.9, 30 epochs (Fashion-MNIST 20; fitted: 0.1 and 100), balanced subsets of
            70%. {results["processor"]}, {results["cores"]} cores that other work was using, two calls of eight
            minutes; commit `{results["commit"][:7]}`. Seeds 0, 1, 2 of data, flips and subsets."""
        ),
        "    python experiments/label_noise/run.py --work DIR\n"
        "    python experiments/label_noise/figure.py\n"
        "    python experiments/label_noise/page.py",
        "## What it does not show",
        flow(NOT_SHOWN),
    ]
    return "\n\n".join(parts) + "\n"


def answer(precision: Any, learned: Any) -> str:
    """What came out, in a few sentences."""
    return f"""Only where models learn them by heart. Of the flipped labels (10%), memorization from 1,000 models ranks
    {precision("digits fitted-10", "memorization, 1000 models")} of those of digits among as many highest where the models
    fit {learned("digits fitted-10")} of those that they train on, and {precision("digits-10", "memorization, 1000 models")}
    where they fit {learned("digits-10")}. The area under the margin of one model finds
    {precision("digits fitted-10", "area under the margin, 1 models")} and
    {precision("digits-10", "area under the margin, 1 models")}, the pixels of ten neighbours
    {precision("digits-10", "nearest neighbours, 0 models")} without any model. On Fashion-MNIST the same four are
    {precision("fashion fitted-10", "memorization, 300 models")} (300 models, {learned("fashion fitted-10")} fitted),
    {precision("fashion-10", "memorization, 1000 models")} ({learned("fashion-10")} fitted),
    {precision("fashion fitted-10", "area under the margin, 1 models")} and
    {precision("fashion-10", "area under the margin, 1 models")}, and neighbours
    {precision("fashion-10", "nearest neighbours, 0 models")}. To find wrong labels, memorization is the dear way."""


SURPRISES = """What helps is the half of memorization that leaves the example out. *Left out* needs no model that fits
    and is at least as good everywhere; as a margin it is nearly as good from 10 models as in correctness from 300.
    The other half, what models that train on an example say of it, only takes away. The longer models train, the
    worse loss, margin and forgetting events tell flipped labels from others: after 100 epochs the loss of one model
    finds two thirds (digits) and half (Fashion-MNIST) of what it found after 30 and 20. Where models were stopped
    before they fit, the area under the margin of one of them is within 0.03 of the best of all scores. Memorization
    of examples that all models get right is 0 only up to rounding; scores are rounded to six digits here, since
    rounding broke ties and moved the AUC."""

DEFINITIONS = """*Left out*: what the models that did not train on an example say of its label, its error rate or its
    margin, with the sign turned; memorization is the difference between the models with it and those. *Loss*,
    *margin*: after the last epoch. *Area under the margin*, *confidence over training*: means over the epochs.
    *Learning speed*: share of epochs after which the label is predicted. *Nearest neighbours*: share of the ten
    nearest with another label. With ties, precision is its mean over all ways to break them."""

NOT_SHOWN = """Flips were drawn at random among the other classes. Labels that people get wrong are wrong where images
    are hard to tell, which every score here finds harder. The original labels of Fashion-MNIST are themselves wrong
    or doubtful for some images: a score that finds those is punished for it. Networks are small."""


def flow(text: str) -> str:
    """A paragraph, broken at 128 characters."""
    return textwrap.fill(" ".join(text.split()), 128, break_long_words=False, break_on_hyphens=False)


def pm(value: list[float]) -> str:
    """A number with its standard error."""
    return f"{value[0]:.2f}±{value[1]:.2f}"


def table(summary: dict[str, Any], measure: str) -> str:
    """One row a score, one column a data set and rate."""
    kinds = [kind for kind in KINDS if kind in summary]
    scores = list(dict.fromkeys(score for kind in kinds for score in summary[kind]))
    scores.sort(key=lambda score: (score.rsplit(", ", 1)[0], int(score.rsplit(", ", 1)[1].split()[0])))
    head = ["score", "models", *(kind.replace("-", ", ") + "%" for kind in kinds)]
    lines = [head, ["---"] * len(head)]
    for score in scores:
        title, models = score.rsplit(", ", 1)
        found = [pm(summary[kind][score][measure]) if score in summary[kind] else "" for kind in kinds]
        lines.append([title, f"{int(models.split()[0]):,}", *found])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    (HERE / "README.md").write_text(page(json.loads((HERE / "results.json").read_text())))

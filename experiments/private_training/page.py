"""Turns results.json into README.md, so that no number on the page is typed: python experiments/private_training/page.py."""

from __future__ import annotations

import json
import math
import textwrap
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REGIMES = ("no-op", "local", "spreading", "indirect", "undetermined")


def page(results: dict[str, Any]) -> str:
    """The page in Markdown."""
    arms, summary = results["arms"], results["summary"]
    parts = [
        "# Is untraining a no-op for a differentially private model?",
        flow(answer(arms, summary)),
        "![Self-influence and cross-influence of the sets in every arm](private_training.png)",
        flow(CAPTION),
        "## Regimes, accuracy, memorization",
        regimes(summary),
        flow(COLUMNS),
        "## What is promised to groups",
        groups(arms),
        flow(PROMISES),
        "## Each set",
        sets(arms),
        "## What did not come out as expected",
        flow(surprises(arms, summary)),
        "## How it was made",
        flow(
            f"""{MADE} Training took {sum(arm["training_seconds"] for arm in arms.values()) / 60:.0f} minutes on
            {results["cores"]} cores that other work was using ({results["processor"]}); commit `{results["commit"][:7]}`."""
        ),
        "    python experiments/private_training/run.py --work DIR\n"
        "    python experiments/private_training/figure.py\n"
        "    python experiments/private_training/page.py",
        "## What it does not show",
        flow(NOT_SHOWN),
    ]
    return "\n\n".join(parts) + "\n"


def answer(arms: dict[str, Any], summary: dict[str, Any]) -> str:
    """What came out, in a few sentences."""

    def self_of(name: str, arm: str) -> str:
        return pm(next(row["self"] for row in arms[arm]["sets"] if row["set"].startswith(name)))

    medium = next(
        row["set"] for row in arms["neither"]["sets"] if row["set"].startswith("cluster") and row["size"] > 20
    )
    size = next(row["size"] for row in arms["neither"]["sets"] if row["set"] == medium)
    counts = {arm: one["regimes"] for arm, one in summary.items()}
    determined = {arm: sum(count.values()) - count["undetermined"] for arm, count in counts.items()}
    return f"""Of single examples, yes: untraining the ten most memorized takes {self_of("10 most", "neither")} of the
    accuracy on them without privacy and {self_of("10 most", "epsilon 3")} with epsilon 3, and the mean memorization of an
    image falls from {pm(summary["neither"]["memorization"], 3)} to {pm(summary["epsilon 3"]["memorization"], 3)}. Of what
    many teach together, no, and less so than without privacy: untraining a cluster of {size} takes
    {self_of(medium, "neither")} of the accuracy on it without and {self_of(medium, "epsilon 3")} with epsilon 3, and nine
    tenths of class 1 {self_of("90% of class 1", "neither")} and {self_of("90% of class 1", "epsilon 3")}. A no-op are
    {counts["neither"]["no-op"]} of the {determined["neither"]} determined sets without privacy, and
    {counts["epsilon 1"]["no-op"]} of {determined["epsilon 1"]}, {counts["epsilon 3"]["no-op"]} of
    {determined["epsilon 3"]} and {counts["epsilon 8"]["no-op"]} of {determined["epsilon 8"]} with epsilon 1, 3 and 8;
    spreading are {counts["neither"]["spreading"]}, and {counts["epsilon 1"]["spreading"]},
    {counts["epsilon 3"]["spreading"]} and {counts["epsilon 8"]["spreading"]}."""


def surprises(arms: dict[str, Any], summary: dict[str, Any]) -> str:
    """What did not come out as expected."""
    row = next(row for row in arms["neither"]["sets"] if row["set"] == "random, 1%")
    return f"""Clipping does it, not noise: the arm that is clipped and gets no noise promises nothing, and memorizes as little
    ({pm(summary["clipped"]["memorization"], 3)}), loses as much of groups and is no more accurate
    ({pm(summary["clipped"]["accuracy_held_out"], 3)}) than those with epsilon 3 and 8. Part of it is that clipped steps are
    short and these models learn less in the same time; the arms differ in accuracy, too, and not in privacy alone. Without
    clipping flipped labels are not memorized either ({pm(summary["neither"]["memorization_of_flipped"])}): 400 steps of 200
    fit ambiguous images and not those. Cross-influence of sets of 10 to 40 rests on 8 or 16 pairs of models and has errors of
    0.04 to 0.7: some of the verdicts of indirect there are chance, such as that of 40 random images without privacy
    ({pm(row["cross"])})."""


CAPTION = """One row a set (with its size), one mark an arm, bars of one standard error over pairs of models of D and
    D\\S with the same key. Grey: below infl's threshold of 0.1."""

COLUMNS = """Held-out accuracy: mean over 32 models of D. Memorization: mean over all 4,000 examples, and over the 40
    with flipped labels, from 80 models of balanced subsets of 70%, jackknife over models. *Memorized*: share of
    examples with 0.1 or more, if true scores are normal with the spread that is left when their errors are taken off.
    *Bound*: the largest effect of one example on any example that the noise allows
    (`infl.accounting.largest_effect`), whatever the data."""

PROMISES = """Epsilon at delta 1e-5, and the largest effect possible, of k examples together (Ganesh 2024).
    Cross-influence, a sum over all other examples in units of |S|, has no bound worth the name at any k: n + m
    effects, each as small as the bound, may add up to many examples."""

MADE = """4,000 training and 2,000 held-out Fashion-MNIST images at half size, 40 labels flipped; MLP 196-64-10,
    learning rate 0.2 down a half cosine, momentum 0.9, 20 epochs of 20 steps, Poisson samples of 200 on average, clip
    norm 1. All arms share sets, subsets and keys. The most memorized are those most memorized without privacy, by the
    models that measure memorization there. Regimes: 8 models of D\\S for each set, 16 where those leave it unclear;
    `infl.verify`'s defaults otherwise."""

NOT_SHOWN = """Learning rate, clip norm and epochs were chosen by a look at accuracy on another draw from the same
    data set, which costs privacy that no epsilon here counts; so does every score and effect on this page, which
    rests on many models of the same examples. One data set, one small network: a larger one, or one trained on public
    features first, would lose less accuracy to noise, and the promises would be the same."""


def flow(text: str) -> str:
    """A paragraph, broken at 128 characters."""
    return textwrap.fill(" ".join(text.split()), 128, break_long_words=False, break_on_hyphens=False)


def pm(value: list[float], digits: int = 2) -> str:
    """A number with its standard error."""
    return f"{value[0] + 0.0:.{digits}f}±{value[1]:.{digits}f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def regimes(summary: dict[str, Any]) -> str:
    """One row an arm."""
    head = ["arm", "noise", "held-out accuracy", *REGIMES, "memorization", "of flipped", "memorized", "bound"]
    rows = [
        [
            name,
            f"{arm['noise_multiplier']:.2f}",
            pm(arm["accuracy_held_out"], 3),
            *(f"{arm['regimes'][regime]}/{arm['sets']}" for regime in REGIMES),
            pm(arm["memorization"], 3),
            pm(arm["memorization_of_flipped"]),
            f"{arm['memorized_by_0.1']:.0%}",
            f"{arm['largest_effect_of_one']:.2f}",
        ]
        for name, arm in summary.items()
    ]
    return table(head, rows)


def groups(arms: dict[str, Any]) -> str:
    """One row a size."""
    private = {name: arm["promises"] for name, arm in arms.items() if math.isfinite(arm["promises"][0]["epsilon"])}
    rows = [
        [f"{rows[0]['group']}", *(f"{row['epsilon']:.1f}, {row['largest_effect']:.2f}" for row in rows)]
        for rows in zip(*private.values(), strict=True)
    ]
    return table(["k", *private], rows)


def sets(arms: dict[str, Any]) -> str:
    """One row a set: self, cross and regime in each arm."""
    rows = [
        [
            f"{same[0]['set']} ({same[0]['size']})",
            *(f"{pm(row['self'])}, {pm(row['cross'])}, {row['regime']}" for row in same),
        ]
        for same in zip(*(arm["sets"] for arm in arms.values()), strict=True)
    ]
    return table(["set (size)", *arms], rows)


if __name__ == "__main__":
    (HERE / "README.md").write_text(page(json.loads((HERE / "results.json").read_text())))

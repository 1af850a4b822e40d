"""The command that says beforehand what a run costs, and what is said of a target afterwards."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infl.commands.options import Real, Training, Whole
from infl.commands.outputs import Output, RunOrNone
from infl.printing import duration, say

if TYPE_CHECKING:
    from infl import Plan as Planned
    from infl import Target


@dataclass(frozen=True, kw_only=True)
class Plan(Training):
    """Models, time and disk for a wanted precision, from a short measured run on this machine."""

    run: RunOrNone = None
    """A run that exists: plan for its data and settings, with its models as the pilot."""
    target_se: float = 0.05
    """Wanted standard error of memorization, in probability: as the root mean square over the training examples (what
    `infl train --target-se` reaches), and at worst."""
    models: Whole = None
    """Plan for this many models instead: what they bring."""
    references: int = 64
    """Models of all of D."""
    detect: Real = None
    """Smallest influence to be found, in probability."""
    power: float = 0.8
    """Chance that such an influence is found."""
    fdr: float = 0.05
    """False discovery rate over all pairs."""
    expected_share: float = 0.0
    """Share of the pairs that will be found, at least: makes finding the others easier. 0: plan for the first discovery."""
    set_size: Whole = None
    """Forget sets of so many examples: models to predict their regimes, retrainings to verify them."""
    set_error: float = 0.05
    """Wanted error of their self and cross: half the distance from 0 to the thresholds."""
    pilot: int = 0
    """Least models to train for the forecasts (default: those of a few measured seconds)."""
    json: Output = None
    """Write the plan here."""

    def __call__(self) -> None:
        import infl
        from infl.records import InputError
        from infl.report.machine import finite_fields, write_json
        from infl.training.algorithm import Algorithm
        from infl.training.caches import keep_compiled_programs
        from infl.training.subsets import Design

        keep_compiled_programs()
        dataset, old = self.load(), None if self.run is None else infl.open_run(self.run)
        if old is not None:
            old.check_trainable()
        elif dataset is None:
            raise InputError("plan: name a data set, e.g. infl plan digits, or a run that exists")
        planned = infl.plan(
            dataset,
            run=self.run,
            standard_error=self.target_se,
            n_models=self.models,
            n_references=self.references,
            detect=self.detect,
            power=self.power,
            false_discovery_rate=self.fdr,
            expected_share=self.expected_share,
            set_size=self.set_size,
            set_error=self.set_error,
            n_pilot=self.pilot,
            design=self.drawn(Design.from_description(old.manifest["design"]) if old else None),
            algorithm=self.algorithm(Algorithm.from_description(old.manifest["algorithm"]) if old else None),
            layout=self.layout(),
        )
        for line in plan_lines(planned, self):
            say(line)
        if self.json:
            write_json(self.json, {**finite_fields(planned), "seconds": planned.seconds})


def plan_lines(planned: Planned, asked: Plan) -> list[str]:
    """The answers of a plan as a table, question by question, and what it rests on."""
    titles = {
        "memorization": ["standard error of memorization"],
        "influence": [
            f"influence found with power {asked.power:g} at a false discovery rate of {asked.fdr:g} over",
            f"{planned.n_pairs:,} pairs (p-value up to {planned.p_cut:.2g})",
        ],
        "prediction": [f"regimes of sets of {asked.set_size}, predicted"],
        "verification": [
            f"regimes of sets of {asked.set_size}, verified: models retrained without each; rough, from 32 such models"
        ],
    }
    lines = [f"{'':48}{'value':>7}{'models':>11}{'time':>9}{'disk':>13}"]
    for question, title in titles.items():
        answers = [answer for answer in planned.answers if answer.question == question]
        lines += title if answers else []
        for a in answers:
            cells = (
                "-" if a.value is None else f"{a.value:.3f}",
                "-" if a.n_models is None else f"{a.n_models:,}",
                "-" if a.seconds is None else duration(a.seconds),
                "-" if a.n_bytes is None else f"{a.n_bytes / 1e6:,.1f} MB",
            )
            lines.append(f"  {a.basis:46}{cells[0]:>7}{cells[1]:>11}{cells[2]:>9}{cells[3]:>13}")
    lines += [
        f"{planned.models_per_second:.1f} models/s, measured here just now; disk before compression",
        f"time and disk hold {planned.n_references:,} models of all of D beside those of subsets"
        + (f", and {duration(planned.prepare_seconds)} to find groups" if planned.prepare_seconds >= 0.5 else ""),
        f"subsets hold {planned.fraction:.3g} of D on average; noise is that of {planned.n_pilot:,} pilot models",
    ]
    if any(answer.question == "prediction" for answer in planned.answers):
        lines.append(
            "predictions: sets of 20 and more of n = 1,000 digits and 2,000 Fashion-MNIST images;\n"
            "at n = 10,000 cross was off by 0.36 with 512 models"
        )
    return lines


def target_line(target: Target) -> str:
    """What training to a target came to."""
    models = f"{target.n_models:,} models"
    if target.met:
        return f"reached {target.reached:.4f} with {models}: standard error of memorization, root mean square"
    reached = "examples without an error yet" if math.isnan(target.reached) else f"{target.reached:.4f}"
    needed = "" if target.n_needed is None else f"; about {target.n_needed:,} would"
    return f"not reached {target.wanted:g}: {reached} with {models}{needed}"

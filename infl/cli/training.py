"""Commands that take a design and an algorithm: train the models of a run, or plan how many it takes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from infl.cli.options import Data, Engine, File, RunOrNone, cluster, options_of, quoted, with_fields
from infl.cli.outputs import Output, RunToWrite
from infl.cli.printing import duration, say, show_run
from infl.pipeline.plan import Plan as Planned
from infl.pipeline.plan import plan
from infl.pipeline.score import Target, check_target
from infl.pipeline.train import train
from infl.records import DiskError, InputError
from infl.report.exchange import finite_fields, write_json
from infl.store import is_run, open_run
from infl.training.algorithm import Algorithm
from infl.training.caches import cache_compiled_programs
from infl.training.ensemble import Layout
from infl.training.grouping import read_groups
from infl.training.ray import Ray
from infl.training.subsets import Design
from infl.untraining.forget_sets import read_forget_sets


@dataclass(frozen=True)
class SubsetDesign(Design):
    """How the subset of each model is drawn."""

    kind: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        Literal["grouped", "uniform", "balanced", "paired"], tyro.conf.arg(name="design")
    ] = "grouped"
    left_out: tyro.conf.Suppress[Any] = ()
    groups: tyro.conf.Suppress[Any] = None


Models = options_of(
    train, "n_models", "n_references", "standard_error", "models_per_covered_set", "seed", "checkpoint_minutes", "quiet"
)
Wanted = options_of(plan, without=("dataset", "run", "design", "algorithm", "layout"))


class _Continuing:
    """A command whose defaults are the settings of the run that --run names, where there is one."""

    @classmethod
    def continuing(cls, options: list[str]) -> type:
        named = _value_of("--run", options)
        try:
            if named is None or not is_run(named):
                return cls
        except (OSError, DiskError):  # said when outputs are checked, or when the run is opened
            return cls
        run = open_run(named)
        run.check_trainable()
        design = Design.from_dict(run.manifest["design"])
        settings = {"algorithm": (tyro.conf.OmitArgPrefixes[Algorithm], Algorithm.from_dict(run.manifest["algorithm"]))}
        if _value_of("--design", options) in (
            None,
            design.kind,
        ):  # else fraction and share are the usual ones of the other
            own = SubsetDesign(design.kind, design.fraction, grouped_share=design.grouped_share)
            settings["design"] = (tyro.conf.OmitArgPrefixes[SubsetDesign], own)
        return with_fields(cls, **settings)


def _value_of(name: str, options: list[str]) -> str | None:
    """What comes after the last of that option, or after its `=`."""
    for k in reversed(range(len(options))):
        if options[k] == name and k + 1 < len(options):
            return options[k + 1]
        if options[k].startswith(f"{name}="):
            return options[k].removeprefix(f"{name}=")
    return None


@dataclass(frozen=True, kw_only=True)
class Train(_Continuing):
    """Train models on random subsets, and reference models on all of D. Continues or extends a run that exists, whose own
    settings are then the defaults."""

    run: RunToWrite
    """Folder of the run, or a URL on object storage: s3://bucket/path, gs://bucket/path."""
    groups: File = None
    """Examples that belong together (users, documents, sources), left out together by design grouped beside the classes and
    clusters it finds itself: .json {"group": [ids], ...} or .csv lines id,group."""
    cover: File = None
    """Forget file: train models, too, that leave out these sets or parts of them, for sets unlike any that the design
    leaves out."""
    engine: Engine = "local"
    """This machine's devices, or the workers of a Ray cluster (extra `ray`). Affects speed only."""
    models: tyro.conf.OmitArgPrefixes[Models]
    data: tyro.conf.OmitArgPrefixes[Data]
    design: tyro.conf.OmitArgPrefixes[SubsetDesign]
    algorithm: tyro.conf.OmitArgPrefixes[Algorithm]
    layout: tyro.conf.OmitArgPrefixes[Layout]
    ray: Ray
    output: tyro.conf.OmitArgPrefixes[Output]

    def __call__(self) -> None:
        cache_compiled_programs()
        engine, dataset = cluster(self.engine, self.ray), self.data.load()
        old = open_run(self.run) if is_run(self.run) else None
        n_train = dataset.n_train if dataset else old.manifest["dataset"]["n_train"] if old else 0
        run = train(
            dataset,
            run=self.run,
            # Without data, train asks for them.
            groups=read_groups(self.groups, n_train=n_train) if self.groups and n_train else None,
            cover=read_forget_sets(self.cover, n_train=n_train) if self.cover and n_train else None,
            design=self.design,
            algorithm=self.algorithm,
            layout=self.layout,
            engine=engine,
            **self.models,
        )
        show_run(run)
        wanted = self.models["standard_error"]
        target = None if wanted is None else check_target(run, wanted)
        if target:
            say(target_line(target))
        if self.output.json:
            write_json(self.output.json, run.to_dict() | ({"target": finite_fields(target)} if target else {}))
        say(f"\nNext: infl scores --run {quoted(self.run)}")


@dataclass(frozen=True, kw_only=True)
class Plan(_Continuing):
    """Models, time and disk for a wanted precision, from a short measured run on this machine."""

    run: RunOrNone = None
    """A run that exists: plan for its data and settings, with its models as the pilot."""
    wanted: tyro.conf.OmitArgPrefixes[Wanted]
    data: tyro.conf.OmitArgPrefixes[Data]
    design: tyro.conf.OmitArgPrefixes[SubsetDesign]
    algorithm: tyro.conf.OmitArgPrefixes[Algorithm]
    layout: tyro.conf.OmitArgPrefixes[Layout]
    output: tyro.conf.OmitArgPrefixes[Output]

    def __call__(self) -> None:
        cache_compiled_programs()
        dataset = self.data.load()
        if dataset is None and self.run is None:
            raise InputError("plan: name a data set, e.g. infl plan digits, or a run that exists")
        planned = plan(
            dataset, run=self.run, design=self.design, algorithm=self.algorithm, layout=self.layout, **self.wanted
        )
        for line in plan_lines(planned, self.wanted):
            say(line)
        if self.output.json:
            write_json(self.output.json, {**finite_fields(planned), "seconds": planned.seconds})


def plan_lines(planned: Planned, asked: dict[str, Any]) -> list[str]:
    """The answers of a plan as a table, question by question, and what it rests on."""
    titles = {
        "memorization": ["standard error of memorization"],
        "influence": [
            f"influence found with power {asked['power']:g} "
            f"at a false discovery rate of {asked['false_discovery_rate']:g} over",
            f"{planned.n_pairs:,} pairs (p-value up to {planned.p_cut:.2g})",
        ],
        "prediction": [f"regimes of sets of {asked['set_size']}, predicted"],
        "verification": [
            f"regimes of sets of {asked['set_size']}, verified: models retrained without each; rough, from 32 such models"
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

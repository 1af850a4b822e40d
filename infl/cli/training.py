"""Commands that take a design and an algorithm: train the models of a run, or plan how many it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

from infl.cli.options import Data, Engine, File, RunOrNone, cluster, options_of, quoted, with_fields
from infl.cli.outputs import Output, RunToWrite
from infl.cli.printing import say, show_run
from infl.pipeline.plan import plan
from infl.pipeline.score import check_target
from infl.pipeline.train import train
from infl.records import DiskError, InputError
from infl.report.exchange import finite_fields, write_json
from infl.report.text import plan_lines, target_line
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


MODELS = options_of(
    train, "n_models", "n_references", "standard_error", "models_per_covered_set", "seed", "checkpoint_minutes", "quiet"
)
WANTED = options_of(plan, without=("dataset", "run", "design", "algorithm", "layout"))


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
        settings: Any = {
            "algorithm": (tyro.conf.OmitArgPrefixes[Algorithm], Algorithm.from_dict(run.manifest["algorithm"]))
        }
        kind: Any = design.kind
        if _value_of("--design", options) in (None, kind):  # else fraction and share are the usual ones of the other
            own = SubsetDesign(kind, design.fraction, grouped_share=design.grouped_share)
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
    models: Annotated[dict[str, Any], tyro.conf.OmitArgPrefixes, MODELS]  # pyright: ignore[reportInvalidTypeForm]
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
    wanted: Annotated[dict[str, Any], tyro.conf.OmitArgPrefixes, WANTED]  # pyright: ignore[reportInvalidTypeForm]
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

"""Commands that take a design and an algorithm: train the models of a run, or plan how many it takes."""

from __future__ import annotations

from argparse import ArgumentParser
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal
from zipfile import ZipFile, is_zipfile

import tyro

from infl.cli.options import Data, Engine, File, Real, RunOrNone, Whole, cluster, quoted, with_fields
from infl.cli.outputs import Output, RunToWrite, accuracy_fields
from infl.cli.printing import say, show_plan, show_run, show_target
from infl.records import DatasetKind
from infl.training.algorithm import Algorithm
from infl.training.layout import Layout
from infl.training.ray import Ray
from infl.training.subsets import Design

ManyModels = Annotated[int | range | None, tyro.conf.arg(help_behavior_hint="")]


@dataclass(frozen=True)
class SubsetDesign(Design):
    """How the subset of each model is drawn."""

    kind: Annotated[  # pyright: ignore[reportIncompatibleVariableOverride]
        Literal["grouped", "uniform", "balanced", "paired"], tyro.conf.arg(name="design")
    ] = "grouped"
    left_out: tyro.conf.Suppress[Any] = ()
    groups: tyro.conf.Suppress[Any] = None


def _kind(options: list[str]) -> DatasetKind:
    """Of the data that the options name."""
    if any(option.startswith("facts:") for option in options):
        return "facts"
    return "documents" if any(map(_names_documents, options)) else "examples"


def _names_documents(option: str) -> bool:
    if option.endswith(".npz") and is_zipfile(option):
        with ZipFile(option) as archive:
            return "vocabulary.npy" in archive.namelist()
    if option.startswith("hf:"):
        from infl.data.hf import holds_documents

        return holds_documents(option.removeprefix("hf:"))
    return option == "verses" or option.startswith("text:")


class _Continuing:
    """A command whose defaults are the settings of the run that --run names, where there is one, or fit the data."""

    @classmethod
    def continuing(cls, options: list[str]) -> type:
        usual = cls
        if (kind := _kind(options)) != "examples":
            default = Algorithm.default(kind)
            usual = with_fields(cls, algorithm=(tyro.conf.OmitArgPrefixes[Algorithm], default))
        words = ArgumentParser(add_help=False, allow_abbrev=False)
        for option in ("--run", "--design"):
            words.add_argument(option, nargs="?")
        given, _ = words.parse_known_args(options)
        if given.run is None:
            return usual
        from infl.records import DiskError
        from infl.store import is_run, open_run

        try:
            if not is_run(given.run):
                return usual
        except (OSError, DiskError):  # said when outputs are checked, or when the run is opened
            return usual
        run = open_run(given.run)
        run.check_trainable()
        design = Design.from_dict(run.manifest["design"])
        settings: Any = {
            "algorithm": (tyro.conf.OmitArgPrefixes[Algorithm], Algorithm.from_dict(run.manifest["algorithm"]))
        }
        design_kind: Any = design.kind
        if given.design in (None, design_kind):  # else the fractions are the usual ones of the other
            own = SubsetDesign(design_kind, design.fraction, grouped_share=design.grouped_share)
            settings["design"] = (tyro.conf.OmitArgPrefixes[SubsetDesign], own)
        return with_fields(cls, **settings)


@dataclass(frozen=True, kw_only=True)
class Train(_Continuing):
    """Train models on random subsets, and reference models on all of D. Continues or extends a run that exists, whose own
    settings are then the defaults."""

    run: RunToWrite
    """Folder of the run, or a URL on object storage: s3://bucket/path, gs://bucket/path."""
    n_models: int | range = 1000
    """Models of random subsets the run shall hold. FROM:TO makes the run a shard that holds these alone; `infl merge` joins
    shards."""
    standard_error: Real = None
    """Train no more models, of --n-models, than it takes to know memorization with this error, as the root mean square
    over the examples. Errors are looked at after 64 models, then at most twice as many and at least a tenth more each time."""
    n_references: ManyModels = None
    """Models of all of D, or a range of them; effects are measured from them (default: 64, and 0 in a shard that does not
    begin with model 0)."""
    groups: File = None
    """Examples that belong together (users, documents, sources), left out together by design grouped beside the classes and
    clusters it finds itself: .json {"group": [ids], ...}, .csv lines id,group, or what infl predict reads as forget files."""
    cover: File = None
    """Forget file: train models, too, that leave out these sets or parts of them, for sets unlike any that the design
    leaves out."""
    models_per_covered_set: int = 32
    """Models for each of those sets."""
    seed: Whole = None
    """Everything random follows from it (default: the run's own, or 0 where it is new)."""
    checkpoint_minutes: Real = None
    """Keep what a batch has become between two epochs, not more often than this: after a kill the same command goes on from
    there, to the same outcomes. For batches that take long; not with --engine ray."""
    quiet: bool = False
    """No progress bar."""
    engine: Engine = "local"
    """This machine's devices, or the workers of a Ray cluster (extra `ray`). Affects speed only."""
    data: tyro.conf.OmitArgPrefixes[Data]
    design: tyro.conf.OmitArgPrefixes[SubsetDesign]
    algorithm: tyro.conf.OmitArgPrefixes[Algorithm]
    layout: tyro.conf.OmitArgPrefixes[Layout]
    ray: Ray
    output: tyro.conf.OmitArgPrefixes[Output]

    def __call__(self) -> None:
        from infl.pipeline.progress import announce

        with announce("reading the data", quiet=self.quiet):
            import infl

            engine, dataset = cluster(self.engine, self.ray), self.data.load()
        from infl.pipeline.score import check_target
        from infl.store import is_run
        from infl.training.caches import cache_compiled_programs
        from infl.untraining.forget_files import read_groups

        cache_compiled_programs()
        old = infl.open_run(self.run) if is_run(self.run) else None
        n_train = dataset.n_train if dataset else old.manifest["dataset"]["n_train"] if old else 0
        cover = groups = None
        if (self.cover or self.groups) and n_train:  # without data, train asks for them
            examples: Any = {"n_train": n_train, "dataset": lambda: dataset or infl.open_run(self.run).dataset()}
            cover = infl.forget_sets.read_forget_sets(self.cover, **examples) if self.cover else None
            groups = read_groups(self.groups, **examples) if self.groups else None
        run = infl.train(
            dataset,
            run=self.run,
            n_models=self.n_models,
            standard_error=self.standard_error,
            n_references=self.n_references,
            groups=groups,
            cover=cover,
            models_per_covered_set=self.models_per_covered_set,
            seed=self.seed,
            design=self.design,
            algorithm=self.algorithm,
            layout=self.layout,
            engine=engine,
            checkpoint_minutes=self.checkpoint_minutes,
            quiet=self.quiet,
        )
        show_run(run)
        target = None if self.standard_error is None else check_target(run, self.standard_error)
        if target:
            show_target(target)
        self.output.write(run.to_dict() | ({"target": asdict(target)} if target else {}))
        say(f"\nNext: infl scores --run {quoted(self.run)}")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What shall be found out, and how surely."""

    standard_error: float = 0.05
    """Of memorization: its root mean square over the examples, and that at worst."""
    n_models: Whole = None
    """Say what so many models bring, in place of a standard error and an effect."""
    n_references: int = 64
    """Models of all of D."""
    detect: Real = None
    """Smallest influence to be found, over all pairs: by all models on held-out examples, by those that left both out on
    training examples."""
    power: float = 0.8
    """Chance of finding it."""
    false_discovery_rate: float = 0.05
    """Of the pairs found."""
    expected_fraction: float = 0.0
    """Fraction of all pairs that will be found at least; 0 takes the cut of the first discovery."""
    set_size: Whole = None
    """Size of forget sets: what predictions of such sets were worth elsewhere, and how many retrainings each takes."""
    set_error: float = 0.05
    """Standard error of self and cross that retraining shall reach."""
    n_pilot: int = 0
    """Models of the measured run at least."""


@dataclass(frozen=True, kw_only=True)
class Plan(_Continuing):
    """Models, time and disk for a wanted precision, from a short measured run on this machine."""

    run: RunOrNone = None
    """A run that exists: plan for its data and settings, with its models as the pilot."""
    wanted: tyro.conf.OmitArgPrefixes[Wanted]
    quiet: bool = False
    """No progress bar."""
    data: tyro.conf.OmitArgPrefixes[Data]
    design: tyro.conf.OmitArgPrefixes[SubsetDesign]
    algorithm: tyro.conf.OmitArgPrefixes[Algorithm]
    layout: tyro.conf.OmitArgPrefixes[Layout]
    output: tyro.conf.OmitArgPrefixes[Output]

    def __call__(self) -> None:
        from infl.pipeline.progress import note

        note("measuring what models take here; none of them is kept", quiet=self.quiet)  # before JAX is loaded
        import infl
        from infl.training.caches import cache_compiled_programs

        cache_compiled_programs()
        settings = {"design": self.design, "algorithm": self.algorithm, "layout": self.layout}
        planned = infl.plan(self.data.load(), run=self.run, quiet=self.quiet, **settings, **vars(self.wanted))
        show_plan(planned, vars(self.wanted))
        self.output.write({**asdict(planned), **accuracy_fields(planned.accuracy), "seconds": planned.seconds})

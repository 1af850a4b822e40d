"""Commands about methods of unlearning: run one, evaluate those that ran."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from infl.cli.options import Engine, Ids, RunToRead, cluster, quoted
from infl.cli.outputs import Output
from infl.cli.printing import say, show_evaluations
from infl.cli.verdicts import opened
from infl.records import MetricName, Thresholds
from infl.training.ray import Ray

MethodName = Literal[  # the keys of infl.unlearning.methods.METHODS, whose import takes seconds
    "fine-tune",
    "gradient-ascent",
    "ascent-to-prediction",
    "ascent-to-oracle",
    "neggrad+",
    "neggrad-to-prediction",
    "neggrad-to-oracle",
    "random-labels",
    "salun",
    "npo",
    "simnpo",
    "scrub",
    "ssd",
    "bad-teacher",
    "eu-k",
    "cf-k",
    "l1-sparse",
    "newton",
    "match-prediction",
    "match-oracle",
    "stop-then-match",
    "stop-then-match-oracle",
    "push",
]


@dataclass(frozen=True, kw_only=True)
class Unlearn:
    """Unlearn forget sets in models of all of D by a method, and keep what the unlearned models do in the run."""

    run: RunToRead
    """Folder of the run, or its URL."""
    forget: Path
    """Forget file, see infl predict."""
    method: MethodName
    """`infl.unlearning.steps` has their formulas. `to-prediction`, `match-prediction` and `stop-then-match` take what infl
    predicts of margins without the set, `oracle` what models without it show (infl verify): an upper bound."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=NUMBER ...")] = ()
    """Settings of the method instead of its defaults, as in epochs=5 rate=0.5."""
    tried: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=NUMBER,... ...")] = ()
    """Settings to choose from, one choice for all sets, as in epochs=5,rate=0.5 epochs=10,rate=0.5: each in 16 models a set."""
    choose_by: Literal["prediction", "oracle"] = "prediction"
    """Choose those tried by the distance to what infl predicts without the set, or to models without it: an upper bound."""
    n_models: int = 64
    """Models to unlearn each set in: 16 for a look, 32 for a ranking, 64 for a table."""
    ids: Ids = "run"
    """See infl predict."""
    quiet: bool = False
    """No progress bar."""
    engine: Engine = "local"
    """This machine's devices, or the workers of a Ray cluster (extra `ray`). Affects speed only."""
    ray: Ray = Ray()
    output: tyro.conf.OmitArgPrefixes[Output] = Output()

    def __call__(self) -> None:
        import infl
        from infl.pipeline.evaluate import settings_from
        from infl.records import InputError
        from infl.training.caches import cache_compiled_programs

        def read(option: str, words: Sequence[str]) -> dict[str, str]:
            if wrong := [word for word in words if "=" not in word]:
                raise InputError(f"{option}: expected NAME=NUMBER, as in epochs=5, got {wrong[0]!r}")
            return {name: number for name, _, number in (word.partition("=") for word in words)}

        settings = read("--settings", self.settings)
        tried = [read("--tried", one.split(",")) for one in self.tried]
        engine = cluster(self.engine, self.ray)
        cache_compiled_programs()
        run, sets = opened(self.run, self.forget, self.ids)
        given = {"method": self.method, "n_models": self.n_models, "engine": engine, "quiet": self.quiet}
        given |= {"tried": tried, "choose_by": self.choose_by}
        names = infl.unlearn(run, sets, **given, **settings)  # pyright: ignore[reportArgumentType]
        run = infl.open_run(run.place)
        rows = {}
        for name, collection in names.items():
            complete, diverged = (len(some) for some in (run.complete(collection), run.diverged(collection)))
            design = run.collection(collection).design
            rows[name] = {"collection": collection, "models": complete, "diverged": diverged}
            rows[name] |= {"settings": design["settings"], "settings_from": settings_from(design)}
            said = f", {diverged} of them diverged" if diverged else ""
            say(f"{name}: {complete} models unlearned by {self.method}{said}; kept as {collection}")
        self.output.write({"method": self.method, "sets": rows})
        say(f"\nNext: infl evaluate --run {quoted(self.run)} --forget {quoted(self.forget)}")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Say of unlearned models whether they untrain each set, unlearn its concept, or neither, beside retrained ones."""

    run: RunToRead
    """Folder of the run, or its URL."""
    forget: Path
    """Forget file, see infl predict. Models without each set must be there: infl verify --stop 1 trains them."""
    models: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FILE.npz ...")] = ()
    """Models made elsewhere, of one set, beside those of infl unlearn: margin and/or accuracy [N, n+m] in the order of the run;
    a method is called as its file."""
    ids: Ids = "run"
    """See infl predict."""
    tolerance: float = 0.05
    """Largest distance that counts as none."""
    metrics: tuple[MetricName, ...] = ()
    """Metrics of others to measure besides, each with its null: see `infl.untraining.metrics`."""
    groups: bool = False
    """Show the groups of examples that distances are means over."""
    gamma: bool = False
    """Show what methods reach against gamma, the fraction of a concept that was found: sets with one concept make a curve.
    What infl predicts of both references is evaluated too, where the run has models to predict from."""
    quiet: bool = False
    """No progress bar."""
    thresholds: Thresholds = Thresholds()
    output: tyro.conf.OmitArgPrefixes[Output] = Output()

    def __call__(self) -> None:
        import infl
        from infl.report.evaluations import evaluations_as_json

        run, sets = opened(self.run, self.forget, self.ids)
        evaluations = infl.evaluate(
            run,
            sets,
            {path.stem: path for path in self.models},
            thresholds=self.thresholds,
            tolerance=self.tolerance,
            metrics=self.metrics,
            predict=self.gamma,
            quiet=self.quiet,
        )
        show_evaluations(run, evaluations, groups=self.groups, gamma=self.gamma)
        self.output.write(
            evaluations_as_json(evaluations, thresholds=self.thresholds, tolerance=self.tolerance, gamma=self.gamma)
        )

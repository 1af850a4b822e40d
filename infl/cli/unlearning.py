"""Commands about methods of unlearning: run one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from infl.cli.options import Engine, Ids, RunToRead, cluster, quoted
from infl.cli.outputs import Output
from infl.cli.printing import say
from infl.cli.verdicts import opened
from infl.training.ray import Ray

MethodName = Literal[  # the keys of infl.unlearning.methods.METHODS, whose import takes seconds
    "nothing",
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
    """`infl.unlearning.steps` has their formulas. `to-prediction` and `match-prediction` take what infl predicts of margins
    without the set, `oracle` what models without it show (infl verify): an upper bound."""
    settings: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=NUMBER ...")] = ()
    """Settings of the method instead of its defaults, as in epochs=5 rate=0.5."""
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
        from infl.records import InputError
        from infl.training.caches import cache_compiled_programs

        if wrong := [word for word in self.settings if "=" not in word]:
            raise InputError(f"--settings: expected NAME=NUMBER, as in epochs=5, got {wrong[0]!r}")
        settings = {name: number for name, _, number in (word.partition("=") for word in self.settings)}
        engine = cluster(self.engine, self.ray)
        cache_compiled_programs()
        run, sets = opened(self.run, self.forget, self.ids)
        given = {"method": self.method, "n_models": self.n_models, "engine": engine, "quiet": self.quiet}
        names = infl.unlearn(run, sets, **given, **settings)  # pyright: ignore[reportArgumentType]
        run = infl.open_run(run.place)
        rows = {}
        for name, collection in names.items():
            complete, diverged = (len(some) for some in (run.complete(collection), run.diverged(collection)))
            rows[name] = {"collection": collection, "models": complete, "diverged": diverged}
            said = f", {diverged} of them diverged" if diverged else ""
            say(f"{name}: {complete} models unlearned by {self.method}{said}; kept as {collection}")
        self.output.write({"method": self.method, "sets": rows})
        say(f"\nNext: infl evaluate --run {quoted(self.run)} --forget {quoted(self.forget)}")

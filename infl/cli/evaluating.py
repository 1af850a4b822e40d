"""Evaluates unlearned models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from infl.cli.options import Ids, RunToRead
from infl.cli.outputs import Output
from infl.cli.printing import show_evaluations
from infl.cli.verdicts import opened
from infl.records import Thresholds


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
    groups: bool = False
    """Show the groups of examples that distances are means over."""
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
            quiet=self.quiet,
        )
        show_evaluations(evaluations, groups=self.groups)
        self.output.write(evaluations_as_json(evaluations, thresholds=self.thresholds, tolerance=self.tolerance))

"""The command that writes the page of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from infl.commands.options import File, Judging
from infl.commands.outputs import Output, RunToRead
from infl.printing import say

if TYPE_CHECKING:
    from infl import Report as Written
    from infl.records import Thresholds


@dataclass(frozen=True, kw_only=True)
class Report(Judging):
    """Write one self-contained HTML page of a run: what is memorized, who influences whom, each forget set on a card."""

    run: RunToRead
    """Folder of the run, or its URL."""
    forget: File = None
    """JSON file `{"name": [training ids], ...}` of sets to show (default: those that the run was verified for)."""
    out: Output = None
    """Page to write, .html (default: report.html in the run folder)."""
    top: int = 60
    """Memorized examples and pairs to list."""
    predictor: Literal["combined", "support", "surrogate", "additive-shrunk", "additive"] = "combined"
    """How sets are predicted, see infl predict."""
    json: Output = None
    """Write the listed examples, pairs and verdicts here."""

    def __call__(self) -> None:
        import infl
        from infl.records import InputError
        from infl.report.machine import write_json

        if self.top < 1:
            raise InputError(f"--top: expected at least 1, got {self.top}")
        run = infl.open_run(self.run)
        n_train, thresholds = run.manifest["dataset"]["n_train"], self.thresholds()
        written = infl.write_report(
            run,
            self.out,
            forget_sets=None
            if self.forget is None
            else infl.forget_sets.read_forget_sets(self.forget, n_train=n_train),
            predictor=self.predictor,
            thresholds=thresholds,
            n_top=self.top,
        )
        if self.json:
            write_json(self.json, _as_json(written, thresholds, self.top))
        n_sets = len(written.content.sets)
        say(f"{n_sets} forget {'set' if n_sets == 1 else 'sets'}, {written.size / 1e6:.1f} MB, opens without a network")
        if not n_sets:
            say("no forget set was verified in this run: name some with --forget, or run infl verify first")
        say(f"page: {written.path}")


def _as_json(written: Written, thresholds: Thresholds, n_top: int) -> dict[str, Any]:
    from infl.report.machine import scores_as_json, verdicts_as_json

    content, scores = written.content, written.content.scores
    predicted = [one.predicted for one in content.sets if one.predicted]
    measured = [one.measured for one in content.sets if one.measured]
    fields: dict[str, Any] = {"page": str(written.path), "bytes": written.size}
    if scores is not None:
        fields["scores"] = scores_as_json(
            scores.memorization,
            scores.pairs,
            n_top=n_top,
            n_models=scores.n_models,
            n_train=content.dataset.n_train,
            q=scores.q,
        )
    return fields | verdicts_as_json(predicted, measured, thresholds=thresholds)

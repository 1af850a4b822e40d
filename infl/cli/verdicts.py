"""Commands about forget sets: predict and verify their regimes, or both within a budget, write the page of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from infl.cli.options import Engine, File, Ids, Predictor, Real, RunToRead, cluster
from infl.cli.outputs import Output, OutputFile, accuracy_fields
from infl.cli.printing import say, show_accuracy, show_verdicts
from infl.records import Thresholds
from infl.training.ray import Ray

if TYPE_CHECKING:
    from infl.pipeline.report import Report as Written
    from infl.records import Effects, ForgetSet, Verdict
    from infl.store import Run


@dataclass(frozen=True, kw_only=True)
class VerdictOutput(Output):
    """What is written beside what is printed."""

    effects: OutputFile = None
    """The effect of each set on every example, .npz."""


@dataclass(frozen=True, kw_only=True)
class _OfSets:
    """What predictions and measurements of forget sets take, and how they are shown."""

    run: RunToRead
    """Folder of the run, or its URL."""
    forget: Path
    """Forget file, JSON `{"name": [training ids], ...}`; or ids as .npy, .npz, .txt, or .csv with a column id."""
    ids: Ids = "run"
    """What its ids are: those of the run, or positions in the source, which differ where a part of it was drawn."""
    quiet: bool = False
    """No progress bar."""
    thresholds: Thresholds = Thresholds()
    output: tyro.conf.OmitArgPrefixes[Output] = Output()

    def show(
        self, run: Run, predicted: list[Verdict], measured: Sequence[Verdict] = (), fields: dict[str, Any] | None = None
    ) -> None:
        from infl.report.exchange import verdicts_as_json

        show_verdicts(run, predicted, measured)
        verdicts = verdicts_as_json(predicted, measured, thresholds=self.thresholds)
        self.output.write(accuracy_fields(run.accuracy()) | verdicts | (fields or {}))


@dataclass(frozen=True, kw_only=True)
class _WithEffects(_OfSets):
    """What may write the effects themselves."""

    output: tyro.conf.OmitArgPrefixes[VerdictOutput] = VerdictOutput()

    def judge_all(self, effects: Iterable[Effects]) -> list[Verdict]:
        """Their verdicts; the effects themselves are kept only where they are to be written."""
        import infl
        from infl.report.exchange import write_effects

        kept, verdicts = [], []
        for one in effects:
            verdicts.append(infl.judge(one, self.thresholds))
            kept += [one] if self.output.effects else []
        if self.output.effects:
            write_effects(self.output.effects, kept)
        return verdicts


@dataclass(frozen=True, kw_only=True)
class Predict(_WithEffects):
    """Predict the regime of forget sets from the models of a run."""

    predictor: Predictor = None
    """How: from the support left in D and a closed-form refit (either, or combined), or by sums over single examples
    (additive). The default is combined, of documents surrogate, of facts forests, and additive where there is none of these."""
    proxy: RunToRead | None = None
    """A run of many models of a cheaper network on the same examples, where this run holds few of its own."""
    plan: bool = False
    """Say which sets to retrain without, in which order."""

    def __call__(self) -> None:
        import infl
        from infl.report.text import count
        from infl.untraining.verification import order

        run, sets = opened(self.run, self.forget, self.ids)
        effects = infl.predict_effects(run, sets, predictor=self.predictor, proxy=self.proxy, quiet=self.quiet)
        predicted = self.judge_all(effects)
        names = [one.forget_set.name for one in order(predicted)]
        self.show(run, predicted, fields={"plan": {"verify": names}} if self.plan else None)
        if self.plan:
            n_decided = len(sets) - len(names)
            listed = f"; verify in this order: {', '.join(names)}" if names else ""
            say(f"{n_decided} of {count(len(sets), 'set')} decided by prediction{listed}")


@dataclass(frozen=True, kw_only=True)
class _Retraining(_OfSets):
    """What commands that retrain without each set take."""

    n_models: int = 64
    """Most models retrained without each set."""
    stop: float = 0.95
    """Looks after 16, 32, 64, ... models, and retrains none without a set whose regime is this probable. 1: all of them."""
    checkpoint_minutes: Real = None
    """See infl train."""
    engine: Engine = "local"
    """This machine's devices, or the workers of a Ray cluster (extra `ray`). Affects speed only."""
    ray: Ray = Ray()

    def settings(self) -> dict[str, Any]:
        """Of `infl.verify`."""
        from infl.training.caches import cache_compiled_programs

        engine = cluster(self.engine, self.ray)
        cache_compiled_programs()
        return {
            "n_models": self.n_models,
            "stop": None if self.stop >= 1 else self.stop,
            "thresholds": self.thresholds,
            "engine": engine,
            "checkpoint_minutes": self.checkpoint_minutes,
            "quiet": self.quiet,
        }


@dataclass(frozen=True, kw_only=True)
class Verify(_WithEffects, _Retraining):
    """Measure the regime of forget sets by retraining without each, beside the prediction."""

    concepts: bool = False
    """Retrain without the whole concept of each set too, as infl evaluate compares with."""

    def __call__(self) -> None:
        import infl

        settings = self.settings()
        run, sets = opened(self.run, self.forget, self.ids)
        if self.concepts:
            sets = [*sets, *infl.forget_sets.whole_concepts(sets)]
        measured, predicted = self.judge_all(infl.verify_effects(run, sets, **settings)), []
        if run.outcomes("design").n_models:
            predicted = infl.predict(run, sets, thresholds=self.thresholds, quiet=self.quiet)
        self.show(run, predicted, measured)


@dataclass(frozen=True, kw_only=True)
class Decide(_Retraining):
    """Predict the regime of forget sets, and retrain without the undetermined ones as far as a budget allows."""

    budget: int
    """Most models retrained without a set, all sets together, those that the run holds already included."""
    predictor: Predictor = None
    """See infl predict."""

    def __call__(self) -> None:
        import infl
        from infl.report.text import count

        settings = self.settings()
        run, sets = opened(self.run, self.forget, self.ids)
        predicted, measured = infl.decide(run, sets, budget=self.budget, predictor=self.predictor, **settings)
        decided = [[one for one in side if one.regime != "undetermined"] for side in (predicted, measured)]
        n_spent = sum(one.n_models for one in measured)
        numbers = {"by_prediction": len(decided[0]), "by_retraining": len(decided[1])}
        self.show(run, predicted, measured, {"decided": numbers})
        n_open = len(sets) - sum(map(len, decided))
        say(
            f"{len(decided[0])} of {count(len(sets), 'set')} decided by prediction, {len(decided[1])} by "
            f"{count(n_spent, 'retraining')} of at most {self.budget:,}; {n_open} undetermined"
        )


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write one self-contained HTML page of a run: what is memorized, who influences whom, each forget set on a card."""

    run: RunToRead
    """Folder of the run, or its URL."""
    forget: File = None
    """Forget file of sets to show, see infl predict (default: those that the run was verified for)."""
    ids: Ids = "run"
    """See infl predict."""
    out: OutputFile = None
    """Page to write, .html (default: report.html in the run folder)."""
    n_top: int = 60
    """Memorized examples and pairs to list."""
    predictor: Predictor = None
    """How sets are predicted, see infl predict."""
    thresholds: Thresholds = Thresholds()
    output: tyro.conf.OmitArgPrefixes[Output] = Output()

    def __call__(self) -> None:
        import infl
        from infl.report.text import count

        run, sets = (infl.open_run(self.run), None) if self.forget is None else opened(self.run, self.forget, self.ids)
        written = infl.write_report(
            run, self.out, forget_sets=sets, predictor=self.predictor, thresholds=self.thresholds, n_top=self.n_top
        )
        self.output.write(_as_json(written, self.thresholds, self.n_top))
        show_accuracy(written.content.accuracy)
        n_sets = len(written.content.sets)
        say(f"{count(n_sets, 'forget set')}, {written.size / 1e6:.1f} MB, opens without a network")
        if not n_sets:
            say("no forget set was verified in this run: name some with --forget, or run infl verify first")
        say(f"page: {written.path}")


def opened(url: str, forget_file: Path, ids: Ids) -> tuple[Run, list[ForgetSet]]:
    """The run, and the sets of a forget file."""
    import infl

    run = infl.open_run(url)
    dataset = run.dataset()
    sets = infl.forget_sets.read_forget_sets(forget_file, n_train=dataset.n_train, dataset=lambda: dataset, ids=ids)
    first = list(sets[0].ids[:3])
    if dataset.train_ids.tolist() != list(range(dataset.n_train)):
        ends = ", ..." if len(sets[0]) > 3 else ""
        of_run, of_source = (", ".join(map(str, numbers)) + ends for numbers in (first, dataset.train_ids[first]))
        hint = "" if ids == "source" else " (--ids source takes these)"
        say(f"set {sets[0].name!r} is read as ids {of_run} of the run, positions {of_source} in the source{hint}")
    return run, sets


def _as_json(written: Written, thresholds: Thresholds, n_top: int) -> dict[str, Any]:
    from infl.report.exchange import scores_as_json, verdicts_as_json

    content, scores = written.content, written.content.scores
    sides = ([v for one in content.sets if (v := getattr(one, side))] for side in ("predicted", "measured"))
    fields = {"page": str(written.path), "bytes": written.size, **accuracy_fields(content.accuracy)}
    if scores is not None:
        numbers: dict[str, Any] = {"n_top": n_top, "n_models": scores.n_models, "n_train": content.dataset.n_train}
        fields["scores"] = scores_as_json(scores.memorization, scores.pairs, q=scores.q, **numbers)
    return fields | verdicts_as_json(*sides, thresholds=thresholds)

"""Commands on runs: train, merge or import one, predict and verify forget sets, inspect, and the demo of all that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from infl.cli.options import (
    Engine,
    File,
    Judging,
    Output,
    Real,
    RunOrNone,
    RunToRead,
    RunToWrite,
    Training,
    Whole,
    models_from,
    quoted,
)
from infl.cli.printing import duration, say, show_repair, show_run, show_verdicts
from infl.cli.scores import score

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infl.pipeline.score import Target
    from infl.records import Effects, ForgetSet, Thresholds, Verdict
    from infl.store import Run
if TYPE_CHECKING:
    from infl.pipeline.plan import Plan as Planned
    from infl.pipeline.score import Target
if TYPE_CHECKING:
    from infl.pipeline.report import Report as Written
    from infl.records import Thresholds


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Digits from end to end: train, score, predict and verify forget sets of many kinds; figures in the run folder."""

    run: RunToWrite = "runs/demo"
    """Folder of the run, or its URL; continued where it exists."""
    models: int = 1000
    """Models trained on random subsets."""
    verify_models: int = 64
    """Models retrained without each forget set."""
    json: Output = None
    """Write the verdicts here too."""

    def __call__(self) -> None:
        import infl
        from infl.training.caches import cache_compiled_programs

        cache_compiled_programs()
        say("infl demo: what happens if a digits classifier must forget some of its training examples?\n")
        dataset = infl.load("digits")
        run = infl.train(dataset, run=self.run, n_models=self.models, n_references=self.verify_models)
        memorization, *_ = score(run, dataset, n_top=5)
        sets = infl.forget_sets.varied_sets(dataset, memorization)
        infl.forget_sets.write_forget_sets(run.folder / "forget.json", sets)
        thresholds = Judging().thresholds()
        predicted = infl.predict(run, sets, thresholds=thresholds)
        summed = infl.predict(run, sets, predictor="additive", thresholds=thresholds)
        measured = infl.verify(run, sets, n_models=self.verify_models, thresholds=thresholds)
        show_verdicts(run, predicted, measured)
        say(
            "\nIn redundant sets every member is covered by the others. Summing the influences of single examples misses that:"
        )
        for one, other, truth in zip(predicted, summed, measured, strict=True):
            if one.forget_set.name.startswith(("class", "cluster")):
                said = f"the sum {other.regime}, infl {one.regime}, retraining {truth.regime}"
                say(f"  {one.forget_set.name}: {said}")
        _write_verdicts(self.json, predicted, measured, thresholds)


@dataclass(frozen=True, kw_only=True)
class Train(Engine, Training):
    """Train models on random subsets, and reference models on all of D. Continues or extends a run that exists."""

    run: RunToWrite
    """Folder of the run, or a URL on object storage: s3://bucket/path, gs://bucket/path."""
    models: Annotated[str, tyro.conf.arg(metavar="INT|FROM:TO")] = "1000"
    """Models of random subsets that the run shall hold; with --target-se the most that it shall. FROM:TO makes the run a shard
    that holds these alone, as a task of an array job does; `infl merge` joins shards."""
    target_se: Real = None
    """Train no more than it takes to know memorization with this standard error, as the root mean square over the training
    examples. Errors are looked at after 64 models, then at most twice as many and at least a tenth more each time."""
    references: Annotated[str | None, tyro.conf.arg(metavar="INT|FROM:TO", help_behavior_hint="")] = None
    """Models of all of D that it shall hold; effects are measured from them (default: 64, and 0 in a shard that does not begin
    with model 0)."""
    groups: File = None
    """Examples that belong together (users, documents, sources), left out together by design grouped beside the classes and
    clusters it finds itself: .json {"group": [ids], ...} or .csv lines id,group."""
    cover: File = None
    """Forget file: train models, too, that leave out these sets or parts of them, for sets unlike any that the design
    leaves out."""
    cover_models: int = 32
    """Models for each of those sets."""
    seed: Whole = None
    """Everything random follows from it (default: 0)."""
    json: Output = None
    """Write what the run holds here."""

    def __call__(self) -> None:
        import infl
        from infl.store import is_run

        engine = self.trained_by()
        old = infl.open_run(self.run) if is_run(self.run) else None
        if old:
            old.check_trainable()
        from infl.training.algorithm import Algorithm
        from infl.training.caches import cache_compiled_programs
        from infl.training.grouping import read_groups
        from infl.training.subsets import Design

        models = models_from("--models", self.models)
        usual = 64 if isinstance(models, int) or not models.start else 0
        references = usual if self.references is None else models_from("--references", self.references)
        cache_compiled_programs()
        algorithm = self.algorithm(Algorithm.from_dict(old.manifest["algorithm"]) if old else None)
        design = self.drawn(Design.from_dict(old.manifest["design"]) if old else None)
        dataset = self.load()
        n_train = dataset.n_train if dataset else old.manifest["dataset"]["n_train"] if old else 0
        run = infl.train(
            dataset,
            run=self.run,
            # Without data, infl.train asks for them.
            groups=read_groups(self.groups, n_train=n_train) if self.groups and n_train else None,
            cover=infl.forget_sets.read_forget_sets(self.cover, n_train=n_train) if self.cover and n_train else None,
            models_per_covered_set=self.cover_models,
            n_models=models,
            standard_error=self.target_se,
            n_references=references,
            design=design,
            algorithm=algorithm,
            seed=self.seed,
            layout=self.layout(),
            engine=engine,
            checkpoint_minutes=self.checkpoint_minutes,
        )
        show_run(run)
        from infl.pipeline.score import check_target

        target = None if self.target_se is None else check_target(run, self.target_se)
        if target:
            say(target_line(target))
        _write_run(self.json, run, target)
        say(f"\nNext: infl scores --run {self.run}")


@dataclass(frozen=True, kw_only=True)
class Import:
    """Make a run of masks and outcomes of models trained elsewhere: then scores, inspect and forget read it like any other."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.npz")]
    """An .npz with masks [T, n], correct and/or margin [T, n+m], labels [n+m]; and, where they are known, class_names and
    reference_correct, reference_margin [R, n+m] of models of all n examples. See `infl.import_outcomes`."""
    run: RunToWrite
    """Folder of the run, or its URL, new or empty."""
    json: Output = None
    """Write what the run holds here."""

    def __call__(self) -> None:
        import infl

        run = infl.import_outcomes(self.file, run=self.run)
        show_run(run)
        _write_run(self.json, run)
        say(f"\nNext: infl scores --run {quoted(self.run)}")


@dataclass(frozen=True, kw_only=True)
class _Asking(Judging):
    run: RunToRead
    """Folder of the run, or its URL."""
    forget: Path
    """JSON file `{"name": [training ids], ...}`."""
    json: Output = None
    """Write the verdicts here."""
    effects: Output = None
    """Write the effect on every example here as .npz."""

    def opened(self) -> tuple[Run, list[ForgetSet]]:
        import infl

        run = infl.open_run(self.run)
        return run, infl.forget_sets.read_forget_sets(self.forget, n_train=run.manifest["dataset"]["n_train"])


@dataclass(frozen=True, kw_only=True)
class Predict(_Asking):
    """Predict the regime of forget sets from the models of a run."""

    predictor: Literal["combined", "support", "surrogate", "additive-shrunk", "additive"] = "combined"
    """How: from the support left in D and a closed-form refit (either, or combined), or by sums over single examples."""

    def __call__(self) -> None:
        import infl

        run, sets = self.opened()
        thresholds = self.thresholds()
        predicted = _judge_all(infl.predict_effects(run, sets, predictor=self.predictor), thresholds, self.effects)
        show_verdicts(run, predicted)
        _write_verdicts(self.json, predicted, [], thresholds)


@dataclass(frozen=True, kw_only=True)
class Verify(Engine, _Asking):
    """Measure the regime of forget sets by retraining without each, beside the prediction."""

    models: int = 64
    """Most models retrained without each set."""
    stop: float = 0.95
    """Looks after 16, 32, 64, ... models, and retrains none without a set whose regime is this probable. 1: all of --models."""

    def __call__(self) -> None:
        import infl
        from infl.training.caches import cache_compiled_programs

        engine = self.trained_by()
        cache_compiled_programs()
        run, sets = self.opened()
        thresholds = self.thresholds()
        stop = None if self.stop >= 1 else self.stop
        how: dict[str, Any] = {"engine": engine, "checkpoint_minutes": self.checkpoint_minutes}
        effects = infl.verify_effects(run, sets, n_models=self.models, stop=stop, thresholds=thresholds, **how)
        measured = _judge_all(effects, thresholds, self.effects)
        predicted = infl.predict(run, sets, thresholds=thresholds) if run.outcomes("design").n_models else []
        show_verdicts(run, predicted, measured)
        _write_verdicts(self.json, predicted, measured, thresholds)


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Join shards of one run: models trained apart, with `infl train --models FROM:TO`, by the same data and settings."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run to add to, or its URL; made where it is not there."""
    shards: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SHARD")]
    """Folders of the shards, or their URLs; they stay as they are."""
    json: Output = None
    """Write what the run then holds here."""

    def __call__(self) -> None:
        import infl

        run = infl.merge(self.run, self.shards)
        show_run(run)
        _write_run(self.json, run)
        say(f"\nNext: infl scores --run {quoted(self.run)}")


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """What a run holds, what is missing, and what the disk has damaged: every block is read and compared with its checksums."""

    run: RunToRead
    """Folder of the run, or its URL."""
    repair: bool = False
    """Train the models of damaged blocks again, and no others."""
    json: Output = None
    """Write it here too."""

    def __call__(self) -> None:
        import infl
        from infl.records import DiskError

        if self.repair:
            from infl.training.caches import cache_compiled_programs

            cache_compiled_programs()
            show_repair(infl.repair(self.run))
        run = infl.open_run(self.run)
        show_run(run)
        damaged = run.damaged_blocks()
        _write_run(self.json, run, damage=[block.describe() for block in damaged])
        if damaged:
            for block in damaged:
                say(f"damaged: {block.describe()}")
            n_models = sum(len(block.models) for block in damaged)
            raise DiskError(
                f"{self.run}: {len(damaged)} blocks are damaged, of {n_models} models; --repair True trains these again"
            )


def _judge_all(effects: Iterable[Effects], thresholds: Thresholds, path: Path | None) -> list[Verdict]:
    import infl
    from infl.report.exchange import write_effects

    kept, verdicts = [], []
    for one in effects:
        verdicts.append(infl.judge(one, thresholds))
        if path:
            kept.append(one)
    if path:
        write_effects(path, kept)
    return verdicts


def _write_verdicts(
    path: Path | None, predicted: list[Verdict], measured: list[Verdict], thresholds: Thresholds
) -> None:
    from infl.report.exchange import verdicts_as_json, write_json

    if path:
        write_json(path, verdicts_as_json(predicted, measured, thresholds=thresholds))


def _write_run(path: Path | None, run: Run, target: Target | None = None, **more: Any) -> None:
    from infl.report.exchange import finite_fields, write_json

    if path:
        write_json(path, run.to_dict() | ({"target": finite_fields(target)} if target else {}) | more)


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
    expected_fraction: float = 0.0
    """Fraction of the pairs that will be found, at least: makes finding the others easier. 0: plan for the first discovery."""
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
        from infl.report.exchange import finite_fields, write_json
        from infl.training.algorithm import Algorithm
        from infl.training.caches import cache_compiled_programs
        from infl.training.subsets import Design

        cache_compiled_programs()
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
            expected_fraction=self.expected_fraction,
            set_size=self.set_size,
            set_error=self.set_error,
            n_pilot=self.pilot,
            design=self.drawn(Design.from_dict(old.manifest["design"]) if old else None),
            algorithm=self.algorithm(Algorithm.from_dict(old.manifest["algorithm"]) if old else None),
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
        from infl.report.exchange import write_json

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
    from infl.report.exchange import scores_as_json, verdicts_as_json

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

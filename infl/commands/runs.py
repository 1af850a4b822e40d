"""Commands on runs: train, merge or import one, predict and verify forget sets, inspect, and the demo of all that."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from infl.commands.options import Engine, File, Judging, Real, Training, Whole, models_from, quoted
from infl.commands.outputs import Output, RunToRead, RunToWrite
from infl.commands.planning import target_line
from infl.commands.scores import score
from infl.printing import say, show_repair, show_run, show_verdicts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from infl import Target
    from infl.records import Effects, ForgetSet, Thresholds, Verdict
    from infl.store import Run


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
        from infl.training.caches import keep_compiled_programs

        keep_compiled_programs()
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
    """Folder of the run, or a URL on object storage: s3://bucket/path, gs://bucket/path (extras `s3`, `gs`)."""
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
        from infl.training.caches import keep_compiled_programs
        from infl.training.grouping import read_groups
        from infl.training.subsets import Design

        models = models_from("--models", self.models)
        usual = 64 if isinstance(models, int) or not models.start else 0
        references = usual if self.references is None else models_from("--references", self.references)
        keep_compiled_programs()
        algorithm = self.algorithm(Algorithm.from_description(old.manifest["algorithm"]) if old else None)
        design = self.drawn(Design.from_description(old.manifest["design"]) if old else None)
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
        target = None if self.target_se is None else infl.check_target(run, self.target_se)
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
        from infl.training.caches import keep_compiled_programs

        engine = self.trained_by()
        keep_compiled_programs()
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
    """What a run holds, what is missing, and what the disk has damaged: every row is read and held against its checksum."""

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
            from infl.training.caches import keep_compiled_programs

            keep_compiled_programs()
            show_repair(infl.repair(self.run))
        run = infl.open_run(self.run)
        show_run(run)
        damage = run.find_damage()
        _write_run(self.json, run, damage=[block.in_words() for block in damage.blocks])
        if damage.blocks or damage.descriptions:
            for block in damage.blocks:
                say(f"damaged: {block.in_words()}")
            for path in damage.descriptions:
                say(f"damaged: {path}/zarr.json")
            raise DiskError(
                f"{self.run}: {len(damage.blocks)} blocks are damaged, of "
                f"{sum(map(len, damage.models().values()))} models; --repair True trains these again"
            )


def _judge_all(effects: Iterable[Effects], thresholds: Thresholds, path: Path | None) -> list[Verdict]:
    import infl
    from infl.report.machine import write_effects

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
    from infl.report.machine import verdicts_as_json, write_json

    if path:
        write_json(path, verdicts_as_json(predicted, measured, thresholds=thresholds))


def _write_run(path: Path | None, run: Run, target: Target | None = None, **more: Any) -> None:
    from infl.report.machine import finite_fields, write_json

    if path:
        write_json(path, run.describe() | ({"target": finite_fields(target)} if target else {}) | more)

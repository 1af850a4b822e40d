"""The stages in order: data -> training -> store -> scores -> untraining. The only module that knows the order.

`train` fills a run folder, `predict` and `verify` ask it about forget sets. Each can be killed and called again: what is on
disk is never trained twice. `infl.opening` finds or makes the run to train in, `infl.jobs` trains the models that it lacks,
and `infl.planning` says beforehand what a run costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from infl.drawing import masks_of_run
from infl.engines.ray import Ray
from infl.jobs import missing_jobs, train_jobs
from infl.opening import DEFAULT_DESIGN, open_for_training
from infl.records import Dataset, Effects, ForgetSet, Groups, InputError, OutcomeSource, Thresholds, Verdict
from infl.report.progress import track
from infl.scores.planning import check_share, next_look
from infl.store import Run, StoredOutcomes, name_of_cover, name_of_leave_out, open_run
from infl.target import check_target
from infl.trainers import Trainer, check_keeping, make_trainer
from infl.training.algorithm import Algorithm
from infl.training.ensemble import Layout
from infl.training.grouping import groups_of_sets
from infl.training.subsets import Design
from infl.untraining.effects import FIT_STEPS, Predictor, PredictorName, fit_predictor
from infl.untraining.forget_sets import by_name, make_forget_sets
from infl.untraining.regimes import judge
from infl.untraining.verification import is_clear, looks_at, measure_effects

ForgetSets = Sequence[ForgetSet] | Mapping[str, Any]

MOST_OUTCOMES_HELD = 1 << 26  # 200 MB


def train(
    dataset: Dataset | None = None,
    *,
    run: str | Path | None = None,
    n_models: int | range = 1000,
    standard_error: float | None = None,
    n_references: int | range = 64,
    design: Design | None = None,
    groups: Groups | None = None,
    cover: ForgetSets | None = None,
    models_per_covered_set: int = 32,
    algorithm: Algorithm | None = None,
    seed: int | None = None,
    layout: Layout | None = None,
    engine: Ray | None = None,
    checkpoint_minutes: float | None = None,
    quiet: bool = False,
) -> Run:
    """Train models of random subsets of D, and reference models of all of D, until the run holds as many as asked for.

    dataset: the examples; None for an existing run's own.
    run: the run folder, or a URL on object storage (s3://bucket/path, gs://bucket/path; see `infl.open_run`); a temporary
        folder, gone at exit, where None.
    n_models: models of the design the run shall hold; fewer than it holds trains none. A range makes the run a shard, which
        holds these models of the design alone (`infl.merge` joins shards); the run of `n_models=8` is that of range(8).
    n_references: models of all of D, or a range of them; effects are measured from them.
    standard_error: wanted of memorization, as the root mean square over the examples: train no more models than that takes,
        and `n_models` at most. Errors are looked at after 64 models and then at most twice as many and at least a tenth
        more than the last time (`infl.scores.planning.next_look`), and before all what the run holds, so that a run that
        meets the target trains none. `infl.check_target` says what was reached.
    design, algorithm, seed: None for the run's own, or for the defaults (grouped at 0.7:0.97; mlp; 0) where it is new.
    groups: examples that belong together (users, documents, sources), for a grouped design beside the labels and clusters
        that it finds itself.
    cover: forget sets that models shall leave out, wholly or in part, beside those of the design: for sets unlike anything
        that the design leaves out. Their number is `models_per_covered_set` times that of the sets.
    layout: how blocks are laid out on the devices. Affects speed only.
    engine: a Ray cluster to train on; None for this machine's devices. Affects speed only.
    checkpoint_minutes: for blocks that take longer than one would lose to a kill: between two epochs, and not more often than
        every so many minutes, what the models of a block have become is written to the run, and after a kill the same call
        goes on from there to the same outcomes, bit for bit. None for never. It costs the writing: 2 seconds and 130 MB for 16
        models of a million parameters with momentum, on two cores that had other work too. Blocks are then trained one after
        the other and by programs of their own: outcomes are those without it up to float rounding. Not with `engine`.

    Mask, initial weights and order of model t depend on (seed, t) alone: not on the layout, on what was trained before, or
    on how often the call was killed.

    Raises:
        InputError: where the folder is not a run, holds other data, or was made with other settings (they are named).
    """
    check_keeping(checkpoint_minutes, engine)
    shard, references = _as_range(n_models), _as_range(n_references)
    if not shard or references.start < 0:
        raise InputError(f"expected at least 1 model and 0 references, got {n_models} and {n_references}")
    if standard_error is not None and shard.start:
        raise InputError("a standard error is that of all models: ask for it of the merged run, not of a shard")
    n_models = shard.stop
    if models_per_covered_set < 1:
        raise InputError(f"models for each covered set: expected at least 1, got {models_per_covered_set}")
    if standard_error is not None:
        check_share("standard_error", standard_error)
        if design is not None and design.kind == "grouped" and design.grouped_share == 1:
            raise InputError(
                "a standard error is that of scores, which rest on no grouped models: take a smaller grouped share"
            )
    opened, dataset, algorithm, design = open_for_training(run, dataset, algorithm, design, seed, groups)
    seed = int(opened.manifest["seed"])
    covers = _covering_groups(opened, cover) if cover else {}
    masks_of = masks_of_run(design, n_train=dataset.n_train, seed=seed, covers=covers)
    trainer: Trainer | None = None

    def complete(n_wanted: int) -> None:
        nonlocal trainer
        before = {name: n for name, (_, n) in design.parts(shard.start).items()}
        wanted = {name: range(before[name], n) for name, (_, n) in design.parts(n_wanted).items()} | {
            "full": references
        }
        wanted |= {name: range(models_per_covered_set * len(groups.names)) for name, groups in covers.items()}
        jobs = [job for name, models in wanted.items() for job in missing_jobs(opened, name, models)]
        if not jobs:
            return
        if trainer is None:
            held.enter_context(opened.lock())  # from now on to the end, looks between trainings too
            trainer = held.enter_context(closing(make_trainer(algorithm, dataset, layout, engine)))
        how: dict[str, Any] = {"checkpoint_minutes": checkpoint_minutes, "quiet": quiet}
        train_jobs(*(opened, jobs, masks_of), trainer=trainer, seed=seed, description="training", **how)

    with ExitStack() as held:
        _until_target(opened, design, complete, n_models, standard_error)
    return opened


def _until_target(
    run: Run, design: Design, complete: Callable[[int], None], n_models: int, standard_error: float | None
) -> None:
    """Train as many models as the target takes, and `n_models` where there is none or they do not reach it."""
    if standard_error is None:
        complete(n_models)
    elif check_target(run, standard_error).met:
        complete(min(_held(run, design), n_models))  # a kill may have kept the grouped ones from coming
    else:
        # Looks start over on a run that holds models already, so that a kill changes neither them nor where they end.
        n, needed = 0, None
        while n < n_models:
            n = next_look(n, needed=needed, most=n_models)
            complete(n)
            target = check_target(run, standard_error, models=range(design.parts(n)["design"][1]))
            if target.met:
                return
            needed = target.n_needed


def predict(
    run: Run | str | Path,
    forget_sets: ForgetSets,
    *,
    predictor: PredictorName = "combined",
    thresholds: Thresholds | None = None,
    quiet: bool = False,
) -> list[Verdict]:
    """Predict the regime of forget sets from the models of a run; see `predict_effects` and `infl.judge`.

    run: opened, or its folder, or its URL on object storage; so in all functions that take a run.
    forget_sets: records, or `{"name": ids}`.
    predictor: see `infl.untraining.effects`.

    Raises:
        InputError: where a set is not one of D's, or the run holds too few models of subsets, or none of D.
    """
    effects = predict_effects(run, forget_sets, predictor=predictor, quiet=quiet)
    return [judge(one, thresholds) for one in effects]


def predict_effects(
    run: Run | str | Path, forget_sets: ForgetSets, *, predictor: PredictorName = "combined", quiet: bool = False
) -> Iterator[Effects]:
    """Yield the predicted effects of each set in turn; those of its whole concept with them where it has one."""
    opened = _opened(run)
    sets = _forget_sets(opened, forget_sets)
    concepts = list(dict.fromkeys(s.concept for s in sets if s.concept is not None))
    fitted = _fitted(opened, predictor, quiet=quiet)
    with track(len(concepts) + len(sets), "predicting", unit="sets", quiet=quiet) as progress:
        wholes = {}
        for effects in fitted.predict([ForgetSet("whole concept", ids) for ids in concepts]):
            wholes[effects.forget_set.ids] = effects
            progress.advance()
        for effects in fitted.predict(sets):
            concept = effects.forget_set.concept
            yield effects if concept is None else replace(effects, whole=wholes[concept])
            progress.advance()


def _fitted(run: Run, name: PredictorName, *, quiet: bool) -> Predictor:
    dataset = run.dataset()
    if not dataset.has_pixels:
        _check_predictable_without_pixels(run, name)
    covers = [collection for collection in run.collections() if collection.startswith("cover-")]
    with track(FIT_STEPS, "fitting", unit="steps", quiet=quiet) as progress:
        return fit_predictor(
            name,
            sources=[_near(run.outcomes(collection)) for collection in ("design", "grouped", *covers)],
            reference=_near(run.outcomes("full")),
            images=dataset.images,
            labels=dataset.labels,
            n_classes=dataset.n_classes,
            # Private training takes the same steps however few examples there are.
            batch_size=None if "privacy" in run.manifest["algorithm"] else run.manifest["algorithm"].get("batch_size"),
            advance=progress.advance,
        )


def _check_predictable_without_pixels(run: Run, name: PredictorName) -> None:
    """Say what an imported run lacks, by what its file would have to hold."""
    if name != "additive":
        raise InputError(
            f"run folder {run.place} was imported without pixels, and predictor {name} looks at them; "
            "take --predictor additive, which sums the influences of single examples"
        )
    if "margin" not in run.outcome_kinds or not run.complete("full"):
        raise InputError(
            f"run folder {run.place} was imported without what the additive predictor needs: margins of the models, and of "
            "models of all of D; import a file with margin and reference_margin"
        )


def verify(
    run: Run | str | Path,
    forget_sets: ForgetSets,
    *,
    n_models: int = 64,
    stop: float | None = 0.95,
    first: int = 16,
    algorithm: Algorithm | None = None,
    thresholds: Thresholds | None = None,
    layout: Layout | None = None,
    engine: Ray | None = None,
    checkpoint_minutes: float | None = None,
    quiet: bool = False,
) -> list[Verdict]:
    """Measure the regime of forget sets by retraining without each of them; see `verify_effects` and `infl.judge`.

    A verdict's `n_models` says how many models without the set it took.
    """
    effects = verify_effects(
        run,
        forget_sets,
        n_models=n_models,
        stop=stop,
        first=first,
        algorithm=algorithm,
        thresholds=thresholds,
        layout=layout,
        engine=engine,
        checkpoint_minutes=checkpoint_minutes,
        quiet=quiet,
    )
    return [judge(measured, thresholds) for measured in effects]


def verify_effects(
    run: Run | str | Path,
    forget_sets: ForgetSets,
    *,
    n_models: int = 64,
    stop: float | None = 0.95,
    first: int = 16,
    algorithm: Algorithm | None = None,
    thresholds: Thresholds | None = None,
    layout: Layout | None = None,
    engine: Ray | None = None,
    checkpoint_minutes: float | None = None,
    quiet: bool = False,
) -> Iterator[Effects]:
    """Train models of D\\S for each set until its regime is clear, paired by key with as many of D; yield the effects.

    Models of D are shared by all sets; all are kept in the run, so that asking again, or for more, trains only what is
    missing. Sets of different sizes share one compilation.

    n_models: most models without each set.
    stop: probability of its regime, at least that of `thresholds`, at which a set gets no more models; None for never
        before all of them.
    first: models before the first look; each later look has twice as many as the one before, the last `n_models`.
    algorithm: needed only where the run's network or optimizer was made in Python.
    engine: a Ray cluster to train on; None for this machine's devices.
    checkpoint_minutes: as in `train`.
    thresholds: by which the looks judge; give `infl.judge` the same.

    What is yielded follows from the set and these numbers alone. The other sets of the call do not matter, nor does what
    the run holds: a set that is clear with 16 models is measured with the first 16 seeds, even where more are on disk.

    Looking several times gives chance several goes, so a probability that stopped a set is a little optimistic where the
    truth lies at a threshold. Of 2,000 simulated sets of ten examples with cross exactly there, 11% got a probability of
    0.95 or more of the wrong regime at one of the looks with 16, 32 and 64 models, and 5% in a single look with 64; the
    verdicts, named from 0.8 on, were wrong for 22% and 19%. Sets of two examples with self at its threshold fared worse,
    with up to 24% against 9%: few seeds see too few losses. Where truths are spread out (self 0 to 0.3, cross -0.1 to
    0.3) probabilities stay honest: 1.9% +- 0.4% of the clear sets were wrong, and their probabilities had said 1.5%
    (`tests/untraining/test_verification.py`). A smaller `first` or a larger `n_models` means more looks; `stop=None` one.

    Raises:
        InputError: where a set is not one of D's, a number is out of its range, or the run cannot be trained on.
    """
    if n_models < 2:
        raise InputError(f"verification needs at least 2 models a set, got {n_models}")
    check_keeping(checkpoint_minutes, engine)
    looks, thresholds = looks_at(n_models, stop=stop, first=first), thresholds or Thresholds()
    opened = _opened(run)
    sets = _forget_sets(opened, forget_sets)
    opened, dataset, algorithm, _ = open_for_training(opened.folder, None, algorithm, None, None)
    seed = int(opened.manifest["seed"])
    names = {name_of_leave_out(s.ids): s for s in sets}
    masks_of = masks_of_run(DEFAULT_DESIGN, n_train=dataset.n_train, seed=seed, left_out=names)
    trainer: Trainer | None = None
    seeds, undecided = dict.fromkeys(names, n_models), list(names)
    with ExitStack() as held:
        for number, n_seeds in enumerate(looks, start=1):
            if not undecided:
                break
            # All that this look needs in one go, so that only the last of its blocks may be short.
            jobs = [job for name in ("full", *undecided) for job in missing_jobs(opened, name, range(n_seeds))]
            if jobs:
                if trainer is None:
                    held.enter_context(opened.lock())  # from now on to the last look
                for name in {name for name, _ in jobs} & set(names):
                    opened.name_forget_set(names[name])
                if trainer is None:
                    trainer = held.enter_context(closing(make_trainer(algorithm, dataset, layout, engine)))
                what = "retraining" if len(looks) == 1 else f"retraining, look {number} of at most {len(looks)}"
                how: dict[str, Any] = {"checkpoint_minutes": checkpoint_minutes, "quiet": quiet}
                train_jobs(*(opened, jobs, masks_of), trainer=trainer, seed=seed, description=what, **how)
            if n_seeds == n_models:  # no model is left to save
                break
            for name in list(undecided):
                measured = _measured(opened, names[name], range(n_seeds))
                if measured is not None and is_clear(measured, thresholds, stop):
                    seeds[name] = n_seeds
                    undecided.remove(name)
    for forget_set in sets:
        n_seeds = seeds[name_of_leave_out(forget_set.ids)]
        measured = _measured(opened, forget_set, range(n_seeds))
        if measured is None:
            raise InputError(
                f"set {forget_set.name!r}: of {n_seeds} pairs of models none stayed finite, so nothing can be measured; "
                "make a run with a lower learning rate"
            )
        yield measured


def verified_effects(run: Run | str | Path, forget_sets: ForgetSets | None = None) -> Iterator[Effects]:
    """Yield the effects measured so far, with all pairs of models that the run holds; trains nothing.

    forget_sets: None for all without which it holds models; of those given, only these are yielded.

    Raises:
        InputError: where a set is not one of D's.
    """
    opened = _opened(run)
    for forget_set in opened.forget_sets() if forget_sets is None else _forget_sets(opened, forget_sets):
        measured = _measured(opened, forget_set, opened.complete(name_of_leave_out(forget_set.ids)))
        if measured is not None:
            yield measured


def _measured(run: Run, forget_set: ForgetSet, seeds: Iterable[int]) -> Effects | None:
    """Effects measured with these seeds, whatever else the run holds; None where no pair stayed finite."""
    collection = name_of_leave_out(forget_set.ids)
    both = [set(run.complete(name)) - set(run.diverged(name)) for name in ("full", collection)]
    pairs = sorted(set(seeds) & both[0] & both[1])
    if not pairs:
        return None
    return measure_effects(
        forget_set, full=run.outcomes("full", pairs).load(), without=run.outcomes(collection, pairs).load()
    )


def _covering_groups(run: Run, cover: ForgetSets) -> dict[str, Groups]:
    # Sorted as their name is: in which order they are given changes no mask.
    sets = {s.name: s.ids for s in sorted(_forget_sets(run, cover), key=lambda s: s.name)}
    name, groups = name_of_cover(sets), groups_of_sets(sets, n_train=run.manifest["dataset"]["n_train"])
    run.write_groups(name, groups)
    return {name: groups}


def _as_range(models: int | range) -> range:
    if isinstance(models, range):
        return models if models.step == 1 and models.start >= 0 else range(-1, -1)
    return range(models) if models >= 0 else range(-1, -1)


def _held(run: Run, design: Design) -> int:
    """Models of subsets that a run was to hold, by those of them that scores rest on."""
    n_scored = len(run.complete("design"))
    n = n_scored
    while design.parts(n + 1)["design"][1] <= n_scored:
        n += 1
    return n


def _opened(run: Run | str | Path) -> Run:
    """The run as it is on disk now; a `Run` knows only what was there when it was opened."""
    return open_run(run.folder if isinstance(run, Run) else run)


def _near(outcomes: StoredOutcomes) -> OutcomeSource:
    """Outcomes that are asked for again and again: read once where they are small, streamed each time where not."""
    return outcomes.load() if outcomes.n_models * outcomes.n_columns <= MOST_OUTCOMES_HELD else outcomes


def _forget_sets(run: Run, forget_sets: ForgetSets) -> list[ForgetSet]:
    given = forget_sets
    if not isinstance(given, Mapping):
        given = by_name(given)
    return make_forget_sets(given, n_train=run.manifest["dataset"]["n_train"])

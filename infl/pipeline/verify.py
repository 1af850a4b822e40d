"""Measures what untraining forget sets does, by retraining without each of them until its regime is clear."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from infl.pipeline.jobs import lazy_executor, missing_jobs, train_jobs
from infl.pipeline.train import ForgetSets, current_run, open_for_training, resolve_forget_sets
from infl.records import Effects, ForgetSet, InputError, Thresholds, Verdict
from infl.store import Collection, Run, leave_out_name
from infl.training.algorithm import Algorithm
from infl.training.executors import check_checkpoint_minutes
from infl.training.layout import Layout
from infl.training.ray import Ray
from infl.untraining.regimes import judge
from infl.untraining.verification import looks_at, measure_effects, order


def verify(
    run: Run | str | Path,
    forget_sets: ForgetSets,
    *,
    n_models: int = 64,
    stop: float | None = 0.95,
    first: int = 8,
    budget: int | None = None,
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
        budget=budget,
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
    first: int = 8,
    budget: int | None = None,
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

    With a budget as many sets get the models of a look as it pays for: at the first in the order given, then those that are
    nearest to a decision first (`infl.untraining.verification.order`). Sets that it never reaches yield nothing.

    Without one, what is yielded follows from the set and these numbers alone. The other sets of the call do not matter, nor
    does what the run holds: a set that is clear with 16 models is measured with the first 16 seeds, even where more are on
    disk.

    Looking several times gives chance several goes, so a probability that stopped a set is a little optimistic where the
    truth lies at a threshold: of simulated sets with cross exactly there, 12% got 0.95 or more of the wrong regime at a look
    with 8, 16, 32 or 64 models, and 5% in a single look with 64. Where truths are spread out, 2.2% +- 0.4% of the clear sets
    were wrong, and their probabilities had said 1.7% (`tests/untraining/test_verification.py`). A smaller `first` or a larger
    `n_models` means more looks; `stop=None` one.

    Args:
        n_models: Most models without each set.
        stop: Probability of its regime, at least that of `thresholds`, at which a set gets no more models; None for
            never before all of them.
        first: Models before the first look; each later look has twice as many as the one before, the last `n_models`.
        budget: Most models retrained without one of the sets, all sets together; None for no bound. Models that the run holds
            are counted as well, so that a call that was killed gives the same answer when it is repeated. Models of D, which
            all sets share, are not counted.
        algorithm: Needed only where the run's network or optimizer was made in Python.
        engine: A Ray cluster to train on; None for this machine's devices.
        checkpoint_minutes: As in `train`.
        thresholds: By which the looks judge; give `infl.judge` the same.

    Raises:
        InputError: where a set is not one of D's, a number is out of its range, or the run cannot be trained on.
    """
    if n_models < 2:
        raise InputError(f"verification needs at least 2 models a set, got {n_models}")
    check_budget(budget)
    check_checkpoint_minutes(checkpoint_minutes, engine)
    looks, thresholds = looks_at(n_models, stop=stop, first=first), thresholds or Thresholds()
    opened = current_run(run)
    sets = resolve_forget_sets(opened, forget_sets)
    opened, dataset, algorithm, _ = open_for_training(opened.place, None, algorithm, None, None)
    names = {leave_out_name(s.ids): s for s in sets}
    seeds, undecided, before = dict[str, int](), list(names), 0
    with lazy_executor(algorithm, dataset, layout, engine, quiet=quiet) as executor:
        for number, n_seeds in enumerate(looks, start=1):
            if budget is not None:
                undecided = undecided[: budget // (n_seeds - before)]
                budget -= len(undecided) * (n_seeds - before)
            if not undecided:
                break
            for name in undecided:
                opened.add_collection(Collection(name, {"kind": "leave-out"}, forget_set=names[name]))
            seeds |= dict.fromkeys(undecided, n_seeds)
            # All that this look needs in one go, so that only the last of its batches may be short.
            jobs = [job for name in ("full", *undecided) for job in missing_jobs(opened, name, range(n_seeds))]
            what = "retraining" if len(looks) == 1 else f"retraining, look {number} of at most {len(looks)}"
            minutes = checkpoint_minutes
            train_jobs(opened, jobs, executor, description=what, checkpoint_minutes=minutes, quiet=quiet)
            if n_seeds == n_models:  # no model is left to save
                break
            measured = {name: _measured(opened, names[name], range(n_seeds)) for name in undecided}
            verdicts = [judge(one, thresholds) for one in measured.values() if one is not None]
            waiting = [leave_out_name(one.forget_set.ids) for one in order(verdicts, stop)]
            undecided = waiting + [name for name, one in measured.items() if one is None]
            before = n_seeds
    for forget_set in sets:
        n_seeds = seeds.get(leave_out_name(forget_set.ids))
        if n_seeds is None:
            continue
        measured = _measured(opened, forget_set, range(n_seeds))
        if measured is None:
            raise InputError(
                f"set {forget_set.name!r}: of {n_seeds} pairs of models none stayed finite, so nothing can be measured; "
                "make a run with a lower learning rate"
            )
        yield measured


def check_budget(budget: int | None) -> None:
    """Raise where a budget is below 0."""
    if budget is not None and budget < 0:
        raise InputError(f"budget: expected a number of models, 0 or more, got {budget}")


def verified_effects(run: Run | str | Path, forget_sets: ForgetSets | None = None) -> Iterator[Effects]:
    """Yield the effects measured so far, with all pairs of models that the run holds; trains nothing.

    Args:
        forget_sets: None for all without which it holds models; of those given, only these are yielded.

    Raises:
        InputError: where a set is not one of D's.
    """
    opened = current_run(run)
    for forget_set in opened.forget_sets() if forget_sets is None else resolve_forget_sets(opened, forget_sets):
        measured = _measured(opened, forget_set, opened.complete(leave_out_name(forget_set.ids)))
        if measured is not None:
            yield measured


def _measured(run: Run, forget_set: ForgetSet, seeds: Iterable[int]) -> Effects | None:
    """Effects measured with these seeds, whatever else the run holds; None where no pair stayed finite."""
    collection = leave_out_name(forget_set.ids)
    both = [set(run.complete(name)) - set(run.diverged(name)) for name in ("full", collection)]
    pairs = sorted(set(seeds) & both[0] & both[1])
    if not pairs:
        return None
    full, without = (run.outcomes(name, pairs).load() for name in ("full", collection))
    measured = measure_effects(forget_set, full=full, without=without)
    return replace(measured, held_out_only=run.has_documents)

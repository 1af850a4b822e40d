r"""Unlearns forget sets in models of D by a method, and keeps what the unlearned models do.

Model t begins from model t of A(D), whose weights are kept, and stands beside model t of A(D\S), which has the same seed. What
comes out is one more collection of the run: judge it with `infl.evaluate`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from infl.pipeline.evaluate import TRIED, describe_settings, retrained, with_diverged
from infl.pipeline.jobs import collection_keys, lazy_executor, missing_jobs, train_jobs
from infl.pipeline.predict import margin_predictor, predict_effects
from infl.pipeline.progress import note
from infl.pipeline.train import ForgetSets, current_run, open_for_training, resolve_forget_sets
from infl.pipeline.weights import keep_weights, load_originals
from infl.records import Array, Dataset, ForgetSet, InputError, Outcomes, Quantity
from infl.store import Collection, Run, leave_out_name, unlearned_name
from infl.training.algorithm import Algorithm
from infl.training.layout import Layout
from infl.training.ray import Ray
from infl.unlearning.ensemble import UnlearningEnsemble, key_bytes
from infl.unlearning.methods import Level, Method, choose_method
from infl.untraining.distance import MIN_MODELS, expected_outcomes, measure_distance, take

ChooseBy = Literal["prediction", "oracle"]
CHOSEN: dict[ChooseBy, str] = {"prediction": "chosen by prediction", "oracle": "chosen on the oracle"}
N_TRIED = 16  # models a side, by which settings are chosen


def unlearn(
    run: Run | str | Path,
    forget_sets: ForgetSets,
    *,
    method: str | Callable[..., Any] | Method = "fine-tune",
    n_models: int = 64,
    tried: Sequence[Mapping[str, float]] = (),
    choose_by: ChooseBy = "prediction",
    algorithm: Algorithm | None = None,
    layout: Layout | None = None,
    engine: Ray | None = None,
    quiet: bool = False,
    **settings: float,
) -> dict[str, str]:
    """Unlearn each set in models 0 .. n_models - 1 of D, and keep their outcomes in the run.

    Models that the run holds already, by the same method, settings and ids, are not made again; so are the weights of the
    models of D (`infl.keep_weights`), which all methods and sets begin from. A model that a method makes diverge has no
    outcomes, and is counted.

    Args:
        method: A name (`infl unlearn --help` lists them), or a function of your own, `(params, key, problem, **settings) ->
            params` (see `infl.unlearning.problem`), known by its name: give a changed one another.
        tried: Settings to choose from, one choice for all of the sets: each is tried in 16 models a set, and the one is taken
            whose mean distance over the sets is least.
        choose_by: Where that distance leads: to what infl predicts of the accuracy of A(D\\S), which needs no retraining, or to
            the retrained models, so that what comes out is a bound of what choosing can reach. What was tried for one is not
            made again for the other.
        algorithm: Needed only where the run's network or optimizer was made in Python.
        engine: A Ray cluster; None for this machine's devices.
        settings: Of the method, instead of its defaults.

    Returns:
        The collection of the unlearned models of each set by its name, for `run.outcomes`.

    Raises:
        InputError: Where a set is not one of D's, there is no such method or setting, the run cannot be trained on, or lacks
            what the method needs: models of subsets to predict from, or models without the set.

    Examples:
        >>> import infl
        >>> data = infl.load("digits", n_train=100, n_held_out=50)
        >>> run = infl.train(data, n_models=2, n_references=2, algorithm=infl.Algorithm(epochs=2), quiet=True)
        >>> names = infl.unlearn(run, {"mine": [3, 1, 4]}, method="neggrad+", n_models=2, quiet=True, alpha=0.95)
        >>> infl.open_run(run.place).outcomes(names["mine"]).n_models
        2
    """
    if n_models < 1:
        raise InputError(f"n_models: expected at least 1, got {n_models}")
    if choose_by not in get_args(ChooseBy):
        raise InputError(f"choose_by: expected one of {', '.join(get_args(ChooseBy))}; got {choose_by!r}")
    name, chosen = choose_method(method)
    used, opened = chosen.settings(settings), current_run(run)
    candidates = [chosen.settings({**settings, **one}) for one in tried]
    how: Any = {"layout": layout, "engine": engine, "quiet": quiet}
    sets = resolve_forget_sets(opened, forget_sets)
    opened, dataset, algorithm, _ = open_for_training(opened.place, None, algorithm, None, None)
    design = {"kind": "unlearned", "method": name, "settings": used}
    if candidates:
        given: Any = {"method": method, "choose_by": choose_by, "algorithm": algorithm, **how}
        scores = score_settings(opened, sets, candidates, **given)
        distances = [float(np.mean([one.value for one in row])) for row in scores]
        best = int(np.argmin(distances))
        design |= {"settings": candidates[best], "role": CHOSEN[choose_by]}
        said = describe_settings({key: value for key, value in candidates[best].items() if key in tried[best]})
        others = ", ".join(f"{one:.3f}" for number, one in enumerate(distances) if number != best) or "none"
        note(
            f"{name}: {CHOSEN[choose_by]}: {said}, at a distance of {distances[best]:.3f}; others {others}", quiet=quiet
        )
    return _unlearn(opened, dataset, algorithm, chosen, sets, design, n_models, **how)


def score_settings(
    run: Run | str | Path,
    forget_sets: ForgetSets,
    tried: Sequence[Mapping[str, float]],
    *,
    method: str | Callable[..., Any] | Method,
    choose_by: ChooseBy = "prediction",
    algorithm: Algorithm | None = None,
    layout: Layout | None = None,
    engine: Ray | None = None,
    quiet: bool = False,
) -> list[list[Quantity]]:
    """Distance of 16 models with each of several settings, a row each, from what unlearning each set should make of them.

    `unlearn` with these settings takes the row whose mean is least; its arguments are meant.
    """
    opened, (name, chosen) = current_run(run), choose_method(method)
    sets = resolve_forget_sets(opened, forget_sets)
    opened, dataset, algorithm, _ = open_for_training(opened.place, None, algorithm, None, None)
    original = opened.outcomes("full").load()
    references, scores = _references(opened, sets, original, choose_by, quiet=quiet), []
    for one in tried:
        design = {"kind": "unlearned", "method": name, "settings": chosen.settings(dict(one)), "role": TRIED}
        how: Any = {"layout": layout, "engine": engine, "quiet": quiet}
        names = _unlearn(opened, dataset, algorithm, chosen, sets, design, N_TRIED, **how)
        models = (take(with_diverged(opened, names[one.name]), slice(N_TRIED)) for one in sets)
        sides = zip(sets, models, references, strict=True)
        scores.append([measure_distance(*side, original=original).value for side in sides])
    return scores


def _unlearn(
    opened: Run,
    dataset: Dataset,
    algorithm: Algorithm,
    chosen: Method,
    sets: Sequence[ForgetSet],
    design: dict[str, Any],
    n_models: int,
    *,
    layout: Layout | None,
    engine: Ray | None,
    quiet: bool,
) -> dict[str, str]:
    """The collection of each set by its name, with the models that were missing."""
    name, used = design["method"], design["settings"]
    collections = {unlearned_name(design, one.ids): one for one in sets}
    jobs = [job for collection in collections for job in missing_jobs(opened, collection, range(n_models))]
    if jobs:
        wanted = [collections[one] for one in dict.fromkeys(collection for collection, _ in jobs)]
        changes = _changes(opened, wanted, chosen.level, name, quiet=quiet)
        for collection, forget_set in collections.items():
            opened.add_collection(Collection(collection, design, forget_set=forget_set))
        keep_weights(opened, n_models=n_models, algorithm=algorithm, quiet=quiet)
        models = sorted({model for _, model in jobs})
        keys = key_bytes(collection_keys(opened, "full", models))
        make = partial(
            UnlearningEnsemble,
            method=chosen,
            settings=used,
            originals=dict(zip(keys, load_originals(opened, models, algorithm, dataset), strict=True)),
            changes=changes,
        )
        with lazy_executor(algorithm, dataset, layout, engine, make, quiet=quiet) as executor:
            train_jobs(opened, jobs, executor, description=f"unlearning: {name}", quiet=quiet)
    for collection, forget_set in collections.items():
        if diverged := [model for model in opened.diverged(collection) if model < n_models]:
            note(f"{name}: {len(diverged)} of {n_models} models diverged on {forget_set.name!r}", quiet=quiet)
    return {one.name: collection for collection, one in collections.items()}


def _changes(
    run: Run, sets: Sequence[ForgetSet], level: Level | None, method: str, *, quiet: bool
) -> dict[bytes, Array]:
    """By how much margins of A(D\\S) are expected to lie above those of A(D), [n+m] each, by the bytes of the set's mask."""
    if level is None:
        return {}
    if level == "oracle":
        changes = [_measured_change(run, one, method) for one in sets]
    else:
        predictor = margin_predictor(run, quiet=quiet)
        on_d = predictor.distribution.quantiles.mean(axis=0)
        changes = [predictor.margins(np.array(one.ids)) - on_d for one in sets]
    masks = (one.retained(run.manifest["dataset"]["n_train"]) for one in sets)
    return {mask.tobytes(): change.astype(np.float32) for mask, change in zip(masks, changes, strict=True)}


def _measured_change(run: Run, forget_set: ForgetSet, method: str) -> Array:
    """Mean over the pairs of models of D and of D\\S."""
    names = ("full", leave_out_name(forget_set.ids))
    pairs = sorted(set.intersection(*(set(run.complete(one)) - set(run.diverged(one)) for one in names)))
    if not pairs:
        raise InputError(
            f"method {method}: the run holds no models without {forget_set.name!r}; infl verify trains them: infl verify --run "
            f"{run.place} --forget ..."
        )
    on_d, without = (run.outcomes(one, pairs).load().of("margin").mean(axis=0, dtype=np.float64) for one in names)
    return without - on_d


def _references(
    run: Run, sets: Sequence[ForgetSet], original: Outcomes, choose_by: ChooseBy, *, quiet: bool
) -> list[Outcomes]:
    """What models without each set do, or are predicted to do; original: models of D."""
    original = take(original, slice(N_TRIED))
    if original.n_models < MIN_MODELS:
        raise InputError(
            f"tried: settings are chosen by {MIN_MODELS} models of D and more, and the run holds {original.n_models}; "
            f"infl train --run {run.place} --n-references {N_TRIED} adds some"
        )
    if choose_by == "prediction":
        return [expected_outcomes(original, one.effect) for one in predict_effects(run, sets, quiet=quiet)]
    oracles = [retrained(run, one.ids) for one in sets]
    for one, oracle in zip(sets, oracles, strict=True):
        if oracle is None:
            raise InputError(
                f"choose_by oracle: the run holds no models retrained without {one.name!r}; infl verify --run {run.place} "
                f"--forget FILE --n-models {N_TRIED} --stop 1 trains them, or choose by prediction"
            )
    return [take(oracle, slice(N_TRIED)) for oracle in oracles if oracle is not None]

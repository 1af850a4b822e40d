"""Evaluates unlearned models, of this run or made elsewhere, against models retrained without each forget set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from infl.pipeline.predict import predict_effects
from infl.pipeline.progress import note, track
from infl.pipeline.train import ForgetSets, current_run, resolve_forget_sets
from infl.records import MAX_MARGIN, Array, Evaluation, ForgetSet, InputError, MetricName, Outcomes, Thresholds
from infl.records.files import Archive, Arrays, open_archive
from infl.report.evaluations import PREDICTED, PREDICTED_WHOLE
from infl.store import Run, leave_out_name
from infl.unlearning.methods import METHODS
from infl.untraining.comparison import TOLERANCE, evaluate_models
from infl.untraining.distance import MIN_MODELS, expected_outcomes

# What models of one method do: the path of an .npz, or its arrays by name.
Given = str | Path | Mapping[str, Any]
TRIED = "tried"  # role of settings that others are chosen from
OTHER_ORDER = 0.1  # rank correlation with the models of D below which columns may be in another order


def evaluate(
    run: Run | str | Path,
    forget_sets: ForgetSets,
    models: Mapping[str, Given] | None = None,
    *,
    thresholds: Thresholds | None = None,
    tolerance: float = TOLERANCE,
    metrics: Sequence[MetricName] = (),
    predict: bool = False,
    quiet: bool = False,
) -> list[Evaluation]:
    """Say of unlearning methods whether they untrain each set, unlearn its concept, or neither; nothing is trained here.

    Compared are the models that `infl.unlearn` left in the run, and any others in `models`, with the models of D\\S, and for a
    set with a concept with those of D\\S_full where the run holds some. `infl verify --concepts --stop 1` trains both. Every
    set begins with two rows to read the others by: doing nothing, and one half of the retrained models against the other.

    Args:
        models: Unlearned models made elsewhere, by the name of the method; of one set. Each is an .npz, or a mapping, with
            `margin` or `accuracy` [N, n+m] or both, in the units of `infl.Outcomes`: the columns are all training examples of
            the run, S among them, and then the held-out ones. Row t belongs to model t of D where methods began with those.
            `labels` [n+m], where given, are compared with the run's. A row with NaN is of a model that diverged, and counts
            as wrong.
        thresholds: By which regimes are named.
        tolerance: Largest distance that counts as none; see `infl.untraining.distance`.
        metrics: Those of others to measure besides, each with its null: see `infl.untraining.metrics`. They need margins.
        predict: Whether to evaluate what infl predicts of A(D\\S), and of A(D\\S_full), as a method is; where the run holds too
            few models to predict from, a line says so.

    Returns:
        Set by set: nothing, retraining, predictions where asked for, and then the methods. A method of which the run holds
        several settings has them in its name.

    Raises:
        InputError: where a set has no retrained models, outcomes are of other examples, or there are none to evaluate.

    Examples:
        >>> import infl, numpy as np
        >>> data = infl.load("digits", n_train=100, n_held_out=50)
        >>> run = infl.train(data, n_models=1, n_references=8, algorithm=infl.Algorithm(epochs=2), quiet=True)
        >>> _ = infl.verify(run, {"mine": [3, 1, 4]}, n_models=8, stop=None, quiet=True)
        >>> always_wrong = {"accuracy": np.zeros((8, 150), bool)}
        >>> infl.evaluate(run, {"mine": [3, 1, 4]}, {"always wrong": always_wrong}, quiet=True)[-1].verdict
        'neither: too much'
    """
    opened = current_run(run)
    sets = resolve_forget_sets(opened, forget_sets)
    if models and len(sets) > 1:
        raise InputError(
            f"models are of one forget set, and {len(sets)} are given: evaluate each set with the models of it"
        )
    theirs = {name: _read_models(name, given, opened) for name, given in (models or {}).items()}
    evaluations, collections = [], opened.to_dict()["collections"]
    # Of all sets: the time that one collection is given depends on which of those that are trained at once ends first.
    rows = [one for name, one in collections.items() if name.startswith("without-")]
    retraining = sum(one["seconds"] for one in rows) / max(sum(one["complete"] for one in rows), 1)
    costs = {
        name: one["seconds"] / max(one["complete"], 1) / (retraining or math.nan) for name, one in collections.items()
    }
    predicted = _predicted(opened, sets, quiet=quiet) if predict else {}
    with track(len(sets), "comparing", unit="sets", quiet=quiet) as progress:
        for one in sets:
            effects = predicted.get(one.name, {})
            evaluations += _evaluate_set(opened, one, theirs, effects, costs, thresholds, tolerance, metrics)
            progress.update()
    return evaluations


def _predicted(run: Run, sets: Sequence[ForgetSet], *, quiet: bool) -> dict[str, dict[str, Array]]:
    """Effects by the name of each set, and of its whole concept; none where the run cannot predict any."""
    found = {}
    try:
        for one in predict_effects(run, sets, quiet=quiet):
            found[one.forget_set.name] = {PREDICTED: one.effect}
            if one.whole is not None and one.whole.forget_set.ids != one.forget_set.ids:
                found[one.forget_set.name][PREDICTED_WHOLE] = one.whole.effect
    except InputError as error:
        note(f"nothing is predicted: {error}", quiet=quiet)
    return found


def _evaluate_set(
    run: Run,
    forget_set: ForgetSet,
    theirs: Mapping[str, Outcomes],
    predicted: Mapping[str, Array],
    costs: Mapping[str, float],
    thresholds: Thresholds | None,
    tolerance: float,
    metrics: Sequence[MetricName],
) -> list[Evaluation]:
    name, of_method = f"set {forget_set.name!r}", unlearned_methods(run, forget_set)
    oracle, original = retrained(run, forget_set.ids), run.outcomes("full").load()
    if oracle is None or original.n_models < MIN_MODELS:
        raise InputError(
            f"{name}: the run holds no models retrained without it to compare with; infl verify --run {run.place} "
            "--forget FILE --n-models 64 --stop 1 trains them"
        )
    concept, full_oracle = forget_set.concept, None
    if concept is not None and concept != forget_set.ids:
        full_oracle = retrained(run, concept)
    own = {method: with_diverged(run, collection) for method, collection in of_method.items()}
    unlearned = {**own, **theirs}
    found = evaluate_models(
        forget_set,
        unlearned,
        expected={method: expected_outcomes(original, effect) for method, effect in predicted.items()},
        original=original,
        oracle=oracle,
        full_oracle=full_oracle,
        thresholds=thresholds,
        tolerance=tolerance,
        metrics=metrics,
        held_out_only=run.has_documents,
    )
    evaluations = []
    for one in found:
        notes = [one.note]
        if one.method == "retraining":
            notes.append(
                "one half of the retrained models against the other: what an exact method is given with so many"
            )
        if one.method == "nothing" and one.retrained.regime == "no-op":
            notes.append("retraining is a no-op here, so that doing nothing is best")
        if one.method == "nothing" and concept is not None and concept != forget_set.ids and full_oracle is None:
            notes.append(
                f"no models without all of the concept of {name}: infl verify --concepts trains those to compare with"
            )
        cost, diverged = {"nothing": 0.0, "retraining": 1.0}.get(one.method, math.nan), 0
        if one.method in of_method:
            cost, design = costs[of_method[one.method]], run.collection(of_method[one.method]).design
            settings, source = design.get("settings", {}), settings_from(design)
            one = replace(one, settings=settings, settings_from=source)
            if source != "default":
                notes.append(f"settings {source}: {describe_settings(settings)}")
        if one.method in unlearned:
            models = unlearned[one.method]
            diverged = int((~_right(models).any(axis=1)).sum())
            notes.append(_other_order(models, original, forget_set))
        said = "; ".join(filter(None, notes))
        evaluations.append(replace(one, cost=cost, n_diverged=diverged, note=said))
    return evaluations


def retrained(run: Run, ids: Sequence[int]) -> Outcomes | None:
    """Models of D without these ids, where there are enough."""
    name = leave_out_name(ids)
    found = run.outcomes(name).load() if name in run.collections() else None
    return found if found is not None and found.n_models >= MIN_MODELS else None


def unlearned_methods(run: Run, forget_set: ForgetSet) -> dict[str, str]:
    """The collection of each method that unlearned the set in this run, by its name; with settings where there are several.

    Settings that were tried and not chosen do not count.
    """
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for name in run.collections():
        if name.startswith("unlearned-"):
            one = run.collection(name)
            if one.forget_set is not None and one.forget_set.ids == forget_set.ids and one.design.get("role") != TRIED:
                found.setdefault(one.design["method"], []).append((name, one.design))
    named = {}
    for method, collections in found.items():
        for name, design in collections:
            role = design.get("role", "")
            alike = [other["settings"] for _, other in collections if other.get("role", "") == role]
            differing = {k: v for k, v in design["settings"].items() if any(other.get(k) != v for other in alike)}
            named[" ".join(filter(None, [method, role, describe_settings(differing)]))] = name
    return {method: named[method] for method in sorted(named)}


def settings_from(design: Mapping[str, Any]) -> str:
    """`default`, `given`, or what the settings of an unlearned collection were chosen by."""
    method, settings = METHODS.get(design["method"]), design.get("settings", {})
    return design.get("role") or ("default" if method is not None and settings == method.defaults else "given")


def describe_settings(settings: Mapping[str, Any]) -> str:
    """As in `epochs=5 rate=0.1`."""
    return " ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in settings.items())


def with_diverged(run: Run, collection: str) -> Outcomes:
    """Outcomes of a collection, and of models that did not stay finite wrong ones."""
    outcomes, diverged = run.outcomes(collection).load(), run.diverged(collection)
    if not diverged:
        return outcomes
    n = len(diverged)
    correct = outcomes.recorded["correct"]
    seeds = outcomes.init_seeds if outcomes.n_models else np.array([], int)
    return Outcomes(
        np.concatenate([outcomes.masks, np.ones((n, outcomes.n_train), bool)]),
        np.concatenate([correct, np.zeros((n, outcomes.n_columns), correct.dtype)]),
        np.concatenate([outcomes.of("margin"), np.full((n, outcomes.n_columns), -MAX_MARGIN)]),
        init_seeds=None if seeds is None else np.concatenate([seeds, diverged]),
        n_tokens=outcomes.n_tokens,
    )


def _right(models: Outcomes) -> Array:
    return models.of("correct") if models.correct is not None else models.of("margin") > 0


def _other_order(models: Outcomes, original: Outcomes, forget_set: ForgetSet) -> str:
    """A warning where models hardly know what those of D know, outside S: their columns may be in another order."""
    outside = np.setdiff1d(np.arange(original.n_columns), forget_set.ids)
    kind = "margin" if models.margin is not None and original.margin is not None else "correct"
    means = [
        (one.of("margin") if kind == "margin" else _right(one))[:, outside].mean(axis=0) for one in (models, original)
    ]
    if min(len(np.unique(mean)) for mean in means) < 3:
        return ""
    correlation = float(stats.spearmanr(*means)[0])  # pyright: ignore[reportArgumentType]
    if correlation >= OTHER_ORDER:
        return ""
    said = f"outside the set its outcomes correlate with those of D by {correlation:.2f}"
    return f"{said}: are its columns in the order of the run?"


def _read_models(method: str, given: Given, run: Run) -> Outcomes:
    if method in ("nothing", "retraining", PREDICTED, PREDICTED_WHOLE):
        raise InputError(f"models: a method is called {method!r}, as one of infl's own rows is: give it another name")
    if isinstance(given, Mapping):
        return _checked_models(Arrays(Path(method), given), run)
    with open_archive(Path(given).expanduser()) as archive:
        return _checked_models(archive, run)


def _checked_models(archive: Archive | Arrays, run: Run) -> Outcomes:
    path, dataset = archive.path, run.manifest["dataset"]
    n, n_columns = dataset["n_train"], dataset["n_columns"]

    def read(name: str, shape: str) -> Array:
        member = archive.member(name)
        if (
            len(member.shape) != shape.count(",") + 1
            or member.shape[-1] != n_columns
            or member.dtype.kind not in "biuf"
        ):
            raise InputError(
                f"{path}: {name}: expected numbers {shape}, a column for each of the {n:,} training examples of the run and "
                f"then the {n_columns - n:,} held-out ones, {n_columns:,} in all, got {member.dtype} {member.shape}"
            )
        return np.concatenate(list(archive.blocks(name, n_rows=max(member.shape[0], 1))))

    names = {"margin": "margin", "accuracy": "correct", "correct": "correct"}
    arrays = {kind: read(name, "[models, n+m]") for name, kind in names.items() if name in archive.names}
    if not arrays:
        raise InputError(
            f"{path}: expected margin or accuracy [models, n+m], found {', '.join(archive.names) or 'nothing'}"
        )
    if "labels" in archive.names:
        labels, own = read("labels", "[n+m]"), run.dataset().labels
        if (differ := np.flatnonzero(labels != own)).size:
            raise InputError(
                f"{path}: its outcomes are of other examples: {len(differ):,} of {n_columns:,} labels differ, the first of "
                f"column {differ[0]}, {labels[differ[0]]} instead of {own[differ[0]]}; order columns as run.dataset()"
            )
    if len({len(array) for array in arrays.values()}) > 1:
        raise InputError(
            f"{path}: margin and accuracy are of {' and '.join(str(len(a)) for a in arrays.values())} models"
        )
    diverged = np.any([np.isnan(array).any(axis=1) for array in arrays.values()], axis=0)
    if "margin" in arrays:
        margin = np.where(diverged[:, None], -MAX_MARGIN, arrays["margin"].astype(np.float32))
        arrays["margin"] = np.clip(margin, -MAX_MARGIN, MAX_MARGIN)
    if "correct" in arrays:
        arrays["correct"] = np.where(diverged[:, None], 0, arrays["correct"]).astype(arrays["correct"].dtype)
    n_models = len(diverged)
    return Outcomes(np.ones((n_models, n), bool), **arrays, init_seeds=np.arange(n_models))

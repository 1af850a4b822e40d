"""Predicts what untraining forget sets would do, from the models that a run holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from infl.pipeline.fits import keep_fit, read_fit
from infl.pipeline.progress import track
from infl.pipeline.train import ForgetSets, current_run, resolve_forget_sets
from infl.pipeline.weights import network_features
from infl.records import Array, Dataset, Effects, ForgetSet, InputError, OutcomeSource, Thresholds, Verdict
from infl.store import Run, StoredOutcomes
from infl.untraining.effects import FIT_STEPS, Predictor, PredictorName, ResponsePredictor, fit_predictor
from infl.untraining.errors import N_FOLDS
from infl.untraining.regimes import judge

MAX_OUTCOMES_HELD = 1 << 26  # 200 MB


def predict(
    run: Run | str | Path,
    forget_sets: ForgetSets,
    *,
    predictor: PredictorName | None = None,
    proxy: Run | str | Path | None = None,
    thresholds: Thresholds | None = None,
    quiet: bool = False,
) -> list[Verdict]:
    """Predict the regime of forget sets from the models of a run; see `predict_effects` and `infl.judge`.

    Args:
        run: Opened, or its folder, or its URL on object storage; so in all functions that take a run.
        forget_sets: Records, `{"name": ids}`, the path of a forget file, or the ids, or mask [n], of one set.
        predictor: See `infl.untraining.effects`; None for `combined`, of documents `surrogate`, of facts `forests`,
            and `additive` where there is none of these.
        proxy: A run of many models of a cheaper network on the same examples. What it predicts stands for how margins
            respond, and few models of `run`, 16 of subsets and 16 of D, for how its own margins follow that. Where these
            follow closed-form refits better, the proxy is left out, with a warning.

    Raises:
        InputError: where the proxy's examples are others, a set is not one of D's, or the run holds too few models of
            subsets, or none of D.
    """
    effects = predict_effects(run, forget_sets, predictor=predictor, proxy=proxy, quiet=quiet)
    return [judge(one, thresholds) for one in effects]


def predict_effects(
    run: Run | str | Path,
    forget_sets: ForgetSets,
    *,
    predictor: PredictorName | None = None,
    proxy: Run | str | Path | None = None,
    quiet: bool = False,
) -> Iterator[Effects]:
    """Yield the predicted effects of each set in turn; those of its whole concept with them where it has one.

    Arguments are those of `predict`.
    """
    opened = current_run(run)
    sets = resolve_forget_sets(opened, forget_sets)
    concepts = list(dict.fromkeys(s.concept for s in sets if s.concept is not None))
    fitted = fitted_predictor(opened, predictor, proxy=None if proxy is None else current_run(proxy), quiet=quiet)
    with track(len(concepts) + len(sets), "predicting", unit="sets", quiet=quiet) as progress:
        wholes = {}
        for effects in fitted([ForgetSet("whole concept", ids) for ids in concepts]):
            wholes[effects.forget_set.ids] = effects
            progress.update()
        for effects in fitted(sets):
            concept = effects.forget_set.concept
            whole = None if concept is None else wholes[concept]
            yield replace(effects, whole=whole, held_out_only=opened.has_documents)
            progress.update()


def predict_margins(
    run: Run | str | Path, forget_sets: ForgetSets, *, predictor: PredictorName | None = None, quiet: bool = False
) -> list[Array]:
    """Predict the expected margin of every example of A(D\\S), [n+m] for each set, in the units of `Outcomes.margin`.

    Members of S have the margins that models which left them out would have. Methods of unlearning stop at these.

    Args:
        run, forget_sets, predictor, quiet: As in `predict`.

    Raises:
        InputError: As in `predict`, and where the examples are neither pixels with classes nor documents.
    """
    opened = current_run(run)
    sets = resolve_forget_sets(opened, forget_sets)
    fitted = margin_predictor(opened, predictor, quiet=quiet)
    return [fitted.margins(np.array(one.ids)) for one in sets]


def margin_predictor(run: Run, given: PredictorName | None = None, *, quiet: bool) -> ResponsePredictor:
    """What predicts margins of sets of the run."""
    fitted = fitted_predictor(run, given, of_margins=run.has_documents, quiet=quiet)
    if not isinstance(fitted, ResponsePredictor) or fitted.distribution.of_shares:
        raise InputError("margins are predicted of pixels with classes and of documents, and this run has neither")
    return fitted


def fitted_predictor(
    run: Run, given: PredictorName | None, *, proxy: Run | None = None, of_margins: bool = False, quiet: bool
) -> Predictor:
    """The predictor fitted to all models that the run holds now: read where it was kept."""
    dataset = run.dataset()
    default = _default_predictor(dataset)
    name = given or default
    if default in ("additive", "forests"):
        _check_predictable_without_pixels(run, name, dataset)
    small = None if proxy is None else _fit_proxy(proxy, dataset, name, quiet=quiet)
    # Those of perceptrons told no more than pixels in development worlds.
    looks = dataset.has_pixels and dataset.is_classified and run.manifest["algorithm"]["network"]["name"] != "mlp"

    def read_features() -> Array | None:
        return network_features(run, dataset) if looks and small is None else None

    kept = f"margins-{name}" if of_margins else name
    if small is None and (found := read_fit(run, kept, dataset, read_features)):
        return found
    features = read_features()
    covers = [collection for collection in run.collections() if collection.startswith("cover-")]
    n_steps = FIT_STEPS + (N_FOLDS if features is not None else 0)
    with track(n_steps, "fitting", unit="steps", quiet=quiet) as progress:
        fitted = fit_predictor(
            name,
            sources=[_near(run.outcomes(collection)) for collection in ("design", "grouped", *covers)],
            reference=_near(run.outcomes("full")),
            images=dataset.images,
            labels=dataset.labels,
            n_classes=dataset.n_classes,
            n_tokens=len(dataset.vocabulary),
            features=features,
            proxy=small,
            of_margins=of_margins,
            advance=lambda: progress.update(),
        )
    if small is None and isinstance(fitted, ResponsePredictor):
        keep_fit(run, kept, fitted)
    return fitted


def _default_predictor(dataset: Dataset) -> PredictorName:
    if dataset.is_documents:
        return "surrogate"
    if dataset.is_facts:
        return "forests"
    return "combined" if dataset.is_classified else "additive"


def _fit_proxy(proxy: Run, dataset: Dataset, name: PredictorName, *, quiet: bool) -> ResponsePredictor:
    """The predictor of a proxy's own models, whose examples are those of the data set, perhaps in another form."""
    if name not in ("combined", "support", "surrogate"):
        raise InputError(
            f"a proxy is for pixels with classes and for documents, and not for predictor {name}; leave --proxy out"
        )
    other = proxy.dataset()
    if other.n_train != dataset.n_train or not np.array_equal(other.labels, dataset.labels):
        raise InputError(
            f"proxy {proxy.place} was trained on other examples (n = {other.n_train:,}, here {dataset.n_train:,}, or other "
            "labels); train it on the data set of this run, or on the same examples in another form"
        )
    fitted = fitted_predictor(proxy, None, quiet=quiet)
    if not isinstance(fitted, ResponsePredictor):
        raise InputError(f"proxy {proxy.place} was imported without pixels, so that only sums of influences predict it")
    return fitted


def _check_predictable_without_pixels(run: Run, name: PredictorName, dataset: Dataset) -> None:
    """Say what an imported run lacks, by what its file would have to hold."""
    if name != "additive" and not (name == "forests" and dataset.is_facts):
        what = "has facts or targets of its own" if dataset.has_pixels else "was imported without pixels"
        raise InputError(
            f"run folder {run.place} {what}, and predictor {name} looks at pixels and classes; take --predictor additive, "
            "which sums the influences of single examples and misses what copies of them hold, or retrain: infl verify"
        )
    known = "margin" in run.outcome_kinds or run.manifest.get("shares", False)
    if not known or not run.complete("full"):
        raise InputError(
            f"run folder {run.place} was imported without what the additive predictor needs: margins of the models, and of "
            "models of all of D, or shares; import a file with margin and reference_margin"
        )


def _near(outcomes: StoredOutcomes) -> OutcomeSource:
    """Outcomes that are asked for again and again: read once where they are small, streamed each time where not."""
    return outcomes.load() if outcomes.n_models * outcomes.n_columns <= MAX_OUTCOMES_HELD else outcomes

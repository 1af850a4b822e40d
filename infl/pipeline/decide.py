"""Names the regimes of many forget sets within a budget: predicts all, and retrains without those that this leaves open."""

from __future__ import annotations

from pathlib import Path

from infl.pipeline.predict import predict
from infl.pipeline.train import ForgetSets, current_run, resolve_forget_sets
from infl.pipeline.verify import check_budget, verify
from infl.records import Thresholds, Verdict
from infl.store import Run
from infl.training.algorithm import Algorithm
from infl.training.layout import Layout
from infl.training.ray import Ray
from infl.untraining.effects import PredictorName
from infl.untraining.verification import order


def decide(
    run: Run | str | Path,
    forget_sets: ForgetSets,
    *,
    budget: int,
    n_models: int = 64,
    stop: float | None = 0.95,
    first: int = 8,
    predictor: PredictorName | None = None,
    algorithm: Algorithm | None = None,
    thresholds: Thresholds | None = None,
    layout: Layout | None = None,
    engine: Ray | None = None,
    checkpoint_minutes: float | None = None,
    quiet: bool = False,
) -> tuple[list[Verdict], list[Verdict]]:
    """Predict the regime of all forget sets, and measure those that stay undetermined as far as a budget allows.

    The sets stand in line by the probability of their most probable regime, the highest first (`order`), and are verified
    within the budget.

    Args:
        budget: As in `infl.verify`; 0 predicts only.
        predictor: As in `infl.predict`.
        n_models, stop, first, algorithm, layout, engine, checkpoint_minutes: As in `infl.verify`.

    Returns:
        The predicted verdicts, one of each set, and the measured ones, of the sets that it was retrained without.

    Raises:
        InputError: as `infl.predict` and `infl.verify` do, and where the budget is below 0.

    Example:
        >>> run = infl.train("digits", "runs/decide", n_models=200)  # doctest: +SKIP
        >>> predicted, measured = infl.decide(run, "forget.json", budget=2000)  # doctest: +SKIP
    """
    check_budget(budget)
    opened = current_run(run)
    sets = resolve_forget_sets(opened, forget_sets)
    predicted = predict(opened, sets, predictor=predictor, thresholds=thresholds, quiet=quiet)
    waiting, measured = [one.forget_set for one in order(predicted)], list[Verdict]()
    if waiting and budget:
        measured = verify(
            opened,
            waiting,
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
    of = {one.forget_set.ids: one for one in measured}
    return predicted, [of[one.ids] for one in sets if one.ids in of]

"""Names the regimes of many forget sets within a budget: predicts all, and retrains without those that this leaves open."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from infl.pipeline.predict import predict
from infl.pipeline.train import ForgetSets, current_run, resolve_forget_sets
from infl.pipeline.verify import verify
from infl.records import InputError, Thresholds, Verdict
from infl.store import Run
from infl.training.algorithm import Algorithm
from infl.training.layout import Layout
from infl.training.ray import Ray
from infl.untraining.effects import PredictorName
from infl.untraining.verification import looks_at


def decide(
    run: Run | str | Path,
    forget_sets: ForgetSets,
    *,
    budget: int,
    n_models: int = 64,
    stop: float = 0.95,
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

    The looks are those of `infl.verify`. Before each, the sets that are not decided stand in line by the number of models
    that would decide them, the fewest first (`order`), and as many get the models of that look as the budget pays for.

    Args:
        budget: Most models retrained without one of the sets, all sets together; 0 predicts only. Models that the run holds
            already are counted as well, so that the same call gives the same answer after it was killed. Models of D, which all
            sets share, are not counted.
        n_models, stop, first: Of each set that is measured, as in `infl.verify`.
        predictor: As in `infl.predict`.
        algorithm, layout, engine, checkpoint_minutes: As in `infl.verify`.

    Returns:
        The predicted verdicts, one of each set, and the measured ones, of the sets that it was retrained without.

    Raises:
        InputError: as `infl.predict` and `infl.verify` do, and where the budget is below 0.

    Example:
        >>> run = infl.train("digits", "runs/decide", n_models=200)  # doctest: +SKIP
        >>> predicted, measured = infl.decide(run, "forget.json", budget=2000)  # doctest: +SKIP
    """
    if budget < 0:
        raise InputError(f"budget: expected a number of models, 0 or more, got {budget}")
    looks, thresholds = looks_at(n_models, stop=stop, first=first), thresholds or Thresholds()
    opened = current_run(run)
    sets = resolve_forget_sets(opened, forget_sets)
    predicted = predict(opened, sets, predictor=predictor, thresholds=thresholds, quiet=quiet)
    waiting, measured, before = order(predicted), dict[tuple[int, ...], Verdict](), 0
    for look in looks:
        n_sets = min(len(waiting), budget // (look - before))
        if not n_sets:
            break
        budget -= n_sets * (look - before)
        verdicts = verify(
            opened,
            [one.forget_set for one in waiting[:n_sets]],
            n_models=look,
            stop=None,
            first=first,
            algorithm=algorithm,
            thresholds=thresholds,
            layout=layout,
            engine=engine,
            checkpoint_minutes=checkpoint_minutes,
            quiet=quiet,
        )
        measured |= {one.forget_set.ids: one for one in verdicts}
        clear = max(stop, thresholds.probability)
        waiting = order([one for one in verdicts if _most_probable(one) < clear], clear)
        before = look
    return predicted, [measured[one.ids] for one in sets if one.ids in measured]


def order(verdicts: list[Verdict], wanted: float | None = None) -> list[Verdict]:
    """Those that are not decided, the one that is nearest to a decision first: by models needed, then by probability.

    Args:
        wanted: Probability that decides; None for that of the verdicts' own thresholds.
    """
    undecided = [one for one in verdicts if wanted is not None or one.regime == "undetermined"]
    return sorted(undecided, key=lambda one: (one.models_needed or math.inf, -_most_probable(one)))


def _most_probable(verdict: Verdict) -> float:
    return max(np.nan_to_num(list(verdict.probability.values())))

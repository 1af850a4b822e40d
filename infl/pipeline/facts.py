"""What does forgetting a fact take? The statements that models know it from, by their influence on it."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from infl.pipeline.predict import predict_effects
from infl.pipeline.train import current_run
from infl.records import ForgetSet, ProtocolName, ScoredPair
from infl.scores.evidence import q_values
from infl.scores.influence import influence
from infl.store import Run
from infl.untraining.cuts import find_fact

Q, LEFT, MAX_SOURCES = 0.05, 0.1, 20


def influence_cut(
    run: Run | str | Path, fact: str, *, name: str | None = None, quiet: bool = False
) -> ForgetSet | None:
    """A fact with the training facts that it is known from, by the influence matrix: as many as make it go, by prediction.

    Facts that help it, at a false discovery rate of 0.05 over all training facts, are added with their statement, the largest
    influence first, until the predicted probability that a model without all of them knows it is 0.1 or less; all of them, 20
    at most, and a warning, where it is not.

    Args:
        fact: As in `infl.untraining.cuts.fact_sets`.
        name: "... cut by influence" by default.

    Returns:
        The set; None where the fact is held out and nothing helps it.
    """
    opened = current_run(run)
    dataset = opened.dataset()
    column = find_fact(dataset, fact)
    helping = [pair.source for pair in fact_sources(opened, column) if pair.value > 0][:MAX_SOURCES]
    own = [column] if column < dataset.n_train else []
    sets = list[ForgetSet]()
    for n_sources in range(0 if own else 1, len(helping) + 1):
        statements = dataset.train_ids[[*own, *helping[:n_sources]]]
        sets.append(
            ForgetSet(f"{n_sources} sources", tuple(np.flatnonzero(np.isin(dataset.train_ids, statements)).tolist()))
        )
    if not sets:
        return None
    known = opened.outcomes("full").load().of("correct")[:, column].mean()
    left = [known - effects.effect[column] for effects in predict_effects(opened, sets, quiet=quiet)]
    gone = next((made for made, probability in zip(sets, left, strict=True) if probability <= LEFT), None)
    title = name or f"{dataset.text(column)} cut by influence"
    if gone is None:
        warnings.warn(
            f"{title}: by prediction {left[-1]:.2f} of the models know it without all its sources", stacklevel=2
        )
    return ForgetSet(title, (gone or sets[-1]).ids)


def fact_sources(run: Run, column: int) -> list[ScoredPair]:
    """Training facts that are found to help or harm a fact, at a false discovery rate of 0.05, the largest help first."""
    protocol: ProtocolName = "left-out" if column < run.manifest["dataset"]["n_train"] else "held-out"
    found = influence(run.outcomes("design"), protocol=protocol, columns=[column])
    value, se, p, q = (np.asarray(one)[:, 0] for one in (found.value, found.se, found.p, q_values(np.asarray(found.p))))
    evident = [int(k) for k in np.argsort(-np.nan_to_num(value), kind="stable") if q[k] <= Q]
    return [ScoredPair(k, column, *(float(one[k]) for one in (value, se, p, q))) for k in evident]

"""Turns a run into what its page shows: scores with their errors, and forget sets predicted beside measured.

Nothing is trained here. Which models there are decides what is on the page: without models of random subsets no scores, without
models that go without a set no measurement of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from infl.pipeline.evaluate import evaluate, retrained, unlearned_methods
from infl.pipeline.predict import predict_effects
from infl.pipeline.train import ForgetSets, current_run, resolve_forget_sets
from infl.pipeline.verify import verified_effects
from infl.records import (
    Dataset,
    Effects,
    ForgetSet,
    InputError,
    OutcomeKind,
    OutcomeSource,
    ProtocolName,
    Quantity,
    ScoredPair,
    Thresholds,
)
from infl.report.page import HarmedExample, PageContent, ScoreContent, SetContent, write_page
from infl.scores.evidence import interval
from infl.scores.influence import influence, memorization
from infl.scores.power import findings
from infl.scores.strongest import StrongestInfluences, strongest_influences
from infl.store import Run
from infl.untraining.effects import PredictorName
from infl.untraining.regimes import judge

N_TOP = 60
N_GRAPH = 16  # facts that the page draws with what they are known from


@dataclass(frozen=True)
class Report:
    """A page that was written, with what it shows. size: in bytes."""

    path: Path
    size: int
    content: PageContent


def write_report(
    run: Run | str | Path,
    path: str | Path | None = None,
    *,
    forget_sets: ForgetSets | None = None,
    predictor: PredictorName | None = None,
    thresholds: Thresholds | None = None,
    n_top: int = N_TOP,
    quiet: bool = False,
) -> Report:
    """Write what is known of a run into one self-contained HTML file.

    Args:
        path: Of the file; report.html in the run folder by default.
        forget_sets: None for those that the run was verified for. Each is predicted, and measured with all models that
            the run holds without it.
        n_top: Memorized examples and pairs to list.

    Raises:
        InputError: where the run cannot be read, a set is not one of D's or cannot be predicted, or the file cannot be
            written.
    """
    if n_top < 1:
        raise InputError(f"n_top: expected at least 1, got {n_top}")
    opened = current_run(run)
    path = opened.folder / "report.html" if path is None else Path(path)
    sets = _named_once(opened.forget_sets()) if forget_sets is None else resolve_forget_sets(opened, forget_sets)
    dataset = opened.dataset()
    scores = _scores(opened, dataset, n_top) if opened.outcomes("design").n_models else None
    contents = _sets(opened, sets, predictor, thresholds or Thresholds(), quiet=quiet)
    content = PageContent(opened.to_dict(), dataset, scores, contents, opened.accuracy())
    return Report(path, write_page(content, path, n_top=n_top), content)


def _scores(run: Run, dataset: Dataset, n_top: int) -> ScoreContent:
    outcomes, kind, protocol = run.outcomes("design"), run.outcome_kinds[0], dataset.pairs_protocol
    estimate = memorization(outcomes, outcome=kind)
    strongest = strongest_influences(outcomes, protocols=(protocol,), n_pairs=n_top, outcome=kind)
    pairs, found = strongest.pairs(n_top), findings(outcomes, estimate, strongest)
    return ScoreContent(
        n_models=outcomes.n_models,
        memorization=estimate,
        interval=interval(estimate),
        q=found.q,
        pairs=pairs,
        pair_intervals=_pair_intervals(outcomes, pairs, protocol, kind),
        protocol=protocol,
        smallest_memorization=found.memorization,
        smallest_influence=found.influence,
        graph=_graph(strongest) if dataset.is_facts else (),
    )


def _graph(strongest: StrongestInfluences) -> list[ScoredPair]:
    """Found pairs on the facts that most others are found to help."""
    found = [pair for pair in strongest.pairs(len(strongest)) if pair.q <= strongest.false_discovery_rate]
    helped = dict(Counter(pair.target for pair in found if pair.value > 0).most_common(N_GRAPH))
    return [pair for pair in found if pair.target in helped]


def _pair_intervals(
    outcomes: OutcomeSource, pairs: Sequence[ScoredPair], protocol: ProtocolName, kind: OutcomeKind
) -> list[tuple[float, float]]:
    if not pairs:
        return []
    sources, rows = np.unique([pair.source for pair in pairs], return_inverse=True)
    targets, columns = np.unique([pair.target for pair in pairs], return_inverse=True)
    low, high = interval(influence(outcomes, sources=sources, columns=targets, protocol=protocol, outcome=kind))
    return list(zip(low[rows, columns].tolist(), high[rows, columns].tolist(), strict=True))


def _sets(
    run: Run, sets: Sequence[ForgetSet], predictor: PredictorName | None, thresholds: Thresholds, *, quiet: bool
) -> list[SetContent]:
    """Each set measured where there are models without it, predicted where there are some to predict from, and its methods."""
    if not sets:
        return []
    measured = {}
    for one in verified_effects(run, sets):
        verdict = judge(one, thresholds)
        measured[one.forget_set.name] = verdict, _at(one, verdict.most_harmed)
    predictable = bool(run.outcomes("design").n_models and run.outcomes("full").n_models)
    if not predictable and len(measured) < len(sets):
        unknown = next(s.name for s in sets if s.name not in measured)
        raise InputError(
            f"set {unknown!r}: the run holds no models to predict it from, and none without it; "
            f"infl train --run {run.place} trains the ones, infl verify the others"
        )
    contents = {}
    for one in predict_effects(run, sets, predictor=predictor, quiet=quiet) if predictable else ():
        verdict = judge(one, thresholds)
        known, effects = measured.get(one.forget_set.name, (None, {}))
        columns = (known or verdict).most_harmed
        predicted = _at(one, columns)
        harmed = [HarmedExample(column, predicted[column], effects.get(column)) for column in columns]
        contents[one.forget_set.name] = SetContent(verdict, known, harmed)
    for name, (verdict, effects) in measured.items():
        harmed = [HarmedExample(column, None, effect) for column, effect in effects.items()]
        contents.setdefault(name, SetContent(None, verdict, harmed))
    for one in sets:
        if one.name in contents and unlearned_methods(run, one) and retrained(run, one.ids) is not None:
            evaluations = evaluate(run, one, thresholds=thresholds, quiet=quiet)
            contents[one.name] = replace(contents[one.name], evaluations=evaluations)
    return [contents[s.name] for s in sets if s.name in contents]


def _at(effects: Effects, columns: Sequence[int]) -> dict[int, Quantity]:
    return {column: Quantity(float(effects.effect[column]), float(effects.se[column])) for column in columns}


def _named_once(sets: Sequence[ForgetSet]) -> list[ForgetSet]:
    """Sets that were verified under one name are told apart by a number."""
    named: dict[str, ForgetSet] = {}
    for one in sets:
        name, number = one.name, 2
        while name in named:
            name, number = f"{one.name} ({number})", number + 1
        named[name] = replace(one, name=name)
    return list(named.values())

"""Turns what the pipeline gave into what a person reads: tables, a few lines, and figures with the word where they are."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from infl.pipeline.compare import Comparison
    from infl.pipeline.plan import Plan
    from infl.pipeline.score import Target
    from infl.records import Accuracy, Dataset, Estimate, Evaluation, OutcomeKind, ScoredPair, Verdict
    from infl.scores.power import Findings
    from infl.store import Run


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    print(text, flush=True)


def show_scores(
    run: Run,
    dataset: Dataset,
    memorization: Estimate | None,
    pairs: Sequence[ScoredPair],
    *,
    n_top: int,
    found: Findings,
    q_over: str = "matrix",
) -> None:
    """Tables of the most memorized examples and the strongest pairs; figures of both into the run folder."""
    from infl.report import plot
    from infl.report.tables import memorization_table, pairs_table
    from infl.report.text import unit
    from infl.store.blocks import HELD_OUT_ONLY

    folder = run.folder / "figures"
    smallest, width = found.memorization, _width()
    if memorization is None:
        say(HELD_OUT_ONLY)
    else:
        _print_table(memorization_table(memorization, dataset, n_top, q=found.q, detectable=smallest, width=width))
    title = f"largest cross-influences, protocol: {dataset.pairs_protocol}, in {unit(dataset, found.influence.outcome)}"
    _print_table(pairs_table(pairs, dataset, title=title, detectable=found.influence, width=width))
    if found.pairs_without_error:
        say(f"{found.pairs_without_error:,} pairs not ranked: one model with or without the example, so no error")
    of_pairs = "" if q_over == "matrix" else ", of a pair over those of its target"
    say(f"from {_scored_models(run)}; ± is one standard error, q the false discovery rate{of_pairs}")
    show_accuracy(run.accuracy())
    _name_diverged(run, ["design"])
    figures = {}
    if memorization is not None:
        figures["memorization"] = plot.memorization(memorization)
        figures["memorized"] = plot.memorized_gallery(memorization, dataset)
    figures["influence"] = plot.influence_pairs(pairs[:6], dataset)
    say("figures: " + ", ".join(str(plot.save(axes, folder / f"{name}.png")) for name, axes in figures.items()))


def show_influences(
    run: Run,
    dataset: Dataset,
    example: int,
    memorization: Estimate | None,
    listed: Mapping[str, tuple[str, Sequence[ScoredPair]]],
    outcome: OutcomeKind,
) -> None:
    """Tables of who influences an example and whom it influences; `listed` as in `infl.report.exchange.example_as_json`."""
    from infl.report import text
    from infl.report.tables import pairs_table

    unit = text.unit(dataset, outcome)
    say(f"{text.place_of(dataset, example)} of {dataset.name}, {text.class_of(dataset, example)}")
    if dataset.has_texts:
        say(
            textwrap.fill(
                text.excerpt(dataset, example), min(_width(), 100), initial_indent="  ", subsequent_indent="  "
            )
        )
    if memorization is not None:
        score = text.with_error(float(memorization.value[example]), float(memorization.se[example]))
        say(f"memorization {score} ({unit})")
    titles = {
        "influenced_by": "training examples that influence it, surest first",
        "held_out": "held-out examples that it influences, surest first",
        "left_out": "training examples that it influences, surest first",
    }
    for name, (protocol, pairs) in listed.items():
        title = f"{titles[name]}, protocol: {protocol}"
        say("")
        if pairs:
            _print_table(pairs_table(pairs, dataset, title=f"{title}, in {unit}", width=_width()))
        else:
            say(f"{title}: no pair has an estimate")
    say(f"\nfrom {_scored_models(run)}; ± is one standard error, q is over the pairs of each table")
    show_accuracy(run.accuracy())
    _name_diverged(run, ["design"])


def show_comparison(comparison: Comparison, path: Path | None) -> None:
    """Table of how far two sets of scores agree, and a figure of it."""
    from infl.report import plot
    from infl.report.plot.canvas import new_figure
    from infl.report.tables import agreement_table

    one, other = comparison.names
    _print_table(agreement_table(comparison.agreements, title=f"{one} compared with {other}"))
    say(f"differences: {one} less {other}; ± is one standard error, over examples, of these models")
    say("explained by errors: fraction of the mean square difference that errors of models trained apart would bring")
    for name, accuracy in zip(comparison.names, comparison.accuracies, strict=True):
        show_accuracy(accuracy, name)
    if comparison.by_source:
        say("the two hold different parts of one source: examples are matched by their positions in it")
    if comparison.n_labels_differ:
        say(
            f"{comparison.n_labels_differ:,} training examples have other labels in one than in the other: are they the same?"
        )
    if path is not None:
        kinds = list(comparison.agreements)
        figure = new_figure(4.6 * len(kinds), 4.6)
        for number, kind in enumerate(kinds):
            ax = figure.add_subplot(1, len(kinds), number + 1)
            plot.agreement(comparison.agreements[kind], names=comparison.names, title=kind, ax=ax)
        say(f"figure: {plot.save(figure, path)}")


def show_verdicts(run: Run, predicted: Sequence[Verdict], measured: Sequence[Verdict] = ()) -> None:
    """Table of the verdicts, what the undetermined ones lack, and the regime map into the run folder."""
    from infl.report import plot
    from infl.report.tables import verdict_table
    from infl.report.text import concept_gap, others_sentence

    _print_table(verdict_table(predicted, measured, width=_width()))
    for word, verdicts in (("predicted", predicted), ("measured", measured)):
        for verdict in verdicts:
            for note in (verdict.note, verdict.concept_gap and concept_gap(verdict.concept_gap)):
                if note:
                    say(f"  {verdict.forget_set.name}, {word}: {note}")
    say(others_sentence([*predicted, *measured]))
    if any(verdict.source == "additive" for verdict in predicted):
        say("predicted by sums over single examples (additive), which miss what others that are alike cover")
    for source in sorted({verdict.source for verdict in predicted if " with " in verdict.source}):
        say(f"predicted by {source}")
    show_accuracy(run.accuracy())
    _name_diverged(run, run.collections())
    say(f"figure: {plot.save(plot.regime_map(predicted, measured), run.folder / 'figures' / 'regime_map.png')}")


def show_evaluations(run: Run, evaluations: Sequence[Evaluation], *, groups: bool = False, gamma: bool = False) -> None:
    """A table a set, what there is to say of its methods, and figures of their distances into the run folder."""
    from infl.report import plot
    from infl.report.evaluations import (
        evaluation_table,
        evaluations_by_set,
        gamma_curves,
        gamma_table,
        group_table,
        metric_tables,
    )

    curves = gamma_curves(evaluations) if gamma else {}
    for rows in evaluations_by_set(evaluations).values():
        _print_table(evaluation_table(rows, width=_width()))
        for full in (False, True) if groups else ():
            if not full or any(one.to_full_oracle is not None for one in rows):
                _print_table(group_table(rows, full=full))
        for table in metric_tables(rows) if any(one.metrics for one in rows) else ():
            _print_table(table)
        for one in rows:
            if one.n_diverged:
                say(f"  {one.method}: {one.n_diverged} of its models diverged, or are never right: counted as wrong")
            if one.note:
                say(f"  {one.method}: {one.note}")
        name = "".join(letter if letter.isalnum() else "_" for letter in rows[0].forget_set.name)[:80]
        say(f"figure: {plot.save(plot.distances(rows), run.folder / 'figures' / f'distances_{name}.png')}")
    for name, lines in curves.items():
        _print_table(gamma_table(name, lines))
    if curves:
        say(f"figure: {plot.save(plot.gamma_curve(evaluations), run.folder / 'figures' / 'gamma.png')}")


def show_run(run: Run) -> None:
    """What a run holds, what is missing, and which models diverged."""
    from infl.report.tables import run_table

    _print_table(run_table(run.to_dict()))
    show_accuracy(run.accuracy())
    _name_diverged(run, run.collections())


def show_plan(planned: Plan, asked: Mapping[str, Any]) -> None:
    """The answers of a plan as a table, question by question, and what it rests on."""
    rate = f"at a false discovery rate of {asked['false_discovery_rate']:g} over"
    sets = f"regimes of sets of {asked['set_size']}"
    titles = {
        "memorization": "standard error of memorization",
        "influence": f"influence found with power {asked['power']:g} {rate}\n"
        f"{planned.n_pairs:,} pairs (p-value up to {planned.p_cut:.2g})",
        "prediction": f"{sets}, predicted",
        "verification": f"{sets}, verified: models retrained without each; rough, from 32 such models",
    }
    answers = {question: [one for one in planned.answers if one.question == question] for question in titles}
    say(f"{'':48}{'value':>7}{'models':>11}{'time':>9}{'disk':>13}")
    for question, some in answers.items():
        if some:
            say(titles[question])
        for a in some:
            value = "-" if a.value is None else f"{a.value:.3f}"
            models = "-" if a.n_models is None else f"{a.n_models:,}"
            time = "-" if a.seconds is None else _duration(a.seconds)
            disk = "-" if a.n_bytes is None else f"{a.n_bytes / 1e6:,.1f} MB"
            say(f"  {a.basis:46}{value:>7}{models:>11}{time:>9}{disk:>13}")
    seconds = planned.prepare_seconds
    to_find = f", and {_duration(seconds)} to find groups" if seconds >= 0.5 else ""
    say(f"{planned.models_per_second:.1f} models/s, measured here just now; disk before compression")
    say(f"time and disk hold {planned.n_references:,} models of all of D beside those of subsets{to_find}")
    say(f"subsets hold {planned.fraction:.3g} of D on average; noise is that of {planned.n_pilot:,} pilot models")
    show_accuracy(planned.accuracy)
    if any(one.value is not None for one in answers["prediction"]):
        say("predictions: sets of 20 and more of n = 1,000 digits and 2,000 Fashion-MNIST images;")
        say("at n = 10,000 cross was off by 0.36 with 512 models")


def show_target(target: Target) -> None:
    """What training to a target came to."""
    models = f"{target.n_models:,} models"
    if target.met:
        say(f"reached {target.reached:.4f} with {models}: standard error of memorization, root mean square")
    else:
        reached = "examples without an error yet" if math.isnan(target.reached) else f"{target.reached:.4f}"
        needed = "" if target.n_needed is None else f"; about {target.n_needed:,} would"
        say(f"not reached {target.wanted:g}: {reached} with {models}{needed}")


def show_checkpoints(checkpoints: Sequence[Mapping[str, Any]]) -> None:
    """The batches in training of which a run keeps a state."""
    for one in checkpoints:
        models = " and ".join(f"{len(models)} models of {name}" for name, models in one["models"].items())
        say(f"checkpoint: {models} after {one['epochs']} epochs, {one['bytes'] / 1e6:,.1f} MB")
    if checkpoints:
        say("the command that trains them goes on from there, with --checkpoint-minutes")


def show_repair(trained: dict[str, list[int]]) -> None:
    """What was trained again."""
    for collection, models in trained.items():
        say(f"trained again: {len(models)} models of {collection}: {_some(models)}")
    if not trained:
        say("nothing is damaged")


def _scored_models(run: Run) -> str:
    """The models that scores rest on, and the others of random subsets, which they do not."""
    n_models, n_grouped = (run.outcomes(name).n_models for name in ("design", "grouped"))
    rest = f"; the {n_grouped:,} that leave out groups are for predictions" if n_grouped else ""
    return f"{n_models:,} models of random subsets{rest}"


def show_accuracy(found: Accuracy | None, name: str = "") -> None:
    """How often the models of a run are right; nothing where it has none."""
    from infl.report.text import accuracy_lines

    for line in accuracy_lines(found) if found else []:
        say(textwrap.fill(f"{name}: {line}" if name else line, min(_width(), 100)))


def _name_diverged(run: Run, collections: Sequence[str]) -> None:
    for collection in collections:
        ids = run.diverged(collection)
        if ids:
            say(f"diverged in training and left out: {len(ids)} models of {collection}: {_some(ids)}")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")


def _print_table(table: Any) -> None:
    from rich.console import Console

    Console(highlight=False, width=_width()).print(table)


def _width() -> int:
    """Columns of the terminal; 120 where the output is none."""
    from rich.console import Console

    console = Console()
    return console.width if console.is_terminal else 120

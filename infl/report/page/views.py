"""Turns records into what the page's template shows: cards, galleries of examples, and tables as HTML.

Names are given as they are, and the template escapes them; cells of tables are escaped here. A number in a table is a `data`
element with its full value, by which the page sorts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from infl.records import REGIMES, Dataset, Distance, Evaluation, Quantity, Verdict
from infl.report import tables, text
from infl.report.page.content import HarmedExample, ScoreContent, SetContent
from infl.report.page.pictures import Pictures

MAX_EXAMPLES_OF_A_SET = 12
IN_GALLERY = 24
EXCERPT = 240  # characters of a document


@dataclass(frozen=True)
class Example:
    """One example of the data: its picture's class, what it is called, lines below it, and of a document its beginning."""

    picture: str
    place: str
    label: str
    lines: tuple[str, ...] = ()
    text: str = ""


def card(one: SetContent, dataset: Dataset, pictures: Pictures, most: int) -> dict[str, Any]:
    """All about one forget set, with `most` pictures in each gallery; see the template for what it takes of it."""
    ids = one.best.forget_set.ids
    # Evenly spread over the set, so that the pictures are not all of its first examples.
    spread = np.unique(np.linspace(0, len(ids) - 1, min(most, len(ids))).astype(int))
    return {
        "name": one.best.forget_set.name,
        "size": len(ids),
        "regime": one.best.regime,
        "judged": [_judged(v, "measured" if v is one.measured else "predicted") for v in one.verdicts],
        "agreement": {"=": "agree", "x": "differ", "": ""}[one.agreement],
        "meaning": f"{text.meaning(one.best.regime, one.best.thresholds)}. {text.minus(text.found(one.best))}",
        "quantities": _quantities(one),
        "examples": [_example(dataset, ids[k], pictures) for k in spread.tolist()],
        "harmed": [_harmed(each, dataset, pictures) for each in one.harmed[:most]],
        "methods": _methods(one.evaluations) if one.evaluations else "",
    }


def set_table(sets: Sequence[SetContent]) -> Markup:
    """A line a set: what is predicted, what was measured, and the numbers of the better one."""
    frame = tables.verdict_frame([s.predicted for s in sets if s.predicted], [s.measured for s in sets if s.measured])
    best = frame.groupby("row").tail(1).set_index("row")
    cells = pd.DataFrame({"#": [_data(number, str(number)) for number in range(1, len(best) + 1)]}, index=best.index)
    links = (Markup('<a href="#set-{}"><bdi>{}</bdi></a>').format(k, name) for k, name in enumerate(best["set"], 1))
    cells["set"] = list(links)
    cells["size"] = [_data(size, f"{size:,}") for size in best["size"]]
    for kind in ("predicted", "measured"):
        regimes = frame[frame["kind"] == kind].set_index("row")["regime"].map(lambda r, k=kind: badge(r, k))
        cells[kind] = regimes.reindex(best.index, fill_value="–")
    cells["agree"] = [{"=": "yes", "x": "no", "": "–"}[agreement] for agreement in best["agreement"]]
    cells["prob."] = [_data(p, text.minus(text.number(p))) for p in best["p"]]
    thresholds = text.common_thresholds([v for s in sets for v in (s.predicted, s.measured) if v])
    for name in ("self", *tables.CROSS_COLUMNS[thresholds.cross]):
        cells[name] = _with_errors(best[f"{name}.value"], best[f"{name}.se"])
    cells["others"] = best["others"]
    return html_table(cells, "sets")


def memorized(scores: ScoreContent, dataset: Dataset, pictures: Pictures, n_top: int) -> tuple[list[Example], Markup]:
    """The most memorized examples, highest first: pictures, and a table of all."""
    estimate = scores.memorization
    ids = text.most_memorized(estimate, dataset, n_top)
    frame = tables.memorization_frame(estimate, dataset, ids, q=scores.q)
    said = [text.with_error(value, se) for value, se in zip(frame["value"], frame["se"], strict=True)]
    examples = [_example(dataset, i, pictures, text.minus(words)) for i, words in zip(ids.tolist(), said, strict=True)]
    shown = "text" if dataset.has_texts else ""
    cells = pd.DataFrame({shown: [picture(one) for one in examples], "id": [_data(i, str(i)) for i in ids]})
    cells["in source"] = [_data(i, str(i)) for i in dataset.train_ids[ids]]
    cells[dataset.class_words[0]] = [Markup("<bdi>{}</bdi>").format(one.label) for one in examples]
    cells["memorization"] = _with_errors(frame["value"], frame["se"])
    low, high = (end[ids].tolist() for end in scores.interval)
    cells["95%"] = [text.minus(text.interval(*ends)) for ends in zip(low, high, strict=True)]
    cells["q"] = [_data(q, text.minus(text.p_value(q))) for q in frame["q"]]
    for name, head in (("n_in", "models with it"), ("n_out", "without")):
        cells[head] = [_data(n, f"{n:,}") for n in frame[name]]
    return examples, html_table(cells, "memorized")


def pairs_table(scores: ScoreContent, dataset: Dataset, pictures: Pictures) -> Markup:
    """The strongest pairs in the order given."""
    frame = tables.pairs_frame(scores.pairs, scores.protocol, dataset)
    sources, targets = (
        [_named_picture(_example(dataset, column, pictures)) for column in frame[end].tolist()]
        for end in ("source", "target")
    )
    verbs = np.where(frame["value"] >= 0, "helps", "harms")
    effects = [Markup('<span class="verb {0}">{0} →</span>').format(verb) for verb in verbs]
    cells = pd.DataFrame({"trained on": sources, "effect": effects, "influenced": targets})
    cells["influence"] = _with_errors(frame["value"], frame["se"])
    cells["95%"] = [text.minus(text.interval(*ends)) for ends in scores.pair_intervals]
    cells["q"] = [_data(q, text.minus(text.p_value(q))) for q in frame["q"]]
    return html_table(cells, "pairs")


def certainty_facts(scores: ScoreContent, unit: str) -> list[tuple[str, str]]:
    """How sure one can be of the scores: (term, words) in order."""
    errors = scores.memorization.se[np.isfinite(scores.memorization.se)]
    facts = [("Models that scores rest on", f"{scores.n_models:,}, each trained on a random part of the data")]
    if len(errors):
        facts.append(("Standard error of memorization", f"{np.median(errors):.2g} at the median ({unit})"))
    if words := text.not_ranked(scores.memorization):
        facts.append(("Training examples", words))
    for smallest, what, tested in (
        (scores.smallest_memorization, "memorization", "examples"),
        (scores.smallest_influence, "influence", "pairs"),
    ):
        if smallest is not None:
            said, conditions = text.detectable_lines(smallest, what, tested)
            term, _, words = said.partition(": ")
            facts.append((term.capitalize(), f"{words} {conditions}"))
    return facts


def badge(regime: str, kind: str = "measured") -> Markup:
    """A regime with its marker, hollow where it is predicted."""
    return Markup('<span class="badge {0} {1}">{0}</span>').format(regime, kind)


def html_table(cells: pd.DataFrame, name: str) -> Markup:
    """Cells that are safe already as a table that the page's script can sort and filter."""
    return _html(cells, table_id=f"{name}-table", classes=["sortable"])


def _html(cells: pd.DataFrame, **attributes: Any) -> Markup:
    with pd.option_context("display.max_colwidth", None):
        html = cells.to_html(index=False, escape=False, border=0, **attributes)
    return Markup(html.replace(' style="text-align: right;"', "").replace("dataframe ", ""))


def _judged(verdict: Verdict, kind: str) -> dict[str, Any]:
    """One verdict in words; `chances` are (regime, text, probability), none where errors are unknown."""
    best, probability = text.likeliest(verdict)
    known = not math.isnan(probability)
    notes = [f"likeliest {best}"] if verdict.regime == "undetermined" and known else []
    notes += [note for note in (verdict.note, verdict.concept_gap and text.concept_gap(verdict.concept_gap)) if note]
    how = f"predictor {verdict.source}, from {text.count(verdict.n_models, 'model')}"
    if verdict.source == "retrained":
        how = f"retraining without it {text.count(verdict.n_models, 'time')}"
    chances = [(name, text.number(verdict.probability[name]), verdict.probability[name]) for name in REGIMES]
    return {
        "kind": kind,
        "badge": badge(verdict.regime, kind),
        "probability": text.number(probability),
        "source": how,
        "chances": chances if known else [],
        "notes": [text.minus(note) if note != "-" else note for note in notes],
    }


def _quantities(one: SetContent) -> Markup:
    """Self, cross, harm and gain with their intervals of 95%, the prediction beside the measurement."""
    meanings = {
        "self": ("self_influence", "accuracy lost on a forgotten example", (-1.0, 1.0)),
        "cross": ("cross_influence", "other examples lost per example forgotten, net", (-math.inf, math.inf)),
        "harm": ("harm", "the same, of those harmed alone", (0.0, math.inf)),
        "gain": ("gain", "the same, of those helped alone", (0.0, math.inf)),
    }
    names = [Markup('{}<span class="quiet">{}</span>').format(name, words) for name, (_, words, _) in meanings.items()]
    cells = pd.DataFrame({"per example forgotten": names})
    for kind in ("predicted", "measured"):
        if (verdict := getattr(one, kind)) is not None:
            values = [(getattr(verdict, attribute), bounds) for attribute, _, bounds in meanings.values()]
            cells[f"{kind}, 95%"] = [_with_interval(value, *bounds) for value, bounds in values]
    return _html(cells, classes=["quantities"])


def _with_interval(quantity: Quantity, lowest: float, highest: float) -> Markup:
    said, (low, high) = text.number(quantity.value), quantity.interval(low=lowest, high=highest)
    if math.isfinite(low):
        said += f" ({text.interval(low, high)})"
    return _data(quantity.value, text.minus(said))


def _harmed(each: HarmedExample, dataset: Dataset, pictures: Pictures) -> Example:
    known = {"measured": each.measured, "predicted": each.predicted}
    lines = [f"{text.minus(str(one))} {kind}" for kind, one in known.items() if one is not None]
    return _example(dataset, each.column, pictures, *lines)


def _example(dataset: Dataset, column: int, pictures: Pictures, *lines: str) -> Example:
    words = text.excerpt(dataset, column, EXCERPT) if dataset.has_texts else ""
    return Example(
        pictures.class_of(column), text.place_of(dataset, column), text.class_of(dataset, column), lines, words
    )


def picture(one: Example) -> Markup:
    """The picture of an example, or the beginning of a document, as an element."""
    if one.text:
        return Markup('<bdi class="text">{}</bdi>').format(one.text)
    if not one.picture:
        return Markup('<span class="picture none">no pixels</span>')
    mark = '<span class="picture {}" role="img" aria-label="{}, {}"></span>'
    return Markup(mark).format(one.picture, one.place, one.label)


def _named_picture(one: Example) -> Markup:
    mark = '<span class="one">{}<span><bdi>{}</bdi><span class="quiet">{}</span></span></span>'
    return Markup(mark).format(picture(one), one.label, one.place)


def _methods(evaluations: Sequence[Evaluation]) -> Markup:
    """A line an unlearning method: what it is, its distances, and what it did beside what retraining does."""
    cells = pd.DataFrame({"method": [Markup("<bdi>{}</bdi>").format(one.method) for one in evaluations]})
    cells["is"] = [one.verdict for one in evaluations]
    both: dict[str, list[Distance | None]] = {"to A(D\\S)": [one.to_oracle for one in evaluations]}
    both["to A(D\\S_full)"] = [one.to_full_oracle for one in evaluations]
    for name, distances in both.items():
        if any(distances):
            cells[name] = ["–" if one is None else _quantity(one.value) for one in distances]
    for name, field in {"self": "self_influence", "cross": "cross_influence", "harm": "harm"}.items():
        cells[name] = [_quantity(getattr(one.effect, field)) for one in evaluations]
    cells["regime"] = [badge(one.effect.regime) for one in evaluations]
    if any(one.settings_from for one in evaluations):
        cells["settings"] = [one.settings_from or "–" for one in evaluations]
    cells["models"] = [_data(one.to_oracle.n_models, f"{one.to_oracle.n_models:,}") for one in evaluations]
    return _html(cells)


def _quantity(one: Quantity) -> Markup:
    return _data(one.value, text.minus(str(one)))


def _with_errors(values: Any, errors: Any) -> list[Markup]:
    both = zip(np.asarray(values, float), np.asarray(errors, float), strict=True)
    return [_data(value, text.minus(text.with_error(value, se))) for value, se in both]


def _data(value: float, said: str) -> Markup:
    return Markup('<data value="{}">{}</data>').format("" if math.isnan(value) else repr(float(value)), escape(said))

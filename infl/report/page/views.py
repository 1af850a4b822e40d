"""Turns records into the words, numbers and pictures of the page, ready for its template.

Numbers come as text beside the number they are sorted by. Names are given as they are; the template escapes them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infl.records import REGIMES, Dataset, Detectable, Estimate, Quantity, Verdict
from infl.report.page.charts import NORMAL_95, IntervalChart, interval_charts
from infl.report.page.content import HarmedExample, PageContent, ScoreContent, SetContent
from infl.report.page.pictures import Pictures
from infl.report.text import Row, class_of, likeliest, most_memorized, place_of, with_error
from infl.report.text import interval as interval_text

MAX_EXAMPLES_OF_A_SET = 12
IN_GALLERY = 24
REGIME_WORDS = {
    "no-op": "Untraining this set changes nothing: the models generalize to it anyway.",
    "local": "Untraining this set loses it and nothing else.",
    "spreading": "Untraining this set loses it and harms other examples too.",
    "indirect": "Untraining this set leaves it predicted as before, but harms other examples.",
    "undetermined": "The evidence does not decide what untraining this set would do.",
}
_UNITS = {"correct": "probability", "margin": "log-odds"}
_DASH = "–"


@dataclass(frozen=True)
class Number:
    """A number as it is read, and as it is sorted; NaN sorts last."""

    text: str
    key: str

    @staticmethod
    def of(value: float, text: str | None = None) -> Number:
        """Of a value, by default with two decimals."""
        if math.isnan(value):
            return Number(_DASH, "")
        return Number(_minus(f"{value:z.2f}") if text is None else text, repr(float(value)))


@dataclass(frozen=True)
class Example:
    """One example of the data: its picture's class, what it is called, and a line below it."""

    picture: str
    place: str
    label: str
    caption: str = ""
    second: str = ""


@dataclass(frozen=True)
class Memorized:
    """A line of the table of memorized examples."""

    example: Example
    id: int
    in_source: int
    score: Number
    interval: str
    q: Number
    n_in: Number
    n_out: Number


@dataclass(frozen=True)
class Pair:
    """A line of the table of pairs; `verb` says whether the source helps or harms."""

    source: Example
    target: Example
    score: Number
    interval: str
    q: Number
    verb: str


@dataclass(frozen=True)
class Judged:
    """One verdict in words: `chances` are (regime, text, share) of the four regimes, empty where errors are unknown."""

    kind: str
    regime: str
    probability: Number
    source: str
    chances: tuple[tuple[str, str, float], ...]
    note: str
    gap: str


@dataclass(frozen=True)
class QuantityLine:
    """Self, cross, harm or gain of a set, predicted and measured, and its drawing."""

    name: str
    meaning: str
    predicted: str
    measured: str
    chart: IntervalChart


@dataclass(frozen=True)
class Card:
    """All about one forget set. agreement: agree, differ, or empty where there is nothing to compare."""

    number: int
    name: str
    size: int
    regime: str
    predicted: Judged | None
    measured: Judged | None
    agreement: str
    meaning: str
    summary: str
    columns: tuple[Number, ...]  # self, cross, harm, gain of the better verdict
    quantities: tuple[QuantityLine, ...]
    examples: tuple[Example, ...]
    harmed: tuple[Example, ...]


def run_facts(content: PageContent) -> list[tuple[str, str]]:
    """What was run: (term, words) in order."""
    about, data = content.description, content.dataset
    facts = [
        ("Data", f"{data.name}{_source_of(data)}"),
        ("Examples", f"{data.n_train:,} to train on, {data.n_held_out:,} held out, {data.n_classes:,} classes"),
    ]
    if "imported" in about:
        facts.append(("Models", f"made elsewhere, imported from {about['imported']}"))
    if "algorithm" in about:
        facts.append(("Network", _listed(about["algorithm"].get("network", {}))))
        facts.append(("Training", _settings({k: v for k, v in about["algorithm"].items() if k != "network"})))
    if "imported" not in about and "design" in about:
        facts.append(("Subsets", _design_in_words(about["design"])))
    collections = about.get("collections", {})
    facts += [("Models trained", words) for words in [_models_in_words(collections)] if words]
    seconds = sum(one["seconds"] for one in collections.values())
    if seconds:
        facts.append(("Seconds of training", f"{seconds:,.0f} on {_devices(about.get('devices', []))}"))
    diverged = sum(len(one["diverged"]) for one in collections.values())
    if diverged:
        facts.append(("Diverged", f"{diverged:,} models did not stay finite and are left out"))
    if "seed" in about:
        facts.append(("Seed", str(about["seed"])))
    dates = [session["date"][:10] for session in about.get("sessions", []) if "date" in session]
    if dates:
        facts.append(("Trained on", dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"))
    if "infl" in about:
        versions = [f"{name} {version}" for name, version in about.get("versions", {}).items()]
        facts.append(("Software", ", ".join([f"infl {about['infl']}", *versions])))
    facts.append(("Fingerprint of the data", str(about["dataset"]["fingerprint"])[:16]))
    return facts


def certainty_facts(scores: ScoreContent) -> list[tuple[str, str]]:
    """How sure one can be of the scores: (term, words) in order."""
    errors = scores.memorization.se[np.isfinite(scores.memorization.se)]
    unit = _UNITS[scores.memorization.outcome]
    facts = [("Models that scores rest on", f"{scores.n_models:,}, each trained on a random part of the data")]
    if len(errors):
        facts.append(("Standard error of memorization", f"{np.median(errors):.2g} at the median ({unit})"))
    missing = int(np.isnan(scores.memorization.value).sum())
    if missing:
        facts.append(("Without an estimate", f"{missing:,} training examples"))
    for name, smallest, tested in (
        ("Memorization that can be found", scores.smallest_memorization, "examples"),
        ("Influence that can be found", scores.smallest_influence, "pairs"),
    ):
        if smallest is not None:
            facts.append((name, _detectable_in_words(smallest, tested)))
    return facts


def headline(content: PageContent) -> list[tuple[str, str]]:
    """The figures at the top: (number, what it counts)."""
    data, scores = content.dataset, content.scores
    figures = [(f"{data.n_train:,}", "training examples")]
    if scores is not None:
        figures.append((f"{scores.n_models:,}", "models scores rest on"))
        if scores.memorization.outcome == "correct":
            found = int(((scores.memorization.value >= 0.25) & (scores.q <= 0.05)).sum())
            figures.append((f"{found:,}", "memorized: 0.25 or more, q ≤ 0.05"))
    counts = {regime: sum(one.best.regime == regime for one in content.sets) for regime in (*REGIMES, "undetermined")}
    figures += [(f"{count:,}", f"{regime} {_plural(count, 'set')}") for regime, count in counts.items() if count]
    return figures


def memorized_rows(scores: ScoreContent, dataset: Dataset, pictures: Pictures, *, n_top: int) -> list[Memorized]:
    """The most memorized examples, highest first."""
    estimate = scores.memorization
    n_in, n_out = (np.broadcast_to(n, estimate.value.shape) for n in (estimate.n_in, estimate.n_out))
    return [
        Memorized(
            example=_example(dataset, i, pictures, _with_error(estimate, i)),
            id=i,
            in_source=int(dataset.train_ids[i]),
            score=Number.of(float(estimate.value[i]), _with_error(estimate, i)),
            interval=_interval(float(scores.interval[0][i]), float(scores.interval[1][i])),
            q=_q(float(scores.q[i])),
            n_in=Number.of(float(n_in[i]), f"{int(n_in[i]):,}"),
            n_out=Number.of(float(n_out[i]), f"{int(n_out[i]):,}"),
        )
        for i in most_memorized(estimate, dataset, n_top).tolist()
    ]


def pair_rows(scores: ScoreContent, dataset: Dataset, pictures: Pictures) -> list[Pair]:
    """The strongest pairs in the order given."""
    return [
        Pair(
            source=_example(dataset, pair.source, pictures),
            target=_example(dataset, pair.target, pictures),
            score=Number.of(pair.value, _minus(with_error(pair.value, pair.se))),
            interval=_interval(*interval),
            q=_q(pair.q),
            verb="helps" if pair.value >= 0 else "harms",
        )
        for pair, interval in zip(scores.pairs, scores.pair_intervals, strict=True)
    ]


def cards(sets: Sequence[SetContent], dataset: Dataset, pictures: Pictures) -> list[Card]:
    """One card a forget set, with as many pictures each as the page can hold."""
    most = pictures.affordable(2 * len(sets), most=MAX_EXAMPLES_OF_A_SET)
    return [_card(number, one, dataset, pictures, most) for number, one in enumerate(sets, start=1)]


def _card(number: int, one: SetContent, dataset: Dataset, pictures: Pictures, most: int) -> Card:
    best, forget_set = one.best, one.best.forget_set
    agreement = {"=": "agree", "x": "differ", "": ""}[Row(one.predicted, one.measured).agreement]
    quantities = (best.self_influence, best.cross_influence, best.harm, best.gain)
    # Evenly spread over the set, so that the pictures are not all of its first examples.
    spread = np.unique(np.linspace(0, len(forget_set) - 1, min(most, len(forget_set))).astype(int))
    return Card(
        number=number,
        name=forget_set.name,
        size=len(forget_set),
        regime=best.regime,
        predicted=None if one.predicted is None else _judged(one.predicted, "predicted"),
        measured=None if one.measured is None else _judged(one.measured, "measured"),
        agreement=agreement,
        meaning=REGIME_WORDS[best.regime],
        summary=f"{best.regime}, self {_quantity(best.self_influence)}, cross {_quantity(best.cross_influence)}",
        columns=tuple(Number.of(q.value, _quantity(q)) for q in quantities),
        quantities=_quantity_lines(one),
        examples=tuple(_example(dataset, forget_set.ids[k], pictures) for k in spread.tolist()),
        harmed=tuple(_harmed(each, dataset, pictures) for each in one.harmed[:most]),
    )


def _judged(verdict: Verdict, kind: str) -> Judged:
    best, probability = likeliest(verdict)
    known = not math.isnan(probability)
    chances = tuple((name, f"{verdict.probability[name]:.2f}", verdict.probability[name]) for name in REGIMES)
    note = verdict.note
    if verdict.regime == "undetermined" and known:
        note = f"likeliest {best}" + (f"; {note}" if note else "")
    how = f"retraining without it {verdict.n_models:,} times" if verdict.source == "retrained" else None
    return Judged(
        kind=kind,
        regime=verdict.regime,
        probability=Number.of(probability),
        source=how or f"predictor {verdict.source}, from {verdict.n_models:,} models",
        chances=chances if known else (),
        note=note,
        gap=_gap_in_words(verdict),
    )


def _gap_in_words(verdict: Verdict) -> str:
    gap = verdict.concept_gap
    if gap is None:
        return ""
    if not gap.n_held_out:
        return f"Unlearning all {gap.n_full:,} examples of its concept takes nothing from held-out examples."
    return (
        f"It takes {gap.part:.2f} from the {gap.n_held_out:,} held-out examples of its concept; all {gap.n_full:,} examples "
        f"would take {gap.whole:.2f}: a gap of {_quantity(gap.value)}."
    )


def _quantity_lines(one: SetContent) -> tuple[QuantityLine, ...]:
    thresholds = one.best.thresholds
    by_harm = thresholds.cross == "harm"
    meanings = (
        ("self", "self_influence", "probability that a forgotten example is lost", thresholds.self_influence),
        (
            "cross",
            "cross_influence",
            "other examples lost per example forgotten, net",
            None if by_harm else thresholds.cross_influence,
        ),
        ("harm", "harm", "the same, of those hurt alone", thresholds.cross_influence if by_harm else None),
        ("gain", "gain", "the same, of those helped alone", None),
    )
    rows = []
    for _, attribute, _, threshold in meanings:
        both = [None if verdict is None else getattr(verdict, attribute) for verdict in (one.predicted, one.measured)]
        rows.append((both[0], both[1], threshold))
    charts = [*interval_charts(rows[:1]), *interval_charts(rows[1:])]  # a probability, and numbers of examples
    return tuple(
        QuantityLine(name, meaning, _with_interval(predicted), _with_interval(measured), chart)
        for (name, _, meaning, _), (predicted, measured, _), chart in zip(meanings, rows, charts, strict=True)
    )


def _harmed(each: HarmedExample, dataset: Dataset, pictures: Pictures) -> Example:
    lines = [
        f"{_quantity(quantity)} {kind}"
        for kind, quantity in (("measured", each.measured), ("predicted", each.predicted))
        if quantity is not None
    ]
    return _example(dataset, each.column, pictures, *lines)


def _example(dataset: Dataset, column: int, pictures: Pictures, caption: str = "", second: str = "") -> Example:
    return Example(pictures.class_of(column), place_of(dataset, column), class_of(dataset, column), caption, second)


def _with_error(estimate: Estimate, i: int) -> str:
    return _minus(with_error(float(estimate.value[i]), float(estimate.se[i])))


def _quantity(quantity: Quantity) -> str:
    return _minus(with_error(quantity.value, quantity.se))


def _with_interval(quantity: Quantity | None) -> str:
    if quantity is None or math.isnan(quantity.value):
        return _DASH
    if math.isnan(quantity.se):
        return Number.of(quantity.value).text
    reach = NORMAL_95 * quantity.se
    return f"{Number.of(quantity.value).text} ({_interval(quantity.value - reach, quantity.value + reach)})"


def _interval(low: float, high: float) -> str:
    return _minus(interval_text(low, high))


def _q(value: float) -> Number:
    return Number.of(value, None if math.isnan(value) else f"{value:.2g}" if value >= 1e-12 else "<1e−12")


def _minus(text: str) -> str:
    return text.replace("-", "−") if text != "-" else _DASH


def _source_of(data: Dataset) -> str:
    return f" (from {data.source})" if data.source and data.source != data.name else ""


def _listed(entries: Mapping[str, Any]) -> str:
    return " ".join(" ".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in entries.values())


def _settings(entries: Mapping[str, Any]) -> str:
    words = []
    for name, value in entries.items():
        shown = _settings(value) if isinstance(value, Mapping) else value
        words.append(f"{name.replace('_', ' ')} {shown}")
    return ", ".join(words)


def _design_in_words(design: Mapping[str, Any]) -> str:
    fraction = design["fraction"]
    share = " to ".join(f"{f:g}" for f in fraction) if isinstance(fraction, list | tuple) else f"{fraction:g}"
    words = f"{design['kind']}, each {share} of the training examples"
    if design.get("kind") == "grouped":
        words += f"; {design.get('grouped_share', 0.5):.0%} of the models go without whole groups"
    return words


def _models_in_words(collections: Mapping[str, Mapping[str, Any]]) -> str:
    kinds = {"design": "of random subsets", "grouped": "without groups of examples", "full": "of all the data"}
    counts: dict[str, int] = {}
    n_without = 0
    for name, one in collections.items():
        kind = "covering given sets" if name.startswith("cover-") else kinds.get(name, "")
        if name.startswith("without-"):
            kind, n_without = "retrained without a forget set", n_without + 1
        counts[kind] = counts.get(kind, 0) + one["complete"]
    order = ["of random subsets", "without groups of examples", "covering given sets", "of all the data"]
    words = [f"{counts[kind]:,} {kind}" for kind in order if counts.get(kind)]
    if n_without:
        words.append(
            f"{counts['retrained without a forget set']:,} without one of {n_without:,} forget {_plural(n_without, 'set')}"
        )
    return ", ".join(words)


def _devices(devices: Sequence[str]) -> str:
    named = [" ".join(dict.fromkeys(device.split(":"))) for device in devices]  # cpu:cpu is a cpu
    kinds = {device: named.count(device) for device in named}
    return ", ".join(f"{count} × {device}" for device, count in kinds.items()) or "an unknown device"


def _detectable_in_words(smallest: Detectable, tested: str) -> str:
    conditions = (
        f"with power {smallest.power:g} at a false discovery rate of {smallest.false_discovery_rate:g} "
        f"over {smallest.n_tests:,} {tested}"
    )
    if math.isnan(smallest.typical):
        return f"none, there are too few models ({conditions})"
    worst = "" if math.isnan(smallest.worst) else f", {smallest.worst:.2f} at worst"
    return f"{smallest.typical:.2f} or more at median noise{worst}, {conditions}"


def _plural(count: int, word: str) -> str:
    return word if count == 1 else f"{word}s"


def thresholds_in_words(sets: Sequence[SetContent]) -> str:
    """By which thresholds the sets were judged; empty where there are none."""
    if not sets:
        return ""
    t = sets[0].best.thresholds
    return (
        f"High means self at least {t.self_influence:g} and {'harm' if t.cross == 'harm' else 'cross'} at least "
        f"{t.cross_influence:g}; an example counts as harmed or helped from an effect of {t.effect:g} on; a regime is named "
        f"from a probability of {t.probability:g} on. The thresholds are infl's own choice."
    )

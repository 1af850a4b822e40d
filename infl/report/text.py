"""The one place where numbers become words: values with errors, counts, names of examples, verdicts and runs in sentences.

`-` stands for what is unknown. Predicted and measured verdicts of one set are brought together here too, as every figure and
table shows them.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infl.records import (
    MAX_MARGIN,
    REGIMES,
    UNITS,
    Accuracy,
    Array,
    ConceptGap,
    Dataset,
    Detectable,
    Estimate,
    InputError,
    OutcomeKind,
    Quantity,
    ScoredPair,
    Thresholds,
    Verdict,
)

MEMORIZED_FROM = 0.25  # Feldman & Zhang (2020)
_MEANINGS = {
    "no-op": "the set is predicted as before, and others lose less than the threshold{net}",
    "local": "the set is lost, and others lose less than the threshold{net}",
    "spreading": "the set is lost, and others lose as much as the threshold or more{net}",
    "indirect": "the set is predicted as before, but others lose as much as the threshold or more{net}",
    "undetermined": "the evidence does not decide",
}
OTHERS: dict[str, str] = {
    "harm only": "others are harmed and do not gain",
    "balanced": "some others are harmed and others gain",
    "others gain": "others gain more than they lose",
    "unharmed": "others are neither harmed nor helped as much as the threshold",
    "unclear": "how much others are harmed or helped is not clear yet",
}


def with_error(value: float, se: float) -> str:
    """As `Quantity` prints itself."""
    return str(Quantity(value, se))


def meaning(regime: str, thresholds: Thresholds) -> str:
    """What a regime says, and no more, as a clause."""
    return _MEANINGS[regime].format(net="" if thresholds.cross == "harm" else ", net of what they gain")


def found(verdict: Verdict) -> str:
    """What was found beside the regime, as a sentence: what others lose and gain, with errors."""
    harm, gain, net = verdict.harm, verdict.gain, verdict.cross_influence
    said = OTHERS[verdict.others]
    return f"{said[0].upper()}{said[1:]}: per example forgotten they lose {harm}, gain {gain}, net {net}"


def number(value: float) -> str:
    """Two decimals; `-` in place of NaN."""
    return "-" if math.isnan(value) else f"{value:z.2f}"


def p_value(value: float) -> str:
    """Two digits of a p- or q-value, `<1e-12` below that; `-` in place of NaN."""
    return "-" if math.isnan(value) else f"{value:.2g}" if value >= 1e-12 else "<1e-12"


def interval(low: float, high: float) -> str:
    """`0.12 to 0.18`; up to four digits where both ends would read the same; `-` where one is NaN."""
    if math.isnan(low) or math.isnan(high):
        return "-"
    texts = [f"{low:z.{digits}f} to {high:z.{digits}f}" for digits in (2, 3, 4)]
    return next((text for text in texts if len(set(text.split(" to "))) == 2), texts[0] if low == high else texts[-1])


def count(n: int, unit: str) -> str:
    """`1 set`, `1,200 sets`."""
    return f"{n:,} {unit}" + ("" if n == 1 else "s")


def minus(text: str) -> str:
    """With the minus sign of print in place of the hyphen, and a dash for what is unknown."""
    return "–" if text == "-" else text.replace("-", "−")


def shorten(name: str, max_length: int) -> str:
    """A name of at most so many characters, cut in the middle where it is longer: its ends tell names apart."""
    if len(name) <= max_length:
        return name
    head = (max_length - 1) // 2
    return f"{name[:head].rstrip()}…{name[len(name) - (max_length - 1 - head) :].lstrip()}"


def class_name(dataset: Dataset, label: int) -> str:
    """The name of a class or a group; names of one or two characters as `label 5`."""
    name = dataset.class_names[label]
    return f"{dataset.class_words[0]} {name}" if len(name) <= 2 else name


def class_of(dataset: Dataset, column: int) -> str:
    """The name of the class of one column."""
    n = dataset.n_train
    return class_name(dataset, int(dataset.y_train[column] if column < n else dataset.y_held_out[column - n]))


def place_of(dataset: Dataset, column: int) -> str:
    """`training #412` or `held-out #1042`: column ids, so held-out ones start at n."""
    return f"{'training' if column < dataset.n_train else 'held-out'} #{column}"


def excerpt(dataset: Dataset, column: int, max_length: int = 1000) -> str:
    """The beginning of a document, or the question of a fact, in one line that can be printed."""
    one_line = " ".join(dataset.text(column).split())
    cut = one_line if len(one_line) <= max_length else one_line[: max_length - 1].rstrip() + "…"
    return "".join(character if character.isprintable() else "\ufffd" for character in cut)


def unit(dataset: Dataset, outcome: OutcomeKind) -> str:
    """What scores by an outcome are in."""
    return "accuracy by tokens" if dataset.is_documents and outcome == "correct" else UNITS[outcome]


def example_of(dataset: Dataset, column: int) -> Array:
    """The pixels or features of one column, without joining D and H."""
    n = dataset.n_train
    return dataset.x_train[column] if column < n else dataset.x_held_out[column - n]


def check_pairs(pairs: Sequence[ScoredPair], dataset: Dataset) -> None:
    """Raise `InputError` where a pair names an example that the dataset does not hold."""
    for pair in pairs:
        if not (0 <= pair.source < dataset.n_train and 0 <= pair.target < dataset.n_columns):
            raise InputError(
                f"pairs: expected a training id below {dataset.n_train} and a column below {dataset.n_columns}, got "
                f"{pair.source} -> {pair.target}; pass the dataset the influence was estimated on"
            )


def most_memorized(memorization: Estimate, dataset: Dataset, n_examples: int) -> Array:
    """Ids of the training examples with the highest scores, highest first; none without an error.

    Raises:
        InputError: where the scores are not one per training example.
    """
    n = dataset.n_train
    if memorization.value.shape != (n,):
        raise InputError(
            f"memorization: expected one score per training example, [{n}], got {memorization.value.shape}; "
            f"pass the dataset the models were trained on"
        )
    order = np.argsort(-memorization.rankable, kind="stable")  # NaN comes last
    return order[~np.isnan(memorization.rankable[order])][:n_examples]


def not_ranked(estimate: Estimate) -> str:
    """How many scores are in no ranking, and why; empty where all are."""
    n_missing = int(np.isnan(estimate.rankable).sum())
    return f"{n_missing:,} not ranked: fewer than two models with or without them, so no error" if n_missing else ""


@dataclass(frozen=True)
class Row:
    """What is known of one forget set: a prediction, a measurement, or both."""

    predicted: Verdict | None
    measured: Verdict | None

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Those that exist, predicted first."""
        return tuple(verdict for verdict in (self.predicted, self.measured) if verdict is not None)

    @property
    def agreement(self) -> str:
        """`=` same regime, `x` another one, empty where there is nothing to compare or one is undetermined."""
        regimes = [verdict.regime for verdict in self.verdicts]
        if len(regimes) < 2 or "undetermined" in regimes:
            return ""
        return "=" if regimes[0] == regimes[1] else "x"


def pair_verdicts(predicted: Sequence[Verdict], measured: Sequence[Verdict]) -> list[Row]:
    """One row per forget set, matched by name and ids; in the order predicted, then those only measured.

    Raises:
        InputError: where one side holds the same forget set twice.
    """
    sides = by_forget_set("predicted", predicted), by_forget_set("measured", measured)
    return [Row(sides[0].get(key), sides[1].get(key)) for key in sides[0] | sides[1]]


def by_forget_set(name: str, records: Sequence[Any]) -> dict[tuple[str, tuple[int, ...]], Any]:
    """Verdicts or effects by the name and the ids of their forget sets.

    Raises:
        InputError: where one comes twice.
    """
    keyed = {(one.forget_set.name, one.forget_set.ids): one for one in records}
    if len(keyed) < len(records):
        names = Counter((one.forget_set.name, one.forget_set.ids) for one in records)
        twice = names.most_common(1)[0][0][0]
        raise InputError(f"{name}: expected each forget set once, got {twice!r} twice; keep one of them")
    return keyed


def common_thresholds(verdicts: Sequence[Verdict]) -> Thresholds:
    """The thresholds all of them were judged by; the default ones where there are no verdicts.

    Raises:
        InputError: where they were judged by different ones, and so cannot share a figure or a table.
    """
    distinct = list(dict.fromkeys(verdict.thresholds for verdict in verdicts)) or [Thresholds()]
    if len(distinct) > 1:
        lines = "; ".join(map(thresholds_line, distinct))
        raise InputError(f"verdicts: expected one set of thresholds, got {lines}; judge all sets by the same ones")
    return distinct[0]


def judged_cross(verdict: Verdict) -> Quantity:
    """What the cross threshold was compared with: net cross-influence, or harm where harm decides."""
    return verdict.harm if verdict.thresholds.cross == "harm" else verdict.cross_influence


def likeliest(verdict: Verdict) -> tuple[str, float]:
    """The likeliest of the four regimes and its probability; NaN where the errors are unknown."""
    known = [(verdict.probability.get(regime, math.nan), regime) for regime in REGIMES]
    if any(math.isnan(probability) for probability, _ in known):
        return verdict.regime, math.nan
    probability, best = max(known, key=lambda one: one[0])
    return best, probability


def thresholds_line(thresholds: Thresholds) -> str:
    """`thresholds: self 0.1, cross 0.1 (harm), effect 0.1, probability 0.8`."""
    return (
        f"thresholds: self {thresholds.self_influence:g}, "
        f"cross {thresholds.cross_influence:g} ({thresholds.cross}), "
        f"effect {thresholds.effect:g}, probability {thresholds.probability:g}"
    )


def concept_gap(gap: ConceptGap) -> str:
    """What unlearning the whole concept would take from held-out examples, as a sentence without capital and full stop."""
    if not gap.n_held_out:
        return f"unlearning all {gap.n_full:,} examples of its concept takes nothing from held-out examples"
    return (
        f"takes {gap.part:z.2f} from the {gap.n_held_out:,} held-out examples of its concept, all {gap.n_full:,} would "
        f"take {gap.whole:z.2f}: a gap of {gap.value}"
    )


def detectable_lines(smallest: Detectable, what: str, tested: str) -> tuple[str, str]:
    """The smallest effect that the models at hand find, and under which conditions."""
    rate = f"false discovery rate {smallest.false_discovery_rate:g} over {smallest.n_tests:,} {tested}"
    size = "none, too few models"
    if not math.isnan(smallest.typical):
        worst = "none" if math.isnan(smallest.worst) else f"{smallest.worst:.2f}"
        at_worst = "" if smallest.outcome in ("margin", "logprob") else f", at worst {worst}"
        size = f"{smallest.typical:.2f} at median noise{at_worst}"
    return f"smallest {what} detectable: {size}", f"(power {smallest.power:g}, {rate})"


def answer(verdicts: Sequence[Verdict]) -> tuple[str, list[tuple[str, str]], str]:
    """What untraining the sets does: how many there are, a sentence a regime that occurs, and how sure that is."""
    if not verdicts:
        return "No forget set was predicted or measured yet.", [], ""
    n_measured = sum(verdict.source == "retrained" for verdict in verdicts)
    how = "measured by retraining without them" if n_measured == len(verdicts) else "predicted"
    if 0 < n_measured < len(verdicts):
        how = f"{n_measured:,} measured by retraining without them, the others predicted"
    numbers, thresholds = Counter(verdict.regime for verdict in verdicts), common_thresholds(verdicts)
    regimes = [
        (regime, f"{count(numbers[regime], 'set')}: {meaning(regime, thresholds)}.")
        for regime in _MEANINGS
        if numbers[regime]
    ]
    known = [p for p in (likeliest(v)[1] for v in verdicts if v.regime != "undetermined") if not math.isnan(p)]
    ends = dict.fromkeys(f"{p:.2f}" for p in (min(known), max(known))) if known else ()
    sure = f"Regimes are named with probability {' to '.join(ends)}." if known else ""
    return f"{count(len(verdicts), 'forget set')}, {how}.", regimes, sure


def others_sentence(verdicts: Sequence[Verdict]) -> str:
    """Which examples cross, harm and gain are sums over, without capital and full stop."""
    if any(verdict.held_out_only for verdict in verdicts):
        return "harm, gain and cross are read on held-out documents alone; for documents the thresholds are provisional"
    return "harm, gain and cross are read on held-out examples, and on retained ones by models that trained on them"


def thresholds_sentence(thresholds: Thresholds) -> str:
    """What high means, and from when on a regime is named."""
    cross = "harm" if thresholds.cross == "harm" else "cross"
    return (
        f"Self, the accuracy lost on a forgotten example, is high from {thresholds.self_influence:g} on; {cross}, "
        f"other examples {'harmed' if cross == 'harm' else 'lost, net,'} per example forgotten, from "
        f"{thresholds.cross_influence:g} on. An example counts as harmed or helped from an effect of {thresholds.effect:g} on, "
        f"and a regime is named from a probability of {thresholds.probability:g} on. The thresholds are infl's own choice."
    )


def accuracy_lines(found: Accuracy) -> list[str]:
    """How often models are right beside the largest class; a warning for models that guess or whose margins are clipped."""
    on_d, on_h = found.largest_class
    largest = "" if math.isnan(on_d) else f"; the largest class is {number(on_d)} and {number(on_h)} of them"
    on_trained = f"{found.trained} on what they trained on, "
    if math.isnan(on_d) and not math.isnan(on_h):  # outcomes of held-out examples alone
        on_trained, largest = "", f"; the largest class is {number(on_h)} of them"
    lines = [
        f"accuracy of {count(found.n_models, 'model')}: {on_trained}{found.held_out} on held-out examples{largest}"
    ]
    if not found.learned:
        lines.append(
            "warning: these models guess. Naming the largest class is right as often, so their scores and regimes say nothing "
            "of models that learn. Standardize the pixels (--standardize), change --learning-rate, or train for more --epochs"
        )
    if found.clipped:
        remedy = "Lower" if math.isnan(on_d) else "Standardize the pixels or lower"
        lines.append(
            f"warning: {found.clipped:.1%} of their margins lie at the bound of what is stored, {MAX_MARGIN:,.0f}: errors and "
            f"predictions that rest on margins are too small there. {remedy} --learning-rate"
        )
    return lines


def run_facts(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the models of a run were made, from `Run.to_dict()`: (term, words) in order. No path is among them."""
    data = about["dataset"]
    facts: list[tuple[str, str]] = []
    if "imported" in about:
        facts.append(("Outcomes", f"{' and '.join(about.get('outcomes', []))} of models made elsewhere"))
    if "algorithm" in about:
        settings = dict(about["algorithm"])
        facts += [("Network", _listed(settings.pop("network", {}))), ("Training", _settings(settings))]
    if "design" in about and "imported" not in about:
        fraction = about["design"]["fraction"]
        ends = " to ".join(f"{f:g}" for f in (fraction if isinstance(fraction, list | tuple) else [fraction]))
        facts.append(("Subsets", f"{about['design']['kind']}, each {ends} of the training examples"))
    collections = about.get("collections", {})
    facts += [(f"Models {title}", f"{one['complete']:,}") for title, one in merged_collections(collections).items()]
    seconds = sum(one["seconds"] for one in collections.values())
    if seconds:
        facts.append(("Seconds of training", f"{seconds:,.0f} on {_devices(about.get('devices', []))}"))
    n_diverged = sum(len(one["diverged"]) for one in collections.values())
    if n_diverged:
        facts.append(("Diverged", f"{count(n_diverged, 'model')} did not stay finite and are left out"))
    if "seed" in about:
        facts.append(("Seed", str(about["seed"])))
    dates = [session["date"][:10] for session in about.get("sessions", []) if "date" in session]
    if dates:
        facts.append(("Trained on", " to ".join(dict.fromkeys([dates[0], dates[-1]]))))
    if "infl" in about:
        versions = [f"{name} {version}" for name, version in about.get("versions", {}).items()]
        facts.append(("Software", ", ".join([f"infl {about['infl']}", *versions])))
    return [*facts, ("Fingerprint of the data", str(data["fingerprint"])[:12])]


def merged_collections(collections: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Counts of the collections of a run under words for what they hold; all those without one forget set together."""
    n_sets, n_unlearned = (sum(name.startswith(kind) for name in collections) for kind in ("without-", "unlearned-"))
    titles = {"design": "of random subsets", "grouped": "leaving out groups", "full": "of all of D"}
    merged: dict[str, dict[str, Any]] = {}
    for name, one in collections.items():
        title = titles.get(name, name)
        if name.startswith("cover-"):
            title = f"covering sets {name.removeprefix('cover-')[:6]}"
        if name.startswith("without-"):
            title = f"of D without one of {count(n_sets, 'forget set')}"
        if name.startswith("unlearned-"):
            title = f"unlearned, by method and forget set: {n_unlearned}"
        known = merged.setdefault(title, {"complete": 0, "missing": 0, "diverged": [], "seconds": 0.0})
        for key in known:
            known[key] += one[key]
    return merged


def _listed(entries: Mapping[str, Any]) -> str:
    return " ".join(" ".join(map(str, v)) if isinstance(v, list | tuple) else str(v) for v in entries.values())


def _settings(entries: Mapping[str, Any]) -> str:
    words = ((name, _settings(value) if isinstance(value, Mapping) else value) for name, value in entries.items())
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in words)


def _devices(devices: Sequence[str]) -> str:
    named = [" ".join(dict.fromkeys(device.split(":"))) for device in devices]  # cpu:cpu is a cpu
    return ", ".join(f"{named.count(device)} × {device}" for device in dict.fromkeys(named)) or "an unknown device"

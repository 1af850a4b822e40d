"""Predicted and measured verdicts of the same forget sets brought together, and the words every report shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infl.records import REGIMES, Array, Dataset, Estimate, InputError, Quantity, ScoredPair, Thresholds, Verdict

UNITS = {"correct": "probability", "margin": "log-odds"}
MEMORIZED_FROM = 0.25  # Feldman & Zhang (2020)


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
    rows: dict[tuple[str, tuple[int, ...]], Row] = {}
    for verdict in predicted:
        key = _key(verdict)
        if key in rows:
            raise InputError(f"predicted: expected each forget set once, got {key[0]!r} twice; keep one of them")
        rows[key] = Row(verdict, None)
    for verdict in measured:
        key = _key(verdict)
        known = rows.get(key, Row(None, None))
        if known.measured is not None:
            raise InputError(f"measured: expected each forget set once, got {key[0]!r} twice; keep one of them")
        rows[key] = Row(known.predicted, verdict)
    return list(rows.values())


def common_thresholds(verdicts: Sequence[Verdict]) -> Thresholds:
    """The thresholds all of them were judged by; the default ones where there are no verdicts.

    Raises:
        InputError: where they were judged by different ones, and so cannot share a figure or a table.
    """
    distinct = list(dict.fromkeys(verdict.thresholds for verdict in verdicts))
    if len(distinct) > 1:
        lines = "; ".join(thresholds_line(thresholds) for thresholds in distinct)
        raise InputError(f"verdicts: expected one set of thresholds, got {lines}; judge all sets by the same ones")
    return distinct[0] if distinct else Thresholds()


def thresholds_line(thresholds: Thresholds) -> str:
    """`thresholds: self 0.1, cross 0.1 (net), effect 0.1, probability 0.8`."""
    return (
        f"thresholds: self {thresholds.self_influence:g}, "
        f"cross {thresholds.cross_influence:g} ({thresholds.cross}), "
        f"effect {thresholds.effect:g}, probability {thresholds.probability:g}"
    )


def judged_cross(verdict: Verdict) -> Quantity:
    """What the cross threshold was held against: net cross-influence, or harm where harm decides."""
    return verdict.harm if verdict.thresholds.cross == "harm" else verdict.cross_influence


def likeliest(verdict: Verdict) -> tuple[str, float]:
    """The likeliest of the four regimes and its probability; NaN where the errors are unknown."""
    known = {regime: verdict.probability.get(regime, math.nan) for regime in REGIMES}
    if any(math.isnan(probability) for probability in known.values()):
        return verdict.regime, math.nan
    best = max(known, key=lambda regime: known[regime])
    return best, known[best]


def with_error(value: float, se: float) -> str:
    """`0.12 ± 0.03`; a third digit where the error would read 0.00, `<0.001` where that is too few; `-` in place of NaN."""
    if math.isnan(value):
        return "-"
    digits = 3 if 0 < se < 0.005 else 2
    error = "-" if math.isnan(se) else "<0.001" if 0 < se < 0.0005 else f"{se:.{digits}f}"
    return f"{value:z.{digits}f} ± {error}"


def count(number: int, unit: str) -> str:
    """`1 set`, `1,200 sets`."""
    return f"{number:,} {unit}" + ("" if number == 1 else "s")


def shorten(name: str, max_length: int) -> str:
    """A name of at most so many characters, cut in the middle where it is longer: its ends tell names apart."""
    if len(name) <= max_length:
        return name
    head = (max_length - 1) // 2
    return f"{name[:head].rstrip()}…{name[len(name) - (max_length - 1 - head) :].lstrip()}"


def interval_text(low: float, high: float) -> str:
    """`0.12 to 0.18`; up to four digits where both ends would read the same; `-` where one is NaN."""
    if math.isnan(low) or math.isnan(high):
        return "-"
    texts = [f"{low:z.{digits}f} to {high:z.{digits}f}" for digits in (2, 3, 4)]
    return next((text for text in texts if len(set(text.split(" to "))) == 2), texts[0] if low == high else texts[-1])


def _key(verdict: Verdict) -> tuple[str, tuple[int, ...]]:
    return verdict.forget_set.name, verdict.forget_set.ids


def most_memorized(memorization: Estimate, dataset: Dataset, n_examples: int) -> Array:
    """Ids of the training examples with the highest scores, highest first; none whose score is NaN.

    Raises:
        InputError: where the scores are not one per training example.
    """
    n = dataset.n_train
    if memorization.value.shape != (n,):
        raise InputError(
            f"memorization: expected one score per training example, [{n}], got {memorization.value.shape}; "
            f"pass the dataset the models were trained on"
        )
    order = np.argsort(-memorization.value, kind="stable")  # NaN comes last
    return order[~np.isnan(memorization.value[order])][:n_examples]


def check_pairs(pairs: Sequence[ScoredPair], dataset: Dataset) -> None:
    """Raise `InputError` where a pair names an example that the dataset does not hold."""
    for pair in pairs:
        if not (0 <= pair.source < dataset.n_train and 0 <= pair.target < dataset.n_columns):
            raise InputError(
                f"pairs: expected a training id below {dataset.n_train} and a column below {dataset.n_columns}, got "
                f"{pair.source} -> {pair.target}; pass the dataset the influence was estimated on"
            )


def example_of(dataset: Dataset, column: int) -> Array:
    """The pixels or features of one column, without joining D and H."""
    n = dataset.n_train
    return dataset.x_train[column] if column < n else dataset.x_held_out[column - n]


def class_of(dataset: Dataset, column: int) -> str:
    """The name of one column's label; names of one or two characters as `label 5`."""
    n = dataset.n_train
    name = dataset.class_names[int(dataset.y_train[column] if column < n else dataset.y_held_out[column - n])]
    return f"label {name}" if len(name) <= 2 else name


def place_of(dataset: Dataset, column: int) -> str:
    """`training #412` or `held-out #1042`: column ids, so held-out ones start at n."""
    return f"{'training' if column < dataset.n_train else 'held-out'} #{column}"

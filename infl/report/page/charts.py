"""Turns verdicts and scores into the geometry of the page's drawings: where each mark lies, in the units of its SVG.

The template draws what is here; colours are its style sheet's, so that one drawing serves both themes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from infl.records import Estimate, Quantity, Thresholds, Verdict
from infl.report.page.content import SetContent
from infl.report.plot.histogram import LOGARITHMIC_ABOVE, ScoreCounts, count_scores
from infl.report.text import MEMORIZED_FROM, judged_cross

NORMAL_95 = 1.959964
_LINEAR_BELOW = 0.2
_STEPS = [step * 10.0**power for power in range(-1, 7) for step in (1, 2, 5)]
_MAX_TAGS = 40
SHAPES = {  # of the marks, around (0, 0)
    "no-op": "M-5,0a5,5 0 1,0 10,0a5,5 0 1,0 -10,0Z",
    "local": "M-4.6,-4.6H4.6V4.6H-4.6Z",
    "spreading": "M0,-5.8L5.6,4.4H-5.6Z",
    "indirect": "M0,-6.2L6.2,0L0,6.2L-6.2,0Z",
    "undetermined": "M-5,-2.5L-2.5,-5L0,-2.5L2.5,-5L5,-2.5L2.5,0L5,2.5L2.5,5L0,2.5L-2.5,5L-5,2.5L-2.5,0Z",
}


@dataclass(frozen=True)
class Tick:
    """A place on an axis and what is written there."""

    at: float
    text: str


@dataclass(frozen=True)
class Mark:
    """One verdict on a map: its place, its bars of one standard error (ends clipped to the plot)."""

    x: float
    y: float
    left: float
    right: float
    top: float
    bottom: float
    regime: str
    filled: bool


@dataclass(frozen=True)
class Spot:
    """One forget set on a map; `number` counts the sets of the page from 1, `tag` is where it finds room."""

    number: int
    marks: tuple[Mark, ...]
    tag: tuple[float, float] | None = None

    @property
    def main(self) -> Mark:
        """The measured mark where there is one."""
        return self.marks[-1]


@dataclass(frozen=True)
class RegimeMap:
    """A map of regimes: plot area, ticks, thresholds and spots. missing: sets without an estimate, which are not on it."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    x_threshold: float
    y_threshold: float
    y_zero: float
    spots: tuple[Spot, ...]
    missing: int


def regime_map(sets: Sequence[SetContent], thresholds: Thresholds) -> RegimeMap:
    """Self-influence to the right, cross-influence (or harm, where that decides) upwards; logarithmic beyond ±0.2."""
    width, height, left, right, top, bottom = 640.0, 440.0, 54.0, 626.0, 12.0, 392.0
    known = [[verdict for verdict in (one.predicted, one.measured) if verdict and _is_known(verdict)] for one in sets]
    drawn = [verdict for verdicts in known for verdict in verdicts]
    x_low, x_high = _reach([v.self_influence for v in drawn], -0.05, max(1.0, 2 * thresholds.self_influence))
    cut = thresholds.cross_influence
    y_low, y_high = _reach([judged_cross(v) for v in drawn], -0.5 * cut, 2.5 * cut)
    bend = _symlog if max(-y_low, y_high) > 1 else float
    place_x = _scale(x_low, x_high, left, right, float)
    place_y = _scale(y_low, y_high, bottom, top, bend)
    x_ticks = _ticks([k / 5 for k in range(-20, 21)], place_x, (x_low, x_high), apart=30)
    steps = [*(-s for s in reversed(_STEPS)), 0.0, *_STEPS]
    if bend is float:
        steps = [k * _round_step((y_high - y_low) / 5) for k in range(-40, 41)]
    y_ticks = _ticks(steps, place_y, (y_low, y_high), apart=20)

    def mark(verdict: Verdict, filled: bool) -> Mark:
        x, y = verdict.self_influence, judged_cross(verdict)
        return Mark(
            x=place_x(x.value),
            y=place_y(y.value),
            left=max(left, place_x(x.value - _bar(x))),
            right=min(right, place_x(x.value + _bar(x))),
            top=max(top, place_y(y.value + _bar(y))),
            bottom=min(bottom, place_y(y.value - _bar(y))),
            regime=verdict.regime,
            filled=filled,
        )

    spots = tuple(
        Spot(number, tuple(mark(verdict, verdict is one.measured) for verdict in verdicts))
        for number, (one, verdicts) in enumerate(zip(sets, known, strict=True), start=1)
        if verdicts
    )
    return RegimeMap(
        *(width, height, left, right, top, bottom, x_ticks, y_ticks),
        x_threshold=place_x(thresholds.self_influence),
        y_threshold=place_y(cut),
        y_zero=place_y(0.0),
        spots=_tagged(spots, (left, right, top, bottom)),
        missing=len(sets) - len(spots),
    )


@dataclass(frozen=True)
class Interval:
    """A value and its interval of 95% on a small axis, filled where it was measured."""

    value: float
    low: float
    high: float
    filled: bool


@dataclass(frozen=True)
class IntervalChart:
    """Predicted and measured value of one quantity; no threshold where the quantity has none."""

    width: float
    height: float
    zero: float
    threshold: float | None
    intervals: tuple[tuple[float, Interval], ...]  # with the height at which each lies


def interval_charts(rows: Sequence[tuple[Quantity | None, Quantity | None, float | None]]) -> list[IntervalChart]:
    """Small charts on one common axis; each row a predicted value, a measured one and a threshold."""
    width, height, pad = 190.0, 24.0, 6.0
    values = [q for predicted, measured, _ in rows for q in (predicted, measured) if q and math.isfinite(q.value)]
    ends = [q.value + sign * NORMAL_95 * _bar(q) for q in values for sign in (-1, 1)]
    thresholds = [threshold for *_, threshold in rows if threshold is not None]
    low, high = min([0.0, *ends, *thresholds]), max([0.0, *ends, *thresholds])
    place = _scale(low, high if high > low else low + 1, pad, width - pad, float)
    charts = []
    for predicted, measured, threshold in rows:
        shown = [(q, filled) for q, filled in ((predicted, False), (measured, True)) if q and math.isfinite(q.value)]
        heights = [height / 2] if len(shown) == 1 else [height * 0.3, height * 0.7]
        intervals = tuple(
            (
                at,
                Interval(
                    place(q.value),
                    place(q.value - NORMAL_95 * _bar(q)),
                    place(q.value + NORMAL_95 * _bar(q)),
                    filled,
                ),
            )
            for at, (q, filled) in zip(heights, shown, strict=False)
        )
        charts.append(
            IntervalChart(width, height, place(0.0), None if threshold is None else place(threshold), intervals)
        )
    return charts


@dataclass(frozen=True)
class Bar:
    """A bar of a histogram, with its bar of one standard error; `text` says what it counts."""

    x: float
    width: float
    y: float
    height: float
    error: tuple[float, float]
    text: str


@dataclass(frozen=True)
class Histogram:
    """Scores of all examples. null: the outline expected were nothing memorized, as a path, or None; `memorized`: 0.25."""

    width: float
    height: float
    left: float
    right: float
    bottom: float
    top: float
    bars: tuple[Bar, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    null: str | None
    memorized: float | None
    counted: ScoreCounts


def histogram(memorization: Estimate) -> Histogram | None:
    """That of `infl.plot.memorization`, in the page's units; None where no example has a score."""
    counted = count_scores(memorization)
    if not counted.n_scores:
        return None
    width, height, left, right, top, bottom = 500.0, 210.0, 48.0, 490.0, 10.0, 162.0
    edges, most = counted.edges.tolist(), float(counted.counts.max())
    place_x = _scale(edges[0], edges[-1], left, right, float)
    logarithmic = most > LOGARITHMIC_ABOVE
    lowest = 0.6 if logarithmic else 0.0
    bend = (lambda count: math.log10(max(count, lowest))) if logarithmic else float
    expected = [] if counted.expected is None else counted.expected.tolist()
    highest = max([most, *expected, *(counted.counts + counted.errors).tolist()])
    scaled = _scale(lowest, highest, bottom, top, bend)
    base = scaled(lowest)

    def place_y(count: float) -> float:
        return scaled(max(count, lowest)) + bottom - base  # bars stand on the axis

    count_step = max(1.0, _round_step(most / 4))
    steps = [10.0**k for k in range(8)] if logarithmic else [k * count_step for k in range(6)]
    step = _round_step((edges[-1] - edges[0]) / 8)
    places = [k * step for k in range(math.ceil(edges[0] / step), math.floor(edges[-1] / step) + 1)]
    bars = []
    for a, b, count, error in zip(edges, edges[1:], counted.counts.tolist(), counted.errors.tolist(), strict=False):
        if count:
            y = place_y(count)
            bars.append(
                Bar(
                    x=place_x(a) + 0.5,
                    width=max(0.5, place_x(b) - place_x(a) - 1),
                    y=y,
                    height=bottom - y,
                    error=(place_y(count - error), place_y(count + error)),
                    text=f"{count:,} from {_tidy(round(a, 3))} to {_tidy(round(b, 3))}",
                )
            )
    null = None
    if expected:
        heights = [place_y(count) for count in expected]
        corners = [f"H{place_x(b)}V{y}" for b, y in zip(edges, heights, strict=False)]
        null = f"M{place_x(edges[0])},{bottom}" + "".join(corners) + f"H{place_x(edges[-1])}V{bottom}"
    return Histogram(
        *(width, height, left, right, bottom, top),
        bars=tuple(bars),
        x_ticks=_ticks(places, place_x, (edges[0], edges[-1]), apart=34),
        y_ticks=_ticks([s for s in steps if s <= most], place_y, (0.0, most), apart=18),
        null=null,
        memorized=None if counted.beyond is None else place_x(MEMORIZED_FROM),
        counted=counted,
    )


def _tagged(spots: Sequence[Spot], plot: tuple[float, float, float, float]) -> tuple[Spot, ...]:
    """Each spot with a place for its number that no mark and no other number takes, where there is one."""
    if len(spots) > _MAX_TAGS:
        return tuple(spots)
    left, right, top, bottom = plot
    # Names of the regimes stand in the corners.
    taken = [(x, x + 72, y, y + 22) for x in (left, right - 72) for y in (top, bottom - 22)]
    taken += [(m.x - 6, m.x + 6, m.y - 6, m.y + 6) for spot in spots for m in spot.marks]
    tagged = []
    for spot in spots:
        width, tag = 7.0 * len(str(spot.number)), None
        for dx, dy in ((8, -5), (8, 13), (-8 - width, -5), (-8 - width, 13), (-width / 2, -10), (-width / 2, 19)):
            x, y = spot.main.x + dx, spot.main.y + dy
            box = (x, x + width, y - 9, y)
            inside = left <= box[0] and box[1] <= right and top <= box[2] and box[3] <= bottom
            if inside and not any(b[0] < box[1] and box[0] < b[1] and b[2] < box[3] and box[2] < b[3] for b in taken):
                taken.append(box)
                tag = (round(x, 2), round(y, 2))
                break
        tagged.append(replace(spot, tag=tag))
    return tuple(tagged)


def _is_known(verdict: Verdict) -> bool:
    return math.isfinite(verdict.self_influence.value) and math.isfinite(judged_cross(verdict).value)


def _bar(quantity: Quantity) -> float:
    return quantity.se if math.isfinite(quantity.se) else 0.0


def _reach(values: Sequence[Quantity], low: float, high: float) -> tuple[float, float]:
    ends = [q.value + sign * _bar(q) for q in values for sign in (-1, 1)]
    return min([low, *ends]), max([high, *ends])


def _symlog(value: float) -> float:
    size = abs(value) / _LINEAR_BELOW
    return math.copysign(0.8 * size if size <= 1 else 0.8 + math.log10(size), value)


def _scale(
    low: float, high: float, start: float, stop: float, bend: Callable[[float], float]
) -> Callable[[float], float]:
    """From values low..high to places start..stop, with a margin of 4% at both ends."""
    a, b = bend(low), bend(high)
    per_unit = (stop - start) * 0.92 / ((b - a) or 1.0)
    return lambda value: round(start + 0.04 * (stop - start) + (bend(value) - a) * per_unit, 2)


def _ticks(
    steps: Sequence[float], place: Callable[[float], float], reach: tuple[float, float], *, apart: float
) -> tuple[Tick, ...]:
    """Those within reach and far enough from each other, zero first."""
    kept: list[Tick] = []
    for step in sorted(steps, key=lambda step: (step != 0, -abs(step))):
        if reach[0] <= step <= reach[1] and all(abs(place(step) - tick.at) >= apart for tick in kept):
            kept.append(Tick(place(step), _tidy(step)))
    return tuple(sorted(kept, key=lambda tick: tick.at))


def _round_step(about: float) -> float:
    """1, 2 or 5 times a power of ten, the next above."""
    power = 10.0 ** math.floor(math.log10(about))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= about * 0.999)


def _tidy(value: float) -> str:
    return f"{round(value, 6):,g}".replace("-", "−") if value else "0"

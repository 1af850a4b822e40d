"""Turns scores and verdicts into tables and lines for a terminal of 80 to 100 columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from infl.records import REGIMES, Array, Dataset, Detectable, Estimate, Quantity, ScoredPair, Verdict
from infl.report.style import REGIME_STYLES
from infl.report.text import (
    Row,
    check_pairs,
    class_of,
    common_thresholds,
    count,
    likeliest,
    most_memorized,
    pair_verdicts,
    place_of,
    thresholds_line,
    with_error,
)

_NAME_WIDTH = 16
_MIN_NAME_WIDTH = 8
# What decides comes first: the last two are the ones that go where there is no room.
_CROSS_COLUMNS = {"net": ("cross", "harm", "gain"), "harm": ("harm", "cross", "gain")}
_GAP = 2
_HURT_SHOWN = 5


def verdict_table(predicted: Sequence[Verdict], measured: Sequence[Verdict] = (), *, width: int = 100) -> Table:
    """Forget sets with their regimes and what these were decided by, ± one standard error.

    Self is the probability that a forgotten example is lost; cross, harm and gain are other examples per example
    forgotten. `p` is the probability of the regime, or of the likeliest where none was decided. Where a set has both,
    the measured line stands below the predicted one, marked `=` where the regimes agree, `x` where they differ, and not
    at all where one is undetermined. Cross, harm and gain are shown where they fit, else the one that decides.
    NaN is printed as `-`.

    Args:
        predicted, measured: verdicts, matched by the name and ids of their forget sets.
        width: columns of the terminal.

    Raises:
        InputError: where the verdicts were judged by different thresholds, or one forget set comes twice.
    """
    rows = pair_verdicts(predicted, measured)
    thresholds = common_thresholds([*predicted, *measured])
    caption = thresholds_line(thresholds) if rows else "no forget sets"
    both = bool(predicted) and bool(measured)
    heads = ["set", "size", *([""] if both else []), "regime", "p", "self", *_CROSS_COLUMNS[thresholds.cross]]
    cells = [_verdict_cells(row, both=both) for row in rows]
    if width - _width_of(heads[1:], [line[1:] for line in cells]) < _NAME_WIDTH:
        heads, cells = heads[:-2], [line[:-2] for line in cells]
    if both:
        caption += "\n= same regime, x another one, unmarked where one is undetermined"
    table = _new_table(caption=caption)
    room = width - _width_of(heads[1:], [line[1:] for line in cells])
    table.add_column(heads[0], overflow="fold", max_width=max(_MIN_NAME_WIDTH, room))
    for head in heads[1:]:
        table.add_column(head, justify="left" if head in ("", "regime") else "right", no_wrap=True)
    for line in cells:
        table.add_row(*line)
    return table


def memorization_table(
    memorization: Estimate,
    dataset: Dataset,
    n: int = 10,
    *,
    q: Array | None = None,
    detectable: Detectable | None = None,
) -> Table:
    """The n most memorized training examples: id, position in the source, label, score ± standard error, q-value, counts.

    Scores are differences of probability, or of log-odds where the estimate rests on margins. Examples whose score is
    NaN are not listed; the caption counts them, and says the smallest score that could have been found.

    Args:
        q: [n], q-values over all examples; without them there is no such column.

    Raises:
        InputError: where the scores are not one per training example.
    """
    best = most_memorized(memorization, dataset, n)
    missing = int(np.isnan(memorization.value).sum())
    unit = "probability" if memorization.outcome == "correct" else "log-odds"
    caption = [f"{missing:,} without an estimate"] if missing else []
    if detectable is not None:
        caption.append(detectable_line(detectable, "memorization", "examples"))
    table = _new_table(
        title=f"most memorized of {dataset.n_train:,} training examples", caption="\n".join(caption) or None
    )
    for head in ("id", "in source"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("label", overflow="fold", max_width=30)
    table.add_column(f"memorization ({unit})", justify="right", no_wrap=True)
    for head in (*(() if q is None else ("q",)), "trained on it", "not"):
        table.add_column(head, justify="right", no_wrap=True)
    n_in = np.broadcast_to(memorization.n_in, memorization.value.shape)
    n_out = np.broadcast_to(memorization.n_out, memorization.value.shape)
    for i in best.tolist():
        table.add_row(
            str(i),
            str(dataset.train_ids[i]),
            Text(class_of(dataset, i)),
            with_error(float(memorization.value[i]), float(memorization.se[i])),
            *(() if q is None else (_q(float(q[i])),)),
            f"{int(n_in[i]):,}",
            f"{int(n_out[i]):,}",
        )
    return table


def pairs_table(
    pairs: Sequence[ScoredPair],
    dataset: Dataset,
    *,
    title: str = "strongest cross-influences",
    detectable: Detectable | None = None,
) -> Table:
    """Pairs in the order given: the training example, the one it influences, score ± standard error and q-value.

    Positive means that training on the first helps the second. Numbers are column ids: held-out ones start at n. NaN is
    printed as `-`; q-values have a column where any is known.

    Raises:
        InputError: where a pair names an example that the dataset does not hold.
    """
    check_pairs(pairs, dataset)
    line = None if detectable is None else detectable_line(detectable, "influence", "pairs")
    table = _new_table(title=title, caption=line)
    for head in ("training on", "label", "changes", "label"):
        table.add_column(head, no_wrap=head != "label", overflow="fold", max_width=22)
    with_q = any(not math.isnan(pair.q) for pair in pairs)
    for head in ("influence", *(("q",) if with_q else ())):
        table.add_column(head, justify="right", no_wrap=True)
    for pair in pairs:
        table.add_row(
            f"#{pair.source}",
            Text(class_of(dataset, pair.source)),
            place_of(dataset, pair.target),
            Text(class_of(dataset, pair.target)),
            with_error(pair.value, pair.se),
            *((_q(pair.q),) if with_q else ()),
        )
    return table


def detectable_line(detectable: Detectable, what: str, tested: str) -> str:
    """The smallest effect that the models at hand find, as a sentence without a full stop, on two lines."""
    d = detectable
    conditions = f"(power {d.power:g}, false discovery rate {d.false_discovery_rate:g} over {d.n_tests:,} {tested})"
    if math.isnan(d.typical):
        return f"smallest {what} detectable: none, too few models\n{conditions}"
    worst = "" if d.outcome == "margin" else f", at worst {'none' if math.isnan(d.worst) else f'{d.worst:.2f}'}"
    return f"smallest {what} detectable: {d.typical:.2f} at median noise{worst}\n{conditions}"


def verdict_lines(verdict: Verdict) -> list[str]:
    """Everything a verdict was decided by, as lines of plain text: what `verdict_table` has no room for."""
    size = len(verdict.forget_set)
    best, probability = likeliest(verdict)
    head = f"{verdict.forget_set.name} ({count(size, 'example')}): {verdict.regime}"
    if verdict.regime == "undetermined" and not math.isnan(probability):
        head += f", likeliest {best} with probability {_number(probability)}"
    elif not math.isnan(probability):
        head += f", probability {_number(probability)}"
    net, harm, gain = (_quantity(q) for q in (verdict.cross_influence, verdict.harm, verdict.gain))
    chances = ", ".join(f"{name} {_number(verdict.probability.get(name, math.nan))}" for name in REGIMES)
    lines = [
        head,
        f"  by {verdict.source}, from {count(verdict.n_models, 'model')}",
        f"  self {_quantity(verdict.self_influence)}  probability that a forgotten example is lost",
        f"  cross {net}  other examples lost per example forgotten, net",
        f"  harm {harm}, gain {gain}  the same, of those hurt and of those helped",
        f"  probabilities: {chances}",
    ]
    if verdict.most_harmed:
        pairs = list(zip(verdict.most_harmed, verdict.most_harmed_effects, strict=False))[:_HURT_SHOWN]
        lines.append("  hurt most: " + ", ".join(f"#{column} by {_number(effect)}" for column, effect in pairs))
    if verdict.regime == "undetermined":
        lines.append(f"  {_models_needed(verdict)}")
    if verdict.note:
        lines.append(f"  {verdict.note}")
    return [*lines, f"  {thresholds_line(verdict.thresholds)}"]


def _models_needed(verdict: Verdict) -> str:
    if math.isnan(likeliest(verdict)[1]):
        return "undetermined; the errors are unknown"
    if verdict.models_needed is None:
        return "undetermined; more models of this kind would not decide it"
    return f"undetermined; about {verdict.models_needed:,} models would decide it (there are {verdict.n_models:,})"


def _verdict_cells(row: Row, *, both: bool) -> list[Text]:
    """One cell per column, of one line per verdict: a long name then folds beside the second line, not above it."""
    lines = []
    for verdict in row.verdicts:
        kind = [] if not both else [f"measured {row.agreement}" if verdict is row.measured else "predicted"]
        regime = Text(verdict.regime, style=REGIME_STYLES[verdict.regime].color)
        quantities = {"cross": verdict.cross_influence, "harm": verdict.harm, "gain": verdict.gain}
        shown = [verdict.self_influence, *(quantities[name] for name in _CROSS_COLUMNS[verdict.thresholds.cross])]
        numbers = [_number(likeliest(verdict)[1]), *map(_quantity, shown)]
        lines.append([*map(Text, kind), regime, *map(Text, numbers)])
    forget_set = row.verdicts[0].forget_set
    stacked = [Text("\n").join(column) for column in zip(*lines, strict=True)]
    return [Text(forget_set.name), Text(f"{len(forget_set):,}"), *stacked]


def _new_table(*, title: str | None = None, caption: str | None = None) -> Table:
    return Table(
        title=None if title is None else Text(title, style="table.title"),
        caption=None if caption is None else Text(caption, style="table.caption"),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, _GAP - 1, 0, 0),  # the box adds one
        title_justify="left",
        caption_justify="left",
    )


def _width_of(heads: Sequence[str], rows: Sequence[Sequence[Text]]) -> int:
    """Of these columns with a gap before each."""
    columns = zip([Text(head) for head in heads], *rows, strict=True)
    return sum(_GAP + max(cell_len(line) for cell in column for line in cell.plain.split("\n")) for column in columns)


def _q(value: float) -> str:
    if math.isnan(value):
        return "-"
    return f"{value:.2g}" if value >= 1e-12 else "<1e-12"


def _quantity(quantity: Quantity) -> str:
    return with_error(quantity.value, quantity.se)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:z.2f}"


def run_table(description: dict[str, Any]) -> Table:
    """What a run holds, from `Run.to_dict()`: settings, then a line per collection of models."""
    dataset = description["dataset"]
    table = _new_table(
        title=f"run {description['folder']}",
        caption=f"data {dataset['name']}: {dataset['n_train']:,} training, "
        f"{dataset['n_columns'] - dataset['n_train']:,} held-out examples, fingerprint {dataset['fingerprint'][:12]}\n"
        f"{_how_made(description)}",
    )
    table.add_column("models", overflow="fold")
    for head in ("complete", "missing", "diverged", "models/s"):
        table.add_column(head, justify="right", no_wrap=True)
    collections = description["collections"]
    without = [counts for name, counts in collections.items() if name.startswith("without-")]
    for name, counts in collections.items():
        if not name.startswith("without-"):
            table.add_row(_title_of(name), *_counts([counts]))
    if without:
        table.add_row(f"of D without one of {len(without)} forget sets", *_counts(without))
    return table


def _how_made(description: dict[str, Any]) -> str:
    if "imported" in description:
        return (
            f"{' and '.join(description['outcomes'])} of models made elsewhere, imported from {description['imported']}"
        )
    algorithm, design = description["algorithm"], description["design"]
    settings = ", ".join(f"{name} {value}" for name, value in algorithm.items() if not isinstance(value, dict))
    network = " ".join(str(value) for value in algorithm["network"].values())
    return (
        f"design {design['kind']}, fraction {design['fraction']}, seed {description['seed']}\n"
        f"network {network}, {settings}"
    )


def _title_of(collection: str) -> str:
    if collection.startswith("cover-"):
        return f"covering sets {collection.removeprefix('cover-')[:6]}"
    titles = {"design": "of random subsets", "grouped": "leaving out groups", "full": "of all of D"}
    return titles.get(collection, collection)


def _counts(collections: Sequence[dict[str, Any]]) -> list[str]:
    complete, missing, seconds = (sum(c[key] for c in collections) for key in ("complete", "missing", "seconds"))
    diverged = sum(len(c["diverged"]) for c in collections)
    return [f"{complete:,}", f"{missing:,}", f"{diverged:,}", f"{complete / seconds:.1f}" if seconds else "-"]

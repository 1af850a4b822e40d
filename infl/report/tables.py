"""Scores and verdicts as tables of pandas: the terminal, the page, JSON and CSV all take their rows from here.

`memorization_frame`, `influence_frame` and `pairs_frame` have the columns of `COLUMNS`, so that they can stand in one file;
`verdict_frame` has a row a verdict. The functions that end in `_table` print them in a terminal of 80 to 100 columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from infl.records import Agreement, Array, Dataset, Detectable, Estimate, ProtocolName, ScoredPair, Verdict
from infl.report import text
from infl.report.style import REGIME_STYLES

REQUIRED_COLUMNS = ["kind", "source", "target", "source_label", "target_label", "protocol", "value", "se"]
COLUMNS = [*REQUIRED_COLUMNS, "n_in", "n_out", "p", "q"]
CHANCE_Q = 0.5  # false discovery rate from which a listed pair is more likely chance than not
_NAME_WIDTH = 16
_MIN_NAME_WIDTH = 8
# What decides comes first: the others are the ones that go where there is no room.
CROSS_COLUMNS = {"net": ("cross", "harm", "gain"), "harm": ("harm", "cross", "gain")}
_GAP = 2
_EXCERPT_WIDTH = 24  # at least, of a text beside other columns


def memorization_frame(
    memorization: Estimate, dataset: Dataset, ids: Array | None = None, *, q: Array | None = None
) -> pd.DataFrame:
    """A row per training example, source and target both; q: q-values over all examples, [n]."""
    ids = np.arange(dataset.n_train) if ids is None else ids
    return _score_frame("memorization", ids, ids, memorization.protocol, dataset, _scores(memorization, q, ids))


def influence_frame(influence: Estimate, dataset: Dataset, *, q: Array | None = None) -> pd.DataFrame:
    """A row per pair of a source and a target, but for those of an example with itself; q: q-values, [sources, targets]."""
    sources, targets = np.asarray(influence.sources), np.asarray(influence.columns)
    rows, columns = np.nonzero(sources[:, None] != targets[None, :])
    pairs = sources[rows], targets[columns]
    return _score_frame("influence", *pairs, influence.protocol, dataset, _scores(influence, q, (rows, columns)))


def pairs_frame(pairs: Sequence[ScoredPair], protocol: ProtocolName, dataset: Dataset) -> pd.DataFrame:
    """A row per pair, in the order given; pairs carry no counts.

    Raises:
        InputError: where a pair names an example that the dataset does not hold.
    """
    text.check_pairs(pairs, dataset)
    sources, targets = (np.array([getattr(pair, end) for pair in pairs], int) for end in ("source", "target"))
    scores = {name: np.array([getattr(pair, name) for pair in pairs], float) for name in ("value", "se", "p", "q")}
    return _score_frame("influence", sources, targets, protocol, dataset, scores)


def _score_frame(
    kind: str, sources: Array, targets: Array, protocol: str, dataset: Dataset, scores: dict[str, Array]
) -> pd.DataFrame:
    names = np.array(dataset.class_names, object)
    labels = {f"{end}_label": names[dataset.labels[ids]] for end, ids in (("source", sources), ("target", targets))}
    ends = {"kind": kind, "source": sources, "target": targets, **labels, "protocol": protocol}
    return pd.DataFrame(ends | scores).reindex(columns=COLUMNS)


def _scores(estimate: Estimate, q: Array | None, at: Any) -> dict[str, Array]:
    arrays = {"value": estimate.value, "se": estimate.se, "p": estimate.p, "q": q}
    counts = {name: np.broadcast_to(getattr(estimate, name), estimate.value.shape)[at] for name in ("n_in", "n_out")}
    return {name: array[at] for name, array in arrays.items() if array is not None} | {
        name: numbers.astype(np.int64) for name, numbers in counts.items()
    }


def verdict_frame(predicted: Sequence[Verdict], measured: Sequence[Verdict] = ()) -> pd.DataFrame:
    """A row per verdict, those of one set beside each other, predicted first: what JSON says of it, and its place in a table.

    Columns: `row` (of the set), `set`, `kind` (predicted, measured), `agreement`, `p` of the likeliest regime, and the fields
    of `verdict_fields` with dots, such as `self.value`.

    Raises:
        InputError: where one forget set comes twice.
    """
    records = [
        {
            "row": number,
            "set": verdict.forget_set.name,
            "kind": "measured" if verdict is row.measured else "predicted",
            "agreement": row.agreement,
            "p": text.likeliest(verdict)[1],
            **verdict_fields(verdict),
        }
        for number, row in enumerate(text.pair_verdicts(predicted, measured))
        for verdict in row.verdicts
    ]
    return pd.json_normalize(records)


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON has it."""
    harmed = zip(verdict.most_harmed, verdict.most_harmed_effects, strict=True)
    fields: dict[str, Any] = {
        "size": len(verdict.forget_set),
        "regime": verdict.regime,
        "probability": dict(verdict.probability),
        "self": asdict(verdict.self_influence),
        "cross": asdict(verdict.cross_influence),
        "harm": asdict(verdict.harm),
        "gain": asdict(verdict.gain),
        "others": verdict.others,
        "held_out_only": verdict.held_out_only,
        "source": verdict.source,
        "n_models": verdict.n_models,
        "most_harmed": [{"id": j, "effect": effect} for j, effect in harmed],
    }
    if (gap := verdict.concept_gap) is not None:
        means = {"of_part": gap.part, "of_whole": gap.whole, **asdict(gap.value)}
        fields["concept_gap"] = {"n_full": gap.n_full, "n_held_out": gap.n_held_out, **means}
    if verdict.note:
        fields |= {"note": verdict.note, "models_needed": verdict.models_needed}
    return fields


def verdict_table(predicted: Sequence[Verdict], measured: Sequence[Verdict] = (), *, width: int = 100) -> Table:
    """Forget sets with their regimes and what these were decided by, ± one standard error.

    Self is the accuracy lost on forgotten examples; cross, harm and gain are other examples per example
    forgotten. `p` is the probability of the regime, or of the likeliest where none was decided. Where a set has both,
    the measured line stands below the predicted one, marked `=` where the regimes agree, `x` where they differ, and not
    at all where one is undetermined. `others` says in a word what cross, harm and gain come to (`Verdict.others`), `models`
    how many were retrained without the set or predicted from. Where there is no room gain goes, then both sums that do not
    decide, then `others`.
    NaN is printed as `-`.

    Args:
        predicted, measured: verdicts, matched by the name and ids of their forget sets.
        width: columns of the terminal.

    Raises:
        InputError: where the verdicts were judged by different thresholds, or one forget set comes twice.
    """
    thresholds = text.common_thresholds([*predicted, *measured])
    frame = verdict_frame(predicted, measured)
    if frame.empty:
        return terminal_table(pd.DataFrame(columns=["set", "size", "regime", "p", "self"]), caption="no forget sets")
    both = bool(predicted) and bool(measured)
    lines = pd.DataFrame({"set": frame["set"], "size": frame["size"].map("{:,}".format)})
    if both:
        marks = frame["agreement"].where(frame["kind"] == "measured", "")
        lines[""] = (frame["kind"] + " " + marks).str.rstrip()
    lines["regime"] = [Text(regime, style=REGIME_STYLES[regime].color) for regime in frame["regime"]]
    lines["p"] = frame["p"].map(text.number)
    for name in ("self", *CROSS_COLUMNS[thresholds.cross]):
        values = zip(frame[f"{name}.value"].astype(float), frame[f"{name}.se"].astype(float), strict=True)
        lines[name] = [text.with_error(value, se) for value, se in values]
    lines["others"] = frame["others"]
    lines["models"] = frame["n_models"].map("{:,}".format)
    sums = list(CROSS_COLUMNS[thresholds.cross][1:])
    of_names, others = lines[["set"]], lines.drop(columns="set")
    droppable = ["gain"], sums, [*sums, "others"], [*sums, "others", "models"]
    others, room = fitting_columns(others, width, _NAME_WIDTH, *droppable)
    lines = of_names.join(others)
    # One row per set with a line per verdict: a long name then folds beside the second line, not above it.
    stacked = lines.groupby(frame["row"]).agg(
        dict.fromkeys(lines.columns[2:], lambda cells: Text("\n").join(map(Text.assemble, cells)))
    )
    for place, name in enumerate(("set", "size")):
        stacked.insert(place, name, lines.groupby(frame["row"])[name].first())
    caption = text.thresholds_line(thresholds)
    caption += "\n= same regime, x another one, unmarked where one is undetermined" if both else ""
    room = max(_MIN_NAME_WIDTH, room)
    return terminal_table(stacked, caption=caption, left=("set", "", "regime", "others"), folded={"set": room})


def memorization_table(
    memorization: Estimate,
    dataset: Dataset,
    n: int = 10,
    *,
    q: Array | None = None,
    detectable: Detectable | None = None,
    width: int = 100,
) -> Table:
    """The n most memorized training examples: id, position in the source, label, score ± standard error, q-value, counts.

    Scores are differences of accuracy, or of log-odds where the estimate rests on margins. Examples without an
    error are not listed; the caption counts them, and says the smallest score that could have been found. Documents have their
    group for a label, and the beginning of their text; positions and counts go where there is no room for it.

    Args:
        q: [n], q-values over all examples; without them there is no such column.
        width: Columns of the terminal.

    Raises:
        InputError: where the scores are not one per training example.
    """
    ids = text.most_memorized(memorization, dataset, n)
    frame = memorization_frame(memorization, dataset, ids, q=q)
    lines = pd.DataFrame({"id": ids, "in source": dataset.train_ids[ids]}).astype(str)
    label = dataset.class_words[0]
    lines[label] = [text.class_of(dataset, i) for i in ids]
    lines["memorization"] = [text.with_error(value, se) for value, se in zip(frame["value"], frame["se"], strict=True)]
    if q is not None:
        lines["q"] = frame["q"].map(text.p_value)
    lines["trained on it"], lines["not"] = frame["n_in"].map("{:,}".format), frame["n_out"].map("{:,}".format)
    caption = [words] if (words := text.not_ranked(memorization)) else []
    caption += text.detectable_lines(detectable, "memorization", "examples") if detectable is not None else []
    if dataset.has_texts:
        lines[label] = [text.shorten(name, _EXCERPT_WIDTH) for name in lines[label]]
        lines, room = fitting_columns(
            lines, width - _GAP, _EXCERPT_WIDTH, ["in source"], ["in source", "trained on it", "not"]
        )
        lines["text"] = [_excerpt(dataset, i, room) for i in ids.tolist()]
    title = f"most memorized of {dataset.n_train:,} training examples, in {text.unit(dataset, memorization.outcome)}"
    left, folded = (label, "text"), {} if dataset.has_texts else {label: 30}
    return terminal_table(lines, title=title, caption="\n".join(caption), left=left, folded=folded)


def pairs_table(
    pairs: Sequence[ScoredPair],
    dataset: Dataset,
    *,
    title: str = "largest cross-influences",
    detectable: Detectable | None = None,
    width: int = 100,
) -> Table:
    """Pairs in the order given: the training example, the one it influences, score ± standard error and q-value.

    Positive means that training on the first helps the second. Numbers are column ids: held-out ones start at n. NaN is
    printed as `-`; q-values have a column where any is known. Of documents the beginnings of both texts stand side by side.

    Args:
        width: Columns of the terminal.

    Raises:
        InputError: where a pair names an example that the dataset does not hold.
    """
    frame = pairs_frame(pairs, dataset.pairs_protocol, dataset)
    ends = {
        "training on": [f"#{i}" for i in frame["source"]],
        "changes": [text.place_of(dataset, j) for j in frame["target"]],
    }
    lines = pd.DataFrame()
    for (head, places), label, end in zip(ends.items(), ("label", "label "), ("source", "target"), strict=True):
        lines[head], lines[label] = places, [text.class_of(dataset, column) for column in frame[end]]
    lines["influence"] = [text.with_error(value, se) for value, se in zip(frame["value"], frame["se"], strict=True)]
    if not frame["q"].isna().to_numpy().all():
        lines["q"] = frame["q"].map(text.p_value)
    caption = "" if detectable is None else "\n".join(text.detectable_lines(detectable, "influence", "pairs"))
    if n_chance := sum(pair.q >= CHANCE_Q for pair in pairs):
        caption = f"{n_chance:,} of these have q >= {CHANCE_Q:g}: more likely chance than not\n{caption}".rstrip()
    folded = {"label": 22, "label ": 22}
    if dataset.has_texts:
        room = max(_EXCERPT_WIDTH, (width - _width_of(lines.drop(columns=[*ends, *folded])) - _GAP) // 2)
        for (head, places), label, end in zip(ends.items(), folded, ("source", "target"), strict=True):
            names = [text.shorten(f"{place} {name}", room) for place, name in zip(places, lines[label], strict=True)]
            texts = [_excerpt(dataset, column, room) for column in frame[end].tolist()]
            lines[head] = [Text(name).append("\n").append(words) for name, words in zip(names, texts, strict=True)]
        lines = lines.drop(columns=list(folded))
    return terminal_table(
        lines, title=title, caption=caption, left=("training on", "label", "changes", "label "), folded=folded
    )


def agreement_table(agreements: Mapping[str, Agreement], *, title: str) -> Table:
    """A line per kind of scores: how many, rank and linear correlation, mean and root mean square difference, and how much
    of the square of the latter the standard errors of both sides explain. NaN is printed as `-`."""
    lines = pd.DataFrame({"": list(agreements), "scores": [f"{len(one):,}" for one in agreements.values()]})
    names = {"spearman": "Spearman", "pearson": "Pearson", "difference": "mean difference", "rms": "rms difference"}
    for name, words in (names | {"explained": "explained by errors"}).items():
        lines[words] = [str(getattr(one, name)) for one in agreements.values()]
    return terminal_table(
        lines, title=title, left=("",), folded={"mean difference": 14, "rms difference": 14, "explained by errors": 13}
    )


def run_table(description: dict[str, Any]) -> Table:
    """What a run holds, from `Run.to_dict()`: settings, then a line per collection of models."""
    dataset = description["dataset"]
    rows = [
        {
            "models": title,
            "complete": f"{one['complete']:,}",
            "missing": f"{one['missing']:,}",
            "diverged": f"{len(one['diverged']):,}",
            "models/s": f"{one['complete'] / one['seconds']:.1f}" if one["seconds"] else "-",
        }
        for title, one in text.merged_collections(description["collections"]).items()
    ]
    caption = [
        f"data {dataset['name']}: {dataset['n_train']:,} training, "
        f"{dataset['n_columns'] - dataset['n_train']:,} held-out examples",
        *(f"{term}: {words}" for term, words in text.run_facts(description) if not term.startswith("Models of")),
    ]
    if "imported" in description:
        caption.append(f"Imported from: {description['imported']}")
    if description.get("shares"):
        caption.append("Outcomes: shares from 0 to 1, scored by means and sample variances")
    if description.get("held_out_only"):
        caption.append("Outcomes: of held-out examples alone, so no memorization")
    lines = pd.DataFrame(rows, columns=["models", "complete", "missing", "diverged", "models/s"])
    title = f"run {description['folder']}"
    return terminal_table(lines, title=title, caption="\n".join(caption), left=("models",), folded={"models": 60})


def terminal_table(
    lines: pd.DataFrame,
    *,
    title: str = "",
    caption: str = "",
    left: Sequence[str] = (),
    folded: Mapping[str, int] = MappingProxyType({}),
) -> Table:
    """A table of texts for a terminal; `folded` columns have a greatest width, the others are never broken."""
    table = Table(
        title=Text(title, style="table.title") if title else None,
        caption=Text(caption, style="table.caption") if caption else None,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
        padding=(0, _GAP - 1, 0, 0),  # the box adds one
        title_justify="left",
        caption_justify="left",
    )
    for name in lines.columns:
        width = folded.get(name)
        justify = "left" if name in left else "right"
        table.add_column(name.strip(), justify=justify, no_wrap=width is None, overflow="fold", max_width=width)
    for cells in lines.itertuples(index=False):
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    return table


def fitting_columns(lines: pd.DataFrame, width: int, least: int, *droppable: list[str]) -> tuple[pd.DataFrame, int]:
    """The columns that leave at least so much room beside them, and the room; of `droppable` the first that suffices goes."""
    tried = [lines.drop(columns=dropped) for dropped in ([], *droppable)]
    fitting = next((one for one in tried if width - _width_of(one) >= least), tried[-1])
    return fitting, width - _width_of(fitting)


def _excerpt(dataset: Dataset, column: int, width: int) -> Text:
    one = Text(text.excerpt(dataset, column))
    one.truncate(width, overflow="ellipsis")
    return one


def _width_of(lines: pd.DataFrame) -> int:
    """Of these columns with a gap before each."""
    return sum(
        _GAP + max(cell_len(getattr(cell, "plain", cell)) for cell in (name, *lines[name])) for name in lines.columns
    )

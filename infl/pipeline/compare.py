"""Compares two sets of scores, of runs, of outcomes or of files: do they agree, and where not?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from infl.pipeline.train import current_run
from infl.records import (
    OUTCOME_KINDS,
    Accuracy,
    Agreement,
    Array,
    InputError,
    OutcomeKind,
    OutcomesOrRun,
    OutcomeSource,
    ProtocolName,
    as_outcomes,
    seeded,
)
from infl.report.score_files import MAX_PAIRS, random_columns, read_scores, score_frame
from infl.scores.agreement import measure_agreement
from infl.scores.influence import influence_blocks, memorization
from infl.store import Run, is_run

KINDS = ("memorization", "influence, held-out", "influence, left-out")


@dataclass(frozen=True, eq=False)
class Comparison:
    """How far two sets of scores agree; see `compare`.

    Attributes:
        names: Of both sides.
        agreements: By `memorization`, `influence, held-out` and `influence, left-out`: those of which both have scores.
        by_source: Whether examples were matched by their positions in the source, since the two hold different parts of it.
        n_labels_differ: Training examples in both whose labels differ; None where one side does not say them.
        accuracies: Of the models of each side that is a run.
    """

    names: tuple[str, str]
    agreements: dict[str, Agreement]
    by_source: bool
    n_labels_differ: int | None
    accuracies: tuple[Accuracy | None, Accuracy | None]

    def __repr__(self) -> str:
        known = (f"{kind} Spearman {one.spearman} of {len(one):,}" for kind, one in self.agreements.items())
        return f"Comparison({' with '.join(self.names)}: {'; '.join(known)})"

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        agreements = {kind: one.to_dict() for kind, one in self.agreements.items()}
        more = {"by_source": self.by_source, "n_labels_differ": self.n_labels_differ}
        accuracies = [None if one is None else one.to_dict() for one in self.accuracies]
        return {"names": list(self.names), **more, "accuracy": accuracies, "agreements": agreements}


def compare(a: OutcomesOrRun | str | Path, b: OutcomesOrRun | str | Path, *, seed: int = 0) -> Comparison:
    """Compare two sets of scores of the same examples: in rank, in value, and beyond what their errors explain.

    Where both have n training examples, ids mean the same in both. Where not, or where two runs drew different examples,
    they are matched by their positions in the source (`Dataset.train_ids`); ids of a file are then such positions.

    Influence is compared on the pairs that both have, by the protocols `held-out` and `left-out`; of more than half a million
    pairs on those of columns drawn at random. `infl.plot.agreement` draws it.

    Args:
        a: A run, its folder or URL; outcomes, such as those of a part of its models; or a file that
            `infl.report.score_files.read_scores` reads.
        b: Likewise.
        seed: Of the bootstrap behind the errors, see `infl.scores.agreement.measure_agreement`.

    Raises:
        InputError: where one cannot be read, or the two have no example in common.

    Examples:
        >>> import infl
        >>> run = infl.train(infl.load("digits", n_train=60, n_held_out=30), n_models=16, n_references=0, quiet=True)
        >>> infl.compare(run, run).agreements["memorization"].spearman.value
        1.0
    """
    one, other = _opened(a), _opened(b)
    by_source, outcome = _matched_by_source(one, other), _outcome(one, other)
    if not by_source:
        one, other = (replace(side, train_ids=None, held_out_ids=None) for side in (one, other))
    n_train = one.n_train or other.n_train
    if n_train is None:
        tables = [side.rows for side in (one, other) if side.rows is not None]
        n_train = 1 + max(int(rows["source"].to_numpy().max(initial=0)) for rows in tables)
    # Of a file all there is, of a run what the other side has.
    swapped = one.rows is None and other.rows is not None
    first, second = (other, one) if swapped else (one, other)
    known = _frame(first, n_train, outcome)
    both = known.merge(_frame(second, n_train, outcome, known), on=["kind", "source", "target"])
    if both.empty:
        raise InputError(
            f"{one.name} and {other.name}: expected scores of the same examples or pairs, they have none in common"
        )
    ends = ("_y", "_x") if swapped else ("_x", "_y")
    names = [f"{name}{end}" for name in ("value", "se") for end in ends]
    agreements = {
        kind: measure_agreement(
            *(rows[name].to_numpy() for name in names),
            source=rows["source"].to_numpy(),
            target=rows["target"].to_numpy(),
            seed=seed,
        )
        for kind in KINDS
        if len(rows := _of_kind(both, kind))
    }
    labels_differ, accuracies = _labels_differ(one, other), (one.accuracy, other.accuracy)
    return Comparison((one.name, other.name), agreements, by_source, labels_differ, accuracies)


@dataclass(frozen=True, eq=False)
class _Side:
    """A file, with rows; or outcomes, and of a run what is known of its examples: ids where they are to be translated."""

    name: str
    n_train: int | None
    rows: pd.DataFrame | None = None
    outcomes: OutcomeSource | None = None
    labels: Array | None = None
    train_ids: Array | None = None
    held_out_ids: Array | None = None
    source: str = ""
    accuracy: Accuracy | None = None

    def positions(self, ids: Array, *, held_out: bool) -> Array:
        """Of ids from 0 on, in the source where they are translated."""
        known = self.held_out_ids if held_out else self.train_ids
        return ids if known is None else known[ids]


def _opened(given: OutcomesOrRun | str | Path) -> _Side:
    if isinstance(given, str | Path) and not is_run(given):
        if "://" in str(given) or Path(given).is_dir() or not Path(given).exists():
            raise InputError(f"{given}: expected a run, or a file of scores, found neither; check the path")
        table = read_scores(given)
        return _Side(str(given), table.n_train, table.frame, labels=table.labels)
    if isinstance(given, Run | str | Path):
        run = current_run(given)
        data, outcomes = run.dataset(), run.outcomes("design")
        ids = (data.train_ids, data.held_out_ids)
        return _Side(str(run.place), data.n_train, None, outcomes, data.y_train, *ids, data.source, run.accuracy())
    outcomes = as_outcomes(given)
    return _Side(f"{outcomes.n_models:,} models", outcomes.n_train, None, outcomes)


def _matched_by_source(one: _Side, other: _Side) -> bool:
    """Whether ids have to be translated; raises where they cannot be."""
    if one.n_train is None or other.n_train is None:
        return False
    if one.n_train == other.n_train:
        ids = [side.train_ids for side in (one, other)]
        in_order = [known is None or np.array_equal(known, np.arange(len(known))) for known in ids]
        return not (any(in_order) or np.array_equal(np.asarray(ids[0]), np.asarray(ids[1])))
    if not (_reaches(one, other) or _reaches(other, one)):
        n_a, n_b = one.n_train, other.n_train
        raise InputError(
            f"expected scores of the same examples: {one.name} has {n_a:,} training examples, {other.name} {n_b:,}"
        )
    return True


def _reaches(run: _Side, other: _Side) -> bool:
    """Whether a run is known to hold a part of the other side's source."""
    if run.train_ids is None:
        return False
    if other.rows is None:
        return other.train_ids is not None and run.source == other.source
    return other.n_train is not None and int(run.train_ids.max()) < other.n_train


def _outcome(*sides: _Side) -> OutcomeKind:
    """The first that all recorded."""
    kinds = set(OUTCOME_KINDS)
    for side in sides:
        for block in () if side.outcomes is None else side.outcomes.blocks(slice(0, 1), n_rows=1):
            kinds &= {kind for kind in OUTCOME_KINDS if getattr(block, kind) is not None}
            break
    if not kinds:
        raise InputError("expected scores in one unit: one side recorded only correct, the other only margin")
    return next(kind for kind in OUTCOME_KINDS if kind in kinds)


def _frame(side: _Side, n_train: int, outcome: OutcomeKind, wanted: pd.DataFrame | None = None) -> pd.DataFrame:
    """Rows of kind, source, target, value and se, with ids that mean the same on both sides; of models, those wanted."""
    if side.rows is not None:
        rows = _named(side, side.rows, side.n_train or n_train)
        return pd.concat([_thinned(_of_kind(rows, kind)) for kind in KINDS])
    assert side.outcomes is not None
    outcomes, n = side.outcomes, side.outcomes.n_train
    own, ids, n_columns = memorization(outcomes, outcome=outcome), np.arange(n), outcomes.n_columns
    frames = [_named(side, score_frame(own.rankable, own.se, ids, ids), n)]
    sides: dict[ProtocolName, range] = {"held-out": range(n, n_columns), "left-out": range(n)}
    for protocol, columns in sides.items():
        pairs = None if wanted is None else _of_kind(wanted, f"influence, {protocol}")
        if pairs is None:
            sources, some = ids, random_columns(n, columns)
        else:
            targets = side.positions(np.arange(len(columns)), held_out=protocol == "held-out")
            sources = np.flatnonzero(np.isin(side.positions(ids, held_out=False), pairs["source"]))
            some = np.flatnonzero(np.isin(targets, pairs["target"])) + columns.start
        if not len(sources) or not len(some):
            continue
        for block in influence_blocks(outcomes, protocol=protocol, outcome=outcome, sources=sources, columns=some):
            axes = np.asarray(block.sources), np.asarray(block.columns)
            rows = _named(side, score_frame(block.rankable, block.se, *axes), n)
            frames.append(rows if pairs is None else rows.merge(pairs.filter(["kind", "source", "target"])))
    return pd.concat(frames)


def _named(side: _Side, rows: pd.DataFrame, n_train: int) -> pd.DataFrame:
    """With the kind of each row, and a held-out target counted from 0."""
    source, target = (rows[name].to_numpy() for name in ("source", "target"))
    held_out = (target >= n_train) | (target < 0)
    kind = np.select([held_out, source != target], KINDS[1:], KINDS[0])
    target = np.where(target < 0, -1 - target, target - n_train * held_out)
    target[held_out] = side.positions(target[held_out], held_out=True)
    target[~held_out] = side.positions(target[~held_out], held_out=False)
    return rows.assign(kind=kind, source=side.positions(source, held_out=False), target=target)


def _of_kind(rows: pd.DataFrame, kind: str) -> pd.DataFrame:
    return rows.loc[(rows["kind"] == kind).to_numpy()]


def _thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of random targets where they are more than a comparison looks at."""
    if len(rows) <= MAX_PAIRS:
        return rows
    targets = np.unique(rows["target"].to_numpy())
    n = max(1, len(targets) * MAX_PAIRS // len(rows))
    some = targets[seeded(0).permutation(len(targets))[:n]]
    return rows.loc[np.isin(rows["target"].to_numpy(), some)]


def _labels_differ(one: _Side, other: _Side) -> int | None:
    if one.labels is None or other.labels is None:
        return None
    both = (one, one.labels), (other, other.labels)
    a, b = (side.positions(np.arange(len(labels)), held_out=False) for side, labels in both)
    _, here, there = np.intersect1d(a, b, return_indices=True)
    return int((one.labels[here] != other.labels[there]).sum())

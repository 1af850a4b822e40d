"""Turns outcomes into the pairs worth listing of an influence matrix that is never held.

The matrix passes by in blocks of columns. Of each the largest influences are taken, and all with a small p-value; of the rest
only how many p-values fell where. What is found at a false discovery rate follows at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from infl.records import Array, Estimate, InputError, OutcomeKind, OutcomesOrRun, ProtocolName, ScoredPair
from infl.scores.evidence import PValueCounts, check_q_over, q_values
from infl.scores.influence import influence_blocks

MAX_P = 0.01  # pairs with a larger p-value are not held for that alone
MAX_EVIDENT_PAIRS = 1 << 23
_PAIR = np.dtype([("source", "i4"), ("target", "i4"), *((name, "f8") for name in ("value", "se", "p", "q"))])


@dataclass(frozen=True)
class StrongestInfluences:
    """Pairs of an influence matrix, those that help most first; each array has one entry per pair, [pairs].

    Attributes:
        source: Ids of D.
        target: Columns: a target of n or more is held out.
        value: Influence, as of `infl.influence`.
        se: Its standard error.
        p: Its p-value.
        q: Over all pairs of the matrix or of the column.
        n_tests: Pairs of the matrix that have a p-value.
        largest_p: p-value up to which pairs are found at `false_discovery_rate` over the matrix; 0 where none is.
        complete: Whether all that are found are among the pairs.
        n_without_error: Pairs with a score but no error, since one model is on a side: in no ranking.
    """

    source: Array
    target: Array
    value: Array
    se: Array
    p: Array
    q: Array
    protocols: tuple[ProtocolName, ...]
    outcome: OutcomeKind
    n_tests: int
    false_discovery_rate: float
    largest_p: float
    complete: bool
    n_without_error: int

    def __len__(self) -> int:
        return len(self.source)

    def pairs(self, n_pairs: int) -> list[ScoredPair]:
        """The first ones."""
        names = ("source", "target", "value", "se", "p", "q")
        return [
            ScoredPair(*row) for row in zip(*(getattr(self, name)[:n_pairs].tolist() for name in names), strict=True)
        ]


def strongest_influences(
    outcomes: OutcomesOrRun,
    *,
    n_pairs: int = 10,
    n_per_column: int = 0,
    protocols: Sequence[ProtocolName] = ("held-out",),
    outcome: OutcomeKind = "correct",
    q_over: Literal["matrix", "column"] = "matrix",
    false_discovery_rate: float = 0.05,
) -> StrongestInfluences:
    """The largest influences, the largest on every column, and all that are found at a false discovery rate.

    Ordered by the plain, signed score: not by its size, so that pairs that harm are never before those that help, and not by
    its evidence, so that a q may be large beside a large score. Picking the largest of many noisy values favours lucky ones;
    the standard error beside each is that of the single pair, the q-value counts how many there were to pick from.

    q-values are those of Benjamini & Hochberg (1995) to 0.12%, see `PValueCounts`. Memory: that of `influence_blocks` and some
    40 bytes a pair.

    Args:
        n_pairs: Pairs with the largest value.
        n_per_column: Pairs of each column with the largest |value|.
        protocols: Of the columns of D (`left-out` or `trained`) and of H (`held-out`).
        q_over: q-values over all pairs of these protocols together, or over those of each pair's column, see `q_values`.
        false_discovery_rate: Pairs found at it over the matrix are there too, unless there are more than 8 million.

    Raises:
        InputError: where there are no models or no such columns, the outcome was not recorded, or a number is out of range.

    Examples:
        >>> import numpy as np, infl
        >>> masks = np.random.RandomState(0).rand(200, 9).argsort(axis=1) < 6
        >>> taught = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 4]])  # example 4 teaches held-out column 9
        >>> found = infl.strongest_influences(taught, n_pairs=1)
        >>> int(found.source[0]), int(found.target[0]), float(found.value[0].round(2))
        (4, 9, 1.0)
    """
    check_q_over(q_over)
    if n_pairs < 0 or n_per_column < 0 or not 0 < false_discovery_rate < 1 or not protocols:
        raise InputError(
            "strongest influences: expected 0 pairs or more, 0 a column or more, a false discovery rate in (0, 1) and a "
            f"protocol; got {n_pairs}, {n_per_column}, {false_discovery_rate} and {list(protocols)}"
        )
    gathered = _Gathered(n_pairs, n_per_column, q_over)
    for protocol in protocols:
        for block in influence_blocks(outcomes, protocol=protocol, outcome=outcome):
            gathered.add(block)
    largest_p = gathered.counts.largest_p(false_discovery_rate)
    pairs, of_column = np.concatenate(gathered.pairs), np.concatenate(gathered.of_column)
    order = np.argsort(-pairs["value"], kind="stable")
    pairs, of_column = pairs[order], of_column[order]
    listed = (np.arange(len(pairs)) < n_pairs) | of_column | (pairs["p"] <= largest_p)
    pairs = pairs[listed]
    if q_over == "matrix":
        pairs["q"] = gathered.counts.q_values(pairs["p"])
    return StrongestInfluences(
        **{name: pairs[name] for name in _PAIR.names or ()},
        protocols=tuple(protocols),
        outcome=outcome,
        n_tests=gathered.counts.total,
        false_discovery_rate=false_discovery_rate,
        largest_p=largest_p,
        complete=largest_p <= gathered.max_p,
        n_without_error=gathered.n_without_error,
    )


@dataclass
class _Gathered:
    """What is held of the blocks so far: pairs among the largest of all or of their column, and those with p <= max_p."""

    n_pairs: int
    n_per_column: int
    q_over: Literal["matrix", "column"]
    counts: PValueCounts = field(default_factory=lambda: PValueCounts.of([]))
    pairs: list[Array] = field(default_factory=list)
    of_column: list[Array] = field(default_factory=list)
    largest: Array = field(default_factory=lambda: np.zeros(0))
    max_p: float = MAX_P
    n_without_error: int = 0

    def add(self, block: Estimate) -> None:
        assert block.p is not None
        assert block.columns is not None
        self.counts += PValueCounts.of([block.p])
        self.n_without_error += int((np.isnan(block.rankable) & ~np.isnan(block.value)).sum())
        of_column = _largest_in_columns(block.rankable, self.n_per_column)
        i, j = np.nonzero(of_column | self._among_largest(block.rankable) | (block.p <= self.max_p))
        pairs = np.zeros(len(i), _PAIR)
        pairs["source"], pairs["target"] = i, block.columns[j]
        for name in ("value", "se", "p"):
            pairs[name] = getattr(block, name)[i, j]
        if self.q_over == "column":
            pairs["q"] = q_values(block.p, axis=0)[i, j]
        self.pairs.append(pairs)
        self.of_column.append(of_column[i, j])
        if sum(map(len, self.pairs)) - sum(map(np.count_nonzero, self.of_column)) > MAX_EVIDENT_PAIRS:
            self._prune()

    def _among_largest(self, value: Array) -> Array:
        """Whether each may be among the `n_pairs` largest of all."""
        flat, floor = value.ravel(), self._floor()
        at = np.flatnonzero(flat >= floor) if self.n_pairs else np.zeros(0, np.int64)
        if len(at) > self.n_pairs:
            at = at[np.argpartition(-flat[at], self.n_pairs - 1)[: self.n_pairs]]
        self.largest = np.sort(np.concatenate([self.largest, flat[at]]))[-self.n_pairs or len(at) :]
        among = np.zeros(len(flat), bool)
        among[at] = True
        return among.reshape(value.shape)

    def _floor(self) -> float:
        return float(self.largest[0]) if 0 < self.n_pairs <= len(self.largest) else -np.inf

    def _prune(self) -> None:
        """Halve the pairs that are held for their p-value alone."""
        pairs, of_column = np.concatenate(self.pairs), np.concatenate(self.of_column)
        needed = of_column | (pairs["value"] >= self._floor()) if self.n_pairs else of_column
        self.max_p = min(self.max_p, float(np.median(pairs["p"][~needed])))
        held = needed | (pairs["p"] < self.max_p)
        self.max_p = float(np.nextafter(self.max_p, 0))
        self.pairs, self.of_column = [pairs[held]], [of_column[held]]


def _largest_in_columns(value: Array, n: int) -> Array:
    """Whether each score is among the n of its column with the largest size, [sources, columns]; never one that is NaN."""
    found = np.zeros(value.shape, bool)
    if n:
        size = np.where(np.isnan(value), -1.0, np.abs(value))
        n = min(n, len(size))
        np.put_along_axis(found, np.argpartition(-size, n - 1, axis=0)[:n], True, axis=0)
        found &= size >= 0
    return found


def evident_pairs(estimate: Estimate, *, n_pairs: int) -> list[ScoredPair]:
    """The pairs that chance explains least, helpful or harmful: smallest p-value first; none without an error.

    Not the largest first, since those are the ones of the fewest models. q-values are over the pairs of the estimate.
    """
    shape = estimate.value.shape
    sources = np.arange(shape[0]) if estimate.sources is None else estimate.sources
    columns = np.arange(shape[1]) if estimate.columns is None else estimate.columns
    p = np.full(shape, np.nan) if estimate.p is None else estimate.p
    q, size = q_values(p), np.abs(estimate.rankable)
    order = np.lexsort((-size.ravel(), p.ravel()))  # NaN comes last
    rows, at = np.unravel_index(order[~np.isnan(size.ravel()[order])][:n_pairs], shape)
    scores = [array[rows, at].tolist() for array in (estimate.value, estimate.se, p, q)]
    return [ScoredPair(*pair) for pair in zip(sources[rows].tolist(), columns[at].tolist(), *scores, strict=True)]

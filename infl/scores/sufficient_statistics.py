"""What a contrast is made from: sums over models that add up, so that outcomes pass by once, in blocks, and are never held.

The models that count for a column, by the protocol, are on two sides of a source: inside, which trained on it, and outside.
Of each side a contrast takes the number of models and their weighted moments (`Moments`), and of the column how outcomes
scatter within the strata of the design (`Spread`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TypeVar

import numpy as np

from infl.records import Array, Columns, InputError, OutcomeKind, Outcomes, OutcomeSource, ProtocolName

Statistics = TypeVar("Statistics", "SufficientStatistics", "Moments", "Spread")
SOURCES_AT_ONCE = 1 << 16  # whose masks, as float32, and sums of one block are in memory beside the totals
MAX_OWN_ENTRIES = 1 << 24  # of each of the float64 arrays that `own_statistics` makes of a block


@dataclass(frozen=True)
class SufficientStatistics:
    """Models that trained on the source, models that did not, and the spread of the columns. Those of two runs add up.

    Attributes:
        is_binary: Whether outcomes are 0/1.
    """

    inside: Moments
    outside: Moments
    spread: Spread
    is_binary: bool

    def __add__(self, other: SufficientStatistics) -> SufficientStatistics:
        sides = self.inside + other.inside, self.outside + other.outside
        return SufficientStatistics(*sides, self.spread + other.spread, self.is_binary and other.is_binary)

    def variances_of_means(self) -> tuple[Array, Array]:
        """Of the mean of each side; NaN where it has fewer than two models.

        Of 0/1 outcomes by their mean, of all others by the sample, of shares at least what one token of one model makes.
        """
        if self.is_binary:
            return self.inside.smoothed_variance_of_mean(), self.outside.smoothed_variance_of_mean()
        inside, outside = self.inside.variance_of_mean(), self.outside.variance_of_mean()
        if self.spread.tokens.any():
            tokens = self.spread.tokens / np.maximum(self.spread.n, 1)
            inside = np.maximum(inside, (tokens * self.inside.effective) ** -2)
            outside = np.maximum(outside, (tokens * self.outside.effective) ** -2)
        return inside, outside


def own_statistics(source: OutcomeSource, *, outcome: OutcomeKind, n_rows: int = 128) -> SufficientStatistics:
    """Of every training example and its own outcome, over all models, [n]."""
    total: SufficientStatistics | None = None
    n_rows = min(n_rows, max(8, MAX_OWN_ENTRIES // source.n_train))
    for block in source.blocks(slice(0, source.n_train), n_rows=n_rows, kinds=(outcome,)):
        y, masks = block.of(outcome).astype(np.float64), block.masks.astype(np.float64)
        in_weights, out_weights = size_weights(block.masks, "held-out")
        weights = np.stack([np.ones(len(y)), in_weights, in_weights**2, out_weights, out_weights**2])
        # Sums of weights and of outcomes are added up in the same order, so that a mean of equal outcomes is exactly theirs.
        n, w, ww, w_out, ww_out = weights @ masks
        _, wy, _, wy_out, _ = weights @ (masks * y)
        _, wyy, _, wyy_out, _ = weights @ (masks * y * y)
        n_all, _, _, w_all, ww_all = weights @ np.ones_like(y)
        _, _, _, wy_all, _ = weights @ y
        _, _, _, wyy_all, _ = weights @ (y * y)
        inside = Moments(n, w, ww, wy, wyy)
        outside = Moments(n_all - n, w_all - w_out, ww_all - ww_out, wy_all - wy_out, wyy_all - wyy_out)
        spread = measure_spread(y, strata=block.strata, own=masks, tokens=_tokens(block, outcome))
        part = SufficientStatistics(inside, outside, spread, block.is_binary(outcome))
        total = part if total is None else total + part
    if total is None:
        raise no_models()
    return total


def pair_statistics(
    blocks: Iterable[Outcomes], *, sources: Array, columns: Columns, protocol: ProtocolName, outcome: OutcomeKind
) -> PairStatistics:
    """Of every pair of a source in `sources` (ids of D) and a column in `columns`, over all models.

    Memory: the masks of a block and a few arrays [sources, columns], whatever the number of models.

    Args:
        blocks: Of models, with these columns alone.
    """
    pieces = np.array_split(sources, max(1, -(-len(sources) // SOURCES_AT_ONCE)))
    totals: list[PairStatistics] = []
    for block in blocks:
        parts = _block_statistics(block, pieces, columns, protocol, outcome)
        totals = [total + part for total, part in zip(totals, parts, strict=True)] if totals else list(parts)
    if not totals:
        raise no_models()
    return _stacked(totals)


def no_models() -> InputError:
    """What is said where there is nothing to score."""
    return InputError("no models to score: the run holds none that are complete and finite; train some first")


def protocol_columns(source: OutcomeSource, protocol: ProtocolName) -> slice:
    """The columns that a protocol is about: those of H, or those of D."""
    columns = slice(source.n_train, source.n_columns) if protocol == "held-out" else slice(0, source.n_train)
    if columns.start >= columns.stop:
        raise InputError(f"protocol {protocol}: these outcomes have no such columns")
    return columns


def as_slice(columns: Array) -> Columns:
    """Numbers of columns as a slice where they can be one: the store reads it without unpacking the others."""
    first, stop = int(columns[0]), int(columns[0]) + len(columns)
    return slice(first, stop) if np.array_equal(columns, np.arange(first, stop)) else columns


def columns_counted(masks: Array, protocol: ProtocolName, columns: Columns) -> Array | None:
    """[models, columns] bool: which models count for which column in this protocol; None where all do."""
    if protocol == "held-out":
        return None
    return masks[:, columns] if protocol == "trained" else ~masks[:, columns]


def size_weights(masks: Array, protocol: ProtocolName) -> tuple[Array, Array]:
    """Weights of each model on the inside, 1 - p, and on the outside, p, [models].

    p is the chance that a source other than the column is a member: k/n, and of the n - 1 others where the column is known
    to be out (`left-out`) or in (`trained`).
    """
    others = masks.shape[1] - (protocol != "held-out")
    members = np.count_nonzero(masks, axis=1) - (protocol == "trained")
    fraction = np.clip(members / max(others, 1), 0, 1)
    return 1 - fraction, fraction


@dataclass(frozen=True)
class Moments:
    """Sums over the models on one side of a contrast, weights w: n models, w, w^2, w y, w y^2."""

    n: Array
    w: Array
    ww: Array
    y: Array
    yy: Array

    def __add__(self, other: Moments) -> Moments:
        return _added(self, other)

    @cached_property
    def weight(self) -> Array:
        """Sum of the weights; NaN where there are no models."""
        return np.where((self.n > 0) & (self.w > 0), self.w, np.nan)

    @cached_property
    def mean(self) -> Array:
        """Weighted mean of the outcomes; NaN where there are no models."""
        return self.y / self.weight

    @cached_property
    def effective(self) -> Array:
        """Independent models of equal weight that would tell as much; NaN where there are fewer than two."""
        effective = self.weight**2 / np.where(self.n > 0, self.ww, np.nan)
        return np.where((self.n > 1) & (effective > 1), effective, np.nan)

    def variance_of_mean(self) -> Array:
        """By the sample variance; NaN where there are fewer than two models."""
        return np.maximum(self.yy / self.weight - self.mean * self.mean, 0) / (self.effective - 1)

    def smoothed_variance_of_mean(self) -> Array:
        """Of 0/1 outcomes, after one success and one failure were added; NaN where there are fewer than two models."""
        mean = (self.mean * self.effective + 1) / (self.effective + 2)
        return mean * (1 - mean) / (self.effective + 2)


@dataclass(frozen=True)
class PairStatistics:
    """Statistics of pairs, [sources or 1, columns or 1], as counts as long as all subsets have one size.

    Attributes:
        weights: That all models have inside and outside, where subsets have one size; None where sizes differ.
        sums: By name. Where subsets have one size: n_in and y_in over the models with the source, n and y over all, and
            squares yy_in and yy of outcomes that are not 0/1; int32 where they count. Where sizes differ: what `Moments`
            hold, as inside_n, inside_w ... outside_y.
        spread: Of the columns.
    """

    weights: tuple[float, float] | None
    sums: dict[str, Array]
    spread: Spread

    def __add__(self, other: PairStatistics) -> PairStatistics:
        mine, theirs = self, other
        if mine.weights is None or mine.weights != theirs.weights:
            mine, theirs = mine._weighted(), theirs._weighted()
        sums = {name: array + theirs.sums[name] for name, array in mine.sums.items()}
        return PairStatistics(mine.weights, sums, mine.spread + theirs.spread)

    def statistics(self, sources: slice = slice(None)) -> SufficientStatistics:
        """Both sides and the spread; of some of the sources, counted from the first."""
        sums = {name: array if len(array) == 1 else array[sources] for name, array in self.sums.items()}
        weighted = PairStatistics(self.weights, sums, self.spread)._weighted().sums
        sides = _moments("inside", weighted), _moments("outside", weighted)
        return SufficientStatistics(*sides, self.spread, is_binary="inside_yy" not in weighted)

    def _weighted(self) -> PairStatistics:
        """With the weights of the size of subsets in the sums, so that those of other sizes can be added."""
        if self.weights is None:
            return self
        given = {name: array.astype(np.float64) for name, array in self.sums.items()}
        sums: dict[str, Array] = {}
        for side, weight in zip(("inside", "outside"), self.weights, strict=True):
            of_side = {
                name: given[f"{name}_in"] if side == "inside" else given[name] - given[f"{name}_in"]
                for name in ("n", "y", "yy")
                if name in given
            }
            n = of_side.pop("n")
            sums |= {f"{side}_n": n, f"{side}_w": n * weight, f"{side}_ww": n * weight**2}
            sums |= {f"{side}_{name}": array * weight for name, array in of_side.items()}
        return PairStatistics(None, sums, self.spread)


def _stacked(parts: list[PairStatistics]) -> PairStatistics:
    """Statistics of some sources above those of the next, all of the same models and columns."""
    first = parts[0]
    if len(parts) == 1:
        return first
    sums = {
        name: np.concatenate([part.sums[name] for part in parts])
        if first.weights is None or name.endswith("_in")
        else array
        for name, array in first.sums.items()
    }  # where subsets have one size, sums over all models are of no source
    return PairStatistics(first.weights, sums, first.spread)


def _moments(side: str, sums: dict[str, Array]) -> Moments:
    n, w, ww, y = (sums[f"{side}_{name}"] for name in ("n", "w", "ww", "y"))
    return Moments(n, w, ww, y, sums.get(f"{side}_yy", y))  # of 0/1 outcomes the squares are the outcomes


def _block_statistics(
    block: Outcomes, pieces: Sequence[Array], columns: Columns, protocol: ProtocolName, outcome: OutcomeKind
) -> Iterator[PairStatistics]:
    """Statistics of one block of models, of some sources after the other."""
    y, counted = block.of(outcome), columns_counted(block.masks, protocol, columns)
    spread = measure_spread(y, counted=counted, strata=block.strata, tokens=_tokens(block, outcome))
    is_binary = block.is_binary(outcome)
    if counted is None:
        ones = np.ones((len(y), 1), np.float32)
    else:
        ones, y = counted.astype(np.float32), y * counted
    terms = {"n": ones, "y": y} | ({} if is_binary else {"yy": y * y})
    weights, _ = size_weights(block.masks, protocol)
    for sources in pieces:
        members = np.ascontiguousarray(block.masks[:, sources].T, dtype=np.float32)
        if np.ptp(weights) > 0:
            yield PairStatistics(None, _weighted_sums(members, weights, terms), spread)
            continue
        sums: dict[str, Array] = {}
        for name, x in terms.items():
            dtype = np.int32 if name == "n" or is_binary else np.float64
            sums[f"{name}_in"] = (members @ x).astype(dtype)
            sums[name] = x.sum(axis=0, dtype=np.float64)[None].astype(dtype)
        yield PairStatistics((float(weights[0]), float(1 - weights[0])), sums, spread)


def _tokens(block: Outcomes, outcome: OutcomeKind) -> Array | float:
    """[columns] tokens that outcomes are means of; 0 where they are no shares."""
    return 0.0 if outcome != "correct" or block.is_binary(outcome) else block.tokens.astype(np.float64)


def _weighted_sums(members: Array, weights: Array, terms: dict[str, Array]) -> dict[str, Array]:
    powers = {"n": ("n", 0), "w": ("n", 1), "ww": ("n", 2), "y": ("y", 1), "yy": ("yy", 1)}
    weighted = {
        (side, name): (w[:, None] ** power * terms[term]).astype(np.float32)
        for name, (term, power) in powers.items()
        for side, w in (("inside", weights), ("outside", 1 - weights))
        if term in terms
    }
    # One product for all: of few columns each takes as long as reading the masks.
    products = members @ np.concatenate(list(weighted.values()), axis=1)
    ends = np.cumsum([part.shape[1] for part in weighted.values()])
    sums: dict[str, Array] = {}
    for (side, name), part in zip(weighted, np.split(products, ends[:-1], axis=1), strict=True):
        everyone = weighted[side, name].sum(axis=0, dtype=np.float64)
        sums[f"{side}_{name}"] = part.astype(np.float64) if side == "inside" else everyone - part.astype(np.float64)
    return sums


@dataclass(frozen=True)
class Spread:
    """Sums over the models that count for a column.

    Attributes:
        n, y, yy: [columns] models, outcomes, squared outcomes.
        within: [4, columns] degrees of freedom, y y, y x and x x within strata, where x is whether the column's own
            example is in (0 in contrasts of pairs).
        across: [3, columns] sums of x, y x and x x over all models.
        tokens: [columns] sum over models of the tokens that an outcome is a mean of; 0 where outcomes are no shares.
    """

    n: Array
    y: Array
    yy: Array
    within: Array
    across: Array
    tokens: Array

    def __add__(self, other: Spread) -> Spread:
        return _added(self, other)

    def design_factor(self, own: Array | float = 0.0) -> Array:
        """Variance within strata over variance among all models, [columns]; 1 where there are no strata or no variance.

        Args:
            own: Contrast of each column with its own example, taken off its outcomes.
        """
        freedom, yy, yx, xx = self.within
        x, across_yx, across_xx = self.across
        within = yy - 2 * own * yx + own**2 * xx
        mean_square = (self.y - own * x) ** 2 / np.maximum(self.n, 1)
        everywhere = self.yy - 2 * own * across_yx + own**2 * across_xx - mean_square
        usable = (freedom > 0) & (self.n > 1) & (within > 0) & (everywhere > 1e-9 * np.maximum(self.n, 1))
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(usable, within / freedom / (everywhere / (self.n - 1)), 1.0)


def measure_spread(
    y: Array,
    *,
    counted: Array | None = None,
    strata: Array | None = None,
    own: Array | None = None,
    tokens: Array | float = 0.0,
) -> Spread:
    """Of a block: y [models, columns]; counted, own: bool [models, columns]; strata [models]; tokens [columns]."""
    columns = y.shape[1]
    y = y.astype(np.float64)
    n = np.full(columns, float(len(y))) if counted is None else counted.sum(axis=0, dtype=np.float64)
    y = y if counted is None else y * counted
    x = np.zeros((len(y), 1)) if own is None else own.astype(np.float64)
    across = np.stack([np.broadcast_to(part.sum(axis=0), columns) for part in (x, y * x, x * x)])
    # A protocol that counts other models for each column takes the strata apart.
    within = np.zeros((4, columns)) if strata is None or counted is not None else _within_strata(y, x, strata)
    return Spread(n, y.sum(axis=0), (y * y).sum(axis=0), within, across, tokens * n)


def _within_strata(y: Array, x: Array, strata: Array) -> Array:
    order = np.argsort(strata, kind="stable")
    y, x = y[order], x[order]
    starts = np.flatnonzero(np.diff(strata[order], prepend=strata[order[0]] - 1))
    sizes = np.diff(starts, append=len(y))[:, None]
    sum_y, sum_x = np.add.reduceat(y, starts, axis=0), np.add.reduceat(x, starts, axis=0)
    within = np.zeros((4, y.shape[1]))
    within[0] = len(y) - len(starts)
    within[1] = (y * y).sum(axis=0) - (sum_y * sum_y / sizes).sum(axis=0)
    within[2] = (y * x).sum(axis=0) - (sum_y * sum_x / sizes).sum(axis=0)
    within[3] = (x * x).sum(axis=0) - (sum_x * sum_x / sizes).sum(axis=0)
    return within


def _added(one: Statistics, other: Statistics) -> Statistics:
    """Field by field."""
    return type(one)(*(getattr(one, field.name) + getattr(other, field.name) for field in fields(one)))

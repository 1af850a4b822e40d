"""Turns outcomes into the part of the influence matrix that a question asks for: one example's, or that within classes.

The matrix itself is never made. A row costs one pass over the models, and so does a column, or the square of a class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from infl.records import Array, Estimate, InputError, OutcomeKind, OutcomeSource, Reading, ScoredPair
from infl.scores.contrasts import sum_pairs
from infl.scores.evidence import q_values
from infl.scores.influence import without_own
from infl.scores.sides import columns_of


@dataclass(frozen=True)
class Part:
    """A part of the influence matrix: the ids of its rows and columns, and the estimate, [sources, targets]."""

    sources: Array
    targets: Array
    estimate: Estimate


@dataclass(frozen=True)
class ExampleInfluences:
    """Every influence that one example has or is under.

    example: its column: below n a training example, from n on a held-out one.
    influenced_by: of every training example on it, [n, 1], reading `left-out` for a training example, else `held-out`.
    held_out: of it on every held-out example, [1, m]; None where it is one itself, since nobody trained on it.
    left_out: of it on every training example, by the models that did not train on that one, [1, n]; None likewise.
    """

    example: int
    influenced_by: Part
    held_out: Part | None
    left_out: Part | None


def influences_of(outcomes: OutcomeSource, example: int, *, outcome: OutcomeKind = "correct") -> ExampleInfluences:
    """Who influences an example, and whom it influences; see `influence` for what an influence is.

    example: a training example 0..n-1, or a held-out one n..n+m-1. Memory: a few arrays [512 models, n+m].

    NaN for an example's influence on itself (that is its memorization) and where a side has no models.

    Raises:
        InputError: where there is no such example or no model, or the outcome was not recorded.

    Example:
        >>> import numpy as np, infl
        >>> masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]] * 4, bool)
        >>> taught = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0]])  # held-out 3 is right where 0 was in
        >>> infl.influences_of(taught, 3).influenced_by.estimate.value.ravel()
        array([ 1. , -0.5, -0.5])
    """
    n_train, n_columns = outcomes.n_train, outcomes.n_columns
    if not 0 <= example < n_columns:
        raise InputError(
            f"example: expected a training example 0..{n_train - 1} or a held-out one {n_train}..{n_columns - 1}, "
            f"got {example}"
        )

    def part(sources: Array, targets: Array, reading: Reading) -> Part:
        return Part(sources, targets, influence_between(outcomes, sources, targets, reading=reading, outcome=outcome))

    everyone, alone, others = np.arange(n_train), np.array([example]), np.arange(n_train, n_columns)
    if example >= n_train:
        return ExampleInfluences(example, part(everyone, alone, "held-out"), None, None)
    return ExampleInfluences(
        example,
        part(everyone, alone, "left-out"),
        part(alone, others, "held-out") if len(others) else None,
        part(alone, everyone, "left-out"),
    )


def influence_between(
    outcomes: OutcomeSource,
    sources: Sequence[int] | Array,
    targets: Sequence[int] | Array,
    *,
    reading: Reading,
    outcome: OutcomeKind = "correct",
) -> Estimate:
    """Influence of some training examples on some columns, [sources, targets]; NaN of an example on itself.

    Raises:
        InputError: where a source is no training example, a target no column of the reading, there are no models, or the
            outcome was not recorded.
    """
    rows, columns = np.asarray(sources, np.int64), np.asarray(targets, np.int64)
    of_reading = columns_of(outcomes, reading)
    wanted_ids = (("sources", rows, 0, outcomes.n_train), ("targets", columns, of_reading.start, of_reading.stop))
    for name, ids, low, high in wanted_ids:
        if ids.ndim != 1 or not len(ids) or ids.min() < low or ids.max() >= high:
            raise InputError(f"{name}: expected numbers {low}..{high - 1} in reading {reading}, at least one")
    # A slice where it can be one: the store reads it without unpacking the others.
    whole = np.array_equal(columns, np.arange(columns[0], columns[0] + len(columns)))
    wanted = slice(int(columns[0]), int(columns[0]) + len(columns)) if whole else columns
    sums = sum_pairs(outcomes, sources=rows, columns=wanted, reading=reading, outcome=outcome)
    return without_own(sums.estimate(reading=reading, outcome=outcome), rows, columns)


def influence_within_classes(
    outcomes: OutcomeSource, labels: Array, *, n_classes: int, outcome: OutcomeKind = "correct"
) -> Iterator[tuple[Array, Array, Estimate | None]]:
    """Yield, class after class, its training examples, its held-out columns, and the influence of the ones on the others.

    labels: [n+m]. The estimate, [sources, columns] in reading `held-out`, is None where a class lacks either.

    Raises:
        InputError: where there are no models, or the outcome was not recorded.
    """
    for c in range(n_classes):
        members = np.flatnonzero(labels == c)
        sources, targets = members[members < outcomes.n_train], members[members >= outcomes.n_train]
        if not len(sources) or not len(targets):
            yield sources, targets, None
            continue
        yield sources, targets, influence_between(outcomes, sources, targets, reading="held-out", outcome=outcome)


def top_of(part: Part, *, n_pairs: int) -> list[ScoredPair]:
    """The pairs of a part that chance explains least, helpful or harmful: smallest p-value first; none without an estimate.

    Not the largest first, since those are the ones of the fewest models. q-values are over the pairs of the part.
    """
    estimate = part.estimate
    p = np.full(estimate.value.shape, np.nan) if estimate.p is None else estimate.p
    q, size = q_values(p), np.abs(estimate.value)
    order = np.lexsort((-size.ravel(), p.ravel()))  # NaN comes last
    rows, columns = np.unravel_index(order[~np.isnan(size.ravel()[order])][:n_pairs], size.shape)
    return [
        ScoredPair(
            int(part.sources[i]),
            int(part.targets[j]),
            *(float(array[i, j]) for array in (estimate.value, estimate.se, p, q)),
        )
        for i, j in zip(rows, columns, strict=True)
    ]

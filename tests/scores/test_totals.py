"""Sums over models add up: those of any two sets of models make those of both, and counts do so bit for bit.

Sums that are kept beside a run are worth as much as this: if the way models are split showed in a score, scores of one run
would depend on how often they were asked for. Counts are held to a plain loop over models, weighted sums to those of all
models at once. Outcomes that are no bits must not be cut to integers.
"""

from __future__ import annotations

import numpy as np
import pytest

from infl.records import OutcomeKind, Outcomes, ProtocolName
from infl.scores.contrasts import PairTotals, sum_pairs, total_block

N, M, T = 7, 5, 60
READINGS: list[tuple[ProtocolName, slice]] = [
    ("held-out", slice(N, N + M)),
    ("left-out", slice(0, N)),
    ("trained", slice(0, N)),
]


def make_outcomes(*, sizes: tuple[int, ...] = (4,), seed: int = 0) -> Outcomes:
    random = np.random.default_rng(seed)
    masks = random.random((T, N)).argsort(axis=1) < np.resize(sizes, T)[:, None]
    return Outcomes(masks, random.random((T, N + M)) < 0.6, random.normal(size=(T, N + M)))


def some(outcomes: Outcomes, rows: np.ndarray | slice) -> Outcomes:
    assert outcomes.correct is not None
    assert outcomes.margin is not None
    return Outcomes(outcomes.masks[rows], outcomes.correct[rows], outcomes.margin[rows])


def totals_of(
    outcomes: Outcomes, columns: slice, protocol: ProtocolName, outcome: OutcomeKind = "correct"
) -> PairTotals:
    block = next(iter(outcomes.blocks(columns)))
    return total_block(block, np.arange(N), columns, protocol, outcome)


@pytest.mark.parametrize(("protocol", "columns"), READINGS)
def test_of_one_size_they_are_the_counts_of_a_plain_loop(protocol: ProtocolName, columns: slice) -> None:
    outcomes = make_outcomes()
    assert outcomes.correct is not None
    totals = totals_of(outcomes, columns, protocol)
    assert totals.weights is not None
    n_in, right_in = np.zeros((N, columns.stop - columns.start), int), np.zeros((N, columns.stop - columns.start), int)
    for mask, right in zip(outcomes.masks, outcomes.correct, strict=True):
        for i in range(N):
            for k, j in enumerate(range(columns.start, columns.stop)):
                counts = protocol == "held-out" or mask[j] == (protocol == "trained")
                n_in[i, k] += counts and mask[i]
                right_in[i, k] += counts and mask[i] and right[j]
    assert totals.arrays["y_in"].dtype == np.int32
    np.testing.assert_array_equal(np.broadcast_to(totals.arrays["n_in"], n_in.shape), n_in)
    np.testing.assert_array_equal(totals.arrays["y_in"], right_in)


@pytest.mark.parametrize(("protocol", "columns"), READINGS)
@pytest.mark.parametrize("outcome", ["correct", "margin"])
@pytest.mark.parametrize("sizes", [(4,), (3, 4, 6)])
def test_parts_add_up_to_the_whole(
    protocol: ProtocolName, columns: slice, outcome: OutcomeKind, sizes: tuple[int, ...]
) -> None:
    outcomes = make_outcomes(sizes=sizes)
    order = np.random.default_rng(1).permutation(T)
    whole = totals_of(outcomes, columns, protocol, outcome)
    parts = [
        totals_of(some(outcomes, rows), columns, protocol, outcome) for rows in (order[:17], order[17:18], order[18:])
    ]
    added = parts[0] + parts[1] + parts[2]
    if outcome == "correct" and len(sizes) == 1:
        assert added.weights == whole.weights
        for name, array in whole.arrays.items():
            np.testing.assert_array_equal(added.arrays[name], array)
    for mine, theirs in zip(added.sides(), whole.sides(), strict=True):
        for name in ("n", "w", "ww", "y", "yy"):
            np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), atol=2e-5)


@pytest.mark.parametrize(("protocol", "columns"), READINGS)
def test_models_of_one_size_add_to_models_of_another(protocol: ProtocolName, columns: slice) -> None:
    """Each part alone has one weight and is kept as counts; together they need the weights of their sizes."""
    outcomes = make_outcomes(sizes=(4, 6))
    parts = [totals_of(some(outcomes, slice(start, None, 2)), columns, protocol) for start in (0, 1)]
    assert all(part.weights is not None for part in parts)
    assert parts[0].weights != parts[1].weights
    whole = sum_pairs(outcomes, sources=np.arange(N), columns=columns, protocol=protocol, outcome="correct")
    inside, outside = (parts[0] + parts[1]).sides()
    # Weighted products are in single precision, counts are exact: 60 models tell them apart in the sixth digit.
    for mine, theirs in ((inside, whole.inside), (outside, whole.outside)):
        np.testing.assert_allclose(mine.mean(), theirs.mean(), atol=1e-5)
        np.testing.assert_allclose(mine.effective(), theirs.effective(), rtol=1e-5)


@pytest.mark.parametrize("n_rows", [1, 7, 512])
def test_how_models_are_read_changes_no_bit_of_a_count(n_rows: int) -> None:
    outcomes = make_outcomes()
    arguments = {"sources": np.arange(N), "columns": slice(0, N), "protocol": "left-out", "outcome": "correct"}
    one = sum_pairs(outcomes, **arguments, n_rows=n_rows).estimate(protocol="left-out", outcome="correct")
    other = sum_pairs(outcomes, **arguments, n_rows=13).estimate(protocol="left-out", outcome="correct")
    for name in ("value", "se", "p"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_columns_are_taken_from_the_first_on() -> None:
    outcomes = make_outcomes(sizes=(3, 6))
    whole, part = (totals_of(outcomes, columns, "held-out") for columns in (slice(N, N + M), slice(N + 1, N + 3)))
    for mine, theirs in zip(whole.take(slice(1, 3)).sides(), part.sides(), strict=True):
        np.testing.assert_allclose(mine.mean(), theirs.mean(), rtol=1e-6)

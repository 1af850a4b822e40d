"""Statistics of any two sets of models add up to those of both, and counts do so bit for bit.

Outcomes pass by in blocks: if the way models are split showed in a score, scores would depend on how a run was read.
Counts are compared with a plain loop over models, weighted sums with those of all models at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from infl.records import OutcomeKind, Outcomes, ProtocolName
from infl.scores.contrasts import contrast
from infl.scores.sufficient_statistics import PairStatistics, own_statistics, pair_statistics

N, M, T = 7, 5, 60
PROTOCOLS: list[tuple[ProtocolName, slice]] = [
    ("held-out", slice(N, N + M)),
    ("left-out", slice(0, N)),
    ("trained", slice(0, N)),
]


def make_outcomes(*, sizes: tuple[int, ...] = (4,)) -> Outcomes:
    random = np.random.default_rng(0)
    masks = random.random((T, N)).argsort(axis=1) < np.resize(sizes, T)[:, None]
    return Outcomes(masks, random.random((T, N + M)) < 0.6, random.normal(size=(T, N + M)))


def some(outcomes: Outcomes, rows: np.ndarray | slice) -> Outcomes:
    assert outcomes.correct is not None
    assert outcomes.margin is not None
    return Outcomes(outcomes.masks[rows], outcomes.correct[rows], outcomes.margin[rows])


def measured(
    outcomes: Outcomes, columns: slice, protocol: ProtocolName, outcome: OutcomeKind = "correct", n_rows: int = 512
) -> PairStatistics:
    blocks = outcomes.blocks(columns, n_rows=n_rows)
    return pair_statistics(blocks, sources=np.arange(N), columns=columns, protocol=protocol, outcome=outcome)


@pytest.mark.parametrize(("protocol", "columns"), PROTOCOLS)
def test_of_one_size_they_are_the_counts_of_a_plain_loop(protocol: ProtocolName, columns: slice) -> None:
    outcomes = make_outcomes()
    assert outcomes.correct is not None
    statistics = measured(outcomes, columns, protocol)
    assert statistics.weights is not None
    n_in, right_in = np.zeros((N, columns.stop - columns.start), int), np.zeros((N, columns.stop - columns.start), int)
    for mask, right in zip(outcomes.masks, outcomes.correct, strict=True):
        for i in range(N):
            for k, j in enumerate(range(columns.start, columns.stop)):
                counts = protocol == "held-out" or mask[j] == (protocol == "trained")
                n_in[i, k] += counts and mask[i]
                right_in[i, k] += counts and mask[i] and right[j]
    assert statistics.sums["y_in"].dtype == np.int32
    np.testing.assert_array_equal(np.broadcast_to(statistics.sums["n_in"], n_in.shape), n_in)
    np.testing.assert_array_equal(statistics.sums["y_in"], right_in)


ORDER = np.random.default_rng(1).permutation(T)
SPLITS: dict[str, tuple[tuple[int, ...], list[Any]]] = {
    "one size": ((4,), [ORDER[:17], ORDER[17:]]),
    "many sizes": ((3, 4, 6), [ORDER[:17], ORDER[17:]]),
    "a size each": ((4, 6), [slice(0, None, 2), slice(1, None, 2)]),
}


@pytest.mark.parametrize(("protocol", "columns"), PROTOCOLS)
@pytest.mark.parametrize("outcome", ["correct", "margin"])
@pytest.mark.parametrize("split", SPLITS)
def test_parts_add_up_to_the_whole(protocol: ProtocolName, columns: slice, outcome: OutcomeKind, split: str) -> None:
    """Models of one size are held as counts, which add up bit for bit; with those of another they need weights."""
    sizes, rows = SPLITS[split]
    outcomes = make_outcomes(sizes=sizes)
    whole = measured(outcomes, columns, protocol, outcome, n_rows=7)
    parts = [measured(some(outcomes, part), columns, protocol, outcome) for part in rows]
    added = parts[0] + parts[1]
    if outcome == "correct" and split == "one size":
        assert added.weights == whole.weights
        for name, array in whole.sums.items():
            np.testing.assert_array_equal(added.sums[name], array)
    if outcome == "correct" and split == "a size each":
        assert parts[0].weights != parts[1].weights
    mine, theirs = added.statistics(), whole.statistics()
    for name in ("n", "w", "ww", "y", "yy"):
        for side in ("inside", "outside"):
            one, other = (getattr(getattr(both, side), name) for both in (mine, theirs))
            np.testing.assert_allclose(one, other, atol=2e-5)
    one, other = (contrast(both, protocol=protocol, outcome=outcome) for both in (mine, theirs))
    assert one.p is not None
    assert other.p is not None
    np.testing.assert_allclose(one.p, other.p, rtol=1e-3)


def test_two_halves_of_the_models_add_up_to_memorization_of_all() -> None:
    outcomes = make_outcomes(sizes=(3, 6))
    halves = [own_statistics(some(outcomes, rows), outcome="correct") for rows in (slice(0, 23), slice(23, T))]
    merged = contrast(halves[0] + halves[1], protocol="own", outcome="correct")
    whole = contrast(own_statistics(outcomes, outcome="correct", n_rows=5), protocol="own", outcome="correct")
    for name in ("value", "se", "p"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name))


@pytest.mark.parametrize("sizes", [(4,), (3, 6)])
def test_sources_in_pieces_are_the_sources_at_once(sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Many sources pass in pieces that are put together; some of them, taken out again, are as if asked for alone."""
    outcomes = make_outcomes(sizes=sizes)
    columns = slice(N, N + M)
    whole = measured(outcomes, columns, "held-out")
    monkeypatch.setattr("infl.scores.sufficient_statistics.SOURCES_AT_ONCE", 3)
    pieces = measured(outcomes, columns, "held-out", n_rows=7)
    some = pair_statistics(
        outcomes.blocks(columns), sources=np.arange(2, 6), columns=columns, protocol="held-out", outcome="correct"
    )
    for mine, theirs in ((pieces.statistics(), whole.statistics()), (whole.statistics(slice(2, 6)), some.statistics())):
        np.testing.assert_allclose(mine.inside.mean, theirs.inside.mean, rtol=1e-5)
        np.testing.assert_allclose(mine.outside.mean, theirs.outside.mean, rtol=1e-5)
        np.testing.assert_allclose(mine.spread.y, theirs.spread.y)

"""What a query says of one example is what the whole matrix says of it, to the last reading and the last missing pair.

A query exists to spare the matrix, so nobody will notice where the two differ. Both are held here to a slow loop over the
models that knows nothing of blocks, slices or sides: a mean of the outcomes with the source less one of those without, over
the models that the protocol counts.
"""

from __future__ import annotations

import numpy as np
import pytest

import infl
from infl.records import Array, Estimate, Outcomes, ProtocolName
from infl.scores.influence import Part, influence_between, influence_within_classes, top_of

N, M, T, SIZE = 7, 4, 60, 5


@pytest.fixture(scope="module")
def outcomes() -> Outcomes:
    """Models of subsets of one size, so that a contrast is a plain difference in means; example 6 is never left out."""
    random = np.random.default_rng(0)
    masks = np.zeros((T, N), bool)
    masks[:, 6] = True
    for row in masks:
        row[random.choice(6, SIZE - 1, replace=False)] = True
    right = random.random((T, N + M)) < 0.3 + 0.5 * np.c_[masks, masks[:, :M]]
    return Outcomes(masks, right, random.normal(size=(T, N + M)).astype(np.float32))


def slow(outcomes: Outcomes, i: int, j: int, protocol: ProtocolName, kind: str = "correct") -> tuple[float, int, int]:
    inside, outside = [], []
    for mask, row in zip(outcomes.masks, getattr(outcomes, kind), strict=True):
        if protocol == "held-out" or not mask[j]:
            (inside if mask[i] else outside).append(float(row[j]))
    value = np.mean(inside) - np.mean(outside) if inside and outside and i != j else np.nan
    return float(value), len(inside), len(outside)


def assert_slow(
    outcomes: Outcomes,
    estimate: Estimate | None,
    sources: Array,
    targets: Array,
    protocol: ProtocolName,
    kind: str = "correct",
) -> None:
    assert estimate is not None
    assert (estimate.protocol, estimate.outcome) == (protocol, kind)
    assert estimate.value.shape == estimate.se.shape == (len(sources), len(targets))
    expected = [[slow(outcomes, i, j, protocol, kind) for j in targets] for i in sources]
    np.testing.assert_allclose(estimate.value, [[e[0] for e in row] for row in expected], atol=1e-6)
    for counts, at in ((estimate.n_in, 1), (estimate.n_out, 2)):
        numbers = np.broadcast_to(counts, estimate.value.shape)
        np.testing.assert_array_equal(numbers, [[e[at] for e in row] for row in expected])


@pytest.mark.parametrize("kind", ["correct", "margin"])
@pytest.mark.parametrize("example", [0, 3, 6])
def test_a_training_example_is_read_left_out_and_asked_for_both_kinds_of_targets(
    outcomes: Outcomes, example: int, kind: infl.records.OutcomeKind
) -> None:
    found = infl.influences_of(outcomes, example, outcome=kind)
    everyone, alone, others = np.arange(N), np.array([example]), np.arange(N, N + M)
    assert found.example == example
    parts: list[tuple[Part | None, Array, Array, ProtocolName]] = [
        (found.influenced_by, everyone, alone, "left-out"),
        (found.held_out, alone, others, "held-out"),
        (found.left_out, alone, everyone, "left-out"),
    ]
    for part, sources, targets, protocol in parts:
        assert part is not None
        assert (list(part.sources), list(part.targets)) == (list(sources), list(targets))
        assert_slow(outcomes, part.estimate, sources, targets, protocol, kind)
    assert np.isnan(found.influenced_by.estimate.value[example, 0])  # on itself: that is its memorization


def test_a_held_out_example_has_influences_on_it_and_none_of_its_own(outcomes: Outcomes) -> None:
    found = infl.influences_of(outcomes, N + 2)
    assert_slow(outcomes, found.influenced_by.estimate, np.arange(N), np.array([N + 2]), "held-out")
    assert found.held_out is None
    assert found.left_out is None


@pytest.mark.parametrize("targets", [[N, N + 1], [N + 3, N], [N + 1, N + 1, N + 3]])
def test_between_any_sources_and_columns_it_is_the_matrix_cut_out(outcomes: Outcomes, targets: list[int]) -> None:
    sources, whole = [4, 0], infl.influence(outcomes)
    part = influence_between(outcomes, sources, targets, protocol="held-out")
    columns = [target - N for target in targets]
    for name in ("value", "se"):
        np.testing.assert_allclose(getattr(part, name), getattr(whole, name)[sources][:, columns], atol=1e-6)


def test_within_classes_each_pair_of_a_class_comes_once_and_no_other(outcomes: Outcomes) -> None:
    labels = np.array([0, 1, 3, 0, 1, 0, 3, 0, 0, 1, 2])  # class 2 has nobody to train on, class 3 nobody held out
    classes = list(influence_within_classes(outcomes, labels, n_classes=4))
    assert [(list(sources), list(targets)) for sources, targets, _ in classes] == [
        ([0, 3, 5], [7, 8]),
        ([1, 4], [9]),
        ([], [10]),
        ([2, 6], []),
    ]
    for sources, targets, estimate in classes[:2]:
        assert_slow(outcomes, estimate, sources, targets, "held-out")
    assert [estimate for *_, estimate in classes[2:]] == [None, None]


def test_the_top_are_those_that_chance_explains_least_and_never_unknown_ones() -> None:
    value = np.array([[0.1, -0.5, np.nan], [0.9, 0.0, 0.4]])
    p = np.array([[0.5, 1e-4, np.nan], [0.2, 0.5, 1e-4]])
    counts = np.ones(1)
    part = Part(
        np.array([8, 9]),
        np.array([20, 30, 40]),
        Estimate(value, value / 10, counts, counts, "held-out", "correct", p=p),
    )
    pairs = top_of(part, n_pairs=4)
    assert [(pair.source, pair.target, pair.value) for pair in pairs] == [
        (8, 30, -0.5),
        (9, 40, 0.4),
        (9, 20, 0.9),
        (8, 20, 0.1),
    ]
    assert [pair.se for pair in pairs] == [pair.value / 10 for pair in pairs]
    # Benjamini-Hochberg by hand: five p-values, N p / rank, and never above that of a larger p.
    assert [pair.q for pair in pairs] == pytest.approx([2.5e-4, 2.5e-4, 1 / 3, 0.5])
    assert len(top_of(part, n_pairs=99)) == 5


@pytest.mark.parametrize("example", [-1, N + M])
def test_an_example_that_is_not_there_is_named_with_those_that_are(outcomes: Outcomes, example: int) -> None:
    with pytest.raises(infl.InputError, match=rf"0\.\.6 or a held-out one 7\.\.10, got {example}"):
        infl.influences_of(outcomes, example)


@pytest.mark.parametrize(
    ("sources", "targets", "protocol", "named"),
    [
        ([N], [N], "held-out", "sources: expected numbers 0..6"),
        ([0], [0], "held-out", "targets: expected numbers 7..10 in protocol held-out"),
        ([0], [N], "left-out", "targets: expected numbers 0..6 in protocol left-out"),
        ([], [N], "held-out", "sources: .*at least one"),
    ],
)
def test_a_pair_that_has_no_such_reading_is_refused(
    outcomes: Outcomes, sources: list[int], targets: list[int], protocol: ProtocolName, named: str
) -> None:
    with pytest.raises(infl.InputError, match=named):
        influence_between(outcomes, sources, targets, protocol=protocol)


def test_one_model_gives_counts_and_no_scores(outcomes: Outcomes) -> None:
    found = infl.influences_of(next(outcomes.blocks(n_rows=1)), 0)
    assert np.isnan(found.influenced_by.estimate.value).all()
    assert top_of(found.influenced_by, n_pairs=5) == []

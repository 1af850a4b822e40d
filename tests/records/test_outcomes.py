"""Arrays that anyone made end in scores or in a line that says what is wrong with them: a NaN would spread into every score.

Which model and column it is, is known to the test that put it there. What infl itself makes, blocks of a few columns and
blocks with models that diverged, stays possible.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import infl
from infl.records import MAX_MARGIN, InputError, Outcomes, measure_accuracy
from infl.scores.adjustment import adjusted_influence
from infl.scores.influence import cross_influence_totals
from infl.scores.power import detectable
from infl.scores.shrunk_influence import shrunk_influence

T, N, M = 700, 6, 4  # more models than are checked at a time
MASKS = np.random.RandomState(0).rand(T, N) < 0.5
CORRECT = np.random.RandomState(1).rand(T, N + M) < 0.7
MARGIN = np.random.RandomState(2).randn(T, N + M)
READERS: dict[str, Callable[[Outcomes], Any]] = {
    "memorization": lambda outcomes: infl.memorization(outcomes, outcome="margin"),
    "influence": lambda outcomes: infl.influence(outcomes, outcome="margin"),
    "left-out": lambda outcomes: infl.influence(outcomes, protocol="left-out", outcome="margin"),
    "totals": lambda outcomes: cross_influence_totals(outcomes, outcome="margin"),
    "strongest": lambda outcomes: infl.strongest_influences(outcomes, n_per_column=2, outcome="margin"),
    "adjusted": lambda outcomes: adjusted_influence(outcomes, columns=np.array([2, 9])),
    "shrunk": lambda outcomes: shrunk_influence(outcomes, protocol="left-out", outcome="margin"),
    "detectable": lambda outcomes: detectable(outcomes, protocol="held-out", outcome="margin"),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_a_margin_that_is_no_number_is_named(reader: str, value: float) -> None:
    margin = MARGIN.astype(np.float16)
    margin[600, 8] = value
    outcomes = Outcomes(MASKS, margin=margin)
    for _ in range(2):  # also when asked again
        with pytest.raises(
            InputError, match=rf"margin: expected finite numbers .*, got {value} for model 600, column 8"
        ):
            READERS[reader](outcomes)


@pytest.mark.parametrize("reader", READERS)
def test_columns_of_training_examples_may_not_be_missing(reader: str) -> None:
    short = Outcomes(MASKS, margin=MARGIN[:, : N - 2])
    said = "the 6 training examples of masks.* got 4 columns|no such columns|no held-out columns"
    with pytest.raises(InputError, match=said):
        READERS[reader](short)


@pytest.mark.parametrize(
    ("kind", "entries", "value", "said"),
    [
        ("correct", CORRECT.astype(np.int64), 7, "0 or 1"),  # predicted classes are no outcomes
        ("correct", CORRECT / 3, 1.5, "0 or 1, or shares from 0 to 1"),
        ("correct", CORRECT / 3, np.nan, "0 or 1, or shares from 0 to 1"),
        ("exact", CORRECT / 1.0, 0.5, "0 or 1"),
        ("logprob", -np.abs(MARGIN), 0.5, "finite numbers .* of at most 0"),
        ("logprob", -np.abs(MARGIN), -np.inf, "finite numbers .* of at most 0"),
    ],
)
def test_an_outcome_out_of_its_range_is_named(kind: Any, entries: Any, value: float, said: str) -> None:
    entries = entries.copy()
    entries[603, 5] = value
    with pytest.raises(InputError, match=rf"{kind}: expected {said}, got {value} for model 603, column 5"):
        infl.memorization(Outcomes(MASKS, **{kind: entries}), outcome=kind)


@pytest.mark.parametrize("shares", [False, True])
def test_only_numbers_between_0_and_1_make_shares(shares: bool) -> None:
    """One among the 7,000 is enough, in whatever block; all 0 or 1 are counted as bool is, of whatever dtype they are."""
    entries = CORRECT.astype(np.float16)
    entries[690, 9] = 0.5 if shares else 1.0
    blocks = Outcomes(MASKS, entries, n_tokens=np.arange(1, 11)).blocks(slice(5, 10))
    assert [(b.is_binary("correct"), b.n_tokens.tolist()) for b in blocks] == [(not shares, [6, 7, 8, 9, 10])] * 2  # pyright: ignore


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"masks": MASKS[0]}, "masks: expected a bool array [models, n], got bool (6,)"),
        (
            {"correct": CORRECT[:5]},
            "correct: expected numbers [models, n+m] with 700 models as in masks, got bool (5, 10)",
        ),
        ({"margin": MARGIN.astype(str)}, "margin: expected numbers [models, n+m] with 700 models as in masks, got <U"),
        ({"margin": MARGIN[:, 1:]}, "expected one shape [models, n+m], got (700, 10) and (700, 9)"),
        (
            {"exact": CORRECT[:, 1:]},
            "correct and margin and exact: expected one shape [models, n+m], got (700, 10) and (700",
        ),
        (
            {"n_tokens": np.arange(10)},
            "n_tokens: expected a number of at least 1 for each of 10 columns, got (10,) from 0",
        ),
        ({"strata": np.arange(5)}, "strata: expected one number for each of 700 models, got (5,)"),
    ],
)
def test_arrays_that_do_not_fit_are_named(arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        Outcomes(**{"masks": MASKS, "correct": CORRECT, "margin": MARGIN, **arrays})


def test_arrays_of_other_kinds_are_taken() -> None:
    wanted = infl.memorization(Outcomes(MASKS, CORRECT)).value
    kinds: list[Callable[[Any], Any]] = [jnp.asarray, np.ndarray.tolist]
    for of in kinds:
        np.testing.assert_array_equal(infl.memorization(Outcomes(of(MASKS), of(CORRECT))).value, wanted)
    np.testing.assert_array_equal(infl.memorization(Outcomes(MASKS, CORRECT.astype(np.int64))).value, wanted)


def test_a_block_of_few_columns_or_with_a_diverged_model_is_a_record() -> None:
    block = next(Outcomes(MASKS, CORRECT, MARGIN).blocks(slice(7, 9)))
    assert (block.n_train, block.n_columns) == (N, 2)
    assert Outcomes(MASKS, margin=np.full((T, N + M), np.nan)).n_models == T


def test_accuracy_is_a_mean_with_the_scatter_of_models_and_of_examples() -> None:
    """And models that name the largest class have learned nothing, those that memorize random labels have."""
    masks = MASKS | (np.arange(N) == 0)  # no model without a member
    found = measure_accuracy(Outcomes(masks, CORRECT, MARGIN), largest_class=(0.5, 0.5))
    held_out = CORRECT[:, N:]
    p = (held_out.sum(axis=1).mean() + 0.5) / (M + 1)
    assert found.held_out.value == pytest.approx(held_out.mean())
    assert found.held_out.se == pytest.approx(np.sqrt(held_out.mean(axis=1).var(ddof=1) / T + p * (1 - p) / M))
    each = [row[:N][mask].mean() for row, mask in zip(CORRECT, masks, strict=True)]
    assert found.trained.value == pytest.approx(np.mean(each))
    assert (found.n_models, found.clipped) == (T, 0)
    assert measure_accuracy(Outcomes(MASKS, margin=np.full((T, N + M), -MAX_MARGIN)), largest_class=(1, 1)).clipped == 1

    labels = np.arange(N + M) % 2
    guess = Outcomes(MASKS, np.tile(labels == 0, (T, 1)))
    assert not measure_accuracy(guess, largest_class=(0.5, 0.5)).learned
    memorizing = Outcomes(np.ones_like(MASKS), np.tile((np.arange(N + M) < N) | (labels == 0), (T, 1)))
    assert measure_accuracy(memorizing, largest_class=(0.5, 0.5)).learned
    assert measure_accuracy(Outcomes(MASKS, CORRECT[:, :N]), largest_class=(0.5, np.nan)).to_dict()["held_out"] is None

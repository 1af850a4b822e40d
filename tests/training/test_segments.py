"""A block that is trained a few epochs at a time gives what it gives in one go, wherever it is cut.

An epoch follows from a model's key and its number, and all that one epoch hands to the next is the state; so a state that was
kept, brought back and trained on must end in the same bits, for every kind of training and both modes. The program in one piece
computes the same, compiled otherwise; tests/faults/test_long_blocks.py compares with it. How many epochs a segment gets is left
to a clock, which is played here.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import optax
import pytest

from infl.records import Dataset, InputError
from infl.training.algorithm import Algorithm
from infl.training.augmentation import Augmentation
from infl.training.ensemble import BlockOutcomes, Ensemble, Layout, Segments, model_keys, train_in_segments
from infl.training.privacy import Privacy
from infl.training.weights import read_states, write_states

EPOCHS, T = 5, 3
LAYOUT = Layout(n_devices=2, models_per_device=2, mode="map")  # a block of four, of which three are asked for
MASKS = np.random.RandomState(1).rand(T, 60) < np.array([[0.3], [0.9], [0.6]])  # unequal steps per epoch

PLAIN = Algorithm(hidden=(8,), epochs=EPOCHS, batch_size=20)
NOISY = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(7)), optax.sgd(0.05))  # whose state holds a key
KINDS = {
    "momentum, cosine, augmented, standardized": (
        "vmap",
        replace(PLAIN, schedule="cosine", augmentation=Augmentation(shift=1), standardize=True),
    ),
    "private, bfloat16, linear, a key in the optimizer's state": (
        "map",
        replace(PLAIN, privacy=Privacy(1.0, 0.5), precision="bfloat16", schedule="linear", optimizer=NOISY),
    ),
}


def ensemble_of(dataset: Dataset, kind: str) -> Ensemble:
    mode, algorithm = KINDS[kind]
    return Ensemble(algorithm, dataset, replace(LAYOUT, mode=mode), check=False)


def cut(segments: Segments, *cuts: int, through: Any = None) -> BlockOutcomes:
    """Outcomes of a block cut before these epochs. through: what becomes of the states at each cut."""
    block, done = segments.ensemble.place(model_keys(0, "design", np.arange(T)), MASKS), 0
    states = segments.begin(block)
    for last in (*cuts, EPOCHS):
        states, done = segments.advance(block, states, done, last), last
        if through is not None and last < EPOCHS:
            states = segments.restored(through(states, last))
    return segments.conclude(block, states)


def assert_same_bits(one: BlockOutcomes, other: BlockOutcomes) -> None:
    for name in ("margin", "correct", "finite"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_the_cuts_change_no_bit(kind: str, small_digits: Dataset, tmp_path: Any) -> None:
    ensemble = ensemble_of(small_digits, kind)
    segments = Segments(ensemble)
    whole = cut(segments)
    assert_same_bits(cut(segments, 1, 2, 3, 4), whole)
    assert_same_bits(cut(segments, 4), whole)

    def kept(states: list[jax.Array], last: int) -> list[np.ndarray]:
        write_states(tmp_path / str(last), states)
        return read_states(tmp_path / str(last), segments.lower().shapes)

    assert_same_bits(cut(segments, 1, 3, through=kept), whole)
    assert whole.finite.all()
    # Each epoch counts, and none is another: fewer, or one of them twice, would give other models.
    placed = ensemble.place(model_keys(0, "design", np.arange(T)), MASKS)
    states = segments.advance(placed, segments.begin(placed), 0, EPOCHS - 1)
    short = segments.conclude(placed, segments.advance(placed, states, EPOCHS - 2, EPOCHS - 1))
    assert not np.allclose(short.margin, whole.margin, atol=1e-3)


def test_states_are_of_their_models_layout_and_training(small_digits: Dataset) -> None:
    """What `describe` says differs where a state must not be taken up, and only there."""
    ensemble = ensemble_of(small_digits, "momentum, cosine, augmented, standardized")
    keys = model_keys(0, "design", np.arange(T))

    def described(algorithm: Algorithm = ensemble.algorithm, layout: Layout = ensemble.layout, **other: Any) -> Any:
        segments = Segments(Ensemble(algorithm, small_digits, layout, check=False))
        return segments.to_dict(segments.ensemble.place(other.get("keys", keys), other.get("masks", MASKS)))

    usual = described()
    assert described() == usual

    def changed(**changes: Any) -> set[str]:
        other = described(**changes)
        return {name for name in usual if other[name] != usual[name]}

    assert changed(masks=~MASKS) == {"models"}
    assert changed(keys=keys[::-1]) == {"models"}
    assert changed(algorithm=replace(ensemble.algorithm, epochs=EPOCHS + 1)) == {"epochs"}
    assert changed(algorithm=replace(ensemble.algorithm, learning_rate=0.04)) == {"programs"}
    assert changed(layout=replace(ensemble.layout, models_per_device=3)) == {"layout", "models", "programs"}


def test_states_that_the_disk_does_not_hold_are_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = [np.zeros((2, 8), np.float32)]
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=63))
    with pytest.raises(OSError, match="64 bytes are needed and 63 are free"):
        write_states(tmp_path / "deep" / "states", states)
    assert not any(tmp_path.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=64))
    write_states(tmp_path / "deep" / "states", states)
    with pytest.raises(InputError, match="does not hold states of these models: its arrays have the shapes"):
        read_states(tmp_path / "deep" / "states", [np.zeros((2, 9), np.float32)])


class Played:
    """Segments whose epochs take so many seconds of a clock that stands otherwise; states are the epochs done."""

    def __init__(self, *seconds: float) -> None:
        self.ensemble = type("Ensemble", (), {"algorithm": replace(PLAIN, epochs=len(seconds))})
        self.seconds, self.now, self.log = seconds, 0.0, []

    def compile(self) -> None: ...

    def begin(self, block: Any) -> list[int]:
        return []

    def advance(self, block: Any, states: list[int], first: int, last: int) -> list[int]:
        self.now += sum(self.seconds[first:last])
        self.log.append((first, last))
        return [*states, *range(first, last)]

    def conclude(self, block: Any, states: list[int]) -> list[int]:
        return states

    def train(
        self, seconds_between: float, *, keeping_takes: float = 0.0, reached: Any = None
    ) -> tuple[Any, list[int]]:
        kept = []

        def keep(epochs: int, states: list[int]) -> None:
            assert states == list(range(epochs))
            kept.append(epochs)
            self.now += keeping_takes

        settings: Any = {"keep": keep, "reached": reached, "clock": lambda: self.now}
        played, no_block = cast(Any, self), cast(Any, None)
        return train_in_segments(played, no_block, seconds_between=seconds_between, **settings), kept


def test_a_segment_has_as_many_epochs_as_fit() -> None:
    played = Played(*[2.0] * 12)
    outcome, kept = played.train(10.0)
    assert outcome == list(range(12))
    assert played.log == [(0, 1), (1, 5), (5, 10), (10, 12)]
    assert kept == [5, 10]
    slowing = Played(1.0, 1.0, 1.0, 4.0, 4.0, 4.0, 4.0)
    outcome, kept = slowing.train(6.0, keeping_takes=50.0)
    assert slowing.log == [(0, 1), (1, 6), (6, 7)]
    assert (outcome, kept) == (list(range(7)), [6])


def test_states_are_kept_after_each_epoch_where_that_is_wanted_and_never_after_the_last() -> None:
    played = Played(*[2.0] * 4)
    assert played.train(0.0) == ([0, 1, 2, 3], [1, 2, 3])
    assert played.log == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert Played(5.0).train(0.0) == ([0], [])
    fast = Played(*[0.0] * 100)  # no clock is that fine
    assert fast.train(10.0)[1] == []
    assert fast.log == [(0, 1), (1, 100)]


def test_training_goes_on_from_what_was_reached() -> None:
    played = Played(*[2.0] * 6)
    assert played.train(100.0, reached=(4, [0, 1, 2, 3]))[0] == list(range(6))
    assert played.log == [(4, 5), (5, 6)]

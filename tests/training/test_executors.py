"""Batches come back in the order they went in, each once, while the next one is already running, and cut wherever.

The pipeline books the outcomes of a batch on the models of that batch, so an executor that swapped two of them would swap
models without a trace. Starting ahead is what keeps the devices busy while the host writes; starting further ahead would
hold more batches in memory than two. A fake that writes down each call stands for the devices.

An epoch follows from a model's key and its number, and all that one epoch hands to the next is the state; so states that were
written, read and trained on must end in the same bits, for every kind of training and both modes. How many epochs a piece gets
is left to a clock, which is played here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import jax
import numpy as np
import optax
import pytest

from infl.records import Dataset
from infl.training.algorithm import Algorithm
from infl.training.augmentation import Augmentation
from infl.training.ensemble import Ensemble, epochs_in_turn, model_keys
from infl.training.executors import Batch, LocalExecutor, states_from_arrays, states_to_arrays
from infl.training.layout import Layout
from infl.training.privacy import Privacy


class Devices:
    """Writes down what is asked of it, and fails where told to."""

    models_per_batch = 4

    def __init__(self, **faults: Exception) -> None:
        self.log: list[str] = []
        self._faults = faults

    def write(self, what: str, number: int) -> None:
        self.log.append(f"{what} {number}")
        if error := self._faults.get(f"{what}_{number}"):
            raise error

    def compile(self) -> None:
        pass

    def start(self, keys: int, masks: list[int]) -> int:
        self.write("start", keys)
        return keys

    def finish(self, started: int) -> str:
        self.write("finish", started)
        return f"outcome {started}"

    def train(self, keys: int, masks: list[int]) -> str:
        self.write("train", keys)
        return f"outcome {keys}"

    def run(self, n_batches: int) -> list[int]:
        """Batches in the order they came back, each with its own outcome; when one is made and used is logged too."""

        def batches() -> Iterator[Batch]:
            for number in range(n_batches):
                self.write("make", number)
                yield Batch([], cast(Any, number), cast(Any, [0]))

        came = []
        for batch, outcomes, seconds in LocalExecutor(cast(Any, self)).train(batches()):
            assert cast(Any, outcomes) == f"outcome {batch.keys}"
            assert seconds >= 0
            self.write("use", cast(Any, batch.keys))
            came.append(batch.keys)
        return came


def test_every_batch_comes_back_once_and_in_order_with_one_started_ahead_and_no_more() -> None:
    devices = Devices()
    assert devices.run(3) == [0, 1, 2]
    assert devices.log == [
        *("make 0", "start 0", "make 1", "start 1", "finish 0", "use 0"),
        *("make 2", "start 2", "finish 1", "use 1", "finish 2", "use 2"),
    ]
    assert [Devices().run(n_batches) for n_batches in (0, 1)] == [[], [0]]


@pytest.mark.parametrize("step", ["start", "finish"])
def test_an_error_of_a_device_ends_the_run_unless_it_is_of_memory(step: str) -> None:
    """Then the batch is trained in parts."""
    devices = Devices(**{f"{step}_2": RuntimeError("device lost")})
    with pytest.raises(RuntimeError, match="device lost"):
        devices.run(5)
    assert "use 0" in devices.log
    assert "start 4" not in devices.log
    small = Devices(finish_1=jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes."))
    assert small.run(3) == [0, 1, 2]
    assert [entry for entry in small.log if entry.startswith("train")] == ["train 1"]


def test_seconds_of_the_batches_add_up_to_the_time_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now, devices = 0.0, Devices()

    def finish(number: int) -> int:
        nonlocal now
        now += 10.0 + number
        return number

    devices.finish = cast(Any, finish)
    monkeypatch.setattr("infl.training.executors.time.perf_counter", lambda: now)
    batches = (Batch([], cast(Any, number), cast(Any, [0])) for number in range(4))
    assert [one.seconds for one in LocalExecutor(cast(Any, devices)).train(batches)] == [10.0, 11.0, 12.0, 13.0]


# Trained a few epochs at a time


EPOCHS, T = 5, 3
LAYOUT = Layout(n_devices=2, models_per_device=2, mode="map")  # a batch of four, of which three are asked for
MASKS = np.random.RandomState(1).rand(T, 60) < np.array([[0.3], [0.9], [0.6]])  # unequal steps per epoch
PLAIN = Algorithm(hidden=(8,), epochs=EPOCHS, batch_size=20)
NOISY = optax.chain(optax.add_noise(0.1, 0.5, jax.random.key(7)), optax.sgd(0.05))  # whose state holds a key
KINDS: dict[str, tuple[Any, Algorithm]] = {
    "momentum, cosine, augmented, standardized": (
        "vmap",
        replace(PLAIN, schedule="cosine", augmentation=Augmentation(shift=1), standardize=True),
    ),
    "private, bfloat16, linear, a key in the optimizer's state": (
        "map",
        replace(PLAIN, privacy=Privacy(1.0, 0.5), precision="bfloat16", schedule="linear", optimizer=NOISY),
    ),
}


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if "private" in kind else []) for kind in KINDS]
)
def test_the_cuts_change_no_bit(kind: str, small_digits: Dataset) -> None:
    mode, algorithm = KINDS[kind]
    ensemble = Ensemble(algorithm, small_digits, replace(LAYOUT, mode=mode), check=False)
    batch = ensemble.place(model_keys(0, "design", np.arange(T)), MASKS)
    whole = ensemble.train(model_keys(0, "design", np.arange(T)), MASKS)
    assert whole.finite.all()

    def margins(*pieces: tuple[int, int], through_arrays: bool = False) -> np.ndarray:
        states = ensemble.init_states(batch)
        for first, last in pieces:
            states = ensemble.train_epochs(batch, states, first, last)
            if through_arrays:
                states = states_from_arrays(states_to_arrays(states), states)
        return ensemble.finish(ensemble.evaluate(batch, states)).margin

    np.testing.assert_array_equal(margins((0, 1), (1, 2), (2, 5)), whole.margin)
    np.testing.assert_array_equal(margins((0, 1), (1, 5), through_arrays=True), whole.margin)
    # Each epoch counts, and none is another: one of them twice would give other models.
    assert not np.allclose(margins((0, 4), (3, 4)), whole.margin, atol=1e-3)


def test_states_are_of_their_models_layout_and_training(small_digits: Dataset) -> None:
    """What states fit differs where they must not be taken up, and only there."""
    keys, layout = model_keys(0, "design", np.arange(T)), LAYOUT

    def fits(algorithm: Algorithm = PLAIN, layout: Layout = layout, keys: Any = keys, masks: Any = MASKS) -> Any:
        return LocalExecutor(Ensemble(algorithm, small_digits, layout, check=False))._fits(Batch([], keys, masks))

    usual = fits()

    def changed(**changes: Any) -> set[str]:
        other = fits(**changes)
        return {name for name in usual if other[name] != usual[name]}

    assert changed() == set()
    assert changed(masks=~MASKS) == {"models"}
    assert changed(keys=keys[::-1]) == {"models"}
    assert changed(algorithm=replace(PLAIN, epochs=EPOCHS + 1)) == {"epochs", "programs"}
    assert changed(algorithm=replace(PLAIN, learning_rate=0.04)) == {"programs"}
    assert changed(layout=replace(layout, models_per_device=3)) == {"layout"}


class Played:
    """An ensemble whose epochs take so many seconds of a clock that stands otherwise; states are the epochs done."""

    def __init__(self, *seconds: float) -> None:
        self.algorithm = replace(PLAIN, epochs=len(seconds))
        self.seconds, self.now, self.log = seconds, 0.0, []

    def train_epochs(self, batch: Any, states: list[int], first: int, last: int) -> list[int]:
        self.now += sum(self.seconds[first:last])
        self.log.append((first, last))
        return [*states, *range(first, last)]

    def train(self, seconds_between: float, *, writing_takes: float = 0.0, done: int = 0) -> list[int]:
        """Epochs done at each yield."""
        came, start = [], list(range(done))
        settings: Any = {"seconds_between": seconds_between, "clock": lambda: self.now}
        for epochs, states in epochs_in_turn(cast(Any, self), cast(Any, None), cast(Any, start), done, **settings):
            assert states == list(range(epochs))
            came.append(epochs)
            self.now += writing_takes
        return came


@pytest.mark.parametrize(
    ("seconds", "between", "settings", "pieces", "yields"),
    [
        ([2.0] * 12, 10.0, {}, [(0, 1), (1, 5), (5, 10), (10, 12)], [5, 10, 12]),
        ([1.0, 1.0, 1.0, 4.0, 4.0, 4.0, 4.0], 6.0, {"writing_takes": 50.0}, [(0, 1), (1, 6), (6, 7)], [6, 7]),
        ([2.0] * 4, 0.0, {}, [(0, 1), (1, 2), (2, 3), (3, 4)], [1, 2, 3, 4]),
        ([0.0] * 100, 10.0, {}, [(0, 1), (1, 100)], [100]),  # no clock is that fine
        ([2.0] * 6, 100.0, {"done": 4}, [(4, 5), (5, 6)], [6]),
    ],
)
def test_a_piece_has_as_many_epochs_as_fit(
    seconds: list[float], between: float, settings: Any, pieces: list[tuple[int, int]], yields: list[int]
) -> None:
    played = Played(*seconds)
    assert played.train(between, **settings) == yields
    assert played.log == pieces

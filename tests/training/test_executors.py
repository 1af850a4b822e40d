"""Blocks come back in the order they went in, each once, while the next one is already running.

The pipeline books the outcomes of a block on the models of that block, so an engine that swapped two of them would swap
models without a trace. Starting ahead is what keeps the devices busy while the host writes; starting further ahead would
hold more blocks in memory than two. A fake that writes down each call stands for the devices.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from infl.training.executors import run_blocks


class Devices:
    """Writes down what is asked of it; fails where told to."""

    def __init__(self, *, fail_to_start: int | None = None, fail_to_finish: int | None = None) -> None:
        self.log: list[str] = []
        self._fail_to_start, self._fail_to_finish = fail_to_start, fail_to_finish

    def start(self, block: int) -> str:
        self.log.append(f"start {block}")
        if block == self._fail_to_start:
            raise RuntimeError("out of memory")
        return f"running {block}"

    def finish(self, started: str) -> str:
        block = int(started.removeprefix("running "))
        self.log.append(f"finish {block}")
        if block == self._fail_to_finish:
            raise RuntimeError("device lost")
        return f"outcome {block}"

    def run(self, blocks: Iterator[int]) -> list[int]:
        """Blocks in the order they came back, each with its own outcome; what the caller does with one is logged too."""
        came = []
        for block, outcome, seconds in run_blocks(blocks, start=self.start, finish=self.finish):
            assert outcome == f"outcome {block}"
            assert seconds >= 0
            self.log.append(f"use {block}")
            came.append(block)
        return came


@pytest.mark.parametrize("n_blocks", [0, 1, 2, 9])
def test_every_block_comes_back_once_and_in_order(n_blocks: int) -> None:
    assert Devices().run(iter(range(n_blocks))) == list(range(n_blocks))


def test_nothing_is_done_for_no_blocks() -> None:
    devices = Devices()
    assert devices.run(iter(())) == []
    assert devices.log == []


def test_one_block_is_started_ahead_and_no_more() -> None:
    devices = Devices()
    devices.run(iter(range(3)))
    assert devices.log == [
        *("start 0", "start 1", "finish 0", "use 0"),
        *("start 2", "finish 1", "use 1"),
        *("finish 2", "use 2"),
    ]


def test_blocks_are_made_when_they_are_needed() -> None:
    devices = Devices()

    def blocks() -> Iterator[int]:
        for block in range(3):
            devices.log.append(f"make {block}")
            yield block

    devices.run(blocks())
    assert devices.log.index("finish 0") < devices.log.index("make 2")


def test_a_block_that_cannot_start_ends_the_run_with_its_error() -> None:
    devices = Devices(fail_to_start=2)
    with pytest.raises(RuntimeError, match="out of memory"):
        devices.run(iter(range(5)))
    assert "use 0" in devices.log
    assert "start 3" not in devices.log


def test_a_block_that_cannot_finish_ends_the_run_with_its_error() -> None:
    devices = Devices(fail_to_finish=1)
    with pytest.raises(RuntimeError, match="device lost"):
        devices.run(iter(range(5)))
    assert [entry for entry in devices.log if entry.startswith("use")] == ["use 0"]


def test_an_error_of_the_caller_starts_nothing_more() -> None:
    devices = Devices()

    def stop_at_the_second() -> None:
        for block, _, _ in run_blocks(iter(range(9)), start=devices.start, finish=devices.finish):
            if block == 1:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_at_the_second()
    assert devices.log[-1] == "finish 1"


def test_seconds_of_the_blocks_add_up_to_the_time_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def finish(block: int) -> int:
        nonlocal now
        now += 10.0 + block
        return block

    monkeypatch.setattr("infl.training.executors.time.perf_counter", lambda: now)
    taken = [seconds for *_, seconds in run_blocks(range(4), start=lambda block: block, finish=finish)]
    assert taken == [10.0, 11.0, 12.0, 13.0]

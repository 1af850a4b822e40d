"""Runs blocks of models on this machine, one after another, starting each before the one ahead of it is collected."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Block = TypeVar("Block")
Started = TypeVar("Started")
Finished = TypeVar("Finished")


def run_blocks(
    blocks: Iterable[Block], *, start: Callable[[Block], Started], finish: Callable[[Started], Finished]
) -> Iterator[tuple[Block, Finished, float]]:
    """Yield (block, outcome, seconds) in order.

    start: begins a block and returns without waiting, as JAX does; finish: waits for it. The caller's work between two
    outcomes, such as writing the last one to disk, overlaps the training of the next block.
    """
    ahead: tuple[Block, Started] | None = None
    clock = time.perf_counter()
    for block in blocks:
        started = start(block)
        if ahead is not None:
            outcome = finish(ahead[1])
            now = time.perf_counter()
            yield ahead[0], outcome, now - clock
            clock = now
        ahead = block, started
    if ahead is not None:
        outcome = finish(ahead[1])
        yield ahead[0], outcome, time.perf_counter() - clock

"""Turns counts of finished work into a progress bar on a terminal, and into a log line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

Clock = Callable[[], float]

_LOG_EVERY = 10.0
_QUICK = 2.0


@contextmanager
def track(
    total: int,
    description: str,
    *,
    unit: str = "models",
    quiet: bool = False,
    stream: TextIO | None = None,
    clock: Clock = time.monotonic,
) -> Iterator[Tracker]:
    """Show how far a stage has come while the `with` block runs; call `.advance(n)` on what it yields.

    On a terminal a bar with rate and time left, which vanishes at the end; elsewhere a line at most every ten seconds,
    `training: 320/1000 models, 81.3 models/s, 8 s left`. Both end with a line that holds the total rate, or how far it
    came where an exception ended the block. A stage that takes less than two seconds leaves no line.

    Args:
        total: units of work ahead; zero shows nothing.
        description: what is being done, in a word or two.
        unit: what is counted, in the plural.
        quiet: show nothing at all.
        stream: where to write; stderr unless given.
        clock: seconds, from any origin.
    """
    out = sys.stderr if stream is None else stream
    tracker = Tracker(total, unit=unit, clock=clock)
    if quiet or total <= 0:
        yield tracker
        return
    on_terminal = out.isatty()
    show = _bar if on_terminal else _log
    completed = False
    try:
        with show(tracker, description, out):
            yield tracker
        completed = True
    finally:
        if tracker.elapsed >= _QUICK:
            print(f"{description}: {tracker.summary(completed=completed)}", file=out, flush=True)


def note(text: str, *, quiet: bool = False, stream: TextIO | None = None) -> None:
    """Write a line where progress is shown: to stderr unless a stream is given."""
    if not quiet:
        print(text, file=sys.stderr if stream is None else stream, flush=True)


class Tracker:
    """Counts finished units and says how fast they came."""

    def __init__(self, total: int, *, unit: str, clock: Clock) -> None:
        self.total = total
        self.unit = unit
        self.done = 0
        self.on_advance: Callable[[], None] = lambda: None
        self._clock = clock
        self._start = clock()
        self._first: tuple[float, int] | None = None

    def advance(self, n: int = 1) -> None:
        """Report n more finished units."""
        self.done += n
        if self._first is None:
            self._first = (self._clock(), self.done)
        self.on_advance()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self._clock() - self._start

    @property
    def rate(self) -> float:
        """Units per second at which the rest may be expected; 0 where nothing is known yet."""
        if self._first is not None and self.done > self._first[1]:
            # The first report also paid for compilation, so it says little of the rest.
            return _ratio(self.done - self._first[1], self._clock() - self._first[0])
        return _ratio(self.done, self.elapsed)

    def status(self) -> str:
        """`320/1000 models, 81.3 models/s, 8 s left`."""
        text = f"{self.done}/{self.total} {self.unit}"
        rate = self.rate
        if rate <= 0:
            return text
        left = max(0, self.total - self.done) / rate
        return f"{text}, {_rate(rate, self.unit)}, {_duration(left)} left"

    def summary(self, *, completed: bool) -> str:
        """`1000 models in 12 s, 81.3 models/s`, or where it stopped; the rate is over all the time taken."""
        head = f"{self.done} {self.unit}" if completed else f"stopped at {self.done}/{self.total} {self.unit}"
        rate = _ratio(self.done, self.elapsed)
        return f"{head} {'in' if completed else 'after'} {_duration(self.elapsed)}" + (
            f", {_rate(rate, self.unit)}" if rate > 0 else ""
        )


@contextmanager
def _bar(tracker: Tracker, description: str, stream: TextIO) -> Iterator[None]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[status]}", markup=False),
    )
    with Progress(*columns, console=Console(file=stream), transient=True) as progress:
        task = progress.add_task(description, total=tracker.total, status=tracker.status())
        tracker.on_advance = lambda: progress.update(task, completed=tracker.done, status=tracker.status())
        yield


@contextmanager
def _log(tracker: Tracker, description: str, stream: TextIO) -> Iterator[None]:
    last = 0.0

    def write() -> None:
        nonlocal last
        # The last line is the summary's.
        if tracker.elapsed - last >= _LOG_EVERY and tracker.done < tracker.total:
            last = tracker.elapsed
            print(f"{description}: {tracker.status()}", file=stream, flush=True)

    tracker.on_advance = write
    yield


def _ratio(count: float, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _rate(rate: float, unit: str) -> str:
    """Slow work is told by the minute or the hour, so that the number never reads 0.0."""
    seconds, per = (1, "s") if rate >= 1 else (60, "min") if rate >= 1 / 60 else (3600, "h")
    return f"{rate * seconds:.1f} {unit}/{per}"


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

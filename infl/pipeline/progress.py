"""The progress bar that all stages use: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

_LOG_EVERY = 10.0
_QUICK = 2.0
_SILENT = 0.5


class Progress(tqdm):
    """Counts finished units; `update(n)` reports n more."""

    monitor_interval = 0  # no thread beside those of the stage

    def close(self) -> None:
        """End the bar with the rate over all, even where nothing was shown so far."""
        if not self.disable and (elapsed := self.format_dict["elapsed"]) >= _QUICK:
            self.last_print_t = self.start_t + elapsed
        super().close()


def track(total: int, description: str, *, unit: str = "models", quiet: bool = False) -> Progress:
    """Show on stderr how far a stage has come, while a `with` block runs; call `.update(n)` on what it yields.

    On a terminal a bar with rate and time left; elsewhere a line at most every ten seconds and one at the end,
    `training: 320/1000 models, 81.30 models/s, 00:08 left`. The time left goes by the recent rate, so that it does not
    count compilation; the last line has the rate over all, or how far it came where an exception ended the block. A stage
    that takes less than two seconds shows nothing.

    Args:
        total: Units of work ahead; zero shows nothing.
        description: What is being done, in a word or two.
        unit: What is counted, in the plural.
        quiet: Show nothing at all.
    """
    on_terminal = sys.stderr.isatty()
    return Progress(
        total=total,
        desc=description,
        unit=f" {unit}",
        disable=quiet or total <= 0,
        delay=_QUICK,
        file=sys.stderr if on_terminal else _Lines(sys.stderr),
        mininterval=0.1 if on_terminal else _LOG_EVERY,
        miniters=1,
        bar_format=None if on_terminal else "{desc}: {n_fmt}/{total_fmt}{unit}, {rate_fmt}, {remaining} left",
    )


def note(text: str, *, quiet: bool = False) -> None:
    """Write a line where progress is shown: to stderr."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


@contextmanager
def announce(text: str, *, quiet: bool = False) -> Iterator[None]:
    """Say what a `with` block does, where that takes longer than half a second, and has nothing to count."""
    timer = threading.Timer(_SILENT, note, (text,), {"quiet": quiet})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Lines:
    """A stream on which every state of a bar is a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        if text := " ".join(text.split()):
            self._stream.write(f"{text}\n")

    def flush(self) -> None:
        self._stream.flush()

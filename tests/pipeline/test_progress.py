"""Progress is told at a readable pace: people decide by it whether to wait, and logs of a cluster job must not fill up with
it. Time comes from a clock that the test winds by hand."""

from __future__ import annotations

import io
import sys
import threading

import pytest
import tqdm.std

from infl.pipeline.progress import announce, track


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(monkeypatch):
    """Work through (seconds, units) steps; gives the lines written to a stream."""

    def work(steps, *, total=1000, stream=None, error=None, **options) -> list[str]:
        now = 100.0
        stream = io.StringIO() if stream is None else stream
        monkeypatch.setattr(tqdm.std, "time", lambda: now)
        monkeypatch.setattr(sys, "stderr", stream)
        with track(total, "training", **options) as progress:
            for seconds, units in steps:
                now += seconds
                progress.update(units)
            if error is not None:
                raise error
        return stream.getvalue().splitlines()

    return work


def test_a_log_has_a_line_at_most_every_ten_seconds_and_one_at_the_end(run):
    assert run([(4.0, 100)] * 10) == [
        "training: 300/1000 models, 25.00 models/s, 00:27 left",
        "training: 600/1000 models, 25.00 models/s, 00:15 left",
        "training: 900/1000 models, 25.00 models/s, 00:03 left",
        "training: 1000/1000 models, 25.00 models/s, 00:00 left",
    ]


def test_a_stopped_stage_says_how_far_it_came(run):
    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        run([(8.0, 320)], stream=stream, error=KeyboardInterrupt())
    assert stream.getvalue() == "training: 320/1000 models, 40.00 models/s, 00:17 left\n"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_or_nothing_to_do_or_a_quick_stage_writes_nothing(run, stream):
    assert run([(60.0, 100)], stream=stream(), quiet=True) == []
    assert run([(60.0, 100)], stream=stream(), total=0) == []
    assert run([(1.9, 1000)], stream=stream()) == []


def test_a_long_wait_without_a_count_is_announced_once_and_a_short_one_not(monkeypatch):
    said, announced = [], threading.Event()

    def note(text, *, quiet):
        said.append((text, quiet))
        announced.set()

    monkeypatch.setattr("infl.pipeline.progress.note", note)
    monkeypatch.setattr("infl.pipeline.progress._SILENT", 3600.0)
    with announce("quick"):
        pass
    monkeypatch.setattr("infl.pipeline.progress._SILENT", 0.0)
    with announce("compiling", quiet=True):
        assert announced.wait(60)
    assert said == [("compiling", True)]

"""Progress is told at a readable pace and the rate is a true one: people decide by it whether to wait, and logs of a
cluster job must not fill up with it. Time comes from a clock the test winds by hand."""

from __future__ import annotations

import io

import pytest

from infl.pipeline.progress import Tracker, track


class HandClock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def run(clock, steps, *, total=1000, stream=None, **options) -> list[str]:
    """Work through (seconds, units) steps and return the lines written."""
    stream = io.StringIO() if stream is None else stream
    with track(total, "training", stream=stream, clock=clock, **options) as progress:
        for seconds, units in steps:
            clock.now += seconds
            progress.advance(units)
    return stream.getvalue().splitlines()


def test_a_log_has_a_line_at_most_every_ten_seconds_and_one_at_the_end(clock):
    lines = run(clock, [(4.0, 100)] * 10)
    assert lines == [
        "training: 300/1000 models, 25.0 models/s, 28 s left",
        "training: 600/1000 models, 25.0 models/s, 16 s left",
        "training: 900/1000 models, 25.0 models/s, 4 s left",
        "training: 1000 models in 40 s, 25.0 models/s",
    ]


def test_the_time_left_does_not_count_compilation_but_the_total_rate_does(clock):
    lines = run(clock, [(30.0, 100), (10.0, 100), (80.0, 800)])
    assert lines == [
        "training: 100/1000 models, 3.3 models/s, 4 min 30 s left",
        "training: 200/1000 models, 10.0 models/s, 1 min 20 s left",
        "training: 1000 models in 2 min 0 s, 8.3 models/s",
    ]


def test_slow_work_is_told_by_the_minute_or_hour(clock):
    lines = run(clock, [(20.0, 1), (20.0, 1), (20.0, 1)], total=3, unit="solves")
    assert lines[1] == "training: 2/3 solves, 3.0 solves/min, 20 s left"
    assert run(clock, [(7200.0, 1), (7200.0, 1)], total=4)[1] == "training: 2/4 models, 0.5 models/h, 4 h 0 min left"


def test_a_stopped_stage_says_how_far_it_came(clock):
    def interrupted() -> None:
        with track(1000, "training", stream=stream, clock=clock) as progress:
            clock.now += 8.0
            progress.advance(320)
            raise KeyboardInterrupt

    stream = io.StringIO()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert stream.getvalue() == "training: stopped at 320/1000 models after 8 s, 40.0 models/s\n"


@pytest.mark.parametrize("options", [{"quiet": True}, {"total": 0}])
@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_or_nothing_to_do_writes_nothing(clock, options, stream):
    assert run(clock, [(60.0, 100)], stream=stream(), **options) == []


def test_no_time_passed_is_no_rate(clock):
    tracker = Tracker(1000, unit="models", clock=clock)
    tracker.advance(1000)
    assert tracker.summary(completed=True) == "1000 models in 0 s"


def test_a_quick_stage_leaves_no_line_in_a_log_either(clock):
    assert run(clock, [(1.9, 1000)]) == []
    assert run(clock, [(2.1, 1000)]) == ["training: 1000 models in 2 s, 476.2 models/s"]


def test_a_terminal_shows_a_bar_and_ends_with_the_total_rate(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with track(1000, "training [x]", stream=stream, clock=clock) as progress:
        for _ in range(2):
            clock.now += 4.0
            progress.advance(500)
    written = stream.getvalue()
    assert "1000/1000 models, 125.0 models/s" in written
    assert "\x1b[" in written
    assert written.endswith("training [x]: 1000 models in 8 s, 125.0 models/s\n")


def test_a_quick_stage_leaves_no_line_on_a_terminal(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    run(clock, [(1.0, 1000)], stream=stream)
    assert "1000 models in" not in stream.getvalue()


def test_stderr_is_the_default_stream(clock, capsys):
    with track(10, "training", clock=clock) as progress:
        clock.now += 5.0
        progress.advance(10)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "training: 10 models in 5 s, 2.0 models/s\n"

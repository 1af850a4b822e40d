"""Command line: parse, check the outputs, call a command, turn a user's mistake into one line and an exit status."""

from __future__ import annotations

import codecs
import errno
import io
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from infl.cli import COMMANDS, GOES_ON, no_command, overview, parse

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
_SPELLED = {"±": "+-", "×": "x", "…": "...", "–": "-", "—": "-", "−": "-", "→": "->", "≥": ">="}


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit status.

    0 done; 2 a mistake of the user's; 3 the disk refuses (full, read-only) or has damaged a run; 130 interrupted; 141 nobody
    reads the output, as in `infl scores ... | head -1`; 143 terminated, as batch systems do before they kill. After 3, 130,
    141 and 143 the run is whole, and the same command goes on with it.
    """
    _print_anything()
    try:
        status = _run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        _forget_output()
        return 141
    return status


def _run(arguments: list[str]) -> int:
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    name = arguments[0] if arguments else ""
    if name in ("-h", "--help"):
        print(overview())
        return 0
    if name in ("-V", "--version"):
        from importlib.metadata import version

        print(f"infl {version('infl')}")
        return 0
    if name not in COMMANDS:
        print(f"infl: {no_command(name)}", file=sys.stderr)
        return 2
    from infl.cli.outputs import check_outputs

    warnings.showwarning = _show_warning
    try:
        with _terminated_like_ctrl_c():
            command = parse(name, arguments[1:])
            check_outputs(command)
            command()
    except BrokenPipeError:
        raise
    except SystemExit as stop:
        return int(stop.code or 0)
    except Exception as error:
        from infl.records import InputError  # here, so that help is printed without NumPy

        if not isinstance(error, InputError | OSError):
            raise
        print(f"infl {name}: {error}", file=sys.stderr)
        return getattr(error, "exit_status", 3 if getattr(error, "errno", None) in _OF_THE_DISK else 2)
    except KeyboardInterrupt as stop:
        goes_on = "what is complete is kept: run the same command again to go on"
        said = goes_on if name in GOES_ON else "nothing is kept of it: the same command begins anew"
        print(f"\nstopped; {said}", file=sys.stderr)
        return 143 if isinstance(stop, _Terminated) else 130
    return 0


def _print_anything() -> None:
    """Characters that the terminal's encoding lacks are spelled, or written by their numbers, as Python does on stderr."""

    def spelled(error: UnicodeError) -> tuple[str | bytes, int]:
        assert isinstance(error, UnicodeEncodeError)
        one = error.object[error.start]
        return _SPELLED.get(one) or one.encode("ascii", "backslashreplace").decode(), error.start + 1

    codecs.register_error("infl.spelled", spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="infl.spelled")


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """infl's own in a line, as its errors; those of libraries with their category."""
    named = "" if category is UserWarning else f"{category.__name__}: "
    print(f"infl: warning: {named}{message}", file=sys.stderr)


class _Terminated(KeyboardInterrupt):
    """SIGTERM came."""


@contextmanager
def _terminated_like_ctrl_c() -> Iterator[None]:
    """The first SIGTERM ends the command as Ctrl-C does; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return

    def stop(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise _Terminated

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _forget_output() -> None:
    """Let Python write what it still holds to nowhere, and not to a pipe that nobody reads."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())

"""Refuses, before work goes into it, a command of which an output could not be written."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import tyro

if TYPE_CHECKING:
    from infl.records import Accuracy


@dataclass(frozen=True)
class Written:
    """Marks the type of an option whose path the command writes, with how it does.

    in place: the file is opened and written; replaced: one beside it takes its place; new, new folder: it must not be there
    yet, and `~` is the user's home; folder: made with the folders above it where it is not there.
    """

    how: Literal["in place", "replaced", "new", "new folder", "folder"]


_OPTIONAL = tyro.conf.arg(metavar="PATH", help_behavior_hint="")
OutputFile = Annotated[Path | None, _OPTIONAL, Written("in place")]
ForgetFile = Annotated[Path, Written("replaced")]
NewFile = Annotated[Path, Written("new")]
NewFolder = Annotated[Path | None, _OPTIONAL, Written("new folder")]
RunToWrite = Annotated[str, tyro.conf.arg(metavar="PATH|URL"), Written("folder")]


@dataclass(frozen=True, kw_only=True)
class Output:
    """What is written beside what is printed."""

    json: OutputFile = None
    """What the command prints, as JSON."""

    def write(self, content: dict[str, Any]) -> None:
        if self.json:
            from infl.report.exchange import write_json

            write_json(self.json, content)


def check_outputs(command: Any) -> None:
    """Check every path that the command will write.

    Raises:
        InputError: where a path has no folder, or is one, or one that may not be written to, or is to be new and is not.
    """
    from infl.records import InputError

    outputs = [(Path(path), how) for path, how in _outputs(command) if path is not None and "://" not in str(path)]
    to_make = {os.path.realpath(path) for path, how in outputs if how == "folder" and not os.path.exists(path)}
    for path, how in outputs:
        try:
            number = _refusal(path.expanduser() if how.startswith("new") else path, how, to_make)
        except OSError as error:
            number = error.errno
        if number == errno.EEXIST:
            raise InputError(f"{path} exists already; choose another name, nothing is overwritten")
        if number:
            raise InputError(f"{path}: cannot be written: {os.strerror(number)}")


def accuracy_fields(found: Accuracy | None) -> dict[str, Any]:
    """What every JSON about a run says of its models: `{"accuracy": ...}`, nothing where there are none."""
    return {} if found is None else {"accuracy": found.to_dict()}


def _outputs(command: Any) -> Iterator[tuple[str | Path | None, str]]:
    for name, hint in get_type_hints(type(command), include_extras=True).items():
        marks = [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Written)]
        value = getattr(command, name, None)
        yield from ((value, mark.how) for mark in marks)
        if isinstance(value, Output):
            yield from _outputs(value)


def _refusal(path: Path, how: str, to_make: set[str]) -> int | None:
    """The number of the error with which the system would refuse to write there; 0 where it would not."""
    mode, place = _mode(path), Path(os.path.realpath(path))  # what a link points at is written, not the link
    if how == "folder":  # whether one that is there is a run, and fits, is for the command to say
        return 0 if mode is not None else _refusal_in(next(a for a in place.parents if os.path.lexists(a)))
    if (mode is not None and stat.S_ISDIR(mode)) or str(place) in to_make:
        return errno.EEXIST if how == "new folder" else errno.EISDIR
    if mode is not None and how.startswith("new"):
        return errno.EEXIST
    if mode is not None and how == "in place":
        return 0 if os.access(path, os.W_OK) else errno.EACCES
    # A folder that the command makes will be there, as a run is made before it is written into.
    return 0 if str(place.parent) in to_make else _refusal_in(place.parent)


def _refusal_in(folder: Path) -> int:
    if not stat.S_ISDIR(os.stat(folder).st_mode):
        return errno.ENOTDIR
    return 0 if os.access(folder, os.W_OK | os.X_OK) else errno.EACCES


def _mode(path: Path) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None

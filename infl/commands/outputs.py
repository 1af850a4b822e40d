"""Options that name what a command writes, and the check of all of them before any work goes into it.

An option is an output where its type says so; `infl.__main__` checks those of whichever command it runs.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import tyro


@dataclass(frozen=True)
class Written:
    """Marks the type of an option whose path the command writes, with how it does.

    in place: the file is opened and written; replaced: one beside it takes its place; new, new folder: it must not be there
    yet, and `~` is the user's home; folder: made with the folders above it where it is not there.
    """

    how: Literal["in place", "replaced", "new", "new folder", "folder"]


Output = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint=""), Written("in place")]
ForgetFile = Annotated[Path, Written("replaced")]
NewFile = Annotated[Path, Written("new")]
NewFolder = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint=""), Written("new folder")]
RunToRead = Annotated[str, tyro.conf.arg(metavar="PATH|URL")]
RunOrNone = Annotated[str | None, tyro.conf.arg(metavar="PATH|URL", help_behavior_hint="")]
RunToWrite = Annotated[str, tyro.conf.arg(metavar="PATH|URL"), Written("folder")]


def check_outputs(command: Any) -> None:
    """Refuse, before work goes into it, a command of which an output could not be written.

    Raises:
        InputError: where a path has no folder, or is one, or one that may not be written to, or is to be new and is not.
    """
    from infl.records import InputError

    outputs = [(Path(path), how) for path, how in _outputs(command) if path is not None and not _is_remote(path, how)]
    to_make = {os.path.realpath(path) for path, how in outputs if how == "folder" and not os.path.exists(path)}
    for path, how in outputs:
        try:
            if how == "folder":
                _check_folder_to_make(path)
            else:
                _check_file(Path(os.path.expanduser(path)) if how.startswith("new") else path, how, to_make)
        except FileExistsError as error:
            raise InputError(f"{path} exists already; choose another name, nothing is overwritten") from error
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _outputs(command: Any) -> Iterable[tuple[str | Path | None, str]]:
    for name, hint in get_type_hints(type(command), include_extras=True).items():
        for mark in getattr(hint, "__metadata__", ()):
            if isinstance(mark, Written):
                yield getattr(command, name), mark.how


def _is_remote(path: str | Path, how: str) -> bool:
    """Whether it is a run on object storage: whether that can be written is for the storage to say."""
    return how == "folder" and "://" in str(path)


def _check_file(path: Path, how: str, to_make: set[str]) -> None:
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        raise _error(errno.EEXIST if how == "new folder" else errno.EISDIR)
    if mode is not None and how in ("new", "new folder"):
        raise _error(errno.EEXIST)
    if mode is not None and how == "in place":
        if not os.access(path, os.W_OK):
            raise _error(errno.EACCES)
        return
    place = os.path.realpath(path)  # what a link points at is written, not the link
    if place in to_make:
        raise _error(errno.EISDIR)
    folder = os.path.dirname(place)
    if folder not in to_make:  # else it will be there, as `infl train` makes the run before it writes into it
        _check_folder(folder)


def _check_folder_to_make(path: Path) -> None:
    if _mode(path) is not None:  # whether it is a run, and fits, is for the command to say
        return
    above = os.path.dirname(os.path.realpath(path))
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    _check_folder(above)


def _check_folder(path: str) -> None:
    if not stat.S_ISDIR(os.stat(path).st_mode):
        raise _error(errno.ENOTDIR)
    if not os.access(path, os.W_OK | os.X_OK):
        raise _error(errno.EACCES)


def _mode(path: Path) -> int | None:
    try:
        return os.stat(path).st_mode
    except FileNotFoundError:
        return None


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))

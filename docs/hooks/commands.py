"""Writes the reference of the command line from what the commands themselves say under --help."""

from __future__ import annotations

import os
import re
from contextlib import redirect_stdout
from io import BytesIO, TextIOWrapper
from typing import Any
from unittest import mock

from mkdocs.structure.files import File, Files

from infl.__main__ import main

PLACE = "reference/commands.md"
_WIDE = "2000"  # columns: each option then stands on one line
_ROW = re.compile(r"│ (?P<option>\S.*?)(?:  +(?P<help>\S.*?))? *│")
_MORE = re.compile(r"│ {3,}(?P<help>\S.*?) *│")
_BRACES = re.compile(r"\{([a-z,]+)\}")
_PANEL = re.compile(r"╭─ (?P<title>.+?) ─+╮")
_HEADS = {"positional arguments": "argument", "options": "option"}
_INTRODUCTION = """# Commands

Made from what each command says under `--help`. `infl` and `python -m infl` are the same. Every command ends with status 0 when
it is done, 2 for a mistake in what it was given (one line says what was expected, what came and what to do) and 130 when it was
stopped; a stopped command goes on where it was when it is run again.

Pages of their own have the [forget file](../how-to/verdict.md#the-forget-file) and the words for data, [`DATASET`](../data.md).
"""


def on_files(files: Files, *, config: Any) -> Files:
    """Add the page."""
    files.append(File.generated(config, PLACE, content=reference()))
    return files


def reference() -> str:
    """All commands as one page of Markdown."""
    names = _BRACES.search(help_of())
    assert names, "the usage line lists the commands in braces"
    return "\n".join([_INTRODUCTION, *(_section(name) for name in names[1].split(","))])


def help_of(*arguments: str) -> str:
    """What `infl ARGUMENTS --help` prints."""
    printed = TextIOWrapper(BytesIO(), encoding="utf-8")  # the boxes are drawn only where the encoding has them
    with mock.patch.dict(os.environ, {"COLUMNS": _WIDE, "NO_COLOR": "1", "TERM": "dumb"}), redirect_stdout(printed):
        main([*arguments, "--help"])
    printed.seek(0)
    return printed.read()


def panels(text: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """The boxes of a help text: title, and (option, what it says) row by row."""
    found: list[tuple[str, list[tuple[str, str]]]] = []
    for line in text.splitlines():
        if title := _PANEL.fullmatch(line.strip()):
            found.append((title["title"], []))
        elif found and (row := _ROW.fullmatch(line.strip())):
            found[-1][1].append((row["option"], row["help"] or ""))
        elif found and (more := _MORE.fullmatch(line.strip())):
            option, said = found[-1][1][-1]
            found[-1][1][-1] = option, f"{said} {more['help']}"
    return found


def _section(name: str) -> str:
    text = help_of(name)
    about = text.split("\n\n")[1].split("╭")[0].strip()
    usage = text.partition("\n")[0].removeprefix("usage: ").replace("[-h] ", "")
    lines = [f"## infl {name}", "", about, "", f"    {usage}", ""]
    for title, rows in panels(text):
        lines += [f"| {_HEADS.get(title, title)} | |", "|---|---|"]
        for option, said in rows:
            if not option.startswith("-h"):
                lines.append(f"| `{option}` | {_escaped(said.strip())} |")
        lines.append("")
    return "\n".join(lines)


def _escaped(said: str) -> str:
    """For a cell of a table: bars and what Markdown would read as HTML, but for code, which stands as it is."""
    parts = said.split("`")
    parts[::2] = [part.replace("|", "\\|").replace("<", "&lt;") for part in parts[::2]]
    return "`".join(parts)

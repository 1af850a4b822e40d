"""Writes the reference of the command line: what each command says under --help."""

from __future__ import annotations

import os
from contextlib import redirect_stdout
from io import BytesIO, TextIOWrapper
from typing import Any
from unittest import mock

from mkdocs.structure.files import File, Files

from infl.__main__ import main
from infl.cli import COMMANDS
from infl.cli.sets import KINDS

INTRODUCTION = """# Commands

What each command says under `--help`. `infl` and `python -m infl` are the same. Every command ends with status 0 when it is
done, 2 for a mistake in what it was given (one line says what was expected, what came and what to do) and 130 when it was
stopped; a stopped command goes on where it was when it is run again.

Pages of their own have the [forget file](../how-to/verdict.md#the-forget-file) and the words for data, [`DATASET`](../data.md).
"""


def on_files(files: Files, *, config: Any) -> Files:
    """Add the page."""
    sections = [
        f"\n## infl {name}\n\n" + "\n".join(f"```text\n{text}```\n" for text in help_texts(name)) for name in COMMANDS
    ]
    files.append(File.generated(config, "reference/commands.md", content="".join([INTRODUCTION, *sections])))
    return files


def help_texts(name: str) -> list[str]:
    """Of a command, and of its kinds where it has any."""
    return [help_text(name), *(help_text(name, kind) for kind in KINDS.get(name, ()))]


def help_text(*arguments: str) -> str:
    """What `infl ARGUMENTS --help` prints."""
    printed = TextIOWrapper(BytesIO(), encoding="utf-8")  # the boxes are drawn only where the encoding has them
    with mock.patch.dict(os.environ, {"COLUMNS": "110", "NO_COLOR": "1", "TERM": "dumb"}), redirect_stdout(printed):
        main([*arguments, "--help"])
    printed.seek(0)
    return printed.read()

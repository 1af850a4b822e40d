"""infl called as a user calls it, by one line; and what a folder holds, to see that a call changed nothing."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from infl.__main__ import main
from tests.pages import ROOT


def call(line: str) -> None:
    """Run a command that must end well."""
    assert main(shlex.split(line)) == 0, line


def refusal(line: str, capsys: Any, *, status: int = 2) -> str:
    """What a command that must fail says: one line, and no traceback."""
    capsys.readouterr()
    assert main(shlex.split(line)) == status, capsys.readouterr()
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert said.count("\n") == 1, said
    return said


def python(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments in a process of its own, in which infl can be imported."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False, **settings
    )


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every folder below a folder, and every file with its bytes."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}

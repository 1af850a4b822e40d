"""Pages are tested by following them: their Python runs, their commands run, and what they show is what comes out."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from infl.__main__ import main

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
_INLINE = re.compile(r"`(infl [^`]+)`")
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def blocks(text: str, language: str | None = None) -> list[tuple[str, str]]:
    """(language, code) of each fenced block, in order; of one language where it is named."""
    return [(found, code) for found, code in _BLOCK.findall(text) if language in (None, found)]


def commands_in(block: str) -> list[list[str]]:
    """The words of each infl command of a block of shell, comments left away; other lines are no commands of infl."""
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["infl"]]


def commands_named(text: str) -> list[list[str]]:
    """Words of the commands that a page names: in its blocks of shell, and within lines of text."""
    fenced = [words for _, block in blocks(text, "bash") for words in commands_in(block)]
    return fenced + [found.split()[1:] for found in _INLINE.findall(_BLOCK.sub("", text))]


def follow(
    text: str,
    capsys: pytest.CaptureFixture[str],
    *,
    adapted: Callable[[list[str]], list[str]] = lambda words: words,
    names: dict[str, Any] | None = None,
    look: bool = True,
    close: tuple[float, float] | None = None,
) -> str:
    """Do what a page says from top to bottom, in the current folder; returns all that was printed.

    adapted: the words of a command, made quicker. names: the Python names that blocks find, and add to.
    look: whether blocks of text show what was printed before them; those before anything was are quotations.
    close: how near their numbers have to be, as a share or as a difference; None where only the words are looked at.
    """
    names, everything, printed = {} if names is None else names, "", ""
    for language, block in blocks(text):
        if language == "python":
            exec(compile(block, "page", "exec"), names)
        elif language == "bash":
            for words in commands_in(block):
                assert main(adapted(words)) == 0, (words, capsys.readouterr().err)
        if language in ("python", "bash"):
            printed = capsys.readouterr().out
            everything += printed
        elif language == "text" and look and printed:
            expect(block, printed, close=close)
    return everything


def expect(shown: str, printed: str, *, close: tuple[float, float] | None) -> None:
    """Every line that a page shows was printed, in this order: the same words, and numbers that are close."""
    lines = iter(_plain(printed))
    for wanted in _plain(shown):
        for line in lines:
            if _NUMBER.sub("N", line) == _NUMBER.sub("N", wanted):
                break
        else:
            raise AssertionError(f"not printed: {wanted!r}\nprinted:\n{printed}")
        if close is not None:
            pairs = zip(_NUMBER.findall(line), _NUMBER.findall(wanted), strict=True)
            assert all(float(a) == pytest.approx(float(b), rel=close[0], abs=close[1]) for a, b in pairs), (
                line,
                wanted,
            )


def loaded(path: str) -> ModuleType:
    """A script of the documentation as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem + "_of_docs", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _plain(text: str) -> list[str]:
    """Lines with one space where there are more: widths of columns are those of the numbers in them."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]

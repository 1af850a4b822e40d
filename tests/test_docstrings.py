"""The examples in docstrings run, and print what they say: they are the first code of infl that a reader copies."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import infl

MODULES = [
    "infl",
    *(module.name for module in pkgutil.walk_packages(infl.__path__, "infl.") if "__main__" not in module.name),
]
FINDER = doctest.DocTestFinder(exclude_empty=True)


def examples_of(module: str) -> list[doctest.DocTest]:
    return [test for test in FINDER.find(importlib.import_module(module)) if test.examples]


def test_there_are_examples() -> None:
    assert sum(len(examples_of(module)) for module in MODULES) > 40


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_the_docstrings_run(module: str) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner()
    for test in examples_of(module):
        runner.run(test, out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)

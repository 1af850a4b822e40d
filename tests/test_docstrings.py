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
ROOMS = sorted({".".join(module.split(".")[:2]) for module in MODULES})


@pytest.mark.parametrize("room", ROOMS)
def test_the_examples_in_the_docstrings_run(room: str) -> None:
    said: list[str] = []
    runner, finder = doctest.DocTestRunner(), doctest.DocTestFinder(exclude_empty=True)
    for module in MODULES:
        if ".".join(module.split(".")[:2]) == room:
            for test in finder.find(importlib.import_module(module)):
                runner.run(test, out=said.append, clear_globs=False)
    assert not runner.failures, "".join(said)
    assert runner.tries > 0 or room in ("infl", "infl.cli", "infl.unlearning")

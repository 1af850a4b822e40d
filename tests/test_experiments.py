"""A page says what was measured, and the experiment behind it can be run again: every README.md is made from its
results.json, and every experiment's small size ends well."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
PAGES = sorted(path.parent for path in EXPERIMENTS.glob("*/README.md.jinja"))
FASTEST = "memorization_fashion_mnist"  # stays in the first tier
SMALL = [pytest.param(f, id=f.name, marks=[] if f.name == FASTEST else [pytest.mark.slow]) for f in PAGES]

sys.path.insert(0, str(EXPERIMENTS))
import readme  # noqa: E402  # pyright: ignore[reportMissingImports]


def results_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("folder", SMALL)
def test_the_small_size_runs_and_writes_its_results(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    command = [sys.executable, str(folder / "run.py"), "--small", "--out", str(out)]
    quick = os.environ | {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # compiling is most of what it does
    done = subprocess.run(command, env=quick, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    small, full = json.loads(out.read_text()), results_of(folder)
    for results in (small, full):
        assert {"summary", "commit", "versions", "date", "command"} <= set(results)
    assert set(small["summary"]) <= set(full["summary"])
    assert not full["uncommitted_changes"], "the committed results were made from a changed tree"


@pytest.mark.parametrize("folder", PAGES, ids=lambda folder: folder.name)
def test_the_page_is_what_the_results_say(folder: Path) -> None:
    assert (folder / "README.md").read_text() == readme.render(results_of(folder), folder)


def test_a_number_is_shown_with_its_standard_error() -> None:
    assert readme.show([-0.001, 0.0149]) == "0.00 ± 0.01"
    assert readme.show([0.1234, 0.01], "+.1%") == "+12.3 ± 1.0%"
    assert (readme.show(1234, ","), readme.show(None)) == ("1,234", "")
    worlds = {"digits": {"rows": [[1.0, 0.1], [2.0, 0.2]]}, "fashion": {"rows": [3.0, 4.0]}}
    assert readme.each(worlds, "rows/1", ".1f") == "2.0 ± 0.2 (digits), 4.0 (fashion)"

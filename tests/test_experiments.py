"""Every experiment still runs: its `--small` size ends well and writes its summary, raw numbers, commit and versions."""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = sorted((Path(__file__).parents[1] / "experiments").glob("*/run.py"))


@pytest.mark.parametrize("script", EXPERIMENTS, ids=lambda path: path.parent.name)
def test_the_small_size_runs_and_writes_its_results(script, tmp_path):
    out = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, str(script), "--small", "--out", str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    small, full = json.loads(out.read_text()), json.loads((script.parent / "results.json").read_text())
    for results in (small, full):
        assert {"summary", "commit", "versions", "date", "command"} <= set(results)
    assert set(small["summary"]) <= set(full["summary"])
    assert not full["uncommitted_changes"], "the committed results were made from a changed tree"


def test_tables_of_regimes_are_written_from_its_results(tmp_path):
    """A table whose numbers were changed by hand is put right, and the one in the project needs no change."""
    folder = EXPERIMENTS[0].parents[1] / "regimes"
    for name in ("page.py", "README.md", "results.json"):
        shutil.copy(folder / name, tmp_path)
    page = tmp_path / "README.md"
    right = page.read_text()
    page.write_text(right.replace("| digits-early | 165 (", "| digits-early | 166 ("))
    assert page.read_text() != right
    runpy.run_path(str(tmp_path / "page.py"), run_name="__main__")
    assert page.read_text() == right

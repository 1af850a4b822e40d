"""Every experiment still runs: its `--small` size ends well and writes its summary, raw numbers, commit and versions."""

import json
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

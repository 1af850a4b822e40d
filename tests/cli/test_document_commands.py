"""Commands on a run of documents: texts where images have pictures, words that fit, and others that are held out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import infl
from infl.__main__ import main


def call(line: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints, which speaks of no pixels, images, classes or labels."""
    assert main(line.split()) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert not [word for word in ("pixel", "image", "class", "label", "digit") if word in printed], printed
    return printed


def test_forgetting_a_group_is_judged_on_held_out_documents(
    documents_run: infl.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cross is (n/m) sum of D_k over H / |S|, predicted and measured, as effects on all columns say."""
    run = tmp_path / "run"
    shutil.copytree(documents_run.folder, run)
    call(f"forget group --run {run} --name Ben --out {tmp_path}/ben.json", capsys)
    asked = (
        f"--run {run} --forget {tmp_path}/ben.json --json {tmp_path}/ben-verdict.json --effects {tmp_path}/effects.npz"
    )
    printed = call(f"verify {asked} --n-models 8 --quiet", capsys)
    assert "cross, harm and gain are read on held-out documents alone" in printed
    assert "predicted by sums over single examples" in printed
    verdict = json.loads((tmp_path / "ben-verdict.json").read_text())["sets"]["Ben"]
    effect, (n, columns) = np.load(tmp_path / "effects.npz")["effect"][0], (32, 48)
    assert verdict["measured"]["cross"]["value"] == pytest.approx(n / 16 * effect[n:columns].sum() / verdict["size"])
    assert verdict["held_out_only"]
    assert min(one["id"] for one in verdict["measured"]["most_harmed"]) >= n

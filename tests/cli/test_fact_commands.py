"""A world of facts from the command line: planted, trained on, and what forgetting one of its facts takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import infl
from infl.data.worlds import read_derivations
from infl.pipeline.facts import influence_cut
from infl.untraining.cuts import derive
from tests.commands import call, refusal


def test_a_world_is_planted_and_what_forgetting_a_fact_takes_is_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alone it is known from the rest, with its cut it is gone: the cut by rules leaves no derivation, and a held-out fact
    is cut off by the one fact that it cannot be derived without, as its influence shows."""
    monkeypatch.chdir(tmp_path)
    call("plant facts lives --size 8 --out lives.tsv")
    call("train facts:lives.tsv --run r --n-models 200 --n-references 8 --design uniform --fraction 0.9 --quiet")
    capsys.readouterr()
    call("forget fact facts:lives.tsv --fact 'person-1, nation, ?' --out fact.json")
    assert "person-1, nation, ? cut by rules: 4 of 147 training examples" in capsys.readouterr().out
    sets, dataset = json.loads(Path("fact.json").read_text()), infl.open_run("r").dataset()
    assert list(sets)[:3] == [f"person-1, nation, ?{what}" for what in ("", " with premises", " cut by rules")]
    (fact,), cut = sets["person-1, nation, ?"], sets["person-1, nation, ? cut by rules"]
    left = set(dataset.train_ids.tolist()) - set(dataset.train_ids[cut].tolist())
    assert derive(int(dataset.train_ids[fact]), left, read_derivations("lives.derivations.tsv")) is None
    call("verify --run r --forget fact.json --n-models 8 --quiet --json verified.json")
    measured = {
        name: one["measured"]["self"]["value"]
        for name, one in json.loads(Path("verified.json").read_text())["sets"].items()
    }
    assert measured["person-1, nation, ?"] < 0.3 < 0.7 < measured["person-1, nation, ? cut by rules"]
    born = next(k for k in range(dataset.n_train) if dataset.text(k) == "person-3, born in, ?")
    call("forget fact --run r --fact 'person-3, nation, ?' --out held-out.json")
    sets = json.loads(Path("held-out.json").read_text())
    assert len(sets) == 2  # as both cuts are the same
    cut = influence_cut("r", "person-3, nation, ?", quiet=True)
    assert cut is not None
    assert sets["person-3, nation, ? cut by rules"] == list(cut.ids) == [born]
    call("report --run r --out page.html")
    assert "What facts are known from" in Path("page.html").read_text()
    said = refusal("plant facts lives --size 8 --out lives.tsv", capsys)
    assert "exists already" in said
    assert "of the world lives alone" in refusal("plant facts families --zipf --out other.tsv", capsys)
    assert "question of lives" in refusal(
        "forget fact facts:lives.tsv --fact 'person-0, town, ?' --out fact.json", capsys
    )

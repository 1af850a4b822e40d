"""A run becomes a page: with what is known of it, computed as the other commands compute it, and without training.

So the numbers that `infl report --json` writes must be those of `infl scores`, `predict` and `verify` on the same run.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infl
from infl.pipeline.report import write_report
from infl.records import Dataset, InputError
from infl.store import Run, open_run
from tests.commands import call, contents

SETS: dict[str, Any] = {
    "few <b>": [50, 5, 44],
    "a third": list(range(0, 60, 3)),
    "known": {"ids": [5, 6, 7, 8, 9, 10], "concept": list(range(5, 15))},
}
N_MODELS = 120


@pytest.fixture(scope="module")
def verified(small_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Models of subsets, eight of all, and six without each of two sets; the third set is predicted only."""
    folder = tmp_path_factory.mktemp("verified") / "run"
    algorithm = infl.Algorithm(hidden=(8,), epochs=3, batch_size=20)
    infl.train(small_digits, run=folder, n_models=N_MODELS, n_references=8, algorithm=algorithm, quiet=True)
    infl.verify(folder, {name: SETS[name] for name in ("few <b>", "known")}, n_models=6, quiet=True)
    return open_run(folder)


def test_the_page_of_a_run_says_what_the_other_commands_say(verified: Run, tmp_path: Path) -> None:
    forget, out = tmp_path / "forget.json", tmp_path / "page.html"
    forget.write_text(json.dumps(SETS))
    before = contents(verified.folder)
    call(f"report --run {verified.folder} --forget {forget} --out {out} --json {tmp_path}/report.json")
    assert before.items() <= contents(verified.folder).items()  # the fit of the predictor is new
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["page"] == str(out)
    assert content["bytes"] == out.stat().st_size
    assert list(content["sets"]) == list(SETS)
    call(f"predict --run {verified.folder} --forget {forget} --json {tmp_path}/predict.json")
    predicted = json.loads((tmp_path / "predict.json").read_text())
    assert content["thresholds"] == predicted["thresholds"]
    measured = {name: fields.pop("measured", None) for name, fields in content["sets"].items()}
    assert content["sets"] == predicted["sets"]
    assert measured["a third"] is None
    for verdict in infl.verify(verified, {name: SETS[name] for name in ("few <b>", "known")}, n_models=6, quiet=True):
        fields = measured[verdict.forget_set.name]
        assert fields["regime"] == verdict.regime
        assert fields["cross"] == {"value": verdict.cross_influence.value, "se": verdict.cross_influence.se}
        assert [one["id"] for one in fields["most_harmed"]] == list(verdict.most_harmed)
    call(f"scores --run {verified.folder} --n-top 60 --json {tmp_path}/scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    del scores["detectable"], scores["accuracy"]
    assert content["scores"] == scores
    assert "few &lt;b&gt;" in out.read_text()


@pytest.mark.slow
def test_by_default_the_verified_sets_are_shown(verified: Run, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = shutil.copytree(verified.folder, tmp_path / "run")
    call(f"report --run {folder} --n-top 3")
    assert "2 forget sets" in capsys.readouterr().out
    content = write_report(folder, quiet=True).content
    assert [one.best.forget_set.name for one in content.sets] == ["few <b>", "known"]
    assert all(one.predicted and one.measured for one in content.sets)
    assert content.sets[1].best.forget_set.concept == tuple(range(5, 15))
    assert (folder / "report.html").exists()
    infl.verify(folder, {"known": [1, 2]}, n_models=4, quiet=True)  # another set of the same name
    names = [one.best.forget_set.name for one in write_report(folder, quiet=True).content.sets]
    assert names == ["few <b>", "known", "known (2)"]


def test_intervals_of_pairs_are_those_of_their_influence(verified: Run) -> None:
    scores = write_report(verified, quiet=True).content.scores
    assert scores is not None
    low, high = infl.interval(infl.influence(verified.outcomes("design")))
    for pair, interval in zip(scores.pairs, scores.pair_intervals, strict=True):
        place = pair.source, pair.target - 60
        assert interval == pytest.approx((low[place], high[place]), abs=1e-5, nan_ok=True)  # sums in float32
        assert np.isnan(interval).all() or interval[0] <= pair.value <= interval[1]
    assert np.isfinite(scores.pair_intervals).all(axis=1).sum() > 10


def test_a_run_made_elsewhere_has_a_page_too(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((80, 12)) < 0.6
    np.savez(tmp_path / "outcomes.npz", masks=masks, correct=np.c_[masks, masks], labels=np.arange(24) % 2)
    run = infl.import_outcomes(tmp_path / "outcomes.npz", run=tmp_path / "run")
    written = infl.write_report(run)
    page = written.path.read_text()
    assert "no pixels" in page
    assert "correct of models made elsewhere" in page
    with pytest.raises(InputError, match="set 'a': the run holds no models to predict it from"):
        infl.write_report(run, forget_sets={"a": [1]}, quiet=True)

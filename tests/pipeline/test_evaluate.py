"""`infl evaluate` finds the models to compare in a run, reads those made elsewhere, and says the same as the pure comparison.

Models that are copies of the run's own must come out as what they are copies of, whatever way they are given; a file that does
not fit is named in one line.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infl
from infl.records import MAX_MARGIN
from infl.report.evaluations import gamma_curves
from infl.store import Collection, leave_out_name, unlearned_name
from infl.untraining.comparison import evaluate_models
from tests.commands import call, refusal

S, CONCEPT = tuple(range(5)), tuple(range(15))


@pytest.fixture(scope="module")
def run(small_run: infl.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight models of D, of D\\S and of D without the whole concept, and the forget file beside them."""
    folder = tmp_path_factory.mktemp("evaluate")
    shutil.copytree(small_run.place, folder / "run")
    (folder / "sets.json").write_text(json.dumps({"part": {"ids": S, "concept": CONCEPT}}))
    part = infl.ForgetSet("part", S, CONCEPT)
    infl.verify(folder / "run", [part, *infl.forget_sets.whole_concepts([part])], n_models=8, stop=None, quiet=True)
    return folder / "run"


def outcomes(run: Path, name: str) -> infl.Outcomes:
    return infl.open_run(run).outcomes(name).load()


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_models_of_a_file_are_evaluated_beside_nothing_and_retraining(run: Path, tmp_path: Path) -> None:
    labels, of_part, of_concept = infl.open_run(run).dataset().labels, leave_out_name(S), leave_out_name(CONCEPT)
    files = [
        save(tmp_path / "copies.npz", margin=outcomes(run, of_part).of("margin"), labels=labels),
        save(tmp_path / "whole.npz", accuracy=outcomes(run, of_concept).of("correct")),
    ]
    named = " ".join(map(str, files))
    call(f"evaluate --run {run} --forget {run.parent}/sets.json --models {named} --groups --json {tmp_path}/out.json")
    written = json.loads((tmp_path / "out.json").read_text())
    found = written["sets"]["part"]["methods"]
    assert list(found) == ["nothing", "retraining", "copies", "whole"]
    assert (written["tolerance"], written["sets"]["part"]["size"], written["sets"]["part"]["concept"]) == (0.05, 5, 15)
    one, concept = infl.ForgetSet("part", S, CONCEPT), outcomes(run, of_concept)
    evaluations = evaluate_models(
        one,
        {"copies": outcomes(run, of_part), "whole": concept},
        original=outcomes(run, "full"),
        oracle=outcomes(run, of_part),
        full_oracle=concept,
    )
    for evaluation in evaluations:
        fields = found[evaluation.method]
        assert fields["judgement"] == evaluation.judgement
        for side in ("to_oracle", "to_full_oracle"):
            distance = getattr(evaluation, side)
            assert fields[side]["value"] == pytest.approx(distance.value.value)
            assert fields[side]["groups"].keys() == distance.groups.keys()
        assert fields["effect"]["self"]["value"] == pytest.approx(evaluation.effect.self_influence.value)
    assert found["copies"]["to_oracle"]["value"] == found["whole"]["to_full_oracle"]["value"] == 0
    assert found["copies"]["effect"]["cross"] == written["sets"]["part"]["retrained"]["cross"]
    assert [found[name]["cost"] for name in found] == [0, 1, None, None]
    assert (run / "figures" / "distances_part.png").stat().st_size > 1000


def test_curves_over_gamma_are_accuracies_and_distances_of_the_models_themselves(run: Path, tmp_path: Path) -> None:
    smaller, whole = infl.ForgetSet("tenth", S[:2], CONCEPT), infl.ForgetSet("concept", CONCEPT)
    infl.verify(run, [smaller], n_models=8, stop=None, quiet=True)
    sets = {"concept": CONCEPT, "part": {"ids": S, "concept": CONCEPT}, "tenth": {"ids": S[:2], "concept": CONCEPT}}
    (tmp_path / "sets.json").write_text(json.dumps(sets))
    call(f"evaluate --run {run} --forget {tmp_path}/sets.json --gamma --json {tmp_path}/out.json")
    rows = json.loads((tmp_path / "out.json").read_text())["curves"]["concept"]
    assert [row["gamma"] for row in rows] == pytest.approx([2 / 15] * 5 + [5 / 15] * 5 + [1] * 5)
    at = {(row["size"], row["method"]): row for row in rows}
    right = {k: outcomes(run, leave_out_name(CONCEPT[:k])).of("correct") for k in (2, 5, 15)}
    for size in (2, 5, 15):
        nothing, part, concept = (at[size, one] for one in ("nothing", "retraining", "retraining, whole concept"))
        assert nothing["members"]["value"] == pytest.approx(outcomes(run, "full").of("correct")[:, :15].mean())
        assert concept["members"]["value"] == pytest.approx(
            right[15][1 if size == 15 else 0 :: 2 if size == 15 else 1, :15].mean()
        )
        predicted, both = at[size, "prediction"], at[size, "prediction, whole concept"]
        before, [effects] = outcomes(run, "full").of("correct").mean(axis=0), infl.predict_effects(run, CONCEPT[:size])
        expected = np.clip(before - effects.effect, 0, 1)[:15].mean()
        assert predicted["members"]["value"] == pytest.approx(expected, abs=1e-6)
        assert both["members"]["value"] == pytest.approx(at[15, "prediction"]["members"]["value"], abs=1e-6)
        if size < 15:
            assert part["members"]["value"] == pytest.approx(right[size][:, :15].mean())
            assert part["to_full_oracle"] == concept["to_oracle"]
    assert (run / "figures" / "gamma.png").stat().st_size > 1000
    with pytest.raises(infl.InputError, match="parts of one concept"):
        gamma_curves(infl.evaluate(run, [whole], quiet=True))


def test_models_that_diverged_count_as_wrong_and_columns_in_another_order_are_pointed_out(run: Path) -> None:
    margin = outcomes(run, "full").of("margin")
    diverged, infinite = margin.copy(), margin.copy()
    diverged[2, 7], infinite[margin > 0] = np.nan, np.inf
    given = {"diverged": diverged, "infinite": infinite, "mixed": margin[:, np.random.RandomState(0).permutation(90)]}
    found = infl.evaluate(run, {"s": S}, {name: {"margin": array} for name, array in given.items()}, quiet=True)
    nothing, _, wrong, same, mixed = found
    assert (nothing.n_diverged, wrong.n_diverged, same.n_diverged) == (0, 1, 0)
    right = outcomes(run, "full").of("correct")[:, :5]
    assert wrong.to_oracle.groups["set"].accuracy.value == pytest.approx(np.delete(right, 2, axis=0).sum() / right.size)
    assert same.to_oracle == nothing.to_oracle
    assert "are its columns in the order of the run?" in mixed.note
    assert "order" not in same.note
    assert wrong.to_full_oracle is None
    strict = infl.evaluate(run, {"s": S}, thresholds=infl.Thresholds(self_influence=1e-3), quiet=True)[0]
    assert [one.retrained.regime == "no-op" for one in (nothing, strict)] == [True, False]
    assert ["doing nothing is best" in one.note for one in (nothing, strict)] == [True, False]


def test_methods_that_a_run_holds_are_found_with_their_settings_and_a_diverged_model_is_wrong(
    run: Path, tmp_path: Path
) -> None:
    copy, right = shutil.copytree(run, tmp_path / "run"), outcomes(run, leave_out_name(S))
    opened, one = infl.open_run(copy), infl.ForgetSet("part", S)
    for rate, finite in ((0.1, np.ones(8, bool)), (0.2, np.arange(8) != 3)):
        design = {"kind": "unlearned", "method": "descend", "settings": {"rate": rate, "epochs": 2}}
        name = unlearned_name(design, S)
        opened.add_collection(Collection(name, design, forget_set=one))
        opened.write(name, range(8), right, finite, seconds=4.0)
    nothing, _, first, second = infl.evaluate(copy, [one], quiet=True)
    assert [first.method, second.method] == ["descend rate=0.1", "descend rate=0.2"]
    assert (dict(first.settings), first.n_diverged) == ({"rate": 0.1, "epochs": 2}, 0)
    assert first.to_oracle.value.value == 0
    rows = [one for name, one in opened.to_dict()["collections"].items() if name.startswith("without-")]
    assert len(rows) > 1
    retraining = sum(one["seconds"] for one in rows) / sum(one["complete"] for one in rows)
    assert first.cost == pytest.approx(4 / 8 / retraining, rel=0.01)
    assert second.n_diverged == 1
    lost = right.of("correct")[3].mean() / 8  # of each example one model of eight
    accuracy = right.of("correct").mean() - lost
    groups = second.to_oracle.groups
    found = sum(group.accuracy.value * group.n_examples for group in groups.values()) / 90
    assert found == pytest.approx(accuracy, abs=0.01)
    assert nothing.cost == 0
    page = infl.write_report(copy, forget_sets=[one], predictor="additive", quiet=True).path.read_text()
    lines = [line for line in page.split("<tr>") if "descend rate=0." in line]
    assert len(lines) == 2
    assert f">{first.to_oracle.value}".replace("-", "−") in lines[0]


def test_files_that_do_not_fit_are_named_in_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    margin, asked = outcomes(run, "full").of("margin"), f"evaluate --run {run} --forget {run.parent}/sets.json --models"
    labels = infl.open_run(run).dataset().labels.copy()
    labels[70] += 1
    for said, arrays in {
        "margin: expected numbers [models, n+m], a column for each of the 60 training examples": {
            "margin": margin[:, :80]
        },
        "its outcomes are of other examples: 1 of 90 labels differ, the first of column 70": {
            "margin": margin,
            "labels": labels,
        },
        "expected margin or accuracy [models, n+m], found logits": {"logits": margin},
        "theirs: 1 model says nothing": {"margin": margin[:1]},
        "margin and accuracy are of 8 and 7 models": {"margin": margin, "accuracy": margin[:7] > 0},
        "correct: expected 0 or 1, or shares": {"accuracy": margin},
    }.items():
        assert said in refusal(f"{asked} {save(tmp_path / 'theirs.npz', **arrays)}", capsys)
    (tmp_path / "other.json").write_text(json.dumps({"other": [50, 51], "more": [52]}))
    asked = f"--run {run} --forget {tmp_path}/other.json"
    assert "infl verify --run" in refusal(f"evaluate {asked}", capsys)
    assert "models are of one forget set, and 2 are given" in refusal(f"evaluate {asked} --models x.npz", capsys)
    assert "set 'other' has no concept" in refusal(f"verify {asked} --concepts", capsys)
    with pytest.raises(infl.InputError, match="give it another name"):
        infl.evaluate(run, {"s": S}, {"nothing": {"margin": np.full((8, 90), -MAX_MARGIN)}}, quiet=True)

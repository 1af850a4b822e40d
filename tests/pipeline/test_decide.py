"""A budget buys retrainings that verification would have done, of the undetermined sets alone, nearest to a decision first.

What a set is measured with is compared bit for bit with `infl.verify` of it alone, and what was spent is counted on disk. A
call that was killed must end as one that was not, and never spend more in all.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import infl
from infl.records import ForgetSet, InputError, Quantity, Thresholds, Verdict
from infl.report.tables import verdict_fields
from infl.store import leave_out_name, open_run
from infl.untraining.verification import order
from tests.commands import call, refusal

SETS = {"sixth": list(range(10)), "one": [7], "pair": [5, 44], "third": list(range(0, 60, 3)), "far": [11, 12, 50]}
LOOKS: dict[str, Any] = {"n_models": 8, "first": 4, "quiet": True}
# Predictions are certain of nothing, and measurements of what is far from these.
THRESHOLDS = Thresholds(probability=0.6)


@pytest.fixture
def run(small_run: infl.Run, tmp_path: Path) -> infl.Run:
    return open_run(shutil.copytree(small_run.folder, tmp_path / "run"))


def retrained(run: infl.Run) -> dict[str, int]:
    """How many models the run holds without each set."""
    run = open_run(run.folder)
    counts = {name: len(run.complete(leave_out_name(tuple(sorted(ids))))) for name, ids in SETS.items()}
    return {name: count for name, count in counts.items() if count}


def same(ones: list[Verdict], others: list[Verdict]) -> bool:
    """To the last bit, and a NaN is a NaN."""
    return json.dumps([verdict_fields(one) for one in ones]) == json.dumps([verdict_fields(one) for one in others])


def test_undetermined_sets_are_measured_as_verification_does_and_no_others(run: infl.Run, tmp_path: Path) -> None:
    other = open_run(shutil.copytree(run.folder, tmp_path / "other"))
    predicted, measured = infl.decide(run, SETS, budget=1000, thresholds=THRESHOLDS, **LOOKS)
    assert same(predicted, infl.predict(run, SETS, thresholds=THRESHOLDS, quiet=True))
    undetermined = [one.forget_set for one in predicted if one.regime == "undetermined"]
    assert 0 < len(undetermined) < len(SETS)  # or nothing is tested
    assert same(measured, infl.verify(other, undetermined, thresholds=THRESHOLDS, **LOOKS))
    assert retrained(run) == {one.forget_set.name: one.n_models for one in measured}


def test_no_more_is_spent_than_the_budget_also_where_the_call_is_repeated(run: infl.Run) -> None:
    full = order(infl.predict(run, SETS, thresholds=THRESHOLDS, quiet=True))
    budget = 4 * len(full) - 1  # one set short of the first look
    for _ in range(2):
        _, measured = infl.decide(run, SETS, budget=budget, thresholds=THRESHOLDS, **LOOKS)
        assert retrained(run) == {one.forget_set.name: 4 for one in full[:-1]}
        assert {one.forget_set.name for one in measured} == set(retrained(run))
    assert infl.decide(run, SETS, budget=0, **LOOKS)[1] == []
    with pytest.raises(InputError, match="0 or more, got -1"):
        infl.decide(run, SETS, budget=-1)


def verdict(name: str, most: float, models_needed: int | None = None) -> Verdict:
    probability = {"no-op": most, "local": 1 - most, "spreading": 0.0, "indirect": 0.0}
    regime = "no-op" if most >= 0.8 else "undetermined"
    unknown = Quantity(0.0, 1.0)
    return Verdict(
        forget_set=ForgetSet(name, (1,)),
        regime=regime,
        probability=probability,
        self_influence=unknown,
        cross_influence=unknown,
        harm=unknown,
        gain=unknown,
        thresholds=Thresholds(),
        source="retrained",
        n_models=4,
        most_harmed=(),
        most_harmed_effects=(),
        models_needed=models_needed,
    )


def test_the_set_nearest_to_a_decision_comes_first() -> None:
    """Fewest models needed, then the highest probability; where nothing within reach would decide, last."""
    few, many, near, on_threshold = (
        verdict("few", 0.7, 8),
        verdict("many", 0.6, 64),
        verdict("near", 0.75),
        verdict("on", 0.5),
    )
    decided, nothing = verdict("decided", 0.85), dict.fromkeys(few.probability, float("nan"))
    unknown = replace(verdict("unknown", 0.5), probability=nothing)
    given = [unknown, on_threshold, many, decided, near, few]
    assert [one.forget_set.name for one in order(given)] == ["few", "many", "near", "on", "unknown"]
    assert [one.forget_set.name for one in order([few, decided], stop=0.95)] == ["few", "decided"]


def test_the_commands_say_what_was_decided_by_what(run: infl.Run, tmp_path: Path, capsys: Any) -> None:
    forget, written = tmp_path / "forget.json", tmp_path / "written.json"
    forget.write_text(json.dumps(SETS))
    given = f"--run {run.folder} --forget {forget} --json {written} --quiet --thresholds.probability 0.6"
    call(f"predict {given} --plan")
    plan = json.loads(written.read_text())["plan"]["verify"]
    said = capsys.readouterr().out
    assert (
        f"{len(SETS) - len(plan)} of {len(SETS)} sets decided by prediction; verify in this order: {', '.join(plan)}"
        in said
    )
    call(f"decide {given} --n-models 16 --budget {16 * len(plan)}")
    found, said = json.loads(written.read_text()), capsys.readouterr().out
    assert [name for name, one in found["sets"].items() if "measured" in one] == sorted(plan, key=list(SETS).index)
    by = found["decided"]
    assert by["by_prediction"] == len(SETS) - len(plan)
    assert f"{len(SETS) - len(plan)} of {len(SETS)} sets decided by prediction, {by['by_retraining']} by" in said
    assert "budget" in refusal(f"decide --run {run.folder} --forget {forget} --budget -3", capsys)

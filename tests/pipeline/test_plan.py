"""A plan follows from its formulas and from a clock that is played; training to a target stops where it should.

The devices are played too where only numbers matter: their models are right by chances that the test knows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infl
from infl.pipeline.plan import PREDICTED_CROSS_ERROR, Plan
from infl.pipeline.score import check_target
from infl.records import Array, Dataset, Groups, InputError
from infl.scores.power import EffectiveModels, models_for_effect
from infl.store import Run, open_run
from infl.training.ensemble import BatchOutcomes
from infl.training.subsets import Design
from tests.blocks import delete_blocks, stored_blocks

BALANCED = Design("balanced", 0.7)
SMALL = infl.Algorithm(network="mlp", hidden=(8,), epochs=2, batch_size=20)
LAYOUT = infl.Layout(models_per_device=4)


class PlayedEnsemble:
    """Stands for the devices: a batch of 8 models takes 2 seconds, the first one 10, on a clock of its own.

    Models are right with a chance of 0.9 where they trained on the example and 0.8 where they did not.
    """

    models_per_batch = 8
    layout = wanted = infl.Layout(models_per_device=8, mode="map", convolution="xla")
    devices = ()
    more_every_other = 0
    now = 0.0

    def __init__(self, _: Any, dataset: Dataset, *__: Any) -> None:
        self.n_started, self.n_columns = 0, dataset.n_columns

    def set_layout(self, layout, **_):
        assert layout == self.layout

    def train(self, keys: Array, masks: Array) -> BatchOutcomes:
        assert len(keys) == len(masks)
        self.n_started += 1
        PlayedEnsemble.now += 10 if self.n_started == 1 else 2 + self.more_every_other * (self.n_started % 2 == 0)
        right = np.full((len(masks), self.n_columns), 0.8)
        right[:, : masks.shape[1]][masks] = 0.9
        correct = np.random.RandomState(self.n_started).rand(*right.shape) < right
        return BatchOutcomes(np.zeros(right.shape), correct, np.ones(len(masks), bool))


def play_groups(dataset: Dataset, *_: Any, **__: Any) -> Groups:
    """Found in 30 seconds."""
    PlayedEnsemble.now += 30
    return Groups(("labels",), dataset.y_train[None].astype(np.int32))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infl.pipeline.plan.Ensemble", PlayedEnsemble)
    monkeypatch.setattr("infl.pipeline.plan.time.perf_counter", lambda: PlayedEnsemble.now)
    monkeypatch.setattr("infl.pipeline.train.make_groups", play_groups)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A measured run of four blocks."""
    monkeypatch.setattr("infl.pipeline.plan.MIN_SECONDS", 0.0)


def answers(planned: Plan, question: str) -> list[Any]:
    return [answer for answer in planned.answers if answer.question == question]


@pytest.mark.usefixtures("played")
def test_a_plan_follows_from_its_formulas(small_digits: Dataset) -> None:
    planned = infl.plan(small_digits, standard_error=0.07, n_references=5, design=BALANCED)
    # p (1-p) / (r (1-r) se^2) = 0.25 / (0.21 * 0.0049) = 242.95, and a balanced design at 0.7 repeats every 10 models.
    assert planned.n_models == 250
    assert planned.standard_error == pytest.approx((0.25 / (0.21 * 250)) ** 0.5)
    assert planned.n_bytes == 255 * (8 + 12 * 17)  # 60 bits in whole bytes, and 17 bits for each of 96 columns, a tile
    assert (planned.models_per_second, planned.compile_seconds) == (4, 8)
    assert planned.seconds == 8 + 255 / 4
    given = infl.plan(small_digits, n_models=7, n_references=0, design=Design("uniform", (0.5, 0.7)))
    assert (given.n_models, given.n_references, given.fraction) == (7, 0, 0.6)
    information = 0.6 - (0.7**3 - 0.5**3) / (3 * 0.2)  # the mean of r - r^2 over 0.5 to 0.7
    assert given.standard_error == pytest.approx((0.25 / (information * 7)) ** 0.5)


@pytest.mark.usefixtures("played")
def test_a_plan_of_a_grouped_run_counts_on_its_uniform_models_alone(
    small_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores rest on no others: r (1-r) averages 0.1317 over 0.7 to 0.97, so 0.25 / (0.1317 * 0.0049) = 387.4 of them."""
    monkeypatch.setattr(PlayedEnsemble, "more_every_other", 1)
    planned = infl.plan(small_digits, standard_error=0.07)
    assert (planned.prepare_seconds, planned.compile_seconds) == (30, 8)
    # Grouped models leave out fewer: a block of them takes 3 seconds, one of uniform ones 2.
    assert planned.models_per_second == pytest.approx(8 / 2.5)
    assert planned.seconds == pytest.approx(30 + 8 + (776 + 64) / 3.2)
    assert (planned.n_models, planned.fraction) == (2 * 388, pytest.approx(0.835))
    assert planned.standard_error == pytest.approx((0.25 / (0.1317 * 388)) ** 0.5)
    assert Design("grouped", (0.7, 0.97)).parts(planned.n_models)["design"][1] == 388
    a_third = Design("grouped", 0.5, grouped_share=1 / 3)
    assert infl.plan(small_digits, n_models=300, design=a_third).standard_error == pytest.approx((1 / 200) ** 0.5)
    with pytest.raises(InputError, match="with a grouped share of 1 there are none"):
        infl.plan(small_digits, design=Design("grouped", 0.5, grouped_share=1.0))


@pytest.mark.usefixtures("played")
def test_memorization_is_planned_by_the_noise_of_the_pilot(small_digits: Dataset) -> None:
    planned = infl.plan(small_digits, standard_error=0.05, design=BALANCED, n_pilot=400)
    assert planned.n_pilot == 400
    mean, worst = answers(planned, "memorization")
    # 0.9 * 0.1 / (0.7 T) + 0.8 * 0.2 / (0.3 T) = 0.0025, and a little for one success and one failure more on each side
    assert 0.97 * 265 < mean.n_models < 1.1 * 265
    assert mean.n_models < worst.n_models == 480
    for answer in (mean, worst):
        assert answer.value == 0.05
        assert answer.seconds == 8 + (answer.n_models + 64) / 4
        assert answer.n_bytes == (answer.n_models + 64) * (8 + 12 * 17)
    given = infl.plan(small_digits, n_models=mean.n_models, design=BALANCED, n_pilot=400)
    assert answers(given, "memorization")[0].value == pytest.approx(0.05, rel=0.02)
    assert {answer.n_models for answer in given.answers} <= {mean.n_models, None}  # None: by so few, nothing is found


@pytest.mark.usefixtures("played")
def test_memorization_is_planned_by_the_strata_of_the_design(
    small_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one of each pair is right and the other wrong, pairs have 1/2 the variance within that models have, 1/4, in all."""

    def train(_: PlayedEnsemble, keys: Array, masks: Array) -> BatchOutcomes:
        PlayedEnsemble.now += 2
        first = np.random.RandomState(int(PlayedEnsemble.now)).rand(len(masks) // 2, 1, 90) < 0.5
        correct = np.concatenate([first, ~first], axis=1).reshape(len(masks), 90)
        finite = np.arange(len(masks)) != 3  # and the models after it keep their pairs
        return BatchOutcomes(np.zeros(correct.shape), correct, finite)

    monkeypatch.setattr(PlayedEnsemble, "train", train)
    planned = infl.plan(small_digits, standard_error=0.05, design=Design("paired", 0.5), n_pilot=400)
    mean, worst = answers(planned, "memorization")
    assert worst.n_models == 400  # 0.25 / (0.25 * 0.0025), as if all were independent
    assert mean.n_models == pytest.approx(800, rel=0.03)


@pytest.mark.usefixtures("played")
def test_influence_is_planned_over_all_pairs_by_reading(small_digits: Dataset) -> None:
    planned = infl.plan(small_digits, detect=0.2, design=BALANCED, n_pilot=400, power=0.9, false_discovery_rate=0.1)
    assert planned.n_pairs == 60 * 30 + 60 * 59
    assert planned.p_cut == pytest.approx(0.1 / planned.n_pairs)
    held_out, worst, left_out, left_out_worst = answers(planned, "influence")
    for answer, one in ((worst, EffectiveModels.one(0.7)), (left_out_worst, EffectiveModels.one(0.7, left_out=True))):
        needed = models_for_effect(0.2, one, p_cut=planned.p_cut, power=0.9)
        assert needed <= answer.n_models < needed + 10
    assert held_out.n_models < worst.n_models
    assert left_out.n_models < left_out_worst.n_models
    # Only 0.3 of the models leave a training example out.
    assert left_out_worst.n_models == pytest.approx(worst.n_models / 0.3, rel=0.05)
    assert not answers(infl.plan(small_digits, design=BALANCED), "influence")
    more = infl.plan(small_digits, detect=0.2, design=BALANCED, expected_fraction=0.01, n_pilot=8)
    assert more.p_cut == pytest.approx(0.05 * 0.01)
    assert answers(more, "influence")[1].n_models < worst.n_models


@pytest.mark.usefixtures("played")
def test_a_pilot_too_small_to_tell_says_so(small_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlayedEnsemble, "models_per_batch", 2)
    planned = infl.plan(small_digits, detect=0.2, design=BALANCED)
    assert planned.n_pilot == 8
    said = [(answer.basis, answer.n_models) for answer in planned.answers]
    assert [n for basis, n in said if "worst" not in basis] == [None] * 3
    assert all(n for basis, n in said if "worst" in basis)


def test_what_predictions_were_worth_is_what_the_experiment_found() -> None:
    path = Path(__file__).parents[2] / "experiments" / "regimes" / "results.json"
    worlds = json.loads(path.read_text())["worlds"]
    for n_models, error in PREDICTED_CROSS_ERROR.items():
        found = [worlds[world][f"combined-{n_models}"]["net"] for world in ("digits-fitting", "fashion-early")]
        assert error == pytest.approx(max(one["less noise"] for one in found), abs=5e-4)


@pytest.mark.usefixtures("played")
def test_predictions_are_quoted_for_the_sizes_they_were_measured_at(small_digits: Dataset) -> None:
    found = {size: answers(infl.plan(small_digits, set_size=size), "prediction") for size in (19, 20)}
    assert [answer.value for answer in found[20]] == list(PREDICTED_CROSS_ERROR.values())
    assert [answer.value for answer in found[19]] == [None] * 3


@pytest.mark.usefixtures("quick")
def test_retraining_is_planned_by_how_it_scatters(small_digits: Dataset) -> None:
    """The error planned for 16 retrainings is near what verifying a set of that size with 16 gives."""
    planned = infl.plan(small_digits, set_size=20, set_error=0.02, design=BALANCED, algorithm=SMALL, layout=LAYOUT)
    by_models = {answer.n_models: answer for answer in answers(planned, "verification")}
    assert {16, 32, 64} <= set(by_models)
    run = infl.train(
        small_digits, n_models=4, n_references=16, design=BALANCED, algorithm=SMALL, layout=LAYOUT, quiet=True
    )
    rng = np.random.RandomState(5)
    sets = {f"{k}": rng.choice(60, 20, replace=False).tolist() for k in range(3)}
    verdicts = infl.verify(run, sets, n_models=16, stop=None, layout=LAYOUT, quiet=True)
    errors = [[v.self_influence.se, v.cross_influence.se] for v in verdicts]
    assert by_models[16].value == pytest.approx(np.sqrt(np.mean(np.square(errors), axis=0)).max(), rel=0.4)
    assert by_models[64].value == pytest.approx(by_models[16].value / 2)
    wanted = min(n for n, answer in by_models.items() if answer.value <= 0.02 or n == max(by_models))
    assert by_models[wanted].value <= 0.02 or wanted == 64


# A target


def trained(dataset: Dataset | None, run: Path, **settings: Any) -> Run:
    new = {"design": BALANCED, "algorithm": SMALL} if dataset is not None else {}
    return infl.train(dataset, run=run, n_references=2, quiet=True, **{"layout": LAYOUT, **new, **settings})


def test_training_stops_at_the_target_and_a_met_target_trains_nothing(small_digits: Dataset, tmp_path: Path) -> None:
    run = trained(small_digits, tmp_path / "run", n_models=600, standard_error=0.09)
    target = check_target(run, 0.09)
    assert target.met
    assert target.reached == pytest.approx(np.sqrt(np.mean(infl.memorization(run.outcomes("design")).se ** 2)))
    assert 64 <= target.n_models == len(run.complete("design")) < 600
    assert len(run.complete("full")) == 2
    before = stored_blocks(run.folder)
    trained(small_digits, tmp_path / "run", n_models=600, standard_error=0.09)
    trained(None, tmp_path / "run", standard_error=0.1)
    assert stored_blocks(run.folder) == before
    # It did not stop a look too late: with a tenth less, or half, the target was not met.
    fewer = range(min(int(target.n_models / 1.1) - 32, target.n_models // 2 + 1))
    assert not check_target(run, 0.09, models=fewer).met


def test_a_limit_ends_it_and_the_forecast_says_what_would_do(small_digits: Dataset, tmp_path: Path) -> None:
    run = trained(small_digits, tmp_path / "run", n_models=1)
    target = check_target(run, 0.04)  # of one model nothing is known
    assert (target.met, target.n_models, target.n_needed) == (False, 1, None)
    assert np.isnan(target.reached)
    run = trained(None, tmp_path / "run", n_models=100, standard_error=0.04)
    short = check_target(run, 0.04)
    assert (short.met, short.n_models) == (False, 100)
    assert short.n_needed is not None
    done = check_target(trained(None, tmp_path / "run", n_models=2000, standard_error=0.04), 0.04)
    assert done.met
    assert done.n_models == pytest.approx(short.n_needed, rel=0.25)


@pytest.mark.slow
def test_where_training_stops_does_not_depend_on_a_kill_or_on_blocks(small_digits: Dataset, tmp_path: Path) -> None:
    whole = trained(small_digits, tmp_path / "whole", n_models=600, standard_error=0.07)
    trained(small_digits, tmp_path / "cut", n_models=75)  # what a kill would have left behind, between two looks
    narrow = infl.Layout(models_per_device=7)
    cut = trained(None, tmp_path / "cut", n_models=600, standard_error=0.07, layout=narrow)
    assert cut.complete("design") == whole.complete("design")


def test_the_grouped_half_comes_along(small_digits: Dataset, tmp_path: Path) -> None:
    grouped = Design("grouped", (0.5, 0.8))
    run = trained(small_digits, tmp_path / "run", n_models=600, standard_error=0.12, design=grouped)
    n_models = len(run.complete("design"))
    assert len(run.complete("grouped")) == n_models
    assert check_target(run, 0.12).n_models == 2 * n_models
    # A kill between the two halves: scores have met their target, and the other half is trained all the same, to the limit.
    delete_blocks(tmp_path / "run", "grouped")
    assert not open_run(tmp_path / "run").complete("grouped")
    limited = trained(None, tmp_path / "run", n_models=21, standard_error=0.12)
    assert len(limited.complete("grouped")) == grouped.parts(21)["grouped"][1]
    again = trained(None, tmp_path / "run", standard_error=0.12)
    assert (len(again.complete("design")), len(again.complete("grouped"))) == (n_models, n_models)


@pytest.mark.usefixtures("quick")
def test_a_run_is_its_own_pilot(small_digits: Dataset, tmp_path: Path) -> None:
    run = trained(small_digits, tmp_path / "run", n_models=200)
    planned = infl.plan(run=run, standard_error=0.05, layout=LAYOUT)
    assert (planned.n_pilot, planned.fraction) == (200, 0.7)
    needed = check_target(run, 0.05).n_needed
    assert needed is not None
    assert needed <= answers(planned, "memorization")[0].n_models < needed + 10
    with pytest.raises(InputError, match="was made with other settings"):
        infl.plan(infl.load("digits", n_train=50, n_held_out=20), run=run)

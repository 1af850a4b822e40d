"""Verification retrains without a set until its regime is clear, and what else happened never shows in the answer.

Models are what verification costs, so a set that is clear after a few of them gets no more, and no set pays for another.
But an answer that depended on the company that a set was asked in, or on what the run held already, could not be repeated.
Each test therefore compares bit for bit with effects measured at a fixed number of models, or looks at the blocks, where every
model that was trained is. The looks are at 4, 8 and 16 models, so that the runs stay small.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import infl
from infl.records import Dataset, Effects, ForgetSet, InputError, Thresholds, Verdict
from infl.store import leave_out_name, open_run
from infl.training.ensemble import Ensemble
from infl.untraining.verification import measure_effects
from tests.blocks import stored_blocks, stored_models
from tests.commands import refusal

LINEAR = infl.Network(
    init=lambda key, x: 0.01 * jax.random.normal(key, (x[0].size, 10)),
    apply=lambda weights, x: x.reshape(len(x), -1) @ weights,
    name="linear",
)
ALGORITHM = infl.Algorithm(network=LINEAR, epochs=2, batch_size=20)
LAYOUT = infl.Layout(models_per_device=4)
LOOKS, STOP, N_REFERENCES = [4, 8, 16], 0.95, 6
NET = Thresholds(cross="net")  # by it some of these sets are clear after four models, by harm none is
SETS: dict[str, list[int]] = {
    "half": list(range(30)),
    "a third": list(range(0, 60, 3)),
    "few": [5, 44],
    "one": [7],
    "known": list(range(5, 11)),
}


def measure(run: Path, sets: Any = SETS, n_models: int = LOOKS[-1], **settings: Any) -> dict[str, Effects]:
    given = {
        "stop": STOP,
        "first": LOOKS[0],
        "thresholds": NET,
        "algorithm": ALGORITHM,
        "layout": LAYOUT,
        "quiet": True,
        **settings,
    }
    return {effects.forget_set.name: effects for effects in infl.verify_effects(run, sets, n_models=n_models, **given)}


def assert_same(mine: dict[str, Effects], other: dict[str, Effects]) -> None:
    """The same sets in the same order, with the same effects to the last bit."""
    assert list(mine) == list(other)
    for name, effects in mine.items():
        assert effects.n_models == other[name].n_models
        for array in ("effect", "se", "replicates"):
            np.testing.assert_array_equal(getattr(effects, array), getattr(other[name], array), err_msg=name)


def trained(run: Path) -> dict[str, list[int]]:
    """The models of each collection that the run was ever paid for, with repeats."""
    found: dict[str, list[int]] = {}
    for collection, model in stored_models(run):
        found.setdefault(collection, []).append(model)
    return {name: sorted(models) for name, models in found.items() if name != "design"}


@pytest.fixture(scope="module")
def bare(small_digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with six models of D and nothing without any set."""
    folder = tmp_path_factory.mktemp("bare") / "run"
    settings = {"design": infl.Design("balanced"), "algorithm": ALGORITHM, "layout": LAYOUT, "quiet": True}
    return infl.train(small_digits, run=folder, n_models=1, n_references=N_REFERENCES, **settings).folder


@pytest.fixture
def run(bare: Path, tmp_path: Path) -> Path:
    return shutil.copytree(bare, tmp_path / "run")


@pytest.fixture(scope="module")
def full(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it that holds all sixteen models without each set."""
    folder = shutil.copytree(bare, tmp_path_factory.mktemp("full") / "run")
    measure(folder, stop=None)
    return folder


@pytest.fixture(scope="module")
def at_each_look(full: Path) -> dict[int, dict[str, Effects]]:
    """The effects of each set with the first 4, 8 and 16 seeds, from what the run holds."""
    run = open_run(full)

    def measured(name: str, n_models: int) -> Effects:
        collections = "full", leave_out_name(SETS[name])
        outcomes = [run.outcomes(collection, range(n_models)).load() for collection in collections]
        return measure_effects(ForgetSet(name, tuple(SETS[name])), full=outcomes[0], without=outcomes[1])

    return {n_models: {name: measured(name, n_models) for name in SETS} for n_models in LOOKS}


@pytest.fixture(scope="module")
def expected(at_each_look: dict[int, dict[str, Effects]]) -> dict[str, Effects]:
    """What stopping must yield: the effects at the first look with a probability of at least 0.95, or at the last one."""

    def clear(effects: Effects) -> bool:
        return max(infl.judge(effects, NET).probability.values()) >= STOP

    return {
        name: next((looks[name] for looks in at_each_look.values() if clear(looks[name])), at_each_look[16][name])
        for name in SETS
    }


@pytest.fixture(scope="module")
def stopped(bare: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Effects]]:
    """A bare run in which the sets were verified until they were clear."""
    folder = shutil.copytree(bare, tmp_path_factory.mktemp("stopped") / "run")
    return folder, measure(folder)


def test_what_comes_before_the_first_model_is_announced_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling a network takes long enough to look like a program that hangs."""
    said = list[str]()

    @contextmanager
    def announce(text: str, *, quiet: bool) -> Iterator[None]:
        said.append(text)
        yield

    monkeypatch.setattr("infl.pipeline.jobs.announce", announce)
    for _ in range(2):
        measure(run, {"one": [7]}, n_models=4)
    assert said == ["trying the network", "compiling, and trying how many models to train at once"]


# When it stops


def test_a_set_stops_at_the_first_look_that_makes_it_clear(
    stopped: tuple[Path, dict[str, Effects]], expected: dict[str, Effects]
) -> None:
    assert_same(stopped[1], expected)
    assert {effects.n_models for effects in expected.values()} == set(LOOKS)  # sets of all kinds are among these
    assert max(infl.judge(expected["one"], NET).probability.values()) < STOP  # never clear, and still measured


def test_only_undecided_sets_get_more_models_and_no_model_is_trained_twice(
    stopped: tuple[Path, dict[str, Effects]],
) -> None:
    folder, measured = stopped
    models = {leave_out_name(SETS[name]): list(range(effects.n_models)) for name, effects in measured.items()}
    assert trained(folder) == {**models, "full": list(range(16))}


def test_all_sets_of_a_look_share_their_blocks(
    run: Path, expected: dict[str, Effects], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A block that ends with one set goes on with the next: of the blocks of a look only the last may be short."""
    sizes, start = [], Ensemble.start
    monkeypatch.setattr(Ensemble, "start", lambda self, *block: sizes.append(len(block[1])) or start(self, *block))
    measure(run)
    blocks, references = [], N_REFERENCES
    for before, look in zip([0, *LOOKS], LOOKS, strict=False):
        missing = sum(effects.n_models > before for effects in expected.values()) * (look - before)
        missing, references = missing + max(0, look - references), max(look, references)
        blocks += [8] * (missing // 8) + [missing % 8] * (missing % 8 > 0)
    assert sizes == blocks


def test_a_set_never_stops_undetermined(full: Path, at_each_look: dict[int, dict[str, Effects]]) -> None:
    """A probability that the thresholds do not accept is no reason to stop, whatever `stop` says."""
    thresholds = Thresholds(probability=0.99)
    for name, effects in measure(full, stop=0.5, thresholds=thresholds).items():
        verdicts = {n: infl.judge(looks[name], thresholds) for n, looks in at_each_look.items()}
        assert effects.n_models == next((n for n, verdict in verdicts.items() if verdict.regime != "undetermined"), 16)


# What the answer depends on


def test_neither_order_nor_company_of_the_sets_matters(run: Path, expected: dict[str, Effects]) -> None:
    """One set alone on a run that holds none, then all of them backwards, then each alone."""
    backwards = dict(reversed(SETS.items()))
    assert_same(measure(run, {"few": SETS["few"]}), {"few": expected["few"]})
    again = measure(run, {"few": SETS["few"], "again": SETS["few"][::-1]})
    np.testing.assert_array_equal(again["few"].effect, again["again"].effect)
    assert_same(measure(run, backwards), {name: expected[name] for name in backwards})
    for name, ids in SETS.items():
        assert_same(measure(run, {name: ids}), {name: expected[name]})


def test_models_that_are_there_already_do_not_matter_and_nothing_is_trained(
    full: Path, stopped: tuple[Path, dict[str, Effects]], expected: dict[str, Effects]
) -> None:
    """All models are there; or those of the same question asked before."""
    for folder in (full, stopped[0]):
        before = stored_blocks(folder)
        assert_same(measure(folder), expected)
        assert stored_blocks(folder) == before


def test_asking_for_more_trains_only_what_is_missing(run: Path, expected: dict[str, Effects]) -> None:
    fewer = measure(run, n_models=6)
    assert {effects.n_models for effects in fewer.values()} == {4, 6}  # 6 is the last look, though not twice 4
    assert_same(measure(run), expected)
    models = {leave_out_name(SETS[name]): max(fewer[name].n_models, expected[name].n_models) for name in SETS}
    assert trained(run) == {name: list(range(n)) for name, n in {**models, "full": 16}.items()}


def test_a_mistake_is_named_before_anything_is_trained_and_the_command_hands_its_options_on(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    before = stored_blocks(bare)
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"stop": 1.0}, "stop: expected a probability above 0 and below 1, or None .* got 1.0"),
        ({"stop": float("nan")}, "stop: .* got nan"),
        ({"first": 3}, "first: expected at least 4 models before the first look, got 3"),
    ]
    for settings, said in mistakes:
        with pytest.raises(InputError, match=said):
            measure(bare, **settings)
    assert stored_blocks(bare) == before
    asked: dict[str, Any] = {}

    def record(*_: Any, **settings: Any) -> list[Verdict]:
        asked.update(settings)
        raise InputError("seen")

    monkeypatch.setattr(infl, "verify_effects", record)
    (tmp_path / "forget.json").write_text(json.dumps(SETS))
    line = f"verify --run {bare} --forget {tmp_path}/forget.json --thresholds.self-influence 0.2"
    default = {"n_models": 64, "stop": 0.95, "thresholds": Thresholds(self_influence=0.2)}
    default |= {"engine": None, "checkpoint_minutes": None, "quiet": False}
    for options, changed in (
        ("--stop 0.9 --n-models 100", {"stop": 0.9, "n_models": 100}),
        ("--stop 1 --checkpoint-minutes 2.5", {"stop": None, "checkpoint_minutes": 2.5}),
        ("--engine ray --ray.address a:6379 --ray.cpus 2", {"engine": infl.Ray("a:6379", cpus=2)}),
    ):
        refusal(f"{line} {options}", capsys)
        assert asked == default | changed

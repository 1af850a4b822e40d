"""Unlearned models are models of the run: paired with those of D by seed, made once, and counted where a method fails.

Doing nothing must give what models of D gave, from other programs and weights that were on the disk: every piece of the way
from the weights to the outcomes is then as in training. A method of one's own shows what a method is given.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import infl
from infl.pipeline.train import repair
from infl.training.ensemble import Ensemble
from infl.unlearning.problem import Problem

S, OTHER = [3, 1, 4], [10, 11]


@pytest.fixture
def run(small_run: infl.Run, tmp_path: Path) -> infl.Run:
    """Without what tests beside this one add to it."""
    shutil.copytree(small_run.folder, tmp_path / "run")
    return infl.open_run(tmp_path / "run")


def nothing(params: Any, key: jax.Array, problem: Problem) -> Any:
    return params


def mine(params: Any, key: jax.Array, problem: Problem, *, fatal: Any = 0.0, scale: Any = 1.0) -> Any:
    """Scales the weights; diverges where S has `fatal` members."""
    factor = jnp.where(problem.forget.sum() == fatal, jnp.nan, scale)
    return jax.tree.map(lambda leaf: factor * leaf, params)


def test_doing_nothing_gives_the_models_of_d_again_by_seed_and_nothing_is_made_twice(
    run: infl.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = infl.unlearn(run, {"s": S, "other": OTHER}, method=nothing, n_models=3, quiet=True)
    opened = infl.open_run(run.place)
    full = opened.outcomes("full", range(3)).load()
    for name, ids in (("s", S), ("other", OTHER)):
        record = opened.collection(names[name])
        assert record.design == {"kind": "unlearned", "method": "nothing", "settings": {}}
        assert record.forget_set is not None
        assert record.forget_set.ids == tuple(sorted(ids))
        found = opened.outcomes(names[name])
        assert (found.models, found.init_seeds) == ((0, 1, 2), (0, 1, 2))
        np.testing.assert_array_equal(found.load().correct, full.correct)
        np.testing.assert_allclose(found.load().of("margin"), full.of("margin"), atol=1e-3)
    monkeypatch.setattr(Ensemble, "start", lambda *_: pytest.fail("made again"))
    assert infl.unlearn(run, {"s": S[::-1]}, method=nothing, n_models=3, quiet=True) == {"s": names["s"]}
    assert infl.predict(run, {"s": S}, predictor="additive", quiet=True)  # scores do not take them for others


@pytest.mark.slow
def test_a_method_of_ones_own_is_given_the_settings_and_a_model_that_diverges_is_counted(
    run: infl.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = {"s": S, "other": OTHER}
    names = infl.unlearn(run, sets, method=mine, n_models=2, quiet=False, fatal=2.0, scale=2.0)
    assert "mine: 2 of 2 models diverged on 'other'" in capsys.readouterr().err
    opened = infl.open_run(run.place)
    assert opened.diverged(names["other"]) == [0, 1]
    assert opened.outcomes(names["other"]).n_models == 0
    assert opened.collection(names["s"]).design["settings"] == {"fatal": 2.0, "scale": 2.0}
    doubled, full = (opened.outcomes(name, range(2)).load() for name in (names["s"], "full"))
    # One hidden layer, biases and all: logits of doubled weights are at least doubled, and answers mostly stay.
    assert np.abs(doubled.of("margin")).mean() > 1.5 * np.abs(full.of("margin")).mean()
    assert doubled.masks[:, S].sum() == 0
    [block] = (run.folder / "collections" / names["s"]).glob("blocks/*")
    block.write_bytes(block.read_bytes()[:-9])
    assert repair(run.place) == {}  # retrained models must not stand in for unlearned ones
    assert infl.open_run(run.place).complete(names["s"]) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", ["neggrad-to-oracle", "match-prediction"])
def test_settings_and_layouts_change_nothing_but_speed(run: infl.Run, method: str, tmp_path: Path) -> None:
    infl.verify(run, {"s": S}, n_models=2, stop=None, quiet=True)
    shutil.copytree(run.folder, tmp_path / "other")
    found = []
    for folder, mode in ((run.folder, "map"), (tmp_path / "other", "vmap")):
        layout = infl.Layout(mode=mode, models_per_device=2)  # pyright: ignore[reportArgumentType]
        [name] = infl.unlearn(folder, {"s": S}, method=method, n_models=3, layout=layout, quiet=True).values()
        found.append(infl.open_run(folder).outcomes(name).load().of("margin"))
    np.testing.assert_allclose(*found, atol=2e-2)


@pytest.mark.slow
def test_settings_are_chosen_by_what_is_predicted_or_on_the_oracle_and_what_was_only_tried_is_no_row(
    run: infl.Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three of sixty digits go: models that know nothing any more are far from what is left, those of D are near it."""
    infl.verify(run, {"s": S}, n_models=8, stop=None, quiet=True)
    tried: Any = [{"scale": 0.0}, {"scale": 1.0}]
    for choose_by, role in (("prediction", "chosen by prediction"), ("oracle", "chosen on the oracle")):
        given: Any = {"tried": tried, "choose_by": choose_by, "n_models": 8}
        [name] = infl.unlearn(run, {"s": S}, method=mine, **given).values()
        design = infl.open_run(run.place).collection(name).design
        assert (design["settings"], design["role"]) == ({"fatal": 0.0, "scale": 1.0}, role)
        assert f"mine: {role}: scale=1, at a distance of" in capsys.readouterr().err
    infl.unlearn(run, {"s": S}, method=mine, n_models=8, scale=0.0, quiet=True)
    infl.unlearn(run, {"s": S}, method="fine-tune", n_models=8, quiet=True)
    found = {one.method: one for one in infl.evaluate(run, {"s": S}, predict=True, quiet=True)}
    assert {method: one.settings_from for method, one in found.items()} == {
        **dict.fromkeys(("nothing", "retraining", "prediction"), ""),
        "fine-tune": "default",
        "mine": "given",
        "mine chosen by prediction": "chosen by prediction",
        "mine chosen on the oracle": "chosen on the oracle",
    }
    assert found["mine chosen on the oracle"].to_oracle == found["nothing"].to_oracle
    assert "settings chosen on the oracle: fatal=0 scale=1" in found["mine chosen on the oracle"].note
    page = infl.write_report(run, forget_sets={"s": S}, predictor="additive", quiet=True).path.read_text()
    assert "<td>chosen by prediction</td>" in page


def test_what_a_method_lacks_is_named_before_anything_is_made(run: infl.Run) -> None:
    before = sorted(map(str, run.folder.rglob("*")))
    for given, said in (
        ({"method": "match-oracle"}, "holds no models without 's'; infl verify trains them"),
        ({"method": "fine-tune", "lr": 1}, "setting lr: expected one of this method's"),
        ({"n_models": 0}, "n_models: expected at least 1"),
        ({"tried": [{"lr": 1}]}, "setting lr: expected one of this method's"),
        ({"tried": [{}], "choose_by": "accuracy"}, "choose_by: expected one of prediction, oracle"),
        ({"tried": [{}], "choose_by": "oracle"}, "choose_by oracle: the run holds no models retrained without 's'"),
    ):
        with pytest.raises(infl.InputError, match=said):
            infl.unlearn(run, {"s": S}, quiet=True, **given)  # pyright: ignore[reportArgumentType]
    assert sorted(map(str, run.folder.rglob("*"))) == before

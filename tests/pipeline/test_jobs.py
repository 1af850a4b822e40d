"""A batch that the memory does not hold costs nothing but time: the rest is trained in smaller ones, to the same outcomes.

And a run remembers in which layout it was trained, so that going on with it continues the same experiment bit for bit. The
memory is played: an ensemble that says it is full above some width.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import infl
from infl.training import tuning
from infl.training.ensemble import Ensemble

ALGORITHM = infl.Algorithm(hidden=(8,), epochs=2, batch_size=20)
DESIGN = infl.Design("uniform", 0.7)


def train(dataset: infl.Dataset, run: Path, **settings: Any) -> infl.Run:
    settings = {"n_models": 10, "n_references": 3, "design": DESIGN, "algorithm": ALGORITHM, "quiet": True} | settings
    return infl.train(dataset, run=run, **settings)


def fill_memory(monkeypatch: pytest.MonkeyPatch, where: str, most: int) -> None:
    """Ensembles run out of memory with more than `most` models on a device, while they compile or when waited for."""
    real = getattr(Ensemble, where)

    def full(self: Ensemble, *arguments: Any) -> Any:
        if (self.layout.models_per_device or 0) > most:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")
        return real(self, *arguments)

    monkeypatch.setattr(Ensemble, where, full)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["compile", "finish"])
def test_batches_are_halved_until_they_fit(
    where: str, small_digits: infl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    layout = infl.Layout(n_devices=1, models_per_device=8)
    whole = train(small_digits, tmp_path / "whole", layout=layout)
    fill_memory(monkeypatch, where, 3)
    halved = train(small_digits, tmp_path / "halved", layout=layout, quiet=False)
    for collection in ("design", "full"):
        one, other = (run.outcomes(collection).load() for run in (whole, halved))
        assert halved.complete(collection) == whole.complete(collection)
        np.testing.assert_array_equal(one.masks, other.masks)
        assert one.margin is not None
        assert other.margin is not None
        np.testing.assert_allclose(one.margin, other.margin, atol=1e-4)
    assert [session["models_per_batch"] for session in halved.sessions][-1] == 2
    assert [session["models_per_batch"] for session in whole.sessions] == [8]
    assert "out of memory: batches of 2 models from now on" in capsys.readouterr().err


def test_a_memory_that_holds_no_model_is_named(
    small_digits: infl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_memory(monkeypatch, "finish", 0)
    with pytest.raises(infl.InputError, match="does not hold the training of a single model"):
        train(small_digits, tmp_path / "run", layout=infl.Layout(n_devices=1, models_per_device=2))


def test_other_errors_of_a_device_are_not_taken_for_memory(
    small_digits: infl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Ensemble, *_: Any) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: a bug")

    monkeypatch.setattr(Ensemble, "finish", fail)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a bug"):
        train(small_digits, tmp_path / "run")


@pytest.mark.slow
def test_a_run_goes_on_in_the_layout_it_was_begun_in(
    small_digits: infl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    class Played:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def seconds_per_model(self, layout: infl.Layout) -> float:
            return 1.0 if (layout.mode, layout.models_per_device) == ("vmap", 4) else 2.0

    with monkeypatch.context() as slow:
        slow.setenv("INFL_CACHE_DIR", str(tmp_path / "cache"))
        slow.setattr(tuning, "Trials", Played)
        slow.setattr(tuning, "MIN_SECONDS", 0.0)
        slow.setattr(tuning, "MAX_TRAINING_FRACTION", 1e9)
        first = train(small_digits, tmp_path / "run", quiet=False)
    n_devices = len(jax.local_devices())
    said = f"layout: models side by side on {n_devices} devices, 4 each in a batch: 1 models/s (measured)"
    assert said in capsys.readouterr().err
    again = train(small_digits, first.folder, n_models=12, quiet=False)
    assert "4 each in a batch: 1 models/s (cached by this run)" in capsys.readouterr().err
    infl.verify(again, {"s": [1, 2]}, n_models=4, stop=None, quiet=True)
    sessions = infl.open_run(again.folder).sessions
    assert [session["layout"]["source"] for session in sessions] == ["measured", "this run", "this run"]
    assert {(session["layout"]["mode"], session["models_per_batch"]) for session in sessions} == {
        ("vmap", 4 * n_devices)
    }
    short = train(small_digits, tmp_path / "short", quiet=False)
    assert short.sessions[0]["layout"]["source"] == "default"
    assert "layout" not in capsys.readouterr().err


def test_verifying_fifty_sets_of_fifty_sizes_compiles_training_once(
    small_digits: infl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(small_digits, tmp_path / "run", n_models=1, n_references=0)
    compilations, compile_programs = 0, Ensemble._compile

    def counted(self: Ensemble) -> Any:
        nonlocal compilations
        compilations += 1
        return compile_programs(self)

    monkeypatch.setattr(Ensemble, "_compile", counted)
    sets = {f"of {size}": list(range(size)) for size in range(1, 51)}
    verdicts = infl.verify(run, sets, n_models=2, stop=None, quiet=True)
    assert (len(verdicts), compilations) == (50, 1)

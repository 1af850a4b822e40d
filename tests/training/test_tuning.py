"""The layout kept is the fastest of those measured, and never slower than the default by what was measured.

A layout affects speed only, so the decisions are all there is to test: on a CPU one model after another on each core is what
others must beat by 5%, twice; widths grow while that pays and fits; a memory too small halves them; what was found is not
looked for again. A played machine, whose clock runs as its layouts need, stands for devices: no test looks at the time. The
real measurement is run once on one and two devices, for what it returns and not for how fast.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np
import pytest

from infl.data import from_arrays
from infl.records import Dataset, InputError
from infl.training import tuning
from infl.training.algorithm import Algorithm
from infl.training.caches import cache_folder, cache_layout, cached_layout
from infl.training.ensemble import Ensemble
from infl.training.kernels.convolution import BACKENDS, chosen_backend, convolve
from infl.training.layout import Layout, estimated_seconds
from infl.training.networks import Network
from infl.training.tuning import Choice, choose, choose_layout

PLAIN = Layout(2, 16, "map")
WIDE = Layout(2, 4, "vmap")


def wide(width: int) -> Layout:
    return replace(WIDE, models_per_device=width)


TOO_LARGE = 0.0  # models per second
MANY = 10**9  # models, so that no time is too long to measure


class Machine:
    """Trains at given rates; compiling and measuring a layout takes a second."""

    def __init__(self, rates: Callable[[Layout], Any], *, seconds: float = 1.0) -> None:
        self.now, self.asked, self._rates, self._seconds = 0.0, [], rates, seconds

    def measure(self, layout: Layout) -> float:
        self.now += self._seconds
        self.asked.append((layout.mode, layout.convolution, layout.models_per_device))
        rate = self._rates(layout)
        if isinstance(rate, Exception):
            raise rate
        return 1 / rate if rate else math.inf

    def choose(self, default: Layout, *families: Layout, n_models: int = MANY, **settings: Any) -> Choice:
        return choose([default, *families], self.measure, n_models=n_models, clock=lambda: self.now, **settings)


def rates_by_width(rates: dict[int, Any], plain: float = 100.0) -> Callable[[Layout], Any]:
    return lambda layout: plain if layout.mode == "map" else rates[layout.models_per_device or 0]


def out_of_memory() -> Exception:
    return jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 bytes.")


# Decisions


FULL = out_of_memory()


@pytest.mark.parametrize(
    ("rates", "default", "other", "settings", "chosen"),
    [
        pytest.param({4: 104.9}, PLAIN, WIDE, {"max_width": 4}, PLAIN, id="not five percent faster"),
        pytest.param({4: 106.0}, PLAIN, WIDE, {"max_width": 4}, WIDE, id="faster"),
        pytest.param({4: 200.0}, PLAIN, WIDE, {"max_width": 0}, WIDE, id="a given width is kept"),
        pytest.param({4: TOO_LARGE, 2: 500}, PLAIN, WIDE, {"max_width": 0}, PLAIN, id="and not halved"),
        pytest.param(
            {4: 150, 8: 250, 16: 300, 32: 300}, PLAIN, WIDE, {"max_width": 20}, wide(16), id="as many as models"
        ),
        pytest.param({4: 150, 8: 250, 16: TOO_LARGE}, PLAIN, WIDE, {}, wide(8), id="until memory is taken"),
        pytest.param({4: 150, 8: 250, 16: FULL}, PLAIN, WIDE, {}, wide(8), id="until there is no memory"),
        pytest.param({64: TOO_LARGE, 32: FULL, 16: 190.0}, wide(64), PLAIN, {}, wide(16), id="too wide at first"),
        pytest.param({4: TOO_LARGE, 2: FULL, 1: FULL}, WIDE, PLAIN, {}, PLAIN, id="nothing fits side by side"),
    ],
)
def test_the_fastest_that_fits_is_chosen(
    rates: dict[int, Any], default: Layout, other: Layout, settings: dict[str, Any], chosen: Layout
) -> None:
    """By five percent at least; one after another makes 100 models a second."""
    choice = Machine(rates_by_width(rates)).choose(default, other, **settings)
    assert (choice.layout, choice.source) == (chosen, "measured")
    rate = 100 if chosen.mode == "map" else rates[chosen.models_per_device or 0]
    assert choice.models_per_second == pytest.approx(rate)
    assert (TOO_LARGE in rates.values() or FULL in rates.values()) == (0.0 in [rate for _, rate in choice.tried])


def test_what_was_faster_once_must_be_so_again() -> None:
    """A machine that was busy while the default was measured."""
    rates = iter([100.0, 150.0, 150.0, 151.0])
    chosen = Machine(lambda layout: next(rates)).choose(PLAIN, WIDE, max_width=4)
    assert (chosen.layout, chosen.models_per_second) == (PLAIN, 150)


def test_widths_grow_until_models_per_second_do_not() -> None:
    machine = Machine(rates_by_width({4: 150, 8: 250, 16: 300, 32: 314, 64: 1000}))
    assert machine.choose(PLAIN, WIDE).layout == wide(16)
    assert [width for mode, _, width in machine.asked if mode == "vmap"] == [4, 8, 16, 32, 16]


def test_a_memory_that_holds_no_model_is_named_and_other_errors_are_not_swallowed() -> None:
    with pytest.raises(InputError, match="does not hold the training of a single model.*batch_size"):
        Machine(lambda layout: TOO_LARGE).choose(WIDE, PLAIN)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        Machine(lambda layout: jax.errors.JaxRuntimeError("INTERNAL: a bug")).choose(PLAIN, WIDE)


@pytest.mark.parametrize(("n_models", "n_asked"), [(1999, 1), (10_000, 1), (20_001, 2), (30_000, 3)])
def test_tuning_takes_a_tenth_of_training_at_most(n_models: int, n_asked: int) -> None:
    """Each layout takes ten seconds here; a tenth of training is 2 s, 10 s, 20 s, 30 s."""
    machine = Machine(lambda layout: 100.0, seconds=10.0)
    chosen = machine.choose(PLAIN, *[replace(PLAIN, convolution="xla")] * 9, n_models=n_models)
    assert (len(machine.asked), chosen.source) == (n_asked, "measured" if n_models > 2000 else "default")


# What the pieces are


def toy(n: int = 400, shape: tuple[int, ...] = (6, 6)) -> Dataset:
    labels = (np.arange(n + 50) % 3).astype(np.int32)
    images = np.random.RandomState(0).normal(size=(n + 50, *shape)).astype(np.float32)
    return from_arrays(images[:n], labels[:n], images[n:], labels[n:], name="toy")


DATASET, ALGORITHM = toy(), Algorithm(hidden=(8,), epochs=2, batch_size=50)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFL_CACHE_DIR", str(tmp_path / "cache"))


def test_operations_are_counted_as_by_hand() -> None:
    """Three passes of 2 (36 x 8 + 8 x 3) operations an example and epoch, but for biases and ReLU; at 5e10 a second."""
    device = jax.local_devices()[0]
    by_hand = 3 * 2 * (36 * 8 + 8 * 3) * 400 * 2 / 5e10
    assert estimated_seconds(ALGORITHM, DATASET, device) == pytest.approx(by_hand, rel=0.1)


def test_a_layout_that_takes_more_than_its_share_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    trials = tuning.Trials(ALGORITHM, DATASET)
    ensemble = Ensemble(ALGORITHM, trials._examples, Layout(1, 1, "vmap"))
    needed = ensemble.bytes_per_device()
    for share, fits in ((0.59, True), (0.61, False)):
        monkeypatch.setattr(tuning, "host_memory", lambda share=share: needed / share)
        assert (0 < trials.seconds_per_model(Layout(1, 1, "vmap")) < math.inf) == fits


def test_candidates_are_the_other_mode_and_each_other_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = BACKENDS
    monkeypatch.setattr(tuning, "convolutions", lambda algorithm, dataset: (a, b))
    usual = Ensemble(ALGORITHM, DATASET, Layout(2))
    found = [(one.mode, one.convolution, one.models_per_device) for one in tuning.candidates(usual)]
    width = usual.layout.models_per_device
    assert found == [
        *(("map", a, width), ("map", b, width)),
        *(("vmap", None, 4), ("vmap", a, 4), ("vmap", b, 4)),
    ]
    asked = Ensemble(ALGORITHM, DATASET, Layout(2, mode="vmap", models_per_device=3))
    assert [(one.mode, one.models_per_device) for one in tuning.candidates(asked)] == [("vmap", 3), ("vmap", 3)]


def test_a_network_that_convolves_can_be_computed_in_each_way() -> None:
    """Back ends that differ in their gradients alone, too; one without convolutions has no other way."""

    def apply(kernel: jax.Array, x: jax.Array) -> jax.Array:
        return convolve(x, kernel).mean(axis=(1, 2))

    network = Network(lambda key, x: jax.random.normal(key, (3, 3, 3, 3)), apply)
    found = tuning.convolutions(replace(ALGORITHM, network=network), toy(100, (8, 8, 3)))
    assert found == tuple(name for name in BACKENDS if name != chosen_backend())
    assert tuning.convolutions(ALGORITHM, DATASET) == ()


# What was found before


class Played:
    """Stands for `Trials`: two side by side take a second, one after another two; `busy` times as long on a busy machine."""

    asked: ClassVar[list[Layout]] = []
    busy: ClassVar[dict[str, float]] = {"map": 1.0, "vmap": 1.0}

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def seconds_per_model(self, layout: Layout) -> float:
        self.asked.append(layout)
        return self.busy[layout.mode or ""] * (1.0 if layout.mode == "vmap" else 2.0)


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> list[Layout]:
    """Training that takes long, on a machine where two side by side are fastest; the layouts it was asked for."""
    asked: list[Layout] = []

    monkeypatch.setattr(tuning, "Trials", Played)
    monkeypatch.setattr(Played, "asked", asked)
    monkeypatch.setattr(Ensemble, "estimated_seconds", 2.0)
    return asked


def ensemble_of(**settings: Any) -> Ensemble:
    return Ensemble(ALGORITHM, DATASET, Layout(**settings))


def test_a_layout_is_measured_once_on_a_machine_and_anew_for_another_algorithm_or_setting(long: list[Layout]) -> None:
    first = choose_layout(ensemble_of(), n_models=1000)
    assert (first.source, first.layout.mode) == ("measured", "vmap")
    n = len(long)
    again = choose_layout(ensemble_of(), n_models=199)
    assert (again.source, again.layout, again.models_per_second) == ("this machine", first.layout, 1.0)
    assert len(long) == n
    for other in (
        Ensemble(replace(ALGORITHM, batch_size=49), DATASET),
        Ensemble(ALGORITHM, toy(399)),
        Ensemble(ALGORITHM, DATASET, Layout(n_devices=1)),
        Ensemble(ALGORITHM, DATASET, Layout(models_per_device=3)),
        Ensemble(replace(ALGORITHM, network=custom(1.0)), DATASET),
        Ensemble(replace(ALGORITHM, network=custom(2.0)), DATASET),
    ):
        assert choose_layout(other, n_models=1000).source == "measured"


@pytest.mark.parametrize("changed", [1 / 1.6, 1 / 1.4, 1.0, 1.4, 1.6])
def test_a_layout_measured_on_a_busy_machine_is_measured_again_before_long_training(
    changed: float, long: list[Layout], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While layouts were first measured, side by side took three times as long, so that the other was chosen; at the next call
    both take `changed` times as long as they should. What is measured then is cached instead."""
    monkeypatch.setattr(Played, "busy", {"map": 1.0, "vmap": 3.0})
    first = choose_layout(ensemble_of(), n_models=1000)
    assert (first.layout.mode, first.models_per_second) == ("map", 0.5)
    n = len(long)
    monkeypatch.setattr(Played, "busy", {"map": changed, "vmap": changed})
    again = choose_layout(ensemble_of(), n_models=200)
    if 1 / 1.5 < changed < 1.5:
        assert (again.source, again.layout, again.models_per_second) == ("this machine", first.layout, 0.5)
        assert len(long) == n + 1
    else:
        assert (again.source, again.layout.mode, again.models_per_second) == ("measured", "vmap", 1 / changed)
        n = len(long)
        assert choose_layout(ensemble_of(), n_models=200).layout == again.layout
        assert len(long) <= n + 1
    n = len(long)
    assert choose_layout(ensemble_of(), n_models=99).source == "this machine"  # 198 seconds as recorded, or less
    assert len(long) == n


def custom(factor: float) -> Network:
    """Networks of one's own, which share a name."""
    return Network(lambda key, x: jax.numpy.ones((36, 3)), lambda w, x: factor * x.reshape(len(x), -1) @ w)


def test_a_run_keeps_its_layout(long: list[Layout]) -> None:
    """Outcomes are the same bit for bit only at one size of batch, so what a run was begun with goes before all."""
    first = choose_layout(ensemble_of(), n_models=1000)
    recorded = json.loads(json.dumps(first.to_dict())) | {"models_per_device": 7}
    cache_layout(first.key or "", {**recorded, "models_per_device": 9})
    for n_models in (1000, 1):
        again = choose_layout(ensemble_of(), n_models=n_models, recorded=recorded)
        assert (again.source, again.layout.models_per_device) == ("this run", 7)
    asked = choose_layout(ensemble_of(mode="map"), n_models=1000, recorded=recorded)
    assert asked.layout.mode == "map"
    elsewhere = choose_layout(ensemble_of(), n_models=1000, recorded=recorded | {"key": "another machine"})
    assert (elsewhere.source, elsewhere.layout.models_per_device) == ("this machine", 9)


def test_short_training_and_settings_that_are_all_given_are_not_tuned(long: list[Layout]) -> None:
    assert choose_layout(ensemble_of(), n_models=15).source == "default"  # at two seconds on two devices
    given = ensemble_of(mode="map", models_per_device=3, convolution=BACKENDS[0])
    assert choose_layout(given, n_models=10**6) == Choice(given.layout)
    assert long == []
    assert cached_layout("") is None


@pytest.mark.parametrize("content", ["[]", "{", '{"KEY": {"mode": "sideways", "key": "KEY"}}'])
def test_a_damaged_cache_is_skipped(long: list[Layout], content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And done without where it cannot be written."""
    key = tuning.layout_key(ensemble_of())
    cache_folder().mkdir(parents=True)
    (cache_folder() / "layouts.json").write_text(content.replace("KEY", key))
    assert choose_layout(ensemble_of(), n_models=1000).source == "measured"
    assert choose_layout(ensemble_of(), n_models=1000).source == "this machine"
    monkeypatch.setenv("INFL_CACHE_DIR", "/proc/nothing")
    assert [choose_layout(ensemble_of(), n_models=1000).source for _ in range(2)] == ["measured"] * 2


def test_the_cache_folder_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INFL_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/where")
    assert cache_folder() == Path("/some/where/infl")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/infl")


# The real measurement


@pytest.mark.slow
@pytest.mark.parametrize("n_devices", [1, 2])
def test_layouts_are_measured_on_any_number_of_devices(n_devices: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MIN_SECONDS", 0)
    monkeypatch.setattr(tuning, "MAX_TRAINING_FRACTION", 1e9)
    choice = choose_layout(ensemble_of(n_devices=n_devices), n_models=8)
    assert choice.source == "measured"
    assert {layout.mode for layout, _ in choice.tried} == {"map", "vmap"}
    assert all(layout.n_devices == n_devices and rate > 0 for layout, rate in choice.tried)
    widths = [layout.models_per_device or 0 for layout, _ in choice.tried if layout.mode == "vmap"]
    assert max(widths) <= max(4, 8 // n_devices)

"""Chooses the layout that trains most models per second, by training a few steps of each candidate on the data at hand.

Candidates are the convolutions that a network can be computed with, models one after another or side by side, and, side by
side, twice and twice as many of them until that gains less than 5% or 60% of the memory is taken. The default stays unless
another is at least 5% faster, in a second comparison too; on a CPU that is one model after another on each core. Training
that takes less than 20 seconds is not tuned for, and tuning ends when it has taken a tenth of what training will.

A layout affects speed only. What was chosen is cached in the user's cache folder (`infl.training.caches`) and by the run. The
machine may have been busy then: before training of 200 seconds or more, a layout cached by the machine is timed again, and all
are where it trains 1.5 times as many models per second as recorded, or fewer by as much.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import numpy as np

from infl.records import Dataset, InputError
from infl.records.files import host_memory
from infl.training.algorithm import Algorithm
from infl.training.caches import cache_layout, cached_layout
from infl.training.ensemble import Ensemble, is_out_of_memory, model_keys
from infl.training.kernels.convolution import BACKENDS
from infl.training.layout import Layout, Mode, lower_apply, usual_width

MIN_SECONDS = 20.0
MAX_TRAINING_FRACTION = 0.1
MIN_GAIN = 0.05
MIN_CHECKED_SECONDS, MAX_CHANGE = 200.0, 1.5
MAX_MEMORY_FRACTION = 0.6
MAX_WIDTH = 4096
FIRST_WIDTH = 4
STEPS, MIN_TRIAL_SECONDS, REPEATS = 4, 0.2, 3

Source = Literal["default", "measured", "this machine", "this run"]


@dataclass(frozen=True)
class Choice:
    """A layout, complete, with the models per second that it was measured to train; None where it was not.

    Attributes:
        source: `default`; `measured` just now; cached by `this machine` or `this run`.
        tried: Models per second of each layout measured, in order; 0 for one too large for the memory.
        key: What it holds for; see `layout_key`.
    """

    layout: Layout
    models_per_second: float | None = None
    source: Source = "default"
    tried: tuple[tuple[Layout, float], ...] = ()
    key: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The layout and how it was chosen, as JSON."""
        chosen = {"models_per_second": self.models_per_second, "source": self.source, "key": self.key}
        return self.layout.to_dict() | chosen

    def describe(self) -> str:
        """`models one after another on 2 devices, 16 each in a batch: 79.1 models/s (measured)`."""
        layout = self.layout
        source = self.source if self.source in ("default", "measured") else f"cached by {self.source}"
        order = "one after another" if layout.mode == "map" else "side by side"
        convolution = f", convolution {layout.convolution}" if layout.convolution else ""
        speed = f": {self.models_per_second:.3g} models/s" if self.models_per_second else ""
        devices = f"{layout.n_devices} device" + ("s" if layout.n_devices != 1 else "")
        return f"models {order} on {devices}, {layout.models_per_device} each in a batch{convolution}{speed} ({source})"


def choose_layout(
    ensemble: Ensemble, *, n_models: int, fraction: float = 1.0, recorded: dict[str, Any] | None = None
) -> Choice:
    """The layout for an ensemble to train `n_models` models in; settings that it was asked for are kept.

    Args:
        fraction: Mean |subset| / n of the models, for the models per second.
        recorded: `Choice.to_dict` of the layout that the run was trained in before; None for a new run.
    """
    wanted, n_devices = ensemble.wanted, len(ensemble.devices)
    if None not in (wanted.models_per_device, wanted.mode, wanted.convolution):
        return Choice(ensemble.layout)
    takes_long = n_models * ensemble.estimated_seconds * fraction / n_devices >= MIN_SECONDS
    if not takes_long and not recorded:
        return Choice(ensemble.layout)
    key = layout_key(ensemble)
    cached = _read(recorded, key, "this run")
    if cached or not takes_long:
        return cached or Choice(ensemble.layout)
    trials = Trials(ensemble.algorithm, ensemble.dataset, fraction=fraction)
    cached = _read(cached_layout(key), key, "this machine")
    if cached and _is_as_fast(cached, trials, n_models):
        return cached
    choice = choose(
        [ensemble.layout, *candidates(ensemble)],
        trials.seconds_per_model,
        n_models=n_models,
        max_width=0 if wanted.models_per_device else min(MAX_WIDTH, -(-n_models // n_devices)),
    )
    layout = choice.layout
    if layout.mode == "map" and wanted.models_per_device is None and choice.models_per_second:
        layout = replace(layout, models_per_device=usual_width("map", n_devices / choice.models_per_second))
    choice = replace(choice, layout=layout, key=key)
    if choice.source == "measured":
        cache_layout(key, choice.to_dict())
    return choice


def choose(
    layouts: list[Layout],
    measure: Callable[[Layout], float],
    *,
    n_models: int,
    max_width: int = MAX_WIDTH,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """The decisions of `choose_layout`.

    Args:
        layouts: The default first; one with mode `vmap` stands for all widths from its own.
        measure: Wall-clock seconds per model of a layout; infinite, or XLA's error, where memory does not hold it.
        max_width: 0 where each layout is measured in its own width alone.
    """
    tried: list[tuple[Layout, float]] = []
    start = clock()

    def speed_of(layout: Layout) -> float:
        tried.append((layout, _speed(layout, measure)))
        return tried[-1][1]

    def affordable(speed: float) -> bool:
        """Whether training is long, and one more trial like those so far leaves tuning below a tenth of it."""
        training, tuning = n_models / speed, clock() - start
        return training >= MIN_SECONDS and tuning * (1 + 1 / len(tried)) <= MAX_TRAINING_FRACTION * training

    def best_width(layout: Layout) -> tuple[Layout, float]:
        """Half as wide until the memory holds it, then twice as wide as long as that pays."""
        width, speed = layout.models_per_device or 1, speed_of(layout)
        if layout.mode == "map" or not max_width:
            return layout, speed
        while not speed and width > 1:
            width //= 2
            speed = speed_of(replace(layout, models_per_device=width))
        while speed and 2 * width <= max_width and affordable(speed):
            faster = speed_of(replace(layout, models_per_device=2 * width))
            if faster < (1 + MIN_GAIN) * speed:
                break
            width, speed = 2 * width, faster
        return replace(layout, models_per_device=width), speed

    best, speed = best_width(layouts[0])
    source: Source = "default" if speed and n_models / speed < MIN_SECONDS else "measured"
    for layout in layouts[1:]:
        if speed and not affordable(speed):
            break
        other, faster = best_width(layout)
        if faster and faster >= (1 + MIN_GAIN) * speed:
            best, speed = other, faster
    if not speed:
        raise InputError(
            "the memory of the device does not hold the training of a single model: take a smaller batch_size or network"
        )
    if best != layouts[0] and tried[0][1]:  # again, since the machine may have been busy while one was measured
        default_speed, again = speed_of(layouts[0]), speed_of(best)
        if again < (1 + MIN_GAIN) * default_speed:
            best, speed = layouts[0], default_speed
    return Choice(best, speed, source, tuple(tried))


def _speed(layout: Layout, measure: Callable[[Layout], float]) -> float:
    """Models per second; 0 where the memory does not hold it."""
    with out_of_memory_suppressed():
        return 1 / measure(layout)
    return 0.0


def _is_as_fast(cached: Choice, trials: Trials, n_models: int) -> bool:
    """Whether a layout trains as many models per second as recorded, or training is too short to ask."""
    recorded = cached.models_per_second or math.inf
    if n_models / recorded < MIN_CHECKED_SECONDS:
        return True
    return 1 / MAX_CHANGE < _speed(cached.layout, trials.seconds_per_model) / recorded < MAX_CHANGE


@contextmanager
def out_of_memory_suppressed() -> Iterator[None]:
    """Go on after a `with` block that the memory of a device did not hold."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_out_of_memory(error):
            raise


def candidates(ensemble: Ensemble) -> list[Layout]:
    """Layouts to look at beside the usual one: the other convolutions first, then the other mode, with each convolution."""
    usual, wanted = ensemble.layout, ensemble.wanted
    usual_mode: Mode = usual.mode or "map"
    others = () if wanted.convolution else convolutions(ensemble.algorithm, ensemble.dataset)
    modes: list[Mode] = [usual_mode] if wanted.mode else [usual_mode, "vmap" if usual_mode == "map" else "map"]
    width = dict.fromkeys(modes, wanted.models_per_device or FIRST_WIDTH) | {usual_mode: usual.models_per_device}
    return [
        replace(usual, mode=mode, convolution=name, models_per_device=width[mode])
        for mode in modes
        for name in (usual.convolution, *others)
        if (mode, name) != (usual.mode, usual.convolution)
    ]


def convolutions(algorithm: Algorithm, dataset: Dataset) -> tuple[str, ...]:
    """Names of the back ends that compute this network in a way of their own; none where it does not convolve."""
    programs = {lower_apply(algorithm, dataset, gradient=True).as_text(): ""}
    for name in BACKENDS:
        programs.setdefault(lower_apply(algorithm, dataset, name, gradient=True).as_text(), name)
    return tuple(name for name in programs.values() if name)


def layout_key(ensemble: Ensemble) -> str:
    """What a measurement holds for: devices, cores, JAX, algorithm, network as it is computed, data shapes, settings given."""
    algorithm, dataset, wanted = ensemble.algorithm, ensemble.dataset, ensemble.wanted
    network = lower_apply(algorithm, dataset, wanted.convolution, gradient=True).as_text()
    described = {
        "device": f"{ensemble.devices[0].platform}:{ensemble.devices[0].device_kind}",
        "devices": [len(ensemble.devices), len(jax.local_devices())],
        "cores": os.cpu_count(),
        "jax": jax.__version__,
        "algorithm": algorithm.to_dict(),
        "network": hashlib.sha256(network.encode()).hexdigest(),
        "data": [
            dataset.n_train,
            dataset.n_columns,
            dataset.n_classes,
            dataset.x_train.shape[1:],
            str(dataset.x_train.dtype),
        ],
        "wanted": [wanted.models_per_device, wanted.mode, wanted.convolution],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]


class Trials:
    """Measures layouts on the first examples of a data set, in the program that will train."""

    def __init__(self, algorithm: Algorithm, dataset: Dataset, *, fraction: float = 1.0) -> None:
        n_held_out = min(dataset.n_columns - dataset.n_train, 1024)
        n_train = min(dataset.n_train, max(STEPS * algorithm.batch_size, 1024 - n_held_out))
        self._algorithm = algorithm
        self._examples = replace(
            dataset,
            x_train=dataset.x_train[:n_train],
            y_train=dataset.y_train[:n_train],
            train_ids=dataset.train_ids[:n_train],
            x_held_out=dataset.x_held_out[:n_held_out],
            y_held_out=dataset.y_held_out[:n_held_out],
            held_out_ids=dataset.held_out_ids[:n_held_out],
        )
        n_members = min(n_train, STEPS * algorithm.batch_size)
        self._members = np.arange(n_train) < n_members
        whole = algorithm.n_steps(max(1, round(fraction * dataset.n_train)), algorithm.epochs)
        self._epochs = whole / algorithm.n_steps(n_members, 1)
        self._evaluations = dataset.n_columns / self._examples.n_columns
        self._more_bytes = dataset.images.nbytes - self._examples.images.nbytes
        self._ensembles: dict[Layout, Ensemble] = {}

    def seconds_per_model(self, layout: Layout) -> float:
        """Seconds that a model will take, from medians of short trainings; infinite above 60% of the memory."""
        # One after another, more models in a batch take as much longer.
        layout = replace(layout, models_per_device=1) if layout.mode == "map" else layout
        if layout not in self._ensembles:
            self._ensembles[layout] = Ensemble(self._algorithm, self._examples, layout, check=False)
        ensemble = self._ensembles[layout]
        if memory_fraction(ensemble, self._more_bytes) > MAX_MEMORY_FRACTION:
            return math.inf
        keys = model_keys(0, "design", np.arange(ensemble.models_per_batch))
        masks = np.tile(self._members, (ensemble.models_per_batch, 1))

        def seconds(epochs: int) -> float:
            start = time.perf_counter()
            ensemble.finish(ensemble.start(keys, masks, epochs=epochs))
            return time.perf_counter() - start

        seconds(0)
        once = max(seconds(1) - seconds(0), 1e-4)
        n_epochs = max(1, min(round(MIN_TRIAL_SECONDS / once), round(self._epochs)))
        trials = np.array([[seconds(0), seconds(n_epochs)] for _ in range(REPEATS)])
        evaluation, whole = np.median(trials[:, 0]), np.median(trials[:, 1])
        training = max(whole - evaluation, 1e-9) / n_epochs
        batch = training * self._epochs + evaluation * self._evaluations
        return float(batch / ensemble.models_per_batch)


def memory_fraction(ensemble: Ensemble, more_bytes: int = 0) -> float:
    """Of the memory, what training a batch takes with what is held there already; 0 where the platform does not say.

    Args:
        more_bytes: On each device, beside the program's own.
    """
    needed, devices = ensemble.bytes_per_device() + more_bytes, ensemble.devices
    if devices[0].platform == "cpu":  # whose devices share one memory
        return len(devices) * needed / host_memory()
    stats: dict[str, int] = devices[0].memory_stats() or {}
    limit = stats.get("bytes_limit", 0)
    return (needed + stats.get("bytes_in_use", 0)) / limit if limit else 0.0


def _read(cached: dict[str, Any] | None, key: str, source: Source) -> Choice | None:
    """A choice made before, if it is for the same."""
    if not cached or cached.get("key") != key or cached.get("source") == "default":
        return None
    try:
        return Choice(Layout.from_dict(cached), float(cached["models_per_second"]), source, key=key)
    except (InputError, KeyError, TypeError, ValueError):
        return None

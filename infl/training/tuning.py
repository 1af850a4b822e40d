"""Chooses the layout that trains most models per second, by training a few steps of each candidate on the data at hand.

Candidates are the convolutions that a network can be computed with, models one after another or side by side, and, side by
side, twice and twice as many of them until that gains less than 5% or 60% of the memory is taken. The default stays unless
another is at least 5% faster, in a second comparison too; on a CPU that is one model after another on each core. Training
that takes less than 20 seconds is not tuned for, and tuning ends when it has taken a tenth of what training will.

A layout affects speed only. What was chosen is cached in the user's cache folder (`infl.training.caches`) and by the run.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import numpy as np

from infl.records import Dataset, InputError
from infl.training.algorithm import Algorithm
from infl.training.caches import cache_layout, cached_layout
from infl.training.ensemble import Ensemble, is_out_of_memory, model_keys
from infl.training.kernels.convolution import BACKENDS
from infl.training.layout import Layout, Mode, lower_apply, usual_width

MIN_SECONDS = 20.0
SHARE_OF_TRAINING = 0.1
GAIN = 0.05
MEMORY_SHARE = 0.6
MAX_WIDTH = 4096
FIRST_WIDTH = 4

STEPS, MIN_SECONDS_OF_A_TRIAL, REPEATS = 4, 0.2, 3

Source = Literal["default", "measured", "this machine", "this run"]
Measure = Callable[[Layout], float]


class TooLarge(Exception):
    """A layout needs more memory than it may have."""


@dataclass(frozen=True)
class Choice:
    """A layout, complete, with the models per second that it was measured to train; None where it was not.

    Attributes:
        source: `default`; `measured` just now; cached by `this machine` or `this run`.
        tried: Models per second of each layout measured, in order; 0 for one too large for the memory.
        key: What it holds for; see `key_of`.
    """

    layout: Layout
    models_per_second: float | None = None
    source: Source = "default"
    tried: tuple[tuple[Layout, float], ...] = ()
    key: str | None = None

    def how(self) -> dict[str, Any]:
        """How it was chosen, as JSON."""
        return {"models_per_second": self.models_per_second, "source": self.source, "key": self.key}

    def describe(self) -> str:
        """`models one after another on 2 devices, 16 each in a batch: 79.1 models/s (measured)`."""
        layout = self.layout
        said = self.source if self.source in ("default", "measured") else f"cached by {self.source}"
        order = "one after another" if layout.mode == "map" else "side by side"
        convolution = f", convolution {layout.convolution}" if layout.convolution else ""
        speed = f": {self.models_per_second:.3g} models/s" if self.models_per_second else ""
        devices = f"{layout.n_devices} device" + ("s" if layout.n_devices != 1 else "")
        return f"models {order} on {devices}, {layout.models_per_device} each in a batch{convolution}{speed} ({said})"


def choose_layout(
    ensemble: Ensemble, *, n_models: int, fraction: float = 1.0, recorded: dict[str, Any] | None = None
) -> Choice:
    """The layout for an ensemble to train `n_models` models in; settings that it was asked for are kept.

    Args:
        fraction: Mean |subset| / n of the models, for the models per second.
        recorded: The layout that the run was trained in before and how it was chosen; None for a new run.

    Raises:
        InputError: where the memory does not hold the training of a single model.
    """
    default, wanted, devices = Choice(ensemble.layout), ensemble.wanted, ensemble.devices
    if None not in (wanted.models_per_device, wanted.mode, wanted.convolution):
        return default
    seconds = ensemble.estimated_seconds * fraction / len(devices)
    long = n_models * seconds >= MIN_SECONDS
    if not long and not recorded:
        return default
    key = key_of(ensemble)
    if cached := _read(recorded, key, "this run"):
        return cached
    if long and (cached := _read(cached_layout(key), key, "this machine")):
        return cached
    if not long:
        return default
    trials = Trials(ensemble.algorithm, ensemble.dataset, fraction=fraction)
    choice = choose(
        ensemble.layout,
        candidates(ensemble),
        trials.seconds_per_model,
        n_models=n_models,
        grows=wanted.models_per_device is None,
        most_width=min(MAX_WIDTH, -(-n_models // len(devices))),
    )
    layout = choice.layout
    if layout.mode == "map" and wanted.models_per_device is None and choice.models_per_second:
        layout = replace(layout, models_per_device=usual_width("map", len(devices) / choice.models_per_second))
    choice = replace(choice, layout=layout, key=key)
    if choice.source == "measured":
        cache_layout(key, layout.to_dict() | choice.how())
    return choice


def choose(
    default: Layout,
    families: list[Layout],
    measure: Measure,
    *,
    n_models: int,
    grows: bool = True,
    most_width: int = MAX_WIDTH,
    clock: Callable[[], float] = time.perf_counter,
) -> Choice:
    """The decisions of `choose_layout`.

    Args:
        families: Other layouts to look at; one with mode `vmap` stands for all widths from its own.
        measure: wall-clock seconds per model of a layout; raises `TooLarge`, or XLA's error, where memory does not hold
            it.
        grows: Whether widths are free; otherwise each family is measured as it is.
    """
    tried: list[tuple[Layout, float]] = []
    start, last = clock(), 0.0

    def attempt(layout: Layout) -> float | None:
        """Models per second; None where the memory does not hold it."""
        nonlocal last
        before = clock()
        try:
            rate = 1 / measure(layout)
        except (TooLarge, jax.errors.JaxRuntimeError) as error:
            if not isinstance(error, TooLarge) and not is_out_of_memory(error):
                raise
            rate = None
        last = clock() - before
        tried.append((layout, rate or 0.0))
        return rate

    def affordable(rate: float) -> bool:
        return clock() - start + last <= SHARE_OF_TRAINING * n_models / rate

    def grown(layout: Layout, rate: float) -> tuple[Layout, float]:
        while grows and layout.mode == "vmap" and affordable(rate):
            wider = replace(layout, models_per_device=2 * (layout.models_per_device or 1))
            if (wider.models_per_device or 1) > most_width or (faster := attempt(wider)) is None:
                break
            if faster < (1 + GAIN) * rate:
                break
            layout, rate = wider, faster
        return layout, rate

    def fitting(layout: Layout) -> tuple[Layout, float] | None:
        while (rate := attempt(layout)) is None:
            if not grows or (layout.models_per_device or 1) == 1 or layout.mode == "map":
                return None
            layout = replace(layout, models_per_device=(layout.models_per_device or 1) // 2)
        return layout, rate

    plain = fitting(default)
    if plain is not None and n_models / plain[1] < MIN_SECONDS:
        return Choice(plain[0], plain[1], "default", tuple(tried))
    best = None if plain is None else grown(*plain)
    for family in families:
        if best is not None and not affordable(best[1]):
            break
        if (first := fitting(family)) is None:
            continue
        other = grown(*first)
        if best is None or other[1] >= (1 + GAIN) * best[1]:
            best = other
    if best is None:
        raise InputError(
            "the memory of the device does not hold the training of a single model: take a smaller batch_size or network"
        )
    if plain is not None and best[0] != plain[0]:
        again, other = attempt(plain[0]), attempt(best[0])
        if again is not None and (other is None or other < (1 + GAIN) * again):
            best = plain[0], again
    return Choice(best[0], best[1], "measured", tuple(tried))


def candidates(ensemble: Ensemble) -> list[Layout]:
    """Layouts to look at beside the usual one: the other convolutions first, then the other mode, with each convolution."""
    usual, wanted = ensemble.layout, ensemble.wanted
    usual_mode: Mode = usual.mode or "map"
    others = () if wanted.convolution else convolutions(ensemble.algorithm, ensemble.dataset)
    modes: list[Mode] = [usual_mode] if wanted.mode else [usual_mode, "vmap" if usual_mode == "map" else "map"]
    widths = {usual_mode: usual.models_per_device}
    return [
        replace(
            usual,
            mode=mode,
            convolution=name,
            models_per_device=wanted.models_per_device or widths.get(mode, FIRST_WIDTH),
        )
        for mode in modes
        for name in (usual.convolution, *others)
        if (mode, name) != (usual.mode, usual.convolution)
    ]


def convolutions(algorithm: Algorithm, dataset: Dataset) -> tuple[str, ...]:
    """Names of the back ends that compute this network in a way of their own; none where it does not convolve."""
    seen, different = {lower_apply(algorithm, dataset, gradient=True).as_text()}, []
    for name in BACKENDS:
        text = lower_apply(algorithm, dataset, name, gradient=True).as_text()
        if text not in seen:
            seen.add(text)
            different.append(name)
    return tuple(different)


def key_of(ensemble: Ensemble) -> str:
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
        self._epochs_of_a_model = whole / algorithm.n_steps(n_members, 1)
        self._evaluated_of_a_model = dataset.n_columns / self._examples.n_columns
        self._more_bytes = dataset.images.nbytes - self._examples.images.nbytes
        self._ensembles: dict[Layout, Ensemble] = {}

    def seconds_per_model(self, layout: Layout) -> float:
        """Seconds that a model will take: its steps, and evaluation, each from medians of short trainings.

        Raises:
            TooLarge: where its program needs more than 60% of the memory.
        """
        # One after another, more models in a batch take as much longer.
        layout = replace(layout, models_per_device=1) if layout.mode == "map" else layout
        if layout not in self._ensembles:
            self._ensembles[layout] = Ensemble(self._algorithm, self._examples, layout, check=False)
        ensemble = self._ensembles[layout]
        if share_of_memory(ensemble, self._more_bytes) > MEMORY_SHARE:
            raise TooLarge
        keys = model_keys(0, "design", np.arange(ensemble.models_per_batch))
        masks = np.tile(self._members, (ensemble.models_per_batch, 1))

        def seconds(epochs: int) -> float:
            start = time.perf_counter()
            ensemble.finish(ensemble.start(keys, masks, epochs=epochs))
            return time.perf_counter() - start

        seconds(0)
        once = max(seconds(1) - seconds(0), 1e-4)
        n_epochs = max(1, min(round(MIN_SECONDS_OF_A_TRIAL / once), round(self._epochs_of_a_model)))
        trials = np.array([[seconds(0), seconds(n_epochs)] for _ in range(REPEATS)])
        evaluation, whole = np.median(trials[:, 0]), np.median(trials[:, 1])
        training = max(whole - evaluation, 1e-9) / n_epochs
        batch = training * self._epochs_of_a_model + evaluation * self._evaluated_of_a_model
        return float(batch / ensemble.models_per_batch)


def share_of_memory(ensemble: Ensemble, more_bytes: int = 0) -> float:
    """Share of the memory that training a batch takes, with what is held there already; 0 where the platform does not say.

    Args:
        more_bytes: On each device, beside the program's own.
    """
    needed, devices = ensemble.bytes_per_device() + more_bytes, ensemble.devices
    if devices[0].platform == "cpu":  # whose devices share one memory
        memory = _host_bytes()
        return len(devices) * needed / memory if memory else 0.0
    stats: dict[str, int] = devices[0].memory_stats() or {}
    limit = stats.get("bytes_limit", 0)
    return (needed + stats.get("bytes_in_use", 0)) / limit if limit else 0.0


def _host_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 0


def _read(cached: dict[str, Any] | None, key: str, source: Source) -> Choice | None:
    """A choice made before, if it is for the same."""
    if not cached or cached.get("key") != key or cached.get("source") == "default":
        return None
    try:
        return Choice(Layout.from_dict(cached), float(cached["models_per_second"]), source, key=key)
    except (InputError, KeyError, TypeError, ValueError):
        return None

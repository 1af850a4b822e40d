"""Says beforehand what a run costs.

A short measured run gives the time on this machine; its models, or those of a run that is there, are the pilot from which the
errors of more models follow. Three questions: memorization with a wanted standard error, the smallest influence found with a
wanted chance, and the regimes of forget sets of a size, predicted or verified.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from infl.pipeline.progress import Progress, track
from infl.pipeline.train import current_run, find_groups, open_for_training
from infl.records import (
    ACCURACY_MODELS,
    Accuracy,
    Dataset,
    InputError,
    Outcomes,
    OutcomeSource,
    ProtocolName,
    check_fraction,
    measure_accuracy,
)
from infl.scores.planning import ErrorForecast, information_per_model, models_for_standard_error
from infl.scores.power import (
    FALSE_DISCOVERY_RATE,
    POWER,
    EffectiveModels,
    detectable_effect,
    models_for_effect,
    p_value_cut,
    typical_column,
)
from infl.store import Run, bytes_per_model
from infl.training.algorithm import Algorithm
from infl.training.ensemble import Ensemble, model_keys
from infl.training.layout import Layout
from infl.training.subsets import Design, draw_masks
from infl.training.tuning import choose_layout
from infl.untraining.regimes import cross_weights

MIN_PILOT = 32  # models, for a forecast
RETRAININGS = (16, 32, 64)
# Root mean square error of cross for sets of 20 examples and more, the larger one of n = 1,000 digits and n = 2,000
# Fashion-MNIST: experiments/regimes, worlds digits-fitting and fashion-early, predictor combined.
PREDICTED_CROSS_ERROR = {128: 0.123, 512: 0.087, 2048: 0.066}
MIN_PREDICTED_SIZE = 20

Question = Literal["memorization", "influence", "prediction", "verification"]


@dataclass(frozen=True)
class Answer:
    """One line of a plan.

    None where it cannot be said: a pilot too small, or no number of models that would do.

    Attributes:
        question: `memorization` known to a standard error, `influence` found, regimes by `prediction` or by
            `verification`.
        basis: What the number rests on, in words.
        value: The standard error, the effect found, or the error of cross (verification: the larger of self's and
            cross').
        n_models: Of subsets; for verification, models retrained without each set.
        seconds, n_bytes: Of all models and references; for verification, of the retrained models of one set.
    """

    question: Question
    basis: str
    value: float | None
    n_models: int | None
    seconds: float | None
    n_bytes: int | None


@dataclass(frozen=True)
class Plan:
    """What a run costs. models_per_second was measured on this machine; bytes are before compression.

    Attributes:
        n_models: For the standard error at worst, where outcomes are right half of the time; most examples need fewer,
            see `answers`.
        prepare_seconds: Finding the groups of a grouped design, once for a run; 0 where a run has them.
        n_pilot: Models that the forecasts among the answers rest on.
        accuracy: Of the first of them.
        p_cut, n_pairs: The p-value up to which an influence counts as found, and the pairs of both protocols that the
            false discovery rate is over.
    """

    n_models: int
    n_references: int
    standard_error: float
    fraction: float
    models_per_second: float
    compile_seconds: float
    n_bytes: int
    prepare_seconds: float = 0.0
    n_pilot: int = 0
    p_cut: float = math.nan
    n_pairs: int = 0
    answers: tuple[Answer, ...] = ()
    accuracy: Accuracy | None = None

    @property
    def seconds(self) -> float:
        """Time to train everything."""
        return (
            self.prepare_seconds + self.compile_seconds + (self.n_models + self.n_references) / self.models_per_second
        )


def plan(
    dataset: Dataset | None = None,
    *,
    run: Run | str | Path | None = None,
    standard_error: float = 0.05,
    n_models: int | None = None,
    n_references: int = 64,
    detect: float | None = None,
    power: float = POWER,
    false_discovery_rate: float = FALSE_DISCOVERY_RATE,
    expected_fraction: float = 0.0,
    set_size: int | None = None,
    set_error: float = 0.05,
    n_pilot: int = 0,
    design: Design | None = None,
    algorithm: Algorithm | None = None,
    layout: Layout | None = None,
    quiet: bool = False,
) -> Plan:
    """Models, time and disk for a wanted precision, from a short measured run whose models serve as the pilot.

    Args:
        dataset: The examples; None for those of `run`.
        run: A run that exists: its models are the pilot, its settings those planned for.
        standard_error: Of memorization: its root mean square over the examples, and that at worst. The first counts how
            the design's strata change errors (`infl.scores.contrasts`); the lines at worst, and those of influence,
            take models as independent.
        n_models: Given instead of a standard error and an effect, which are then what it brings.
        detect: Smallest influence to be found with chance `power` at a false discovery rate over all pairs of both
            protocols, n (m + n - 1): by all models on held-out examples, by those that left both out on training
            examples. The cut is that of the first discovery, or of `expected_fraction` of the pairs where at least so many
            will be found.
        set_size: Forget sets of so many examples: what predictions were worth elsewhere, and retrainings for each set
            until self and cross have the error `set_error`, by the scatter of a few retrainings without random sets of
            that size. Rough: other sets scatter more or less, and `infl.verify` stops earlier where a regime is clear.
        n_pilot: Least models of the measured run.
        design, algorithm: None for the run's own, or for the defaults.
        quiet: No progress bar.

    Raises:
        InputError: for a value outside its range, no data, or data or settings other than the run's.
    """
    outcomes: OutcomeSource | None = None
    if run is not None:
        opened, dataset, algorithm, design = open_for_training(current_run(run).place, dataset, algorithm, design, None)
        outcomes = opened.outcomes("design")
    if dataset is None:
        raise InputError("plan: name a data set, e.g. infl plan digits, or a run that exists")
    for name, number, least in (("models", n_models, 1), ("references", n_references, 0), ("pilot models", n_pilot, 0)):
        if number is not None and number < least:
            raise InputError(f"{name}: expected at least {least}, got {number}")
    if set_size is not None and not 1 <= set_size < dataset.n_train:
        raise InputError(f"set size: expected 1 to {dataset.n_train - 1} of the training examples, got {set_size}")
    check_fraction("set error", set_error)
    algorithm, whole = algorithm or Algorithm(), design or Design()
    design, scored_fraction = _scored_part(whole)
    n_pairs = dataset.n_train * (dataset.n_columns - 1)
    asked = _Asked(
        standard_error,
        detect,
        power,
        p_value_cut(n_pairs, false_discovery_rate=false_discovery_rate, expected_fraction=expected_fraction),
        n_models,
        design,
        scored_fraction,
    )
    at_worst = n_models or asked.run_models(models_for_standard_error(standard_error, fraction=design.fraction))  # pyright: ignore[reportArgumentType]
    ensemble = Ensemble(algorithm, dataset, layout)
    choice = choose_layout(ensemble, n_models=at_worst + n_references, fraction=float(np.mean(design.range)))
    ensemble.set_layout(choice.layout)
    start, beside = time.perf_counter(), whole if whole.kind == "grouped" else None
    if beside is not None and beside.groups is None:
        beside = replace(beside, groups=find_groups(dataset, algorithm, seed=0))
    prepare_seconds = time.perf_counter() - start
    n_blocks = max(MIN_BLOCKS, -(-n_pilot // ensemble.models_per_batch))
    n_measured = n_blocks * ensemble.models_per_batch * (1 if beside is None else 2)
    scatter, n_retrained = math.nan, 0 if set_size is None else (1 + N_SETS) * N_SEEDS
    with track(n_measured + n_retrained, "measuring", quiet=quiet) as progress:
        measured = measure_blocks(
            ensemble, dataset, design, progress, beside=beside, fraction=scored_fraction, n_blocks=n_blocks
        )
        if set_size is not None:
            scatter = retraining_scatter(ensemble, dataset, set_size, progress)
    pilot = measured.outcomes if outcomes is None or outcomes.n_models < MIN_PILOT else outcomes
    per_model = bytes_per_model(dataset.n_train, dataset.n_columns)

    per_scored_model = information_per_model(design.fraction)  # pyright: ignore[reportArgumentType]
    planned = Plan(
        n_models=at_worst,
        n_references=n_references,
        standard_error=0.5 / math.sqrt(per_scored_model * scored_fraction * at_worst),
        fraction=float(np.mean(design.range)),
        models_per_second=measured.models_per_second,
        compile_seconds=measured.compile_seconds,
        prepare_seconds=prepare_seconds,
        n_bytes=(at_worst + n_references) * per_model,
        n_pilot=pilot.n_models,
        p_cut=asked.p_cut,
        n_pairs=n_pairs,
        accuracy=measure_accuracy(next(pilot.blocks(n_rows=ACCURACY_MODELS)), largest_class=dataset.largest_class),
    )
    lines: list[Any] = [*_memorization(asked, pilot, planned), *_influence(asked, pilot)]
    if set_size is not None:
        known = set_size >= MIN_PREDICTED_SIZE
        basis = "error of cross, in experiments/regimes"
        lines += [("prediction", basis, e if known else None, n) for n, e in PREDICTED_CROSS_ERROR.items()]
    answers = []
    for question, basis, value, models in lines:
        if models is None or value is None or math.isnan(value):
            answers.append(Answer(question, basis, None, None, None, None))
        else:
            seconds, n_bytes = replace(planned, n_models=models).seconds, (models + n_references) * per_model
            answers.append(Answer(question, basis, value, models, seconds, n_bytes))
    for error, models in _verification(scatter, set_error):
        seconds = models / measured.models_per_second
        basis = "error of self or of cross, the larger"
        answers.append(Answer("verification", basis, error, models, seconds, models * per_model))
    return replace(planned, answers=tuple(answers))


@dataclass(frozen=True)
class _Asked:
    """What a plan is for; design: of the models that scores rest on, scored_fraction: theirs of all models of subsets."""

    standard_error: float
    detect: float | None
    power: float
    p_cut: float
    n_models: int | None
    design: Design
    scored_fraction: float

    def __post_init__(self) -> None:
        check_fraction("power", self.power)
        if self.detect is not None:
            check_fraction("detect", self.detect)

    @property
    def n_scored(self) -> int | None:
        return None if self.n_models is None else max(1, round(self.scored_fraction * self.n_models))

    def run_models(self, n_scored: int) -> int:
        """Models of subsets of a run of which scores rest on at least so many, in whole periods of the design."""
        whole = -(-n_scored // self.design.period) * self.design.period
        return math.ceil(whole / self.scored_fraction - 1e-9)


Line = tuple[Question, str, float | None, int | None]  # with the value and the models, None where they cannot be said


def _scored_part(design: Design) -> tuple[Design, float]:
    """Of a grouped design the uniform models, which alone scores rest on, and their fraction."""
    if design.kind != "grouped":
        return design, 1.0
    if design.grouped_share >= 1:
        raise InputError("plan: scores rest on uniform models, and with a grouped share of 1 there are none")
    return Design("uniform", design.fraction), 1 - design.grouped_share


def _memorization(asked: _Asked, pilot: OutcomeSource, planned: Plan) -> Iterator[Line]:
    basis = "root mean square over examples"
    if pilot.n_models < MIN_PILOT:
        yield "memorization", basis, None, None
    elif asked.n_scored is None:
        needed = ErrorForecast.from_outcomes(pilot).models_for(asked.standard_error)
        yield "memorization", basis, asked.standard_error, None if needed is None else asked.run_models(needed)
    else:
        yield "memorization", basis, ErrorForecast.from_outcomes(pilot).root_mean_square(asked.n_scored), asked.n_models
    error = asked.standard_error if asked.n_models is None else planned.standard_error
    yield "memorization", "at worst: right half of the time", error, planned.n_models


def _influence(asked: _Asked, pilot: OutcomeSource) -> Iterator[Line]:
    if asked.detect is None and asked.n_scored is None:
        return
    protocols: list[tuple[ProtocolName, str]] = [("held-out", "on held-out"), ("left-out", "on left-out training")]
    for protocol, words in protocols:
        if protocol == "held-out" and pilot.n_columns == pilot.n_train:
            continue
        one = EffectiveModels.one(asked.design.fraction, left_out=protocol == "left-out")  # pyright: ignore[reportArgumentType]
        enough = pilot.n_models >= MIN_PILOT
        median = typical_column(pilot, protocol=protocol).wrong if enough else math.nan
        for basis, wrong in ((f"{words} examples of median noise", median), (f"{words} examples at worst", 0.5)):
            if math.isnan(wrong):
                yield "influence", basis, None, None
            elif asked.n_scored is None:
                assert asked.detect is not None
                needed = models_for_effect(asked.detect, one, wrong=wrong, p_cut=asked.p_cut, power=asked.power)
                yield "influence", basis, asked.detect, asked.run_models(needed)
            else:
                models = one.times(asked.n_scored)
                found = detectable_effect(models, wrong=wrong, p_cut=asked.p_cut, power=asked.power)
                yield "influence", basis, found, asked.n_models


def _verification(scatter: float, wanted: float) -> Iterator[tuple[float, int]]:
    if math.isnan(scatter):
        return
    enough = max(math.ceil((scatter / wanted) ** 2), RETRAININGS[0])
    for n_models in sorted({*RETRAININGS, enough}):
        yield scatter / math.sqrt(n_models), n_models


MIN_SECONDS, MIN_BLOCKS, MAX_BLOCKS = 3.0, 4, 64
N_SETS, N_SEEDS = 2, 16


@dataclass(frozen=True)
class MeasuredBlocks:
    """Models of a design and how long they took. compile_seconds: how much longer the first block took than the others."""

    outcomes: Outcomes
    models_per_second: float
    compile_seconds: float


def measure_blocks(
    ensemble: Ensemble,
    dataset: Dataset,
    design: Design,
    progress: Progress,
    *,
    beside: Design | None = None,
    fraction: float = 1.0,
    n_blocks: int = MIN_BLOCKS,
) -> MeasuredBlocks:
    """Train blocks of models of a design: at least `n_blocks` and, up to 64 blocks, 3 seconds.

    Args:
        progress: Told of the models of the first `n_blocks`; the others take 3 seconds at most.
        beside: A design that a fraction 1 - `fraction` of the models of the run is of: as many blocks of it are trained in
            turns, since their subsets may be larger. They count for the time, not for the outcomes; nor do models that
            did not stay finite.
    """
    designs = {"design": design} | ({} if beside is None else {"beside": beside})
    size, blocks, seconds = ensemble.models_per_batch, [], {name: list[float]() for name in designs}

    def enough() -> bool:
        if len(blocks) < n_blocks:
            return False
        return sum(map(sum, seconds.values())) - seconds["design"][0] >= MIN_SECONDS or len(blocks) >= MAX_BLOCKS

    while not enough():
        models = np.arange(len(blocks) * size, (len(blocks) + 1) * size)
        keys = model_keys(0, "design", models)
        for name, one in designs.items():
            masks = draw_masks(one, models.tolist(), n_train=dataset.n_train, seed=0)
            start = time.perf_counter()
            trained = ensemble.train(keys, masks)
            seconds[name].append(time.perf_counter() - start)
            progress.update(size if len(seconds[name]) <= n_blocks else 0)
            if name == "design":
                finite = trained.finite
                blocks.append((masks[finite], trained.correct[finite], models[finite] // design.period))
    masks, correct, strata = (np.concatenate(part) for part in zip(*blocks, strict=True))
    pilot = Outcomes(masks, correct, strata=strata if design.period > 1 else None)
    first, of_design = seconds["design"][0], float(np.median(seconds["design"][1:]))
    of_block = of_design
    if beside is not None:
        of_block = fraction * of_design + (1 - fraction) * float(np.median(seconds["beside"]))
    return MeasuredBlocks(pilot, size / of_block, max(0.0, first - of_design))


def retraining_scatter(ensemble: Ensemble, dataset: Dataset, size: int, progress: Progress) -> float:
    """Standard deviation of self and of cross over single seeds, the larger one, for random sets of a size.

    From 16 models of D and as many without each of two random sets, paired by key as `infl.verify` pairs them; the error of
    either after R retrainings is this over sqrt(R). Known to about an eighth of itself; NaN where models did not stay finite.
    """
    n_train, random = dataset.n_train, np.random.RandomState(0)
    sets = [random.choice(n_train, size, replace=False) for _ in range(N_SETS)]
    masks = np.ones((1 + N_SETS, N_SEEDS, n_train), bool)
    for mask, ids in zip(masks[1:], sets, strict=True):
        mask[:, ids] = False
    keys, masks = model_keys(0, "reference", np.tile(np.arange(N_SEEDS), 1 + N_SETS)), masks.reshape(-1, n_train)
    parts = []
    for first in range(0, len(masks), ensemble.models_per_batch):
        part = slice(first, first + ensemble.models_per_batch)
        parts.append(ensemble.train(keys[part], masks[part]))
        progress.update(len(parts[-1].finite))
    correct = np.concatenate([np.where(one.finite[:, None], one.correct, np.nan) for one in parts])
    full, *without = correct.reshape(1 + N_SETS, N_SEEDS, -1)
    variances = []
    for ids, outcomes in zip(sets, without, strict=True):
        drop = full - outcomes
        inside = np.isin(np.arange(dataset.n_columns), ids)
        scatter = np.stack([drop[:, inside].mean(axis=1), drop @ cross_weights(inside, n_train) / size])
        variances.append(scatter.var(axis=1, ddof=1))
    return math.sqrt(np.mean(variances, axis=0).max())

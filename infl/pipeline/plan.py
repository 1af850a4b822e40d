"""Says beforehand what a run costs.

A short measured run gives the time on this machine; its models, or those of a run that is there, are the pilot from which the
errors of more models follow. Three questions: memorization with a wanted standard error, the smallest influence found with a
wanted chance, and the regimes of forget sets of a size, predicted or verified.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from infl.pipeline.progress import Progress, track
from infl.pipeline.train import current_run, find_groups, open_for_training
from infl.records import (
    ACCURACY_MODELS,
    Accuracy,
    Dataset,
    ForgetSet,
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
from infl.untraining.verification import measure_effects

MIN_PILOT = 32  # models, for a forecast
RETRAININGS = (16, 32, 64)
# Root mean square error of cross for sets of 20 examples and more, the larger one of n = 1,000 digits and n = 2,000
# Fashion-MNIST: experiments/regimes, worlds digits-fitting and fashion-early, predictor combined.
PREDICTED_CROSS_ERROR = {128: 0.112, 512: 0.100, 2048: 0.099}
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
    for name, number in (("set error", set_error), ("power", power), ("detect", detect)):
        if number is not None:
            check_fraction(name, number)
    algorithm, design = algorithm or Algorithm.default(dataset.kind), design or Design()
    scored = _Scored.of(design)
    n_pairs = dataset.n_train * (dataset.n_columns - 1)
    p_cut = p_value_cut(n_pairs, false_discovery_rate=false_discovery_rate, expected_fraction=expected_fraction)
    at_worst = n_models or scored.run_models(models_for_standard_error(standard_error, fraction=scored.fraction))
    fraction = float(np.mean(design.range))
    ensemble = Ensemble(algorithm, dataset, layout)
    ensemble.set_layout(choose_layout(ensemble, n_models=at_worst + n_references, fraction=fraction).layout)
    start, designs = time.perf_counter(), {scored.design: scored.part}
    if design.kind == "grouped":
        groups = design.groups or find_groups(dataset, algorithm, seed=0)
        designs[replace(design, groups=groups)] = design.grouped_share
    prepare_seconds = time.perf_counter() - start
    n_blocks = max(MIN_BLOCKS, -(-n_pilot // ensemble.models_per_batch))
    n_measured = n_blocks * ensemble.models_per_batch * len(designs)
    n_retrained = 0 if set_size is None else (1 + N_SETS) * N_SEEDS
    with track(n_measured + n_retrained, "measuring", quiet=quiet) as progress:
        measured = _measure_blocks(ensemble, dataset, designs, progress, n_blocks)
        scatter = math.nan if set_size is None else retraining_scatter(ensemble, dataset, set_size, progress)
    pilot = measured.outcomes if outcomes is None or outcomes.n_models < MIN_PILOT else outcomes
    per_model = bytes_per_model(dataset.n_train, dataset.n_columns)
    planned = Plan(
        n_models=at_worst,
        n_references=n_references,
        standard_error=0.5 / math.sqrt(information_per_model(scored.fraction) * scored.part * at_worst),
        fraction=fraction,
        models_per_second=measured.models_per_second,
        compile_seconds=measured.compile_seconds,
        prepare_seconds=prepare_seconds,
        n_bytes=(at_worst + n_references) * per_model,
        n_pilot=pilot.n_models,
        p_cut=p_cut,
        n_pairs=n_pairs,
        accuracy=measure_accuracy(next(pilot.blocks(n_rows=ACCURACY_MODELS)), largest_class=dataset.largest_class),
    )
    answers: list[Answer] = []

    def add(question: Question, basis: str, value: float | None, models: int | None) -> None:
        if models is None or value is None or math.isnan(value):
            answers.append(Answer(question, basis, None, None, None, None))
        elif question == "verification":
            answers.append(
                Answer(question, basis, value, models, models / measured.models_per_second, models * per_model)
            )
        else:
            seconds, n_bytes = replace(planned, n_models=models).seconds, (models + n_references) * per_model
            answers.append(Answer(question, basis, value, models, seconds, n_bytes))

    basis = "root mean square over examples"
    if pilot.n_models < MIN_PILOT:
        add("memorization", basis, None, None)
    elif n_models is not None:
        error = ErrorForecast.from_outcomes(pilot).root_mean_square(scored.n_scored(n_models))
        add("memorization", basis, error, n_models)
    else:
        needed = ErrorForecast.from_outcomes(pilot).models_for(standard_error)
        add("memorization", basis, standard_error, needed and scored.run_models(needed))
    error = standard_error if n_models is None else planned.standard_error
    add("memorization", "at worst: right half of the time", error, at_worst)
    if detect is not None or n_models is not None:
        for basis, one, wrong in _columns(pilot, scored):
            if math.isnan(wrong):
                add("influence", basis, None, None)
            elif n_models is not None:
                models = one.times(scored.n_scored(n_models))
                effect = detectable_effect(models, wrong=wrong, p_cut=p_cut, power=power)
                add("influence", basis, effect, n_models)
            elif detect is not None:
                needed = models_for_effect(detect, one, wrong=wrong, p_cut=p_cut, power=power)
                add("influence", basis, detect, scored.run_models(needed))
    if set_size is not None:
        for models, error in PREDICTED_CROSS_ERROR.items():
            known = error if dataset.is_classified and set_size >= MIN_PREDICTED_SIZE else None
            add("prediction", "error of cross, in experiments/regimes", known, models)
    if not math.isnan(scatter):
        enough = max(math.ceil((scatter / set_error) ** 2), RETRAININGS[0])
        for models in sorted({*RETRAININGS, enough}):
            add("verification", "error of self or of cross, the larger", scatter / math.sqrt(models), models)
    return replace(planned, answers=tuple(answers))


class _Scored(NamedTuple):
    """The models of a design that scores rest on, and which part they are of all models of subsets."""

    design: Design
    part: float

    @staticmethod
    def of(design: Design) -> _Scored:
        """Of a grouped design the uniform models alone."""
        if design.kind != "grouped":
            return _Scored(design, 1.0)
        if design.grouped_share >= 1:
            raise InputError("plan: scores rest on uniform models, and with a grouped share of 1 there are none")
        return _Scored(Design("uniform", design.fraction), 1 - design.grouped_share)

    @property
    def fraction(self) -> tuple[float, float]:
        return self.design.range

    def n_scored(self, n_models: int) -> int:
        return max(1, round(self.part * n_models))

    def run_models(self, n_scored: int) -> int:
        """Models of subsets of a run of which scores rest on at least so many, in whole periods of the design."""
        whole = -(-n_scored // self.design.period) * self.design.period
        return math.ceil(whole / self.part - 1e-9)


def _columns(pilot: OutcomeSource, scored: _Scored) -> Iterator[tuple[str, EffectiveModels, float]]:
    """Kinds of columns: in words, what one model counts for there, and how often the rarer outcome occurs."""
    protocols: list[tuple[ProtocolName, str]] = [("held-out", "on held-out"), ("left-out", "on left-out training")]
    for protocol, words in protocols[pilot.n_columns == pilot.n_train :]:
        one = EffectiveModels.one(scored.fraction, left_out=protocol == "left-out")
        median = typical_column(pilot, protocol=protocol).wrong if pilot.n_models >= MIN_PILOT else math.nan
        yield f"{words} examples of median noise", one, median
        yield f"{words} examples at worst", one, 0.5


MIN_SECONDS, MIN_BLOCKS, MAX_BLOCKS = 3.0, 4, 64
N_SETS, N_SEEDS = 2, 16


class _MeasuredBlocks(NamedTuple):
    """Models of a design and how long they took. compile_seconds: how much longer the first block took than the others."""

    outcomes: Outcomes
    models_per_second: float
    compile_seconds: float


def _measure_blocks(
    ensemble: Ensemble, dataset: Dataset, designs: Mapping[Design, float], progress: Progress, n_blocks: int
) -> _MeasuredBlocks:
    """Train blocks of models, of the designs in turns: at least `n_blocks` of each and, up to 64, 3 seconds.

    Args:
        designs: With the fraction of the models of a run that each is of. Outcomes are those of the first, without models
            that did not stay finite; the others count for the time.
        progress: Told of the models of the first `n_blocks`; the others take 3 seconds at most.
    """
    scored, size = next(iter(designs)), ensemble.models_per_batch
    blocks, seconds = [], {one: list[float]() for one in designs}

    def enough() -> bool:
        if len(blocks) < n_blocks:
            return False
        return sum(map(sum, seconds.values())) - seconds[scored][0] >= MIN_SECONDS or len(blocks) >= MAX_BLOCKS

    while not enough():
        models = np.arange(len(blocks) * size, (len(blocks) + 1) * size)
        keys = model_keys(0, "design", models)
        for one in designs:
            masks = draw_masks(one, models.tolist(), n_train=dataset.n_train, seed=0)
            start = time.perf_counter()
            trained = ensemble.train(keys, masks)
            seconds[one].append(time.perf_counter() - start)
            progress.update(size if len(seconds[one]) <= n_blocks else 0)
            if one is scored:
                finite = trained.finite
                blocks.append((masks[finite], trained.correct[finite], models[finite] // scored.period))
    masks, correct, strata = (np.concatenate(part) for part in zip(*blocks, strict=True))
    pilot = Outcomes(masks, correct, strata=strata if scored.period > 1 else None)
    medians = {one: float(np.median(some[1:])) for one, some in seconds.items()}
    of_block = sum(part * medians[one] for one, part in designs.items())
    return _MeasuredBlocks(pilot, size / of_block, max(0.0, seconds[scored][0] - medians[scored]))


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
    if not all(one.finite.all() for one in parts):
        return math.nan
    correct, margin = (np.concatenate([getattr(one, kind) for one in parts]) for kind in ("correct", "margin"))
    seeds = np.split(np.arange(len(masks)), 1 + N_SETS)
    full, *without = (Outcomes(masks[rows], correct[rows], margin[rows]) for rows in seeds)
    variances = []
    for ids, models in zip(sets, without, strict=True):
        drop = measure_effects(ForgetSet("random", tuple(ids.tolist())), full=full, without=models).replicates
        inside = np.isin(np.arange(dataset.n_columns), ids)
        weights = cross_weights(inside, n_train, held_out_only=dataset.is_documents)
        scatter = np.stack([drop[:, inside].mean(axis=1), drop @ weights / size])
        variances.append(scatter.var(axis=1, ddof=1))
    return math.sqrt(np.mean(variances, axis=0).max())

"""What does cheap attribution say of the influence that retraining measures?

    python experiments/approximations/run.py --work FOLDER   # about 8 minutes on two shared cores
    python experiments/approximations/run.py --small         # some seconds

1,000 digits, 50 of them with a wrong label, MLP 64-256-10. Gradient dot products, TracIn, TRAK, nearest neighbours, the
closed-form surrogate, and infl's own scores and predictors, against: influence of every pair (4,096 models of balanced
subsets of 70%), margins of models of other random halves of D (LDS, Park et al. 2023), and the regimes of forget sets by
retraining. `attribution.py` has the methods, `truth.py` the truth, `evaluation.py` the measures.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import attribution
import evaluation
import jax
import numpy as np
import truth
from record import argument_parser, cached, work_folder, write_results

import infl
from infl.records import Array, Dataset, Effects, ForgetSet, flat_pixels
from infl.scores.shrunk_influence import shrunk_influence
from infl.scores.surrogate import Surrogate, fit_surrogate, leave_one_out_influence
from infl.untraining.effects import fit_predictor

CHECKPOINTS = (1, 3, 10, 30)
FEATURES_OF_TRAK = 512
NEIGHBOURS = 5
MIN_SHRUNK, MAX_SHRUNK = 40, 100  # fewer tell too little for a prior; more take a while


@dataclass(frozen=True)
class Answer:
    """What a method says; either of the three may be None, and what follows from `scores` by sums is then taken from them.

    scores: of pairs, [n, n+m]. of_subsets: margins on H of models of each subset, up to a constant per column, [subsets, m].
    of_sets: effects of untraining each forget set; as an array [sets, n+m], up to one factor.
    """

    scores: Array | None = None
    of_subsets: Array | None = None
    of_sets: list[Effects] | Array | None = None


@dataclass(frozen=True)
class Method:
    """A method, the models that it takes, and how to ask it."""

    name: str
    trainings: int
    ask: Callable[[], Answer]


def main() -> None:
    """Train what is missing, ask every method, write results.json."""
    options = argument_parser(__doc__, __file__, small="few models of few digits").parse_args()
    sizes = truth.SMALL if options.small else truth.FULL
    evaluation.RESAMPLES = sizes.resamples
    with work_folder(options) as work:
        # Both runs, the subsets and the forget sets are trained by one and the same program: compile it once.
        jax.config.update("jax_compilation_cache_dir", str(work / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        world = open_world(work, sizes, small=options.small)
        results = evaluate_all(world, sizes, work / "evaluated")
    write_results(options.out, results, "scikit-learn", "scipy")


@dataclass(frozen=True)
class World:
    """Everything that is trained, but for the models that gradients are taken of."""

    dataset: Dataset
    algorithm: infl.Algorithm
    scored: infl.Run
    grouped: infl.Run
    masks: Array
    margins: Array
    sets: list[ForgetSet]
    measured: list[Effects]


def open_world(work: Path, sizes: truth.Sizes, *, small: bool) -> World:
    """The two runs, the subsets and the forget sets, trained as far as they are not."""
    dataset, flipped = truth.make_dataset(sizes)
    algorithm = infl.Algorithm(hidden=(32,), epochs=10) if small else infl.Algorithm(hidden=(256,), epochs=30)
    given: dict[str, Any] = {"algorithm": algorithm, "quiet": small}
    design = infl.Design("balanced", 0.7)
    n_models = sizes.own + sizes.truth
    scored = infl.train(dataset, run=work / "scored", n_models=n_models, n_references=0, design=design, **given)
    n_references = sizes.seeds_of_set
    grouped = infl.train(dataset, run=work / "grouped", n_models=sizes.grouped, n_references=n_references, **given)
    masks, margins = truth.subset_margins(dataset, algorithm, sizes, work)
    sets = truth.choose_sets(dataset, flipped, scored.outcomes("design", range(sizes.own)).load(), sizes.sets)
    measured = truth.set_effects(grouped, sets, sizes, quiet=small)
    return World(dataset, algorithm, scored, grouped, masks, margins, sets, measured)


def evaluate_all(world: World, sizes: truth.Sizes, folder: Path) -> dict[str, Any]:
    """Every method by every measure, and what the truth itself would reach. Read from the folder where it is there."""
    measured = Measured(truth.halves(world.scored, sizes))
    rows = []
    for method in methods(world, sizes):
        path = folder / f"{method.name.replace(' ', '-')}-{method.trainings}.json"
        row = cached(path, partial(evaluate_method, method, world, measured))
        print(row, flush=True)
        if "sets_by_regime" in row:
            row["recall"] = evaluation.mean_recall(row["sets_by_regime"], row["right_by_regime"])
        rows.append(row)
    by_seed = np.swapaxes(world.margins, 0, 1)
    middle = len(by_seed) // 2
    seeds = evaluation.rank_correlations(by_seed[:middle].mean(axis=0), by_seed[middle:].mean(axis=0))
    ceilings = {**measured.ceilings(world.dataset), "lds": evaluation.attainable(float(seeds.mean()))}
    regimes = [evaluation.most_probable(infl.judge(one)) for one in world.measured]
    summary = {
        "attainable": ceilings,
        "methods": {row["method"]: {key: row.get(key) for key in SUMMARIZED} for row in rows},
        "regimes_measured": {name: regimes.count(name) for name in sorted(set(regimes))},
    }
    return {
        "summary": summary,
        "methods": rows,
        "sets": [{"name": one.forget_set.name, "size": len(one.forget_set), "regime": regime, "models": one.n_models}
                 for one, regime in zip(world.measured, regimes, strict=True)],
        "sizes": vars(sizes),
    }  # fmt: skip


CORRELATIONS = ("rank_correlation", "rank_correlation_within_class", "rank_correlation_probability")
SUMMARIZED = ("trainings", *CORRELATIONS, "lds", "recall")


class Measured:
    """Influence on H by models that no method has seen: in margins and in probability; and by each half of them."""

    def __init__(self, halves: list[infl.Outcomes]) -> None:
        self.margin = [infl.influence(half, outcome="margin").value for half in halves]
        self.correct = [infl.influence(half).value for half in halves]
        right = np.concatenate([half.of("correct")[:, half.n_train :] for half in halves]).mean(axis=0)
        self.varied = (right > 0.05) & (right < 0.95)

    def compare(self, scores: Array, dataset: Dataset) -> dict[str, Array]:
        """Rank correlations of each column: over all sources, over those of its class, and with influence on probability."""
        return self._correlate((scores, np.mean(self.margin, axis=0)), (scores, np.mean(self.correct, axis=0)), dataset)

    def ceilings(self, dataset: Dataset) -> dict[str, float]:
        """What scores that are the truth would reach, from the correlation of the halves."""
        between = self._correlate(tuple(self.margin), tuple(self.correct), dataset)
        return {name: evaluation.attainable(float(values.mean())) for name, values in between.items()}

    def _correlate(self, margins: tuple[Array, ...], chances: tuple[Array, ...], dataset: Dataset) -> dict[str, Array]:
        one, other = margins
        found = (
            evaluation.rank_correlations(one, other),
            evaluation.within_classes(one, other, dataset.y_train, dataset.y_held_out),
            evaluation.rank_correlations(chances[0][:, self.varied], chances[1][:, self.varied]),
        )
        return dict(zip(CORRELATIONS, found, strict=True))


def evaluate_method(method: Method, world: World, measured: Measured) -> dict[str, Any]:
    """CPU seconds, rank correlations with measured influence, LDS, and regimes, as far as its answer says anything of them."""
    dataset, n, start = world.dataset, world.dataset.n_train, time.process_time()
    answer = method.ask()
    found: dict[str, Any] = {"method": method.name, "trainings": method.trainings}
    found["seconds"] = time.process_time() - start
    subsets, of_sets = answer.of_subsets, answer.of_sets
    if answer.scores is not None:
        scores = np.nan_to_num(answer.scores)
        columns = measured.compare(scores[:, n:], dataset)
        found |= {name: evaluation.over_columns(values) for name, values in columns.items()}
        subsets = world.masks.astype(np.float32) @ scores[:, n:] if subsets is None else subsets
        of_sets = evaluation.summed_effects(scores, world.sets) if of_sets is None else of_sets
    if subsets is not None:
        found["lds"] = evaluation.linear_datamodeling_score(subsets, world.margins.mean(axis=1))
    if of_sets is not None:
        fitting, evaluated = np.arange(0, len(world.sets), 3), np.flatnonzero(np.arange(len(world.sets)) % 3)
        if isinstance(of_sets, np.ndarray):
            scale = evaluation.fitted_scale(of_sets[fitting], [world.measured[k] for k in fitting])
            found["scale"] = scale
            of_sets = [evaluation.as_effects(scale * row, s, n) for row, s in zip(of_sets, world.sets, strict=True)]
        found |= evaluation.regime_scores([of_sets[k] for k in evaluated], [world.measured[k] for k in evaluated])
    return found


def methods(world: World, sizes: truth.Sizes) -> Iterator[Method]:
    """All of them, from those that train nothing to those that train most."""
    dataset, n = world.dataset, world.dataset.n_train
    labels, pixels = dataset.labels, flat_pixels(dataset.images)
    surrogate = fit_surrogate(dataset.images, labels, n_train=n, n_classes=dataset.n_classes)
    yield Method("same label", 0, lambda: Answer(attribution.same_label(labels, n)))
    yield Method("k-NN, pixels", 0, lambda: Answer(attribution.nearest_neighbours(pixels, labels, n, k=NEIGHBOURS)))
    yield Method("surrogate, pairs summed", 0, lambda: Answer(surrogate_scores(surrogate)))
    yield Method("surrogate, refitted", 0, lambda: surrogate_refits(surrogate, world))
    for n_models in sizes.ensembles:
        yield from gradient_methods(world, n_models)
    for n_models in sizes.scores_from:
        outcomes = world.scored.outcomes("design", range(n_models)).load()
        yield Method("infl scores, probabilities", n_models, partial(plain_scores, outcomes, "correct"))
        yield Method("infl scores, margins", n_models, partial(plain_scores, outcomes, "margin"))
        if MIN_SHRUNK <= n_models <= MAX_SHRUNK:
            yield Method("infl scores, shrunk", n_models, partial(shrunk_scores, outcomes, surrogate))
    for n_models in sorted({min(64, sizes.grouped), sizes.grouped}):
        n_all = n_models + len(world.grouped.complete("full"))
        for name in ("additive", "combined"):
            yield Method(f"infl predictor, {name}", n_all, partial(ask_predictor, world, name, n_models))


def gradient_methods(world: World, n_models: int) -> Iterator[Method]:
    """Those that take gradients or features of models of D; scores of several models are averaged."""
    dataset, algorithm, n = world.dataset, world.algorithm, world.dataset.n_train

    @cache
    def paths() -> list[list[Any]]:
        epochs = [e for e in CHECKPOINTS if e < algorithm.epochs] + [algorithm.epochs]
        return [attribution.train_weights(algorithm, dataset, seed=seed, epochs=epochs) for seed in range(n_models)]

    def averaged(score: Callable[[list[Any]], Array]) -> Answer:
        return Answer(sum((score(path) / n_models for path in paths()), np.zeros((n, dataset.n_columns), np.float32)))

    def dot(layers: str, path: list[Any]) -> Array:
        return attribution.gradient_dot(algorithm, path[-1], dataset, layers=layers)

    def neighbours(path: list[Any]) -> Array:
        features = attribution.penultimate(algorithm, path[-1], dataset)
        return attribution.nearest_neighbours(features, dataset.labels, n, k=NEIGHBOURS)

    def trak() -> Answer:
        of_log_odds = (attribution.gradients(algorithm, path[-1], dataset, "log-odds") for path in paths())
        right = [attribution.right_probabilities(algorithm, path[-1], dataset) for path in paths()]
        return Answer(attribution.trak(of_log_odds, right, n, n_features=min(FEATURES_OF_TRAK, n // 2)))

    yield Method("k-NN, features", n_models, lambda: averaged(neighbours))
    yield Method("gradient dot, last layer", n_models, lambda: averaged(partial(dot, "last")))
    yield Method("gradient dot, all layers", n_models, lambda: averaged(partial(dot, "all")))
    yield Method("TracIn", n_models, lambda: averaged(lambda path: attribution.tracin(algorithm, path, dataset)))
    yield Method("TRAK", n_models, trak)


def surrogate_scores(surrogate: Surrogate) -> Array:
    """Change of margin when one example is left out of D; of itself, its margin as a member less that without it."""
    n = surrogate.n_train
    scores = leave_one_out_influence(surrogate, fraction=1.0, n_subsets=1)
    scores[np.arange(n), np.arange(n)] = member_margins(surrogate) - surrogate.margins(np.array([], int))[:n]
    return scores


def surrogate_refits(surrogate: Surrogate, world: World) -> Answer:
    """Margins on H of refits to the subsets, and falls of margin of refits without the forget sets."""
    n = surrogate.n_train
    of_subsets = np.stack([surrogate.margins(np.flatnonzero(~mask))[n:] for mask in world.masks])
    with_all = surrogate.margins(np.array([], int))
    with_all[:n] = member_margins(surrogate)
    of_sets = np.zeros((len(world.sets), len(with_all)))
    for row, one in zip(of_sets, world.sets, strict=True):
        ids = np.array(one.ids)
        fall = with_all - surrogate.margins(ids)
        row[n:], row[ids] = fall[n:], fall[ids]
    return Answer(of_subsets=of_subsets, of_sets=of_sets)


def member_margins(surrogate: Surrogate) -> Array:
    """Margins of the fit to D on D itself, [n]."""
    n = surrogate.n_train
    scores, labels, rows = surrogate.kernel[:n] @ surrogate.weights, surrogate.labels[:n], np.arange(n)
    own, others = scores[rows, labels], scores.copy()
    others[rows, labels] = -np.inf
    return own - others.max(axis=1)


def plain_scores(outcomes: infl.Outcomes, outcome: Any) -> Answer:
    """Memorization on the diagonal, influence read left-out and held-out beside it."""
    left_out = infl.influence(outcomes, protocol="left-out", outcome=outcome).value
    np.fill_diagonal(left_out, infl.memorization(outcomes, outcome=outcome).value)
    return Answer(np.concatenate([left_out, infl.influence(outcomes, outcome=outcome).value], axis=1))


def shrunk_scores(outcomes: infl.Outcomes, surrogate: Surrogate) -> Answer:
    """The same, influence shrunk; in probability."""
    left_out = shrunk_influence(outcomes, protocol="left-out", surrogate=surrogate)[1].value
    np.fill_diagonal(left_out, infl.memorization(outcomes).value)
    return Answer(np.concatenate([left_out, shrunk_influence(outcomes, surrogate=surrogate)[1].value], axis=1))


def ask_predictor(world: World, name: Any, n_models: int) -> Answer:
    """A predictor of infl from so many models of subsets, half of them grouped, and all models of D that the run holds.

    It is asked for forget sets alone: half of D is no set that one untrains.
    """
    run, dataset = world.grouped, world.dataset
    fitted = fit_predictor(
        name,
        sources=[run.outcomes(collection, range(n_models // 2)).load() for collection in ("design", "grouped")],
        reference=run.outcomes("full").load(),
        images=dataset.images,
        labels=dataset.labels,
        n_classes=dataset.n_classes,
    )
    return Answer(of_sets=list(fitted(world.sets)))


if __name__ == "__main__":
    main()

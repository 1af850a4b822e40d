"""What does cheap attribution say of the influence that retraining measures?

    python experiments/approximations/run.py --work FOLDER   # TIME on two cores; models are kept in FOLDER
    python experiments/approximations/run.py --small         # some seconds

1,000 digits, 50 of them with a wrong label, MLP 64-256-10. Gradient dot products, TracIn, TRAK, nearest neighbours, the
closed-form surrogate, and infl's own scores and predictors, against: influence of every pair (4,096 models of balanced
subsets of 70%), margins of models of other random halves of D (LDS, Park et al. 2023), and the regimes of forget sets by
retraining. `attribution.py` has the methods, `truth.py` the truth, `judging.py` the measures, `page.py` writes README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
import attribution
import jax
import judging
import numpy as np
import truth
from record import surroundings, write_results

import infl
from infl.records import Array, Dataset, Effects, ForgetSet, flat_pixels
from infl.surrogate import Surrogate, leave_one_out_influence
from infl.untraining.effects import fit_predictor

CHECKPOINTS = (1, 3, 10, 30)
FEATURES_OF_TRAK = 512
NEIGHBOURS = 5


@dataclass(frozen=True)
class Method:
    """What one method says. scores: of pairs [n, n+m]. sums: of D without a subset, the margins it expects, [subsets, m], up to
    a constant per column. effects: of forget sets, [sets, n+m], up to one factor. Either of the three may be None."""

    name: str
    trainings: int
    seconds: float
    scores: Array | None = None
    of_subsets: Array | None = None
    of_sets: list[Effects] | Array | None = None


def main() -> None:
    """Train what is missing, ask every method, write results.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="few models of few digits")
    parser.add_argument("--work", type=Path, help="folder of the models; a temporary one by default")
    parser.add_argument("--stage", choices=["train", "judge"], help="only this stage")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    options = parser.parse_args()
    sizes = truth.SMALL if options.small else truth.FULL
    judging.RESAMPLES = sizes.resamples
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or Path(temporary)
        # Both runs, the subsets and the forget sets are trained by one and the same program: compile it once.
        jax.config.update("jax_compilation_cache_dir", str(work / "programs"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
        world = open_world(work, sizes, small=options.small)
        if options.stage != "train":
            results = judge_all(world, sizes)
            write_results(options.out, {**results, **surroundings("scikit-learn", "scipy")})


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


def judge_all(world: World, sizes: truth.Sizes) -> dict[str, Any]:
    """Every method by every measure, and what the truth itself would reach."""
    halves = truth.halves(world.scored, sizes)
    measured = Measured(halves)
    rows = []
    for method in methods(world, sizes):
        rows.append({"method": method.name, "trainings": method.trainings, "seconds": round(method.seconds, 2),
                     **judge_method(method, world, measured)})  # fmt: skip
        print(json.dumps(rows[-1]), flush=True)
    by_seed = np.swapaxes(world.margins, 0, 1)
    middle = len(by_seed) // 2
    seeds = judging.rank_correlations(by_seed[:middle].mean(axis=0), by_seed[middle:].mean(axis=0))
    ceilings = {**measured.ceilings(world.dataset), "lds": judging.attainable(float(seeds.mean()))}
    most = [judging.most_probable(infl.judge(one)) for one in world.measured]
    summary = {
        "attainable": {name: round(value, 4) for name, value in ceilings.items()},
        "methods": {row["method"]: {key: row.get(key) for key in SUMMARIZED} for row in rows},
        "regimes_measured": {name: most.count(name) for name in sorted(set(most))},
    }
    return {
        "summary": summary,
        "methods": rows,
        "sets": [{"name": one.forget_set.name, "size": len(one.forget_set), "regime": regime, "models": one.n_models}
                 for one, regime in zip(world.measured, most, strict=True)],
        "sizes": vars(sizes),
    }  # fmt: skip


SUMMARIZED = (
    "trainings",
    "rank_correlation",
    "rank_correlation_within_class",
    "rank_correlation_probability",
    "lds",
    "recall",
)


class Measured:
    """Influence on H by models that no method has seen: in margins and in probability; and by each half of them."""

    def __init__(self, halves: list[infl.Outcomes]) -> None:
        self.margin = [infl.influence(half, outcome="margin").value for half in halves]
        self.correct = [infl.influence(half).value for half in halves]
        right = np.concatenate([half.of("correct")[:, half.n_train :] for half in halves]).mean(axis=0)
        self.varied = (right > 0.05) & (right < 0.95)

    def compare(self, scores: Array, dataset: Dataset) -> dict[str, Array]:
        """Rank correlations of each column: over all sources, over those of its class, and with influence on probability."""
        margin, varied = np.mean(self.margin, axis=0), self.varied
        return {
            "rank_correlation": judging.rank_correlations(scores, margin),
            "rank_correlation_within_class": within_classes(scores, margin, dataset),
            "rank_correlation_probability": judging.rank_correlations(
                scores[:, varied], np.mean(self.correct, axis=0)[:, varied]
            ),
        }

    def ceilings(self, dataset: Dataset) -> dict[str, float]:
        """What scores that are the truth would reach, from the correlation of the halves."""
        chances = [half[:, self.varied] for half in self.correct]
        between = {
            "rank_correlation": judging.rank_correlations(*self.margin),
            "rank_correlation_within_class": within_classes(self.margin[0], self.margin[1], dataset),
            "rank_correlation_probability": judging.rank_correlations(*chances),
        }
        return {name: judging.attainable(float(values.mean())) for name, values in between.items()}


def within_classes(scores: Array, truth: Array, dataset: Dataset) -> Array:
    """Of each column, over the sources of its class."""
    return judging.within_classes(scores, truth, dataset.y_train, dataset.y_held_out)


def judge_method(method: Method, world: World, measured: Measured) -> dict[str, Any]:
    """Rank correlations with measured influence, LDS, and regimes, as far as the method says anything of them."""
    dataset, n = world.dataset, world.dataset.n_train
    found: dict[str, Any] = {}
    subsets, of_sets = method.of_subsets, method.of_sets
    if method.scores is not None:
        scores = np.nan_to_num(method.scores)
        columns = measured.compare(scores[:, n:], dataset)
        found |= {name: judging.over_columns(values).rounded() for name, values in columns.items()}
        subsets = world.masks.astype(np.float32) @ scores[:, n:] if subsets is None else subsets
        of_sets = judging.summed_effects(scores, world.sets) if of_sets is None else of_sets
    if subsets is not None:
        found["lds"] = judging.linear_datamodeling_score(subsets, world.margins.mean(axis=1)).rounded()
    if of_sets is not None:
        fitting, judged = np.arange(0, len(world.sets), 3), np.flatnonzero(np.arange(len(world.sets)) % 3)
        if isinstance(of_sets, np.ndarray):
            scale = judging.fitted_scale(of_sets[fitting], [world.measured[k] for k in fitting])
            found["scale"] = scale
            of_sets = [judging.as_effects(scale * row, s, n) for row, s in zip(of_sets, world.sets, strict=True)]
        found |= judging.regime_scores([of_sets[k] for k in judged], [world.measured[k] for k in judged])
    return found


def methods(world: World, sizes: truth.Sizes) -> Iterator[Method]:
    """All of them, one after another, each with its cost in trainings of D and in CPU seconds beside them."""
    dataset, n = world.dataset, world.dataset.n_train
    labels, images = dataset.labels, dataset.images
    yield Method("same label", 0, *timed(lambda: attribution.same_label(labels, n)))
    pixels = flat_pixels(images)
    yield Method("k-NN, pixels", 0, *timed(lambda: attribution.nearest_neighbours(pixels, labels, n, k=NEIGHBOURS)))
    for n_models in sizes.ensembles:
        yield from gradient_methods(world, n_models)
    surrogate = infl.fit_surrogate(images, labels, n_train=n, n_classes=dataset.n_classes)
    yield Method("surrogate, pairs summed", 0, *timed(lambda: surrogate_scores(surrogate)))
    seconds, (of_subsets, of_sets) = timed(lambda: surrogate_refits(surrogate, world))
    yield Method("surrogate, refitted", 0, seconds, of_subsets=of_subsets, of_sets=of_sets)
    for n_models in sizes.scores_from:
        outcomes = world.scored.outcomes("design", range(n_models)).load()
        for outcome in ("margin", "correct"):
            name = f"infl scores, {'margins' if outcome == 'margin' else 'probabilities'}"
            yield Method(name, n_models, *timed(lambda: plain_scores(outcomes, outcome)))  # noqa: B023
        if n_models <= 500:
            yield Method("infl scores, shrunk", n_models, *timed(lambda: shrunk_scores(outcomes, surrogate)))  # noqa: B023
    for n_models in sorted({min(64, sizes.grouped), sizes.grouped}):
        for name in ("additive", "combined"):
            yield predictor_method(world, name, n_models)


def gradient_methods(world: World, n_models: int) -> Iterator[Method]:
    """Those that take gradients or features of models of D; scores of several models are averaged."""
    dataset, algorithm, n = world.dataset, world.algorithm, world.dataset.n_train
    epochs = [e for e in CHECKPOINTS if e < algorithm.epochs] + [algorithm.epochs]
    models = [attribution.train_weights(algorithm, dataset, seed=seed, epochs=epochs) for seed in range(n_models)]
    final = [checkpoints[-1] for checkpoints in models]

    def averaged(score: Callable[[Any], Array], of: list[Any] = final) -> tuple[float, Array]:
        return timed(lambda: sum((score(one) for one in of[1:]), score(of[0])) / len(of))

    def dot(weights: Any, layers: str) -> Array:
        return attribution.gradient_dot(attribution.gradients(algorithm, weights, dataset, "loss", layers=layers), n)

    def neighbours(weights: Any) -> Array:
        features = attribution.penultimate(algorithm, weights, dataset)
        return attribution.nearest_neighbours(features, dataset.labels, n, k=NEIGHBOURS)

    def trak() -> Array:
        of_log_odds = (attribution.gradients(algorithm, weights, dataset, "log-odds") for weights in final)
        right = [attribution.right_probabilities(algorithm, weights, dataset) for weights in final]
        return attribution.trak(of_log_odds, right, n, n_features=min(FEATURES_OF_TRAK, n // 2))

    yield Method("k-NN, features", n_models, *averaged(neighbours))
    yield Method("gradient dot, last layer", n_models, *averaged(lambda weights: dot(weights, "last")))
    yield Method("gradient dot, all layers", n_models, *averaged(lambda weights: dot(weights, "all")))
    yield Method("TracIn", n_models, *averaged(lambda path: attribution.tracin(algorithm, path, dataset), models))
    yield Method("TRAK", n_models, *timed(trak))


def surrogate_scores(surrogate: Surrogate) -> Array:
    """Change of margin when one example is left out of D; of itself, its margin as a member less that without it."""
    n = surrogate.n_train
    scores = leave_one_out_influence(surrogate, fraction=1.0, n_subsets=1)
    scores[np.arange(n), np.arange(n)] = member_margins(surrogate) - surrogate.margins(np.array([], int))[:n]
    return scores


def surrogate_refits(surrogate: Surrogate, world: World) -> tuple[Array, Array]:
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
    return of_subsets, of_sets


def member_margins(surrogate: Surrogate) -> Array:
    """Margins of the fit to D on D itself, [n]."""
    n = surrogate.n_train
    scores, labels, rows = surrogate.kernel[:n] @ surrogate.weights, surrogate.labels[:n], np.arange(n)
    own, others = scores[rows, labels], scores.copy()
    others[rows, labels] = -np.inf
    return own - others.max(axis=1)


def plain_scores(outcomes: infl.Outcomes, outcome: Any) -> Array:
    """Memorization on the diagonal, influence read left-out and held-out beside it."""
    left_out = infl.influence(outcomes, reading="left-out", outcome=outcome).value
    np.fill_diagonal(left_out, infl.memorization(outcomes, outcome=outcome).value)
    return np.concatenate([left_out, infl.influence(outcomes, outcome=outcome).value], axis=1)


def shrunk_scores(outcomes: infl.Outcomes, surrogate: Surrogate) -> Array:
    """The same, influence shrunk; in probability."""
    left_out = infl.shrunk_influence(outcomes, reading="left-out", surrogate=surrogate)[1].value
    np.fill_diagonal(left_out, infl.memorization(outcomes).value)
    return np.concatenate([left_out, infl.shrunk_influence(outcomes, surrogate=surrogate)[1].value], axis=1)


def predictor_method(world: World, name: Any, n_models: int) -> Method:
    """A predictor of infl from so many models of subsets, with as many models of D as retraining used."""
    run, dataset = world.grouped, world.dataset
    shares = {"design": n_models // 2, "grouped": n_models // 2}
    subsets = [ForgetSet(f"subset {k}", tuple(map(int, np.flatnonzero(~mask)))) for k, mask in enumerate(world.masks)]

    def predict() -> list[Effects]:
        fitted = fit_predictor(
            name,
            sources=[run.outcomes(collection, range(count)).load() for collection, count in shares.items()],
            reference=run.outcomes("full").load(),
            images=dataset.images,
            labels=dataset.labels,
            n_classes=dataset.n_classes,
            batch_size=world.algorithm.batch_size,
        )
        return list(fitted.predict([*world.sets, *subsets]))

    seconds, effects = timed(predict)
    of_sets, of_subsets = effects[: len(world.sets)], effects[len(world.sets) :]
    remaining = -np.stack([one.effect[dataset.n_train :] for one in of_subsets])
    references = len(run.complete("full"))
    return Method(f"infl predictor, {name}", n_models + references, seconds, of_subsets=remaining, of_sets=of_sets)


def timed(do: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds, and what was done."""
    start = time.process_time()
    done = do()
    return time.process_time() - start, done


if __name__ == "__main__":
    main()

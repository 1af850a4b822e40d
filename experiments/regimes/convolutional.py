"""Are regimes of convolutional networks predicted, and does it help to look through their own features?

    python experiments/regimes/convolutional.py --cifar cifar10_small.npz --work FOLDER   # four hours on one core; resumable

2,000 images at half their resolution with 3% of the labels flipped and all that worlds.py plants: a small CNN on
Fashion-MNIST, and one with batch norm and flipped images on CIFAR-10, each trained from a draw and fine-tuned from weights that
were trained on other images. A sample of the sets of all generators is retrained without. Predictors that look at pixels, at
features of models of D, at both, and sums of single influences are compared with that. Results go into results.json, under
`convolutional`.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from fashion import FASHION, half_size
from record import add_worlds, argument_parser, cached, work_folder
from run import truth
from scoring import score
from worlds import World, make_dataset, stored_sets

import infl
from infl.pipeline.weights import network_features
from infl.records import Dataset, Effects, ForgetSet
from infl.scores.surrogate import fit_surrogate
from infl.training.adapters import adapt_linen
from infl.training.kernels.pooling import convolve_and_pool
from infl.training.networks import Network
from infl.untraining.additive import predict_additive
from infl.untraining.effects import ResponsePredictor, fit_predictor
from infl.untraining.regimes import judge
from infl.untraining.support import RIDGES

N_SETS, N_WEIGHTS, N_MODELS = 60, 16, 512
N_OTHERS = 5000  # images that start weights are trained on, at most
FINE_TUNED = ", fine-tuned"


class BatchNormCnn(nn.Module):
    """The built-in `cnn` of 8 and 16 channels and 32 hidden units, with batch norm after the convolutions."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, until_readout: bool = False) -> jax.Array:
        """Logits, or the input of the last layer."""
        for width in (8, 16):
            kernel = self.param(f"kernel{width}", nn.initializers.he_normal(), (3, 3, x.shape[-1], width))
            x = convolve_and_pool(x, kernel)
            x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x))
        x = nn.relu(nn.Dense(32, kernel_init=nn.initializers.he_normal())(x.reshape(len(x), -1)))
        return x if until_readout else nn.Dense(10)(x)


def batch_norm_cnn() -> Network:
    """The module as a network that tells its features."""
    module, network = BatchNormCnn(), adapt_linen(BatchNormCnn(), {"train": True})

    def features(variables: tuple[dict, dict], x: jax.Array) -> jax.Array:
        return module.apply({"params": variables[0], **variables[1]}, x, until_readout=True)  # pyright: ignore

    return replace(network, name="cnn with batch norm", features=features)


def make_worlds(cifar: Path) -> list[World]:
    """The two worlds, each trained from a draw and fine-tuned, for a quarter of the epochs."""
    plain = {"network": "cnn", "widths": (8, 16), "hidden": (32,), "epochs": 20, "schedule": "cosine"}
    flip = {
        "network": batch_norm_cnn(),
        "epochs": 20,
        "schedule": "cosine",
        "augmentation": infl.Augmentation(flip=True),
    }
    planted = {"flipped": 0.03, "share": 0.2, "half": True}
    drawn = [
        World("cifar-batch-norm", str(cifar), 2000, 1000, flip, data_seed=1, seeds=30, **planted),
        World("fashion-cnn", FASHION, 2000, 1000, plain, seeds=12, **planted),
    ]
    tuned = [replace(one, name=one.name + FINE_TUNED, algorithm={**one.algorithm, "epochs": 5}) for one in drawn]
    return [*drawn, *tuned]


def main() -> None:
    """Train what is missing, compare, and write the part."""
    parser = argument_parser(__doc__, __file__, small="one little world, from a draw and fine-tuned")
    parser.add_argument("--cifar", type=Path, help="an .npz with images of CIFAR-10")
    parser.add_argument("--stage", choices=["train", "compare"], help="only this stage")
    parser.add_argument("--worlds", nargs="*", help="only these")
    options = parser.parse_args()
    tiny = World("tiny", "digits", 200, 100, {"epochs": 2}, share=0.02, seeds=8)
    worlds = [tiny, replace(tiny, name=tiny.name + FINE_TUNED)] if options.small else make_worlds(options.cifar)
    with work_folder(options) as work:
        for world in worlds:
            if options.worlds and world.name not in options.worlds:
                continue
            world = replace(world, algorithm=with_start(world, work))
            if options.stage != "compare":
                train_world(world, 32 if options.small else N_MODELS, work / world.name)
            if options.stage != "train":
                add_worlds(options.out, "convolutional", {world.name: compare(world, work / world.name)})


def with_start(world: World, work: Path) -> dict[str, Any]:
    """Settings of the algorithm; with start weights, trained on images outside D and H, where the world is fine-tuned."""
    if not world.name.endswith(FINE_TUNED):
        return world.algorithm
    folder = work / f"{world.name} from"
    weights = folder / "weights/full/0.safetensors"
    if not weights.exists():
        taken, whole = make_dataset(world)[0], infl.load(world.source)
        there, n = np.setdiff1d(np.arange(whole.n_train), taken.train_ids)[:N_OTHERS], whole.n_train
        images, labels = whole.images, whole.labels
        others = infl.from_arrays(images[there], labels[there], images[n:], labels[n:])
        others = half_size(others, "others") if world.half else others
        algorithm = infl.Algorithm(**{**world.algorithm, "epochs": 20})
        infl.train(others, run=folder, n_models=1, n_references=1, algorithm=algorithm)
        infl.keep_weights(folder, algorithm=algorithm)
    return {**world.algorithm, "start": weights}


def train_world(world: World, n_models: int, folder: Path) -> None:
    """Train the models of subsets and of D, and those without each of a sample of its sets."""
    dataset, planted = make_dataset(world)
    algorithm = infl.Algorithm(**world.algorithm)
    infl.train(dataset, run=folder, n_models=1, n_references=0, algorithm=algorithm)
    infl.keep_weights(folder, n_models=N_WEIGHTS, algorithm=algorithm)
    run = infl.train(run=folder, n_models=n_models, n_references=64, algorithm=algorithm)
    sets = sample(stored_sets(world, dataset, planted, run))
    for _ in infl.verify_effects(run, sets, n_models=world.seeds, stop=None, algorithm=algorithm):
        pass  # outcomes stay in the folder


def sample(sets: list[ForgetSet]) -> list[ForgetSet]:
    """Some of the sets of a world."""
    return [sets[i] for i in np.random.RandomState(0).permutation(len(sets))[:N_SETS]]


def compare(world: World, folder: Path) -> dict[str, Any]:
    """What each predictor says of the sets, beside what retraining says."""
    run = infl.open_run(folder)
    dataset, reference = run.dataset(), run.outcomes("full").load()
    measured = truth(folder, min_seeds=world.seeds)
    sets = [one.forget_set for one in measured]
    design, grouped = (run.outcomes(name).load() for name in ("design", "grouped"))
    features = network_features(run, dataset, infl.Algorithm(**world.algorithm))
    assert features is not None

    def predict(images: np.ndarray, of_networks: np.ndarray | None = None) -> dict[str, Any]:
        fitted = fit_predictor(
            sources=[design, grouped],
            reference=reference,
            images=images,
            labels=dataset.labels,
            n_classes=dataset.n_classes,
            features=of_networks,
        )
        assert isinstance(fitted, ResponsePredictor)
        return {"source": fitted.name, "held_out": fitted.errors.squared, **describe(list(fitted(sets)), measured)}

    looks = {"pixels": (dataset.images,), "chosen": (dataset.images, features), "features alone": (features,)}
    parts = {
        name: cached(folder / "predicted" / f"{name}.json", lambda given=given: predict(*given))
        for name, given in looks.items()
    }
    sums = [predict_additive(one, design=design, reference=reference) for one in sets]
    parts["sums"] = describe(sums, measured)
    return {
        "n": dataset.n_train,
        "models": [design.n_models, grouped.n_models, reference.n_models],
        "accuracy": [float((reference.of("margin")[:, part] > 0).mean()) for part in halves(dataset.n_train)],
        "closed_form": {
            name: support_accuracy(x, dataset) for name, x in (("pixels", dataset.images), ("features", features))
        },
        "predictors": parts,
        "measured": [f"{one.forget_set.name} ({len(one.forget_set)}): {compact(quantities(one))}" for one in measured],
    }


def halves(n_train: int) -> tuple[slice, slice]:
    """Columns of D, and of H."""
    return slice(n_train), slice(n_train, None)


def support_accuracy(x: np.ndarray, dataset: Dataset) -> list[float]:
    """How often the closed-form fit is right on an example of D without it, and on held-out examples."""
    fit = fit_surrogate(x, dataset.labels, n_train=dataset.n_train, n_classes=dataset.n_classes, ridge=RIDGES[0])
    margins = fit.margins(np.array([], int))
    return [float((margins[part] > 0).mean()) for part in halves(dataset.n_train)]


def describe(predicted: list[Effects], measured: list[Effects]) -> dict[str, Any]:
    """Scores by net and by harm, errors of sums over large sets, and one row a set."""
    result = score(predicted, measured, each=False)
    rows = [(quantities(p), quantities(t), p.forget_set) for p, t in zip(predicted, measured, strict=True)]
    flips = [p["self"][0] - t["self"][0] for p, t, one in rows if "flipped" in one.name]
    result["self of flips"] = float(np.nanmean(flips))
    return result | {"rows": [compact(p) for p, _, _ in rows]}


def compact(found: dict[str, list[float]]) -> str:
    """Values and errors in one line."""
    return ", ".join(f"{name} {value:.4g} {se:.3g}" for name, (value, se) in found.items())


def quantities(effects: Effects) -> dict[str, list[float]]:
    """Self, net and harm with their errors."""
    verdict = judge(effects)
    found = {"self": verdict.self_influence, "net": verdict.cross_influence, "harm": verdict.harm}
    return {name: [one.value, one.se] for name, one in found.items()}


if __name__ == "__main__":
    main()

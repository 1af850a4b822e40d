"""Do batch norm and dropout in infl's loop train the models that they train elsewhere?

    python experiments/networks/run.py --cifar cifar10_small.npz

A narrow ResNet-9 with batch norm and a perceptron with dropout (a linen module of a user) on 2,000 images each of Fashion-MNIST
and of CIFAR-10 (an .npz with x_train, y_train, x_test, y_test), at half their resolution: memorization by infl, and by an eager
loop of PyTorch of the same recipe with the same subsets, its own weights, orders and dropout. Also: left-out pixels set to NaN,
and the processor time of a language model in both.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parents[1]))
from fashion import half_size, half_size_fashion
from record import argument_parser, cached, mean_and_error, work_folder, write_results

import infl
from infl.training.ensemble import Ensemble, model_keys

HAS_TORCH = importlib.util.find_spec("torch") is not None
WIDTHS, HIDDEN, DROPPED, BATCH, RATE = (8, 8, 16, 16), 128, 0.2, 50, 0.05
FRACTION, SWAPS = 0.5, 400


class Dropped(nn.Module):
    """Two hidden layers with ReLU, each with dropout."""

    n_classes: int

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        """Logits."""
        x = x.reshape(len(x), -1)
        for _ in range(2):
            x = nn.relu(nn.Dense(HIDDEN, kernel_init=nn.initializers.he_normal())(x))
            x = nn.Dropout(DROPPED, deterministic=not train)(x)
        return nn.Dense(self.n_classes)(x)


def main() -> None:
    """Train the four worlds with both tools, try NaN, and time the language model."""
    parser = argument_parser(__doc__, __file__, small="digits, 4 models a tool; without PyTorch infl alone")
    parser.add_argument("--cifar", type=Path, help="an .npz with images of CIFAR-10")
    options = parser.parse_args()
    if options.small:
        data = {"digits": infl.load("digits", n_train=200, n_held_out=100)}  # floats, 8 x 8
    elif HAS_TORCH and options.cifar:
        data = {
            "Fashion-MNIST": half_size_fashion(2000, 500),
            "CIFAR-10": half_size(infl.load(str(options.cifar), n_train=2000, n_held_out=500), "cifar10, half size"),
        }
    else:
        parser.error("the full size needs PyTorch and --cifar FILE")
    n_models, worlds = 4 if options.small else 16, []
    with work_folder(options) as work:
        for name, dataset in data.items():
            for network, epochs in (("ResNet-9, batch norm", 10), ("perceptron, dropout", 20)):
                measure = partial(compare, dataset, network, 2 if options.small else epochs, n_models)
                worlds.append({"data": name, "network": network, **cached(work / f"{name}-{network}.json", measure)})
                print(worlds[-1], flush=True)
    batches = (8,) if options.small else (4, 8)
    speed = [language_speed(batch, 1 if options.small else 5, 1 if options.small else 4) for batch in batches]
    summary = {
        "nan_bits": sum(world["nan_bits"] for world in worlds),
        "apart": [world.get("apart") for world in worlds],
        "gpt_times_eager": [row.get("times_eager") for row in speed],
    }
    write_results(options.out, {"summary": summary, "worlds": worlds, "gpt": speed, "n_models": n_models}, "torch")


def compare(dataset: Any, network: str, epochs: int, n_models: int) -> dict[str, Any]:
    """Memorization of both tools from halves of models, and whether left-out NaN change a bit."""
    given: Any = (
        {"network": "resnet9", "widths": WIDTHS, "norm": "batch"} if "ResNet" in network else {"network": Dropped(10)}
    )
    algorithm = infl.Algorithm(
        **given, batch_size=BATCH, epochs=epochs, learning_rate=RATE, schedule="cosine", standardize=True
    )
    masks = np.random.default_rng(0).random((n_models, dataset.n_train)).argsort(axis=1) < FRACTION * dataset.n_train
    row: dict[str, Any] = {"n": dataset.n_train, "m": dataset.n_held_out, "epochs": epochs}
    ensemble = Ensemble(algorithm, dataset, infl.Layout(models_per_device=1, n_devices=1))
    ensemble.compile()
    start = time.process_time()
    trained = ensemble.train(model_keys(0, "design", np.arange(n_models)), masks)
    row["infl"] = describe_models(trained.correct > 0, masks, time.process_time() - start)
    row["nan_bits"] = changed_bits(ensemble, masks[0], trained.margin[0])
    if HAS_TORCH:
        start = time.process_time()
        correct = train_by_torch(network, dataset, masks, epochs)
        row["torch"] = describe_models(correct, masks, time.process_time() - start)
        row |= agreement(trained.correct[:, : dataset.n_train] > 0, correct[:, : dataset.n_train], masks)
    return row


def describe_models(correct: np.ndarray, masks: np.ndarray, seconds: float) -> dict[str, Any]:
    """What models of a tool get right, and the processor time of each."""
    n_models, n = masks.shape
    members = [right[mask].mean() for right, mask in zip(correct[:, :n], masks, strict=True)]
    return {
        "trained": mean_and_error(members),
        "held_out": mean_and_error(correct[:, n:].mean(axis=1)),
        "memorization": float(np.nanmean(memorization(correct[:, :n], masks))),
        "seconds": seconds / n_models,
    }


def train_by_torch(network: str, dataset: Any, masks: np.ndarray, epochs: int) -> np.ndarray:
    """Correctness by the eager loop, whose pixels are standardized by each model's own members as infl's."""
    from torch_loop import ResNet9, dropout_network
    from torch_loop import train_model as train_once

    x = dataset.images if dataset.images.ndim == 4 else dataset.images[..., None]
    build: Callable[[], Any] = (
        partial(ResNet9, x.shape[3], WIDTHS, 10)
        if "ResNet" in network
        else partial(dropout_network, x[0].size, HIDDEN, DROPPED, 10)
    )
    correct = []
    for number, mask in enumerate(masks):
        members = x[: len(mask)][mask]
        standard = (x - members.mean(axis=(0, 1, 2))) / members.std(axis=(0, 1, 2))
        correct.append(train_once(build, standard, dataset.labels, mask, number, rate=RATE, epochs=epochs, batch=BATCH))
    return np.stack(correct)


def memorization(correct: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Feldman's score of each example; NaN where all models have it, or none."""
    with np.errstate(invalid="ignore"):
        return (correct & masks).sum(0) / masks.sum(0) - (correct & ~masks).sum(0) / (~masks).sum(0)


def agreement(one: np.ndarray, other: np.ndarray, masks: np.ndarray) -> dict[str, Any]:
    """Rank correlation of memorization between disjoint halves of models: of one tool, and of one tool with the other.

    Both halves have other subsets, so the same is expected of both where the tools agree. `apart` is by how much two
    halves of one tool agree better, with its deviation where chance swaps the tools of a subset; `p` how often that makes more.
    """
    half = len(masks) // 2

    def correlations(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        scores = [
            memorization(tool[part], masks[part]) for tool in (one, other) for part in (slice(half), slice(half, None))
        ]
        known = np.isfinite(scores).all(axis=0)
        return np.asarray(stats.spearmanr(np.asarray(scores)[:, known], axis=1)[0])

    def apart(rho: np.ndarray) -> float:
        return float((rho[0, 1] + rho[2, 3] - rho[0, 3] - rho[1, 2]) / 2)

    rho, random = correlations(one, other), np.random.default_rng(1)
    swapped = []
    for _ in range(SWAPS):
        swap = random.random((len(masks), 1)) < 0.5
        swapped.append(apart(correlations(np.where(swap, other, one), np.where(swap, one, other))))
    found = apart(rho)
    return {
        "within": {"infl": rho[0, 1], "torch": rho[2, 3]},
        "between": [rho[0, 3], rho[1, 2]],
        "apart": [found, float(np.std(swapped))],
        "p": float((1 + np.sum(np.asarray(swapped) >= found)) / (1 + SWAPS)),
    }


def changed_bits(ensemble: Ensemble, mask: np.ndarray, margins: np.ndarray) -> int:
    """Margins of members and held-out images, of the model of seed 0, that change when all left-out pixels become NaN."""
    dataset = ensemble.dataset
    left_out = np.concatenate([~mask, np.zeros(dataset.n_held_out, bool)])
    images = ensemble._images
    spoiled = jnp.where(left_out.reshape(-1, *[1] * (images.ndim - 1)), jnp.nan, images)
    ensemble._images = jax.device_put(spoiled, images.sharding)  # the same program on other data
    after = ensemble.train(model_keys(0, "design", np.arange(1)), mask[None]).margin[0]
    return int((after != margins)[~left_out].sum())


def language_speed(batch: int, repeats: int, epochs: int) -> dict[str, Any]:
    """Processor seconds of a language model on verses, by infl and by eager PyTorch on one core, in turns."""
    data = infl.load("verses", n_train=400, n_held_out=200)
    algorithm = infl.Algorithm(
        "gpt", optimizer="adam", learning_rate=0.003, schedule="cosine", batch_size=batch, epochs=epochs
    )
    ensemble = Ensemble(algorithm, data, infl.Layout(models_per_device=1, n_devices=1))
    ensemble.compile()
    mask = np.arange(400) % 10 < 7
    tools: dict[str, Callable[[], Any]] = {
        "infl": lambda: ensemble.train(model_keys(0, "design", np.arange(1)), mask[None]).correct[0]
    }
    if HAS_TORCH:
        from torch_loop import token_accuracy, train_gpt

        def eager() -> Any:
            trained = train_gpt(data.x_train, mask, len(data.vocabulary), rate=0.003, epochs=epochs, batch=batch)
            return token_accuracy(trained, data.images)

        tools["torch"] = eager
    seconds: dict[str, list[float]] = {tool: [] for tool in tools}
    accuracy = {}
    for _ in range(1 + repeats):  # the first to warm up
        for tool, train in tools.items():
            start = time.process_time()
            correct = np.asarray(train(), float)
            seconds[tool].append(time.process_time() - start)
            accuracy[tool] = [correct[:400][mask].mean(), correct[400:].mean()]
    found: dict[str, Any] = {"seconds": {tool: times[1:] for tool, times in seconds.items()}, "accuracy": accuracy}
    if HAS_TORCH:
        ratios = np.divide(found["seconds"]["torch"], found["seconds"]["infl"])
        found["times_eager"] = [float(f(ratios)) for f in (np.median, np.min, np.max)]
    return {"batch": batch, "epochs": epochs, **found}


if __name__ == "__main__":
    main()

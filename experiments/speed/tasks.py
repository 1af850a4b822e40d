"""Turns the name of a task into its settings, its data, the subsets of its models and the operations that one model takes.

- T1: digits, MLP 64-256-10;
- T2: Fashion-MNIST, the MLP 784-512-256-10 that Feldman & Zhang (2020) trained on MNIST;
- T3: Fashion-MNIST, a small convolutional network;
- T4: colour images of CIFAR's shape, a ResNet-9 (Page 2018). Synthetic pixels and few steps: only speed counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from fashion import FASHION

FRACTION = 0.7
CLASSES = 10


@dataclass(frozen=True)
class Task:
    """What every arm trains: models of 70% of the n_train examples, each evaluated once on all examples at the end."""

    name: str
    title: str
    source: Literal["digits", "fashion", "synthetic"]
    n_train: int
    n_held_out: int
    shape: tuple[int, ...]
    network: Literal["mlp", "cnn", "resnet9"]
    hidden: tuple[int, ...]
    widths: tuple[int, ...]
    batch: int
    epochs: int
    learning_rate: float = 0.05
    momentum: float = 0.9

    @property
    def n_all(self) -> int:
        """Examples that a model is evaluated on."""
        return self.n_train + self.n_held_out

    @property
    def subset(self) -> int:
        """Examples that a model is trained on."""
        return round(FRACTION * self.n_train)

    @property
    def steps(self) -> int:
        """Steps of a model, as in infl."""
        return round(self.epochs * self.subset / self.batch)

    @property
    def flop_of_training(self) -> float:
        """Multiply-adds x 2: forward, and backward to all weights and to all layers' inputs but the pixels."""
        first, *others = self._products()
        return self.subset * self.epochs * 2.0 * (2 * first + 3 * sum(others))

    @property
    def flop_per_model(self) -> float:
        """Those of training, and of evaluating every example once."""
        return self.flop_of_training + self.n_all * 2.0 * sum(self._products())

    def share_of_model(self, steps: int | None) -> float:
        """Share of a model's operations that its first `steps` steps are, without evaluation; 1 for None, all of it."""
        return 1.0 if steps is None else steps / self.steps * self.flop_of_training / self.flop_per_model

    def to_dict(self) -> dict[str, Any]:
        """The task as JSON."""
        derived = ("subset", "steps", "flop_per_model")
        return {**vars(self), **{name: getattr(self, name) for name in derived}}

    def _products(self) -> list[int]:
        """Multiply-adds of each layer, forward, for one example."""
        side, channels = self.shape[0], 1 if len(self.shape) < 3 else self.shape[2]
        if self.network == "mlp":
            return _dense([int(np.prod(self.shape)), *self.hidden, CLASSES])
        products = []
        if self.network == "cnn":
            for width in self.widths:
                products.append(side**2 * 9 * channels * width)
                side, channels = side // 2, width
            return products + _dense([side**2 * channels, *self.hidden, CLASSES])
        for stage, width in enumerate(self.widths):
            products.append(side**2 * 9 * channels * width)
            side, channels = side // 2 if stage else side, width
            products += [side**2 * 9 * width * width] * (2 if stage in (1, 3) else 0)
        return products + _dense([channels, CLASSES])


_MLP1: dict[str, Any] = {"network": "mlp", "hidden": (256,), "widths": ()}
_MLP2: dict[str, Any] = {"network": "mlp", "hidden": (512, 256), "widths": ()}
_CNN: dict[str, Any] = {"network": "cnn", "hidden": (64,), "widths": (16, 32)}
_FASHION: dict[str, Any] = {"n_train": 4000, "n_held_out": 1000, "shape": (28, 28), "batch": 128, "epochs": 10}
_FEW: dict[str, Any] = {"source": "synthetic", "n_train": 40, "n_held_out": 20, "batch": 28, "epochs": 1}

TASKS = {
    "T1": Task("T1", "digits, MLP 64-256-10", "digits", 1000, 797, (8, 8), batch=50, epochs=30, **_MLP1),
    "T2": Task("T2", "Fashion-MNIST, MLP 784-512-256-10", "fashion", **_FASHION, **_MLP2),
    "T3": Task("T3", "Fashion-MNIST, CNN 16-32-64", "fashion", **_FASHION, **_CNN),
    "T4": Task(
        "T4",
        "32 x 32 colour images, ResNet-9",
        "synthetic",
        n_train=360,
        n_held_out=40,
        shape=(32, 32, 3),
        network="resnet9",
        hidden=(),
        widths=(64, 128, 256, 512),
        batch=128,
        epochs=4,
    ),
}
SMALL_TASKS = {
    "T1": Task("T1", "digits, MLP 64-256-10", "digits", 200, 100, (8, 8), batch=50, epochs=2, **_MLP1),
    "T2": Task("T2", "few synthetic images, MLP 784-512-256-10", shape=(28, 28), **_FEW, **_MLP2),
    "T3": Task("T3", "few synthetic images, CNN 16-32-64", shape=(28, 28), **_FEW, **_CNN),
    "T4": Task(
        "T4",
        "few synthetic images, a narrow ResNet-9",
        shape=(32, 32, 3),
        network="resnet9",
        hidden=(),
        widths=(16,) * 4,
        **_FEW,
    ),
}


def load(task: Task) -> tuple[Any, Any]:
    """Pixels [N, ...] float32 and labels [N] int64: the n_train examples, then the held-out ones."""
    import infl

    if task.source == "synthetic":
        images, labels = _synthetic(task)
    else:
        source = "digits" if task.source == "digits" else FASHION
        data = infl.load(source, n_train=task.n_train, n_held_out=task.n_held_out)
        images, labels = data.images, data.labels
    pixels = images.astype(np.float32) / 255 if images.dtype == np.uint8 else images
    return pixels, labels.astype(np.int64)


def data_words(task: Task, folder: Path) -> list[str]:
    """How the command line names the task's data; synthetic data are written into the folder."""
    if task.source != "synthetic":
        source = "digits" if task.source == "digits" else FASHION
        return [source, "--n-train", str(task.n_train), "--n-held-out", str(task.n_held_out)]
    path, n = folder / f"{task.name}.npz", task.n_train
    if not path.exists():
        images, labels = _synthetic(task)
        np.savez(path, x_train=images[:n], y_train=labels[:n], x_test=images[n:], y_test=labels[n:])
    return [str(path)]


def draw_subsets(task: Task, n_models: int, *, seed: int) -> list[Any]:
    """Ids of the examples of each model: uniform, of one size."""
    random = np.random.default_rng([seed, 7])
    return [random.permutation(task.n_train)[: task.subset] for _ in range(n_models)]


def draw_batches(task: Task, members: Any, random: np.random.Generator, steps: int | None) -> Any:
    """Ids of each batch of a training, [steps, batch], cut from a stream of shuffled epochs."""
    steps = task.steps if steps is None else steps
    n_epochs = -(-steps * task.batch // len(members))
    stream = np.concatenate([random.permutation(members) for _ in range(n_epochs)])
    return stream[: steps * task.batch].reshape(steps, task.batch)


def _dense(widths: list[int]) -> list[int]:
    return [a * b for a, b in zip(widths[:-1], widths[1:], strict=True)]


def _synthetic(task: Task) -> tuple[Any, Any]:
    """A picture of noise per class, and more noise on each image."""
    random = np.random.default_rng(5)
    labels = np.arange(task.n_all) % CLASSES
    classes = random.normal(size=(CLASSES, *task.shape))
    noisy = classes[labels] + random.normal(size=(task.n_all, *task.shape))
    return np.clip(128 + 40 * noisy, 0, 255).astype(np.uint8), labels

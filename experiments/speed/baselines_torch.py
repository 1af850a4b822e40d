"""Arms in PyTorch: the eager loop that most people write, the same compiled, and several models at once with torch.func.

Networks and initial distributions are infl's, so that accuracies can be compared: weights from a normal distribution cut at two
of its standard deviations, variance 2 / inputs (1 / inputs before the logits), zero biases. Pooling comes before ReLU, which
commutes with it and costs less there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from tasks import CLASSES, Task, draw_batches
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

CUT_NORMAL_SD = 0.87962566103423978  # of a standard normal cut at -2 and 2


def one_by_one(
    task: Task, pixels: Any, labels: Any, *, steps: int | None = None, compiled: bool = False
) -> tuple[Any, float]:
    """Model after model, one step after another from Python."""
    torch.set_num_threads(1)
    x, y = _tensors(task, pixels, labels)

    def train(subsets: list[Any], seed: int, steps: int | None = steps) -> Any:
        torch.manual_seed(seed)
        random = np.random.default_rng(seed)
        correct = []
        for members in subsets:
            network = _network(task)
            predict = torch.compile(network, dynamic=False) if compiled else network
            optimizer = torch.optim.SGD(network.parameters(), lr=task.learning_rate, momentum=task.momentum)
            for batch in draw_batches(task, members, random, steps):
                ids = torch.from_numpy(batch)
                optimizer.zero_grad(set_to_none=True)
                functional.cross_entropy(predict(x[ids]), y[ids]).backward()
                optimizer.step()
            if steps is None:
                correct.append(_evaluate(predict if compiled else network, x, y))
        return np.stack(correct) if correct else None

    start = time.perf_counter()
    if compiled:  # whatever compiles does so here: the batch, a second network, the sizes of judging
        _evaluate(torch.compile(_network(task), dynamic=False), x, y)
        train([np.arange(task.subset)] * 2, 0, steps=2)
    else:
        train([np.arange(task.subset)], 0, steps=2)
    return train, time.perf_counter() - start if compiled else 0.0


def side_by_side(task: Task, pixels: Any, labels: Any, *, width: int, steps: int | None = None) -> tuple[Any, float]:
    """`width` models at once: torch.func.vmap of the gradient over stacked parameters, and one optimizer for all of them."""
    from torch.func import functional_call, grad, stack_module_state, vmap  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(1)
    x, y = _tensors(task, pixels, labels)
    skeleton = _network(task).to("meta")

    def predict(params: Any, images: Any) -> Any:
        return functional_call(skeleton, params, (images,))

    def loss(params: Any, images: Any, classes: Any) -> Any:
        return functional.cross_entropy(predict(params, images), classes)

    gradients = vmap(grad(loss))

    def train_some(subsets: list[Any], random: Any, steps: int | None) -> list[Any]:
        params, _ = stack_module_state([_network(task) for _ in subsets])
        tensors = list(params.values())
        optimizer = torch.optim.SGD(tensors, lr=task.learning_rate, momentum=task.momentum)
        for of_models in zip(*(draw_batches(task, members, random, steps) for members in subsets), strict=True):
            ids = torch.from_numpy(np.stack(of_models))
            detached = {name: tensor.detach() for name, tensor in params.items()}
            for tensor, gradient in zip(tensors, gradients(detached, x[ids], y[ids]).values(), strict=True):
                tensor.grad = gradient
            optimizer.step()
        if steps is not None:
            return []
        each = [{name: tensor[number].detach() for name, tensor in params.items()} for number in range(len(subsets))]
        return [_evaluate(lambda images, one=one: predict(one, images), x, y) for one in each]

    def train(subsets: list[Any], seed: int, steps: int | None = steps) -> Any:
        torch.manual_seed(seed)
        random = np.random.default_rng(seed)
        correct = []
        for first in range(0, len(subsets), width):
            correct += train_some(subsets[first : first + width], random, steps)
        return np.stack(correct) if correct else None

    train([np.arange(task.subset)] * 2, 0, steps=2)
    return train, 0.0


class _Cnn(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        channels = [1, *task.widths]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1) for a, b in zip(channels[:-1], channels[1:], strict=True)
        )
        side = task.shape[0] // 2 ** len(task.widths)
        self.dense = _dense([side**2 * channels[-1], *task.hidden, CLASSES])

    def forward(self, x: Any) -> Any:
        for convolution in self.convolutions:
            x = torch.relu(functional.max_pool2d(convolution(x), 2))
        return self.dense(x.flatten(1))


class _Layer(nn.Module):
    """Convolution, group norm over 16 channels, the maximum of 2 x 2 pixels where asked for, ReLU."""

    def __init__(self, channels: int, width: int, *, pool: bool = False) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.norm = nn.GroupNorm(max(width // 16, 1), width)
        self.pool = pool

    def forward(self, x: Any) -> Any:
        x = self.norm(self.convolution(x))
        return torch.relu(functional.max_pool2d(x, 2) if self.pool else x)


class _ResNet9(nn.Module):
    def __init__(self, task: Task) -> None:
        super().__init__()
        first, second, third, fourth = task.widths
        self.before = nn.Sequential(_Layer(task.shape[2], first), _Layer(first, second, pool=True))
        self.residual = nn.Sequential(_Layer(second, second), _Layer(second, second))
        self.between = nn.Sequential(_Layer(second, third, pool=True), _Layer(third, fourth, pool=True))
        self.last_residual = nn.Sequential(_Layer(fourth, fourth), _Layer(fourth, fourth))
        self.dense = nn.Linear(fourth, CLASSES)

    def forward(self, x: Any) -> Any:
        x = self.before(x)
        x = self.between(x + self.residual(x))
        x = x + self.last_residual(x)
        return self.dense(x.amax(dim=(2, 3)))


def _network(task: Task) -> nn.Module:
    if task.network == "mlp":
        network: nn.Module = _dense([int(np.prod(task.shape)), *task.hidden, CLASSES])
    else:
        network = _Cnn(task) if task.network == "cnn" else _ResNet9(task)
    for layer in network.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            to_logits = isinstance(layer, nn.Linear) and layer.out_features == CLASSES
            sd = (1 if to_logits else 2) ** 0.5 / layer.weight[0].numel() ** 0.5 / CUT_NORMAL_SD
            nn.init.trunc_normal_(layer.weight, std=sd, a=-2 * sd, b=2 * sd)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def _dense(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _tensors(task: Task, pixels: Any, labels: Any) -> tuple[Any, Any]:
    if task.network == "mlp":
        x = pixels.reshape(len(pixels), -1)
    else:
        x = (pixels if pixels.ndim == 4 else pixels[..., None]).transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(x)), torch.from_numpy(labels)


def _evaluate(predict: Any, x: Any, y: Any) -> Any:
    """Margin and correctness on every example; returns the latter."""
    with torch.no_grad():
        parts = list(_evaluate_parts(predict, x, y))
    return torch.cat([correct for _, correct in parts]).numpy()


def _evaluate_parts(predict: Any, x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    for images, classes in zip(x.split(1000), y.split(1000), strict=True):
        logits = predict(images)
        own = logits.gather(1, classes[:, None])[:, 0]
        others = logits.scatter(1, classes[:, None], -torch.inf).amax(dim=1)
        yield own - others, logits.argmax(dim=1) == classes

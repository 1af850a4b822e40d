"""The same recipes as eager loops of PyTorch, with weights, orders and dropout of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional  # pyright: ignore[reportMissingImports]

torch.set_num_threads(1)


def train_model(
    build: Callable[[], nn.Module],
    x: np.ndarray,
    y: np.ndarray,
    mask: np.ndarray,
    seed: int,
    *,
    rate: float,
    epochs: int,
    batch: int,
) -> np.ndarray:
    """Which examples a model gets right, [n+m]; SGD with momentum 0.9, the rate down to zero along half a cosine."""
    pixels = torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    labels = torch.from_numpy(y.astype(np.int64))
    torch.manual_seed(seed)
    network, batches = build(), draw_batches(mask, epochs, batch, seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for ids in map(torch.from_numpy, batches):
        optimizer.zero_grad()
        functional.cross_entropy(network(pixels[ids]), labels[ids]).backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        return (torch.cat([network(part).argmax(dim=1) for part in pixels.split(500)]) == labels).numpy()


def draw_batches(mask: np.ndarray, epochs: int, batch: int, seed: int) -> list[np.ndarray]:
    """Ids of every step: one stream of shuffled epochs, cut into full batches."""
    members, random = np.flatnonzero(mask), np.random.default_rng(seed)
    steps = round(epochs * len(members) / batch)
    stream = np.concatenate([random.permutation(members) for _ in range(epochs + 1)])
    return list(stream[: steps * batch].reshape(steps, batch))


class ResNet9(nn.Module):
    """Convolution, batch norm, the maximum of 2 x 2 pixels where asked for, ReLU, eight times; two pairs are residual."""

    def __init__(self, channels: int, widths: tuple[int, ...], n_classes: int) -> None:
        super().__init__()
        first, second, third, fourth = widths

        def layer(inputs: int, outputs: int, *, pool: bool = False) -> nn.Module:
            convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight)
            return nn.Sequential(
                convolution, nn.BatchNorm2d(outputs), nn.MaxPool2d(2) if pool else nn.Identity(), nn.ReLU()
            )

        self.before = nn.Sequential(layer(channels, first), layer(first, second, pool=True))
        self.residual = nn.Sequential(layer(second, second), layer(second, second))
        self.between = nn.Sequential(layer(second, third, pool=True), layer(third, fourth, pool=True))
        self.last = nn.Sequential(layer(fourth, fourth), layer(fourth, fourth))
        self.dense = nn.Linear(fourth, n_classes)
        nn.init.kaiming_normal_(self.dense.weight, nonlinearity="linear")
        nn.init.zeros_(self.dense.bias)

    def forward(self, x: Any) -> Any:
        """Logits."""
        x = self.before(x)
        x = self.between(x + self.residual(x))
        return self.dense((x + self.last(x)).amax(dim=(2, 3)))


def dropout_network(inputs: int, hidden: int, fraction: float, n_classes: int) -> nn.Module:
    """Two hidden layers with ReLU, each with dropout."""
    layers = [nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, n_classes)]
    for linear in layers:
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu" if linear is not layers[-1] else "linear")
        nn.init.zeros_(linear.bias)
    between = [nn.ReLU(), nn.Dropout(fraction)]
    return nn.Sequential(nn.Flatten(), layers[0], *between, layers[1], *between, layers[2])


class Gpt(nn.Module):
    """Decoder-only transformer as infl's: layer norm before each part, learned positions, tied embedding, ReLU."""

    def __init__(self, n_tokens: int, length: int, width: int = 64, inner: int = 256, layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Parameter(0.02 * torch.randn(n_tokens, width))
        self.positions = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(width),
                    "mix": nn.Linear(width, 3 * width),
                    "out": nn.Linear(width, width),
                    "wide": nn.Sequential(
                        nn.LayerNorm(width), nn.Linear(width, inner), nn.ReLU(), nn.Linear(inner, width)
                    ),
                }
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.heads = max(width // 32, 1)

    def forward(self, x: Any) -> Any:
        """Logits."""
        tokens = self.embedding[x] + self.positions
        for block in self.blocks:
            parts = block["mix"](block["norm"](tokens)).chunk(3, dim=-1)
            query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
            mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            tokens = tokens + block["out"](mixed.transpose(1, 2).flatten(2))
            tokens = tokens + block["wide"](tokens)
        return self.norm(tokens) @ self.embedding.T


def train_gpt(tokens: np.ndarray, mask: np.ndarray, n_tokens: int, *, rate: float, epochs: int, batch: int) -> Any:
    """One language model, by Adam; tokens of a batch count alike, padding (0) not at all."""
    x = torch.from_numpy(tokens.astype(np.int64))
    torch.manual_seed(0)
    network, batches = Gpt(n_tokens, x.shape[1]), draw_batches(mask, epochs, batch, 0)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    for ids in map(torch.from_numpy, batches):
        documents = x[ids]
        optimizer.zero_grad()
        logits = network(documents)[:, :-1].flatten(0, 1)
        functional.cross_entropy(logits, documents[:, 1:].flatten(), ignore_index=0).backward()
        optimizer.step()
        schedule.step()
    return network


def token_accuracy(network: Any, tokens: np.ndarray) -> np.ndarray:
    """Share of the tokens of each document that are right."""

    def parts() -> Iterator[Any]:
        for documents in torch.from_numpy(tokens.astype(np.int64)).split(256):
            right, scored = network(documents)[:, :-1].argmax(dim=2) == documents[:, 1:], documents[:, 1:] > 0
            yield (right & scored).sum(dim=1) / scored.sum(dim=1)

    with torch.no_grad():
        return torch.cat(list(parts())).numpy()

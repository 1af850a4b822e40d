"""Turns a name and widths into one of infl's own networks: mlp, cnn, resnet9 or vit for images, gpt for documents.

Those for facts are in `infl.training.relational`.

Convolutions go through
`infl.training.kernels.convolution`, whose back end is chosen while a training is traced; bias and ReLU come after the maximum
of 2 x 2 pixels, which commutes with both and leaves them a quarter of the numbers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

from infl.records import InputError
from infl.training.adapters import adapt_linen
from infl.training.kernels.convolution import convolve
from infl.training.kernels.pooling import convolve_and_pool, max_pool
from infl.training.networks import Network, Norm
from infl.training.relational import bilinear, tied_mlp, transe


def mlp(n_classes: int, *, hidden: Sequence[int] = (256,)) -> Network:
    """Multi-layer perceptron with ReLU on flattened pixels; He initialization, zero biases.

    Raises:
        InputError: Where a width is below 1.
    """
    widths = _whole("hidden", hidden)
    return _network("mlp", _MLP(n_classes, tuple(widths)), {"hidden": widths})


def cnn(n_classes: int, *, widths: Sequence[int] = (16, 32), hidden: Sequence[int] = (64,)) -> Network:
    """3 x 3 convolutions, each with the maximum of 2 x 2 pixels and ReLU, then dense layers with ReLU; He initialization.

    Images are [h, w] or [h, w, channels], of at least 2^len(widths) pixels a side.

    Args:
        widths: Channels of each convolution.
        hidden: Widths of the dense layers.

    Raises:
        InputError: where a width is below 1, or no convolution is asked for.
    """
    settings = {"widths": _whole("widths", widths, least=1), "hidden": _whole("hidden", hidden)}
    return _network("cnn", _Cnn(n_classes, tuple(settings["widths"]), tuple(settings["hidden"])), settings)


def resnet9(n_classes: int, *, widths: Sequence[int] = (64, 128, 256, 512), norm: Norm = "group") -> Network:
    """Eight 3 x 3 convolutions, two pairs of them residual, the maximum over all pixels and one dense layer.

    After the network of nine layers with which DAWNBench's CIFAR-10 records were set (Coleman et al. 2017; Page 2018, How
    to train your ResNet), with group norm (Wu & He 2018) over 16 channels each in place of batch norm, or with batch norm
    as published. Images are [h, w] or [h, w, channels], at least 8 x 8.

    Args:
        widths: Channels of the four stages.
        norm: "group", "batch" (running averages with momentum 0.9 in evaluation) or "none".

    Raises:
        InputError: where there are not four widths, one is below 1, or the norm is unknown.
    """
    if norm not in get_args(Norm):
        raise InputError(f"norm: expected one of {', '.join(get_args(Norm))}; got {norm!r}")
    settings = {"widths": _whole("widths", widths, least=4, most=4), "norm": norm}
    module = _ResNet9(n_classes, tuple(settings["widths"]), norm)
    return _network("resnet9", module, settings, {"train": True} if norm == "batch" else {})


def vit(
    n_classes: int, *, widths: Sequence[int] = (128,), hidden: Sequence[int] = (256,) * 6, patch: int = 4
) -> Network:
    """Vision transformer (Dosovitskiy et al. 2021) with layer norm before each part, tokens averaged at the end.

    Args:
        widths: The width of the tokens, one number; a multiple of 32, the width of a head, or below it.
        hidden: Widths of the perceptron of each block, so as many blocks.
        patch: Side of the square that makes a token. Images are [h, w] or [h, w, channels] whose sides are multiples of it.

    Raises:
        InputError: for widths other than these.
    """
    settings = {
        "widths": _whole("widths", widths, least=1, most=1),
        "hidden": _whole("hidden", hidden),
        "patch": int(patch),
    }
    width = _head_width("vit", settings["widths"])
    if patch < 1:
        raise InputError(f"patch: expected at least 1, got {patch}")
    return _network("vit", _Vit(n_classes, width, tuple(settings["hidden"]), settings["patch"]), settings)


def gpt(n_tokens: int, *, widths: Sequence[int] = (64,), hidden: Sequence[int] = (256,) * 2) -> Network:
    """Decoder-only transformer (Radford et al. 2019): layer norm before each part, learned positions, tied embedding.

    Takes tokens [b, length] and gives logits [b, length, n_tokens]; those at a position see what comes before it and itself.

    Args:
        widths: The width of the tokens, one number; a multiple of 32, the width of a head, or below it.
        hidden: Widths of the perceptron of each block, so as many blocks.

    Raises:
        InputError: For widths other than these.
    """
    settings = {"widths": _whole("widths", widths, least=1, most=1), "hidden": _whole("hidden", hidden)}
    width = _head_width("gpt", settings["widths"])
    return _network("gpt", _Gpt(n_tokens, width, tuple(settings["hidden"])), settings)


NETWORKS: dict[str, Callable[..., Network]] = {"mlp": mlp, "cnn": cnn, "resnet9": resnet9, "vit": vit, "gpt": gpt}
NETWORKS |= {"transe": transe, "bilinear": bilinear, "tied-mlp": tied_mlp}


def build(name: str, n_classes: int, **settings: Any) -> Network:
    """Build one of infl's networks by name.

    Raises:
        InputError: for a name that is none of them, or a setting that it does not have.
    """
    if name not in NETWORKS:
        raise InputError(f"network: expected one of {', '.join(NETWORKS)}; got {name!r}")
    known = list(inspect.signature(NETWORKS[name]).parameters)[1:]
    if unknown := [setting for setting in settings if setting not in known]:
        raise InputError(f"network {name} has no setting {unknown[0]!r}; it has {', '.join(known)}")
    return NETWORKS[name](n_classes, **settings)


def _whole(name: str, widths: Sequence[int], *, least: int = 0, most: int | None = None) -> list[int]:
    whole = [int(width) for width in widths]
    if any(width < 1 for width in whole):
        raise InputError(f"{name}: expected widths of at least 1, got {list(widths)}")
    if len(whole) < least or (most is not None and len(whole) > most):
        raise InputError(f"{name}: expected {'at least ' if most is None else ''}{least} width(s), got {list(widths)}")
    return whole


def _head_width(name: str, widths: list[int]) -> int:
    if widths[0] > _HEAD and widths[0] % _HEAD:
        raise InputError(f"widths: expected a multiple of {_HEAD} or less than that for {name}, got {widths[0]}")
    return widths[0]


def _network(
    name: str, module: nn.Module, settings: dict[str, Any], training: dict[str, bool] | None = None
) -> Network:
    plain = adapt_linen(module, training or {})

    def features(variables: Any, x: jax.Array) -> jax.Array:
        params, state = plain.split(variables)
        return module.apply({"params": params, **dict(state)}, x, until_readout=True)  # pyright: ignore[reportReturnType]

    return Network(plain.init, plain.apply, name, settings, features)


def _images(x: jax.Array, name: str, *, least: int = 1, multiple: int = 1) -> jax.Array:
    """[b, h, w, c], with a channel axis where there was none."""
    if x.ndim not in (3, 4):
        raise InputError(
            f"network {name}: expected images [height, width] or [height, width, channels], got examples of shape "
            f"{x.shape[1:]}; network mlp takes any shape"
        )
    if min(x.shape[1:3]) < least:
        raise InputError(f"network {name}: expected images of at least {least} x {least} pixels, got {x.shape[1:3]}")
    if x.shape[1] % multiple or x.shape[2] % multiple:
        raise InputError(f"network {name}: expected sides that are multiples of patch = {multiple}, got {x.shape[1:3]}")
    return x if x.ndim == 4 else x[..., None]


_he = nn.initializers.he_normal()
_HEAD = 32


class _Kernel(nn.Module):
    """A 3 x 3 convolution without bias, and the maximum of 2 x 2 pixels where asked for."""

    channels: int
    pool: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", _he, (3, 3, x.shape[-1], self.channels)).astype(x.dtype)
        return convolve_and_pool(x, kernel) if self.pool else convolve(x, kernel)


class _Bias(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.param("bias", nn.initializers.zeros, x.shape[-1:]).astype(x.dtype)


class _GroupNorm(nn.Module):
    """Over the pixels and groups of 16 channels of one image; sums by channel first, which XLA does fast."""

    @nn.compact
    def __call__(self, x: jax.Array, *, relu: bool = False, pool: bool = False) -> jax.Array:
        channels = x.shape[-1]
        groups = channels // 16 if channels % 16 == 0 else 1
        scale = self.param("scale", nn.initializers.ones, (channels,))
        shift = self.param("bias", nn.initializers.zeros, (channels,))
        wide = x.astype(jnp.float32)

        def mean(numbers: jax.Array) -> jax.Array:
            by_group = numbers.mean(axis=(1, 2)).reshape(len(x), groups, -1).mean(axis=2)
            return jnp.repeat(by_group, channels // groups, axis=1)

        centre = mean(wide)
        spread = jnp.maximum(mean(wide * wide) - centre**2, 0)
        scale = scale * jax.lax.rsqrt(spread + 1e-5)
        shift = shift - centre * scale
        y = (wide * scale[:, None, None] + shift[:, None, None]).astype(x.dtype)
        y = max_pool(y) if pool else y
        return nn.relu(y) if relu else y


class _MLP(nn.Module):
    n_classes: int
    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, *, until_readout: bool = False) -> jax.Array:
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=_he)(x))
        return x if until_readout else nn.Dense(self.n_classes)(x)


class _Cnn(nn.Module):
    n_classes: int
    widths: tuple[int, ...]
    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, *, until_readout: bool = False) -> jax.Array:
        x = _images(x, "cnn", least=2 ** len(self.widths))
        for width in self.widths:
            x = nn.relu(_Bias()(_Kernel(width, pool=True)(x)))
        x = x.reshape(len(x), -1)
        for width in self.hidden:
            x = nn.relu(nn.Dense(width, kernel_init=_he)(x))
        return x if until_readout else nn.Dense(self.n_classes)(x)


class _ResNet9(nn.Module):
    n_classes: int
    widths: tuple[int, ...]
    norm: Norm

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False, until_readout: bool = False) -> jax.Array:
        def layer(x: jax.Array, width: int, *, pool: bool = False) -> jax.Array:
            x = _Kernel(width)(x)
            if self.norm == "group":
                return _GroupNorm()(x, relu=True, pool=pool)
            x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(x) if self.norm == "batch" else _Bias()(x)
            return nn.relu(max_pool(x) if pool else x)

        def residual(x: jax.Array) -> jax.Array:
            width = x.shape[-1]
            return x + layer(layer(x, width), width)

        first, second, third, fourth = self.widths
        x = layer(_images(x, "resnet9", least=8), first)
        x = residual(layer(x, second, pool=True))
        x = layer(x, third, pool=True)
        x = residual(layer(x, fourth, pool=True))
        x = x.max(axis=(1, 2))
        return x if until_readout else nn.Dense(self.n_classes)(x)


class _Vit(nn.Module):
    n_classes: int
    width: int
    hidden: tuple[int, ...]
    patch: int

    @nn.compact
    def __call__(self, x: jax.Array, *, until_readout: bool = False) -> jax.Array:
        x = _images(x, "vit", least=self.patch, multiple=self.patch)
        b, h, w, c = x.shape
        squares = x.reshape(b, h // self.patch, self.patch, w // self.patch, self.patch, c).swapaxes(2, 3)
        tokens = nn.Dense(self.width)(squares.reshape(b, -1, self.patch**2 * c))
        positions = self.param("places", nn.initializers.normal(0.02), tokens.shape[1:])
        tokens = tokens + positions.astype(tokens.dtype)
        x = _transformer(tokens, self.hidden, nn.gelu).mean(axis=1)
        return x if until_readout else nn.Dense(self.n_classes)(x)


class _Gpt(nn.Module):
    n_tokens: int
    width: int
    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, *, until_readout: bool = False) -> jax.Array:
        if x.ndim != 2 or x.dtype != jnp.int32:
            raise InputError(
                f"network gpt: expected documents, tokens [length], got {x.dtype} {x.shape[1:]}; other data: mlp"
            )
        draw = nn.initializers.normal(0.02)
        embedding = self.param("embedding", draw, (self.n_tokens, self.width))
        positions = self.param("positions", draw, (x.shape[1], self.width))
        tokens = _transformer(embedding[x] + positions, self.hidden, nn.relu, causal=True)
        if not until_readout:
            return tokens @ embedding.T
        counts = (x > 0)[..., None]
        return (tokens * counts).sum(axis=1) / jnp.maximum(counts.sum(axis=1), 1)


def _transformer(
    tokens: jax.Array, hidden: tuple[int, ...], activation: Callable[[jax.Array], jax.Array], *, causal: bool = False
) -> jax.Array:
    """Blocks of attention and perceptron, one for each hidden width, and the last layer norm; [b, length, width]."""
    shape, width = tokens.shape, tokens.shape[2]
    split = partial(jnp.reshape, shape=(*shape[:2], max(width // _HEAD, 1), -1))
    before = jnp.tri(shape[1], dtype=bool)
    tokens = tokens.reshape(-1, width)  # on CPUs, XLA finds faster products for two axes than for three
    for inner in hidden:
        normed = nn.LayerNorm()(tokens)
        query, key, value = (split(part) for part in jnp.split(nn.Dense(3 * width)(normed), 3, axis=-1))
        # As jax.nn.dot_product_attention, whose softmax is differentiated without its closed form, at half the speed.
        scores = jnp.einsum("btnh,bsnh->bnts", query, key, preferred_element_type=jnp.float32) * query.shape[-1] ** -0.5
        weights = jax.nn.softmax(jnp.where(before, scores, -jnp.inf) if causal else scores).astype(value.dtype)
        mixed = jnp.einsum("bnts,bsnh->btnh", weights, value)
        tokens = tokens + nn.Dense(width)(mixed.reshape(tokens.shape))
        # In two lines: layers are numbered in the order in which they are made, and drawn by their number.
        wide = activation(nn.Dense(inner)(nn.LayerNorm()(tokens)))
        tokens = tokens + nn.Dense(width)(wide)
    return nn.LayerNorm()(tokens).reshape(shape)

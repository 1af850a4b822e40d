"""infl's image networks have the shapes they claim, see one example at a time, and train without a left-out one.

Group norm takes its statistics within an image; were they taken over the batch, left-out examples would reach a model. The
convolutions are held to Flax's and the norm to Flax's, which share no code with infl's.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from infl.records import InputError
from infl.training.algorithm import Algorithm
from infl.training.architectures import build
from infl.training.model import train_model
from infl.training.networks import Network, check_network

CLASSES = 3
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"widths": (3, 4), "hidden": (5,)},
    "resnet9": {"widths": (4, 4, 16, 32)},
    "vit": {"widths": (16,), "hidden": (8, 8)},
}
SLOW = pytest.mark.slow
each_network = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "cnn" else SLOW) for name in SMALL]
)


def small(name: str) -> Network:
    return build(name, CLASSES, **SMALL[name])


def drawn(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.RandomState(seed).normal(size=shape).astype(np.float32))


@each_network
@pytest.mark.parametrize("shape", [(8, 8), pytest.param((12, 8, 3), marks=SLOW)])
def test_grey_and_colour_images_pass_the_check_and_features_feed_the_last_layer(
    name: str, shape: tuple[int, ...]
) -> None:
    network, x = small(name), drawn(2, *shape)
    check_network(
        network, np.asarray(drawn(3, *shape)), (CLASSES,)
    )  # which compares an example alone with it in a batch
    params = network.init(jax.random.key(0), x)
    logits = network.apply(params, x)
    assert network.features is not None
    features = network.features(params, x)
    last = params[max((part for part in params if part.startswith("Dense")), key=lambda part: int(part.split("_")[1]))]
    np.testing.assert_allclose(features @ last["kernel"] + last["bias"], logits, atol=1e-5)
    if len(shape) == 2:  # a channel axis of one changes nothing
        np.testing.assert_array_equal(network.apply(params, x[..., None]), logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_what_a_left_out_example_holds_never_reaches_a_model(name: str) -> None:
    """In the first tier test_model.py asks it of others, and `check_network` whether these mix the examples of a batch."""
    algorithm = Algorithm(name, epochs=2, batch_size=4, learning_rate=0.01, **SMALL[name])
    images, labels = drawn(12, 8, 8), jnp.arange(12) % CLASSES
    members = jnp.arange(10) != 4
    train = jax.jit(
        lambda images, labels: train_model(
            jax.random.key(1), members, images, labels, algorithm=algorithm, network=algorithm.build_network(CLASSES)
        )
    )
    one = train(images, labels)
    other = train(images.at[4].set(jnp.nan), labels.at[4].set(0))
    rest = np.arange(12) != 4
    assert one.finite
    np.testing.assert_array_equal(one.margin[rest], other.margin[rest])
    without_another = train(images.at[5].set(0), labels)
    assert not np.allclose(one.margin[rest], without_another.margin[rest])  # a member does reach it


def test_cnn_is_flax_convolutions_with_relu_then_the_greatest_of_each_square() -> None:
    network, x = small("cnn"), drawn(2, 9, 8)
    params = network.init(jax.random.key(0), x)
    biases = iter((0.3, -0.2))
    params = {name: {"bias": part["bias"] + next(biases)} if "Bias" in name else part for name, part in params.items()}
    y = x[..., None]
    for i in range(2):
        weights = {"kernel": params[f"_Kernel_{i}"]["kernel"], "bias": params[f"_Bias_{i}"]["bias"]}
        convolved: Any = nn.Conv(len(weights["bias"]), (3, 3)).apply({"params": weights}, y)
        y = nn.max_pool(nn.relu(convolved), (2, 2), strides=(2, 2))
    for i in range(2):
        y = y.reshape(2, -1) @ params[f"Dense_{i}"]["kernel"] + params[f"Dense_{i}"]["bias"]
        y = nn.relu(y) if i == 0 else y
    np.testing.assert_allclose(network.apply(params, x), y, atol=1e-5)


def test_group_norm_is_that_of_flax() -> None:
    from infl.training.architectures import _GroupNorm

    x = 3 * drawn(2, 5, 4, 32) + 1
    params = {"scale": drawn(32, seed=1), "bias": drawn(32, seed=2)}
    mine = _GroupNorm().apply({"params": params}, x)
    theirs = nn.GroupNorm(num_groups=2, epsilon=1e-5).apply({"params": params}, x)
    np.testing.assert_allclose(np.asarray(mine), np.asarray(theirs), atol=1e-4)


@pytest.mark.parametrize("norm", ["group", "none"])
def test_resnet9_has_eight_convolutions_and_one_dense_layer(norm: str) -> None:
    network = build("resnet9", 10, norm=norm)
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    kernels = [part["kernel"].shape for part in shapes.values() if "kernel" in part]
    assert sorted(kernels) == sorted(
        [(512, 10)]
        + [
            (3, 3, a, b)
            for a, b in [(3, 64), (64, 128), (128, 128), (128, 128), (128, 256), (256, 512), (512, 512), (512, 512)]
        ]
    )
    assert ("scale" in str(shapes)) == (norm == "group")
    assert network.to_dict() == {"name": "resnet9", "widths": [64, 128, 256, 512], "norm": norm}


@pytest.mark.parametrize(
    ("name", "shape", "telling"),
    [
        ("cnn", (64,), r"network cnn: expected images \[height, width\].*shape \(64,\); network mlp takes any shape"),
        ("vit", (4, 4, 3, 2), "network vit: expected images"),
        ("cnn", (3, 8), r"network cnn: expected images of at least 4 x 4 pixels, got \(3, 8\)"),
        ("resnet9", (28, 7), "network resnet9: expected images of at least 8 x 8"),
        ("vit", (8, 10), "network vit: expected sides that are multiples of patch = 4"),
    ],
)
def test_images_that_do_not_fit_are_named(name: str, shape: tuple[int, ...], telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        check_network(small(name), np.zeros((3, *shape), np.float32), (CLASSES,))


@pytest.mark.parametrize(
    ("name", "settings", "telling"),
    [
        ("resnet9", {"widths": (8, 8)}, r"widths: expected 4 width\(s\), got \[8, 8\]"),
        ("resnet9", {"norm": "layer"}, "norm: expected one of group, batch, none; got 'layer'"),
        ("vit", {"widths": (48,)}, "widths: expected a multiple of 32"),
        ("vit", {"patch": 0}, "patch: expected at least 1"),
        ("mlp", {"widths": (8,)}, "network mlp has no setting 'widths'; it has hidden"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(name: str, settings: dict[str, Any], telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        build(name, CLASSES, **settings)

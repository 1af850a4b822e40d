"""An augmented image is one of the shifts and flips NumPy makes, each as likely, and no one else's subset changes which.

A draw that depended on who else is in the batch or the subset would pass for influence. So every image is looked up among
all those that a slow loop makes, draws are counted, and models of D and of D\\S are compared draw by draw.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import infl
from infl.records import InputError
from infl.training.algorithm import Algorithm
from infl.training.augmentation import Augmentation, augmented_batch
from infl.training.ensemble import Ensemble
from infl.training.model import train_model
from infl.training.networks import Network

KEY = jax.random.key(3)
RANDOM = np.random.RandomState(0)


def all_changes(image: np.ndarray, augmentation: Augmentation) -> dict[tuple[bool, int, int], np.ndarray]:
    """By (flipped, down, right), with numpy.pad and slices."""
    k, (height, width) = augmentation.shift, image.shape[:2]
    padding = [(k, k), (k, k)] + [(0, 0)] * (image.ndim - 2)
    changed = {}
    for flipped in (False, True) if augmentation.flip else (False,):
        turned = image[:, ::-1] if flipped else image
        padded = np.pad(turned, padding, mode="reflect" if augmentation.padding == "reflect" else "constant")
        for down in range(-k, k + 1):
            for right in range(-k, k + 1):
                changed[flipped, down, right] = padded[k - down :, k - right :][:height, :width]
    return changed


def change_of(image: np.ndarray, changed: Any, augmentation: Augmentation) -> tuple[bool, int, int]:
    """The first change that makes this of the image; mirrored edges may make it in several ways."""
    found = [name for name, one in all_changes(image, augmentation).items() if np.array_equal(one, changed)]
    assert found
    return found[0]


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(flip=True),
        Augmentation(shift=1),
        Augmentation(flip=True, shift=2),
        Augmentation(flip=True, shift=3, padding="reflect"),
    ],
)
@pytest.mark.parametrize("shape", [(4, 7), (5, 4, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_each_image_is_one_of_those_that_a_slow_loop_makes(
    augmentation: Augmentation, shape: tuple[int, ...], dtype: Any
) -> None:
    images = RANDOM.randint(1, 250, (30, *shape)).astype(dtype)
    ids = np.array([29, 3, 3, *range(20)])
    epochs = jnp.zeros(len(ids), int)
    batch = np.asarray(augmented_batch(augmentation, KEY, epochs, jnp.asarray(images), jnp.asarray(ids)))
    assert batch.dtype == dtype
    changes = [change_of(images[i], one, augmentation) for i, one in zip(ids, batch, strict=True)]
    assert changes[1] == changes[2] == changes[6]  # one id, one draw
    assert len(set(changes)) > 1


def test_each_change_is_as_likely() -> None:
    """3,000 ids, one id under 3,000 keys, and one in 3,000 epochs; 18 changes each, by chi-square."""
    augmentation, image = Augmentation(flip=True, shift=1), RANDOM.randint(1, 250, (3, 3)).astype(np.uint8)
    draw = jax.jit(partial(augmented_batch, augmentation))
    images, same, each = jnp.asarray(np.tile(image, (3000, 1, 1))), jnp.zeros(3000, int), jnp.arange(3000)
    by_id, by_epoch = draw(KEY, same, images, each), draw(KEY, each, images, same)
    by_key = jax.vmap(lambda key: draw(key, same[:1], images, same[:1])[0])(jax.random.split(KEY, 3000))
    names = {one.tobytes(): name for name, one in all_changes(image, augmentation).items()}
    assert len(names) == 18
    for batch in (by_id, by_epoch, by_key):
        counts = Counter(names[one.tobytes()] for one in np.asarray(batch))
        assert len(counts) == 18
        assert stats.chisquare(list(counts.values())).pvalue > 1e-3


# In training


def recorder(seen: list[np.ndarray], shape: tuple[int, ...]) -> Network:
    """A network that writes down what it is trained on; the loss has a slope, so it is called."""

    def apply(weights: jax.Array, x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda x: seen.append(np.asarray(x)), x)
        return x.reshape(len(x), -1) @ weights

    return Network(lambda key, x: jnp.zeros((int(np.prod(shape)), 2)), apply)


def draws_of(members: np.ndarray, images: np.ndarray, algorithm: Algorithm, key: jax.Array = KEY) -> list[Any]:
    """(id, change) of every example trained on, epoch by epoch, and what was judged on."""
    seen: list[np.ndarray] = []
    n = len(members)
    network = recorder(seen, images.shape[1:])
    train = jax.jit(partial(train_model, algorithm=algorithm, network=network))
    train(key, members, images, np.zeros(n, np.int32))
    jax.effects_barrier()
    *trained, judged = seen
    np.testing.assert_array_equal(judged, images)
    assert algorithm.augmentation is not None
    known = {}
    for i, image in enumerate(images):
        for name, one in all_changes(image, algorithm.augmentation).items():
            known[one.tobytes()] = (i, name)
    stream, n_members = [known[one.tobytes()] for batch in trained for one in batch], members.sum()
    return [set(stream[epoch * n_members :][:n_members]) for epoch in range(algorithm.epochs)]


def test_leaving_examples_out_changes_no_draw_of_the_others() -> None:
    images = RANDOM.normal(size=(12, 5, 5)).astype(np.float32)
    algorithm = Algorithm("mlp", epochs=3, batch_size=4, augmentation=Augmentation(flip=True, shift=2))
    of_all = draws_of(np.ones(12, bool), images, algorithm)
    assert [len(epoch) for epoch in of_all] == [12] * 3
    members = ~np.isin(np.arange(12), [0, 5, 11])
    without = draws_of(members, images, algorithm)
    for full, part in zip(of_all, without, strict=True):
        assert part == {(i, change) for i, change in full if members[i]}
    assert len({frozenset(epoch) for epoch in of_all}) == 3  # another draw each epoch
    other_model = draws_of(np.ones(12, bool), images, algorithm, jax.random.key(4))
    assert other_model[0] != of_all[0]


@pytest.mark.slow
def test_augmentation_is_for_training_and_off_by_default() -> None:
    """It changes outcomes, and leaves the initial weights and the orders as they were: at rate zero nothing changes."""
    digits = infl.load("digits", n_train=40, n_held_out=10)
    data = np.ones(40, bool), digits.images, digits.labels.astype(np.int32)

    def margins(rate: float, augmentation: Augmentation | None) -> np.ndarray:
        algorithm = Algorithm(hidden=(8,), epochs=3, batch_size=8, learning_rate=rate, augmentation=augmentation)
        train = jax.jit(partial(train_model, algorithm=algorithm, network=algorithm.build_network(10)))
        return np.asarray(train(KEY, *data).margin)

    shift = Augmentation(shift=2)
    np.testing.assert_array_equal(margins(1e-30, None), margins(1e-30, shift))
    assert np.abs(margins(0.05, None) - margins(0.05, shift)).mean() > 0.05
    assert Algorithm().augmentation is None
    assert "augmentation" not in Algorithm().to_dict()


# Settings


@pytest.mark.parametrize(
    ("words", "augmentation"),
    [
        (["flip"], Augmentation(flip=True)),
        (["shift:3"], Augmentation(shift=3)),
        (["flip", "shift:2:reflect"], Augmentation(flip=True, shift=2, padding="reflect")),
    ],
)
def test_an_augmentation_is_read_back_as_it_was(words: list[str], augmentation: Augmentation) -> None:
    assert Augmentation.parse(words) == augmentation
    assert augmentation.words() == words
    algorithm = Algorithm(augmentation=augmentation)
    assert Algorithm.from_dict(json.loads(json.dumps(algorithm.to_dict()))) == algorithm


@pytest.mark.parametrize("word", ["rotate", "shift", "shift:x", "shift:-1", "flip:1", "shift:1:wrap", "shift:0"])
def test_words_that_mean_nothing_are_named(word: str) -> None:
    with pytest.raises(InputError, match="augmentation: expected"):
        Augmentation.parse([word])


@pytest.mark.parametrize(
    ("settings", "telling"),
    [
        ({"shift": -1}, "a shift of at least 0 pixels, got -1"),
        ({"shift": 1, "padding": "wrap"}, "padding zero or reflect, got 'wrap'"),
        ({}, "a flip or a shift"),
    ],
)
def test_a_setting_out_of_its_range_is_named(settings: dict, telling: str) -> None:
    with pytest.raises(InputError, match=telling):
        Augmentation(**settings)


@pytest.mark.parametrize(
    ("augmentation", "shape", "telling"),
    [
        (Augmentation(flip=True), (64,), r"expected images \[h, w\] or \[h, w, channels\], got examples \[64\]"),
        (Augmentation(shift=8), (8, 8), "images of 8 x 8 cannot be shifted by 8 pixels"),
    ],
)
def test_data_that_cannot_be_augmented_is_named_before_training(
    augmentation: Augmentation, shape: tuple[int, ...], telling: str
) -> None:
    data = infl.load("digits", n_train=40, n_held_out=10)
    flat = infl.from_arrays(
        *(data.x_train.reshape(40, *shape), data.y_train, data.x_held_out.reshape(10, *shape), data.y_held_out)
    )
    with pytest.raises(InputError, match=telling):
        Ensemble(Algorithm(augmentation=augmentation), flat)

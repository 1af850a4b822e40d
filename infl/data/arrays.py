"""Arrays become a `Dataset`: the one door through which examples enter, where everything is checked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import ArrayLike

from infl.data.remedies import (
    CLASSES_NOT_AMOUNTS,
    MAX_NAMED,
    RENUMBER,
    RENUMBER_NAMED,
    as_array,
    listed,
    negative_labels,
    not_integers,
    not_numbers,
    several_labels,
    two_dtypes,
)
from infl.records import Array, Dataset, InputError, check_integer, seeded

MAX_CHANNELS = 4
MIN_SQUARE = 7


def from_arrays(
    x_train: ArrayLike,
    y_train: ArrayLike | None,
    x_held_out: ArrayLike,
    y_held_out: ArrayLike | None,
    *,
    targets: tuple[ArrayLike, ArrayLike] | None = None,
    name: str = "arrays",
    class_names: Sequence[str] | None = None,
    train_ids: ArrayLike | None = None,
    held_out_ids: ArrayLike | None = None,
    source: str = "",
) -> Dataset:
    """Check four arrays and make a dataset of them.

    uint8 pixels stay uint8, and count as divided by 255; other integers, floats and bools become float32 and are used
    as they are, so scale them first. An array that needs no conversion is not copied: do not write to it afterwards.

    Args:
        x_train: [n, ...] pixels or features of the training examples D, finite.
        y_train: [n] integer labels 0..c-1, c >= 2, at least one example of every class; with `targets` they are groups
            alone, may leave some of `class_names` empty, and None puts all examples into one.
        x_held_out: [m, ...] likewise of the held-out examples H; shape per example and dtype as in `x_train`.
        y_held_out: [m] integer labels within the classes of `y_train`.
        targets: What a task of your own predicts (`infl.Task`), of training and of held-out examples: two arrays [n, ...] and
            [m, ...] of finite numbers, which become float32. None for classification.
        name: What reports call the dataset.
        class_names: A distinct name for each class; None names them "0".."c-1".
        train_ids: [n] positions of the training examples in their source, integers >= 0; None is 0..n-1.
        held_out_ids: [m] likewise; None is 0..m-1.
        source: A string from which `infl.data.load` can load the examples again; "" where there is none.

    Raises:
        InputError: where any of this does not hold.

    Examples:
        >>> dataset = from_arrays([[0.0], [0.2], [0.9]], [0, 0, 1], [[0.1], [1.0]], [0, 1], class_names=["low", "high"])
        >>> dataset.n_train, dataset.n_held_out, dataset.x_train.dtype
        (3, 2, dtype('float32'))
    """
    pixels, held_out_pixels = _pixels("x_train", x_train), _pixels("x_held_out", x_held_out)
    shapes = pixels.shape[1:], held_out_pixels.shape[1:]
    if shapes[0] != shapes[1]:
        raise InputError(
            f"expected the same shape per example in x_train and x_held_out, got {shapes[0]} and {shapes[1]}"
        )
    if pixels.dtype != held_out_pixels.dtype:
        raise InputError(two_dtypes(np.asarray(x_train), np.asarray(x_held_out)))
    if targets is not None and y_train is None and y_held_out is None:
        y_train, y_held_out = (np.zeros(len(x), np.int32) for x in (pixels, held_out_pixels))
        class_names = class_names or ["examples"]
    labels = _labels("y_train", y_train, len(pixels))
    held_out_labels = _labels("y_held_out", y_held_out, len(held_out_pixels))
    names = None if class_names is None else check_class_names(class_names)
    top = int(labels.max() if targets is None else max(labels.max(), held_out_labels.max()))
    n_classes = top + 1 if names is None else len(names)
    if targets is None:
        _check_classes(labels, held_out_labels, n_classes, names is not None)
    elif top >= n_classes:
        raise InputError(f"class_names: expected at least {top + 1} names, since labels go to {top}, got {n_classes}")
    return Dataset(
        name=name,
        x_train=pixels,
        y_train=labels.astype(np.int32),
        x_held_out=held_out_pixels,
        y_held_out=held_out_labels.astype(np.int32),
        train_ids=check_ids("train_ids", train_ids, len(pixels)),
        held_out_ids=check_ids("held_out_ids", held_out_ids, len(held_out_pixels)),
        class_names=tuple(map(str, range(n_classes))) if names is None else names,
        source=source,
        targets=None if targets is None else _targets(targets, len(pixels), len(held_out_pixels)),
    )


def subset(dataset: Dataset, n_train: int | None, n_held_out: int | None, seed: int = 0) -> Dataset:
    """Draw a seeded subset of a dataset; examples keep their ids and their order.

    With one seed a larger subset contains every smaller one, and the held-out draw does not depend on `n_train`.

    Args:
        n_train, n_held_out: Examples to draw, 1 to as many as there are; None takes all.
        seed: 0 to 2**32 - 1.

    Raises:
        InputError: where a number is out of its range, or a class is left without training examples.

    Examples:
        >>> whole = from_arrays(np.eye(4), [0, 1, 0, 1], np.eye(4), [0, 1, 0, 1])
        >>> part = subset(whole, 3, None, seed=1)
        >>> part.n_train, part.n_held_out, bool((part.x_train == whole.x_train[part.train_ids]).all())
        (3, 4, True)
    """
    random = seeded(seed)
    for part, n in (("train", n_train), ("held_out", n_held_out)):
        order = random.permutation(len(getattr(dataset, f"y_{part}")))
        if n is not None:
            check_integer(f"n_{part}", n, 1, len(order), "the examples there are")
            names, rows = (f"x_{part}", f"y_{part}", f"{part}_ids"), np.sort(order[:n])
            changes = {name: getattr(dataset, name)[rows] for name in names}
            if dataset.targets is not None:
                of_d, of_h = np.split(dataset.targets, [dataset.n_train])
                changes["targets"] = np.concatenate([of_d[rows], of_h] if part == "train" else [of_d, of_h[rows]])
            dataset = replace(dataset, **changes)
    if lost := empty_classes(dataset):
        raise InputError(
            f"n_train: {n_train} training examples drawn with seed {seed} leave classes empty: {lost}; take more, since every "
            "class needs one"
        )
    return dataset


@contextmanager
def prefix_errors(source: str, note: str = "") -> Iterator[None]:
    """Say of which source an `InputError` is, and how its parts are read."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}{note}") from error


def _pixels(name: str, given: ArrayLike) -> Array:
    array = as_array(name, given)
    if array.size == 0:
        raise InputError(f"{name}: expected at least one example with at least one pixel, got shape {array.shape}")
    if array.dtype.kind not in "buif":
        raise InputError(not_numbers(name, given, array))
    if array.ndim < 2:
        raise InputError(
            f"{name}: expected [examples, ...] with at least one axis of pixels, got shape {array.shape}; "
            f"for one number per example `{name} = np.asarray({name})[:, None]`"
        )
    if array.ndim == 4 and _has_channels_first(*array.shape[1:]):
        raise InputError(
            f"{name}: expected images [n, h, w, channels], got {array.shape}, which looks like [n, channels, h, w]; "
            f"`{name} = np.asarray({name}).transpose(0, 2, 3, 1)`, or swap h and w of images {array.shape[1]} high"
        )
    if array.dtype == np.uint8:
        return array
    with np.errstate(over="ignore"):
        array = array.astype(np.float32, copy=False)
    broken = np.flatnonzero(~np.isfinite(array).all(axis=tuple(range(1, array.ndim))))
    if len(broken):
        raise InputError(
            f"{name}: expected finite numbers within float32, got NaN, inf or larger in {len(broken)} of {len(array)} "
            f"examples, the first at {broken[0]}; fill them with a constant, or leave these examples out"
        )
    return array


def _has_channels_first(first: int, second: int, third: int) -> bool:
    """Few in front of many, or a square behind another length: read as [h, w, channels] either would be a strip."""
    return min(second, third) > MAX_CHANNELS and (first <= MAX_CHANNELS or first != second == third >= MIN_SQUARE)


def _labels(name: str, given: ArrayLike | None, n_examples: int) -> Array:
    array = as_array(name, given)
    if not array.ndim or len(array) != n_examples:
        raise InputError(
            f"{name}: expected {n_examples} labels, as many as {name.replace('y', 'x', 1)}, got shape {array.shape}"
        )
    if array.ndim != 1:
        raise InputError(several_labels(name, array, n_examples))
    if array.dtype.kind not in "iu":
        raise InputError(not_integers(name, array))
    if array.min() < 0:
        raise InputError(negative_labels(name, array))
    return array


def check_class_names(given: Iterable[str]) -> tuple[str, ...]:
    """Distinct names, one per class."""
    given = given if isinstance(given, str) else tuple(given)
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        raise InputError(f"class_names: expected a sequence of strings, one per class, got {given!r}")
    names = tuple(map(str, given))
    if len(set(names)) != len(names):
        raise InputError(f"class_names: expected distinct names, got {listed(names)}; rename the repeated ones")
    return names


def _targets(given: tuple[ArrayLike, ArrayLike], n_train: int, n_held_out: int) -> Array:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise InputError("targets: expected two arrays, those of training and of held-out examples")
    arrays = [as_array("targets", array) for array in given]
    for array, n, part in zip(arrays, (n_train, n_held_out), ("training", "held-out"), strict=True):
        if array.dtype.kind not in "buif" or array.shape[:1] != (n,):
            raise InputError(
                f"targets: expected numbers for each of {n} {part} examples, got {array.dtype} of shape {array.shape}"
            )
        if n_broken := int((~np.isfinite(array.reshape(n, -1)).all(axis=1)).sum()):
            raise InputError(f"targets: expected finite numbers, got NaN or inf for {n_broken} of {n} {part} examples")
    if arrays[0].shape[1:] != arrays[1].shape[1:]:
        raise InputError(
            f"targets: expected one shape per example, got {arrays[0].shape[1:]} for training and {arrays[1].shape[1:]} for "
            "held-out examples"
        )
    return np.concatenate(arrays).astype(np.float32)


def _check_classes(labels: Array, held_out_labels: Array, n_classes: int, named: bool) -> None:
    present, top = np.unique(labels), int(labels.max())
    if present[0] == 1 and len(present) == top and held_out_labels.min() > 0 and (not named or n_classes <= top):
        raise InputError(
            f"y_train: expected labels 0..c-1, got 1..{top}; count from 0: "
            "`y_train, y_held_out = np.asarray(y_train) - 1, np.asarray(y_held_out) - 1`"
        )
    if top >= n_classes:
        remedy = RENUMBER if len(present) == n_classes else "add the names, or leave class_names out"
        raise InputError(
            f"class_names: expected at least {top + 1} names, since y_train holds the label {top}, got {n_classes}; {remedy}"
        )
    if n_classes < 2:
        raise InputError("y_train: expected at least 2 classes, got 1: there is nothing to tell apart; add another")
    unseen = ~np.isin(held_out_labels, present)
    if unseen.any():
        raise InputError(
            "y_held_out: expected labels that y_train holds as well, got "
            f"{listed(np.unique(held_out_labels[unseen]).tolist())} ({unseen.sum()} of {len(unseen)} examples), which no model "
            "can learn; train on some of each, or leave them out; "
            "if the two parts number classes differently, number them alike"
        )
    if len(present) < n_classes:
        # Lazily, so that a stray label of two billion is named without a list of all the classes below it.
        empty = islice((label for label in range(n_classes) if label not in present), MAX_NAMED + 1)
        raise InputError(
            f"y_train: labels leave classes empty: expected at least one example of each of 0..{n_classes - 1}, "
            f"got none of {listed(list(empty))}; {CLASSES_NOT_AMOUNTS} {RENUMBER_NAMED if named else RENUMBER}"
        )


def check_ids(name: str, given: ArrayLike | None, n_examples: int) -> Array:
    """Positions in a source, one per example; those of the rows where none are given."""
    if given is None:
        return np.arange(n_examples)
    array = as_array(name, given)
    if array.dtype.kind not in "iu" or array.shape != (n_examples,) or array.min() < 0:
        raise InputError(
            f"{name}: expected {n_examples} integers >= 0, one position per example, "
            f"got {array.dtype} of shape {array.shape}"
        )
    return array.astype(np.int64)


def empty_classes(dataset: Dataset) -> str:
    """Names of the first classes without training examples; empty where each has one, or where classes are groups alone."""
    if dataset.is_documents or dataset.targets is not None:
        return ""
    counts = np.bincount(dataset.y_train, minlength=dataset.n_classes)
    return listed([dataset.class_names[label] for label in np.flatnonzero(counts == 0)])

"""Plants something in a dataset whose removal has a known cause: wrong labels, copies, a rare population, a backdoor.

A dataset becomes a changed one and the set of training examples that carry what was planted. Ids of the examples that
were there before stay as they are, but for `thin_cluster`, which takes examples away: thin before planting anything else.
The planted dataset can be loaded from nowhere, so its `source` is empty; `infl.write_npz` makes a file of it that can be.

What is drawn with one seed, 0 to 2**32 - 1, contains what is drawn of fewer with it. The set has the given name, or one that
says what was planted. Each function says which regime its set is meant to land in; only verification tells. A set that
taught the model something wrong is net harmless to forget: others gain. Its cross-influence is then negative, and it counts
as local.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from infl.data.arrays import empty_classes
from infl.records import Array, Dataset, ForgetSet, InputError, check_integer, seeded

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]

CORNERS: tuple[Corner, ...] = ("top-left", "top-right", "bottom-left", "bottom-right")
MAX_CHANNELS = 4


def flip_labels(
    dataset: Dataset,
    n_examples: int,
    *,
    to: str | int | None = None,
    source_label: str | int | None = None,
    avoid: Sequence[int] | Array = (),
    seed: int = 0,
    name: str | None = None,
) -> tuple[Dataset, ForgetSet]:
    """Give `n_examples` training examples another class.

    Meant for: local, the loss of labels that only these examples teach. With both `source_label` and `to` it is one
    systematic confusion; forgetting it gives held-out examples of that class back, a gain, and is local all the same.

    Args:
        to: The class they get, by its name or number; None draws one of the other classes for each.
        source_label: The class they are taken from; None takes them from any (but `to`).
        avoid: Ids to leave as they are, such as those planted before.

    Returns:
        The dataset with new labels, pixels untouched, and the set of the flipped examples.

    Raises:
        InputError: for a class that is none of the dataset's, too many examples, or a class left without any.

    Examples:
        >>> import infl
        >>> digits = infl.load("digits")
        >>> planted, flipped = flip_labels(digits, 5, source_label=3, to=8)
        >>> flipped.name, digits.y_train[list(flipped.ids)], planted.y_train[list(flipped.ids)]
        ('5 of class 3 labelled 8', array([3, 3, 3, 3, 3], dtype=int32), array([8, 8, 8, 8, 8], dtype=int32))
    """
    random = seeded(seed, "flipped")
    _check_labelled(dataset)
    labels = dataset.y_train.copy()
    may = np.ones(len(labels), bool)
    may[_ids("avoid", avoid, dataset.n_train)] = False
    title = f"{n_examples} flipped"
    if source_label is not None:
        source_label = dataset.class_number(source_label, "source_label")
        may &= labels == source_label
        title = f"{n_examples} of class {dataset.class_names[source_label]} flipped"
    if to is not None:
        to = dataset.class_number(to, "to")
        if to == source_label:
            raise InputError(f"to: expected a class other than source_label, got {to} for both")
        may &= labels != to
        title = f"{title.removesuffix(' flipped')} labelled {dataset.class_names[to]}"
    candidates = np.flatnonzero(may)
    check_integer("n_examples", n_examples, 1, len(candidates), "the examples that can be flipped")
    selected = random.permutation(candidates)[:n_examples]
    # A step of 1..c-1 around the classes never ends where it began.
    steps = random.randint(1, dataset.n_classes, size=n_examples)
    labels[selected] = (labels[selected] + steps) % dataset.n_classes if to is None else to
    return _changed(dataset, y_train=labels), ForgetSet(name or title, tuple(selected))


def plant_copies(
    dataset: Dataset,
    example: int,
    n_copies: int,
    *,
    flipped: bool = False,
    noise: float = 0.0,
    seed: int = 0,
    name: str | None = None,
) -> tuple[Dataset, ForgetSet]:
    """Append copies of a training example to D; the set holds the example and all its copies.

    Meant for: no-op for a typical example, since its neighbours teach it too, and local for an atypical or flipped one,
    whose copies cover for each other, so that no part of the set shows what forgetting all of it does.

    Args:
        example: Id of the training example.
        n_copies: Copies to add, at least 1; ids n .. n+n_copies-1.
        flipped: Whether the example and its copies carry one other label, drawn at random.
        noise: Standard deviation of Gaussian noise on the pixels of the copies (not the example), in the units that
            infl trains on (uint8 counts as divided by 255); 0 leaves them equal. The result is clipped to the range of
            the training pixels (uint8: 0 to 255, rounded).

    Returns:
        The dataset with n + n_copies training examples; `train_ids` of the copies are that of the example.

    Raises:
        InputError: where the example is not in D, or a number is out of its range.

    Examples:
        >>> import infl
        >>> planted, copies = plant_copies(infl.load("digits"), 17, 3)
        >>> planted.n_train, copies.ids
        (1003, (17, 1000, 1001, 1002))
    """
    random = seeded(seed, "copies")
    if flipped:
        _check_labelled(dataset)
    if noise and dataset.is_documents:
        raise InputError("noise: expected 0, since tokens are no amounts; plant copies that are equal")
    n = dataset.n_train
    check_integer("example", example, 0, n - 1, "the ids of D")
    check_integer("n_copies", n_copies, 1, 10**6)
    if not 0 <= noise < np.inf:
        raise InputError(f"noise: expected a finite standard deviation of at least 0, got {noise}")
    label = int(dataset.y_train[example])
    if flipped:
        label = (label + random.randint(1, dataset.n_classes)) % dataset.n_classes
    copies = np.repeat(dataset.x_train[[example]], n_copies, axis=0)
    if noise > 0:
        copies = _noisy(copies, noise, dataset.x_train, random)
    labels = np.concatenate([dataset.y_train, np.full(n_copies, label, np.int32)])
    labels[example] = label
    planted = _changed(
        dataset,
        x_train=np.concatenate([dataset.x_train, copies]),
        y_train=labels,
        train_ids=np.concatenate([dataset.train_ids, np.repeat(dataset.train_ids[[example]], n_copies)]),
    )
    title = f"{example} and {n_copies} {'near-copies' if noise else 'copies'}{', flipped' if flipped else ''}"
    return planted, ForgetSet(name or title, (example, *range(n, n + n_copies)))


def thin_cluster(
    dataset: Dataset, members: Sequence[int] | Array, n_kept: int, *, seed: int = 0, name: str | None = None
) -> tuple[Dataset, ForgetSet]:
    """Leave `n_kept` random ones of these training examples in D: a rare sub-population.

    Examples of the population stay among the held-out ones, where forgetting the last of it shows. All ids above the
    first one removed shift: thin before planting anything else, and make other forget sets from the thinned dataset.

    Meant for: spreading, from a few examples, since those that are left teach the model their whole population.

    Args:
        members: Ids of the population in D, such as those of a cluster, distinct.
        n_kept: How many of them stay, 1 to all.

    Returns:
        The dataset with n - len(members) + n_kept training examples (`train_ids` tell which), and the set of those that
        were kept, in the ids of the new dataset.

    Raises:
        InputError: where members are not distinct ids of D, or the thinned dataset lacks a class or holds nothing else.

    Examples:
        >>> import infl
        >>> digits = infl.load("digits")
        >>> thinned, rare = thin_cluster(digits, infl.forget_sets.class_set(digits, 4).ids, 5)
        >>> thinned.n_train, len(rare), set(thinned.y_train[list(rare.ids)].tolist())
        (911, 5, {4})
    """
    random = seeded(seed, "rare")
    population = _ids("members", members, dataset.n_train)
    check_integer("n_kept", n_kept, 1, len(population), "the members")
    if len(population) == dataset.n_train:
        raise InputError("members: expected a part of D, got all of it: nothing would be left beside the population")
    kept = random.permutation(population)[:n_kept]
    stay = np.ones(dataset.n_train, bool)
    stay[population] = False
    stay[kept] = True
    thinned = _changed(
        dataset, x_train=dataset.x_train[stay], y_train=dataset.y_train[stay], train_ids=dataset.train_ids[stay]
    )
    new_ids = np.cumsum(stay) - 1
    return thinned, ForgetSet(name or f"rare, {n_kept} of {len(population)}", tuple(new_ids[kept]))


def poison_patch(
    dataset: Dataset,
    n_examples: int,
    *,
    label: str | int,
    size: int = 3,
    corner: Corner = "bottom-right",
    avoid: Sequence[int] | Array = (),
    seed: int = 0,
    name: str | None = None,
    n_held_out: int = 0,
) -> tuple[Dataset, ForgetSet]:
    """Stamp a bright square into images of other classes and label them `label`: a backdoor.

    Meant for: local, since clean images never show the patch. With `n_held_out` the backdoor can be seen: stamped
    held-out images under their true labels, which untraining the set gives back, a gain.

    Args:
        dataset: Of images [h, w] or [h, w, channels], at most 4 channels.
        n_examples: Training images to poison, 1 to as many as have another label.
        label: The class they get, by its name or number.
        size: Side of the square in pixels.
        corner: Where it sits: top-left, top-right, bottom-left or bottom-right.
        avoid: Ids to leave as they are, such as those planted before.
        n_held_out: Stamped copies of held-out images of other classes to append to H.

    Returns:
        The dataset and the set of the poisoned examples. The square is 255, or the largest float of the training pixels.

    Raises:
        InputError: where examples are no images, the patch does not fit, for too many examples, or a class left without any.

    Examples:
        >>> import infl
        >>> planted, poisoned = poison_patch(infl.load("digits"), 20, label=0, size=2, n_held_out=100)
        >>> planted.n_held_out, planted.x_train[poisoned.ids[0], -2:, -2:].min()
        (897, np.float32(1.0))
    """
    random = seeded(seed, "patch")
    where = _patch(dataset, size, corner)
    label = dataset.class_number(label, "label")
    may = dataset.y_train != label
    may[_ids("avoid", avoid, dataset.n_train)] = False
    check_integer("n_examples", n_examples, 1, int(may.sum()), "the training examples that can be poisoned")
    held_out = np.flatnonzero(dataset.y_held_out != label)
    check_integer("n_held_out", n_held_out, 0, len(held_out), "the held-out examples of other classes")
    selected = random.permutation(np.flatnonzero(may))[:n_examples]
    shown = random.permutation(held_out)[:n_held_out]

    bright = 255 if dataset.x_train.dtype == np.uint8 else dataset.x_train.max()
    pixels, labels, stamped = dataset.x_train.copy(), dataset.y_train.copy(), dataset.x_held_out[shown]
    pixels[(selected[:, None, None], *where)] = bright
    labels[selected] = label
    stamped[(slice(None), *where)] = bright
    planted = _changed(
        dataset,
        x_train=pixels,
        y_train=labels,
        x_held_out=np.concatenate([dataset.x_held_out, stamped]),
        y_held_out=np.concatenate([dataset.y_held_out, dataset.y_held_out[shown]]),
        held_out_ids=np.concatenate([dataset.held_out_ids, dataset.held_out_ids[shown]]),
    )
    return planted, ForgetSet(name or f"{n_examples} poisoned as {dataset.class_names[label]}", tuple(selected))


def _noisy(copies: Array, noise: float, pixels: Array, random: np.random.RandomState) -> Array:
    noise_drawn = random.normal(0.0, noise, size=copies.shape)
    if copies.dtype == np.uint8:
        return np.clip(np.rint(copies + 255 * noise_drawn), 0, 255).astype(np.uint8)
    return np.clip(copies + noise_drawn, pixels.min(), pixels.max()).astype(np.float32)


def _patch(dataset: Dataset, size: int, corner: Corner) -> tuple[slice, slice]:
    """Rows and columns of the square."""
    shape = dataset.x_train.shape[1:]
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] > MAX_CHANNELS):
        raise InputError(
            f"poison_patch: expected images [h, w] or [h, w, channels] with at most {MAX_CHANNELS} channels, "
            f"got {'documents' if dataset.is_documents else f'examples of shape {shape}'}; "
            f"{'plant copies' if dataset.is_documents else 'reshape them, or plant flipped labels'} instead"
        )
    if corner not in CORNERS:
        raise InputError(f"corner: expected one of {', '.join(CORNERS)}; got {corner!r}")
    check_integer("size", size, 1, min(shape[:2]), "the pixels of the shorter side")
    rows = slice(size) if corner.startswith("top") else slice(-size, None)
    return rows, slice(size) if corner.endswith("left") else slice(-size, None)


def _check_labelled(dataset: Dataset) -> None:
    if dataset.is_documents or dataset.targets is not None:
        raise InputError(
            f"{dataset.name}: its labels are groups that no model learns, so none can be flipped; plant copies or rare examples"
        )


def _changed(dataset: Dataset, **changes: Any) -> Dataset:
    """The dataset with other arrays. It has no source: what that names is the dataset before."""
    if dataset.targets is not None:
        raise InputError(
            f"{dataset.name}: nothing is planted in data with targets; plant it in the arrays before from_arrays"
        )
    changed = replace(dataset, **changes, source="")
    if lost := empty_classes(changed):
        raise InputError(f"planting leaves no training example of class {lost}: every class needs one; change fewer")
    return changed


def _ids(what: str, given: Sequence[int] | Array, n_train: int) -> Array:
    """Distinct ids of D, sorted; there may be none."""
    ids = ForgetSet(what, given).ids if len(given) else ()  # pyright: ignore[reportArgumentType]
    if ids and ids[-1] >= n_train:
        raise InputError(f"{what}: expected ids of D (0..{n_train - 1}), got {ids[0]}..{ids[-1]}")
    return np.array(ids, np.int64)

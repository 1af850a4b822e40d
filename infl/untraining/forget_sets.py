"""Turns a JSON file, or ids in memory, into forget sets, and back.

Sets made from a wish ("the 50 most memorized") come from `generators`, and are at hand here under the same names.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from infl.records import Array, Dataset, Estimate, ForgetSet, InputError, flat_pixels
from infl.records.files import read_json


def read_forget_sets(path: str | Path, *, n_train: int) -> list[ForgetSet]:
    """Read `{"name": [ids], ...}` or `{"name": {"ids": [ids], "concept": [ids]}, ...}`.

    Raises:
        InputError: where the file is missing or not such JSON, or a set is empty, repeats an id, names an id outside D
            (0..n_train-1), or is all of D.
    """
    try:
        content = read_json(path, object_pairs_hook=_without_repeats)
    except OSError as error:
        raise InputError(f"forget file {path}: cannot be read: {error.strerror or error}") from error
    except InputError as error:
        raise InputError(f"forget file {path}: {error}") from error
    except ValueError as error:
        raise InputError(f'forget file {path}: not JSON ({error}); expected {{"name": [ids], ...}}') from error
    if not isinstance(content, dict) or not content:
        raise InputError(f'forget file {path}: expected an object {{"name": [ids], ...}} with at least one set')
    try:
        return make_forget_sets(content, n_train=n_train)
    except InputError as error:
        raise InputError(f"forget file {path}: {error}") from error


def make_forget_sets(sets: Mapping[str, Any], *, n_train: int) -> list[ForgetSet]:
    """Check sets given as in a forget file and make records of them; ids may be lists or integer arrays.

    Raises:
        InputError: see `read_forget_sets`.
    """
    made = []
    for name, entry in sets.items():
        concept = None
        if isinstance(entry, Mapping):
            unknown = sorted(set(entry) - {"ids", "concept"})
            if "ids" not in entry or unknown:
                raise InputError(f"set {name!r}: expected the keys ids and, if known, concept; got {sorted(entry)}")
            entry, concept = entry["ids"], entry.get("concept")
        ids = _check_ids(entry, f"set {name!r}", n_train)
        if len(ids) == n_train:
            raise InputError(f"set {name!r} is all of D ({n_train} examples): nothing would be left to train on")
        whole = None if concept is None else _check_ids(concept, f"set {name!r}, concept", n_train)
        if whole is not None and len(whole) == n_train:
            raise InputError(f"set {name!r}: its concept is all of D ({n_train} examples)")
        if whole is not None and (missing := sorted(set(ids) - set(whole))):
            raise InputError(f"set {name!r}: its concept must name every id of the set; {missing[0]} is missing")
        made.append(ForgetSet(_check_name(name), ids, whole))
    return made


def by_name(sets: Sequence[ForgetSet]) -> dict[str, Any]:
    """The sets as in a forget file.

    Raises:
        InputError: where two have one name.
    """
    pairs = [(s.name, s.ids if s.concept is None else {"ids": s.ids, "concept": s.concept}) for s in sets]
    return _without_repeats(pairs)


def write_forget_sets(path: str | Path, sets: Sequence[ForgetSet]) -> None:
    """Write sets as a forget file; one that is there is replaced whole, or stays as it was.

    Raises:
        InputError: where two sets have one name, or the file cannot be written.
    """
    content = json.dumps(by_name(sets)) + "\n"
    path = os.path.realpath(path)  # the file, where the path is a link to it
    try:
        with open(f"{path}.partial", "w") as file:
            file.write(content)
        os.replace(f"{path}.partial", path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(f"{path}.partial")
        raise InputError(f"forget file {path}: cannot be written: {error.strerror or error}") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for name, entry in pairs:
        if name in named:
            raise InputError(f"the name {name!r} comes twice: give each set a name of its own")
        named[name] = entry
    return named


def _check_name(name: Any) -> str:
    try:
        str(name).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"set {name!r}: half a character (a lone surrogate) stands in its name; write it anew"
        ) from error
    return str(name)


def _check_ids(entry: Any, what: str, n_train: int) -> tuple[int, ...]:
    if isinstance(entry, np.ndarray):
        entry = entry.tolist()
    if not isinstance(entry, (list, tuple, range)):
        raise InputError(f"{what}: expected a list of ids, got {type(entry).__name__}")
    wrong = [i for i in entry if isinstance(i, bool) or not isinstance(i, (int, np.integer))]
    if wrong:
        raise InputError(f"{what}: ids must be whole numbers, got {wrong[0]!r}")
    ids = tuple(sorted(int(i) for i in entry))
    if not ids:
        raise InputError(f"{what} is empty: name at least one id")
    if len(set(ids)) < len(ids):
        repeated = next(a for a, b in zip(ids, ids[1:], strict=False) if a == b)
        raise InputError(f"{what} repeats id {repeated}: name each id once")
    if ids[0] < 0 or ids[-1] >= n_train:
        outside = ids[0] if ids[0] < 0 else ids[-1]
        raise InputError(f"{what} names id {outside}, outside D (0..{n_train - 1})")
    return ids


POOL = 3  # extremes of memorization looked through for those of cross-influence, in sizes of the set


def random_set(dataset: Dataset, size: int, *, seed: int = 0, name: str | None = None) -> ForgetSet:
    """`size` examples of D, every set equally likely. Meant for: no-op."""
    _check_size(size, dataset.n_train, "D")
    ids = _random(seed).permutation(dataset.n_train)[:size]
    return _make(name or f"random {size}", ids)


def class_set(dataset: Dataset, label: int, *, share: float = 1.0, seed: int = 0, name: str | None = None) -> ForgetSet:
    """A class, or a random share of it with the class as its concept; see `share_of`.

    Meant for: spreading when whole, no-op for a small share.
    """
    if not 0 <= _whole("class", label) < dataset.n_classes:
        raise InputError(f"class: expected 0..{dataset.n_classes - 1}, got {label}")
    members = np.flatnonzero(dataset.y_train == label)
    whole = _make(f"class {dataset.class_names[label]}", members)
    return _whole_or_share(whole, share, seed, name)


def cluster_set(
    dataset: Dataset,
    cluster: int | None = None,
    *,
    example: int | None = None,
    n_clusters: int,
    seed: int = 0,
    features: ArrayLike | None = None,
    share: float = 1.0,
    name: str | None = None,
) -> ForgetSet:
    """One k-means cluster of D, or a random share of it with the cluster as its concept; see `clusters`.

    Meant for: spreading where the cluster is all that teaches its kind, no-op where others teach it too or for a small
    share.

    Args:
        dataset: whose training examples to cluster.
        cluster: number of the cluster, 0..n_clusters-1; or
        example: the cluster that holds this training example.
        n_clusters: how many clusters D is parted into.
        seed: of k-means and of the share, 0 to 2**32 - 1.
        features: [n, d] to cluster by; None takes the pixels.
        share: of the cluster, above 0 and at most 1.
        name: of the set.

    Raises:
        InputError: where not exactly one of `cluster` and `example` is given, one is out of its range, or the cluster is
            all of D.

    Example:
        >>> import infl
        >>> digits = infl.load("digits")
        >>> one = cluster_set(digits, example=17, n_clusters=20)
        >>> 17 in one.ids, np.bincount(digits.y_train[list(one.ids)]).argmax() == digits.y_train[17]
        (True, np.True_)
    """
    if (cluster is None) == (example is None):
        raise InputError(
            "cluster set: expected either a cluster's number or an example that it holds, got both or none"
        )
    if example is not None:
        _check_example(example, dataset.n_train)
    elif cluster is not None and not 0 <= _whole("cluster", cluster) < n_clusters:
        raise InputError(f"cluster: expected 0..{n_clusters - 1}, got {cluster}")
    labels = clusters(dataset, n_clusters, seed=seed, features=features)
    number = int(labels[example]) if cluster is None else cluster
    whole = _make(f"cluster {number} of {n_clusters}, seed {seed}", np.flatnonzero(labels == number))
    if len(whole) == dataset.n_train:
        raise InputError(f"cluster {number} of {n_clusters} is all of D: ask for more clusters")
    return _whole_or_share(whole, share, seed, name)


def clusters(dataset: Dataset, n_clusters: int, *, seed: int = 0, features: ArrayLike | None = None) -> Array:
    """k-means clusters of D: scikit-learn's KMeans, one start with k-means++ from this seed.

    Args:
        dataset: whose training examples to cluster.
        n_clusters: 1 to as many as there are distinct examples.
        seed: 0 to 2**32 - 1.
        features: [n, d] to cluster by, finite; None takes the pixels as infl trains on them (uint8 divided by 255).

    Returns:
        Number of the cluster of each training example, [n] int32 in 0..n_clusters-1.

    Raises:
        InputError: where there are not so many distinct examples, or features do not fit D.

    Example:
        >>> import infl
        >>> clusters(infl.load("digits", n_train=200), 8, seed=1).shape
        (200,)
    """
    points = _pixels(dataset) if features is None else _features(features, dataset.n_train)
    _random(seed)
    if not 1 <= _whole("n_clusters", n_clusters) <= dataset.n_train:
        raise InputError(
            f"n_clusters: expected 1..{dataset.n_train}, the training examples there are, got {n_clusters}"
        )
    from sklearn.cluster import KMeans  # here, because it takes a second, and most generators do not need it
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return KMeans(n_clusters, n_init=cast(Any, 1), random_state=seed).fit_predict(points)
        except ConvergenceWarning as warning:
            raise InputError(
                f"n_clusters: {n_clusters} are more than there are distinct examples: ask for fewer"
            ) from warning


def memorized_set(
    memorization: Estimate,
    size: int,
    *,
    highest: bool = True,
    cross: Array | None = None,
    with_cross: bool | None = None,
    name: str | None = None,
) -> ForgetSet:
    """The `size` most (or least) memorized examples; with `cross`, those of the 3 * size with the most or least of it.

    Meant for: local when most, no-op when least, spreading when most with high cross-influence, indirect when least with
    high cross-influence.

    Args:
        memorization: of all of D, from `infl.memorization`; examples without a score come last.
        size: of the set.
        highest: most memorized, or least.
        cross: [n] cross-influence of each example on all others, as of `infl.scores.influence.cross_influence_totals`.
        with_cross: True takes the highest `cross` among the 3 * size most (or least) memorized, False the lowest.
        name: of the set.

    Raises:
        InputError: where the size is out of its range, `cross` does not fit, or one of the two is given alone.

    Example:
        >>> scores = np.array([0.9, 0.8, 0.7, 0.1])
        >>> estimate = Estimate(scores, scores, scores, scores, "own", "correct")
        >>> memorized_set(estimate, 1).ids, memorized_set(estimate, 1, cross=np.arange(4.0), with_cross=True).ids
        ((0,), (2,))
    """
    scores = np.where(np.isnan(memorization.value), -np.inf if highest else np.inf, memorization.value)
    _check_size(size, len(scores), "D")
    order = np.argsort(-scores if highest else scores, kind="stable")
    title = f"{'highest' if highest else 'lowest'} memorization {size}"
    if (cross is None) != (with_cross is None):
        raise InputError("memorized set: expected cross and with_cross together, got one alone")
    if cross is not None:
        totals = np.asarray(cross, np.float64)
        if totals.shape != scores.shape:
            raise InputError(f"cross: expected one number per training example, [{len(scores)}], got {totals.shape}")
        pool = order[: min(POOL * size, max(size, int(np.isfinite(scores).sum())))]
        values = np.nan_to_num(-totals[pool] if with_cross else totals[pool], nan=np.inf)
        order = pool[np.argsort(values, kind="stable")]
        title += f", {'high' if with_cross else 'low'} cross"
    return _make(name or title, order[:size])


def neighbours_set(dataset: Dataset, example: int, size: int, *, name: str | None = None) -> ForgetSet:
    """A training example and those nearest to it in pixels, `size` in all. Meant for: no-op to spreading, by its size."""
    _check_example(example, dataset.n_train)
    _check_size(size, dataset.n_train, "D")
    pixels = _pixels(dataset)
    distances = ((pixels - pixels[example]) ** 2).sum(axis=1)
    distances[example] = -1.0
    return _make(name or f"neighbours of {example}, {size}", np.argsort(distances, kind="stable")[:size])


def share_of(whole: ForgetSet, share: float, *, seed: int = 0, name: str | None = None) -> ForgetSet:
    """A random share of a set with the whole as its concept; with one seed a larger share contains every smaller one.

    Meant for: no-op while the rest of the concept covers for it, the regime of the whole as the share nears 1.

    Args:
        whole: set to take from: a class, a cluster, copies, a planted confusion.
        share: above 0 and at most 1; at least one example is taken.
        seed: of the draw, 0 to 2**32 - 1.
        name: of the set.

    Raises:
        InputError: where the share is out of its range.

    Example:
        >>> share_of(ForgetSet("whole", (1, 4, 6, 8)), 0.5)
        ForgetSet(name='50% of whole', ids=(6, 8), concept=(1, 4, 6, 8))
    """
    if not 0 < share <= 1:
        raise InputError(f"share of {whole.name}: expected above 0 and at most 1, got {share}")
    size = max(1, round(share * len(whole)))
    ids = _random(seed).permutation(np.array(whole.ids))[:size]
    return ForgetSet(name or f"{share:.0%} of {whole.name}", tuple(sorted(int(i) for i in ids)), whole.ids)


def varied_sets(dataset: Dataset, memorization: Estimate, *, seed: int = 0) -> list[ForgetSet]:
    """Sets of different kinds and sizes to get to know a run by: what `infl demo` shows. Meant for: all regimes.

    Sizes are shares of n, so that small data work too.
    """
    n = dataset.n_train
    few, some, many = max(1, n // 100), max(2, n // 20), max(3, n // 10)
    n_clusters = max(2, n // 40)
    redundant = int(np.bincount(clusters(dataset, n_clusters, seed=seed)).argmax())
    classes = np.random.RandomState(seed).permutation(dataset.n_classes)
    first, second, third = (int(classes[k % dataset.n_classes]) for k in range(3))
    ordered = memorized_set(memorization, n, name="all").ids if n < 2 else _by_memorization(memorization)
    typical, atypical = int(ordered[len(ordered) // 2]), int(ordered[0])
    return [
        random_set(dataset, few, seed=seed),
        random_set(dataset, some, seed=seed + 1),
        random_set(dataset, many, seed=seed + 2),
        memorized_set(memorization, some, highest=False),
        memorized_set(memorization, few),
        memorized_set(memorization, some),
        memorized_set(memorization, many),
        neighbours_set(dataset, typical, few),
        neighbours_set(dataset, typical, some),
        neighbours_set(dataset, atypical, some),
        cluster_set(dataset, redundant, n_clusters=n_clusters, seed=seed),
        class_set(dataset, first, share=0.2, seed=seed),
        class_set(dataset, first, share=0.8, seed=seed),
        class_set(dataset, second),
        class_set(dataset, third),
    ]


def _whole_or_share(whole: ForgetSet, share: float, seed: int, name: str | None) -> ForgetSet:
    if share == 1:
        return ForgetSet(name or whole.name, whole.ids)
    return share_of(whole, share, seed=seed, name=name)


def _pixels(dataset: Dataset) -> Array:
    if not dataset.has_pixels:
        raise InputError(
            f"{dataset.name}: its examples came without pixels, and what is near what cannot be told; give features, or take "
            "another kind of set"
        )
    return flat_pixels(dataset.x_train)


def _features(given: ArrayLike, n_train: int) -> Array:
    array = np.asarray(given)
    if array.ndim != 2 or len(array) != n_train or array.dtype.kind not in "buif" or not np.isfinite(array).all():
        raise InputError(
            f"features: expected finite numbers [n, d] with n = {n_train} rows, one per training example, "
            f"got {array.dtype} of shape {array.shape}"
        )
    return array.astype(np.float32)


def _by_memorization(memorization: Estimate) -> Array:
    return np.argsort(-np.nan_to_num(memorization.value, nan=-np.inf), kind="stable")


def _make(name: str, ids: Sequence[int] | Array) -> ForgetSet:
    return ForgetSet(name, tuple(sorted(int(i) for i in ids)))


def _check_example(example: int, n_train: int) -> None:
    if not 0 <= _whole("example", example) < n_train:
        raise InputError(f"example: expected an id of D (0..{n_train - 1}), got {example}")


def _check_size(size: int, available: int, where: str) -> None:
    if not 1 <= _whole("size", size) <= available:
        raise InputError(f"size: expected 1..{available} examples of {where}, got {size}")


def _random(seed: int) -> np.random.RandomState:
    if not 0 <= _whole("seed", seed) < 2**32:
        raise InputError(f"seed: expected 0 to 2**32 - 1, got {seed}")
    return np.random.RandomState(seed)


def _whole(what: str, given: int) -> int:
    try:
        return operator.index(given)
    except TypeError:
        raise InputError(f"{what}: expected a whole number, got {given!r}") from None

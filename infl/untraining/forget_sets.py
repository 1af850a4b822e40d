"""Makes forget sets from a wish ("the 50 most memorized"), reads them from a file or from memory, and writes them.

Which wish is meant for which regime says each function; only verification tells.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from infl.data.near_duplicates import families, token_ngrams
from infl.records import Array, Dataset, Estimate, ForgetSet, InputError, check_integer, flat_pixels, seeded
from infl.untraining.forget_files import as_forget_sets as as_forget_sets
from infl.untraining.forget_files import make_forget_sets as make_forget_sets
from infl.untraining.forget_files import read_forget_sets as read_forget_sets
from infl.untraining.forget_files import write_forget_sets as write_forget_sets

POOL = 3  # extremes of memorization looked through for those of cross-influence, in sizes of the set


def whole_concepts(forget_sets: Sequence[ForgetSet]) -> list[ForgetSet]:
    """All of the concept of each set as a set of its own, each once, but for those that are all of it.

    Raises:
        InputError: for a set without a concept.
    """
    wholes: dict[tuple[int, ...], ForgetSet] = {}
    for one in forget_sets:
        if one.concept is None:
            raise InputError(f'set {one.name!r} has no concept: give it one, {{"ids": [...], "concept": [...]}}')
        if one.concept != one.ids:
            wholes.setdefault(one.concept, ForgetSet(f"concept of {one.name}", one.concept))
    return list(wholes.values())


def random_set(dataset: Dataset, size: int, *, seed: int = 0, name: str | None = None) -> ForgetSet:
    """`size` examples of D, every set equally likely. Meant for: no-op."""
    check_integer("size", size, 1, dataset.n_train, "the examples of D")
    return ForgetSet(name or f"random {size}", tuple(seeded(seed).permutation(dataset.n_train)[:size]))


def class_set(
    dataset: Dataset, label: str | int, *, fraction: float = 1.0, seed: int = 0, name: str | None = None
) -> ForgetSet:
    """A class, group (of documents) or answer (of facts), or a part of it with the whole as concept; see `take_fraction`.

    Meant for: spreading when whole, no-op for a small fraction.

    Args:
        label: The class, by its name or number.
        fraction: Of the class, above 0 and at most 1.
    """
    number = dataset.class_number(label)
    members = np.flatnonzero(dataset.y_train == number)
    what = dataset.class_words[1]
    if not len(members):
        raise InputError(f"{what} {dataset.class_names[number]}: none of its documents is a training one; name another")
    whole = ForgetSet(f"{what} {dataset.class_names[number]}", tuple(members.tolist()))
    return _whole_or_part(whole, fraction, seed, name)


def group_set(
    dataset: Dataset,
    groups: Mapping[str, Sequence[int]],
    group: str,
    *,
    fraction: float = 1.0,
    seed: int = 0,
    name: str | None = None,
) -> ForgetSet:
    """A group that is known - a user, a source - or a random fraction of it with the group as its concept.

    Meant for: no-op to spreading, by what the rest of D teaches of its kind.

    Args:
        groups: Ids of D of each group, as `infl.untraining.forget_files.read_members` reads them.
        group: Its name.
        fraction: Of the group, above 0 and at most 1.

    Raises:
        InputError: where there is no such group, or it is all of D.
    """
    if group not in groups:
        names = ", ".join(map(repr, list(groups)[:10])) + (", ..." if len(groups) > 10 else "")
        raise InputError(f"group: expected one of {len(groups):,} groups ({names}), got {group!r}")
    (whole,) = make_forget_sets({group: list(groups[group])}, n_train=dataset.n_train)
    return _whole_or_part(whole, fraction, seed, name)


def cluster_set(
    dataset: Dataset,
    cluster: int | None = None,
    *,
    example: int | None = None,
    n_clusters: int,
    seed: int = 0,
    fraction: float = 1.0,
    name: str | None = None,
) -> ForgetSet:
    """One k-means cluster of D, or a random fraction of it with the cluster as its concept; see `clusters`.

    Meant for: spreading where the cluster is all that teaches its kind, no-op where others teach it too or for a small
    fraction.

    Args:
        cluster: Number of the cluster, 0..n_clusters-1; or
        example: The cluster that holds this training example.
        n_clusters: How many clusters D is parted into.
        seed: Of k-means and of the fraction.
        fraction: Of the cluster, above 0 and at most 1.

    Raises:
        InputError: where not exactly one of `cluster` and `example` is given, one is out of its range, or the cluster is
            all of D.

    Examples:
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
        check_integer("example", example, 0, dataset.n_train - 1, "the ids of D")
    labels = clusters(dataset, n_clusters, seed=seed)
    number = int(labels[example]) if cluster is None else check_integer("cluster", cluster, 0, n_clusters - 1)
    whole = ForgetSet(
        f"cluster {number} of {n_clusters}, seed {seed}", tuple(np.flatnonzero(labels == number).tolist())
    )
    if len(whole) == dataset.n_train:
        raise InputError(f"cluster {number} of {n_clusters} is all of D: ask for more clusters")
    return _whole_or_part(whole, fraction, seed, name)


def clusters(dataset: Dataset, n_clusters: int, *, seed: int = 0) -> Array:
    """k-means clusters of D by its pixels: scikit-learn's KMeans, one start with k-means++ from this seed.

    Documents are clustered by their tokens and pairs of tokens, weighted by inverse document frequency, at unit length.

    Args:
        n_clusters: 1 to as many as there are distinct examples.
        seed: 0 to 2**32 - 1.

    Returns:
        Number of the cluster of each training example, [n] int32 in 0..n_clusters-1.

    Raises:
        InputError: where there are not so many distinct examples, or D came without pixels.

    Examples:
        >>> import infl
        >>> clusters(infl.load("digits", n_train=200), 8, seed=1).shape
        (200,)
    """
    pixels = _pixels(dataset)
    seeded(seed)
    check_integer("n_clusters", n_clusters, 1, dataset.n_train, "the training examples there are")
    from sklearn.cluster import KMeans  # here, because it takes a second, and most generators do not need it
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            return KMeans(n_clusters, n_init=cast(Any, 1), random_state=seed).fit_predict(pixels)
        except ConvergenceWarning as warning:
            raise InputError(
                f"n_clusters: {n_clusters} are more than there are distinct examples: ask for fewer"
            ) from warning


def memorized_set(
    memorization: Estimate | Array,
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
        memorization: Of all of D, from `infl.memorization`, or scores made elsewhere, [n]; examples without a score (NaN),
            or whose estimate has no error, come last.
        cross: [n] cross-influence of each example on all others, as of `infl.scores.influence.cross_influence_totals`.
        with_cross: True takes the highest `cross` among the 3 * size most (or least) memorized, False the lowest.

    Raises:
        InputError: where the size is out of its range, `cross` does not fit, or one of the two is given alone.

    Examples:
        >>> scores = np.array([0.9, 0.8, 0.7, 0.1])
        >>> estimate = Estimate(scores, scores, scores, scores, "own", "correct")
        >>> memorized_set(estimate, 1).ids, memorized_set(estimate, 1, cross=np.arange(4.0), with_cross=True).ids
        ((0,), (2,))
    """
    known = memorization.rankable if isinstance(memorization, Estimate) else np.asarray(memorization, np.float64)
    scores = np.nan_to_num(known, nan=-np.inf if highest else np.inf)
    check_integer("size", size, 1, len(scores), "the examples of D")
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
    return ForgetSet(name or title, tuple(order[:size]))


def neighbours_set(dataset: Dataset, example: int, size: int, *, name: str | None = None) -> ForgetSet:
    """A training example and those nearest to it in pixels, of documents in shared tokens, `size` in all; see `clusters`.

    Meant for: no-op to spreading, by its size.
    """
    check_integer("example", example, 0, dataset.n_train - 1, "the ids of D")
    check_integer("size", size, 1, dataset.n_train, "the examples of D")
    pixels = _pixels(dataset)
    if dataset.is_documents:
        distances = 2 - 2 * (pixels @ pixels[[example]].T).toarray().ravel()
    else:
        distances = ((pixels - pixels[example]) ** 2).sum(axis=1)
    distances[example] = -1.0
    return ForgetSet(name or f"neighbours of {example}, {size}", tuple(np.argsort(distances, kind="stable")[:size]))


def near_duplicate_sets(
    dataset: Dataset, *, n_tokens: int = 3, min_overlap: float = 0.5, seed: int = 0, name: str | None = None
) -> list[ForgetSet]:
    """Each family of training documents that are nearly the same, and a random half of it with the family as its concept.

    Two documents are near-duplicates where the runs of tokens that both have are at least `min_overlap` of those that either
    has; a family is what they join, see `infl.data.near_duplicates`.

    Meant for: no-op for half of a family, which the other half teaches, local or spreading for all of it.

    Args:
        n_tokens: Tokens in a run, at least 1.
        min_overlap: Of the runs of two documents, above 0 and at most 1.
        seed: Of the halves, 0 to 2**32 - 1.
        name: Before the first id of each family; "near-duplicates of" by default.

    Returns:
        Two sets for each family, the largest family first.

    Raises:
        InputError: where there are no such documents, all are of one family, or D holds no documents.
    """
    if not dataset.is_documents:
        raise InputError(
            f"{dataset.name}: near-duplicates are told by tokens, and it holds no documents; take neighbours"
        )
    seeded(seed)
    sets = []
    for family in families(dataset.x_train, n_tokens=n_tokens, min_overlap=min_overlap):
        if len(family) == dataset.n_train:
            raise InputError(f"{dataset.name}: all its training documents are one family; raise min_overlap")
        whole = ForgetSet(f"{name or 'near-duplicates of'} {family[0]}", tuple(family.tolist()))
        sets += [whole, take_fraction(whole, 0.5, seed=seed)]
    if not sets:
        raise InputError(
            f"{dataset.name}: no two of its {dataset.n_train:,} training documents overlap by {min_overlap:g} in runs of "
            f"{n_tokens} tokens; lower min_overlap"
        )
    return sets


def take_fraction(whole: ForgetSet, fraction: float, *, seed: int = 0, name: str | None = None) -> ForgetSet:
    """A random part of a set with the whole as its concept; with one seed a larger part contains every smaller one.

    Meant for: no-op while the rest of the concept covers for it, the regime of the whole as the fraction nears 1.

    Args:
        whole: Set to take from: a class, a cluster, copies, a planted confusion.
        fraction: Above 0 and at most 1; at least one example is taken.
        seed: Of the draw, 0 to 2**32 - 1.

    Raises:
        InputError: where the fraction is out of its range.

    Examples:
        >>> half = take_fraction(ForgetSet("whole", (1, 4, 6, 8)), 0.5)
        >>> half, half.ids
        (ForgetSet('50% of whole': 2 examples of the 4 of its concept), (6, 8))
    """
    if not 0 < fraction <= 1:
        raise InputError(f"fraction of {whole.name}: expected above 0 and at most 1, got {fraction}")
    ids = seeded(seed).permutation(np.array(whole.ids))[: max(1, round(fraction * len(whole)))]
    return ForgetSet(name or f"{fraction:.0%} of {whole.name}", tuple(ids), whole.ids)


def varied_sets(dataset: Dataset, memorization: Estimate, *, seed: int = 0) -> list[ForgetSet]:
    """Sets of different kinds and sizes to get to know a run by: what `infl demo` shows. Meant for: all regimes.

    Sizes are fractions of n, so that small data work too.
    """
    n = dataset.n_train
    few, some, many, n_clusters = max(1, n // 100), max(2, n // 20), max(3, n // 10), max(2, n // 40)
    redundant = int(np.bincount(clusters(dataset, n_clusters, seed=seed)).argmax())
    classes = np.random.RandomState(seed).permutation(np.unique(dataset.y_train))
    first, second, third = (int(classes[k % len(classes)]) for k in range(3))
    ordered = np.argsort(-np.nan_to_num(memorization.rankable, nan=-np.inf), kind="stable")
    typical, atypical = int(ordered[len(ordered) // 2]), int(ordered[0])
    return [
        *(random_set(dataset, size, seed=seed + k) for k, size in enumerate((few, some, many))),
        memorized_set(memorization, some, highest=False),
        *(memorized_set(memorization, size) for size in (few, some, many)),
        neighbours_set(dataset, typical, few),
        neighbours_set(dataset, typical, some),
        neighbours_set(dataset, atypical, some),
        cluster_set(dataset, redundant, n_clusters=n_clusters, seed=seed),
        class_set(dataset, first, fraction=0.2, seed=seed),
        class_set(dataset, first, fraction=0.8, seed=seed),
        class_set(dataset, second),
        class_set(dataset, third),
    ]


def _whole_or_part(whole: ForgetSet, fraction: float, seed: int, name: str | None) -> ForgetSet:
    if fraction == 1:
        return ForgetSet(name or whole.name, whole.ids)
    return take_fraction(whole, fraction, seed=seed, name=name)


def _pixels(dataset: Dataset) -> Any:
    """[n, d] what tells which examples are alike: an array, of documents a sparse one with rows of unit length."""
    if not dataset.has_pixels or dataset.is_facts:
        raise InputError(
            f"{dataset.name}: its examples came without pixels, and what is near what cannot be told; take another "
            "kind of set"
        )
    if not dataset.is_documents:
        return flat_pixels(dataset.x_train)
    from scipy.sparse import hstack
    from sklearn.feature_extraction.text import TfidfTransformer  # here, because it takes a second

    return TfidfTransformer().fit_transform(hstack([token_ngrams(dataset.x_train, n_tokens) for n_tokens in (1, 2)]))

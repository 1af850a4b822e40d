"""Turns subsets of D into covariates of every example's margin: how much of what supports the example is left.

Of a subset and an example j these are

- the margin of j in closed-form refits on the subset (`infl.scores.surrogate`) with two ridges, from one that fits every label
  to one that follows the broad lines only, as a network that is stopped early does; of a member of the subset without j
  itself;
- log(1e-3 + sum over members i of exp(-|x_i - x_j|^2 / r)) over those of j's class, and over those of others, at three radii
  r, themselves 0.15, 0.4 and 1 times the median squared distance to the tenth neighbour: near copies, neighbours, the region;
- log of the fraction of j's class that is left.

They saturate as support does: the first neighbours that go matter little, the last ones much. j never counts among its own
support.

All but the last are made once more of features of networks, where these are given: inputs of the last layer of models of D
(`infl.pipeline.weights.network_features`). Distances between pixels mean little to a convolutional network. Features of models
of D know the labels of D, also of examples that a subset leaves out, so that these look better supported than models of the
subset find them. It is the same for every subset, and the response that rests on it is fitted to models that left them out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol

import numpy as np
from scipy.sparse import csr_array
from threadpoolctl import threadpool_limits

from infl.records import Array, OutcomeSource, ProtocolName, flat_pixels
from infl.scores.ngrams import fit_ngrams
from infl.scores.sufficient_statistics import columns_counted
from infl.scores.surrogate import fit_surrogate

RIDGES = (0.05, 0.3)
STRENGTHS = (0.3, 3.0)  # as many, of n-gram models of documents
RADII = (0.15, 0.4, 1.0)
FLOOR = 1e-3  # support below this counts as none
N_COVARIATES = len(RIDGES) + 2 * len(RADII) + 1
CLASS_FRACTION = N_COVARIATES - 1
OF_NETWORKS = tuple(range(N_COVARIATES, N_COVARIATES + CLASS_FRACTION))  # all but the class's, of features of networks
NEIGHBOUR = 10
N_FOR_RADIUS = 500
N_NEIGHBOURS = 6
NEAR = 0.03  # fraction of D left out at which a model weighs half as much as one of D
CHUNK = 512
MAX_IN_MEMORY = 1 << 28  # entries


class Refit(Protocol):
    """What stands for training again: a closed form, or the predictor of another network's models."""

    def margins(self, left_out: Array) -> Array:
        """Margins of a model of D without these examples, [n+m]."""
        ...


@dataclass(frozen=True)
class Support:
    """The examples, ready to ask how much support subsets leave them. Make one with `prepare_support`.

    Attributes:
        features: [n+m, d] float32: pixels, or what runs of tokens documents hold.
        labels: [n+m].
        radius: Squared distance to the tenth neighbour, median over D.
        network: The same of features of networks, where these are known, or with a proxy among the surrogates.
    """

    features: Array | csr_array
    labels: Array
    n_train: int
    radius: float
    surrogates: Sequence[Refit]
    network: Support | None = None

    def surrogate_margins(self, masks: Array) -> Array:
        """Margins of the closed-form refits on each subset, [subsets, n+m, ridges] float32; then those of `network`."""
        margins = np.empty((len(masks), len(self.labels), len(self.surrogates)), np.float32)
        # Many small factorizations: on several threads they would mostly wait for each other.
        with threadpool_limits(limits=1, user_api="blas"):
            for row, mask in zip(margins, masks, strict=True):
                left_out = np.flatnonzero(~mask)
                for position, surrogate in enumerate(self.surrogates):
                    row[:, position] = surrogate.margins(left_out)
        return margins if self.network is None else np.concatenate([margins, self.network.surrogate_margins(masks)], 2)

    def covariates(self, masks: Array, margins: Array, columns: Array, distances: Array | None = None) -> Array:
        """Covariates of the given columns in each subset, [subsets, columns, z] float32.

        Args:
            masks: [subsets, n].
            margins: Of the surrogates for these subsets and columns, [subsets, columns, ridges].
            columns: Ids of examples of D or of H.
            distances: Theirs (`distances`), where they are known.
        """
        result = np.empty((len(masks), len(columns), N_COVARIATES), np.float32)
        result[..., : len(RIDGES)] = margins[..., : len(RIDGES)]
        members = np.ascontiguousarray(masks.T, np.float32)
        distances = self.distances(columns) if distances is None else distances
        classes = self.labels[: self.n_train]
        for position, factor in enumerate(RADII):
            near = np.exp(distances * np.float32(-1 / (self.radius * factor)))
            everything, own = near @ members, np.empty((len(columns), len(masks)), np.float32)
            for label in np.unique(self.labels[columns]):
                rows, inside = np.flatnonzero(self.labels[columns] == label), np.flatnonzero(classes == label)
                own[rows] = near[np.ix_(rows, inside)] @ members[inside]
            first = len(RIDGES) + 2 * position
            result[..., first] = np.log(FLOOR + own).T
            result[..., first + 1] = np.log(FLOOR + np.maximum(everything - own, 0)).T
        result[..., CLASS_FRACTION] = self._class_fractions(masks)[:, self.labels[columns]]
        if self.network is None:
            return result
        further = self.network.covariates(masks, margins[..., len(RIDGES) :], columns)
        return np.concatenate([result, further[..., :CLASS_FRACTION]], axis=2)

    def neighbours(self, columns: Array, n_each: int, distances: Array | None = None) -> Array:
        """Nearest training examples of the same class, then of others, [columns, 2 * n_each] ids; distances as above."""
        distances = self.distances(columns) if distances is None else distances
        same = self.labels[columns][:, None] == self.labels[None, : self.n_train]
        found = []
        for kind in (same, ~same):
            of_kind = np.where(kind, distances, np.inf)
            nearest = np.argpartition(of_kind, min(n_each, self.n_train) - 1, axis=1)[:, :n_each]
            order = np.argsort(np.take_along_axis(of_kind, nearest, axis=1), axis=1)
            found.append(np.take_along_axis(nearest, order, axis=1))
        return np.concatenate(found, axis=1)

    def distances(self, columns: Array) -> Array:
        """Squared distances to all of D, infinite from an example to itself, [columns, n]."""
        inner = self.features[columns] @ self.features[: self.n_train].T
        inner = inner if isinstance(inner, np.ndarray) else inner.toarray()
        distances = np.maximum(self._squares[columns][:, None] + self._squares[None, : self.n_train] - 2 * inner, 0)
        inside = np.flatnonzero(columns < self.n_train)
        distances[inside, columns[inside]] = np.inf
        return distances

    @cached_property
    def _squares(self) -> Array:
        return np.asarray((self.features**2).sum(axis=1))

    def _class_fractions(self, masks: Array) -> Array:
        classes = np.arange(self.labels.max() + 1)
        members = (self.labels[: self.n_train][:, None] == classes[None, :]).astype(np.float32)
        fractions = masks.astype(np.float32) @ members / np.maximum(members.sum(axis=0), 1)
        return np.log(0.02 + fractions) - np.log(1.02)


def prepare_support(
    x: Array, labels: Array, *, n_train: int, n_classes: int, n_tokens: int = 0, features: Array | None = None
) -> Support:
    """Prepare the examples of D, the first `n_train` rows, and the held-out ones after them.

    Args:
        x: [n+m, ...] float32, or uint8 that counts as divided by 255; of documents their tokens.
        labels: [n+m], of documents their groups.
        n_tokens: Size of the vocabulary of documents; 0 where these are none.
        features: [n+m, d] of networks; None for none.

    Examples:
        >>> import infl, numpy as np
        >>> data = infl.load("digits")
        >>> support = prepare_support(data.images, data.labels, n_train=1000, n_classes=10)
        >>> masks = np.stack([np.ones(1000, bool), data.y_train != 4])
        >>> columns = 1000 + np.flatnonzero(data.y_held_out == 4)
        >>> margins = support.surrogate_margins(masks)[:, columns]
        >>> support.covariates(masks, margins, columns)[:, :, 2].mean(axis=1).round(1)  # near copies in their class
        array([-2.3, -6.9], dtype=float32)
    """
    if n_tokens:
        ngrams = fit_ngrams(x, n_train=n_train, n_tokens=n_tokens)
        rows, surrogates = ngrams.features(), [ngrams.with_strength(strength) for strength in STRENGTHS]
    else:
        first = fit_surrogate(x, labels, n_train=n_train, n_classes=n_classes, ridge=RIDGES[0])
        rows, surrogates = flat_pixels(x), [first, *(first.with_ridge(ridge) for ridge in RIDGES[1:])]
    support = Support(rows, np.asarray(labels), n_train, 1.0, surrogates)
    some = np.random.RandomState(0).permutation(n_train)[:N_FOR_RADIUS]
    rank = max(min(NEIGHBOUR, n_train - 1) - 1, 0)
    tenth = np.partition(support.distances(some), rank, axis=1)[:, rank]
    radius = float(np.median(tenth[np.isfinite(tenth)])) if np.isfinite(tenth).any() else 1.0
    rounding = 1e-4 * float(support._squares.mean())  # a radius below it: most of D are copies
    support = replace(support, radius=max(radius, rounding, 1e-6))
    if features is None:
        return support
    return replace(support, network=prepare_support(features, labels, n_train=n_train, n_classes=n_classes))


@dataclass(frozen=True)
class Evidence:
    """Models with their covariates. Make one with `gather_evidence`.

    Attributes:
        masks: [T, n].
        rows: [T] bool, the models of subsets to fit on.
        margins: Function of columns, [T, columns] float32.
        mean_on_d: [n+m] mean margin of the models of D.
        surrogate: [T, n+m, ridges] margins of the closed-form refits.
        partners: [T] row of a model of D that had the same init seed, -1 where there is none.
        at_d: [n+m, z] covariates with nothing left out.
        neighbours: [n+m, 12] nearest examples of D, six of the same class first.
    """

    support: Support
    masks: Array
    rows: Array
    margins: Callable[[Array], Array]
    mean_on_d: Array
    surrogate: Array
    partners: Array
    at_d: Array = field(default_factory=lambda: np.empty(0))
    neighbours: Array = field(default_factory=lambda: np.empty(0))
    cached: dict[bytes, Array] = field(default_factory=dict)

    @cached_property
    def on_all(self) -> Array:
        """Which models are of all of D, [T] bool."""
        return np.asarray(self.masks.all(axis=1))

    @cached_property
    def nearness(self) -> Array:
        """Weights of the models, one on average: those near D say more of what forget sets do than those far from it."""
        weights = 1 / ((~self.masks).mean(axis=1) + NEAR)
        return (weights / weights.mean()).astype(np.float32)

    def without(self, rows: Array) -> Evidence:
        """The same, to be fitted on without these models; `rows` are their numbers."""
        return replace(self, rows=self.rows & ~np.isin(np.arange(len(self.masks)), rows))

    def counted(self, columns: Array, protocol: ProtocolName) -> tuple[Array, Array]:
        """Margins, and which models to fit on say something of which column, [T, columns] each."""
        margins = self.margins(columns)
        counted = columns_counted(self.masks, protocol, columns)
        return margins, np.broadcast_to(self.rows[:, None] & (True if counted is None else counted), margins.shape)

    def by_init_seed(self, outcomes: Array) -> Array:
        """What each model's init seed does on D beyond the mean, from outcomes [T, columns]; 0 where not known."""
        deviations = outcomes[self.partners] - outcomes[self.on_all].mean(axis=0)
        return np.where(self.partners[:, None] >= 0, deviations, np.float32(0))

    def covariates(self, columns: Array, distances: Array | None = None) -> Array:
        """[T, columns, z]; cached for the next call while memory for it lasts."""
        key = columns.tobytes()
        if key not in self.cached:
            made = self.support.covariates(self.masks, self.surrogate[:, columns], columns, distances)
            if sum(array.size for array in self.cached.values()) + made.size > MAX_IN_MEMORY:
                return made
            self.cached[key] = made
        return self.cached[key]


def gather_evidence(support: Support, sources: list[OutcomeSource]) -> Evidence:
    """Bring several collections of models together, and refit the surrogates without what each left out."""
    blocks = [block for source in sources for block in source.blocks(np.array([0]))]
    masks = np.concatenate([block.masks for block in blocks])
    unknown = [np.full(block.n_models, -1) for block in blocks]
    seeds = [one if block.init_seeds is None else block.init_seeds for block, one in zip(blocks, unknown, strict=True)]
    n_columns, on_all = len(support.labels), np.all(masks, axis=1)
    on_d = support.surrogate_margins(np.ones((1, support.n_train), bool))
    surrogate = scratch_array((len(masks), *on_d.shape[1:]), np.float32)
    surrogate[on_all] = on_d
    subsets = np.flatnonzero(~on_all)
    for start in range(0, len(subsets), 64):
        rows = subsets[start : start + 64]
        surrogate[rows] = support.surrogate_margins(masks[rows])

    def margins(columns: Array) -> Array:
        return np.concatenate([block.of("margin") for source in sources for block in source.blocks(columns)])

    training, held_out = np.arange(support.n_train), np.arange(support.n_train, n_columns)
    chunks = [chunk for some in (training, held_out) for _, chunk in parts(some)]
    evidence = Evidence(
        support=support,
        masks=masks,
        rows=~on_all,
        margins=margins,
        mean_on_d=np.concatenate([margins(chunk)[on_all].mean(axis=0) for chunk in chunks]),
        surrogate=surrogate,
        partners=_partners(on_all, np.concatenate(seeds)),
    )
    described = []
    for chunk in chunks:
        distances = support.distances(chunk)  # cost most where D is large: once for both that are made from them
        on_all_of_d = evidence.covariates(chunk, distances)[on_all.argmax()].copy()
        described.append((on_all_of_d, support.neighbours(chunk, N_NEIGHBOURS, distances)))
    at_d, neighbours = (np.concatenate(part) for part in zip(*described, strict=True))
    return replace(evidence, at_d=at_d, neighbours=neighbours)


def parts(columns: Array) -> Iterator[tuple[slice, Array]]:
    """Slices of `columns`, and what they hold, a chunk at a time."""
    for start in range(0, len(columns), CHUNK):
        part = slice(start, start + CHUNK)
        yield part, columns[part]


def scratch_array(shape: tuple[int, ...], dtype: type) -> Array:
    """An array in memory, or in a nameless file where it would be large."""
    if np.prod(shape) <= MAX_IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def _partners(on_all: Array, seeds: Array) -> Array:
    references = np.flatnonzero(on_all & (seeds >= 0))
    row_by_seed = dict(zip(seeds[references].tolist(), references.tolist(), strict=True))
    partners = np.array([row_by_seed.get(seed, -1) for seed in seeds.tolist()], int)
    partners[references] = -1
    return partners

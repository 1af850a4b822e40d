"""Turns subsets of D into covariates of every example's margin: how much of what supports the example is left.

Of a subset and an example j these are

- the margin of j in closed-form refits on the subset (`infl.scores.surrogate`) with two ridges, from one that fits every label
  to one that follows the broad lines only, as a network that is stopped early does; of a member of the subset without j
  itself;
- log(1e-3 + sum over members i of exp(-|x_i - x_j|^2 / r)) over those of j's class, and over those of others, at three radii
  r, themselves 0.15, 0.4 and 1 times the median squared distance to the tenth neighbour: near copies, neighbours, the region;
- log of the share of j's class that is left;
- log of the steps in an epoch, ceil(k / batch size), against those on D, where the batch size is known: a model that is not
  trained to the end is another one with a step less, whatever was left out.

They saturate as support does: the first neighbours that go matter little, the last ones much. j never counts among its own
support.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from threadpoolctl import threadpool_limits

from infl.records import Array, OutcomeKind, OutcomeSource, ProtocolName, flat_pixels
from infl.scores.contrasts import columns_counted
from infl.scores.surrogate import Surrogate, fit_surrogate

RIDGES = (0.05, 0.3)
RADII = (0.15, 0.4, 1.0)
FLOOR = 1e-3  # support below this counts as none
N_COVARIATES = len(RIDGES) + 2 * len(RADII) + 2
SURROGATES = tuple(range(len(RIDGES)))  # positions of these among the covariates
CLASS_SHARE, STEPS = N_COVARIATES - 2, N_COVARIATES - 1
NEIGHBOUR = 10
N_FOR_RADIUS = 500


@dataclass(frozen=True)
class Support:
    """The examples, ready to ask how much support subsets leave them. Make one with `prepare_support`.

    Attributes:
        pixels: [n+m, d] float32.
        radius: Squared distance to the tenth neighbour, median over D.
    """

    pixels: Array
    labels: Array
    n_train: int
    radius: float
    surrogates: tuple[Surrogate, ...]
    batch_size: int | None = None

    def surrogate_margins(self, masks: Array) -> Array:
        """Margins of the closed-form refits on each subset, [subsets, n+m, ridges] float32."""
        margins = np.empty((len(masks), len(self.labels), len(self.surrogates)), np.float32)
        # Many small factorizations: on several threads they would mostly wait for each other.
        with threadpool_limits(limits=1, user_api="blas"):
            for row, mask in zip(margins, masks, strict=True):
                left_out = np.flatnonzero(~mask)
                for position, surrogate in enumerate(self.surrogates):
                    row[:, position] = surrogate.margins(left_out)
        return margins

    def covariates(self, masks: Array, margins: Array, columns: Array) -> Array:
        """Covariates of the given columns in each subset, [subsets, columns, z] float32.

        Args:
            margins: Of the surrogates for these subsets and columns, [subsets, columns, ridges].
        """
        result = np.empty((len(masks), len(columns), N_COVARIATES), np.float32)
        result[..., : len(RIDGES)] = margins
        members = np.ascontiguousarray(masks.T, np.float32)
        distances, same = self.distances(columns), self.labels[columns][:, None] == self.labels[None, : self.n_train]
        for position, share in enumerate(RADII):
            near = np.exp(-distances / (self.radius * share))
            everything, own = near @ members, (near * same) @ members
            first = len(RIDGES) + 2 * position
            result[..., first] = np.log(FLOOR + own).T
            result[..., first + 1] = np.log(FLOOR + np.maximum(everything - own, 0)).T
        result[..., CLASS_SHARE] = self._class_shares(masks)[:, self.labels[columns]]
        result[..., STEPS] = self._steps(masks)[:, None]
        return result

    @cached_property
    def _squares(self) -> Array:
        return (self.pixels**2).sum(axis=1)

    def distances(self, columns: Array) -> Array:
        """Squared distances to all of D, [columns, n]; infinite from an example to itself."""
        inner = self.pixels[columns] @ self.pixels[: self.n_train].T
        distances = np.maximum(self._squares[columns][:, None] + self._squares[None, : self.n_train] - 2 * inner, 0)
        inside = np.flatnonzero(columns < self.n_train)
        distances[inside, columns[inside]] = np.inf
        return distances

    def neighbours(self, columns: Array, n_each: int) -> Array:
        """Nearest training examples of the same class, then of others, [columns, 2 * n_each] ids."""
        distances, same = self.distances(columns), self.labels[columns][:, None] == self.labels[None, : self.n_train]
        parts = [
            np.argsort(np.where(of_kind, distances, np.inf), axis=1, kind="stable")[:, :n_each]
            for of_kind in (same, ~same)
        ]
        return np.concatenate(parts, axis=1)

    def _steps(self, masks: Array) -> Array:
        if self.batch_size is None:
            return np.zeros(len(masks))
        steps = np.ceil(np.array([*masks.sum(axis=1), self.n_train]) / self.batch_size)
        return 10 * np.log(steps[:-1] / steps[-1])

    def _class_shares(self, masks: Array) -> Array:
        classes = np.arange(self.labels.max() + 1)
        of_class = (self.labels[: self.n_train][:, None] == classes[None, :]).astype(np.float32)
        shares = masks.astype(np.float32) @ of_class / np.maximum(of_class.sum(axis=0), 1)
        return np.log(0.02 + shares) - np.log(1.02)


def prepare_support(x: Array, labels: Array, *, n_train: int, n_classes: int, batch_size: int | None = None) -> Support:
    """Prepare the examples of D, the first `n_train` rows, and the held-out ones after them.

    Args:
        x: [n+m, ...] float32, or uint8 that counts as divided by 255.
        labels: [n+m].
        batch_size: Of the training algorithm, where it is known.

    Example:
        >>> import infl, numpy as np
        >>> data = infl.load("digits")
        >>> support = prepare_support(data.images, data.labels, n_train=1000, n_classes=10)
        >>> masks = np.stack([np.ones(1000, bool), data.y_train != 4])
        >>> columns = 1000 + np.flatnonzero(data.y_held_out == 4)
        >>> margins = support.surrogate_margins(masks)[:, columns]
        >>> support.covariates(masks, margins, columns)[:, :, 2].mean(axis=1).round(1)  # near copies in their class
        array([-2.3, -6.9], dtype=float32)
    """
    first = fit_surrogate(x, labels, n_train=n_train, n_classes=n_classes, ridge=RIDGES[0])
    surrogates = (first, *(first.with_ridge(ridge) for ridge in RIDGES[1:]))
    support = Support(flat_pixels(x), np.asarray(labels), n_train, 1.0, surrogates)
    some = np.random.RandomState(0).permutation(n_train)[:N_FOR_RADIUS]
    place = min(NEIGHBOUR, n_train - 1) - 1
    tenth = np.partition(support.distances(some), max(place, 0), axis=1)[:, max(place, 0)]
    radius = float(np.median(tenth[np.isfinite(tenth)])) if np.isfinite(tenth).any() else 1.0
    least = 1e-4 * float(support._squares.mean())  # below, distances are rounding: most of D are copies
    return replace(support, radius=max(radius, least, 1e-6), batch_size=batch_size)


def chosen(names: Sequence[str]) -> list[int]:
    """Positions of the covariates that the predictors `support` and `surrogate` rest on."""
    positions = {"surrogate": [*SURROGATES, STEPS], "support": list(range(len(RIDGES), N_COVARIATES))}
    return sorted({position for name in names for position in positions[name]})


N_NEIGHBOURS = 6
NEAR = 0.03  # share of D left out at which a model weighs half as much as one of D
CHUNK = 512
MAX_IN_MEMORY = 1 << 28  # entries


@dataclass(frozen=True)
class Evidence:
    """Models with their covariates. Make one with `gather_evidence`.

    Attributes:
        masks: [T, n]; margins, correct: columns -> [T, columns] float32.
        surrogate: [T, n+m, ridges] margins of the closed-form refits.
        at_d: [n+m, z] covariates with nothing left out.
        neighbours: [n+m, 12] nearest examples of D, six of the same class first.
        partners: [T] row of a model of D that had the same start, -1 where there is none.
    """

    support: Support
    masks: Array
    margins: Callable[[Array], Array]
    correct: Callable[[Array], Array]
    surrogate: Array
    at_d: Array
    neighbours: Array
    partners: Array
    kept: dict[bytes, Array] = field(default_factory=dict)

    @property
    def n_columns(self) -> int:
        """n + m."""
        return self.surrogate.shape[1]

    @cached_property
    def of_d(self) -> Array:
        """Which models are of all of D, [T] bool."""
        return np.asarray(self.masks.all(axis=1))

    @cached_property
    def nearness(self) -> Array:
        """Weights of the models, one on average: those near D say more of what forget sets do than those far from it."""
        weights = 1 / ((~self.masks).mean(axis=1) + NEAR)
        return (weights / weights.mean()).astype(np.float32)

    @cached_property
    def mean_on_d(self) -> Array:
        """Mean margin of the models of D, [n+m]."""
        chunks = (chunk for _, chunk in parts(np.arange(self.n_columns)))
        return np.concatenate([self.margins(chunk)[self.of_d].mean(axis=0) for chunk in chunks])

    def counted(self, columns: Array, protocol: ProtocolName, rows: Array | None = None) -> tuple[Array, Array]:
        """Margins, and which models of subsets (of `rows`, [T] bool) say something of which column, [T, columns] each."""
        margins = self.margins(columns)
        counted = columns_counted(self.masks, protocol, columns)
        some = ~self.of_d if rows is None else rows & ~self.of_d
        return margins, np.broadcast_to(some[:, None], margins.shape) if counted is None else counted & some[:, None]

    def by_init_seed(self, outcomes: Array) -> Array:
        """What the start of each model does on D beyond the mean of all, from outcomes [T, columns]; 0 where not known."""
        deviations = outcomes[self.partners] - outcomes[self.of_d].mean(axis=0)
        return np.where(self.partners[:, None] >= 0, deviations, np.float32(0))

    def covariates(self, columns: Array) -> Array:
        """[T, columns, z]; kept for the next call while memory for it lasts."""
        key = columns.tobytes()
        if key not in self.kept:
            made = self.support.covariates(self.masks, self.surrogate[:, columns], columns)
            if sum(array.size for array in self.kept.values()) + made.size > MAX_IN_MEMORY:
                return made
            self.kept[key] = made
        return self.kept[key]


def gather_evidence(support: Support, sources: list[OutcomeSource], n_columns: int) -> Evidence:
    """Bring several collections of models together, and refit the surrogates without what each left out."""
    blocks = [block for source in sources for block in source.blocks(np.array([0]))]
    masks = np.concatenate([block.masks for block in blocks])
    starts = [np.full(block.n_models, -1) if block.init_seeds is None else block.init_seeds for block in blocks]
    surrogate = scratch_array((len(masks), n_columns, len(support.surrogates)), np.float32)
    for start in range(0, len(masks), 64):
        surrogate[start : start + 64] = support.surrogate_margins(masks[start : start + 64])

    def read(kind: OutcomeKind) -> Callable[[Array], Array]:
        return lambda columns: np.concatenate([b.of(kind) for source in sources for b in source.blocks(columns)])

    everything, columns = np.ones((1, support.n_train), bool), np.arange(n_columns)
    on_d = support.surrogate_margins(everything)
    chunks = [chunk for _, chunk in parts(columns)]
    return Evidence(
        support=support,
        masks=masks,
        margins=read("margin"),
        correct=read("correct"),
        surrogate=surrogate,
        at_d=np.concatenate([support.covariates(everything, on_d[:, chunk], chunk)[0] for chunk in chunks]),
        neighbours=np.concatenate([support.neighbours(chunk, N_NEIGHBOURS) for chunk in chunks]),
        partners=_partners(masks, np.concatenate(starts)),
    )


def borderline(level: Array) -> Array:
    """Weights of examples by their mean margin: at the border of being right a small change is an effect."""
    return 0.1 + np.exp(-((level / 2) ** 2) / 2)


def parts(columns: Array) -> Iterator[tuple[slice, Array]]:
    """Places in `columns`, and what stands there, a chunk at a time."""
    for start in range(0, len(columns), CHUNK):
        part = slice(start, start + CHUNK)
        yield part, columns[part]


def scratch_array(shape: tuple[int, ...], dtype: type) -> Array:
    """An array in memory, or in a nameless file where it would be large."""
    if np.prod(shape) <= MAX_IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def _partners(masks: Array, starts: Array) -> Array:
    of_d = np.flatnonzero(masks.all(axis=1) & (starts >= 0))
    row_of = dict(zip(starts[of_d].tolist(), of_d.tolist(), strict=True))
    partners = np.array([row_of.get(start, -1) for start in starts.tolist()], int)
    partners[of_d] = -1
    return partners

"""Turns collections of models into evidence on how margins respond: outcomes, masks and covariates, to be read by columns.

Memory does not grow with n + m, but for the covariates on D and the margins of the closed-form refits (on disk where they are
many): all else is read in chunks of columns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from infl.records import Array, OutcomeKind, OutcomeSource, Reading
from infl.scores.contrasts import columns_counted
from infl.untraining.support import Support

N_NEIGHBOURS = 6
NEAR = 0.03  # share of D left out at which a model weighs half as much as one of D
CHUNK = 512
MOST_IN_MEMORY = 1 << 28  # entries


@dataclass(frozen=True)
class Evidence:
    """Models with their covariates. Make one with `gather_evidence`.

    masks: [T, n]; margins, correct: columns -> [T, columns] float32.
    surrogate: [T, n+m, ridges] margins of the closed-form refits.
    at_d: [n+m, z] covariates with nothing left out; neighbours: [n+m, 12] nearest examples of D, six of the same class first.
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

    def counted(self, columns: Array, reading: Reading, rows: Array | None = None) -> tuple[Array, Array]:
        """Margins, and which models of subsets (of `rows`, [T] bool) say something of which column, [T, columns] each."""
        margins = self.margins(columns)
        counted = columns_counted(self.masks, reading, columns)
        some = ~self.of_d if rows is None else rows & ~self.of_d
        return margins, np.broadcast_to(some[:, None], margins.shape) if counted is None else counted & some[:, None]

    def of_starts(self, outcomes: Array) -> Array:
        """What the start of each model does on D beyond the mean of all, from outcomes [T, columns]; 0 where not known."""
        deviations = outcomes[self.partners] - outcomes[self.of_d].mean(axis=0)
        return np.where(self.partners[:, None] >= 0, deviations, np.float32(0))

    def covariates(self, columns: Array) -> Array:
        """[T, columns, z]; kept for the next call while memory for it lasts."""
        key = columns.tobytes()
        if key not in self.kept:
            made = self.support.covariates(self.masks, self.surrogate[:, columns], columns)
            if sum(array.size for array in self.kept.values()) + made.size > MOST_IN_MEMORY:
                return made
            self.kept[key] = made
        return self.kept[key]


def gather_evidence(support: Support, sources: list[OutcomeSource], n_columns: int) -> Evidence:
    """Bring several collections of models together, and refit the surrogates without what each left out."""
    blocks = [block for source in sources for block in source.blocks(np.array([0]))]
    masks = np.concatenate([block.masks for block in blocks])
    starts = [np.full(block.n_models, -1) if block.starts is None else block.starts for block in blocks]
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
    if np.prod(shape) <= MOST_IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype, "w+", shape=shape)


def _partners(masks: Array, starts: Array) -> Array:
    of_d = np.flatnonzero(masks.all(axis=1) & (starts >= 0))
    row_of = dict(zip(starts[of_d].tolist(), of_d.tolist(), strict=True))
    partners = np.array([row_of.get(start, -1) for start in starts.tolist()], int)
    partners[of_d] = -1
    return partners

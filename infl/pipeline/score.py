"""Two questions about the scores of a run: the whole influence matrix on disk, and whether memorization is known well."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from infl.pipeline.progress import track
from infl.records import Array, InputError, OutcomeKind, OutcomeSource, ProtocolName
from infl.scores.contrasts import PairTotals, Spread, Sums, no_models, sum_own, total_pairs
from infl.scores.evidence import PValueCounts, check_q_over, q_values
from infl.scores.influence import PAIRS_AT_ONCE, without_own
from infl.scores.planning import ErrorForecast, check_share, root_mean_square
from infl.store import Run, new_tiles

PAIRS_OF_A_TILE = 1 << 23
PAIRS_OF_A_THREAD = 1 << 16
MIN_P = float(np.finfo(np.float32).tiny)


def write_influence(
    outcomes: OutcomeSource,
    path: str | Path,
    *,
    outcome: OutcomeKind = "correct",
    q_over: Literal["matrix", "column"] = "matrix",
    quiet: bool = False,
) -> Path:
    """Write the influence of every training example on every example as a zarr group; see `infl.influence`.

    Arrays [n, n+m], columns of D in the protocol `left-out` and of H in `held-out`: `value`, `se`, `p`, `q` float32, NaN where
    there is no estimate (an example on itself, a side without models); `n_in`, `n_out` int32, the models on either side.
    Beside them `source` [n] and `target` [n+m], the ids. p-values below 1.2e-38 are written as that.

    The folder takes its name once it is whole; a kill leaves one called partial-..., which can be deleted. Memory: some
    arrays of 8 million pairs, whatever n, m and the number of models. Read it with `zarr.open`,
    `xarray.open_zarr(path, consolidated=False)`, or TensorStore's driver `zarr3`.

    Args:
        q_over: q-values are over the whole matrix (`PValueCounts`, at most 0.12% above those of `infl.q_values`), or
            within each column, as of a question about that column alone.

    Raises:
        InputError: where the path is there already or cannot be written, there are no models, or the outcome was not recorded.

    Example:
        >>> import numpy as np, infl, tempfile, tensorstore
        >>> masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]] * 4, bool)
        >>> taught = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0]])
        >>> path = write_influence(taught, f"{tempfile.mkdtemp()}/influence.zarr")
        >>> value = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/value"}}
        >>> tensorstore.open(value).result()[:, 3].read().result()
        array([ 1. , -0.5, -0.5], dtype=float32)
    """
    path = Path(path).expanduser()
    check_q_over(q_over)
    if not outcomes.n_models:
        raise no_models()
    n_train, n_columns = outcomes.n_train, outcomes.n_columns
    width = max(1, PAIRS_AT_ONCE // n_train)  # of a chunk, and of what is scored at once
    counts = PValueCounts.of([])
    with new_tiles(path, width=width) as writer:
        writer.attributes |= {"outcome": outcome, "n_train": n_train, "n_models": outcomes.n_models, "q_over": q_over}
        for name, length in (("source", n_train), ("target", n_columns)):
            writer.write_axis(name, np.arange(length))
        with track(n_columns, "influence", unit="columns", quiet=quiet) as bar, ThreadPoolExecutor() as threads:
            for tile in _slices(0, n_columns, max(1, PAIRS_OF_A_TILE // (n_train * width)) * width):
                summed = _sum_tile(outcomes, tile, outcome)
                for part in _slices(tile.start, tile.stop, width):
                    pieces = [piece for one in summed for piece in one.split(part)]
                    scored = list(threads.map(lambda piece: _score(piece, outcome, q_over), pieces))
                    arrays = {name: np.concatenate([one[name] for one in scored], axis=1) for name in scored[0]}
                    if q_over == "matrix":
                        counts += PValueCounts.of([arrays["p"].astype(np.float64)])
                    writer.write(arrays, part, n_columns=n_columns)
                    bar.update(part.stop - part.start)
        if q_over == "matrix":
            with track(n_columns, "q-values", unit="columns", quiet=quiet) as bar:
                for part in _slices(0, n_columns, width):
                    q = counts.q_values(writer.read("p", part).astype(np.float64))
                    writer.write({"q": q.astype(np.float32)}, part, n_columns=n_columns)
                    bar.update(part.stop - part.start)
    return path


@dataclass(frozen=True)
class _Summed:
    """Sums for columns of one protocol."""

    protocol: ProtocolName
    columns: slice
    totals: PairTotals
    spread: Spread

    def split(self, part: slice) -> list[_Summed]:
        """What of it lies in `part`, in pieces for threads."""
        start, stop = max(part.start, self.columns.start), min(part.stop, self.columns.stop)
        n_sources = next(iter(self.totals.arrays.values())).shape[0]
        return [
            self._take(slice(columns.start, columns.stop))
            for columns in _slices(start, stop, max(1, PAIRS_OF_A_THREAD // n_sources))
        ]

    def _take(self, columns: slice) -> _Summed:
        inner = slice(columns.start - self.columns.start, columns.stop - self.columns.start)
        return _Summed(self.protocol, columns, self.totals.take(inner), self.spread.take(inner))


def _sum_tile(outcomes: OutcomeSource, tile: slice, outcome: OutcomeKind) -> list[_Summed]:
    n_train, summed = outcomes.n_train, []
    parts: tuple[tuple[ProtocolName, slice], ...] = (
        ("left-out", slice(tile.start, min(tile.stop, n_train))),
        ("held-out", slice(max(tile.start, n_train), tile.stop)),
    )
    for protocol, columns in parts:
        if columns.start < columns.stop:
            totals, spread = total_pairs(
                outcomes, sources=np.arange(n_train), columns=columns, protocol=protocol, outcome=outcome
            )
            summed.append(_Summed(protocol, columns, totals, spread))
    return summed


def _score(piece: _Summed, outcome: OutcomeKind, q_over: str) -> dict[str, Array]:
    """Every array but `q` over the matrix, [n, columns]."""
    estimate = Sums(*piece.totals.sides(), piece.spread).estimate(protocol=piece.protocol, outcome=outcome)
    targets = np.arange(piece.columns.start, piece.columns.stop)
    estimate = without_own(estimate, np.arange(len(estimate.value)), targets)
    p = np.asarray(estimate.p)
    counted = [np.broadcast_to(n, p.shape).astype(np.int32) for n in (estimate.n_in, estimate.n_out)]
    arrays = {"value": estimate.value, "se": estimate.se, "p": np.maximum(p, MIN_P)}
    if q_over == "column":
        arrays["q"] = q_values(p, axis=0)
    floats = {name: array.astype(np.float32) for name, array in arrays.items()}
    return {**floats, "n_in": counted[0], "n_out": counted[1]}


def _slices(start: int, stop: int, width: int) -> Iterator[slice]:
    return (slice(first, min(first + width, stop)) for first in range(start, stop, width))


@dataclass(frozen=True)
class Target:
    """Whether a run has reached a wanted root mean square standard error of memorization.

    outcomes say; None where they say nothing yet.

    Attributes:
        reached: NaN where an example has no error yet.
        n_models: Of subsets, that the run holds.
        n_needed: Of subsets, by what the
    """

    wanted: float
    reached: float
    n_models: int
    n_needed: int | None

    @property
    def met(self) -> bool:
        """Whether no more models are needed."""
        return self.reached <= self.wanted


def check_target(run: Run, standard_error: float, *, models: Sequence[int] | None = None) -> Target:
    """How far the memorization scores of a run are from a wanted root mean square standard error.

    Args:
        models: Of the collection that scores rest on, to look at; None for all.

    Raises:
        InputError: for an error outside (0, 1), or a run whose design trains no models that scores rest on.
    """
    check_share("standard_error", standard_error)
    share = float(run.manifest.get("design", {}).get("grouped_share", 0.0))
    if share >= 1:
        raise InputError(
            "a target is for scores, which rest on uniform models, and with a grouped share of 1 there are none"
        )
    outcomes = run.outcomes("design", models)
    n_models = len(run.complete("design")) + len(run.complete("grouped"))
    if not outcomes.n_models:
        return Target(standard_error, math.nan, n_models, None)
    # Training asks at every look: forecast and scores are made from one pass over the outcomes.
    sums = sum_own(outcomes, outcome="correct")
    needed = ErrorForecast.of_sums(sums, n_models=outcomes.n_models).models_for(standard_error)
    reached = root_mean_square(sums.estimate(protocol="own", outcome="correct").se)
    return Target(standard_error, reached, n_models, None if needed is None else math.ceil(needed / (1 - share)))

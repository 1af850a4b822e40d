"""Keeps beside a run the sums that its influence matrix is made from, so that more models are added and none summed again.

    RUN/scores/<outcome>-<sha>/    a zarr group, see `infl.store.tiles`: left-out.n_in, left-out.y_in, held-out.y_in, ...

The name holds a fingerprint of the models that are in the sums. Sums of more models come under a new name and only then the
old ones go, so at any moment whole ones are there. What they are sums of is checked when they are opened, and every chunk
by its checksum when it is read; where one is damaged, the models are summed again.

What is kept takes products of models, sources and columns. The noise of columns, and memorization, take one pass over
the outcomes, which is no work beside it, and are worked out each time.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from infl.pipeline.progress import track
from infl.records import Array, Columns, InputError, OutcomeKind, Outcomes, OutcomeSource, ProtocolName
from infl.scores.contrasts import PairTotals, Spread, Sums, columns_of, no_models, sum_own, total_block, total_pairs
from infl.scores.evidence import PValueCounts, check_q_over, q_values
from infl.scores.influence import PAIRS_AT_ONCE, without_own
from infl.scores.planning import ErrorForecast, check_share, root_mean_square
from infl.store import Run, StoredOutcomes, Tiles, TileWriter, new_tiles, open_tiles

KIND = "sums of pairs, 1"  # another number where what is summed changes
CHUNKS_AT_ONCE = 4
LEFTOVERS_GO_AFTER = 24 * 3600.0


@dataclass(frozen=True)
class SummedOutcomes:
    """Outcomes of a run whose sums of pairs are read and not worked out (a `SummedSource`); else as the outcomes are."""

    outcomes: StoredOutcomes
    kind: OutcomeKind
    tiles: Tiles

    @property
    def n_models(self) -> int:
        """Models that can be read."""
        return self.outcomes.n_models

    @property
    def n_train(self) -> int:
        """Training examples."""
        return self.outcomes.n_train

    @property
    def n_columns(self) -> int:
        """Training and held-out examples."""
        return self.outcomes.n_columns

    def blocks(self, columns: Columns = slice(None), *, n_rows: int = 512) -> Iterator[Outcomes]:
        """See `OutcomeSource.blocks`."""
        return self.outcomes.blocks(columns, n_rows=n_rows)

    def totals(self, columns: Columns, *, protocol: ProtocolName, outcome: OutcomeKind) -> PairTotals | None:
        """Sums over all models for all sources and these columns; None of what is not kept, or is damaged."""
        if outcome != self.kind or protocol not in self.tiles.attributes["arrays"]:
            return None
        numbers = np.arange(self.n_columns)[columns] - columns_of(self, protocol).start
        if not len(numbers) or not np.array_equal(numbers, np.arange(numbers[0], numbers[0] + len(numbers))):
            return None
        span = slice(int(numbers[0]), int(numbers[-1]) + 1)
        arrays: dict[str, Array] = {}
        for name in self.tiles.attributes["arrays"][protocol]:
            array = self.tiles.read(f"{protocol}.{name}", span)
            if array is None:
                (self.tiles.folder / "zarr.json").unlink(missing_ok=True)  # so that they are made again
                return None
            arrays[name] = array
        weights = self.tiles.attributes["weights"][protocol]
        return PairTotals(None if weights is None else (weights[0], weights[1]), arrays)


def keep_sums(
    run: Run, *, outcome: OutcomeKind | None = None, start: bool = True, quiet: bool = False
) -> OutcomeSource:
    """Bring the sums over models that a run keeps up to date, and give its outcomes with them: pass these to any score.

    Sums of models that are in the run are read, models that are new in it are added, and the result replaces what was kept.
    Where subsets have one size and outcomes are 0/1, scores are those without kept sums, bit for bit; else up to rounding.
    Sums of models that are gone, diverged or were trained again, of another format, or damaged, are not used.

    Memory: a few arrays of 8 million pairs. Disk, before compression: 12 bytes a pair of training examples and 4 a pair
    with a held-out one for counts, 64 and 16 over a range of sizes; while they are brought up to date twice that.

    Args:
        outcome: None for the first that the run holds.
        start: Where nothing is kept, begin to; else the plain outcomes come back.

    Raises:
        InputError: where there are no models, or, with `start`, the disk refuses.

    Example:
        >>> import infl, numpy as np, tempfile
        >>> masks = np.random.RandomState(0).rand(64, 9).argsort(axis=1) < 6
        >>> file = f"{tempfile.mkdtemp()}/theirs.npz"
        >>> np.savez(file, masks=masks, correct=np.c_[masks, masks], labels=np.zeros(18, int))
        >>> run = infl.import_outcomes(file, run=file[:-4])
        >>> kept, plain = infl.keep_sums(run), run.outcomes("design")
        >>> np.array_equal(infl.influence(kept).value, infl.influence(plain).value)
        True
    """
    kind = run.outcome_kinds[0] if outcome is None else outcome
    outcomes, folder = run.outcomes("design"), run.folder / "scores"
    known = _newest(run, kind, folder)
    if not start and not any(folder.glob(f"{kind}-*")):
        return outcomes
    if not outcomes.n_models:
        raise no_models()
    if known is None or known.n_models < outcomes.n_models:
        try:
            tiles = _write(run, kind, folder, known, quiet=quiet)
        except InputError:
            if start:
                raise
            return outcomes
    else:
        tiles = known.tiles
    _remove_others(folder, kind, tiles.folder)
    return SummedOutcomes(outcomes, kind, tiles)


def _newest(run: Run, kind: OutcomeKind, folder: Path) -> SummedOutcomes | None:
    """The kept sums of most models, all of which the run still has as they were."""
    finite, found = set(run.outcomes("design").models), []
    for path in folder.glob(f"{kind}-*"):
        tiles = open_tiles(path)
        if tiles is None or tiles.attributes.get("kind") != KIND or tiles.attributes.get("outcome") != kind:
            continue
        models = _from_ranges(tiles.attributes["models"])
        if finite.issuperset(models) and tiles.attributes["fingerprint"] == run.fingerprint("design", models):
            found.append(SummedOutcomes(run.outcomes("design", models), kind, tiles))
    return max(found, key=lambda one: one.n_models, default=None)


def _write(run: Run, kind: OutcomeKind, folder: Path, known: SummedOutcomes | None, *, quiet: bool) -> Tiles:
    outcomes = run.outcomes("design")
    covered = () if known is None else known.outcomes.models
    rest = run.outcomes("design", sorted(set(outcomes.models) - set(covered)))
    fingerprint = run.fingerprint("design", outcomes.models)
    place = folder / f"{kind}-{fingerprint[:16]}"
    if place.exists():  # damaged
        shutil.rmtree(place, ignore_errors=True)
    width = max(1, PAIRS_AT_ONCE // outcomes.n_train)
    with (
        new_tiles(place, width=width) as writer,
        track(outcomes.n_columns, "summing", unit="columns", quiet=quiet) as bar,
    ):
        arrays: dict[str, list[str]] = {}
        weights: dict[str, tuple[float, float] | None] = {}
        for protocol in _readings(outcomes):
            whole = columns_of(outcomes, protocol)
            n_columns = whole.stop - whole.start
            for start in range(0, n_columns, CHUNKS_AT_ONCE * width):
                span = slice(start, min(start + CHUNKS_AT_ONCE * width, n_columns))
                columns = slice(whole.start + span.start, whole.start + span.stop)
                totals = _sum(rest, columns, protocol, kind)
                if known is not None:
                    before = known.totals(columns, protocol=protocol, outcome=kind)
                    totals += _sum(known.outcomes, columns, protocol, kind) if before is None else before
                _write_tile(writer, protocol, totals, span, n_columns)
                arrays[protocol], weights[protocol] = list(totals.arrays), totals.weights
                bar.advance(span.stop - span.start)
        models = _as_ranges(outcomes.models)
        writer.attributes |= {"kind": KIND, "outcome": kind, "models": models, "fingerprint": fingerprint}
        writer.attributes |= {"arrays": arrays, "weights": weights}
    tiles = open_tiles(place)
    if tiles is None:
        raise InputError(f"{place}: cannot be read back after it was written; is another process writing it?")
    return tiles


def _write_tile(writer: TileWriter, protocol: ProtocolName, totals: PairTotals, span: slice, n_columns: int) -> None:
    tile = {f"{protocol}.{name}": array for name, array in totals.arrays.items()}
    writer.write(tile, span, n_columns=n_columns)


def _sum(source: OutcomeSource, columns: slice, protocol: ProtocolName, kind: OutcomeKind) -> PairTotals:
    sources, total = np.arange(source.n_train), None
    for block in source.blocks(columns):
        part = total_block(block, sources, columns, protocol, kind)
        total = part if total is None else total + part
    assert total is not None
    return total


def _readings(outcomes: OutcomeSource) -> tuple[ProtocolName, ...]:
    return ("left-out", "held-out") if outcomes.n_columns > outcomes.n_train else ("left-out",)


def _remove_others(folder: Path, kind: OutcomeKind, kept: Path) -> None:
    """Sums of fewer models, and what kills left behind a day ago or earlier."""
    for path in folder.iterdir():
        old = path.name.startswith("partial-") and time.time() - path.stat().st_mtime > LEFTOVERS_GO_AFTER
        if old or (path.name.startswith(f"{kind}-") and path != kept):
            shutil.rmtree(path, ignore_errors=True)


def _as_ranges(models: Sequence[int]) -> list[list[int]]:
    """First and last of every run of consecutive numbers."""
    breaks = np.flatnonzero(np.diff(models) != 1)
    starts, stops = [0, *(breaks + 1)], [*breaks, len(models) - 1]
    return [[int(models[start]), int(models[stop])] for start, stop in zip(starts, stops, strict=True)]


def _from_ranges(ranges: Sequence[Sequence[int]]) -> list[int]:
    return [model for first, last in ranges for model in range(first, last + 1)]


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
        >>> path = infl.write_influence(taught, f"{tempfile.mkdtemp()}/influence.zarr")
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
                    bar.advance(part.stop - part.start)
        if q_over == "matrix":
            with track(n_columns, "q-values", unit="columns", quiet=quiet) as bar:
                for part in _slices(0, n_columns, width):
                    q = counts.q_values(writer.read("p", part).astype(np.float64))
                    writer.write({"q": q.astype(np.float32)}, part, n_columns=n_columns)
                    bar.advance(part.stop - part.start)
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

"""Keeps beside a run the sums that its influence matrix is made from, so that more models are added and none summed again.

    RUN/scores/<outcome>-<sha>/    a zarr group, see `infl.store.tiles`: left-out.n_in, left-out.y_in, held-out.y_in, ...

The name holds a fingerprint of the models that are in the sums. Sums of more models come under a new name and only then the
old ones go, so at any moment whole ones are there. What they are sums of is checked when they are opened, and every chunk
by its checksum when it is read; where one is damaged, the models are summed again.

What is kept takes products of models, sources and columns. The noise of columns, and memorization, take one pass over
the outcomes, which is no work beside it, and are worked out each time.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infl.records import Array, Columns, InputError, OutcomeKind, Outcomes, OutcomeSource, Reading
from infl.report.progress import track
from infl.scores.contrasts import no_models
from infl.scores.influence import PAIRS_AT_ONCE
from infl.scores.sides import columns_of
from infl.scores.totals import PairTotals, total_block
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

    def totals(self, columns: Columns, *, reading: Reading, outcome: OutcomeKind) -> PairTotals | None:
        """Sums over all models for all sources and these columns; None of what is not kept, or is damaged."""
        if outcome != self.kind or reading not in self.tiles.attributes["arrays"]:
            return None
        numbers = np.arange(self.n_columns)[columns] - columns_of(self, reading).start
        if not len(numbers) or not np.array_equal(numbers, np.arange(numbers[0], numbers[0] + len(numbers))):
            return None
        span = slice(int(numbers[0]), int(numbers[-1]) + 1)
        arrays: dict[str, Array] = {}
        for name in self.tiles.attributes["arrays"][reading]:
            array = self.tiles.read(f"{reading}.{name}", span)
            if array is None:
                (self.tiles.folder / "zarr.json").unlink(missing_ok=True)  # so that they are made again
                return None
            arrays[name] = array
        weights = self.tiles.attributes["weights"][reading]
        return PairTotals(None if weights is None else (weights[0], weights[1]), arrays)


def keep_sums(
    run: Run, *, outcome: OutcomeKind | None = None, start: bool = True, quiet: bool = False
) -> OutcomeSource:
    """Bring the sums over models that a run keeps up to date, and give its outcomes with them: pass these to any score.

    Sums of models that are in the run are read, models that are new in it are added, and the result replaces what was kept.
    Where subsets have one size and outcomes are 0/1, scores are those without kept sums, bit for bit; else up to rounding.
    Sums of models that are gone, diverged or were trained again, of another format, or damaged, are not used.

    outcome: None for the first that the run holds. start: where nothing is kept, begin to; else the plain outcomes come back.
    Memory: a few arrays of 8 million pairs. Disk, before compression: 12 bytes a pair of training examples and 4 a pair
    with a held-out one for counts, 64 and 16 over a range of sizes; while they are brought up to date twice that.

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
        for reading in _readings(outcomes):
            whole = columns_of(outcomes, reading)
            n_columns = whole.stop - whole.start
            for start in range(0, n_columns, CHUNKS_AT_ONCE * width):
                span = slice(start, min(start + CHUNKS_AT_ONCE * width, n_columns))
                columns = slice(whole.start + span.start, whole.start + span.stop)
                totals = _sum(rest, columns, reading, kind)
                if known is not None:
                    before = known.totals(columns, reading=reading, outcome=kind)
                    totals += _sum(known.outcomes, columns, reading, kind) if before is None else before
                _write_tile(writer, reading, totals, span, n_columns)
                arrays[reading], weights[reading] = list(totals.arrays), totals.weights
                bar.advance(span.stop - span.start)
        models = _as_ranges(outcomes.models)
        writer.attributes |= {"kind": KIND, "outcome": kind, "models": models, "fingerprint": fingerprint}
        writer.attributes |= {"arrays": arrays, "weights": weights}
    tiles = open_tiles(place)
    if tiles is None:
        raise InputError(f"{place}: cannot be read back after it was written; is another process writing it?")
    return tiles


def _write_tile(writer: TileWriter, reading: Reading, totals: PairTotals, span: slice, n_columns: int) -> None:
    tile = {f"{reading}.{name}": array for name, array in totals.arrays.items()}
    writer.write(tile, span, n_columns=n_columns)


def _sum(source: OutcomeSource, columns: slice, reading: Reading, kind: OutcomeKind) -> PairTotals:
    sources, total = np.arange(source.n_train), None
    for block in source.blocks(columns):
        part = total_block(block, sources, columns, reading, kind)
        total = part if total is None else total + part
    assert total is not None
    return total


def _readings(outcomes: OutcomeSource) -> tuple[Reading, ...]:
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

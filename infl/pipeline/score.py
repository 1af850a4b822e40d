"""Scores of a run as a whole: the influence matrix on disk or shrunk in memory, and whether memorization is known well."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from infl.pipeline.progress import track
from infl.records import (
    Array,
    Dataset,
    Estimate,
    InputError,
    OutcomeKind,
    OutcomesOrRun,
    OutcomeSource,
    as_outcomes,
    check_fraction,
)
from infl.scores.contrasts import contrast
from infl.scores.evidence import PValueCounts, check_q_over, q_values
from infl.scores.influence import influence, influence_blocks
from infl.scores.planning import ErrorForecast, root_mean_square
from infl.scores.shrunk_influence import shrunk_influence
from infl.scores.sufficient_statistics import no_models, own_statistics
from infl.scores.surrogate import fit_surrogate
from infl.store import Run, new_tiles

PAIRS_PER_CHUNK = 1 << 21
MIN_P = float(np.finfo(np.float32).tiny)


def write_influence(
    outcomes: OutcomesOrRun,
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

    Examples:
        >>> import numpy as np, infl, tempfile, tensorstore
        >>> masks = np.array([[1, 1, 0], [1, 0, 1], [0, 1, 1]] * 4, bool)
        >>> taught = infl.Outcomes(masks, correct=np.c_[masks, masks[:, 0]])
        >>> path = write_influence(taught, f"{tempfile.mkdtemp()}/influence.zarr")
        >>> value = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{path}/value"}}
        >>> tensorstore.open(value).result()[:, 3].read().result()
        array([ 1. , -0.5, -0.5], dtype=float32)
    """
    outcomes, path = as_outcomes(outcomes), Path(path).expanduser()
    check_q_over(q_over)
    if not outcomes.n_models:
        raise no_models()
    n_train, n_columns = outcomes.n_train, outcomes.n_columns
    width = max(1, PAIRS_PER_CHUNK // n_train)
    counts = PValueCounts.of([])
    with new_tiles(path, width=width) as writer:
        writer.attributes |= {"outcome": outcome, "n_train": n_train, "n_models": outcomes.n_models, "q_over": q_over}
        for name, length in (("source", n_train), ("target", n_columns)):
            writer.write_axis(name, np.arange(length))
        with track(n_columns, "influence", unit="columns", quiet=quiet) as bar:
            for columns, estimate in _blocks(outcomes, outcome):
                arrays = _arrays(estimate, q_over)
                counts += PValueCounts.of([arrays["p"].astype(np.float64)])
                writer.write(arrays, columns, n_columns=n_columns)
                bar.update(columns.stop - columns.start)
        if q_over == "matrix":
            with track(n_columns, "q-values", unit="columns", quiet=quiet) as bar:
                for first in range(0, n_columns, width):
                    columns = slice(first, min(first + width, n_columns))
                    q = counts.q_values(writer.read("p", columns).astype(np.float64))
                    writer.write({"q": q.astype(np.float32)}, columns, n_columns=n_columns)
                    bar.update(columns.stop - columns.start)
    return path


def influence_within_classes(
    outcomes: OutcomeSource, dataset: Dataset, outcome: OutcomeKind
) -> Iterator[Estimate | None]:
    """Of the training examples of each class on its held-out ones; None where it lacks either."""
    for c in range(dataset.n_classes):
        sources, columns = np.flatnonzero(dataset.y_train == c), np.flatnonzero(dataset.y_held_out == c)
        if len(sources) and len(columns):
            yield influence(outcomes, sources=sources, columns=dataset.n_train + columns, outcome=outcome)
        else:
            yield None


def shrunk_scores(dataset: Dataset, outcomes: OutcomeSource, *plain: Estimate) -> tuple[Array, Array]:
    """Posterior means of influence and rates of false signs, [n, n+m], with what a surrogate of the pixels knows.

    Args:
        plain: Of both protocols; NaN where no pair of one has an error to shrink by.
    """
    values, sign_rates = ([np.full(one.value.shape, np.nan) for one in plain] for _ in range(2))
    with track(len(plain), "shrinking", unit="protocols") as progress:
        surrogate = None
        for k, one in enumerate(plain):
            if one.protocol != "own" and np.isfinite(one.se).any():
                if surrogate is None and dataset.is_classified:
                    surrogate = fit_surrogate(
                        dataset.images, dataset.labels, n_train=dataset.n_train, n_classes=dataset.n_classes
                    )
                shrunk = shrunk_influence(outcomes, protocol=one.protocol, outcome=one.outcome, surrogate=surrogate)[1]
                values[k], sign_rates[k] = shrunk.value, shrunk.sign_rate
            progress.update()
    return np.concatenate(values, axis=1), np.concatenate(sign_rates, axis=1)


def _blocks(outcomes: OutcomeSource, outcome: OutcomeKind) -> Iterator[tuple[slice, Estimate]]:
    """The columns of D by the left-out protocol, and those of H."""
    for protocol in ("left-out", "held-out"):
        if protocol == "left-out" or outcomes.n_columns > outcomes.n_train:
            for estimate in influence_blocks(outcomes, protocol=protocol, outcome=outcome):
                assert estimate.columns is not None
                yield slice(int(estimate.columns[0]), int(estimate.columns[-1]) + 1), estimate


def _arrays(estimate: Estimate, q_over: str) -> dict[str, Array]:
    """What is written of some columns, but for q over the matrix, [n, columns]."""
    p = np.asarray(estimate.p)
    arrays = {"value": estimate.value, "se": estimate.se, "p": np.maximum(p, MIN_P)}
    if q_over == "column":
        arrays["q"] = q_values(p, axis=0)
    counts = {name: np.broadcast_to(getattr(estimate, name), p.shape) for name in ("n_in", "n_out")}
    return {name: array.astype(np.float32) for name, array in arrays.items()} | {
        name: array.astype(np.int32) for name, array in counts.items()
    }


@dataclass(frozen=True)
class Target:
    """Whether a run has reached a wanted root mean square standard error of memorization.

    Attributes:
        reached: NaN where an example has no error yet.
        n_models: Of subsets, that the run holds.
        n_needed: Of subsets, by what the outcomes say; None where they say nothing yet.
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
    check_fraction("standard_error", standard_error)
    grouped = float(run.manifest.get("design", {}).get("grouped_share", 0.0))
    if grouped >= 1:
        raise InputError(
            "a target is for scores, which rest on uniform models, and with a grouped share of 1 there are none"
        )
    outcomes = run.outcomes("design", models)
    n_models = len(run.complete("design")) + len(run.complete("grouped"))
    if not outcomes.n_models:
        return Target(standard_error, math.nan, n_models, None)
    # Training asks at every look: forecast and scores are made from one pass over the outcomes.
    statistics = own_statistics(outcomes, outcome="correct")
    needed = ErrorForecast.from_statistics(statistics, n_models=outcomes.n_models).models_for(standard_error)
    reached = root_mean_square(contrast(statistics, protocol="own", outcome="correct").se)
    return Target(standard_error, reached, n_models, None if needed is None else math.ceil(needed / (1 - grouped)))

"""The matrix on disk is the matrix in memory, in whatever tiles it was made, and whoever reads it finds it whole.

It is written because it does not fit in memory, so nobody will compare it: here it is small and held, entry by entry, to
`infl.influence`, and its q-values to SciPy's. Tiles are made so small that they end in the middle of everything: of the
training examples, of chunks, of threads' pieces.
"""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tensorstore
from scipy import stats

import infl
from infl.pipeline.score import write_influence
from infl.records import InputError, Outcomes

N, M, T = 14, 9, 80
SIZES = (
    "infl.pipeline.score.PAIRS_PER_CHUNK",
    "infl.scores.influence.PAIRS_AT_ONCE",
    "infl.scores.contrasts.PAIRS_PER_PIECE",
)
ROUNDING = T * float(np.finfo(np.float32).eps)  # most that the order of a sum of T margins below 1 can do to it


def make_outcomes(*, one_size: bool = True) -> Outcomes:
    random = np.random.default_rng(0)
    sizes = np.full(T, 9) if one_size else random.integers(7, 12, T)
    masks = random.random((T, N)).argsort(axis=1) < sizes[:, None]
    masks[:, 4] = True  # no estimate
    right = random.random((T, N + M)) < 0.3 + 0.6 * np.c_[masks, masks[:, :M]]
    right[:, N + 2] = True
    return Outcomes(masks, right, np.where(right, 1, -1) * random.random((T, N + M)))


def read(path: Path, name: str) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / name)}}
    return np.asarray(tensorstore.open(spec).result().read().result())


def expected(outcomes: Outcomes, outcome: Any) -> dict[str, np.ndarray]:
    parts = [infl.influence(outcomes, protocol=protocol, outcome=outcome) for protocol in ("left-out", "held-out")]
    return {
        name: np.concatenate([np.broadcast_to(getattr(one, name), one.value.shape) for one in parts], axis=1)
        for name in ("value", "se", "p", "n_in", "n_out")
    }


@pytest.fixture(params=[(1 << 21, 1 << 22, 1 << 15), (3 * N, 4 * N, 2 * N)])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, pairs in zip(SIZES, request.param, strict=True):
        monkeypatch.setattr(name, pairs)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("outcome", ["correct", "margin"])
@pytest.mark.parametrize("one_size", [True, False])
def test_it_is_the_matrix(tmp_path: Path, outcome: Any, *, one_size: bool) -> None:
    outcomes = make_outcomes(one_size=one_size)
    path = write_influence(outcomes, tmp_path / "matrix.zarr", outcome=outcome)
    for name, array in expected(outcomes, outcome).items():
        written = read(path, name)
        assert written.dtype == (np.int32 if name in ("n_in", "n_out") else np.float32)
        np.testing.assert_allclose(written, array, rtol=1e-5, atol=ROUNDING, err_msg=name)
    value = read(path, "value")
    assert np.isnan(value[np.arange(N), np.arange(N)]).all()
    assert np.isnan(value[4]).all()
    assert np.isfinite(value[:4, N:]).all()
    np.testing.assert_array_equal(read(path, "target"), np.arange(N + M))


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("q_over", ["matrix", "column"])
def test_its_q_values_are_scipys(tmp_path: Path, q_over: Literal["matrix", "column"]) -> None:
    outcomes = make_outcomes()
    path = write_influence(outcomes, tmp_path / "matrix.zarr", q_over=q_over)
    p, q = expected(outcomes, "correct")["p"], read(path, "q")
    np.testing.assert_array_equal(np.isnan(q), np.isnan(p))
    families = [np.ones_like(p, bool)] if q_over == "matrix" else [np.arange(N + M) == j for j in range(N + M)]
    n_below_one = 0
    for family in families:
        some = np.isfinite(p) & family
        if some.any():
            exact = stats.false_discovery_control(p[some])
            np.testing.assert_allclose(q[some], exact, rtol=1.2e-3)
            n_below_one += int((exact < 0.05).sum())
    assert n_below_one > 3


def test_p_values_below_single_precision_are_kept_above_zero(tmp_path: Path) -> None:
    masks = np.random.default_rng(0).random((400, 6)).argsort(axis=1) < 3
    path = write_influence(Outcomes(masks, np.c_[masks, masks[:, 0]]), tmp_path / "matrix.zarr")
    assert 0 < read(path, "p")[0, 6] < 1.2e-38
    assert read(path, "q")[0, 6] < 1e-36


def test_xarray_opens_it(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    xarray = pytest.importorskip("xarray")
    outcomes = make_outcomes()
    with xarray.open_zarr(write_influence(outcomes, tmp_path / "matrix.zarr"), consolidated=False) as opened:
        assert opened.value.dims == ("source", "target")
        np.testing.assert_allclose(
            opened.value.sel(source=2, target=N + 1), infl.influence(outcomes).value[2, 1], rtol=1e-6
        )


def test_memory_is_that_of_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2 million pairs, whose arrays take 48 MB, a fiftieth at a time."""
    for name, pairs in zip(SIZES, (40_000, 40_000, 10_000), strict=True):
        monkeypatch.setattr(name, pairs)
    masks = np.random.default_rng(0).random((20, 1000)) < 0.5
    outcomes = Outcomes(masks, np.concatenate([masks, masks], axis=1))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    write_influence(outcomes, tmp_path / "matrix.zarr", quiet=True)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < 40e6


def test_mistakes_are_named_and_leave_nothing(tmp_path: Path) -> None:
    outcomes = make_outcomes()
    with pytest.raises(InputError, match="no models to score"):
        write_influence(Outcomes(np.zeros((0, 3), bool), np.zeros((0, 4), bool)), tmp_path / "matrix")
    with pytest.raises(InputError, match="q_over: expected matrix or column"):
        write_influence(outcomes, tmp_path / "matrix", q_over="row")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="hold no 'margin'"):
        write_influence(Outcomes(outcomes.masks, outcomes.correct), tmp_path / "matrix", outcome="margin")
    (tmp_path / "taken").mkdir()
    with pytest.raises(InputError, match="exists already"):
        write_influence(outcomes, tmp_path / "taken")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]

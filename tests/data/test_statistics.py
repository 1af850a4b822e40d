"""Statistics of channels are NumPy's over the whole array, however the array is cut into blocks."""

from __future__ import annotations

import numpy as np
import pytest

from infl.data import arrays as statistics
from infl.data import from_arrays
from infl.data.arrays import channel_statistics
from infl.records import Dataset, InputError

AXES: dict[tuple[int, ...], int | tuple[int, ...] | None] = {(8,): 0, (4, 3): None, (4, 3, 2): (0, 1, 2)}


def dataset_of(x: np.ndarray) -> Dataset:
    """Held-out examples far away, which must not count."""
    labels = np.arange(len(x)) % 2
    return from_arrays(x, labels, np.full_like(x, 77), labels)


@pytest.mark.parametrize("block", [1, 50, 1 << 22])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", AXES)
def test_they_are_numpys(shape: tuple[int, ...], dtype: type, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "BLOCK", block)
    x = np.random.RandomState(0).randint(0, 256, (31, *shape)).astype(dtype)
    seen, scaled = channel_statistics(dataset_of(x)), x.astype(float) / (255 if dtype == np.uint8 else 1)
    np.testing.assert_allclose(seen.mean, np.atleast_1d(scaled.mean(axis=AXES[shape])), rtol=1e-12)
    np.testing.assert_allclose(seen.deviation, np.atleast_1d(scaled.std(axis=AXES[shape])), rtol=1e-12)


def test_an_offset_takes_no_digits() -> None:
    x = (1e4 + np.random.RandomState(0).normal(size=(1000, 3))).astype(np.float32)
    seen = channel_statistics(dataset_of(x))
    np.testing.assert_allclose(seen.deviation, x.astype(float).std(axis=0), rtol=1e-10)


def test_without_pixels_there_are_none() -> None:
    bare = Dataset(
        "bare", np.zeros((2, 0)), np.arange(2), np.zeros((1, 0)), np.zeros(1), np.arange(2), np.arange(1), ("a", "b")
    )
    with pytest.raises(InputError, match="bare has no pixels"):
        channel_statistics(bare)

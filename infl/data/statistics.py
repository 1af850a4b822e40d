"""What pixels are like: mean and standard deviation of each channel, for reports and for choosing scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from infl.records import Array, Dataset, InputError, channel_axes

BLOCK = 1 << 22  # pixels looked at together


@dataclass(frozen=True, eq=False)
class ChannelStatistics:
    """mean, deviation: [channels] float64, in the units that infl trains on (uint8 divided by 255)."""

    mean: Array
    deviation: Array


def channel_statistics(dataset: Dataset) -> ChannelStatistics:
    """Mean and standard deviation of each channel over the pixels of all training examples D.

    mean_c = sum over examples i and pixels p of x_ipc / (n P), deviation_c = sqrt(sum of (x_ipc - mean_c)^2 / (n P)). The
    last axis of images [h, w, channels] tells channels apart, an image [h, w] is one channel, and each feature of [d] is one.
    D is gone through twice, in blocks, in float64.

    For looking, not for preparing data with: pixels scaled by a statistic of D carry every example of D into every model,
    also those that leave it out. To train on standardized pixels use `infl.Algorithm(standardize=True)`, for which each model
    takes the statistics of its own examples.

    Raises:
        InputError: where the dataset has no pixels.

    Example:
        >>> import infl
        >>> seen = channel_statistics(infl.load("digits"))
        >>> seen.mean.round(3), seen.deviation.round(3)
        (array([0.305]), array([0.375]))
    """
    if not dataset.has_pixels:
        raise InputError(f"dataset {dataset.name} has no pixels: its models were made elsewhere")
    mean = _mean_of(dataset.x_train)
    variance = _mean_of(dataset.x_train, mean, squared=True)
    scale = 255 if dataset.x_train.dtype == np.uint8 else 1
    return ChannelStatistics(np.atleast_1d(mean) / scale, np.atleast_1d(np.sqrt(variance)) / scale)


def _mean_of(x: Array, centre: Any = 0.0, *, squared: bool = False) -> Any:
    axes = channel_axes(x.shape[1:])
    n_rows = max(1, BLOCK // (x[0].size or 1))
    total = 0.0
    for first in range(0, len(x), n_rows):
        apart = x[first : first + n_rows].astype(np.float64) - centre
        total = total + (np.square(apart) if squared else apart).sum(axis=axes)
    return total / np.prod([x.shape[axis] for axis in axes])

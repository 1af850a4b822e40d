"""scikit-learn's handwritten digits become a `Dataset`; they come with the library, so nothing is downloaded."""

from __future__ import annotations

import numpy as np

from infl.data.arrays import from_arrays
from infl.records import Dataset

N_TRAIN = 1000


def load() -> Dataset:
    """Load 1,797 digits of 8x8 pixels: 1,000 training and 797 held-out examples.

    Pixels are float32 in 0..1, shape [n, 8, 8]; labels are the digits 0..9. The split is one fixed permutation, the
    same on every machine. Ids are positions in scikit-learn's order, in which training and held-out examples share
    one numbering.

    Examples:
        >>> dataset = load()
        >>> dataset.x_train.shape, dataset.x_held_out.shape
        ((1000, 8, 8), (797, 8, 8))
    """
    from sklearn.datasets import load_digits  # here, because it takes a second, and most runs do not need it

    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32).reshape(-1, 8, 8)
    order = np.random.RandomState(0).permutation(len(labels))
    train, held_out = order[:N_TRAIN], order[N_TRAIN:]
    arrays = (images[train], labels[train], images[held_out], labels[held_out])
    return from_arrays(*arrays, name="digits", train_ids=train, held_out_ids=held_out, source="digits")

"""Fashion-MNIST, and at half its resolution: a quarter of the pixels, so that many small models fit into minutes."""

from __future__ import annotations

import numpy as np

import infl

FASHION = "idx:/usr/share/datasets/fashion-mnist"  # Debian's dataset-fashion-mnist


def half_size_fashion(n_train: int, n_held_out: int, *, seed: int = 0) -> infl.records.Dataset:
    """Means over squares of 2 x 2 pixels, 14 x 14 floats between 0 and 1."""
    whole = infl.load(FASHION, n_train=n_train, n_held_out=n_held_out, seed=seed)
    images, n, side = whole.images.astype(np.float32) / 255, whole.n_train, whole.images.shape[1] // 2
    small = images.reshape(-1, side, 2, side, 2).mean(axis=(2, 4))
    return infl.from_arrays(
        small[:n],
        whole.labels[:n],
        small[n:],
        whole.labels[n:],
        name="fashion-mnist, half size",
        class_names=whole.class_names,
        train_ids=whole.train_ids,
        held_out_ids=whole.held_out_ids,
    )

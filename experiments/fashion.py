"""Fashion-MNIST, and images at half their resolution: a quarter of the pixels, so that many small models fit into minutes."""

from __future__ import annotations

import numpy as np

import infl

FASHION = "idx:/usr/share/datasets/fashion-mnist"  # Debian's dataset-fashion-mnist


def half_size_fashion(n_train: int, n_held_out: int, *, seed: int = 0) -> infl.records.Dataset:
    """Fashion-MNIST at half its resolution, 14 x 14."""
    return half_size(infl.load(FASHION, n_train=n_train, n_held_out=n_held_out, seed=seed), "fashion-mnist, half size")


def half_size(whole: infl.records.Dataset, name: str) -> infl.records.Dataset:
    """Means over squares of 2 x 2 pixels of images of bytes, floats between 0 and 1."""
    images, n = whole.images.astype(np.float32) / 255, whole.n_train
    count, height, width = images.shape[:3]
    small = images.reshape(count, height // 2, 2, width // 2, 2, *images.shape[3:]).mean(axis=(2, 4))
    return infl.from_arrays(
        small[:n],
        whole.labels[:n],
        small[n:],
        whole.labels[n:],
        name=name,
        class_names=whole.class_names,
        train_ids=whole.train_ids,
        held_out_ids=whole.held_out_ids,
    )

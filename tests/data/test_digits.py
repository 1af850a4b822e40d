"""The digits are scikit-learn's, each at the position its id names, split the same way everywhere.

Results quoted in the docs name digits by id. They stand for the same pictures only if the split is one fixed
permutation of scikit-learn's order, and if no digit is both trained on and held out.
"""

from __future__ import annotations

import numpy as np

from infl.data import load


def test_every_digit_is_where_its_id_says() -> None:
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    dataset = load("digits")
    for images, given_labels, ids in (
        (dataset.x_train, dataset.y_train, dataset.train_ids),
        (dataset.x_held_out, dataset.y_held_out, dataset.held_out_ids),
    ):
        np.testing.assert_array_equal(images * 16, pixels[ids].reshape(-1, 8, 8))
        np.testing.assert_array_equal(given_labels, labels[ids])


def test_shapes_units_and_names() -> None:
    dataset = load("digits")
    assert dataset.x_train.shape == (1000, 8, 8)
    assert dataset.x_held_out.shape == (797, 8, 8)
    assert dataset.x_train.dtype == np.float32
    assert (dataset.images.min(), dataset.images.max()) == (0, 1)
    assert dataset.class_names == tuple("0123456789")
    assert (dataset.name, dataset.source) == ("digits", "digits")


def test_the_split_takes_each_digit_once_and_is_pinned() -> None:
    dataset = load("digits")
    assert sorted([*dataset.train_ids, *dataset.held_out_ids]) == list(range(1797))
    # These numbers must never change: published ids refer to them.
    assert dataset.train_ids[:5].tolist() == [1081, 1707, 927, 713, 262]
    assert dataset.held_out_ids[-5:].tolist() == [835, 1216, 1653, 559, 684]

"""The covariates are the sums they are described as, whichever columns are asked for and in whichever order.

The response reads columns in chunks, so a covariate that depended on its neighbours in the call would change with the size of
memory. An example must not count among its own support: it is in every subset that the `trained` protocol sees.
"""

from functools import partial

import numpy as np
import pytest

from infl.scores.surrogate import fit_surrogate
from infl.untraining.support import (
    CLASS_FRACTION,
    FLOOR,
    N_COVARIATES,
    OF_NETWORKS,
    RADII,
    RIDGES,
    prepare_support,
)

N, M, CLASSES = 30, 12, 3


@pytest.fixture
def support():
    random = np.random.RandomState(0)
    labels = np.concatenate([np.arange(N) % CLASSES, np.arange(M) % CLASSES])
    x = (random.randn(N + M, 2, 2) + labels[:, None, None]).astype(np.float32)
    return prepare_support(x, labels, n_train=N, n_classes=CLASSES)


@pytest.fixture
def masks():
    masks = np.random.RandomState(1).rand(7, N) < 0.7
    masks[0] = True
    return masks


def covariates(support, masks, columns):
    return support.covariates(masks, support.surrogate_margins(masks)[:, columns], columns)


def naive_covariates(support, mask, j):
    x, labels = support.features.astype(np.float64), support.labels
    result = []
    for ridge in RIDGES:
        surrogate = fit_surrogate(support.features, labels, n_train=N, n_classes=CLASSES, ridge=ridge)
        result.append(surrogate.margins(np.flatnonzero(~mask))[j])
    for factor in RADII:
        own = other = 0.0
        for i in np.flatnonzero(mask):
            if i == j:
                continue
            near = np.exp(-((x[i] - x[j]) ** 2).sum() / (factor * support.radius))
            own, other = (own + near, other) if labels[i] == labels[j] else (own, other + near)
        result += [np.log(FLOOR + own), np.log(FLOOR + other)]
    of_class = labels[:N] == labels[j]
    return [*result, np.log(0.02 + mask[of_class].mean()) - np.log(1.02)]


def test_covariates_equal_a_slow_loop(support, masks):
    result = covariates(support, masks, np.arange(N + M))
    assert result.shape == (7, N + M, N_COVARIATES)
    expected = [[naive_covariates(support, mask, j) for j in range(N + M)] for mask in masks]
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=2e-3)


def test_features_of_networks_add_what_they_alone_would_give_but_for_the_class(support, masks):
    features = np.random.RandomState(5).randn(N + M, 3).astype(np.float32)
    make = partial(prepare_support, labels=support.labels, n_train=N, n_classes=CLASSES)
    both = make(support.features, features=features)
    columns = np.array([5, N + 2, 0])
    result = covariates(both, masks, columns)
    np.testing.assert_array_equal(result[..., :N_COVARIATES], covariates(support, masks, columns))
    alone = covariates(make(features), masks, columns)
    np.testing.assert_array_equal(result[..., list(OF_NETWORKS)], alone[..., :CLASS_FRACTION])


def test_the_radius_is_the_median_distance_to_the_tenth_neighbour(support):
    x = support.features[:N].astype(np.float64)
    squared = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    assert support.radius == pytest.approx(np.median(np.sort(squared, axis=1)[:, 10]), rel=1e-4)


def test_an_example_never_supports_itself(support):
    """With or without example j among the members its similarities are the same; the fraction of its class is not."""
    with_, without = np.ones((1, N), bool), np.ones((1, N), bool)
    without[0, 4] = False
    one, other = (covariates(support, masks, np.array([4])) for masks in (with_, without))
    np.testing.assert_allclose(one[..., :CLASS_FRACTION], other[..., :CLASS_FRACTION], atol=1e-4)
    assert one[0, 0, CLASS_FRACTION] > other[0, 0, CLASS_FRACTION]
    assert (
        covariates(support, ~without, np.array([4]))[0, 0, len(RIDGES) : CLASS_FRACTION] == np.float32(np.log(FLOOR))
    ).all()


def test_leaving_out_a_whole_class_leaves_the_floor(support):
    masks = (support.labels[:N] != 1)[None]
    columns = np.flatnonzero(support.labels == 1)
    result = covariates(support, masks, columns)[0]
    own = [len(RIDGES) + 2 * k for k in range(len(RADII))]
    np.testing.assert_allclose(result[:, own], np.log(FLOOR), atol=1e-6)
    np.testing.assert_allclose(result[:, CLASS_FRACTION], np.log(0.02 / 1.02), atol=1e-6)
    others = covariates(support, masks, np.flatnonzero(support.labels == 0))[0]
    np.testing.assert_allclose(others[:, CLASS_FRACTION], 0, atol=1e-6)


def test_neither_order_and_chunks_of_columns_nor_other_subsets_matter(support, masks):
    whole = covariates(support, masks, np.arange(N + M))
    order = np.random.RandomState(2).permutation(N + M)
    parts = np.concatenate([covariates(support, masks, part) for part in np.array_split(order, 5)], axis=1)
    np.testing.assert_allclose(parts, whole[:, order], atol=1e-4)
    for row, mask in zip(whole, masks, strict=True):
        np.testing.assert_allclose(covariates(support, mask[None], np.arange(N + M))[0], row, atol=1e-4)


def test_neighbours_are_the_nearest_of_the_class_and_of_others(support):
    columns = np.array([0, 7, N, N + 5])
    result = support.neighbours(columns, 4)
    for j, found in zip(columns, result, strict=True):
        squared = ((support.features[:N] - support.features[j]) ** 2).sum(axis=1)
        squared[[j] if j < N else []] = np.inf
        for part, of_kind in ((found[:4], support.labels[:N] == support.labels[j]), (found[4:], None)):
            of_kind = support.labels[:N] != support.labels[j] if of_kind is None else of_kind
            expected = np.argsort(np.where(of_kind, squared, np.inf))[:4]
            assert list(part) == list(expected)


def test_tiny_sets_have_covariates():
    for n in (1, 2, 3):
        x, labels = np.random.RandomState(3).randn(n + 2, 4).astype(np.float32), np.arange(n + 2) % 2
        support = prepare_support(x, labels, n_train=n, n_classes=2)
        assert np.isfinite(covariates(support, np.ones((1, n), bool), np.arange(n + 2))).all()


def test_exact_copies_have_covariates():
    x = np.repeat(np.random.RandomState(4).randn(2, 3).astype(np.float32), 15, axis=0)
    labels = np.repeat([0, 1], 15)
    support = prepare_support(x, labels, n_train=30, n_classes=2)
    result = covariates(support, np.ones((1, 30), bool), np.arange(30))
    assert np.isfinite(result).all()
    np.testing.assert_allclose(result[..., len(RIDGES)], np.log(FLOOR + 14), atol=0.05)

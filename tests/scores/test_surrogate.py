"""The closed-form surrogate is what refitting kernel ridge regression from scratch says, only faster.

After leaving O out, the scores of examples outside D and in O are those of a solve on the kept rows; those of a kept example
are of a solve on the kept rows without it. Every covariate and predictor built on the surrogate rests on these identities, and
a downdate that is slightly wrong would still look plausible. Features on all of D as landmarks span the same functions, so
they must agree with the exact kernel but for their jitter.
"""

import numpy as np
import pytest

from infl.scores.surrogate import fit_surrogate, leave_one_out_influence, tangent_kernel

N, M, CLASSES, RIDGE = 24, 9, 3, 0.05
SETS = {
    "nothing": [],
    "one": [4],
    "some, unsorted": [20, 3, 5, 11, 23, 0],
    "all but one": list(range(1, N)),
    "all": list(range(N)),
}


def examples(n=N, m=M, seed=0):
    """The first two are exact copies, which the ridge keeps from being trouble: one covers for the other."""
    random = np.random.RandomState(seed)
    labels = np.concatenate([np.arange(n) % CLASSES, random.randint(CLASSES, size=m)])
    x = (random.randn(n + m, 4) + 1.5 * np.eye(CLASSES, 4)[labels]).astype(np.float32)
    x[1], labels[1] = x[0], labels[0]
    return x, labels


def naive_margins(x, labels, n, left_out, ridge=RIDGE):
    """One np.linalg.solve per example: of D without O, and without the example itself where it is in D."""
    with_constant = np.concatenate([x, np.ones((len(x), 1), np.float32)], axis=1)
    kernel = tangent_kernel(with_constant, with_constant).astype(np.float64)
    kernel /= np.diag(kernel)[:n].mean()
    targets = np.eye(CLASSES)[labels] - 1 / CLASSES
    margins = []
    for j in range(len(x)):
        kept = [i for i in range(n) if i not in left_out and i != j]
        dual = np.linalg.solve(kernel[np.ix_(kept, kept)] + ridge * np.eye(len(kept)), targets[kept])
        scores = kernel[j, kept] @ dual
        margins.append(scores[labels[j]] - np.delete(scores, labels[j]).max())
    return np.array(margins)


def test_the_kernel_is_the_expectation_it_stands_for():
    """<x, z> E[1(wx>0) 1(wz>0)] + E[relu(wx) relu(wz)], twice: the tangent kernel of both layers, by drawing w."""
    random = np.random.RandomState(1)
    x, z = random.randn(3, 4), random.randn(5, 4)
    w = random.randn(4, 400_000)
    on_x, on_z = (x @ w > 0).astype(float), (z @ w > 0).astype(float)
    gates = on_x @ on_z.T / w.shape[1]
    outputs = np.maximum(x @ w, 0) @ np.maximum(z @ w, 0).T / w.shape[1]
    np.testing.assert_allclose(tangent_kernel(x, z), 2 * (x @ z.T) * gates + 2 * outputs, atol=0.05)


@pytest.mark.parametrize("left_out", SETS.values(), ids=SETS.keys())
def test_margins_equal_a_naive_refit(left_out):
    x, labels = examples()
    surrogate = fit_surrogate(x, labels, n_train=N, n_classes=CLASSES, ridge=RIDGE)
    margins = surrogate.margins(np.array(left_out, int))
    assert margins.dtype == np.float32
    expected = naive_margins(x, labels, N, left_out)
    # Of the one example kept nothing is left once it is left out itself.
    np.testing.assert_allclose(margins, expected, atol=2e-4)


@pytest.mark.parametrize("left_out", list(SETS.values())[:-2], ids=list(SETS)[:-2])
def test_features_on_all_landmarks_agree_with_the_exact_kernel(left_out):
    x, labels = examples()
    settings = {"n_train": N, "n_classes": CLASSES, "ridge": RIDGE}
    exact = fit_surrogate(x, labels, **settings)
    features = fit_surrogate(x, labels, **settings, max_exact=0, n_landmarks=N)
    assert exact.exact
    assert not features.exact
    left = np.array(left_out, int)
    np.testing.assert_allclose(features.margins(left), exact.margins(left), atol=0.02)


def test_fewer_landmarks_are_a_ridge_regression_on_their_features():
    """With fewer landmarks than examples the downdate and the leave-one-out formula are still exact for the features."""
    x, labels = examples(60, 10, seed=2)
    surrogate = fit_surrogate(x, labels, n_train=60, n_classes=CLASSES, ridge=RIDGE, max_exact=0, n_landmarks=12)
    assert surrogate.kernel.shape == (70, 12)
    left_out, features = np.array([1, 2, 30]), surrogate.kernel.astype(np.float64)
    margins = surrogate.margins(left_out)
    for j in (0, 17, 59, 30, 65):
        kept = [i for i in range(60) if i not in left_out and i != j]
        gram = features[kept].T @ features[kept] + RIDGE * np.eye(12)
        scores = features[j] @ np.linalg.solve(gram, features[kept].T @ surrogate.targets[kept])
        assert margins[j] == pytest.approx(scores[labels[j]] - np.delete(scores, labels[j]).max(), abs=1e-3)


@pytest.mark.parametrize("n", [1, 3])
def test_tiny_sets(n):
    x, labels = examples(n, 4)
    for max_exact in (4096, 0):
        surrogate = fit_surrogate(x, labels, n_train=n, n_classes=CLASSES, ridge=RIDGE, max_exact=max_exact)
        for left_out in ([], [0]):
            margins = surrogate.margins(np.array(left_out, int))
            np.testing.assert_allclose(margins, naive_margins(x, labels, n, left_out), atol=0.02)


def test_pixels_in_bytes_count_as_fractions():
    x = np.random.RandomState(3).randint(0, 256, (12, 2, 3)).astype(np.uint8)
    labels = np.arange(12) % CLASSES
    one, other = (
        fit_surrogate(images, labels, n_train=8, n_classes=CLASSES).margins(np.array([1]))
        for images in (x, x.astype(np.float32) / 255)
    )
    np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("max_exact", [N, 0])
def test_another_ridge_is_another_fit(max_exact):
    x, labels = examples()
    settings = {"n_train": N, "n_classes": CLASSES, "max_exact": max_exact}
    one, other = (fit_surrogate(x, labels, ridge=ridge, **settings) for ridge in (RIDGE, 10 * RIDGE))
    left_out = np.array([2, 5, 7])
    np.testing.assert_allclose(
        one.with_ridge(10 * RIDGE).margins(left_out), other.margins(left_out), rtol=1e-4, atol=1e-5
    )
    assert np.abs(one.margins(left_out) - other.margins(left_out)).max() > 1e-3


def naive_leave_one_out(x, labels, fraction, n_subsets, seed):
    """Refit without i, subset by subset, with the draws of `leave_one_out_influence`."""
    total, count, random = np.zeros((N, N + M)), np.zeros((N, 1)), np.random.RandomState(seed)
    for _ in range(n_subsets):
        kept = np.sort(random.permutation(N)[: round(fraction * N)])
        out = [i for i in range(N) if i not in kept]
        before = naive_margins(x, labels, N, out)
        for i in kept:
            total[i] += before - naive_margins(x, labels, N, [*out, i])
            count[i] += 1
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    np.fill_diagonal(mean[:, :N], np.nan)
    return mean


@pytest.mark.parametrize(("max_exact", "tolerance"), [(N, 1e-4), (0, 3e-3)])
def test_leave_one_out_influence_equals_refitting_without_each(max_exact, tolerance):
    """Every pair, columns in the subset and out of it; three subsets leave rows that none holds."""
    x, labels = examples()
    surrogate = fit_surrogate(x, labels, n_train=N, n_classes=CLASSES, ridge=RIDGE, max_exact=max_exact, n_landmarks=N)
    influence = leave_one_out_influence(surrogate, fraction=0.6, n_subsets=3, seed=5)
    expected = naive_leave_one_out(x, labels, 0.6, 3, 5)
    assert np.isnan(expected).all(axis=1).any()
    assert np.nanstd(expected) > 30 * tolerance
    np.testing.assert_allclose(influence, expected, atol=tolerance)


def test_columns_of_leave_one_out_influence_do_not_depend_on_the_others():
    x, labels = examples()
    surrogate = fit_surrogate(x, labels, n_train=N, n_classes=CLASSES, ridge=RIDGE)
    whole = leave_one_out_influence(surrogate, fraction=0.7, n_subsets=4)
    for columns in (slice(20, 30), np.array([30, 2, 11])):
        part = leave_one_out_influence(surrogate, fraction=0.7, n_subsets=4, columns=columns)
        np.testing.assert_allclose(part, whole[:, columns], atol=1e-6)

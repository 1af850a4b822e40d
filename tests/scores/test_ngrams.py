"""The n-gram surrogate is the hierarchical Dirichlet model of the documents that are left, as a slow loop counts it.

It must be so for every subset, or covariates would not be what retraining without the others sees; a document never counts as
its own support, and tokens of a prompt are context alone.
"""

import numpy as np
import pytest
from scipy.stats import norm

from infl.scores.ngrams import MAX_ORDER, fit_ngrams

N, M, VOCABULARY = 12, 5, 6


@pytest.fixture(scope="module")
def documents():
    random = np.random.RandomState(0)
    x = random.randint(1, VOCABULARY, (N + M, 9))
    for row, length in zip(x, random.randint(3, 10, N + M), strict=True):
        row[length:] = 0
    x[3] = x[2]
    x[4, :3] *= -1
    return x


def slow_margin(x, members, j, strength):
    """Probit of the mean probability of document j by an n-gram model of the members, counted one by one."""
    padded = [(0,) * (MAX_ORDER - 1) + tuple(np.abs(row)) for row in x]
    ends = [[t + MAX_ORDER - 1 for t in range(1, x.shape[1]) if row[t] > 0] for row in x]
    probabilities = []
    for end in ends[j]:
        p = 1 / VOCABULARY
        for order in range(MAX_ORDER):
            run, before = padded[j][end - order : end + 1], padded[j][end - order : end]
            both = [(padded[i][e - order : e + 1], padded[i][e - order : e]) for i in members for e in ends[i]]
            n_run, n_before = sum(one == run for one, _ in both), sum(one == before for _, one in both)
            p = (n_run + strength * p) / (n_before + strength)
        probabilities.append(p)
    return norm.ppf(np.mean(probabilities))


@pytest.mark.parametrize(("left_out", "strength"), [([], 1.0), ([2, 5, 7], 1.0), ([0, 1, 3], 0.2)])
def test_margins_are_those_of_counting_what_is_left(documents, left_out, strength):
    surrogate = fit_ngrams(documents, n_train=N, n_tokens=VOCABULARY).with_strength(strength)
    margins = surrogate.margins(np.array(left_out, int))
    for j in range(N + M):
        members = [i for i in range(N) if i not in left_out and i != j]
        assert margins[j] == pytest.approx(slow_margin(documents, members, j, strength), abs=1e-5)


def test_features_of_copies_are_the_same_and_of_norm_one(documents):
    features = fit_ngrams(documents, n_train=N, n_tokens=VOCABULARY).features()
    inner = (features @ features.T).toarray()
    np.testing.assert_allclose(np.diag(inner), 1, atol=1e-6)
    assert inner[2, 3] == pytest.approx(1, abs=1e-6)
    assert np.delete(inner[2], [2, 3]).max() < 0.9

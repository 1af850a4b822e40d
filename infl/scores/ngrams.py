"""Turns documents into a closed-form surrogate of retraining: what an n-gram model says after leaving documents out.

The hierarchical Dirichlet language model (MacKay & Bauman Peto 1995) of the members of a subset but document j itself,

    p_k(w | c) = (N(c w) + s p_{k-1}(w | c')) / (N(c) + s),   p_0 = 1 / vocabulary,

N the number of times that a context c of k - 1 tokens is followed by token w, or by any, in these documents, c' the context
without its first token, s the strength of the shorter context. Counts are sums over documents, so that leaving out O takes
the counts of O away. Nothing here is a prediction of a network's accuracy; it is a covariate for one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtri

from infl.records import Array

MAX_ORDER = 5
FEATURE_ORDER = 3


@dataclass(frozen=True)
class NgramSurrogate:
    """An n-gram model of D, ready to leave documents out. Make one with `fit_ngrams`.

    Attributes:
        counts: [n, g] how often each run of tokens, and each context, stands in each document of D.
        totals: [g] their sums.
        runs: [positions, orders] which run ends at each scored token of D and H; contexts: which context stands before it.
        own_runs: Likewise, how often the document holds it itself.
        documents: [positions] whose token it is, ascending.
        n_columns: Documents of D and H.
    """

    counts: csr_array
    totals: Array
    runs: Array
    contexts: Array
    own_runs: Array
    own_contexts: Array
    documents: Array
    n_train: int
    n_columns: int
    n_tokens: int
    strength: float

    def with_strength(self, strength: float) -> NgramSurrogate:
        """The same with another strength of shorter contexts; the counts are shared."""
        return replace(self, strength=strength)

    def margins(self, left_out: Array) -> Array:
        """Probit of the mean probability of the scored tokens of each document, without those of D in `left_out`.

        Of documents that are not left out: without the document itself. [n+m] float32.
        """
        sums = np.bincount(self.documents, weights=self.probabilities(left_out), minlength=self.n_columns)
        return ndtri(sums / np.bincount(self.documents, minlength=self.n_columns)).astype(np.float32)

    def probabilities(self, left_out: Array) -> Array:
        """Probability of each scored token, [positions]."""
        counts = self.totals - self.counts[left_out].sum(axis=0)
        inside = np.zeros(self.n_columns, bool)
        inside[: self.n_train] = True
        inside[left_out] = False
        own = inside[self.documents]
        probability = np.full(len(self.documents), 1 / self.n_tokens)
        for order in range(MAX_ORDER):
            run = counts[self.runs[:, order]] - own * self.own_runs[:, order]
            context = counts[self.contexts[:, order]] - own * self.own_contexts[:, order]
            probability = (run + self.strength * probability) / (context + self.strength)
        return probability

    def features(self) -> csr_array:
        """Weights of the runs of one to three tokens that each document holds, rare ones most; [n+m, g], rows of norm one."""
        from sklearn.feature_extraction.text import TfidfTransformer

        runs = self.runs[:, :FEATURE_ORDER]
        places = np.repeat(self.documents, FEATURE_ORDER), runs.ravel()
        counts = csr_array((np.ones(runs.size, np.float32), places), shape=(self.n_columns, int(runs.max()) + 1))
        return csr_array(TfidfTransformer(sublinear_tf=True).fit_transform(counts))


def fit_ngrams(x: Array, *, n_train: int, n_tokens: int, strength: float = 1.0) -> NgramSurrogate:
    """Count the runs of up to five tokens of documents, D the first `n_train` rows.

    Args:
        x: [n+m, length] token ids as in `Dataset`.
        n_tokens: Size of the vocabulary.
        strength: Of the shorter context, in tokens, above 0.

    Examples:
        >>> x = np.array([[1, 2, 3, 4], [1, 2, 3, 5], [6, 1, 2, 3]])
        >>> surrogate = fit_ngrams(x, n_train=2, n_tokens=7)
        >>> surrogate.margins(np.array([], int)).round(2), surrogate.margins(np.array([0])).round(2)
        (array([0.35, 0.35, 0.18], dtype=float32), array([ 0.35, -1.07,  0.  ], dtype=float32))
    """
    documents, positions = np.nonzero(x[:, 1:] > 0)
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(np.abs(x), ((0, 0), (MAX_ORDER - 1, 0))), MAX_ORDER, axis=1
    )
    backwards = windows[documents, positions + 1, ::-1].astype(np.int64)
    runs = _numbered(backwards, n_tokens)
    contexts = _numbered(np.pad(backwards[:, 1:], ((0, 0), (1, 0))), n_tokens) + runs.max() + 1
    at = np.concatenate([runs, contexts], axis=1)
    rows = np.repeat(documents, at.shape[1])
    counts = csr_array((np.ones(at.size, np.int32), (rows, at.ravel())), shape=(len(x), int(at.max()) + 1))
    own = np.asarray(counts[rows, at.ravel()]).reshape(at.shape)
    counts = counts[:n_train]
    parts = (at[:, :MAX_ORDER], at[:, MAX_ORDER:], own[:, :MAX_ORDER], own[:, MAX_ORDER:])
    return NgramSurrogate(counts, counts.sum(axis=0), *parts, documents, n_train, len(x), n_tokens, strength)


def _numbered(backwards: Array, n_tokens: int) -> Array:
    """Number of the last 1, 2, ... tokens among all that occur, [positions, orders]; no two orders share a number."""
    numbers, n_before, key = [], 0, np.zeros(len(backwards), np.int64)
    for token in backwards.T:
        key = np.unique(key * n_tokens + token, return_inverse=True)[1]
        numbers.append(key + n_before)
        n_before += int(key.max()) + 1
    return np.stack(numbers, axis=1)

"""Finds documents that are nearly the same, by the runs of tokens that they share."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, vstack
from scipy.sparse.csgraph import connected_components

from infl.records import Array, InputError, check_integer

BLOCK = 256  # rows compared with all others at a time, so that no matrix of all pairs is made


def token_ngrams(x: Array, n_tokens: int) -> csr_array:
    """How often each run of `n_tokens` tokens stands in each document.

    Runs within a prompt are not counted, and a document of fewer tokens is one run.

    Args:
        x: [k, length] token ids as in `Dataset`.

    Returns:
        [k, distinct runs] int32.

    Examples:
        >>> token_ngrams(np.array([[1, 2, 1, 2], [1, 2, 0, 0], [3, 0, 0, 0]]), 2).toarray().tolist()
        [[2, 1, 0], [1, 0, 0], [0, 0, 1]]
    """
    padded = np.pad(x, ((0, 0), (0, n_tokens - 1)))
    runs = np.lib.stride_tricks.sliding_window_view(padded, n_tokens, axis=1)
    whole = (runs[:, :, -1] != 0) | ((np.arange(x.shape[1]) == 0) & (runs[:, :, 0] != 0))
    rows, starts = np.nonzero(whole & (runs > 0).any(axis=2))
    distinct, columns = np.unique(np.abs(runs[rows, starts]), axis=0, return_inverse=True)
    places = rows.astype(np.int32), columns.ravel().astype(np.int32)  # scikit-learn takes no others
    return csr_array((np.ones(len(rows), np.int32), places), shape=(len(x), max(len(distinct), 1)))


def families(x: Array, *, n_tokens: int = 3, min_overlap: float = 0.5) -> list[Array]:
    """Families of near-duplicates: documents that chains of overlaps join.

    The overlap of two documents is the Jaccard index of the sets of their runs of tokens: the number that both have by the
    number that either has. A document in which one token of ten is replaced overlaps with what it was by about 0.57.

    Args:
        x: [k, length] token ids as in `Dataset`.
        n_tokens: Tokens in a run, at least 1.
        min_overlap: From which on two documents are near-duplicates, above 0 and at most 1.

    Returns:
        Rows of each family of at least two, ascending; the largest family first.

    Examples:
        >>> families(np.array([[1, 2, 3, 4], [5, 6, 7, 8], [1, 2, 3, 9]]), min_overlap=0.3)
        [array([0, 2])]
    """
    check_integer("n_tokens", n_tokens, 1, x.shape[1], "the tokens of a row")
    if not 0 < min_overlap <= 1:
        raise InputError(f"min_overlap: expected above 0 and at most 1, got {min_overlap}")
    present = token_ngrams(x, n_tokens)
    present.data[:] = 1
    sizes = present.sum(axis=1)
    blocks = []
    for first in range(0, len(x), BLOCK):
        common = (present[first : first + BLOCK] @ present.T).tocoo()
        either = sizes[first + common.row] + sizes[common.col] - common.data
        near = common.data >= min_overlap * either
        pairs = (np.ones(near.sum(), bool), (common.row[near], common.col[near]))
        blocks.append(csr_array(pairs, shape=common.shape))
    _, labels = connected_components(vstack(blocks), directed=False)
    order = np.argsort(labels, kind="stable")
    found = np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
    return sorted((family for family in found if len(family) > 1), key=len, reverse=True)

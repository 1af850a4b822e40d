"""Counting bits gives what a product of integers gives, whatever the numbers of models, sources and rows.

Words hold 32 models, steps 16 words, blocks 512 sources, calls 64 rows: sizes on either side of each must not matter,
since what fills them up is zero.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from infl.scores.tiles import PackedMembers, pack_models


def drawn(n_models, n, seed=0):
    return np.random.RandomState(seed).rand(n_models, n) < 0.6


def counted(masks, bits, cuts=()):
    """By packing the models in pieces."""
    members = PackedMembers.of([pack_models(part) for part in np.split(masks, cuts)])
    rows = np.concatenate([pack_models(part) for part in np.split(bits, cuts)]).T
    return members.count(rows)


@pytest.mark.parametrize("n_models", [1, 31, 32, 33, 511, 512, 513])
@pytest.mark.parametrize(("n", "n_rows"), [(1, 1), (511, 63), (512, 64), (513, 65)])
def test_counts_are_those_of_a_product(n_models, n, n_rows):
    masks, bits = drawn(n_models, n), drawn(n_models, n_rows, seed=1)
    np.testing.assert_array_equal(counted(masks, bits), bits.T.astype(int) @ masks.astype(int))


def test_models_may_come_in_pieces_of_any_size():
    masks, bits = drawn(100, 7), drawn(100, 3, seed=1)
    np.testing.assert_array_equal(counted(masks, bits, cuts=(1, 40, 77)), bits.T.astype(int) @ masks.astype(int))


def test_threads_do_not_disturb_each_other():
    masks, bits = drawn(300, 600), drawn(300, 500, seed=1)
    members, rows = PackedMembers.of([pack_models(masks)]), pack_models(bits).T
    with ThreadPoolExecutor(4) as threads:
        parts = list(threads.map(lambda start: members.count(rows[start : start + 50]), range(0, 500, 50)))
    np.testing.assert_array_equal(np.concatenate(parts), bits.T.astype(int) @ masks.astype(int))

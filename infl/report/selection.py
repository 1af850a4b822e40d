"""Picks from scores the examples that a report shows, and says what each is called."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from infl.records import Array, Dataset, Estimate, InputError, ScoredPair


def most_memorized(memorization: Estimate, dataset: Dataset, n_examples: int) -> Array:
    """Ids of the training examples with the highest scores, highest first; none whose score is NaN.

    Raises:
        InputError: where the scores are not one per training example.
    """
    n = dataset.n_train
    if memorization.value.shape != (n,):
        raise InputError(
            f"memorization: expected one score per training example, [{n}], got {memorization.value.shape}; "
            f"pass the dataset the models were trained on"
        )
    order = np.argsort(-memorization.value, kind="stable")  # NaN comes last
    return order[~np.isnan(memorization.value[order])][:n_examples]


def check_pairs(pairs: Sequence[ScoredPair], dataset: Dataset) -> None:
    """Raise `InputError` where a pair names an example that the dataset does not hold."""
    for pair in pairs:
        if not (0 <= pair.source < dataset.n_train and 0 <= pair.target < dataset.n_columns):
            raise InputError(
                f"pairs: expected a training id below {dataset.n_train} and a column below {dataset.n_columns}, got "
                f"{pair.source} -> {pair.target}; pass the dataset the influence was estimated on"
            )


def example_of(dataset: Dataset, column: int) -> Array:
    """The pixels or features of one column, without joining D and H."""
    n = dataset.n_train
    return dataset.x_train[column] if column < n else dataset.x_held_out[column - n]


def class_of(dataset: Dataset, column: int) -> str:
    """The name of one column's label; names of one or two characters as `label 5`."""
    n = dataset.n_train
    name = dataset.class_names[int(dataset.y_train[column] if column < n else dataset.y_held_out[column - n])]
    return f"label {name}" if len(name) <= 2 else name


def place_of(dataset: Dataset, column: int) -> str:
    """`training #412` or `held-out #1042`: column ids, so held-out ones start at n."""
    return f"{'training' if column < dataset.n_train else 'held-out'} #{column}"

"""Data that comes with the libraries, so that nothing is downloaded: scikit-learn's digits, and verses in infl itself."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

import numpy as np

from infl.data.arrays import from_arrays
from infl.data.documents import from_tokens
from infl.records import Dataset

N_TRAIN = 1000


def load_digits() -> Dataset:
    """Load 1,797 digits of 8x8 pixels: 1,000 training and 797 held-out examples.

    Pixels are float32 in 0..1, shape [n, 8, 8]; labels are the digits 0..9. The split is one fixed permutation, the
    same on every machine. Ids are positions in scikit-learn's order, in which training and held-out examples share
    one numbering.

    Examples:
        >>> dataset = load_digits()
        >>> dataset.x_train.shape, dataset.x_held_out.shape
        ((1000, 8, 8), (797, 8, 8))
    """
    from sklearn.datasets import load_digits  # here, because it takes a second, and most runs do not need it

    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).astype(np.float32).reshape(-1, 8, 8)
    order = np.random.RandomState(0).permutation(len(labels))
    train, held_out = order[:N_TRAIN], order[N_TRAIN:]
    arrays = (images[train], labels[train], images[held_out], labels[held_out])
    return from_arrays(*arrays, name="digits", train_ids=train, held_out_ids=held_out, source="digits")


def load_verses(chapters: Sequence[str] | None = None) -> Dataset:
    """Load 1,999 verses of the King James Version, 1,396 to train on and 603 held out, as documents of at most 32 tokens.

    Groups are their 67 chapters, such as "Numbers 7": lists and genealogies on one pattern, passages that stand in two or three
    books almost word for word, and psalms, proverbs and talk that nothing else repeats. 30% of each chapter are held out.
    Tokens are a byte-pair encoding of 1,024 that was trained on the 27,841 verses of other chapters. Ids are positions in the
    order of the books, in which training and held-out verses share one numbering. The text is in the public domain; verses.txt
    beside the file says where it comes from, and `experiments/verses.py` how it was made.

    Args:
        chapters: Those to take alone, whole, as groups in this order; None for all.

    Examples:
        >>> load_verses(["Psalm 136", "Numbers 7"]).class_names
        ('Psalm 136', 'Numbers 7')
        >>> dataset = load_verses()
        >>> dataset.class_names[-1], dataset.text(dataset.n_train - 1)
        ('1 Corinthians 15', 'But thanks be to God, which giveth us the victory through our Lord Jesus Christ.')
    """
    with (files("infl.data") / "verses.npz").open("rb") as file, np.load(file) as arrays:
        names = arrays["class_names"].tolist()
        chosen = names if chapters is None else list(chapters)
        number_of = np.full(len(names), -1)
        number_of[[names.index(chapter) for chapter in chosen]] = np.arange(len(chosen))
        groups = {part: number_of[arrays[f"y_{part}"]] for part in ("train", "test")}
        train, held_out = (groups[part] >= 0 for part in ("train", "test"))
        return from_tokens(
            arrays["x_train"][train],
            arrays["x_test"][held_out],
            arrays["vocabulary"],
            y_train=groups["train"][train],
            y_held_out=groups["test"][held_out],
            class_names=chosen,
            name="verses",
            train_ids=arrays["train_ids"][train],
            held_out_ids=arrays["held_out_ids"][held_out],
            source="verses",
        )

"""Documents become a `Dataset`: token ids, one document a row, so that a document left out reaches no model.

Rows never hold two documents: in a stream cut into blocks a document would share its block with its neighbours, and leaving it
out would change what they are trained on.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infl.data.arrays import check_class_names, check_ids
from infl.data.remedies import as_array
from infl.data.tokenizers import Tokenizer, byte_tokenizer, read_tokenizer
from infl.records import Array, Dataset, InputError, check_integer

MAX_LENGTH = 256


def from_documents(
    train_texts: Iterable[str],
    held_out_texts: Iterable[str],
    *,
    groups: Iterable[str] | None = None,
    held_out_groups: Iterable[str] | None = None,
    prompts: Iterable[str] | None = None,
    held_out_prompts: Iterable[str] | None = None,
    tokenizer: Tokenizer | str | os.PathLike[str] | None = None,
    context: int | None = None,
    name: str = "documents",
    train_ids: ArrayLike | None = None,
    held_out_ids: ArrayLike | None = None,
    source: str = "",
) -> Dataset:
    """Tokenize documents, check them and make a dataset of them.

    Args:
        train_texts: The documents to train on, n of at least two tokens each.
        held_out_texts: The held-out documents, m likewise.
        groups: Of each training document what it belongs to - an author, a source, a book; None for one group of all.
        held_out_groups: Of each held-out document, given where `groups` are; may name groups that train none.
        prompts: A text before each training document that models read and are not scored by; "" for none.
        held_out_prompts: Likewise before the held-out documents.
        tokenizer: None for the bytes of UTF-8; a file that `infl tokenize` or Hugging Face's `tokenizers` made; or a
            `Tokenizer` of your own.
        context: Length of every row in tokens, at least 2; longer documents are cut, and a warning counts them. None takes
            the longest document's, at most 256.
        name: What reports call the dataset.
        train_ids: [n] positions of the training documents in their source, integers >= 0; None is 0..n-1.
        held_out_ids: [m] likewise.
        source: A string from which `infl.load` can load the documents again; "" where there is none.

    Raises:
        InputError: where any of this does not hold.

    Examples:
        >>> dataset = from_documents(["Let there be light", "and there was light"], ["It was good"], groups=["a", "b"],
        ...     held_out_groups=["a"])
        >>> dataset.x_train.shape, dataset.text(1), dataset.class_names
        ((2, 19), 'and there was light', ('a', 'b'))
    """
    tokenizer = _as_tokenizer(tokenizer)
    if context is not None:
        check_integer("context", context, 2, 1 << 20, "tokens")
    rows: list[list[Array]] = []
    ids: list[Array] = []
    for part, given, given_before, positions in (
        ("train", train_texts, prompts, train_ids),
        ("held_out", held_out_texts, held_out_prompts, held_out_ids),
    ):
        texts = _as_texts(f"{part}_texts", given)
        before = None if given_before is None else _as_texts(f"prompts of {part}_texts", given_before, len(texts))
        ids.append(check_ids(f"{part}_ids", positions, len(texts)))
        rows.append(_rows(texts, before, tokenizer, ids[-1], context or MAX_LENGTH))
    lengths = np.array([len(row) for part in rows for row in part])
    length = min(int(lengths.max()), MAX_LENGTH) if context is None else context
    if n_cut := int((lengths > length).sum()):
        longest = f"the longest has {lengths.max():,}"
        warnings.warn(
            f"{name}: {n_cut:,} of {len(lengths):,} documents are longer than the context of {length:,} tokens ({longest}) and "
            "are cut there",
            stacklevel=3,
        )
    numbers, held_out_numbers, names = _numbered(groups, held_out_groups, [len(part) for part in rows])
    return from_tokens(
        _padded(rows[0], length),
        _padded(rows[1], length),
        tokenizer.vocabulary,
        y_train=numbers,
        y_held_out=held_out_numbers,
        class_names=names,
        name=name,
        train_ids=ids[0],
        held_out_ids=ids[1],
        source=source,
    )


def from_tokens(
    x_train: ArrayLike,
    x_held_out: ArrayLike,
    vocabulary: Sequence[str] | None = None,
    *,
    y_train: ArrayLike | None = None,
    y_held_out: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    name: str = "documents",
    train_ids: ArrayLike | None = None,
    held_out_ids: ArrayLike | None = None,
    source: str = "",
) -> Dataset:
    """Check documents that are tokenized already; see `Dataset`.

    Args:
        x_train: [n, length] integers: ids from 1, 0 behind the end of a document, negative where a token is not scored. Some
            token behind the first must be.
        x_held_out: [m, length] likewise.
        vocabulary: Text of each id, that of 0 empty; None takes the ids themselves.
        y_train, y_held_out: [n] and [m] numbers of groups, 0..g-1; None for one group, "documents".
        class_names: A distinct name for each group; None names them "0".."g-1".

    Raises:
        InputError: where any of this does not hold.

    Examples:
        >>> from_tokens([[1, 2, 0], [-2, 1, 2]], [[2, 2, 2]], ["", "no", " yes"]).text(1)
        ' yesno yes'
    """
    x = [_tokens(part, given) for part, given in (("x_train", x_train), ("x_held_out", x_held_out))]
    if x[0].shape[1] != x[1].shape[1]:
        raise InputError(
            f"expected rows of one length, got {x[0].shape[1]} in x_train and {x[1].shape[1]} in x_held_out"
        )
    top = max(int(np.abs(part).max()) for part in x)
    texts = ("", *(f" {k}" for k in range(1, top + 1))) if vocabulary is None else tuple(map(str, vocabulary))
    if top >= len(texts):
        raise InputError(
            f"expected token ids below {len(texts):,}, the size of the vocabulary, got {top:,}: it is of another tokenizer"
        )
    if texts[0] or any(re.search("[\0\ud800-\udfff]", text) for text in texts):
        raise InputError(
            "vocabulary: expected the text of each id, empty for 0, no character 0 and no half of a surrogate pair, got "
            f"{texts[0]!r} for 0; shift ids by one, and write the character 0 as <0x00>"
        )
    if y_train is None and y_held_out is None:
        class_names = class_names or ["documents"]
    y = [
        _group_numbers(part, given, len(of))
        for part, given, of in zip(("y_train", "y_held_out"), (y_train, y_held_out), x, strict=True)
    ]
    n_groups = max(int(part.max()) for part in y) + 1
    names = check_class_names(map(str, range(n_groups)) if class_names is None else class_names)
    if n_groups > len(names):
        raise InputError(f"class_names: expected {n_groups:,} names, one a group, got {len(names):,}")
    return Dataset(
        name=name,
        x_train=x[0],
        y_train=y[0],
        x_held_out=x[1],
        y_held_out=y[1],
        train_ids=check_ids("train_ids", train_ids, len(x[0])),
        held_out_ids=check_ids("held_out_ids", held_out_ids, len(x[1])),
        class_names=names,
        source=source,
        vocabulary=texts,
    )


def _as_tokenizer(given: Tokenizer | str | os.PathLike[str] | None) -> Tokenizer:
    if given is None:
        return byte_tokenizer()
    return given if isinstance(given, Tokenizer) else read_tokenizer(given)


def _as_texts(name: str, given: Iterable[str], n: int | None = None) -> list[str]:
    texts = [given] if isinstance(given, str) else list(given)
    if isinstance(given, str) or not all(isinstance(text, str) for text in texts):
        given = given if isinstance(given, str) else texts
        raise InputError(f"{name}: expected a sequence of strings, one a document, got {given!r:.60}")
    if not texts or (n is not None and len(texts) != n):
        raise InputError(f"{name}: expected {n or 'at least one'}, one a document, got {len(texts)}")
    return texts


def _rows(
    texts: Sequence[str], prompts: Sequence[str] | None, tokenizer: Tokenizer, ids: Array, context: int
) -> list[Array]:
    """Token ids of each document, those of its prompt negative."""
    try:
        scored = tokenizer.encode(texts)
        unscored = [np.array([], np.int32)] * len(texts) if prompts is None else tokenizer.encode(prompts)
    except UnicodeEncodeError as error:
        broken = next(
            k for k, text in enumerate(texts) if re.search("[\ud800-\udfff]", text + (prompts[k] if prompts else ""))
        )
        raise InputError(f"document {ids[broken]}: holds half of a surrogate pair, which is no character") from error
    for k, before in enumerate(unscored):
        if len(before) >= context:
            raise InputError(
                f"document {ids[k]}: its prompt has {len(before):,} tokens, which leave none of the context of {context:,} to "
                "score; shorten it, or take a longer context"
            )
    rows = [np.concatenate([-before, tokens]) for before, tokens in zip(unscored, scored, strict=True)]
    if short := [k for k, row in enumerate(rows) if len(row) < 2 or not len(scored[k])]:
        raise InputError(
            f"document {ids[short[0]]}: expected at least two tokens, one to predict from the other, got {texts[short[0]]!r} "
            f"({len(short):,} such documents); leave them out"
        )
    return rows


def _padded(rows: list[Array], length: int) -> Array:
    padded = np.zeros((len(rows), length), np.int32)
    for row, tokens in zip(padded, rows, strict=True):
        row[: len(tokens)] = tokens[:length]
    return padded


def _numbered(
    groups: Iterable[Any] | None, held_out_groups: Iterable[Any] | None, sizes: Sequence[int]
) -> tuple[Array | None, Array | None, list[str] | None]:
    """Groups as numbers, in the order in which they appear."""
    if groups is None and held_out_groups is None:
        return None, None, None
    together: list[str] = []
    for name, given, n in (("groups", groups, sizes[0]), ("held_out_groups", held_out_groups, sizes[1])):
        found = [] if given is None or isinstance(given, str) else list(map(str, given))
        if len(found) != n:
            raise InputError(f"{name}: expected {n} names, one a document, got {len(found) or 'none'}")
        together += found
    names = list(dict.fromkeys(together))
    number_of = {name: number for number, name in enumerate(names)}
    numbers = np.array([number_of[group] for group in together])
    return numbers[: sizes[0]], numbers[sizes[0] :], names


def _tokens(name: str, given: ArrayLike) -> Array:
    array = as_array(name, given)
    if array.dtype.kind not in "iu" or array.ndim != 2 or 0 in array.shape:
        raise InputError(
            f"{name}: expected token ids, integers [documents, length], got {array.dtype} of shape {array.shape}"
        )
    if np.abs(array.astype(np.int64)).max() >= 1 << 31:
        raise InputError(f"{name}: expected token ids within int32, got {array.max()}")
    array = array.astype(np.int32)
    if len(gaps := np.flatnonzero(((array[:, :-1] == 0) & (array[:, 1:] != 0)).any(axis=1))):
        raise InputError(f"{name}: expected 0 behind the end of a document alone, got it inside of document {gaps[0]}")
    if len(empty := np.flatnonzero(~((array[:, 1:] > 0).any(axis=1) & (array[:, 0] != 0)))):
        raise InputError(
            f"{name}: expected a token to score behind the first of each document, got none in {len(empty):,} of {len(array):,}"
            f", the first at {empty[0]}; leave them out"
        )
    return array


def _group_numbers(name: str, given: ArrayLike | None, n: int) -> Array:
    array = np.zeros(n, np.int32) if given is None else as_array(name, given)
    if array.dtype.kind not in "iu" or array.shape != (n,) or array.min() < 0:
        raise InputError(
            f"{name}: expected {n:,} numbers of groups, integers from 0, got {array.dtype} of shape {array.shape}"
        )
    return array.astype(np.int32)

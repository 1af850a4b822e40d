"""What comes in: examples with their labels, and which of them belong together."""

from __future__ import annotations

import codecs
import hashlib
import math
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from infl.records.words import Array, InputError, ProtocolName, check_integer

DatasetKind = Literal["examples", "documents", "facts"]

_BYTES = re.compile(r"(<0x[0-9A-F]{2}>)+").fullmatch


@dataclass(frozen=True)
class Dataset:
    """Labelled examples, documents or facts: D to train on, H to judge on.

    Of documents x holds the tokens and y their group (author, source, book); of facts x holds the question, a subject and a
    relation, and y the answer. Pixels are float32 and used as they are, or
    uint8 and divided by 255 on the device. No statistic of D enters them: otherwise an example that a model leaves out
    would still reach it.

    Attributes:
        x_train: [n, ...] float32 or uint8; [n, 0] where outcomes were imported and pixels did not come with them. Of
            documents [n, length] int32: tokens from 1, then 0 up to the length; tokens that are not scored are negative. Of
            facts [n, 2] int32: the numbers of entity and relation.
        y_train: [n] int32, classes 0..c-1.
        x_held_out: [m, ...], same dtype and shape per example.
        y_held_out: [m] int32.
        train_ids: [n] position of each training example in the source it came from; of facts the number of its statement,
            one for all ways in which it is put.
        held_out_ids: [m] likewise.
        class_names: One for each class.
        source: What `infl.load` was given, so that a person can tell where the examples came from.
        vocabulary: The text of each token of documents, "" of padding; bytes that are no whole character are written as
            `<0xE2>`. () for other data.
        entities: Of facts what subjects and answers are numbered by, the classes first; () for other data.
        relations: Of facts what relations are numbered by; () for other data.
        targets: [n+m, ...] float32, what a task of the user's own is about, instead of the labels; None for no other.
    """

    name: str
    x_train: Array
    y_train: Array
    x_held_out: Array
    y_held_out: Array
    train_ids: Array
    held_out_ids: Array
    class_names: tuple[str, ...]
    source: str = ""
    vocabulary: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    relations: tuple[str, ...] = ()
    targets: Array | None = None

    def __repr__(self) -> str:
        if self.is_documents:
            return (
                f"Dataset({self.name!r}: {self.n_train:,} training and {self.n_held_out:,} held-out documents in "
                f"{self.n_classes:,} groups, up to {self.x_train.shape[1]:,} of {len(self.vocabulary):,} tokens)"
            )
        if self.is_facts:
            return (
                f"Dataset({self.name!r}: {self.n_train:,} training and {self.n_held_out:,} held-out facts, "
                f"{self.n_classes:,} answers, {len(self.entities):,} entities, {len(self.relations):,} relations)"
            )
        return (
            f"Dataset({self.name!r}: {self.n_train:,} training and {self.n_held_out:,} held-out examples of "
            f"{self.n_classes} classes, {self.x_train.dtype} {list(self.x_train.shape[1:])})"
        )

    @property
    def n_train(self) -> int:
        return len(self.y_train)

    @property
    def n_held_out(self) -> int:
        return len(self.y_held_out)

    @property
    def n_columns(self) -> int:
        return self.n_train + self.n_held_out

    @property
    def n_classes(self) -> int:
        return len(self.class_names)

    @property
    def is_documents(self) -> bool:
        return bool(self.vocabulary)

    @property
    def is_facts(self) -> bool:
        return bool(self.entities)

    @property
    def kind(self) -> DatasetKind:
        return "documents" if self.is_documents else "facts" if self.is_facts else "examples"

    @property
    def has_texts(self) -> bool:
        """Whether examples are shown by their text."""
        return self.is_documents or self.is_facts

    @property
    def class_words(self) -> tuple[str, str, str]:
        """What the class of an example is called: of one example, of many, and several."""
        if self.is_facts:
            return ("answer", "answer", "answers")
        return ("group", "group", "groups") if self.is_documents else ("label", "class", "classes")

    @property
    def task_targets(self) -> Array:
        """What the task is about, of all columns: `targets` where there are any, else the labels; [n+m, ...]."""
        return self.labels.astype(np.int32) if self.targets is None else self.targets

    @property
    def pairs_protocol(self) -> ProtocolName:
        """Of the pairs that are listed: held-out examples, or training ones where there are no others."""
        return "held-out" if self.n_held_out else "left-out"

    def text(self, column: int) -> str:
        """Text of a document with its prompt, as far as its tokens tell, or the question of a fact; D's columns come first."""
        if self.is_facts:
            entity, relation = self.x_train[column] if column < self.n_train else self.x_held_out[column - self.n_train]
            return f"{self.entities[entity]}, {self.relations[relation]}, ?"
        return "".join(text for text, _ in self.pieces(column))

    def pieces(self, column: int) -> list[tuple[str, int]]:
        """That text in pieces of whole characters, each with its number of tokens, which is 1 but for bytes of a character."""
        decoder, found, n_tokens = codecs.getincrementaldecoder("utf-8")("replace"), list[tuple[str, int]](), 0
        for token in self.tokens(column):
            text = self.vocabulary[abs(token)]
            as_bytes = bytes.fromhex(text.replace("<0x", "").replace(">", "")) if _BYTES(text) else text.encode()
            n_tokens += 1
            if whole := decoder.decode(as_bytes):
                found.append((whole, n_tokens))
                n_tokens = 0
        rest = decoder.decode(b"", final=True)
        return [*found, (rest, n_tokens)] if n_tokens else found

    def tokens(self, column: int) -> Array:
        """Tokens of a document without what pads it, [length] int32; those that are not scored are negative."""
        row = self.x_train[column] if column < self.n_train else self.x_held_out[column - self.n_train]
        return row[row != 0]

    @property
    def has_pixels(self) -> bool:
        return self.x_train.size > 0

    @property
    def is_classified(self) -> bool:
        """Whether these are pixels with a class each, of which closed-form fits predict one from the other."""
        return self.has_pixels and not self.has_texts and self.targets is None

    @property
    def images(self) -> Array:
        """Pixels of all columns, [n+m, ...]."""
        return np.concatenate([self.x_train, self.x_held_out])

    @property
    def labels(self) -> Array:
        """Labels of all columns, [n+m]."""
        return np.concatenate([self.y_train, self.y_held_out])

    def class_number(self, given: str | int, what: str | None = None) -> int:
        """Number of a class, 0..c-1, of its name or its number; a text is a number where no class is called so.

        Raises:
            InputError: where there is no such class; the message begins with `what`.
        """
        kind = self.class_words[1]
        what = what or kind
        if given in self.class_names:
            return self.class_names.index(str(given))
        if isinstance(given, str) and not re.fullmatch(r"[+-]?[0-9]+", given):
            names = ", ".join(self.class_names[:10]) + (", ..." if self.n_classes > 10 else "")
            raise InputError(f"{what}: expected a {kind} ({names}) or its number, got {given!r}")
        return check_integer(
            what, int(given) if isinstance(given, str) else given, 0, self.n_classes - 1, f"the {self.class_words[2]}"
        )

    @property
    def largest_class(self) -> tuple[float, float]:
        """Fractions of D and of H that are of their largest class: what needs no learning; NaN where H is empty.

        NaN as well where labels are not what is learned: for documents and for targets.
        """
        if self.is_documents or self.targets is not None:
            return math.nan, math.nan
        counts = [np.bincount(labels, minlength=1).max() for labels in (self.y_train, self.y_held_out)]
        return counts[0] / len(self.y_train), counts[1] / len(self.y_held_out) if len(self.y_held_out) else math.nan

    @property
    def n_tokens(self) -> Array | None:
        """Tokens that are predicted of each document, [n+m]: all scored ones but the first; None without documents."""
        if not self.is_documents:
            return None
        return np.maximum((self.images[:, 1:] > 0).sum(axis=1), 1)

    def fingerprint(self) -> str:
        """SHA-256 of pixels, labels, shapes and dtypes: two datasets with the same one train the same models."""
        digest = hashlib.sha256("\0".join(self.vocabulary or self.entities + self.relations).encode())
        targets = [] if self.targets is None else [self.targets]
        for array in (self.x_train, self.y_train, self.x_held_out, self.y_held_out, *targets):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def flat_pixels(x: Array) -> Array:
    """Pixels [k, ...] as infl trains on them, float32 and uint8 divided by 255, one row per example: [k, d]."""
    flat = x.reshape(len(x), -1).astype(np.float32)
    return flat / 255 if x.dtype == np.uint8 else flat


def channel_axes(example_shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes of a batch of such examples over which a statistic of a channel runs.

    The last axis of [h, w, channels] tells channels apart, an image [h, w] is one channel, and each feature of [d] is one.

    Examples:
        >>> channel_axes((32, 32, 3)), channel_axes((28, 28)), channel_axes((64,))
        ((0, 1, 2), (0, 1, 2), (0,))
    """
    return (0, 1, 2) if len(example_shape) == 2 else tuple(range(len(example_shape)))


@dataclass(frozen=True, eq=False)
class Groups:
    """Examples of D that belong together, at several resolutions: classes, clusters, users, documents.

    Attributes:
        names: Of the resolutions, R.
        tables: [R, n] int32, the group of each example, 0..g-1; -1 where an example is in none.

    Raises:
        InputError: where a table holds other numbers, no group at all, or there are not as many tables as names.
    """

    names: tuple[str, ...]
    tables: Array

    def __post_init__(self) -> None:
        tables = self.tables
        if tables.ndim != 2 or not np.issubdtype(tables.dtype, np.integer) or len(tables) != len(self.names):
            raise InputError(
                f"groups: expected one row of integers [n] for each of {len(self.names)} names, "
                f"got {tables.dtype} {tables.shape}"
            )
        if not len(self.names):
            raise InputError("groups: expected at least one resolution")
        for name, table in zip(self.names, tables, strict=True):
            used = np.unique(table[table != -1])
            if not len(used) or used[0] < 0 or used[-1] != len(used) - 1:
                raise InputError(f"groups {name}: expected the numbers 0..g-1 without gaps, and -1 for no group")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Groups) and self.fingerprint() == other.fingerprint()

    def __hash__(self) -> int:
        return hash(self.fingerprint())

    def fingerprint(self) -> str:
        """SHA-256 of names and tables."""
        digest = hashlib.sha256(repr((tuple(map(str, self.names)), self.tables.shape)).encode())
        digest.update(np.ascontiguousarray(self.tables, dtype=np.int32).data)
        return digest.hexdigest()

"""Texts become token ids, and token ids the texts that they stand for.

Ids begin at 1, since 0 pads: a tokenizer's own id k is k + 1 here. Bytes need no vocabulary and no training. A tokenizer that
is trained should be trained on *other* texts than D: the merges it learned from a document reach every model, also those
that leave the document out, and make it easier for them than it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from infl.records import Array, InputError, check_integer, first_line

INSTALL = "pip install 'infl[text]', or in infl's folder pip install '.[text]'"
N_BYTES = 256
MAX_VOCABULARY = 1 << 24


@dataclass(frozen=True)
class Tokenizer:
    """How documents become rows of ids.

    Attributes:
        vocabulary: Text of each id, "" for 0, which pads; see `token_text`.
        encode: From texts to the ids of each, 1 .. len(vocabulary) - 1.
    """

    vocabulary: tuple[str, ...]
    encode: Callable[[Sequence[str]], list[Array]]


def token_text(token: bytes) -> str:
    """The text of a token; bytes that are no whole characters, and the byte 0, as `<0xE2>`, the way of Llama's tokenizers.

    Examples:
        >>> token_text(b" the"), token_text("\\N{EM DASH}".encode()[:2])
        (' the', '<0xE2><0x80>')
    """
    try:
        if 0 not in token:
            return token.decode()
    except UnicodeDecodeError:
        pass
    return "".join(f"<0x{byte:02X}>" for byte in token)


def byte_tokenizer() -> Tokenizer:
    """The bytes of UTF-8, byte b as id b + 1: a vocabulary of 257."""
    texts = tuple(token_text(bytes([byte])) for byte in range(N_BYTES))
    return Tokenizer(
        ("", *texts), lambda given: [np.frombuffer(t.encode(), np.uint8).astype(np.int32) + 1 for t in given]
    )


def read_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """A tokenizer in the JSON of Hugging Face's `tokenizers`; special tokens are not added to documents.

    Raises:
        InputError: where `tokenizers` is not installed, or the file is none.
    """
    library = _library()
    try:
        tokenizer = library.Tokenizer.from_file(os.fspath(path))
    except Exception as error:  # the library raises plain Exceptions
        raise InputError(
            f"{path}: expected a tokenizer as Hugging Face's tokenizers save it (JSON), and it cannot be read "
            f"({first_line(error)}); make one with infl tokenize"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    ids = tokenizer.get_vocab()
    if not ids:
        raise InputError(
            f"{path}: expected a tokenizer with a vocabulary, got an empty one; train it with infl tokenize"
        )
    if max(ids.values()) >= MAX_VOCABULARY:
        raise InputError(f"{path}: expected token ids below {MAX_VOCABULARY:,}, got {max(ids.values())}")
    texts = [""] * (max(ids.values()) + 1)
    text_of = _texts_of(tokenizer)
    for token, number in ids.items():
        texts[number] = token_text(text_of(token, number))
    return Tokenizer(("", *texts), partial(_encode, tokenizer))


def train_tokenizer(texts: Sequence[str], path: str | os.PathLike[str], *, vocabulary: int = 1024) -> None:
    """Train a byte-pair encoding and save it as the JSON that `read_tokenizer` reads.

    Args:
        texts: Other documents than those that models will train on.
        vocabulary: Tokens at most, padding among them; at least 257, the bytes and padding.

    Raises:
        InputError: where `tokenizers` is not installed, or the vocabulary is too small.
    """
    library = _library()
    check_integer("vocabulary", vocabulary, N_BYTES + 1, 1 << 20)
    pieces = library.pre_tokenizers.ByteLevel
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pieces(add_prefix_space=False), library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocabulary - 1, initial_alphabet=sorted(pieces.alphabet()), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.save(os.fspath(path))


def _library() -> Any:
    try:
        return import_module("tokenizers")
    except ImportError as error:
        raise InputError(f"text: tokenizers other than bytes take an extra of infl ({error}): {INSTALL}") from error


def _encode(tokenizer: Any, texts: Sequence[str]) -> list[Array]:
    found = tokenizer.encode_batch(list(texts), add_special_tokens=False)
    return [np.array(one.ids, np.int32) + 1 for one in found]


def _texts_of(tokenizer: Any) -> Callable[[str, int], bytes]:
    """What a token, or its id, stands for in the middle of a text."""
    decoder = json.loads(tokenizer.to_str())["decoder"]
    if decoder and decoder["type"] == "ByteLevel":
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]  # as GPT-2 writes bytes; others follow 255
        others = [byte for byte in range(N_BYTES) if byte not in printable]
        byte_of = {chr(b): b for b in printable} | {chr(N_BYTES + k): b for k, b in enumerate(others)}
        return lambda token, _: bytes(byte_of[c] for c in token) if set(token) <= set(byte_of) else token.encode()
    # Others lose the space before a word that stands alone, so decode it behind another token.
    decode = partial(tokenizer.decode, skip_special_tokens=False)
    first = next(iter(tokenizer.get_vocab().values()))
    before = len(decode([first]))
    return lambda _, number: decode([first, number])[before:].encode()

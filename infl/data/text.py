"""A file of texts becomes a `Dataset` of documents."""

from __future__ import annotations

import json
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from infl.data import npz
from infl.data.arrays import prefix_errors
from infl.data.documents import from_documents
from infl.data.splits import Place, parse_place
from infl.records import Array, Dataset, InputError

OPTIONS = ("text", "group", "context", "tokenizer")
FRACTION = 0.25
SEPARATORS = (re.compile("%+"), re.compile("-{3,}"), re.compile(""))


def load(place: str) -> Dataset:
    """Load `FILE[:FRACTION][:text=KEY][:group=KEY][:context=TOKENS][:tokenizer=FILE]`.

    FRACTION of the documents of each group is held out, always the same draw; .25 where it is left away. `context` and
    `tokenizer` are those of `infl.from_documents`: the longest document's length and bytes where they are left away. The file
    is UTF-8 and ends in

    - `.jsonl`: a JSON object a line, with its text under `text`, and, where they are there, its `group` (in all lines or in
      none), a `prompt` before the text that is not scored, and its `id`, which becomes its position in the source where ids
      are distinct whole numbers. `text=` and `group=` name other keys. Documents that are empty are left out, and a warning
      counts them;
    - `.npz`: token ids `x_train` and `x_test`, integers [n, length] of one length, 0 behind the end of a document, negative
      where a token is not scored; and, where they are there, numbers of groups `y_train`, `y_test`, names `class_names`, and
      `vocabulary`, the text of each id;
    - or otherwise: plain text. Where lines consist of `%` alone, such lines separate the documents; otherwise lines of three or
      more dashes do, otherwise empty lines, and where there are none of these each line is a document.

    Raises:
        InputError: where the file is missing, holds no documents, or one that cannot be read; the message names its line.

    Examples:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "three.txt")
        >>> _ = Path(path).write_text("One line.\\nAnother.\\n%\\nA second document.\\n%\\nA third.\\n")
        >>> dataset = load(f"{path}:0.3:context=32")
        >>> dataset.n_train, dataset.n_held_out, dataset.x_train.shape
        (2, 1, (2, 32))
    """
    parsed = parse_place("text", place, OPTIONS)
    ending = os.path.splitext(parsed.path)[1].lower()
    if ending != ".jsonl" and (given := [o for o in ("text", "group") if o in parsed.options]):
        raise InputError(
            f"text:{place}: {given[0]}= names a key of a .jsonl, got a file that ends in {ending or 'nothing'}"
        )
    if ending == ".npz":
        if parsed.options or parsed.fraction is not None:
            raise InputError(
                f"text:{place}: an .npz holds tokens and held-out documents: leave away what stands behind it"
            )
        return npz.load(parsed.path, documents=True)
    with prefix_errors(f"text:{place}"):
        lines = read_lines(parsed.path)
        if ending == ".jsonl":
            documents = _from_json(lines, parsed.options.get("text", "text"), parsed.options.get("group"))
        else:
            texts = _blocks(lines)
            documents = Documents(texts, np.arange(len(texts)))
        return documents.dataset(parsed)


@dataclass(frozen=True)
class Documents:
    """Texts as a source has them; None where it does not say."""

    texts: list[str]
    ids: Array
    groups: list[str] | None = None
    prompts: list[str] | None = None

    def dataset(self, place: Place, n_train: int | None = None) -> Dataset:
        """The dataset of those of which the first `n_train` are D, or of which the fraction of the place is drawn."""
        filled = [k for k, text in enumerate(self.texts) if text.strip()]
        if n_empty := len(self.texts) - len(filled):
            warnings.warn(
                f"{place}: {n_empty:,} of {len(self.texts):,} documents are empty and are left out", stacklevel=5
            )
        if len(filled) < 2:
            raise InputError(f"expected at least two documents, one to train on and one to hold out, got {len(filled)}")
        labels = np.zeros(len(filled), int)
        if self.groups is not None:
            labels = np.unique([self.groups[k] for k in filled], return_inverse=True)[1]
        train, held_out = place.parts(labels, None if n_train is None else sum(k < n_train for k in filled), FRACTION)
        if not len(held_out):
            raise InputError(
                "expected groups of at least two documents, of which some are held out, got one document in each"
            )
        parts = [[filled[k] for k in part] for part in (train, held_out)]
        texts, groups, prompts = (
            [None if values is None else [values[k] for k in part] for part in parts]
            for values in (self.texts, self.groups, self.prompts)
        )
        context = place.options.get("context")
        if context is not None and not re.fullmatch("[0-9]{1,7}", context):
            raise InputError(f"context: expected a number of tokens, got {context!r}")
        return from_documents(
            texts[0] or [],
            texts[1] or [],
            groups=groups[0],
            held_out_groups=groups[1],
            prompts=prompts[0],
            held_out_prompts=prompts[1],
            tokenizer=place.options.get("tokenizer"),
            context=None if context is None else int(context),
            name=Path(place.path).stem,
            train_ids=self.ids[parts[0]],
            held_out_ids=self.ids[parts[1]] - (n_train or 0),
            source=str(place),
        )


def read_texts(path: str | os.PathLike[str]) -> list[str]:
    """The documents of a text or .jsonl file, as `load` tells them apart.

    Raises:
        InputError: where the file is missing, no UTF-8 or holds no documents.
    """
    with prefix_errors(os.fspath(path)):
        lines = read_lines(os.fspath(path))
        texts = _from_json(lines, "text", None).texts if os.fspath(path).lower().endswith(".jsonl") else _blocks(lines)
        if not texts:
            raise InputError("expected documents, got none")
        return texts


def read_lines(path: str) -> list[str]:
    """Lines of a file, whatever ends them; JSON may hold other separators of lines than these."""
    try:
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:  # ValueError of a path that holds a character 0
        raise InputError(f"cannot be read: {getattr(error, 'strerror', None) or error}; check the path") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(
            f"expected UTF-8, got the byte 0x{content[error.start]:02X} in line {line:,} (byte {error.start:,} of the file); "
            "convert it, as with iconv -f latin1 -t utf8"
        ) from error
    return re.split("\r\n|\r|\n", text)


def _blocks(lines: list[str]) -> list[str]:
    """Documents of plain text, by the first kind of separator that is there."""
    lines = "\n".join(line.rstrip() for line in lines).strip("\n").split("\n")
    for separator in SEPARATORS:
        if any(map(separator.fullmatch, lines)):
            marks = [k for k, line in enumerate(lines) if separator.fullmatch(line)]
            ends = zip([-1, *marks], [*marks, len(lines)], strict=True)
            blocks = ["\n".join(lines[first + 1 : last]).strip("\n") for first, last in ends]
            return [block for block in blocks if block]  # separators may stand at the ends, and twice in a row
    return [line for line in lines if line]


def _from_json(lines: list[str], text_key: str, group_key: str | None) -> Documents:
    texts, groups, prompts, ids = list[str](), list[str | None](), list[str](), list[Any]()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"line {number:,}: expected JSON, got {line[:40]!r} ({error}); one object a line"
            ) from error
        if not isinstance(found, dict):
            raise InputError(f'line {number:,}: expected a JSON object such as {{"text": ...}}, got {line[:40]!r}')
        for key, what in ((text_key, "text"), (group_key, "group")):
            if key is not None and found.get(key) is None:
                raise InputError(
                    f"line {number:,}: expected a {what} under {key!r}, got the keys {', '.join(map(repr, found)) or 'none'}"
                )
        for key in (text_key, "prompt"):
            if not isinstance(found.get(key, ""), str):
                raise InputError(f"line {number:,}: expected a string under {key!r}, got {found[key]!r:.40}")
        group = found.get("group" if group_key is None else group_key)
        if isinstance(group, (dict, list)):
            raise InputError(f"line {number:,}: expected the name of a group, got {group!r:.40}")
        if groups and (group is None) != (groups[0] is None):
            raise InputError(
                f"line {number:,}: expected a group in every line or in none, got {group!r}, and {groups[0]!r} before"
            )
        texts.append(found[text_key])
        groups.append(None if group is None else str(group))
        prompts.append(found.get("prompt", ""))
        ids.append(found.get("id"))
    numbered = all(type(one) is int and 0 <= one < 1 << 62 for one in ids) and len(set(ids)) == len(ids)
    named = [group for group in groups if group is not None]
    return Documents(
        texts,
        np.array(ids if numbered else range(len(ids)), np.int64),
        named or None,
        prompts if any(prompts) else None,
    )

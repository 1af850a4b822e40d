"""Which forget set a collection of models goes without: by its own name, or where that was not kept, by its size.

RUN/forget/without-<sha>.json    {"name": "...", "ids": [...], "concept": [...], "checksum": "..."}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from infl.records import ForgetSet, InputError, first_line
from infl.records.files import checksum, make_folder, read_json, write_durably


def write_forgotten(path: Path, forget_set: ForgetSet) -> None:
    """Keep a set as a file of its own, whole or not at all."""
    content: dict[str, Any] = {"name": forget_set.name, "ids": list(forget_set.ids)}
    if forget_set.concept is not None:
        content["concept"] = list(forget_set.concept)
    make_folder(path.parent)
    write_durably(path, json.dumps({**content, "checksum": checksum(content)}).encode() + b"\n")


def read_forgotten(path: Path, ids: tuple[int, ...] | None, *, n_train: int) -> ForgetSet:
    """The set of these ids with the name and concept that were kept; where none were, its name says its size.

    ids: those that the models beside it leave out; None to take them from the file.

    Raises:
        InputError: where the file is damaged, or is of another set.
    """
    try:
        content = read_json(path)
        if "checksum" in content:
            entry, name = content, content["name"]
            if content.pop("checksum") != checksum(content) or not isinstance(name, str):
                raise ValueError("its checksum does not fit its content")
        else:  # a forget file of one set, as they were kept at first
            ((name, entry),) = content.items()
        kept = tuple(int(i) for i in entry["ids"])
        concept = tuple(int(i) for i in entry["concept"]) if "concept" in entry else None
        ids = kept if ids is None else ids
    except FileNotFoundError:
        if ids is None:
            raise InputError(f"{path} is not there") from None
        return ForgetSet(f"{len(ids)} {'example' if len(ids) == 1 else 'examples'} from id {ids[0]}", ids)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(
            f"{path} is damaged ({first_line(error)}); delete it, its set goes on without a name"
        ) from error
    if concept is not None and not set(kept) <= set(concept) <= set(range(n_train)):
        raise InputError(
            f"{path} is damaged: its concept is none of its set; delete it, its set goes on without a name"
        )
    if kept != ids:
        raise InputError(
            f"{path} is of another set than the models beside it: delete it, its set goes on without a name"
        )
    return ForgetSet(name, ids, concept)

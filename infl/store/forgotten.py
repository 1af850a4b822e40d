"""Which forget set a collection of models goes without: by its own name, or where that was not kept, by its size.

RUN/forget/without-<sha>.json    {"name": {"ids": [...], "concept": [...]}}, a forget file of one set
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from infl.records import ForgetSet, InputError


def write_forgotten(path: Path, forget_set: ForgetSet) -> None:
    """Keep a set as a forget file of its own, whole or not at all."""
    content: dict[str, Any] = {"ids": forget_set.ids}
    if forget_set.concept is not None:
        content["concept"] = forget_set.concept
    path.parent.mkdir(exist_ok=True)
    partial = path.with_suffix(".partial")
    with open(partial, "w", encoding="utf-8") as file:
        json.dump({forget_set.name: content}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_forgotten(path: Path, ids: tuple[int, ...]) -> ForgetSet:
    """The set of these ids with the name and concept that were kept; where none were, its name says its size.

    Raises:
        InputError: where the file is damaged, or is of another set.
    """
    try:
        ((name, entry),) = json.loads(path.read_bytes()).items()
        kept = tuple(int(i) for i in entry["ids"])
        concept = tuple(int(i) for i in entry["concept"]) if "concept" in entry else None
    except FileNotFoundError:
        return ForgetSet(f"{len(ids)} {'example' if len(ids) == 1 else 'examples'} from id {ids[0]}", ids)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} is damaged: not a forget file of one set; delete it, its set goes on without a name"
        ) from error
    if kept != ids:
        raise InputError(
            f"{path} is of another set than the models beside it: delete it, its set goes on without a name"
        )
    return ForgetSet(name, ids, concept)

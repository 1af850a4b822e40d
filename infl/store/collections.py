"""What the models of a collection are: a record of its design, put before the first of them and never changed.

design           models of random subsets, on which scores rest
grouped          models that leave out groups
full             reference models of all of D
without-<sha>    models of D without a forget set, by its ids
cover-<sha>      models that leave out given sets or parts of them
unlearned-<sha>  models of D after a method that unlearns a forget set, by method, settings and ids
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infl.records import DiskError, ForgetSet, Groups, InputError, first_line
from infl.store.manifest import put_groups, read_groups, read_record, with_checksum
from infl.store.storage import Storage

N_INIT_SEEDS = 61  # of grouped subsets: fewer than the usual models of D, and prime, so no period meets the same ones
ADVICE = "delete it and run the command that made it again, its models stay"
COLLECTION = re.compile("[a-z]+(-[0-9a-f]{16})?")


@dataclass(frozen=True)
class Collection:
    """Models of one design.

    Attributes:
        design: JSON: `kind` (uniform, balanced, paired, grouped, full, leave-out, unlearned, imported) and what else it
            takes, of `unlearned` the name of the `method`, its `settings`, and their `role` where they were tried or chosen.
        groups: What a grouped design leaves out together.
        forget_set: What the models of `leave-out` trained without, or those of `unlearned` unlearned.
        added: When, as an ISO date.
    """

    name: str
    design: dict[str, Any]
    groups: Groups | None = None
    forget_set: ForgetSet | None = None
    added: str = ""

    @property
    def period(self) -> int:
        """Models whose masks balance each other."""
        return int(self.design.get("period", 1))

    def init_seeds(self, models: Sequence[int]) -> tuple[int, ...] | None:
        """Numbers of the seeds of initial weights and order of models; None where the collection has seeds of its own.

        Models of D, of every D\\S and unlearned ones pair by number; those of grouped subsets take the first of these again
        and again. What a seed does on D can then be taken off what it does on the subset.
        """
        kind = self.design["kind"]
        if kind in ("full", "leave-out", "unlearned"):
            return tuple(models)
        return tuple(model % N_INIT_SEEDS for model in models) if kind == "grouped" else None

    def same_models(self, other: Collection) -> bool:
        """Whether another record describes the same models; names of forget sets do not matter."""
        ids = [one.forget_set.ids if one.forget_set else None for one in (self, other)]
        return self.design == other.design and self.groups == other.groups and ids[0] == ids[1]


def record_name(name: str) -> str:
    """The object of a record."""
    return f"collections/{name}/collection.json"


def put_collection(storage: Storage, collection: Collection) -> None:
    """Put the record of a collection, after its groups."""
    record: dict[str, Any] = {"design": collection.design}
    if collection.groups is not None:
        put_groups(storage, collection.groups)
        record["groups"] = collection.groups.fingerprint()
    if (forget_set := collection.forget_set) is not None:
        record["forget_set"] = {"name": forget_set.name, "ids": list(forget_set.ids)}
        if forget_set.concept is not None:
            record["forget_set"]["concept"] = list(forget_set.concept)
    record["added"] = collection.added or datetime.datetime.now(datetime.UTC).isoformat()
    storage.put(record_name(collection.name), with_checksum(json.loads(json.dumps(record, default=np.generic.item))))


def read_collection(storage: Storage, name: str, *, n_train: int) -> Collection:
    """The record of a collection."""
    place = f"{storage.place}/{record_name(name)}"
    record = read_record(storage, record_name(name), ADVICE) if COLLECTION.fullmatch(name) else None
    if record is None:
        raise InputError(f"{place} is missing; run the command that made it again, its models stay")
    try:
        groups = read_groups(storage, record["groups"]) if "groups" in record else None
        forget_set = _forget_set(record["forget_set"], n_train) if "forget_set" in record else None
        found = Collection(name, dict(record["design"]), groups, forget_set, str(record.get("added", "")))
        if forget_set is not None and name != _name_of(found):
            raise ValueError("its forget set is another one")
        if type(found.design.get("period", 1)) is not int or not 1 <= found.period < 1 << 31:
            raise ValueError("its design has no period")
        if not isinstance(found.design["kind"], str):
            raise ValueError("its design has no kind")
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise DiskError(
            f"{place} is damaged: {first_line(error)}; delete it and train again, its models stay"
        ) from error
    return found


def cover_name(sets: Mapping[str, Sequence[int]]) -> str:
    """The collection of the models that leave out these sets or parts of them."""
    text = json.dumps({name: sorted(int(i) for i in ids) for name, ids in sets.items()}, sort_keys=True)
    return f"cover-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def leave_out_name(ids: Sequence[int]) -> str:
    """The collection of the models trained on D without these ids."""
    text = ",".join(str(i) for i in sorted(ids))
    return f"without-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def unlearned_name(design: Mapping[str, Any], ids: Sequence[int]) -> str:
    """The collection of the models that a method made of models of D to unlearn these ids."""
    named = [design["method"], design["settings"], sorted(int(i) for i in ids)]
    text = json.dumps([*named, *([design["role"]] if "role" in design else [])], sort_keys=True)
    return f"unlearned-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _name_of(collection: Collection) -> str:
    assert collection.forget_set is not None
    unlearned, ids = collection.design["kind"] == "unlearned", collection.forget_set.ids
    return unlearned_name(collection.design, ids) if unlearned else leave_out_name(ids)


def _forget_set(given: Any, n_train: int) -> ForgetSet:
    ids = tuple(map(int, given["ids"]))
    concept = tuple(map(int, given["concept"])) if "concept" in given else None
    inside = set(ids) <= set(ids if concept is None else concept) <= set(range(n_train))
    if not ids or not inside or not isinstance(given["name"], str):
        raise ValueError("its forget set is not of D")
    return ForgetSet(given["name"], ids, concept)

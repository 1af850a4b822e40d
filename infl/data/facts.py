"""A table of facts - subject, relation, object - becomes a `Dataset`: the question is the example, the object its label."""

from __future__ import annotations

import csv
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from infl.data.arrays import check_ids, prefix_errors
from infl.data.splits import HELD_OUT_NAMES, parse_place
from infl.data.text import read_lines
from infl.records import Array, Dataset, InputError

FRACTION = 0.25
NAMES = ("subject", "relation", "object")

Fact = tuple[str, str, str]


def load(place: str) -> Dataset:
    """Load `FILE[:FRACTION]`, UTF-8, separated by tabs where its first line has one, otherwise by commas.

    A line is a fact: subject, relation, object. A first line with these three names may order the columns otherwise and name
    two more: `split`, `train` or one of test, held_out, validation, valid, val; and `id`, a whole number of at least 0 that
    lines share which put one statement in several ways. Other columns are not read. Without `split` FRACTION of the facts of
    each relation is held out, always the same draw; .25 where it is left away. See `from_facts` for facts that are left out.

    Raises:
        InputError: where the file is missing, or a line is no fact; the message names it.

    Examples:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "two.csv")
        >>> _ = Path(path).write_text("subject,relation,object,split\\nAda,born,Arles,train\\nArles,river,Rhone,train\\n")
        >>> load(path)
        Dataset('two': 2 training and 0 held-out facts, 2 answers, 3 entities, 2 relations)
    """
    parsed = parse_place("facts", place)
    with prefix_errors(f"facts:{place}"):
        facts, ids, splits = _read(parsed.path)
        if splits is None:
            train, held_out = parsed.parts(np.unique([r for _, r, _ in facts], return_inverse=True)[1], None, FRACTION)
        elif parsed.fraction is not None:
            raise InputError("has a column split: leave the fraction to hold out away")
        else:
            train, held_out = np.flatnonzero(splits == "train"), np.flatnonzero(splits != "train")
        return from_facts(
            [facts[k] for k in train],
            [facts[k] for k in held_out],
            name=Path(parsed.path).stem,
            train_ids=None if ids is None else ids[train],
            held_out_ids=None if ids is None else ids[held_out],
            source=str(parsed),
        )


def from_facts(
    train: Iterable[Sequence[str]],
    held_out: Iterable[Sequence[str]],
    *,
    name: str = "facts",
    train_ids: ArrayLike | None = None,
    held_out_ids: ArrayLike | None = None,
    source: str = "",
) -> Dataset:
    """Number subjects, relations and objects, and make a dataset of the facts that have one answer.

    A warning counts facts that are left out: those whose question, subject and relation, has several answers, in D and H
    together; held-out ones that D holds as well; and held-out ones whose answer, subject or relation D does not know, so that
    no model can know them. A fact that stands twice in D is two examples of one statement.

    Args:
        train: The facts to train on, (subject, relation, object) each.
        held_out: The held-out facts.
        name: What reports call the dataset.
        train_ids: [n] numbers of their statements, at least 0, equal where facts put one statement in several ways; None
            numbers equal facts alike.
        held_out_ids: [m] likewise.
        source: A string from which `infl.load` can load the facts again; "" where there is none.

    Raises:
        InputError: where something is no fact, or fewer than two answers are left.

    Examples:
        >>> dataset = from_facts([("Ada", "born", "Arles"), ("Arles", "river", "Rhone")], [("Ada", "river", "Rhone")])
        >>> dataset.x_train.tolist(), dataset.entities, dataset.relations, dataset.text(2)
        ([[2, 0], [0, 1]], ('Arles', 'Rhone', 'Ada'), ('born', 'river'), 'Ada, river, ?')
    """
    parts = [_checked(part, given) for part, given in (("train", train), ("held_out", held_out))]
    numbers: dict[Fact, int] = {}
    for fact in parts[0] + parts[1]:
        numbers.setdefault(fact, len(numbers))
    ids = [
        np.array([numbers[fact] for fact in part], np.int64) if given is None else check_ids(what, given, len(part))
        for what, given, part in zip(("train_ids", "held_out_ids"), (train_ids, held_out_ids), parts, strict=True)
    ]
    kept = _kept(parts[0], parts[1], name)
    facts = [[part[k] for k in rows] for part, rows in zip(parts, kept, strict=True)]
    answers = list(dict.fromkeys(o for _, _, o in facts[0]))
    if len(answers) < 2:
        raise InputError(f"expected at least two answers among the facts to train on, got {len(answers)}")
    entities = list(dict.fromkeys([*answers, *(s for s, _, _ in facts[0])]))
    relations = list(dict.fromkeys(r for _, r, _ in facts[0]))
    entity, relation = ({term: k for k, term in enumerate(some)} for some in (entities, relations))
    x = [np.array([(entity[s], relation[r]) for s, r, _ in some], np.int32) for some in facts]
    y = [np.array([entity[o] for _, _, o in some], np.int32) for some in facts]
    return Dataset(
        name=name,
        x_train=x[0],
        y_train=y[0],
        x_held_out=x[1].reshape(-1, 2),
        y_held_out=y[1],
        train_ids=ids[0][kept[0]],
        held_out_ids=ids[1][kept[1]],
        class_names=tuple(answers),
        source=source,
        entities=tuple(entities),
        relations=tuple(relations),
    )


def write_facts(path: str | os.PathLike[str], rows: Iterable[tuple[str, str, str, str, int]]) -> None:
    """Write facts - subject, relation, object, split, statement - as a table that `facts:FILE` reads.

    Raises:
        InputError: Where something is there already, or it cannot be written.
    """
    write_table(path, ((*NAMES, "split", "id"), *rows))


def write_table(path: str | os.PathLike[str], lines: Iterable[Iterable[object]]) -> None:
    """Lines of fields separated by tabs, in a new file."""
    try:
        with Path(path).expanduser().open("x", encoding="utf-8") as file:
            file.writelines("\t".join(map(str, line)) + "\n" for line in lines)
    except FileExistsError as error:
        raise InputError(f"{path} exists already; choose another name, nothing is overwritten") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror or error}") from error


def _read(path: str) -> tuple[list[Fact], Array | None, Array | None]:
    """Facts of a file, the numbers of their statements and their splits where it has them."""
    lines = read_lines(path)
    delimiter = "\t" if "\t" in lines[0] else ","
    rows = [(k, row) for k, row in enumerate(csv.reader(lines, delimiter=delimiter), 1) if any(map(str.strip, row))]
    rows = [(k, [field.strip() for field in row]) for k, row in rows]
    head = [field.lower() for field in rows[0][1]] if rows else []
    if set(NAMES) <= set(head):
        columns, rows = {field: k for k, field in enumerate(head)}, rows[1:]
        if twice := [field for field in (*NAMES, "id", "split") if head.count(field) > 1]:
            raise InputError(f"line 1: expected each column once, got {twice[0]} {head.count(twice[0])} times")
    else:
        columns = {field: k for k, field in enumerate(NAMES)}
    facts, ids, splits = list[Fact](), list[int](), list[str]()
    n_columns = len(head) if columns.keys() >= set(head) else len(NAMES)
    for line, row in rows:
        if len(row) != n_columns:
            raise InputError(
                f"line {line:,}: expected {n_columns} columns ({', '.join(columns)}), got {len(row)}: {row!r:.80}; "
                "quote names that hold the separator"
            )
        found = {field: row[k] for field, k in columns.items()}
        if empty := [field for field in NAMES if not found[field]]:
            raise InputError(f"line {line:,}: expected subject, relation, object, got no {empty[0]}: {row!r:.80}")
        facts.append((found["subject"], found["relation"], found["object"]))
        if "id" in columns:
            number = found["id"]
            if not (number.isascii() and number.isdigit() and len(number) < 19):
                raise InputError(f"line {line:,}: expected a whole number of at least 0 as id, got {number!r}")
            ids.append(int(number))
        if "split" in columns:
            split = found["split"]
            if split not in ("train", *HELD_OUT_NAMES):
                raise InputError(
                    f"line {line:,}: expected train or {', '.join(HELD_OUT_NAMES)} as split, got {split!r}"
                )
            splits.append(split)
    if not facts:
        raise InputError("expected facts, a line each: subject, relation, object; got none")
    return facts, np.array(ids) if "id" in columns else None, np.array(splits) if "split" in columns else None


def _checked(part: str, given: Iterable[Sequence[str]]) -> list[Fact]:
    facts = list[Fact]()
    for k, one in enumerate(given):
        fields = () if isinstance(one, str) else tuple(one)
        if len(fields) != 3 or not all(isinstance(field, str) and field.strip() for field in fields):
            raise InputError(f"{part}: expected (subject, relation, object), three names, got {one!r:.80} at {k}")
        facts.append(fields)
    return facts


def _kept(train: list[Fact], held_out: list[Fact], name: str) -> list[list[int]]:
    """Positions of the facts that stay; a warning counts the others by why they do not."""
    answers: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for s, r, o in train + held_out:
        answers[s, r].add(o)
    several = {question for question, objects in answers.items() if len(objects) > 1}
    kept = [k for k, (s, r, _) in enumerate(train) if (s, r) not in several]
    known = {train[k] for k in kept}
    objects, relations = {o for _, _, o in known}, {r for _, r, _ in known}
    entities = objects | {s for s, _, _ in known}
    why: Counter[str] = Counter({"questions of several answers": len(train) - len(kept)})
    stay = list[int]()
    for k, fact in enumerate(held_out):
        s, r, o = fact
        if (s, r) in several:
            why["questions of several answers"] += 1
        elif fact in known:
            why["held out and trained on"] += 1
        elif o not in objects or s not in entities or r not in relations:
            why["held out with an answer, subject or relation that no training fact has"] += 1
        else:
            stay.append(k)
    if said := [f"{n:,} {reason}" for reason, n in why.items() if n]:
        warnings.warn(f"{name}: facts are left out: {'; '.join(said)}", stacklevel=4)
    return [kept, stay]

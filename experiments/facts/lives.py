"""What the parts share: the world's data set, its forget sets by kind, their verdicts, and what its rules say of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from record import mean_and_error, verdict_row

import infl
from infl.data import worlds
from infl.data.facts import from_facts
from infl.training.ensemble import Ensemble, model_keys
from infl.untraining.cuts import derive, minimal_cut

MATES, ALONE = "{C}, town-mates' C in D", "{C}, only A and B imply it"
FEW = (MATES, ALONE, "{A}, nothing implies it", "cut of C by rules", "random, put once")

Kinds = Mapping[str, Sequence[infl.ForgetSet]]


def dataset_of(world: worlds.World) -> infl.Dataset:
    """The data set of a world."""
    parts = [[row for row in world.rows if row[3] == part] for part in ("train", "test")]
    ids: Any = dict(zip(("train_ids", "held_out_ids"), ([row[4] for row in part] for part in parts), strict=True))
    return from_facts(*([row[:3] for row in part] for part in parts), name="lives", **ids)


def sets_by_kind(
    world: worlds.World, dataset: infl.Dataset, n_sets: int, only: Collection[str] | None = None
) -> dict[str, list[infl.ForgetSet]]:
    """Of each kind the first sets by the world's order, one a person or town where there are as many."""
    facts = {(row[0], row[1]): row for row in world.rows}
    trained = set(dataset.train_ids.tolist())
    town = {s: row[2] for (s, r), row in facts.items() if r == "born in"}
    persons = {
        kind: [p for p, t in town.items() if t.startswith(start) and (facts[p, "nation"][3] == "train") is known]
        for kind, start, known in (
            ("T", "ordinary", True),
            ("TL", "semi", True),
            ("P", "ordinary", False),
            ("L", "lone", False),
        )
    }
    lone = list(dict.fromkeys(town[p] for p in persons["L"]))
    names = list(worlds.PROPERTIES)

    def turns(some: list[str]) -> list[tuple[str, str]]:
        """Each with one property after another, all with the first before any has the second."""
        return [(one, names[(k + turn) % 3]) for turn in range(3) for k, one in enumerate(some)]

    def statement(subject: str, relation: str) -> int:
        return facts[subject, relation][4]

    hobbies: dict[int, set[int]] = {}
    for k, number in enumerate(dataset.train_ids.tolist()):
        if dataset.relations[dataset.x_train[k, 1]] in worlds.HOBBIES:
            hobbies.setdefault(number, set()).add(k)
    once = [{number} for number, ways in hobbies.items() if len(ways) == 1]
    thrice = [(number, ways) for number, ways in hobbies.items() if len(ways) == 3]
    born = "born in"
    ordinary = persons["T"][::3]
    statements: dict[str, list[set[int]]] = {
        MATES: [{statement(*one)} for one in turns(ordinary)],
        ALONE: [{statement(*one)} for one in turns(persons["TL"])],
        "{A}, nothing implies it": [{statement(p, born)} for p in persons["P"][::2]],
        "{A}, its three C in D": [{statement(p, born)} for p in ordinary],
        "{B}, sole": [{statement(t, worlds.PROPERTIES[name])} for t, name in turns(lone)],
        "{C, B}": [{statement(p, n), statement(town[p], worlds.PROPERTIES[n])} for p, n in turns(persons["TL"])],
        "{C, A}": [{statement(p, n), statement(p, born)} for p, n in turns(ordinary)],
        "cut of C by rules": [cut_of(statement(*one), trained, world.derivations) for one in turns(ordinary)[:n_sets]],
        "random, put once": once,
    }
    examples = {
        kind: [np.flatnonzero(np.isin(dataset.train_ids, list(one))).tolist() for one in some[:n_sets]]
        for kind, some in statements.items()
    }
    examples["random, one of three ways"] = [[min(ways)] for _, ways in thrice[:n_sets]]
    examples["random, all three ways"] = [sorted(ways) for _, ways in thrice[:n_sets]]
    return {
        kind: [infl.ForgetSet(f"{kind} {k}", tuple(ids)) for k, ids in enumerate(some)]
        for kind, some in examples.items()
        if only is None or kind in only
    }


def cut_of(conclusion: int, trained: set[int], derivations: Sequence[worlds.Derivation]) -> set[int]:
    """The conclusion with a smallest cut of its derivations."""
    return {conclusion} | minimal_cut(conclusion, trained, derivations)


def measure(
    place: Path,
    dataset: infl.Dataset,
    kinds: Kinds,
    algorithm: infl.Algorithm,
    *,
    n_seeds: int,
    max_seeds: int | None = None,
    derivations: Sequence[worlds.Derivation] = (),
) -> list[dict[str, Any]]:
    """Verdicts of all sets by retraining, in the order of the kinds; with derivations also what these say is lost.

    Args:
        n_seeds: Pairs of models a set.
        max_seeds: Of a set that these leave undetermined.
    """
    run = infl.train(dataset, run=place, algorithm=algorithm, n_models=2, n_references=n_seeds, quiet=True)
    sets = [one for some in kinds.values() for one in some]
    looks: Any = {"n_models": max_seeds or n_seeds, "stop": 0.8 if max_seeds else None, "first": n_seeds}
    effects = infl.verify_effects(run, sets, **looks, algorithm=algorithm, quiet=True)
    rows = []
    for kind, one in zip([kind for kind, some in kinds.items() for _ in some], effects, strict=True):
        lost = one.effect >= 0.5
        lost[list(one.forget_set.ids)] = False
        others = {
            "trained_lost": int(lost[: dataset.n_train].sum()),
            "held_out_lost": int(lost[dataset.n_train :].sum()),
        }
        row = {"kind": kind, "facts": [fact(dataset, k) for k in one.forget_set.ids], **verdict_row(infl.judge(one))}
        row |= {"n_seeds": one.n_models, **others}
        if derivations:
            row["derivable"] = by_derivations(dataset, one, derivations)
        rows.append(row)
    return rows


def fact(dataset: infl.Dataset, column: int) -> str:
    """Subject, relation, object."""
    return dataset.text(column)[:-1] + dataset.class_names[dataset.labels[column]]


def by_derivations(
    dataset: infl.Dataset, effects: Any, derivations: Sequence[worlds.Derivation]
) -> list[tuple[int, float]]:
    r"""Of S, and of what is held out and has a derivation through S: disjoint derivations from D\S, and how many know it."""
    numbers = np.concatenate([dataset.train_ids, dataset.held_out_ids])
    ids = list(effects.forget_set.ids)
    inside = set(numbers[ids].tolist())
    left = set(np.delete(dataset.train_ids, ids).tolist())
    touched = {head for head, premises in derivations if premises & inside}
    columns = ids + [k for k in range(dataset.n_train, len(numbers)) if int(numbers[k]) in touched]
    known = 1 - effects.effect  # models of D know nearly all of these
    return [(count_derivations(int(numbers[k]), left, derivations), float(known[k])) for k in columns]


def count_derivations(conclusion: int, statements: Collection[int], derivations: Sequence[worlds.Derivation]) -> int:
    """Derivations that share no statement, shortest first, at most 3; a statement that is there is one derivation of itself."""
    left, found = set(statements), 0
    while found < 3 and (support := derive(conclusion, left, derivations)):
        left, found = left - support, found + 1
    return found


def by_kind(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each kind the number of sets of each regime, and means over sets."""
    found = []
    for kind in dict.fromkeys(row["kind"] for row in rows):
        some = [row for row in rows if row["kind"] == kind]
        means = {name: mean_and_error([row[name][0] for row in some]) for name in ("self", "cross", "harm")}
        others = {
            name: float(np.mean([row[name] for row in some])) for name in ("trained_lost", "held_out_lost", "n_seeds")
        }
        found.append(
            {"kind": kind, "n": len(some), "regimes": Counter(row["regime"] for row in some), **means, **others}
        )
    return found


def by_count(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many models know what so many disjoint derivations are left of."""
    known = defaultdict[int, list[float]](list)
    for row in rows:
        for count, probability in row["derivable"]:
            known[count].append(probability)
    return [
        {
            "derivations": count,
            "n": len(some),
            "known": mean_and_error(some),
            "most": float(np.mean(np.array(some) > 0.5)),
        }
        for count, some in sorted(known.items())
    ]


def held_out_known(dataset: infl.Dataset, algorithm: infl.Algorithm, n_models: int) -> list[float | None]:
    """Of the held-out facts the fraction that models of D know: mean over models, and its error."""
    ensemble, parts = Ensemble(algorithm, dataset), list[float]()
    for first in range(0, n_models, ensemble.models_per_batch):
        keys = model_keys(0, "full", np.arange(first, min(first + ensemble.models_per_batch, n_models)))
        outcomes = ensemble.train(keys, np.ones((len(keys), dataset.n_train), bool))
        parts += np.asarray(outcomes.correct)[:, dataset.n_train :].mean(axis=1).tolist()
    return mean_and_error(parts)

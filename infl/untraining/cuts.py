"""What forgetting a fact takes: the sets that one may mean by it, up to a minimal cut of all derivations of it.

Statements that follow from others are known without being trained on. To be forgotten, a conclusion has to be left out together
with a premise of every derivation of it from what is retained - a cut; and premises follow back from conclusions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from infl.data.worlds import Derivation
from infl.records import Dataset, ForgetSet, InputError


def find_fact(dataset: Dataset, fact: str) -> int:
    """Column of the fact that is written as `Ada, nation, ?`, with or without its answer.

    Raises:
        InputError: Where the data are no facts, or none of them has this question.
    """
    if not dataset.is_facts:
        raise InputError(f"{dataset.name}: expected facts (facts:FILE), got {dataset.kind}")
    question = fact.strip().removesuffix("?").rstrip(", ")
    for column, label in enumerate(dataset.labels.tolist()):
        text = dataset.text(column).removesuffix(", ?")
        if question in (text, f"{text}, {dataset.class_names[label]}"):
            return column
    raise InputError(f"fact: expected a question of {dataset.name}, such as {dataset.text(0)!r}, got {fact!r}")


def fact_sets(
    dataset: Dataset, fact: str, *, derivations: Sequence[Derivation] = (), name: str | None = None
) -> list[ForgetSet]:
    """The sets that one may mean by forgetting a fact: it alone, put in all its ways, with its premises, cut off.

    Meant for: no-op where the rest implies it, spreading where it implies what is held out, local for a cut that spares that.

    Args:
        fact: `Ada, nation, ?`, with or without its answer; a held-out fact has sets of others alone.
        derivations: What follows from what, by numbers of statements, `Dataset.train_ids`; for the last two sets.
        name: Before what tells the sets apart; the fact by default.

    Returns:
        Of these sets those that differ and are not empty.

    Raises:
        InputError: Where none of the facts is meant.
    """
    column = find_fact(dataset, fact)
    statement = int(np.concatenate([dataset.train_ids, dataset.held_out_ids])[column])
    title, trained = name or dataset.text(column), set(dataset.train_ids.tolist())
    premises = {premise for conclusion, some in derivations if conclusion == statement for premise in some}
    found: dict[str, Collection[int]] = {
        title: [column] if column < dataset.n_train else [],
        f"{title} in all its ways": _examples(dataset, {statement}),
        f"{title} with premises": _examples(dataset, {statement} | premises),
        f"{title} cut by rules": _examples(dataset, {statement} | minimal_cut(statement, trained, derivations)),
    }
    return distinct_sets(found)


def distinct_sets(named: dict[str, Collection[int]]) -> list[ForgetSet]:
    """Forget sets of those that are not empty and not as one before."""
    sets: dict[tuple[int, ...], ForgetSet] = {}
    for name, ids in named.items():
        if len(ids):
            made = ForgetSet(name, tuple(ids))
            sets.setdefault(made.ids, made)
    return list(sets.values())


def minimal_cut(conclusion: int, statements: Iterable[int], derivations: Sequence[Derivation]) -> set[int]:
    """A smallest set of statements without which the conclusion does not follow from the others; itself is not among them.

    Of the smallest the one whose statements are premises of the fewest derivations, so that little else goes with it.

    Exact: the smallest set that hits all derivations found so far (an integer program) is taken until none is left that it
    does not hit (implicit hitting sets, Moreno-Centeno & Karp 2013).

    Args:
        statements: That are there; the conclusion itself counts as absent.

    Examples:
        Two derivations that share a premise:

        >>> minimal_cut(9, [1, 2, 3], [(9, frozenset({1, 2})), (9, frozenset({1, 3}))])
        {1}
    """
    there, supports, cut = set(statements) - {conclusion}, list[frozenset[int]](), set[int]()
    uses = Counter(premise for _, premises in derivations for premise in premises)
    while True:
        left, n_before = there - cut, len(supports)
        while (support := derive(conclusion, left, derivations)) is not None:
            supports.append(support)
            left -= support  # further derivations of other premises make fewer programs to solve
        if len(supports) == n_before:
            return cut
        cut = _smallest_hitting_set(supports, uses)


def derive(conclusion: int, statements: Collection[int], derivations: Sequence[Derivation]) -> frozenset[int] | None:
    """Statements among these from which the conclusion follows in one way, with as few steps as any; None where it does not.

    Examples:
        >>> rules = [(3, frozenset({1, 2})), (5, frozenset({3, 4}))]
        >>> derive(5, {1, 2, 4}, rules), derive(5, {1, 4}, rules)
        (frozenset({1, 2, 4}), None)
    """
    support = {statement: frozenset({statement}) for statement in statements}
    while conclusion not in support:
        new = {
            head: frozenset[int]().union(*(support[premise] for premise in premises))
            for head, premises in derivations
            if head not in support and premises <= support.keys()
        }
        if not new:
            return None
        support |= new
    return support[conclusion]


def _smallest_hitting_set(sets: Sequence[frozenset[int]], uses: Mapping[int, int]) -> set[int]:
    from scipy.optimize import Bounds, LinearConstraint, milp  # here, because it takes a second

    names = sorted(frozenset[int]().union(*sets))
    hits = np.array([[name in one for name in names] for one in sets], float)
    extra = np.array([uses[name] for name in names]) / (1 + sum(uses[name] for name in names))  # below 1 in sum
    solved = milp(
        1 + extra,
        integrality=1,
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(hits, 1, np.inf),
        options={"mip_rel_gap": 0.0},
    )
    return {name for name, taken in zip(names, solved.x, strict=True) if taken > 0.5}


def _examples(dataset: Dataset, statements: Collection[int]) -> list[int]:
    return np.flatnonzero(np.isin(dataset.train_ids, list(statements))).tolist()

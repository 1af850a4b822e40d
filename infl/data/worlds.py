"""Worlds of facts of which some follow from others, drawn by a seed, with the table of what follows from what.

A derivation says that a fact, its conclusion, follows from others, its premises. Conclusions imply premises back: who lives in
some nation was born in one of its towns, which is likely where it is not certain, and a cut has to cut what is likely. So the
table has derivations in both directions; what nothing implies, such as a hobby, is no conclusion in it. Held-out facts are
conclusions of facts of D.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from infl.data.facts import Fact, write_facts, write_table
from infl.data.text import read_lines
from infl.records import InputError, check_integer, seeded

Derivation = tuple[int, frozenset[int]]  # the statement that follows, and those that it follows from

PROPERTIES = {"nation": "lies in", "river": "on river", "dialect": "speaks"}  # of persons, and of their towns
HOBBIES = ("hobby", "pastime", "enjoys")


@dataclass
class World:
    """Facts with their split and the number of their statement, and what follows from what.

    Attributes:
        rows: Subject, relation, object, "train" or "test", number of the statement.
        derivations: By numbers of statements.
    """

    rows: list[tuple[str, str, str, str, int]] = field(default_factory=list)
    derivations: list[Derivation] = field(default_factory=list)

    @property
    def example(self) -> Fact:
        """A training fact that follows from others."""
        heads = {head for head, _ in self.derivations}
        return next(row[:3] for row in self.rows if row[3] == "train" and row[4] in heads)

    def state(self, *facts: Fact, held_out: bool = False) -> int:
        """Add one statement, put in one or more ways; returns its number."""
        number = self.rows[-1][4] + 1 if self.rows else 0
        self.rows += [(*fact, "test" if held_out else "train", number) for fact in facts]
        return number

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the table of facts, and that of the derivations beside it.

        Raises:
            InputError: Where one of the two is there already, or cannot be written.
        """
        write_facts(path, self.rows)
        lines = [(conclusion, *sorted(premises)) for conclusion, premises in self.derivations]
        write_table(derivations_beside(path), [("conclusion", "premises"), *lines])


def lives(size: int = 22, *, zipf: bool = False, seed: int = 0) -> World:
    """Persons born in towns, which lie in nations, on rivers, and speak dialects; so do their persons. Some have a hobby.

    Of 22 towns 16 are *ordinary*: five persons, of whom three have nation, river and dialect in D, two held out. Three are
    *semi*: one person has them in D, two held out. Three are *lone*: two persons have them held out, so that the town's own
    facts alone imply them. Nations, rivers and dialects are six each, drawn independently for each town. About half of the
    persons have a hobby that nothing implies, put in one, two or three ways.

    Args:
        size: Towns, at least 3, in about these shares.
        zipf: Whether ordinary towns have as many persons together, but each in inverse proportion to its number from 1.
        seed: 0 to 2**32 - 1.
    """
    check_integer("size", size, 3, 10_000)
    random, world = seeded(seed, "lives"), World()
    n_few = max(1, round(size * 3 / 22))
    kinds = ["ordinary"] * (size - 2 * n_few) + ["semi"] * n_few + ["lone"] * n_few
    n_known = [{"ordinary": 3, "semi": 1, "lone": 0}[kind] for kind in kinds]
    if zipf:
        n_ordinary = kinds.count("ordinary")
        weights = 1 / np.arange(1, n_ordinary + 1)
        n_known[:n_ordinary] = np.maximum(1, np.round(3 * n_ordinary * weights / weights.sum())).astype(int).tolist()
    values = random.randint(6, size=(size, 3))
    towns = [f"{kind}-town-{k}" for k, kind in enumerate(kinds)]
    about_towns = [
        [world.state((town, PROPERTIES[name], f"{name}-{value}")) for name, value in zip(PROPERTIES, row, strict=True)]
        for town, row in zip(towns, values, strict=True)
    ]
    persons = [(t, k < known) for t, known in enumerate(n_known) for k in range(known + 2)]
    for number, (t, known) in enumerate(persons):
        name, of_town = f"person-{number}", about_towns[t]
        born = world.state((name, "born in", towns[t]))
        own = [
            world.state((name, prop, f"{prop}-{value}"), held_out=not known)
            for prop, value in zip(PROPERTIES, values[t], strict=True)
        ]
        for conclusion, premise in zip(own, of_town, strict=True):
            three = born, premise, conclusion
            world.derivations += [(head, frozenset(three) - {head}) for head in three]
    for number, person in enumerate(random.permutation(len(persons))[: round(0.47 * len(persons))]):
        hobby = f"hobby-{random.randint(11)}"
        world.state(*((f"person-{person}", relation, hobby) for relation in HOBBIES[: number % 3 + 1]))
    return world


def families(size: int = 8, *, seed: int = 0) -> World:
    """Families of Hinton's shape (1986), three generations of twelve, each with names of its own.

    His twelve relations, grandsons and granddaughters, as far as they have one answer. What holds without exception of one or
    two steps is a rule; a fifth of the facts is held out, at random among those that still follow by rules.

    Args:
        size: Families, at least 1.
        seed: 0 to 2**32 - 1.
    """
    check_integer("size", size, 1, 10_000)
    facts = [fact for number in range(size) for fact in _family(f"family-{number}")]
    return _holding_out(facts, 0.2, seeded(seed, "families"))


def geography(size: int = 60, *, seed: int = 0) -> World:
    """Cities in regions, in nations, on continents: what holds over two and three steps is said of some and held out of others.

    A quarter of the facts is held out, at random among nations and continents that still follow.

    Args:
        size: Cities, at least 8: four a region, three regions a nation, and three continents.
        seed: 0 to 2**32 - 1.
    """
    check_integer("size", size, 8, 100_000)
    random = seeded(seed, "geography")
    n_regions = size // 4
    n_nations = max(2, n_regions // 3)
    region, nation = (random.permutation(n) % k for n, k in ((size, n_regions), (n_regions, n_nations)))
    continent, facts = random.permutation(n_nations) % 3, list[Fact]()
    for city in range(size):
        names = (
            f"region-{region[city]}",
            f"nation-{nation[region[city]]}",
            f"continent-{continent[nation[region[city]]]}",
        )
        facts += [(f"city-{city}", f"city's {name.split('-')[0]}", name) for name in names]
        facts += [(names[0], "region's nation", names[1]), (names[0], "region's continent", names[2])]
        facts.append((names[1], "nation's continent", names[2]))
    conclusions = ("city's nation", "city's continent", "region's continent")
    return _holding_out(list(dict.fromkeys(facts)), 0.25, random, relations=conclusions)


WorldName = Literal["lives", "families", "geography"]
WORLDS: dict[WorldName, Callable[..., World]] = {"lives": lives, "families": families, "geography": geography}


def derivations_beside(path: str | os.PathLike[str]) -> Path:
    """Where the derivations of a table of facts lie: beside it, `lives.derivations.tsv` for `lives.tsv`."""
    return Path(path).expanduser().with_suffix(".derivations.tsv")


def read_derivations(path: str | os.PathLike[str]) -> list[Derivation]:
    """The derivations in a file: a line each, numbers of statements separated by tabs, the conclusion first.

    Raises:
        InputError: Where it cannot be read, or a line is something else; the message names it.
    """
    found = list[Derivation]()
    for number, line in enumerate(read_lines(os.fspath(path)), 1):
        words = line.split("\t")
        if not line.strip() or (number == 1 and words[0] == "conclusion"):
            continue
        if len(words) < 2 or not all(word.isascii() and word.isdigit() for word in words):
            raise InputError(f"{path}: line {number:,}: expected numbers of statements, two or more, got {line:.40}")
        found.append((int(words[0]), frozenset(map(int, words[1:]))))
    return found


def _family(name: str) -> list[Fact]:
    """Facts of one family that have one answer."""
    couples = [(0, 1), (2, 3), (4, 8), (7, 5), (9, 6), (10, 11)]  # husband and wife; the last are brother and sister
    men = {0, 2, 4, 7, 9, 10}
    parents = {4: (0, 1), 5: (0, 1), 7: (2, 3), 6: (2, 3), 10: (7, 5), 11: (7, 5)}
    spouse = {a: b for husband, wife in couples[:-1] for a, b in ((husband, wife), (wife, husband))}
    facts = list[tuple[int, str, int]]()

    def say(a: int, man: str, woman: str, b: int) -> None:
        facts.append((a, man if b in men else woman, b))

    for a, b in spouse.items():
        say(a, "husband", "wife", b)
    for child, both in parents.items():
        for parent in both:
            say(child, "father", "mother", parent)
            say(parent, "son", "daughter", child)
            for old in parents.get(parent, ()):
                say(old, "grandson", "granddaughter", child)
        for other, theirs in parents.items():
            if other != child and theirs == both:
                say(child, "brother", "sister", other)
                for grandchild in (k for k, pair in parents.items() if other in pair):
                    for relative in (child, spouse[child]):
                        say(grandchild, "uncle", "aunt", relative)
                        say(relative, "nephew", "niece", grandchild)
    n_answers = Counter((a, relation) for a, relation, _ in facts)
    return [(f"{name}-{a}", relation, f"{name}-{b}") for a, relation, b in facts if n_answers[a, relation] == 1]


def _holding_out(
    facts: Sequence[Fact], fraction: float, random: np.random.RandomState, *, relations: Collection[str] | None = None
) -> World:
    """A world of these facts and their rules; held out are some that follow, of these relations, and that D can name."""
    derivations = derive_by_rules(facts)
    left, held_out = set(range(len(facts))), set[int]()
    for k in random.permutation(len(facts)).tolist():
        others = left - {k}
        if len(held_out) >= fraction * len(facts) or (relations is not None and facts[k][1] not in relations):
            continue
        known = [facts[j] for j in others]
        s, r, o = facts[k]
        nameable = (
            o in {one[2] for one in known}
            and s in {e for one in known for e in one[::2]}
            and r in {q for _, q, _ in known}
        )
        if nameable and held_out | {k} <= _closure(others, derivations):
            held_out.add(k)
            left = others
    world = World()
    for k, fact in enumerate(facts):
        world.state(fact, held_out=k in held_out)
    world.derivations = derivations
    return world


def derive_by_rules(facts: Sequence[Fact]) -> list[Derivation]:
    """Which of these facts, numbered as given, follow from one or two others by rules that hold without exception.

    A rule says that who a path of one or two steps leads to, along facts or against them, is the answer of a relation: fathers
    are mothers' husbands. It holds where no such path from a subject of this relation leads to another answer.
    """
    answer = {(s, r): o for s, r, o in facts}
    steps: defaultdict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for k, (s, r, o) in enumerate(facts):
        steps[s].append((r, o, k))
        steps[o].append((f"against {r}", s, k))
    paths = [(x, (a,), y, frozenset({j})) for x in list(steps) for a, y, j in steps[x]]
    paths += [
        (x, (a, b), z, frozenset({j, k})) for x in list(steps) for a, y, j in steps[x] for b, z, k in steps[y] if z != x
    ]
    number = {(s, r): k for k, (s, r, _) in enumerate(facts)}
    heads, holds = {r for _, r, _ in facts}, defaultdict[tuple[str, tuple[str, ...]], set[bool]](set)
    for x, path, z, _ in paths:
        for head in heads:
            if path != (head,) and (x, head) in answer:
                holds[head, path].add(answer[x, head] == z)
    rules: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for (head, path), found in holds.items():
        if found == {True}:
            rules[path].append(head)
    found = dict.fromkeys(
        (number[x, head], premises)
        for x, path, _, premises in paths
        for head in rules[path]
        if (x, head) in number and number[x, head] not in premises
    )
    return list(found)


def _closure(statements: Collection[int], derivations: Sequence[Derivation]) -> set[int]:
    """What follows from the statements, with themselves."""
    known = set(statements)
    while new := {head for head, premises in derivations if head not in known and premises <= known}:
        known |= new
    return known

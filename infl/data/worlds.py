"""Worlds of facts of which some follow from others, drawn by a seed, with the table of what follows from what.

A derivation says that a fact, its conclusion, follows from others, its premises. Conclusions imply premises back: who has the
nation, the river and the dialect of one town alone was born there. The table has derivations in both directions; what nothing
implies, such as a hobby, is no conclusion in it. Held-out facts are conclusions of facts of D.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

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


def lives(n_towns: int = 22, *, seed: int = 0) -> World:
    """Persons born in towns, which lie in nations, on rivers, and speak dialects; so do their persons. Some have a hobby.

    Of 22 towns 16 are *ordinary*: five persons, of whom three have nation, river and dialect in D, two held out. Three are
    *semi*: one person has them in D, two held out. Three are *lone*: two persons have them held out, so that the town's own
    facts alone imply them. Nations, rivers and dialects are six each, drawn independently for each town. About half of the
    persons have a hobby that nothing implies, put in one, two or three ways.

    Args:
        n_towns: At least 3, in about these shares.
        seed: 0 to 2**32 - 1.
    """
    check_integer("n_towns", n_towns, 3, 10_000)
    random, world = seeded(seed, "lives"), World()
    n_few = max(1, round(n_towns * 3 / 22))
    kinds = ["ordinary"] * (n_towns - 2 * n_few) + ["semi"] * n_few + ["lone"] * n_few
    n_known, n_asked = {"ordinary": 3, "semi": 1, "lone": 0}, {"ordinary": 2}
    values = random.randint(6, size=(n_towns, 3))
    towns = [f"{kind}-town-{k}" for k, kind in enumerate(kinds)]
    about_towns = [
        [world.state((town, PROPERTIES[name], f"{name}-{value}")) for name, value in zip(PROPERTIES, row, strict=True)]
        for town, row in zip(towns, values, strict=True)
    ]
    determines = [
        [some for size in (1, 2, 3) for some in combinations(range(3), size) if _alone(values, t, some)]
        for t in range(n_towns)
    ]
    persons = [
        (t, k < n_known[kind]) for t, kind in enumerate(kinds) for k in range(n_known[kind] + n_asked.get(kind, 2))
    ]
    for number, (t, known) in enumerate(persons):
        name, of_town = f"person-{number}", about_towns[t]
        born = world.state((name, "born in", towns[t]))
        own = [
            world.state((name, prop, f"{prop}-{value}"), held_out=not known)
            for prop, value in zip(PROPERTIES, values[t], strict=True)
        ]
        for conclusion, premise in zip(own, of_town, strict=True):
            world.derivations += [(conclusion, frozenset({born, premise})), (premise, frozenset({born, conclusion}))]
        for some in determines[t]:
            if not any(set(fewer) < set(some) for fewer in determines[t]):
                world.derivations.append((born, frozenset(part[k] for part in (own, of_town) for k in some)))
    for number, person in enumerate(random.permutation(len(persons))[: round(0.47 * len(persons))]):
        hobby = f"hobby-{random.randint(11)}"
        world.state(*((f"person-{person}", relation, hobby) for relation in HOBBIES[: number % 3 + 1]))
    return world


WORLDS = {"lives": lives}


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


def _alone(values: np.ndarray, town: int, some: tuple[int, ...]) -> bool:
    """Whether a town alone has its values of some properties."""
    return (values[:, some] == values[town, some]).all(axis=1).sum() == 1

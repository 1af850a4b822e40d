"""What forgetting a fact takes: cuts are as small as can be, by trying all smaller ones, and leave no derivation.

Rules are drawn at random, so that supports overlap and run through other conclusions; a search through all sets of statements
in order of their size is the truth.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import infl
from infl.data import worlds
from infl.data.facts import from_facts
from infl.records import InputError
from infl.untraining.cuts import derive, fact_sets, find_fact, minimal_cut

FACTS = [("Ada", "born", "Arles"), ("Arles", "river", "Rhone"), ("Ada", "river", "Rhone"), ("Bob", "born", "Bonn")]
RULES = [(2, frozenset({0, 1})), (1, frozenset({0, 2})), (4, frozenset({3, 1}))]


def facts() -> infl.Dataset:
    return from_facts(
        [*FACTS, ("Ada", "home", "Arles")], [("Bob", "river", "Rhone")], train_ids=[0, 1, 2, 3, 0], held_out_ids=[4]
    )


@pytest.mark.parametrize("seed", range(20))
def test_a_cut_is_the_smallest_that_leaves_no_derivation_and_of_these_the_mildest(seed: int) -> None:
    random = np.random.RandomState(seed)
    rules = [(int(head), frozenset(rest.tolist())) for head, *_ in [random.permutation(9)[:1] for _ in range(14)]
             for rest in [random.permutation([k for k in range(9) if k != head])[: random.randint(1, 4)]]]  # fmt: skip
    there = set(range(1, 9)) - set(random.permutation(8)[:2].tolist())
    cut = minimal_cut(0, there | {0}, rules)
    assert cut <= there
    assert derive(0, there - cut, rules) is None
    uses = [sum(statement in premises for _, premises in rules) for statement in range(9)]
    cuts = [
        (size, sum(uses[one] for one in some))
        for size in range(len(cut) + 1)
        for some in combinations(sorted(there), size)
        if derive(0, there - set(some), rules) is None
    ]
    assert min(cuts) == (len(cut), sum(uses[one] for one in cut))


def test_the_sets_of_a_fact_are_it_its_ways_its_premises_and_a_cut() -> None:
    dataset = facts()
    sets = {one.name.partition("? ")[2]: one.ids for one in fact_sets(dataset, "Ada, river, ?", derivations=RULES)}
    assert sets == {"": (2,), "with premises": (0, 1, 2, 4), "cut by rules": (1, 2)}
    assert [one.ids for one in fact_sets(dataset, "Ada, born, Arles")] == [(0,), (0, 4)]
    held_out = fact_sets(dataset, "Bob, river", derivations=RULES, name="Bob's")  # nothing of itself can be left out
    assert {one.name: one.ids for one in held_out} == {"Bob's with premises": (1, 3), "Bob's cut by rules": (3,)}


@pytest.mark.parametrize("fact", ["Ada, nation, ?", "Ada, river, Rhine", "", "Ada"])
def test_a_fact_that_is_not_there_is_named(fact: str) -> None:
    with pytest.raises(InputError, match="expected a question of facts, such as 'Ada, born, [?]'"):
        find_fact(facts(), fact)
    with pytest.raises(InputError, match="expected facts"):
        find_fact(infl.load("digits", n_train=100), fact)


def test_by_zipf_the_kth_town_has_a_kth_of_the_known_persons_of_the_first() -> None:
    rows = worlds.lives(zipf=True).rows
    told = {row[0] for row in rows if row[1] == "nation" and row[3] == "train"}
    towns = [row[2] for row in rows if row[1] == "born in" and row[0] in told and row[2].startswith("ordinary")]
    counts = [towns.count(f"ordinary-town-{k}") for k in range(16)]
    assert counts == [max(1, round(48 / sum(1 / j for j in range(1, 17)) / k)) for k in range(1, 17)]


@pytest.mark.parametrize("name", worlds.WORLDS)
def test_all_that_a_world_holds_out_can_be_derived(name: worlds.WorldName, tmp_path: Path) -> None:
    world = worlds.WORLDS[name](12, seed=1)
    trained = {row[4] for row in world.rows if row[3] == "train"}
    for row in world.rows:
        assert row[4] in trained or derive(row[4], trained, world.derivations) is not None
    world.write(tmp_path / "world.tsv")
    dataset = infl.load(f"facts:{tmp_path / 'world.tsv'}")  # nothing is left out, or a warning would be an error
    assert dataset.n_train + dataset.n_held_out == len(world.rows)

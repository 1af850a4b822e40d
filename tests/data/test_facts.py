"""A table of facts becomes questions and answers: what is read is what stands there, and what has no one answer is named."""

from __future__ import annotations

from pathlib import Path

import pytest

import infl
from infl.data import worlds
from infl.data.facts import from_facts
from infl.records import InputError

FACTS = [("Ada", "born", "Arles"), ("Arles", "river", "Rhone"), ("Bob", "born", "Bonn"), ("Bonn", "river", "Rhine")]


def spelled(dataset: infl.Dataset) -> list[str]:
    return [dataset.text(k).replace("?", dataset.class_names[label]) for k, label in enumerate(dataset.labels.tolist())]


@pytest.mark.parametrize(
    ("head", "line"),
    [
        (None, "{0}\t{1}\t{2}"),
        (None, '"{0}",{1},{2}'),
        ("object,note,relation,subject", "{2},x,{1},{0}"),
    ],
)
def test_a_table_is_read_by_its_separator_and_its_head(tmp_path: Path, head: str | None, line: str) -> None:
    path = tmp_path / "four.tsv"
    path.write_text("\n".join([*([head] if head else []), *(line.format(*fact) for fact in FACTS), ""]))
    with pytest.warns(UserWarning, match="2 held out with an answer"):  # one fact of each relation
        dataset = infl.load(f"facts:{path}")
    train = [k for k, fact in enumerate(FACTS) if ", ".join(fact) in spelled(dataset)]
    assert (dataset.n_train, dataset.n_held_out, len(train)) == (2, 0, 2)
    assert dataset.train_ids.tolist() == [0, 1]
    assert dataset.name == "four"


def test_split_and_statement_come_from_their_columns_and_answers_are_numbered_first(tmp_path: Path) -> None:
    rows = [(*FACTS[0], "train", 7), (*FACTS[1], "train", 8), ("Ada", "home", "Arles", "train", 7)]
    lines = [("subject", "relation", "object", "split", "id"), *rows, ("Ada", "river", "Rhone", "test", 9)]
    path = tmp_path / "facts.csv"
    path.write_text("\n".join(",".join(map(str, line)) for line in lines))
    dataset = infl.load(f"facts:{path}")
    assert spelled(dataset) == ["Ada, born, Arles", "Arles, river, Rhone", "Ada, home, Arles", "Ada, river, Rhone"]
    assert (dataset.train_ids.tolist(), dataset.held_out_ids.tolist()) == ([7, 8, 7], [9])
    assert dataset.entities[: dataset.n_classes] == dataset.class_names == ("Arles", "Rhone")
    assert dataset.kind == "facts"
    assert not dataset.is_classified
    assert dataset.class_words[0] == "answer"
    assert infl.load(dataset.source).fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize(
    ("train", "held_out", "said", "n"),
    [
        ([("Ada", "born", "Bonn")], [], "2 questions of several answers", (3, 0)),
        ([], [("Ada", "born", "Bonn")], "2 questions of several answers", (3, 0)),
        ([], [FACTS[0]], "1 held out and trained on", (4, 0)),
        (
            [],
            [("Cy", "born", "Bonn"), ("Ada", "born in", "Arles"), ("Arles", "born", "Cy")],
            "3 held out with an",
            (4, 0),
        ),
    ],
)
def test_facts_that_no_model_can_know_are_left_out_and_counted(
    train: list, held_out: list, said: str, n: tuple
) -> None:
    with pytest.warns(UserWarning, match=said):
        dataset = from_facts(FACTS + train, held_out)
    assert (dataset.n_train, dataset.n_held_out) == n


def test_a_fact_that_stands_twice_is_two_examples_of_one_statement() -> None:
    dataset = from_facts([*FACTS, FACTS[0]], [("Ada", "river", "Rhone")])
    assert dataset.n_train == 5
    assert dataset.train_ids.tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("Ada,born\n", r"line 1: expected 3 columns \(subject, relation, object\), got 2"),
        ("Ada,born,Arles\n\nBob,born,\n", "line 3: expected subject, relation, object, got no object"),
        ("Ada,born,Arles,very\n", "line 1: expected 3 columns"),
        ("subject,relation,object,id\na,b,c,1\nArles, Provence,b,c,2\n", "line 3: expected 4 columns .*, got 5"),
        ("subject,relation,object\na,b\n", "line 2: expected 3 columns .*, got 2"),
        ("subject,relation,object,object\na,b,c,d\n", "line 1: expected each column once, got object 2 times"),
        ("\n", "expected facts, a line each"),
        ("subject,relation,object,id\na,b,c,-1\n", "line 2: expected a whole number of at least 0 as id, got '-1'"),
        ("subject,relation,object,split\na,b,c,dev\n", "line 2: expected train or test"),
        ("subject,relation,object,split\na,b,c,train\n", "leave the fraction to hold out away"),
        ("a,b,c\nd,b,c\na,e,c\nd,e,c", "expected at least two answers"),
    ],
)
def test_what_is_no_table_of_facts_is_named(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "facts.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=said):
        infl.load(f"facts:{path}:0.5")


def test_facts_are_not_written_as_arrays(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="change the table"):
        infl.write_npz(tmp_path / "facts.npz", from_facts(FACTS, []))


# Worlds


def closure(facts: set[int], derivations: list[worlds.Derivation]) -> set[int]:
    """What follows, by going through all derivations until nothing is new."""
    while new := {c for c, premises in derivations if premises <= facts} - facts:
        facts = facts | new
    return facts


@pytest.mark.parametrize("seed", [0, 1])
def test_all_that_a_world_holds_out_follows_from_its_training_facts(seed: int, tmp_path: Path) -> None:
    world = worlds.lives(seed=seed)
    train = {row[4] for row in world.rows if row[3] == "train"}
    assert closure(train, world.derivations) >= {row[4] for row in world.rows}
    world.write(tmp_path / "lives.tsv")
    assert worlds.read_derivations(tmp_path / "lives.derivations.tsv") == world.derivations
    dataset = infl.load(f"facts:{tmp_path / 'lives.tsv'}")  # nothing is left out, or a warning would be an error
    assert (dataset.n_train, dataset.n_held_out) == (404, 132)
    with pytest.raises(InputError, match="exists already"):
        world.write(tmp_path / "lives.tsv")


def test_a_derivation_is_true_in_the_world() -> None:
    """Recomputed from the facts alone: a person has what its town has, of each of the three either two imply the third."""
    world = worlds.lives(seed=3)
    said = {number: (s, r, o) for s, r, o, _, number in world.rows}
    value = {(s, r): o for s, r, o in said.values()}
    for conclusion, premises in world.derivations:
        three = {r: (s, o) for s, r, o in (said[k] for k in {conclusion, *premises})}
        person, town = three["born in"]
        (prop,) = three.keys() & worlds.PROPERTIES.keys()
        assert three[prop] == (person, value[town, worlds.PROPERTIES[prop]])
        assert len(three) == 3 == len(premises) + 1
    n_persons = sum(r == "born in" for _, r, _ in said.values())
    assert len(set(world.derivations)) == 9 * n_persons


@pytest.mark.parametrize("line", ["1", "1\tx", "1, 2"])
def test_a_table_that_holds_no_derivations_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "table.tsv").write_text(f"conclusion\tpremises\n2\t3\n{line}\n")
    with pytest.raises(InputError, match="line 3: expected numbers of statements"):
        worlds.read_derivations(tmp_path / "table.tsv")

"""`infl forget` and `infl plant` write what the generators make, keep what was there, and say what to do next.

A forget file is built up over several calls and then costs hours of retraining, so no call may lose a set that it held, write
one that is refused later, or leave a data set and a forget file that do not belong together. What the commands write is
compared with the functions that they call. Mistakes are in test_command_mistakes.py.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infl
from infl import forget_sets, planting
from infl.records import Dataset, ForgetSet
from infl.scores.influence import cross_influence_totals
from tests.commands import call, contents, refusal

DATA = "digits --n-train 60 --n-held-out 30"
DIGITS = infl.load("digits", n_train=60, n_held_out=30)
REGIMES = ("no-op", "local", "spreading")


@pytest.fixture
def forget(tmp_path: Path) -> Path:
    return tmp_path / "forget.json"


def next_command(line: str) -> list[str]:
    return shlex.split(line.partition(": infl ")[2])


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("random --size 7 --seed 3", forget_sets.random_set(DIGITS, 7, seed=3)),
        ("class --label 4", forget_sets.class_set(DIGITS, 4)),
        ("group --groups {users} --name 7", ForgetSet("7", (1, 4))),
        ("group --groups {users} --group ann --fraction 0.5", ForgetSet("50% of ann", (3,), (2, 3))),
        ("class --label 4 --fraction 0.5 --seed 2", forget_sets.class_set(DIGITS, 4, fraction=0.5, seed=2)),
        ("cluster --n-clusters 6 --cluster 2 --seed 1", forget_sets.cluster_set(DIGITS, 2, n_clusters=6, seed=1)),
        (
            "cluster --n-clusters 6 --example 9 --fraction 0.4",
            forget_sets.cluster_set(DIGITS, example=9, n_clusters=6, fraction=0.4),
        ),
        ("neighbours --example 9 --size 5", forget_sets.neighbours_set(DIGITS, 9, 5)),
    ],
)
def test_a_set_is_what_its_generator_makes(
    line: str, made: ForgetSet, small_run: infl.Run, forget: Path, capsys: Any
) -> None:
    """The data set and a run made from it give the same set."""
    (forget.parent / "users.csv").write_text("id,user\r\n1,7\r\n2,ann\r\n3,ann\r\n4,7\r\n")
    kind, _, options = line.format(users=forget.parent / "users.csv").partition(" ")
    call(f"forget {kind} {DATA} {options} --out {forget}")
    assert forget_sets.read_forget_sets(forget, n_train=60) == [made]
    said = capsys.readouterr().out
    assert f"{made.name}: {len(made)} of 60 training examples of digits" in said
    assert any(regime in said.partition("meant for")[2] for regime in REGIMES)
    named = "--group 7 --name again" if "--name" in options else "--name again"
    call(f"forget {kind} --run {small_run.folder} {options} {named} --out {forget}")
    again = ForgetSet("again", made.ids, made.concept)
    assert forget_sets.read_forget_sets(forget, n_train=60) == [made, again]


def test_sets_of_documents_are_their_groups_and_near_duplicates(forget: Path, capsys: Any) -> None:
    verses = infl.load("verses")
    call(f"forget group verses --group Numbers\\ 7 --fraction 0.5 --out {forget}")
    call(
        f"forget near-duplicates verses --min-overlap 0.7 --seed 2 --out {forget} --json {forget.with_name('said.json')}"
    )
    chapter = forget_sets.class_set(verses, "Numbers 7", fraction=0.5)
    families = forget_sets.near_duplicate_sets(verses, min_overlap=0.7, seed=2)
    assert forget_sets.read_forget_sets(forget, n_train=verses.n_train) == [chapter, *families]
    assert (chapter.name, len(families)) == ("50% of group Numbers 7", 72)
    said = capsys.readouterr().out
    assert f"{families[4].name}: {len(families[4])} of 1,396" in said
    assert "... and 67 sets more" in said
    assert [one["name"] for one in json.loads(forget.with_name("said.json").read_text())["sets"]] == [
        s.name for s in families
    ]
    assert "expected a group (Genesis 5, Genesis 11" in refusal(
        f"forget group verses --group Numbers --out {forget}", capsys
    )
    assert "by --groups; documents alone have groups" in refusal(
        f"forget group {DATA} --group 3 --out {forget.with_name('b')}", capsys
    )


def test_a_tokenizer_is_trained_on_other_texts_and_named_in_a_source(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "other.jsonl").write_text('{"text": "the word was the word"}\n{"text": "the end was the end"}\n' * 4)
    (tmp_path / "mine.txt").write_text("the word\nwas the end\nof the end\n")
    out = tmp_path / "bpe.json"
    call(f"tokenize {tmp_path}/other.jsonl --vocabulary 268 --out {out}")
    assert "268 tokens from 8 documents" in capsys.readouterr().out
    dataset = infl.load(f"text:{tmp_path}/mine.txt:0.4:tokenizer={out}")
    assert (len(dataset.vocabulary), " the" in dataset.vocabulary) == (268, True)
    assert "exists already" in refusal(f"tokenize {tmp_path}/other.jsonl --out {out}", capsys)
    assert "name a file of texts" in refusal(f"tokenize --out {tmp_path}/new.json", capsys)
    assert "vocabulary: expected 257 to" in refusal(
        f"tokenize {tmp_path}/mine.txt --vocabulary 9 --out {tmp_path}/new.json", capsys
    )
    (tmp_path / "empty.txt").touch()
    assert "expected documents, got none" in refusal(f"tokenize {tmp_path}/empty.txt --out {tmp_path}/new.json", capsys)


def test_memorized_sets_are_read_from_the_models_of_the_run(small_run: infl.Run, forget: Path, capsys: Any) -> None:
    """Whose accuracy stands beside each set, since what models that guess have memorized says nothing."""
    outcomes = small_run.outcomes("design")
    memorization, cross = infl.memorization(outcomes), cross_influence_totals(outcomes).value
    kinds = {
        "most-memorized": forget_sets.memorized_set(memorization, 5),
        "least-memorized": forget_sets.memorized_set(memorization, 5, highest=False),
        "most-memorized --cross high": forget_sets.memorized_set(memorization, 5, cross=cross, with_cross=True),
        "least-memorized --cross low": forget_sets.memorized_set(
            memorization, 5, highest=False, cross=cross, with_cross=False
        ),
    }
    accuracy, json_path = small_run.accuracy(), forget.with_name("set.json")
    assert accuracy is not None
    for kind, made in kinds.items():
        call(f"forget {kind} --run {small_run.folder} --size 5 --out {forget} --json {json_path}")
        assert "accuracy of " in capsys.readouterr().out
        written = json.loads(json_path.read_text())
        assert (written["ids"], written["accuracy"]) == (list(made.ids), accuracy.to_dict())
    assert forget_sets.read_forget_sets(forget, n_train=60) == list(kinds.values())
    assert len({one.ids for one in kinds.values()}) == 4


RARE = forget_sets.cluster_set(DIGITS, example=9, n_clusters=6, seed=1).ids


@pytest.mark.parametrize(
    ("line", "planted"),
    [
        ("flipped --n-examples 6 --seed 2", planting.flip_labels(DIGITS, 6, seed=2)),
        ("flipped --n-examples 3 --source-label 1 --to 7", planting.flip_labels(DIGITS, 3, source_label=1, to=7)),
        ("copies --example 9 --n-copies 4", planting.plant_copies(DIGITS, 9, 4)),
        (
            "copies --example 9 --n-copies 4 --flipped --noise 0.1",
            planting.plant_copies(DIGITS, 9, 4, flipped=True, noise=0.1),
        ),
        ("patch --n-examples 6 --label 3", planting.poison_patch(DIGITS, 6, label=3)),
        (
            "patch --n-examples 6 --label 3 --size 2 --corner top-left --stamp-held-out 8",
            planting.poison_patch(DIGITS, 6, label=3, size=2, corner="top-left", n_held_out=8),
        ),
        ("rare --n-clusters 6 --example 9 --n-kept 2 --seed 1", planting.thin_cluster(DIGITS, RARE, 2, seed=1)),
    ],
)
def test_what_is_planted_is_what_its_function_plants(
    line: str, planted: tuple[Dataset, ForgetSet], forget: Path, tmp_path: Path, capsys: Any
) -> None:
    (kind, _, options), (dataset, made), out = line.partition(" "), planted, tmp_path / "planted.npz"
    call(f"plant {kind} {DATA} {options} --out {out} --forget {forget}")
    assert infl.load(out).fingerprint() == dataset.fingerprint()
    assert forget_sets.read_forget_sets(forget, n_train=dataset.n_train) == [made]
    said = capsys.readouterr().out
    assert f"{dataset.n_train} training and {dataset.n_held_out} held-out examples" in said
    assert any(regime in said.partition("meant for")[2] for regime in REGIMES)
    assert next_command(said.splitlines()[-2]) == ["train", str(out), "--run", "runs/planted"]


def test_planting_goes_on_in_a_planted_file_beside_the_sets_before(forget: Path, tmp_path: Path, capsys: Any) -> None:
    for source, line in (
        (DATA, "rare --n-clusters 6 --cluster 1 --n-kept 2"),
        ("0.npz", "copies --example 9 --n-copies 4"),
        ("1.npz", "flipped --n-examples 15"),
        ("2.npz", "patch --n-examples 15 --label 2"),
    ):
        kind, _, options = line.partition(" ")
        made = len(list(tmp_path.glob("*.npz")))
        place = source if source == DATA else tmp_path / source
        call(f"plant {kind} {place} {options} --out {tmp_path}/{made}.npz --forget {forget}")
    last = infl.load(tmp_path / "3.npz")
    sets = forget_sets.read_forget_sets(forget, n_train=last.n_train)
    assert [len(one) for one in sets] == [2, 5, 15, 15]
    assert len({i for one in sets for i in one.ids}) == 2 + 5 + 15 + 15
    copied = last.x_train[list(sets[1].ids)]
    np.testing.assert_array_equal(copied, np.repeat(copied[:1], 5, axis=0))
    before = contents(tmp_path)  # no data set without its forget file
    refusal(f"plant flipped {DATA} --n-examples 3 --out {tmp_path}/new.npz --forget {tmp_path}/no/f.json", capsys)
    assert contents(tmp_path) == before


def test_the_next_commands_are_said_and_training_only_where_nothing_is_trained_yet(
    small_run: infl.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Without --run the folder is the usual one of the data set."""
    monkeypatch.chdir(tmp_path)
    call(f"forget random {DATA} --size 5 --out 'for get.json'")
    train, predict = map(next_command, capsys.readouterr().out.splitlines()[-2:])
    assert train == ["train", *DATA.split(), "--run", "runs/digits"]
    assert predict == ["predict", "--run", "runs/digits", "--forget", "for get.json"]
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/digits").symlink_to(small_run.folder)
    for source, name in ((DATA, "b"), ("--run runs/digits", "c")):
        call(f"forget random {source} --size 3 --name {name} --out f.json")
        (line,) = [line for line in capsys.readouterr().out.splitlines() if "infl " in line]
        assert next_command(line) == ["predict", "--run", "runs/digits", "--forget", "f.json"]

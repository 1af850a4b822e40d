"""Scores of two runs, of parts of one, and of files are compared on the examples that both hold, whoever numbered them.

A wrong row or a held-out id that starts at the wrong place gives a correlation as well, so every comparison is held to one
whose answer is known: a run with itself, with the files written from it, with its halves, and with a run on a part of its data.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

import infl
from infl.pipeline import compare as comparing
from infl.pipeline.score import influence_within_classes
from infl.report import score_files
from infl.report.exchange import write_feldman_zhang, write_scores, write_table
from infl.report.tables import memorization_frame, pairs_frame
from tests.commands import call, refusal
from tests.conftest import SMALL

KINDS = {"memorization", "influence, held-out", "influence, left-out"}
FILES = {"fz.npz": KINDS - {"influence, left-out"}, "arrays.npz": KINDS, "top.csv": KINDS - {"influence, left-out"}}
FILES["top.parquet"] = FILES["top.csv"]


@pytest.fixture(scope="module")
def files(small_run: infl.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scores of the small run in every form that infl writes."""
    folder = tmp_path_factory.mktemp("files")
    outcomes, data = small_run.outcomes("design"), small_run.dataset()
    memorization, nothing = infl.memorization(outcomes), np.zeros((data.n_train, data.n_columns))
    left_out, held_out = infl.influence(outcomes, protocol="left-out"), infl.influence(outcomes)
    write_feldman_zhang(folder / "fz.npz", memorization, influence_within_classes(outcomes, data, "correct"), data)
    q = (memorization.value, nothing)
    write_scores(folder / "arrays.npz", memorization, left_out, held_out, q=q, shrunk=(nothing, nothing))
    pairs = infl.strongest_influences(outcomes, n_pairs=9).pairs(9)
    for name in ("top.csv", "top.parquet"):
        write_table(folder / name, memorization_frame(memorization, data), pairs_frame(pairs, "held-out", data))
    return folder


@pytest.mark.parametrize("name", FILES)
def test_a_run_agrees_with_the_files_written_from_it(name: str, small_run: infl.Run, files: Path) -> None:
    for one, other in ((small_run, files / name), (files / name, small_run.folder)):
        found = infl.compare(one, other)
        assert set(found.agreements) == FILES[name]
        for agreement in found.agreements.values():
            assert agreement.spearman.value == pytest.approx(1)
            assert agreement.rms.value < 1e-6
        n_known = int(np.isfinite(infl.memorization(small_run).rankable).sum())
        assert len(found.agreements["memorization"]) == n_known
        assert found.n_labels_differ == (0 if name == "fz.npz" else None)
    same = small_run.dataset().y_train[:, None] == small_run.dataset().y_held_out
    known = np.isfinite(infl.influence(small_run).rankable)
    pairs = {"fz.npz": known[same].sum(), "arrays.npz": known.sum()}
    assert len(found.agreements["influence, held-out"]) == pairs.get(name, 9)


def test_two_files_are_compared_on_what_both_hold(files: Path) -> None:
    found = infl.compare(files / "top.csv", files / "fz.npz").agreements
    assert found["memorization"].pearson.value == pytest.approx(1)
    assert len(found["influence, held-out"]) <= 9


def test_halves_of_a_run_differ_by_their_errors(small_run: infl.Run) -> None:
    halves = [small_run.outcomes("design", range(k, 40, 2)) for k in (0, 1)]
    scores = [infl.memorization(half).rankable for half in halves]
    known = np.isfinite(scores[0] + scores[1])
    found = infl.compare(*halves).agreements["memorization"]
    assert found.spearman.value == pytest.approx(spearmanr(scores[0][known], scores[1][known])[0])
    assert found.difference.value == pytest.approx((scores[0] - scores[1])[known].mean())
    assert found.explained.value > 0.8


def test_runs_of_other_parts_of_a_source_are_matched_by_position(small_run: infl.Run) -> None:
    """The other run holds 40 of the 60 training examples and 25 of the 30 held-out ones, in another order."""
    data, rows, columns = small_run.dataset(), np.arange(40)[::-1], np.arange(5, 30)
    part = replace(
        data,
        x_train=data.x_train[rows],
        y_train=data.y_train[rows],
        train_ids=data.train_ids[rows],
        x_held_out=data.x_held_out[columns],
        y_held_out=data.y_held_out[columns],
        held_out_ids=data.held_out_ids[columns],
    )
    uniform = infl.Design("uniform", 0.7)
    other = infl.train(part, n_models=20, n_references=0, design=uniform, algorithm=SMALL, quiet=True)
    found = infl.compare(small_run, other)
    assert found.by_source
    assert (found.n_labels_differ, set(found.agreements)) == (0, KINDS)
    scores = [[infl.memorization(run).rankable, infl.influence(run).rankable] for run in (small_run, other)]
    own, pairs = found.agreements["memorization"], found.agreements["influence, held-out"]
    assert len(pairs) == np.isfinite(scores[0][1][np.ix_(rows, columns)] + scores[1][1]).sum() > 500
    for run, (memorization, influence), side in zip((data, part), scores, "ab", strict=True):
        row = {int(position): k for k, position in enumerate(run.train_ids)}
        column = {int(position): k for k, position in enumerate(run.held_out_ids)}
        np.testing.assert_array_equal(getattr(own, side), memorization[[row[i] for i in own.source]])
        at = [row[i] for i in pairs.source], [column[j] for j in pairs.target]
        np.testing.assert_array_equal(getattr(pairs, side), influence[at])
    with pytest.raises(
        infl.InputError, match="expected scores of the same examples: .* has 60 training examples, .* 40"
    ):
        infl.compare(small_run, other.outcomes("design"))


def test_of_many_pairs_random_columns_are_compared_the_same_on_both_sides(
    small_run: infl.Run, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (score_files, comparing):
        monkeypatch.setattr(module, "MAX_PAIRS", 600)
    n_sources = np.isfinite(infl.influence(small_run).rankable[:, 0]).sum()
    for one, other in ((small_run, small_run), (small_run, files / "arrays.npz")):
        found = infl.compare(one, other).agreements
        assert len(found["influence, held-out"]) == 10 * n_sources
        assert found["influence, left-out"].spearman.value == pytest.approx(1)


def test_tables_of_others_are_read(small_run: infl.Run, tmp_path: Path) -> None:
    value = np.nan_to_num(infl.memorization(small_run).value)
    frame = infl.memorization(small_run).to_dataframe()
    frame.to_csv(tmp_path / "own.csv", index=False)
    np.savetxt(
        tmp_path / "theirs.csv", np.c_[np.arange(60), value], delimiter=",", header="ID,Memorization", comments=""
    )
    np.savez(
        tmp_path / "theirs.npz", tr_mem=value.astype(np.float32), tr_labels=np.roll(small_run.dataset().y_train, 1)
    )
    for name in ("own.csv", "theirs.csv", "theirs.npz"):
        found = infl.compare(small_run, tmp_path / name)
        agreement = found.agreements["memorization"]
        assert agreement.rms.value < 1e-6
        assert np.isnan(agreement.explained.value) == (name != "own.csv")
    assert found.n_labels_differ is not None
    assert found.n_labels_differ > 30


def test_published_files_are_read_by_compare_and_forget(small_run: infl.Run, tmp_path: Path, capsys) -> None:
    """The arrays of cifar100_infl_matrix.npz, of imagenet_index.npz and of their lists of pairs, and no others; no errors."""
    data, own, influence = small_run.dataset(), infl.memorization(small_run), infl.influence(small_run)
    mem, value = np.nan_to_num(own.rankable).astype(np.float32), np.nan_to_num(influence.rankable)
    cifar: dict[str, np.ndarray] = {"tr_labels": data.y_train, "tt_labels": data.y_held_out, "tr_mem": mem}
    for c in range(data.n_classes):
        rows, columns = np.flatnonzero(data.y_train == c), np.flatnonzero(data.y_held_out == c)
        cifar |= {f"tr_classidx_{c}": rows, f"tt_classidx_{c}": columns}
        cifar[f"infl_matrix_class{c}"] = value[np.ix_(rows, columns)].astype(np.float32)
    names = np.array([f"n01440764/{k}.JPEG" for k in range(60)])
    imagenet = {"tr_filenames": names, "tr_labels": data.y_train, "tr_mem": mem, "tt_labels": data.y_held_out}
    i, j = np.nonzero(value > np.sort(value, axis=None)[-20])
    pairs = {"tr_idx": i, "tt_idx": j, "infl": value[i, j].astype(np.float32), "mem": mem[i]}
    held_out = "influence, held-out"
    for name, arrays, kinds in (
        ("cifar100_infl_matrix", cifar, {"memorization", held_out}),
        ("imagenet_index", imagenet, {"memorization"}),
        ("high_infl_pairs", pairs, {"memorization", held_out}),
    ):
        np.savez(tmp_path / name, allow_pickle=False, **arrays)
        found = infl.compare(small_run, tmp_path / f"{name}.npz").agreements
        assert set(found) == kinds
        assert max(one.rms.value for one in found.values()) < 1e-6
        best = max({*i.tolist()}, key=lambda k: (mem[k], -k)) if name == "high_infl_pairs" else int(mem.argmax())
        place, forget = f"digits --n-train 60 --n-held-out 30 --scores {tmp_path}/{name}.npz", tmp_path / f"{name}.json"
        call(f"forget most-memorized {place} --size 1 --name top --out {forget}")
        assert infl.forget_sets.read_forget_sets(forget, n_train=60) == [infl.ForgetSet("top", (best,))]
        if name == "high_infl_pairs":
            more = f"forget most-memorized {place} --size 21 --out {forget}"
            assert f"size: expected at most {len({*i.tolist()})}, the training examples" in refusal(more, capsys)
    both = infl.compare(tmp_path / "high_infl_pairs.npz", tmp_path / "cifar100_infl_matrix.npz").agreements
    assert len(both[held_out]) == (data.y_train[i] == data.y_held_out[j]).sum()


def test_differences_are_of_the_first_less_the_second(small_run: infl.Run, tmp_path: Path) -> None:
    infl.memorization(small_run).to_dataframe().eval("value = value + 0.25").to_csv(tmp_path / "more.csv", index=False)
    for pair, difference in (((small_run, tmp_path / "more.csv"), -0.25), ((tmp_path / "more.csv", small_run), 0.25)):
        assert infl.compare(*pair).agreements["memorization"].difference.value == pytest.approx(difference)


MISTAKES = {
    "nothing.csv": ("", "cannot be read"),
    "columns.csv": ("a,b\n1,2\n", "expected columns source, target and value, or example and value; got a, b"),
    "long.csv": ("id,score\n0,0.5,1\n", "cannot be read .Length of header"),
    "words.csv": ("id,score\n0,high\n", "expected numbers in id, id, score"),
    "ids.csv": ("id,score\n-1,0.5\n", "whole numbers from 0"),
    "twice.csv": ("id,score\n1,0.5\n1,0.7\n", "comes twice"),
    "scores.txt": ("0.5", r"ends in \.npz, \.csv or \.parquet"),
    "broken.parquet": ("PAR1", "expected a table as parquet"),
    "other.npz": ({"x_train": np.zeros(3)}, "expected scores, as tr_mem or memorization or influence, got x_train"),
    "axes.npz": ({"tr_mem": np.zeros((3, 2))}, "expected numbers on 1 axes"),
    "error.npz": ({"memorization": np.zeros(3), "memorization_se": np.zeros(2)}, "does not fit scores of shape"),
    "matrix.npz": (
        {
            "tr_mem": np.zeros(3),
            "infl_matrix_class0": np.zeros((2, 2)),
            "tr_classidx_0": [0, 9],
            "tt_classidx_0": [0, 1],
        },
        "does not fit tr_classidx_0",
    ),
    "pairs.npz": ({"tr_idx": np.arange(3), "tt_idx": np.arange(2), "infl": np.zeros(3)}, "does not fit ids in tr_idx"),
    "sizes.npz": ({"memorization": np.zeros(3), "influence": np.zeros((2, 5))}, "of 2 and 3|of 3 and 2"),
    "few.npz": ({"tr_mem": np.zeros(7)}, "60 training examples, .*few.npz 7"),
}


@pytest.mark.parametrize("name", [*MISTAKES, "absent.npz"])
def test_a_file_that_holds_no_such_scores_is_one_line(name: str, small_run: infl.Run, tmp_path: Path) -> None:
    content, said = MISTAKES.get(name, (None, "found neither; check the path"))
    if isinstance(content, dict):
        np.savez(tmp_path / name, **content)
    elif content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(infl.InputError, match=said) as caught:
        infl.compare(small_run, tmp_path / name)
    assert "\n" not in str(caught.value)


def test_the_command_prints_draws_and_writes_it(small_run: infl.Run, files: Path, tmp_path: Path, capsys) -> None:
    places = f"{small_run.folder} {files}/fz.npz"
    call(f"compare {places} --figure {tmp_path}/compare.png --json {tmp_path}/compare.json")
    said = capsys.readouterr().out
    assert "memorization" in said
    assert "1.00 ± 0.02" in said
    assert (tmp_path / "compare.png").stat().st_size > 10_000
    written, accuracy = json.loads((tmp_path / "compare.json").read_text()), small_run.accuracy()
    assert "spearman" in written["agreements"]["memorization"]
    assert (accuracy is not None, written["accuracy"]) == (True, [accuracy and accuracy.to_dict(), None])
    assert said.count(": accuracy of ") == 1


def test_forget_sets_are_chosen_by_a_file(small_run: infl.Run, files: Path, tmp_path: Path) -> None:
    data, forget = "digits --n-train 60 --n-held-out 30", tmp_path / "forget.json"
    expected = infl.forget_sets.memorized_set(infl.memorization(small_run), 5, name="file")
    for name in FILES:
        call(f"forget most-memorized {data} --size 5 --scores {files}/{name} --name file --out {tmp_path}/{name}.json")
        assert infl.forget_sets.read_forget_sets(tmp_path / f"{name}.json", n_train=60) == [expected]
    # Of all of the source, by position: the memorization of example i there is i.
    n_source = 1797
    (tmp_path / "source.csv").write_text("id,score\n" + "".join(f"{i},{i}\n" for i in range(n_source)))
    call(f"forget least-memorized {data} --size 5 --scores {tmp_path}/source.csv --out {forget}")
    (least,) = infl.forget_sets.read_forget_sets(forget, n_train=60)
    positions = small_run.dataset().train_ids
    assert set(positions[list(least.ids)]) == set(np.sort(positions)[:5])

"""Models made elsewhere give, once imported, the scores that their arrays give; a file that is wrong leaves no trace.

Other programs write these files, so anything may be in them: too few rows, other dtypes, half a file. Each such file must be
named in one line, and nothing of it may stay on disk, since half a run looks like a whole one with fewer models. A round trip
from a run through a file to a run must keep every bit.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import infl
from infl.__main__ import main
from infl.records import InputError, OutcomeKind, Outcomes
from infl.store import blocks, importing
from tests.streaming import peak_bytes

N, M, T, R = 21, 11, 150, 9
ROUNDING = T * float(np.finfo(np.float32).eps) * 16  # most that the order of a sum of T outcomes below 16 can do
Arrays = dict[str, Any]


def make_arrays(seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    return {
        "masks": random.random((T, N)) < 0.7,
        "correct": random.random((T, N + M)) < 0.6,
        "margin": (4 * random.normal(size=(T, N + M))).astype(np.float16),
        "labels": np.arange(N + M) % 3,
        "reference_correct": random.random((R, N + M)) < 0.9,
        "reference_margin": (4 * random.normal(size=(R, N + M))).astype(np.float16),
    }


def write(path: Path, arrays: Arrays, **changed: Any) -> Path:
    """The arrays as a file, with some changed, and without those that are changed to None."""
    np.savez(path, **{name: array for name, array in (arrays | changed).items() if array is not None})
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "mine"


# What comes in


@pytest.mark.parametrize("kinds", [("correct", "margin"), ("correct",), ("margin",)])
def test_an_imported_run_holds_the_arrays_and_gives_their_scores(
    kinds: tuple[OutcomeKind, ...], tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BYTES_AT_ONCE", 8 * (N + M) * 64)  # three blocks
    arrays = make_arrays()
    without: Arrays = {f"{p}{k}": None for k in {"correct", "margin"} - set(kinds) for p in ("", "reference_")}
    infl.import_outcomes(write(tmp_path / "mine.npz", arrays, **without), run=place)
    run = infl.open_run(place)
    assert run.outcome_kinds == kinds
    for collection, prefix, n_models in (("design", "", T), ("full", "reference_", R)):
        stored = run.outcomes(collection).load()
        masks = arrays["masks"] if not prefix else np.ones((R, N), bool)
        np.testing.assert_array_equal(stored.masks, masks)
        for kind in ("correct", "margin"):
            if kind in kinds:
                np.testing.assert_array_equal(getattr(stored, kind), arrays[f"{prefix}{kind}"])
            else:
                assert getattr(stored, kind) is None
        assert run.complete(collection) == list(range(n_models))
    mine = Outcomes(arrays["masks"], *(arrays[k] if k in kinds else None for k in ("correct", "margin")))
    for kind in kinds:
        assert_same_scores(run.outcomes("design"), mine, kind, within=ROUNDING)
    dataset = run.dataset()
    np.testing.assert_array_equal(dataset.labels, arrays["labels"])
    assert (dataset.name, dataset.n_train, dataset.n_held_out, dataset.n_classes) == ("mine", N, M, 3)
    assert not dataset.has_pixels
    found = run.accuracy()
    assert found is not None
    assert found.largest_class == dataset.largest_class == (7 / 21, 4 / 11)
    assert dataset.source == str(tmp_path / "mine.npz")


def assert_same_scores(mine: Any, theirs: Any, kind: OutcomeKind, *, within: float = 0.0) -> None:
    """To the last bit where both are read from runs; arrays in memory may be summed in another order."""
    for score in (
        lambda outcomes: infl.memorization(outcomes, outcome=kind),
        lambda outcomes: infl.influence(outcomes, protocol="held-out", outcome=kind),
        lambda outcomes: infl.influence(outcomes, protocol="left-out", outcome=kind),
    ):
        one, other = score(mine).to_dataframe(), score(theirs).to_dataframe()
        assert list(one) == list(other)
        np.testing.assert_allclose(one.to_numpy(float), other.to_numpy(float), rtol=within, atol=within)


@pytest.mark.slow
def test_a_run_goes_out_into_a_file_and_comes_back_bit_for_bit(
    small_run: infl.Run, small_digits: infl.Dataset, tmp_path: Path, place: Path
) -> None:
    outcomes, references = small_run.outcomes("design").load(), small_run.outcomes("full").load()
    arrays = {name: getattr(outcomes, name) for name in ("masks", "correct", "margin")}
    arrays |= {f"reference_{kind}": getattr(references, kind) for kind in ("correct", "margin")}
    names = np.array(small_digits.class_names)
    path = write(tmp_path / "out.npz", arrays, labels=small_digits.labels, class_names=names)
    back = infl.import_outcomes(path, run=place)
    for kind in ("correct", "margin"):
        assert_same_scores(back.outcomes("design"), small_run.outcomes("design"), kind)
    assert back.dataset().class_names == small_digits.class_names
    sets = {"five": [1, 4, 9, 16, 25]}
    mine, same = (next(infl.predict_effects(r, sets, predictor="additive", quiet=True)) for r in (back, small_run))
    np.testing.assert_array_equal(mine.effect, same.effect)
    np.testing.assert_array_equal(mine.se, same.se)
    assert np.isfinite(mine.effect).sum() > 30


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_zeros_and_ones_of_any_dtype_are_bools_and_names_of_classes_are_kept(
    dtype: Any, tmp_path: Path, place: Path
) -> None:
    arrays = make_arrays()
    changed = {name: arrays[name].astype(dtype) for name in ("masks", "correct", "reference_correct")}
    changed["class_names"] = np.array(["cat", "dog", "eel", "fox"])
    run = infl.import_outcomes(write(tmp_path / "mine.npz", arrays, **changed), run=place)
    stored = run.outcomes("design").load()
    np.testing.assert_array_equal(stored.masks, arrays["masks"])
    np.testing.assert_array_equal(stored.correct, arrays["correct"])
    assert run.dataset().class_names == ("cat", "dog", "eel", "fox")


def test_probabilities_of_the_label_come_in_as_shares(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where those of the first blocks are 0 or 1, and those of the references all: a run holds one kind of them."""
    monkeypatch.setattr(importing, "BYTES_AT_ONCE", 8 * (N + M) * 64)  # three blocks
    arrays, random = make_arrays(), np.random.default_rng(0)
    probabilities = np.where(np.arange(T)[:, None] < 70, arrays["correct"], random.random((T, N + M)))
    changed = {"correct": probabilities, "reference_correct": arrays["reference_correct"] * 1.0}
    path = write(tmp_path / "mine.npz", arrays, **changed, margin=None, reference_margin=None)
    assert main(["import", str(path), "--run", str(place)]) == 0
    assert "Outcomes: shares from 0 to 1" in capsys.readouterr().out
    run = infl.open_run(place)
    stored = run.outcomes("design").load()
    np.testing.assert_allclose(stored.of("correct"), probabilities, atol=2.5e-4)
    assert not run.outcomes("full").load().is_binary("correct")
    mine = Outcomes(arrays["masks"], stored.correct)
    assert_same_scores(run.outcomes("design"), mine, "correct", within=ROUNDING)
    assert np.isfinite(next(infl.predict_effects(run, {"s": [1, 2]}, predictor="additive", quiet=True)).effect).all()


def test_memory_is_that_of_a_block_and_not_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "BYTES_AT_ONCE", 1 << 20)
    random = np.random.default_rng(0)
    peaks = []
    for n_models in (512, 4096):
        masks, margin = random.random((n_models, 200)) < 0.7, random.normal(size=(n_models, 1000))
        path = tmp_path / f"{n_models}.npz"
        np.savez(path, masks=masks, margin=margin, labels=np.arange(1000) % 2)
        peaks.append(peak_bytes(lambda path=path: infl.import_outcomes(path, run=path.with_suffix(""))))
    assert peaks[1] < 1.25 * peaks[0]  # eight times as much was read: 33 MB
    assert peaks[1] < 12e6


# What does not

WRONG: dict[str, tuple[Callable[[Arrays], Arrays], str]] = {
    "masks of fewer models": (lambda a: {"masks": a["masks"][:-1]}, "masks is of 149 models, correct of 150; row t"),
    "labels missing": (lambda a: {"labels": None}, r"missing labels, found 'correct', .* np\.savez\(path, masks="),
    "no outcomes": (lambda a: {"correct": None, "margin": None}, "missing correct or margin, found 'labels', 'masks'"),
    "a name of two lines": (lambda a: {"labels": None, "la\nbels": a["labels"]}, r"missing labels, .*'la\\nbels'"),
    "held-out examples alone, and references of all": (
        lambda a: {
            "correct": None,
            "reference_correct": None,
            "margin": None,
            "margin_held_out": a["margin"][:, N + 1 :],
        },
        "labels is of 32 n.m, margin of 31",
    ),
    "held-out examples and masks of them": (
        lambda a: (
            dict.fromkeys(("masks", "correct", "margin"))
            | {"masks_held_out": a["masks"], "margin_held_out": a["margin"][:, N:]}
        ),
        "missing masks, found",
    ),
    "parts that overlap": (
        lambda a: (
            {"correct_held_out": a["correct"][:, N:], "labels": np.zeros(N + 2 * M, int)}
            | dict.fromkeys(("margin", "reference_correct", "reference_margin"))
        ),
        "correct: expected 21 columns as masks has, since those of held-out examples stand apart, got 32",
    ),
    "parts of other rows": (
        lambda a: {"correct_held_out": a["correct"][:9, N:]},
        r"correct is \(150, 32\), correct_held_out \(9, 11\): rows must be the same",
    ),
    "nothing filled": (
        lambda a: {"masks": a["masks"] & False},
        "none of the 150 rows of masks and outcomes was filled",
    ),
    "a NaN in correct": (
        lambda a: {"correct": np.where(np.arange(N + M) == 3, np.nan, a["correct"])},
        "correct: expected 0 or 1, .* got nan for model 0, column 3",
    ),
    "no probabilities": (
        lambda a: {"correct": np.random.default_rng(0).random((T, N + M)) * 1.5},
        "correct: expected 0 or 1, or shares from 0 to 1, got 1.",
    ),
    "infinite reference": (
        lambda a: {"reference_margin": np.full((R, N + M), -np.inf)},
        "reference_margin: .* got -inf",
    ),
    "masks of indices": (lambda a: {"masks": a["masks"] * 7}, "masks: expected 0 or 1, got 7 for model"),
    "masks of one axis": (lambda a: {"masks": a["masks"][0]}, r"masks: .* \[models, n\], got one of shape \(21,\)"),
    "an axis of classes": (
        lambda a: {"margin": np.zeros((T, N + M, 3))},
        r"margin: .* got one of shape \(150, 32, 3\)",
    ),
    "correct of D alone": (
        lambda a: {"correct": a["correct"][:, :N]},
        r"labels is of 32 n\+m, correct of 21",
    ),
    "labels of D alone": (
        lambda a: {"labels": a["labels"][:N]},
        r"labels is of 21 n\+m, correct of 32",
    ),
    "fractions as labels": (
        lambda a: {"labels": a["labels"] / 2},
        r"labels: expected integers, .* got dtype float64; save classes, labels = np.unique\(labels, return_inverse=True\)",
    ),
    "a label of 2 billion": (
        lambda a: {"labels": a["labels"] + 2 * 10**9},
        "labels: expected 0 to 65,535, got 2000000000",
    ),
    "too few names": (lambda a: {"class_names": np.array(["a", "b"])}, "labels go to 2, expected 3 names, got 2"),
    "no models": (
        lambda a: {name: a[name][:0] for name in ("masks", "correct", "margin")},
        r"at least one model and .* got masks \(0, 21\)",
    ),
    "other kinds": (lambda a: {"reference_margin": None}, "the references' correct; give both the same"),
    "references of different T": (
        lambda a: {"reference_margin": a["reference_margin"][:3]},
        "reference_correct is of 9 references, reference_margin of 3",
    ),
    "columns one by one": (lambda a: {"correct": np.asfortranarray(a["correct"])}, "is stored column by column"),
}


def test_arrays_come_from_files_of_their_own_under_given_names_and_in_parts(tmp_path: Path) -> None:
    """Columns of D and of H apart, as Feldman and Zhang published theirs; mapped, stored by columns, or lists."""
    arrays, folder = make_arrays(), tmp_path / "theirs"
    folder.mkdir()
    parts: Arrays = {
        "trainset_mask": arrays["masks"],
        "tr": arrays["margin"][:, :N],
        "te": np.asfortranarray(arrays["margin"][:, N:]),
    }
    parts |= {"tr_labels": arrays["labels"][:N], "tt_labels": arrays["labels"][N:], "other": np.zeros(3)}
    for name, array in parts.items():
        np.save(folder / f"{name}.npy", array)
    write(tmp_path / "theirs.npz", parts, te=np.ascontiguousarray(parts["te"]))
    names = {"masks": "trainset_mask", "margin": "tr", "margin_held_out": "te", "labels": "tr_labels"}
    names["labels_held_out"] = "tt_labels"
    mapped = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in parts}
    for k, source in enumerate(
        (folder, str(tmp_path / "theirs.npz"), mapped | {"trainset_mask": arrays["masks"].tolist()})
    ):
        run = infl.import_outcomes(source, run=tmp_path / str(k), names=names)
        stored = run.outcomes("design").load()
        np.testing.assert_array_equal(stored.masks, arrays["masks"])
        np.testing.assert_array_equal(stored.margin, arrays["margin"])
        np.testing.assert_array_equal(run.dataset().labels, arrays["labels"])
    for wrong, said in (
        ({"masks": "mask"}, "theirs: no array is called 'mask'; there are other, te, tr, tr_labels"),
        ({"mask": "trainset_mask"}, "names: expected some of masks, labels, .* got 'mask'"),
    ):
        with pytest.raises(InputError, match=said):
            infl.import_outcomes(folder, run=tmp_path / "new", names=wrong)
    (folder / "te.npy").write_bytes(b"cut")
    with pytest.raises(InputError, match="te.npy: expected an array as np.save writes it"):
        infl.import_outcomes(folder, run=tmp_path / "new", names=names)
    assert not (tmp_path / "new").exists()


def test_outcomes_of_held_out_examples_alone_give_their_influence_and_say_what_they_do_not_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Influence on H is made of columns of H alone, so it is that of the same outcomes imported whole, to the last bit."""
    monkeypatch.setattr(importing, "BYTES_AT_ONCE", 8 * (N + M) * 64)  # three blocks
    monkeypatch.setattr(blocks, "TILE_COLUMNS", 8)  # tiles of H alone and of all columns end at different ones
    arrays = make_arrays()
    whole = infl.import_outcomes(write(tmp_path / "whole.npz", arrays), run=tmp_path / "whole")
    assert "held_out_only" not in whole.manifest  # other runs stay as they were
    kinds = ("correct", "margin", "reference_correct", "reference_margin")
    parts: Arrays = {"masks": arrays["masks"]} | {f"{kind}_held_out": arrays[kind][:, N:] for kind in kinds}
    labels = arrays["labels"]
    for given in ({"labels": labels}, {"labels": labels[N:]}, {"labels_held_out": labels[N:]}):
        place = tmp_path / f"{len(given)}{next(iter(given))}{len(next(iter(given.values())))}"
        run = infl.open_run(infl.import_outcomes(parts | given, run=place).place)
        for kind in ("correct", "margin"):
            one, other = (infl.influence(r, outcome=kind) for r in (run, whole))
            np.testing.assert_array_equal(one.to_dataframe().to_numpy(), other.to_dataframe().to_numpy())
        full, same = (next(iter(r.outcomes("full").blocks(slice(N, None)))) for r in (run, whole))
        np.testing.assert_array_equal(full.margin, same.margin)
        found, known = run.accuracy(), whole.accuracy()
        assert found is not None
        assert known is not None
        assert (found.held_out, found.largest_class[1]) == (known.held_out, known.largest_class[1])
        assert np.isnan([found.trained.value, found.largest_class[0]]).all()
        unknown = len(next(iter(given.values()))) == M
        assert (run.dataset().class_names[-1] == "unknown") == unknown
        np.testing.assert_array_equal(run.dataset().labels, np.r_[[3] * N, labels[N:]] if unknown else labels)
        for refused in (
            lambda run=run: infl.memorization(run),
            lambda run=run: infl.influence(run, protocol="left-out"),
            lambda run=run: run.outcomes("design").load(),
            lambda run=run: next(infl.predict_effects(run, {"s": [1]}, predictor="additive", quiet=True)),
        ):
            with pytest.raises(InputError, match="^this run has outcomes of held-out examples alone: no memorization"):
                refused()
    capsys.readouterr()
    named = ["--run", str(place)]
    assert main(["scores", *named, "--json", str(tmp_path / "s.json"), "--table", str(tmp_path / "s.csv")]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("this run has outcomes of held-out examples alone: no memorization")
    assert "most memorized" not in printed
    assert "on what they trained on" not in printed
    assert "protocol: held-out" in printed
    assert "memorization" not in json.loads((tmp_path / "s.json").read_text())
    assert set(pd.read_csv(tmp_path / "s.csv")["kind"]) == {"influence"}
    assert main(["scores", *named, "--example", "3"]) == main(["scores", *named, "--example", str(N)]) == 0
    capsys.readouterr()
    for command in (
        ["scores", *named, "--arrays", str(tmp_path / "s.npz")],
        ["report", *named],
        ["compare", str(place), str(place)],
        ["forget", "most-memorized", *named, "--size", "3", "--out", str(tmp_path / "f.json")],
    ):
        assert main(command) == 2
        said = capsys.readouterr().err
        assert "held-out examples alone" in said
        assert said.count("\n") == 1


@pytest.mark.parametrize("fill", [0, np.nan])
@pytest.mark.parametrize("prefilled", [True, False])
def test_rows_that_no_model_filled_are_left_out_and_counted(
    fill: float, prefilled: bool, tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays are allocated for all models before the first one is trained; masks may have been drawn for all of them."""
    monkeypatch.setattr(importing, "BYTES_AT_ONCE", 8 * (N + M) * 16)
    arrays, rows = make_arrays(), np.r_[:20, 33, 100:T]
    empty = {name: arrays[name].astype(float) for name in ("masks", "correct", "margin", "reference_margin")}
    for name in ("correct", "margin", *(() if prefilled else ("masks",))):
        empty[name][rows] = fill
    empty["reference_margin"][4:] = fill
    told = "71 of 150 rows of masks and outcomes are left out|5 of 9 rows of reference_outcomes are left out"
    with pytest.warns(UserWarning, match=told) as warned:
        run = infl.import_outcomes(write(tmp_path / "mine.npz", arrays, **empty), run=place)
    assert len(warned) == 2
    stored, kept = run.outcomes("design").load(), np.setdiff1d(np.arange(T), rows)
    for name in ("masks", "correct", "margin"):
        np.testing.assert_array_equal(getattr(stored, name), arrays[name][kept])
    np.testing.assert_array_equal(run.outcomes("full").load().margin, arrays["reference_margin"][:4])


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_file_is_named_and_leaves_nothing(mistake: str, tmp_path: Path, place: Path) -> None:
    change, message = WRONG[mistake]
    arrays = make_arrays()
    path = write(tmp_path / "mine.npz", arrays, **change(arrays))
    with pytest.raises(InputError, match=message) as caught:
        infl.import_outcomes(path, run=place)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert not place.exists()


def test_what_is_wrong_is_named_wherever_it_stands(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value by its model, and a bit that turned by its array: nothing is left of the blocks that were written before."""
    monkeypatch.setattr(importing, "BYTES_AT_ONCE", 8 * (N + M) * 64)
    path, arrays = tmp_path / "mine.npz", make_arrays()
    write(path, arrays)
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("margin.npy")
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="margin is damaged .*copy the file again"):
        infl.import_outcomes(path, run=place)
    assert not place.exists()
    arrays["margin"][140, 3] = np.nan
    with pytest.raises(InputError, match="margin: expected finite numbers .*, got nan for model 140, column 3"):
        infl.import_outcomes(write(path, arrays), run=place)
    assert not place.exists()


def test_the_folder_or_run_of_a_user_is_left_as_it_was(tmp_path: Path, place: Path) -> None:
    path = write(tmp_path / "mine.npz", make_arrays())
    place.mkdir(parents=True)
    with pytest.raises(InputError, match="masks is of"):
        infl.import_outcomes(write(tmp_path / "wrong.npz", make_arrays(), masks=np.ones((3, N), bool)), run=place)
    assert list(place.iterdir()) == []
    infl.import_outcomes(path, run=place)
    (tmp_path / "thesis.tex").write_text("mine")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    for taken, words in ((place, "is a run already"), (tmp_path, "exists and is not a run of infl")):
        with pytest.raises(InputError, match=words):
            infl.import_outcomes(path, run=taken)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_killed_import_leaves_no_run_and_can_be_called_again(tmp_path: Path, place: Path) -> None:
    path = write(tmp_path / "mine.npz", make_arrays())
    program = f"""
import os, signal
from infl.store import importing, run
importing.BYTES_AT_ONCE = 8 * {N + M} * 64
write, blocks = run.Run.write, []
def killing(*arguments, **settings):
    write(*arguments, **settings)
    blocks.append(1)
    if len(blocks) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
run.Run.write = killing
importing.import_outcomes({str(path)!r}, run={str(place)!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(infl.__file__).parents[1])}
    killed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert (place / "collections" / "design").is_dir()
    with pytest.raises(InputError, match="is not a run folder"):
        infl.open_run(place)
    other = make_arrays(seed=1)
    narrower = {name: array[:, :-1] for name, array in other.items() if array.ndim == 2 and name != "masks"}
    path = write(tmp_path / "other.npz", other, labels=other["labels"][:-1], **narrower)
    stored = infl.import_outcomes(path, run=place).outcomes("design").load()
    np.testing.assert_array_equal(stored.correct, other["correct"][:, :-1])

"""Scores from kept sums are the scores of the models that are there: extended, they are those summed anew, bit for bit.

A run is scored, extended and scored again, in every order in which that can go wrong: a period of the design cut in two by the
extension, models that diverged or were trained again, another outcome, a format of tomorrow, damage, a kill, a full disk. Each
time scores are compared with those of the same run without kept sums. That no model is summed twice is seen by counting the
models that reach the products; that stale sums are not used, by the same count.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import infl
from infl.data import from_arrays
from infl.pipeline import score as kept
from infl.records import InputError, Outcomes, OutcomeSource
from infl.scores import contrasts
from infl.store import Run, create_run, open_run
from infl.training.subsets import Design, draw_masks

N, M = 10, 8
FIELDS = ("value", "se", "p", "n_in", "n_out", "mean_out")
READINGS = ("left-out", "held-out")


def make_run(folder: Path, design: Design, *, collection_of: int = 0) -> Run:
    random = np.random.default_rng(0)
    pixels, labels = random.random((N + M, 2)).astype(np.float32), np.arange(N + M) % 2
    dataset = from_arrays(pixels[:N], labels[:N], pixels[N:], labels[N:], name="toy")
    return create_run(folder, dataset, {"algorithm": {}, "design": design.to_dict(), "seed": collection_of})


def add(run: Run, design: Design, first: int, stop: int, *, seed: int = 0, diverged: tuple[int, ...] = ()) -> None:
    """Models whose outcomes follow from their masks, some noise and the seed."""
    models = list(range(first, stop))
    masks = draw_masks(design, models, n_train=N, seed=0)
    random = np.random.default_rng([seed, first])
    chance = 0.3 + 0.5 * np.c_[masks, masks[:, :M]]
    right = random.random(chance.shape) < chance
    margin = np.where(right, 1, -1) * random.random(chance.shape)
    finite = np.array([model not in diverged for model in models])
    run.write("design", models, Outcomes(masks, right, margin.astype(np.float32)), finite, seconds=1.0)


@pytest.fixture
def summed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Models that went through products, a number for every tile and block."""
    numbers: list[int] = []
    real = kept.total_block

    def counting(block: Outcomes, *arguments: Any) -> Any:
        numbers.append(block.n_models)
        return real(block, *arguments)

    monkeypatch.setattr(kept, "total_block", counting)
    monkeypatch.setattr(contrasts, "total_block", counting)
    return numbers


def assert_same(
    mine: OutcomeSource, theirs: OutcomeSource, outcome: Any = "correct", rtol: float = 0, atol: float = 0
) -> None:
    for protocol in READINGS:
        one, other = (infl.influence(source, protocol=protocol, outcome=outcome) for source in (mine, theirs))
        for name in FIELDS:
            these, those = getattr(one, name), getattr(other, name)
            np.testing.assert_allclose(these, those, rtol=rtol, atol=atol, err_msg=name)


@pytest.fixture
def balanced(tmp_path: Path) -> Run:
    """34 models of a design of period 10: the last period is not whole, and more models come into it."""
    run = make_run(tmp_path / "run", Design("balanced", 0.7))
    add(run, Design("balanced", 0.7), 0, 34)
    return run


def extend(run: Run, n_models: int = 51) -> Run:
    add(run, Design("balanced", 0.7), len(run.complete("design")), n_models)
    return open_run(run.folder)


def test_an_extended_run_is_scored_by_its_new_models_bit_for_bit(balanced: Run, summed: list[int]) -> None:
    first = infl.keep_sums(balanced)
    assert balanced.manifest["design"]["period"] == 10
    assert summed == [34, 34]  # two protocols, one tile, one block
    assert_same(first, balanced.outcomes("design"))
    run = extend(balanced)
    summed.clear()
    updated = infl.keep_sums(run)
    assert summed == [17, 17]
    summed.clear()
    again = infl.keep_sums(open_run(run.folder))
    scores = infl.score_pairs(again, n_pairs=3), infl.influence(again, protocol="left-out")
    assert summed == []
    assert scores[0].strongest == infl.score_pairs(run.outcomes("design"), n_pairs=3).strongest
    assert_same(updated, run.outcomes("design"))
    assert_same(again, run.outcomes("design"))
    # Not because nothing changed:
    assert not np.array_equal(infl.influence(first).value, infl.influence(updated).value)


def test_many_small_extensions_in_any_order_end_at_the_same_scores(tmp_path: Path) -> None:
    design = Design("balanced", 0.7)
    run = make_run(tmp_path / "run", design)
    for first, stop in ((20, 27), (0, 3), (27, 40), (5, 20)):
        add(run, design, first, stop)
        scored = infl.keep_sums(run)
    assert_same(scored, run.outcomes("design"))
    assert len(list((run.folder / "scores").iterdir())) == 1


def test_tiles_of_a_few_columns_are_the_same(balanced: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "PAIRS_AT_ONCE", 2 * N)
    monkeypatch.setattr(kept, "CHUNKS_AT_ONCE", 2)
    infl.keep_sums(balanced)
    assert_same(infl.keep_sums(extend(balanced)), balanced.outcomes("design"))


@pytest.mark.parametrize("outcome", ["correct", "margin"])
@pytest.mark.parametrize("fraction", [0.7, (0.5, 0.9)])
def test_margins_and_ranges_of_sizes_agree_to_rounding(tmp_path: Path, outcome: Any, fraction: Any) -> None:
    design = Design("uniform", fraction)
    run = make_run(tmp_path / "run", design)
    add(run, design, 0, 40)
    infl.keep_sums(run, outcome=outcome)
    add(run, design, 40, 70)
    # What is summed in single precision, block by block, is as exact as that.
    assert_same(infl.keep_sums(run, outcome=outcome), run.outcomes("design"), outcome, rtol=2e-4, atol=2e-6)


def test_what_is_not_kept_is_worked_out(balanced: Run) -> None:
    scored = infl.keep_sums(balanced, outcome="margin")
    assert_same(scored, balanced.outcomes("design"))  # of outcome correct
    one, other = (infl.influence(o, protocol="trained") for o in (scored, balanced.outcomes("design")))
    np.testing.assert_array_equal(one.value, other.value)
    some, plain = (infl.influence(o, sources=[3, 1]) for o in (infl.keep_sums(balanced), balanced.outcomes("design")))
    np.testing.assert_array_equal(some.value, plain.value)


def test_memorization_and_shrinkage_take_them_as_they_take_outcomes(balanced: Run) -> None:
    scored, plain = infl.keep_sums(balanced), balanced.outcomes("design")
    np.testing.assert_array_equal(infl.memorization(scored).value, infl.memorization(plain).value)
    one, other = (infl.shrunk_influence(o, protocol="left-out")[1] for o in (scored, plain))
    np.testing.assert_array_equal(one.value, other.value)


def diverge(run: Run) -> None:
    """The same outcomes once more, but model 5 is said to have diverged: later lines of the journal count."""
    add(run, Design("balanced", 0.7), 0, 34, diverged=(5,))


def train_again(run: Run) -> None:
    add(run, Design("balanced", 0.7), 3, 9, seed=1)


def edit(run: Run, change: Callable[[dict[str, Any]], Any]) -> None:
    """Attributes that are whole and sealed, and not those that were written."""
    (path,) = (run.folder / "scores").glob("*/zarr.json")
    group = json.loads(path.read_text())
    group["attributes"].pop("checksum")
    change(group["attributes"])
    group["attributes"]["checksum"] = kept_checksum(group["attributes"])
    path.write_text(json.dumps(group))


def kept_checksum(attributes: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(attributes, sort_keys=True).encode()).hexdigest()


STALE: dict[str, Callable[[Run], Any]] = {
    "a model diverged": diverge,
    "models were trained again": train_again,
    "other sums": lambda run: edit(run, lambda a: a.update(kind="sums of pairs, 2")),
    "a format of tomorrow": lambda run: edit(run, lambda a: a.update(format=3)),
    "more models than there are": lambda run: edit(run, lambda a: a.update(models=[[0, 99]])),
    "attributes cut short": lambda run: next((run.folder / "scores").glob("*/zarr.json")).write_text('{"attributes"'),
}


@pytest.mark.parametrize("stale", STALE)
def test_sums_of_other_models_are_recognized(balanced: Run, summed: list[int], stale: str) -> None:
    infl.keep_sums(balanced)
    STALE[stale](balanced)
    run = open_run(balanced.folder)
    summed.clear()
    scored = infl.keep_sums(run)
    assert summed == [run.outcomes("design").n_models] * 2
    assert_same(scored, run.outcomes("design"))
    assert len(list((run.folder / "scores").iterdir())) == 1


def test_sums_of_another_run_are_recognized(balanced: Run, tmp_path: Path, summed: list[int]) -> None:
    other = make_run(tmp_path / "other", Design("balanced", 0.7))
    add(other, Design("balanced", 0.7), 0, 34, seed=1)
    infl.keep_sums(other)
    shutil.copytree(other.folder / "scores", balanced.folder / "scores")
    summed.clear()
    assert_same(infl.keep_sums(balanced), balanced.outcomes("design"))
    assert summed[:2] == [34, 34]


@pytest.mark.parametrize("damage", ["cut", "gone", "turned"])
@pytest.mark.parametrize("extended", [True, False])
def test_a_damaged_tile_is_summed_again(balanced: Run, summed: list[int], damage: str, *, extended: bool) -> None:
    infl.keep_sums(balanced)
    (chunk,) = (balanced.folder / "scores").glob("*/left-out.y_in/c/0/0")
    raw = chunk.read_bytes()
    if damage == "gone":
        chunk.unlink()
    else:
        chunk.write_bytes(raw[:-5] if damage == "cut" else raw[:12] + bytes([raw[12] ^ 4]) + raw[13:])
    run = extend(balanced) if extended else balanced
    summed.clear()
    assert_same(infl.keep_sums(run), run.outcomes("design"))
    # The next one finds them whole, or makes them so.
    assert_same(infl.keep_sums(run), run.outcomes("design"))
    again = infl.keep_sums(run)
    summed.clear()
    infl.influence(again, protocol="left-out")
    assert summed == []


def test_a_kill_leaves_the_sums_that_were_there(balanced: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    infl.keep_sums(balanced)
    (before,) = (balanced.folder / "scores").iterdir()
    run = extend(balanced)

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kept, "_write_tile", killed)
    with pytest.raises(KeyboardInterrupt):
        infl.keep_sums(run)
    assert list((run.folder / "scores").iterdir()) == [before]
    monkeypatch.undo()
    assert_same(infl.keep_sums(run), run.outcomes("design"))


def test_leftovers_of_a_kill_go_after_a_day(balanced: Run) -> None:
    fresh, old = (balanced.folder / "scores" / f"partial-{name}" for name in ("fresh", "old"))
    fresh.mkdir(parents=True)
    old.mkdir()
    os.utime(old, (0, 0))
    infl.keep_sums(balanced)
    assert fresh.exists()
    assert not old.exists()


def test_sums_are_kept_only_where_that_was_asked_for(balanced: Run) -> None:
    plain = infl.keep_sums(balanced, start=False)
    assert not (balanced.folder / "scores").exists()
    assert plain == balanced.outcomes("design")
    infl.keep_sums(balanced)
    run = extend(balanced)
    infl.keep_sums(run, start=False)
    (folder,) = (run.folder / "scores").iterdir()
    assert folder.name == f"correct-{run.fingerprint('design', range(51))[:16]}"


def test_a_full_disk_is_named_or_passed_over(balanced: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    infl.keep_sums(balanced)
    run = extend(balanced)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "_write_tile", full)
    with pytest.raises(InputError, match="cannot be written: .*No space left"):
        infl.keep_sums(run)
    assert_same(infl.keep_sums(run, start=False), run.outcomes("design"))


def test_a_run_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no models to score"):
        infl.keep_sums(make_run(tmp_path / "run", Design("uniform", 0.7)))

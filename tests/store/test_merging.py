"""Shards of one run, trained apart, join to the run that one machine would have made; anything else is refused by name.

What model t is follows from (seed, t) alone, so the merged outcomes must be those of an undivided run, bit for bit on the
same block width. A merge reads what others wrote, so it compares every block with its checksums on the way.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import infl
from infl.__main__ import main
from infl.pipeline.train import open_for_training
from infl.records import DiskError, InputError
from tests.blocks import assert_same_outcomes, stored_blocks

ALGORITHM = infl.Algorithm(hidden=(4,), epochs=1, batch_size=20)
LAYOUT = infl.Layout(n_devices=1, models_per_device=4)


def train(folder: Path, models: Any, references: int = 0) -> None:
    data = infl.load("digits", n_train=60, n_held_out=30)
    settings = {"algorithm": ALGORITHM, "layout": LAYOUT, "quiet": True}
    infl.train(data, run=folder, n_models=models, n_references=references, **settings)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undivided run of the default design, and three shards of it, one with a forget set that was verified."""
    folder = tmp_path_factory.mktemp("made")
    train(folder / "whole", 24, 4)
    train(folder / "a", range(8), 4)
    train(folder / "b", range(8, 16))
    train(folder / "c", range(16, 24))
    infl.verify(folder / "a", {"mine": [1, 2, 3]}, n_models=4, stop=None, layout=LAYOUT, quiet=True)
    return folder


def copied(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "made")
    return tmp_path / "made"


@pytest.mark.parametrize("into", ["new", "a"])
def test_merged_shards_are_the_undivided_run(made: Path, tmp_path: Path, into: str) -> None:
    folder = copied(made, tmp_path)
    shards = [folder / name for name in ("c", "b", "a") if name != into]
    run = infl.merge(folder / into, shards)
    whole = infl.open_run(folder / "whole")
    for opened in (run, infl.open_run(folder / into)):
        assert_same_outcomes(opened, whole, "design", "grouped", "full")
        assert [s.name for s in opened.forget_sets()] == ["mine"]
        assert not opened.damaged_blocks()
        assert {counts["missing"] for counts in opened.to_dict()["collections"].values()} == {0}
    assert run.design_groups() == whole.design_groups()


def test_merging_again_adds_nothing_and_shards_stay_as_they_are(made: Path, tmp_path: Path) -> None:
    folder = copied(made, tmp_path)
    shard = {path: path.read_bytes() for path in (folder / "b").rglob("*") if path.is_file()}
    infl.merge(folder / "a", [folder / "b"])
    before = stored_blocks(folder / "a")
    infl.merge(folder / "a", [folder / "b", folder / "b"])
    assert stored_blocks(folder / "a") == before
    assert {path: path.read_bytes() for path in (folder / "b").rglob("*") if path.is_file()} == shard


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 5}, "seed is 0 in the run, 5 in .*/other"),
        ({"algorithm": infl.Algorithm(hidden=(4,), epochs=2, batch_size=20)}, "algorithm.epochs is 1 in the run, 2 in"),
        ({"design": infl.Design("uniform", 0.7)}, "design.kind is 'grouped' in the run, 'uniform' in"),
        ({"data": 1}, "dataset.fingerprint is"),
    ],
    ids=["seed", "algorithm", "design", "data"],
)
def test_other_runs_are_refused_and_the_difference_named(
    made: Path, tmp_path: Path, changed: dict[str, Any], named: str
) -> None:
    folder, settings = (
        copied(made, tmp_path),
        {"data": 0, "algorithm": ALGORITHM, "design": None, "seed": None} | changed,
    )
    data = infl.load("digits", n_train=60, n_held_out=30, seed=settings.pop("data"))
    open_for_training(folder / "other", data, *settings.values())  # holds no model yet
    before = stored_blocks(folder / "a")
    with pytest.raises(InputError, match=f"is no shard of .*: .*{named}"):
        infl.merge(folder / "a", [folder / "b", folder / "other"])
    assert stored_blocks(folder / "a") == before


def test_a_damaged_shard_is_refused_by_block(made: Path, tmp_path: Path) -> None:
    folder = copied(made, tmp_path)
    (path,) = (folder / "b" / "collections" / "design" / "blocks").glob("*.npz")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DiskError, match="design/blocks/0000004-0000007.npz is damaged"):
        infl.merge(folder / "a", [folder / "b"])
    assert not infl.open_run(folder / "a").damaged_blocks()


def test_a_merge_with_itself_or_with_nothing_is_refused(made: Path) -> None:
    with pytest.raises(InputError, match="is the run itself"):
        infl.merge(made / "a", [made / "a"])
    with pytest.raises(InputError, match="at least one shard"):
        infl.merge(made / "a", [])


@pytest.mark.slow
def test_the_commands_train_shards_and_merge_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["digits", "--n-train", "60", "--n-held-out", "30", "--epochs", "1", "--hidden", "4"]
    for name, *models in (("one", "0:4", "--n-references", "3"), ("two", "4:10")):
        assert main(["train", *options, "--n-models", *models, "--run", str(tmp_path / name)]) == 0
    assert main(["merge", str(tmp_path / "all"), str(tmp_path / "one"), str(tmp_path / "two")]) == 0
    run = infl.open_run(tmp_path / "all")
    assert {name: len(run.complete(name)) for name in run.collections()} == {"design": 5, "grouped": 5, "full": 3}
    for models in ("4:", ":4", "a", "4:6:8", "-1", "6:4", "5:5", ""):
        assert main(["train", "--run", str(tmp_path / "all"), "--n-models", models]) == 2
        assert "model" in capsys.readouterr().err

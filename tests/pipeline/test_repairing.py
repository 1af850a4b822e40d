"""A disk that changes bytes costs the blocks that they lie in and no more: they are named, trained again, and all is as before.

Outcomes follow from the seed, so a repaired run must be the run that was damaged, bit for bit on the same block width; and
what was whole must not have been touched, which the files of the blocks show.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import infl
from infl.__main__ import main
from infl.pipeline.train import repair
from infl.records import InputError
from tests.blocks import stored_blocks

LAYOUT = infl.Layout(n_devices=1, models_per_device=16)
SETS = {"mine": [1, 2, 3]}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    data = infl.load("digits", n_train=60, n_held_out=30)
    algorithm = infl.Algorithm(hidden=(4,), epochs=1, batch_size=20)
    settings = {"n_models": 192, "n_references": 4, "layout": LAYOUT, "quiet": True}
    infl.train(data, run=folder, algorithm=algorithm, cover=SETS, models_per_covered_set=4, **settings)
    infl.verify(folder, SETS, n_models=4, stop=None, layout=LAYOUT, quiet=True)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


def block(folder: Path, collection: str, number: int = 0) -> Path:
    return sorted(folder.glob(f"collections/{collection}*/blocks/*.npz"))[number]


def damage(path: Path, how: str = "flipped") -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[:-20]
    else:
        content[len(content) // 2] ^= 4
    path.write_bytes(content)


def assert_as_made(folder: Path, made: Path) -> None:
    run, other = infl.open_run(folder), infl.open_run(made)
    assert run.collections() == other.collections()
    assert not run.damaged_blocks()
    for collection in other.collections():
        assert run.complete(collection) == other.complete(collection)
        mine, theirs = run.outcomes(collection).load(), other.outcomes(collection).load()
        for name in ("masks", "correct", "margin"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


def test_a_whole_run_is_left_alone(folder: Path) -> None:
    before = stored_blocks(folder)
    assert repair(folder, quiet=True) == {}
    assert stored_blocks(folder) == before


@pytest.mark.parametrize(
    ("collection", "how"),
    [("design", "flipped"), ("grouped", "cut"), ("full", "flipped"), ("without", "cut"), ("cover", "flipped")],
)
def test_the_models_of_a_damaged_block_are_trained_again_and_no_others(
    folder: Path, made: Path, collection: str, how: str
) -> None:
    path, before = block(folder, collection, -1), stored_blocks(folder)
    damage(path, how)
    (damaged,) = infl.open_run(folder).damaged_blocks()
    assert damaged.collection.startswith(collection)
    first, last = map(int, path.stem.split("-"))
    assert damaged.describe().startswith(f"{damaged.collection}: block of models {first} to {last}: ")
    done = repair(folder, layout=LAYOUT, quiet=True)
    assert done == {damaged.collection: list(range(first, last + 1))}
    after = stored_blocks(folder)
    assert [name for name in before if before[name] != after.get(name)] == [damaged.name.removeprefix("collections/")]
    assert_as_made(folder, made)


def test_where_the_data_are_damaged_too_nothing_is_deleted(folder: Path) -> None:
    damage(block(folder, "design"))
    damage(next(folder.glob("data/*.npz")))
    before = stored_blocks(folder)
    with pytest.raises(InputError, match=r"npz is (missing or damaged .*|not the data that .*); restore it"):
        repair(folder, quiet=True)
    assert stored_blocks(folder) == before


def test_the_command_names_the_block_and_repairs_it(
    folder: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "--run", str(folder)]) == 0
    damage(block(folder, "design", 4))
    capsys.readouterr()
    assert main(["inspect", "--run", str(folder), "--json", str(folder.parent / "said.json")]) == 3
    said = capsys.readouterr()
    assert "damaged: design: block of models 64 to 79:" in said.out
    assert "1 blocks are damaged, of 16 models; --repair trains these again" in said.err
    assert len(json.loads((folder.parent / "said.json").read_text())["damage"]) == 1
    assert main(["inspect", "--run", str(folder), "--repair"]) == 0
    assert "trained again: 16 models of design: 64, 65" in capsys.readouterr().out
    assert_as_made(folder, made)

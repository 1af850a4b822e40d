"""A disk that changes bytes costs the blocks that they lie in and no more: they are named, trained again, and all is as before.

Outcomes follow from the seed, so a repaired run must be the run that was damaged, bit for bit on the same block width; and
what was whole must not have been trained again, which the journal shows.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import infl
from infl.__main__ import main
from infl.records import DiskError, InputError
from infl.store.lock import lock

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


def chunk(folder: Path, collection: str, array: str, part: int = 0) -> Path:
    return folder / "models" / collection / array / "c" / str(part) / "0"


def flip(path: Path, position: int = -3) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 4
    path.write_bytes(content)


def assert_as_made(folder: Path, made: Path) -> None:
    run, other = infl.open_run(folder), infl.open_run(made)
    assert run.collections() == other.collections()
    assert not run.find_damage().blocks
    for collection in other.collections():
        assert run.complete(collection) == other.complete(collection)
        mine, theirs = run.outcomes(collection).load(), other.outcomes(collection).load()
        for name in ("masks", "correct", "margin"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))


def times_trained(folder: Path, collection: str) -> list[int]:
    """Models of the blocks that were trained after those that the run was made of."""
    sessions = 0
    later: list[int] = []
    for line in (folder / "journal.jsonl").read_text().splitlines():
        content = json.loads(line.split("\t")[0])
        sessions += "session" in content
        if sessions > 2 and content.get("collection") == collection:
            later += content["models"]
    return sorted(later)


def test_a_whole_run_is_left_alone(folder: Path, made: Path) -> None:
    before = (folder / "journal.jsonl").read_bytes()
    done = infl.repair(folder, quiet=True)
    assert (done.trained, done.lost, done.n_lines) == ({}, {}, 0)
    assert (folder / "journal.jsonl").read_bytes() == before


def harm(path: Path, how: str) -> None:
    if how == "flipped":
        flip(path)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        path.unlink()


@pytest.mark.parametrize("array", ["masks", "correct", "margin"])
@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_a_damaged_chunk_is_found(folder: Path, array: str, how: str) -> None:
    harm(chunk(folder, "full", array), how)
    assert infl.open_run(folder).find_damage().models() == {"full": [0, 1, 2, 3]}


@pytest.mark.parametrize(("array", "how"), [("masks", "flipped"), ("correct", "cut"), ("margin", "gone")])
def test_the_blocks_of_a_damaged_chunk_are_trained_again_and_no_others(
    folder: Path, made: Path, array: str, how: str
) -> None:
    harm(chunk(folder, "design", array, 1), how)  # models 64 to 95
    damage = infl.open_run(folder).find_damage()
    assert damage.models() == {"design": list(range(64, 96))}
    assert damage.blocks[0].describe().startswith("design: block of models 64 to 79: ")
    done = infl.repair(folder, layout=LAYOUT, quiet=True)
    assert done.trained == {"design": list(range(64, 96))}
    assert times_trained(folder, "design") == list(range(64, 96))
    assert times_trained(folder, "grouped") == []
    assert_as_made(folder, made)


def test_rows_that_are_whole_but_others_are_found_by_their_checksum(folder: Path, made: Path) -> None:
    """As when a disk loses a write and brings back what was there before: no chunk is damaged in itself."""
    shutil.copy(chunk(folder, "design", "correct", 0), chunk(folder, "design", "correct", 1))
    damage = infl.open_run(folder).find_damage()
    assert damage.models() == {"design": list(range(64, 96))}
    assert "the checksum of its correct does not fit" in damage.blocks[0].describe()
    infl.repair(folder, layout=LAYOUT, quiet=True)
    assert_as_made(folder, made)


@pytest.mark.parametrize("how", ["flipped", "gone", "narrower", "a bomb"])
def test_a_damaged_description_of_an_array_costs_no_model(folder: Path, made: Path, how: str) -> None:
    path = folder / "models" / "grouped" / "margin" / "zarr.json"
    content = json.loads(path.read_text())
    if how == "flipped":
        flip(path, 5)
    elif how == "gone":
        path.unlink()
    elif how == "narrower":
        content["shape"][1] -= 1
        path.write_text(json.dumps(content))
    else:
        content["chunk_grid"]["configuration"]["chunk_shape"] = [1 << 40, 1 << 20]
        path.write_text(json.dumps(content))
    with pytest.raises(DiskError, match="models/grouped is damaged"):
        infl.open_run(folder).outcomes("grouped").load()
    done = infl.repair(folder, layout=LAYOUT, quiet=True)
    assert (done.trained, done.lost) == ({}, {})
    assert_as_made(folder, made)


@pytest.mark.parametrize("collection", ["full", "without", "cover"])
def test_models_of_every_collection_are_trained_again(folder: Path, made: Path, collection: str) -> None:
    (name,) = [one for one in infl.open_run(folder).collections() if one.startswith(collection)]
    shutil.rmtree(folder / "models" / name)
    done = infl.repair(folder, layout=LAYOUT, quiet=True)
    assert done.trained == {name: [0, 1, 2, 3]}
    assert_as_made(folder, made)


def test_models_without_a_set_that_nothing_names_are_lost_and_said_to_be(folder: Path) -> None:
    (name,) = [one for one in infl.open_run(folder).collections() if one.startswith("without")]
    shutil.rmtree(folder / "models" / name)
    shutil.rmtree(folder / "forget")
    done = infl.repair(folder, quiet=True)
    assert (done.trained, done.lost) == ({}, {name: [0, 1, 2, 3]})
    assert name not in infl.open_run(folder).collections()


def test_a_damaged_line_is_taken_out_and_its_models_trained_again(folder: Path, made: Path) -> None:
    path = folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    number = next(i for i, line in enumerate(lines) if b'"grouped","models":[16,' in line)
    lines[number] = lines[number].replace(b'"models":[16,', b'"models":[17,')
    path.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=f"damaged in line {number + 1}; infl inspect --run .* --repair True"):
        infl.open_run(folder)
    done = infl.repair(folder, layout=LAYOUT, quiet=True)
    assert (done.n_lines, done.trained) == (1, {"grouped": list(range(16, 32))})
    assert_as_made(folder, made)


def test_where_the_data_are_damaged_too_nothing_is_taken_out(folder: Path) -> None:
    flip(chunk(folder, "design", "margin", 1))
    flip(folder / "data.npz", 300)
    before = (folder / "journal.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"data.npz is missing or damaged .*; restore it"):
        infl.repair(folder, quiet=True)
    assert (folder / "journal.jsonl").read_bytes() == before
    assert chunk(folder, "design", "margin", 1).exists()


def test_the_command_names_the_block_and_repairs_it(
    folder: Path, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", "--run", str(folder)]) == 0
    flip(chunk(folder, "design", "margin", 1))
    capsys.readouterr()
    assert main(["inspect", "--run", str(folder), "--json", str(folder.parent / "said.json")]) == 3
    said = capsys.readouterr()
    assert "damaged: design: block of models 64 to 79:" in said.out
    assert "2 blocks are damaged, of 32 models; --repair True trains these again" in said.err
    assert len(json.loads((folder.parent / "said.json").read_text())["damage"]) == 2
    assert main(["inspect", "--run", str(folder), "--repair", "True"]) == 0
    assert "trained again: 32 models of design: 64, 65" in capsys.readouterr().out
    run = infl.open_run(folder)
    assert run.complete("design") == list(range(96))
    assert not run.find_damage().blocks


def test_a_run_that_is_being_written_is_not_repaired(folder: Path) -> None:
    content = {"host": "elsewhere", "boot": "b", "space": "s", "pid": 7, "began": "8", "token": "t"}
    (folder / "run.lock").write_text(json.dumps(content))
    assert main(["inspect", "--run", str(folder), "--repair", "True"]) == 4
    assert main(["inspect", "--run", str(folder)]) == 0
    (folder / "run.lock").unlink()
    with lock(folder):
        pass

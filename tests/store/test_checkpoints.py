"""A checkpoint is taken up whole or not at all, and one that is not says so in a line and is gone.

A block that goes on from a state that is not its own would end in models that no seed gives, and nothing later would notice. So
every byte of a checkpoint counts, and so does what it is of; and as nothing is lost without it but time, whatever is wrong with
it must never stop a training. Here the states are a few bytes, written by the tests.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

import infl
from infl.records import DiskError
from infl.records.files import checksum
from infl.store import Checkpoint, Checkpoints, Run, create_run, merge
from tests.commands import call

JOBS = [("design", 4), ("design", 5), ("full", 0)]
FITS = {"layout": {"mode": "map"}, "epochs": 9}
SETTINGS = {"algorithm": infl.Algorithm().to_dict(), "design": infl.Design("uniform").to_dict(), "seed": 0}


@pytest.fixture
def run(small_digits: infl.Dataset, tmp_path: Path) -> Run:
    return create_run(tmp_path / "run", small_digits, SETTINGS)


class Kept:
    """The checkpoints of a run and what they said."""

    def __init__(self, run: Run) -> None:
        self.said: list[str] = []
        self.all = Checkpoints(run, self.said.append)

    def of(self, jobs: list[tuple[str, int]] = JOBS) -> Checkpoint:
        return self.all.of(jobs)

    def write(self, epochs: int = 3, content: bytes = b"state", fits: dict | None = None) -> Path:
        with self.of().writing(epochs=epochs, seconds=2.5, fits=FITS if fits is None else fits) as folder:
            (folder / "deep").mkdir(parents=True)
            (folder / "weights").write_bytes(content)
            (folder / "deep" / "momentum").write_bytes(content[::-1])
        return self.of().folder / f"{epochs:06d}"

    def is_refused(self, because: str, fits: dict = FITS) -> bool:
        """Whether it is not read, one line says why, and it is gone."""
        found = self.of().read(fits)
        (line,) = self.said
        assert because in line
        assert "\n" not in line
        assert "3 models begin again" in line
        return found is None and not self.all.folder.exists()


def test_what_was_kept_is_read_and_inspect_says_that_it_is_there(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    kept = Kept(run)
    assert kept.of().read(FITS) is None
    place = kept.write()
    epochs, seconds, states = kept.of().read(FITS) or (0, 0, Path())
    assert (epochs, seconds, states) == (3, 2.5, place / "states")
    assert (states / "weights").read_bytes() == b"state"
    assert Kept(infl.open_run(run.folder)).all.resumable() == [JOBS]
    n_bytes = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    listed = {"models": {"design": [4, 5], "full": [0]}, "epochs": 3, "bytes": n_bytes}
    assert kept.all.listed() == [listed]
    assert kept.of(JOBS[:2]).read(FITS) is None
    assert kept.said == ["3 models go on after epoch 3"]
    call(f"inspect --run {run.folder} --json {run.folder}/inspect.json")
    said = capsys.readouterr().out
    assert "checkpoint: 2 models of design and 1 models of full after 3 epochs, 0.0 MB\n" in said
    assert json.loads((run.folder / "inspect.json").read_text())["checkpoints"] == [listed]
    kept.of().delete()
    assert not kept.all.folder.exists()
    assert kept.all.resumable() == kept.all.listed() == []


def test_the_newer_takes_the_place_of_the_older_unless_it_is_damaged(run: Run) -> None:
    """Both are there after a kill between the two."""
    kept = Kept(run)
    older = kept.write(999_999)
    older.rename(run.folder / "aside")
    newer = kept.write(1_000_000)
    (run.folder / "aside").rename(older)
    assert (kept.of().read(FITS) or [0])[0] == 1_000_000
    (newer / "states" / "weights").write_bytes(b"other")
    assert (kept.of().read(FITS) or [0])[0] == 999_999
    kept.write(1_000_000)
    assert (kept.of().read(FITS) or [0])[0] == 1_000_000
    assert [path.name for path in kept.of().folder.iterdir()] == [newer.name]


def test_a_flipped_bit_anywhere_is_found(run: Run, tmp_path: Path) -> None:
    place = Kept(run).write()
    shutil.copytree(run.folder / "checkpoints", tmp_path / "whole")
    files = sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
    assert files == ["about.json", "states/deep/momentum", "states/weights"]
    for name in files:
        for byte in range(0, (place / name).stat().st_size, 5 if name == "about.json" else 1):
            content = bytearray((place / name).read_bytes())
            content[byte] ^= 1 << byte % 8
            (place / name).write_bytes(content)
            assert Kept(run).is_refused("damaged"), (name, byte)
            shutil.copytree(tmp_path / "whole", run.folder / "checkpoints")


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: os.truncate(place / "states" / "weights", 3),
        lambda place: (place / "states" / "weights").unlink(),
        lambda place: (place / "states" / "out").symlink_to("/etc"),
        lambda place: (place / "about.json").write_text('["no", "object"]'),
        lambda place: (place / "about.json").unlink(),
    ],
)
def test_other_damage_is_found(damage, run: Run) -> None:
    kept = Kept(run)
    damage(kept.write())
    assert kept.is_refused("damaged")


def test_what_fits_something_else_is_named(run: Run, small_digits: infl.Dataset, tmp_path: Path) -> None:
    kept = Kept(run)
    kept.write()
    assert kept.is_refused("other epochs and layout", {"layout": {"mode": "vmap"}, "epochs": 8})
    kept.said.clear()
    kept.write()
    assert kept.is_refused("other device", {**FITS, "device": "cpu"})
    # Copied from a run whose models are others.
    place = Kept(run).write()
    other = Kept(create_run(tmp_path / "other", small_digits, {**SETTINGS, "seed": 1}))
    other.all.folder.mkdir()
    place.parent.rename(other.of().folder)
    assert other.is_refused("another run")


def test_what_a_link_leads_to_is_not_deleted(run: Run) -> None:
    (run.folder / "mine" / "design").mkdir(parents=True)
    (run.folder / "checkpoints").symlink_to("mine")
    assert Kept(run).all.resumable() == []
    (run.folder / "checkpoints").unlink()
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "block").symlink_to("../mine")
    assert Kept(run).all.resumable() == []
    assert (run.folder / "mine" / "design").is_dir()


def test_what_a_kill_leaves_is_nothing(run: Run) -> None:
    kept = Kept(run)
    place = kept.write()
    place.rename(place.with_name("partial"))
    assert kept.of().read(FITS) is None
    assert kept.write(5).exists()  # written over it
    (kept.of().folder / "000005").rename(kept.of().folder / "partial")
    assert Kept(run).all.resumable() == []
    assert kept.said == []


def test_a_checkpoint_under_the_name_of_another_block_is_none(run: Run) -> None:
    kept = Kept(run)
    kept.write().parent.rename(kept.of(JOBS[:2]).folder)
    assert kept.all.resumable() == []
    assert len(kept.said) == 1
    for jobs in ([["design", -1]], [["../out", 1]], [["design", 1], ["design", 1]], [[1, "design"]], []):
        place = kept.write()
        about = json.loads((place / "about.json").read_text())
        about["jobs"] = jobs
        (place / "about.json").write_text(json.dumps(about | {"checksum": checksum(about)}))
        kept.said.clear()
        assert kept.all.resumable() == [], jobs
        assert len(kept.said) == 1


def test_a_disk_that_refuses_leaves_the_one_before(run: Run) -> None:
    kept = Kept(run)
    place = kept.write(3)

    refused = pytest.raises(DiskError, match=r"cannot write a checkpoint: .*No space left")
    with refused, kept.of().writing(epochs=4, seconds=3.0, fits=FITS) as folder:
        folder.mkdir()
        (folder / "half").write_bytes(b"x")
        raise OSError(28, "No space left on device")
    assert [path.name for path in place.parent.iterdir()] == ["000003"]
    assert (kept.of().read(FITS) or [0])[0] == 3


def test_a_checkpoint_is_no_part_of_what_is_merged(small_digits: infl.Dataset, tmp_path: Path) -> None:
    shard = create_run(tmp_path / "shard", small_digits, SETTINGS)
    Kept(shard).write()
    both = merge(tmp_path / "both", [shard.folder])
    assert not (both.folder / "checkpoints").exists()
    assert Kept(shard).all.resumable() == [JOBS]
    assert infl.repair(shard.folder, quiet=True) == {}

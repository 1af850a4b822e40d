"""A checkpoint is taken up whole or not at all, and one that is not says so in a line and is gone.

A block that goes on from a state that is not its own would end in models that no seed gives, and nothing later would notice. So
every byte of a checkpoint counts, and so does what it is of; and as nothing is lost without it but time, whatever is wrong with
it must never stop a training. Here the states are a few bytes, written by the tests.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import infl
from infl.pipeline.train import repair
from infl.records import DiskError, files
from infl.records.files import read_arrays, write_arrays
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

    def write(self, epochs: int = 3) -> Path:
        self.of().write({"weights": np.arange(epochs)}, epochs=epochs, seconds=2.5, fits=FITS)
        return self.of().path

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
    path = kept.write()
    epochs, seconds, states = kept.of().read(FITS) or (0, 0, {})
    assert (epochs, seconds, list(states)) == (3, 2.5, ["weights"])
    np.testing.assert_array_equal(states["weights"], [0, 1, 2])
    assert Kept(infl.open_run(run.folder)).all.resumable() == [JOBS]
    listed = {"models": {"design": [4, 5], "full": [0]}, "epochs": 3, "bytes": path.stat().st_size}
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


def test_the_newer_takes_the_place_of_the_older(run: Run) -> None:
    kept = Kept(run)
    assert kept.write(4) == kept.write(5)
    assert (kept.of().read(FITS) or [0])[0] == 5
    assert len(list(kept.all.folder.iterdir())) == 1


def test_damage_anywhere_is_found(run: Run) -> None:
    whole = Kept(run).write().read_bytes()
    flipped = [whole[:k] + bytes([whole[k] ^ 1 << k % 8]) + whole[k + 1 :] for k in range(0, len(whole), 3)]
    for content in [*flipped, whole[:-1], whole[:20], b"", b'["no", "object"]']:
        Kept(run).write().write_bytes(content)
        assert Kept(run).is_refused("damaged")


def test_what_fits_something_else_is_named(run: Run, small_digits: infl.Dataset, tmp_path: Path) -> None:
    kept = Kept(run)
    kept.write()
    assert kept.is_refused("other epochs and layout", {"layout": {"mode": "vmap"}, "epochs": 8})
    kept.said.clear()
    kept.write()
    assert kept.is_refused("other device", {**FITS, "device": "cpu"})
    # Copied from a run whose models are others.
    path = Kept(run).write()
    other = Kept(create_run(tmp_path / "other", small_digits, {**SETTINGS, "seed": 1}))
    other.all.folder.mkdir()
    path.rename(other.of().path)
    assert other.is_refused("another run")


def test_what_a_kill_leaves_is_nothing(run: Run) -> None:
    kept = Kept(run)
    path = kept.write()
    path.rename(path.with_name(f"{path.name}.123.partial"))
    (kept.all.folder / "mine").write_bytes(b"of somebody else")
    assert kept.of().read(FITS) is None
    assert kept.all.resumable() == []
    assert [path.name for path in kept.all.folder.iterdir()] == ["mine"]
    assert kept.said == []


def test_a_checkpoint_under_the_name_of_another_batch_is_none(run: Run) -> None:
    kept = Kept(run)
    for jobs in ([["design", 4]], [["design", -1]], [["../out", 1]], [[1, "design"]], [], "design", None):
        path = kept.write()
        arrays = read_arrays(path) or {}
        about = json.loads(arrays["about"].tobytes()) | {"jobs": jobs}
        write_arrays(path, arrays | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)})
        kept.said.clear()
        assert kept.all.resumable() == [], jobs
        assert len(kept.said) == 1


def test_a_disk_that_refuses_leaves_the_one_before(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(run)
    path = kept.write(3)

    def full(number: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DiskError, match=r"cannot write a checkpoint: .*No space left"):
        kept.write(4)
    assert list(kept.all.folder.iterdir()) == [path]
    assert (kept.of().read(FITS) or [0])[0] == 3


def test_a_checkpoint_is_no_part_of_what_is_merged(small_digits: infl.Dataset, tmp_path: Path) -> None:
    shard = create_run(tmp_path / "shard", small_digits, SETTINGS)
    Kept(shard).write()
    both = merge(tmp_path / "both", [shard.folder])
    assert not (both.folder / "checkpoints").exists()
    assert Kept(shard).all.resumable() == [JOBS]
    assert repair(shard.folder, quiet=True) == {}

"""Nothing that a run folder says or holds leads out of it: not a name in its journal, not a link, not a path with dots.

A run from a stranger is opened to look at it. If a line of its journal could name ../../home, a look would read there, and
training would write there.
"""

from __future__ import annotations

import json
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

import infl
from infl.records import InputError, Outcomes
from infl.store import create_run, open_run


@pytest.fixture
def run(tmp_path: Path) -> infl.Run:
    data = infl.from_arrays(np.random.RandomState(0).rand(9, 2), np.arange(9) % 2, np.ones((4, 2)), np.arange(4) % 2)
    made = create_run(tmp_path / "run", data, {"seed": 0})
    masks, outcomes = np.ones((2, 9), bool), np.ones((2, 13), bool)
    made.write("design", [0, 1], Outcomes(masks, outcomes, np.ones((2, 13))), np.ones(2, bool), seconds=1.0)
    return made


PLACES = ["run.json", "data.npz", "journal.jsonl", "models", "models/design", "models/design/margin"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["absolute", "relative"])
def test_a_link_that_leads_out_is_refused(run: infl.Run, tmp_path: Path, place: str, kind: str) -> None:
    path, outside = run.folder / place, tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside if kind == "absolute" else os.path.relpath(outside, path.parent))
    with pytest.raises(InputError, match=f"{path} is a link that leads out of the run folder, to {outside}"):
        open_run(run.folder)


def test_links_within_a_run_and_to_a_run_are_followed(run: infl.Run, tmp_path: Path) -> None:
    (run.folder / "data.npz").rename(run.folder / "digits.npz")
    (run.folder / "data.npz").symlink_to("digits.npz")
    (tmp_path / "link").symlink_to(run.folder)
    opened = open_run(tmp_path / "link")
    assert opened.dataset().n_train == 9
    assert opened.outcomes("design").load().n_models == 2


def test_what_is_no_file_is_refused_and_not_waited_for(run: infl.Run) -> None:
    (run.folder / "journal.jsonl").unlink()
    os.mkfifo(run.folder / "journal.jsonl")
    with pytest.raises(InputError, match="journal.jsonl is neither file nor folder"):
        open_run(run.folder)


@pytest.mark.parametrize(
    "name",
    ["../../outside", "/tmp/outside", "design/../../outside", "", ".", "..", "design\0", "without-0123", "DESIGN"],
)
def test_a_journal_names_no_other_place(run: infl.Run, name: str) -> None:
    text = json.dumps({"collection": name, "models": [0], "seconds": 1.0, "diverged": []}).encode()
    with open(run.folder / "journal.jsonl", "ab") as file:
        file.write(text + b"\t%08x\n" % zlib.crc32(text))
    with pytest.raises(InputError, match="journal.jsonl holds a line that this version of infl does not know"):
        open_run(run.folder)


def test_a_wanted_number_of_models_takes_no_memory(run: infl.Run) -> None:
    """A session may say that it wanted a trillion models; they are counted and not listed."""
    for wanted in (1 << 31, 5, (1 << 32) - 1):
        run.record_session({"wanted": {"design": wanted}})
    assert open_run(run.folder).to_dict()["collections"]["design"]["missing"] == (1 << 32) - 1 - 2


def test_no_pickle_is_read_anywhere() -> None:
    """Neither the module nor NumPy's switch for it stands in the source."""
    for path in Path(infl.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert "import pickle" not in text, path
        assert "allow_pickle=True" not in text, path
        assert text.count("np.load(") == text.count("allow_pickle=False"), path

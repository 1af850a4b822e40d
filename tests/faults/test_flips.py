"""One bit that a disk changes, in whatever file of a run, is noticed or does not matter: no score changes in silence.

A wrong score looks like any other. So what a run says (scores, errors, outcomes, measured effects, names, settings, data) is
compared bit by bit with what it said before, for random flips in every file. `experiments/faults` makes 2,000 of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "faults"))
from flips import make_run, scores_of, try_flips  # pyright: ignore[reportMissingImports]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("flips") / "run").folder


def test_a_flipped_bit_is_refused_or_harmless(folder: Path) -> None:
    counts, silent = try_flips(folder, 120, seed=8)
    assert silent == []
    assert sum(counts.values()) == 120
    for kind in ("models, chunk", "journal.jsonl", "groups"):
        assert counts[f"{kind}: refused"] > 0
    assert counts["models, chunk: harmless"] == 0


def test_what_is_compared_sees_a_change_of_any_outcome(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the checksum of the journal, flips in it come through: the comparison is not blind."""
    from infl.store import journal

    path = folder / "journal.jsonl"
    whole, before = path.read_bytes(), scores_of(folder)
    monkeypatch.setattr(journal.zlib, "crc32", lambda text: 0)
    lines = [
        line.split(b"\t")[0] + b"\t00000000"
        for line in whole.splitlines()
        if b'"full"' not in line or b"session" in line
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert scores_of(folder).keys() != before.keys()
    path.write_bytes(whole)

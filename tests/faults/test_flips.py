"""One bit that a disk changes, in whatever file of a run, is noticed or does not matter: no score changes in silence.

A wrong score looks like any other. So what a run says (scores, errors, outcomes, measured effects, names, settings, data) is
compared bit by bit with what it said before, for random flips in every file. `experiments/faults` makes 2,000 of them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infl.store.blocks import read_block

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "faults"))
from flips import make_run, scores_of, try_flips  # pyright: ignore[reportMissingImports]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("flips") / "run").folder


@pytest.mark.slow
def test_a_flipped_bit_is_refused_or_harmless(folder: Path) -> None:
    counts, silent = try_flips(folder, 120, seed=8)
    assert silent == []
    assert sum(counts.values()) == 120
    for kind in ("blocks", "records", "groups", "data", "run.json"):
        assert counts[f"{kind}: refused"] > 0
    assert counts["blocks: refused"] > 2 * counts["blocks: harmless"]


@pytest.mark.slow
def test_what_is_compared_sees_a_change_of_any_outcome(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the checksums of tiles, flips in them come through: the comparison is not blind."""
    before = scores_of(folder)
    path = next(folder.glob("collections/design/blocks/*.npz"))
    whole = path.read_bytes()
    content = bytearray(whole)
    content[len(content) // 2] ^= 64
    path.write_bytes(content)
    monkeypatch.setattr("infl.store.blocks.zlib.crc32", lambda content: 0)
    monkeypatch.setattr("infl.store.run.read_block", trusting(read_block))
    after = scores_of(folder)
    assert not all(np.array_equal(before[name], after[name], equal_nan=True) for name in before if "margin" in name)
    path.write_bytes(whole)


def trusting(read: Any) -> Any:
    """Reads blocks that say of each tile that its checksum is 0."""

    def reading(*given: Any, **settings: Any) -> Any:
        block = read(*given, **settings)
        return replace(block, crc32={array: [0] * len(tiles) for array, tiles in block.crc32.items()})

    return reading

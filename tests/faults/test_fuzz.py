"""Whatever bytes stand in a file that a stranger may have written, it is read or refused in one line.

A traceback, a hang or a full memory would each be a way to harm who only looks at a file. The cases are whole files with a few
bytes changed, and files whose checksums fit and whose content is anything. `experiments/faults/fuzz.py` runs 100,000 of each
kind; here are a few of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "faults"))
from readers import FORGET, readers  # pyright: ignore[reportMissingImports]

READERS = readers()
QUICK = settings(
    max_examples=150,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)


@pytest.mark.parametrize("name", READERS)
def test_a_file_is_read_or_refused(name: str, tmp_path: Path) -> None:
    reader, accepted = READERS[name], []
    reader.prepare(tmp_path)

    @QUICK
    @given(reader.cases)
    def case(content: bytes) -> None:
        accepted.append(reader.survives(tmp_path, content))

    case()
    assert accepted.count(False) > 20


def test_what_json_readers_stumble_over_is_refused(tmp_path: Path) -> None:
    """Nesting without end, a number of 10,000 digits, half a character, and two bytes a character."""
    assert READERS["forget"].survives(tmp_path, FORGET)
    digits, half, wide = b'{"a": [' + b"9" * 10_000 + b"]}", b'{"\\ud800": [1]}', b"\xff\xfe" + b"[" * 9
    for content in (b"[" * 100_000, b'{"a":' * 100_000, digits, half, wide):
        assert not READERS["forget"].survives(tmp_path, content)
    for name in ("run.json", "collection.json"):
        folder = tmp_path / f"of {name}"
        folder.mkdir()
        READERS[name].prepare(folder)
        assert not READERS[name].survives(folder, b"[" * 100_000 + b"\n")

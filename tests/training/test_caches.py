"""Programs compiled by one process are taken up by the next, silently, and the cache folder never decides whether infl runs.

Whether XLA takes a program from its cache is asked of JAX's own events, in processes with warnings as errors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest

from infl.training import caches
from infl.training.caches import cache_layout, cached_layout

PROGRAM = """
import jax
from infl.training.caches import cache_compiled_programs
events = []
jax.monitoring.register_event_listener(lambda name, **_: events.append(name))
cache_compiled_programs()
ours = "/programs/" in str(jax.config.jax_compilation_cache_dir)
assert jax.config.jax_compilation_cache_max_size == (1 << 30 if ours else -1)
jax.jit(lambda x: jax.lax.fori_loop(0, 3, lambda _, y: y @ y, x)).lower(jax.numpy.ones((8, 8))).compile()
print(sum(name.endswith("/cache_hits") for name in events))
"""


def hits(folder: Path, **variables: str) -> tuple[int, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    mine = {"INFL_CACHE_DIR": str(folder), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env=inherited | mine | variables,
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout), done.stderr


def test_programs_are_compiled_once_for_all_processes(tmp_path: Path) -> None:
    assert hits(tmp_path) == (0, "")
    n_hits, said = hits(tmp_path)
    assert n_hits > 0
    assert said == ""
    assert list((tmp_path / "programs").glob(f"{jax.__version__}-*/*"))


@pytest.mark.slow
def test_two_processes_at_once_may_compile_twice_and_neither_says_so(tmp_path: Path) -> None:
    """Neither waits for the other, so both may find nothing; the next one finds what either wrote."""
    with ThreadPoolExecutor(2) as both:
        assert [said for _, said in both.map(hits, [tmp_path] * 2)] == ["", ""]
    assert hits(tmp_path)[0] > 0


def test_what_a_kill_left_half_written_is_compiled_again_without_a_word(tmp_path: Path) -> None:
    hits(tmp_path)
    programs = list((tmp_path / "programs").glob("*/*-cache"))
    for program in programs:
        program.write_bytes(program.read_bytes()[:50])
        program.with_name(program.name.replace("-cache", "-atime")).unlink()
    assert hits(tmp_path) == (0, "")
    assert hits(tmp_path)[0] > 0


@pytest.mark.slow
def test_a_folder_of_the_users_own_goes_before(tmp_path: Path) -> None:
    hits(tmp_path / "mine", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "own"))
    assert list((tmp_path / "own").iterdir())
    assert not (tmp_path / "mine").exists()


def test_a_folder_that_cannot_be_written_is_done_without() -> None:
    assert hits(Path("/proc/nothing")) == (0, "")


def test_of_layouts_written_at_once_one_may_be_lost_and_no_file_is_ever_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFL_CACHE_DIR", str(tmp_path))

    def cached(key: str) -> bool:
        cache_layout(key, {"mode": key})
        return isinstance(json.loads((tmp_path / "layouts.json").read_text()), dict)

    with ThreadPoolExecutor(4) as writers:
        assert all(writers.map(cached, map(str, range(100))))
    assert any(cached_layout(str(k)) for k in range(100))


def test_layouts_are_kept_beside_each_other_the_last_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFL_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(caches, "MAX_LAYOUTS", 3)
    assert cached_layout("a") is None
    for key in "abac":
        cache_layout(key, {"mode": key})
    assert [cached_layout(key) for key in "abc"] == [{"mode": key} for key in "abc"]
    cache_layout("d", {})
    assert [key for key in "abcd" if cached_layout(key) is not None] == ["a", "c", "d"]
    assert [path.name for path in tmp_path.iterdir()] == ["layouts.json"]

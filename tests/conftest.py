"""What all tests share: two CPU devices, compiled programs, one small run.

Two CPU devices whatever the machine, so that sharding is always tested. Most tests train the same few networks, and
compiling those took two thirds of their time: all processes keep XLA's programs in one folder, also for the next session.
They are compiled without LLVM's optimizations, which takes a third less time.
One thread of NumPy's and SciPy's for each process: beside others more of them spin, and took twice the time of the cores.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

# Set before JAX and NumPy are imported. No test may read or write the user's own cache.
os.environ["INFL_CACHE_DIR"] = tempfile.mkdtemp(prefix="infl-cache-")
atexit.register(shutil.rmtree, os.environ["INFL_CACHE_DIR"], ignore_errors=True)
PROGRAMS = Path(__file__).parents[1] / f".pytest_cache/programs/jax-{version('jax')}"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(PROGRAMS))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax  # noqa: E402
import pytest  # noqa: E402

import infl  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)
SMALL = infl.Algorithm(hidden=(4,), epochs=2)
PLACES = ("at home", "in town", "by the sea", "with Dan", "all day", "at night", "alone", "at sea")
left_out = 0


@pytest.fixture(scope="session")
def small_digits() -> infl.Dataset:
    """Sixty training and thirty held-out digits."""
    return infl.load("digits", n_train=60, n_held_out=30)


@pytest.fixture(scope="session")
def small_run(small_digits: infl.Dataset, tmp_path_factory: pytest.TempPathFactory) -> infl.Run:
    """Forty models of subsets and eight of all small digits. To be read; copy the folder to change it."""
    folder = tmp_path_factory.mktemp("small") / "run"
    return infl.train(small_digits, run=folder, n_models=40, n_references=8, algorithm=SMALL)


@pytest.fixture(scope="session")
def documents_run(tmp_path_factory: pytest.TempPathFactory) -> infl.Run:
    """Forty models of subsets and eight of all of thirty-two short documents of three groups. To be read, as `small_run`.

    #0 holds markup, controls and more lines than one; #1 and #2 are one text.
    """
    lines = [f"{who} {what} {where}" for who in ("Ann", "Bo", "Zoë") for what in ("sings", "runs") for where in PLACES]
    train, held_out = [lines[k] for k in range(48) if k % 3], lines[::3]
    train[0], train[1] = "Ann <b>&\tsings</b>\n\x1b[31m", train[2]
    groups = [[text.split()[0] for text in texts] for texts in (train, held_out)]
    dataset = infl.from_documents(train, held_out, groups=groups[0], held_out_groups=groups[1], name="songs")
    algorithm = infl.Algorithm(
        "gpt", widths=(16,), hidden=(16,), optimizer="adam", learning_rate=0.02, epochs=6, batch_size=8
    )
    folder, design = tmp_path_factory.mktemp("songs") / "run", infl.Design("uniform", 0.7)
    return infl.train(dataset, run=folder, n_models=40, n_references=8, algorithm=algorithm, design=design)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count what `-m` leaves out."""
    global left_out
    left_out += len(items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process of pytest-xdist tells the first one."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["left_out"] = left_out


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object) -> None:
    """The first process hears it."""
    global left_out
    left_out = getattr(node, "workeroutput", {}).get("left_out", left_out)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Name it in the last line."""
    if left_out and config.getoption("markexpr") == "not slow" and not hasattr(config, "workeroutput"):
        print(f"left out: {left_out} slow tests and pyright; `make test-all` runs them")


@pytest.fixture(autouse=True)
def no_announcements(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a busy machine makes infl say while it waits is no part of what commands print."""
    monkeypatch.setattr("infl.pipeline.progress._SILENT", 3600.0)

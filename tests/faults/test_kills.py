"""A run that is killed anywhere, and started again by the same command, ends as if nothing had happened.

Long runs meet full queues, reboots and impatience, and the promise is that none of it costs a finished model or changes an
outcome. So real processes are killed with SIGKILL, which nothing can catch, at random moments: some while Python is still
importing, some while blocks are trained and written. What counts is compared with an undisturbed run of the same command.
Moments are drawn from a fixed seed, and those within training follow the blocks that are stored, so that a fast machine is
hit as often as a slow one.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import infl
from tests.blocks import stored_blocks, stored_models
from tests.pages import ROOT

N_MODELS, N_REFERENCES, BLOCK = 480, 8, 8
TRAIN = (
    f"train digits --n-train 150 --n-held-out 60 --epochs 3 --hidden 16 --n-models {N_MODELS} "
    f"--n-references {N_REFERENCES} --models-per-device {BLOCK} --n-devices 1"
)
# As `python -m infl`, where a shell that runs tests in the background may have had SIGINT ignored for all it starts.
START = (
    "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('infl', run_name='__main__', alter_sys=True)"
)
LONGEST = 120.0  # seconds until a hanging process is called one


def start(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", START, *TRAIN.split(), "--run", str(folder)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_blocks(process: subprocess.Popen[str], folder: Path, n_blocks: int) -> bool:
    """Whether the run came to hold that many blocks while the process was running."""
    deadline = time.monotonic() + LONGEST
    while process.poll() is None and time.monotonic() < deadline:
        if len(stored_blocks(folder)) >= n_blocks:
            return True
        time.sleep(0.002)
    return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> infl.Run:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    process = start(folder)
    _, errors = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, errors
    return infl.open_run(folder)


def assert_equal(run: infl.Run, undisturbed: infl.Run, collection: str) -> None:
    stored = run.outcomes(collection)
    mine, expected = stored.load(), undisturbed.outcomes(collection, stored.models).load()
    for name in ("masks", "correct", "margin"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(expected, name), err_msg=f"{collection} {name}")


@pytest.mark.slow
def test_a_run_killed_at_random_moments_equals_an_undisturbed_one(undisturbed: infl.Run, tmp_path: Path) -> None:
    folder, moments, hits = tmp_path / "run", random.Random(0), []
    for attempt in range(6):
        process = start(folder)
        before = len(stored_blocks(folder))
        if attempt % 3 == 0:
            time.sleep(moments.uniform(0.0, 1.5))
        else:
            wait_for_blocks(process, folder, before + moments.randint(1, 4))
            time.sleep(moments.uniform(0.0, 0.03))
        if process.poll() is None:
            hits.append(len(stored_blocks(folder)))
        process.kill()
        process.communicate(timeout=LONGEST)
    assert len(hits) >= 5
    written = stored_blocks(folder)
    assert 0 < hits[-1] < len(stored_blocks(undisturbed.folder))

    process = start(folder)
    _, errors = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, errors
    run = infl.open_run(folder)
    halves = {"design": N_MODELS // 2, "grouped": N_MODELS // 2}  # of the design that infl takes by itself
    for collection, n_models in {**halves, "full": N_REFERENCES}.items():
        assert run.outcomes(collection).models == tuple(range(n_models))
        assert_equal(run, undisturbed, collection)
    assert set(Counter(stored_models(folder)).values()) == {1}
    assert written.items() <= stored_blocks(folder).items()  # none was written again
    assert run.design_groups() == undisturbed.design_groups()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["ctrl-c", "terminated"]
)
def test_a_stopped_command_leaves_a_run_that_can_be_used(
    sent: signal.Signals, status: int, undisturbed: infl.Run, tmp_path: Path
) -> None:
    """Ctrl-C, and the SIGTERM that batch systems send some seconds before they kill."""
    process = start(tmp_path / "run")
    assert wait_for_blocks(process, tmp_path / "run", 2)
    process.send_signal(sent)
    _, errors = process.communicate(timeout=LONGEST)
    assert process.returncode == status, errors
    assert "what is complete is kept: run the same command again" in errors
    assert "Traceback" not in errors
    run = infl.open_run(tmp_path / "run")
    assert 2 * BLOCK <= sum(len(run.complete(name)) for name in ("design", "grouped")) < N_MODELS
    assert_equal(run, undisturbed, "design")
    assert np.isfinite(infl.memorization(run.outcomes("design")).value).any()

"""Trains on a Ray cluster of this machine while nodes and drivers are killed.

A round is a run of 40 blocks on three nodes of one core. At a random moment one node is killed, and later another joins;
or the run is trained, extended and verified, and the process that drives this is killed a few times in each and started again.
The run must equal one that was made in one process, bit for bit.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import infl

LAYOUT = infl.Layout(n_devices=1, models_per_device=4)
ALGORITHM = infl.Algorithm(hidden=(32,), epochs=30)
N_MODELS, N_REFERENCES = 152, 8
SETS = {"a": [1, 2, 3], "b": [4, 5]}
N_SEEDS = 16
KILLS = {"train": 3, "extend": 2, "verify": 2}  # of the driver, in one round

# In a process of its own: Ray starts nodes by fork, which may lock up one in which JAX runs.
NODES = """
import sys
from ray.cluster_utils import Cluster
memory = 1 << 27
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": memory})
nodes = [cluster.add_node(num_cpus=1, object_store_memory=memory) for _ in range(3)]
print("cluster:", cluster.address, flush=True)
for line in sys.stdin:
    if line.startswith("kill"):
        cluster.remove_node(nodes.pop(0), allow_graceful=False)
    else:
        nodes.append(cluster.add_node(num_cpus=1, object_store_memory=memory))
    print("cluster: done", flush=True)
cluster.shutdown()
"""
DRIVER = """
import sys
sys.path.insert(0, sys.argv[3])
import cluster
cluster.work(sys.argv[4], sys.argv[1], infl_engine=sys.argv[2])
"""


class Nodes:
    """A head that trains nothing and three nodes of one core each."""

    def __init__(self) -> None:
        pipe, silent = subprocess.PIPE, subprocess.DEVNULL
        self._process = subprocess.Popen(
            [sys.executable, "-c", NODES], stdin=pipe, stdout=pipe, stderr=silent, text=True
        )
        self.address = self._answer()

    def tell(self, what: str) -> None:
        """Do it and wait until it is done: `kill` or `add`."""
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)
        self._answer()

    def close(self) -> None:
        """End the cluster."""
        self._process.communicate()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        while not (line := self._process.stdout.readline()).startswith("cluster: "):
            assert line, "the process that holds the nodes ended"
        return line.removeprefix("cluster: ").strip()


def work(what: str, folder: str | Path, *, infl_engine: str | None) -> None:
    """A command of a round, in this process or on the cluster of that address."""
    engine = infl.Ray(infl_engine, cpus=1) if infl_engine else None
    if what == "verify":
        effects = infl.verify_effects(
            folder, SETS, n_models=N_SEEDS, stop=None, layout=LAYOUT, engine=engine, quiet=True
        )
        for _ in effects:
            pass
        return
    infl.train(
        infl.load("digits", n_train=300, n_held_out=100),
        run=folder,
        n_models=N_MODELS // 2 if what == "train" else N_MODELS,
        n_references=N_REFERENCES,
        design=infl.Design("uniform", 0.7),
        algorithm=ALGORITHM,
        layout=LAYOUT,
        engine=engine,
        quiet=True,
    )


def rounds(folder: Path, seeds: Iterator[int]) -> Iterator[dict[str, Any]]:
    """One after another: in even ones a node is killed and another joins, in odd ones the driver is killed seven times."""
    for what in ("extend", "verify"):
        work(what, folder / "local", infl_engine=None)
    local = infl.open_run(folder / "local")
    for seed in seeds:
        draw, nodes, run = random.Random(seed), Nodes(), folder / f"round-{seed}"
        start = time.perf_counter()
        kind = "node" if seed % 2 == 0 else "driver"
        try:
            moments = (_lose_a_node if kind == "node" else _lose_drivers)(draw, nodes, run)
        finally:
            nodes.close()
        yield {
            "seed": seed,
            "lost": kind,
            "models_on_disk_then": moments,
            "equal": _equal(local, infl.open_run(run)),
            "seconds": round(time.perf_counter() - start, 1),
        }


def _lose_a_node(draw: random.Random, nodes: Nodes, run: Path) -> list[int]:
    driver = _start_driver("extend", nodes, run)
    moments = []
    for what, least, most in (("kill", 1, N_MODELS // 3), ("add", N_MODELS // 3, N_MODELS // 2)):
        _wait_until(run, draw.randint(least, most), driver)
        nodes.tell(what)
        moments.append(_n_models(run))
    assert driver.wait() == 0, "the driver failed"
    return moments


def _lose_drivers(draw: random.Random, nodes: Nodes, run: Path) -> list[int]:
    moments: list[int] = []
    for what, n_kills in KILLS.items():
        for _ in range(n_kills):
            driver = _start_driver(what, nodes, run)
            _wait_until(run, _n_models(run) + draw.randint(1, N_MODELS // 8 if what != "verify" else 12), driver)
            time.sleep(draw.uniform(0, 0.1))
            if driver.poll() is not None:
                break
            driver.kill()
            driver.wait()
            moments.append(_n_models(run))
        assert _start_driver(what, nodes, run).wait() == 0, "the last driver failed"
    return moments


def _start_driver(what: str, nodes: Nodes, run: Path) -> subprocess.Popen[bytes]:
    here = str(Path(__file__).parent)
    return subprocess.Popen([sys.executable, "-c", DRIVER, str(run), nodes.address, here, what])


def _wait_until(run: Path, n_models: int, driver: subprocess.Popen[bytes]) -> None:
    while driver.poll() is None and _n_models(run) < n_models:
        time.sleep(0.02)


def _n_models(run: Path) -> int:
    try:
        opened = infl.open_run(run)
    except infl.InputError:
        return 0
    return sum(len(opened.complete(name)) for name in opened.collections())


def _equal(local: infl.Run, run: infl.Run) -> bool:
    """Whether the models of the run are those of the local one; only a run that was verified has models without a set."""
    verified = any(name.startswith("without-") for name in run.collections())
    for collection in local.collections() if verified else ("design", "full"):
        mine = run.complete(collection)
        if mine != local.complete(collection)[: None if verified or collection == "design" else N_REFERENCES]:
            return False
        left, right = (one.outcomes(collection, mine).load() for one in (local, run))
        if not all(
            np.array_equal(getattr(left, name), getattr(right, name)) for name in ("masks", "correct", "margin")
        ):
            return False
    return True

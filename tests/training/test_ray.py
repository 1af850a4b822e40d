"""Where a model is trained changes nothing about it, and a worker or node that is lost costs time alone.

Each model follows from the seed and its number, so blocks may be trained anywhere, in any order and more than once, and the run
on disk must hold the same bits as one that this process trained. The cluster is real: several nodes of Ray on this machine,
of which some are killed and added while models are trained.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import infl
from infl.__main__ import main
from infl.records import InputError
from infl.training.ray import LOOPBACK, MAX_BATCHES_OF_A_WORKER, MAX_TRIES, Ray, Workers
from infl.unlearning.problem import Problem
from tests.blocks import assert_same_outcomes

pytest.importorskip("ray")
from ray import cloudpickle

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test

ALGORITHM = infl.Algorithm(hidden=(8,), epochs=2, batch_size=20)
LAYOUT = infl.Layout(n_devices=1, models_per_device=2)


# In a process of its own: Ray starts nodes by fork, which may lock up one in which JAX runs.
CLUSTER = """
import sys
from ray.cluster_utils import Cluster
memory = 1 << 27
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": memory})
nodes = [cluster.add_node(num_cpus=1, object_store_memory=memory) for _ in range(2)]
print("cluster:", cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(nodes.pop(0), allow_graceful=False)
    nodes.append(cluster.add_node(num_cpus=1, object_store_memory=memory))
    print("cluster: replaced", flush=True)
cluster.shutdown()
"""


class Cluster:
    """A head that trains nothing and two nodes of one core each."""

    def __init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-c", CLUSTER], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self.address = self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        while not (line := self._process.stdout.readline()).startswith("cluster: "):
            assert line, "the process that holds the cluster ended"
        return line.removeprefix("cluster: ").strip()

    def replace_node(self) -> None:
        """Kill a node and add another."""
        assert self._process.stdin is not None
        print("replace", file=self._process.stdin, flush=True)
        assert self._answer() == "replaced"

    def shutdown(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster for all tests here."""
    made = Cluster()
    yield made
    made.shutdown()


class Square:
    """Work that a test can look into: squares numbers, and dies where it is told to."""

    def __init__(self, marks: Path, fatal: int | None = None) -> None:
        self.marks, self.fatal = marks, fatal

    def square(self, number: int) -> int:
        (self.marks / f"{number}-{time.time_ns()}").touch()
        if number == self.fatal:
            os._exit(1)
        time.sleep(0.05)
        return number**2


@pytest.mark.slow
def test_batches_wait_for_whoever_takes_the_outcomes(cluster: Cluster, tmp_path: Path) -> None:
    made: list[int] = []

    def numbers() -> Iterator[tuple[int]]:
        for number in range(40):
            made.append(number)
            yield (number,)

    with closing(Workers(Ray(cluster.address, cpus=1), partial(Square, tmp_path))) as workers:
        for taken, _ in enumerate(workers.run("square", numbers())):
            time.sleep(0.02)
            assert len(made) <= taken + 1 + 2 * (MAX_BATCHES_OF_A_WORKER + 1)


@pytest.mark.slow
def test_a_batch_that_kills_its_worker_is_given_up_with_its_number(cluster: Cluster, tmp_path: Path) -> None:
    with closing(Workers(Ray(cluster.address, cpus=1), partial(Square, tmp_path, fatal=3))) as workers:
        with pytest.raises(InputError, match=r"batch \d was lost with its worker 4 times"):
            list(workers.run("square", ((number,) for number in range(6))))
        assert 0 < len(list(tmp_path.glob("3-*"))) <= MAX_TRIES


def train(dataset: infl.Dataset, run: Path, **settings: Any) -> infl.Run:
    settings = {"n_models": 24, "n_references": 4, "layout": LAYOUT, "quiet": True} | settings
    return infl.train(dataset, run=run, design=infl.Design("uniform", 0.7), algorithm=ALGORITHM, **settings)


@pytest.mark.slow
def test_a_killed_node_and_a_new_one_change_no_bit(
    cluster: Cluster, small_digits: infl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon after the start a node is killed and another joins; training goes on to the same bits, and verification too."""
    local = train(small_digits, tmp_path / "local", n_models=60)
    write, written = infl.Run.write, []

    def break_down(run: infl.Run, collection: str, models: list[int], *rest: Any, **more: Any) -> None:
        write(run, collection, models, *rest, **more)
        written.extend((collection, model) for model in models)
        if 8 <= len(written) < 10:
            cluster.replace_node()

    monkeypatch.setattr(infl.Run, "write", break_down)
    engine = Ray(cluster.address, cpus=1)
    run = train(small_digits, tmp_path / "ray", n_models=60, engine=engine)
    monkeypatch.undo()
    assert len(written) == len(set(written)) == 64
    assert_same_outcomes(local, run, "design", "full")
    assert run.sessions[-1]["engine"] == "ray"
    train(
        small_digits, tmp_path / "ray", n_models=60, engine=Ray("nowhere:1")
    )  # nothing is missing: no cluster is asked

    sets = {"three": [0, 1, 2]}
    one, other = (
        next(infl.verify_effects(of, sets, n_models=6, stop=None, layout=LAYOUT, engine=by, quiet=True))
        for of, by in ((local, None), (run, engine))
    )
    np.testing.assert_array_equal(one.effect, other.effect)


def scale(params: Any, key: jax.Array, problem: Problem, *, factor: Any = 0.5) -> Any:
    """A method of one's own that leans on all that workers are given: the weights of a model of D, its key, and S."""
    noise = jax.random.normal(key, problem.forget.shape) @ problem.forget
    return jax.tree.map(lambda leaf: factor * leaf + 0.01 * noise, params)


@pytest.mark.slow
def test_unlearning_on_a_cluster_changes_no_bit(cluster: Cluster, small_digits: infl.Dataset, tmp_path: Path) -> None:
    run, sets = train(small_digits, tmp_path / "local", n_models=1), {"one": [0], "three": [1, 2, 3]}
    infl.keep_weights(run, n_models=4, quiet=True)
    shutil.copytree(run.folder, tmp_path / "ray")
    settings: Any = {"method": scale, "factor": 0.8, "n_models": 4, "layout": LAYOUT, "quiet": True}
    names = infl.unlearn(run, sets, **settings)
    infl.unlearn(tmp_path / "ray", sets, engine=Ray(cluster.address, cpus=1, n_workers=1), **settings)
    found = infl.open_run(tmp_path / "ray")
    assert found.sessions[-1]["engine"] == "ray"
    assert_same_outcomes(infl.open_run(run.place), found, *names.values())


@pytest.mark.slow
def test_a_mistake_of_the_users_comes_back_as_itself(
    cluster: Cluster, small_digits: infl.Dataset, tmp_path: Path
) -> None:
    engine = Ray(cluster.address, cpus=1)
    with pytest.raises(InputError, match="n_devices: this machine has 1 cpu"):
        train(small_digits, tmp_path / "run", layout=infl.Layout(n_devices=3), engine=engine)
    with pytest.raises(InputError, match="no node of the Ray cluster holds a worker of 9 cores and 0 GPUs.*1 cores"):
        train(small_digits, tmp_path / "run", engine=Ray(cluster.address, cpus=9))
    with pytest.raises(InputError, match="no Ray cluster answers at"):
        train(small_digits, tmp_path / "run", engine=Ray("127.0.0.1:1"))


@pytest.mark.slow
def test_software_that_a_worker_lacks_is_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("def make():\n    return None\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here  # pyright: ignore[reportMissingImports]

    lacking = pytest.raises(InputError, match="install the same software on all nodes.*only_here")
    with closing(Workers(Ray(cluster.address, cpus=1), only_here.make)) as workers, lacking:
        workers.call("anything")


@pytest.mark.parametrize("settings", [{"cpus": 0}, {"n_workers": 0}, {"gpus": -1}, {"gpus": 1.5}])
def test_settings_out_of_range_are_named(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"{next(iter(settings))} of a Ray worker: expected"):
        Ray(**settings)


@pytest.mark.slow
def test_the_command_starts_a_cluster_of_this_machine_and_ends_it(small_digits: infl.Dataset, tmp_path: Path) -> None:
    infl.write_npz(tmp_path / "data.npz", small_digits)
    words = [
        "train",
        str(tmp_path / "data.npz"),
        *["--design", "uniform", "--n-models", "9", "--n-references", "2", "--models-per-device", "2"],
    ]
    words += ["--hidden", "8", "--epochs", "2", "--batch-size", "20"]
    runs = []
    for name, options in (("local", []), ("ray", ["--engine", "ray", "--ray.cpus", "1", "--ray.n-workers", "1"])):
        command = [sys.executable, "-m", "infl", *words, "--run", str(tmp_path / name), *options]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        runs.append(infl.open_run(tmp_path / name))
    assert [run.sessions[-1].get("engine") for run in runs] == [None, "ray"]
    assert_same_outcomes(*runs, "design", "full")


@pytest.mark.slow
def test_a_cluster_of_this_machine_listens_on_loopback_and_ends_with_who_asked_for_it() -> None:
    pipe = subprocess.PIPE
    environment = {**os.environ, **LOOPBACK, "RAY_AUTH_TOKEN": "0" * 64}
    head = subprocess.Popen(
        [sys.executable, "-m", "infl.training.ray"], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment
    )
    assert head.stdout is not None
    address = head.stdout.readline().strip()
    assert address.startswith("127.0.0.1:")
    head.communicate()
    with pytest.raises(InputError, match="no Ray cluster answers at"):
        Workers(Ray(address), dict)


def test_settings_of_ray_want_the_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "digits", "--run", str(tmp_path / "run"), "--ray.n-workers", "2"]) == 2
    assert "are settings of --engine ray" in capsys.readouterr().err


def test_without_ray_the_extra_is_named(
    small_digits: infl.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'infl\[ray\]'"):
        train(small_digits, tmp_path / "run", engine=Ray())

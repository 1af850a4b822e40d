"""Runs batches of work on the workers of a Ray cluster, which may come and go; each batch's outcome comes back once.

A worker is a Ray actor that keeps what it has made - data on its device, compiled programs - from batch to batch. At most two
batches are with a worker: one that it works on and one that waits, so that it is never idle and memory does not grow with the
number of batches. Where a worker is lost, with its node or alone, its batches go to others: Ray's own restarts
(`max_restarts`) would hold them back until the cluster has room for that same worker again.

Ray sends Python objects as pickles between the driver and its workers: a cluster is as trusted as this machine. One that is
started here listens on loopback alone, and a process without JAX holds it: `python -m infl.training.ray`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from infl.records import InputError

MAX_BATCHES_OF_A_WORKER = 2
MAX_TRIES = 4  # of a batch, and of workers in a row to start
SECONDS_BETWEEN_LOOKS = 2.0
# For a cluster of this machine: listen on loopback, as Ray does on other systems than Linux, and to who has the token alone.
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}


@dataclass(frozen=True)
class Ray:
    """A Ray cluster, and what a worker of it takes. Affects speed only.

    Attributes:
        address: Of the cluster's head, `HOST:PORT`, `auto` or `ray://HOST:PORT`; None for the one that the environment
            names (`RAY_ADDRESS`, which `ray job submit` sets), else for a cluster of this machine, started for the
            call.
        cpus: Cores of one worker; None for all of a node that has no GPU to be used, and one core else.
        gpus: GPUs of one worker. Less than one lets workers share one, and each takes its share of the memory.
        n_workers: None for as many as the nodes hold, and more when nodes join. A number is asked for even where there
            is no room yet, so that a cluster which scales itself adds nodes.

    Raises:
        InputError: for a setting out of its range.
    """

    address: str | None = None
    cpus: int | None = None
    gpus: float = 0
    n_workers: int | None = None

    def __post_init__(self) -> None:
        for name in ("cpus", "n_workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} of a Ray worker: expected at least 1, got {value}")
        if self.gpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise InputError(f"gpus of a Ray worker: expected a whole number or a fraction of one, got {self.gpus}")


@dataclass
class _Worker:
    """An actor; `ready` until it has started; its tasks are number and arguments of each batch, by reference of the outcome."""

    actor: Any
    ready: Any | None
    tasks: dict[Any, tuple[int, tuple[Any, ...]]] = field(default_factory=dict)


class Workers:
    """The workers of a cluster, each with what `make` made on it; ends them when closed.

    Args:
        make: Called once on each worker, for what has the methods that are called.
    """

    def __init__(self, settings: Ray, make: Callable[[], Any]) -> None:
        self.settings = settings
        self._ray, self._disconnect = _connect(settings)
        self._workers: list[_Worker] = []
        self._failures, self._looked = 0, -SECONDS_BETWEEN_LOOKS
        try:
            cores = [int(node["CPU"]) for node in _nodes(self._ray) if node.get("CPU", 0) >= 1]
            self._cpus = settings.cpus or (1 if settings.gpus else min(cores, default=1))
            self._make = self._ray.put(make)
            if settings.n_workers is None and not self._room():
                nodes = (f"{node.get('CPU', 0):g} cores, {node.get('GPU', 0):g} GPUs" for node in _nodes(self._ray))
                raise InputError(
                    f"no node of the Ray cluster holds a worker of {self._cpus} cores and {settings.gpus:g} GPUs; "
                    f"its nodes have: {'; '.join(nodes) or 'nothing'}"
                )
        except BaseException:
            self.close()
            raise

    @property
    def n_wanted(self) -> int:
        """Workers that there is room for now, or that were asked for."""
        return self.settings.n_workers or self._room()

    def call(self, method: str, *arguments: Any) -> Any:
        """What the method gives on the first worker that is there."""
        return next(self.run(method, [arguments]))[1]

    def run(self, method: str, batches: Iterable[tuple[Any, ...]]) -> Iterator[tuple[int, Any]]:
        """Yield (number of the batch, outcome) in the order in which they are finished.

        Args:
            method: What is called on a worker.
            batches: Its arguments, taken when they are to be sent and not long before.
        """
        source, waiting = enumerate(batches), deque[tuple[int, tuple[Any, ...]]]()
        tries: Counter[int] = Counter()
        while True:
            self._keep_up()
            # No more than the workers can take soon, and where some were lost, what they had comes first.
            waiting.extend(islice(source, max(len(self._workers) - len(waiting), 0 if waiting else 1)))
            self._send(method, waiting)
            if not waiting and not any(worker.tasks for worker in self._workers):
                return
            for worker, reference in self._finished():
                try:
                    outcome = self._get(reference)
                except self._losses():
                    tries.update(number for number, _ in worker.tasks.values())
                    for number, _ in worker.tasks.values():
                        if tries[number] >= MAX_TRIES:
                            raise InputError(
                                f"batch {number + 1} was lost with its worker {MAX_TRIES} times: "
                                "the memory of a node may be too small for it; Ray's logs say why"
                            ) from None
                    waiting.extendleft(reversed(worker.tasks.values()))
                    self._give_up(worker)
                    break
                number, _ = worker.tasks.pop(reference)
                yield number, outcome

    def close(self) -> None:
        """End the workers, and the cluster where it was started for them."""
        while self._workers:
            self._give_up(self._workers[-1])
        self._disconnect()
        self._disconnect = lambda: None

    def _send(self, method: str, waiting: deque[tuple[int, tuple[Any, ...]]]) -> None:
        """Give batches to the workers: one to each, and a second where enough wait to keep the others busy too."""
        for most in range(1, MAX_BATCHES_OF_A_WORKER + 1):
            for worker in self._workers:
                enough = len(waiting) >= (1 if most == 1 else len(self._workers))
                if worker.ready is None and len(worker.tasks) < most and enough:
                    task = waiting.popleft()
                    worker.tasks[worker.actor.call.remote(method, task[1])] = task

    def _finished(self) -> list[tuple[_Worker, Any]]:
        """What is done, after waiting a while for it; workers that have started meanwhile are put to work."""
        by_reference = {reference: worker for worker in self._workers for reference in worker.tasks}
        starting = {worker.ready: worker for worker in self._workers if worker.ready is not None}
        wanted = [*by_reference, *starting]
        if not wanted:
            time.sleep(0.1)
            return []
        done, _ = self._ray.wait(wanted, num_returns=1, timeout=SECONDS_BETWEEN_LOOKS)
        if done:  # what else is done by now
            done, _ = self._ray.wait(wanted, num_returns=len(wanted), timeout=0)
        for reference in done:
            if reference in starting:
                self._welcome(starting[reference])
        return [(by_reference[reference], reference) for reference in done if reference in by_reference]

    def _welcome(self, worker: _Worker) -> None:
        try:
            self._get(worker.ready)
            worker.ready, self._failures = None, 0
        except self._losses() as loss:
            self._give_up(worker)
            self._failures += 1
            if self._failures >= MAX_TRIES:
                raise InputError(f"{MAX_TRIES} workers in a row were lost while they started: {_line(loss)}") from None

    def _give_up(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._looked = -SECONDS_BETWEEN_LOOKS
        with contextlib.suppress(Exception):
            self._ray.kill(worker.actor)

    def _keep_up(self) -> None:
        """Ask for as many workers as there is room for now, every two seconds at most."""
        if time.monotonic() - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        self._looked = time.monotonic()
        options: dict[str, Any] = {"num_cpus": self._cpus, "num_gpus": self.settings.gpus}
        if 0 < self.settings.gpus < 1:
            # A share of a GPU is a share of its memory too, of which JAX would take three quarters.
            shared = {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.9 * self.settings.gpus:.3f}"}
            options["runtime_env"] = {"env_vars": shared}
        for _ in range(self.n_wanted - len(self._workers)):
            actor = self._ray.remote(_Actor).options(max_restarts=0, **options).remote()
            ready = actor.ready.remote(self._make, self._cpus, self.settings.gpus > 0)
            self._workers.append(_Worker(actor, ready))

    def _room(self) -> int:
        """Workers that the nodes of the cluster hold."""
        gpus, n_workers = self.settings.gpus, 0
        for node in _nodes(self._ray):
            by_cpus = int(node.get("CPU", 0) // self._cpus)
            n_workers += min(by_cpus, int(node.get("GPU", 0) / gpus + 1e-9)) if gpus else by_cpus
        return n_workers

    def _get(self, reference: Any) -> Any:
        """What a worker returned; what it raised, as itself where it is a user's mistake."""
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from None
            if isinstance(error.cause, ImportError) or "ModuleNotFoundError" in str(error):
                raise InputError(
                    "a worker of the Ray cluster lacks a module that this process has; install the same software on all "
                    f"nodes: {_line(error)}"
                ) from error
            raise

    def _losses(self) -> tuple[type[Exception], ...]:
        errors = self._ray.exceptions
        return (errors.RayActorError, errors.ObjectLostError, errors.WorkerCrashedError, errors.NodeDiedError)


class _Actor:
    """Runs on a worker: makes once what works, then calls its methods."""

    def ready(self, make: Callable[[], Any], cpus: int, on_gpu: bool) -> bool:
        # No constructor: what goes wrong in a method comes back as itself and not as the loss of an actor.
        import jax

        # JAX would see all cores of the node, and on one with GPUs those that Ray keeps from this worker.
        jax.config.update("jax_num_cpu_devices", cpus)
        if not on_gpu:
            jax.config.update("jax_platforms", "cpu")
        self._work = make()
        return True

    def call(self, name: str, arguments: tuple[Any, ...]) -> Any:
        return getattr(self._work, name)(*arguments)


def _import_ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise InputError("the Ray engine needs Ray: pip install 'infl[ray]'") from error
    return ray


def _connect(settings: Ray) -> tuple[Any, Callable[[], None]]:
    """Join the cluster that was named, or start one of this machine; returns Ray and what undoes that."""
    address = settings.address or os.environ.get("RAY_ADDRESS")
    if address:
        _check_answers(address)
    else:
        for name, value in LOOPBACK.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    ray = _import_ray()
    if ray.is_initialized():
        return ray, lambda: None
    with contextlib.ExitStack() as undo:
        try:
            head = address or undo.enter_context(_head())
            ray.init(address=head, log_to_driver=False, logging_level="error")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise InputError(f"no Ray cluster answers at {address or 'this machine'}: {_line(error)}") from error
        undo.callback(ray.shutdown)
        return ray, undo.pop_all().close


def _check_answers(address: str) -> None:
    """Ray itself waits for minutes where nothing listens."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host and address == "auto":
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(f"no Ray cluster answers at {address}: {error}; expected HOST:PORT of its head") from None


@contextlib.contextmanager
def _head() -> Iterator[str]:
    """The address of a cluster of this machine, which a process holds that Ctrl-C does not reach; see `main`."""
    command, pipe = [sys.executable, "-m", "infl.training.ray"], subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    try:
        if not address:
            raise RuntimeError(process.communicate()[1] or "it did not start")
        yield address
    finally:
        process.communicate()


def _nodes(ray: Any) -> list[dict[str, float]]:
    """Resources of each node that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _line(error: Exception) -> str:
    """The last line of a remote error's text, which says what it was."""
    return next(line.strip() for line in reversed(f"{type(error).__name__}\n{error}".splitlines()) if line.strip())


def main() -> None:
    """Start a cluster as the environment says, print its address, wait, end it."""
    import ray

    ray.init(address="local", include_dashboard=False, configure_logging=False, log_to_driver=False)
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
    ray.shutdown()


if __name__ == "__main__":
    main()

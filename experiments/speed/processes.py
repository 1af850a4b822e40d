"""Turns an arm into its measured speed: one single-threaded process per core, pinned to it, all timed at once.

What an arm needs before its first model (imports, data, compilation) is done before the clock starts; all processes then start
together. Each arm is a function `prepare(task, pixels, labels, steps=None, **settings) ->
(train, compile_seconds)`, and `train(subsets, seed)` returns which examples each of the models gets right, [models, N] bool, or
None where only some steps of each are trained.
"""

from __future__ import annotations

import importlib
import math
import multiprocessing
import os
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks import Task, draw_subsets, load

ONE_THREAD = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "JAX_PLATFORMS": "cpu",
}


def cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def measure_arm(
    module: str,
    function: str,
    settings: dict[str, Any],
    task: Task,
    *,
    models: int,
    steps: int | None = None,
    seed: int,
    alone: bool = False,
) -> dict[str, Any]:
    """Speed of an arm: `models` on each core.

    steps: train only that many steps of each model, and evaluate none. Rates are then those of whole models: the share of a
        model's operations that was done, over the seconds that it took.
    alone: in this process and nowhere else, to see quickly whether it runs.
    """
    jobs = [
        (module, function, settings, task, models, steps, seed * 1000 + number)
        for number in range(1 if alone else len(cores()))
    ]
    whole = time.perf_counter()
    measured = [_work(*jobs[0], lambda: None)] if alone else run_together(_work, jobs)
    whole = time.perf_counter() - whole
    done = models * task.share_of_model(steps)
    total = done * len(measured)
    result: dict[str, Any] = {
        "models_per_second": sum(done / one["seconds"] for one in measured),
        "cpu_seconds_per_model": sum(one["cpu_seconds"] for one in measured) / total,
        "compile_seconds": statistics.mean(one["compile_seconds"] for one in measured),
        "peak_megabytes": sum(one["peak_megabytes"] for one in measured),
        "seconds": max(one["seconds"] for one in measured),
        "whole_seconds": whole,
        "models": models * len(measured),
    }
    if steps is None:
        result["held_out_accuracy"] = describe_accuracies([a for one in measured for a in one["accuracies"]])
    else:
        result["steps"] = steps
    return result


def describe_accuracies(accuracies: list[float]) -> dict[str, float]:
    """Number of models, mean and standard deviation."""
    sd = statistics.stdev(accuracies) if len(accuracies) > 1 else math.nan
    return {"models": len(accuracies), "mean": statistics.mean(accuracies), "sd": sd}


def run_command(command: list[str], *, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a command to its end: seconds, seconds of all cores, peak memory, and what it wrote to stderr.

    It finds nothing in infl's cache folder: neither compiled programs nor layouts.

    Raises:
        RuntimeError: where it fails.
    """
    with tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"INFL_CACHE_DIR": cache} | (environment or {}),
        )
        assert process.stderr is not None
        errors = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{errors[-3000:]}")
    return {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_megabytes": usage.ru_maxrss * _MAXRSS_UNIT / 1e6,
        "stderr": errors,
    }


def run_together(function: Any, jobs: list[tuple]) -> list[Any]:
    """Call function(*job, ready) for each job in a process and on a core of its own; `ready()` waits for all others.

    Raises:
        RuntimeError: with the message of the first one that fails.
    """
    context = multiprocessing.get_context("spawn")
    barrier, queue = context.Barrier(len(jobs)), context.Queue()
    own = cores()
    with _environment(ONE_THREAD):
        running = [
            context.Process(target=_run, args=(function, job, number, own[number % len(own)], barrier, queue))
            for number, job in enumerate(jobs)
        ]
        for process in running:
            process.start()
        results = dict(queue.get() for _ in running)
        for process in running:
            process.join()
    failures = [result for result in results.values() if isinstance(result, str)]
    if failures:
        raise RuntimeError(next((f for f in failures if "BrokenBarrierError" not in f), failures[0]))
    return [results[number] for number in range(len(jobs))]


_MAXRSS_UNIT = 1024 if os.uname().sysname == "Linux" else 1


def _run(function: Any, job: tuple, number: int, core: int, barrier: Any, queue: Any) -> None:
    try:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {core})
        queue.put((number, function(*job, barrier.wait)))
    except BaseException as error:  # the parent waits for an answer from every process
        barrier.abort()
        queue.put((number, f"{type(error).__name__}: {error}"))


def _work(
    module: str,
    function: str,
    settings: dict[str, Any],
    task: Task,
    models: int,
    steps: int | None,
    seed: int,
    ready: Any,
) -> dict[str, Any]:
    pixels, labels = load(task)
    prepare = getattr(importlib.import_module(module), function)
    train, compile_seconds = prepare(task, pixels, labels, steps=steps, **settings)
    subsets = draw_subsets(task, models, seed=seed)
    ready()
    start, cpu = time.perf_counter(), time.process_time()
    correct = train(subsets, seed)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    accuracies = [] if correct is None else correct[:, task.n_train :].mean(axis=1).tolist()
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "compile_seconds": compile_seconds,
        "peak_megabytes": _peak_megabytes(),
        "accuracies": accuracies,
    }


def _peak_megabytes() -> float:
    # What getrusage says may be inherited from the parent on Linux.
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT / 1e6


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})

"""How fast does `infl train` train, against an eager PyTorch loop and against the machine's own matrix product?

    python experiments/speed/run.py            # about 4 minutes on two cores, needs the extra `torch`
    python experiments/speed/run.py --small    # under a minute

Task T1: models of 700 of the 1,000 digits, MLP 64-256-10, batch 50, 30 epochs, SGD with momentum, each judged on all 1,797
digits at the end. Arms, interleaved in every round:

- sgemm: NumPy's float32 product of 2048 x 2048 matrices, one single-threaded process per core;
- torch: an eager PyTorch loop, one single-threaded process per core, model after model;
- infl:  the command `infl train digits --models 1000 --references 0`, disk included. `models_per_second` leaves out
  start-up and compilation (both are reported apart); `whole_command_models_per_second` leaves out nothing.

Writes results.json with the raw numbers of every round.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import surroundings, write_results

N_TRAIN, SUBSET, FEATURES, HIDDEN, CLASSES, N_ALL = 1000, 700, 64, 256, 10, 1797
BATCH, EPOCHS, LEARNING_RATE, MOMENTUM = 50, 30, 0.05, 0.9
# Multiply-adds x 2: forward, and backward to both layers' weights and to the hidden layer; no gradient to the pixels.
FLOP_TRAINING = SUBSET * EPOCHS * (4 * FEATURES * HIDDEN + 6 * HIDDEN * CLASSES)
FLOP_PER_MODEL = FLOP_TRAINING + N_ALL * 2 * (FEATURES * HIDDEN + HIDDEN * CLASSES)


def main() -> None:
    """Run all rounds and write results.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="one round of few models")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    options = parser.parse_args()
    n_rounds, n_torch, n_infl = (1, 4, 100) if options.small else (5, 40, 1000)

    rounds = []
    for index in range(n_rounds):
        measured = {"sgemm": measure_sgemm(), "torch": measure_torch(n_torch), "infl": measure_infl(n_infl, seed=index)}
        rounds.append(measured)
        print(json.dumps(measured), flush=True)

    summary = summarize(rounds)
    print(json.dumps(summary, indent=1))
    task = {"flop_per_model": FLOP_PER_MODEL, "subset": SUBSET, "batch": BATCH, "epochs": EPOCHS, "hidden": HIDDEN}
    results = {"summary": summary, "rounds": rounds, "task": task, **surroundings("torch")}
    write_results(options.out, results)


def summarize(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds of rates, and of the ratios of arms measured side by side in one round, with their range."""

    def median(arm: str, key: str) -> float:
        return statistics.median(r[arm][key] for r in rounds)

    def ratio(values: list[float]) -> dict[str, float]:
        return {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}

    rates = [r["infl"]["models_per_second"] for r in rounds]
    gflop = [rate * FLOP_PER_MODEL / 1e9 for rate in rates]
    summary: dict[str, Any] = {
        "infl_models_per_second": statistics.median(rates),
        "infl_gflop_per_second": statistics.median(gflop),
        "sgemm_gflop_per_second": median("sgemm", "gflop_per_second"),
        "infl_share_of_sgemm": ratio(
            [mine / r["sgemm"]["gflop_per_second"] for mine, r in zip(gflop, rounds, strict=True)]
        ),
        "infl_held_out_accuracy": median("infl", "held_out_accuracy"),
    }
    if all(r["torch"] for r in rounds):
        torch = [r["torch"]["models_per_second"] for r in rounds]
        whole = [r["infl"]["whole_command_models_per_second"] for r in rounds]
        summary |= {
            "torch_models_per_second": statistics.median(torch),
            "infl_over_torch": ratio([mine / other for mine, other in zip(rates, torch, strict=True)]),
            "infl_whole_command_over_torch": ratio([mine / other for mine, other in zip(whole, torch, strict=True)]),
            "torch_held_out_accuracy": median("torch", "held_out_accuracy"),
        }
    return summary


def measure_sgemm() -> dict[str, float]:
    """Total float32 rate of one single-threaded NumPy process per core."""
    rates = _in_processes(_sgemm_process, [()] * _cores())
    return {"gflop_per_second": sum(rates)}


def measure_torch(n_models: int) -> dict[str, float] | None:
    """Eager PyTorch, one single-threaded process per core; None where torch is not installed."""
    try:
        import torch  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    cores = _cores()
    shares = [n_models // cores] * cores
    results = _in_processes(_torch_process, [(share, seed) for seed, share in enumerate(shares)])
    return {
        "models_per_second": sum(share / seconds for share, (seconds, _) in zip(shares, results, strict=True)),
        "held_out_accuracy": statistics.mean(accuracy for _, accuracy in results),
    }


def measure_infl(n_models: int, *, seed: int) -> dict[str, float]:
    """The command as a user types it, in a process and a run folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        run = str(Path(folder) / "run")
        command = [sys.executable, "-m", "infl", "train", "digits", "--models", str(n_models), "--references", "0"]
        command += ["--run", run, "--seed", str(seed), "--json", f"{folder}/run.json"]
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        whole = time.perf_counter() - start
        journal = [json.loads(line.rpartition("\t")[0]) for line in Path(run, "journal.jsonl").read_text().splitlines()]
        blocks = [line for line in journal if "models" in line]
        # The first block holds the compilation; what the others took is the steady rate, writing to disk included.
        later = blocks[1:]
        n_later = sum(len(block["models"]) for block in later)
        import infl

        outcomes = infl.open_run(run).outcomes("design").load()
        assert outcomes.correct is not None
        return {
            "models_per_second": n_later / sum(block["seconds"] for block in later),
            "whole_command_models_per_second": n_models / whole,
            "whole_command_seconds": whole,
            "first_block_seconds": blocks[0]["seconds"],
            "held_out_accuracy": float(outcomes.correct[:, outcomes.n_train :].mean()),
        }


def _sgemm_process() -> float:
    import numpy as np

    a = np.random.RandomState(0).rand(2048, 2048).astype(np.float32)
    np.matmul(a, a)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 2:
        np.matmul(a, a)
        count += 1
    return count * 2 * 2048**3 / (time.perf_counter() - start) / 1e9


def _torch_process(n_models: int, seed: int) -> tuple[float, float]:
    import numpy as np
    import torch  # pyright: ignore[reportMissingImports]

    import infl

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    data = infl.load("digits")
    x = torch.from_numpy(data.images.reshape(N_ALL, FEATURES))
    y = torch.from_numpy(data.labels.astype(np.int64))
    accuracies = []
    start = time.perf_counter()
    for _ in range(n_models):
        members = torch.randperm(N_TRAIN)[:SUBSET]
        network = torch.nn.Sequential(
            torch.nn.Linear(FEATURES, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, CLASSES)
        )
        optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
        for _ in range(EPOCHS):
            order = members[torch.randperm(SUBSET)]
            for first in range(0, SUBSET, BATCH):
                batch = order[first : first + BATCH]
                optimizer.zero_grad(set_to_none=True)
                torch.nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
                optimizer.step()
        with torch.no_grad():
            log_p = torch.log_softmax(network(x), dim=1)
            own = log_p.gather(1, y[:, None])[:, 0]
            margin = own - log_p.scatter(1, y[:, None], -torch.inf).amax(dim=1)
            correct = log_p.argmax(dim=1) == y
            accuracies.append(float(correct[N_TRAIN:].float().mean()) + 0 * float(margin[0]))
    return time.perf_counter() - start, statistics.mean(accuracies)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_processes(function: Any, arguments: list[tuple]) -> list[Any]:
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        with multiprocessing.get_context("spawn").Pool(len(arguments)) as pool:
            return pool.starmap(function, arguments)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


if __name__ == "__main__":
    main()

"""What else must hold of speed: cost grows with the number of models alone, cores add up, and verifying compiles once.

And scores agree: those of PyTorch's models with those of infl's, the second half of the validity gate, and those of models
trained in bfloat16 with those of models trained in float32.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from command import measure_infl, train_command
from processes import cores, run_command, run_together
from record import training_seconds
from tasks import SMALL_TASKS, TASKS, Task, load

KEPT = ("models", "whole_seconds", "seconds", "models_per_second", "peak_megabytes")


def growth(*, small: bool, rounds: int) -> dict[str, Any]:
    """Seconds and peak memory of `infl train` on T1 with T models."""
    sizes = (4,) if small else (500, 2000, 8000)
    task = _task("T1", small)
    raw = [
        [
            {key: measured[key] for key in KEPT}
            for t in sizes
            for measured in [_quiet(task, t, seed=number, small=small)]
        ]
        for number in range(1 if small else rounds)
    ]
    by_size = list(zip(*raw, strict=True))
    medians = [{key: statistics.median(one[key] for one in same) for key in KEPT} for same in by_size]
    first, last = medians[0], medians[-1]
    summary = {
        "by_models": medians,
        # 1 where seconds without start-up and compilation are proportional to T.
        "seconds_per_model_last_over_first": first["models_per_second"] / last["models_per_second"],
        "peak_megabytes_last_over_first": last["peak_megabytes"] / first["peak_megabytes"],
    }
    return {"summary": summary, "rounds": raw}


def devices(*, small: bool, rounds: int) -> dict[str, Any]:
    """Models per second of T1 with one device, and with one per core."""
    task, models, n = _task("T1", small), 4 if small else 640, len(cores())
    raw = []
    for number in range(1 if small else rounds):
        order = (1, n) if number % 2 == 0 else (n, 1)
        rates = {k: _quiet(task, models, seed=number, devices=k, small=small)["models_per_second"] for k in order}
        raw.append({"one_device": rates[1], "all_devices": rates[n]})
    per_core = [one["all_devices"] / n / one["one_device"] for one in raw]
    summary = {
        "devices": n,
        "models_per_second_of_one": statistics.median(one["one_device"] for one in raw),
        "models_per_second_of_all": statistics.median(one["all_devices"] for one in raw),
        "rate_per_core_all_over_one": _ratios(per_core),
    }
    return {"summary": summary, "rounds": raw}


def verify(*, small: bool, rounds: int) -> dict[str, Any]:
    """Seconds of `infl verify` for 50 forget sets of 50 sizes, and of one size; programs of training compiled."""
    task, n_sets, models = _task("T1", small), 3 if small else 50, 4 if small else 8
    kinds = {"unequal": list(range(1, n_sets + 1)), "equal": [(n_sets + 1) // 2] * n_sets}
    raw = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        command = train_command(task, folder / "run", models=20, seed=0, data_folder=folder, references=models)
        run_command(command)
        for number in range(1 if small else rounds):
            order = list(kinds) if number % 2 == 0 else list(reversed(kinds))
            raw.append({kind: _verify_once(task, folder, kinds[kind], models, number) for kind in order})
    summary = {
        "sets": n_sets,
        "models_per_set": models,
        **{f"seconds_{kind}": statistics.median(one[kind]["seconds"] for one in raw) for kind in kinds},
        "unequal_over_equal": _ratios([one["unequal"]["seconds"] / one["equal"]["seconds"] for one in raw]),
        "unequal_over_equal_training": _ratios(
            [one["unequal"]["seconds_of_training"] / one["equal"]["seconds_of_training"] for one in raw]
        ),
        "trainings_compiled": max(one[kind]["trainings_compiled"] for one in raw for kind in kinds),
    }
    return {"summary": summary, "rounds": raw}


def gate(*, small: bool, rounds: int) -> dict[str, Any]:
    """Memorization of T1's examples by models of infl and of PyTorch, trained on the same masks."""
    del rounds
    if importlib.util.find_spec("torch") is None:
        return {"summary": {"skipped": "torch is not installed"}}
    task, models = _task("T1", small), 20 if small else 400
    of_infl = _outcomes(task, models)
    parts = np.array_split(np.arange(models), len(cores()))
    trained = run_together(_train_torch, [(task, of_infl.masks[part], number) for number, part in enumerate(parts)])
    correct = {"infl": of_infl.correct, "torch": np.concatenate(trained)}
    return {"summary": compare_scores(correct, of_infl.masks, task.n_train)}


def precision(*, small: bool, rounds: int) -> dict[str, Any]:
    """Memorization of T1's examples by models trained in float32 and in bfloat16, on the same masks. CPU, so no speed."""
    del rounds
    task, models = _task("T1", small), 20 if small else 400
    # A CPU computes bfloat16 in float32, and XLA drops the rounding in between unless it is told not to.
    rounding = {"XLA_FLAGS": "--xla_allow_excess_precision=false"}
    names = ("float32", "bfloat16")
    runs = {name: _outcomes(task, models, "--precision", name, environment=rounding) for name in names}
    masks = runs["float32"].masks
    correct = {name: outcomes.correct for name, outcomes in runs.items()}
    accuracies = {name: float(right[:, task.n_train :].mean()) for name, right in correct.items()}
    return {"summary": compare_scores(correct, masks, task.n_train) | {"held_out_accuracy": accuracies}}


def compare_scores(correct: dict[str, Any], masks: Any, n_train: int) -> dict[str, Any]:
    """Correlation of memorization between two arms, half against half.

    Each half holds other models and other subsets than the other, so that the correlation of a half of one arm with the other
    half of the other should be that of two halves of one. The standard error is of a bootstrap over examples.

    correct: [models, N] of each arm; the models of a row have the same mask in both.
    """
    import infl
    from infl.records import Outcomes

    one, other = correct
    half = len(masks) // 20 * 10  # whole periods of the balanced design
    scores = {
        (arm, number): infl.memorization(Outcomes(masks=masks[rows], correct=of_arm[rows])).value[:n_train]
        for arm, of_arm in correct.items()
        for number, rows in enumerate((slice(0, half), slice(half, None)))
    }
    pairs = {
        f"{one}_{one}": [((one, 0), (one, 1))],
        f"{other}_{other}": [((other, 0), (other, 1))],
        f"{one}_{other}": [((one, 0), (other, 1)), ((other, 0), (one, 1))],
    }

    def correlations(ids: Any) -> dict[str, float]:
        def correlate(a: Any, b: Any) -> float:
            return float(np.corrcoef(scores[a][ids], scores[b][ids])[0, 1])

        return {name: statistics.mean(correlate(a, b) for a, b in some) for name, some in pairs.items()}

    def shortfall(found: dict[str, float]) -> float:
        within_one, within_other, between = found.values()
        return (within_one + within_other) / 2 - between

    found = correlations(np.arange(n_train))
    random = np.random.default_rng(0)
    again = [shortfall(correlations(random.integers(0, n_train, n_train))) for _ in range(200)]
    error = float(np.std(again))
    return {
        "models_per_half": half,
        "correlation": found,
        "shortfall_between_arms": shortfall(found),
        "standard_error": error,
        "passed": bool(shortfall(found) <= 2 * error),
    }


STAGES = {"growth": growth, "devices": devices, "verify": verify, "gate": gate, "precision": precision}


def _task(name: str, small: bool) -> Task:
    return (SMALL_TASKS if small else TASKS)[name]


def _outcomes(task: Task, models: int, *words: str, environment: dict[str, str] | None = None) -> Any:
    """What models of infl get right, and their masks."""
    import infl

    with tempfile.TemporaryDirectory() as temporary:
        run = Path(temporary) / "run"
        command = train_command(task, run, models=models, seed=1, data_folder=Path(temporary))
        run_command([*command, *words], environment=environment)
        return infl.open_run(run).outcomes("design").load()


def _ratios(ratios: list[float]) -> dict[str, float]:
    return {"median": statistics.median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def _quiet(task: Task, models: int, *, seed: int, small: bool, devices: int | None = None) -> dict[str, Any]:
    measured = measure_infl(
        task, models=models, seed=seed, devices=devices, block_size=1 if small else None, evaluate=False
    )
    print(task.name, models, devices, json.dumps(measured), flush=True)
    return measured


def _verify_once(task: Task, folder: Path, sizes: list[int], models: int, seed: int) -> dict[str, Any]:
    """In a copy of the run, which holds the models of all examples already."""
    import infl

    random = np.random.default_rng(seed)
    sets = {f"set {k}": random.permutation(task.n_train)[:size].tolist() for k, size in enumerate(sizes)}
    forget, copy = folder / "sets.json", folder / "copy"
    forget.write_text(json.dumps(sets))
    shutil.copytree(folder / "run", copy)
    command = [sys.executable, "-m", "infl", "verify", "--run", str(copy), "--forget", str(forget)]
    measured = run_command([*command, "--n-models", str(models), "--stop", "1"], environment={"JAX_LOG_COMPILES": "1"})
    run = infl.open_run(copy)
    training = training_seconds(run, [name for name in run.collections() if name.startswith("without-")])
    shutil.rmtree(copy)
    compiled = [line for line in measured["stderr"].splitlines() if "Finished XLA compilation" in line]
    n_compiled = sum("jit(train)" in line for line in compiled)
    if not training or not n_compiled:
        raise RuntimeError("infl verify trained or compiled nothing: what it logs has changed")
    result = {"seconds": measured["seconds"], "seconds_of_training": training, "trainings_compiled": n_compiled}
    print("verify", len(set(sizes)), "sizes", json.dumps(result), flush=True)
    return result


def _train_torch(task: Task, masks: Any, seed: int, ready: Any) -> Any:
    import baselines_torch

    train, _ = baselines_torch.one_by_one(task, *load(task))
    ready()
    return train([np.flatnonzero(mask) for mask in masks], seed)

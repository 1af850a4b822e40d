"""The arm of infl: the command `infl train` as a user types it, in a process and a run folder of its own."""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from processes import describe_accuracies, run_command
from tasks import FRACTION, Task, data_words


def measure_infl(
    task: Task,
    *,
    models: int,
    seed: int,
    folder: Path | None = None,
    devices: int | None = None,
    block_size: int | None = None,
    evaluate: bool = True,
) -> dict[str, Any]:
    """Speed of `infl train`, disk included.

    models_per_second leaves out start-up and the first block, which holds the compilation; whole_models_per_second leaves out
    nothing, and cpu_seconds_per_model neither.

    folder: where to put the run and leave it; a temporary folder by default.
    block_size: models of a block on each device; `infl train`'s own choice by default.
    evaluate: also read the accuracies of the models from the run.
    """
    with tempfile.TemporaryDirectory() as temporary:
        run = (folder or Path(temporary)) / "run"
        command = train_command(task, run, models=models, seed=seed, data_folder=Path(temporary))
        command += ["--n-devices", str(devices)] if devices else []
        command += ["--models-per-device", str(block_size)] if block_size else []
        measured = run_command(command)
        blocks = read_blocks(run)
        # Whatever the first block took longer than the later ones is compilation, or nearly so.
        first, later = blocks[0], blocks[1:] or blocks
        rate = sum(len(block["models"]) for block in later) / sum(block["seconds"] for block in later)
        result: dict[str, Any] = {
            "models_per_second": rate,
            "whole_models_per_second": models / measured["seconds"],
            "cpu_seconds_per_model": measured["cpu_seconds"] / models,
            "compile_seconds": max(first["seconds"] - len(first["models"]) / rate, 0.0),
            "peak_megabytes": measured["peak_megabytes"],
            "seconds": sum(block["seconds"] for block in later),
            "whole_seconds": measured["seconds"],
            "models": models,
        }
        if evaluate:
            import infl

            outcomes = infl.open_run(run).outcomes("design").load()
            assert outcomes.correct is not None
            accuracies = outcomes.correct[:, outcomes.n_train :].mean(axis=1)
            result["held_out_accuracy"] = describe_accuracies(accuracies.tolist())
    return result


def train_command(
    task: Task, run: Path, *, models: int, seed: int, data_folder: Path, references: int = 0
) -> list[str]:
    """The command that trains the task's models into a run folder."""
    command = [sys.executable, "-m", "infl", "train", *data_words(task, data_folder), "--run", str(run)]
    command += ["--n-models", str(models), "--n-references", str(references), "--seed", str(seed)]
    command += ["--design", "balanced", "--fraction", str(FRACTION)]
    command += ["--batch-size", str(task.batch), "--epochs", str(task.epochs)]
    command += ["--learning-rate", str(task.learning_rate), "--momentum", str(task.momentum)]
    if task.network != "mlp":
        command += ["--network", task.network, "--widths", *map(str, task.widths)]
    return command + (["--hidden", *map(str, task.hidden)] if task.hidden else [])


def read_blocks(run: Path) -> list[dict[str, Any]]:
    """The blocks of random subsets: first and last model, and the seconds they took."""
    paths = sorted((run / "collections" / "design" / "blocks").glob("*.npz"))
    abouts = [json.loads(zipfile.ZipFile(path).read("about.json")) for path in paths]
    return [{"models": range(first, last + 1), **about} for about in abouts for first, last in [about.pop("models")]]

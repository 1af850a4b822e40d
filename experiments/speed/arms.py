"""Which arms a task has, how many models each trains in a round, and one round of all of them.

A round takes the arms one after another, in turn forwards and backwards, so that a machine that slows down meets all of them.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, field
from typing import Any

from baselines import measure_sgemm
from command import measure_infl
from processes import measure_arm
from tasks import Task


@dataclass(frozen=True)
class Arm:
    """A way of training the models of a task.

    function: of the module, as in `processes`. models: on each core in a round, by task; a task that is not named has no such
    arm. steps: of each model, by task, where whole models would take too long.
    """

    title: str
    module: str
    function: str
    models: dict[str, int]
    settings: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    needs: str = "jax"


def _torch(title: str, function: str, models: dict[str, int], **more: Any) -> Arm:
    return Arm(title, "baselines_torch", function, models, needs="torch", **more)


def _jax(title: str, function: str, models: dict[str, int], **more: Any) -> Arm:
    return Arm(title, "baselines_jax", function, models, **more)


_EAGER = {"T1": 60, "T2": 8, "T3": 6, "T4": 1}
ARMS = {
    "torch": _torch("PyTorch, eager", "one_by_one", _EAGER),
    "torch_compile": _torch("PyTorch, torch.compile", "one_by_one", _EAGER, settings={"compiled": True}),
    "torch_vmap_8": _torch(
        "PyTorch, torch.func.vmap, 8 models", "side_by_side", {"T1": 64, "T2": 8}, settings={"width": 8}
    ),
    "torch_vmap_32": _torch(
        "PyTorch, torch.func.vmap, 32 models",
        "side_by_side",
        {"T1": 64, "T2": 32},
        settings={"width": 32},
        steps={"T2": 40},
    ),
    "sklearn": Arm("scikit-learn, MLPClassifier", "baselines", "scikit_learn", {"T1": 30}, needs="sklearn"),
    "jax_steps": _jax("JAX, jitted step from Python", "step_by_step", {"T1": 60, "T2": 8, "T3": 2}, steps={"T3": 110}),
    "jax_scan": _jax("JAX, one training in a scan", "whole_training", {"T1": 300, "T2": 8, "T3": 1}, steps={"T3": 44}),
    "jax_vmap_16": _jax(
        "JAX, vmap over 16 models",
        "whole_training",
        {"T1": 96, "T2": 16, "T3": 16},
        settings={"width": 16},
        steps={"T2": 66, "T3": 2},
    ),
    "published": _jax(
        "published procedure, a fresh jit for every model", "step_by_step", {"T1": 8, "T2": 5}, settings={"fresh": True}
    ),
}
INFL_MODELS = {"T1": 1024, "T2": 80, "T3": 32, "T4": 4}
INFL_BLOCK = {"T3": 1, "T4": 1}  # models on each device; of so few, a block that is not full would count for much
SMALL = {"T1": {"torch", "jax_scan"}, "T2": {"torch"}, "T3": {"torch", "jax_scan"}, "T4": {"torch"}}
TITLES = {"infl": "infl train", **{name: arm.title for name, arm in ARMS.items()}}


def measure_round(task: Task, *, number: int, small: bool) -> dict[str, Any]:
    """All arms of a task once, by name; an arm that this machine cannot run has only a `skipped` that says why."""
    names = [name for name, arm in ARMS.items() if task.name in arm.models and (not small or name in SMALL[task.name])]
    names = ["infl", *names]
    measured: dict[str, Any] = {"sgemm": measure_sgemm(seconds=0.3 if small else 3, processes=1 if small else None)}
    for name in names if number % 2 == 0 else reversed(names):
        if name == "infl":
            models, block = (4, 1) if small else (INFL_MODELS[task.name], INFL_BLOCK.get(task.name))
            measured[name] = measure_infl(task, models=models, seed=number, block_size=block)
        else:
            measured[name] = _measure_arm(ARMS[name], task, number=number, small=small)
        print(task.name, number, name, json.dumps(measured[name]), flush=True)
    return measured


def _measure_arm(arm: Arm, task: Task, *, number: int, small: bool) -> dict[str, Any]:
    if importlib.util.find_spec(arm.needs) is None:
        return {"skipped": f"{arm.needs} is not installed"}
    settings = {**arm.settings, **({"width": 2} if small and "width" in arm.settings else {})}
    models = 2 if small else arm.models[task.name]
    steps = arm.steps.get(task.name)
    try:
        return measure_arm(
            arm.module,
            arm.function,
            settings,
            task,
            models=models,
            steps=1 if small and steps else steps,
            seed=number,
            alone=small,
        )
    except RuntimeError as error:
        if not arm.settings.get("compiled"):
            raise
        return {"skipped": f"torch.compile fails here: {str(error)[:300]}"}

"""Turns results.json into README.md and speed.png of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from arms import ARMS, INFL_TITLE
from figure import draw_speed
from tasks import TASKS

LIMITS = {
    "T1": (
        "Arithmetic, of small products. Weights and momentum of one model (150 kB) stay in a core's cache as long as its "
        "models train one after another; what a step costs besides is calls, and a whole training in one program has none "
        "from Python."
    ),
    "T2": (
        "Arithmetic, close to the matrix product's own rate. Weights, momentum and gradient of one model (6.4 MB) leave the "
        "second-level cache at every step, for every arm."
    ),
    "T3": (
        "Half arithmetic, half memory. The second convolution's three products take half of a step, at nearly the matrix "
        "product's rate; the rest gathers patches, takes maxima and puts gradients back, and moves more than it computes. "
        "XLA's own gradients of a convolution are the trap here: see `infl/training/convolution.py`."
    ),
    "T4": (
        "Arithmetic of wide convolutions, where PyTorch's oneDNN is at home. Synthetic pixels and few steps: accuracies say "
        "nothing, and rates are steps per second."
    ),
}
HEAD = """# How fast does `infl train` train?

Every arm trains models of 70% of the examples with one algorithm (SGD with momentum, the same batches' sizes, steps and initial
laws; scikit-learn draws its weights from another law) and judges each on all examples at the end. All run as one
single-threaded process on each core, one after another within a round, in turn forwards and backwards; infl as the command
that a user types. Ratios are taken within a round; numbers are medians (lowest - highest) of {rounds} rounds.
{processor}, {cores} cores; {versions}.

![models per second of every arm](speed.png)
"""
COLUMNS = """
Rates leave out start-up and compilation, which is a column of its own; infl's CPU seconds include them. `sgemm` is the
product of 2048 x 2048 matrices by the fastest of NumPy, JAX and PyTorch, one process on each core, measured in the same
round: the share of it says what part of the machine's arithmetic an arm turns into models. Memory is the sum over the
processes. *Gate*: mean held-out accuracy of the arm's models, and its difference from infl's in standard errors, which should
be within 2. Where whole models would take too long an arm trains a few steps of each, its rate is that share of a model's
operations, and it has no accuracy.
"""
FOOT = """
    python experiments/speed/run.py                 # all; needs the extra `torch`, and a C++ compiler for torch.compile
    python experiments/speed/run.py --task T1       # one part, into the same results.json
    python experiments/speed/run.py --stage growth
    python experiments/speed/run.py --small

Raw numbers, seeds, commits and versions: `results.json`, which this page is written from.
"""


def write_page(results: dict[str, Any], folder: Path) -> None:
    """Write README.md and speed.png from what results.json holds so far."""
    summary, parts = results["summary"], results["parts"]
    tasks = {name: parts[name]["task"] for name in TASKS if name in parts}
    if tasks:
        draw_speed(summary, tasks, folder / "speed.png")
    versions = ", ".join(f"{name} {results['versions'][name]}" for name in ("python", "jax", "torch", "scikit-learn"))
    rounds = max((len(part.get("rounds", [])) for part in parts.values()), default=0)
    text = HEAD.format(rounds=rounds, processor=results["processor"], cores=results["cores"], versions=versions)
    if results["small"]:
        text += "\n**Made with `--small`: these numbers say nothing about speed.**\n"
    text += COLUMNS
    for name, task in tasks.items():
        text += _task(name, task, summary[name])
    for name, write in {
        "growth": _growth,
        "devices": _devices,
        "verify": _verify,
        "gate": _gate,
        "precision": _precision,
    }.items():
        if name in summary and "skipped" not in summary[name]:
            text += write(summary[name])
    (folder / "README.md").write_text(text + FOOT)
    print(f"wrote {folder / 'README.md'}")


def _task(name: str, task: dict[str, Any], summary: dict[str, Any]) -> str:
    per_step = name == "T4"
    factor = task["steps"] if per_step else 1
    unit = "steps/s" if per_step else "models/s"
    lines = [
        f"\n## {name}: {task['title']}\n",
        f"{task['subset']:,} of {task['n_train']:,} examples, batches of {task['batch']}, {task['epochs']} epochs, "
        f"{task['steps']:,} steps; judged on {task['n_train'] + task['n_held_out']:,}. "
        f"{task['flop_per_model'] / 1e9:.3g} GFLOP a model; "
        f"sgemm {_range(summary['sgemm_gflop_per_second'], '.0f')} GFLOP/s"
        f" ({', '.join(f'{name} {rate:.0f}' for name, rate in summary['sgemm_by_library'].items())}).\n",
        f"| | {unit} | infl / this | of sgemm | CPU s a model | compile, s | memory, MB | gate |",
        "|---|---|---|---|---|---|---|---|",
    ]
    titles = {"infl": INFL_TITLE, **{arm: ARMS[arm].title for arm in ARMS}}
    for arm, title in titles.items():
        row = summary["arms"].get(arm)
        if row is None:
            continue
        if "skipped" in row:
            lines.append(f"| {title} | {row['skipped'].replace('|', ' ').splitlines()[0][:120]} | | | | | | |")
            continue
        rate, over = row["models_per_second"]["median"] * factor, row["infl_over_this"]
        cells = [
            _number(rate),
            "" if arm == "infl" else f"**{over['median']:.2f}** ({over['lowest']:.2f} - {over['highest']:.2f})",
            _range(row["share_of_sgemm"], ".0%"),
            _number(row["cpu_seconds_per_model"]),
            f"{row['compile_seconds']:.1f}",
            f"{row['peak_megabytes']:,.0f}",
            _cell_of_gate(row["gate"]),
        ]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    mine = summary["arms"]["infl"]
    whole = _number(mine["whole_models_per_second"]["median"] * factor)
    whole = f"Start-up and compilation included, infl trains {whole} {unit}"
    if mine["whole_over_torch"]:
        whole += f", {_range(mine['whole_over_torch'], '.2f')} times the eager PyTorch loop without its start-up"
    return "\n".join(lines) + f"\n\n{whole}.\n\nWhat limits it: {LIMITS[name][0].lower()}{LIMITS[name][1:]}\n"


def _cell_of_gate(gate: Any) -> str:
    if isinstance(gate, str):
        return "few steps"
    accuracy, error = f"{gate['held_out_accuracy']:.4f}", gate.get("standard_errors_from_infl")
    if error is None:
        return accuracy
    return f"{accuracy}, {error:+.1f} SE" + ("" if gate["passed"] else ", **not the same**")


def _growth(summary: dict[str, Any]) -> str:
    rows = [
        f"| {row['models']:,.0f} | {row['whole_seconds']:.1f} | {row['models_per_second']:.1f} | {row['peak_megabytes']:,.0f} |"
        for row in summary["by_models"]
    ]
    return "\n".join(
        [
            "\n## Time and memory by the number of models, T1\n",
            "| models | seconds, all included | models/s after start-up | memory, MB |",
            "|---|---|---|---|",
            *rows,
            f"\nFrom the first row to the last a model takes {summary['seconds_per_model_last_over_first']:.2f} times as long, "
            f"and memory is {summary['peak_megabytes_last_over_first']:.2f} times as large.\n",
        ]
    )


def _devices(summary: dict[str, Any]) -> str:
    return (
        f"\n## Cores, T1\n\n{summary['models_per_second_of_one']:.1f} models/s on one device, "
        f"{summary['models_per_second_of_all']:.1f} on {summary['devices']}: per core "
        f"{_range(summary['rate_per_core_all_over_one'], '.2f')} times as many.\n"
    )


def _verify(summary: dict[str, Any]) -> str:
    return (
        f"\n## Verifying {summary['sets']} forget sets, T1, {summary['models_per_set']} models each\n\n"
        f"`infl verify` takes {summary['seconds_unequal']:.1f} s for sets of {summary['sets']} different sizes and "
        f"{summary['seconds_equal']:.1f} s for as many of one size: "
        f"{_range(summary['unequal_over_equal'], '.2f')} times as long, "
        f"and {_range(summary['unequal_over_equal_training'], '.2f')} times for the retraining alone. Programs of training "
        f"compiled in one command: {summary['trainings_compiled']}.\n"
    )


def _gate(summary: dict[str, Any]) -> str:
    return "\n## Do PyTorch's models say the same? T1, the same masks\n\n" + _agreement(summary, "infl's", "PyTorch's")


def _precision(summary: dict[str, Any]) -> str:
    accuracies = summary["held_out_accuracy"]
    return (
        "\n## What does bfloat16 do to the scores? T1, the same masks\n\n"
        + _agreement(summary, "the float32 models'", "the bfloat16 models'")
        + f"Held-out accuracy is {accuracies['float32']:.4f} in float32 and {accuracies['bfloat16']:.4f} in bfloat16 (weights "
        "are float32 in both). CPU: bfloat16 is for accelerators, and nothing is said of its speed.\n"
    )


def _agreement(summary: dict[str, Any], one: str, other: str) -> str:
    within_one, within_other, between = summary["correlation"].values()
    return (
        f"Memorization of the 1,000 digits from halves of {summary['models_per_half']} models correlates {within_one:.3f} "
        f"between {one} two halves, {within_other:.3f} between {other}, and {between:.3f} between a half of one and the other "
        f"half of the other; the shortfall is {summary['shortfall_between_arms']:+.4f} (standard error "
        f"{summary['standard_error']:.4f}): {'no difference is seen' if summary['passed'] else '**they differ**'}.\n"
    )


def _range(spread: dict[str, float], form: str) -> str:
    return f"{spread['median']:{form}} ({spread['lowest']:{form}} - {spread['highest']:{form}})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

"""Turns the pieces in results.json into their sums and into README.md."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from cluster import N_MODELS as N_RAY_MODELS
from kills import COMMANDS, N_MODELS, N_REFERENCES, N_SEEDS, SETS

HEAD = """# Does a run survive kills, a disk that changes bytes, and files from strangers?

{processor}, {cores} cores, beside other work; {versions}. Stages were measured in several calls.
"""
KILLS = """
## Kills

{kills} times a process was killed with SIGKILL, in {rounds} rounds of `infl train` ({half} models), the same extended
to {models} (and {references} of all of D), `infl merge` of two shards of {half} and `infl verify` of {sets} sets with
{seeds} models each; after each kill the same command was started again. One kill in three fell at a moment drawn from
the time that the undisturbed command takes, the others 0 to 20 ms after one to three new blocks of 8 models were in the
journal.

| | kills | before its first block | models lost | damaged blocks |
|---|---|---|---|---|
{rows}

At the end of the rounds {models_in_two_blocks} models of the {compared} were in two blocks of the journal and
{models_missing} were missing; outcomes were bit for bit those of undisturbed runs in {outcomes_equal} of {runs} runs,
memorization and influence in {scores_equal}. The engine is the local one; for Ray's see below. Processes are forked from
one that has done infl's imports.
"""
FLIPS = """
## Flipped bits

{flips:,} times one random bit was flipped in a run with every kind of file, file by file in turn, and the run was asked
for scores, errors, outcomes, measured effects, names, groups, settings and data. *Refused*: infl said that the file is
damaged; *harmless*: all that the run says was the same; *silent*: something was different.

| file | refused | harmless | silent |
|---|---|---|---|
{rows}
"""
FUZZ = """
## Readers of files from strangers

A case fails where the reader raises anything but its one-line refusal, takes more than 10 s, or where the process grows
by more than half a gigabyte. Some cases are whole files with up to eight changes of bytes, the others files whose
checksums fit and whose content is anything. In the first pass two of the 100,000 imports failed: the name of an array with a
line break made a refusal of two lines. That is mended, and those seeds were run again.

| reader | cases | accepted | failed | slowest, s | growth of memory, MB |
|---|---|---|---|---|---|
{rows}
"""
MESSAGES = """
## Bad input, and what infl says of it

{n} kinds of files, folders and settings that are none; each ends in one line on stderr, exit status 2 (a mistake) or 3 (a
damaged run), and no traceback.

| given | status | said |
|---|---|---|
{rows}
"""
RAY = """
## A Ray cluster that breaks

Ray on this machine with three nodes of one core each; {models} models in blocks of four. In {node_rounds} rounds a node
was killed at a random moment of the first third and another joined before the half was done; in {driver_rounds} rounds the
process that drives training, extending and verifying was killed with SIGKILL, {driver_kills} times in all, and started again.
All rounds came to their end; in {equal} of {rounds} the masks and outcomes are bit for bit those of one process.
"""
COST = """
## What the Ray engine costs

The same blocks in one process and on one Ray worker, both with all cores, one after the other; the first block of each is left
out (imports, the data, a compilation). The share is of the time of the local engine: median, least and most of the rounds.
The local engine came first in each, so that a few per cent either way are the machine's.

| seconds of a block | rounds | blocks | more time |
|---|---|---|---|
{rows}
"""
MEMORY = """
## Memory by number of models

Peak of the process that drives the training and, with Ray, of its one worker, in megabytes; small models of 1,000 digits in
blocks of 16, each training in processes of its own. `experiments/speed` (stage growth) has the command's.

| models | local | Ray: driver | Ray: worker |
|---|---|---|---|
{rows}
"""
CHECKPOINTS = """
## What checkpoints inside a block cost

Blocks of {models} models on {cores} devices, trained in one piece (without the option), in segments of as many epochs as fit
into {between:g} seconds, and in the same segments with a checkpoint after each but the last; in each round one after the other,
in turns in another order. The machine had other work as well, so the shares are of processor seconds, more than those of the
block in one piece: median, least and most of the rounds. Seconds of a checkpoint are those by the clock in which it is written,
synced and renamed (the median of rounds); its bytes are those on disk.

| network | parameters | rounds | s in one piece | segments | with checkpoints | checkpoints | s of one | MB of one |
|---|---|---|---|---|---|---|---|---|
{rows}

Margins of blocks with checkpoints were bit for bit those of segments without in {equal} of {n} rounds, and those of one
piece in {equal_plain}.
"""
FOOT = """
    python experiments/faults/run.py                  # 200 kills, 2,000 flips, 100,000 cases a reader
    python experiments/faults/run.py --stage kills    # one part: kills flips fuzz ray cost memory checkpoints
    python experiments/faults/run.py --minutes 5      # as far as that takes it; the same command goes on
    python experiments/faults/run.py --small

Raw numbers, seeds, commit and versions: `results.json`, which this page is written from.
"""


def summarize(pieces: dict[str, list[Any]]) -> dict[str, Any]:
    """The sums of the pieces of each stage."""
    sums = {
        "kills": _of_kills,
        "flips": _of_flips,
        "fuzz": _of_fuzz,
        "ray": _of_ray,
        "cost": _of_costs,
        "memory": _of_memory,
        "checkpoints": _of_checkpoints,
        "messages": _of_messages,
    }
    return {stage: sums[stage](some) for stage, some in pieces.items() if some}


def write_page(results: dict[str, Any], folder: Path) -> None:
    """Write README.md from what results.json holds so far."""
    summary = results["summary"]
    versions = ", ".join(
        f"{name} {results['versions'][name]}" for name in ("python", "jax", "tensorstore", "hypothesis")
    )
    text = HEAD.format(processor=results["processor"], cores=results["cores"], versions=versions)
    if "kills" in summary:
        text += _page_of_kills(summary["kills"])
    if "flips" in summary:
        rows = [
            f"| {kind} | {fates.get('refused', 0):,} | {fates.get('harmless', 0):,} | {fates.get('silent', 0):,} |"
            for kind, fates in {**summary["flips"]["files"], "all": summary["flips"]}.items()
        ]
        text += FLIPS.format(flips=summary["flips"]["flips"], rows="\n".join(rows))
    if "fuzz" in summary:
        rows = [
            f"| {name} | {one['cases']:,} | {one['accepted']:,} | {one['failed']:,} | {one['slowest_seconds']:.2f} | "
            f"{one['growth_mb']:,} |"
            for name, one in summary["fuzz"].items()
        ]
        text += FUZZ.format(rows="\n".join(rows))
    if "ray" in summary:
        text += RAY.format(**summary["ray"])
    if "cost" in summary:
        rows = [
            f"| {name} | {one['rounds']} | {one['blocks']} | {one['median']:+.1%} ({one['least']:+.1%} to {one['most']:+.1%}) |"
            for name, one in summary["cost"].items()
        ]
        text += COST.format(rows="\n".join(rows))
    if "checkpoints" in summary:
        text += _page_of_checkpoints(summary["checkpoints"], cores=results["cores"])
    if "messages" in summary:
        rows = [
            f"| {one['given']} | {one['exit_status']} | {_cell(one['said'])} |" for one in results["pieces"]["messages"]
        ]
        text += MESSAGES.format(n=len(rows), rows="\n".join(rows))
    if "memory" in summary:
        names = ("local_driver", "ray_driver", "ray_worker")
        rows = [
            f"| {int(n_models):,} | {' | '.join(str(one.get(name, '-')) for name in names)} |"
            for n_models, one in summary["memory"].items()
        ]
        text += MEMORY.format(rows="\n".join(rows))
    (folder / "README.md").write_text(text + FOOT)
    print(f"wrote {folder / 'README.md'}")


def _of_kills(rounds: list[Any]) -> dict[str, Any]:
    kills = [kill for one in rounds for kill in one["kills"]]
    ends = [one[name] for one in rounds for name in ("run", "merged")]

    def counted(name: str) -> dict[str, int]:
        mine = [kill for kill in kills if kill["command"] == name]
        return {
            "kills": len(mine),
            "before_its_first_block": sum(kill["blocks_then"] == kill["blocks_before"] for kill in mine),
            "models_lost": sum(kill["models_lost"] for kill in mine),
            "damaged_blocks": sum(kill["damaged_blocks"] for kill in mine),
        }

    return {
        "kills": len(kills),
        "rounds": len(rounds),
        "runs": len(ends),
        "commands": {name: counted(name) for name in COMMANDS},
        "models_compared": sum(end["models"] for end in ends),
        "models_in_two_blocks": sum(end["models_in_two_blocks"] for end in ends),
        "models_missing": sum(end["models_missing"] for end in ends),
        "damaged_blocks": sum(end["damaged_blocks"] for end in ends),
        "outcomes_equal": sum(end["outcomes_equal"] for end in ends),
        "scores_equal": sum(end["scores_equal"] for end in ends),
    }


def _page_of_kills(summary: dict[str, Any]) -> str:
    rows = [f"| {name} | {' | '.join(f'{n:,}' for n in row.values())} |" for name, row in summary["commands"].items()]
    return KILLS.format(
        **{name: summary[name] for name in ("kills", "rounds", "runs", "models_in_two_blocks", "models_missing")},
        **{name: summary[name] for name in ("outcomes_equal", "scores_equal")},
        **{"half": N_MODELS // 2, "models": N_MODELS, "references": N_REFERENCES, "sets": len(SETS), "seeds": N_SEEDS},
        compared=f"{summary['models_compared']:,}",
        rows="\n".join(rows),
    )


def _of_flips(pieces: list[Any]) -> dict[str, Any]:
    files: dict[str, Counter[str]] = {}
    for piece in pieces:
        for name, n in piece["counts"].items():
            kind, _, fate = name.rpartition(": ")
            files.setdefault(kind, Counter())[fate] += n
    fates = {fate: sum(counts[fate] for counts in files.values()) for fate in ("refused", "harmless", "silent")}
    by_file = {kind: dict(sorted(files[kind].items())) for kind in sorted(files)}
    return {"flips": sum(piece["flips"] for piece in pieces), **fates, "files": by_file}


def _of_fuzz(pieces: list[Any]) -> dict[str, Any]:
    by_reader: dict[str, list[Any]] = {}
    for piece in pieces:
        by_reader.setdefault(piece["reader"], []).append(piece)
    return {
        name: {
            **{key: sum(piece[key] for piece in some) for key in ("cases", "accepted", "failed")},
            "slowest_seconds": max(piece["slowest_seconds"] for piece in some),
            "growth_mb": max(piece["growth_mb"] for piece in some),
        }
        for name, some in by_reader.items()
    }


def _of_ray(pieces: list[Any]) -> dict[str, Any]:
    return {
        "rounds": len(pieces),
        "node_rounds": sum(piece["lost"] == "node" for piece in pieces),
        "driver_rounds": sum(piece["lost"] == "driver" for piece in pieces),
        "driver_kills": sum(len(piece["models_on_disk_then"]) for piece in pieces if piece["lost"] == "driver"),
        "equal": sum(piece["equal"] for piece in pieces),
        "models": N_RAY_MODELS,
    }


def _of_costs(pieces: list[Any]) -> dict[str, Any]:
    by_length: dict[str, list[Any]] = {}
    for piece in pieces:
        by_length.setdefault(f"{piece['block_seconds_wanted']:g}", []).append(piece)
    return {
        name: {
            "rounds": len(some),
            "blocks": some[0]["blocks"],
            "median": float(np.median([piece["overhead"] for piece in some])),
            "least": min(piece["overhead"] for piece in some),
            "most": max(piece["overhead"] for piece in some),
        }
        for name, some in by_length.items()
    }


def _of_memory(pieces: list[Any]) -> dict[str, Any]:
    by_size: dict[str, dict[str, int]] = {}
    for piece in pieces:
        for name in ("driver", "worker"):
            if f"{name}_megabytes" in piece:
                by_size.setdefault(str(piece["n_models"]), {})[f"{piece['engine']}_{name}"] = piece[f"{name}_megabytes"]
    return by_size


def _of_messages(pieces: list[Any]) -> dict[str, Any]:
    lines = [piece["said"].count("\n") + 1 for piece in pieces]
    return {
        "inputs": len(pieces),
        "longest_in_lines": max(lines),
        "accepted": sum(not p["exit_status"] for p in pieces),
    }


def _cell(text: str) -> str:
    """As a cell of a table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", "<br>")


def _of_checkpoints(pieces: list[Any]) -> dict[str, Any]:
    by_network: dict[str, list[Any]] = {}
    for piece in pieces:
        by_network.setdefault(piece["network"], []).append(piece)

    def shares(some: list[Any], way: str) -> dict[str, float]:
        more = [piece["processor_seconds"][way] / piece["processor_seconds"]["one piece"] - 1 for piece in some]
        return {"median": float(np.median(more)), "least": min(more), "most": max(more)}

    return {
        "models": pieces[0]["models"],
        "seconds_between": pieces[0]["seconds_between"],
        "rounds": len(pieces),
        "checkpoints_equal_segments": sum(piece["checkpoints_equal_segments"] for piece in pieces),
        "segments_equal_one_piece": sum(piece["segments_equal_one_piece"] for piece in pieces),
        "networks": {
            name: {
                "parameters": some[0]["parameters"],
                "rounds": len(some),
                "seconds": float(np.median([piece["seconds"]["one piece"] for piece in some])),
                "segments": shares(some, "segments"),
                "with_checkpoints": shares(some, "checkpoints"),
                "checkpoints": float(np.median([piece["checkpoints"] for piece in some])),
                "seconds_of_one": float(
                    np.median([piece["seconds_of_checkpoints"] / max(1, piece["checkpoints"]) for piece in some])
                ),
                "bytes_of_one": max(piece["bytes_of_a_checkpoint"] for piece in some),
            }
            for name, some in by_network.items()
        },
    }


def _page_of_checkpoints(summary: dict[str, Any], *, cores: int) -> str:
    def share(one: dict[str, float]) -> str:
        return f"{one['median']:+.1%} ({one['least']:+.1%} to {one['most']:+.1%})"

    rows = [
        f"| {name} | {one['parameters']:,} | {one['rounds']} | {one['seconds']:.1f} | {share(one['segments'])} | "
        f"{share(one['with_checkpoints'])} | {one['checkpoints']:g} | {one['seconds_of_one']:.2f} | "
        f"{one['bytes_of_one'] / 1e6:.1f} |"
        for name, one in summary["networks"].items()
    ]
    return CHECKPOINTS.format(
        models=summary["models"],
        cores=cores,
        between=summary["seconds_between"],
        rows="\n".join(rows),
        equal=summary["checkpoints_equal_segments"],
        n=summary["rounds"],
        equal_plain=summary["segments_equal_one_piece"],
    )

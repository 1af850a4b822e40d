"""Flips one bit of a small run, asks the run for its scores, and says whether the flip was refused, harmless or silent."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import infl
from infl.pipeline.verify import verified_effects
from infl.records import Array, InputError

SETS = {"mine": [1, 2, 3]}


def make_run(folder: Path) -> infl.Run:
    """A run with every kind of file: subsets, groups, references, models without a named set."""
    data = infl.load("digits", n_train=60, n_held_out=30)
    algorithm = infl.Algorithm(hidden=(4,), epochs=2, batch_size=20)
    run = infl.train(data, run=folder, n_models=40, n_references=4, algorithm=algorithm, quiet=True)
    infl.verify(run, SETS, n_models=4, stop=None, quiet=True)
    return infl.open_run(folder)


def scores_of(folder: Path) -> dict[str, Array]:
    """What a run says: scores and their errors, measured effects, names of sets, data, groups, settings.

    Raises:
        InputError: where it is refused.
    """
    run = infl.open_run(folder)
    said: dict[str, Array] = {"settings": np.array(sorted((str(k), str(v)) for k, v in run.manifest.items()))}
    memorization, influence = infl.memorization(run), infl.influence(run)
    said |= {"memorization": memorization.value, "memorization_se": memorization.se}
    said |= {"influence": influence.value, "influence_se": influence.se}
    for collection in run.collections():
        outcomes = run.outcomes(collection).load()
        said |= {f"{collection} {kind}": getattr(outcomes, kind) for kind in ("masks", "correct", "margin")}
    for effects in verified_effects(run):
        said[f"effect {effects.forget_set.name}"] = effects.effect
    groups = run.collection("grouped").groups
    assert groups is not None
    said["groups"] = groups.tables
    data = run.dataset()
    said |= {name: getattr(data, name) for name in ("x_train", "y_train", "x_held_out", "y_held_out", "train_ids")}
    return said


def try_flips(folder: Path, flips: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Make random flips, one at a time, in every file in turn; counts by kind of file and fate, and the silent ones.

    A flip is *refused* where the run says that it is damaged, *harmless* where all that it says is the same.
    """
    expected = scores_of(folder)
    whole = folder.with_name(f"{folder.name}.whole")
    shutil.copytree(folder, whole)
    counts: Counter[str] = Counter()
    silent: list[str] = []
    for path, position, bit in _drawn(whole, flips, seed):
        content = bytearray((whole / path).read_bytes())
        content[position] ^= 1 << bit
        (folder / path).write_bytes(content)
        try:
            said = scores_of(folder)
        except InputError:
            fate = "refused"
        else:
            same = said.keys() == expected.keys() and all(
                np.array_equal(said[name], expected[name], equal_nan=expected[name].dtype.kind == "f") for name in said
            )
            fate = "harmless" if same else "silent"
        if fate == "silent":
            silent.append(f"{path} byte {position} bit {bit}")
        counts[f"{_kind(path)}: {fate}"] += 1
        shutil.copy(whole / path, folder / path)
    shutil.rmtree(whole)
    return counts, silent


def _drawn(folder: Path, flips: int, seed: int) -> Iterator[tuple[Path, int, int]]:
    """File, byte and bit: every file in turn, its byte at random, so that small files are met as often as large ones."""
    random = np.random.default_rng(seed)
    paths = sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and p.stat().st_size)
    order = [paths[i] for i in random.permutation(len(paths))]
    for number in range(flips):
        path = order[number % len(order)]
        yield path, int(random.integers((folder / path).stat().st_size)), int(random.integers(8))


def _kind(path: Path) -> str:
    return path.parts[0] if path.parts[0] != "collections" else "blocks" if "blocks" in path.parts else "records"

"""Commands on runs as they are: import one, merge its shards, inspect and repair it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from infl.cli.options import RunToRead, quoted
from infl.cli.outputs import Output, RunToWrite
from infl.cli.printing import say, show_checkpoints, show_repair, show_run

if TYPE_CHECKING:
    from infl.store import Run


@dataclass(frozen=True, kw_only=True)
class Import:
    """Make a run of masks and outcomes of models trained elsewhere: then scores, inspect and forget read it like any other."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.npz|DIR")]
    """An .npz, or a folder of .npy files, with masks [T, n], correct and/or margin [T, n+m], labels [n+m]; and, where they are
    known, class_names and reference_correct, reference_margin [R, n+m] of models of all n examples. See
    `infl.import_outcomes`."""
    run: RunToWrite
    """Folder of the run, or its URL, new or empty."""
    names: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=ARRAY ...")] = ()
    """What arrays are called there, as in masks=trainset_mask correct=trainset_correctness
    correct_held_out=testset_correctness."""
    output: tyro.conf.OmitArgPrefixes[Output] = Output()

    def __call__(self) -> None:
        import infl
        from infl.records import InputError

        if wrong := [word for word in self.names if "=" not in word]:
            raise InputError(f"--names: expected NAME=ARRAY, as in masks=trainset_mask, got {wrong[0]!r}")
        names = {name: array for name, _, array in (word.partition("=") for word in self.names)}
        _show(infl.import_outcomes(self.file, run=self.run, names=names), self.output)
        say(f"\nNext: infl scores --run {quoted(self.run)}")


@dataclass(frozen=True, kw_only=True)
class Merge:
    """Join shards of one run: models trained apart, with `infl train --n-models FROM:TO`, by the same data and settings."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run to add to, or its URL; made where it is not there."""
    shards: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SHARD")]
    """Folders of the shards, or their URLs; they stay as they are."""
    output: tyro.conf.OmitArgPrefixes[Output] = Output()

    def __call__(self) -> None:
        import infl

        _show(infl.merge(self.run, self.shards), self.output)
        say(f"\nNext: infl scores --run {quoted(self.run)}")


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """What a run holds, what is missing, and what the disk has damaged: every block is read and compared with its checksums."""

    run: RunToRead
    """Folder of the run, or its URL."""
    repair: bool = False
    """Train the models of damaged blocks again, and no others."""
    output: tyro.conf.OmitArgPrefixes[Output] = Output()

    def __call__(self) -> None:
        import infl
        from infl.records import DiskError
        from infl.store import Checkpoints

        if self.repair:
            from infl.pipeline.train import repair
            from infl.training.caches import cache_compiled_programs

            cache_compiled_programs()
            show_repair(repair(self.run))
        run = infl.open_run(self.run)
        damaged, checkpoints = run.damaged_blocks(), Checkpoints(run, say).listed()
        _show(run, self.output, damage=[block.describe() for block in damaged], checkpoints=checkpoints)
        show_checkpoints(checkpoints)
        if damaged:
            for block in damaged:
                say(f"damaged: {block.describe()}")
            n_models = sum(len(block.models) for block in damaged)
            raise DiskError(
                f"{self.run}: {len(damaged)} blocks are damaged, of {n_models} models; --repair trains these again"
            )


def _show(run: Run, output: Output, **more: Any) -> None:
    """What the run holds, for people and as JSON."""
    show_run(run)
    output.write(run.to_dict() | more)

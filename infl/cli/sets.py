"""Commands that make forget sets: of a data set as it is, or planted in a copy of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from infl.cli.options import Data, ForgetFile, Name, NewFile, Real, RunOrNone, Whole, quoted, words
from infl.cli.printing import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from infl.records import Dataset, ForgetSet
    from infl.store import Run


@dataclass(frozen=True)
class _Kind:
    """A kind of set: the function that makes it, and which options it needs and takes, with their names there."""

    function: str
    needed: dict[str, str]
    taken: dict[str, str]
    seeded: bool = True

    def arguments(self, command: Forget | Plant) -> dict[str, Any]:
        """What to call the function with.

        Raises:
            InputError: where an option is missing, or belongs to other kinds.
        """
        from infl.records import InputError

        mine = self.needed | self.taken
        for option in self.needed:
            if getattr(command, option) is None:
                raise InputError(f"{command.kind}: needs --{option.replace('_', '-')}")
        kinds = _FORGET_KINDS if isinstance(command, Forget) else _PLANT_KINDS
        for option in {option: 0 for kind in kinds.values() for option in kind.needed | kind.taken}:
            if getattr(command, option) is not None and option not in mine:
                theirs = [name for name, kind in kinds.items() if option in kind.needed | kind.taken]
                raise InputError(
                    f"{command.kind}: takes no --{option.replace('_', '-')}, which is for {', '.join(theirs)}"
                )
        given = {mine[option]: getattr(command, option) for option in mine}
        seed = {"seed": command.seed} if self.seeded else {}
        return {name: value for name, value in given.items() if value is not None} | seed | {"name": command.name}


_CLUSTER = {"cluster": "cluster", "example": "example"}
_FORGET_KINDS = {
    "random": _Kind("random_set", {"size": "size"}, {}),
    "class": _Kind("class_set", {"label": "label"}, {"share": "fraction"}),
    "cluster": _Kind("cluster_set", {"clusters": "n_clusters"}, {**_CLUSTER, "share": "fraction"}),
    "neighbours": _Kind("neighbours_set", {"example": "example", "size": "size"}, {}, seeded=False),
    "most-memorized": _Kind("memorized_set", {"size": "size"}, {"cross": "cross"}, seeded=False),
    "least-memorized": _Kind("memorized_set", {"size": "size"}, {"cross": "cross"}, seeded=False),
}
_PLANT_KINDS = {
    "flipped": _Kind("flip_labels", {"size": "n_examples"}, {"label": "source_label", "to": "to"}),
    "copies": _Kind(
        "plant_copies", {"example": "example", "size": "n_copies"}, {"flipped": "flipped", "noise": "noise"}
    ),
    "patch": _Kind(
        "poison_patch",
        {"size": "n_examples", "to": "label"},
        {"patch_size": "size", "corner": "corner", "stamp_held_out": "n_held_out"},
    ),
    "rare": _Kind("thin_cluster", {"size": "n_kept", "clusters": "n_clusters"}, _CLUSTER),
}


# Kinds are bases of their own, so that KIND comes before DATASET on the command line.
@dataclass(frozen=True, kw_only=True)
class _ForgetKind:
    kind: Annotated[
        Literal["random", "class", "cluster", "neighbours", "most-memorized", "least-memorized"],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="KIND"),
    ]
    """`random`, `class`, `cluster` (k-means on pixels), `neighbours` (of an example), `most-memorized`, `least-memorized`."""


@dataclass(frozen=True, kw_only=True)
class Forget(Data, _ForgetKind):
    """Write a forget set of some kind, of a data set or of a run's, into a forget file."""

    out: ForgetFile
    """Forget file to write; a set is added to one that exists."""
    run: RunOrNone = None
    """Take the data of this run; the memorized kinds need one."""
    size: Whole = None
    """Examples in the set: random, neighbours, memorized."""
    label: Whole = None
    """Class, counted from 0: class."""
    share: Real = None
    """Random share to take: class, cluster (default: 1)."""
    clusters: Whole = None
    """Clusters that the training examples are parted into: cluster."""
    cluster: Whole = None
    """Number of the cluster, counted from 0: cluster."""
    example: Whole = None
    """Training example: the cluster that holds it, or its neighbours."""
    cross: Annotated[Literal["high", "low"] | None, tyro.conf.arg(metavar="high|low", help_behavior_hint="")] = None
    """Of three times as many, those with the highest or lowest cross-influence: memorized."""
    seed: int = 0
    """Seed of what is drawn, and of k-means."""
    name: Name = None
    """Name of the set (default: says its kind and size)."""

    def __call__(self) -> None:
        import infl

        kind = _FORGET_KINDS[self.kind]
        arguments = kind.arguments(self)
        dataset, run = self.opened()
        before = infl.forget_sets.read_forget_sets(self.out, n_train=dataset.n_train) if self.out.exists() else []
        make = getattr(infl.forget_sets, kind.function)
        if run is None:
            made = make(dataset, **arguments)
        else:
            outcomes, recorded = run.outcomes("design"), run.outcome_kinds[0]
            high = arguments.pop("cross", None)
            if high is not None:
                from infl.scores.influence import cross_influence_totals

                arguments |= {
                    "cross": cross_influence_totals(outcomes, outcome=recorded).value,
                    "with_cross": high == "high",
                }
            memorization = infl.memorization(outcomes, outcome=recorded)
            made = make(memorization, highest=self.kind == "most-memorized", **arguments)
        sets = _checked([*before, made], dataset)
        infl.forget_sets.write_forget_sets(self.out, sets)
        say(f"{made.name}: {len(made)} of {dataset.n_train:,} training examples of {dataset.name}")
        say(f"forget file   {self.out}, {len(sets)} {'set' if len(sets) == 1 else 'sets'}")
        say(f"meant for     {_meant_for(make)}")
        folder = self.run or str(Path("runs") / dataset.name)
        trained = self.run is not None or Path(folder, "run.json").exists()
        if not trained:
            say(f"\nNext: infl train {words(self)} --run {quoted(folder)}")
        say(f"{'Next' if trained else 'Then'}: infl predict --run {quoted(folder)} --forget {quoted(self.out)}")

    def opened(self) -> tuple[Dataset, Run | None]:
        """The data, and the run where the kind reads its models."""
        import infl
        from infl.records import InputError

        dataset, reads_models = self.load(), self.kind in ("most-memorized", "least-memorized")
        if self.run is None:
            if reads_models:
                raise InputError(f"{self.kind}: needs --run, whose models say what is memorized")
            if dataset is None:
                raise InputError(f"{self.kind}: name a data set, e.g. infl forget {self.kind} digits, or give --run")
            return dataset, None
        if dataset is not None:
            raise InputError("name a data set or give --run, not both: a run has its own data")
        run = infl.open_run(self.run)
        return run.dataset(), run if reads_models else None


@dataclass(frozen=True, kw_only=True)
class _PlantKind:
    kind: Annotated[Literal["flipped", "copies", "patch", "rare"], tyro.conf.Positional, tyro.conf.arg(metavar="KIND")]
    """`flipped` labels, `copies` of an example, a poisoned `patch`, a `rare` population (a cluster thinned)."""


@dataclass(frozen=True, kw_only=True)
class Plant(Data, _PlantKind):
    """Write a data set with something planted in it, and the set of the examples that carry it into a forget file."""

    out: NewFile
    """Data set to write, an .npz that does not exist yet."""
    forget: ForgetFile
    """Forget file to write; a set is added to one that exists, whose examples are left alone (rare: a new file)."""
    size: Whole = None
    """Examples to flip or poison, copies to add, examples of the rare population that stay."""
    example: Whole = None
    """Training example: to copy; or whose cluster to thin."""
    label: Whole = None
    """Class to flip, counted from 0: flipped (default: any)."""
    to: Whole = None
    """Class they get: patch; flipped (default: at random)."""
    flipped: Annotated[bool | None, tyro.conf.arg(metavar="True|False", help_behavior_hint="")] = None
    """Whether the example and its copies get another label: copies (default: False)."""
    noise: Real = None
    """Standard deviation of noise on the copies, pixels in 0 to 1: copies (default: 0)."""
    patch_size: Whole = None
    """Side of the square in pixels: patch (default: 3)."""
    corner: Annotated[
        Literal["top-left", "top-right", "bottom-left", "bottom-right"] | None,
        tyro.conf.arg(metavar="top-left|...|bottom-right", help_behavior_hint=""),
    ] = None
    """Where it sits: patch (default: bottom-right)."""
    stamp_held_out: Whole = None
    """Held-out examples to add with the patch and their true label: patch (default: 0)."""
    clusters: Whole = None
    """Clusters that the training examples are parted into: rare."""
    cluster: Whole = None
    """Number of the cluster, counted from 0: rare."""
    seed: int = 0
    """Seed of what is drawn, and of k-means."""
    name: Name = None
    """Name of the set (default: says its kind and size)."""

    def __call__(self) -> None:
        import infl
        from infl.records import InputError

        kind = _PLANT_KINDS[self.kind]
        arguments = kind.arguments(self)
        dataset = self.load()
        if dataset is None:
            raise InputError(f"{self.kind}: name the data set to plant in, e.g. infl plant {self.kind} digits")
        before = infl.forget_sets.read_forget_sets(self.forget, n_train=dataset.n_train) if self.forget.exists() else []
        if self.kind == "rare":
            if before:
                raise InputError(
                    f"rare: takes examples away, so the ids in {self.forget} would no longer fit; name a new file"
                )
            which = {
                option: arguments.pop(option) for option in ("n_clusters", "cluster", "example") if option in arguments
            }
            arguments["members"] = infl.forget_sets.cluster_set(dataset, **which, seed=self.seed).ids
        if self.kind in ("flipped", "patch"):
            arguments["avoid"] = sorted({i for one in before for i in one.ids})
        plant = getattr(infl.planting, kind.function)
        planted, made = plant(dataset, **arguments)
        sets = _checked([*before, made], planted)
        infl.write_npz(self.out, planted)
        try:
            infl.forget_sets.write_forget_sets(self.forget, sets)
        except InputError:
            self.out.expanduser().unlink()  # it is new, and nobody could tell what is planted in it
            raise
        say(f"{made.name}: {len(made)} training examples")
        say(f"data set      {self.out}, {planted.n_train:,} training and {planted.n_held_out:,} held-out examples")
        say(f"forget file   {self.forget}, {len(sets)} {'set' if len(sets) == 1 else 'sets'}")
        say(f"meant for     {_meant_for(plant)}")
        folder = Path("runs") / self.out.stem
        say(f"\nNext: infl train {quoted(self.out)} --run {quoted(folder)}")
        say(f"Then: infl predict --run {quoted(folder)} --forget {quoted(self.forget)}")


def _checked(sets: list[ForgetSet], dataset: Dataset) -> list[ForgetSet]:
    """The sets as they will be read back, so that no file is written that is then refused."""
    import infl

    return infl.forget_sets.make_forget_sets(infl.forget_sets.by_name(sets), n_train=dataset.n_train)


def _meant_for(make: Callable[..., Any]) -> str:
    """First sentence after "Meant for:" in the docstring of a generator: said there, and nowhere again."""
    from inspect import getdoc

    paragraph = (getdoc(make) or "").partition("Meant for: ")[2].partition("\n\n")[0]
    return " ".join(paragraph.split()).partition(". ")[0].rstrip(".")

"""Commands that make forget sets, of a data set as it is or planted in a copy of it, and tokenizers.

Each kind of set is a command of its own, whose options are the parameters of the function that makes it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from inspect import getdoc
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import tyro

from infl.cli.options import Data, File, Name, RunOrNone, Whole, options_of, quoted, with_fields
from infl.cli.outputs import ForgetFile, NewFile, Output, accuracy_fields
from infl.cli.printing import say, show_accuracy
from infl.data import planting, worlds
from infl.data.splits import parse_place
from infl.records import Dataset, ForgetSet, InputError
from infl.report.text import count
from infl.untraining import forget_sets
from infl.untraining.cuts import distinct_sets, fact_sets
from infl.untraining.forget_files import NOT_JSON

# Parameters that come from elsewhere than the options of a kind.
_GROUPED = ("members", "groups", "group")
MAX_SAID = 5
_GIVEN = (
    "dataset",
    "memorization",
    *_GROUPED,
    "derivations",
    "avoid",
    "highest",
    "cross",
    "with_cross",
    "name",
    "n_held_out",
)


class _Kind:
    """What `_add_kind` gives each command: a name, the function that makes the set, and, as a field, its parameters."""

    kind: ClassVar[str]
    make: ClassVar[Any]
    set: ClassVar[dict[str, Any]]

    def say_where(self, path: Path, sets: list[ForgetSet]) -> None:
        say(f"forget file   {path}, {count(len(sets), 'set')}")
        # Said in the docstring of the function that makes the set, and nowhere again.
        paragraph = (getdoc(self.make) or "").partition("Meant for: ")[2].partition("\n\n")[0]
        say(f"meant for     {' '.join(paragraph.split()).partition('. ')[0].rstrip('.')}")


@dataclass(frozen=True, kw_only=True)
class Forget(_Kind):
    """Write a forget set of some kind, of a data set or of a run's, into a forget file."""

    out: ForgetFile
    """Forget file to write; a set is added to one that exists."""
    run: RunOrNone = None
    """Take the data of this run; the memorized kinds need one."""
    name: Name = None
    """Name of the set (default: says its kind and size)."""
    data: tyro.conf.OmitArgPrefixes[Data]
    output: tyro.conf.OmitArgPrefixes[Output] = Output()

    def __call__(self) -> None:
        from infl.store import open_run

        dataset, accuracy = self.opened(), open_run(self.run).accuracy() if self.run else None
        before, made = _before(self.out, dataset), self.made(dataset)
        several = isinstance(made, list)
        new = made if several else [made]
        sets = _checked([*before, *new], dataset)
        forget_sets.write_forget_sets(self.out, sets)
        for one in new[:MAX_SAID]:
            say(f"{one.name}: {len(one)} of {dataset.n_train:,} training examples of {dataset.name}")
        if len(new) > MAX_SAID:
            say(f"... and {count(len(new) - MAX_SAID, 'set')} more")
        self.say_where(self.out, sets)
        show_accuracy(accuracy)
        said = {"sets": [asdict(one) for one in new]} if several else asdict(new[0])
        self.output.write({"forget": str(self.out), **said, **accuracy_fields(accuracy)})
        folder = self.run or str(Path("runs") / dataset.name)
        trained = self.run is not None or Path(folder, "run.json").exists()
        if not trained:
            say(f"\nNext: infl train {self.data} --run {quoted(folder)}")
        say(f"{'Next' if trained else 'Then'}: infl predict --run {quoted(folder)} --forget {quoted(self.out)}")

    def opened(self) -> Dataset:
        """The data set that was named, or that of the run."""
        from infl.store import open_run

        dataset = self.data.load()
        if dataset is not None and self.run is not None:
            raise InputError("name a data set or give --run, not both: a run has its own data")
        if dataset is None and self.run is None:
            raise InputError(f"{self.kind}: name a data set, e.g. infl forget {self.kind} digits, or give --run")
        return dataset or open_run(str(self.run)).dataset()

    def made(self, dataset: Dataset) -> ForgetSet | list[ForgetSet]:
        return self.make(dataset, **self.set, name=self.name)


@dataclass(frozen=True, kw_only=True)
class _Group(Forget):
    groups: File = None
    """Examples that belong together, as for infl train: .json {"group": [ids], ...} or .csv lines id,group (default: the groups
    that documents came with)."""
    group: Name = None
    """Name of the group (default: what --name says)."""

    def made(self, dataset: Dataset) -> ForgetSet:
        from infl.untraining.forget_files import read_members

        group = self.name if self.group is None else self.group
        if self.groups is None and not dataset.is_documents:
            raise InputError(
                "group: name the file that says what belongs together by --groups; documents alone have groups"
            )
        if group is None:
            raise InputError(f"group: name one of the groups in {self.groups or dataset.name} by --group")
        if self.groups is None:
            return forget_sets.class_set(dataset, group, **self.set, name=self.name)
        members = read_members(self.groups, n_train=dataset.n_train, dataset=lambda: dataset)
        return self.make(dataset, members, group, **self.set, name=self.name)


@dataclass(frozen=True, kw_only=True)
class _Fact(Forget):
    derivations: File = None
    """What follows from what: a line each, numbers of statements separated by tabs, the conclusion first (default:
    FILE.derivations.tsv beside the facts)."""

    def made(self, dataset: Dataset) -> list[ForgetSet]:
        path = self.derivations
        if path is None and dataset.source.startswith("facts:"):
            beside = worlds.derivations_beside(parse_place("facts", dataset.source.removeprefix("facts:")).path)
            path = beside if beside.exists() else None
        derivations = [] if path is None else worlds.read_derivations(path)
        sets = fact_sets(dataset, **self.set, derivations=derivations, name=self.name)
        if self.run is not None:
            from infl.pipeline.facts import influence_cut

            title = None if self.name is None else f"{self.name} cut by influence"
            cut = influence_cut(self.run, **self.set, name=title)
            sets += [] if cut is None else [cut]
        return distinct_sets({one.name: one.ids for one in sets})


@dataclass(frozen=True, kw_only=True)
class _Memorized(Forget):
    cross: Literal["high", "low"] | None = None
    """Of three times as many, those with the highest or lowest cross-influence."""
    scores: File = None
    """Choose by the memorization in this file, not by the models of a run: a file of scores as infl compare takes them."""

    def opened(self) -> Dataset:
        if self.run is None and self.scores is None:
            raise InputError(f"{self.kind}: needs --run, whose models say what is memorized, or --scores FILE")
        if self.scores is not None and self.cross is not None:
            raise InputError(f"{self.kind}: --cross is read from the models of a run, leave out --cross or --scores")
        return super().opened()

    def made(self, dataset: Dataset) -> ForgetSet:
        highest = self.kind == "most-memorized"
        if self.scores is not None:
            from infl.report.score_files import read_scores

            scores = read_scores(self.scores).memorization(dataset)
            if (n_known := int(np.isfinite(scores).sum())) < self.set["size"]:
                raise InputError(
                    f"size: expected at most {n_known}, the training examples that {self.scores} has scores of"
                )
            return self.make(scores, **self.set, highest=highest, name=self.name)
        from infl.scores.influence import cross_influence_totals, memorization
        from infl.store import open_run

        run, cross = open_run(str(self.run)), None
        outcomes, outcome = run.outcomes("design"), run.outcome_kinds[0]
        if self.cross is not None:
            cross = cross_influence_totals(outcomes, outcome=outcome).value
        return self.make(
            memorization(outcomes, outcome=outcome),
            **self.set,
            highest=highest,
            cross=cross,
            with_cross=None if self.cross is None else self.cross == "high",
            name=self.name,
        )


@dataclass(frozen=True, kw_only=True)
class Plant(_Kind):
    """Write a data set with something planted in it, and the set of the examples that carry it into a forget file."""

    out: NewFile
    """Data set to write, an .npz that does not exist yet."""
    forget: ForgetFile
    """Forget file to write; a set is added to one that exists, whose examples are left alone (rare: a new file)."""
    name: Name = None
    """Name of the set (default: says its kind and size)."""
    data: tyro.conf.OmitArgPrefixes[Data]

    def __call__(self) -> None:
        from infl.data import write_npz

        dataset = self.data.load()
        if dataset is None:
            raise InputError(f"{self.kind}: name the data set to plant in, e.g. infl plant {self.kind} digits")
        before = _before(self.forget, dataset)
        planted, made = self.planted(dataset, before)
        sets = _checked([*before, made], planted)
        write_npz(self.out, planted)
        try:
            forget_sets.write_forget_sets(self.forget, sets)
        except InputError:
            self.out.expanduser().unlink()  # it is new, and nobody could tell what is planted in it
            raise
        say(f"{made.name}: {len(made)} training examples")
        say(f"data set      {self.out}, {planted.n_train:,} training and {planted.n_held_out:,} held-out examples")
        self.say_where(self.forget, sets)
        folder = Path("runs") / self.out.stem
        say(f"\nNext: infl train {quoted(self.out)} --run {quoted(folder)}")
        say(f"Then: infl predict --run {quoted(folder)} --forget {quoted(self.forget)}")

    def planted(self, dataset: Dataset, before: list[ForgetSet]) -> tuple[Dataset, ForgetSet]:
        avoid = {} if self.kind == "copies" else {"avoid": sorted({i for one in before for i in one.ids})}
        return self.make(dataset, **self.set, **avoid, name=self.name)


@dataclass(frozen=True, kw_only=True)
class _Patch(Plant):
    stamp_held_out: int = 0
    """Held-out examples to add with the patch and their true label."""

    def planted(self, dataset: Dataset, before: list[ForgetSet]) -> tuple[Dataset, ForgetSet]:
        avoid = sorted({i for one in before for i in one.ids})
        return self.make(dataset, **self.set, avoid=avoid, n_held_out=self.stamp_held_out, name=self.name)


@dataclass(frozen=True, kw_only=True)
class _Rare(Plant):
    cluster: ClassVar[dict[str, Any]]

    def planted(self, dataset: Dataset, before: list[ForgetSet]) -> tuple[Dataset, ForgetSet]:
        if before:
            raise InputError(
                f"rare: takes examples away, so the ids in {self.forget} would no longer fit; name a new file"
            )
        members = forget_sets.cluster_set(dataset, **self.cluster, seed=self.set["seed"]).ids
        return self.make(dataset, members, **self.set, name=self.name)


@dataclass(frozen=True, kw_only=True)
class Tokenize:
    """Train a tokenizer (byte-pair encoding) on other texts than those that models will train on.

    The tokens that it learns from a text reach every model, also those that leave the text out, and make it easier for them
    than it is: so it should know none of D. Takes the extra `text`.
    """

    texts: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Files of other texts: plain text or .jsonl, as in text:FILE."""
    out: NewFile
    """Tokenizer to write, as JSON: a file that does not exist yet."""
    vocabulary: int = 1024
    """Tokens at most, padding and the 256 bytes among them."""

    def __call__(self) -> None:
        from infl.data.text import read_texts
        from infl.data.tokenizers import read_tokenizer, train_tokenizer

        if not self.texts:
            raise InputError("name a file of texts, others than those to train models on")
        texts = [text for path in self.texts for text in read_texts(path.expanduser())]
        out = self.out.expanduser()
        train_tokenizer(texts, out, vocabulary=self.vocabulary)
        tokenizer = read_tokenizer(out)
        n_tokens = sum(map(len, tokenizer.encode(texts)))
        n_bytes = sum(len(text.encode()) for text in texts)
        say(f"tokenizer     {self.out}, {len(tokenizer.vocabulary):,} tokens from {count(len(texts), 'document')}")
        say(f"length        {n_bytes / n_tokens:.1f} bytes a token on them")
        say(
            f"\nNext: infl train text:FILE:tokenizer={quoted(self.out)} --run RUN, where FILE holds none of these documents"
        )


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Write a world of facts of which some follow from others, and beside it the table of what follows from what."""

    world: Annotated[worlds.WorldName, tyro.conf.Positional] = "lives"
    """What it is about."""
    out: NewFile
    """Table to write, a .tsv that does not exist yet; FILE.derivations.tsv is written beside it."""
    size: Whole = None
    """Towns of lives (22), families (8), cities of geography (60); the default in brackets."""
    zipf: bool = False
    """Give towns of lives persons by Zipf's law."""
    seed: int = 0
    """Of what is drawn, 0 to 2**32 - 1."""

    def __call__(self) -> None:
        given: dict[str, Any] = {} if self.size is None else {"size": self.size}
        if self.zipf:
            if self.world != "lives":
                raise InputError(f"zipf: frequencies by Zipf's law are of the world lives alone, got {self.world}")
            given["zipf"] = True
        world = worlds.WORLDS[self.world](**given, seed=self.seed)
        world.write(self.out)
        n_held_out = sum(row[3] != "train" for row in world.rows)
        say(f"facts         {self.out}, {len(world.rows) - n_held_out:,} to train on and {n_held_out:,} held out")
        say(f"derivations   {worlds.derivations_beside(self.out)}, {len(world.derivations):,}")
        folder = Path("runs") / self.out.stem
        fact = quoted(", ".join([*world.example[:2], "?"]))
        say(f"\nNext: infl train facts:{quoted(self.out)} --run {quoted(folder)}")
        say(f"Then: infl forget fact --run {quoted(folder)} --fact {fact} --out forget.json")


KINDS: dict[str, dict[str, Any]] = {"forget": {}, "plant": {"facts": Facts}}


def _add_kind(base: type, name: str, make: Any, **more: Any) -> None:
    """A command whose options are the parameters of the function that makes the set."""
    fields = {"set": options_of(make, without=_GIVEN), **more}
    command = with_fields(base, (getdoc(make) or "").partition("\n\nArgs:")[0], **fields)
    command.kind, command.make = name, staticmethod(make)
    KINDS["plant" if issubclass(base, Plant) else "forget"][name] = command


_add_kind(Forget, "random", forget_sets.random_set)
_add_kind(Forget, "class", forget_sets.class_set)
_add_kind(Forget, "cluster", forget_sets.cluster_set)
_add_kind(_Group, "group", forget_sets.group_set)
_add_kind(_Fact, "fact", fact_sets)
_add_kind(Forget, "neighbours", forget_sets.neighbours_set)
_add_kind(Forget, "near-duplicates", forget_sets.near_duplicate_sets)
_add_kind(_Memorized, "most-memorized", forget_sets.memorized_set)
_add_kind(_Memorized, "least-memorized", forget_sets.memorized_set)
_add_kind(Plant, "flipped", planting.flip_labels)
_add_kind(Plant, "copies", planting.plant_copies)
_add_kind(_Patch, "patch", planting.poison_patch)
_CLUSTER = options_of(forget_sets.cluster_set, without=(*_GIVEN, "seed", "fraction"))
_add_kind(_Rare, "rare", planting.thin_cluster, cluster=_CLUSTER)


def _before(path: Path, dataset: Dataset) -> list[ForgetSet]:
    """The sets that the forget file holds already."""
    if path.suffix.lower() in NOT_JSON:
        raise InputError(
            f"{path}: sets are written as JSON, and {path.suffix} is read as something else; end it in .json"
        )
    return forget_sets.read_forget_sets(path, n_train=dataset.n_train, dataset=lambda: dataset) if path.exists() else []


def _checked(sets: list[ForgetSet], dataset: Dataset) -> list[ForgetSet]:
    """The sets as they will be read back, so that no file is written that is then refused."""
    return forget_sets.as_forget_sets(sets, n_train=dataset.n_train)

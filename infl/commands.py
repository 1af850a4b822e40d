"""The commands: what each takes, in the words of its help, and what it calls.

Heavy imports wait until a command runs, so that help and a mistyped option answer at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from infl.printing import duration, say, show_run, show_scores, show_verdicts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from infl.records import Dataset, Effects, Estimate, ForgetSet, ScoredPair, Thresholds, Verdict
    from infl.store import Run
    from infl.training.algorithm import Algorithm
    from infl.training.ensemble import Layout
    from infl.training.subsets import Design

# Optional settings whose help says the default in words: None stands for "as the run has it".
Whole = Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")]
Real = Annotated[float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="")]
Name = Annotated[str | None, tyro.conf.arg(metavar="NAME", help_behavior_hint="")]
File = Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")]


@dataclass(frozen=True, kw_only=True)
class _Data:
    dataset: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="DATASET", help_behavior_hint="")] = None
    """`digits`, `idx:FOLDER`, or a path to an .npz with x_train, y_train, x_test, y_test."""
    n_train: Whole = None
    """Training examples to draw from the data set; all by default."""
    n_held_out: Whole = None
    """Held-out examples to draw from the data set; all by default."""
    data_seed: int = 0
    """Seed of those draws."""

    def load(self) -> Dataset | None:
        from infl.data import load
        from infl.records import InputError

        if self.dataset is None:
            if (self.n_train, self.n_held_out) != (None, None):
                raise InputError("--n-train and --n-held-out draw from a data set: name it")
            return None
        return load(self.dataset, n_train=self.n_train, n_held_out=self.n_held_out, seed=self.data_seed)


@dataclass(frozen=True, kw_only=True)
class _Training(_Data):
    design: Annotated[
        Literal["grouped", "uniform", "balanced", "paired"] | None,
        tyro.conf.arg(metavar="grouped|uniform|balanced|paired", help_behavior_hint=""),
    ] = None
    """How subsets are drawn (default: grouped, half of the models by whole groups and half uniformly)."""
    grouped_share: Real = None
    """Share of the models of a grouped design whose subsets leave out whole groups (default: 0.5)."""
    fraction: Annotated[str | None, tyro.conf.arg(metavar="SHARE|LOW:HIGH", help_behavior_hint="")] = None
    """Share of the training examples in a subset, or a range LOW:HIGH to draw it from (default: 0.7:0.97 for
    grouped, else 0.7; paired: 0.5)."""
    network: Name = None
    """Network by name (default: mlp)."""
    hidden: Annotated[tuple[int, ...] | None, tyro.conf.arg(metavar="INT ...", help_behavior_hint="")] = None
    """Widths of the hidden layers (default: 256)."""
    optimizer: Name = None
    """sgd, adam or adamw (default: sgd)."""
    epochs: Whole = None
    """Passes over the subset (default: 30)."""
    batch_size: Whole = None
    """Examples a step (default: 50)."""
    learning_rate: Real = None
    """Learning rate (default: 0.05)."""
    momentum: Real = None
    """Momentum of sgd (default: 0.9)."""
    weight_decay: Real = None
    """Weight decay of adamw (default: 0)."""
    schedule: Name = None
    """Learning rate over training: constant, linear or cosine (default: constant)."""
    block_size: Whole = None
    """Models per device in a block. Affects speed only."""
    devices: Whole = None
    """Devices to use (default: all). Affects speed only."""
    mode: Annotated[Literal["map", "vmap"] | None, tyro.conf.arg(metavar="map|vmap", help_behavior_hint="")] = None
    """Models of a device one after another, or side by side (default: map on CPUs). Affects speed only."""

    def algorithm(self, base: Algorithm | None) -> Algorithm:
        from dataclasses import replace

        from infl.training.algorithm import Algorithm

        names = ("network", "hidden", "optimizer", "epochs", "batch_size", "learning_rate", "momentum")
        given = {name: getattr(self, name) for name in (*names, "weight_decay", "schedule")}
        return replace(base or Algorithm(), **{name: value for name, value in given.items() if value is not None})

    def drawn(self, base: Design | None) -> Design:
        from infl.records import InputError
        from infl.training.subsets import Design, parse_fraction

        kind = self.design or (base.kind if base else "grouped")
        same = base is not None and kind == base.kind
        usual: dict[str, float | tuple[float, float]] = {"grouped": (0.7, 0.97), "paired": 0.5}
        fraction = base.fraction if base is not None and same else usual.get(kind, 0.7)
        if self.fraction is not None:
            fraction = parse_fraction(self.fraction)
        if kind != "grouped":
            if self.grouped_share is not None:
                raise InputError(f"--grouped-share is a setting of design grouped, and the design is {kind}")
            return Design(kind, fraction)
        share = self.grouped_share
        if share is None:
            share = base.grouped_share if base is not None and same else Design().grouped_share
        return Design("grouped", fraction, grouped_share=share)

    def layout(self) -> Layout:
        from infl.training.ensemble import Layout

        return Layout(n_devices=self.devices, models_per_device=self.block_size, mode=self.mode)


@dataclass(frozen=True, kw_only=True)
class _Judging:
    self_threshold: float = 0.1
    """Least self-influence called high."""
    cross_threshold: float = 0.1
    """Least cross-influence called high."""
    least_effect: float = 0.1
    """Least effect on an example that counts as harm or gain."""
    probability: float = 0.8
    """A regime less probable than this is not named: undetermined."""
    cross: Literal["net", "harm"] = "net"
    """Judge cross-influence by its net value, or by harm alone."""

    def thresholds(self) -> Thresholds:
        from infl.records import Thresholds

        return Thresholds(self.self_threshold, self.cross_threshold, self.least_effect, self.probability, self.cross)


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Digits from end to end: train, score, predict and verify forget sets of many kinds; figures in the run folder."""

    run: Path = Path("runs/demo")
    """Folder of the run; continued where it exists."""
    models: int = 1000
    """Models trained on random subsets."""
    verify_models: int = 64
    """Models retrained without each forget set."""
    json: File = None
    """Write the verdicts here too."""

    def __call__(self) -> None:
        import infl

        say("infl demo: what happens if a digits classifier must forget some of its training examples?\n")
        dataset = infl.load("digits")
        run = infl.train(dataset, run=self.run, n_models=self.models, n_references=self.verify_models)
        memorization, pairs = _score(run, n_top=5)
        sets = infl.forget_sets.varied_sets(dataset, memorization)
        infl.forget_sets.write_forget_sets(run.folder / "forget.json", sets)
        thresholds = _Judging().thresholds()
        predicted = infl.predict(run, sets, thresholds=thresholds)
        summed = infl.predict(run, sets, predictor="additive", thresholds=thresholds)
        measured = infl.verify(run, sets, n_models=self.verify_models, thresholds=thresholds)
        show_verdicts(run, predicted, measured)
        say(
            "\nIn redundant sets every member is covered by the others. Summing the influences of single examples misses that:"
        )
        for one, other, truth in zip(predicted, summed, measured, strict=True):
            if one.forget_set.name.startswith(("class", "cluster")):
                said = f"the sum {other.regime}, infl {one.regime}, retraining {truth.regime}"
                say(f"  {one.forget_set.name}: {said}")
        _write_verdicts(self.json, predicted, measured, thresholds)


@dataclass(frozen=True, kw_only=True)
class Train(_Training):
    """Train models on random subsets, and reference models on all of D. Continues or extends a run that exists."""

    run: Path
    """Folder of the run."""
    models: int = 1000
    """Models of random subsets that the run shall hold."""
    references: int = 64
    """Models of all of D that it shall hold; effects are measured from them."""
    groups: File = None
    """Examples that belong together (users, documents, sources), left out together by design grouped beside the classes and
    clusters it finds itself: .json {"group": [ids], ...} or .csv lines id,group."""
    cover: File = None
    """Forget file: train models, too, that leave out these sets or parts of them, for sets unlike any that the design
    leaves out."""
    cover_models: int = 32
    """Models for each of those sets."""
    seed: Whole = None
    """Everything random follows from it (default: 0)."""
    json: File = None
    """Write what the run holds here."""

    def __call__(self) -> None:
        import infl

        old = infl.open_run(self.run) if (self.run / "run.json").exists() else None
        from infl.training.algorithm import Algorithm
        from infl.training.grouping import read_groups
        from infl.training.subsets import Design

        algorithm = self.algorithm(Algorithm.from_description(old.manifest["algorithm"]) if old else None)
        design = self.drawn(Design.from_description(old.manifest["design"]) if old else None)
        dataset = self.load()
        n_train = dataset.n_train if dataset else old.manifest["dataset"]["n_train"] if old else 0
        run = infl.train(
            dataset,
            run=self.run,
            # Without data, infl.train asks for them.
            groups=read_groups(self.groups, n_train=n_train) if self.groups and n_train else None,
            cover=infl.forget_sets.read_forget_sets(self.cover, n_train=n_train) if self.cover and n_train else None,
            models_per_covered_set=self.cover_models,
            n_models=self.models,
            n_references=self.references,
            design=design,
            algorithm=algorithm,
            seed=self.seed,
            layout=self.layout(),
        )
        show_run(run)
        _write_run(self.json, run)
        say(f"\nNext: infl scores --run {self.run}")


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Memorization of each training example and influence of each on others, with standard errors."""

    run: Path
    """Folder of the run."""
    top: int = 10
    """Examples and pairs to list."""
    json: File = None
    """Write the listed examples and pairs here."""
    arrays: File = None
    """Write all scores here as .npz, for runs whose matrix fits in memory."""

    def __call__(self) -> None:
        import infl
        from infl.records import InputError
        from infl.report.machine import scores_as_json, write_json, write_scores

        if self.top < 1:
            raise InputError(f"--top: expected at least 1, got {self.top}")
        run = infl.open_run(self.run)
        memorization, pairs = _score(run, n_top=self.top)
        outcomes = run.outcomes("design")
        if self.json:
            content = scores_as_json(
                memorization, pairs, n_top=self.top, n_models=outcomes.n_models, n_train=outcomes.n_train
            )
            write_json(self.json, content)
        if self.arrays:
            left_out, held_out = (infl.influence(outcomes, reading=reading) for reading in ("left-out", "held-out"))
            write_scores(self.arrays, memorization, left_out, held_out)


@dataclass(frozen=True, kw_only=True)
class _Asking(_Judging):
    run: Path
    """Folder of the run."""
    forget: Path
    """JSON file `{"name": [training ids], ...}`."""
    json: File = None
    """Write the verdicts here."""
    effects: File = None
    """Write the effect on every example here as .npz."""

    def opened(self) -> tuple[Run, list[ForgetSet]]:
        import infl

        run = infl.open_run(self.run)
        return run, infl.forget_sets.read_forget_sets(self.forget, n_train=run.manifest["dataset"]["n_train"])


@dataclass(frozen=True, kw_only=True)
class Predict(_Asking):
    """Predict the regime of forget sets from the models of a run."""

    predictor: Literal["combined", "support", "surrogate", "additive-shrunk", "additive"] = "combined"
    """How: from the support left in D and a closed-form refit (either, or combined), or by sums over single examples."""

    def __call__(self) -> None:
        import infl

        run, sets = self.opened()
        thresholds = self.thresholds()
        predicted = _judge_all(infl.predict_effects(run, sets, predictor=self.predictor), thresholds, self.effects)
        show_verdicts(run, predicted)
        _write_verdicts(self.json, predicted, [], thresholds)


@dataclass(frozen=True, kw_only=True)
class Verify(_Asking):
    """Measure the regime of forget sets by retraining without each, beside the prediction."""

    models: int = 64
    """Most models retrained without each set."""
    stop: float = 0.95
    """Looks after 16, 32, 64, ... models, and retrains none without a set whose regime is this probable. 1: all of --models."""

    def __call__(self) -> None:
        import infl

        run, sets = self.opened()
        thresholds = self.thresholds()
        effects = infl.verify_effects(
            run, sets, n_models=self.models, stop=None if self.stop >= 1 else self.stop, thresholds=thresholds
        )
        measured = _judge_all(effects, thresholds, self.effects)
        predicted = infl.predict(run, sets, thresholds=thresholds) if run.outcomes("design").n_models else []
        show_verdicts(run, predicted, measured)
        _write_verdicts(self.json, predicted, measured, thresholds)


@dataclass(frozen=True, kw_only=True)
class Plan(_Training):
    """Models, time and disk for a wanted standard error, from a short measured run on this machine."""

    target_se: float = 0.05
    """Wanted standard error of memorization and influence, in probability."""
    models: Whole = None
    """Plan for this many models instead."""
    references: int = 64
    """Models of all of D."""
    json: File = None
    """Write the plan here."""

    def __call__(self) -> None:
        from dataclasses import asdict

        import infl
        from infl.records import InputError
        from infl.report.machine import write_json

        dataset = self.load()
        if dataset is None:
            raise InputError("plan: name a data set, e.g. infl plan digits")
        planned = infl.plan(
            dataset,
            standard_error=self.target_se,
            n_models=self.models,
            n_references=self.references,
            design=self.drawn(None),
            algorithm=self.algorithm(None),
            layout=self.layout(),
        )
        rate = f"{planned.models_per_second:.1f} models/s, measured here just now"
        worst = f"at worst (outcomes right half of the time), fraction {planned.fraction:g}"
        say(f"standard error    {planned.standard_error:.3f} {worst}")
        say(f"models            {planned.n_models:,} and {planned.n_references:,} references")
        say(f"time              {duration(planned.seconds)} at {rate}")
        say(f"disk              {planned.n_bytes / 1e6:,.1f} MB before compression")
        if self.json:
            write_json(self.json, {**asdict(planned), "seconds": planned.seconds})


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """What a run holds and what is missing."""

    run: Path
    """Folder of the run."""
    json: File = None
    """Write it here too."""

    def __call__(self) -> None:
        import infl

        run = infl.open_run(self.run)
        show_run(run)
        _write_run(self.json, run)


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
    "class": _Kind("class_set", {"label": "label"}, {"share": "share"}),
    "cluster": _Kind("cluster_set", {"clusters": "n_clusters"}, {**_CLUSTER, "share": "share"}),
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
class Forget(_Data, _ForgetKind):
    """Write a forget set of some kind, of a data set or of a run's, into a forget file."""

    out: Path
    """Forget file to write; a set is added to one that exists."""
    run: File = None
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
            outcomes = run.outcomes("design")
            high = arguments.pop("cross", None)
            if high is not None:
                arguments |= {"cross": infl.cross_influence_totals(outcomes).value, "with_cross": high == "high"}
            made = make(infl.memorization(outcomes), highest=self.kind == "most-memorized", **arguments)
        sets = _checked([*before, made], dataset)
        infl.forget_sets.write_forget_sets(self.out, sets)
        say(f"{made.name}: {len(made)} of {dataset.n_train:,} training examples of {dataset.name}")
        say(f"forget file   {self.out}, {len(sets)} {'set' if len(sets) == 1 else 'sets'}")
        say(f"meant for     {_meant_for(make)}")
        folder = self.run or Path("runs") / dataset.name
        if self.run is None:
            say(f"\nNext: infl train {_words(self)} --run {_quoted(folder)}")
        say(
            f"{'Then' if self.run is None else 'Next'}: infl predict --run {_quoted(folder)} --forget {_quoted(self.out)}"
        )

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
class Plant(_Data, _PlantKind):
    """Write a data set with something planted in it, and the set of the examples that carry it into a forget file."""

    out: Path
    """Data set to write, an .npz that does not exist yet."""
    forget: Path
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
        infl.planting.write_npz(self.out, planted)
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
        say(f"\nNext: infl train {_quoted(self.out)} --run {_quoted(folder)}")
        say(f"Then: infl predict --run {_quoted(folder)} --forget {_quoted(self.forget)}")


def _checked(sets: list[ForgetSet], dataset: Dataset) -> list[ForgetSet]:
    """The sets as they will be read back, so that no file is written that is then refused."""
    import infl

    return infl.forget_sets.make_forget_sets(infl.forget_sets.by_name(sets), n_train=dataset.n_train)


def _meant_for(make: Callable[..., Any]) -> str:
    """First sentence after "Meant for:" in the docstring of a generator: said there, and nowhere again."""
    from inspect import getdoc

    paragraph = (getdoc(make) or "").partition("Meant for: ")[2].partition("\n\n")[0]
    return " ".join(paragraph.split()).partition(". ")[0].rstrip(".")


def _words(data: _Data) -> str:
    """The data set as it was named on the command line."""
    drawn = (
        ("--n-train", data.n_train, None),
        ("--n-held-out", data.n_held_out, None),
        ("--data-seed", data.data_seed, 0),
    )
    options = [f"{option} {value}" for option, value, default in drawn if value != default]
    return " ".join([_quoted(data.dataset), *options])


def _quoted(word: Any) -> str:
    from shlex import quote

    return quote(str(word))


def _score(run: Run, *, n_top: int) -> tuple[Estimate, list[ScoredPair]]:
    import infl

    outcomes = run.outcomes("design")
    memorization, pairs = infl.memorization(outcomes), infl.strongest_pairs(outcomes, n_pairs=n_top)
    show_scores(run, memorization, pairs, n_top=n_top)
    return memorization, pairs


def _judge_all(effects: Iterable[Effects], thresholds: Thresholds, path: Path | None) -> list[Verdict]:
    import infl
    from infl.report.machine import write_effects

    kept, verdicts = [], []
    for one in effects:
        verdicts.append(infl.judge(one, thresholds))
        if path:
            kept.append(one)
    if path:
        write_effects(path, kept)
    return verdicts


def _write_verdicts(
    path: Path | None, predicted: list[Verdict], measured: list[Verdict], thresholds: Thresholds
) -> None:
    from infl.report.machine import verdicts_as_json, write_json

    if path:
        write_json(path, verdicts_as_json(predicted, measured, thresholds=thresholds))


def _write_run(path: Path | None, run: Run) -> None:
    from infl.report.machine import write_json

    if path:
        write_json(path, run.describe())

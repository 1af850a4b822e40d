"""The training algorithm A as settings: network, optimizer, batches, epochs, augmentation, precision, privacy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from infl.records import Dataset, DatasetKind, InputError
from infl.training.adapters import as_network
from infl.training.augmentation import Augmentation
from infl.training.networks import Network, Norm
from infl.training.privacy import Privacy
from infl.training.start import Start, Weights, read_start
from infl.training.task import TASKS, Task, choose_task

if TYPE_CHECKING:
    from optax import GradientTransformation

    GivenNetwork = GivenStart = Any  # a module or a tree becomes a Network or a Start
else:
    GradientTransformation = Any  # options are made of these settings, without the second that optax takes to import
    GivenNetwork, GivenStart = str | Network, str | Start | None

Precision = Literal["float32", "bfloat16"]
Schedule = Literal["constant", "linear", "cosine"]
OPTIMIZERS = ("sgd", "adam", "adamw")
NETWORK_SETTINGS = ("hidden", "widths", "norm")
FOR_FACTS = ("transe", "bilinear", "tied-mlp")


def build(name: str, n_classes: int, **settings: Any) -> Network:
    """See `infl.training.architectures.build`, whose import takes a second."""
    from infl.training import architectures

    return architectures.build(name, n_classes, **settings)


@dataclass(frozen=True)
class Algorithm:
    """Network, optimizer, batch size, epochs and learning-rate schedule.

    Attributes:
        network: The name of a built-in network, a `Network`, a Flax linen module or the class of an nnx module.
        hidden: Widths of the dense hidden layers of `mlp`, `cnn` and the blocks of `vit`; None for the network's own
            default.
        widths: Channels of the convolutions of `cnn` and `resnet9`, width of the tokens of `vit`; None for the default.
        norm: Of `resnet9`: `group`, `batch` (statistics of the batch in training, running averages in evaluation) or
            `none`; None for the default.
        task: A name, or a `Task` of one's own; None for the one that fits the data.
        start: Weights to begin from: a safetensors file (`infl.keep_weights` writes one), a folder of orbax, or in Python the
            tree of weights; None draws them.
        trainable: Paths of the weights that are trained, `Dense_1` or `Dense_1/kernel`; the others stay at `start`. Empty for
            all.
        optimizer: A name, or an `optax.GradientTransformation` that brings its own learning rate.
        batch_size: Every step takes exactly this many members, cut from one stream of shuffled epochs: where one epoch
            ends inside a batch, the next fills it up. Members of a subset smaller than a batch come several times in it.
        epochs: Passes over the subset: k members are trained for round(epochs k / batch_size) steps, at least one.
        learning_rate: For optimizers given by name.
        momentum: Of `sgd`.
        weight_decay: Of `adamw`.
        schedule: Factor on every update, as a function of the fraction of the steps done: constant, or down to zero along a
            line or half a cosine.
        augmentation: Random changes of the images trained on; None for none.
        standardize: Whether the network gets pixels minus their mean, divided by their standard deviation, channel by
            channel: those of the examples that the model trains on, so that left-out ones have no part in them. After
            augmentation.
        precision: Of the forward and backward pass of training. With `bfloat16` (8 significant bits instead of 24) the
            weights themselves, the loss and the updates stay float32, and trained models are judged in float32.
        privacy: Clipping and noise of differentially private training; None for ordinary training. Batches are then
            Poisson samples (`sampling`): round(epochs n / batch_size) steps, n the size of D whatever the subset, which
            every member joins with probability batch_size / n, so that batches of all of D hold batch_size on average.

    Raises:
        InputError: for a setting out of its range, or private training of standardized pixels: what standardizes them is no
            private statistic.
    """

    network: GivenNetwork = "mlp"
    hidden: tuple[int, ...] | None = None
    widths: tuple[int, ...] | None = None
    norm: Norm | None = None
    task: str | Task | None = None
    start: GivenStart = None
    trainable: tuple[str, ...] = ()
    optimizer: str | GradientTransformation = "sgd"
    batch_size: int = 50
    epochs: int = 30
    learning_rate: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: Schedule = "constant"
    augmentation: Augmentation | None = None
    standardize: bool = False
    precision: Precision = "float32"
    privacy: Privacy | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise InputError(f"learning_rate: expected a finite number above 0, got {self.learning_rate}")
        if not 0 <= self.weight_decay < math.inf:
            raise InputError(f"weight_decay: expected a finite number of at least 0, got {self.weight_decay}")
        if self.weight_decay and self.optimizer != "adamw":
            raise InputError(f"weight_decay is a setting of adamw, and the optimizer is {self.optimizer}")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum: expected at least 0 and below 1, got {self.momentum}")
        if self.schedule not in get_args(Schedule):
            raise InputError(f"schedule: expected one of {', '.join(get_args(Schedule))}; got {self.schedule!r}")
        if self.precision not in get_args(Precision):
            raise InputError(f"precision: expected one of {', '.join(get_args(Precision))}; got {self.precision!r}")
        if isinstance(self.optimizer, str) and self.optimizer not in OPTIMIZERS:
            raise InputError(f"optimizer: expected one of {', '.join(OPTIMIZERS)}; got {self.optimizer!r}")
        if self.privacy is not None and self.standardize:
            raise InputError(
                "privacy: standardize takes mean and deviation of a model's own examples, which clipping and noise do not "
                "reach; scale pixels by constants instead"
            )
        if isinstance(self.task, str) and self.task not in TASKS:
            raise InputError(f"task: expected one of {', '.join(TASKS)}, or an infl.Task; got {self.task!r}")
        if self.start is not None:
            object.__setattr__(self, "start", read_start(self.start))
        elif self.trainable:
            raise InputError("trainable: freezes the other weights where they start; give start, or train all")
        object.__setattr__(self, "network", as_network(self.network))
        if isinstance(self.network, str):
            build(self.network, 2, **self._network_settings())

    @staticmethod
    def default(kind: DatasetKind) -> Algorithm:
        """What data are trained with where nothing else is asked for: a perceptron, a transformer, translations of entities.

        The settings for documents are those by which models of 400 verses of at most 32 tokens get to know them, those for
        facts the ones by which models of 400 facts know what follows from these.
        """
        if kind == "documents":
            return Algorithm("gpt", batch_size=8, optimizer="adam", learning_rate=0.006, schedule="cosine")
        if kind == "facts":
            settings: Any = {"optimizer": "adamw", "learning_rate": 0.01, "weight_decay": 0.3}
            return Algorithm("transe", widths=(64,), batch_size=64, epochs=100, **settings)
        return Algorithm()

    def to_dict(self) -> dict[str, Any]:
        """The algorithm as JSON: what a resumed run must agree with."""
        description: dict[str, Any] = {"network": self.build_network(2).to_dict(), "optimizer": "custom"}
        if isinstance(self.optimizer, str):
            used = {"sgd": ("learning_rate", "momentum"), "adam": ("learning_rate",)}
            names = used.get(self.optimizer, ("learning_rate", "weight_decay"))
            description |= {"optimizer": self.optimizer, **{name: getattr(self, name) for name in names}}
        description |= {"batch_size": self.batch_size, "epochs": self.epochs, "schedule": self.schedule}
        # What is not the default alone, so that runs made before there was a choice can be continued.
        if self.augmentation is not None:
            description["augmentation"] = " ".join(self.augmentation.words())
        if self.standardize:
            description["standardize"] = True
        if self.precision != "float32":
            description["precision"] = self.precision
        if self.privacy is not None:
            description["privacy"] = " ".join(self.privacy.words())
        if self.task is not None:
            description["task"] = self.task.name if isinstance(self.task, Task) else self.task
        if isinstance(self.start, Start):
            description["start"] = {"sha256": self.start.sha256, "source": self.start.source}
        if self.trainable:
            description["trainable"] = list(self.trainable)
        return description

    @staticmethod
    def from_dict(description: dict[str, Any]) -> Algorithm:
        """The inverse of `describe`, for algorithms made of infl's own parts.

        Raises:
            InputError: where the network or the optimizer was the user's own, which a manifest cannot hold.
        """
        settings = dict(description)
        network = dict(settings.pop("network"))
        name = network.pop("name")
        start = settings.get("start", {"source": "file"})
        for part, own in (
            ("network", name == "custom" or not network),
            ("optimizer", settings["optimizer"] == "custom"),
            ("task", settings.get("task", "classification") not in TASKS),
            ("start weights", not start["source"]),
        ):
            if own:
                raise InputError(
                    f"this run's {part} was given in Python; call infl.verify from Python with algorithm=..."
                )
        if "augmentation" in settings:
            settings["augmentation"] = Augmentation.parse(settings["augmentation"].split())
        if "privacy" in settings:
            settings["privacy"] = Privacy.parse(settings["privacy"].split())
        defaults = build(name, 2).settings
        given = {setting: value for setting, value in network.items() if value != defaults.get(setting)}
        if rest := sorted(set(given) - set(NETWORK_SETTINGS)):
            raise InputError(
                f"this run's network was given in Python, with {rest[0]}; call infl.verify from Python with algorithm=..."
            )
        given = {setting: tuple(value) if isinstance(value, list) else value for setting, value in given.items()}
        if "start" in settings:
            settings["start"] = read_start(start["source"])
            if settings["start"].sha256 != start["sha256"]:
                raise InputError(f"start: {start['source']} holds other weights than those this run began from")
        settings["trainable"] = tuple(settings.get("trainable", ()))
        return Algorithm(network=name, **given, **settings)

    def build_network(self, n_classes: int, **more: Any) -> Network:
        """The network with that many outputs, for classification the number of classes."""
        return (
            self.network
            if isinstance(self.network, Network)
            else build(self.network, n_classes, **self._network_settings(), **more)
        )

    def choose_task(self, dataset: Dataset) -> Task:
        """The task on this data; see `infl.training.task.choose_task`."""
        return choose_task(self.task, dataset)

    def network_for(self, dataset: Dataset) -> Network:
        """The network for this data, with as many outputs as the task on it has.

        Raises:
            InputError: Where one for other data is asked for documents or facts.
        """
        names = {"documents": ("gpt",), "facts": FOR_FACTS, "examples": ()}[dataset.kind]
        if names and isinstance(self.network, str) and self.network not in names:
            raise InputError(
                f"network: {self.network} takes no {dataset.kind}; take {' or '.join(names)}, or a network of your own"
            )
        more = {"n_terms": (len(dataset.entities), len(dataset.relations))} if dataset.is_facts else {}
        return self.build_network(self.choose_task(dataset).output_shape(dataset)[-1], **more)

    @property
    def start_weights(self) -> Weights | None:
        """The arrays of `start` by name; None where there is none."""
        return None if self.start is None else self.start.arrays

    def build_optimizer(self) -> GradientTransformation:
        """The optimizer, before the schedule's factor."""
        if not isinstance(self.optimizer, str):
            return self.optimizer
        import optax

        if self.optimizer == "sgd":
            return optax.sgd(self.learning_rate, momentum=self.momentum or None)
        if self.optimizer == "adam":
            return optax.adam(self.learning_rate)
        return optax.adamw(self.learning_rate, weight_decay=self.weight_decay)

    def n_steps(self, n_members: Any, epochs: Any) -> Any:
        """Steps that so many epochs over a subset of that size take, at least one; integers, or arrays of them.

        Examples:
            >>> Algorithm(batch_size=50).n_steps(408, 30), Algorithm(batch_size=50).n_steps(400, 30)
            (245, 240)
        """
        steps = (2 * epochs * n_members + self.batch_size) // (2 * self.batch_size)
        return steps + ((steps == 0) & (epochs > 0))

    def sampling(self, n_train: int) -> tuple[float, int]:
        """Sampling rate and number of steps of private training on D of that size or its subsets, for `infl.accounting`.

        Examples:
            >>> Algorithm(privacy=Privacy(), batch_size=50, epochs=10).sampling(1000)
            (0.05, 200)
        """
        return min(1.0, self.batch_size / n_train), self.n_steps(n_train, self.epochs)

    def _network_settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in NETWORK_SETTINGS if getattr(self, name) is not None}

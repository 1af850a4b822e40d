"""How a batch of models is laid out on devices, and what is known of a training before any of it is run."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infl.records import Dataset, InputError
from infl.training.algorithm import Algorithm
from infl.training.networks import network_dtype

if TYPE_CHECKING:
    import jax

Mode = Literal["map", "vmap"]

MAX_MODELS_PER_DEVICE = {"map": 16, "vmap": 64}
SECONDS_PER_BATCH = 5.0
FLOP_PER_SECOND = {"cpu": 5e10}  # of one device, roughly; others: 1e13


@dataclass(frozen=True)
class Layout:
    """How a batch of models is laid out. Affects speed only; what is None is chosen, by measurement where training takes long.

    Attributes:
        n_devices: Devices used; None for all.
        models_per_device: Models of a batch that one device trains. A batch is what a kill can lose, unless checkpoints are
            kept. By default as many as fit into some five seconds by a rough count of operations, at most 16 with `map`
            and 64 with `vmap`.
        mode: `map` or `vmap` inside a device; by default `map` on CPUs, `vmap` elsewhere.
        convolution: How convolutions are computed, a name of `infl.training.kernels.convolution.BACKENDS`.
    """

    n_devices: int | None = None
    models_per_device: int | None = None
    mode: Mode | None = None
    convolution: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return dict(vars(self))

    @staticmethod
    def from_dict(description: dict[str, Any]) -> Layout:
        """The inverse of `to_dict`; further entries are ignored."""
        return Layout(**{name: description[name] for name in Layout().to_dict()})

    def __post_init__(self) -> None:
        for name in ("n_devices", "models_per_device"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}: expected at least 1, got {value}")
        if self.mode not in (None, "map", "vmap"):
            raise InputError(f"mode: expected map or vmap, got {self.mode!r}")
        if self.convolution is not None:
            from infl.training.kernels.convolution import BACKENDS  # here, since it imports JAX

            if self.convolution not in BACKENDS:
                raise InputError(f"convolution: expected one of {', '.join(BACKENDS)}; got {self.convolution!r}")


def usual_width(mode: Mode, seconds_per_model: float) -> int:
    """Models per device that take some five seconds, at most 16 with `map` and 64 with `vmap`."""
    return int(np.clip(SECONDS_PER_BATCH / max(seconds_per_model, 1e-9), 1, MAX_MODELS_PER_DEVICE[mode]))


def estimated_seconds(algorithm: Algorithm, dataset: Dataset, device: Any) -> float:
    """Seconds that training one model takes on one device, by a rough count of operations: three passes over D an epoch."""
    counted: Any = lower_apply(algorithm, dataset).cost_analysis() or {}
    per_example = max(float(counted.get("flops", 1.0)), 1.0) / algorithm.batch_size
    operations = 3.0 * per_example * dataset.n_train * algorithm.epochs
    return operations / FLOP_PER_SECOND.get(device.platform, 1e13)


def lower_apply(
    algorithm: Algorithm, dataset: Dataset, convolution: str | None = None, *, gradient: bool = False
) -> jax.stages.Lowered:
    """The forward pass of a batch, or its gradient: not compiled, for what it computes and how many operations that takes."""
    import jax

    network, x = algorithm.network_for(dataset), dataset.x_train
    variables = network.shapes(x[:1])
    examples = jax.ShapeDtypeStruct((algorithm.batch_size, *x.shape[1:]), network_dtype(x))

    # Functions of this call alone: what was traced before, with another back end, must not be taken for them.
    def forward(variables: Any, x: jax.Array) -> jax.Array:
        return network.evaluate(variables, x)

    def backward(variables: Any, x: jax.Array) -> Any:
        params, state = network.split(variables)
        return jax.grad(lambda params: (forward(network.join(params, state), x) ** 2).sum())(params)

    with convolution_backend(convolution):
        return jax.jit(backward if gradient else forward).lower(variables, examples)


def convolution_backend(name: str | None) -> AbstractContextManager[None]:
    """In a `with` block networks are traced with this convolution; None for the usual one."""
    from infl.training.kernels.convolution import use_backend

    return nullcontext() if name is None else use_backend(name)

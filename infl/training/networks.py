"""What a network is to infl: two pure functions, with a state and a key where it has batch statistics or dropout.

`infl.training.adapters` makes one of a Flax or Equinox module, `infl.training.architectures` of a name. In evaluation a
network treats the examples of a batch independently. In training it may use statistics of its batch, whose members are all
in the model's subset, so that no left-out example has a part in them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from infl.records import Array, Dataset, InputError, first_line

if TYPE_CHECKING:
    import jax


Norm = Literal["group", "batch", "none"]


@dataclass(frozen=True)
class Network:
    """A network as two pure functions. A user's own needs nothing else.

    One with batch statistics, dropout or the like takes two more arguments: `apply(params, x, state, key)`, which returns
    outputs and the new state, and its `init` returns (params, state). The key is None in evaluation: drop nothing then, use
    the running averages of the state, and return it as it came.

    Attributes:
        init: (key, x [b, ...]) -> params, any pytree of float arrays; or (params, state), any two.
        apply: (params, x [b, ...]) -> outputs [b, ...], for classification logits [b, classes]; or
            (params, x, state, key) -> (outputs, state).
        features: (what init returns, x [b, ...]) -> [b, d], the input of the last layer in evaluation; None where it is not
            known. Examples are clustered on it, and nothing else uses it.
        name: Stands in the run's manifest; a resumed run must name the same network.
        settings: What the built-in networks are rebuilt from; JSON.

    Examples:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> linear = Network(
        ...     init=lambda key, x: jnp.zeros((x[0].size, 10)),
        ...     apply=lambda weights, x: x.reshape(len(x), -1) @ weights,
        ...     name="linear",
        ... )
        >>> linear.apply(linear.init(jax.random.key(0), jnp.ones((2, 8, 8))), jnp.ones((2, 8, 8))).shape
        (2, 10)

    Raises:
        InputError: Where init or apply is no function.
    """

    init: Callable[[jax.Array, jax.Array], Any]
    apply: Callable[..., Any]
    name: str = "custom"
    settings: dict[str, Any] = field(default_factory=dict)
    features: Callable[[Any, jax.Array], jax.Array] | None = None

    def __post_init__(self) -> None:
        if not (callable(self.init) and callable(self.apply)):
            raise InputError(
                "network: expected infl.Network(init, apply), two functions first, got "
                f"{type(self.init).__name__} and {type(self.apply).__name__}"
            )

    @cached_property
    def takes_state(self) -> bool:
        """Whether `apply` takes a state and a key."""
        try:
            parameters = inspect.signature(self.apply).parameters.values()
        except (TypeError, ValueError):
            return False
        return sum(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in parameters) == 4

    def split(self, variables: Any) -> tuple[Any, Any]:
        """What `init` returns as params and state, which is () for a network without one."""
        return variables if self.takes_state else (variables, ())

    def join(self, params: Any, state: Any) -> Any:
        """Params and state as `init` returns them."""
        return (params, state) if self.takes_state else params

    def forward(self, params: Any, state: Any, x: jax.Array, key: jax.Array | None) -> tuple[Any, Any]:
        """Outputs and new state, in training with a key, in evaluation with None."""
        return self.apply(params, x, state, key) if self.takes_state else (self.apply(params, x), state)

    def evaluate(self, variables: Any, x: jax.Array) -> Any:
        """Outputs in evaluation, from what `init` returns or `infl.load_weights` gives."""
        params, state = self.split(variables)
        return self.forward(params, state, x, None)[0]

    def shapes(self, example: Any) -> Any:
        """Shapes and dtypes of what `init` returns for an array [1, ...] like this, of which shape and dtype alone count."""
        import jax

        key = jax.eval_shape(lambda: jax.random.key(0))
        return jax.eval_shape(self.init, key, jax.ShapeDtypeStruct(example.shape, network_dtype(example)))

    def to_dict(self) -> dict[str, Any]:
        """The network as JSON."""
        return {"name": self.name, **self.settings}


def network_dtype(example: Any) -> Any:
    """Of what a network gets: tokens and questions are int32, all else is float32."""
    return np.dtype(np.int32 if example.dtype == np.int32 else np.float32)


def random_batch(dataset: Dataset) -> Array:
    """Three random examples of the kind that a data set has, [3, ...]: pixels in [0, 1), tokens, or questions."""
    random, shape = np.random.RandomState(0), (3, *dataset.x_train.shape[1:])
    if dataset.is_facts:
        return random.randint(0, [len(dataset.entities), len(dataset.relations)], shape).astype(np.int32)
    if dataset.is_documents:
        return random.randint(1, max(len(dataset.vocabulary), 2), shape).astype(np.int32)
    return random.uniform(size=shape).astype(np.float32)


def check_network(network: Network, batch: Array, expected: tuple[int, ...]) -> None:
    """Try a network on random examples.

    Args:
        batch: Three random examples [3, ...], of the kind that it will get.
        expected: Shape of its outputs for one of them.

    Raises:
        InputError: Where it fails, its outputs have another shape or are probabilities, or in evaluation those of an example
            depend on the rest of its batch.
    """
    import jax
    import jax.numpy as jnp

    x, two = jnp.asarray(batch), batch[:2].shape

    @jax.jit  # as training will be; one by one its operations take five times as long to compile
    def outputs_for_two(key: jax.Array) -> tuple[jax.Array, jax.Array]:
        variables = network.init(key, jnp.zeros_like(x[:1]))
        both = network.evaluate(variables, x[:2]), network.evaluate(variables, x[::2])
        params, state = network.split(variables)
        _, after = network.forward(params, state, x[:2], key)  # training, too, must be possible
        if jax.tree.structure(after) != jax.tree.structure(state):
            raise InputError(f"network {network.name}: expected a new state of the structure of the old, got another")
        return jnp.asarray(both[0]), jnp.asarray(both[1])

    try:
        outputs, mixed = outputs_for_two(jax.random.key(0))
    except InputError:
        raise
    except Exception as error:
        advice = _ADVICE.get(type(error).__name__, "")
        raise InputError(
            f"network {network.name}: failed on a batch of shape {two}: {first_line(error)}{advice}"
        ) from error
    if outputs.shape != (2, *expected):
        raise InputError(
            f"network {network.name}: expected logits [batch, {', '.join(map(str, expected))}] for this data, got "
            f"{list(outputs.shape)} for a batch of 2"
        )
    if (
        len(expected) == 1
        and expected[0] > 1
        and (outputs >= 0).all()
        and jnp.allclose(outputs.sum(axis=1), 1, atol=1e-3)
    ):
        raise InputError(
            f"network {network.name}: returned probabilities, rows that sum to one, and logits are expected: leave out its "
            "last softmax, which the loss applies itself"
        )
    if not jnp.allclose(outputs[0], mixed[0], rtol=1e-3, atol=1e-4):
        raise InputError(
            f"network {network.name}: in evaluation the outputs of an example depend on its batch, so that examples would "
            "reach each other; use running averages there, and drop nothing"
        )


_ADVICE = {
    "ModifyScopeVariableError": "; in evaluation take the running averages: use_running_average=not train",
    "InvalidRngError": "; give `__call__` an argument `train` that turns dropout on, and a key reaches it in training",
}

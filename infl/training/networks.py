"""Turns a name, a Flax module or two plain functions into a Network: init(key, x) -> params, apply(params, x) -> logits.

Networks must treat examples of a batch independently: batch statistics would carry left-out examples into a model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infl.records import InputError

if TYPE_CHECKING:
    import flax.linen as nn
    import jax
    from flax import nnx


@dataclass(frozen=True)
class Network:
    """A network as two pure functions. A user's own needs nothing else.

    Attributes:
        init: (key, x [b, ...]) -> params, any pytree of float arrays.
        apply: (params, x [b, ...]) -> logits [b, classes].
        features: (params, x [b, ...]) -> [b, d], the input of the last layer; None where it is not known. Examples are
            clustered on it, and nothing else uses it.
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
    """

    init: Callable[[jax.Array, jax.Array], Any]
    apply: Callable[[Any, jax.Array], jax.Array]
    name: str = "custom"
    settings: dict[str, Any] = field(default_factory=dict)
    features: Callable[[Any, jax.Array], jax.Array] | None = None

    def to_dict(self) -> dict[str, Any]:
        """The network as JSON."""
        return {"name": self.name, **self.settings}


def from_linen(module: nn.Module, *, name: str | None = None) -> Network:
    """Adapt a Flax linen module whose only variables are parameters.

    Raises:
        InputError: at initialization, where the module has other variables, such as batch statistics.
    """

    def init(key: jax.Array, x: jax.Array) -> Any:
        variables = module.init(key, x)
        extra = sorted(set(variables) - {"params"})
        if extra:
            raise InputError(f"network: expected parameters only, got the collections {extra}; {_WHY_NO_STATE}")
        return variables["params"]

    def apply(params: Any, x: jax.Array) -> jax.Array:
        return module.apply({"params": params}, x)  # pyright: ignore[reportReturnType]

    return Network(init, apply, name or type(module).__name__)


def from_nnx(build_module: Callable[[nnx.Rngs], nnx.Module], *, name: str | None = None) -> Network:
    """Adapt a Flax nnx module, given as a function of its random streams, e.g. `lambda rngs: MyNet(64, 10, rngs=rngs)`.

    Raises:
        InputError: where the module has variables other than parameters (and unused random streams).
    """
    from flax import nnx

    abstract = nnx.eval_shape(lambda: build_module(nnx.Rngs(0)))
    rest: Any = nnx.split(abstract, nnx.Param, ...)[2]
    others = nnx.to_flat_state(rest)
    extra = sorted({type(variable).__name__ for _, variable in others if not isinstance(variable, nnx.RngState)})
    if extra:
        raise InputError(f"network: expected parameters only, got the nnx variables {extra}; {_WHY_NO_STATE}")

    def init(key: jax.Array, x: jax.Array) -> Any:
        del x
        return nnx.to_pure_dict(nnx.split(build_module(nnx.Rngs(key)), nnx.Param, ...)[1])

    def apply(params: Any, x: jax.Array) -> jax.Array:
        module: Any = nnx.eval_shape(lambda: build_module(nnx.Rngs(0)))
        nnx.update(module, params)
        return module(x)

    return Network(init, apply, name or "nnx")


_WHY_NO_STATE = "batch statistics would carry left-out examples into a model: use group or layer norm"


def check_network(network: Network, example: jax.Array, n_classes: int) -> None:
    """Try a network on a batch of random pixels.

    Raises:
        InputError: where it fails, its logits are not [batch, n_classes] or are probabilities, or the logits of an example
            depend on the rest of its batch.
    """
    import jax
    import jax.numpy as jnp

    shape = (2, *example.shape)

    @jax.jit  # as training will be; one by one its operations take five times as long to compile
    def logits_of_two(keys: jax.Array) -> tuple[jax.Array, jax.Array]:
        batch, other = (jax.random.uniform(key, shape) for key in keys[1:])
        params = network.init(keys[0], jnp.zeros((1, *example.shape)))
        both = network.apply(params, batch), network.apply(params, batch.at[1].set(other[1]))
        return jnp.asarray(both[0]), jnp.asarray(both[1])

    try:
        logits, mixed = logits_of_two(jax.random.split(jax.random.key(0), 3))
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"network {network.name}: failed on a batch of shape {shape}: {error}") from error
    if logits.shape != (2, n_classes):
        raise InputError(
            f"network {network.name}: expected logits [batch, {n_classes}] for this data, got {list(logits.shape)} "
            "for a batch of 2"
        )
    if (logits >= 0).all() and jnp.allclose(logits.sum(axis=1), 1, atol=1e-3):
        raise InputError(
            f"network {network.name}: returned probabilities, rows that sum to one, and logits are expected: leave out its "
            "last softmax, which the loss applies itself"
        )
    if not jnp.allclose(logits[0], mixed[0], rtol=1e-3, atol=1e-4):
        raise InputError(f"network {network.name}: the logits of an example depend on its batch; {_WHY_NO_STATE}")

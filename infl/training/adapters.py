"""Makes a Network of a module of Flax (linen or nnx) or Equinox, with its batch statistics and dropout.

In training these take the statistics of the batch, whose members are all in the model's subset, and a key of their own for
each step; in evaluation the running averages of the model's own members, and nothing is dropped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from infl.records import InputError
from infl.training.networks import Network

if TYPE_CHECKING:
    import flax.linen as nn
    import jax
    from flax import nnx

# Arguments by which modules are told whether they are trained, and what they mean in training.
TRAINING_FLAGS = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
    "inference": False,
}


def as_network(given: Any) -> str | Network:
    """What stands where a network is wanted: a name, a Network, a linen module or the class of an nnx module.

    Raises:
        InputError: For anything else; the message says how to write it.
    """
    if isinstance(given, str | Network):
        return given
    library = _library(given)
    if library == "flax.linen" and not isinstance(given, type):
        return from_linen(given)
    if library == "flax.nnx" and isinstance(given, type):
        return from_nnx(given)
    raise _not_a_network(given)


def _library(given: Any) -> str:
    homes = [base.__module__ for base in (given if isinstance(given, type) else type(given)).__mro__]
    return next((name for home in homes for name in _HOW_TO_GIVE if name and home.startswith(name)), "")


def _not_a_network(given: Any) -> InputError:
    name = given.__name__ if isinstance(given, type) else type(given).__name__
    return InputError(f"network: {_HOW_TO_GIVE[_library(given)].format(name=name)}")


_HOW_TO_GIVE = {
    "flax.linen": "expected a module, got its class; write {name}()",
    "flax.nnx": "an nnx module holds the weights of one model; give its class, or infl.from_nnx(lambda rngs: {name}(..., "
    "rngs=rngs))",
    "equinox": "an Equinox module holds the weights of one model; give infl.from_equinox(lambda key: {name}(..., key=key))",
    "torch": "a PyTorch module is not trained by JAX; write it with Flax or Equinox, or import the outcomes of models that "
    "PyTorch trained with infl.import_outcomes",
    "": "expected a name, infl.Network(init, apply) or a Flax module, got {name}",
}


def from_linen(module: nn.Module, *, name: str | None = None) -> Network:
    """Adapt a Flax linen module, with its batch statistics and dropout.

    A module that has either is told of training by an argument of `__call__`: `train`, `training`, `is_training` (True), or
    `deterministic`, `use_running_average`, `inference` (False).

    Raises:
        InputError: At initialization, where a module without such an argument has other variables than parameters.
    """
    names = inspect.signature(module.__call__).parameters
    training = {flag: value for flag, value in TRAINING_FLAGS.items() if flag in names}
    return adapt_linen(module, training, name=name)


def adapt_linen(module: nn.Module, training: dict[str, bool], *, name: str | None = None) -> Network:
    """Adapt a linen module which in training is called with these arguments; none for one without state."""
    evaluation: Any = {flag: not value for flag, value in training.items()}
    in_training: Any = training

    def init(key: jax.Array, x: jax.Array) -> Any:
        state: dict[str, Any] = dict(module.init(key, x, **evaluation))
        params = state.pop("params", {})
        if training:
            return params, state
        if state:
            raise InputError(
                f"network: expected parameters only, got the collections {sorted(state)}; give `__call__` an argument `train` "
                "that turns statistics of the batch on (use_running_average=not train)"
            )
        return params

    def apply(params: Any, x: jax.Array) -> Any:
        return module.apply({"params": params}, x)

    def apply_with_state(params: Any, x: jax.Array, state: Any, key: jax.Array | None) -> tuple[Any, Any]:
        variables = {"params": params, **state}
        if key is None:
            return module.apply(variables, x, **evaluation), state
        outputs, new = module.apply(variables, x, rngs={"dropout": key}, mutable=list(state), **in_training)
        return outputs, {**state, **new}

    return Network(init, apply_with_state if training else apply, name or type(module).__name__)


def from_nnx(build_module: Callable[[nnx.Rngs], nnx.Module], *, name: str | None = None) -> Network:
    """Adapt a Flax nnx module, given as its class or a function of its random streams: `lambda rngs: MyNet(64, rngs=rngs)`.

    Batch statistics and other variables are its state; `train()` and `eval()` switch them, and dropout.

    Raises:
        InputError: Where it is given already built.
    """
    import jax
    from flax import nnx

    if isinstance(build_module, nnx.Module):
        raise _not_a_network(build_module)

    def build(rngs: Any) -> Any:
        return build_module(rngs=rngs) if isinstance(build_module, type) else build_module(rngs)

    def split(module: Any) -> list[Any]:
        return list(nnx.split(module, nnx.Param, nnx.RngState, ...)[1:])

    def abstract() -> Any:
        return nnx.eval_shape(lambda: build(nnx.Rngs(0)))

    _, random, others = split(abstract())
    has_state = bool(jax.tree.leaves((random, others)))

    def init(key: jax.Array, x: jax.Array) -> Any:
        del x
        params, _, state = map(nnx.to_pure_dict, split(build(nnx.Rngs(key))))
        return (params, state) if has_state else params

    def apply(params: Any, x: jax.Array) -> Any:
        return apply_with_state(params, x, {}, None)[0]

    def apply_with_state(params: Any, x: jax.Array, state: Any, key: jax.Array | None) -> tuple[Any, Any]:
        module = abstract()
        nnx.update(module, params)
        nnx.update(module, state)
        if key is None:
            module.eval()
            return module(x), state
        module.train()
        nnx.update(module, _streams_from(key, split(module)[1]))
        outputs = module(x)
        return outputs, nnx.to_pure_dict(split(module)[2])

    return Network(init, apply_with_state if has_state else apply, name or "nnx")


def _streams_from(key: jax.Array, streams: Any) -> Any:
    """Random streams of an nnx module, begun anew: a key each, and counts of zero."""
    import jax
    import jax.numpy as jnp

    leaves, structure = jax.tree.flatten(streams)
    keys = jax.random.split(key, len(leaves))
    new = [
        jax.random.split(own, leaf.shape)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        else jnp.zeros(leaf.shape, leaf.dtype)
        for own, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, new)


def from_equinox(build_module: Callable[[jax.Array], Any], *, name: str | None = None) -> Network:
    """Adapt an Equinox module, given as a function of a key: `lambda key: MyNet(..., key=key)`.

    As Equinox has it, the module takes one example, and infl maps it over the batch under the axis name "batch", which
    `eqx.nn.BatchNorm` is told. Where it has a state, give `lambda key: eqx.nn.make_with_state(MyNet)(..., key=key)`; a
    `__call__(x, state, key)` gets those of the two that it has arguments of these names for.

    Raises:
        InputError: Where it is given already built.
    """
    import equinox as eqx
    import jax

    if isinstance(build_module, eqx.Module):
        raise _not_a_network(build_module)

    def built(key: jax.Array) -> tuple[Any, Any]:
        made: Any = build_module(key)
        return made if isinstance(made, tuple) else (made, None)

    module, first_state = built(jax.random.key(0))
    static = eqx.partition(module, eqx.is_inexact_array)[1]
    structure = jax.tree.structure(first_state)
    arguments = inspect.signature(type(module).__call__).parameters
    has_state, has_key = "state" in arguments, "key" in arguments

    def init(key: jax.Array, x: jax.Array) -> Any:
        del x
        module, state = built(key)
        params = eqx.filter(module, eqx.is_inexact_array)
        # The leaves alone: Equinox lets a state be used only once.
        return (params, jax.tree.leaves(state)) if has_state or has_key else params

    def apply_with_state(params: Any, x: jax.Array, state: Any, key: jax.Array | None) -> tuple[Any, Any]:
        module: Any = eqx.nn.inference_mode(eqx.combine(params, static), key is None)
        shared = {"state": jax.tree.unflatten(structure, state)} if has_state else {}

        def call(one: jax.Array, own_key: jax.Array | None) -> tuple[Any, Any]:
            called = module(one, **shared, **({"key": own_key} if has_key else {}))
            return called if has_state else (called, None)

        keys = jax.random.split(key, len(x)) if has_key and key is not None else None
        outputs, new = jax.vmap(call, axis_name="batch", out_axes=(0, None))(x, keys)
        return outputs, state if key is None else jax.tree.leaves(new)

    def apply(params: Any, x: jax.Array) -> Any:
        return apply_with_state(params, x, [], None)[0]

    return Network(init, apply_with_state if has_state or has_key else apply, name or type(module).__name__)

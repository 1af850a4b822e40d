"""Turns trees of weights and states into arrays by name, as files hold them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from infl.records import Array, InputError
from infl.records.files import read_arrays, write_arrays
from infl.training.networks import Network


def write_weights(path: Path, params: Any) -> None:
    """Write the parameters of a model to a file."""
    write_arrays(path, states_to_arrays(params))


def read_weights(path: Path, network: Network, pixels_shape: tuple[int, ...]) -> Any:
    """Read the parameters of a network for examples of this shape, as NumPy arrays in the tree that its `init` gives."""
    like = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *pixels_shape), np.float32))
    wanted, found = _by_name(like), read_arrays(path) or {}
    if {name: leaf.shape for name, leaf in wanted.items()} != {name: array.shape for name, array in found.items()}:
        raise InputError(f"{path} does not hold weights of this network, or is damaged; infl.keep_weights makes them")
    leaves = [found[name].view(leaf.dtype) for name, leaf in wanted.items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def states_to_arrays(states: Any) -> dict[str, Array]:
    """The leaves of a tree under their names in it, `['dense']['kernel']` and the like; random keys as their numbers."""
    return {name: np.asarray(_plain(leaf)) for name, leaf in _by_name(states).items()}


def states_from_arrays(arrays: Mapping[str, Array], like: Any) -> Any:
    """The tree of which `states_to_arrays` made arrays, with the types and devices of this one."""

    def restored(name: str, leaf: Any) -> Any:
        array = arrays[name].view(_plain(leaf).dtype)  # NumPy names no bfloat16 in a file
        if _is_key(leaf):
            array = jax.random.wrap_key_data(jnp.asarray(array), impl=jax.random.key_impl(leaf))
        return jax.device_put(array, leaf.sharding)

    leaves = [restored(name, leaf) for name, leaf in _by_name(like).items()]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _plain(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _by_name(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

"""Turns the states of a batch in training into arrays and back, and writes parameters of a model with orbax: JSON and zarr."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from infl.records import Array, InputError, first_line
from infl.training.networks import Network


def write_weights(folder: Path, params: Any) -> None:
    """Write a tree of arrays under their names in it, `['dense']['kernel']` and the like; a folder is whole or not there."""
    arrays = states_to_arrays(params)
    needed = sum(array.nbytes for array in arrays.values())
    free = shutil.disk_usage(next(parent for parent in folder.resolve().parents if parent.exists())).free
    if needed > free:  # which orbax would find out half way, and with many words
        raise OSError(errno.ENOSPC, f"No space left on device: {needed:,} bytes are needed and {free:,} are free")
    with _unlogged(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve(), arrays, force=True)


def read_weights(folder: Path, network: Network, pixels_shape: tuple[int, ...]) -> Any:
    """Read the parameters of a network for examples of this shape, as NumPy arrays in the tree that its `init` gives."""
    like = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *pixels_shape), np.float32))
    wanted = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in _by_name(like).items()}
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            kept: Any = checkpointer.metadata(folder.resolve()).item_metadata
            shapes = {name: tuple(leaf.shape) for name, leaf in kept.tree.items()}
            if shapes != {name: leaf.shape for name, leaf in wanted.items()}:
                raise ValueError(f"its arrays have the shapes {shapes}")
            found = checkpointer.restore(folder.resolve(), wanted)
    except (ValueError, KeyError, OSError, AttributeError) as error:
        raise InputError(f"{folder} does not hold weights of this network: {first_line(error)}") from error
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])


def states_to_arrays(states: Any) -> dict[str, Array]:
    """The leaves of a tree under their names in it, random keys as their numbers."""
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


@contextmanager
def _unlogged() -> Iterator[None]:
    """The threads of orbax log, with tracebacks, what is raised here anyway."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


def _by_name(tree: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

"""Writes the parameters of a model, or the states of a batch in training, to disk and reads them, with orbax: JSON and zarr."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator
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
    """Write them under their names in the tree, `['dense']['kernel']` and the like; a folder is whole or not there."""
    _write(folder, _by_name(params))


def read_weights(folder: Path, network: Network, pixels_shape: tuple[int, ...]) -> Any:
    """Read the parameters of a network for examples of this shape, as NumPy arrays in the tree that its `init` gives.

    Raises:
        InputError: where the folder holds no weights, or those of another network.
    """
    like = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *pixels_shape), np.float32))
    wanted = _by_name(like)
    found = _read(folder, wanted, "weights of this network")
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])


def write_states(folder: Path, states: Any) -> None:
    """Write the states of a batch, a tree of arrays, under their numbers; a folder is whole or not there.

    Raises:
        OSError, ValueError: Where the disk refuses.
    """
    leaves = [jax.random.key_data(leaf) if _is_key(leaf) else leaf for leaf in jax.tree.leaves(states)]
    _write(folder, {str(number): np.asarray(leaf) for number, leaf in enumerate(leaves)})


def read_states(folder: Path, like: Any) -> Any:
    """Read states that have the shapes, types and devices of these.

    Raises:
        InputError: Where the folder holds none, or others.
    """
    leaves, structure = jax.tree.flatten(like)
    plain = {str(i): jax.random.key_data(leaf) if _is_key(leaf) else leaf for i, leaf in enumerate(leaves)}
    found = _read(folder, plain, "states of these models")
    states = [
        jax.random.wrap_key_data(jnp.asarray(found[str(i)]), impl=jax.random.key_impl(leaf))
        if _is_key(leaf)
        else found[str(i)]
        for i, leaf in enumerate(leaves)
    ]
    return jax.device_put(jax.tree.unflatten(structure, states), jax.tree.map(lambda leaf: leaf.sharding, like))


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _write(folder: Path, arrays: dict[str, Array]) -> None:
    needed = sum(array.nbytes for array in arrays.values())
    free = shutil.disk_usage(next(parent for parent in folder.resolve().parents if parent.exists())).free
    if needed > free:  # which orbax would find out half way, and with many words
        raise OSError(errno.ENOSPC, f"No space left on device: {needed:,} bytes are needed and {free:,} are free")
    with _unlogged(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve(), arrays, force=True)


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


def _read(folder: Path, like: dict[str, Any], what: str) -> dict[str, Array]:
    wanted = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in like.items()}
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            kept: Any = checkpointer.metadata(folder.resolve()).item_metadata
            shapes = {name: tuple(leaf.shape) for name, leaf in kept.tree.items()}
            if shapes != {name: leaf.shape for name, leaf in wanted.items()}:
                raise ValueError(f"its arrays have the shapes {shapes}")
            return checkpointer.restore(folder.resolve(), wanted)
    except (ValueError, KeyError, OSError, AttributeError) as error:
        raise InputError(f"{folder} does not hold {what}: {first_line(error)}") from error


def _by_name(tree: Any) -> dict[str, Array]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

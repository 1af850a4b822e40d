"""Turns the parameters of a model into a folder on disk and back, with orbax: JSON and zarr, no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from infl.records import Array, InputError
from infl.training.networks import Network


def write_weights(folder: Path, params: Any) -> None:
    """Write them under their names in the tree, `['dense']['kernel']` and the like; a folder is whole or not there."""
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder.resolve(), _by_name(params), force=True)


def read_weights(folder: Path, network: Network, pixels_shape: tuple[int, ...]) -> Any:
    """Read the parameters of a network for examples of this shape, as NumPy arrays in the tree that its `init` gives.

    Raises:
        InputError: where the folder holds no weights, or those of another network.
    """
    like = jax.eval_shape(network.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *pixels_shape), np.float32))
    wanted = {name: np.empty(leaf.shape, leaf.dtype) for name, leaf in _by_name(like).items()}
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            kept: Any = checkpointer.metadata(folder.resolve()).item_metadata
            shapes = {name: tuple(leaf.shape) for name, leaf in kept.tree.items()}
            if shapes != {name: leaf.shape for name, leaf in wanted.items()}:
                raise ValueError(f"its parameters have the shapes {shapes}")
            found = checkpointer.restore(folder.resolve(), wanted)
    except (ValueError, KeyError, OSError, AttributeError) as error:
        raise InputError(f"{folder} does not hold weights of this network: {str(error).splitlines()[0]}") from error
    return jax.tree.unflatten(jax.tree.structure(like), [found[name] for name in wanted])


def _by_name(tree: Any) -> dict[str, Array]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

"""Turns the parameters of a model, or the states of a block in training, into a folder on disk and back, with orbax: JSON and
zarr, no pickle.
"""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
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


def write_states(folder: Path, states: Sequence[Array | jax.Array]) -> None:
    """Write the states of a block under their numbers; a folder is whole or not there.

    Raises:
        OSError, ValueError: where the disk refuses.
    """
    _write(folder, {str(number): np.asarray(leaf) for number, leaf in enumerate(states)})


def read_states(folder: Path, like: Sequence[Any]) -> list[Array]:
    """Read states of these shapes and types.

    Raises:
        InputError: where the folder holds none, or others.
    """
    found = _read(folder, {str(number): leaf for number, leaf in enumerate(like)}, "states of these models")
    return [found[str(number)] for number in range(len(like))]


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

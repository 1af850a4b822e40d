"""Start weights: what a network begins from instead of a draw, and which of its weights are trained.

With them A is fine-tuning. They are the same for every model, so whatever they were trained on is in all of them: examples of
D among it are not left out by leaving them out of a subset. Frozen weights are held once, not once a model.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from infl.records import Array, InputError, first_line
from infl.records.files import written_whole
from infl.training.networks import Network

if TYPE_CHECKING:
    from infl.training.algorithm import Algorithm

Weights = dict[str, Any]  # arrays by name, "Dense_0/kernel"; those of the network's state begin with "state/"


@dataclass(frozen=True)
class Start:
    """Start weights; two are equal where their arrays are.

    Attributes:
        sha256: Of names and arrays.
        source: Where they were read; "" where they were given in Python.
        arrays: By name.
    """

    sha256: str
    source: str = field(compare=False)
    arrays: dict[str, Array] = field(compare=False, repr=False)


def read_start(given: Any) -> Start:
    """Start weights from a safetensors file (`infl.keep_weights` writes one), a folder of orbax, or a tree.

    Raises:
        InputError: Where there are none to read, or one is not finite.
    """
    if isinstance(given, Start):
        return given
    source = os.fspath(given) if isinstance(given, str | os.PathLike) else ""
    arrays = _read_file(Path(source).expanduser()) if source else _by_name(given)
    arrays = {_plain_name(name): np.asarray(array) for name, array in sorted(arrays.items())}
    if not arrays:
        raise InputError(f"start: expected arrays by name, got none in {source or given!r}")
    digest = hashlib.sha256()
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"start: expected finite weights, got NaN or infinity in {name}")
        digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return Start(digest.hexdigest(), source, arrays)


def write_start(path: Path, variables: Any) -> None:
    """Write what a network's `init` gives, trained or not, as a safetensors file."""
    from safetensors.numpy import save

    content = save({name: np.asarray(array) for name, array in _by_name(variables).items()})
    with written_whole(path) as file:
        file.write(content)


def _read_file(path: Path) -> dict[str, Array]:
    try:
        if path.is_dir():
            import orbax.checkpoint as ocp

            with ocp.StandardCheckpointer() as checkpointer:
                return _by_name(checkpointer.restore(path.resolve()))
        from safetensors.numpy import load_file

        return load_file(path)
    except Exception as error:  # of either library
        raise InputError(
            f"start: expected a safetensors file (infl.keep_weights writes one) or a folder of orbax, got {path}: "
            f"{first_line(error)}"
        ) from error


def _by_name(tree: Any) -> dict[str, Any]:
    import jax

    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _plain_name(name: str) -> str:
    """`Dense_0/kernel`, from that, from `Dense_0.kernel` and from `['Dense_0']['kernel']`; params are 0, the state is 1."""
    name = "/".join(part for part in re.split(r"\['|'\]|\[|\]|\.|/", name) if part)
    return re.sub("^1/", "state/", re.sub("^0/", "", name))


# In the training of a model, where arrays may be traced


def replace_by_start(network: Network, variables: Any, start: Weights) -> Any:
    """What `init` gave, with the start weights where there are some.

    Raises:
        InputError: Where the network has no weights of a name, or of another shape.
    """
    import jax

    params, state = network.split(variables)
    known = _by_name(params) | {f"state/{name}": leaf for name, leaf in _by_name(state).items()}
    for name, array in start.items():
        if name not in known:
            raise InputError(f"start: the network {network.name} has no weights {name}; it has {', '.join(known)}")
        if array.shape != known[name].shape:
            raise InputError(
                f"start: expected {name} of shape {known[name].shape} for the network {network.name}, got {array.shape}; "
                "leave it out of the file to draw it anew"
            )
    leaves = [start[name].astype(leaf.dtype) if name in start else leaf for name, leaf in known.items()]
    n_params = len(_by_name(params))
    params = jax.tree.unflatten(jax.tree.structure(params), leaves[:n_params])
    return network.join(params, jax.tree.unflatten(jax.tree.structure(state), leaves[n_params:]))


def trainable_part(params: Any, trainable: tuple[str, ...]) -> Any:
    """The params with None for those that are frozen; all of them where `trainable` is empty.

    Raises:
        InputError: Where a path of `trainable` is none of the network's.
    """
    if not trainable:
        return params
    import jax

    names = list(_by_name(params))
    if missing := [path for path in trainable if not any(_is_below(name, path) for name in names)]:
        raise InputError(f"trainable: expected paths of the network's weights ({', '.join(names)}), got {missing[0]}")
    leaves = jax.tree.leaves(params)
    kept = [
        leaf if any(_is_below(name, path) for path in trainable) else None
        for name, leaf in zip(names, leaves, strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(params), kept)


def frozen_part(network: Network, example: Any, algorithm: Algorithm, start: Weights | None) -> Any:
    """The start weights of what is frozen, with None for what is trained; None where all is.

    Raises:
        InputError: Where there are none for a frozen part.
    """
    if not algorithm.trainable:
        return None
    import jax
    import jax.numpy as jnp

    params, _ = network.split(network.shapes(example))
    leaves = {}
    for name, leaf in _by_name(params).items():
        frozen = not any(_is_below(name, path) for path in algorithm.trainable)
        if frozen and name not in (start or {}):
            raise InputError(
                f"trainable: {name} is frozen at its start weights, and the start has none; give it, or train it"
            )
        leaves[name] = jnp.asarray((start or {})[name], leaf.dtype) if frozen else None
    return jax.tree.unflatten(jax.tree.structure(params), leaves.values())


def combine(trained: Any, frozen: Any) -> Any:
    """The params of a network from those that are trained and those that are frozen."""
    import jax

    if frozen is None:
        return trained
    return jax.tree.map(lambda a, b: b if a is None else a, trained, frozen, is_leaf=lambda leaf: leaf is None)


def _is_below(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path}/")

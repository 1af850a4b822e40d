"""Keeps the weights of reference models - of all of D, or without a forget set - beside their outcomes, and gives them back.

Thousands of models are judged and thrown away. The few that one wants to look into follow from the seed, so they are trained
again, to the same outcomes, when their weights are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np

from infl.pipeline.jobs import collection_keys, collection_masks
from infl.pipeline.progress import track
from infl.pipeline.train import current_run, open_for_training
from infl.records import Array, Dataset, ForgetSet, InputError
from infl.store import Collection, Run, leave_out_name
from infl.training.algorithm import Algorithm
from infl.training.ensemble import Ensemble
from infl.training.grouping import features_of_model
from infl.training.layout import Layout
from infl.training.networks import Network
from infl.training.start import read_start, replace_by_start, write_start

MAX_FEATURE_MODELS = 16


def keep_weights(
    run: Run | str | Path,
    *,
    n_models: int = 1,
    without: Sequence[int] = (),
    algorithm: Algorithm | None = None,
    quiet: bool = False,
) -> None:
    """Keep the weights of reference models 0 .. n_models - 1 in the run, training again those that it lacks.

    Model t of A(D) and model t of A(D\\S) have the same initial weights and order, as in `infl.verify`. Outcomes that the run
    lacks are kept too; those that it has stay as they are. On the same kind of device and in the layout of the run the
    weights are those that were judged, up to float rounding.

    Args:
        without: Ids of S; none for models of all of D.
        algorithm: Needed only where the run's network or optimizer was made in Python.

    Raises:
        InputError: where the run cannot be trained on, an id is not one of D's, or the disk refuses.

    Examples:
        >>> import infl
        >>> data = infl.load("digits", n_train=100, n_held_out=50)
        >>> run = infl.train(data, n_models=2, n_references=2, algorithm=infl.Algorithm(epochs=2), quiet=True)
        >>> infl.keep_weights(run, n_models=2, quiet=True)
        >>> params = infl.load_weights(run, model=1)
    """
    if n_models < 1:
        raise InputError(f"n_models: expected at least 1, got {n_models}")
    opened, collection = reference_collection(run, without)
    opened, dataset, algorithm, _ = open_for_training(opened.place, None, algorithm, None, None)
    missing = [model for model in range(n_models) if not weights_path(opened, collection.name, model).exists()]
    if not missing:
        return
    ensemble = ensemble_as_before(opened, algorithm, dataset)
    with track(len(missing), "training again", quiet=quiet) as progress:
        for model, weights in train_again(opened, collection, missing, ensemble):
            write_start(weights_path(opened, collection.name, model), weights)
            progress.update(1)


def train_again(
    run: Run, collection: Collection, models: Sequence[int], ensemble: Ensemble
) -> Iterator[tuple[int, Any]]:
    """Yield reference models with their weights, trained batch by batch; outcomes that the run lacks are written to it."""
    run.add_collection(collection)
    for first in range(0, len(models), ensemble.models_per_batch):
        some = models[first : first + ensemble.models_per_batch]
        masks = collection_masks(run, collection.name, some)
        trained = ensemble.train(collection_keys(run, collection.name, some), masks, keep_params=True)
        rows = [row for row, model in enumerate(some) if model not in run.complete(collection.name)]
        if rows:
            outcomes = trained.record(masks, rows)
            run.write(collection.name, [some[row] for row in rows], outcomes, trained.finite[rows], seconds=0.0)
        for row, model in enumerate(some):
            yield model, jax.tree.map(lambda leaf, row=row: np.asarray(leaf[row]), trained.params)


def ensemble_as_before(run: Run, algorithm: Algorithm, dataset: Dataset) -> Ensemble:
    """What trains models of a run in the layout of its last training on this machine's devices."""
    recorded = [session["layout"] for session in run.sessions if not session.get("engine") and "layout" in session]
    return Ensemble(algorithm, dataset, Layout.from_dict(recorded[-1]) if recorded else None)


def load_weights(
    run: Run | str | Path, *, model: int = 0, without: Sequence[int] = (), algorithm: Algorithm | None = None
) -> Any:
    """The parameters of a reference model, as NumPy arrays in the tree that the network's `init` gives.

    They go into `evaluate` of the network: `algorithm.network_for(data).evaluate(weights, x)`, x as the network gets it in
    training; and a run can begin from them: `infl.Algorithm(start=weights)`.

    Args:
        model: Its number.
        without: Ids of S, none for a model of all of D.
        algorithm: As in `keep_weights`.

    Raises:
        InputError: where these weights were not kept, or belong to another network.
    """
    opened, collection = reference_collection(run, without)
    path = weights_path(opened, collection.name, model)
    if not path.exists():
        raise InputError(
            f"{opened.place} holds no weights of model {model} of {collection.name}; infl.keep_weights makes them"
        )
    dataset: Dataset = opened.dataset()
    algorithm = algorithm or Algorithm.from_dict(opened.manifest["algorithm"])
    return _read(path, algorithm.network_for(dataset), dataset)


def load_originals(run: Run, models: Sequence[int], algorithm: Algorithm, dataset: Dataset) -> list[Any]:
    """The parameters of models of all of D, which were kept."""
    network = algorithm.network_for(dataset)
    return [_read(weights_path(run, "full", model), network, dataset) for model in models]


def network_features(run: Run, dataset: Dataset, algorithm: Algorithm | None = None) -> Array | None:
    """Inputs of the last layer of models of D whose weights the run keeps, on all examples side by side, [n+m, d].

    Of those among the first `MAX_FEATURE_MODELS`, but models that diverged. None where no weights are kept, or the network
    was made in Python, and no algorithm is given, or does not tell its features.
    """
    kept = kept_models(run)
    with suppress(InputError):
        algorithm = algorithm or Algorithm.from_dict(run.manifest["algorithm"])
        read = algorithm.network_for(dataset).features
        if kept and read is not None:
            originals = load_originals(run, kept, algorithm, dataset)
            parts = [features_of_model(read, algorithm, one, dataset.x_train, dataset.images) for one in originals]
            finite = [part for part in parts if part is not None]
            return np.concatenate(finite, axis=1) if finite else None
    return None


def kept_models(run: Run) -> list[int]:
    """Models of D whose weights the run keeps, of those that features are read from."""
    return [model for model in range(MAX_FEATURE_MODELS) if weights_path(run, "full", model).exists()]


def _read(path: Path, network: Network, dataset: Dataset) -> Any:
    try:
        weights = replace_by_start(network, network.shapes(dataset.x_train[:1]), read_start(path).arrays)
        for name, leaf in jax.tree_util.tree_leaves_with_path(weights):
            if isinstance(leaf, jax.ShapeDtypeStruct):
                raise InputError(
                    f"it has no {jax.tree_util.keystr(name)}; delete it, and infl.keep_weights makes it again"
                )
        return weights
    except InputError as error:
        raise InputError(f"{path} does not hold weights of this network: {error}") from error


def reference_collection(run: Run | str | Path, without: Sequence[int]) -> tuple[Run, Collection]:
    """The run as it is now, and the record of its models of D, or without these ids, whether it has any or not."""
    opened = current_run(run)
    ids = tuple(sorted({int(i) for i in without}))
    if not ids:
        return opened, Collection("full", {"kind": "full"})
    n_train = opened.manifest["dataset"]["n_train"]
    if not 0 <= ids[0] <= ids[-1] < n_train:
        raise InputError(f"without: expected ids of training examples, 0 to {n_train - 1}; got {ids[0]} to {ids[-1]}")
    if (name := leave_out_name(ids)) in opened.collections():
        return opened, opened.collection(name)
    forget_set = ForgetSet(f"example {min(ids)}" if len(ids) == 1 else f"{len(ids)} examples", ids)
    return opened, Collection(name, {"kind": "leave-out"}, forget_set=forget_set)


def weights_path(run: Run, collection: str, model: int) -> Path:
    """Where the weights of a model are, or would be kept."""
    return run.folder / "weights" / collection / f"{model}.safetensors"

"""Keeps the weights of reference models - of all of D, or without a forget set - beside their outcomes, and gives them back.

Thousands of models are judged and thrown away. The few that one wants to look into follow from the seed, so they are trained
again, to the same outcomes, when their weights are asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from infl.pipeline.jobs import collection_keys, collection_masks
from infl.pipeline.progress import track
from infl.pipeline.train import current_run, open_for_training
from infl.records import Dataset, ForgetSet, InputError
from infl.store import Collection, Run, leave_out_name
from infl.training.algorithm import Algorithm
from infl.training.ensemble import Ensemble
from infl.training.layout import Layout
from infl.training.start import read_start, replace_by_start, write_start


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
    opened, collection, forget_set = _reference(run, without)
    opened, dataset, algorithm, _ = open_for_training(opened.place, None, algorithm, None, None)
    missing = [model for model in range(n_models) if not _path(opened, collection, model).exists()]
    if not missing:
        return
    # In the layout of the last training on this machine's devices.
    recorded = [session["layout"] for session in opened.sessions if not session.get("engine") and "layout" in session]
    ensemble = Ensemble(algorithm, dataset, Layout.from_dict(recorded[-1]) if recorded else None)
    if forget_set:
        opened.add_collection(Collection(collection, {"kind": "leave-out"}, forget_set=forget_set))
    with track(len(missing), "training again", quiet=quiet) as progress:
        for first in range(0, len(missing), ensemble.models_per_batch):
            models = missing[first : first + ensemble.models_per_batch]
            masks = collection_masks(opened, collection, models)
            trained = ensemble.train(collection_keys(opened, collection, models), masks, keep_params=True)
            for row, model in enumerate(models):
                params = jax.tree.map(lambda leaf, row=row: np.asarray(leaf[row]), trained.params)
                write_start(_path(opened, collection, model), params)
            rows = [row for row, model in enumerate(models) if model not in opened.complete(collection)]
            if rows:
                outcomes = trained.record(masks, rows)
                opened.write(collection, [models[row] for row in rows], outcomes, trained.finite[rows], seconds=0.0)
            progress.update(len(models))


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
    opened, collection, _ = _reference(run, without)
    path = _path(opened, collection, model)
    if not path.exists():
        raise InputError(
            f"{opened.place} holds no weights of model {model} of {collection}; infl.keep_weights makes them"
        )
    dataset: Dataset = opened.dataset()
    algorithm = algorithm or Algorithm.from_dict(opened.manifest["algorithm"])
    network = algorithm.network_for(dataset)
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


def _reference(run: Run | str | Path, without: Sequence[int]) -> tuple[Run, str, ForgetSet | None]:
    opened = current_run(run)
    ids = tuple(sorted({int(i) for i in without}))
    if not ids:
        return opened, "full", None
    n_train = opened.manifest["dataset"]["n_train"]
    if not 0 <= ids[0] <= ids[-1] < n_train:
        raise InputError(f"without: expected ids of training examples, 0 to {n_train - 1}; got {ids[0]} to {ids[-1]}")
    return opened, leave_out_name(ids), ForgetSet(f"{len(ids)} examples", ids)


def _path(run: Run, collection: str, model: int) -> Path:
    return run.folder / "weights" / collection / f"{model}.safetensors"

"""Which tokens of a document a forget set changes: models of D beside models of D\\S, token by token.

Runs keep outcomes by document. Tokens are judged by weights, so that the models, which follow from their keys, are trained
again for it, and forgotten; those of which the run keeps weights are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import jax
import numpy as np

from infl.pipeline.progress import track
from infl.pipeline.train import open_for_training
from infl.pipeline.weights import ensemble_as_before, load_weights, reference_collection, train_again, weights_path
from infl.records import Array, InputError, TokenEffects, check_integer
from infl.store import Run
from infl.training.algorithm import Algorithm
from infl.training.model import unsigned
from infl.training.task import next_token, token_margins
from infl.untraining.verification import measure_token_effects


def token_effects(
    run: Run | str | Path,
    example: int,
    *,
    without: Sequence[int] | None = None,
    n_models: int = 16,
    algorithm: Algorithm | None = None,
    quiet: bool = False,
) -> TokenEffects:
    """Measure what untraining S changes on each token of a document: by default which of its words are memorized.

    Models 0 .. n_models - 1 of D and of D\\S are paired by key, as in `infl.verify`. Outcomes that the run lacks are kept in
    it. For several documents keep the weights first (`infl.keep_weights`), and no model is trained twice.

    Args:
        example: The document: a training id, or with `without` a held-out one (they go on after).
        without: Ids of S; None for the document alone.
        n_models: Pairs of models.
        algorithm: Needed only where the run's network or optimizer was made in Python.

    Raises:
        InputError: where examples are no documents, an id is none, or the run cannot be trained on.

    Examples:
        >>> import infl
        >>> lines = ["to be or not to be", "to sleep no more", "the rest is silence", "words words words"]
        >>> data = infl.from_documents(lines[:3], lines[3:])
        >>> algorithm = infl.Algorithm("gpt", widths=(8,), hidden=(8,), epochs=2)
        >>> run = infl.train(data, n_models=2, n_references=2, design=infl.Design("uniform"), algorithm=algorithm, quiet=True)
        >>> effects = token_effects(run, 2, n_models=2, quiet=True)
        >>> effects.effect.shape == (len(lines[2]),)
        True
        >>> ax = infl.plot.tokens(effects, data)
    """
    opened, full = reference_collection(run, ())
    opened, dataset, algorithm, _ = open_for_training(opened.place, None, algorithm, None, None)
    if not dataset.is_documents or algorithm.choose_task(dataset).outcomes is not next_token.outcomes:
        raise InputError(f"tokens: expected a run of documents whose next tokens are predicted, got {dataset!r}")
    check_integer("example", example, 0, dataset.n_columns - 1, "the documents")
    if n_models < 1:
        raise InputError(f"n_models: expected at least 1, got {n_models}")
    if without is None:
        if example >= dataset.n_train:
            raise InputError(
                f"example {example} is held out, so that no model trained on it; say without which, without=ids"
            )
        without = [example]
    _, left_out = reference_collection(opened, without)
    if left_out.forget_set is None:
        raise InputError("without: expected ids of training examples, got none")
    tokens = dataset.tokens(example)
    row = np.pad(tokens, (0, dataset.x_train.shape[1] - len(tokens)))
    network, ensemble = algorithm.network_for(dataset), ensemble_as_before(opened, algorithm, dataset)

    @jax.jit
    def predicted(weights: Any, x: jax.Array) -> jax.Array:
        return token_margins(network.evaluate(weights, unsigned(x)), x)[0, : len(tokens) - 1] > 0

    found: list[dict[int, Array]] = []
    with track(2 * n_models, "training again", quiet=quiet) as progress:
        for collection, ids in ((full, ()), (left_out, without)):
            missing = [model for model in range(n_models) if not weights_path(opened, collection.name, model).exists()]
            kept = sorted(set(range(n_models)) - set(missing))
            loaded = ((model, load_weights(opened, model=model, without=ids, algorithm=algorithm)) for model in kept)
            judged: dict[int, Array] = {}
            for model, weights in chain(loaded, train_again(opened, collection, missing, ensemble)):
                judged[model] = np.asarray(predicted(weights, jax.numpy.asarray(row[None])))
                progress.update(1)
            found.append({model: one for model, one in judged.items() if model not in opened.diverged(collection.name)})
    pairs = sorted(set(found[0]) & set(found[1]))
    if not pairs:
        raise InputError(
            f"example {example}: of {n_models} pairs of models none stayed finite; make a run with a lower learning rate"
        )
    of_full, of_without = (np.stack([one[model] for model in pairs]) for one in found)
    return measure_token_effects(example, left_out.forget_set, tokens, full=of_full, without=of_without)

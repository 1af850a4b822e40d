"""Unlearns in many models at once, in the batches and layouts in which they were trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from infl.records import Array, Dataset
from infl.training.algorithm import Algorithm
from infl.training.ensemble import Ensemble, PlacedBatch
from infl.training.layout import Layout
from infl.training.model import TrainedModel, TrainingState, input_of_network
from infl.training.networks import network_dtype
from infl.training.start import frozen_part, trainable_part
from infl.unlearning.methods import Method
from infl.unlearning.problem import Problem

STREAM = 0x756E6C72  # what a method draws is nothing that training drew from the same key


class UnlearningState(NamedTuple):
    """A model before and after its unlearning: as `TrainingState`, with what the method is given beside it.

    Attributes:
        change: [n+m], see `Problem`.
        settings: Of the method, scalars by name.
    """

    params: Any
    total_loss: Any
    network: Any
    change: Any
    settings: dict[str, Any]


class UnlearningEnsemble(Ensemble):
    """Takes the keys of models of D with the masks of D\\S; unlearns S in each of these models instead of training one.

    Args:
        originals: What `Network.init` gives, of each model, by `key_bytes`.
        changes: [n+m] for each set, by the bytes of its mask; none where the method needs none.
    """

    def __init__(
        self,
        algorithm: Algorithm,
        dataset: Dataset,
        layout: Layout | None = None,
        *,
        method: Method,
        settings: Mapping[str, float],
        originals: Mapping[bytes, Any],
        changes: Mapping[bytes, Array],
    ) -> None:
        super().__init__(algorithm, dataset, layout, check=False)
        self.method, self.settings = method, dict(settings)
        self._originals, self._changes = originals, changes

    def init_states(self, batch: PlacedBatch) -> Any:
        """The models of D that have the keys of a batch."""
        nothing = np.full(self.dataset.n_columns, np.nan, np.float32)
        keys, masks = key_bytes(batch.keys), np.asarray(batch.masks)
        states = [
            self._state(self._originals[key], self._changes.get(mask.tobytes(), nothing))
            for key, mask in zip(keys, masks, strict=True)
        ]
        stacked = jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *states)
        return jax.device_put(stacked, self._by_model)

    def _state(self, original: Any, change: Any) -> UnlearningState:
        params, state = self.network.split(original)
        params = trainable_part(params, self.algorithm.trainable)
        settings = {name: np.float32(value) for name, value in self.settings.items()}
        return UnlearningState(params, np.zeros((), np.float32), state, change, settings)

    def _init_one(self, key: jax.Array, start: Any) -> Any:
        original = self.network.init(key, jnp.zeros(self._example.shape, network_dtype(self._example)))
        return jax.tree.map(jnp.asarray, self._state(original, jnp.zeros(self.dataset.n_columns)))

    def _train_one(self, state: Any, key: jax.Array, members: jax.Array, *, data: Any, bounds: Any) -> Any:
        images, targets, start = data
        problem = Problem(
            images=images,
            targets=targets,
            forget=~members,
            change=state.change,
            algorithm=self.algorithm,
            network=self.network,
            task=self.task,
            state=state.network,
            frozen=frozen_part(self.network, images[:1], self.algorithm, start),
            network_input=input_of_network(self.algorithm, jnp.ones_like(members), images),
        )
        params = self.method.function(state.params, jax.random.fold_in(key, STREAM), problem, **state.settings)
        return state._replace(params=params)

    def _evaluate_one(self, state: Any, members: jax.Array, *, data: Any) -> TrainedModel:
        # Pixels are standardized as those of the model of D were.
        as_trained = TrainingState(state.params, (), state.total_loss, state.network)
        return super()._evaluate_one(as_trained, jnp.ones_like(members), data=data)


def key_bytes(keys: jax.Array) -> list[bytes]:
    """The keys of models as something to look up."""
    return [row.tobytes() for row in np.asarray(jax.random.key_data(keys))]

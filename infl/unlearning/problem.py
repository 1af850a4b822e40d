"""What a method of unlearning works on: D, S, and what the network makes of an example."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from infl.training.algorithm import Algorithm
from infl.training.model import unsigned
from infl.training.networks import Network, network_dtype
from infl.training.start import combine, trainable_part
from infl.training.task import Task

CHUNK = 256  # examples evaluated at once


@dataclass(frozen=True)
class Problem:
    r"""D, S and a network, as arrays in a trace.

    Attributes:
        images: [N, ...], D first; a method looks at no others.
        targets: [N, ...], of the task.
        forget: [n] bool, who is in S.
        change: [n+m], by how much the expected margin of each example of A(D\S) lies above that of A(D): predicted, or
            measured on oracles; NaN where the method asked for neither.
        state: Of the network, such as running averages.
        frozen: Weights that A does not train; None where it trains all.
        network_input: Turns images as stored into what the network gets.
    """

    images: jax.Array
    targets: jax.Array
    forget: jax.Array
    change: jax.Array
    algorithm: Algorithm
    network: Network
    task: Task
    state: Any
    frozen: Any
    network_input: Callable[[jax.Array], jax.Array]

    @property
    def n_train(self) -> int:
        """Examples of D."""
        return len(self.forget)

    def outputs(self, params: Any, ids: jax.Array) -> jax.Array:
        """Outputs of the network for examples `ids` [b], in evaluation, float32."""
        x = unsigned(self.network_input(self.images[ids]))
        outputs, _ = self.network.forward(combine(params, self.frozen), self.state, x, None)
        return outputs.astype(jnp.float32)

    def losses(self, params: Any, ids: jax.Array, targets: jax.Array | None = None) -> jax.Array:
        """Loss of each example, [b]; with other targets [b, ...] where given."""
        return self.losses_of(self.outputs(params, ids), ids, targets)

    def losses_of(self, outputs: jax.Array, ids: jax.Array, targets: jax.Array | None = None) -> jax.Array:
        """The same from outputs."""
        targets = self.targets[ids] if targets is None else targets
        return self.task.loss(outputs, self.network_input(self.images[ids]), targets)

    def margins(self, params: Any, ids: jax.Array) -> jax.Array:
        """Margin of each example, [b]."""
        x = self.network_input(self.images[ids])
        return self.task.outcomes(self.outputs(params, ids), x, self.targets[ids])["margin"]

    def lengths(self, ids: jax.Array) -> jax.Array:
        """How much each example counts in the loss of its batch, of documents the scored tokens, [b]."""
        if self.task.weights is None:
            return jnp.ones(len(ids))
        return self.task.weights(self.network_input(self.images[ids]), self.targets[ids])

    def on_all(self, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """A function of ids [b] -> [b] for all of D, [n]."""
        size = min(CHUNK, self.n_train)
        starts = jnp.minimum(jnp.arange(-(-self.n_train // size)) * size, self.n_train - size)
        ids = starts[:, None] + jnp.arange(size)
        return jnp.zeros(self.n_train).at[ids].set(jax.lax.map(function, ids))

    def new_params(self, key: jax.Array) -> Any:
        """Params of a network that knows nothing."""
        example = jnp.zeros((1, *self.images.shape[1:]), network_dtype(self.images))
        params, _ = self.network.split(self.network.init(key, example))
        return trainable_part(params, self.algorithm.trainable)

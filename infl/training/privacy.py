"""Differentially private training: each step learns from a Poisson sample, clipped gradients and Gaussian noise (DP-SGD).

One step of Abadi et al. 2016 (algorithm 1): every member joins the batch independently with probability q; the gradient of
each example of the batch is scaled down to the norm C where it is longer; to their sum comes Gaussian noise of standard
deviation sigma C in every coordinate; the whole is divided by the expected batch, q n, and handed to the optimizer:

    g = ( sum over i in batch of g_i min(1, C / ||g_i||) + sigma C N(0, 1) ) / (q n)

q, n, C, sigma and the number of steps are the same whatever the members are: n is the size of D, not of the subset that a model
trains on. So A(D\\S) is the same mechanism as A(D), given fewer examples, and each example that stays has the same part in it.
`infl.accounting` says how private that is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infl.records import InputError

if TYPE_CHECKING:
    import jax

CHUNK = {"cpu": 16}  # gradients of single examples held at once: as many as stay in a core's caches; others: 128


@dataclass(frozen=True)
class Privacy:
    """Clipping and noise of differentially private training; what they promise says `infl.accounting.epsilon`.

    With no clipping and no noise what is left is SGD on Poisson samples.

    Attributes:
        clip_norm: C, the largest norm that the gradient of one example keeps, over all parameters together; `math.inf`
            for none.
        noise_multiplier: Sigma, the standard deviation of the noise in units of C.

    Raises:
        InputError: for a setting out of its range, or noise without clipping, which has no size.

    Examples:
        >>> Privacy.parse(["clip:1", "noise:1.1"])
        Privacy(clip_norm=1.0, noise_multiplier=1.1)
    """

    clip_norm: float = 1.0
    noise_multiplier: float = 1.0

    def __post_init__(self) -> None:
        if not self.clip_norm > 0:
            raise InputError(f"privacy: expected a clip norm above 0, got {self.clip_norm}")
        if not 0 <= self.noise_multiplier < math.inf:
            raise InputError(f"privacy: expected a finite noise multiplier of at least 0, got {self.noise_multiplier}")
        if self.clip_norm == math.inf and self.noise_multiplier:
            raise InputError("privacy: noise is measured in clip norms; give a finite clip norm, or no noise")

    def words(self) -> list[str]:
        """As `parse` reads it."""
        return [f"clip:{float(self.clip_norm)}", f"noise:{float(self.noise_multiplier)}"]

    @staticmethod
    def parse(words: list[str] | tuple[str, ...]) -> Privacy:
        """From `clip:NORM` and `noise:MULTIPLIER`; without a word for it, there is no clipping or no noise.

        Raises:
            InputError: for other words.
        """
        given = {"clip": math.inf, "noise": 0.0}
        for word in words:
            name, _, number = word.partition(":")
            try:
                given[{"clip": "clip", "noise": "noise"}[name]] = float(number)
            except (KeyError, ValueError):
                raise InputError(f"privacy: expected clip:NORM and noise:MULTIPLIER, got {word!r}") from None
        return Privacy(given["clip"], given["noise"])


def poisson_sample(key: jax.Array, members: jax.Array, rate: float) -> tuple[jax.Array, jax.Array]:
    """A batch that each member joins independently with probability `rate`: ids [n], of which the first `count` count.

    However many join, there is room for them: nothing is cut off that the accountant would have to know of. Whether an id
    joins depends on the key and the id alone, so that two subsets share the draws of the examples they have in common. Ids past
    the count repeat a member, never a left-out example.
    """
    import jax
    import jax.numpy as jnp

    joins = jax.random.bernoulli(key, rate, members.shape) & members
    ids = jnp.flatnonzero(joins, size=len(members), fill_value=jnp.argmax(members))
    return ids, joins.sum()


def private_gradient(
    key: jax.Array,
    loss: Callable[[Any, Any, jax.Array], jax.Array],
    load: Callable[[jax.Array], Any],
    params: Any,
    batch: tuple[jax.Array, jax.Array],
    *,
    privacy: Privacy,
    expected_size: float,
) -> tuple[jax.Array, Any]:
    """Weighted loss of a batch, and its gradient clipped, noised and divided by the expected size of a batch.

    Worked through in chunks, as many as the examples that joined take. Gradients of single examples are taken for their norms
    alone; what is summed is the gradient of the losses weighted by min(1, C / norm), the same up to rounding. On one core that
    took 1.2 ms for 208 images of 784 pixels and ten linear outputs, summing clipped gradients 3.9, the plain gradient 0.2.

    Args:
        loss: (params, examples [c, ...], weights [c]) -> sum of weight times loss.
        load: Ids [c] -> the examples, any pytree of arrays [c, ...].
        batch: Ids and count, of `poisson_sample`.
    """
    import jax
    import jax.numpy as jnp
    import optax

    ids, count = batch
    chunk = min(CHUNK.get(jax.default_backend(), 128), len(ids))
    ids = jnp.pad(ids, (0, -len(ids) % chunk), mode="edge")

    def squared_norm(example: Any) -> jax.Array:
        alone = jax.tree.map(lambda array: array[None], example)
        gradient = jax.grad(loss)(params, alone, jnp.ones(1))
        return jax.tree.reduce(jnp.add, jax.tree.map(lambda leaf: jnp.sum(jnp.square(leaf)), gradient))

    def add(number: jax.Array, totals: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
        first = number * chunk
        examples = load(jax.lax.dynamic_slice_in_dim(ids, first, chunk))
        kept = jnp.ones(chunk)
        if privacy.clip_norm < math.inf:
            norms = jnp.sqrt(jax.vmap(squared_norm)(examples))
            kept = jnp.minimum(1, privacy.clip_norm / norms)  # a norm of zero gives 1, one that is no number spreads
        weights = jnp.where(first + jnp.arange(chunk) < count, kept, 0)
        return jax.tree.map(jnp.add, totals, jax.value_and_grad(loss)(params, examples, weights))

    nothing = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
    value, total = jax.lax.fori_loop(0, (count + chunk - 1) // chunk, add, nothing)
    if privacy.noise_multiplier:
        noise = optax.tree.random_like(key, total, jax.random.normal)
        size = privacy.noise_multiplier * privacy.clip_norm
        total = jax.tree.map(lambda leaf, draw: leaf + size * draw, total, noise)
    return value, jax.tree.map(lambda leaf: leaf / expected_size, total)

"""Pixels as stored become what a network gets: float32, and standardized by the moments of a model's own examples if wanted.

Usually mean and standard deviation come from all of D, and an example that a model leaves out reaches it through them: it
moves them by a share of 1/n, but effects of one example are small, too. Here each model takes the moments of its own subset, as
an algorithm does that is given D\\S and nothing else, and judges every example with them.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from infl.records import channel_axes

LEAST_SHARE = 1e-5  # of the mean: a deviation below it is rounding of float32, and the channel constant


class Moments(NamedTuple):
    """Mean and standard deviation of each channel, of shape [channels], or [] where an image has one."""

    mean: jax.Array
    deviation: jax.Array


def unit_pixels(images: jax.Array) -> jax.Array:
    """float32 as it is, uint8 divided by 255."""
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images


def member_moments(members: jax.Array, images: jax.Array) -> Moments:
    """Moments of the channels over the members of a subset of D and all their pixels.

    mean_c = sum over members i and pixels p of x_ipc / (k P), deviation_c = sqrt(sum of (x_ipc - mean_c)^2 / (k P)), for k
    members of P pixels; `infl.records.channel_axes` says what a channel is. One that is constant over the members has the
    deviation 1.

    members: [n] bool; images: [N, ...], N >= n. Examples that are no members may hold anything, NaN too.
    """
    own = unit_pixels(images[: len(members)])
    mean = _mean_over(members, own)
    deviation = jnp.sqrt(_mean_over(members, jnp.square(own - mean)))
    return Moments(mean, jnp.where(deviation > LEAST_SHARE * jnp.abs(mean), deviation, 1))


def standardized(images: jax.Array, moments: Moments) -> jax.Array:
    """(pixels - mean) / deviation, channel by channel."""
    return (unit_pixels(images) - moments.mean) / moments.deviation


def _mean_over(members: jax.Array, values: jax.Array) -> jax.Array:
    # Within each example first, so that no float32 sum is longer than it must be.
    pixel_axes = tuple(axis for axis in channel_axes(values.shape[1:]) if axis)
    each = values.mean(axis=pixel_axes)
    chosen = members.reshape(-1, *[1] * (each.ndim - 1))
    return jnp.where(chosen, each, 0).sum(axis=0) / members.sum()

"""Turns a batch of images into flipped and shifted ones, each as its model, its epoch and its id draw it.

An example's draw depends on these three alone: leaving others out changes nothing of it, so models of D and of D\\S that
share a key still pair.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np

from infl.records import Array, InputError, channel_axes

if TYPE_CHECKING:
    import jax

Padding = Literal["zero", "reflect"]


@dataclass(frozen=True)
class Augmentation:
    """How images of a batch are changed at random in training; they are judged as they are.

    Attributes:
        flip: Mirror left and right with probability 1/2.
        shift: Move by -shift to shift pixels, each equally likely, along each axis.
        padding: What comes in at the edge: zeros, or the image mirrored there (its edge pixels not repeated).

    Raises:
        InputError: for a shift below 0, an unknown padding, or an augmentation that changes nothing.

    Examples:
        >>> Augmentation.parse(["flip", "shift:2:reflect"])
        Augmentation(flip=True, shift=2, padding='reflect')
    """

    flip: bool = False
    shift: int = 0
    padding: Padding = "zero"

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise InputError(f"augmentation: expected a shift of at least 0 pixels, got {self.shift}")
        if self.padding not in get_args(Padding):
            raise InputError(f"augmentation: expected padding zero or reflect, got {self.padding!r}")
        if not self.flip and not self.shift:
            raise InputError("augmentation: expected a flip or a shift; None for no augmentation")

    def words(self) -> list[str]:
        """As `parse` reads it."""
        shift = f"shift:{self.shift}" + (f":{self.padding}" if self.padding != "zero" else "")
        return ["flip"] * self.flip + [shift] * bool(self.shift)

    @staticmethod
    def parse(words: list[str] | tuple[str, ...]) -> Augmentation:
        """From `flip`, `shift:PIXELS` and `shift:PIXELS:reflect`.

        Raises:
            InputError: for other words.
        """
        flip, shift, padding = False, 0, "zero"
        for word in words:
            name, *rest = word.split(":")
            if name == "flip" and not rest:
                flip = True
            elif name == "shift" and 1 <= len(rest) <= 2 and rest[0].isdecimal():
                shift, padding = int(rest[0]), rest[1] if len(rest) == 2 else "zero"
            else:
                raise InputError(f"augmentation: expected flip, shift:PIXELS or shift:PIXELS:reflect; got {word!r}")
        return Augmentation(flip, shift, padding)  # pyright: ignore[reportArgumentType]

    def check(self, shape: tuple[int, ...]) -> None:
        """Check that images of this shape can be augmented.

        Raises:
            InputError: where they are not [h, w] or [h, w, channels], or no larger than the shift.
        """
        if len(shape) not in (2, 3):
            raise InputError(f"augmentation: expected images [h, w] or [h, w, channels], got examples {list(shape)}")
        if self.shift >= min(shape[:2]):
            raise InputError(
                f"augmentation: images of {shape[0]} x {shape[1]} cannot be shifted by {self.shift} pixels"
            )


def augmented_batch(
    augmentation: Augmentation, key: jax.Array, epochs: jax.Array, images: jax.Array, ids: jax.Array
) -> jax.Array:
    """Examples `ids` of the images, [b, h, w, ...], each changed as (key, epoch, id) draws it.

    Args:
        key: That of a model.
        epochs: That of each example, [b].
        images: [N, h, w] or [N, h, w, channels].
    """
    import jax
    import jax.numpy as jnp

    height, width = images.shape[1:3]

    def draw(epoch: jax.Array, example: jax.Array) -> jax.Array:
        return jax.random.bits(jax.random.fold_in(jax.random.fold_in(key, epoch), example), (3,), jnp.uint32)

    draws = jax.vmap(draw)(epochs, ids)
    offsets = (draws[:, :2] % (2 * augmentation.shift + 1)).astype(jnp.int32) - augmentation.shift
    rows = jnp.arange(height) + offsets[:, :1]
    columns = jnp.arange(width) + offsets[:, 1:]
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    rows, columns = _mirrored(rows, height), _mirrored(columns, width)
    if augmentation.flip:
        columns = jnp.where((draws[:, 2:] & 1) == 1, width - 1 - columns, columns)
    moved = images[ids[:, None, None], rows[:, :, None], columns[:, None, :]]
    if augmentation.padding == "reflect":
        return moved
    return jnp.where(inside.reshape(inside.shape + (1,) * (moved.ndim - 3)), moved, jnp.zeros((), moved.dtype))


def _mirrored(places: jax.Array, size: int) -> jax.Array:
    return (size - 1) - abs((size - 1) - abs(places))


MIN_SCALE, MAX_SCALE = 0.01, 5.0  # standard deviations over all pixels that are near enough to 1
MIN_SHARE = 1e-5  # of the mean: a deviation below it is rounding of float32, and the channel constant


class Moments(NamedTuple):
    """Mean and standard deviation of each channel, of shape [channels], or [] where an image has one."""

    mean: jax.Array
    deviation: jax.Array


def unit_pixels(images: jax.Array) -> jax.Array:
    """float32 as it is, uint8 divided by 255."""
    return images.astype("float32") / 255 if images.dtype == "uint8" else images


def warn_of_scale(x: Array) -> None:
    """Warn where float pixels or features are far from unit scale: training on them seldom learns."""
    if x.dtype == np.uint8 or not x.size:
        return
    low, high, deviation = float(x.min()), float(x.max()), float(x.std(dtype=np.float64))
    if not MIN_SCALE <= deviation <= MAX_SCALE:
        warnings.warn(
            f"the pixels or features go from {low:g} to {high:g}, with a standard deviation of {deviation:.3g}; networks learn "
            "near unit scale: standardize them (--standardize, Algorithm(standardize=True)), or scale them yourself",
            stacklevel=3,
        )


def member_moments(members: jax.Array, images: jax.Array) -> Moments:
    """Moments of the channels over the members of a subset of D and all their pixels.

    mean_c = sum over members i and pixels p of x_ipc / (k P), deviation_c = sqrt(sum of (x_ipc - mean_c)^2 / (k P)), for k
    members of P pixels; `infl.records.channel_axes` says what a channel is. One that is constant over the members has the
    deviation 1.

    Args:
        members: [n] bool.
        images: [N, ...], N >= n. Examples that are no members may hold anything, NaN too.
    """
    import jax.numpy as jnp

    own = unit_pixels(images[: len(members)])
    mean = _mean_over(members, own)
    deviation = jnp.sqrt(_mean_over(members, jnp.square(own - mean)))
    return Moments(mean, jnp.where(deviation > MIN_SHARE * jnp.abs(mean), deviation, 1))


def standardized(images: jax.Array, moments: Moments) -> jax.Array:
    """(pixels - mean) / deviation, channel by channel."""
    return (unit_pixels(images) - moments.mean) / moments.deviation


def _mean_over(members: jax.Array, values: jax.Array) -> jax.Array:
    import jax.numpy as jnp

    # Within each example first, so that no float32 sum is longer than it must be.
    pixel_axes = tuple(axis for axis in channel_axes(values.shape[1:]) if axis)
    each = values.mean(axis=pixel_axes)
    chosen = members.reshape(-1, *[1] * (each.ndim - 1))
    return jnp.where(chosen, each, 0).sum(axis=0) / members.sum()

"""The 3 x 3 convolution of images, by whichever of two ways is fastest where it runs.

XLA's own convolution is fast on a GPU. On a CPU its forward pass is too, but its two gradients are not: they are
convolutions with a kernel as large as the image, which XLA computes by a plain loop, and one training step of a small
network takes ten times longer than it should.

- `xla`      `lax.conv_general_dilated`, differentiated by JAX;
- `mixed`    XLA's forward convolution, used again on the flipped kernel for the gradient of the images, and one matrix product
             for the gradient of the kernel, a few images at a time, so that their patches stay in the core's cache.

Both give the same numbers up to rounding. Which one is used affects speed only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
from jax import lax

from infl.records import InputError

BACKENDS = ("mixed", "xla")
FASTEST = {"cpu": "mixed"}  # as measured; others: xla

PATCH_NUMBERS = 2**20  # of the patches that `mixed` holds at once: 4 MiB, a share of the last cache

_chosen = jax.make_user_context(default_value=None)  # part of the key under which JAX keeps what it has traced


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """y[b, u, v, o] = sum over i, j, c of x[b, u + i - 1, v + j - 1, c] kernel[i, j, c, o], zero outside of x.

    (A cross-correlation, as every network library has it; Goodfellow et al. 2016, Deep Learning, eq. 9.6.) Differentiable
    in reverse, once; sums are kept in float32.

    Args:
        x: [b, h, w, c] float32 or bfloat16.
        kernel: [3, 3, c, o] of the same type.

    Examples:
        >>> convolve(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1)))[0, :, :, 0].astype(int).tolist()
        [[8, 12, 12, 8], [12, 18, 18, 12], [12, 18, 18, 12], [8, 12, 12, 8]]
    """
    return _mixed(x, kernel) if chosen_backend() == "mixed" else _xla(x, kernel)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Convolve by this back end whatever is traced inside the block.

    A jitted function called both inside and outside is compiled for each; one already compiled (`lower().compile()`)
    keeps its own.

    Raises:
        InputError: For a name that is not in BACKENDS.

    Examples:
        >>> with use_backend("xla"):
        ...     chosen_backend()
        'xla'
    """
    if name not in BACKENDS:
        raise InputError(f"convolution back end: expected one of {', '.join(BACKENDS)}; got {name!r}")
    with _chosen(name):
        yield


def chosen_backend() -> str:
    """The back end that `convolve` uses here and now."""
    return _chosen.value or FASTEST.get(jax.default_backend(), "xla")


def _xla(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


@jax.custom_vjp
def _mixed(x: jax.Array, kernel: jax.Array) -> jax.Array:
    if kernel.shape[2] > 1:
        return _xla(x, kernel)
    # XLA packs patches of its own, one number at a time where there is one channel.
    flat = kernel.reshape(-1, kernel.shape[3])
    return jnp.matmul(_patches(x), flat, preferred_element_type=jnp.float32).astype(x.dtype)


def _mixed_gradient(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    numbers = math.prod(cotangent.shape[1:3]) * math.prod(kernel.shape[:3])
    most = max(PATCH_NUMBERS, 4 * kernel.size) // numbers
    images = next((n for n in range(min(most, len(x)), 0, -1) if len(x) % n == 0), 1)
    if images == len(x):
        total = _kernel_product(_patches(x), cotangent)
    else:
        # Slices, not a scan over parts: reshaped for it, x and cotangent would be computed a second time.
        def add(part: jax.Array, total: jax.Array) -> jax.Array:
            some, its = (lax.dynamic_slice_in_dim(array, part * images, images) for array in (x, cotangent))
            return total + _kernel_product(_patches(some), its)

        shape = jax.eval_shape(lambda x, cotangent: _kernel_product(_patches(x), cotangent), x, cotangent).shape
        total = lax.fori_loop(0, len(x) // images, add, jnp.zeros(shape, jnp.float32))
    if math.prod(kernel.shape[:-1]) >= kernel.shape[-1]:
        total = lax.optimization_barrier(total).T  # keeps XLA from computing it the slower way round
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    return _xla(cotangent, flipped), total.reshape(kernel.shape).astype(kernel.dtype)


_mixed.defvjp(lambda x, kernel: (_mixed(x, kernel), (x, kernel)), _mixed_gradient)


def _patches(x: jax.Array) -> jax.Array:
    """What each tap of the kernel meets, row by row: [b, h, w, 9 c]."""
    _, h, w, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate([padded[:, i : i + h, j : j + w] for i in range(3) for j in range(3)], axis=-1)


def _kernel_product(patches: jax.Array, cotangent: jax.Array) -> jax.Array:
    """Sum over images and pixels of patch times cotangent, whichever is wider second: Eigen is up to twice as fast so."""
    pair = (patches, cotangent) if patches.shape[-1] < cotangent.shape[-1] else (cotangent, patches)
    a, b = (factor.reshape(-1, factor.shape[-1]) for factor in pair)
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)

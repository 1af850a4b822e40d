"""Turns images and a kernel into their convolution, by whichever of several ways is fastest where it runs.

XLA's own convolution is fast on a GPU. On a CPU its forward pass is too, but its two gradients are not: they are
convolutions with a kernel as large as the image, which XLA computes by a plain loop, and one training step of a small
network takes ten times longer than it should. The other back ends write the same sums as dense matrix products:

- `xla`      lax.conv_general_dilated, differentiated by JAX;
- `shifted`  one product with the kernel, of patches joined from shifted slices; both gradients likewise;
- `taps`     one product for each tap of the kernel, added up: no patches in memory;
- `mixed`    XLA's forward convolution, used again on the flipped kernel for the gradient of the images, and one product
             for the gradient of the kernel, a few images at a time, so that their patches stay in the core's cache; for
             wide 3 x 3 kernels all three by Winograd's algorithm (`infl.training.kernels.winograd`), with fewer products.

All give the same numbers up to rounding. Which one is used affects speed only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from infl.records import InputError
from infl.training.kernels import winograd

Padding = Literal["SAME", "VALID"]
Pads = tuple[tuple[int, int], tuple[int, int]]

BACKENDS = ("shifted", "taps", "xla", "mixed")
FASTEST = {"cpu": "mixed"}  # as measured; others: xla

PATCH_NUMBERS = 2**20  # of the patches that `mixed` holds at once: 4 MiB, a share of the last cache
FEW_NUMBERS = 16  # of one patch, up to which `mixed` joins patches in the forward pass as well

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_chosen = jax.make_user_context(default_value=None)  # part of the key under which JAX keeps what it has traced


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int = 1,
    padding: Padding = "SAME",
    backend: str | None = None,
) -> jax.Array:
    """y[b, u, v, o] = sum over i, j, c of x[b, s u + i - p, s v + j - q, c] kernel[i, j, c, o], zero outside of x.

    (A cross-correlation, as every network library has it; Goodfellow et al. 2016, Deep Learning, eq. 9.6.)

    Differentiable in reverse, once and in x and kernel; sums are kept in float32.

    Args:
        x: [b, h, w, c] float32 or bfloat16.
        kernel: [kh, kw, c, o] of the same type.
        stride: s.
        padding: "SAME" for ceil(h / s) rows, where p zeros stand above and as many or one more below; "VALID" for p = q
            = 0.
        backend: One of BACKENDS; None for that of `use_backend`, else the fastest known for this platform. Speed only.

    Raises:
        InputError: for shapes that do not fit, a stride below 1, or an unknown padding or back end.

    Example:
        >>> x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 1))
        >>> convolve(x, kernel)[0, :, :, 0].astype(int).tolist()
        [[8, 12, 12, 8], [12, 18, 18, 12], [12, 18, 18, 12], [8, 12, 12, 8]]
    """
    name = chosen_backend() if backend is None else _known(backend)
    pads = _pads(x, kernel, stride, padding)
    if kernel.shape[:2] == (1, 1):
        return _product(x[:, ::stride, ::stride], kernel[0, 0])
    return _FORWARD[name](x, kernel, stride, pads)


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Convolve by this back end whatever is traced inside the block.

    A jitted function called both inside and outside is compiled for each; one already compiled (`lower().compile()`)
    keeps its own.

    Raises:
        InputError: for a name that is not in BACKENDS.

    Example:
        >>> with use_backend("taps"):
        ...     chosen_backend()
        'taps'
    """
    with _chosen(_known(name)):
        yield


def chosen_backend() -> str:
    """The back end that `convolve` uses here and now."""
    return _chosen.value or FASTEST.get(jax.default_backend(), "xla")


def _known(name: str) -> str:
    if name not in BACKENDS:
        raise InputError(f"convolution back end: expected one of {', '.join(BACKENDS)}; got {name!r}")
    return name


def _pads(x: jax.Array, kernel: jax.Array, stride: int, padding: Padding) -> Pads:
    if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
        raise InputError(
            f"convolve: expected images [b, h, w, c] and a kernel [kh, kw, c, o], got {x.shape} and {kernel.shape}"
        )
    if stride < 1:
        raise InputError(f"stride: expected at least 1, got {stride}")
    if padding == "VALID":
        if kernel.shape[0] > x.shape[1] or kernel.shape[1] > x.shape[2]:
            raise InputError(f"convolve: a kernel of {kernel.shape[:2]} does not fit into images of {x.shape[1:3]}")
        return (0, 0), (0, 0)
    if padding != "SAME":
        raise InputError(f"padding: expected SAME or VALID, got {padding!r}")

    def of(size: int, width: int) -> tuple[int, int]:
        total = max((-(-size // stride) - 1) * stride + width - size, 0)
        return total // 2, total - total // 2

    return of(x.shape[1], kernel.shape[0]), of(x.shape[2], kernel.shape[1])


# Back ends: (x, kernel, stride, pads) -> y


def _xla(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), pads, dimension_numbers=_LAYOUT)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _taps(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    slices = _shifts(x, kernel.shape[:2], stride, pads)
    products = [
        jnp.matmul(part, tap, preferred_element_type=jnp.float32)
        for part, tap in zip(slices, kernel.reshape(-1, *kernel.shape[2:]), strict=True)
    ]
    return sum(products[1:], products[0]).astype(x.dtype)


def _taps_gradient(
    stride: int, pads: Pads, saved: tuple[jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    slices = _shifts(x, kernel.shape[:2], stride, pads)
    taps = jnp.stack([_as_kernel(_kernel_product(part, slope), kernel[0, 0]) for part in slices])
    return _images_gradient(_taps, x, kernel, stride, pads, slope), taps.reshape(kernel.shape)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _shifted(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    return _product(_patches(x, kernel.shape[:2], stride, pads), kernel.reshape(-1, kernel.shape[3]))


def _shifted_gradient(
    stride: int, pads: Pads, saved: tuple[jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    product = _kernel_product(_patches(x, kernel.shape[:2], stride, pads), slope)
    return _images_gradient(_shifted, x, kernel, stride, pads, slope), _as_kernel(product, kernel)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _mixed(x: jax.Array, kernel: jax.Array, stride: int, pads: Pads) -> jax.Array:
    if winograd.suits(x, kernel, stride):
        return winograd.convolve(x, kernel, pads)
    # XLA packs patches of its own, one number at a time where there are few channels.
    few = math.prod(kernel.shape[:3]) <= FEW_NUMBERS
    return _shifted(x, kernel, stride, pads) if few else _xla(x, kernel, stride, pads)


def _mixed_gradient(
    stride: int, pads: Pads, saved: tuple[jax.Array, jax.Array], slope: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    if winograd.suits(x, kernel, stride):
        along_images = _images_gradient(_mixed, x, kernel, stride, pads, slope)
        return along_images, winograd.kernel_gradient(x, slope, pads).astype(kernel.dtype)
    numbers = math.prod(slope.shape[1:3]) * math.prod(kernel.shape[:3])
    images = _images_at_once(len(x), max(PATCH_NUMBERS, 4 * kernel.size) // numbers)

    def product(x: jax.Array, slope: jax.Array) -> jax.Array:
        return _kernel_product(_patches(x, kernel.shape[:2], stride, pads), slope)

    if images == len(x):
        total = product(x, slope)
    else:
        # Slices, not a scan over parts: reshaped for it, x and slope would be computed a second time.
        def add(part: jax.Array, total: jax.Array) -> jax.Array:
            return total + product(*(lax.dynamic_slice_in_dim(a, part * images, images) for a in (x, slope)))

        nothing = jnp.zeros(jax.eval_shape(product, x, slope).shape, jnp.float32)
        total = lax.fori_loop(0, len(x) // images, add, nothing)
    return _images_gradient(_xla, x, kernel, stride, pads, slope), _as_kernel(total, kernel)


def _saving(forward: Callable) -> Callable:
    return lambda x, kernel, stride, pads: (forward(x, kernel, stride, pads), (x, kernel))


_taps.defvjp(_saving(_taps), _taps_gradient)
_shifted.defvjp(_saving(_shifted), _shifted_gradient)
_mixed.defvjp(_saving(_mixed), _mixed_gradient)
_FORWARD = {"shifted": _shifted, "taps": _taps, "xla": _xla, "mixed": _mixed}


def _shifts(x: jax.Array, size: tuple[int, ...], stride: int, pads: Pads) -> list[jax.Array]:
    """What each tap of the kernel meets, [b, u, v, c] each, row by row."""
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = ((padded.shape[1 + axis] - size[axis]) // stride + 1 for axis in (0, 1))
    ends = (rows - 1) * stride + 1, (columns - 1) * stride + 1
    starts = [(row, column) for row in range(size[0]) for column in range(size[1])]
    return [padded[:, i : i + ends[0] : stride, j : j + ends[1] : stride] for i, j in starts]


def _patches(x: jax.Array, size: tuple[int, ...], stride: int, pads: Pads) -> jax.Array:
    return jnp.concatenate(_shifts(x, size, stride, pads), axis=-1)


def _product(x: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.matmul(x, weights, preferred_element_type=jnp.float32).astype(x.dtype)


def _kernel_product(patches: jax.Array, slope: jax.Array) -> jax.Array:
    """Sum over images and pixels of patch times slope, whichever is wider second: Eigen is up to twice as fast so."""
    pair = (patches, slope) if patches.shape[-1] < slope.shape[-1] else (slope, patches)
    a, b = (factor.reshape(-1, factor.shape[-1]) for factor in pair)
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)


def _as_kernel(product: jax.Array, like: jax.Array) -> jax.Array:
    """That product as [..., c, o]; the barrier keeps XLA from computing it the slower way round."""
    if math.prod(like.shape[:-1]) >= like.shape[-1]:
        product = lax.optimization_barrier(product).T
    return product.reshape(like.shape).astype(like.dtype)


def _images_gradient(
    forward: Callable, x: jax.Array, kernel: jax.Array, stride: int, pads: Pads, slope: jax.Array
) -> jax.Array:
    """That of the images: the slope convolved with the flipped kernel or, where strided, its patches put back."""
    if stride == 1:
        flipped = kernel[::-1, ::-1].swapaxes(2, 3)
        (top, bottom), (left, right) = pads
        height, width = kernel.shape[0] - 1, kernel.shape[1] - 1
        return forward(slope, flipped, 1, ((height - top, height - bottom), (width - left, width - right)))
    taps = jnp.matmul(slope, kernel.reshape(-1, kernel.shape[3]).T, preferred_element_type=jnp.float32)
    wide = x.astype(jnp.float32)
    return jax.vjp(lambda x: _patches(x, kernel.shape[:2], stride, pads), wide)[1](taps)[0].astype(x.dtype)


def _images_at_once(n_images: int, most: int) -> int:
    return next((n for n in range(min(most, n_images), 0, -1) if n_images % n == 0), 1)

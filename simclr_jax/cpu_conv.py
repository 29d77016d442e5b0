"""Convolution whose gradients are fast on CPUs too; elsewhere it is XLA's own.

XLA's CPU backend computes the gradient by the kernel as a convolution whose window is
the whole image, and that of a strided convolution by its input on an image that is
mostly zeros. Both are matrix products and plain convolutions in disguise, several
times faster as such. On other platforms nothing changes but that the derivative is
reverse-mode only, as with any `jax.custom_vjp`.

`nn.Conv(..., conv_general_dilated=cpu_conv.conv_general_dilated)` uses it.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# Positions whose patches are laid out at a time: few enough to stay in the cache.
_POSITIONS = 4096


def conv_general_dilated(
    lhs: jax.Array,
    rhs: jax.Array,
    window_strides: Any,
    padding: Any,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    **options: Any,
) -> jax.Array:
    """`jax.lax.conv_general_dilated`, argument for argument.

    Two-dimensional, channels last, undilated and in one group it has the gradients of
    this module; any other convolution is handed on.
    """
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    ordinary = (
        lhs.ndim == 4
        and numbers == lax.conv_dimension_numbers(lhs.shape, rhs.shape, _DIMENSIONS)
        and all(d == 1 for d in (*(lhs_dilation or ()), *(rhs_dilation or ())))
        and feature_group_count == 1
        and not any(options.values())
    )
    if not ordinary:
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            **options,
        )
    strides = tuple(window_strides)
    if isinstance(padding, str):
        sides = lhs.shape[1:3], rhs.shape[:2]
        padding = lax.padtype_to_pads(*sides, strides, padding)
    return _conv(lhs, rhs, strides, tuple(tuple(pair) for pair in padding))


def _plain(x, kernel, strides, padding):
    return lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=_DIMENSIONS
    )


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x, kernel, strides, padding):
    return _plain(x, kernel, strides, padding)


def _forward(x, kernel, strides, padding):
    return _plain(x, kernel, strides, padding), (x, kernel)


def _backward(strides, padding, saved, gradient):
    def elsewhere(x, kernel, gradient):
        conv = partial(_plain, strides=strides, padding=padding)
        return jax.vjp(conv, x, kernel)[1](gradient)

    def on_cpu(x, kernel, gradient):
        by_input = _by_input(x.shape, kernel, gradient, strides, padding)
        return by_input, _by_kernel(x, kernel.shape, gradient, strides, padding)

    # Chosen when the step is lowered: a GPU's program has no trace of the other.
    return lax.platform_dependent(*saved, gradient, cpu=on_cpu, default=elsewhere)


_conv.defvjp(_forward, _backward)


def _by_kernel(x, shape, gradient, strides, padding):
    """[kh, kw, I, O]: how the loss changes with the kernel."""
    height, width, channels, _ = shape
    if (height, width) == (1, 1) and not any(map(any, padding)):
        x = x[:, :: strides[0], :: strides[1]]
        return _product(x, gradient).reshape(shape).astype(x.dtype)
    # Measured: from some number of channels on XLA's way is the faster one.
    if channels > (32 if strides == (1, 1) else 64):
        conv = partial(_plain, strides=strides, padding=padding)
        return jax.vjp(partial(conv, x), jnp.zeros(shape, x.dtype))[1](gradient)[0]
    batch, rows, columns, _ = gradient.shape
    size = _divisor(batch, _POSITIONS // (rows * columns))
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))

    def one_chunk(total, chunk):
        x, gradient = chunk
        patches = [
            lax.slice(
                x,
                (0, i, j, 0),
                (
                    size,
                    i + (rows - 1) * strides[0] + 1,
                    j + (columns - 1) * strides[1] + 1,
                    channels,
                ),
                (1, *strides, 1),
            )
            for i in range(height)
            for j in range(width)
        ]
        return total + _product(jnp.concatenate(patches, -1), gradient), None

    chunks = [a.reshape(-1, size, *a.shape[1:]) for a in (x, gradient)]
    zeros = jnp.zeros((height * width * channels, shape[3]), jnp.float32)
    total, _ = lax.scan(one_chunk, zeros, tuple(chunks))
    return total.reshape(shape).astype(x.dtype)


def _divisor(number: int, most: int) -> int:
    """The largest divisor that is at most `most`, at least 1."""
    return next(d for d in range(max(1, min(number, most)), 0, -1) if number % d == 0)


def _product(x, gradient):
    """float32 [I, O]: x [..., I] times gradient [..., O], summed over positions."""
    x, gradient = (a.reshape(-1, a.shape[-1]) for a in (x, gradient))
    over = (((0,), (0,)), ((), ()))
    return lax.dot_general(x, gradient, over, preferred_element_type=jnp.float32)


def _by_input(shape, kernel, gradient, strides, padding):
    """[B, H, W, I]: how the loss changes with the input.

    With stride s, the pixels r, r + s, r + 2s, ... see only every s-th tap of the
    kernel: one plain convolution of the gradient for each remainder r, interleaved.
    """
    if strides == (1, 1):
        conv = partial(_plain, kernel=kernel, strides=strides, padding=padding)
        return jax.vjp(conv, jnp.zeros(shape, gradient.dtype))[1](gradient)[0]
    batch, height, width, channels = shape
    counts = -(-height // strides[0]), -(-width // strides[1])  # pixels of a remainder
    taps = [
        [_taps(r, stride, before, size, count, out) for r in range(stride)]
        for stride, (before, _), size, count, out in zip(
            strides, padding, kernel.shape[:2], counts, gradient.shape[1:3], strict=True
        )
    ]
    kernel = kernel.swapaxes(2, 3)

    def pixels(rows, columns):
        if not rows.taps or not columns.taps:
            return jnp.zeros((batch, *counts, channels), gradient.dtype)
        seen = kernel[jnp.array(rows.taps)][:, jnp.array(columns.taps)]
        return _plain(gradient, seen, (1, 1), (rows.padding, columns.padding))

    grid = jnp.stack(
        [
            jnp.stack([pixels(rows, columns) for columns in taps[1]], axis=3)
            for rows in taps[0]
        ],
        axis=2,
    )
    whole = grid.reshape(
        batch, counts[0] * strides[0], counts[1] * strides[1], channels
    )
    return whole[:, :height, :width]


class _Taps(NamedTuple):
    """Which taps of the kernel one remainder sees, on one axis."""

    taps: list[int]
    padding: tuple[int, int]  # of the gradient, for as many pixels as there are


def _taps(r: int, stride: int, before: int, size: int, count: int, out: int) -> _Taps:
    # Output o reaches pixel p by tap i where stride * o + i - before = p.
    taps = [i for i in reversed(range(size)) if (r + before - i) % stride == 0]
    if not taps:
        return _Taps([], (0, 0))
    first, last = ((r + before - i) // stride for i in (taps[0], taps[-1]))
    return _Taps(taps, (-first, count - 1 + last - (out - 1)))

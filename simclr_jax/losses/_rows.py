"""Rows of embeddings: their directions, their products, blocks of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array, lax


def l2_normalize(x: Array) -> Array:
    """Scales rows [..., D] to unit length, float32; a zero row stays zero.

    `x / sqrt(max(sum(x^2), 1e-12))`, as in TensorFlow's `l2_normalize`: rows shorter
    than 1e-6 stay shorter than 1. Clamping the norm instead would make the gradient NaN
    at a zero row. Rows longer than 1e19, whose squares float32 cannot hold, become unit
    rows too, up to D = 2^17. A gradient below float32's smallest number becomes zero.

    Example:
      >>> l2_normalize(jnp.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
      [[0.6..., 0.8...], [0.0, 0.0]]
    """
    x = jnp.asarray(x, jnp.float32)
    # A long row is scaled first, to between 1e-6 and 1e12: the gradient has the length
    # to the power of -3. Powers of two change no bit of the result; to divide every row
    # by its largest value would round it.
    largest = jnp.max(jnp.abs(x), -1, keepdims=True)
    scale = jnp.where(largest > 2.0**33, jnp.float32(2.0**-52), jnp.float32(1))
    x = x * jnp.where(largest > 2.0**85, jnp.float32(2.0**-95), scale)
    return x * lax.rsqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), 1e-12))


def similarities(rows: Array, columns: Array) -> Array:
    """Dot products [M, D], [L, D] -> [M, L]; by default a GPU would use TF32."""
    return jnp.matmul(rows, columns.T, precision="highest")


def is_column(index: Array, matrix: Array) -> Array:
    """True at column index[i] of row i: [M], [M, L] -> [M, L]."""
    return index[:, None] == jnp.arange(matrix.shape[1], dtype=jnp.int32)[None, :]


def map_blocks(
    function: Callable[..., Array], rows: Array, index: Array, block_size: int | None
) -> Array:
    """function(rows [M, D], index [M]) -> [M], in blocks that backward recomputes."""
    if block_size is not None and not (
        hasattr(block_size, "__index__") and block_size >= 1
    ):
        raise ValueError(f"block_size must be at least 1 and whole, got {block_size}")
    size = len(rows)
    if block_size is None or block_size >= size:
        return function(rows, index)
    blocks = -(-size // block_size)

    def split(x):
        x = jnp.pad(x, [(0, -size % blocks)] + [(0, 0)] * (x.ndim - 1))
        # A block takes every `blocks`-th row, so it is sharded if the batch is.
        return x.reshape(-1, blocks, *x.shape[1:]).swapaxes(0, 1)

    # prevent_cse is needed only outside a loop, and costs time.
    step = jax.checkpoint(lambda block: function(*block), prevent_cse=False)
    values = lax.map(step, (split(rows), split(index)))
    return values.swapaxes(0, 1).reshape(-1)[:size]

"""Encoder and projector as pure functions: shared by all methods.

`variables` travel as two trees, `params` and `batch_stats`, each with the keys
"encoder" and "projector".
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

Apply = Callable[[jax.Array, Any], tuple[Any, Any]]


def init(
    key: jax.Array, encoder: nn.Module, projector: nn.Module, images: jax.Array
) -> tuple[dict, dict]:
    """`(params, batch_stats)` of encoder and projector for `images [B, H, W, C]`."""
    key_encoder, key_projector = jax.random.split(key)
    h, encoder_variables = encoder.init_with_output(key_encoder, images, train=False)
    projector_variables = projector.init(key_projector, h, train=False)
    parts = {"encoder": encoder_variables, "projector": projector_variables}
    params = {name: part.get("params", {}) for name, part in parts.items()}
    batch_stats = {name: part.get("batch_stats", {}) for name, part in parts.items()}
    return params, batch_stats


def forward(
    encoder: nn.Module, projector: nn.Module, params: Any, batch_stats: Any, images
) -> tuple[tuple[jax.Array, jax.Array], dict]:
    """Training mode: `((h [B, F], z [B, D]), new batch_stats)`."""
    h, new_encoder = _train(encoder, params, batch_stats, "encoder", images)
    z, new_projector = _train(projector, params, batch_stats, "projector", h)
    return (h, z), {"encoder": new_encoder, "projector": new_projector}


def _train(module: nn.Module, params: Any, batch_stats: Any, part: str, inputs):
    variables = {"params": params[part], "batch_stats": batch_stats[part]}
    output, updated = module.apply(
        variables, inputs, train=True, mutable=["batch_stats"]
    )
    return output, updated.get("batch_stats", {})


def embed(
    encoder: nn.Module, projector: nn.Module, params: Any, batch_stats: Any, images
) -> dict[str, jax.Array]:
    """Inference mode: every level, `{"h", "head_1", ..., "z"}`."""

    def variables(part: str) -> dict:
        return {"params": params[part], "batch_stats": batch_stats[part]}

    h = encoder.apply(variables("encoder"), images, train=False)
    levels: Any = projector.apply(
        variables("projector"), h, train=False, method="levels"
    )
    return levels


def encode_pair(
    apply: Apply,
    views: tuple[jax.Array, jax.Array],
    batch_stats: Any,
    *,
    microbatch: int | None = None,
) -> tuple[Any, Any, Any]:
    """Both views through one `apply`, whole or in micro-batches.

    A micro-batch holds both views of the same images, and they share its
    BatchNorm statistics. Micro-batch i of n takes images i, i + n, i + 2n, ...:
    of a batch sharded over devices in contiguous blocks each takes an equal
    part. Every micro-batch is recomputed in the backward pass, so the memory is
    one micro-batch's while the loss sees the embeddings of all (the gradient
    cache of Gao et al. 2021, arXiv 2101.06983, in one scan).

    Args:
      apply: `(images [M, H, W, C], batch_stats) -> (outputs [M, ...] (any tree),
        new batch_stats)`.
      views: two arrays `[B, H, W, C]`.
      batch_stats: BatchNorm's running statistics. All micro-batches start from
        these; the result is the mean of their updates.
      microbatch: images per micro-batch; must divide B. None: all at once.

    Returns:
      `(outputs of the first view [B, ...], of the second, new batch_stats)`.

    Raises:
      ValueError: `microbatch` does not divide B.
    """
    a, b = views
    size = a.shape[0]
    if microbatch is None or microbatch >= size:
        outputs, batch_stats = apply(jnp.concatenate([a, b]), batch_stats)
        first, second = (
            jax.tree.map(lambda x, half=half: x[half], outputs)
            for half in (slice(None, size), slice(size, None))
        )
        return first, second, batch_stats
    if size % microbatch:
        raise ValueError(f"microbatch {microbatch} does not divide the batch {size}")
    count = size // microbatch

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(microbatch, count, *x.shape[1:]).swapaxes(0, 1)

    def join(x: jax.Array) -> jax.Array:
        return x.swapaxes(0, 1).reshape(size, *x.shape[2:])

    # prevent_cse=False: inside a scan nothing can be merged with the forward pass.
    apply_again = jax.checkpoint(apply, prevent_cse=False)
    chunks = jnp.concatenate([split(a), split(b)], axis=1)
    _, (outputs, stats) = jax.lax.scan(
        lambda carry, chunk: (carry, apply_again(chunk, batch_stats)), None, chunks
    )
    first = jax.tree.map(lambda x: join(x[:, :microbatch]), outputs)
    second = jax.tree.map(lambda x: join(x[:, microbatch:]), outputs)
    return first, second, jax.tree.map(lambda x: x.mean(0), stats)

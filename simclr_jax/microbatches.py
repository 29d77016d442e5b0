"""Encodes a batch in parts: micro-batches save memory, groups keep BatchNorms apart.

    apply = partial(network.train, params)
    (a, b), batch_stats = encode_views(apply, batch_stats, views, microbatch=64)

Here a and b are the outputs of `train`, (h, z), for the first and the second view.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

# (batch_stats, images [M, H, W, C]) -> (outputs [M, ...] in any tree, new batch_stats)
Apply = Callable[[Any, jax.Array], tuple[Any, Any]]


def encode_views(
    apply: Apply,
    batch_stats: Any,
    views: tuple[jax.Array, ...],
    *,
    microbatch: int | None = None,
) -> tuple[list[Any], Any]:
    """Runs all views through one network, at once or in micro-batches.

    A micro-batch holds all views of the same images, one view after the other. They
    share its BatchNorm statistics, unless `in_groups` separates them. Micro-batch i
    of n takes images i, i + n, i + 2n, ...: if contiguous blocks of the batch lie on
    different devices, each device holds an equal part of it. The backward pass
    recomputes every micro-batch, so memory is needed for one at a time, while the loss
    sees the embeddings of all (the gradient cache of Gao et al. 2021, arXiv
    2101.06983, in one scan).

    Args:
      apply: `(batch_stats, images [M, H, W, C]) -> (outputs [M, ...] in any tree, new
        batch_stats)`.
      batch_stats: BatchNorm's running statistics. All micro-batches start from
        these; the result is the mean of their updates.
      views: one array `[B, H, W, C]` for each view of the same B images.
      microbatch: images in a micro-batch; must divide B. None: all at once.

    Returns:
      `([outputs of the first view [B, ...], of the second, ...], new batch_stats)`.

    Raises:
      ValueError: `microbatch` does not divide B.
    """
    size = views[0].shape[0]
    if microbatch is None or microbatch >= size:
        outputs, batch_stats = apply(batch_stats, jnp.concatenate(views))
        return _split_views(outputs, len(views)), batch_stats
    if size % microbatch:
        raise ValueError(f"microbatch {microbatch} does not divide the batch {size}")
    count = size // microbatch

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(microbatch, count, *x.shape[1:]).swapaxes(0, 1)

    def join(x: jax.Array) -> jax.Array:
        return x.swapaxes(0, 1).reshape(size, *x.shape[2:])

    # prevent_cse=False: inside a scan nothing can be merged with the forward pass.
    apply_again = jax.checkpoint(apply, prevent_cse=False)
    chunks = jnp.concatenate([split(view) for view in views], axis=1)
    _, (outputs, stats) = jax.lax.scan(
        lambda carry, chunk: (carry, apply_again(batch_stats, chunk)), None, chunks
    )
    parts = _split_views(outputs, len(views), axis=1)
    return [jax.tree.map(join, part) for part in parts], _mean(stats)


def in_groups(apply: Apply, groups: int) -> Apply:
    """Makes `apply` normalise equal blocks of its images separately.

    Block g holds images g M / groups, ..., (g + 1) M / groups - 1. The result equals
    that of `groups` calls: the outputs in order, and the mean of the new statistics.

    Args:
      apply: as `encode_views` takes it, on images `[M, H, W, C]`.
      groups: how many blocks; must divide M.

    Returns:
      A function with the signature of `apply`.
    """
    if groups == 1:
        return apply

    def grouped(batch_stats: Any, images: jax.Array) -> tuple[Any, Any]:
        blocks = images.reshape(groups, -1, *images.shape[1:])
        outputs, stats = jax.vmap(apply, in_axes=(None, 0))(batch_stats, blocks)
        outputs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)
        return outputs, _mean(stats)

    return grouped


def _split_views(outputs: Any, count: int, axis: int = 0) -> list[Any]:
    """The leaves cut into `count` equal parts: one tree for each view."""
    leaves, tree = jax.tree.flatten(outputs)
    cut = [jnp.split(leaf, count, axis) for leaf in leaves]
    return [tree.unflatten(part) for part in zip(*cut, strict=True)]


def _mean(stats: Any) -> Any:
    return jax.tree.map(lambda x: x.mean(0), stats)

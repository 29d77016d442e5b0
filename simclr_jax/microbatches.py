"""Encodes a batch in parts: micro-batches save memory, groups keep BatchNorms apart.

    apply = partial(network.train, params)
    (a, b), batch_stats = encode_views(apply, batch_stats, views, microbatch=64)

Here a and b are the outputs of `train`, (h, z), for the first and the second view.

Nothing here moves an image between devices if each holds a contiguous part of the
batch. The two views of an image stay side by side. Joined one after the other, half of
all images would have to move.
"""

from collections.abc import Callable
from dataclasses import dataclass
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

    `apply` gets all views of an image side by side: the first image's views, then the
    second's, and so on. They share BatchNorm statistics; `encode_each` separates them.
    A micro-batch holds all views of the same images. Micro-batch i of n takes images i,
    i + n, i + 2n, ...: if contiguous blocks of the batch lie on different devices, each
    device holds an equal part of it. The backward pass recomputes every micro-batch, so
    memory is needed for one at a time, while the loss sees the embeddings of all (the
    gradient cache of Gao et al. 2021, arXiv 2101.06983, in one scan).

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
      ValueError: `microbatch` does not divide B, or there are several views and `apply`
        comes from `in_groups`, which would put both views of an image into one group.
    """
    if len(views) > 1 and isinstance(apply, _Grouped):
        raise ValueError("in_groups would not separate the views; use encode_each")
    side_by_side = jnp.stack(views, axis=1)  # [B, V, H, W, C]
    size = len(side_by_side)
    if microbatch is None or microbatch >= size:
        outputs, batch_stats = apply(batch_stats, _merge(side_by_side))
        return _split_views(outputs, size), batch_stats
    if size % microbatch:
        raise ValueError(f"microbatch {microbatch} does not divide the batch {size}")
    count = size // microbatch

    def split(x: jax.Array) -> jax.Array:
        return x.reshape(microbatch, count, *x.shape[1:]).swapaxes(0, 1)

    def join(x: jax.Array) -> jax.Array:
        return _merge(x.swapaxes(0, 1))

    # prevent_cse=False: inside a scan nothing can be merged with the forward pass.
    apply_again = jax.checkpoint(apply, prevent_cse=False)

    def encode(chunk: jax.Array) -> tuple[list[Any], Any]:
        outputs, stats = apply_again(batch_stats, _merge(chunk))
        return _split_views(outputs, microbatch), stats

    parts, stats = jax.lax.map(encode, split(side_by_side))
    return jax.tree.map(join, parts), _mean(stats)


def encode_each(
    apply: Apply,
    batch_stats: Any,
    views: tuple[jax.Array, ...],
    *,
    microbatch: int | None = None,
) -> tuple[list[Any], Any]:
    """Runs each view through the network by itself: BatchNorm sees one view at a time.

    The views are passes of their own, not turns of a loop: inside a loop XLA's CPU
    backend takes many times as long for the gradients of convolution kernels. Nor
    does `vmap` run them: XLA would join views and images to one axis, no longer know
    that the batch is distributed over devices, and have each device compute everything.

    Args:
      apply: `(batch_stats, images [M, H, W, C]) -> (outputs [M, ...] in any tree, new
        batch_stats)`. It may come from `in_groups`, which then cuts one view into
        groups.
      batch_stats, microbatch: as for `encode_views`.
      views: one array `[B, H, W, C]` for each view of the same B images.

    Returns:
      As `encode_views`; the new batch_stats are the mean over views.

    Raises:
      ValueError: `microbatch` does not divide B.
    """

    def encode(view: jax.Array) -> tuple[Any, Any]:
        (outputs,), stats = encode_views(
            apply, batch_stats, (view,), microbatch=microbatch
        )
        return outputs, stats

    outputs, stats = zip(*map(encode, views), strict=True)
    return list(outputs), jax.tree.map(lambda *x: sum(x) / len(x), *stats)


def in_groups(apply: Apply, groups: int) -> Apply:
    """Makes `apply` normalise equal blocks of its images separately.

    Block g holds images g M / groups, ..., (g + 1) M / groups - 1. The result equals
    that of `groups` calls: the outputs in order, and the mean of the new statistics.

    Args:
      apply: as `encode_views` takes it, on images `[M, H, W, C]` of one view.
      groups: how many blocks; must divide M.

    Returns:
      A function with the signature of `apply`, for one view or for `encode_each`.
    """
    return apply if groups == 1 else _Grouped(apply, groups)


@dataclass(frozen=True, eq=False)
class _Grouped:
    """What `in_groups` returns: a type of its own, so that `encode_views` knows it."""

    apply: Apply
    groups: int

    def __call__(self, batch_stats: Any, images: jax.Array) -> tuple[Any, Any]:
        blocks = images.reshape(self.groups, -1, *images.shape[1:])
        outputs, stats = jax.vmap(self.apply, in_axes=(None, 0))(batch_stats, blocks)
        return jax.tree.map(_merge, outputs), _mean(stats)


def _merge(x: jax.Array) -> jax.Array:
    """[B, V, ...] as [B V, ...]."""
    return x.reshape(-1, *x.shape[2:])


def _split_views(outputs: Any, size: int) -> list[Any]:
    """The leaves `[B V, ...]`, B = `size`, as V trees with leaves `[B, ...]`."""
    leaves, tree = jax.tree.flatten(outputs)
    apart = [leaf.reshape(size, -1, *leaf.shape[1:]).swapaxes(0, 1) for leaf in leaves]
    return [tree.unflatten(view) for view in zip(*apart, strict=True)]


def _mean(stats: Any) -> Any:
    return jax.tree.map(lambda x: x.mean(0), stats)

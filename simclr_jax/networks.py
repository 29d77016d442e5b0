"""The networks as pure functions: shared by all methods.

`variables` travel as two trees, `params` and `batch_stats`, each with the keys
"encoder" and "projector" (BYOL has a "predictor" too).
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from simclr_jax.losses import contrastive_accuracy, l2_normalize

# Contrastive accuracy is a gauge; on this many pairs it costs next to nothing.
_ACCURACY_PAIRS = 1024

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
    h, new_encoder = run_part(encoder, params, batch_stats, "encoder", images)
    z, new_projector = run_part(projector, params, batch_stats, "projector", h)
    return (h, z), {"encoder": new_encoder, "projector": new_projector}


def run_part(module: nn.Module, params: Any, batch_stats: Any, part: str, inputs):
    """One module in training mode: `(output, its new batch_stats)`."""
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


def encode(
    apply: Apply,
    views: tuple[jax.Array, ...],
    batch_stats: Any,
    *,
    microbatch: int | None = None,
) -> tuple[list[Any], Any]:
    """All views through one `apply`, whole or in micro-batches.

    A micro-batch holds the views of the same images, one view after the other, and
    they share its BatchNorm statistics (unless `in_groups` parts them). Micro-batch i
    of n takes images i, i + n, i + 2n, ...: of a batch sharded over devices in
    contiguous blocks each takes an equal part. Every micro-batch is recomputed in the
    backward pass, so the memory is one micro-batch's while the loss sees the
    embeddings of all (the gradient cache of Gao et al. 2021, arXiv 2101.06983, in one
    scan).

    Args:
      apply: `(images [M, H, W, C], batch_stats) -> (outputs [M, ...] (any tree),
        new batch_stats)`.
      views: one array `[B, H, W, C]` for each view of the same B images.
      batch_stats: BatchNorm's running statistics. All micro-batches start from
        these; the result is the mean of their updates.
      microbatch: images per micro-batch; must divide B. None: all at once.

    Returns:
      `([outputs of the first view [B, ...], of the second, ...], new batch_stats)`.

    Raises:
      ValueError: `microbatch` does not divide B.
    """
    size = views[0].shape[0]
    if microbatch is None or microbatch >= size:
        outputs, batch_stats = apply(jnp.concatenate(views), batch_stats)
        return _part(outputs, len(views)), batch_stats
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
        lambda carry, chunk: (carry, apply_again(chunk, batch_stats)), None, chunks
    )
    parts = _part(outputs, len(views), axis=1)
    return [jax.tree.map(join, part) for part in parts], _mean(stats)


def in_groups(apply: Apply, groups: int) -> Apply:
    """`apply` on `groups` equal blocks of its images, each with its own BatchNorm.

    Block g holds images g M / groups, ..., (g + 1) M / groups - 1. The result is that
    of `groups` calls: the outputs in order, and the mean of the new statistics.
    """
    if groups == 1:
        return apply

    def grouped(images: jax.Array, batch_stats: Any) -> tuple[Any, Any]:
        blocks = images.reshape(groups, -1, *images.shape[1:])
        outputs, stats = jax.vmap(apply, in_axes=(0, None))(blocks, batch_stats)
        outputs = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outputs)
        return outputs, _mean(stats)

    return grouped


def _part(outputs: Any, count: int, axis: int = 0) -> list[Any]:
    """The leaves cut into `count` equal parts: one tree for each view."""
    leaves, tree = jax.tree.flatten(outputs)
    cut = [jnp.split(leaf, count, axis) for leaf in leaves]
    return [tree.unflatten(part) for part in zip(*cut, strict=True)]


def _mean(stats: Any) -> Any:
    return jax.tree.map(lambda x: x.mean(0), stats)


def average(old: Any, new: Any, momentum: float | jax.Array) -> Any:
    """`momentum * old + (1 - momentum) * new` of two trees of `old`'s structure."""
    return jax.tree.map(lambda x, y: momentum * x + (1 - momentum) * y, old, new)


def follow(params: Any, model_state: Any, momentum: float | jax.Array) -> Any:
    """model_state, its "target" moved towards the network's params by `average`."""
    target = model_state["target"]
    online = {part: params[part] for part in target["params"]}
    moved = average(target["params"], online, momentum)
    return model_state | {"target": target | {"params": moved}}


def gauges(z_a: jax.Array, z_b: jax.Array) -> dict[str, jax.Array]:
    """What shows whether the projections `[B, D]` of two views learn or collapse."""
    few = slice(None, _ACCURACY_PAIRS)
    return {
        "contrastive_accuracy": contrastive_accuracy(z_a[few], z_b[few]),
        "embedding_std": embedding_std(z_a),
    }


def embedding_std(z: jax.Array) -> jax.Array:
    """The spread of the normalised rows of z `[B, D]`, per dimension, times sqrt(D).

    1 when they fill the sphere evenly, 0 when they have collapsed to a point.
    """
    z = l2_normalize(jax.lax.stop_gradient(z))
    return z.std(0).mean() * z.shape[-1] ** 0.5

"""A memory of negatives: the keys that a slowly moving copy of the network gave to the
last batches (MoCo's queue; SimCLRv2's memory). What it adds to model_state:

    {"target": {"params", "batch_stats"}, "queue": [K, D], "cursor": []}

The queue is a ring of normalised keys; the cursor is where the next are written.
`_network.follow` moves the target.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from simclr_jax.losses import l2_normalize


def start(
    key: jax.Array, params: Any, batch_stats: Any, size: int, dim: int
) -> dict[str, Any]:
    """At first the target is a copy of the network and the queue is random."""
    return {
        "target": {"params": params, "batch_stats": batch_stats},
        "queue": random_rows(key, size, dim),
        "cursor": jnp.zeros((), jnp.int32),
    }


def random_rows(key: jax.Array, count: int, dim: int) -> jax.Array:
    """[count, dim], uniform on the sphere: what a memory holds before it has seen."""
    return l2_normalize(jax.random.normal(key, (count, dim)))


def remember(
    model_state: dict[str, Any],
    encode: Callable[[Any, Any], tuple[list[Any], Any]],
) -> tuple[list[jax.Array], dict[str, Any]]:
    """The target's keys of a batch take the place of the oldest in the queue.

    This step's negatives are the queue before that, `model_state["queue"]`.

    Args:
      encode: `(params, batch_stats) -> ([(h, z) of each view], new batch_stats)`.

    Returns:
      `([keys [B, D] of each view], the new target, queue and cursor)`, no gradient.
    """
    target, queue = model_state["target"], model_state["queue"]
    outputs, stats = encode(target["params"], target["batch_stats"])
    keys = [jax.lax.stop_gradient(z) for _, z in outputs]
    rows, cursor = l2_normalize(jnp.concatenate(keys)), model_state["cursor"]
    written = jax.lax.dynamic_update_slice(
        queue, rows, (cursor, jnp.zeros_like(cursor))
    )
    return keys, {
        "target": target | {"batch_stats": stats},
        "queue": written,
        "cursor": (cursor + len(rows)) % len(queue),
    }


def problem(
    field: str,
    size: int,
    batch_size: int,
    *,
    keys: int,
    fits: Callable[[int], bool],
) -> tuple[str, str] | None:
    """Why a batch cannot be enqueued, as a method's `problem` says it, or None.

    Args:
      field: what sets the queue's size.
      keys: how many each image gives.
      fits: whether a batch size would do otherwise, for the one to suggest.
    """
    if size % (keys * batch_size) == 0:
        return None
    batches = [
        batch
        for batch in range(2, size // keys + 1)
        if size % (keys * batch) == 0 and fits(batch)
    ]
    nearest = min(batches, key=lambda x: abs(x - batch_size), default=None)
    return (
        "batch_size",
        f"the {keys * batch_size} keys of a batch do not divide {field} {size}; "
        + (f"the nearest batch that fits is {nearest}" if nearest else "none does"),
    )

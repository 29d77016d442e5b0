"""A memory of negatives: MoCo's queue, which also serves as SimCLRv2's memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from simclr_jax.losses import l2_normalize
from simclr_jax.networks import update_target

# (params, batch_stats) -> ([(h [B, F], z [B, D]) of each view], new batch_stats)
Encode = Callable[[Any, Any], tuple[list[Any], Any]]


def random_rows(key: jax.Array, count: int, dim: int) -> jax.Array:
    """[count, dim], uniform on the sphere: the initial content of a memory."""
    return l2_normalize(jax.random.normal(key, (count, dim)))


@dataclass(frozen=True)
class Queue:
    """The last keys from a target network, a slow copy of the trained network.

    It adds to model_state

        {"target": {"params", "batch_stats"}, "queue": [K, D], "cursor": []}

    The queue is a ring of normalised keys. The next keys are written at the cursor.

    Attributes:
      size: K, a multiple of the number of keys in a batch.
      momentum: of the target's moving average, per step.
    """

    size: int
    momentum: float

    def start(
        self, key: jax.Array, params: Any, batch_stats: Any, dim: int
    ) -> dict[str, Any]:
        """The entries to add to model_state: a copy of the network, and random keys."""
        return {
            "target": {"params": params, "batch_stats": batch_stats},
            "queue": random_rows(key, self.size, dim),
            "cursor": jnp.zeros((), jnp.int32),
        }

    def enqueue(
        self, model_state: dict[str, Any], encode: Encode
    ) -> tuple[list[jax.Array], dict[str, Any]]:
        """Replaces the oldest keys in the queue by the target's keys of this batch.

        The negatives of this step are the old queue, `model_state["queue"]`.

        Returns:
          `([keys [B, D] of each view], new model_state)`, without gradient.
        """
        target, queue = model_state["target"], model_state["queue"]
        outputs, stats = encode(target["params"], target["batch_stats"])
        keys = [jax.lax.stop_gradient(z) for _, z in outputs]
        rows, cursor = l2_normalize(jnp.concatenate(keys)), model_state["cursor"]
        written = jax.lax.dynamic_update_slice(
            queue, rows, (cursor, jnp.zeros_like(cursor))
        )
        return keys, model_state | {
            "target": target | {"batch_stats": stats},
            "queue": written,
            "cursor": (cursor + len(rows)) % len(queue),
        }

    def follow(self, params: Any, model_state: Any) -> Any:
        """Moves the target towards the network, after each step of the optimizer."""
        return update_target(params, model_state, self.momentum)


def check_queue(
    field: str, size: int, batch_size: int, *, keys: int, fits: Callable[[int], bool]
) -> tuple[str, str] | None:
    """Checks that the keys of a batch divide the queue; see `methods.problem`.

    Args:
      field: the field that sets the queue's size.
      size, batch_size: rows of the queue, images in a batch.
      keys: keys per image.
      fits: tells whether a batch size meets all other conditions; the message
        suggests only such a size.
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
        f"a batch of {batch_size} gives {keys * batch_size} keys, which do not divide "
        f"{field} {size}; "
        + (f"the nearest batch that fits is {nearest}" if nearest else "no batch fits"),
    )

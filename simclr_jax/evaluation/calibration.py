"""BatchNorm statistics for a network that was never trained."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp


def calibrate(
    train: Callable[[Any, Any], Any], batch_stats: Any, batches: Iterable[Any]
) -> Any:
    """The BatchNorm statistics of these batches, instead of the initial 0 and 1.

    With 0 and 1 BatchNorm does nothing in inference mode, and the features of a deep
    network at random initialisation hardly vary. The variances are those within the
    batches, as in the running statistics of a trained network.

    Args:
      train: `(batch_stats, batch) -> new batch_stats`: a forward pass in training mode.
        A new statistic is a weighted mean of the old one and the batch's. It is jitted.
      batch_stats: only for its structure; its values do not matter.
      batches: at least one. All have the same weight.

    Returns:
      batch_stats with the mean over the batches.

    Raises:
      ValueError: there are no batches.
    """

    @jax.jit
    def of_batch(batch: Any) -> Any:
        # Old statistics of 0 give w x, of 1 they give w x + 1 - w. The forward pass
        # does not depend on them, so that XLA computes it once.
        from_0, from_1 = (
            train(jax.tree.map(lambda x: jnp.full_like(x, old), batch_stats), batch)
            for old in (0.0, 1.0)
        )
        return jax.tree.map(lambda a, b: a / (1 - (b - a)), from_0, from_1)

    total, count = None, 0
    for batch in batches:
        new = of_batch(batch)
        total = new if total is None else jax.tree.map(jnp.add, total, new)
        count += 1
    if total is None:
        raise ValueError("there are no batches to calibrate with")
    return jax.tree.map(lambda x: x / count, total)

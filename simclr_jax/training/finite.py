"""Whether a state may be kept."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from simclr_jax.errors import DivergedError

# Of a model's state; a method may have more, in which it may keep infinities.
_STATE = ("batch_stats", "target")


def require_finite(items: dict[str, Any]) -> None:
    """Checks a state before it is saved.

    Each step checks its loss and gradient. To check the whole state in each step, too,
    took a third more memory traffic (Adam, ResNet-50) and three times as long to
    compile.

    Args:
      items: "params", "model_state" and "opt_state", trees of arrays in NumPy, and
        "counters" with the "step".

    Raises:
      DivergedError: a parameter, a running statistic or a number of the optimizer's is
        infinite or NaN.
    """
    kept = {name: items[name] for name in ("params", "opt_state")}
    state = items["model_state"]
    kept |= {name: state[name] for name in _STATE if name in state}
    for name, tree in kept.items():
        if not all(map(_finite, jax.tree.leaves(tree))):
            raise DivergedError(
                f"{name} not finite at step {int(items['counters']['step'])}; the last "
                "good checkpoint is kept. Lower the learning rate or the weight decay"
            )


def _finite(leaf: Any) -> bool:
    numbers = np.asarray(leaf)
    if not jnp.issubdtype(numbers.dtype, jnp.inexact):
        return True
    return bool(np.isfinite(numbers).all())

"""Dynamic loss scaling, which keeps float16's small gradients from becoming zero.

float16 has nothing between 0 and 6e-8. The loss is multiplied by a scale before it is
differentiated, and the gradients are divided by it (Micikevicius et al. 2018, arXiv
1710.03740, section 3.2). The scale doubles after a period without overflow. A step
whose gradients overflow changes no parameter and halves the scale. The scale is part of
the optimizer's state, so a checkpoint holds it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

_START = 2.0**15
_MOST = 2.0**24
_PERIOD = 2000  # steps


class DynamicState(NamedTuple):
    """An optimizer's state together with its loss scale.

    Attributes:
      inner: the optimizer's own state.
      scale: float32 [], the factor of the loss, at least 1.
      finite_steps: int32 [], steps since the scale last changed.
    """

    inner: Any
    scale: jax.Array
    finite_steps: jax.Array


def dynamic(tx: optax.GradientTransformation) -> optax.GradientTransformation:
    """Adds a loss scale to an optimizer's state; `make_step` applies and adjusts it.

    Args:
      tx: the optimizer.

    Returns:
      A transformation with a `DynamicState`; `update` takes gradients that have been
      divided by the scale.
    """

    def init(params):
        zero = jnp.zeros((), jnp.int32)
        return DynamicState(tx.init(params), jnp.float32(_START), zero)

    def update(updates, state, params=None):
        updates, inner = tx.update(updates, state.inner, params)
        return updates, state._replace(inner=inner)

    return optax.GradientTransformation(init, update)


def current(opt_state: Any) -> jax.Array:
    """The scale in an optimizer's state, float32 []; 1 where there is none."""
    if isinstance(opt_state, DynamicState):
        return opt_state.scale
    return jnp.ones((), jnp.float32)


def adjust(state: DynamicState, finite: jax.Array) -> DynamicState:
    """The state after a step; `finite` (bool []) is True if all gradients were."""
    steps = jnp.where(finite, state.finite_steps + 1, 0)
    grow = steps >= _PERIOD
    factor = jnp.where(finite, jnp.where(grow, 2.0, 1.0), 0.5)
    scale = jnp.clip(state.scale * factor, 1.0, _MOST)
    return DynamicState(state.inner, scale, jnp.where(grow, 0, steps))

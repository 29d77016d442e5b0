"""The two programs of a training: one makes its first state, the other takes a step.

Both know where the state lies on the devices, so that a step leaves it as it found it.
Otherwise XLA would choose, and the next step would be compiled once more.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simclr_jax import data, devices
from simclr_jax.training import LossFn, TrainState, init_state, make_step, make_steps


class Origin(NamedTuple):
    """Where a training starts.

    Attributes:
      make: makes the state at step 0, each array where it belongs.
      like: the shapes, dtypes and shardings of the state at any step.
    """

    make: Callable[[], TrainState]
    like: TrainState


def origin(
    init: Callable[..., tuple[Any, Any]],
    args: tuple[Any, ...],
    tx: optax.GradientTransformation,
    *,
    fsdp: bool,
) -> Origin:
    """The state that `init(*args) -> (params, model_state)` and the optimizer make.

    Args:
      args: arrays; the state never shares memory with them.
      fsdp: whether large arrays are spread over the devices; see `devices.spread`.
    """
    first_state = _first_state(init, tx)
    abstract = jax.eval_shape(first_state, *args)
    shardings = devices.spread(abstract, fsdp)
    make = jax.jit(first_state, out_shardings=shardings)
    return Origin(partial(make, *args), devices.laid_out(abstract, shardings))


@lru_cache(maxsize=4)  # jax keeps what it compiled by the function
def _first_state(init: Callable[..., Any], tx: Any) -> Callable[..., TrainState]:
    # Copies, because the first step donates its state. Without them an output that is
    # just an input would be the caller's own buffer.
    @jax.jit
    def first_state(*args: Any) -> TrainState:
        params, model_state = jax.tree.map(jnp.copy, init(*args))
        return init_state(params, model_state, tx)

    return first_state


def step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    after: Callable | None,
    like: TrainState,
    *,
    several: bool,
) -> Callable:
    """The train step of a state like `like`.

    Args:
      loss_fn, tx, after: see `make_step`.
      like: see `Origin`.
      several: whether a call takes several steps; see `make_steps`.
    """
    whole, shardings = devices.whole(), jax.tree.map(lambda x: x.sharding, like)
    out = None if whole is None else (shardings, whole)
    made = make_step(
        devices.on_mesh(loss_fn),
        tx,
        after,
        prepare=data.take,
        out_shardings=out,
        param_shardings=None if whole is None else shardings.params,
    )
    if not several:
        return made
    place = partial(devices.place, axis=1)
    return make_steps(made, shared=("dataset",), place=place, out_shardings=out)


def kept_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    like: TrainState,
    *,
    several: bool,
) -> Callable:
    """`step` for trainings that are repeated: the same arguments compile nothing."""
    leaves, form = jax.tree.flatten(like)
    return _kept_step(loss_fn, tx, form, tuple(leaves), several)


@lru_cache(maxsize=4)
def _kept_step(
    loss_fn: LossFn, tx: Any, form: Any, leaves: tuple[Any, ...], several: bool
) -> Callable:
    return step(loss_fn, tx, None, form.unflatten(leaves), several=several)

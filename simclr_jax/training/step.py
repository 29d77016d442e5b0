"""One training step: `make_step` turns a loss and an optimizer into a jitted function.

`make_steps` turns such a step into one that takes several at a time.

A step takes a `TrainState` and returns the next. If its loss or gradient is not finite,
it changes no parameter; the loop ends a training after several of these in a row.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import NamedSharding

from simclr_jax.training import loss_scale, optimizers

LossFn = Callable[[Any, Any, jax.Array, Any], tuple[jax.Array, tuple[Any, dict]]]


class TrainState(NamedTuple):
    """All that training changes, and nothing else: arrays only, no functions.

    Attributes:
      step: int32 [], steps attempted, skipped ones included. Data order and keys
        follow it; the learning rate follows opt_state's count of updates.
      params: what the optimizer trains.
      model_state: other state of the loss (BatchNorm statistics, ...).
      opt_state: the optimizer's.
      skipped: int32 [], how many of the latest steps, in a row, had a loss or gradient
        that was not finite. Such a step changes only `skipped`, `step` and float16's
        loss scale (`loss_scale.dynamic`). Overflows of that scale do not count.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    skipped: jax.Array


def init_state(params: Any, model_state: Any, tx) -> TrainState:
    """The state before the first step.

    Call it under jit if params and model_state share a buffer (a target network).
    Outside jit the buffer stays shared, and the step can't donate it.
    """
    step, skipped = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    return TrainState(step, params, model_state, tx.init(params), skipped)


def make_step(
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    after: Callable | None = None,
    *,
    prepare: Callable[[Any], Any] | None = None,
    out_shardings: Any = None,
    param_shardings: Any = None,
) -> Callable:
    """Builds the jitted train step.

    Args:
      loss_fn: `(params, model_state, key, batch) -> (loss [], (model_state,
        metrics))`, pure; metrics is a dict of scalars.
      tx: the optimizer.
      after: `(params, model_state, step []) -> model_state`, applied after the
        optimizer has updated params (an EMA target). `step` includes this one.
      prepare: applied to the batch inside the step, before loss_fn; see `data.take`.
      out_shardings: `jax.jit`'s. Without the old state's, the next call may compile.
      param_shardings: of params, if some are spread: their gradients lie likewise.

    Returns:
      `step(state, key, batch) -> (state, metrics)`. `state` is donated: don't use it
      again. Each step folds its number into `key`. metrics gains `loss` (unless loss_fn
      gave one), `grad_norm`, `skipped` and, for `loss_scale.dynamic`, `loss_scale`.
    """

    def step(state: TrainState, key: jax.Array, batch: Any):
        batch = prepare(batch) if prepare else batch
        key = jax.random.fold_in(key, state.step)
        scale = loss_scale.current(state.opt_state)
        found, grads = _gradients(loss_fn, state, key, batch, scale)
        loss, model_state, metrics = found
        grads = _row_major(grads, param_shardings)
        grad_norm = optax.tree.norm(grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        number = state.step + 1
        if after is not None:
            model_state = after(params, model_state, number)

        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        new = (params, model_state, opt_state)
        old = (state.params, state.model_state, state.opt_state)
        chosen = jax.tree.map(partial(jnp.where, finite), new, old)
        params, model_state, opt_state = chosen
        # An overflow that a smaller scale can cure is not a divergence.
        overflow = jnp.isfinite(loss) & ~finite & (scale > 1)
        skipped = jnp.where(finite | overflow, 0, state.skipped + 1)
        metrics = {"loss": loss} | metrics
        metrics |= {"grad_norm": grad_norm, "skipped": skipped}
        if isinstance(opt_state, loss_scale.DynamicState):
            opt_state = loss_scale.adjust(opt_state, finite)
            metrics["loss_scale"] = scale
        return TrainState(number, params, model_state, opt_state, skipped), metrics

    return jax.jit(step, donate_argnums=0, out_shardings=out_shardings)


def make_steps(
    step: Callable,
    *,
    shared: tuple[str, ...] = (),
    place: Callable[[dict], dict] = lambda rows: rows,
    out_shardings: Any = None,
) -> Callable:
    """Several steps in one call, for steps so short that the calls cost the most.

    The results are those of as many calls of `step`.

    Args:
      step: from `make_step`. Its batches must be dicts.
      shared: the names of values that all batches have in common, such as a data set on
        the device. They are passed once; the others are stacked.
      place: applied to the stacked values, [S, ...], to put them on devices.
      out_shardings: see `make_step`.

    Returns:
      `steps(state, key, batches) -> (state, metrics)`. batches is a list of S batches.
      Every metric is [S]. metrics gains `updates_made`, how many updates the optimizer
      had made after each step. `state` is donated. Each S compiles once.
    """

    @partial(jax.jit, donate_argnums=0, out_shardings=out_shardings)
    def scan(state: TrainState, key: jax.Array, common: dict, rows: dict):
        def body(state: TrainState, row: dict):
            state, metrics = step(state, key, common | row)
            made = optimizers.updates_made(state.opt_state, state.step)
            return state, metrics | {"updates_made": made}

        return jax.lax.scan(body, state, rows)

    def steps(state: TrainState, key: jax.Array, batches: list[dict[str, Any]]):
        common = {name: batches[0][name] for name in shared}
        names = batches[0].keys() - common.keys()
        rows = {name: np.stack([batch[name] for batch in batches]) for name in names}
        return scan(state, key, common, place(rows))

    return steps


def _gradients(
    loss_fn: LossFn, state: TrainState, key: jax.Array, batch: Any, scale: Any
) -> tuple[tuple[jax.Array, Any, dict[str, Any]], Any]:
    """`(loss, model_state, metrics)`, and the gradients by params.

    Args:
      scale: of the loss while it is differentiated; it is taken out again.
    """

    def scaled_loss(params: Any) -> Any:
        loss, (model_state, metrics) = loss_fn(params, state.model_state, key, batch)
        return loss * scale, (loss, model_state, metrics)

    (_, found), grads = jax.value_and_grad(scaled_loss, has_aux=True)(state.params)
    return found, jax.tree.map(lambda g: g / scale, grads)


def _row_major(grads: Any, shardings: Any) -> Any:
    """Keeps XLA from running the whole optimizer in the gradients' layout.

    cuDNN returns the gradient of a kernel with its axes in another order. XLA then
    transposed parameters and moments to that order and back. Now only the gradient is
    transposed: on an H200, Adam's step on 16 million parameters of eight convolutions
    took 1.06 ms and not 1.34. To export a step, `jax.export` must be told to allow the
    custom call LayoutConstraint.

    Args:
      shardings: None, or a tree of them. Each device then keeps its part: for the
        custom call by itself, XLA would gather the whole gradient on every device.
    """
    if shardings is None:
        return jax.tree.map(_in_order, grads)

    def of_parts(x: jax.Array, sharding: NamedSharding) -> jax.Array:
        if sharding.is_fully_replicated:
            return _in_order(x)
        spec = sharding.spec
        local = jax.shard_map(
            _in_order, mesh=sharding.mesh, in_specs=spec, out_specs=spec
        )
        return local(x)

    return jax.tree.map(of_parts, grads, shardings)


def _in_order(x: jax.Array) -> jax.Array:
    return with_layout_constraint(x, Layout(tuple(range(x.ndim))))

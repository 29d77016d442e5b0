"""The only training loop. A stage brings a loss_fn and an optimizer; `make_step`
turns them into one jitted step, and `run` repeats it, records, saves and evaluates
until the plan ends or a signal comes."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from simclr_jax import data
from simclr_jax.errors import DivergedError, StoppedError
from simclr_jax.signals import check_stop
from simclr_jax.training import loss_scale
from simclr_jax.training import optimizers as optim
from simclr_jax.training.progress import Progress

# So many steps in a row without a finite loss and gradient end the training.
_MAX_SKIPPED = 10

LossFn = Callable[[Any, Any, jax.Array, Any], tuple[jax.Array, tuple[Any, dict]]]


class TrainState(NamedTuple):
    """All that training changes, and nothing else: arrays only, no functions.

    Attributes:
      step: int32 [], steps attempted, skipped ones included; data order and keys
        follow it, the learning rate follows opt_state's count of updates made.
      params: what the optimizer trains.
      model_state: what else the loss carries along (BatchNorm statistics, ...).
      opt_state: optax's.
      skipped: int32 [], steps in a row, up to now, whose loss or gradient was not
        finite; such a step changes nothing but this and `step`, and the loss scale of
        float16 (`loss_scale.dynamic`), whose overflows do not count.
    """

    step: jax.Array
    params: Any
    model_state: Any
    opt_state: Any
    skipped: jax.Array


class Plan(NamedTuple):
    """When what happens, in steps."""

    last_step: int  # where this training ends now (max_steps counted in)
    steps_per_epoch: int
    batch_size: int
    log_every: int
    save_every: int
    evaluate_every: int = 0  # 0: never


def init_state(params: Any, model_state: Any, tx) -> TrainState:
    """The state before the first step. Call it under jit where parts of params and
    model_state share a buffer (a target network): eagerly they can't be donated."""
    step, skipped = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
    return TrainState(step, params, model_state, tx.init(params), skipped)


def make_step(
    loss_fn: LossFn, tx: optax.GradientTransformation, after: Callable | None = None
) -> Callable:
    """Builds the jitted train step.

    Args:
      loss_fn: `(params, model_state, key, batch) -> (loss [], (model_state,
        metrics))`, pure; metrics is a dict of scalars.
      tx: the optimizer.
      after: `(params, model_state, step []) -> model_state`, applied once the
        optimizer has moved params (an EMA target). `step` counts this one.

    Returns:
      `step(state, key, batch) -> (state, metrics)`. `state` is donated: don't use
      it again. `key` is the stage's; each step folds its number in. `batch` goes
      to loss_fn, after `data.take` where it refers to a device-resident data set.
      metrics gains `loss` (unless loss_fn gave one), `grad_norm` and `skipped`, and
      `loss_scale` where `tx` is `loss_scale.dynamic`'s.
    """

    def scaled_loss(params, model_state, key, batch, scale):
        loss, (model_state, metrics) = loss_fn(params, model_state, key, batch)
        return loss * scale, (loss, model_state, metrics)

    def step(state: TrainState, key: jax.Array, batch: Any):
        if isinstance(batch, dict) and "dataset" in batch:
            batch = data.take(batch)
        key = jax.random.fold_in(key, state.step)
        scale = loss_scale.current(state.opt_state)
        (_, (loss, model_state, metrics)), grads = jax.value_and_grad(
            scaled_loss, has_aux=True
        )(state.params, state.model_state, key, batch, scale)
        grads = jax.tree.map(lambda g: g / scale, grads)
        grad_norm = optax.global_norm(grads)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        number = state.step + 1
        if after is not None:
            model_state = after(params, model_state, number)

        finite = jnp.isfinite(loss) & jnp.isfinite(grad_norm)
        new = (params, model_state, opt_state)
        old = (state.params, state.model_state, state.opt_state)
        kept = jax.tree.map(partial(jnp.where, finite), new, old)
        params, model_state, opt_state = kept
        # An overflow that a smaller scale can cure is no divergence.
        overflow = jnp.isfinite(loss) & ~finite & (scale > 1)
        skipped = jnp.where(finite | overflow, 0, state.skipped + 1)
        metrics = {"loss": loss} | metrics
        metrics |= {"grad_norm": grad_norm, "skipped": skipped}
        if isinstance(opt_state, loss_scale.DynamicState):
            opt_state = loss_scale.adjust(opt_state, finite)
            metrics["loss_scale"] = scale
        return TrainState(number, params, model_state, opt_state, skipped), metrics

    return jax.jit(step, donate_argnums=0)


def run(
    step_fn: Callable,
    state: TrainState,
    key: jax.Array,
    batches: Iterator,
    plan: Plan,
    *,
    record: Callable[..., None],
    save: Callable[[TrainState], None],
    progress: Progress,
    schedule: optax.Schedule,
    evaluate: Callable[[TrainState, int], None] | None = None,
    evaluated: Callable[[int], bool] = lambda step: False,
) -> TrainState:
    """Trains from `state` to `plan.last_step`.

    Args:
      step_fn: from `make_step`.
      batches: starts with the batch of step `state.step + 1`.
      record: `(step, **scalars)`, every `plan.log_every` steps and at the end.
      save: called every `plan.save_every` steps, at the end and when stopped.
      progress: shows the person at the terminal how far it is.
      schedule: updates made before -> learning rate, for the record: that of the last
        update made, which after skipped steps is not the step's.
      evaluate: `(state, step)`, every `plan.evaluate_every` steps.
      evaluated: whether a step's evaluation is on record: a run that was killed
        in one evaluates again before it goes on.

    Raises:
      StoppedError: a signal came; the state was saved.
      DivergedError: loss or gradient were not finite; nothing was saved since.
    """

    def evaluate_if_due(state: TrainState, step: int) -> None:
        due = plan.evaluate_every and step > 0 and step % plan.evaluate_every == 0
        if evaluate is not None and due and not evaluated(step):
            jax.block_until_ready(state.step)  # the step's time is not the pause's
            with progress.paused("evaluating"):
                evaluate(state, step)

    start = saved = int(state.step)
    queued: deque[dict[str, jax.Array]] = deque(maxlen=2)
    try:
        evaluate_if_due(state, start)
        for step in range(start + 1, plan.last_step + 1):
            check_stop()
            batch = next(batches)
            # One step runs, one waits: the device is never idle, and no dozens of
            # batches fill its memory or keep a signal waiting.
            if len(queued) == queued.maxlen:
                jax.block_until_ready(queued[0])
            state, metrics = step_fn(state, key, batch)
            queued.append(metrics)
            if step == start + 1:
                jax.block_until_ready(metrics)
                progress.compiled()
            last = step == plan.last_step
            if last or step % plan.log_every == 0:
                values = {k: float(v) for k, v in jax.device_get(metrics).items()}
                skipped = int(values.pop("skipped"))
                _check_finite(skipped, step, last)
                if skipped:
                    values["skipped"] = skipped
                epoch = step / plan.steps_per_epoch
                made = optim.updates_made(state.opt_state, step)
                rate = jax.device_get(schedule(max(made - 1, 0)))
                values |= {"lr": float(rate), "epoch": epoch}
                record(step, **values, **progress.advance(step, values["loss"]))
            evaluate_if_due(state, step)
            if last or step % plan.save_every == 0:
                save(state)
                saved = step
    except StoppedError:
        if int(state.step) > saved:
            save(state)
        raise
    return state


def _check_finite(skipped: int, step: int, last: bool) -> None:
    if skipped >= _MAX_SKIPPED or (last and skipped):
        raise DivergedError(
            f"loss or gradient not finite since step {step - skipped + 1}; "
            "the last good checkpoint is kept. Lower the learning rate, or raise "
            "the temperature"
        )

"""Trains one variant of a stage: what all stages share around `train.run`."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from simclr_jax import checkpoint
from simclr_jax.experiment.workdir import Workdir
from simclr_jax.training.loop import (
    LossFn,
    Plan,
    TrainState,
    init_state,
    make_step,
    run,
)
from simclr_jax.training.progress import Progress

_ITEMS = ("params", "model_state", "opt_state")


def fit(
    workdir: Workdir,
    stage: str,
    variant: str,
    *,
    init: Callable[..., tuple[Any, Any]],
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    schedule: optax.Schedule,
    key: jax.Array,
    batches: Callable[[int], Iterator],
    plan: Plan,
    keep: int,
    meta: dict[str, Any],
    after: Callable | None = None,
    evaluate: Callable[[TrainState, int], None] | None = None,
    watch: Callable[[dict[str, float]], str | None] = lambda values: None,
    init_args: tuple[Any, ...] = (),
) -> tuple[TrainState, float]:
    """Trains one variant of a stage: from its newest checkpoint, or from `init`.

    Args:
      init: `(*init_args) -> (params, model_state)`, jitted here.
      batches: `step -> iterator` that starts after that many steps.
      keep: checkpoints kept.
      meta: stored with every checkpoint.
      watch: sees each recorded step's values; what it says is shown as a warning.

    Returns:
      `(state, seconds)`: seconds of training, earlier runs of it included.
    """
    directory = workdir.checkpoints(stage, variant)

    # Copies: an output that is merely an input would be the caller's own buffer,
    # and the first step donates it.
    @jax.jit
    def start_from(*args: Any) -> TrainState:
        params, model_state = jax.tree.map(jnp.copy, init(*args))
        return init_state(params, model_state, tx)

    state, seconds = _restore(directory, partial(start_from, *init_args))
    start = int(state.step)
    workdir.cut_metrics(stage, variant, step=start)
    progress = Progress(
        f"{stage} {variant}".strip(),
        start,
        plan.last_step,
        plan.steps_per_epoch,
        plan.batch_size,
        seconds,
        # Done already, but for an evaluation that a signal may have cut short.
        silent=start >= plan.last_step,
    )

    def record(step: int, **values: float) -> None:
        workdir.record(stage, variant, step, **values)
        warning = watch(values)
        if warning:
            progress.warn(f"step {step}: {warning}")

    def save(state: TrainState) -> None:
        jax.block_until_ready(state.step)  # the step's time is not the pause's
        with progress.paused("saving"):
            counters = {"step": state.step, "skipped": state.skipped}
            items = {name: getattr(state, name) for name in _ITEMS}
            checkpoint.save(
                directory,
                int(state.step),
                items | {"counters": counters},
                meta | {"seconds": progress.seconds()},
                keep=keep,
            )

    on_record = {
        line["step"]
        for line in workdir.metrics()
        if (line["stage"], line["variant"]) == (stage, variant) and "knn_top1" in line
    }
    state = run(
        make_step(loss_fn, tx, after),
        state,
        key,
        batches(start),
        plan,
        record=record,
        save=save,
        progress=progress,
        schedule=schedule,
        evaluate=evaluate,
        evaluated=on_record.__contains__,
    )
    progress.close()
    return state, progress.seconds() if start < plan.last_step else seconds


def _restore(directory: Path, initialise: Callable) -> tuple[TrainState, float]:
    like = jax.eval_shape(initialise)
    items = {name: getattr(like, name) for name in _ITEMS}
    items["counters"] = {"step": like.step, "skipped": like.skipped}
    restored = checkpoint.restore(directory, items)
    if restored is None:
        return initialise(), 0.0
    _, found, meta = restored
    counters = found.pop("counters")
    return TrainState(**found, **counters), meta["seconds"]


def train_quietly(
    init: Callable[[], tuple[Any, Any]],
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    key: jax.Array,
    batches: Callable[[int], Iterator],
    plan: Plan,
) -> Any:
    """Trains to the end of `plan`, records and saves nothing; returns params."""
    state = jax.jit(lambda: init_state(*init(), tx))()
    quiet = plan._replace(log_every=plan.last_step, save_every=plan.last_step)
    state = run(
        make_step(loss_fn, tx),
        state,
        key,
        batches(0),
        quiet,
        record=lambda step, **values: None,
        save=lambda state: None,
        progress=Progress("", 0, plan.last_step, 1, 1, 0.0, silent=True),
        schedule=lambda step: 0.0,
    )
    return state.params

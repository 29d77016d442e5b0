"""Trains one variant of a stage: the code around the loop that all stages share.

A stage describes its training in a `Training`; `fit` derives the rest from the run.
"""

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from simclr_jax import checkpoint, data
from simclr_jax.config.stages import STAGES
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.training import (
    Hooks,
    LossFn,
    TrainState,
    init_state,
    make_step,
    make_steps,
    run,
)
from simclr_jax.training.progress import Progress

_ITEMS = ("params", "model_state", "opt_state")


class Training(NamedTuple):
    """What differs between two trainings.

    Attributes:
      stage, variant: where its checkpoints and metrics go. The variant is "" if the
        stage has only one training.
      loss_fn: see `make_step`.
      batches: `step -> iterator` of the batches that follow that many steps.
      num_examples: images in an epoch.
      meta: stored with every checkpoint. A variant with another "source_step" (of
        pretraining) or "teacher_step" starts anew.
      section: the recipe's section with epochs, batch size and optimizer; "": the
        stage's own.
      lr: replaces the section's learning rate.
      init: `(*init_args) -> (params, model_state)`; it is jitted. The default returns
        its arguments, so init_args are then the two.
      init_args: arrays.
      update: `(params, model_state, progress []) -> model_state`, after each step;
        progress goes from 0 to 1.
      steps_per_call: see `Plan`. Above 1 the batches are those of a Resident.
      evaluate: `state -> scores`, recorded every `evaluate_every_epochs` (0: never).
      watch: gets the values of each recorded step; a text that it returns is shown as a
        warning.
    """

    stage: str
    variant: str
    loss_fn: LossFn
    batches: Callable[[int], Iterator]
    num_examples: int
    meta: dict[str, Any]
    section: str = ""
    lr: float | None = None
    init: Callable[..., Any] = lambda *args: args
    init_args: tuple[Any, ...] = ()
    update: Callable[[Any, Any, jax.Array], Any] | None = None
    steps_per_call: int = 1
    evaluate: Callable[[TrainState], dict[str, float]] | None = None
    evaluate_every_epochs: int = 0
    watch: Callable[[dict[str, float]], str | None] = lambda values: None


def fit(experiment: Experiment, training: Training) -> tuple[TrainState, float]:
    """Trains one variant of a stage: from its newest checkpoint, or from `init`.

    Returns:
      `(state, seconds)`: seconds of training, including earlier runs of this workdir.
    """
    stage, variant, workdir = training.stage, training.variant, experiment.workdir
    if not STAGES[stage].makes:  # pretraining starts from no checkpoint
        experiment.forget_if_stale(stage, variant, training.meta)
    section = training.section or stage
    plan, total = experiment.plan(section, training.num_examples)
    evaluate_every = training.evaluate_every_epochs * plan.steps_per_epoch
    plan = plan._replace(
        evaluate_every=evaluate_every, steps_per_call=training.steps_per_call
    )
    tx, schedule = experiment.optimizer(section, plan, total, training.lr)

    # Copies, because the first step donates its state. Without them an output that is
    # just an input would be the caller's own buffer.
    @jax.jit
    def start_from(*args: Any) -> TrainState:
        params, model_state = jax.tree.map(jnp.copy, training.init(*args))
        return init_state(params, model_state, tx)

    directory = workdir.checkpoints(stage, variant)
    state, seconds = _restore(directory, partial(start_from, *training.init_args))
    start = int(state.step)
    workdir.cut_metrics(stage, variant, step=start)
    progress = Progress(
        f"{stage} {variant}".strip(),
        start,
        plan.last_step,
        plan.steps_per_epoch,
        plan.batch_size,
        seconds,
        # All steps are done; only an evaluation that a signal cut short may be left.
        silent=start >= plan.last_step,
    )

    def after(params: Any, model_state: Any, step: jax.Array) -> Any:
        if training.update is None:
            return model_state
        return training.update(params, model_state, step / total)

    state = run(
        _step(training.loss_fn, tx, after, several=plan.steps_per_call > 1),
        state,
        experiment.key(stage),
        training.batches(start),
        plan,
        _hooks(experiment, training, progress, plan.steps_per_epoch, schedule),
    )
    progress.close()
    return state, progress.seconds() if start < plan.last_step else seconds


def _step(loss_fn: LossFn, tx: Any, after: Callable | None, *, several: bool):
    step = make_step(loss_fn, tx, after, prepare=data.take)
    return make_steps(step, shared=("dataset",)) if several else step


# Keeps the compiled steps of trainings that are repeated (`fit_quietly`).
_kept_step = lru_cache(maxsize=4)(_step)


@partial(jax.jit, static_argnums=2)
def _kept_start(params: Any, model_state: Any, tx: Any) -> TrainState:
    # Copies, as in `fit`.
    params, model_state = jax.tree.map(jnp.copy, (params, model_state))
    return init_state(params, model_state, tx)


def _hooks(
    experiment: Experiment,
    training: Training,
    progress: Progress,
    steps_per_epoch: int,
    schedule: Callable[[Any], Any],
) -> Hooks:
    """Hooks that record in metrics.jsonl, save checkpoints, and evaluate."""
    stage, variant, workdir = training.stage, training.variant, experiment.workdir
    evaluate_state = training.evaluate

    def record(step: int, **values: float) -> None:
        workdir.record(stage, variant, step, **values)
        warning = training.watch(values)
        if warning:
            progress.warn(f"step {step}: {warning}")

    def save(state: TrainState) -> None:
        jax.block_until_ready(state.step)  # the pause must not count the step's time
        with progress.paused("saving"):
            counters = {"step": state.step, "skipped": state.skipped}
            items = {name: getattr(state, name) for name in _ITEMS}
            checkpoint.save(
                workdir.checkpoints(stage, variant),
                int(state.step),
                items | {"counters": counters},
                training.meta | {"seconds": progress.seconds()},
                keep=experiment.config.checkpoint.keep,
            )

    def evaluate(state: TrainState, step: int) -> None:
        assert evaluate_state is not None
        scores = evaluate_state(state)
        workdir.record(stage, variant, step, epoch=step / steps_per_epoch, **scores)

    on_record = {  # evaluations: lines without a loss
        line["step"]
        for line in workdir.metrics()
        if (line["stage"], line["variant"]) == (stage, variant) and "loss" not in line
    }
    return Hooks(
        record=record,
        save=save,
        progress=progress,
        schedule=schedule,
        evaluate=evaluate if evaluate_state else None,
        evaluated=on_record.__contains__,
    )


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


def fit_quietly(experiment: Experiment, training: Training) -> Any:
    """Trains from `init` to the end; records and saves nothing. Returns the params.

    A second training with the same loss, optimizer and shapes compiles nothing.
    """
    section = training.section or training.stage
    plan, total = experiment.plan(section, training.num_examples)
    tx, _ = experiment.optimizer(section, plan, total, training.lr)
    params, model_state = training.init(*training.init_args)
    several = training.steps_per_call > 1
    hooks = Hooks(
        record=lambda step, **values: None,
        save=lambda state: None,
        progress=Progress("", 0, plan.last_step, 1, 1, 0.0, silent=True),
        schedule=lambda step: 0.0,
    )
    state = run(
        _kept_step(training.loss_fn, tx, None, several=several),
        _kept_start(params, model_state, tx),
        experiment.key(training.stage),
        training.batches(0),
        plan._replace(
            log_every=plan.last_step,
            save_every=plan.last_step,
            steps_per_call=training.steps_per_call,
        ),
        hooks,
    )
    return state.params

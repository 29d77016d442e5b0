"""Trains one variant of a stage: the code around the loop that all stages share.

A stage describes its training in a `Training`; `fit` derives the rest from the run.
"""

import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax

from simclr_jax import checkpoint, devices
from simclr_jax.config.stages import STAGES
from simclr_jax.experiment import seen
from simclr_jax.experiment.build import spreads
from simclr_jax.experiment.experiment import Experiment
from simclr_jax.stages import outline, programs
from simclr_jax.stages.measurement import Measurement, evaluation
from simclr_jax.training import Hooks, LossFn, Plan, TrainState, run
from simclr_jax.training.finite import require_finite
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
      measurements: taken in this order while it trains.
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
    measurements: tuple[Measurement, ...] = ()
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
    plan = plan._replace(steps_per_call=training.steps_per_call)
    tx, schedule = experiment.optimizer(section, plan, total, training.lr)
    directory = workdir.checkpoints(stage, variant)
    origin = _origin(experiment, training, tx, plan.batch_size)
    state, meta = _restore(directory, origin)
    seconds = meta["seconds"]
    start = int(state.step)
    if start < plan.last_step:
        seen.require_same(meta, training.meta, f"step {start} of {stage}")
        _warn_if_whole(section, plan.batch_size, devices.count())
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
        foretell=outline.not_foretold(experiment.config, training.measurements)
        if STAGES[stage].makes
        else None,
    )

    def after(params: Any, model_state: Any, step: jax.Array) -> Any:
        if training.update is None:
            return model_state
        return training.update(params, model_state, step / total)

    keep, several = experiment.config.checkpoint.keep, plan.steps_per_call > 1
    saver = checkpoint.BackgroundSaver(directory, keep=keep, check=require_finite)
    with saver:
        state = run(
            programs.step(training.loss_fn, tx, after, origin.like, several=several),
            state,
            experiment.key(stage),
            _batches(training, start),
            plan,
            _hooks(experiment, training, progress, saver, plan, schedule),
        )
    progress.close()
    return state, progress.seconds() if start < plan.last_step else seconds


def _origin(
    experiment: Experiment, training: Training, tx: Any, batch_size: int
) -> programs.Origin:
    # Trainings of several steps in a call have small states: a probe's.
    fsdp = training.steps_per_call == 1 and spreads(experiment.config, batch_size)
    return programs.origin(training.init, training.init_args, tx, fsdp=fsdp)


def _batches(training: Training, start: int) -> Iterator:
    """The batches from step `start` on, on the devices. `make_steps` places its own."""
    batches = training.batches(start)
    return batches if training.steps_per_call > 1 else map(devices.place, batches)


@cache  # once for all variants, and for what is trained again during pretraining
def _warn_if_whole(section: str, batch_size: int, count: int) -> None:
    if batch_size % count:
        print(
            f"warning: {section}.batch_size {batch_size} is not a multiple of the "
            f"{count} devices; each of them computes the whole batch and holds the "
            "whole state",
            file=sys.stderr,
        )


def _hooks(
    experiment: Experiment,
    training: Training,
    progress: Progress,
    saver: checkpoint.BackgroundSaver,
    plan: Plan,
    schedule: Callable[[Any], Any],
) -> Hooks:
    """Hooks that record in metrics.jsonl, save checkpoints, and evaluate."""
    stage, variant, workdir = training.stage, training.variant, experiment.workdir

    def record(step: int, **values: float) -> None:
        workdir.record(stage, variant, step, **values)
        warning = training.watch(values)
        if warning:
            progress.warn(f"step {step}: {warning}")

    def save(state: TrainState) -> None:
        if saver.busy():
            jax.block_until_ready(state.step)  # the step's time is no pause
            with progress.paused("saving"):
                saver.finish()
        counters = {"step": state.step, "skipped": state.skipped}
        items = {name: getattr(state, name) for name in _ITEMS}
        meta = training.meta | {"seconds": progress.seconds()}
        saver.save(state.step, items | {"counters": counters}, meta)

    return Hooks(
        record=record,
        save=save,
        progress=progress,
        schedule=schedule,
        evaluations=tuple(
            evaluation(
                wanted,
                workdir,
                stage,
                variant,
                progress,
                plan.steps_per_epoch,
                saver.wait,
            )
            for wanted in training.measurements
        ),
        check=saver.check,
    )


def _restore(
    directory: Path, origin: programs.Origin
) -> tuple[TrainState, dict[str, Any]]:
    items = {name: getattr(origin.like, name) for name in _ITEMS}
    items["counters"] = {"step": origin.like.step, "skipped": origin.like.skipped}
    restored = checkpoint.restore(directory, items)
    if restored is None:
        return origin.make(), {"seconds": 0.0}
    _, found, meta = restored
    counters = found.pop("counters")
    return TrainState(**found, **counters), meta


def fit_quietly(experiment: Experiment, training: Training) -> TrainState:
    """Trains from `init` to the end; records and saves nothing.

    A second training with the same loss, init, optimizer and shapes compiles nothing.
    """
    section = training.section or training.stage
    plan, total = experiment.plan(section, training.num_examples)
    tx, _ = experiment.optimizer(section, plan, total, training.lr)
    origin = _origin(experiment, training, tx, plan.batch_size)
    _warn_if_whole(section, plan.batch_size, devices.count())
    hooks = Hooks(
        record=lambda step, **values: None,
        save=lambda state: None,
        progress=Progress("", 0, plan.last_step, 1, 1, 0.0, silent=True),
        schedule=lambda step: 0.0,
    )
    return run(
        programs.kept_step(
            training.loss_fn, tx, origin.like, several=training.steps_per_call > 1
        ),
        origin.make(),
        experiment.key(training.stage),
        _batches(training, 0),
        plan._replace(
            log_every=plan.last_step,
            save_every=plan.last_step,
            steps_per_call=training.steps_per_call,
        ),
        hooks,
    )
